"""What `combine` must give, worked out pixel by pixel in double precision, with no thought of speed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ccdflow.recipes.combine.clip import ClipRule
from ccdflow.recipes.core.dq import DQ, EXCLUDED
from ccdflow.recipes.core.statistics import NORMAL_MAD, median_variance


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
    kept = clipped(values, variance, used.copy(), rule)
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
    independent = max(independent, 0) * (median_variance(n) * n if median else 1)
    data = np.median(values[taken]) if median else np.average(values[taken], weights=w[taken])
    total = w.sum() ** 2
    return Expected(float(data), (independent + common) / total, common / total, bits, int(kept.sum()))


def clipped(values: np.ndarray, variance: np.ndarray, kept: np.ndarray, rule: ClipRule) -> np.ndarray:
    """Which of the values that are kept so far are no outliers."""
    if rule.clip == "minmax" and kept.sum() >= 3:
        order = [i for i in np.argsort(values, kind="stable") if kept[i]]
        kept[[order[0], order[-1]]] = False
    if rule.clip in ("none", "minmax"):
        return kept
    ratios = rule.frame_ratios(len(values)).astype(float)
    for _ in range(rule.iterations):
        if not kept.any():
            break
        centre = np.median(values[kept])
        common = np.median((variance / ratios)[kept])
        if rule.clip == "sigma":
            spread = values[kept].std()
        elif rule.clip == "mad":
            mad = NORMAL_MAD * np.median(np.abs(values[kept] - centre))
            spread = max(mad / rule.median_width, rule.floor * np.sqrt(common)) if rule.floor else mad
        else:
            spread = np.sqrt(common + (rule.relative_noise * centre) ** 2)
        outliers = kept & (np.abs(values - centre) > rule.sigma * spread * rule.widths(len(values)))
        if not outliers.any():
            break
        kept &= ~outliers
    return kept
