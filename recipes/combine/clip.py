"""Which values of a pixel are outliers among the frames, and whether the frames' noise is what they state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ccdflow.recipes.core.dq import BoolArray
from ccdflow.recipes.core.image import FloatArray
from ccdflow.recipes.core.statistics import NORMAL_MAD, frame_median, median, sampled, typical_size

Clip = Literal["variance", "mad", "sigma", "minmax", "none"]


@dataclass(frozen=True)
class ClipRule:
    """A rule by which values are clipped, worked out for certain frames.

    Parameters
    ----------
    clip : {'variance', 'mad', 'sigma', 'minmax', 'none'}
        What a value's distance from the median is measured by, see `ccdflow.recipes.combine.average.Combination`.
    sigma : float
        Limit in standard deviations.
    iterations : int
        Number of passes, at most.
    ratios : tuple of float
        Typical variance of each frame relative to the median over the frames; empty means 1.
    relative_noise : float
        Fraction of the median that counts as further noise in the clip ``variance``.
    floor : float
        The clip ``mad`` takes no standard deviation below this times the stated one: three or four values
        often lie close together by chance, and a plain MAD then rejects 2-7 % of good ones.

    Notes
    -----
    Values are compared with the median over the frames, again and again until none is rejected. All values of
    a pixel may be rejected, where an even number of them agree on no middle.

    A limit is `sigma` times a spread, times the frame's `widths`. The centre's own error is not in it: of good values
    3 sigma reject 0.5 % with 3 frames and 0.35 % with 10, where a centre without error would have 0.27 %.

    The clip ``variance`` takes the variance *at the median*, so that no value's own noise decides whether it
    stays: for frame i it is r_i times the median over the frames of V_j / r_j, where r is the frame's typical
    variance relative to the others'. For equal frames that is exact, since V grows with the value. For frames
    of different exposure, scaled to each other, r is that of the sky; in bright stars, where photon noise
    alone counts, the true ratio is nearer to 1, and the limit is off by the square root of that difference.
    """

    clip: Clip
    sigma: float = 3.0
    iterations: int = 10
    ratios: tuple[float, ...] = ()
    relative_noise: float = 0.0
    floor: float = 0.0

    def frame_ratios(self, n: int) -> FloatArray:
        """Return the typical variance of each frame relative to the median over the frames.

        Parameters
        ----------
        n : int
            Number of frames.

        Returns
        -------
        float32 array, shape (n,)
            1 where the rule has no ratios.
        """
        return np.asarray(self.ratios or [1.0] * n, np.float32)

    def widths(self, n: int) -> FloatArray:
        """Return the factor of each frame's limit: the square root of its ratio, where frames have their own noise.

        Parameters
        ----------
        n : int
            Number of frames.

        Returns
        -------
        float32 array, shape (n,)
            1 for clips that know one spread for all frames.
        """
        # ``sigma`` and a plain ``mad`` measure one spread of all values; ``minmax`` has no limit.
        own = self.clip == "variance" or (self.clip == "mad" and self.floor > 0)
        return np.sqrt(self.frame_ratios(n)) if own else np.ones(n, np.float32)

    @property
    def median_width(self) -> float:
        """Width of the limit of a typical frame, by which the clip ``mad`` divides where it has a floor."""
        return float(np.sqrt(np.median(self.ratios))) if self.ratios and self.floor > 0 else 1.0


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
