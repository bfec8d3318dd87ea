"""Where cards of a header contradict each other: dates, binnings, what a frame is against how it was taken."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from ccdflow.cascade.headers.dates import DateReading, moment_after, parse_moment
from ccdflow.cascade.headers.instrument import Instrument, plain
from ccdflow.cascade.headers.keywords import Cards, binning, cards_of, first, keyword_name, look_up, text
from ccdflow.cascade.records import Doubt, Value

LONGEST_BIAS = 1.0
"""Seconds: no camera needs more to expose nothing, and a dark of so long is no bias."""
SHORTEST = 1e-6
"""Seconds: what is exposed for less was not exposed; some drivers write 1e-32 for 0."""
CLOCKS = 2.0
"""Seconds by which two cards with the start of the exposure may differ: clocks in whole seconds, rounded or cut."""
LOOSE = 60.0
"""Seconds by which cards may differ that some programs write for another moment of the exposure, or of the file."""
COOLED = 5.0
"""Kelvin by which a cooled sensor may miss its set point; more is a cooler that was off, at its limit or on its way."""
_DAY = 86400.0
_HOURS = 24
"""A number below this under a time of day is in hours, others are in seconds."""
_WRITTEN_LATER = timedelta(hours=26)
"""By how much the exposure may be later than the writing of its file: 14 h of time zones each way, less two."""
_DARK_FILTERS = frozenset(
    map(plain, ("dark", "opaque", "blocked", "closed", "block", "cap", "cover", "covered"))
)
"""Filters that let no light through."""
_IN_WORDS = {"science": "a light", "sky": "a sky frame", "arc": "an arc"}
"""Classes as people say them, where an article and the class are not it."""
_CALIBRATIONS = ("bias", "dark", "flat")
_BINNING = re.compile(r"\d+x\d+")


@dataclass(frozen=True)
class Told:
    """What was read from a header so far.

    Parameters
    ----------
    frame_class : str
        What the frame is.
    date : DateReading
        When it was begun.
    exptime : float or None
        Seconds.
    filter : str
        Its filter.
    shutter : str
        ``open`` or ``closed``, else whatever the header says.
    ccd_temperature, set_temperature : float or None
        Of the sensor, degrees Celsius.
    """

    frame_class: str
    date: DateReading
    exptime: float | None
    filter: str = ""
    shutter: str = ""
    ccd_temperature: float | None = None
    set_temperature: float | None = None


def contradictions(cards: Cards, by: Instrument, comments: Mapping[str, str], told: Told) -> Iterator[Doubt]:
    """Find cards that contradict what was read.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.
    by : Instrument
        The instrument file that claims it.
    comments : mapping
        Keyword to the comment of its card.
    told : Told
        What was read.

    Yields
    ------
    Doubt
        One for each contradiction.
    """
    for kind, sentences in (
        ("class_conflict", _class_conflicts(cards, by, told)),
        ("shutter_conflict", _shutter_conflicts(told)),
        ("binning_conflict", _binning_conflicts(cards, by)),
        ("date_conflict", _date_conflicts(cards, by, told)),
        ("date", _odd_comments(cards, by, comments, told)),
        ("temperature_conflict", _temperature_conflicts(told)),
    ):
        yield from (Doubt(kind, sentence) for sentence in sentences)


def _class_conflicts(cards: Cards, by: Instrument, told: Told) -> Iterator[str]:
    exptime, frame_class = told.exptime, told.frame_class
    if frame_class == "bias" and exptime is not None and exptime > LONGEST_BIAS:
        yield f"a bias of {exptime:g} s"
    if frame_class in ("flat", "science", "sky") and exptime is not None and exptime <= SHORTEST:
        yield f"{_a(frame_class)} of {exptime:g} s"
    if frame_class in ("flat", "science", "sky") and plain(told.filter) in _DARK_FILTERS:
        yield f"{_a(frame_class)} through filter {told.filter}"
    # Programs let the object of the last target stand, so that only one that names a calibration says anything.
    named = by.spellings.get(plain(text(cards.get("OBJECT"))), "")
    if frame_class == "science" and named in _CALIBRATIONS:
        yield f"a light of the object {text(cards['OBJECT'])}"
    yield from _other_classes(cards, by, frame_class)


def _a(frame_class: str) -> str:
    """A frame of a class, in words."""
    return _IN_WORDS.get(frame_class, f"a {frame_class}")


def _other_classes(cards: Cards, by: Instrument, frame_class: str) -> Iterator[str]:
    """Say which other card makes the frame a bias, a dark or a flat, or a frame of light."""
    # A rule of the instrument file knows better than the cards.
    if frame_class == "unclassified" or any(rule.holds(cards) for rule in by.rules):
        return
    for alternative in by.keywords.frame_class:
        card = first(cards, [alternative])
        if card is None:
            continue
        written = text(card[1])
        other = by.class_of(f"{alternative}={written}") or by.class_of(written)
        if other not in ("", frame_class) and {other, frame_class} & set(_CALIBRATIONS):
            yield f"it is {_a(frame_class)}, but {alternative}={written!r}"


def _shutter_conflicts(told: Told) -> Iterator[str]:
    if told.shutter == "closed" and told.frame_class in ("science", "flat", "sky", "arc"):
        yield f"{_a(told.frame_class)} with a closed shutter"
    if told.shutter == "open" and told.frame_class in ("bias", "dark"):
        yield f"a {told.frame_class} with an open shutter"


def _binning_conflicts(cards: Cards, by: Instrument) -> Iterator[str]:
    stated: dict[str, str] = {}
    seen = ""
    for alternative in by.keywords.binning:
        value = look_up(cards, alternative)
        # XBINNING alone says nothing beside {XBINNING}x{YBINNING}.
        if value is None or f"{{{alternative}}}" in seen:
            continue
        seen += alternative
        if _BINNING.fullmatch(factors := binning(value)):
            stated.setdefault(factors, alternative)
    if len(stated) > 1:
        yield ", ".join(f"{alternative} says {factors}" for factors, alternative in stated.items())


_OF_FIELDS = {
    "frame_class": "class_conflict",
    "filter": "filter_conflict",
    "exptime": "exptime_conflict",
    **dict.fromkeys(("date", "time", "mjd", "jd"), "date_conflict"),
    "binning": "binning_conflict",
    "gain": "gain_conflict",
    **dict.fromkeys(("ccd_temperature", "set_temperature"), "temperature_conflict"),
    **dict.fromkeys(("telescope", "camera", "instrument", "object", "readout_mode", "offset"), "value"),
}
"""Field of an instrument file to the kind of doubt about it."""
_NAMES = re.compile(r"[^{}+]+")


def repetitions(cards: Cards, by: Instrument, repeated: Mapping[str, Value]) -> Iterator[Doubt]:
    """Find cards that stand in a header more than once, and say different things.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`, in which the first of them counts.
    by : Instrument
        The instrument file that claims it.
    repeated : mapping
        Keyword to another value.

    Yields
    ------
    Doubt
        One for each keyword that the instrument file reads.
    """
    others = cards_of(repeated, by.blanks) if repeated else {}
    for field, kind in _OF_FIELDS.items() if others else ():
        names = {
            keyword_name(name) for way in getattr(by.keywords, field) for name in _NAMES.findall(way)
        } & others.keys()
        for name in sorted(names):
            counts, other = text(cards.get(name)), text(others.pop(name))
            if counts and counts != other:
                yield Doubt(kind, f"{name} stands twice, {counts!r} and {other!r}: the first counts")


# --- dates --------------------------------------------------------------------------------------------------------
# The start of the exposure is held against each other card that tells a moment of it. Some of these are of its middle
# or its end, by the convention of the program that wrote them, so that all between start and end agrees. A Julian Date
# is as exact as its decimals: 58393.46 is any moment of a quarter of an hour.


def _date_conflicts(cards: Cards, by: Instrument, told: Told) -> Iterator[str]:
    if not told.date.obsdate:
        return
    start = datetime.fromisoformat(told.date.obsdate)
    times = set(map(keyword_name, by.keywords.time)) & cards.keys()
    for keyword, slack in _other_dates(cards, by, told.date):
        is_time = keyword in times
        moment = _moment(cards, keyword, by, start, is_time=is_time)
        if moment is None:
            continue
        offset = (moment - start).total_seconds()
        if is_time and not _has_date(cards[keyword]):
            offset = (offset + _DAY / 2) % _DAY - _DAY / 2  # of all days the nearest
        slack += _grain(cards[keyword], is_time=is_time) + _grain(cards.get(told.date.keyword))
        if not -slack <= offset <= (told.exptime or 0.0) + slack:
            yield f"{told.date.keyword} and {keyword} are {_span(offset)} apart"
    yield from _other_days(cards, by, told, start)
    yield from _ends_and_files(cards, by, told, start)


def _moment(cards: Cards, keyword: str, by: Instrument, start: datetime, *, is_time: bool) -> datetime | None:
    """The moment that a card states; a number under a time of day is hours or seconds of the day, as ESO writes UTC."""
    value = cards[keyword]
    if isinstance(value, str) or not is_time:
        return moment_after(cards, keyword, by.keywords.dates, start, by.site.time_zone)
    if isinstance(value, bool) or not 0 <= value < _DAY:
        return None
    # Below 24 it may be either: hours, or the first seconds of a day.
    readings = [value, value * _DAY / _HOURS] if value < _HOURS else [value]
    midnight = datetime.combine(start.date(), time())
    since = (start - midnight).total_seconds()
    seconds = min(readings, key=lambda reading: abs((reading - since + _DAY / 2) % _DAY - _DAY / 2))
    return midnight + timedelta(seconds=seconds)


def _other_days(cards: Cards, by: Instrument, told: Told, start: datetime) -> Iterator[str]:
    """Say where another card states a date in UT that is not that of the exposure: one of both is local."""
    end = start + timedelta(seconds=told.exptime or 0.0)
    for name in map(keyword_name, by.keywords.date):
        if not name.startswith("UT") or name == told.date.keyword or name not in cards:
            continue
        try:
            day, clock, _ = parse_moment(text(cards[name]))
        except ValueError:
            continue
        if clock is None and not start.date() <= day <= end.date():
            yield f"{told.date.keyword} says {start.date()}, {name} says {day}: which of them is local?"


def _other_dates(cards: Cards, by: Instrument, read: DateReading) -> Iterator[tuple[str, float]]:
    """Find the other cards with a moment of the exposure, and how near it has to be."""
    keywords = by.keywords
    slacks = [*((name, CLOCKS) for name in keywords.date), *((name, LOOSE) for name in keywords.jd)]
    slacks += [(name, CLOCKS if "-" in name or "_" in name else LOOSE) for name in keywords.mjd]
    # A time of day from another card was used already, and those of local time say nothing.
    slacks += [
        (name, LOOSE) for name in keywords.time if read.has_clock and name.startswith(("UT", "TIME-OBS"))
    ]
    for name, slack in slacks:
        keyword = keyword_name(name)
        if keyword in cards and keyword != read.keyword:
            yield keyword, slack


def _ends_and_files(cards: Cards, by: Instrument, told: Told, start: datetime) -> Iterator[str]:
    """Say where the end lies before the beginning or far behind it, or the file is older than its exposure."""
    for name in by.keywords.end:
        keyword = keyword_name(name)
        if keyword not in cards or _is_clock(cards[keyword]):
            continue
        end = moment_after(cards, keyword, by.keywords.dates, start, by.site.time_zone)
        if (
            end is not None
            and not -CLOCKS <= (end - start).total_seconds() <= (told.exptime or 0.0) + _DAY / 24
        ):
            yield f"{keyword} is {_span((end - start).total_seconds())} from the start of the exposure"
    written = moment_after(cards, "DATE", by.keywords.dates, start, by.site.time_zone)
    if written is not None and not _is_clock(cards["DATE"]) and start - written > _WRITTEN_LATER:
        yield f"the file was written {_span((start - written).total_seconds())} before its exposure, by DATE"


def _is_clock(value: Value) -> bool:
    """Whether a card has a time of day without a date."""
    return isinstance(value, str) and re.match(r"\d{1,2}:", value.strip()) is not None


def _has_date(value: Value) -> bool:
    return isinstance(value, str) and not _is_clock(value)


def _grain(value: Value | None, *, is_time: bool = False) -> float:
    """Seconds by which a moment may differ from what is written, by its decimals."""
    if isinstance(value, float):
        unit = _DAY if not is_time else _DAY / _HOURS if value < _HOURS else 1.0
        decimals = len(repr(value).partition(".")[2])
        return 0.5 * 10.0**-decimals * unit
    if isinstance(value, int):
        return 1.0 if is_time else _DAY  # a whole day, or a time that nobody wrote out
    minutes_only = re.search(r"(?:^|[T\s_])\d{1,2}:\d{2}$", text(value))
    return 60.0 if minutes_only else 0.0


def _span(seconds: float) -> str:
    """A length of time as people say it."""
    size = abs(seconds)
    if size < 120:
        return f"{size:.1f} s"
    return (
        f"{size / 60:.1f} min"
        if size < 7200
        else f"{size / 3600:.1f} h"
        if size < 2 * _DAY
        else f"{size / _DAY:.0f} days"
    )


_MOMENTS = {
    "the end of the exposure": re.compile(r"\b(end|finish|close|read-?out)", re.I),
    "the middle of the exposure": re.compile(r"\bmid(?!night)", re.I),
    "the writing of the file": re.compile(
        r"\bfile\b.*\b(creat|writ|sav)|\b(creat|writ|sav)\w* .*\bfile\b", re.I
    ),
}
_START = re.compile(r"\b(start|begin|open)", re.I)
_SCALES = re.compile(r"(UTC?|UT[01]|GMT|Z|ZULU|TAI|IAT|GPS|TT|TDT|ET|TDB|TCB|TCG)\b.*", re.I)
_LOCAL = re.compile(r"\blocal\b", re.I)
_UTC = re.compile(r"\b(UTC?|GMT|universal|zulu)\b", re.I)


def _odd_comments(cards: Cards, by: Instrument, comments: Mapping[str, str], told: Told) -> Iterator[str]:
    """Say where the comment of the date names another moment than the start, or a local time; so for TIMESYS."""
    keyword = told.date.keyword
    comment = comments.get(keyword, "")
    for moment, pattern in _MOMENTS.items():
        if pattern.search(comment) and not _START.search(comment):
            yield f"{keyword} is of {moment} by its comment {comment!r}; it is taken for the start"
    if _LOCAL.search(comment) and not _UTC.search(comment):
        yield f"{keyword} is local time by its comment {comment!r}; which zone is not stated"
    for name in map(keyword_name, by.keywords.time_system):
        scale = text(cards.get(name))
        if scale and scale != "UTC" and not _SCALES.fullmatch(scale) and by.site.time_zone == "UTC":
            yield f"{name}={scale!r} is no time scale that is known: dates are read as UTC (site: time_zone)"


def _temperature_conflicts(told: Told) -> Iterator[str]:
    # A set point of exactly 0 is what drivers write of cameras that have no cooler.
    if told.ccd_temperature is None or not told.set_temperature:
        return
    if abs(told.ccd_temperature - told.set_temperature) > COOLED:
        yield f"the sensor is at {told.ccd_temperature:g} C, its set point {told.set_temperature:g} C"
