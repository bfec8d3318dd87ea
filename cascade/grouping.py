"""The other ways to put frames together: all, each, by keywords, by closeness, by a function."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import asin, cos, degrees, hypot, radians, sin
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from ccdflow.cascade.records import FrameRecord

SECONDS_PER_DAY = 86400.0

GroupFunction = Callable[[Sequence[FrameRecord]], Sequence[Sequence[FrameRecord]]]


class Cluster(BaseModel):
    """Frames that are close to each other: each is near some other, and none is far from any."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: Literal["position", "time"]
    """Position on the sky (keywords ra and dec, degrees), or time."""
    max_separation: PositiveFloat
    """Largest distance to the nearest member: degrees, or days."""
    max_diameter: PositiveFloat
    """Largest distance between two members: degrees, or days."""


class GroupSpec(BaseModel):
    """Which frames of one class make one set. A bare word, ``all`` or ``each``, is short for ``how``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    how: Literal["all", "each"] = "all"
    """All frames together, or each alone; `by`, `cluster` and `function` then part what is together."""
    by: tuple[str, ...] = ()
    """Keywords whose values are equal within a set; a blank equals a blank."""
    cluster: Cluster | None = None
    """Closeness, within each set that `by` gives."""
    function: str = ""
    """Dotted path of a function that parts a list of frames into lists."""
    min_size: PositiveInt = 1
    """Smaller sets are left out."""
    max_size: PositiveInt | None = Field(None)
    """Larger sets are cut, in order of time."""

    @model_validator(mode="before")
    @classmethod
    def _word(cls, found: Any) -> Any:
        return {"how": found} if isinstance(found, str) else found


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
    """Frames put together as `spec` says; the order they come in does not matter.

    Sets are in order of their first frame. Every frame is in exactly one set, or left out with a reason.

    Raises
    ------
    ValueError
        If the function of `spec` is not found or loses frames.
    """
    ordered = sorted(frames, key=_order)
    if spec.how == "each":
        parts: list[list[FrameRecord]] = [[frame] for frame in ordered]
    else:
        parts = list(_by_keywords(ordered, spec.by))
    if spec.cluster is not None:
        parts = [piece for part in parts for piece in _clusters(part, spec.cluster)]
    if spec.function:
        function = _function(spec.function)
        parts = [piece for part in parts for piece in _called(function, spec.function, part)]
    if spec.max_size is not None:
        size = spec.max_size
        parts = [part[i : i + size] for part in parts for i in range(0, len(part), size)]
    parts.sort(key=lambda part: _order(part[0]))
    small = [part for part in parts if len(part) < spec.min_size]
    return Grouped(
        tuple(tuple(part) for part in parts if len(part) >= spec.min_size),
        tuple(LeftOut(tuple(part), _too_few(part, spec)) for part in small),
    )


def _order(frame: FrameRecord) -> tuple[str, int, str, int]:
    return frame.obsdate, frame.iobs or 0, frame.sha256 or "", frame.id


def _too_few(part: Sequence[FrameRecord], spec: GroupSpec) -> str:
    what = " ".join(str(part[0].value(name)) for name in spec.by if part[0].value(name) is not None)
    return f"{len(part)} {part[0].frame_class} ({what or 'in all'}), at least {spec.min_size} wanted"


def _by_keywords(frames: Sequence[FrameRecord], keywords: Sequence[str]) -> Iterator[list[FrameRecord]]:
    parts: dict[tuple[Any, ...], list[FrameRecord]] = {}
    for frame in frames:
        parts.setdefault(tuple(frame.value(name) for name in keywords), []).append(frame)
    yield from parts.values()


def _clusters(frames: Sequence[FrameRecord], cluster: Cluster) -> Iterator[list[FrameRecord]]:
    """Single linkage in order of time: a frame joins the first cluster that has it near and none of it far."""
    made: list[list[FrameRecord]] = []
    for frame in frames:
        for one in made:
            distances = [_distance(frame, member, cluster.on) for member in one]
            if min(distances) <= cluster.max_separation and max(distances) <= cluster.max_diameter:
                one.append(frame)
                break
        else:
            made.append([frame])
    yield from made


def _distance(one: FrameRecord, other: FrameRecord, on: str) -> float:
    """Days, or degrees on the sky; a frame without position is far from all."""
    if on == "time":
        return abs(one.time - other.time) / SECONDS_PER_DAY
    places = [frame.value(name) for frame in (one, other) for name in ("ra", "dec")]
    if any(not isinstance(place, int | float) for place in places):
        return float("inf")
    ra1, dec1, ra2, dec2 = (radians(float(place)) for place in places if place is not None)
    across = cos(dec1) * cos(dec2) * sin((ra2 - ra1) / 2) ** 2
    return degrees(2 * asin(min(1.0, hypot(sin((dec2 - dec1) / 2), across**0.5))))


def _function(path: str) -> GroupFunction:
    module, _, name = path.rpartition(".")
    try:
        found: GroupFunction = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise ValueError(f"grouping function {path!r} can't be imported") from None
    return found


def _called(function: GroupFunction, path: str, frames: Sequence[FrameRecord]) -> Iterator[list[FrameRecord]]:
    parts = [list(part) for part in function(frames) if part]
    if sorted(frame.id for part in parts for frame in part) != sorted(frame.id for frame in frames):
        raise ValueError(f"grouping function {path!r} must put each frame into exactly one set")
    yield from parts
