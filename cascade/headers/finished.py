"""Signs in a header that a file is no raw frame any more: calibrated, combined, or in another unit than adu.

Programs tell in their own words what they have done to a frame, and most of these words stand in files that still
call themselves light, flat or bias. What is told here is by which card, and which corrections are in the pixels.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ccdflow.cascade.headers.keywords import Cards, number, text
from ccdflow.cascade.headers.units import read_unit
from ccdflow.cascade.records import Value
from ccdflow.recipes.detector.finished import DONE

OVERSCAN, TRIM, BIAS, DARK, FLAT, GAIN, COMBINED, SCALED = DONE
REDUCED = frozenset({OVERSCAN, TRIM, BIAS, DARK, FLAT})
"""What a frame has behind it that a pipeline calls reduced."""

PROCESSED = "processed already: "
"""The beginning of the reason of a frame that is processed."""
STATED_AT_ONCE = 3
"""Signs that a sentence names: one pipeline writes a dozen, which say the same."""

COUNTS = (
    *("NCOMBINE", "STACKCNT", "NCOADD", "NCOMB", "NICOMB"),
    *("NSTACK", "NUMSTACK", "NUMCOMB", "SNAPSHOT", "LIGH_CNT"),
)
"""Cards that say how many exposures are in a frame."""

_Done = frozenset[str]
_NOTHING: _Done = frozenset()


@dataclass(frozen=True)
class Finished:
    """What another program has done to a frame.

    Parameters
    ----------
    done : frozenset of str
        Of `DONE`, as far as the header tells.
    signs : tuple of str
        Cards that say so, as they are written: ``CALSTAT='BDF'``.
    frames : float or None
        How many exposures are in it; None where no card says it.
    seconds : float or None
        Of the time by which its numbers are divided, as their unit says; None where they are no rate.
    """

    done: frozenset[str]
    signs: tuple[str, ...]
    frames: float | None = None
    seconds: float | None = None

    @property
    def sentence(self) -> str:
        """What was done and by which cards, as the frame's reason has it."""
        told = " and ".join(filter(None, (", ".join(self.signs[:STATED_AT_ONCE]), self._more)))
        done = ", ".join(name for name in DONE if name in self.done)
        return f"{PROCESSED}{done or 'how is not told'} ({told})"

    @property
    def _more(self) -> str:
        others = len(self.signs) - STATED_AT_ONCE
        return f"{others} more" if others > 0 else ""


@dataclass(frozen=True)
class Pixels:
    """What the numbers of a file look like, from a few of its rows.

    Parameters
    ----------
    real : bool
        Whether they are stored as reals (BITPIX -32 or -64).
    low, high : float or None
        Least and greatest of the rows that were looked at, in the unit of the file; None where none was finite.
    fractions : bool
        Whether most of them are no whole numbers.
    """

    real: bool = False
    low: float | None = None
    high: float | None = None
    fractions: bool = False


# --- what cards say -----------------------------------------------------------------------------------------------

# Words by which a card of a correction says that it was not made, or is yet to be made (HST: OMIT, PERFORM).
_NOT_DONE = re.compile(
    r"\s*(|f|n|no|none|null|nan|0|false|off|omit(ted)?|skip(ped)?|perform|pending|raw|undone|undef(ined)?|unknown|n/?a|"
    r"(has )?not\b.*|no\b.*|un(calibrated|processed|reduced|corrected))\s*",
    re.IGNORECASE,
)
# What stands in a card of a correction that was made: IRAF's date and sentence, a time stamp, a word of completion, the
# arguments of ccdproc's function. A bare number or T may be anything: columns of overscan, a switch of the camera.
_MADE = re.compile(
    r"[A-Z][a-z]{2} +\d{1,2} +\d{1,2}:\d\d|\d{4}-\d\d-\d\dT\d\d|complete|done|correct|subtract|divided|processed|"
    r"appl(ied|y)|trimmed|trim data|image is|section is|ccd=|\.fits?\b",
    re.IGNORECASE,
)
_TRUE = re.compile(r"\s*(t|yes|true)\s*", re.IGNORECASE)


def _is_made(value: Value) -> bool:
    return isinstance(value, str) and not _NOT_DONE.fullmatch(value) and bool(_MADE.search(value))


def _is_said(value: Value) -> bool:
    """As `_is_made`; a bare T or yes says it too, in a card that can mean nothing else."""
    return value is True or _is_made(value) or (isinstance(value, str) and bool(_TRUE.fullmatch(value)))


def _counts_several(value: Value) -> bool:
    size = None if isinstance(value, bool) else number(value)
    return size is not None and size > 1


def _counts_any(value: Value) -> bool:
    size = None if isinstance(value, bool) else number(value)
    return size is not None and size >= 1


def _is_named(value: Value) -> bool:
    """Whether a card names something that was used or made; such cards stand in no raw frame."""
    return isinstance(value, str) and not _NOT_DONE.fullmatch(value)


def _is_number(value: Value) -> bool:
    return not isinstance(value, bool) and number(value) is not None


def _names_product(value: Value) -> bool:
    return (
        isinstance(value, str)
        and not re.search(r"\braw\b", value, re.IGNORECASE)
        and not _NOT_DONE.fullmatch(value)
    )


_Test = Callable[[Value], bool]
_CARDS: Mapping[str, tuple[_Test, _Done]] = {
    # IRAF ccdproc and its kin (mscred, quadred): a date and a sentence in each.
    **dict.fromkeys(("ZEROCOR", "BIASCOR"), (_is_said, frozenset({BIAS}))),
    "DARKCOR": (_is_said, frozenset({DARK})),
    **dict.fromkeys(("FLATCOR", "ILLUMCOR", "SKYFLATC"), (_is_said, frozenset({FLAT}))),
    "FRINGCOR": (_is_said, _NOTHING),
    "FIXPIX": (_is_made, _NOTHING),
    "CCDPROC": (_is_made, _NOTHING),
    "IMCMB001": (_is_named, frozenset({COMBINED})),
    "OVERSCAN": (_is_made, frozenset({OVERSCAN})),
    "TRIM": (_is_made, frozenset({TRIM})),
    "CCDMEAN": (_is_number, _NOTHING),
    # ccdproc in Python: functions by their short names, arguments as the value.
    "SUBBIAS": (_is_said, frozenset({BIAS})),
    "SUBDARK": (_is_said, frozenset({DARK})),
    "SUBOSCAN": (_is_said, frozenset({OVERSCAN})),
    "TRIMIM": (_is_said, frozenset({TRIM})),
    "GAINCOR": (_is_said, frozenset({GAIN})),
    # HST's calibration pipelines (COMPLETE), DRAGONS (time stamps), and others.
    "BIASCORR": (_is_said, frozenset({BIAS})),
    "DARKCORR": (_is_said, frozenset({DARK})),
    "FLATCORR": (_is_said, frozenset({FLAT})),
    "ADUTOELE": (_is_made, frozenset({GAIN})),
    # DRAGONS and IRAF's gemini package.
    "BIASIM": (_is_named, frozenset({BIAS})),
    "DARKIM": (_is_named, frozenset({DARK})),
    "FLATIM": (_is_named, frozenset({FLAT})),
    **dict.fromkeys(("PREPARE", "GPREPARE"), (_is_made, _NOTHING)),
    **dict.fromkeys(("GIREDUCE", "GSREDUCE"), (_is_made, REDUCED)),
    **dict.fromkeys(("SUBOVER", "OVERSUB"), (_is_said, frozenset({OVERSCAN}))),
    "TRIMOVER": (_is_made, frozenset({TRIM})),
    **dict.fromkeys(("STACKFRM", "PROCBIAS", "PROCDARK", "PROCFLAT"), (_is_made, frozenset({COMBINED}))),
    # LCO: RLEVEL is 0 in raw frames, 91 (11 and 90 before) in BANZAI's; L1STAT.. is 1 where a step was done.
    "RLEVEL": (_counts_any, REDUCED),
    "L1STATOV": (_counts_any, frozenset({OVERSCAN})),
    "L1STATTR": (_counts_any, frozenset({TRIM})),
    "L1STATBI": (_counts_any, frozenset({BIAS})),
    "L1STATDA": (_counts_any, frozenset({DARK})),
    "L1STATFL": (_counts_any, frozenset({FLAT})),
    # ESO's pipelines, the community pipeline of DECam and Mosaic, Rubin's Butler, Pan-STARRS (asinh), phase 3.
    **dict.fromkeys(("ESO PRO CATG", "PRODCATG"), (_names_product, REDUCED)),
    "PROCTYPE": (_names_product, REDUCED),
    "LSST BUTLER DATASETTYPE": (_names_product, REDUCED),
    "BSOFTEN": (_is_number, REDUCED | {COMBINED}),
    # CFHT's Elixir names the flat, SWarp how it resampled and combined, Astro Pixel Processor what it made.
    "IMRED_FF": (_is_named, frozenset({FLAT})),
    "RESAMPT1": (_is_named, REDUCED),
    "COMBINET": (_is_named, frozenset({COMBINED})),
    "INTEGRAT": (lambda value: text(value).casefold() == "integration", frozenset({COMBINED})),
    # Not COADDS nor NFRAMES: cameras sum on their own, and such sums are raw.
    **dict.fromkeys(COUNTS, (_counts_several, frozenset({COMBINED}))),
    "COMBINED": (lambda value: value is True, frozenset({COMBINED})),
}
"""Card to the test of its value, and what was done where it passes."""

_LETTERS = {"O": OVERSCAN, "T": TRIM, "B": BIAS, "D": DARK, "F": FLAT, "M": COMBINED, "S": COMBINED}
"""Letters of CALSTAT (MaxIm DL, ACP, AstroImageJ): B, D and F are common to all; S is ASTAP's for a stack."""
# In HISTORY, where MaxIm DL, CCDSoft, AstroImageJ, Siril and PixInsight tell it. A correction must be told as made, not
# named alone: "dark current 0.01" or "flat field lamp on" is no sign. PixInsight names the process, Siril what it did.
_HISTORY: tuple[tuple[re.Pattern[str], _Done], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), steps)
    for pattern, steps in (
        (r"\b(bias|zero|offset)\b[\w -]{0,24}?\b(subtract|correct|remov)", frozenset({BIAS})),
        (r"\bdark\b[\w -]{0,24}?\b(subtract|correct|remov)", frozenset({DARK})),
        (
            r"\bflat\b[\w -]{0,24}?\b(divi|correct|calibr|appli)|\bflat[ -]field(ed|ing)\b|^\s*flat field \(",
            frozenset({FLAT}),
        ),
        (r"\boverscan\b[\w -]{0,24}?\b(subtract|correct|remov)", frozenset({OVERSCAN})),
        (r"\b(subtract|remov)\w*\b[\w -]{0,24}?\b(bias|offset)\b", frozenset({BIAS})),
        (r"\b(subtract|remov)\w*\b[\w -]{0,24}?\bdark\b", frozenset({DARK})),
        (r"\bdivid\w*\b[\w -]{0,24}?\bflat\b", frozenset({FLAT})),
        (r"\bcalibrated with\b|\bcalibration:.*\bmaster\b|^\s*calibrated\s*$|\bImageCalibration\b", REDUCED),
        (r"\b(clip\w*|median|mean|average|sum|winsorized) (stack|combin)\w*", frozenset({COMBINED})),
        (r"\b(Image|Drizzle|Fast)Integration\b|\bstacking\b.*\bimages\b", frozenset({COMBINED})),
        (r"\b(CosmeticCorrection|Debayer|StarAlignment|LocalNormalization)\b", _NOTHING),
        (r"^\s*(crop \(x|rotation \([\d.]+ ?deg|background extraction \(|cosmetic correction of )", _NOTHING),
    )
)
_ASIDE = r"(slide|volt\w*|guid\w*|pointing|focus\w*|telescope|zero[ -]?points?|clock|dither\w*|time|timing)"
_OF_ELSE = re.compile(rf"\b{_ASIDE}\b", re.IGNORECASE)
_ELSE_BEFORE = re.compile(rf"\b{_ASIDE}\s*$", re.IGNORECASE)
"""Words in a correction, or just before it, by which it is one of something else: the dark slide, a focus offset."""
_MADE_WORDS: tuple[tuple[re.Pattern[str], _Done], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), steps)
    for pattern, steps in (
        (
            r"master|\bsuper[ -]?(bias|dark|flat)|integrated|"
            r"\b(stacked|combined|averaged?|mean|median|co-?added)\b",
            frozenset({COMBINED}),
        ),
        (r"\b(calibrated|reduced|processed)\b", REDUCED),
    )
)
"""What a card with the class says by more words than the class."""
_NEGATED = re.compile(
    r"\b(no|not|none|without|off|false|disabled|skipped|omitted|(to|will|must|should) be|needs?|pending)\b",
    re.IGNORECASE,
)
_SCALED_BY = re.compile(r"siril|pixinsight|astro ?pixel|deepsky ?stacker", re.IGNORECASE)
_LEVEL_OF_ONE = 1.0001
"""Highest number of a file scaled to 0 ... 1; the last digits of float32 are not exact."""
_DIVIDED = 10.0
"""Highest number of a flat that was divided by its mean, with room for noise; a camera's bias alone is above it."""


def finished(
    cards: Cards, history: Sequence[str] = (), pixels: Pixels = Pixels(), ignored: Collection[str] = ()
) -> Finished | None:
    """Return what a header says was done to a frame by another program; None for a raw frame.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.
    history : sequence of str
        Texts of its HISTORY cards.
    pixels : Pixels
        What its numbers look like.
    ignored : collection of str
        Cards that mean something else with this instrument, ``HISTORY`` among them, in upper case.

    Returns
    -------
    Finished or None
        With every sign that there is; several signs add up.
    """
    signs: list[str] = []
    done: frozenset[str] = frozenset()
    for card, sign, steps in _signs(cards, history, pixels):
        if card not in ignored:
            signs.append(sign)
            done |= steps
    counts = (number(cards.get(card)) for card in COUNTS if card not in ignored)
    frames = next((count for count in counts if count is not None and count > 1), None)
    seconds = None if "BUNIT" in ignored else read_unit(text(cards.get("BUNIT"))).seconds
    return Finished(done, tuple(dict.fromkeys(signs)), frames, seconds) if signs else None


def _signs(cards: Cards, history: Sequence[str], pixels: Pixels) -> Iterator[tuple[str, str, _Done]]:
    """Give card, how it is written, and what it says was done."""
    yield from _calstat(cards)
    for card, (test, steps) in _CARDS.items():
        value = cards.get(card)
        if value is not None and test(value):
            yield card, _written(card, value), steps
    yield from _unit(cards)
    yield from _class_words(cards)
    yield from _used_frames(cards)
    yield from _sums(cards)
    for line in history:
        for pattern, steps in _HISTORY:
            if _says(pattern, line) and not _NEGATED.search(line):
                yield "HISTORY", f"HISTORY {line.strip()[:60]}", steps
    yield from _scaled(cards, pixels)


def _says(pattern: re.Pattern[str], line: str) -> bool:
    """Whether a line tells of a correction, and not of that of something else by the same name."""
    return any(
        not _OF_ELSE.search(match[0]) and not _ELSE_BEFORE.search(line[: match.start()])
        for match in pattern.finditer(line)
    )


def _written(card: str, value: Value) -> str:
    shown = text(value)
    return f"{card}={shown!r}" if isinstance(value, str) else f"{card}={shown}"


def _calstat(cards: Cards) -> Iterator[tuple[str, str, _Done]]:
    value = cards.get("CALSTAT")
    if not isinstance(value, str) or (_NOT_DONE.fullmatch(value) and value.strip() != "F"):
        return
    letters = re.sub(r"[\s,;/|+-]", "", value)
    # Letters alone; a word such as "calibrated" is one sign without telling of what.
    has_steps = set(letters) & set("BDF") or set(letters) <= set("MS")
    named = letters.isupper() and has_steps and len(set(letters)) == len(letters)
    steps = frozenset(_LETTERS[letter] for letter in letters if letter in _LETTERS) if named else REDUCED
    yield "CALSTAT", _written("CALSTAT", value), steps


def _unit(cards: Cards) -> Iterator[tuple[str, str, _Done]]:
    value = cards.get("BUNIT")
    if not isinstance(value, str):
        return
    unit = read_unit(value)
    if unit.kind == "electron":
        yield "BUNIT", _written("BUNIT", value), frozenset({GAIN})
    elif unit.kind == "flux" or unit.seconds is not None:
        yield "BUNIT", _written("BUNIT", value), REDUCED


def _class_words(cards: Cards) -> Iterator[tuple[str, str, _Done]]:
    for card in ("IMAGETYP", "OBSTYPE", "IMAGETYPE", "FRAME", "IMGTYPE", "FRAMETYP", "CALFRAME"):
        value = cards.get(card)
        for pattern, steps in _MADE_WORDS if isinstance(value, str) else ():
            if pattern.search(text(value)):
                yield card, _written(card, text(value)), steps


def _used_frames(cards: Cards) -> Iterator[tuple[str, str, _Done]]:
    # ASTAP: of its own kind, in a master, the frames that were combined; else those of the masters that were applied.
    for card, word, step in (
        ("DARK_CNT", "dark", DARK),
        ("FLAT_CNT", "flat", FLAT),
        ("BIAS_CNT", "bias", BIAS),
    ):
        value = cards.get(card)
        if value is not None and _counts_any(value):
            kind = text(cards.get("IMAGETYP")).casefold()
            if card == "BIAS_CNT" and "light" in kind:
                continue  # what was subtracted from its flats
            yield card, _written(card, value), frozenset({COMBINED if word in kind else step})


def _sums(cards: Cards) -> Iterator[tuple[str, str, _Done]]:
    # Siril: LIVETIME is the sum of the exposures, of which EXPTIME is one (or the sum too, with STACKCNT beside it);
    # so is TOTALEXP of a Seestar. SharpCap: EXPTIME is the sum, SUBEXP one of them.
    exptime = "EXPTIME" if cards.get("EXPTIME") else "EXPOSURE"
    for whole, part in (("LIVETIME", exptime), ("TOTALEXP", exptime), (exptime, "SUBEXP")):
        if whole not in cards or part not in cards:
            continue
        total, single = number(cards.get(whole)), number(cards.get(part))
        if total is not None and single is not None and single > 0 and total > 1.5 * single:
            yield whole, f"{whole}={total:g} of {part}={single:g}", frozenset({COMBINED})


def _scaled(cards: Cards, pixels: Pixels) -> Iterator[tuple[str, str, _Done]]:
    if not pixels.real:
        return
    unit = read_unit(text(cards.get("BUNIT")))
    # Numbers of a second, or electrons, are of any size; adu a program may have left from before it divided them.
    is_stated = unit.seconds is not None or unit.kind == "electron"
    for card in ("PROGRAM", "SWCREATE", "CREATOR", "SOFTWARE", "SWMODIFY", "SOFTVERS"):
        value = cards.get(card)
        if isinstance(value, str) and _SCALED_BY.search(value):
            yield (
                card,
                f"{_written(card, value)} with real numbers",
                _NOTHING if is_stated else _of_range(pixels),
            )
            return
    # Nobody's camera writes reals of 0 to 1, or of 0 to 10: something has divided them, as flats by their mean.
    if pixels.low is not None and pixels.high is not None and 0 <= pixels.low < pixels.high <= _DIVIDED:
        told = f"real numbers from {pixels.low:.3g} to {pixels.high:.3g}"
        # Where they are said to be adu or the like, a good dark has as few of them.
        yield "BITPIX", told, _NOTHING if is_stated or unit.kind == "count" else _of_range(pixels)


def _of_range(pixels: Pixels) -> _Done:
    in_range = pixels.high is not None and pixels.high <= _LEVEL_OF_ONE
    return frozenset({SCALED}) if in_range else _NOTHING
