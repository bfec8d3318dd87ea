"""What a camera was set to when it read a frame out: all that its counts depend on besides the light."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ccdflow.cascade.headers.amplifiers import believable
from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.cascade.headers.keywords import Cards, binning, first, keyword_name, look_up, quantity, text
from ccdflow.cascade.headers.place import detector_place
from ccdflow.cascade.records import Extension, Value
from ccdflow.cascade.windows import window_of
from ccdflow.recipes.detector.amplifiers import Detector

Doubter = Callable[[str, str], None]
"""Takes the kind of a doubt and its sentence."""

_OFF = frozenset({"off", "false", "f", "0", "no", "disabled", "n", "stopped"})
"""Words for a cooler that does not run, in lower case."""
_KELVIN = re.compile(r"(?i:\bkelvins?\b)|[\[(]\s*(?i:deg\.?\s*)?K\s*[\])]|\b(?i:deg(?:rees?)?)\.?\s*K\b")
_FAHRENHEIT = re.compile(
    r"(?i:\bfahrenheit\b)|[\[(]\s*(?i:deg\.?\s*)?F\s*[\])]|\b(?i:deg(?:rees?)?)\.?\s*F\b"
)
"""Units of temperature as comments of cards have them; all others are degrees Celsius."""
_ZERO_CELSIUS = 273.15
_WARMEST = 60.0
"""Degrees Celsius above which no sensor works: a larger number without unit is in Kelvin."""
_FULL_TURN = 360.0
_NUMBERS = re.compile(r"[-+\d.,;\s]+")
_WHOLE_NUMBER = re.compile(r"[-+]?\d+\.?\d*([eE][-+]?\d+)?")
_LONGEST_OF_A_PIXEL = 1e-3
"""Seconds: Andor's READTIME of 5e-8 is a setting, another's of 12.3 was measured, and differs from frame to frame."""
_NO_GAIN = re.compile(r"\b(dB|setting|gain set|iso|percent)\b|%", re.IGNORECASE)
_OF_CAMERA = re.compile(r"\b(sensor|camera) gain\b", re.IGNORECASE)
_INVERSE = re.compile(r"\b(adu|dn|counts?) ?(/|per) ?(photo)?-?e", re.IGNORECASE)
_ELECTRON = re.compile(r"(e-?|el(ec(tron)?s?)?) ?(/|per) ?(adu|dn|count)", re.IGNORECASE)
"""What comments say of a gain: that it is a setting, or adu per electron, or electron per adu."""


@dataclass(frozen=True)
class Header:
    """A header with the instrument file that reads it.

    Parameters
    ----------
    cards : mapping
        See `ccdflow.cascade.headers.keywords.cards_of`.
    by : Instrument
        The instrument file.
    comments : mapping
        Comments of the cards, see `ccdflow.cascade.headers.keywords.comments_of`.
    doubt : callable
        Told of what is not understood.
    """

    cards: Cards
    by: Instrument
    comments: Mapping[str, str] = field(default_factory=dict)
    doubt: Doubter = lambda kind, sentence: None

    def alternatives(self, name: str) -> Sequence[str]:
        """Return the keywords that may tell a field."""
        return tuple(getattr(self.by.keywords, name))

    def first(self, name: str) -> str:
        """Return the first value that is there of a field, as text."""
        card = first(self.cards, self.alternatives(name))
        return text(card[1]) if card else ""


def settings(header: Header) -> dict[str, Value | None]:
    """Return what a header says of the readout and the sensor, without its sections.

    Parameters
    ----------
    header : Header
        The header.

    Returns
    -------
    dict
        ``readout_speed``, ``gain_setting``, ``offset``, ``cooler`` as text, ``ccd_temperature`` and ``set_temperature``
        in degrees Celsius, ``rotator`` in degrees from 0 to 360; None where nothing is told.
    """
    return {
        "readout_speed": first_setting(header, "readout_speed") or None,
        "gain_setting": _gain_setting(header) or None,
        "offset": _offset(header) or None,
        "cooler": "off" if _is_off(header) else None,
        "ccd_temperature": _temperature(header, "ccd_temperature"),
        "set_temperature": _temperature(header, "set_temperature"),
        "rotator": _rotator(header),
    }


def first_setting(header: Header, name: str) -> str:
    """Return the first value that is there of a field, and that was set, not measured, as text.

    Parameters
    ----------
    header : Header
        The header.
    name : str
        Field of the instrument file: ``readout_mode``, ``readout_speed``.
    """
    for alternative in header.alternatives(name):
        value = look_up(header.cards, alternative)
        if value is not None and not _is_measured(keyword_name(alternative), value):
            return text(value)
    return ""


def _is_measured(keyword: str, value: Value) -> bool:
    size = quantity(value)[0]
    if size is None:
        return False
    if keyword == "SPEED":
        return not isinstance(value, str)  # of the wind, or of the telescope
    is_long = size > _LONGEST_OF_A_PIXEL
    return is_long and (keyword == "READTIME" or (keyword == "READOUT" and not size.is_integer()))


def gain_words(header: Header) -> Iterator[str]:
    """Find what the unit or the comment of the gain says against its being electron per adu, as which it is read.

    Parameters
    ----------
    header : Header
        The header.

    Yields
    ------
    str
        A sentence.
    """
    for alternative in header.by.keywords.gain:
        told = believable(header.cards, [alternative], "gain", header.by)
        if told is None:
            continue
        # The unit may stand behind the number too: '12 dB'.
        said = f"{text(look_up(header.cards, alternative))} / {_comment(header, alternative)}"
        if _INVERSE.search(said):
            yield f"{alternative}={told:g} is adu per electron by its card ({said}), yet read as electron per adu"
            return
        # A whole number of the camera is a setting, 1.39 may be either.
        setting = _NO_GAIN.search(said) or (told.is_integer() and _OF_CAMERA.search(said))
        if setting and not _ELECTRON.search(said):
            yield f"{alternative}={told:g} is a setting by its card ({said}), yet read as electron per adu"
        return


def readout_area(
    header: Header, shape: tuple[int, int], detector: Detector, extensions: Sequence[Extension] = ()
) -> dict[str, Value | None]:
    """Return which pixels were read out, and through which amplifiers.

    Parameters
    ----------
    header : Header
        The header.
    shape : tuple of int
        Rows and columns of the raw array.
    detector : Detector
        As the header describes it.
    extensions : sequence of Extension
        The images of the file.

    Returns
    -------
    dict
        ``amplifiers``; ``size`` of the assembled image, where it is not that of the raw array; ``window``, its place on
        the detector as a section in unbinned pixels from 1. None where nothing is told.
    """
    ny, nx = detector.shape
    size = f"{ny}x{nx}"
    names = "+".join(amplifier.name for amplifier in detector.amplifiers)
    place = detector_place(header.cards, header.by, shape, detector, extensions)
    card = first(header.cards, header.by.keywords.binning)
    factors = binning(card[1]) if card else None
    window = None if place is None else window_of(size, factors, place.x + 1, place.y + 1)
    return {
        "amplifiers": header.first("amplifiers") or (names if len(detector.amplifiers) > 1 else None),
        "size": size if len(extensions) > 1 or (ny, nx) != tuple(shape) else None,
        "window": None if window is None else str(window),
    }


def celsius(value: Value | None, comment: str = "", unit: str = "") -> float | None:
    """Return the degrees Celsius that a value means.

    Parameters
    ----------
    value : str, int, float, bool or None
        Value of a card; a unit behind the number (``163.15 K``) goes before all else.
    comment : str
        The card's comment, which may hold a unit: ``[K] detector``, ``temperature in Kelvin``.
    unit : str
        Unit of a number that states none, as the instrument file says.

    Returns
    -------
    float or None
        None for what is no number. Without any unit a number above 60 is in Kelvin: no sensor is as warm as that.

    Examples
    --------
    >>> celsius(163.15), celsius("-20.5 C"), celsius(40, "[K] cold head")
    (-110.0, -20.5, -233.15)
    """
    size, own = quantity(value)
    if size is None:
        return None
    said = own.strip(".°").removeprefix("deg").strip() or unit
    if said[:1] in ("K", "k"):
        kelvin = True
    elif said[:1] in ("F", "f") or (not said and _FAHRENHEIT.search(comment)):
        return round((size - 32) / 1.8, 6)
    else:
        # What is below 0 can't be Kelvin, whatever a comment says.
        kelvin = size > 0 and not said and bool(_KELVIN.search(comment) or size > _WARMEST)
    return round(size - _ZERO_CELSIUS, 6) if kelvin else size


def _temperature(header: Header, name: Literal["ccd_temperature", "set_temperature"]) -> float | None:
    card = first(header.cards, header.alternatives(name))
    if card is None or text(card[1]).casefold() in _OFF - {"0"}:
        return None  # a set point of "off" is none
    keyword, value = card
    comment = _comment(header, keyword)
    degrees = celsius(value, comment, header.by.units.get(name) or "")
    if why := header.by.disbelief(name, degrees):
        header.doubt("value", f"{keyword}={text(value)!r} {why}")
        return None
    return degrees


def _comment(header: Header, keyword: str) -> str:
    return header.comments.get(keyword_name(keyword), "")


def _gain_setting(header: Header) -> str:
    """Return all settings of the gain, joined; a card that tells electron per adu is none."""
    # GAIN is electron per adu with CCDs and a setting with CMOS cameras: where another card tells electron per adu and
    # GAIN another number, or where its number can't be electron per adu, it is a setting.
    numbers = tuple(keyword_name(name) for name in header.by.keywords.gain)
    gain = believable(header.cards, header.by.keywords.gain, "gain", header.by)
    values = {}
    for alternative in header.alternatives("gain_setting"):
        value = look_up(header.cards, alternative)
        told = gain is not None and quantity(value)[0] == gain
        # Drivers write -1 for a setting that they do not have.
        if value is not None and value != -1 and not (told and keyword_name(alternative) in numbers):
            values[_as_number(text(value))] = alternative
    return "/".join(values)


def _offset(header: Header) -> str:
    """Return what the camera adds to each pixel; fractions, and several numbers, are offsets of a telescope."""
    for alternative in header.alternatives("offset"):
        written = _as_number(text(look_up(header.cards, alternative)))
        if written and (written.isdigit() or not _NUMBERS.fullmatch(written)):
            return written
    return ""


def _as_number(written: str) -> str:
    """Return a number as another program would write it: ``1.0E+02`` and ``100.0`` are 100; all else as it is."""
    if not _WHOLE_NUMBER.fullmatch(written):
        return written
    return text(float(written))


def _is_off(header: Header) -> bool:
    """Tell whether a header says that the cooler does not run."""
    said = [look_up(header.cards, name) for name in header.alternatives("cooler")]
    targets = [look_up(header.cards, name) for name in header.alternatives("set_temperature")]
    if any(isinstance(value, str) and value.casefold() in _OFF - {"0"} for value in targets):
        return True
    known = [text(value).casefold() for value in said if value is not None]
    return bool(known) and known[0] in _OFF


def _rotator(header: Header) -> float | None:
    # Only numbers count: the name of a rotator, or that there is none, stands under these keywords too.
    angle = believable(header.cards, header.alternatives("rotator"), "rotator", header.by)
    return None if angle is None else angle % _FULL_TURN
