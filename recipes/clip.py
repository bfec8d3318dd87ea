"""Which values of a pixel are outliers among the frames, and whether the frames' noise is what they state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ccdflow.recipes.dq import BoolArray
from ccdflow.recipes.image import FloatArray
from ccdflow.recipes.statistics import NORMAL_MAD, frame_median, sampled, typical_size

Clip = Literal["variance", "mad", "sigma", "minmax", "none"]


@dataclass(frozen=True)
class Rule:
    """How values are clipped, worked out for a given set of frames.

    Parameters
    ----------
    clip : {'variance', 'mad', 'sigma', 'minmax', 'none'}
    sigma : float
        Limit in standard deviations.
    iterations : int
        At most so many.
    ratios : tuple of float
        Typical variance of each frame relative to the median over the frames; empty means 1.
    relative_noise : float
        Fraction of the median that counts as further noise in the clip ``variance``.
    floor : float
        The clip ``mad`` takes no standard deviation below this times the stated one: three or four values
        often lie close together by chance, and a plain MAD then rejects 2-7 % of good ones.
    """

    clip: Clip
    sigma: float = 3.0
    iterations: int = 10
    ratios: tuple[float, ...] = ()
    relative_noise: float = 0.0
    floor: float = 0.0


def clip_outliers(values: FloatArray, variance: FloatArray, used: BoolArray, rule: Rule) -> BoolArray:
    """Which of the used values are no outliers.

    Parameters
    ----------
    values, variance : float32 array, shape (n, npix)
        Where not used, anything.
    used : bool array, shape (n, npix)
        Values that count.
    rule : Rule
        The clip.

    Returns
    -------
    bool array, shape (n, npix)
        A new one. All values of a pixel may be rejected, where an even number of them agree on no middle.

    Notes
    -----
    The clip ``variance`` takes the variance *at the median*, so that no value's own noise decides whether it
    stays: for frame i it is r_i times the median over the frames of V_j / r_j, where r is the frame's typical
    variance relative to the others'. For equal frames that is exact, since V grows with the value. For frames
    of different exposure, scaled to each other, r is that of the sky; in bright stars, where photon noise
    alone counts, the true ratio is nearer to 1, and the limit is off by the square root of that difference.
    """
    kept = used.copy()
    if rule.clip == "none":
        return kept
    if rule.clip == "minmax":
        return _without_extremes(values, kept)
    outliers = _outliers(values, variance, kept, rule)
    kept &= ~outliers
    for _ in range(rule.iterations - 1):
        changed = np.flatnonzero(outliers.any(axis=0))
        if not changed.size:
            break
        some = kept[:, changed]
        outliers_there = _outliers(values[:, changed], variance[:, changed], some, rule)
        kept[:, changed] = some & ~outliers_there
        outliers = np.zeros_like(used)
        outliers[:, changed] = outliers_there
    return kept


def _without_extremes(values: FloatArray, kept: BoolArray) -> BoolArray:
    enough = np.flatnonzero(kept.sum(axis=0) >= 3)
    some, counted = values[:, enough], kept[:, enough]
    kept[np.where(counted, some, np.float32(np.inf)).argmin(axis=0), enough] = False
    kept[np.where(counted, some, np.float32(-np.inf)).argmax(axis=0), enough] = False
    return kept


def _outliers(values: FloatArray, variance: FloatArray, used: BoolArray, rule: Rule) -> BoolArray:
    centre = frame_median(values, used)
    widths = np.sqrt(_ratios(rule, len(values)))
    if rule.clip == "sigma":
        widths[:] = 1
        spread = _population_deviation(values, used)
    elif rule.clip == "mad":
        spread = _scaled_mad(values, used, centre)
        if rule.floor > 0:
            spread = np.maximum(
                spread / _median_width(rule), rule.floor * np.sqrt(_common(variance, used, rule))
            )
        else:
            widths[:] = 1
    else:
        spread = np.sqrt(_common(variance, used, rule) + (rule.relative_noise * centre) ** 2)
    limit = np.float32(rule.sigma) * spread
    result = np.empty_like(used)
    with np.errstate(invalid="ignore", over="ignore"):
        for i, width in enumerate(widths):
            result[i] = np.abs(values[i] - centre) > width * limit
    return result & used


def _ratios(rule: Rule, n: int) -> FloatArray:
    return np.asarray(rule.ratios or [1.0] * n, np.float32)


def _median_width(rule: Rule) -> np.float32:
    return np.float32(np.sqrt(np.median(rule.ratios))) if rule.ratios else np.float32(1)


def _common(variance: FloatArray, used: BoolArray, rule: Rule) -> FloatArray:
    """Median over the frames of the variance, each divided by its frame's typical ratio."""
    if not rule.ratios or set(rule.ratios) == {1.0}:
        return frame_median(variance, used)
    with np.errstate(invalid="ignore", over="ignore"):
        return frame_median(variance / _ratios(rule, len(variance))[:, None], used)


def _scaled_mad(values: FloatArray, used: BoolArray, centre: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", over="ignore"):
        return np.float32(NORMAL_MAD) * frame_median(np.abs(values - centre), used)


def _population_deviation(values: FloatArray, used: BoolArray) -> FloatArray:
    count = np.maximum(used.sum(axis=0), 1).astype(np.float32)
    mean = np.where(used, values, np.float32(0)).sum(axis=0) / count
    with np.errstate(invalid="ignore", over="ignore"):
        squares = np.where(used, (values - mean) ** 2, np.float32(0))
    return np.asarray(np.sqrt(squares.sum(axis=0) / count), np.float32)


def variance_ratios(variance: FloatArray, used: BoolArray) -> tuple[float, ...]:
    """Typical variance of each frame relative to the median over them; 1 where nothing can be compared."""
    common = frame_median(variance, used)
    ratios = []
    for row, counted in zip(variance, used, strict=True):
        here = counted & (common > 0)
        ratio = float(np.median(row[here] / common[here])) if here.any() else 1.0
        ratios.append(ratio if ratio > 0 else 1.0)
    return tuple(ratios)


def scatter_ratio(
    values: FloatArray,
    variance: FloatArray,
    used: BoolArray,
    ratios: Sequence[float],
    masters: tuple[Sequence[str], FloatArray | None],
) -> float | None:
    """Scatter between the frames over their stated noise; None where there is nothing to compare.

    Differences between a frame and the next, over what is stated for them: of unit standard deviation
    whatever the number of frames. What their masters brought cancels in the difference, if they are the same
    masters.

    Parameters
    ----------
    values, variance, used : arrays, shape (n, npix)
    ratios : sequence of float
        As from `variance_ratios`.
    masters : (sequence of str, float32 array or None)
        Each frame's identity of masters, and their part of the variance, shape (n, npix).
    """
    identities, shared = masters
    common = frame_median(variance / np.asarray(ratios, np.float32)[:, None], used)
    found = []
    for i in range(len(values) - 1):
        stated = (ratios[i] + ratios[i + 1]) * common
        if shared is not None and identities[i] and identities[i] == identities[i + 1]:
            stated = stated - 2 * np.sqrt(shared[i] * shared[i + 1])
        here = used[i] & used[i + 1] & (stated > 0)
        found.append((values[i][here] - values[i + 1][here]) / np.sqrt(stated[here]))
    differences = np.concatenate(found) if found else np.empty(0)
    return NORMAL_MAD * typical_size(sampled(differences)) if differences.size else None
