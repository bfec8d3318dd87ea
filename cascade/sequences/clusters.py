"""Frames that are close to each other on the sky or in time."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import asin, cos, degrees, dist, isfinite, radians, sin
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat

from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.sequences.exposures import ROUNDING, known_time, number, order_key

SECONDS_PER_DAY = 86400.0

Place = tuple[float, ...]
"""Days, or a unit vector to a place on the sky."""


class Cluster(BaseModel):
    """Frames that are close to each other: each is near some other, and none is far from any."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: Literal["position", "time"]
    """Position on the sky (keywords ra and dec, degrees), or time."""
    max_separation: PositiveFloat
    """Largest distance to the nearest member: degrees, or days."""
    max_diameter: PositiveFloat | None = None
    """Largest distance between two members: degrees, or days."""


def clusters(frames: Sequence[FrameRecord], by: Cluster) -> list[list[FrameRecord]]:
    """Frames parted by single linkage: the closest two are joined first, as long as the whole does not grow too wide.

    Each cluster is in order of time. The order of `frames` does not matter. A frame without place is alone.
    """
    ordered = sorted(frames, key=order_key)
    places = [_place(frame, by.on) for frame in ordered]
    home = [[i] for i in range(len(ordered))]
    widest = float("inf") if by.max_diameter is None else by.max_diameter * (1 + ROUNDING)
    for _, i, j in sorted(_close_pairs(places, by)):
        one, other = home[i], home[j]
        if one is other or not _fits(one, other, places, widest):
            continue
        one += other
        for k in other:
            home[k] = one
    made = {id(one): sorted(one) for one in home}
    return [[ordered[i] for i in one] for one in made.values()]


def _place(frame: FrameRecord, on: str) -> Place | None:
    if on == "time":
        days = known_time(frame.obsdate) / SECONDS_PER_DAY
        return (days,) if isfinite(days) else None
    ra, dec = number(frame.value("ra")), number(frame.value("dec"))
    if ra is None or dec is None:
        return None
    a, d = radians(ra), radians(dec)
    return cos(d) * cos(a), cos(d) * sin(a), sin(d)


def _close_pairs(places: Sequence[Place | None], by: Cluster) -> Iterator[tuple[float, int, int]]:
    """Distance and numbers of each two frames that could be joined directly."""
    limit = by.max_separation * (1 + ROUNDING)
    known = sorted((place[-1], i, place) for i, place in enumerate(places) if place is not None)
    if by.on == "time":
        # Clusters of times are intervals, which only their neighbors can join.
        for (_, i, here), (_, j, there) in pairwise(known):
            if (distance := _distance(here, there)) <= limit:
                yield distance, min(i, j), max(i, j)
        return
    for place, (height, i, here) in enumerate(known):
        for above, j, there in known[place + 1 :]:
            # No two places are closer than their heights differ.
            if above - height > radians(limit):
                break
            if (distance := _distance(here, there)) <= limit:
                yield distance, min(i, j), max(i, j)


def _distance(here: Place, there: Place) -> float:
    """Days, or degrees on the sky, from the chord between two unit vectors."""
    chord = dist(here, there)
    return chord if len(here) == 1 else degrees(2 * asin(min(1.0, chord / 2)))


def _fits(one: list[int], other: list[int], places: Sequence[Place | None], widest: float) -> bool:
    if widest == float("inf"):
        return True
    ends = ((places[i], places[j]) for i in one for j in other)
    return all(_distance(a, b) <= widest for a, b in ends if a is not None and b is not None)
