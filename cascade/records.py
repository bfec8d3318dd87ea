"""Plain records of what exists: what the pure functions of the cascade look at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from ccdflow.recipes.core.doubts import Doubt as Doubt

Value = str | int | float | bool
"""Value of a keyword."""

EPOCH = datetime(1970, 1, 1)
"""Where times begin to count, without zone as obsdates are."""

CLASSES = ("bias", "dark", "flat", "science", "arc", "sky", "focus", "unclassified")
"""What a raw frame can be."""

STATIC = ("bad_pixel_mask",)
"""Products that no recipe makes: they come from elsewhere and hold for long."""

DESCRIBED = (
    *("binning", "readout_mode", "readout_speed", "gain_setting", "offset", "amplifiers"),
    *("ccd_temperature", "set_temperature", "cooler", "sensor_temperature", "rotator"),
    *("airmass", "ra", "dec", "shape", "size", "window", "profile"),
    *("gain", "read_noise", "saturation", "adc_bits", "overscan", "bias_subtracted"),
    "mosaic",
)
"""Keywords that are looked for in every header, or worked out of those that are."""
PERIODS = {"rotator": 360.0}
"""Keywords that lie on a circle, to its length: 359.9 and 0.1 degrees are close."""
BIAS_TIME = 1e-3
"""Seconds; an exposure up to this long is one of a bias: what dark current it holds is nothing beside the read noise.
Cameras without a shutter have no shorter one than some µs (3.2e-5), and some programs write 1e-32 rather than 0."""
MOST_EXPOSURES = 2**31 - 1
"""The highest number of an exposure, and of exposures, in a sequence: what databases take for a whole number."""
SETTLED = 1.5
"""Kelvin between reading and set point within which a sensor is at its set point, and the reading merely noisy."""
VALIDITY = ("valid_from", "valid_until")
"""Keywords of a calibration that say from when and until when it holds, ISO, UTC."""
DONE_BEFORE = "done"
"""Keyword of a frame that another program has worked on: what it has done, words with blanks between them."""
CATEGORY = "CATEGORY"
"""The header card of a product that says what it is."""


def is_calibration(category: str) -> bool:
    """Return whether a product may be a calibration of other projects: a master, a gain table, a mask.

    Parameters
    ----------
    category : str
        The product's category.
    """
    return category.startswith("master_") or category in ("gain_table", *STATIC)


def seconds(obsdate: str) -> float:
    """Return the seconds since 1970-01-01 UTC of a date and time.

    Parameters
    ----------
    obsdate : str
        ISO, in UTC where it has no zone.

    Returns
    -------
    float
        Exact to the microsecond.

    Raises
    ------
    ValueError
        If the text is no such date.
    """
    # `datetime.timestamp` takes a time without zone for one of the computer's own zone; here it is always UTC.
    moment = datetime.fromisoformat(obsdate)
    return (moment - EPOCH).total_seconds() if moment.tzinfo is None else moment.timestamp()


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One raw frame: a row of the registry's table ``frame`` and the keywords kept with it.

    Blank text is ``""``, an unknown number is None. `obsdate` is the start of the exposure, ISO UTC without zone
    (``2018-09-09T19:35:30``), `night` the evening's date. `sha256` and `path` are None for a row of a catalogue.
    `keywords` holds everything else that the instrument keeps, under the names of the instrument file
    (``binning``, ``readout_mode``, ``ccd_temperature``, ``gain``, ``read_noise``, ``ra``, ``dec``, ...). `refused` says
    why the frame can't be used; it still counts for the boundaries of sequences. `amended` has what somebody has
    corrected, by name: the columns and keywords above have these values already.
    """

    id: int
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
    sha256: str | None = None
    path: str | None = None
    keywords: Mapping[str, Value] = field(default_factory=dict)
    refused: str = ""
    amended: Mapping[str, Value | None] = field(default_factory=dict)

    @property
    def stream(self) -> tuple[str, str, str]:
        """Telescope, camera and instrument: what grouping never crosses."""
        return self.telescope, self.camera, self.instrument

    @property
    def time(self) -> float:
        """Start of the exposure in seconds since 1970-01-01 UTC."""
        return seconds(self.obsdate)

    def value(self, keyword: str) -> Value | None:
        """Return the value that the frame has for a column or kept keyword.

        Parameters
        ----------
        keyword : str
            Name of a column, with ``class`` for the class, or of a kept keyword; columns come first.

        Returns
        -------
        str, int, float, bool or None
            None where it has none or a blank.
        """
        name = _COLUMNS.get(keyword)
        value = self.keywords.get(keyword) if name is None else getattr(self, name)
        if value is None and keyword in _WORKED_OUT:
            return _WORKED_OUT[keyword](self.keywords)
        return None if value == "" else value


def sensor_temperature(keywords: Mapping[str, Value]) -> float | None:
    """Return the temperature by which darks are told apart, in degrees Celsius.

    Parameters
    ----------
    keywords : mapping
        Of a frame: ``ccd_temperature``, ``set_temperature``, ``cooler``.

    Returns
    -------
    float or None
        The set point where the sensor is at it, since readings scatter; the reading where it is not (the cooler is
        off, or too weak, or not yet done). None where neither is known.
    """
    reading, target = (_number(keywords.get(name)) for name in ("ccd_temperature", "set_temperature"))
    if target is None or keywords.get("cooler") == "off":
        return reading
    return target if reading is None or abs(reading - target) <= SETTLED else reading


def _number(value: Value | None) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _size(keywords: Mapping[str, Value]) -> Value | None:
    """Return the size of the assembled image, which is that of the raw array where nothing is trimmed."""
    return keywords.get("shape")


# Worked out when it is asked for, not when the frame is registered: who corrects a temperature corrects this too.
_WORKED_OUT: dict[str, Callable[[Mapping[str, Value]], Value | None]] = {
    "sensor_temperature": sensor_temperature,
    "size": _size,
}
"""Keywords that follow from others."""

_COLUMNS = {**{name: name for name in FrameRecord.__slots__}, "class": "frame_class"}
"""Columns by the names that keywords have."""


@dataclass(frozen=True)
class Extension:
    """One image of a raw file.

    Parameters
    ----------
    index : int
        Number of its HDU.
    name : str
        ``SCI,1``, or ``HDU 2`` for one without a name.
    shape : tuple of int
        ``(ny, nx)``.
    header : mapping
        Keyword to value, of its own header alone.
    first_row : int
        Where it begins in the raw array, which is all images of the file one above the other.
    """

    index: int
    name: str
    shape: tuple[int, int]
    header: Mapping[str, Value] = field(default_factory=dict)
    first_row: int = 0


Stage = Literal["calibrate", "science", "stack"]
"""The stage of a task of the cascade and of its jobs, as flows and dashboards have them."""
JOB_STAGES: tuple[Stage, ...] = get_args(Stage)
"""The stages of jobs, in order."""
STAGES = ("ingest", "calibrate", "science", "group", "stack")
"""The stages of a frame's life, in order: those of jobs, and those in which it is registered and put into sets."""

NO_FILE = "no file, only a row of a catalogue"
"""Why nothing can be made of a frame, as long as it has no file."""

Action = Literal["stack", "pass"]
Status = Literal["open", "closed", "superseded"]
