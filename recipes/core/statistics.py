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
"""Standard deviation of a normal distribution in units of its median absolute deviation: 1 / Φ⁻¹(3/4)."""

LONGEST_NETWORK = 64
"""Frames beyond which a library sort is faster than a sorting network, whose exchanges grow as n (log n)²."""

SAMPLE = 100_000
"""Values that a robust spread is measured from: it is known to 1.17 / √SAMPLE = 0.4 %; more only cost time."""
LARGEST_TALLY = 1 << 20
"""Largest range in adu of integers that are counted value by value: 8 MB of counts, and all of 16 bits fit."""
MAX_PASSES = 10
"""Passes of clipping at most: two or three are the rule, and a limit that swings never settles."""


@lru_cache(maxsize=256)
def median_variance(n: int) -> float:
    """Return the variance of the median of `n` normal numbers of variance 1.

    It is 1, 1/2, .4487, .2982, .2868 for n from 1 to 5, and tends to π / 2n: the mean's is 1/n.

    Parameters
    ----------
    n : int
        At least 1.

    Returns
    -------
    float
        To some 1e-6.

    Raises
    ------
    ValueError
        If `n` is below 1.

    Examples
    --------
    >>> round(median_variance(3), 4)
    0.4487

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
    # The density narrows as 1/√n, the distance of the two in the middle as 1/n: the grid follows both. Logarithms,
    # because n! and the powers leave the range of floats at n = 171.
    span = min(8.0, 12 / sqrt(n))
    y, dy = np.linspace(-span, span, 801, retstep=True)
    # Odd: one value in the middle, with k on each side of it.
    if n % 2:
        k = (n - 1) // 2
        scale = lgamma(n + 1) - 2 * lgamma(k + 1)
        density = np.exp(scale + _log_normal(y) + k * (log_ndtr(y) + log_ndtr(-y)))
        return float(np.sum(y**2 * density) * dy)
    # Even: the median y is the mean of two, which lie t below and above it; both y and t are integrated over.
    k = n // 2
    dt = min(8.0, 40 / n) / 800
    t = (np.arange(800)[:, None] + 0.5) * dt
    low, high = y - t, y + t
    scale = log(2) + lgamma(n + 1) - 2 * lgamma(k)
    both = _log_normal(low) + _log_normal(high) + (k - 1) * (log_ndtr(low) + log_ndtr(-high))
    return float(np.sum(y**2 * np.exp(scale + both)) * dy * dt)


MEDIAN_DRAWS = 40_000
"""Draws that tell the variance of a median of unequal numbers: it is then known to 0.7 %, its root to 0.35 %."""
EQUAL = 1.02
"""Largest over smallest variance up to which numbers count as of one variance: their median's is then true to 0.1 %."""


@lru_cache(maxsize=32)
def unequal_median_factor(variances: tuple[float, ...]) -> float:
    """Return the variance of the median of normal numbers over what it were if all had their mean variance.

    Parameters
    ----------
    variances : tuple of float
        Of the numbers, above 0.

    Returns
    -------
    float
        1 for equal numbers, and below where most of what is in the middle are those of small variance.

    Notes
    -----
    By draws, with a fixed seed: of an even number of unequal ones the two in the middle have no simple density.
    """
    sizes = np.asarray(variances, np.float64)
    if sizes.max() <= EQUAL * sizes.min():
        return 1.0
    draws = np.random.default_rng(1).standard_normal((len(sizes), MEDIAN_DRAWS)) * np.sqrt(sizes)[:, None]
    return float(np.median(draws, axis=0).var() / (median_variance(len(sizes)) * sizes.mean()))


def _log_normal(x: Floats) -> Floats:
    return -0.5 * x**2 - 0.5 * log(2 * pi)


def sort_frames(values: FloatArray) -> None:
    """Sort the values of each pixel over the frames, in place.

    Parameters
    ----------
    values : float32 array, shape (n, npix)
        Without NaN; each column is in rising order afterwards.

    Notes
    -----
    A sorting network (Batcher's odd-even merge sort, Knuth 5.2.2 algorithm M) exchanges whole rows, which for
    the few frames of a stack is some ten times faster than sorting pixel by pixel. `numpy.minimum` spreads NaN,
    so callers put infinity where a value is not to count.
    """
    if len(values) > LONGEST_NETWORK:
        values.sort(axis=0)
        return
    # Each exchange is two passes over whole rows, in memory that is had once.
    spare = np.empty_like(values[0])
    for low, high in network(len(values)).tolist():
        np.minimum(values[low], values[high], out=spare)
        np.maximum(values[low], values[high], out=values[high])
        values[low] = spare


@lru_cache(maxsize=32)
def network(n: int) -> NDArray[np.int64]:
    """Return the exchanges that sort `n` values.

    Parameters
    ----------
    n : int
        Number of values, at least 1.

    Returns
    -------
    int64 array, shape (m, 2)
        Pairs of positions in the order of the exchanges; the first of each pair gets the smaller value.

    References
    ----------
    Knuth, The Art of Computer Programming 3, section 5.2.2, algorithm M (Batcher's odd-even merge).
    """
    return np.array(list(_exchanges(n)), np.int64).reshape(-1, 2)


def _exchanges(n: int) -> Iterator[tuple[int, int]]:
    # Letters as in Knuth's algorithm M: p is the length of the sorted runs, q and r say which positions are compared.
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
    """Return the median over the frames, of the values that are used.

    Parameters
    ----------
    values : float32 array, shape (n, npix)
        In any unit; values that are not used may be anything, NaN included.
    used : bool array, shape (n, npix)
        False where a value does not count.

    Returns
    -------
    float32 array, shape (npix,)
        The mean of the two in the middle where an even number is used; 0 where none is.
    """
    count = used.sum(axis=0, dtype=np.int64)
    # Frames that all state one variance (biases do) need no sorting.
    if (values == values[0]).all():
        return np.where(count > 0, values[0], np.float32(0))
    # What is not used goes to the end as infinity; the middle is then sought among the first `count`.
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
    """Return the median along the last axis, bit for bit that of ``np.median``, which takes up to nine times as long.

    Parameters
    ----------
    values : array, shape (..., n)
        Numbers of any real dtype.

    Returns
    -------
    array or scalar, shape (...)
        float64 for whole numbers, else of the same dtype. NaN where one of the values is NaN, or there is none.

    Notes
    -----
    `np.median` seeks the middle, its neighbour and the greatest value (which is NaN, if there is one) in one
    ``partition`` for three ranks; numpy's vector code knows those for one rank only.
    """
    # Even n: the upper of the two in the middle has rank n / 2, the lower is the greatest of what lies before it.
    # NaN is sorted to the end, so that the greatest of the upper half tells whether there is one.
    half, odd = divmod(values.shape[-1], 2)
    if not half + odd:
        return np.full(values.shape[:-1], np.nan)[()]
    ordered = np.partition(values, half, -1)
    upper, greatest = ordered[..., half], ordered[..., half:].max(-1)
    lower = upper if odd else ordered[..., :half].max(-1)
    return np.where(np.isnan(greatest), greatest, np.mean([lower, upper], axis=0))[()]


def typical_size(values: Floats) -> float:
    """Return the median of the absolute values, as if numbers that repeat (whole adu) did not.

    Parameters
    ----------
    values : array of float, any shape
        Without NaN; residuals, for a median absolute deviation.

    Returns
    -------
    float
        In the unit of the values; NaN if there are none.

    Notes
    -----
    The distribution is taken to run straight between the middles of its steps, so that the spread of integers
    of standard deviation 0.6 comes out right within some percent, where a plain median knows 0 and 1 only.
    """
    if not values.size:
        return float("nan")
    sizes, rank = np.abs(values).ravel(), (values.size - 1) // 2
    step = np.partition(sizes, rank)[rank]
    # `step` is the size in the middle. Of all sizes the part `here` lies below the middle of that step; if it is not
    # one half, the median lies between this step and the next one on that side, `beside`, which is sought among all:
    # a sort, which would find it too, takes twice as long.
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
    """Median, as `typical_size` has it, of numbers in rising order, each of which is there `counts` times."""
    ranks = (np.cumsum(counts) - 0.5 * counts) / counts.sum()
    return float(np.interp(0.5, ranks, distinct))


def robust_sigma(values: Floats) -> float:
    """Return the standard deviation of normal numbers among outliers: 1.4826 times their MAD about the median.

    Parameters
    ----------
    values : array of float, any shape
        Without NaN; of more than `SAMPLE` about so many are looked at.

    Returns
    -------
    float
        In the unit of the values; 0 if more than half of them are alike, NaN if there are none.

    Examples
    --------
    >>> noise = np.random.default_rng(1).normal(100, 5, 100_000)
    >>> noise[:5000] = 1e6
    >>> 5.0 < robust_sigma(noise) < 5.5
    True

    Notes
    -----
    MAD is the median absolute deviation. Outliers still widen it a little, as they move the median's rank: 5 % of
    them, all on one side, by 6 %.
    """
    if not values.size:
        return float("nan")
    sample = sampled(values)
    return NORMAL_MAD * typical_size(sample - median(sample))


def good_sample(image: Image) -> FloatArray:
    """Return the data of an image's good pixels: of evenly spread ones, where there are many.

    Parameters
    ----------
    image : Image
        In any unit.

    Returns
    -------
    float32 array, shape (npix,)
        At most about `SAMPLE` values; none that DQ excludes. What is not finite but not flagged either is kept.
    """
    # Both planes have one shape, and so the same sample.
    data, dq = sampled(image.data), sampled(image.dq)
    return data[~excluded(dq)]


def sampled(values: NDArray[Number]) -> NDArray[Number]:
    """Return at most about `SAMPLE` of the values, evenly spread.

    Parameters
    ----------
    values : array, any shape
        Of any dtype.

    Returns
    -------
    array, shape (n,)
        Same dtype; all values where there are fewer than twice `SAMPLE`.
    """
    # An odd step: with an even one a detector with an even number of columns would be seen in every other column
    # only, and many have columns of two kinds.
    flat = values.ravel()
    return flat[:: (flat.size // SAMPLE) | 1]


def without_outliers(values: Floats, *, sigma: float = 4.0) -> NDArray[np.float64]:
    """Return the values within `sigma` standard deviations of their mean.

    Parameters
    ----------
    values : array of float, any shape
        Without NaN.
    sigma : float
        Limit in standard deviations.

    Returns
    -------
    float64 array, shape (n,)
        Those that are kept; none if there are none.

    Notes
    -----
    The first pass measures from the median by `robust_sigma`, which outliers do not widen; the next by mean and
    standard deviation of what is kept, until nothing changes, `MAX_PASSES` times at most. The second kind needs
    the first: a single far outlier among few values hides itself in their standard deviation.
    """
    every: NDArray[np.float64] = np.asarray(values, np.float64).ravel()
    if not every.size:
        return every
    kept: NDArray[np.float64] = every[np.abs(every - median(sampled(every))) <= sigma * robust_sigma(every)]
    for _ in range(MAX_PASSES):
        before = kept.size
        kept = every[np.abs(every - kept.mean()) <= sigma * kept.std()] if before else every
        if kept.size == before:
            break
    return kept


def clipped_mean(values: NDArray[Any], *, sigma: float = 4.0) -> float:
    """Return the mean of the values without outliers.

    Parameters
    ----------
    values : array, any shape
        Without NaN. Integers all count, by how often each is there; of real numbers about `SAMPLE` are taken.
    sigma : float
        Limit in standard deviations, see `without_outliers`.

    Returns
    -------
    float
        In the unit of the values; NaN if there are none.

    Notes
    -----
    A mean, not a median: the median of whole adu is off by up to half an adu, whereas the mean of values whose
    noise is larger than that is not.
    """
    # Raw frames are whole adu: counting them is exact and faster than sorting, and all pixels of an overscan count.
    if values.dtype.kind in "ui" and values.size and int(np.ptp(values)) < LARGEST_TALLY:
        return _tallied_mean(values.ravel(), sigma)
    kept = without_outliers(sampled(values), sigma=sigma)
    return float(kept.mean()) if kept.size else float("nan")


def _tallied_mean(values: NDArray[np.integer[Any]], sigma: float) -> float:
    """Clipped mean of integers from their histogram, in the same steps as `without_outliers`."""
    least = values.min()
    tally = np.bincount(values - least)
    present = np.flatnonzero(tally)
    steps, counts = present.astype(np.float64), tally[present]
    # Distances from the median, which is the value at which the counts reach one half.
    distance = np.abs(steps - steps[np.searchsorted(np.cumsum(counts), counts.sum() / 2)])
    nearest = np.argsort(distance, kind="stable")
    spread = NORMAL_MAD * _middle(distance[nearest], counts[nearest])
    kept = distance <= sigma * spread
    for _ in range(MAX_PASSES):
        mean = np.average(steps[kept], weights=counts[kept])
        within = np.abs(steps - mean) <= sigma * np.sqrt(
            np.average((steps[kept] - mean) ** 2, weights=counts[kept])
        )
        # Only ever fewer: a pass that would drop everything, or nothing more, is the last.
        if not within.any() or (within == kept).all():
            break
        kept = within & kept
    return float(least) + float(mean)
