"""Stars of one image: where they are, how bright, how sharp, and whether they can be trusted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import sep
from numpy.typing import NDArray

from ccdflow.recipes.dq import DQ, BoolArray, excluded
from ccdflow.recipes.image import FloatArray, Image

Floats = NDArray[np.float64]

_SIGMA_TO_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))
_HALF_STAMP = 7
_MOST_PROFILES = 2000
"""So many of the brightest stars are measured one by one; fainter ones are never usable."""
_MOST_TYPICAL = 200
"""The median width of so many is known to a per cent."""
_CLEAR_PEAK = 20.0
"""In sigma of the sky: neighbours and noise widen fainter stars."""


@dataclass(frozen=True)
class Detection:
    """How stars are found.

    Parameters
    ----------
    threshold : float
        In standard deviations of a pixel, from its stated variance.
    mesh : int
        Side in pixels of the boxes in which the background is measured.
    min_area : int
        A star has at least so many pixels above the threshold.
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
        """Positions ``(x, y)`` of the `most` brightest usable stars, shape (n, 2)."""
        chosen = np.flatnonzero(self.usable)[:most]
        return np.column_stack([self.x[chosen], self.y[chosen]])

    def fluxes(self, most: int | None = None) -> Floats:
        """Fluxes of the same stars, in the same order."""
        return self.flux[np.flatnonzero(self.usable)[:most]]

    @property
    def median_ellipticity(self) -> float:
        """Median ellipticity of the 100 brightest usable stars; NaN without any."""
        usable = self.ellipticity[self.usable]
        return float(np.median(usable[:100])) if len(usable) else float("nan")


def find_stars(image: Image, detection: Detection) -> Stars:
    """Find the stars of `image` with `sep` (Barbary 2016: the algorithms of Source Extractor).

    What stands in an excluded pixel changes nothing. A saturated star therefore has a hole; it, or the
    fragments of its rim, are flagged by the ``SATURATED`` pixels in their cores.

    Raises
    ------
    ValueError
        If no pixel of the image is good.
    """
    data, bad, background = subtract_background(image, detection)
    variance = np.where(bad, np.float32(0), image.variance).astype(np.float32, order="C")
    if not (variance > 0).any():
        variance[:] = background.globalrms**2
    found = _extract(data, variance, bad, detection)
    found = found[np.argsort(-found["flux"], kind="stable")]
    return _measure(found, data, bad, image, background)


def subtract_background(image: Image, detection: Detection) -> tuple[FloatArray, BoolArray, Any]:
    """Subtract the sky that a mesh measures.

    Returns
    -------
    data : float32 array, shape (ny, nx)
        0 where excluded.
    bad : bool array, shape (ny, nx)
        True where excluded or not finite.
    background : sep.Background

    Raises
    ------
    ValueError
        If no pixel of the image is good.
    """
    bad = excluded(image.dq) | ~np.isfinite(image.data) | ~np.isfinite(image.variance)
    if bad.all():
        raise ValueError(f"none of the {bad.size} pixels is good; a background needs some")
    # sep wants C-contiguous arrays in the machine's byte order, and NaN must not reach it even masked.
    data: FloatArray = np.where(bad, np.float32(0), image.data).astype(np.float32, order="C")
    background = sep.Background(data, mask=bad, bw=detection.mesh, bh=detection.mesh)
    data -= background.back()
    data[bad] = 0
    return data, bad, background


def _extract(data: Any, variance: Any, bad: BoolArray, detection: Detection) -> Any:
    """Objects above the threshold.

    A crowded field overflows the fixed buffers of `sep`. They are global, and other threads use them, so the
    threshold rises instead: what is then missed are faint stars that nothing here needs.
    """
    threshold = detection.threshold
    while True:
        try:
            return sep.extract(data, threshold, var=variance, mask=bad, minarea=detection.min_area)
        except Exception as error:  # sep raises nothing narrower
            if "overflow" not in str(error) and "buffer full" not in str(error):
                raise
            threshold *= 2


def _measure(found: Any, data: Any, bad: BoolArray, image: Image, background: Any) -> Stars:
    x, y = _centroids(found, data, bad)
    ellipticity = 1 - found["b"] / np.maximum(found["a"], 1e-6)
    core = np.clip(np.ceil(2 * np.sqrt(found["a"] * found["b"])), 2, 15).astype(int)
    saturated = _contains((image.dq & np.uint16(DQ.SATURATED)) != 0, x, y, core)
    whole = (found["flag"] & (sep.OBJ_TRUNC | sep.OBJ_DOVERFLOW | sep.OBJ_SINGU)) == 0
    clean = whole & ~_contains(bad, x, y, core) & (ellipticity < 0.5)
    profiled = np.flatnonzero(clean)[:_MOST_PROFILES]
    width = np.full(len(x), np.nan)
    width[profiled] = _widths(data, x[profiled], y[profiled])
    isolated = np.isfinite(width) & ((found["flag"] & sep.OBJ_MERGED) == 0)
    typical = _typical_width(width[isolated], found["peak"][isolated] / max(background.globalrms, 1e-30))
    usable = (width > 0.6 * typical) & (width < 1.7 * typical)
    radius = 1.5 * typical if np.isfinite(typical) else 3.0
    flux = sep.sum_circle(data, x, y, radius, mask=bad)[0] if len(x) else np.zeros(0)
    order = np.argsort(-flux, kind="stable")
    return Stars(
        x[order],
        y[order],
        flux[order],
        ellipticity[order],
        saturated[order],
        usable[order] & (flux[order] > 0),
        typical,
        float(background.globalback),
        float(background.globalrms),
    )


def _centroids(found: Any, data: Any, bad: BoolArray) -> tuple[Floats, Floats]:
    """Windowed centroids; where the window ran away to a neighbour, the barycentre."""
    x, y = found["x"].astype(np.float64), found["y"].astype(np.float64)
    if len(x) == 0:
        return x, y
    sigma = np.maximum(np.sqrt(found["a"] * found["b"]), 0.5)
    windowed_x, windowed_y, _ = sep.winpos(data, x, y, sigma, mask=bad)
    stayed = np.hypot(windowed_x - x, windowed_y - y) < 1
    return np.where(stayed, windowed_x, x), np.where(stayed, windowed_y, y)


def _contains(flagged: BoolArray, x: Floats, y: Floats, half: NDArray[np.int_]) -> BoolArray:
    """Whether a flagged pixel lies in the box of ``2 half + 1`` pixels around each star."""
    ny, nx = flagged.shape
    total = np.zeros((ny + 1, nx + 1), dtype=np.int64)
    total[1:, 1:] = flagged.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    y0, y1 = np.clip(row - half, 0, ny), np.clip(row + half + 1, 0, ny)
    x0, x1 = np.clip(column - half, 0, nx), np.clip(column + half + 1, 0, nx)
    inside: BoolArray = (total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]) > 0
    return inside


def _widths(data: Any, x: Floats, y: Floats) -> Floats:
    """Full width at half maximum of each star, in pixels; NaN for a lone hot pixel.

    A straight line through ln I against r² gives a Gaussian's σ (slope −1/2σ²). Pixels above 30 % of the peak
    take part, weighted by I², so that it is the half maximum that counts, in a Moffat profile too. The radius
    follows the width, so that a neighbour stays outside.
    """
    stamp, r2 = _stamps(data, x, y)
    reach = np.full(len(stamp), 2.5)
    for _ in range(3):
        width = _gaussian_fwhm(stamp, r2, reach)
        reach = np.clip(np.nan_to_num(0.85 * width, nan=2.5), 1.5, _HALF_STAMP)
    return width


def _typical_width(width: Floats, peak: Floats) -> float:
    """Median width of the stars with the highest peaks; those below 20 sigma only if others are few."""
    order = np.argsort(-peak, kind="stable")
    clear = max(int((peak > _CLEAR_PEAK).sum()), 10)
    return float(np.median(width[order[:clear]][:_MOST_TYPICAL])) if len(order) else float("nan")


def _stamps(data: Any, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Cut-outs around stars, 0 beyond the edge, and each pixel's squared distance; shape (n, 15, 15)."""
    ny, nx = data.shape
    offset = np.arange(-_HALF_STAMP, _HALF_STAMP + 1)
    yy = np.rint(y).astype(int)[:, None, None] + offset[:, None]
    xx = np.rint(x).astype(int)[:, None, None] + offset
    inside = (yy >= 0) & (yy < ny) & (xx >= 0) & (xx < nx)
    stamp = np.where(inside, data[np.clip(yy, 0, ny - 1), np.clip(xx, 0, nx - 1)], 0).astype(np.float64)
    return stamp, (yy - y[:, None, None]) ** 2 + (xx - x[:, None, None]) ** 2


def _gaussian_fwhm(stamp: Floats, r2: Floats, reach: Floats) -> Floats:
    near = r2 < reach[:, None, None] ** 2
    core = np.where(r2 < 2, stamp, 0).max(axis=(1, 2), keepdims=True, initial=0)
    weight = np.where(near & (stamp > 0.3 * core) & (stamp > 0), stamp, 0) ** 2
    value = np.log(np.maximum(stamp, 1e-30))
    total = np.maximum(weight.sum(axis=(1, 2)), 1e-30)
    mean_r2 = (weight * r2).sum(axis=(1, 2)) / total
    mean_value = (weight * value).sum(axis=(1, 2)) / total
    away = r2 - mean_r2[:, None, None]
    slope = (weight * away * (value - mean_value[:, None, None])).sum(axis=(1, 2))
    spread = (weight * away**2).sum(axis=(1, 2))
    falls = (slope < 0) & (spread > 0)
    width = np.full(len(stamp), np.nan)
    width[falls] = _SIGMA_TO_FWHM * np.sqrt(-spread[falls] / (2 * slope[falls]))
    return width
