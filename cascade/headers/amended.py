"""Headers as they would be if they said what somebody has corrected.

A correction is kept apart from the header. Whoever reads that afterwards, to describe the frame, to put together its
detector, to write the header of a product, shall find one truth: so it goes into the cards from which it is read, and
those that would contradict it go away.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from ccdflow.cascade.headers.dates import YEARS, canonical
from ccdflow.cascade.headers.filterwheels import JOINT
from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.cascade.headers.keywords import keyword_name
from ccdflow.cascade.headers.mosaic import MOSAIC_CARD
from ccdflow.cascade.records import CLASSES, EPOCH, MOST_EXPOSURES, Value, is_calibration
from ccdflow.cascade.wording import unknown
from ccdflow.recipes.core.mosaic import PATTERNS
from ccdflow.recipes.detector.amplifiers import Detector

NUMBERS = ("gain", "read_noise", "saturation")
"""Corrections that change pixels: electron/adu, electron rms, adu."""

_CARD = {
    "class": "IMAGETYP",
    "telescope": "TELESCOP",
    "camera": "CAMERA",
    "instrument": "INSTRUME",
    "filter": "FILTER",
    "object": "OBJECT",
    "exptime": "EXPTIME",
    "obsdate": "DATE-OBS",
    "ccd_temperature": "CCD-TEMP",
    "set_temperature": "SET-TEMP",
}
"""Where a header that says nothing of it is told."""
_FIELD = {"class": "frame_class"}
"""Fields of the instrument file that are called otherwise."""
_BESIDE = {"exptime": ("elapsed", "end", "coadds"), "mosaic": ("mosaic_x", "mosaic_y")}
"""Fields of the instrument file that say the same in another way, and would contradict it."""
_ALONE = {"mosaic": MOSAIC_CARD}
"""Cards of our own that tell a thing as it is corrected; a header's own are to be read together with others."""
_OF_ANOTHER_TIME = (
    *("DATE-BEG", "DATE-AVG", "DATE-END", "MJD-BEG", "MJD-AVG", "MJD-END"),
    *("HJD", "BJD", "HJD-OBS", "BJD-OBS", "JD-HELIO", "TIMESYS"),
)
"""Cards beside those that the instrument file names which tell the time as well."""
_MJD_OF_EPOCH = 40587
"""Modified Julian Date of 1970-01-01."""
_DAY_S = 86400
_LONGEST_DATE = len("2026-03-01")
"""Letters of an ISO date without a time."""
_TEMPLATE = re.compile(r"\{([^{}]+)\}")


MEASURED = ("ccd_temperature", "set_temperature", "airmass", "ra", "dec", *NUMBERS)
"""Keywords that are numbers."""


def utc(written: str) -> str:
    """Return a time that somebody has written, as the registry has it.

    Parameters
    ----------
    written : str
        ISO; in UTC where it has no zone.

    Returns
    -------
    str
        ISO in UTC without zone.

    Raises
    ------
    ValueError
        If it is no time; says what was found and what was wanted.
    """
    try:
        moment = datetime.fromisoformat(written.strip())
        # A date alone would be its midnight, which nobody means.
        if len(written.strip()) > _LONGEST_DATE and YEARS[0] <= moment.year < YEARS[1]:
            return canonical(moment)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"obsdate={written} is no time, wanted ISO (UTC), as 2026-03-01T21:00:00")


def colours(written: str) -> str:
    """Return a mosaic that somebody has written, as the registry has it.

    Parameters
    ----------
    written : str
        Colours of the first pixels that are kept.

    Returns
    -------
    str
        One of `ccdflow.recipes.core.mosaic.PATTERNS`.

    Raises
    ------
    ValueError
        If it is none; says what was found and what was wanted.
    """
    pattern = written.strip().upper()
    if pattern not in PATTERNS:
        wanted = ", ".join(PATTERNS)
        raise ValueError(
            f"mosaic={written} can't be taken apart, wanted the colours of the first pixels: {wanted}"
        )
    return pattern


def evening(written: str) -> str:
    """Return a night that somebody has written, as the registry has it.

    Parameters
    ----------
    written : str
        ISO date of the evening.

    Raises
    ------
    ValueError
        If it is no date; says what was found and what was wanted.
    """
    try:
        return date.fromisoformat(written.strip()).isoformat()
    except ValueError:
        raise ValueError(f"night={written} is no date, wanted the evening's, as 2026-03-01") from None


def understood(name: str, value: Value | None) -> Value | None:
    """Return a correction as the registry has it, whoever made it.

    Parameters
    ----------
    name : str
        Of a column or keyword.
    value : str, int, float, bool or None
        What it is to be; None for unknown.

    Returns
    -------
    str, int, float, bool or None
        The same, in the registry's own way of writing it.

    Raises
    ------
    ValueError
        If it can't be; says what was found and what was wanted.
    """
    if value is None or value == "":
        if name in ("class", "night"):
            raise ValueError(f"{name}= is blank, and a frame can't be without; wanted a value")
        return value
    if name == "obsdate":
        return utc(str(value))
    if name == "mosaic":
        return colours(str(value))
    if name == "night":
        return evening(str(value))
    if name == "class" and value not in CLASSES and not is_calibration(str(value)):
        raise ValueError(unknown("class", str(value), CLASSES))
    if name in _COUNTS:
        return _count(name, value)
    if name == "exptime" or name in MEASURED:
        return _number(name, value)
    # As of cards: blanks around a text mean nothing.
    return value.strip() if isinstance(value, str) else value


_COUNTS = ("iobs", "nobs")
_BELOW_ZERO = ("ccd_temperature", "set_temperature", "ra", "dec")


def _count(name: str, value: Value) -> int:
    if isinstance(value, str) or not 0 <= value <= MOST_EXPOSURES or not float(value).is_integer():
        raise ValueError(f"{name}={value} is no place in a sequence, wanted a whole number from 1 on")
    return int(value)


def _number(name: str, value: Value) -> Value:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or (float(value) < 0 and name not in _BELOW_ZERO):
        wanted = "a number" if name in _BELOW_ZERO else "a number from 0 on"
        raise ValueError(f"{name}={value} can't be, wanted {wanted}")
    return value


def amended_header(
    header: Mapping[str, Any], instrument: Instrument, values: Mapping[str, Value | None]
) -> dict[str, Any]:
    """Return a header that says what was corrected.

    Parameters
    ----------
    header : mapping
        Keyword to value, as it stands in the file.
    instrument : Instrument
        The instrument file that claims it: its keywords say which cards tell what.
    values : mapping of str to value or None
        Corrected values by the names of columns and kept keywords; None for what is not known.

    Returns
    -------
    dict
        Keyword to value. The first card from which a corrected thing is read says it; others that do are left out.
    """
    changed = dict(header)
    for name, value in values.items():
        if name == "obsdate":
            _set_time(changed, instrument, value)
        elif name != "night":
            _set(changed, instrument, name, value)
    return changed


def _set(header: dict[str, Any], instrument: Instrument, name: str, value: Value | None) -> None:
    present = {keyword_name(keyword): keyword for keyword in header}
    alone, together = _cards(instrument, name)
    told = [present[card] for card in alone if card in present]
    # One card says it from now on, where the header has had it; others would say something else.
    for keyword in (*told, *(present[card] for card in together if card in present)):
        header.pop(keyword, None)
    if value is not None:
        first = [_ALONE[name]] if name in _ALONE else told
        header[(first or [_CARD.get(name) or next(iter(alone), name.upper())])[0]] = value


def _cards(instrument: Instrument, name: str) -> tuple[list[str], list[str]]:
    """Cards that tell a thing each by itself, in the order in which they count, and those that do together."""
    alternatives = list(_alternatives(instrument, name))
    joint = [_TEMPLATE.findall(alternative) or alternative.split(JOINT) for alternative in alternatives]
    alone = [keyword_name(cards[0]) for cards in joint if len(cards) == 1]
    together = [keyword_name(card) for cards in joint if len(cards) > 1 for card in cards]
    for beside in _BESIDE.get(name, ()):
        together += map(keyword_name, getattr(instrument.keywords, beside))
    return alone, together


def _alternatives(instrument: Instrument, name: str) -> Iterator[str]:
    """Keywords and templates from which a thing is read."""
    yield from getattr(instrument.keywords, _FIELD.get(name, name), ())
    yield from instrument.keep.get(name, ())


def _set_time(header: dict[str, Any], instrument: Instrument, value: Value | None) -> None:
    present = {keyword_name(keyword): keyword for keyword in header}
    dates = instrument.keywords.dates
    told = [keyword_name(card) for cards in (dates.date, dates.time, dates.mjd, dates.jd) for card in cards]
    # Without a card of its own the exposure time follows from beginning and end: then these have to stay.
    exptime = {keyword_name(card) for card in instrument.keywords.exptime if "{" not in card}
    ends = map(keyword_name, instrument.keywords.end)
    others = (*_OF_ANOTHER_TIME, *ends) if exptime & present.keys() else ("TIMESYS",)
    had_mjd = any(keyword_name(card) in present for card in dates.mjd)
    for card in (*told, *others):
        header.pop(present.get(card, card), None)
    if value is None:
        return
    # Without a zone it would be read as one of the instrument's; corrected times are UTC.
    moment = utc(str(value))
    header["DATE-OBS"] = moment if instrument.site.time_zone == "UTC" else f"{moment}Z"
    if had_mjd:
        since = datetime.fromisoformat(moment) - EPOCH
        header["MJD-OBS"] = _MJD_OF_EPOCH + since.total_seconds() / _DAY_S


def amended_detector(detector: Detector, values: Mapping[str, Value | None]) -> Detector:
    """Return a detector with the numbers that were corrected, the same for all amplifiers.

    Parameters
    ----------
    detector : Detector
        As header and instrument file have it.
    values : mapping of str to value or None
        Corrected values by name; of those only gain (electron/adu), read noise (electron) and saturation (adu) count.

    Returns
    -------
    Detector
        A corrected gain or read noise that is not known is None; the saturation then stays as it is.
    """
    numbers: dict[str, Any] = {
        name: values[name]
        for name in NUMBERS
        if name in values and not (name == "saturation" and values[name] is None)
    }
    if not numbers:
        return detector
    amplifiers = tuple(replace(amplifier, **numbers) for amplifier in detector.amplifiers)
    return replace(detector, amplifiers=amplifiers)
