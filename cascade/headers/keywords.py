"""Values as headers write them: numbers with units, blanks, angles, cards made of other cards."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ccdflow.cascade.records import Value

Cards = Mapping[str, Value]
"""A header whose keywords are written as `keyword_name` writes them, and whose blanks are gone."""

_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?)\s*/?\s*(.*)")
_UNIT = re.compile(r"[\[(]?\s*([^\d\s\]),;]+)")
_SEXAGESIMAL = re.compile(
    r"(?P<sign>[-+]?)\s*(?P<units>\d+)\s*[\s:dh°]\s*(?P<minutes>\d+(?:\.\d*)?)"
    r"(?:\s*[\s:m'′]\s*(?P<seconds>\d+(?:\.\d*)?)?)?\s*(?:s|''|\"|″)?"
)
# A side of the world before or behind; a trailing S after letters such as 28D17M58S means seconds.
_SIDE = re.compile(
    r"\s*(?:(?P<lead>[NSEW])\s*(?P<lead_rest>.*)|(?P<trail_rest>[^a-zA-Z]*?)\s*(?P<trail>[NSEW]))\s*"
)
_TEMPLATE = re.compile(r"\{([^{}]+)\}")
_SECONDS = {
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3,
    "us": 1e-6, "usec": 1e-6, "microseconds": 1e-6,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0,
}  # fmt: skip
"""Length in seconds of the units of time that headers use."""


@lru_cache(8192)
def keyword_name(keyword: str) -> str:
    """One spelling of a keyword: ``ESO.TPL.NEXP`` and ``HIERARCH Eso Tpl Nexp`` are ``ESO TPL NEXP``."""
    return keyword.strip().upper().replace(".", " ").removeprefix("HIERARCH ").strip()


def cards_of(header: Mapping[str, Any], blanks: Iterable[str] = ()) -> dict[str, Value]:
    """Return the cards of `header` that say something, by `keyword_name`.

    Text is stripped. Left out is what is blank, not a finite number, or one of the words `blanks` in any case
    (``N/A``, ``UNKNOWN``). Of keywords that differ only in case the first counts.
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


@lru_cache
def _words(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(word.casefold() for word in words)


def text(value: Value | None) -> str:
    """Return the value as one would write it: ``T``, ``2`` for 2.0, text stripped, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value).strip()


def number(value: Value | None) -> float | None:
    """Return the number that `value` starts with, a unit after it allowed: ``'-25.0 C'``, ``'60.0 / sec'``.

    None for what is no number: ``'T'``, ``'2019-05-03'``, ``'16 41 41'``, not a finite number.
    """
    return quantity(value)[0]


def quantity(value: Value | None) -> tuple[float | None, str]:
    """Return the number that `value` starts with, and the unit behind it or nothing."""
    if value is None or isinstance(value, bool):
        return None, ""
    if isinstance(value, int | float):
        return (float(value), "") if math.isfinite(value) else (None, "")
    match = _NUMBER.fullmatch(value.strip())
    if match is None:
        return None, ""
    unit = _UNIT.match(match[2])
    if match[2] and (unit is None or unit[1][0] in "-+:.,/" or re.search(r"\d", match[2])):
        return None, ""
    found = float(match[1].upper().replace("D", "E"))
    return (found, unit[1] if unit else "") if math.isfinite(found) else (None, "")


def flag(value: Value | None) -> bool | None:
    """Return True or False where the value says so (``T``, ``'T'``, ``'yes'``, ``1``), else None."""
    if isinstance(value, bool):
        return value
    word = text(value).casefold()
    if word in ("t", "true", "yes", "1"):
        return True
    return False if word in ("f", "false", "no", "0") else None


def duration(value: Value | None, unit: str = "", comment: str = "") -> float | None:
    """Seconds that `value` means.

    The unit is the one behind the number (``'500 ms'``), else `unit`, else one in brackets at the beginning
    of the card's comment as the FITS standard has it (``[ms] Exposure``), else seconds.
    """
    found, own = quantity(value)
    bracket = re.match(r"\s*\[(\w+)\]", comment)
    for word in (own, unit, bracket[1] if bracket else ""):
        if found is not None and word.casefold().rstrip(".") in _SECONDS:
            # Divided where the unit is a fraction: 500 ms is 0.5 s, not 0.5000000000000001.
            scale = _SECONDS[word.casefold().rstrip(".")]
            return found / round(1 / scale) if scale < 1 else found * scale
    return found


def angle(value: Value | None, *, hours: bool = False) -> float | None:
    """Degrees that `value` means: ``-105.82``, ``'-105 49 13'``, ``'105:49:13 W'``, ``'16h41m41s'``.

    Sexagesimal text counts in hours where `hours` is set, as right ascensions do; a plain number is degrees
    always.
    """
    written = text(value)
    side = _SIDE.fullmatch(written)
    bare = (side["lead_rest"] or side["trail_rest"]) if side else written
    found = _sexagesimal(bare.lower())
    if found is not None and hours:
        found *= 15
    if found is None:
        found = number(value if side is None else bare)
    if found is None or side is None:
        return found
    return -abs(found) if (side["lead"] or side["trail"]) in "SW" else abs(found)


def _sexagesimal(written: str) -> float | None:
    match = _SEXAGESIMAL.fullmatch(written.strip())
    if match is None:
        return None
    minutes, seconds = float(match["minutes"]), float(match["seconds"] or 0)
    if minutes >= 60 or seconds >= 60:
        return None
    found = float(match["units"]) + minutes / 60 + seconds / 3600
    return -found if match["sign"] == "-" else found


def binning(value: Value | None) -> str:
    """Binning as ``XxY``: ``'1 1'``, ``'(1,1)'``, ``'1*1'`` and ``1`` all are ``1x1``."""
    factors = re.findall(r"\d+", text(value))
    if len(factors) == 1:
        factors *= 2
    return "x".join(str(int(one)) for one in factors) if len(factors) == 2 else text(value)


def look_up(cards: Cards, alternative: str) -> Value | None:
    """Value of a keyword, or of a template such as ``{XBINNING}x{YBINNING}`` whose cards are all there."""
    name, parts = _written(alternative)
    return _filled(cards, alternative, parts) if parts else cards.get(name)


def first(cards: Cards, alternatives: Sequence[str], empty: Sequence[str] = ()) -> tuple[str, Value] | None:
    """Return the first alternative that the header has, with its value.

    The words `empty`, such as ``open`` for a filter wheel, count only where no alternative says more.
    """
    found: tuple[str, Value] | None = None
    for alternative, name, parts in _all_written(tuple(alternatives)):
        value = _filled(cards, alternative, parts) if parts else cards.get(name)
        if value is not None:
            if not empty or text(value).casefold() not in _words(tuple(empty)):
                return alternative, value
            found = found or (alternative, value)
    return found


_Parts = tuple[tuple[str, str], ...]


@lru_cache(8192)
def _written(alternative: str) -> tuple[str, _Parts]:
    """The keyword that an alternative names and, of a template, each place with the keyword that fills it."""
    places = _TEMPLATE.findall(alternative)
    return keyword_name(alternative), tuple((name, keyword_name(name)) for name in places)


@lru_cache(2048)
def _all_written(alternatives: tuple[str, ...]) -> tuple[tuple[str, str, _Parts], ...]:
    return tuple((alternative, *_written(alternative)) for alternative in alternatives)


def _filled(cards: Cards, alternative: str, parts: _Parts) -> str | None:
    values = {place: text(cards.get(name)) for place, name in parts}
    if not all(values.values()):
        return None
    return _TEMPLATE.sub(lambda match: values[match[1]], alternative)
