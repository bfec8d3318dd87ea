"""How an instrument says things in its headers, and what is known of its detectors."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ccdflow.cascade.headers.dates import DateKeywords, zone_of
from ccdflow.cascade.headers.doubts import KINDS, Policy, unknown_kind
from ccdflow.cascade.headers.keywords import Cards, keyword_name, text
from ccdflow.cascade.specification import dotted

FrameClass = Literal["bias", "dark", "flat", "science", "arc", "sky", "focus", "unclassified"]


def _strings(value: Any) -> Any:
    """Return a single word or number where a list of words is wanted."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return (str(value),)
    return tuple(str(word) for word in value) if isinstance(value, list | tuple) else value


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, Mapping) else value


def _named(value: Any) -> Any:
    """Return a list of keywords where a mapping of names to keywords is wanted: each is its own name."""
    return {keyword: (keyword,) for keyword in value} if isinstance(value, list | tuple) else value


Strings = Annotated[tuple[str, ...], BeforeValidator(_strings)]
"""One word or several; of several alternatives the first that the header has counts."""

Patterns = dict[str, Strings]
"""Keyword to patterns (``*`` and ``?``, in any case); every keyword must match one of its patterns."""


class Model(BaseModel):
    """Base of the instrument's models: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class Keywords(Model):
    """For each thing that a header tells, the keywords that may tell it, tried in order.

    An alternative in braces is made of other cards, and counts where all of them are there:
    ``{XBINNING}x{YBINNING}``.
    """

    frame_class: Strings = Field((), alias="class")
    """What the frame is; read through `Instrument.classes`."""
    telescope: Strings = ()
    """Telescope or mount."""
    camera: Strings = ()
    """Camera or detector."""
    instrument: Strings = ()
    """Instrument."""
    filter: Strings = ()
    """Filter. ``FILTER1+FILTER2`` are wheels, of which all count that are not `Instrument.empty`, joined by ``+``."""
    object: Strings = ()
    """What is on the sky."""
    exptime: Strings = ()
    """Exposure time, seconds unless `Instrument.units` or the card says otherwise; the first above 0 counts."""
    elapsed: Strings = ()
    """Time from the beginning to the end of the exposure, which counts where no `exptime` is stated."""
    end: Strings = ()
    """End of the exposure: date and time, time of day or Julian Date."""
    middle: Strings = ()
    """Middle of the exposure: date and time, or Julian Date."""
    coadds: Strings = ()
    """Number of exposures that were summed or averaged by the camera."""
    shutter: Strings = ()
    """Whether the shutter was open; read through `Instrument.values`."""
    date: Strings = ()
    """Date, or date and time, of the start of the exposure."""
    time: Strings = ()
    """Time of day of the start, for a date without one; a keyword in UT... is UTC in every time zone."""
    mjd: Strings = ()
    """Modified Julian Date of the start, where the date is missing or wrong."""
    jd: Strings = ()
    """Julian Date of the start, where the date is missing or wrong."""
    time_system: Strings = ()
    """Time scale of the dates: UTC, TAI, TT, ..."""
    iobs: Strings = ()
    """Number of the exposure in its sequence, from 1."""
    nobs: Strings = ()
    """Number of exposures in the sequence."""
    longitude: Strings = ()
    """Longitude of the site, degrees or sexagesimal degrees."""
    binning: Strings = ()
    """Binning."""
    readout_mode: Strings = ()
    """Readout mode: what makes two frames of one camera differ in gain or bias."""
    readout_speed: Strings = ()
    """Speed of the readout."""
    gain_setting: Strings = ()
    """Settings of the gain that are no electron per adu; all that are there count, joined."""
    offset: Strings = ()
    """Offset, black level: what the camera adds to each pixel."""
    amplifiers: Strings = ()
    """Which amplifiers read the detector out, names or number."""
    cooler: Strings = ()
    """Whether the cooler runs."""
    ccd_temperature: Strings = ()
    """Temperature of the detector, degrees Celsius, or in `Instrument.units`; Kelvin by the card's unit or its size."""
    set_temperature: Strings = ()
    """Temperature that was asked for, likewise."""
    rotator: Strings = ()
    """Angle of the rotator itself, in degrees: not a position angle on the sky, nor one that follows the field."""
    gain: Strings = ()
    """Electron per adu."""
    read_noise: Strings = ()
    """Electron rms."""
    saturation: Strings = ()
    """Level in adu from which a raw pixel is saturated."""
    adc_bits: Strings = ()
    """Bits of the camera's converter, which tell where it saturates if `saturation` does not."""
    mosaic: Strings = ()
    """Pattern of the colours of a one-shot colour camera."""
    mosaic_x: Strings = ()
    """Columns by which the first pixel lies behind the first of the pattern."""
    mosaic_y: Strings = ()
    """Rows, likewise."""
    row_order: Strings = ()
    """Which row of the picture the file begins with, ``TOP-DOWN`` or ``BOTTOM-UP``."""
    ra: Strings = ()
    """Right ascension: degrees, or sexagesimal hours."""
    dec: Strings = ()
    """Declination, degrees."""
    airmass: Strings = ()
    """Airmass."""
    trim_section: Strings = ()
    """Light-sensitive pixels to keep, of a detector with one amplifier."""
    bias_section: Strings = ()
    """Overscan of a detector with one amplifier."""

    @property
    def dates(self) -> DateKeywords:
        """Keywords in which a date may stand."""
        return DateKeywords(self.date, self.time, self.mjd, self.jd, self.time_system)


class AmplifierKeywords(Model):
    """Keywords of a detector with several amplifiers; ``{amp}`` stands for the amplifier's name."""

    extensions: bool = False
    """Whether each image of a file is an amplifier of one detector, named by its place (1, 2, ...), whose keywords
    stand in its own header and speak of its own pixels; each needs a `target`."""

    list_keyword: Strings = Field((), alias="list")
    """Cards that hold the names of the amplifiers, blanks between them (``AMPLIST = '11 12'``)."""
    names: Strings = ()
    """Names of the amplifiers where no card lists them; counts where every one has a data section."""
    data: Strings = ()
    """Light-sensitive pixels to keep, in the raw array."""
    sensitive: Strings = ()
    """All light-sensitive pixels in the raw array, where `target` speaks of those."""
    overscan: Strings = ()
    """Overscan in the raw array."""
    target: Strings = ()
    """Place on the detector; without it amplifiers keep their order, the overscan between them closed."""
    gain: Strings = ()
    """Electron per adu."""
    read_noise: Strings = ()
    """Electron rms."""
    saturation: Strings = ()
    """Level in adu from which a raw pixel is saturated."""


class WindowKeywords(Model):
    """Where the pixels that were read out lie on the detector; the first that a header has counts, in this order."""

    section: Strings = ()
    """Section of the detector that the data are, in unbinned pixels: ``[101:612,201:712]``."""
    origin: Strings = ()
    """First column and row, counted from 0: ``"{XORGSUBF} {YORGSUBF}"``."""
    first: Strings = ()
    """First column and row, unbinned, counted from 1."""
    unbinned: bool = False
    """Whether `origin` counts unbinned pixels; MaxIm DL, where it comes from, counts binned ones."""


class Numbers(Model):
    """What is known of a detector, or of one of its amplifiers, whatever the header says."""

    gain: float | None = Field(None, gt=0)
    """Electron per adu."""
    read_noise: float | None = Field(None, gt=0)
    """Electron rms."""
    saturation: float | None = Field(None, gt=0)
    """Level in adu from which a raw pixel is saturated."""
    linearity: tuple[float, ...] | None = None
    """Coefficients c1, c2, ...: true signal = s (1 + c1 s + c2 s² + ...), s in electron."""
    nonlinear: float | None = Field(None, gt=0)
    """Electron above which a pixel counts as nonlinear."""


class FixedAmplifier(Numbers):
    """One amplifier, as the instrument file states it; sections as FITS writes them, ``[1:1024,1:512]``."""

    name: str = ""
    """Name of the amplifier; fills the amplifier of that name in the header."""
    data: str | None = None
    """Light-sensitive pixels to keep, in the raw array."""
    overscan: str | None = None
    """Overscan in the raw array."""
    target: str | None = None
    """Place in the assembled image; without it the amplifiers keep their order."""


class FixedDetector(Numbers):
    """Numbers of a detector; the first in the file whose `match` fits the header counts."""

    match: Annotated[tuple[Patterns, ...], BeforeValidator(_several)] = ()
    """Headers that it speaks of (a camera, a readout mode, a binning); none: all."""
    beats_header: bool = True
    """Whether these numbers count before those of the header, or only fill what the header leaves open."""
    amplifiers: tuple[FixedAmplifier, ...] = ()
    """The amplifiers; an amplifier's own number counts before the detector's."""


class Site(Model):
    """Where the telescope stands."""

    longitude: float | None = Field(None, ge=-360, le=360)
    """Degrees, east positive; without it the header's, else 0."""
    west_positive: bool = False
    """Whether longitudes in the headers count westward."""
    time_zone: str = "UTC"
    """Zone of dates that state none: UTC, +02:00 or a name such as America/Denver."""

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        zone_of(name)
        return name


class ClassRule(Model):
    """A frame with cards like these is of this class, whatever its class keyword says."""

    frame_class: FrameClass = Field(alias="class")
    """The class."""
    where: Patterns = Field(default_factory=dict)
    """Cards that it must have."""
    function: dotted.FunctionText = ""
    """Dotted path of a function that gets the cards, keyword to value, and says whether it is."""

    @model_validator(mode="after")
    def _is_sound(self) -> "ClassRule":
        if not self.where and not self.function:
            raise ValueError("a rule needs where or function")
        if self.function:
            dotted.function(self.function)
        return self

    def holds(self, cards: Cards) -> bool:
        """Return whether a frame is of this class.

        Parameters
        ----------
        cards : mapping
            Its header, see `ccdflow.cascade.headers.keywords.cards_of`.

        Raises
        ------
        ValueError
            If the rule's function fails.
        """
        return claims(self.where, cards) and (not self.function or bool(dotted.called(self.function, cards)))


class Processed(Model):
    """Frames that another program has calibrated or combined already, see `ccdflow.cascade.headers.finished`."""

    enter: str = ""
    """Task of the cascade that takes them all the same, without what was done to them already; ``raw``: as raw
    frames, whatever the signs say. Without it they are registered and not used."""
    ignore: Strings = ()
    """Cards that are no sign with this instrument, ``HISTORY`` among them."""

    @cached_property
    def ignored(self) -> frozenset[str]:
        """The cards of `ignore` as they are looked up."""
        return frozenset(keyword_name(keyword) for keyword in self.ignore)


class Instrument(Model):
    """One instrument file."""

    name: str
    """Name of the instrument; a file of the same name in a later folder gives way to this one."""
    description: str = ""
    """One sentence."""
    extends: str | None = None
    """Name of an instrument that tells everything that this file leaves out."""
    match: Annotated[tuple[Patterns, ...], BeforeValidator(_several)] = ()
    """Headers that it claims, each item one way to be claimed; none: whatever no other instrument claims."""
    site: Site = Site()
    """Where the telescope stands."""
    blanks: Strings = ()
    """Words that mean that a card says nothing."""
    empty: dict[str, Strings] = Field(default_factory=dict)
    """Field to words that count only where no other alternative says more."""
    keywords: Keywords = Keywords()
    """Where each thing stands in the header."""
    classes: dict[FrameClass, Strings] = Field(default_factory=dict)
    """Class to its spellings; case, blanks and signs don't matter. ``PICTTYPE=2`` holds for one keyword."""
    rules: tuple[ClassRule, ...] = ()
    """Rules that decide the class before `classes` does; the first that fits counts."""
    values: dict[str, dict[str, Strings]] = Field(default_factory=dict)
    """Field to value to the spellings that mean it; a value not listed stays as it is."""
    defaults: dict[str, str] = Field(default_factory=dict)
    """Field to its value where the header says nothing: the telescope of a camera that does not name it."""
    units: dict[Literal["exptime", "ccd_temperature", "set_temperature"], str] = Field(default_factory=dict)
    """Field to the unit of a number that states none."""
    limits: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Field to lowest and highest believable value; a number outside is unknown."""
    keep: Annotated[dict[str, Strings], BeforeValidator(_named)] = Field(default_factory=dict)
    """Further keywords to keep with each frame: a list, or name to alternatives."""
    doubts: dict[str, Policy] = Field(default_factory=dict)
    """Kind of doubt to what is done about it: note, refuse or ignore."""
    window: WindowKeywords = WindowKeywords()
    """Where a header says which part of the detector was read out."""
    amplifiers: AmplifierKeywords = AmplifierKeywords()
    """Where a detector with several amplifiers describes them."""
    detectors: tuple[FixedDetector, ...] = ()
    """What is known of the detectors."""
    processed: Processed = Processed()
    """What becomes of frames that are finished already."""

    @field_validator("empty", "values", "defaults", "limits")
    @classmethod
    def _fields_are_known(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name not in Keywords.model_fields or name == "frame_class":
                known = ", ".join(field for field in Keywords.model_fields if field != "frame_class")
                raise ValueError(f"unknown field {name!r}; known: {known}")
        return value

    @field_validator("doubts", mode="before")
    @classmethod
    def _kinds_are_known(cls, value: Any) -> Any:
        for kind in value if isinstance(value, Mapping) else ():
            if kind not in KINDS:
                raise ValueError(unknown_kind(kind))
        return value

    def disbelief(self, field: str, size: float | None, least: float = float("-inf")) -> str:
        """Say why a number of a field can't be believed.

        Parameters
        ----------
        field : str
            Name of the field.
        size : float or None
            What was read; None for what is no number.
        least : float
            Lowest believable value, where `limits` has none.

        Returns
        -------
        str
            The rest of a sentence that begins with the card; empty for a number that can be believed.
        """
        low, high = self.limits.get(field, (least, float("inf")))
        if size is None:
            return "is not understood"
        return "" if low <= size <= high else f"is outside {low:g} to {high:g}"

    @cached_property
    def spellings(self) -> dict[str, str]:
        """Spellings of the classes, each in its plainest form, to the class."""
        return {plain(word): name for name, words in self.classes.items() for word in words}

    def class_of(self, written: str) -> str:
        """Return the class that a text spells, as it is or as ``Dark Frames``, ``Flats``; blank where it spells none.

        Parameters
        ----------
        written : str
            Value of a card, or keyword and value as ``PICTTYPE=2``.
        """
        word = plain(written)
        if word in self.spellings:
            return self.spellings[word]
        bare = re.sub(r"(frame|image)s?$", "", word)
        endings = (bare.removesuffix(ending) for ending in ("s", "es"))
        return next((self.spellings[way] for way in (bare, *endings) if way in self.spellings), "")


M = TypeVar("M", bound=Model)

INHERITED = "..."
"""In a list of an instrument file: what the file that it extends has there."""


@lru_cache(16384)
def plain(word: str) -> str:
    """Return the letters, the digits and ``=`` of a word, in lower case: ``Sky-Flat`` and ``SKYFLAT`` are the same.

    Parameters
    ----------
    word : str
        As a header has it.
    """
    return "".join(sign for sign in word.casefold() if sign.isalnum() or sign == "=")


def claims(patterns: Mapping[str, Sequence[str]], cards: Cards) -> bool:
    """Return whether a header has the cards that are asked for.

    Parameters
    ----------
    patterns : mapping
        Keyword to patterns (``*`` and ``?``, in any case), of which its value must fit one.
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.

    Returns
    -------
    bool
        False where one of the keywords is missing; True for no patterns at all.
    """
    for keyword, wanted in patterns.items():
        value = text(cards.get(keyword_name(keyword))).casefold()
        if not value or not any(fnmatchcase(value, pattern.casefold()) for pattern in wanted):
            return False
    return True


def find_instrument(cards: Cards, instruments: Iterable[Instrument]) -> Instrument:
    """Return the first instrument that claims the header, else the first that claims none in particular.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.
    instruments : iterable of Instrument
        In the order in which they may claim it.

    Returns
    -------
    Instrument
        One of `instruments`.

    Raises
    ------
    ValueError
        If there is neither.
    """
    known = tuple(instruments)
    for instrument in known:
        if any(claims(patterns, cards) for patterns in instrument.match):
            return instrument
    for instrument in known:
        if not instrument.match:
            return instrument
    raise ValueError(
        "no instrument claims the header, and none is for all others; known: "
        + (", ".join(instrument.name for instrument in known) or "none")
    )


def inherit(child: M, parent: M) -> M:
    """Return an instrument, or a part of one, with everything that it leaves out taken from another.

    Parameters
    ----------
    child : Model
        What it says counts: models inside it and mappings entry by entry, all else as a whole. In a list ``...`` stands
        for the parent's list. A spelling of a class that it states is no spelling of another class any more.
    parent : Model
        Of the same type.

    Returns
    -------
    Model
        Of the same type.
    """
    # Only fields that were written count as said: a default of the child must not hide what the parent says.
    merged: dict[str, Any] = {name: getattr(parent, name) for name in parent.model_fields_set}
    for name in child.model_fields_set:
        own, other = getattr(child, name), merged.get(name)
        if isinstance(own, Model) and isinstance(other, Model):
            merged[name] = inherit(own, other)
        elif isinstance(own, dict) and isinstance(other, dict):
            left = _without_spellings(other, own) if name == "classes" else other
            merged[name] = {**left, **{key: _spliced(value, other.get(key)) for key, value in own.items()}}
        else:
            merged[name] = _spliced(own, other)
    return type(child).model_validate(merged)


def _spliced(own: Any, other: Any) -> Any:
    """Return a list with the parent's in the place of ``...``."""
    if not isinstance(own, tuple) or INHERITED not in own:
        return own
    parts = [tuple(other or ()) if word == INHERITED else (word,) for word in own]
    return tuple(dict.fromkeys(word for part in parts for word in part))


def _without_spellings(
    other: Mapping[str, Sequence[str]], own: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Return the parent's classes without the spellings that the child has given to classes of its own."""
    # Also what it inherits with `...` is taken: whose word it was before does not matter.
    taken = {plain(word) for words in own.values() for word in words}
    return {name: tuple(word for word in words if plain(word) not in taken) for name, words in other.items()}
