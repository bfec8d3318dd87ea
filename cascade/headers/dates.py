"""When a frame was taken: dates as headers write them, and the night they belong to."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from ccdflow.cascade.headers.keywords import Cards, keyword_name, number, text
from ccdflow.cascade.records import Value

# The standard's form, YYYY-MM-DD, and the one of headers written before 2000, DD/MM/YY; each with either separator.
_DATE = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})")
_OLD_DATE = re.compile(r"(\d{1,2})[-/](\d{1,2})[-/](\d{4}|\d{2})")
_SIXTY = re.compile(r"(\d{1,2}:\d{1,2}):60(?!\d)")
_MIDNIGHT = re.compile(r"(?<![\d:])24:00(:00)?(\.0*)?(?![\d:])")
_HALF_OF_DAY = re.compile(r"([AP])\.?M\.?", re.IGNORECASE)
_COMPACT = re.compile(r"(\d{2})(\d{2})(\d{2}(?:\.\d*)?)")
_MONTHS = "janfebmaraprmayjunjulaugsepoctnovdec"
_OF_C = re.compile(r"(?:[A-Za-z]{3},? +)?([A-Za-z]{3}) +(\d{1,2}) +(\d{1,2}:\d\d:\d\d(?:\.\d+)?) +(\d{4})()")
_LETTERS = re.compile(r"(\d{1,2})[-/ ]([A-Za-z]{3})[a-z]*[-/ ,]+(\d{4})(.*)")
_DOTS = re.compile(r"(\d{4})\.(\d{1,2})\.(\d{1,2})(?!\d)(.*)")
_NO_SIGNS = re.compile(r"(\d{4})(\d\d)(\d\d)(?:[T_ ](\d{6}(?:\.\d*)?Z?))?")
_HMS = re.compile(r"(\d{1,2})h ?(\d{1,2})m ?(\d{1,2}(?:\.\d*)?)s?", re.IGNORECASE)
_TIME = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2})([.,]\d*)?)?")
_ZONE = re.compile(r"([-+])(\d{2}):?(\d{2})?")
_MJD_EPOCH = datetime(1858, 11, 17)
_JD_OF_MJD = 2400000.5
"""Julian Date, in days, at which the Modified Julian Date is 0."""
_MILLISECONDS_PER_DAY = 86400e3
YEARS = (1900, 2200)
"""First year that is believed, and first that is not: others come from clocks that were never set, or misread dates."""
_MJD_OF_YEARS = (15020, 124593)
"""The same as Modified Julian Dates: 1900-01-01 and 2200-01-01."""
_CENTURY_TURNS = 70
"""Years of two digits from here on are of the 20th century: no CCD took a frame before 1970."""
_BEHIND_TAI = {"tai": 0.0, "gps": 19.0, "tt": -32.184, "tdb": -32.184}
"""Time scales other than UTC, and the seconds by which they are behind TAI; TDB is within 2 ms of TT."""
_TAI_AHEAD_BEFORE = 10
"""Seconds by which TAI was ahead of UTC before the first leap second."""
_NEVER_SET = (date(1970, 1, 1), date(1980, 1, 1), date(1980, 1, 6), date(2000, 1, 1))
"""Days at which the clocks of computers, of GPS receivers and of small boards begin to count."""
_SECONDS_PER_HOUR, _SECONDS_PER_DAY = 3600, 86400
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


@dataclass(frozen=True)
class DateReading:
    """When the exposure began, as a header tells it.

    Parameters
    ----------
    obsdate : str
        ISO text in UTC without zone; empty where the header does not tell it.
    sentence : str
        What was wrong with cards before the one that counts; empty where the first card read was right.
    remarks : tuple of str
        What is a guess about the card that counts: a year of two digits, a number for a time of day.
    keyword : str
        The card that it was read from, as `keyword_name` writes it.
    has_clock : bool
        Whether the time of day stands in that card too.
    """

    obsdate: str
    sentence: str
    remarks: tuple[str, ...] = ()
    keyword: str = ""
    has_clock: bool = False


def observation_date(cards: Cards, keywords: DateKeywords, time_zone: str = "UTC") -> tuple[str, str]:
    """Return the start of the exposure, and one sentence about what was wrong; see `read_date`.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.
    keywords : DateKeywords
        Where it may say when the exposure began.
    time_zone : str
        Zone of a moment that states none.

    Returns
    -------
    tuple of str
        ISO text in UTC without zone, empty where the header does not tell it; and the sentence, empty where the
        first card read was right.
    """
    reading = read_date(cards, keywords, time_zone)
    return reading.obsdate, reading.sentence


def read_date(cards: Cards, keywords: DateKeywords, time_zone: str = "UTC") -> DateReading:
    """Return the start of the exposure, and what was wrong with it or is a guess.

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
    DateReading
        Of the first card that can be understood.
    """
    # Dates first, with a time of day of their own or from another card; then MJD, then JD, which may be those of
    # mid-exposure. What is wrong with a card is noted, and the next one is tried.
    doubts: list[str] = []
    for keyword in _present(cards, keywords.date):
        try:
            moment, remarks, has_clock = _moment(cards, keyword, keywords.time, time_zone)
            obsdate = _scaled(moment, cards, keywords)
            return DateReading(obsdate, "; ".join(doubts), tuple(remarks), keyword, has_clock)
        except ValueError as doubt:
            doubts.append(f"{keyword}={text(cards[keyword])!r} {doubt}")
    for names, offset in ((keywords.mjd, 0.0), (keywords.jd, _JD_OF_MJD)):
        for keyword in _present(cards, names):
            try:
                moment = _from_mjd(number(cards[keyword]), offset)
                sentence = "; ".join([*doubts, f"date taken from {keyword}"])
                obsdate = _scaled(moment, cards, keywords)
                return DateReading(obsdate, sentence, (), keyword, has_clock=True)
            except ValueError as doubt:
                doubts.append(f"{keyword}={text(cards[keyword])!r} {doubt}")
    wanted = ", ".join([*keywords.date, *keywords.mjd, *keywords.jd])
    return DateReading("", "; ".join(doubts) or f"no date: none of {wanted} stands in the header")


def moment_after(
    cards: Cards, keyword: str, keywords: DateKeywords, start: datetime, time_zone: str = "UTC"
) -> datetime | None:
    """Return a moment that a card states, such as the end of the exposure.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.
    keyword : str
        The card: a date and time, a time of day alone, or a Julian Date, modified or not.
    keywords : DateKeywords
        For the time scale.
    start : datetime
        UTC, without zone: a time of day alone is the first one that is not before it.
    time_zone : str
        Zone of a moment that states none.

    Returns
    -------
    datetime or None
        UTC, without zone; None where there is no such card, or it is not understood.
    """
    value = cards.get(keyword_name(keyword))
    if value is None:
        return None
    zone = UTC if keyword_name(keyword).startswith("UT") else zone_of(time_zone)
    try:
        if not isinstance(value, str):
            days = number(value) or 0.0
            moment = _from_mjd(days, _JD_OF_MJD if days > _JD_OF_MJD else 0.0)
        elif _TIME.match(value.strip()):
            clock, own, carried, _ = _clock_of_card(value)
            moment = _in_utc(datetime.combine(start.date(), clock, own or zone)) + carried
            # To the second: the start may have decimals that the end does not state.
            return moment + timedelta(days=1) if moment < start - timedelta(seconds=1) else moment
        else:
            written, carried, _ = _carried(value)
            day, day_clock, own = parse_moment(written)
            if day_clock is None:
                return None
            moment = _in_utc(datetime.combine(day, day_clock, own or zone)) + carried
        return datetime.fromisoformat(_scaled(moment, cards, keywords))
    except ValueError:
        return None


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
    written = _in_iso(written.strip())
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
    moment = datetime.fromisoformat(obsdate)
    # Neither the first nor the last day that the calendar has is anybody's, but a row may say so.
    with suppress(OverflowError):
        moment += timedelta(hours=(longitude or 0.0) / _DEGREES_PER_HOUR - 12)
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


def _in_iso(written: str) -> str:
    """Return a date with its month in letters, with dots or without signs as the standard writes it; others as is."""
    if written[:4].isdigit() and written[4:5] in "-/":
        return written
    if match := _OF_C.fullmatch(written):
        month, day, clock, year, rest = match.groups()
    elif match := _LETTERS.fullmatch(written):
        day, month, year, rest = match.groups()
        clock = ""
    elif match := _DOTS.fullmatch(written):
        return f"{match[1]}-{match[2]}-{match[3]}{match[4]}"
    elif match := _NO_SIGNS.fullmatch(written):
        clock = f"T{match[4]}" if match[4] else ""
        return f"{match[1]}-{match[2]}-{match[3]}{clock}"
    else:
        return written
    number = _MONTHS.find(month[:3].casefold()) // 3 + 1
    return f"{year}-{number:02d}-{int(day):02d}{'T' if clock else ''}{clock}{rest}" if number else written


def _present(cards: Cards, keywords: Iterable[str]) -> list[str]:
    return [name for name in map(keyword_name, keywords) if name in cards]


def _moment(
    cards: Cards, keyword: str, times: Sequence[str], time_zone: str
) -> tuple[datetime, list[str], bool]:
    """The moment in UTC, remarks on what was guessed, and whether the card has a time of day of its own."""
    written, carried, remarks = _carried(text(cards[keyword]))
    day, clock, zone = parse_moment(written)
    has_clock = clock is not None
    remarks = [
        f"{keyword}={text(cards[keyword])!r} {remark}" for remark in [*_odd_day(written, day), *remarks]
    ]
    if clock is None:
        clocks = _present(cards, times)
        if not clocks:
            raise ValueError(f"has no time of day, and none of {', '.join(times)} stands beside it")
        try:
            clock, zone, carried, remark = _clock_of_card(cards[clocks[0]])
        except ValueError as doubt:
            raise ValueError(
                f"has no time of day, and {clocks[0]}={text(cards[clocks[0]])!r} {doubt}"
            ) from None
        remarks += [f"{clocks[0]}={text(cards[clocks[0]])!r} {remark}"] if remark else []
        zone = zone or (UTC if clocks[0].startswith("UT") else None)
    moment = datetime.combine(day, clock, zone or zone_of(time_zone))
    return _in_utc(moment) + carried, remarks, has_clock


def _carried(written: str) -> tuple[str, timedelta, list[str]]:
    """A text without the second 60 and the hour 24, the time that they add, and what is odd about them."""
    if match := _SIXTY.search(written):
        # Only 23:59:60 UTC is a second that clocks have shown; elsewhere it is 59.9996 rounded up by a program.
        odd = [] if match[1] == "23:59" else ["has 60 seconds: the next minute is meant"]
        return written.replace(match[0], f"{match[1]}:59"), timedelta(seconds=1), odd
    if match := _MIDNIGHT.search(written):
        return written.replace(match[0], "00:00:00"), timedelta(days=1), []
    return written, timedelta(0), []


def _odd_day(written: str, day: date) -> list[str]:
    """Say what is a guess about a date that was understood."""
    remarks = ["is the first day of a clock that was never set"] if day in _NEVER_SET else []
    old = _OLD_DATE.match(written.strip())
    if old is None:
        return remarks
    if len(old[3]) == 2 and day.year >= 2000:
        remarks.append(f"has a year of two digits, read as {day.year}")
    elif len(old[3]) == 4 and int(old[1]) <= 12 and int(old[2]) <= 12 and old[1] != old[2]:
        remarks.append(f"has day or month first, read as {day.isoformat()}")
    elif int(old[2]) > 12:
        remarks.append(f"has the month first, read as {day.isoformat()}")
    return remarks


def _clock_of_card(value: Value) -> tuple[time, tzinfo | None, timedelta, str]:
    """Time of day, zone, time to add, and a remark, of a card that has no date, or one that doesn't count."""
    written = text(value)
    if isinstance(value, str) and (compact := _COMPACT.fullmatch(written)):
        clock, zone = _clock(":".join(compact.groups()))
        return clock, zone, timedelta(0), "has no colons, read as hours, minutes and seconds"
    count = number(value) if ":" not in written else None
    if count is not None and 0 <= count < _SECONDS_PER_DAY:
        # Up to 24 it is hours with decimals, above it seconds of the day.
        hours = count < 24
        seconds = count * _SECONDS_PER_HOUR if hours else count
        remark = f"is read as {'hours' if hours else 'seconds'} of the day"
        return time(), None, timedelta(milliseconds=round(seconds * 1000)), remark
    # Some cameras write date and time of day into this card too.
    plain, carried, odd = _carried(written.split("T")[-1])
    clock, zone = _clock(plain)
    return clock, zone, carried, "; ".join(odd)


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _day(written: str) -> date:
    match = _DATE.fullmatch(written)
    if match:
        year, month, day = (int(group) for group in match.groups())
    elif match := _OLD_DATE.fullmatch(written):
        day, month, year = (int(group) for group in match.groups())
        if month > 12 >= day:
            day, month = month, day  # as Americans write it; no other reading is a date
        if len(match[3]) == 2:
            # The FITS standard reads 19YY, yet software of this century writes its own years so.
            year += 1900 if year >= _CENTURY_TURNS else 2000
    else:
        raise ValueError("is no date")
    if not YEARS[0] <= year < YEARS[1]:
        raise ValueError("is no date of this age")
    try:
        return date(year, month, day)
    except ValueError:
        raise ValueError("is no date of the calendar") from None


def _clock(written: str) -> tuple[time, tzinfo | None]:
    written = _HMS.sub(r"\1:\2:\3", written.strip())
    if compact := _COMPACT.match(written):
        written = ":".join(compact.groups()) + written[compact.end() :]
    match = _TIME.match(written)
    if match is None:
        raise ValueError("has no such time of day")
    zone = written[match.end() :].strip()
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    # Beyond 0.999999 a rounded fraction would be the next second.
    micro = (
        min(round(float(match[4].replace(",", ".")) * 1e6), 999999) if match[4] and len(match[4]) > 1 else 0
    )
    try:
        clock = time(hour, minute, second, micro)
    except ValueError:
        raise ValueError("has no such time of day") from None
    if half := _HALF_OF_DAY.fullmatch(zone):
        return clock.replace(hour=hour % 12 + (12 if half[1] in "pP" else 0)), None
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
