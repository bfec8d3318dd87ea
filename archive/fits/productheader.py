"""Make the headers of products: what of the raw header still holds, and what made the product.

A card that no longer holds is worse than none: a GAIN in electron/adu beside pixels in electron makes the next program
multiply once more. So what described the raw file, its amplifiers and its adu is left out, by the names that
observatories use for it; everything else of the raw header stays.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ccdflow.archive.fits.cards import CARD, CardValue
from ccdflow.recipes.core.recipe import Card

SHORT = 16
"""Digits of a sha256 or key that stand in a card; all of them stand in the extension PROVENANCE."""

_NUMBERED_INPUTS = 999
"""Inputs that have cards of their own: IN001 to IN999. The extension PROVENANCE has them all."""
_LONGEST_KEYWORD = 50
"""Characters of a HIERARCH keyword, beside which a value of some length still fits into the card."""

# The file's own: what the writer states anew, or what has no meaning without it.
_STRUCTURE = """
    SIMPLE BITPIX NAXIS EXTEND PCOUNT GCOUNT GROUPS XTENSION TFIELDS THEAP BSCALE BZERO BLANK BUNIT INHERIT
    EXTNAME EXTVER EXTLEVEL CHECKSUM DATASUM ZHECKSUM ZDATASUM END COMMENT HISTORY CONTINUE NEXTEND UTYPE
"""
# Sections of the raw array, which is no longer there: overscan is cut off, amplifiers are put together.
_AMPLIFIERS = """
    BIASSEC TRIMSEC DATASEC CCDSEC AMPSEC DETSEC CCDSIZE DETSIZE ORIGSEC NAMPSYX AMPLIST NAMPS OVERSCAN
    LTV1 LTV2
"""
# Levels and factors in adu, which a product in electron no longer has.
_IN_ADU = """
    SATLEVEL SATLEV SATUR SATADU MAXADU CCDSAT MAXLIN DATAMIN DATAMAX CBLACK CWHITE PEDESTAL
    EPADU EPERADU EPERDN E-ADU CONAD CCDRON RON RONOISE ENOISE RNOISE READNOIS READNOI READNOISE READNSE
"""
# What a product says anew, of itself: times of all its frames, numbers in the unit of its data.
_OF_ITSELF = """
    GAIN RDNOISE RDNDATA SATURATE TELAPSE XPOSURE
    DATE-BEG DATE-AVG DATE-END MJD-BEG MJD-AVG MJD-END
"""
_OF_ANOTHER_JOB = "CREATOR TASK NDOUBTS JOBKEY RECIPE RECIPEV NCOMBINE NINPUTS ASSOLVL CALIBID"

_DROPPED = frozenset(f"{_STRUCTURE} {_AMPLIFIERS} {_IN_ADU} {_OF_ITSELF} {_OF_ANOTHER_JOB}".split())
"""Cards of an input that don't hold for the product."""

# The same with numbers: axes; sections, gain, read noise and saturation of single amplifiers (as Arcon controllers,
# IRAF's quadproc, DECam, HST and ESO name them); inputs and quality of another job; columns and tiles of tables and
# compressed images.
_DROPPED_PATTERN = re.compile(
    r"Z?NAXIS\d*|[ABCDT]SEC\d+|GT(GAIN|RON)\d*|(E|CCD|PH|ATOD|AMP|CMD)?GAIN([A-D]|\d+)?|ATODGN[A-D]|READNSE[A-D]"
    r"|RDNOIS\d*|RDNOISE[A-D]|SATURAT[A-D]?|(HIERARCH )?ESO DET (OUT|CHIP)\d* ?(CONAD|GAIN|RON)"
    r"|I[NHR]\d{3}|DOUBT\d{3}|QC .*"
    r"|T(TYPE|FORM|UNIT|SCAL|ZERO|DIM)\d+|Z(TILE|NAME|VAL)\d+"
    r"|Z(IMAGE|TENSION|BITPIX|PCOUNT|GCOUNT|CMPTYPE|SIMPLE|EXTEND)"
)
_SOUGHT = ("GAIN", "RDNOISE", "SATURATE", "EXPTIME")
"""Cards that programs look for by the beginning of the name: they come before all others."""
_RENAMED = {"RADECSYS": "RADESYS"}
"""Old keywords at which readers of a WCS complain."""

_REFERENCE_PIXEL = re.compile(r"CRPIX([12])[A-Z]?")
_PLAIN_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}")
_LONG_KEYWORD = re.compile(r"[A-Z0-9_-][A-Z0-9_. -]*")


@dataclass(frozen=True)
class InputNote:
    """One input of a product, for its header.

    Parameters
    ----------
    role : str
        ``main``, or that of an associated input, such as ``master_bias``.
    name : str
        Name of its file.
    identity : str
        A raw file's sha256, or the key of the job that made the product.
    kind : str
        ``raw`` or ``product``.
    level : int or None
        Association level; None for main inputs.
    """

    role: str
    name: str
    identity: str
    kind: str = "raw"
    level: int | None = None


@dataclass(frozen=True)
class ProcessNote:
    """One thing about how a product was made, for its extension PROCESS.

    Parameters
    ----------
    what : str
        ``software``, ``parameter``, ``amendment`` or ``compromise``.
    name : str
        Of the package, parameter, or corrected column or keyword.
    value : str
        A version, or what JSON writes.
    origin : str
        Who stated a parameter; the sha256 of the raw file that was corrected.
    """

    what: str
    name: str
    value: str
    origin: str = ""


@dataclass(frozen=True)
class Origin:
    """What made a product, and what its header takes over.

    Parameters
    ----------
    key, recipe, version : str
        Of the job.
    inputs : sequence of InputNote
        All inputs, those of role ``main`` first.
    level : int
        Association level: the worst of its inputs.
    worst_level : int
        The worst of all associations that it depends on.
    header, comments : mapping
        Keyword to value and to comment: the cards of the raw header (of a combined product those that its
        inputs share, see `common_cards`).
    trim : tuple of int
        Columns and rows ``(x, y)`` that were cut off before the first pixel that is left.
    cards : mapping
        Further cards, keyword to value and comment; they come before those of the recipe.
    inherited : str
        Identity of the masters behind the one product that this one is made of.
    task : str
        Task of the cascade; blank for what was made by hand.
    creator : str
        Name and version of the program.
    process : sequence of ProcessNote
        How it was made, beside its inputs.
    """

    key: str
    recipe: str
    version: str
    inputs: Sequence[InputNote] = ()
    level: int = 0
    worst_level: int = 0
    header: Mapping[str, Any] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)
    trim: tuple[int, int] = (0, 0)
    cards: Mapping[str, Card] = field(default_factory=dict)
    inherited: str = ""
    task: str = ""
    creator: str = ""
    process: Sequence[ProcessNote] = ()

    @property
    def calibration(self) -> str:
        """Identity of the masters that were applied; empty without any.

        Frames with equal identities share their masters' errors, which a stack of them must not average down.
        """
        applied = [f"{note.role}={note.identity}" for note in self.inputs if note.role != "main"]
        return hashlib.sha256("\n".join(applied).encode()).hexdigest()[:SHORT] if applied else self.inherited


def is_of_the_content(keyword: str) -> bool:
    """Tell whether a card of a file says something of its content, and not how it is stored or by what job it was made.

    Parameters
    ----------
    keyword : str
        The keyword, without ``HIERARCH``.

    Returns
    -------
    bool
        True of what a program may state anew of what it has made, ``CALIBID`` and ``NCOMBINE`` included.
    """
    name = keyword.strip().upper()
    if name in ("CALIBID", "NCOMBINE", *_OF_ITSELF.split()):
        return True
    return bool(name) and name not in _DROPPED and not _DROPPED_PATTERN.fullmatch(name)


def common_cards(headers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the cards that have the same value in all headers.

    Parameters
    ----------
    headers : sequence of mappings
        Keyword to value, of each input of a combined product.

    Returns
    -------
    dict
        Keyword to value, in the order of the first header; empty without headers.

    Examples
    --------
    >>> common_cards([{"FILTER": "r", "AIRMASS": 1.1}, {"FILTER": "r", "AIRMASS": 1.2}])
    {'FILTER': 'r'}
    """
    if not headers:
        return {}
    first, *others = headers
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def header_cards(
    origin: Origin,
    cards: Mapping[str, Card],
    quality: Mapping[str, float],
    dropped: Collection[str] = (),
) -> dict[str, tuple[CardValue, str]]:
    """Return the cards of a product: what still holds of the raw header, and what made it.

    Left out of the raw header: what describes the raw file's structure, its amplifiers and sections, gain
    and levels in adu, comments and history. The reference pixel of a WCS moves with the trimmed edge. A
    keyword that is longer than 8 characters or holds others than letters, digits, - and _ becomes a HIERARCH
    card; one that FITS can't hold is left out, and a value that is not finite stands as a card without value.

    Parameters
    ----------
    origin : Origin
        The raw header, and what made the product.
    cards : mapping
        Cards of the recipe, keyword to value and comment.
    quality : mapping
        Quality numbers by name, which become ``HIERARCH QC NAME``.
    dropped : collection of str
        Keywords that are left out besides, since they do not hold for this product.

    Returns
    -------
    dict
        Keyword to value and comment, all in printable ASCII; None for a card without value. Of cards alike the last
        counts: the recipe's over those of the raw header.

    Notes
    -----
    FITS 4.0, section 8.1: CRPIX counts pixels from 1 at the centre of the first one, so that cutting off `trim` pixels
    before it makes it that much less.
    """
    header: dict[str, tuple[CardValue, str]] = {}
    for keyword, value in origin.header.items():
        name = str(keyword).strip().upper()
        if _DROPPED_PATTERN.fullmatch(name) or name in _DROPPED or name in dropped:
            continue
        new_name = _RENAMED.get(name, name)
        _put(header, new_name, _shifted(name, value, origin.trim), origin.comments.get(keyword, ""))
    for keyword, (value, comment) in (*origin.cards.items(), *cards.items(), *_provenance(origin)):
        _put(header, keyword, value, comment)
    # A recipe that has left some inputs out knows better how many it has combined; one of somebody's own may know which
    # masters stand behind what it takes.
    for keyword in ("NCOMBINE", "CALIBID"):
        if keyword in cards:
            _put(header, keyword, *cards[keyword])
    for name, number in quality.items():
        _put(header, f"QC {name}", number, "")
    # source-extractor 2.25.0 and SWarp 2.41.5 take the first card that begins so: of GAINSRC a GAIN of 0.
    sought = {name: header.pop(name) for name in _SOUGHT if name in header}
    return sought | header


def _shifted(keyword: str, value: Any, trim: tuple[int, int]) -> Any:
    """Return a card's value as it is in the trimmed image."""
    match = _REFERENCE_PIXEL.fullmatch(keyword)
    if match is None or isinstance(value, str | bool):
        return value
    return value - trim[int(match[1]) - 1]


def _provenance(origin: Origin) -> Iterator[tuple[str, Card]]:
    if origin.creator:
        yield "CREATOR", (origin.creator, "program that made this file")
    yield "JOBKEY", (origin.key, "identity of the work that made this file")
    if origin.task:
        yield "TASK", (origin.task, "task of the cascade")
    yield "RECIPE", (origin.recipe, "recipe")
    yield "RECIPEV", (origin.version, "version of the recipe")
    yield "ASSOLVL", (origin.level, "association level, 0 as planned")
    yield "WORSTLVL", (origin.worst_level, "worst association level of all behind it")
    yield "CALIBID", (origin.calibration, "identity of the masters applied")
    yield "NCOMBINE", (sum(note.role == "main" for note in origin.inputs), "number of main inputs")
    yield "NINPUTS", (len(origin.inputs), "number of inputs, see extension PROVENANCE")
    for number, note in enumerate(origin.inputs[:_NUMBERED_INPUTS], 1):
        yield f"IR{number:03d}", (note.role, f"role of input {number}")
        yield f"IN{number:03d}", (note.name, "its name")
        yield (
            f"IH{number:03d}",
            (note.identity[:SHORT], f"its {'job key' if note.kind == 'product' else 'sha256'}"),
        )


def _put(header: dict[str, tuple[CardValue, str]], keyword: str, value: Any, comment: str) -> None:
    """Set a card; what FITS can't hold is made plain, shortened or left out."""
    name = " ".join(_ascii(keyword).upper().split())
    if not _PLAIN_KEYWORD.fullmatch(name):
        if not _LONG_KEYWORD.fullmatch(name) or len(name) > _LONGEST_KEYWORD:
            return
        name = f"HIERARCH {name}"
    plain = _plain(value)
    if isinstance(plain, str) and name.startswith("HIERARCH"):
        # A HIERARCH card can't be continued: a longer text would make no card at all.
        plain = _shortened(plain, CARD - len(name) - len(" = ''"))
    header[name] = plain, _ascii(comment)


def _plain(value: Any) -> CardValue:
    """Return a value as FITS can hold it; None for what is not finite, which it has no notation for."""
    scalar = value.item() if hasattr(value, "item") else value
    if isinstance(scalar, float):
        return scalar if math.isfinite(scalar) else None
    if scalar is None or isinstance(scalar, bool | int):
        return scalar
    # What astropy gives for a card without value; its import would cost more than all headers of a night.
    return None if type(scalar).__name__ == "Undefined" else _ascii(str(scalar))


def _shortened(text: str, room: int) -> str:
    """Return as much of a text as fits between quotes, where each apostrophe counts twice."""
    while len(text) + text.count("'") > room:
        text = text[:-1]
    return text


def _ascii(text: str) -> str:
    """Return a text in printable ASCII: accents are dropped, other characters become question marks."""
    if text.isascii() and text.isprintable():
        return text
    letters = unicodedata.normalize("NFKD", str(text))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in plain)
