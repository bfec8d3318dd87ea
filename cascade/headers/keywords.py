"""Values as headers write them: numbers with units, blanks, angles, cards made of other cards."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ccdflow.cascade.records import Value
from ccdflow.cascade.windows import binning_factors

Cards = Mapping[str, Value]
"""A header whose keywords are written as `keyword_name` writes them, and whose blanks are gone."""

# A number with digits on either side of the point, an exponent with Fortran's D too, and whatever unit follows.
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?)\s*/?\s*(.*)")
# As the database's own triggers read what others have updated: see the migration 0016.
_PLAIN = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d{1,2})?", re.ASCII)
# A decimal comma, as programs write it whose computer speaks German or French; behind it three digits could also be
# the last of a thousand, and nobody knows which.
_COMMA = re.compile(r"[-+]?\d+,(?!\d{3}\b)\d+(?![\d,.])")
_FRACTION = re.compile(r"\s*(\d+(?:\.\d*)?)\s*/\s*(\d+(?:\.\d*)?)\s*(?:s|sec)?\s*")
_HOURS_MINUTES_SECONDS = re.compile(r"\s*(\d{1,3}):([0-5]\d):([0-5]\d(?:\.\d*)?)\s*")
_IN_LETTERS = re.compile(r"\s*(?:(\d{1,3}) ?h)? ?(?:(\d{1,3}) ?m) ?(\d{1,2}(?:\.\d*)?) ?s\s*", re.IGNORECASE)
# The first word of what follows a number, in brackets or not.
_UNIT = re.compile(r"[\[(]?\s*([^\d\s\]),;]+)")
_SEXAGESIMAL = re.compile(
    r"(?P<sign>[-+]?)\s*(?P<units>\d+)\s*[\s:dh°]\s*(?P<minutes>\d+(?:\.\d*)?)"
    r"(?:\s*[\s:m'′]\s*(?P<seconds>\d+(?:[.,]\d*)?)?)?\s*(?:s|''|\"|″)?"
)
# A side of the world before or behind; a trailing S after letters such as 28D17M58S means seconds.
_SIDE = re.compile(
    r"\s*(?:(?P<lead>[NSEW])\s*(?P<lead_rest>.*)|(?P<trail_rest>[^a-zA-Z]*?\s*|.*\s)(?P<trail>[NSEW]))\s*"
)
_TEMPLATE = re.compile(r"\{([^{}]+)\}")
_BRACKETED = re.compile(r"[\[(]\s*(\w+)\.?\s*[\])]")
_IN_UNIT = re.compile(r"\bin\s+(?!m\b|h\b)(\w+)", re.IGNORECASE)
_SPELT_OUT = re.compile(
    r"(?<!every )(?<!each )(?<!per )\b((?:milli|micro)?sec(?:ond)?s?|minutes?|msecs?|usecs?|hours?|days?)\b",
    re.IGNORECASE,
)
_PREFIX_APART = re.compile(r"\b(milli|micro)[ -](?=sec)", re.IGNORECASE)
_PART_OF_SECOND = re.compile(r"\b1/(10{1,3})(?:ths?)?\s*(?:of a )?s(?:ec(?:ond)?s?)?\b", re.IGNORECASE)
_PARTS_OF_SECOND = {"10": "ds", "100": "cs", "1000": "ms"}
_EXACT = 1e15
"""Whole numbers below this are exact as floats (up to 2**53, 9.0e15), and are written as integers."""
_DEGREES_PER_HOUR = 15
_SECONDS = {
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "ms": 1e-3, "msec": 1e-3, "msecs": 1e-3, "millisec": 1e-3, "millisecs": 1e-3,
    "millisecond": 1e-3, "milliseconds": 1e-3,
    "us": 1e-6, "usec": 1e-6, "usecs": 1e-6, "microsec": 1e-6, "microsecs": 1e-6,
    "microsecond": 1e-6, "microseconds": 1e-6,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
    "ds": 0.1, "cs": 0.01,
}  # fmt: skip
"""Length in seconds of the units of time that headers use."""


@lru_cache(8192)
def keyword_name(keyword: str) -> str:
    """Return the one spelling of a keyword that cards are looked up by.

    Parameters
    ----------
    keyword : str
        As somebody writes it: ``ESO.TPL.NEXP`` and ``HIERARCH Eso Tpl Nexp`` are ``ESO TPL NEXP``.
    """
    return keyword.strip().upper().replace(".", " ").removeprefix("HIERARCH ").strip()


def cards_of(header: Mapping[str, Any], blanks: Iterable[str] = ()) -> dict[str, Value]:
    """Return the cards of `header` that say something, by `keyword_name`.

    Text is stripped. Left out is what is blank, not a finite number, or one of the words `blanks` in any case
    (``N/A``, ``UNKNOWN``). Of keywords that differ only in case the first counts.

    Parameters
    ----------
    header : mapping
        Keyword to value, of a FITS header or a row of a catalogue.
    blanks : iterable of str
        Words that mean that a card says nothing.

    Returns
    -------
    dict
        `keyword_name` to value.
    """
    empty = _words(tuple(blanks))
    cards: dict[str, Value] = {}
    for keyword, value in header.items():
        kept = value
        if isinstance(value, str):
            kept = value.strip()
            if not kept or kept.casefold() in empty:
                continue
        elif not isinstance(value, int) and not (isinstance(value, float) and math.isfinite(value)):
            continue
        cards.setdefault(keyword_name(keyword), kept)
    return cards


def without_blanks(
    cards: dict[str, Value], header: Mapping[str, Any], blanks: Iterable[str]
) -> dict[str, Value]:
    """Return `cards_of` a header with the blanks that its instrument file knows, given its cards without them.

    Parameters
    ----------
    cards : dict
        ``cards_of(header)``; which words are blanks is known only once the instrument is.
    header : mapping
        Keyword to value.
    blanks : iterable of str
        Words that mean that a card says nothing.

    Returns
    -------
    dict
        `keyword_name` to value; `cards` itself where none of them is blank, as in nearly all headers.
    """
    empty = _words(tuple(blanks))
    if not any(isinstance(value, str) and value.casefold() in empty for value in cards.values()):
        return cards
    return cards_of(header, blanks)


def comments_of(comments: Mapping[str, str]) -> dict[str, str]:
    """Return the comments of a header's cards by `keyword_name`.

    Parameters
    ----------
    comments : mapping
        Keyword, as the header spells it, to comment.

    Returns
    -------
    dict
        Of keywords that differ only in case the first counts.
    """
    named: dict[str, str] = {}
    for keyword, comment in comments.items():
        named.setdefault(keyword_name(keyword), comment)
    return named


@lru_cache
def _words(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(word.casefold() for word in words)


def text(value: Value | None) -> str:
    """Return the value as one would write it.

    Parameters
    ----------
    value : str, int, float, bool or None
        Value of a card.

    Returns
    -------
    str
        ``T``, ``2`` for 2.0, text stripped, nothing for None.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return str(value).strip()


def number(value: Value | None) -> float | None:
    """Return the number that a value starts with.

    Parameters
    ----------
    value : str, int, float, bool or None
        Value of a card; a unit may follow the number: ``'-25.0 C'``, ``'60.0 / sec'``.

    Returns
    -------
    float or None
        None for what is no number: ``'T'``, ``'2019-05-03'``, ``'16 41 41'``, infinity and NaN.
    """
    return quantity(value)[0]


def quantity(value: Value | None) -> tuple[float | None, str]:
    """Return the number that a value starts with, and its unit.

    Parameters
    ----------
    value : str, int, float, bool or None
        Value of a card.

    Returns
    -------
    tuple of float or None, and str
        The unit is ``""`` where none follows the number, or where there is no number.
    """
    if value is None or isinstance(value, bool):
        return None, ""
    if isinstance(value, int | float):
        return (float(value), "") if math.isfinite(value) else (None, "")
    written = value.strip()
    if _COMMA.match(written):
        written = written.replace(",", ".", 1)
    match = _NUMBER.fullmatch(written)
    if match is None:
        return None, ""
    # Digits behind the number, or a sign or colon before the rest, are no unit: the text is a date, an angle or a time.
    unit = _UNIT.match(match[2])
    if match[2] and (unit is None or unit[1][0] in "-+:.,/" or re.search(r"\d", match[2])):
        return None, ""
    size = float(match[1].upper().replace("D", "E"))
    return (size, unit[1] if unit else "") if math.isfinite(size) else (None, "")


def plain_value(written: str) -> Value:
    """Return what a person or a catalogue has written as a number, where it is written as one.

    Parameters
    ----------
    written : str
        Any text.

    Returns
    -------
    str, int or float
        The text itself where it is a name: ``007``, ``1_000``, ``2026-03-01``, ``1e999``.
    """
    if not _PLAIN.fullmatch(written):
        return written
    return int(written) if written.lstrip("+-").isdigit() else float(written)


def duration(value: Value | None, unit: str = "", comment: str = "") -> float | None:
    """Return the seconds that a value means.

    Parameters
    ----------
    value : str, int, float, bool or None
        Value of a card; a unit behind the number (``'500 ms'``) goes before all else. ``'1/250'``, ``'00:01:30'`` and
        ``'1m30s'`` are seconds.
    unit : str
        Unit of a number that states none, as the instrument file says.
    comment : str
        The card's comment; without `unit`, a unit that it names counts (see `unit_in_comment`).

    Returns
    -------
    float or None
        Seconds, which are also meant where no unit is known; None for what is no number.
    """
    if isinstance(value, str) and (
        clock := _HOURS_MINUTES_SECONDS.fullmatch(value) or _IN_LETTERS.fullmatch(value)
    ):
        return int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3])
    if isinstance(value, str) and (fraction := _FRACTION.fullmatch(value)) and float(fraction[2]):
        return float(fraction[1]) / float(fraction[2])
    size, own = quantity(value)
    for word in (own, unit, unit_in_comment(comment)):
        if size is not None and word.casefold().rstrip(".") in _SECONDS:
            # Divided where the unit is a fraction: 500 ms is 0.5 s, not 0.5000000000000001.
            scale = _SECONDS[word.casefold().rstrip(".")]
            return size / round(1 / scale) if scale < 1 else size * scale
    return size


def unit_in_comment(comment: str) -> str:
    """Return the unit of time that a comment names; blank where it names none.

    Parameters
    ----------
    comment : str
        ``[ms] Exposure``, ``Total Exposure Time (s)``, ``exposure in milliseconds``, ``Exposure time minutes``.

    Returns
    -------
    str
        A word of time; of an abbreviation only in brackets or behind *in*, since ``m`` or ``h`` may mean anything.
        ``cs`` for ``1/100 sec``, in which SBIG's cameras count.

    References
    ----------
    FITS standard 4.0, section 4.3, recommends units in square brackets at the beginning of a comment.
    """
    if part := _PART_OF_SECOND.search(comment):
        return _PARTS_OF_SECOND[part[1]]
    # What stands behind a semicolon is about something else.
    said = _PREFIX_APART.sub(r"\1", comment).partition(";")[0]
    for match in (*_BRACKETED.finditer(said), *_IN_UNIT.finditer(said), *_SPELT_OUT.finditer(said)):
        if match[1].casefold().rstrip(".") in _SECONDS:
            return match[1]
    return ""


def angle(value: Value | None, *, hours: bool = False) -> float | None:
    """Return the degrees that a value means.

    Parameters
    ----------
    value : str, int, float, bool or None
        Value of a card: ``-105.82``, ``'-105 49 13'``, ``'105:49:13 W'``, ``'16h41m41s'``.
    hours : bool
        Whether sexagesimal text counts in hours, as right ascensions do; a plain number is always degrees.

    Returns
    -------
    float or None
        South and west are negative; None for what is no angle.
    """
    written = text(value)
    side = _SIDE.fullmatch(written)
    bare = (side["lead_rest"] or side["trail_rest"]) if side else written
    degrees = _sexagesimal(bare.lower())
    if degrees is not None and hours:
        degrees *= _DEGREES_PER_HOUR
    if degrees is None:
        degrees = number(value if side is None else bare)
    if degrees is None or side is None:
        return degrees
    # Some write 105 W, some -105 W: a side of the world goes before a sign.
    return -abs(degrees) if (side["lead"] or side["trail"]) in "SW" else abs(degrees)


def _sexagesimal(written: str) -> float | None:
    match = _SEXAGESIMAL.fullmatch(written.strip())
    if match is None:
        return None
    minutes, seconds = float(match["minutes"]), float((match["seconds"] or "0").replace(",", "."))
    if minutes >= 60 or seconds >= 60:
        return None
    # The sign is kept apart, since -0 degrees 30 minutes has none in its degrees.
    size = float(match["units"]) + minutes / 60 + seconds / 3600
    return -size if match["sign"] == "-" else size


def binning(value: Value | None) -> str:
    """Return the binning as ``XxY``.

    Parameters
    ----------
    value : str, int, float, bool or None
        Value of a card: ``'1 1'``, ``'(1,1)'``, ``'1*1'``, ``'1.0'`` and ``1`` all are ``1x1``.

    Returns
    -------
    str
        The value as text where it has neither one factor nor two.
    """
    factors = re.findall(r"\d+(?:\.0+(?!\d))?", text(value))
    if len(factors) == 1:
        factors *= 2
    return "x".join(str(int(float(factor))) for factor in factors) if len(factors) == 2 else text(value)


def binned_by(cards: Cards, alternatives: Sequence[str]) -> tuple[int, int]:
    """Return the factors by which an image is binned, along x and along y.

    Parameters
    ----------
    cards : mapping
        The header, see `cards_of`.
    alternatives : sequence of str
        Keywords and templates, of which the first that the header has counts.

    Returns
    -------
    tuple of int
        1 where it is not known.
    """
    card = first(cards, alternatives)
    return binning_factors(binning(card[1])) if card else (1, 1)


def look_up(cards: Cards, alternative: str) -> Value | None:
    """Return the value that one alternative has in a header.

    Parameters
    ----------
    cards : mapping
        The header, see `cards_of`.
    alternative : str
        A keyword, or a template such as ``{XBINNING}x{YBINNING}``.

    Returns
    -------
    str, int, float, bool or None
        None where a card is missing.
    """
    name, parts = _written(alternative)
    return _filled(cards, alternative, parts) if parts else cards.get(name)


def first(cards: Cards, alternatives: Sequence[str], empty: Sequence[str] = ()) -> tuple[str, Value] | None:
    """Return the first alternative that the header has, with its value.

    Parameters
    ----------
    cards : mapping
        The header, see `cards_of`.
    alternatives : sequence of str
        Keywords and templates, tried in order.
    empty : sequence of str
        Words, such as ``open`` for a filter wheel, that count only where no alternative says more.

    Returns
    -------
    tuple or None
        The alternative as it is written, and its value.
    """
    fallback: tuple[str, Value] | None = None
    for alternative, name, parts in _all_written(tuple(alternatives)):
        value = _filled(cards, alternative, parts) if parts else cards.get(name)
        if value is not None:
            if not empty or text(value).casefold() not in _words(tuple(empty)):
                return alternative, value
            fallback = fallback or (alternative, value)
    return fallback


_Parts = tuple[tuple[str, str], ...]
"""The braces of a template: what is written in each, and the keyword that fills it."""


# Every frame asks for the same few hundred alternatives: what is in their text is worked out once.
@lru_cache(8192)
def _written(alternative: str) -> tuple[str, _Parts]:
    """The keyword that an alternative names and, of a template, each place with the keyword that fills it."""
    places = _TEMPLATE.findall(alternative)
    return keyword_name(alternative), tuple((name, keyword_name(name)) for name in places)


@lru_cache(2048)
def _all_written(alternatives: tuple[str, ...]) -> tuple[tuple[str, str, _Parts], ...]:
    return tuple((alternative, *_written(alternative)) for alternative in alternatives)


def _filled(cards: Cards, alternative: str, parts: _Parts) -> str | None:
    values: dict[str, str] = {}
    for place, name in parts:
        if not (value := text(cards.get(name))):
            return None
        values[place] = value
    return _TEMPLATE.sub(lambda match: values[match[1]], alternative)
