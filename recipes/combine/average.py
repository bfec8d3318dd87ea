"""Many frames into one, strip by strip, with clipping against the stated noise.

First a sample of all frames is looked at (`survey`): does the scatter between them agree with the variance that they
state? If so, values are clipped against that variance, which works with three frames as well as with twenty; if not,
against their own scatter, and the product says so. Then strips are averaged in threads by a compiled kernel.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.combine.clip import (
    Clip,
    ClipRule,
    FrameNoise,
    noise_of_frames,
    scatter_ratio,
    variance_ratios,
)
from ccdflow.recipes.core import memory
from ccdflow.recipes.core.image import FloatArray, Image, ImageSource
from ccdflow.recipes.core.statistics import median_variance, network, unequal_median_factor
from ccdflow.recipes.core.strips import (
    Calibration,
    Frames,
    StripReader,
    Survey,
    checked_frames,
    strips,
    survey,
)
from ccdflow.recipes.kernels.threads import in_threads

TRUSTED_SCATTER = (0.8, 1.25)
"""Measured scatter over stated noise between which the stated noise is trusted: a limit of 3 sigma then is one of 2.4
to 3.75 true ones."""
FALLBACK_SIGMA = 5.0
"""Limit of the clip by scatter, in standard deviations. The MAD of few values is often small by chance: a limit of 3
rejects 11 % of the good values of 3 frames and 4 % of those of 10; one of 5, 7 % and 0.6 %, and fewer with a floor."""
FEW_VALUES = 500_000
"""Values that one thread combines before a second one has begun."""
CLIPS: tuple[Clip, ...] = ("none", "minmax", "sigma", "mad", "variance")
"""In the order in which the kernel numbers them."""

Method = Literal["mean", "median"]
CombinedPlanes = tuple[FloatArray, FloatArray, FloatArray, NDArray[np.uint16], NDArray[np.uint16]]
"""Data, variance, masters' part of the variance (without rows if no frame has any), DQ and number of good values."""


@dataclass(frozen=True)
class Combination:
    """How frames are combined.

    Parameters
    ----------
    method : {'mean', 'median'}
        The mean is weighted by the frames' weights, the median is not.
    clip : {'variance', 'mad', 'sigma', 'minmax', 'none'}
        What a value's distance is measured by. ``variance``: its distance from the mean of all other frames, by the
        stated variance of both. ``mad`` and ``sigma``: its distance from the median over the frames, by 1.4826
        times the median absolute deviation, or the population standard deviation. ``minmax`` drops the lowest and
        the highest of three or more values.
    sigma : float
        Values further out than this many standard deviations are rejected.
    iterations : int
        Clipping is repeated until nothing more is rejected, at most so often. The clip ``variance`` rejects one value
        of a pixel at a time.
    relative_noise : float
        Fraction of the value that counts as further noise in the clip ``variance``, so that a change of
        seeing does not cut the cores of bright stars.

    Notes
    -----
    The clip ``sigma`` can't reject anything from few frames: an outlier widens the standard deviation that it is
    measured by. However far it is, it is n / √(n - 1) population standard deviations from the median of n values that
    are alike otherwise, which is below 3 for n < 8.
    """

    method: Method = "mean"
    clip: Clip = "variance"
    sigma: float = 3.0
    iterations: int = 100
    relative_noise: float = 0.0


@dataclass(frozen=True)
class Combined:
    """A combined frame, and what was learnt about its inputs.

    Parameters
    ----------
    image : Image
        In the frames' unit.
    ngood : uint16 array, shape (ny, nx)
        How many values stand behind each pixel; where it is 0 the pixel is excluded by its DQ.
    rejected : float
        Fraction of the usable values that were clipped.
    scatter_ratio : float or None
        Robust scatter between the frames over the stated noise, near 1 where the noise model is true; None
        where there is nothing to compare.
    clip : str
        The clip that was used; with `fell_back`, not the one that was asked for.
    fell_back : bool
        True if the scatter contradicted the stated noise, so that values were clipped at 5 sigma of their
        scatter instead.
    calibration_variance : float32 array or None, shape (ny, nx)
        The part of the variance that shared masters brought; None if no frame has masters.
    weights : tuple of float
        Each frame's part of the average, sum 1: alike in a median.
    spread : float
        Variance of the average over that of a mean with these weights: 1 for a mean.
    """

    image: Image
    ngood: NDArray[np.uint16]
    rejected: float
    scatter_ratio: float | None
    clip: Clip
    fell_back: bool
    calibration_variance: FloatArray | None
    weights: tuple[float, ...]
    spread: float


def combine(
    sources: Sequence[ImageSource],
    options: Combination,
    *,
    scales: Sequence[float] | None = None,
    weights: Sequence[float] | None = None,
    calibrations: Sequence[Calibration] | None = None,
    strip_rows: int | None = None,
) -> Combined:
    """Combine frames of one shape into one, holding one strip of all frames in memory.

    Parameters
    ----------
    sources : sequence of ImageSource
        Read in strips from top to bottom, after a survey of a few rows.
    options : Combination
        Method and clip.
    scales : sequence of float, optional
        Factor of each frame; its variance is multiplied by the square.
    weights : sequence of float, optional
        Weight of each frame in the mean; by default 1 over its typical variance. Weights are never per pixel: a pixel's
        own noise would then decide its weight, and bias the mean low.
    calibrations : sequence of (str, ImageSource or None), optional
        Identity of each frame's masters, and the part of the frame's variance that they brought. Between
        frames of equal identity (not ``""``) this part is the same error, and is not averaged down.
    strip_rows : int, optional
        Rows of a strip; by default what `STRIP_BYTES` allows. Never changes the result.

    Returns
    -------
    Combined
        DQ is the OR of the values used. Where none is left, it is the OR of all and ``REJECTED``, and data
        are the mean of what was measured there (a saturated star stays bright); where nothing was measured,
        data and variance are 0 and DQ has ``NO_DATA`` too.

    Raises
    ------
    ValueError
        If there is no frame, or their shapes or units differ, or a scale or weight is missing or not above 0.

    Notes
    -----
    With weights w of the values used, normalised to Σw = 1, V a value's variance and C the masters' part in
    it,

        variance = Σ w² (V - C) + Σ over identities (Σ w √C)²

    and for the median the first term is `median_variance(n)` · mean(V - C), with w = 1/n in the second; for frames of
    unequal variance it is less, see `unequal_median_factor`.

    The first term is that of independent errors. Masters give all their frames the same error e, of which the mean
    holds Σ w e: frames of equal weight hold it once, however many they are (for n frames that share a bias,
    σ²/n + σ_b²). A part C below 0 or not finite counts as 0, a difference V - C below 0 as 0.

    A value is left out if its bits exclude it, or it, its variance or its masters' part is not finite. Nothing is
    flagged ``REJECTED`` where at least one value is left.

    Examples
    --------
    Three frames with a noise of 5 electron, one of them hit by a cosmic ray of 1000 electron in its first pixel:

    >>> rng = np.random.default_rng(1)
    >>> def frame():
    ...     data = rng.normal(100, 5, (50, 50)).astype(np.float32)
    ...     return Image(data, np.full_like(data, 25), np.zeros(data.shape, np.uint16), "electron")
    >>> frames = [frame() for _ in range(3)]
    >>> frames[1].data[0, 0] += 1000
    >>> combined = combine(frames, Combination())
    >>> combined.ngood[0, :3]
    array([2, 3, 3], dtype=uint16)
    >>> combined.image.variance[0, :3].round(2)
    array([12.5 ,  8.33,  8.33], dtype=float32)
    """
    frames = checked_frames(sources, scales, weights, calibrations)
    # The rule is chosen once for all pixels: chosen pixel by pixel, it would follow the noise.
    sample = survey(frames)
    noise = noise_of_frames(sample, frames.identities)
    rule, scatter = _choose_rule(frames, options, sample, noise)
    if weights is None:
        frames = replace(frames, weights=np.float32(1) / np.asarray(noise.ratios, np.float32))
    planes, (usable, rejected) = run_kernel(
        frames, rule, median=options.method == "median", strip_rows=strip_rows
    )
    data, variance, shared, dq, ngood = planes
    n, median = len(sources), options.method == "median"
    parts = np.ones(n) if median else frames.weights.astype(np.float64)
    return Combined(
        image=Image(data, variance, dq, sources[0].unit),
        ngood=ngood,
        rejected=rejected / max(usable, 1),  # none is usable where all pixels are flagged
        scatter_ratio=scatter,
        clip=rule.clip,
        fell_back=rule.clip != options.clip and len(sources) > 1,
        calibration_variance=shared if any(frames.identities) else None,
        weights=tuple((parts / parts.sum()).tolist()),
        spread=float(_variance_factors(rule, n, median=median)[n]),
    )


def run_kernel(
    frames: Frames, rule: ClipRule, *, median: bool, strip_rows: int | None = None, threads: int | None = None
) -> tuple[CombinedPlanes, tuple[int, int]]:
    """Average frames strip by strip, values clipped by a rule that is already chosen.

    Neither the height of the strips nor the number of threads changes the result.

    Parameters
    ----------
    frames : Frames
        As from `checked_frames`.
    rule : ClipRule
        What is clipped.
    median : bool
        True for the median of what is left, False for the weighted mean.
    strip_rows : int, optional
        Rows of a strip; by default what memory allows.
    threads : int, optional
        By default as many as there are cores, for few values one.

    Returns
    -------
    (CombinedPlanes, (int, int))
        Planes of shape ``(ny, nx)``; the number of values that were usable, and of those that were rejected.
    """
    combination = _KernelArguments.of(frames, rule, median=median)
    parts = list(strips(frames.shape, len(frames.sources), strip_rows))
    if threads is None and len(frames.sources) * frames.shape[0] * frames.shape[1] < FEW_VALUES:
        threads = 1
    counts = in_threads(combination.work, parts, threads=threads)
    return combination.planes, (sum(usable for usable, _ in counts), sum(lost for _, lost in counts))


@dataclass(frozen=True)
class _KernelArguments:
    """What the kernel is told for each strip, and the planes that it writes.

    `ccdflow.recipes.kernels.combine_kernels.combine_strip` says what stands in each array.
    """

    frames: Frames
    options: tuple[NDArray[np.int64], NDArray[np.int64]]
    exchanges: NDArray[np.int64]
    numbers: FloatArray
    table: FloatArray
    factors: FloatArray
    planes: CombinedPlanes

    @classmethod
    def of(cls, frames: Frames, rule: ClipRule, *, median: bool) -> "_KernelArguments":
        n = len(frames.sources)
        # Identities of masters become numbers; -1 stands for masters of which nothing is known.
        groups = sorted(set(frames.identities) - {""})
        group = [groups.index(identity) if identity else -1 for identity in frames.identities]
        shares = rule.noise.shares and bool(groups)
        choices = [CLIPS.index(rule.clip), rule.iterations, median, len(groups), rule.by_noise, shares]
        # The kernel's floats are float32 throughout, as the images are: a vector holds twice as many of them.
        table = [frames.scales, frames.weights, np.ones(n, np.float32), *rule.table(n)]
        return cls(
            frames,
            (np.array(choices, np.int64), np.array(group, np.int64)),
            network(n),
            rule.numbers(n),
            np.stack(table),
            _variance_factors(rule, n, median=median),
            (
                memory.empty(frames.shape, np.float32),
                memory.empty(frames.shape, np.float32),
                memory.empty(frames.shape if groups else (0, frames.shape[1]), np.float32),
                memory.empty(frames.shape, np.uint16),
                memory.empty(frames.shape, np.uint16),
            ),
        )

    def work(self, parts: Iterator[slice]) -> tuple[int, int]:
        """Combine strips; return how many values were usable and how many of them were rejected.

        Parameters
        ----------
        parts : iterator of slice
            Rows of each strip; threads share one iterator.

        Returns
        -------
        (int, int)
        """
        # LLVM takes a twentieth of a second to load, and most commands never need it.
        from ccdflow.recipes.kernels.combine_kernels import combine_strip, room_for

        usable = rejected = 0
        reader: StripReader | None = None
        for rows in parts:
            # Each thread has one reader and one room for all its strips.
            if reader is None:
                reader = StripReader(self.frames, rows.stop - rows.start, uniform=True)
                room = room_for(*reader.shape)
            strip = reader.read(rows)
            # Whole rows of C-contiguous planes: reshape gives views, so that the kernel writes into the planes.
            out = tuple(plane[rows].reshape(-1) for plane in self.planes)
            counts = combine_strip(
                self.options,
                self.exchanges,
                self.numbers,
                self.table,
                self.factors,
                (strip.values, strip.variance, strip.shared, strip.dq, strip.uniform),
                out,
                room,
            )
            usable, rejected = usable + counts[0], rejected + counts[1]
        return usable, rejected


def _variance_factors(rule: ClipRule, n: int, *, median: bool) -> FloatArray:
    """Variance of the average of k values over that of their mean, by k from 0 to n."""
    if not median:
        return np.ones(n + 1, np.float32)
    # Worked out for all frames; where values are missing it is taken for those that are left.
    unequal = unequal_median_factor(rule.noise.ratios or (1.0,))
    return np.array([0.0, *(median_variance(k) * k * unequal for k in range(1, n + 1))], np.float32)


def _known_rule(frames: Frames, options: Combination, noise: FrameNoise) -> ClipRule | None:
    """Clip that does not depend on the frames' scatter."""
    # One frame has nothing to be clipped against.
    if len(frames.sources) == 1:
        return ClipRule("none")
    if options.clip == "variance":
        return None
    return ClipRule(options.clip, options.sigma, options.iterations, noise)


def _choose_rule(
    frames: Frames, options: Combination, sample: Survey, noise: FrameNoise
) -> tuple[ClipRule, float | None]:
    """Clip that the frames' scatter allows, and that scatter over the stated noise."""
    # Measured even where the clip does not depend on it: it is a quality number of every combination.
    ratios = variance_ratios(sample.variance, sample.used) if noise.shares else noise.ratios
    masters = (frames.identities, sample.shared)
    scatter = scatter_ratio(sample.values, sample.variance, sample.used, ratios, masters)
    if (known := _known_rule(frames, options, noise)) is not None:
        return known, scatter
    if scatter is not None and not TRUSTED_SCATTER[0] <= scatter <= TRUSTED_SCATTER[1]:
        return ClipRule("mad", FALLBACK_SIGMA, options.iterations, noise, floor=scatter), scatter
    # Values, but nothing to compare them with: the frames state a variance of 0.
    if scatter is None and sample.used.any():
        return ClipRule("mad", FALLBACK_SIGMA, options.iterations), scatter
    return ClipRule("variance", options.sigma, options.iterations, noise, options.relative_noise), scatter
