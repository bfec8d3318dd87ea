"""Which values of a pixel are outliers among the frames, and whether the frames' noise is what they state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.core.dq import BoolArray
from ccdflow.recipes.core.image import FloatArray
from ccdflow.recipes.core.statistics import NORMAL_MAD, frame_median, median, sampled, typical_size
from ccdflow.recipes.core.strips import Survey

Clip = Literal["variance", "mad", "sigma", "minmax", "none"]


NEGLIGIBLE = 1e-4
"""Part of the variance that changes no limit that anybody could tell: frames that are alike keep one limit."""
LEVEL_VALUES = 2000
"""Pixels of each frame that tell slopes and level: to a few percent, which is enough for a limit."""
OUTWEIGHS = 2.2
"""By how much the square of a limit grows with the logarithm of a frame's weight over that of all others."""
LEAST_NOISE = 0.05
"""Fraction of the typical variance below which none is believed in a pixel: it would come from a slope that is off."""


@dataclass(frozen=True)
class FrameNoise:
    """The noise of some frames against each other's, as far as it is one number for each frame.

    Parameters
    ----------
    ratios : tuple of float
        Typical variance of each frame relative to the median over the frames; empty means 1.
    slopes : tuple of float
        By how much each frame's variance grows with the value: for photon noise the unit that 1 electron has become,
        1 for electron, 1/t for rates. Empty means 0.
    apart : tuple of float
        Variance, in units of the typical one, that shared masters bring between each frame and the mean of all, since
        they weigh more in a short exposure that is scaled up than in a long one; empty means 0.
    level : float
        Value for which the ratios hold.
    typical : float
        Typical variance of a frame of ratio 1.
    shares : bool
        True if all frames share their masters, whose part of the variance is no noise between them then.
    """

    ratios: tuple[float, ...] = ()
    slopes: tuple[float, ...] = ()
    apart: tuple[float, ...] = ()
    level: float = 0.0
    typical: float = 0.0
    shares: bool = False

    def of_each(self, n: int) -> tuple[NDArray[np.float64], ...]:
        """Return ratios, slopes and what shared masters bring apart.

        Parameters
        ----------
        n : int
            Number of frames.

        Returns
        -------
        three float64 arrays, shape (n,)
        """
        rows = (self.ratios, 1.0), (self.slopes, 0.0), (self.apart, 0.0)
        return tuple(np.asarray(values or [default] * n, np.float64) for values, default in rows)

    def common_slope(self, n: int) -> float:
        """Return by how much the variance of a frame of ratio 1 grows with the value.

        Parameters
        ----------
        n : int
            Number of frames.
        """
        ratios, slopes, _ = self.of_each(n)
        return float(np.mean(slopes / ratios))


def limits_squared(sigma: float, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the square of each frame's limit, in standard deviations of its residual.

    Parameters
    ----------
    sigma : float
        Limit of a frame that does not outweigh all others.
    shares : float64 array, shape (n,)
        Each frame's part of the weights, sum 1.

    Returns
    -------
    float64 array, shape (n,)

    Notes
    -----
    A good value that is rejected costs the mean w/(1-w) z² of its variance, for a frame of share w whose residual is z
    standard deviations. For frames of w up to 1/2 that is little. A deep frame that outweighs all others can't be had
    back, and at 3 sigma its false rejections alone would double the variance of 3 x 10 s + 1000 s. So its limit is
    where the loss stays that of w = 1/2: E[z²; |z| > k] = 2 (k φ(k) + Q(k)) falls as exp(-k²/2), whence k² = sigma² +
    2.2 ln(w/(1-w)), to 3 % of k for sigma 3. Nothing is missed by that: an outlier of 5 sigma of such a frame
    is hidden by the noise of the others in any case.

    Of two values each may be the wrong one, and both go: their limit is sigma √(1 + min(1, w/(1-w))), which for
    equal frames is `sigma` about their middle.
    """
    odds = np.divide(shares, 1 - shares, out=np.ones_like(shares), where=shares < 1)
    limits = sigma**2 + OUTWEIGHS * np.log(np.maximum(odds, 1))
    return limits + sigma**2 * np.minimum(odds, 1) if len(shares) == 2 else limits


@dataclass(frozen=True)
class ClipRule:
    """A rule by which values are clipped, worked out for certain frames.

    Parameters
    ----------
    clip : {'variance', 'mad', 'sigma', 'minmax', 'none'}
        What a value's distance is measured by, see `ccdflow.recipes.combine.average.Combination`.
    sigma : float
        Limit in standard deviations.
    iterations : int
        Number of passes, at most.
    noise : FrameNoise
        What is known of the frames' noise.
    relative_noise : float
        Fraction of the mean that counts as further noise in the clip ``variance``.
    floor : float
        The clip ``mad`` takes no standard deviation below this times the stated one: three or four values
        often lie close together by chance, and a plain MAD then rejects 2-7 % of good ones.

    Notes
    -----
    Where the frames' noise is known (`by_noise`), each value is compared with the mean of all the others, every frame
    weighted by its precision, and the error of that mean is in its limit. So a deep frame is not thrown out because
    three shallow ones scatter, and a value is found that only a deep frame can tell to be wrong. The farthest value
    of a pixel goes first, and the others are then looked at again: an outlier pulls the mean, and makes good values
    look bad. Of good values 0.27 % are rejected at 3 sigma, whatever the number and the depth of the frames, and
    fewer of a frame that outweighs all others, see `limits_squared`.

    The variance is taken *at the mean* c, so that no value's own noise decides whether it stays: V_i(c) = V_i + p_i
    (c - x_i) with slopes p_i. Up to the level l for which the ratios r hold, the frames share one variance, V(c) =
    mean of V_i(c)/r_i but for the largest, and frame i has r_i V(c). Above it, in stars, each frame's variance grows
    by its own slope: r_i V(l) + p_i (c - l). There photon noise rules, and a deep frame is better by its exposure
    time alone, not by the square of it as where read noise does.

    Otherwise (``sigma``, and a plain ``mad``) values are compared with their median, again and again until none is
    rejected.
    """

    clip: Clip
    sigma: float = 3.0
    iterations: int = 100
    noise: FrameNoise = FrameNoise()
    relative_noise: float = 0.0
    floor: float = 0.0

    @property
    def by_noise(self) -> bool:
        """Whether values are held against the frames' own noise about their mean."""
        return self.clip == "variance" or (self.clip == "mad" and self.floor > 0)

    def table(self, n: int) -> FloatArray:
        """Return what is known of each frame, and its limit where all frames have a value, as the kernel takes them.

        Parameters
        ----------
        n : int
            Number of frames.

        Returns
        -------
        float32 array, shape (7, n)
            Precision (1 over the ratio), slope, ratio, `FrameNoise.apart`; and by how much the square of its limit
            grows with the common variance, with light above the level, and with the square of a change of light.

        Notes
        -----
        Of frames with variances V_i the mean with weights w_i, normalised to Σw = 1, leaves a residual of variance
        V_i (1 - 2 w_i) + Σ w_j² V_j. For w = 1/V it is V_i - 1/Σ(1/V): to hold it against that is to compare a value
        with the mean of all others, whose own error is in the limit (the deleted residual of regression).

        References
        ----------
        Belsley, Kuh & Welsch 1980, Regression Diagnostics, section 2.1.
        """
        ratios, slopes, apart = self.noise.of_each(n)
        precision = 1 / ratios
        shares = precision / precision.sum()
        lost, squares = 1 - 2 * shares, shares**2
        own = ratios * lost + (squares * ratios).sum() + apart
        own_photon = slopes * lost + (squares * slopes).sum()
        limits = limits_squared(self.sigma, shares)
        rows = (
            precision,
            slopes,
            ratios,
            apart,
            limits * own,
            limits * own_photon,
            limits * (lost + squares.sum()),
        )
        return np.stack(rows).astype(np.float32)

    def numbers(self, n: int) -> FloatArray:
        """Return the numbers that hold for all frames, as the kernel takes them.

        Parameters
        ----------
        n : int
            Number of frames.

        Returns
        -------
        float32 array, shape (9,)
            Limit squared, relative noise, floor, width of a typical frame, mean slope, level, least variance, and
            growth of the limit squared with a frame's weight, and how far a value at its limit lifts the mean.
        """
        noise = self.noise
        width = float(np.sqrt(np.median(noise.ratios))) if noise.ratios and self.floor > 0 else 1.0
        change = self.relative_noise if self.clip == "variance" else 0.0
        least = LEAST_NOISE * noise.typical if noise.slopes else 0.0
        rest = noise.common_slope(n), noise.level, least, OUTWEIGHS
        return np.array([self.sigma**2, change, self.floor, width, *rest, self._lift(n)], np.float32)

    def _lift(self, n: int) -> float:
        ratios, _, _ = self.noise.of_each(n)
        shares = (1 / ratios) / (1 / ratios).sum()
        odds = np.divide(shares, 1 - shares, out=np.zeros(n), where=shares < 1)
        # A residual at its limit is as many standard deviations √(r (1 - w)); the mean of the others is odds times as
        # far.
        return float((odds * np.sqrt(limits_squared(self.sigma, shares) * ratios * (1 - shares))).max())


def noise_of_frames(sample: Survey, identities: Sequence[str]) -> FrameNoise:
    """Return what the clip must know of the frames' noise.

    Parameters
    ----------
    sample : Survey
        Values of all frames at some pixels.
    identities : sequence of str
        Each frame's identity of masters.

    Returns
    -------
    FrameNoise
    """
    shares = sample.shared is not None and len(set(identities)) == 1 and bool(identities[0])
    shared = np.maximum(sample.shared, 0) if shares and sample.shared is not None else None
    variance = sample.variance if shared is None else np.maximum(sample.variance - shared, 0)
    ratios = variance_ratios(variance, sample.used)
    # Numbers that hold for all frames alike need no more values than these.
    step = max(sample.values.shape[1] // LEVEL_VALUES, 1) | 1  # odd, so that it does not keep to some columns
    used = sample.used[:, ::step]
    # What stands in excluded pixels may be anything, numbers that overflow included.
    with np.errstate(invalid="ignore", over="ignore"):
        typical = (variance[:, ::step] / np.asarray(ratios, np.float32)[:, None])[used]
    values = sample.values[:, ::step][used]
    size = float(median(typical)) if typical.size else 0.0
    return FrameNoise(
        ratios,
        photon_slopes(sample.values[:, ::step], variance[:, ::step], used),
        _apart(shared, sample.used, ratios, size),
        float(median(values)) if values.size else 0.0,
        size,
        shares,
    )


def photon_slopes(values: FloatArray, variance: FloatArray, used: BoolArray) -> tuple[float, ...]:
    """Return by how much each frame's variance grows with its values.

    Parameters
    ----------
    values, variance : float32 arrays, shape (n, npix)
        Scaled to each other.
    used : bool array, shape (n, npix)
        False where a value does not count.

    Returns
    -------
    tuple of float
        Not below 0; empty where no frame's variance grows.

    Notes
    -----
    The median variance of the upper third of the values less that of the lower third, over the difference of their
    median values: a few variances that come from elsewhere do not tilt it.
    """
    rows = zip(values, variance, used, strict=True)
    slopes = tuple(_slope(row[counted], spread[counted]) for row, spread, counted in rows)
    return slopes if any(slopes) else ()


def _slope(values: FloatArray, variance: FloatArray) -> float:
    if values.size < 3 or variance.min() == variance.max():
        return 0.0
    # Stable: of equal values, which whole adu often are, each processor's own order would take other variances.
    order, third = np.argsort(values, kind="stable"), values.size // 3
    low, high = order[:third], order[-third:]
    distance = float(median(values[high]) - median(values[low]))
    growth = float(median(variance[high]) - median(variance[low]))
    return max(growth / distance, 0.0) if distance > 0 else 0.0


def _apart(
    shared: FloatArray | None, used: BoolArray, ratios: Sequence[float], typical: float
) -> tuple[float, ...]:
    """Variance between each frame and the mean of all that shared masters bring, in units of the typical one."""
    if shared is None or not typical > 0:
        return ()
    # Masters give all frames one error, times another factor each: its size in each frame is √C.
    sizes = np.array(
        [
            float(median(np.sqrt(row[here]))) if here.any() else 0.0
            for row, here in zip(shared, used, strict=True)
        ]
    )
    differences = sizes - np.average(sizes, weights=1 / np.asarray(ratios))
    apart = differences**2 / typical
    return tuple(apart.tolist()) if apart.max() > NEGLIGIBLE else ()


def variance_ratios(variance: FloatArray, used: BoolArray) -> tuple[float, ...]:
    """Return the typical variance of each frame relative to the median over the frames.

    Parameters
    ----------
    variance : float32 array, shape (n, npix)
        Scaled like the values.
    used : bool array, shape (n, npix)
        False where a value does not count.

    Returns
    -------
    tuple of float
        Above 0; 1 where nothing can be compared, or the variances are 0.
    """
    common = frame_median(variance, used)
    ratios = []
    for row, counted in zip(variance, used, strict=True):
        here = counted & (common > 0)
        # Frames of one variance are the rule for biases: their ratio is 1 without looking for a median.
        alike = not (here & (row != common)).any()
        ratio = 1.0 if alike else float(median(row[here] / common[here]))
        ratios.append(ratio if ratio > 0 else 1.0)
    return tuple(ratios)


def scatter_ratio(
    values: FloatArray,
    variance: FloatArray,
    used: BoolArray,
    ratios: Sequence[float],
    masters: tuple[Sequence[str], FloatArray | None],
) -> float | None:
    """Return the scatter between the frames over their stated noise.

    Parameters
    ----------
    values, variance : float32 arrays, shape (n, npix)
        Scaled to each other.
    used : bool array, shape (n, npix)
        False where a value does not count.
    ratios : sequence of float
        As from `variance_ratios`.
    masters : (sequence of str, float32 array or None)
        Each frame's identity of masters, and their part of the variance, shape (n, npix).

    Returns
    -------
    float or None
        Near 1 where the noise model is true; None where there is nothing to compare: fewer than two frames, or no
        variance above 0.

    Notes
    -----
    Differences between a frame and the next, over the root of r_i V + r_(i+1) V, V being the median over the frames
    of V_j / r_j: of unit standard deviation whatever the number of frames. It is measured robustly (MAD), so that
    cosmic rays do not count. What their masters brought cancels in the difference, if they are the same masters:
    2 √(C_i C_(i+1)) is taken off the stated variance.
    """
    # Neighbours in the order of the inputs, as a rule that of time: seeing and sky have changed least between them.
    identities, shared = masters
    common = frame_median(variance / np.asarray(ratios, np.float32)[:, None], used)
    pulls = []
    for i in range(len(values) - 1):
        stated = (ratios[i] + ratios[i + 1]) * common
        if shared is not None and identities[i] and identities[i] == identities[i + 1]:
            stated = stated - 2 * np.sqrt(shared[i] * shared[i + 1])
        here = used[i] & used[i + 1] & (stated > 0)
        pulls.append((values[i][here] - values[i + 1][here]) / np.sqrt(stated[here]))
    # About 0, not about their median: skies that differ are a scatter that no stated noise explains.
    all_pulls = np.concatenate(pulls) if pulls else np.empty(0)
    return NORMAL_MAD * typical_size(sampled(all_pulls)) if all_pulls.size else None
