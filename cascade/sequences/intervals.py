"""Numbers parted into as few intervals as possible, none wider than it may be: temperatures, angles, exposure times."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from ccdflow.cascade.sequences.exposures import ROUNDING

Widest = Callable[[float], float]
"""Largest width of an interval that begins at a value."""


def intervals(values: Sequence[float], widest: Widest, period: float | None = None) -> list[int]:
    """Return for each value the number of the interval that it lies in.

    No two values of an interval differ by more than it may be wide, so that a slow drift is cut and never followed
    from -20 to +5. Of all ways to do that with the fewest intervals, that one is taken whose cuts lie in the widest
    gaps: readings that scatter about two set points are parted between these, wherever the lowest of them lies.

    Parameters
    ----------
    values : sequence of float
        In any order.
    widest : callable
        Largest width of an interval that begins at a value, in the values' unit.
    period : float or None
        Length of a circle that the values lie on, such as 360 for degrees; None for a line.

    Returns
    -------
    list of int
        From 0 upwards, in order of the values; on a circle from behind its widest gap.

    Examples
    --------
    >>> intervals([-20.1, -19.8, -9.9, -20.0], lambda start: 1.0)
    [0, 0, 1, 0]
    >>> intervals([359.9, 90.0, 0.2], lambda start: 2.0, period=360)
    [0, 1, 0]
    """
    line = _unrolled(values, period)
    ordered = sorted(set(line))
    if not ordered:
        return []
    starts = [0] if _fits(ordered[0], ordered[-1], widest) else _starts(ordered, widest)
    numbers = {
        value: number
        for number, (start, end) in enumerate(pairwise([*starts, len(ordered)]))
        for value in ordered[start:end]
    }
    return [numbers[value] for value in line]


def circular_difference(value: float, other: float, period: float | None) -> float:
    """Return how far two values are from each other, on a circle the shorter way round.

    Parameters
    ----------
    value, other : float
        In one unit.
    period : float or None
        Length of the circle; None for a line.
    """
    distance = abs(value - other)
    return distance if period is None else min(distance % period, -distance % period)


def _unrolled(values: Sequence[float], period: float | None) -> list[float]:
    """Cut a circle open in its widest gap, so that no interval goes over the cut if it need not."""
    if period is None or not values:
        return list(values)
    inside = [value % period for value in values]
    ordered = sorted(set(inside))
    gaps = [after - before for before, after in pairwise([*ordered, ordered[0] + period])]
    first = ordered[(gaps.index(max(gaps)) + 1) % len(ordered)]
    return [value if value >= first else value + period for value in inside]


def _fits(start: float, end: float, widest: Widest) -> bool:
    return end - start <= widest(start) * (1 + ROUNDING)


def _starts(ordered: Sequence[float], widest: Widest) -> list[int]:
    """Return where the intervals begin, by dynamic programming over the number of values that are covered so far."""
    # Of the best way to cover the first `end` values: how many intervals it takes, the sum of the gaps in which it is
    # cut (below 0, so that less is better for both), and where its last interval begins. Of equal ways the one whose
    # lower intervals are longer.
    best: list[tuple[int, float, int]] = [(0, 0.0, 0)]
    for end in range(1, len(ordered) + 1):
        choices = []
        for start in range(end - 1, -1, -1):
            if not _fits(ordered[start], ordered[end - 1], widest):
                break
            gap = ordered[start] - ordered[start - 1] if start else 0.0
            count, gaps, _ = best[start]
            choices.append((count + 1, gaps - gap, -start))
        best.append(min(choices))
    starts, end = [], len(ordered)
    while end:
        end = -best[end][2]
        starts.append(end)
    return starts[::-1]
