"""Frames as the sequence rules look at them, and the rules themselves."""

from collections.abc import Iterable, Iterator, Sequence
from math import isfinite, nan
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from ccdflow.cascade.records import FrameRecord, seconds
from ccdflow.recipes.core.times import SAME_EXPTIME

Stream = tuple[str, str, str]
OrderKey = tuple[str, int, str, int]
"""What orders frames of a stream: obsdate, iobs (0 where unknown), content, id."""

ROUNDING = 1e-9
"""Relative slack of every comparison with a tolerance: 60.06 s is within 0.1 % of 60 s, though not in binary."""


class SequenceRules(BaseModel):
    """What makes consecutive frames a sequence, and how sequences are cut into sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    same: tuple[str, ...] = ("class", "object", "filter", "exptime")
    """Keywords that don't change within a sequence; a missing value equals only a missing value."""
    exptime_tolerance: float = Field(SAME_EXPTIME, ge=0)
    """Largest relative difference of equal exposure times; flats ignore the exposure time."""
    tolerance: dict[str, float] = Field(default_factory=lambda: {"ccd_temperature": 2.0})
    """Largest difference from the sequence's first frame, for numeric keywords, in the keyword's unit."""
    max_stack: PositiveInt = 4
    """NSTACK: frames in a set at the most."""
    max_sequence: PositiveInt = 12
    """MAXSEQ: frames in a sequence at the most; longer ones are not combined."""
    max_gap: PositiveFloat = 1800.0
    """MAXTDELTA: seconds after which a frame begins a new sequence, counted as `gap` says."""
    gap: Literal["start", "idle"] = "start"
    """Whether `max_gap` counts from start to start, or (idle) from the end of a frame to the start of the next."""
    restart: bool = True
    """Whether another ``nobs``, or an ``iobs`` that does not count up, begins a new sequence."""
    split: Literal["fixed", "balanced", "whole"] = "fixed"
    """How 6 frames are cut for a `max_stack` of 4: fixed 4+2, balanced 3+3, whole 6."""
    on_failed: Literal["shrink", "refill"] = "shrink"
    """Whether failed frames leave their set smaller, or following frames not yet used take their place."""

    @property
    def identity(self) -> dict[str, Any]:
        """What tells these rules from others, as JSON has it: sets that other rules made are cut anew."""
        said = self.model_dump(mode="json")
        # Left out where it is as it was before there was a choice: streams of years are not to be cut anew for that.
        if self.gap == "start":
            del said["gap"]
        return said


class Exposure(NamedTuple):
    """What the rules look at: one frame of a stream.

    `time` is in seconds since 1970-01-01 UTC, NaN where unknown. `exptime` is in seconds, None also for a
    class that ignores it; `length` is the part of the exposure, in seconds, that counts for no gap. `same` are the
    values of the keywords that must not change, `near` those of the numeric ones; `wanted` tells whether sets of the
    frame's class are asked for.
    """

    key: OrderKey
    time: float
    iobs: int | None
    nobs: int | None
    exptime: float | None
    same: tuple[Any, ...]
    near: tuple[float | None, ...]
    wanted: bool
    length: float = 0.0

    @property
    def id(self) -> int:
        """Id of the frame."""
        return self.key[3]


def exposures(
    frames: Iterable[FrameRecord], rules: SequenceRules, classes: Sequence[str]
) -> Iterator[tuple[Stream, Exposure]]:
    """Yield frames as the rules look at them, with their streams.

    Parameters
    ----------
    frames : iterable of FrameRecord
        In any order.
    rules : SequenceRules
        Name the keywords that are looked at.
    classes : sequence of str
        Classes whose sets are asked for.

    Yields
    ------
    tuple of Stream and Exposure
        One for each frame, in the order of `frames`.
    """
    # A night has thousands of frames and this loop sees each of them, so all that is the same for every frame is
    # worked out before it: columns are read by one attrgetter, kept keywords (slower) only where a rule names some.
    names = ["frame_class" if name == "class" else name for name in rules.same if name != "exptime"]
    columns = [name for name in names if name in FrameRecord.__slots__]
    kept = [name for name in names if name not in columns]
    timed, near, idle = "exptime" in rules.same, tuple(rules.tolerance), rules.gap == "idle"
    read = attrgetter("telescope", "camera", "instrument", *columns)
    in_keywords = not any(name in FrameRecord.__slots__ for name in near)
    unknown = (None,) * len(near)
    for frame in frames:
        values: tuple[Any, ...] = read(frame)
        iobs, nobs = sequence_position(frame.iobs, frame.nobs)
        frame_class, obsdate = frame.frame_class, frame.obsdate
        yield (
            values[:3],
            Exposure(
                (obsdate, iobs or 0, frame.sha256 or "", frame.id),
                known_time(obsdate),
                iobs,
                nobs,
                # Exposure times of sky flats change from one to the next, as the sky fades.
                number(frame.exptime) if timed and frame_class != "flat" else None,
                values[3:] + tuple([frame.value(name) for name in kept]) if kept else values[3:],
                unknown
                if in_keywords and not frame.keywords
                else tuple([number(frame.value(name)) for name in near]),
                frame_class in classes,
                # Of an exposure of unknown length nobody knows the end: it counts as its start.
                max(number(frame.exptime) or 0.0, 0.0) if idle else 0.0,
            ),
        )


def order_key(frame: FrameRecord) -> OrderKey:
    """Return what orders the frames of a stream.

    Parameters
    ----------
    frame : FrameRecord
        One frame.

    Returns
    -------
    OrderKey
        Start of the exposure; of frames of one second (headers often have no fractions) the number in the sequence
        decides, then the content, which is the same in every registry, and last the id.
    """
    return frame.obsdate, sequence_position(frame.iobs, frame.nobs)[0] or 0, frame.sha256 or "", frame.id


def sequence_position(iobs: int | None, nobs: int | None) -> tuple[int | None, int | None]:
    """Return the position in a sequence as far as it can be believed.

    Parameters
    ----------
    iobs : int or None
        Number of the exposure in its sequence, from 1, as the header has it.
    nobs : int or None
        Number of exposures that the sequence is to have.

    Returns
    -------
    tuple
        `iobs` and `nobs`; both None where either is missing or below 1, or ``iobs > nobs``.
    """
    if iobs is None or nobs is None or iobs < 1 or iobs > nobs:
        return None, None
    return iobs, nobs


def known_time(obsdate: str) -> float:
    """Return the seconds since 1970-01-01 UTC.

    Parameters
    ----------
    obsdate : str
        ISO date and time in UTC.

    Returns
    -------
    float
        NaN where the text tells no time.
    """
    try:
        return seconds(obsdate)
    except ValueError:
        return nan


_NUMBERS = (int, float)


def number(value: Any) -> float | None:
    """Return a finite number as a float.

    Parameters
    ----------
    value : object
        Value of a keyword.

    Returns
    -------
    float or None
        None for a text, a blank, infinity and NaN.
    """
    return float(value) if isinstance(value, _NUMBERS) and isfinite(value) else None
