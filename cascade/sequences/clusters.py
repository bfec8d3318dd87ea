"""Frames that are close to each other on the sky or in time."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import asin, cos, degrees, dist, isfinite, radians, sin
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat

from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.sequences.exposures import ROUNDING, known_time, number, order_key

SECONDS_PER_DAY = 86400.0

Position = tuple[float, ...]
"""In time: days since 1970-01-01 UTC; on the sky: unit vector ``(x, y, z)``, z towards the north pole."""


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
    """Part frames by single linkage: the closest two are joined first, as long as the whole does not grow too wide.

    Parameters
    ----------
    frames : sequence of FrameRecord
        In any order.
    by : Cluster
        How close, and in what.

    Returns
    -------
    list of list of FrameRecord
        Clusters, each in order of time. A frame whose position is not known is alone.
    """
    ordered = sorted(frames, key=order_key)
    positions = [_position(frame, by.on) for frame in ordered]
    widest = float("inf") if by.max_diameter is None else by.max_diameter * (1 + ROUNDING)
    # Each frame begins as a cluster of its own. Pairs that are close enough are gone through from the closest to the
    # widest, and the clusters of the two become one (Kruskal's algorithm). Pairs of one distance are taken in order
    # of time, since numbers of frames stand behind the distance. All frames of a cluster share one list.
    home = [[i] for i in range(len(ordered))]
    for _, i, j in sorted(_close_pairs(positions, by)):
        cluster, other = home[i], home[j]
        if cluster is other or not _fits(cluster, other, positions, widest):
            continue
        cluster += other
        for k in other:
            home[k] = cluster
    distinct = {id(cluster): sorted(cluster) for cluster in home}
    return [[ordered[i] for i in cluster] for cluster in distinct.values()]


def _position(frame: FrameRecord, on: str) -> Position | None:
    if on == "time":
        days = known_time(frame.obsdate) / SECONDS_PER_DAY
        return (days,) if isfinite(days) else None
    ra, dec = number(frame.value("ra")), number(frame.value("dec"))
    if ra is None or dec is None:
        return None
    a, d = radians(ra), radians(dec)
    # As vectors, positions have no seam at 0 h and no poles where right ascensions run together.
    return cos(d) * cos(a), cos(d) * sin(a), sin(d)


def _close_pairs(positions: Sequence[Position | None], by: Cluster) -> Iterator[tuple[float, int, int]]:
    """Yield distance and numbers of each two frames that could be joined directly."""
    limit = by.max_separation * (1 + ROUNDING)
    # By their last coordinate: the time itself, or the height above the equator's plane.
    known = sorted(
        (position[-1], i, position) for i, position in enumerate(positions) if position is not None
    )
    if by.on == "time":
        # Clusters of times are intervals, which only their neighbors can join.
        for (_, i, here), (_, j, there) in pairwise(known):
            if (distance := _distance(here, there)) <= limit:
                yield distance, min(i, j), max(i, j)
        return
    for rank, (height, i, here) in enumerate(known):
        for above, j, there in known[rank + 1 :]:
            # No two positions are closer than their heights differ: the arc is at least the chord, and that at least
            # the difference. So only a band of the sky is searched for each frame, not all of it.
            if above - height > radians(limit):
                break
            if (distance := _distance(here, there)) <= limit:
                yield distance, min(i, j), max(i, j)


def _distance(here: Position, there: Position) -> float:
    """Return days, or degrees on the sky, from the chord between two unit vectors."""
    # The angle from the chord keeps its digits where it is small; from the cosine it loses them.
    chord = dist(here, there)
    return chord if len(here) == 1 else degrees(2 * asin(min(1.0, chord / 2)))


def _fits(cluster: list[int], other: list[int], positions: Sequence[Position | None], widest: float) -> bool:
    """Return whether no two frames of two clusters are farther from each other than the whole may be wide."""
    if widest == float("inf"):
        return True
    ends = ((positions[i], positions[j]) for i in cluster for j in other)
    return all(_distance(a, b) <= widest for a, b in ends if a is not None and b is not None)
