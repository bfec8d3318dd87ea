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
_MOST_PROFILES = 200
"""So many stars' profiles are measured one by one: the median width of 200 is known to a per cent."""


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
        Whether a ``SATURATED`` pixel belongs to it; whether it is round, as wide as a star, and free of
        excluded pixels and of blends.
    fwhm : float
        Median of the brightest usable stars' full width at half maximum, in pixels; NaN without any.
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
    fragments of its rim, are flagged by the ``SATURATED`` pixels among theirs.

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
    saturated = _contains(found, (image.dq & np.uint16(DQ.SATURATED)) != 0)
    # Bits of sep's flag: 1 blended, 2 blended with a neighbour, 4 saturated, 8 cut by the edge of the image.
    clean = ~_contains(found, bad) & (found["flag"] == 0) & (ellipticity < 0.5)
    sharpest = np.flatnonzero(clean)
    sharpest = sharpest[np.argsort(-found["peak"][sharpest], kind="stable")][:_MOST_PROFILES]
    fwhm = _widths(data, x, y, sharpest)
    typical = float(np.nanmedian(fwhm)) if np.isfinite(fwhm).any() else float("nan")
    moment = _SIGMA_TO_FWHM * np.sqrt(found["a"] * found["b"])
    usual = np.median(moment[clean]) if clean.any() else np.nan
    usable = clean & (moment > 0.5 * usual) & (moment < 2 * usual)
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


def _contains(found: Any, flagged: BoolArray) -> BoolArray:
    """Whether a flagged pixel lies in each object's bounding box, or beside it."""
    ny, nx = flagged.shape
    total = np.zeros((ny + 1, nx + 1), dtype=np.int64)
    total[1:, 1:] = flagged.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    y0, y1 = np.maximum(found["ymin"] - 1, 0), np.minimum(found["ymax"] + 2, ny)
    x0, x1 = np.maximum(found["xmin"] - 1, 0), np.minimum(found["xmax"] + 2, nx)
    inside: BoolArray = (total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]) > 0
    return inside


def _widths(data: Any, x: Floats, y: Floats, chosen: NDArray[np.intp]) -> Floats:
    """Full width at half maximum, in pixels, of the stars `chosen`; NaN where a profile does not fall.

    A straight line through ln I against r² gives a Gaussian's σ (slope −1/2σ²). Pixels above 30 % of the peak
    take part, weighted by I², so that it is the half maximum that counts, in a Moffat profile too. The radius
    follows the width, so that a neighbour stays outside.
    """
    stamp, r2 = _stamps(data, x[chosen], y[chosen])
    reach = np.full(len(stamp), 2.5)
    for _ in range(3):
        width = _gaussian_fwhm(stamp, r2, reach)
        reach = np.clip(np.nan_to_num(0.85 * width, nan=2.5), 1.5, _HALF_STAMP)
    return width


def _stamps(data: Any, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Cut-outs that lie wholly inside, and each pixel's squared distance to the star; shape (n, 15, 15)."""
    ny, nx = data.shape
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (np.minimum(column, row) >= _HALF_STAMP) & (column < nx - _HALF_STAMP) & (row < ny - _HALF_STAMP)
    offset = np.arange(-_HALF_STAMP, _HALF_STAMP + 1)
    yy = row[inside, None, None] + offset[:, None]
    xx = column[inside, None, None] + offset
    r2 = (yy - y[inside, None, None]) ** 2 + (xx - x[inside, None, None]) ** 2
    return data[yy, xx].astype(np.float64), r2


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
