"""What `combine` must give, worked out pixel by pixel in double precision, with no thought of speed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ccdflow.recipes.combine.clip import ClipRule
from ccdflow.recipes.core.dq import DQ, EXCLUDED
from ccdflow.recipes.core.statistics import NORMAL_MAD, median_variance, unequal_median_factor


@dataclass(frozen=True)
class Expected:
    """The average of one pixel."""

    data: float
    variance: float
    shared: float
    dq: int
    ngood: int


def average_pixel(
    values: np.ndarray,
    variance: np.ndarray,
    shared: np.ndarray,
    dq: np.ndarray,
    weights: np.ndarray,
    identities: Sequence[str],
    rule: ClipRule,
    median: bool,
) -> Expected:
    """Clip one pixel of all frames by a rule, and average what is left."""
    finite = np.isfinite(values) & np.isfinite(variance)
    part = np.array([bool(identity) for identity in identities])
    used = ((dq & EXCLUDED) == 0) & finite & (np.isfinite(shared) | ~part)
    kept = clipped(values, variance, shared, used.copy(), rule)
    bits = int(np.bitwise_or.reduce(dq[kept])) if kept.any() else int(np.bitwise_or.reduce(dq)) | DQ.REJECTED
    taken = kept if kept.any() else finite & ((dq & DQ.NO_DATA) == 0)
    if not taken.any():
        return Expected(0, 0, 0, bits | DQ.NO_DATA, 0)
    w = np.where(taken, 1.0 if median else weights, 0.0)
    common = independent = 0.0
    for i in np.flatnonzero(taken):
        brought = max(shared[i], 0) if part[i] and np.isfinite(shared[i]) else 0
        independent += (variance[i] - brought) * w[i] ** 2
    for identity in set(identities) - {""}:
        rows = [i for i in np.flatnonzero(taken) if identities[i] == identity and np.isfinite(shared[i])]
        common += sum(np.sqrt(max(shared[i], 0)) * w[i] for i in rows) ** 2
    n = int(taken.sum())
    unequal = unequal_median_factor(rule.noise.ratios or (1.0,)) if median else 1.0
    independent = max(independent, 0) * (median_variance(n) * n * unequal if median else 1)
    data = np.median(values[taken]) if median else np.average(values[taken], weights=w[taken])
    total = w.sum() ** 2
    return Expected(float(data), (independent + common) / total, common / total, bits, int(kept.sum()))


def clipped(
    values: np.ndarray, variance: np.ndarray, shared: np.ndarray, kept: np.ndarray, rule: ClipRule
) -> np.ndarray:
    """Which of the values that are kept so far are no outliers."""
    if rule.clip == "minmax" and kept.sum() >= 3:
        order = [i for i in np.argsort(values, kind="stable") if kept[i]]
        kept[[order[0], order[-1]]] = False
    if rule.clip in ("none", "minmax"):
        return kept
    if rule.by_noise:
        return clipped_by_noise(values, variance, shared, kept, rule)
    for _ in range(rule.iterations):
        if not kept.any():
            break
        centre = np.median(values[kept])
        spread = values[kept].std() if rule.clip == "sigma" else mad(values[kept])
        outliers = kept & (np.abs(values - centre) > rule.sigma * spread)
        if not outliers.any():
            break
        kept &= ~outliers
    return kept


def mad(values: np.ndarray) -> float:
    """1.4826 times the median absolute deviation."""
    return NORMAL_MAD * np.median(np.abs(values - np.median(values)))


def clipped_by_noise(
    values: np.ndarray, variance: np.ndarray, shared: np.ndarray, kept: np.ndarray, rule: ClipRule
) -> np.ndarray:
    """One value at a time, the farthest: each compared with the weighted mean of the others."""
    n, noise = len(values), rule.noise
    ratios = np.array(noise.ratios or [1.0] * n)
    slopes, apart = np.array(noise.slopes or [0.0] * n), np.array(noise.apart or [0.0] * n)
    variance = variance - np.where(kept & noise.shares, np.maximum(shared, 0), 0)
    for _ in range(rule.iterations):
        chosen = np.flatnonzero(kept)
        if chosen.size < 2:
            break
        x, w = values[chosen], 1 / ratios[chosen]
        mean = np.average(x, weights=w)
        # The mean of the others, for each value, and its weight against theirs.
        rest, odds = w.sum() - w, w / (w.sum() - w)
        others = (w @ x - w * x) / rest
        common, wider = common_variance(variance[chosen], slopes[chosen], ratios[chosen], x, mean, rule)
        change = (rule.relative_noise * mean) ** 2 if rule.clip == "variance" else 0
        light = np.maximum(others - noise.level, 0) * wider
        # Variances of all frames (columns) at the level that the others of each frame (rows) have.
        own = ratios[chosen] * common + np.outer(light, slopes[chosen]) + change
        error = np.diag(own) + (own @ w**2 - w**2 * np.diag(own)) / rest**2
        # What masters bring apart is told for the residual about the mean of all, which is w/rest times shorter.
        errors = error + apart[chosen] * common * (w.sum() / rest) ** 2
        pulls = (x - others) ** 2 / errors
        limits = rule.sigma**2 + 2.2 * np.log(np.maximum(odds, 1))
        limits += rule.sigma**2 * np.minimum(odds, 1) if chosen.size == 2 else 0
        outside = pulls > limits
        if chosen.size == 2:
            kept[chosen[outside]] = False
            break
        farthest = np.argmax(np.where(outside & (x > others), pulls / 0.95**2, pulls))
        if not outside[farthest]:
            break
        kept[chosen[farthest]] = False
    return kept


def common_variance(
    variance: np.ndarray, slopes: np.ndarray, ratios: np.ndarray, x: np.ndarray, mean: float, rule: ClipRule
) -> tuple[float, float]:
    """Variance at the mean, or the level, of a frame of ratio 1, and by what the spread is wider than stated."""
    noise = rule.noise
    each = np.sort((variance + slopes * (min(mean, noise.level) - x)) / ratios)
    common = each[:-1].mean() if each.size > 2 else each.mean()
    common = max(common, 0.05 * noise.typical if noise.slopes else 0.0)
    if rule.clip != "mad":
        return common, 1.0
    light = max(mean - noise.level, 0.0)
    slope = noise.common_slope(len(noise.ratios))
    light = max(light - rule.numbers(len(noise.ratios))[8] * np.sqrt(common + slope * light), 0.0)
    stated = common + light * slope
    width = np.sqrt(np.median(noise.ratios)) if noise.ratios else 1.0
    wider = max(mad(x) / width, rule.floor * np.sqrt(stated)) ** 2 / stated
    return common * wider, wider
