"""When a frame was taken: dates as headers write them, and the night they belong to."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from ccdflow.cascade.headers.keywords import Cards, keyword_name, number, text

# The standard's form, YYYY-MM-DD, and the one of headers written before 2000, DD/MM/YY; each with either separator.
_DATE = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})")
_OLD_DATE = re.compile(r"(\d{1,2})[-/](\d{1,2})[-/](\d{4}|\d{2})")
_TIME = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2})(\.\d*)?)?")
_ZONE = re.compile(r"([-+])(\d{2}):?(\d{2})?")
_MJD_EPOCH = datetime(1858, 11, 17)
_JD_OF_MJD = 2400000.5
"""Julian Date, in days, at which the Modified Julian Date is 0."""
_MILLISECONDS_PER_DAY = 86400e3
_YEARS = (1900, 2200)
"""First year that is believed, and first that is not: others come from clocks that were never set, or misread dates."""
_MJD_OF_YEARS = (15020, 124593)
"""The same as Modified Julian Dates: 1900-01-01 and 2200-01-01."""
_CENTURY_TURNS = 70
"""Years of two digits from here on are of the 20th century: no CCD took a frame before 1970."""
_BEHIND_TAI = {"tai": 0.0, "gps": 19.0, "tt": -32.184, "tdb": -32.184}
"""Time scales other than UTC, and the seconds by which they are behind TAI; TDB is within 2 ms of TT."""
_TAI_AHEAD_BEFORE = 10
"""Seconds by which TAI was ahead of UTC before the first leap second."""
_DEGREES_PER_HOUR = 15
"""The Earth turns so far in an hour of mean time."""
# fmt: off
_LEAP_SECONDS = (
    (1972, 7), (1973, 1), (1974, 1), (1975, 1), (1976, 1), (1977, 1), (1978, 1), (1979, 1), (1980, 1),
    (1981, 7), (1982, 7), (1983, 7), (1985, 7), (1988, 1), (1990, 1), (1991, 1), (1992, 7), (1993, 7),
    (1994, 7), (1996, 1), (1997, 7), (1999, 1), (2006, 1), (2009, 1), (2012, 7), (2015, 7), (2017, 1),
)
# fmt: on
"""Months that began after an inserted second (IERS Bulletin C); TAI was 10 s ahead before the first."""


@dataclass(frozen=True)
class DateKeywords:
    """Where a header may say when the exposure began; each a list of keywords, tried in order.

    Parameters
    ----------
    date : sequence of str
        Date, or date and time.
    time : sequence of str
        Time of day, for a date without one.
    mjd, jd : sequence of str
        Modified Julian Date and Julian Date, days UTC.
    system : sequence of str
        Time scale, as ``TIMESYS``.
    """

    date: Sequence[str]
    time: Sequence[str] = ()
    mjd: Sequence[str] = ()
    jd: Sequence[str] = ()
    system: Sequence[str] = ()


def observation_date(cards: Cards, keywords: DateKeywords, time_zone: str = "UTC") -> tuple[str, str]:
    """Return the start of the exposure, and one sentence about what was wrong.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.
    keywords : DateKeywords
        Where it may say when the exposure began.
    time_zone : str
        Zone of a moment that states none, unless its time of day stands in a card whose name begins with ``UT``.

    Returns
    -------
    tuple of str
        ISO text in UTC without zone, empty where the header does not tell it; and the sentence, empty where the
        first card read was right.
    """
    # Dates first, with a time of day of their own or from another card; then MJD, then JD, which may be those of
    # mid-exposure. What is wrong with a card is noted, and the next one is tried.
    doubts: list[str] = []
    for keyword in _present(cards, keywords.date):
        try:
            return _scaled(_moment(cards, keyword, keywords.time, time_zone), cards, keywords), "; ".join(
                doubts
            )
        except ValueError as doubt:
            doubts.append(f"{keyword}={text(cards[keyword])!r} {doubt}")
    for names, offset in ((keywords.mjd, 0.0), (keywords.jd, _JD_OF_MJD)):
        for keyword in _present(cards, names):
            try:
                moment = _from_mjd(number(cards[keyword]), offset)
                return _scaled(moment, cards, keywords), "; ".join([*doubts, f"date taken from {keyword}"])
            except ValueError as doubt:
                doubts.append(f"{keyword}={text(cards[keyword])!r} {doubt}")
    wanted = ", ".join([*keywords.date, *keywords.mjd, *keywords.jd])
    return "", "; ".join(doubts) or f"no date: none of {wanted} stands in the header"


def canonical(moment: datetime) -> str:
    """Return a moment as the registry has it.

    Parameters
    ----------
    moment : datetime
        In UTC where it has no zone.

    Returns
    -------
    str
        ISO text in UTC without zone; decimals of the second, up to six, only where they are not zero.
    """
    plain = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    written = plain.isoformat()
    return written.rstrip("0") if "." in written else written


def parse_moment(written: str) -> tuple[date, time | None, tzinfo | None]:
    """Return the date, the time of day and the zone that a text states.

    Parameters
    ----------
    written : str
        A date as headers have it, ``2026-03-01``, ``01/03/26``, with or without a time of day behind ``T``, ``_`` or
        blanks, and a zone behind that.

    Returns
    -------
    tuple of date, time or None, and tzinfo or None
        None for what is not stated.

    Raises
    ------
    ValueError
        With the rest of a sentence that begins with the text: "is no date", "has no such time of day", ...
    """
    # The shortest beginning that leaves T, _ or blanks and something behind them; without those all of it is the day.
    parts = re.fullmatch(r"(\S+?)(?:(?:\s*[T_]\s*|\s+)(.*))?", written.strip(), re.IGNORECASE)
    if parts is None:
        raise ValueError("is no date")
    day = _day(parts[1])
    if not parts[2]:
        return day, None, None
    clock, zone = _clock(parts[2])
    return day, clock, zone


def night(obsdate: str, longitude: float | None = None) -> str:
    """Return the night that a moment belongs to: from noon to noon, named by the evening's date.

    Parameters
    ----------
    obsdate : str
        ISO date and time in UTC without zone.
    longitude : float or None
        Of the site, degrees east; None for 0.

    Returns
    -------
    str
        ISO date of the evening, also for frames after midnight.
    """
    # Local mean time follows from the longitude alone, without zones, laws or summer time: a night never has 23 hours,
    # and no night is cut in two. 12 hours earlier, noon is midnight, and the calendar's date is the evening's.
    moment = datetime.fromisoformat(obsdate) + timedelta(hours=(longitude or 0.0) / _DEGREES_PER_HOUR - 12)
    return moment.date().isoformat()


def zone_of(name: str) -> tzinfo:
    """Return the time zone of a name.

    Parameters
    ----------
    name : str
        ``UTC``, ``+02:00`` or, by its place, ``America/Denver``.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name.strip().upper() in ("UTC", "UT", "GMT", "Z"):
        return UTC
    offset = _ZONE.fullmatch(name.strip())
    if offset:
        return _offset(offset)
    try:
        return ZoneInfo(name.strip())
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"unknown time zone {name!r}; wanted UTC, +02:00 or a name such as Europe/Madrid"
        ) from None


def _present(cards: Cards, keywords: Iterable[str]) -> list[str]:
    return [name for name in map(keyword_name, keywords) if name in cards]


def _moment(cards: Cards, keyword: str, times: Sequence[str], time_zone: str) -> datetime:
    day, clock, zone = parse_moment(text(cards[keyword]))
    if clock is None:
        clocks = _present(cards, times)
        if not clocks:
            raise ValueError(f"has no time of day, and none of {', '.join(times)} stands beside it")
        written = text(cards[clocks[0]])
        try:
            # Some cameras write date and time of day into this card too.
            clock, zone = _clock(written.split("T")[-1])
        except ValueError as doubt:
            raise ValueError(f"has no time of day, and {clocks[0]}={written!r} {doubt}") from None
        zone = zone or (UTC if clocks[0].startswith("UT") else None)
    return _in_utc(datetime.combine(day, clock, zone or zone_of(time_zone)))


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _day(written: str) -> date:
    match = _DATE.fullmatch(written)
    if match:
        year, month, day = (int(group) for group in match.groups())
    elif match := _OLD_DATE.fullmatch(written):
        day, month, year = (int(group) for group in match.groups())
        if len(match[3]) == 2:
            # The FITS standard reads 19YY, yet software of this century writes its own years so.
            year += 1900 if year >= _CENTURY_TURNS else 2000
    else:
        raise ValueError("is no date")
    if not _YEARS[0] <= year < _YEARS[1]:
        raise ValueError("is no date of this age")
    try:
        return date(year, month, day)
    except ValueError:
        raise ValueError("is no date of the calendar") from None


def _clock(written: str) -> tuple[time, tzinfo | None]:
    match = _TIME.match(written.strip())
    if match is None:
        raise ValueError("has no such time of day")
    zone = written.strip()[match.end() :].strip()
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    # Beyond 0.999999 a rounded fraction would be the next second.
    micro = min(round(float(match[4]) * 1e6), 999999) if match[4] and len(match[4]) > 1 else 0
    if second == 60:
        raise ValueError("has 60 seconds, which no clock but a leap second's shows")
    try:
        clock = time(hour, minute, second, micro)
    except ValueError:
        raise ValueError("has no such time of day") from None
    if zone.upper() in ("", "Z", "UT", "UTC", "GMT"):
        return clock, UTC if zone else None
    offset = _ZONE.fullmatch(zone)
    if offset is None:
        raise ValueError(f"has an unknown time zone {zone!r}")
    return clock, _offset(offset)


def _offset(match: re.Match[str]) -> timezone:
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    if minutes >= 24 * 60:
        raise ValueError(f"has an unknown time zone {match[0]!r}")
    return timezone(timedelta(minutes=-minutes if match[1] == "-" else minutes))


def _from_mjd(days: float | None, offset: float) -> datetime:
    """Return the moment, to the millisecond: a Julian Date in double precision has steps of 40 microseconds."""
    if days is None:
        raise ValueError("is no number")
    mjd = days - offset
    if not _MJD_OF_YEARS[0] <= mjd < _MJD_OF_YEARS[1]:
        raise ValueError("is no date of this age")
    return _MJD_EPOCH + timedelta(milliseconds=round(mjd * _MILLISECONDS_PER_DAY))


def _scaled(moment: datetime, cards: Cards, keywords: DateKeywords) -> str:
    """Return the moment in UTC, where the header's time scale is another."""
    # UTC is the default (FITS 4.0, section 9.2.1). Scales that are not listed count as UTC, from which UT1 is never
    # more than 0.9 s away.
    scale = next((text(cards[name]).casefold() for name in _present(cards, keywords.system)), "utc")
    if scale not in _BEHIND_TAI:
        return canonical(moment)
    tai = moment + timedelta(seconds=_BEHIND_TAI[scale])
    # Leap seconds are listed by dates in UTC, which is what is looked for. TAI less the offset at TAI is near enough to
    # it to find the right offset, but for the seconds around a leap second; hence twice.
    return canonical(tai - _tai_minus_utc(tai - _tai_minus_utc(tai)))


def _tai_minus_utc(utc: datetime) -> timedelta:
    return timedelta(seconds=_TAI_AHEAD_BEFORE + bisect_right(_LEAP_SECONDS, (utc.year, utc.month)))
