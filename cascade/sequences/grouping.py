"""The other ways to put frames together: all, each, by keywords, by closeness, by a function."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from ccdflow.cascade.records import PERIODS, FrameRecord
from ccdflow.cascade.sequences.clusters import Cluster, clusters
from ccdflow.cascade.sequences.exposures import number, order_key
from ccdflow.cascade.sequences.intervals import Widest, intervals
from ccdflow.cascade.specification import dotted
from ccdflow.cascade.specification.names import Names
from ccdflow.recipes.core.times import SAME_EXPTIME


class GroupSpec(BaseModel):
    """Which frames of one class make one set. A bare word, ``all`` or ``each``, is short for ``how``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    how: Literal["all", "each"] = "all"
    """All frames together, or each alone; `by`, `cluster` and `function` then part what is together."""
    by: Names = ()
    """Keywords whose values are equal within a set; a blank equals a blank. Lists in the list are taken apart."""
    tolerance: dict[str, PositiveFloat] = Field(default_factory=dict)
    """For numeric keywords of `by`: largest difference of two values within a set, in the keyword's unit."""
    ratio: dict[str, PositiveFloat] = Field(default_factory=dict)
    """The same as a part of the lower value; ``exptime`` has 0.001 unless it is said otherwise."""
    cluster: Cluster | None = None
    """Closeness, within each set that `by` gives."""
    function: dotted.FunctionText = ""
    """Dotted path of a function that parts a list of frames into lists."""
    min_size: PositiveInt = 1
    """Smaller sets are left out."""
    max_size: PositiveInt | None = Field(None)
    """Larger sets are cut, in order of time."""

    @model_validator(mode="before")
    @classmethod
    def _word(cls, written: Any) -> Any:
        return {"how": written} if isinstance(written, str) else written

    @model_validator(mode="after")
    def _tolerances_are_of_keywords(self) -> "GroupSpec":
        for kind, limits in {"tolerance": self.tolerance, "ratio": self.ratio}.items():
            for name in limits:
                if name not in self.by:
                    raise ValueError(
                        f"{kind} of {name!r}, which is not in by: {', '.join(self.by) or 'nothing'}"
                    )
        if both := ", ".join(name for name in self.tolerance if name in self.ratio):
            raise ValueError(f"{both}: wanted either a tolerance or a ratio, found both")
        return self

    @property
    def widths(self) -> dict[str, Widest]:
        """Numeric keyword to the largest width of a set, by the lowest value in it."""
        # A camera that writes the exposure time as it was measured would make each dark a set of its own.
        ratio = {"exptime": SAME_EXPTIME} if "exptime" in self.by and "exptime" not in self.tolerance else {}
        absolute = {name: _constant(width) for name, width in self.tolerance.items()}
        return absolute | {name: _proportional(part) for name, part in (ratio | self.ratio).items()}


def _constant(width: float) -> Widest:
    return lambda _: width


def _proportional(part: float) -> Widest:
    return lambda start: part * abs(start)


@dataclass(frozen=True)
class LeftOut:
    """Frames that make no set, and why."""

    frames: tuple[FrameRecord, ...]
    reason: str


@dataclass(frozen=True)
class Grouped:
    """Sets of frames, each in order of time, and what was left out."""

    groups: tuple[tuple[FrameRecord, ...], ...]
    left_out: tuple[LeftOut, ...] = ()


def group_frames(frames: Sequence[FrameRecord], spec: GroupSpec) -> Grouped:
    """Put frames together as `spec` says.

    Parameters
    ----------
    frames : sequence of FrameRecord
        Of one class; the order they come in does not matter.
    spec : GroupSpec
        What they must have in common.

    Returns
    -------
    Grouped
        Sets in order of their first frame. Every frame is in exactly one set, or left out with a reason.

    Raises
    ------
    ValueError
        If the function of `spec` is not found or loses frames.
    """
    # Each stage parts what the one before has left together: keywords, closeness, function, size.
    ordered = sorted(frames, key=order_key)
    parts = [[frame] for frame in ordered] if spec.how == "each" else _by_keywords(ordered, spec)
    if spec.cluster is not None:
        parts = [piece for part in parts for piece in clusters(part, spec.cluster)]
    if spec.function:
        parts = [piece for part in parts for piece in _parted(spec.function, part)]
    if spec.max_size is not None:
        size = spec.max_size
        parts = [part[i : i + size] for part in parts for i in range(0, len(part), size)]
    parts.sort(key=lambda part: order_key(part[0]))
    small = [part for part in parts if len(part) < spec.min_size]
    return Grouped(
        tuple(tuple(part) for part in parts if len(part) >= spec.min_size),
        tuple(LeftOut(tuple(part), _too_few(part, spec)) for part in small),
    )


def _too_few(part: Sequence[FrameRecord], spec: GroupSpec) -> str:
    values = [part[0].value(name) for name in spec.by]
    what = " ".join(str(value) for value in values if value is not None)
    return f"{len(part)} {part[0].frame_class} ({what or 'in all'}), at least {spec.min_size} wanted"


def _by_keywords(frames: Sequence[FrameRecord], spec: GroupSpec) -> list[list[FrameRecord]]:
    widths = spec.widths
    exact = [name for name in spec.by if name not in widths]
    parts: dict[tuple[Any, ...], list[FrameRecord]] = {}
    for frame in frames:
        parts.setdefault(tuple(_value(frame, name) for name in exact), []).append(frame)
    pieces = list(parts.values())
    for name, widest in widths.items():
        pieces = [piece for part in pieces for piece in _near(part, name, widest)]
    return pieces


def _value(frame: FrameRecord, keyword: str) -> Any:
    value = frame.value(keyword)
    # NaN, which equals nothing, is no value.
    return value if value == value else None


def _near(frames: Sequence[FrameRecord], keyword: str, widest: Widest) -> Iterator[list[FrameRecord]]:
    """Part frames so that no two values within a part differ by more than they may; blanks are a part of their own."""
    numbers = [(number(frame.value(keyword)), frame) for frame in frames]
    if blank := [frame for value, frame in numbers if value is None]:
        yield blank
    known = [(value, frame) for value, frame in numbers if value is not None]
    places = intervals([value for value, _ in known], widest, PERIODS.get(keyword))
    parts: dict[int, list[FrameRecord]] = {}
    for place, (_, frame) in zip(places, known, strict=True):
        parts.setdefault(place, []).append(frame)
    for place in sorted(parts):
        yield _in_order(parts[place])


def _in_order(frames: Iterable[FrameRecord]) -> list[FrameRecord]:
    return sorted(frames, key=order_key)


def _parted(path: str, frames: Sequence[FrameRecord]) -> Iterator[list[FrameRecord]]:
    try:
        answer = dotted.called(path, tuple(frames))
        parts = [_in_order(part) for part in answer if part]
    except ValueError as error:
        raise ValueError(f"grouping {error}") from None
    except (TypeError, AttributeError):
        raise ValueError(f"grouping function {path!r} gave {answer!r}, wanted lists of frames") from None
    # Counted, not compared as sets: a function may also have put a frame into two parts.
    parted = Counter(frame.id for part in parts for frame in part)
    wanted = Counter(frame.id for frame in frames)
    if parted != wanted:
        lost, extra = sum((wanted - parted).values()), sum((parted - wanted).values())
        raise ValueError(
            f"grouping function {path!r} must put each of {len(frames)} frames into exactly one set, "
            f"it left out {lost} and put in {extra} too many"
        )
    yield from parts
