"""What a raw frame is, told from its header: class, names, times and the keywords kept with it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from ccdflow.cascade.headers.amplifiers import believable, detector_of
from ccdflow.cascade.headers.contradictions import Told, contradictions, repetitions
from ccdflow.cascade.headers.dates import DateReading, night, read_date
from ccdflow.cascade.headers.doubts import policy_of
from ccdflow.cascade.headers.exposuretime import exposure_time
from ccdflow.cascade.headers.filterwheels import filter_name
from ccdflow.cascade.headers.finished import Finished, Pixels, finished
from ccdflow.cascade.headers.instrument import Instrument, find_instrument, plain
from ccdflow.cascade.headers.keywords import (
    Cards,
    angle,
    binning,
    cards_of,
    comments_of,
    first,
    keyword_name,
    number,
    text,
    without_blanks,
)
from ccdflow.cascade.headers.mosaic import mosaic_of
from ccdflow.cascade.headers.setting import Header, first_setting, gain_words, readout_area, settings
from ccdflow.cascade.headers.units import read_unit
from ccdflow.cascade.records import BIAS_TIME, MOST_EXPOSURES, VALIDITY, Doubt, Extension, FrameRecord, Value
from ccdflow.recipes.detector.amplifiers import Amplifier

_DEVICE_PATH = re.compile(r"\\\\\?|usb#|vid_\w+&pid_|^/dev/", re.IGNORECASE)
"""Where a camera is plugged in, as N.I.N.A. writes it into CAMERAID: no name, since another socket gives another."""
_NAMES = ("telescope", "camera", "instrument", "object")
"""Fields that are text and columns of the registry; so is the filter, which may be of several wheels."""
_HALF_TURN, _TURN = 180, 360
"""Degrees; longitudes count from -180 to 180, east positive."""


@dataclass(frozen=True)
class FileFacts:
    """What the file says besides its keywords' values.

    Parameters
    ----------
    comments : mapping
        Keyword to the comment of its card; ``[ms]`` at its beginning is a unit.
    extensions : sequence of Extension
        The images that the file holds.
    history : sequence of str
        Texts of its HISTORY cards.
    pixels : Pixels
        What its numbers look like.
    faults : sequence of Doubt
        What the file's own checks say of its content.
    repeated : mapping
        Other values of keywords that stand there more than once.
    """

    comments: Mapping[str, str] = field(default_factory=dict)
    extensions: Sequence[Extension] = ()
    history: Sequence[str] = ()
    pixels: Pixels = field(default_factory=Pixels)
    faults: Sequence[Doubt] = ()
    repeated: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """All that a `FrameRecord` needs, but id, path and sha256.

    Parameters
    ----------
    doubts : tuple of Doubt
        One for each thing that could not be told, or is odd.
    refused : str
        Why the frame can't be used at all (no date, contradictory sections, a doubt that the instrument file refuses);
        empty where it can.
    finished : Finished or None
        What another program has done to it; None for a raw frame.
    enter : str
        Task at which the instrument file lets frames enter that are finished; empty where it does not.
    """

    frame_class: str
    telescope: str
    camera: str
    instrument: str
    filter: str
    object: str
    exptime: float | None
    obsdate: str
    iobs: int | None
    nobs: int | None
    night: str
    keywords: Mapping[str, Value]
    doubts: tuple[Doubt, ...] = ()
    refused: str = ""
    finished: Finished | None = None
    enter: str = ""

    def record(self, id: int, sha256: str | None = None, path: str | None = None) -> FrameRecord:
        """Return the frame as a row of the registry.

        Parameters
        ----------
        id : int
            Id of the frame.
        sha256 : str or None
            Digest of the file's content; None for a row of a catalogue.
        path : str or None
            Path of the file; None for a row of a catalogue.
        """
        same = {name: getattr(self, name) for name in FrameRecord.__slots__ if hasattr(self, name)}
        return FrameRecord(id=id, sha256=sha256, path=path, **same)


@dataclass
class _Reader:
    """A header being read: what it says, how it says it, the doubts so far, and what makes it unusable."""

    cards: Cards
    by: Instrument
    facts: FileFacts
    doubts: list[Doubt] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def doubt(self, kind: str, sentence: str) -> None:
        """Note a doubt, refuse the frame for it, or pass over it, as the instrument file says."""
        policy = policy_of(kind, self.by.doubts)
        if policy == "ignore":
            return
        self.doubts.append(Doubt(kind, sentence))
        if policy == "refuse":
            self.refused.append(f"{sentence} (doubts: {kind}: refuse)")

    @property
    def header(self) -> Header:
        """The header for those that read a part of it."""
        return Header(self.cards, self.by, self.facts.comments, self.doubt)

    def card(self, name: str) -> tuple[str, Value] | None:
        """Return the keyword and the value of a field."""
        return first(self.cards, getattr(self.by.keywords, name), self.by.empty.get(name, ()))

    def text(self, name: str) -> str:
        """Return a field that is text, in the spelling that the instrument file prefers."""
        card = self.card(name)
        written = text(card[1]) if card else ""
        if name == "camera" and _DEVICE_PATH.search(written):
            written = ""
        return self.respelt(name, written) or self.by.defaults.get(name, "")

    def respelt(self, name: str, written: str) -> str:
        """Return the spelling of a field's value that the instrument file prefers."""
        for preferred, spellings in self.by.values.get(name, {}).items():
            if written and plain(written) in map(plain, spellings):
                return preferred
        return written

    def filter(self) -> str:
        """Return the filter, of all wheels; see `ccdflow.cascade.headers.filterwheels`."""
        name, sentence = filter_name(self.cards, self.by, partial(self.respelt, "filter"))
        if sentence:
            self.doubt("filter_conflict", sentence)
        return name or self.by.defaults.get("filter", "")

    def measure(self, name: str, read: Callable[[Value], float | None] = number) -> float | None:
        """Return a field that is a number within the instrument's limits; a doubt where it is neither."""
        card = self.card(name)
        if card is None:
            return None
        keyword, value = card
        result = read(value)
        if why := self.by.disbelief(name, result):
            self.doubt("value", f"{keyword}={text(value)!r} {why}")
            return None
        return result

    def exptime(self, frame_class: str, begun: str) -> float | None:
        """Return the exposure time in seconds; see `ccdflow.cascade.headers.exposuretime`."""
        seconds, doubts = exposure_time(self.cards, self.by, self.facts.comments, frame_class, begun)
        for doubt in doubts:
            self.doubt(doubt.kind, doubt.text)
        return seconds

    def longitude(self) -> float | None:
        """Return the longitude of the site in degrees, east positive."""
        site = self.by.site
        if site.longitude is not None:
            return site.longitude
        told = self.measure("longitude", angle)
        if told is None:
            return None
        east = -told if site.west_positive else told
        # Some count eastward all around, 254.18 for 105.82 west; nights need the distance from Greenwich.
        return east - _TURN if east > _HALF_TURN else east


def site_longitude(header: Mapping[str, Any], instruments: Sequence[Instrument]) -> float | None:
    """Return where a header, or the instrument file that reads it, says that the telescope stands.

    Parameters
    ----------
    header : mapping
        Keyword to value.
    instruments : sequence of Instrument
        In the order in which they may claim the header.

    Returns
    -------
    float or None
        Degrees, east positive, from -180 to 180.
    """
    cards = cards_of(header)
    by = find_instrument(cards, instruments)
    return _Reader(without_blanks(cards, header, by.blanks), by, FileFacts()).longitude()


def classify(cards: Cards, instrument: Instrument) -> tuple[str, str]:
    """Return the class of a frame, and one sentence where it could not be told.

    The instrument's rules come first, then the first class keyword whose value it knows. Nothing is guessed:
    a frame with an unknown value, or none, is ``unclassified``.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.
    instrument : Instrument
        The instrument file that claims it.

    Returns
    -------
    tuple of str
        Class and sentence; the sentence is empty where the class is known.

    Raises
    ------
    ValueError
        If a function of a rule fails.
    """
    for rule in instrument.rules:
        if rule.holds(cards):
            return rule.frame_class, ""
    seen = []
    for alternative in instrument.keywords.frame_class:
        card = first(cards, [alternative])
        if card is None:
            continue
        written = text(card[1])
        # A bare 2 may be a flat in one keyword and a bias in another: a spelling with its keyword goes first.
        for spelling in (f"{alternative}={written}", written):
            if known := instrument.class_of(spelling):
                return known, ""
        seen.append(f"{alternative}={written!r}")
    if seen:
        return "unclassified", f"class not known from {', '.join(seen)}"
    wanted = ", ".join(instrument.keywords.frame_class)
    return "unclassified", f"no class: none of {wanted} stands in the header"


def describe(
    header: Mapping[str, Any],
    shape: tuple[int, int] | None,
    instruments: Sequence[Instrument],
    facts: FileFacts | None = None,
) -> Description:
    """Return what a header says, read by the first of `instruments` that claims it.

    A header that is merely odd never raises: what it does not tell is blank or None, with a sentence in
    `doubts`.

    Parameters
    ----------
    header : mapping
        Keyword to value; of a file with extensions, those of the primary header and of the image's together.
    shape : tuple or None
        ``(ny, nx)`` of the raw array; None for a row without a file.
    instruments : sequence of Instrument
        In the order in which they may claim the header.
    facts : FileFacts or None
        What else the file says.

    Returns
    -------
    Description
        All that a `FrameRecord` needs, but id, path and sha256.

    Raises
    ------
    ValueError
        If no instrument claims the header, or a function of a rule fails.
    """
    cards, facts = cards_of(header), facts or FileFacts()
    by = find_instrument(cards, instruments)
    facts = replace(facts, comments=comments_of(facts.comments))
    reader = _Reader(without_blanks(cards, header, by.blanks), by, facts)
    frame_class, sentence = classify(reader.cards, by)
    if sentence:
        reader.doubt("class", sentence)
    for fault in reader.facts.faults:
        reader.doubt(fault.kind, fault.text)
    for doubt in repetitions(reader.cards, by, reader.facts.repeated):
        reader.doubt(doubt.kind, doubt.text)
    date = _date(reader)
    obsdate = date.obsdate
    longitude = reader.longitude()
    iobs, nobs = _sequence(reader)
    exptime, filter_ = reader.exptime(frame_class, obsdate), reader.filter()
    keywords = _keywords(reader, shape)
    keywords |= _mosaic(reader, frame_class, shape)
    temperatures = {name: number(keywords.get(name)) for name in ("ccd_temperature", "set_temperature")}
    told = Told(frame_class, date, exptime, filter_, reader.text("shutter"), **temperatures)
    for doubt in contradictions(reader.cards, by, reader.facts.comments, told):
        reader.doubt(doubt.kind, doubt.text)
    if frame_class == "dark" and exptime is not None and exptime <= BIAS_TIME:
        # As a rate it would be nothing but read noise, times thousands or more.
        frame_class = "bias"
        reader.doubt("class_conflict", f"a dark of {exptime:g} s holds no dark current: it counts as a bias")
    done = finished(reader.cards, reader.facts.history, reader.facts.pixels, _no_signs(by))
    unit = text(reader.cards.get("BUNIT"))
    if done is None and read_unit(unit).kind == "other" and "BUNIT" not in _no_signs(by):
        reader.doubt(
            "unit", f"BUNIT={unit!r} is no unit of counts that is known: the numbers are taken as adu"
        )
    if done is None and reader.facts.pixels.fractions:
        reader.doubt("fractions", "its numbers are not whole: something was done to them that no card tells")
    reader.refused += [sentence for name in VALIDITY if (sentence := _no_time(name, keywords.get(name)))]
    return Description(
        frame_class=frame_class,
        **{name: reader.text(name) for name in _NAMES},
        filter=filter_,
        exptime=exptime,
        obsdate=obsdate,
        iobs=iobs,
        nobs=nobs,
        night=night(obsdate, longitude) if obsdate else "",
        keywords=keywords,
        doubts=tuple(reader.doubts),
        refused="; ".join(reader.refused),
        finished=done,
        enter=by.processed.enter,
    )


def _no_signs(by: Instrument) -> frozenset[str]:
    """Return the cards that are no sign of a finished frame: those of the file, and those of the camera's own sums."""
    return by.processed.ignored | frozenset(map(keyword_name, by.keywords.coadds))


def _date(reader: _Reader) -> DateReading:
    """Return when the exposure began; a frame without date is refused."""
    reading = read_date(reader.cards, reader.by.keywords.dates, reader.by.site.time_zone)
    if not reading.obsdate:
        reader.refused.append(f"when it was taken is not known: {reading.sentence}")
    for sentence in (reading.sentence, *reading.remarks) if reading.obsdate else ():
        if sentence:
            reader.doubt("date", sentence)
    return reading


def _no_time(name: str, value: Value | None) -> str:
    """Say what is wrong with a time that should be ISO; nothing for a blank."""
    if value is None:
        return ""
    try:
        datetime.fromisoformat(str(value))
    except ValueError:
        return f"{name}={value!r} is no time, wanted ISO such as 2026-03-01"
    return ""


def _sequence(reader: _Reader) -> tuple[int | None, int | None]:
    """Return number of the exposure and length of its sequence; missing, 0 or beyond the end is unknown."""
    told = {name: reader.measure(name) for name in ("iobs", "nobs")}
    for name, value in told.items():
        if value is not None and value > MOST_EXPOSURES:
            reader.doubt("sequence", f"{name}={value:g} can't be: it is unknown")
    iobs, nobs = map(_count, told.values())
    if iobs and nobs and iobs > nobs:
        reader.doubt("sequence", f"exposure {iobs} of {nobs} can't be: its place in the sequence is unknown")
        return None, None
    return iobs, nobs


def _count(value: float | None) -> int | None:
    return int(value) if value is not None and 1 <= value <= MOST_EXPOSURES and value.is_integer() else None


def _keywords(reader: _Reader, shape: tuple[int, int] | None) -> dict[str, Value]:
    kept: dict[str, Value | None] = {"profile": reader.by.name}
    card = reader.card("binning")
    kept["binning"] = binning(card[1]) if card else None
    mode = reader.respelt("readout_mode", first_setting(reader.header, "readout_mode"))
    kept["readout_mode"] = mode or reader.by.defaults.get("readout_mode") or None
    kept |= settings(reader.header)
    for sentence in gain_words(reader.header):
        reader.doubt("gain_conflict", sentence)
    kept["airmass"] = reader.measure("airmass")
    kept["ra"] = reader.measure("ra", lambda value: angle(value, hours=True))
    kept["dec"] = reader.measure("dec", angle)
    if kept["ra"] == 0 and kept["dec"] == 0:
        # ESO-MIDAS writes it into each file, drivers without a mount do.
        reader.doubt(
            "value", "RA and DEC of exactly 0 are what programs write that know no position: unknown"
        )
        kept["ra"] = kept["dec"] = None
    for name, alternatives in reader.by.keep.items():
        pair = first(reader.cards, alternatives)
        kept[name] = pair[1] if pair else None
    if shape is None:
        for name in ("gain", "read_noise", "saturation"):
            kept[name] = believable(reader.cards, getattr(reader.by.keywords, name), name, reader.by)
    else:
        kept["shape"] = _shape_text(shape, reader.facts.extensions)
        kept |= _detector_numbers(reader, shape)
    return {name: value for name, value in kept.items() if value is not None}


def _mosaic(reader: _Reader, frame_class: str, shape: tuple[int, int] | None) -> dict[str, Value]:
    """Return the colour mosaic of a frame, if it has one; what no light falls on has no colours to be mixed."""
    pattern, sentence = mosaic_of(reader.header, shape, max(1, len(reader.facts.extensions)))
    if sentence and frame_class not in ("bias", "dark"):
        reader.doubt("mosaic", sentence)
    return {} if pattern is None else {"mosaic": pattern}


def _shape_text(shape: tuple[int, int], extensions: Sequence[Extension]) -> str:
    """Return ``512x1024``, or of several images of one shape ``4x512x1024``."""
    shapes = {image.shape for image in extensions}
    if len(extensions) > 1 and len(shapes) == 1:
        ny, nx = shapes.pop()
        return f"{len(extensions)}x{ny}x{nx}"
    return f"{shape[0]}x{shape[1]}"


def _detector_numbers(reader: _Reader, shape: tuple[int, int]) -> dict[str, Value | None]:
    """Return mean gain and read noise of the amplifiers, None where one is not known; overscans; what was read out."""
    try:
        detector = detector_of(reader.cards, reader.by, shape, reader.facts.extensions)
    except ValueError as error:
        reader.refused.append(str(error))
        return {}
    for sentence in detector.assumptions:
        reader.doubt("sections", sentence)
    numbers: dict[str, Value | None] = {}
    for name in ("gain", "read_noise"):
        values = [getattr(amplifier, name) for amplifier in detector.amplifiers]
        numbers[name] = None if None in values else sum(values) / len(values)
    lowest = min(amplifier.saturation for amplifier in detector.amplifiers)
    # Where each amplifier has one, it can take the place of a bias.
    numbers["overscan"] = all(amplifier.overscan is not None for amplifier in detector.amplifiers) or None
    # Where nobody tells it, recipes assume the top of 16 bits; a record must not state that as known.
    numbers |= readout_area(reader.header, shape, detector, reader.facts.extensions)
    numbers["saturation"] = lowest if lowest != Amplifier.saturation else None
    numbers["adc_bits"] = detector.amplifiers[0].bits
    return numbers
