"""What of a raw frame's header still holds for what is made of it: its times as they are known now, no adu.

An instrument file says in which cards a camera writes its gain, read noise, saturation and times. Those cards speak of
the raw numbers, or may have been corrected since, and give way to the FITS standard's own keywords.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ccdflow.cascade.headers.classify import Description
from ccdflow.cascade.headers.dates import moment_after
from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.cascade.headers.keywords import cards_of, keyword_name
from ccdflow.cascade.records import Value
from ccdflow.recipes.core.cardnumbers import card_number
from ccdflow.recipes.core.mosaic import shifted
from ccdflow.recipes.core.recipe import Card
from ccdflow.recipes.core.times import Span, moment

EARLY_END_S = 1.0
"""Seconds by which a stated end may lie before start + exposure time: many clocks write whole seconds."""
LATE_END_S = 60.0
"""Seconds, besides once more the exposure time, by which it may lie behind: the shutter, pauses, a slow readout. What
is later is the time at which something else ended."""
WRITTEN_ALIKE = 1e-6
"""Exposure times that differ by less, relatively, are one number."""


_AMPLIFIER_GAIN = re.compile(r"GAIN\d\d")
SETTING_CARDS = {
    "gain_setting": ("GAINSET", "gain setting of the raw frames"),
    "amplifiers": ("AMPNAME", "amplifiers that read the detector out"),
}
"""What the raw frames were set to and their product's own GAIN no longer tells: keyword to card and comment."""


def setting_cards(keywords: Mapping[str, Value]) -> dict[str, Card]:
    """Return the cards by which a product tells what its raw frames were set to.

    Parameters
    ----------
    keywords : mapping
        Of the first raw frame, as the instrument file reads them.
    """
    named = {card: (keywords.get(name), comment) for name, (card, comment) in SETTING_CARDS.items()}
    return {card: (value, comment) for card, (value, comment) in named.items() if value is not None}


def mosaic_cards(pattern: str, shape: tuple[int, int], *, bottom_up: bool) -> dict[str, Card]:
    """Return the cards that tell the colour mosaic of a product, as other programs look for it.

    Parameters
    ----------
    pattern : str
        Colours of the first two rows of two pixels, first row first; empty without a mosaic.
    shape : (int, int)
        Rows and columns of the product.
    bottom_up : bool
        Whether its first row is the lowest of the picture.

    Returns
    -------
    dict of str to (value, comment)
        ``MOSAIC`` is the pattern; ``BAYERPAT`` is the same as ``ROWORDER`` wants it, which is told where it is not the
        rule: the raw frame may have said it in another card.
    """
    if not pattern:
        return {}
    shown = shifted(pattern, 0, shape[0] - 1) if bottom_up else pattern
    order: dict[str, Card] = (
        {"ROWORDER": ("BOTTOM-UP", "first row is the picture's lowest")} if bottom_up else {}
    )
    return {
        **order,
        "MOSAIC": (pattern, "colours of the first pixels, first row first"),
        "BAYERPAT": (shown, "the same, top row of the picture first"),
        "XBAYROFF": (0, "columns before the pattern's first"),
        "YBAYROFF": (0, "rows before the pattern's first"),
    }


def settings_of(header: Mapping[str, Any]) -> dict[str, Value]:
    """Return what a product of ours tells of its raw frames, as keywords.

    Parameters
    ----------
    header : mapping
        Keyword to value, of the product.
    """
    told = {name: header.get(card) for name, (card, _) in SETTING_CARDS.items()}
    # Of each amplifier by its number, as electron per adu of the raw frames; the frames' own keyword is their mean.
    gains = [value for name, value in header.items() if _AMPLIFIER_GAIN.fullmatch(name)]
    told["gain"] = sum(gains) / len(gains) if gains else None
    return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True)
class Registered:
    """Start (ISO, UTC) and exposure time (seconds) as the registry has them: a person may have corrected the header."""

    obsdate: str = ""
    exptime: float | None = None


def raw_span(
    header: Mapping[str, Any], said: Description, by: Instrument, registered: Registered | None = None
) -> Span:
    """Return the time that a raw frame took.

    Parameters
    ----------
    header : mapping
        Keyword to value.
    said : Description
        What the header says, read by the instrument file.
    by : Instrument
        The instrument file.
    registered : Registered or None
        What goes before the header.

    Returns
    -------
    Span
        In UTC. The header's own end and middle count where they can be true and the start was not corrected.
    """
    exptime = said.exptime if registered is None or registered.exptime is None else registered.exptime
    begin = moment((registered.obsdate if registered else "") or said.obsdate)
    airmass = said.keywords.get("airmass")
    span = Span(begin, exptime=exptime, airmass=airmass if isinstance(airmass, float) else None)
    if begin is None or begin != moment(said.obsdate) or exptime != said.exptime:
        return span
    ends, middles = (_stated(header, by, names, begin) for names in (by.keywords.end, by.keywords.middle))
    end = next((told for told in ends if _can_end(told, begin, exptime)), None)
    last = end or span.last
    middle = next((told for told in middles if last is not None and begin <= told <= last), None)
    # Without an end of its own the middle is that of the exposure, however long the readout took afterwards.
    halfway = begin + timedelta(seconds=exptime / 2) if exptime is not None else None
    return Span(begin, end, middle or halfway, exptime, span.airmass)


def _stated(
    header: Mapping[str, Any], by: Instrument, keywords: Sequence[str], begin: datetime
) -> list[datetime]:
    """The moments in these cards, in UTC, as far as they are understood."""
    cards, dates, zone = cards_of(header, by.blanks), by.keywords.dates, by.site.time_zone
    told = (moment_after(cards, keyword, dates, begin, zone) for keyword in keywords)
    return [stated for stated in told if stated is not None]


def _can_end(end: datetime, begin: datetime, exptime: float | None) -> bool:
    elapsed = (end - begin).total_seconds()
    if exptime is None:
        return elapsed > 0
    return exptime - EARLY_END_S <= elapsed <= 2 * exptime + LATE_END_S


def holding_cards(header: Mapping[str, Any], span: Span, said: Description, by: Instrument) -> dict[str, Any]:
    """Return the cards of a raw header that hold for products.

    Parameters
    ----------
    header : mapping
        Keyword to value, as the file has them.
    span : Span
        The time that the frame took, see `raw_span`.
    said : Description
        What the header says.
    by : Instrument
        The instrument file: the cards that it reads gain, read noise and saturation from are left out, and those of
        times and exposure times where they do not say what is known.

    Returns
    -------
    dict
        Keyword to value. ``EXPTIME`` is in seconds, and not there where nobody knows it.
    """
    keywords = by.keywords
    gone = {*keywords.gain, *keywords.read_noise, *keywords.saturation}
    dates = keywords.dates
    in_utc = str(header.get("TIMESYS") or "UTC").strip().upper() == "UTC"
    if not in_utc or span.begin != moment(said.obsdate) or by.site.time_zone != "UTC":
        gone |= {*dates.date, *dates.time, *dates.mjd, *dates.jd, *dates.system}
        gone |= {*keywords.end, *keywords.middle}
    names = {keyword_name(name) for name in gone}
    times = {keyword_name(name) for name in keywords.exptime}
    kept = {
        name: value
        for name, value in header.items()
        if keyword_name(name) not in names
        and (keyword_name(name) not in times or _is_time(value, span.exptime))
    }
    if span.exptime is not None and "EXPTIME" not in kept:
        kept["EXPTIME"] = span.exptime
    # Mostly a setting of the camera (100), often electron/adu; never what GAIN says of the product.
    if "GAIN" in header:
        kept["RAWGAIN"] = header["GAIN"]
    kept.pop("GAIN", None)
    return kept


def _is_time(value: Any, exptime: float | None) -> bool:
    """Whether a card says the exposure time as it is known, as a number of seconds."""
    seconds = card_number(value)
    return (
        seconds is not None and exptime is not None and abs(seconds - exptime) <= WRITTEN_ALIKE * abs(exptime)
    )
