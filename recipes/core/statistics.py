"""Robust numbers: medians and spreads that outliers, excluded pixels and whole adu do not spoil."""

from collections.abc import Iterator
from functools import lru_cache
from math import lgamma, log, pi, sqrt
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.core.dq import BoolArray, excluded
from ccdflow.recipes.core.image import FloatArray, Image

Floats = NDArray[np.floating[Any]]
Number = TypeVar("Number", bound=np.generic)

NORMAL_MAD = 1.482602218505602
"""Standard deviation of a normal distribution in units of its median absolute deviation."""

LONGEST_NETWORK = 64
"""Beyond as many frames a library sort is faster than a sorting network."""

SAMPLE = 100_000
"""From so many values a spread is known to 0.4 %; more would only cost time."""
LARGEST_TALLY = 1 << 20
"""Integers are counted where their range is below this."""


@lru_cache(maxsize=256)
def median_variance(n: int) -> float:
    """Variance of the median of `n` normal numbers of variance 1: 1, 1/2, .4487, .2982, .2868, ... → π/2n.

    Notes
    -----
    The density of the middle order statistics, integrated numerically. For odd n = 2k + 1 it is
    n!/(k!)² φ(x) Φ(x)^k Φ(-x)^k; for even n = 2k the two in the middle, at y - t and y + t, have the joint
    density 2 n!/((k-1)!)² φ(y-t) φ(y+t) Φ(y-t)^(k-1) Φ(-y-t)^(k-1), t > 0 (David & Nagaraja, Order
    Statistics, ch. 2).
    """
    # scipy takes a sixth of a second to import, and most combinations never need it.
    from scipy.special import log_ndtr

    if n < 1:
        raise ValueError(f"the median of {n} numbers has no variance; at least 1 is needed")
    # The density narrows as 1/√n, the distance of the two in the middle as 1/n.
    span = min(8.0, 12 / sqrt(n))
    y, dy = np.linspace(-span, span, 801, retstep=True)
    if n % 2:
        k = (n - 1) // 2
        scale = lgamma(n + 1) - 2 * lgamma(k + 1)
        density = np.exp(scale + _log_normal(y) + k * (log_ndtr(y) + log_ndtr(-y)))
        return float(np.sum(y**2 * density) * dy)
    k = n // 2
    dt = min(8.0, 40 / n) / 800
    t = (np.arange(800)[:, None] + 0.5) * dt
    low, high = y - t, y + t
    scale = log(2) + lgamma(n + 1) - 2 * lgamma(k)
    both = _log_normal(low) + _log_normal(high) + (k - 1) * (log_ndtr(low) + log_ndtr(-high))
    return float(np.sum(y**2 * np.exp(scale + both)) * dy * dt)


def _log_normal(x: Floats) -> Floats:
    return -0.5 * x**2 - 0.5 * log(2 * pi)


def sort_frames(values: FloatArray) -> None:
    """Sort `values`, shape (n, npix), along its first axis, in place.

    A sorting network (Batcher's odd-even merge sort, Knuth 5.2.2 algorithm M) exchanges whole rows, which for
    the few frames of a stack is some ten times faster than sorting pixel by pixel.
    """
    if len(values) > LONGEST_NETWORK:
        values.sort(axis=0)
        return
    spare = np.empty_like(values[0])
    for low, high in network(len(values)).tolist():
        np.minimum(values[low], values[high], out=spare)
        np.maximum(values[low], values[high], out=values[high])
        values[low] = spare


@lru_cache(maxsize=32)
def network(n: int) -> NDArray[np.int64]:
    """Exchanges that sort `n` values, shape (m, 2): the first of each pair gets the smaller value."""
    return np.array(list(_exchanges(n)), np.int64).reshape(-1, 2)


def _exchanges(n: int) -> Iterator[tuple[int, int]]:
    top = 1 << max(n - 1, 1).bit_length() - 1
    p = top
    while p > 0:
        q, r, distance = top, 0, p
        while True:
            for i in range(n - distance):
                if i & p == r:
                    yield i, i + distance
            if q == p:
                break
            q, r, distance = q // 2, p, q - p
        p //= 2


def frame_median(values: FloatArray, used: BoolArray) -> FloatArray:
    """Median over the frames, of the values that are used; 0 where none is.

    Parameters
    ----------
    values : float32 array, shape (n, npix)
        Values that are not used may be anything.
    used : bool array, shape (n, npix)

    Returns
    -------
    float32 array, shape (npix,)
    """
    count = used.sum(axis=0, dtype=np.int64)
    if (values == values[0]).all():
        return np.where(count > 0, values[0], np.float32(0))
    ordered = np.where(used, values, np.float32(np.inf))
    sort_frames(ordered)
    if count.size and count.min() == len(values):
        middle = ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]
    else:
        lower, upper = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(values) - 1)
        middle = (
            np.take_along_axis(ordered, lower[None], 0)[0] + np.take_along_axis(ordered, upper[None], 0)[0]
        )
    return np.where(count > 0, middle * np.float32(0.5), np.float32(0))


def median(values: NDArray[Any]) -> Any:
    """Median along the last axis, bit for bit that of ``np.median``, which takes up to nine times as long.

    Of shape ``(..., n)`` gives shape ``(...)``, of whole numbers float64, else of the same dtype. NaN where there is
    one, or nothing at all. `np.median` seeks the middle, its neighbour and the greatest, in
    one ``partition``, of which numpy's vector code knows those for one rank only.
    """
    half, odd = divmod(values.shape[-1], 2)
    if not half + odd:
        return np.full(values.shape[:-1], np.nan)[()]
    ordered = np.partition(values, half, -1)
    upper, greatest = ordered[..., half], ordered[..., half:].max(-1)
    lower = upper if odd else ordered[..., :half].max(-1)
    return np.where(np.isnan(greatest), greatest, np.mean([lower, upper], axis=0))[()]


def typical_size(values: Floats) -> float:
    """Median of the absolute values, not fooled by numbers that repeat (whole adu); NaN of none.

    Notes
    -----
    The distribution is taken to run straight between the middles of its steps, so that the spread of integers
    of standard deviation 0.6 comes out right within some percent, where a plain median knows 0 and 1 only.
    """
    if not values.size:
        return float("nan")
    sizes, rank = np.abs(values).ravel(), (values.size - 1) // 2
    step = np.partition(sizes, rank)[rank]
    # The step next to it is sought among all; a sort, which would find it too, takes twice as long.
    below, to = np.count_nonzero(sizes < step), np.count_nonzero(sizes <= step)
    here = (to + below) / 2 / sizes.size
    if here == 0.5 or (here > 0.5 and not below):
        return float(step)
    beside = (
        np.where(sizes < step, sizes, 0).max() if here > 0.5 else np.where(sizes > step, sizes, np.inf).min()
    )
    count = np.count_nonzero(sizes == beside)
    if here < 0.5 and to - below == count == 1:  # nothing repeats there
        return float(step + beside) / 2
    there = (below - count / 2 if here > 0.5 else to + count / 2) / sizes.size
    (low, first), (high, second) = sorted([(here, float(step)), (there, float(beside))])
    return float(np.interp(0.5, [low, high], [first, second]))


def _middle(distinct: Floats, counts: NDArray[np.integer[Any]]) -> float:
    """Median of numbers of which each is there so many times, in rising order."""
    ranks = (np.cumsum(counts) - 0.5 * counts) / counts.sum()
    return float(np.interp(0.5, ranks, distinct))


def robust_sigma(values: Floats) -> float:
    """Measured about the median: the standard deviation of normal numbers among outliers; NaN of none."""
    if not values.size:
        return float("nan")
    some = sampled(values)
    return NORMAL_MAD * typical_size(some - median(some))


def good_sample(image: Image) -> FloatArray:
    """Data of good pixels: of evenly spread ones, where there are many."""
    data, dq = sampled(image.data), sampled(image.dq)
    return data[~excluded(dq)]


def sampled(values: NDArray[Number]) -> NDArray[Number]:
    """At most about `SAMPLE` of the values, evenly spread over columns too: the step is odd."""
    flat = values.ravel()
    return flat[:: (flat.size // SAMPLE) | 1]


def without_outliers(values: Floats, *, sigma: float = 4.0) -> NDArray[np.float64]:
    """Values within `sigma` standard deviations of their mean, iterated from median and `robust_sigma`."""
    every: NDArray[np.float64] = np.asarray(values, np.float64).ravel()
    if not every.size:
        return every
    kept: NDArray[np.float64] = every[np.abs(every - median(sampled(every))) <= sigma * robust_sigma(every)]
    for _ in range(10):
        before = kept.size
        kept = every[np.abs(every - kept.mean()) <= sigma * kept.std()] if before else every
        if kept.size == before:
            break
    return kept


def clipped_mean(values: NDArray[Any], *, sigma: float = 4.0) -> float:
    """Mean of the values without outliers; NaN of none.

    Integers count one and all, by how often each is there; of real numbers about `SAMPLE` are taken.
    """
    if values.dtype.kind in "ui" and values.size and int(np.ptp(values)) < LARGEST_TALLY:
        return _tallied_mean(values.ravel(), sigma)
    kept = without_outliers(sampled(values), sigma=sigma)
    return float(kept.mean()) if kept.size else float("nan")


def _tallied_mean(values: NDArray[np.integer[Any]], sigma: float) -> float:
    least = values.min()
    tally = np.bincount(values - least)
    present = np.flatnonzero(tally)
    steps, counts = present.astype(np.float64), tally[present]
    distance = np.abs(steps - steps[np.searchsorted(np.cumsum(counts), counts.sum() / 2)])
    nearest = np.argsort(distance, kind="stable")
    spread = NORMAL_MAD * _middle(distance[nearest], counts[nearest])
    kept = distance <= sigma * spread
    for _ in range(10):
        mean = np.average(steps[kept], weights=counts[kept])
        within = np.abs(steps - mean) <= sigma * np.sqrt(
            np.average((steps[kept] - mean) ** 2, weights=counts[kept])
        )
        if not within.any() or (within == kept).all():
            break
        kept = within & kept
    return float(least) + float(mean)
