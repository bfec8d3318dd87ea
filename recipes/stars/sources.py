"""Stars of one image: where they are, how bright, how sharp, and whether they can be trusted."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ccdflow.recipes.core import memory
from ccdflow.recipes.core.dq import DQ, BoolArray, DQArray
from ccdflow.recipes.core.image import FloatArray, Image

Floats = NDArray[np.float64]

_PROMINENCE = 5.0
"""In sigma: a peak that rises less above the saddle towards a higher one is no star of its own."""
_PIXELS_PER_BRIGHT = 8
"""One in so many pixels of the image may lie above the threshold.

Where more do, the threshold rises: a crowded field has enough bright stars, and memory is bounded.
"""
_LEAST_ROOM = 65536
"""Pixels above the threshold for which there is room even in a small image, which one star may fill."""
_NARROW = 0.00694
"""Determinant of the second moments (1/144) below which a star is as narrow as a pixel, whose own is 1/12."""
_MOST_PROFILES = 2000
"""Stars whose widths are measured, the brightest ones; fainter ones are never usable."""
_MOST_TYPICAL = 200
"""Stars whose median width is taken, the ones with the highest peaks; it is then known to a per cent."""
_CLEAR_PEAK = 20.0
"""In sigma of the sky: neighbours and noise widen fainter stars."""
_FEW_CLEAR = 10
"""With fewer clear peaks than that, fainter stars tell the width too."""
_PIXEL_MOMENT = 1 / 12
"""Second moment, in pixel², of a square pixel of side 1."""
_ROUND = 0.5
"""Ellipticity from which on a star is a trail, a galaxy or a blend, and not usable."""
_NARROWEST, _WIDEST = 0.6, 1.7
"""Widths of usable stars, in units of the typical one: hot pixels are narrower, blends and galaxies wider."""
_APERTURE = 1.5
"""Radius of the aperture in units of the FWHM; holds nearly all of a Gaussian star."""
_APERTURE_WITHOUT_FWHM = 3.0
"""Pixels: radius of the aperture where no star tells the width."""
_LEAST_WINDOW = 0.5
"""Pixels: sigma of the window of a star as narrow as a pixel."""
_CORE = 2, 15
"""Pixels: least and most half side of a core, which otherwise is twice the rms radius of a star."""


@dataclass(frozen=True)
class Detection:
    """Settings by which stars are found.

    Parameters
    ----------
    threshold : float
        Signal over noise, in standard deviations, that a pixel of a star must exceed.
    mesh : int
        Side in pixels of the boxes in which the background is measured.
    min_area : int
        Number of pixels above the threshold that a star has at least.
    """

    threshold: float = 5.0
    mesh: int = 64
    min_area: int = 5


@dataclass(frozen=True)
class Stars:
    """The stars of one image, brightest first; `x` and `y` count pixels from 0 at the first pixel's centre.

    Parameters
    ----------
    x, y : float arrays
        Windowed centroids.
    flux : float array
        In the image's unit, above the background, within 1.5 FWHM of the centre.
    ellipticity : float array
        1 − b/a of the second moments.
    saturated, usable : bool arrays
        Whether a ``SATURATED`` pixel lies in its core; whether it is round, as wide as a star, whole, and
        its core is free of excluded pixels (it may touch a neighbour).
    fwhm : float
        Median of the brightest isolated stars' full width at half maximum, in pixels; NaN without any.
    background, background_sigma : float
        Level of the sky, and its robust scatter.
    """

    x: Floats
    y: Floats
    flux: Floats
    ellipticity: Floats
    saturated: BoolArray
    usable: BoolArray
    fwhm: float
    background: float
    background_sigma: float

    def __len__(self) -> int:
        return len(self.x)

    def positions(self, most: int | None = None) -> Floats:
        """Return the positions of the brightest usable stars.

        Parameters
        ----------
        most : int, optional
            At most so many; by default all.

        Returns
        -------
        float array, shape (n, 2)
            ``(x, y)`` in pixels, brightest first.
        """
        chosen = np.flatnonzero(self.usable)[:most]
        return np.column_stack([self.x[chosen], self.y[chosen]])

    def fluxes(self, most: int | None = None) -> Floats:
        """Return the fluxes of the stars that `positions` gives, in the same order.

        Parameters
        ----------
        most : int, optional
            At most so many; by default all.

        Returns
        -------
        float array, shape (n,)
            In the image's unit.
        """
        return self.flux[np.flatnonzero(self.usable)[:most]]

    @property
    def elongation(self) -> float:
        """Median ellipticity of the 100 brightest whole stars, usable or not: of trails too; NaN without any."""
        whole = self.ellipticity[~self.saturated]
        return float(np.median(whole[:100])) if len(whole) else float("nan")

    @property
    def median_ellipticity(self) -> float:
        """Median ellipticity of the 100 brightest usable stars; NaN without any."""
        usable = self.ellipticity[self.usable]
        return float(np.median(usable[:100])) if len(usable) else float("nan")


@dataclass(frozen=True)
class Background:
    """The sky, as a mesh measures it: its level in each box, and over the image the median of levels and scatters."""

    mesh: Floats
    level: float
    sigma: float


@dataclass(frozen=True)
class Clean:
    """Pixels to find stars in, native and without gaps.

    `data` are the image's less the sky, 0 where `bad` (uint8) is 1; `variance` and `dq` are the image's. Where no
    variance is stated, `flat` is that of all pixels, else 0.
    """

    data: FloatArray
    variance: FloatArray
    dq: DQArray
    bad: NDArray[np.uint8]
    flat: float


def find_stars(image: Image, detection: Detection) -> Stars:
    """Find the stars of `image`, much as Source Extractor does (Bertin & Arnouts 1996).

    The sky is measured in a mesh and subtracted. Pixels of enough signal over noise, by a filter that weighs each by
    its variance, are gathered into stars from the highest down; where two meet, the lower peak is a star of
    its own if it stands 5 sigma above the saddle between them. What stands in an excluded pixel changes nothing.
    A saturated star therefore has a hole; it, or the fragments of its rim, are flagged by the ``SATURATED`` pixels
    in their cores. The interpreter is free meanwhile.

    Parameters
    ----------
    image : Image
        Calibrated. Variance tells the noise of each pixel; where none is stated (all 0), that of the sky is taken.
        Excluded and non-finite pixels count for nothing.
    detection : Detection
        Threshold, mesh and least area.

    Returns
    -------
    Stars
        Brightest first; of length 0 where there are none.

    Raises
    ------
    ValueError
        If no pixel of the image is good.
    """
    clean, background = _without_sky(image, detection)
    return _measured(clean, background, _detected(clean, detection))


def subtract_background(image: Image, detection: Detection) -> FloatArray:
    """Subtract the sky that a mesh measures.

    Parameters
    ----------
    image : Image
        Not changed.
    detection : Detection
        Its `mesh` is the side of a box in pixels.

    Returns
    -------
    float32 array, shape (ny, nx)
        In the image's unit; 0 where a pixel is excluded or not finite.

    Raises
    ------
    ValueError
        If no pixel of the image is good.
    """
    return _without_sky(image, detection)[0].data


def _without_sky(image: Image, detection: Detection) -> tuple[Clean, Background]:
    from ccdflow.recipes.kernels import sources_kernels as kernels

    planes = [np.ascontiguousarray(plane, np.float32) for plane in (image.data, image.variance)]
    dq = np.ascontiguousarray(image.dq, np.uint16)
    data, bad = memory.empty(image.shape, np.float32), memory.empty(image.shape, np.uint8)
    good, known = kernels.clean(*planes, dq, data, bad)
    if not good:
        raise ValueError(f"none of the {bad.size} pixels is good; a background needs some")
    # Boxes of about the side that is asked for, as many as divide the image evenly: a narrow strip left over at the
    # edge would have too few pixels for a level of its own.
    boxes = [max(round(size / detection.mesh), 1) for size in image.shape]
    level, sigma = np.empty(boxes), np.empty(boxes)
    # Boxes of one image differ by one pixel at most: this is the highest times the widest.
    largest = (bad.shape[0] // boxes[0] + 1) * (bad.shape[1] // boxes[1] + 1)
    kernels.mesh(data, bad, level, sigma, np.empty(largest, np.float32), np.empty(kernels.BINS + 2))
    background = _background(level, sigma, data[bad == 0] if np.isnan(level).all() else None)
    kernels.subtract(background.mesh, *map(_centres, image.shape, boxes), bad, data)
    # One stated variance is enough for all to be believed: a pixel that states none then has weight 0. Images from
    # elsewhere, which state nothing at all, get the scatter of their sky.
    return Clean(data, planes[1], dq, bad, 0.0 if known else background.sigma**2), background


def _centres(size: int, boxes: int) -> Floats:
    # The same division as in the kernel `mesh`. A box ends one pixel before the next begins: hence -1.
    edges = np.arange(boxes + 1) * size // boxes
    return np.asarray((edges[1:] + edges[:-1] - 1) / 2)


def _background(level: Floats, sigma: Floats, all_there_is: FloatArray | None) -> Background:
    """Return the mesh of medians over three by three boxes, which leaves bright stars out; holes are filled."""
    # No box is half good: all good pixels together make one level.
    if all_there_is is not None:
        level = np.full(level.shape, np.median(all_there_is), np.float64)
        sigma = np.full(level.shape, np.std(all_there_is), np.float64)
    # Each round fills holes by one box from their edges inwards.
    while True:
        mesh = _median_of_neighbours(level)
        if not np.isnan(mesh).any():
            return Background(mesh, float(np.nanmedian(level)), float(np.nanmedian(sigma)))
        level = np.where(np.isnan(level), mesh, level)


def _median_of_neighbours(level: Floats) -> Floats:
    """Return the median of what there is in three by three boxes; NaN where nothing is.

    Beyond the edge a slope goes on as it is, so that the median does not bend it.
    """
    # "odd" continues the slope, value = 2 edge - mirror image; a single box has no slope, and gets neighbours that do
    # not count.
    padded = level
    for axis, size in enumerate(level.shape):
        width = [(1, 1) if axis == padded_axis else (0, 0) for padded_axis in (0, 1)]
        if size > 1:
            padded = np.pad(padded, width, mode="reflect", reflect_type="odd")
        else:
            padded = np.pad(padded, width, constant_values=np.nan)
    # Not `numpy.nanmedian`, which warns where all nine are NaN. NaN sorts behind all numbers: the median is that of the
    # first `count`, the middle one or the mean of both middle ones. Of none, both ranks are 0, where a NaN stands.
    ordered = np.sort(sliding_window_view(padded, (3, 3)).reshape(*level.shape, 9), axis=2)
    count = np.isfinite(ordered).sum(axis=2)
    lower, upper = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, 8)
    pair = np.take_along_axis(ordered, np.stack([lower, upper], axis=2), axis=2)
    return np.asarray(pair.mean(axis=2))


def _detected(clean: Clean, detection: Detection) -> Floats:
    """Return the table of stars, columns as in `sources_kernels`, the brightest first."""
    from ccdflow.recipes.kernels import sources_kernels as kernels

    room = max(clean.data.size // _PIXELS_PER_BRIGHT, _LEAST_ROOM)
    places, heights = np.empty(room, np.int64), np.empty(room, np.float32)
    threshold, planes = detection.threshold, (clean.data, clean.variance, clean.bad, clean.flat)
    width = clean.data.shape[1] + 2
    # Twice the threshold until the list of pixels has room for all; the kernel counts on when it is full.
    while (
        count := kernels.significant(*planes, threshold, places, heights, np.zeros((9, width), np.float32))
    ) > room:
        threshold *= 2
    # Equal heights keep their order in the image: which of two equal peaks is the higher one must not be chance.
    order = np.argsort(-heights[:count], kind="stable")
    places, heights = places[order], heights[order]
    turns, owners = np.zeros(clean.data.shape, np.int32), np.empty(count, np.int64)
    parents, table = np.zeros(count + 1, np.int64), np.zeros((count + 1, kernels.COLUMNS))
    used = kernels.gather(clean.data, places, heights, _PROMINENCE, turns, owners, parents, table)
    table = table[:used]
    # Row 0, and rows of peaks that became part of another star, have no pixels and go with the small ones.
    table = table[(table[:, kernels.COUNT] >= detection.min_area) & (table[:, kernels.FLUX] > 0)]
    return table[np.argsort(-table[:, kernels.FLUX], kind="stable")]


def _measured(clean: Clean, background: Background, table: Floats) -> Stars:
    from ccdflow.recipes.kernels import sources_kernels as kernels

    x, y, major, minor, uncut = _moments(table)
    # Positions first, since all else is measured around them; then which stars are clear of defects; then widths of
    # these, from which the typical width follows, and with it the aperture and which stars are usable.
    # The window is round: its sigma is that of a circle of the same area as the ellipse.
    kernels.centroids(
        clean.data,
        clean.bad,
        np.maximum(np.sqrt(major * minor), _LEAST_WINDOW),
        x,
        y,
        np.empty(2 * kernels.WINDOW + 2),
    )
    ellipticity = 1 - minor / np.maximum(major, 1e-6)
    half = np.clip(np.ceil(2 * np.sqrt(major * minor)), *_CORE).astype(np.int64)
    marks = np.zeros((2, len(x)), np.uint8)
    kernels.cores(clean.bad, clean.dq, DQ.SATURATED, x, y, half, marks)
    excluded_core, saturated = marks.astype(np.bool_)
    clear = uncut & ~excluded_core & (ellipticity < _ROUND)
    width = _widths(clean.data, x, y, np.flatnonzero(clear)[:_MOST_PROFILES])
    isolated = np.isfinite(width) & (table[:, kernels.TOUCHES] == 0)
    # An image without noise, as tests and simulations make them, has a sky of scatter 0.
    peak = table[isolated, kernels.PEAK] / max(background.sigma, 1e-30)
    typical = _typical_width(width[isolated], peak)
    # A width of NaN, not measured, compares as false; so does a typical width of NaN, where no star tells one.
    usable = (width > _NARROWEST * typical) & (width < _WIDEST * typical)
    flux = np.empty(len(x))
    # One radius for all stars: of a fixed profile it then holds the same part of each, and fluxes of a frame compare.
    radius = _APERTURE * typical if np.isfinite(typical) else _APERTURE_WITHOUT_FWHM
    kernels.apertures(clean.data, clean.bad, x, y, radius, flux)
    order = np.argsort(-flux, kind="stable")
    return Stars(
        x[order],
        y[order],
        flux[order],
        ellipticity[order],
        saturated[order],
        usable[order] & (flux[order] > 0),
        typical,
        background.level,
        background.sigma,
    )


def _moments(table: Floats) -> tuple[Floats, Floats, Floats, Floats, BoolArray]:
    """Return barycentres, rms along both axes of the ellipse, and which stars are neither cut off nor too narrow."""
    from ccdflow.recipes.kernels import sources_kernels as kernels

    # <x²> - <x>²: coordinates of 10⁴ pixels have squares of 10⁸, of which float64 keeps seven decimals.
    total = table[:, kernels.FLUX]
    x, y = table[:, kernels.X] / total, table[:, kernels.Y] / total
    xx = table[:, kernels.XX] / total - x * x
    yy = table[:, kernels.YY] / total - y * y
    xy = table[:, kernels.XY] / total - x * y
    # As Source Extractor does it: where all light lies in a line of pixels the ellipse would have no width.
    narrow = xx * yy - xy * xy < _NARROW
    xx, yy = np.where(narrow, xx + _PIXEL_MOMENT, xx), np.where(narrow, yy + _PIXEL_MOMENT, yy)
    # Squares of the semi-axes are the eigenvalues of the matrix of second moments, middle ± away.
    middle, away = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    major, minor = np.sqrt(middle + away), np.sqrt(np.maximum(middle - away, 0))
    return x, y, major, minor, ~narrow & (table[:, kernels.EDGE] == 0)


def _widths(data: FloatArray, x: Floats, y: Floats, chosen: NDArray[np.intp]) -> Floats:
    """Return the full width at half maximum of the chosen stars, in pixels; NaN for a hot pixel, and for others.

    A straight line through ln I against r² gives a Gaussian's σ (slope −1/2σ²). Pixels above 30 % of the peak
    take part, weighted by I²: so the half maximum is what counts, for a Moffat profile too. The radius
    follows the width, so that a neighbour stays outside.
    """
    from ccdflow.recipes.kernels import sources_kernels as kernels

    width, measured = np.full(len(x), np.nan), np.empty(len(chosen))
    stamp = (2 * kernels.HALF_STAMP + 1) ** 2
    kernels.widths(data, x[chosen], y[chosen], measured, np.empty((3, stamp)))
    width[chosen] = measured
    return width


def _typical_width(width: Floats, peak: Floats) -> float:
    """Return the median width of the stars with the highest peaks; those below 20 sigma only if others are few."""
    order = np.argsort(-peak, kind="stable")
    clear = max(int((peak > _CLEAR_PEAK).sum()), _FEW_CLEAR)
    return float(np.median(width[order[:clear]][:_MOST_TYPICAL])) if len(order) else float("nan")
