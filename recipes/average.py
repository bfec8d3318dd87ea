"""Mean or median of the values that are left, with its true variance and its DQ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.dq import DQ, BoolArray, DQArray
from ccdflow.recipes.image import FloatArray
from ccdflow.recipes.statistics import frame_median, median_variance
from ccdflow.recipes.strips import Frames, Strip

ZERO = np.float32(0)


@dataclass(frozen=True)
class Average:
    """The average of a strip; all arrays of shape (npix,)."""

    data: FloatArray
    variance: FloatArray
    shared: FloatArray
    dq: DQArray
    ngood: NDArray[np.uint16]


def average(strip: Strip, kept: BoolArray, frames: Frames, *, median: bool) -> Average:
    """Average of the values that are kept, as `ccdflow.recipes.combine.combine` states it.

    Where none is kept, all values that were measured at all stand in for them, and DQ says ``REJECTED``.
    """
    ngood = kept.sum(axis=0, dtype=np.uint16)
    empty = ngood == 0
    measured = np.isfinite(strip.values) & np.isfinite(strip.variance) & ((strip.dq & DQ.NO_DATA) == 0)
    taken = np.where(empty, measured, kept)
    weights = np.ones_like(frames.weights) if median else frames.weights
    total = _weighted_sum(taken, weights)
    total[total == 0] = np.inf
    shared, independent = _variances(strip, taken, weights, frames.identities, total)
    if median:
        data = frame_median(strip.values, taken)
        count = taken.sum(axis=0)
        factors = np.array([0.0] + [median_variance(n) * n for n in range(1, len(taken) + 1)], np.float32)
        independent *= factors[count]
    else:
        data = _sum(strip.values, taken, weights) / total
    return Average(data, independent + shared, shared, _combined_dq(strip.dq, taken, empty), ngood)


def _weighted_sum(taken: BoolArray, weights: NDArray[np.float32]) -> FloatArray:
    total = np.zeros(taken.shape[1], np.float32)
    for row, weight in zip(taken, weights, strict=True):
        total += row * weight
    return total


def _sum(values: FloatArray, taken: BoolArray, weights: NDArray[np.float32]) -> FloatArray:
    result = np.zeros(values.shape[1], np.float32)
    for row, mask, weight in zip(values, taken, weights, strict=True):
        result += np.where(mask, row, ZERO) * weight
    return result


def _variances(
    strip: Strip, taken: BoolArray, weights: NDArray[np.float32], identities: Sequence[str], total: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Masters' part of the mean's variance, and the rest."""
    independent = _sum(strip.variance, taken, weights**2)
    shared = np.zeros_like(independent)
    if strip.shared is None:
        return shared, independent / total**2
    part = np.where(taken & np.isfinite(strip.shared), np.maximum(strip.shared, ZERO), ZERO)
    for identity in sorted(set(identities) - {""}):
        rows = [i for i, name in enumerate(identities) if name == identity]
        independent -= _sum(part[rows], taken[rows], weights[rows] ** 2)
        shared += _sum(np.sqrt(part[rows]), taken[rows], weights[rows]) ** 2
    return shared / total**2, np.asarray(np.maximum(independent, ZERO) / total**2, np.float32)


def _combined_dq(dq: DQArray, taken: BoolArray, empty: BoolArray) -> DQArray:
    used: DQArray = np.bitwise_or.reduce(np.where(taken, dq, np.uint16(0)), axis=0)
    if not empty.any():
        return used
    every = np.bitwise_or.reduce(dq, axis=0) | np.uint16(DQ.REJECTED)
    used[empty] = every[empty]
    used[empty & ~taken.any(axis=0)] |= np.uint16(DQ.NO_DATA)
    return used
