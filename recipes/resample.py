"""Images moved onto another pixel grid, strip by strip, with true variance and honest flags."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.dq import DQ, BoolArray, DQArray, excluded
from ccdflow.recipes.image import FloatArray, Image, ImageSource
from ccdflow.recipes.transform import Transform

Floats = NDArray[np.float64]
Kernel = Literal["bilinear", "bicubic", "lanczos3"]

_INFLUENCE = 0.01
"""A pixel whose weight is above 1 % hands on its flags (as in DRAGONS), if they do not exclude it."""
_EXCLUDING = 0.1
"""An excluded pixel above this weight excludes the result, below it the others are normalised without it.

Of a cubic kernel's 16 pixels only the four around the place weigh more. With 1 % here too a bad pixel would
spoil 16 instead of four, and three frames dithered by a pixel or two lose a per cent of the field.
"""


def align(source: ImageSource, transform: Transform, shape: tuple[int, int], kernel: Kernel) -> ImageSource:
    """`source` on the reference's grid of shape (ny, nx): itself, moved by whole pixels, or resampled."""
    if transform.shift == (0, 0) and source.shape == shape:
        return source
    if transform.shift is not None:
        return Shifted(source, *transform.shift, shape)
    return Resampled(source, transform, shape, kernel)


@dataclass(frozen=True)
class Shifted:
    """A source moved by whole pixels: its values are untouched, what lies outside it is ``NO_DATA``."""

    source: ImageSource
    dx: int
    dy: int
    shape: tuple[int, int]

    @property
    def unit(self) -> str:
        """Unit of the data, as FITS writes it."""
        return self.source.unit

    def rows(self, rows: slice) -> Image:
        """Rows ``rows`` of the moved image; only the rows of the source that it needs are read."""
        first, last, _ = rows.indices(self.shape[0])
        return _window(self.source, (first + self.dy, last + self.dy), (self.dx, self.dx + self.shape[1]))


@dataclass(frozen=True)
class Offset:
    """A source with a constant added to its data, as when skies are brought to one level."""

    source: ImageSource
    level: float

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns ``(ny, nx)``."""
        return self.source.shape

    @property
    def unit(self) -> str:
        """Unit of the data, as FITS writes it."""
        return self.source.unit

    def rows(self, rows: slice) -> Image:
        """Rows ``rows`` with the level added."""
        strip = self.source.rows(rows)
        return Image(strip.data + np.float32(self.level), strip.variance, strip.dq, strip.unit)


@dataclass(frozen=True)
class Resampled:
    """A source interpolated at the places where the reference's pixels lie in it.

    With the kernel's weights w, normalised over good pixels: data = A Σ w d, variance = A² Σ w² v, where A is
    `Transform.area`, so that a star keeps its flux, and a surface its brightness per area of sky. Variance is
    that of each pixel; neighbours become correlated, see `correlation`.

    What stands in an excluded pixel never enters a good one. Where its weight would be above 10 % the result
    carries its bits and so is excluded too (its value is then interpolated from all that was measured, so
    that a saturated star stays bright); below that the good pixels are normalised without it, and above 1 %
    the result is flagged ``INTERPOLATED``. Other flags are handed on above 1 %. What lies
    outside the source is ``NO_DATA``.
    """

    source: ImageSource
    transform: Transform
    shape: tuple[int, int]
    kernel: Kernel

    @property
    def unit(self) -> str:
        """Unit of the data, as FITS writes it."""
        return self.source.unit

    def rows(self, rows: slice) -> Image:
        """Rows ``rows`` of the resampled image; only the rows of the source that it needs are read."""
        first, last, _ = rows.indices(self.shape[0])
        y, x = np.mgrid[first:last, 0 : self.shape[1]].astype(np.float64)
        at = self.transform
        return self._interpolate(at.a * x + at.b * y + at.dx, at.c * x + at.d * y + at.dy)

    def _interpolate(self, x: Floats, y: Floats) -> Image:
        taps, weigh = _KERNELS[self.kernel]
        ny, nx = self.source.shape
        # The window is as many pixels larger on each side as the kernel has taps: whoever falls there meets
        # nothing but NO_DATA.
        low = int(np.clip(np.floor(y.min()) - taps, -taps, ny))
        high = int(np.clip(np.floor(y.max()) + 1 + taps, low + 2 * taps, max(ny, low + taps) + taps))
        window = _window(self.source, (low, high), (-taps, nx + taps))
        left, below = np.floor(x), np.floor(y)
        weights = weigh(x - left), weigh(y - below)
        column = np.clip(left + 1 - taps // 2 + taps, 0, nx + taps).astype(np.intp)
        row = np.clip(below + 1 - taps // 2 - low, 0, high - low - taps).astype(np.intp)
        return _gather(window, row * (nx + 2 * taps) + column, weights, self.transform.area)


def correlation(transform: Transform, kernel: Kernel, shape: tuple[int, int]) -> float:
    """Factor by which the noise in a wide aperture exceeds what the resampled pixels' variances add up to.

    Interpolation hands noise to neighbours: a pixel keeps Σ w² of its variance, a wide aperture all of it.
    The factor is (mean Σ w²)^(−1/2), taken over 10,000 places of the image; 1 where nothing is resampled.
    """
    if transform.shift is not None:
        return 1.0
    _, weigh = _KERNELS[kernel]
    ny, nx = shape
    x, y = np.meshgrid(np.linspace(0, nx - 1, 100), np.linspace(0, ny - 1, 100))
    at = transform(np.column_stack([x.ravel(), y.ravel()]))
    squares = [sum(w.astype(np.float64) ** 2 for w in weigh(p - np.floor(p))) for p in (at[:, 0], at[:, 1])]
    return float(1 / np.sqrt(np.mean(squares[0] * squares[1])))


def _window(source: ImageSource, y: tuple[int, int], x: tuple[int, int]) -> Image:
    """Rows ``y[0]:y[1]`` and columns ``x[0]:x[1]``, which may reach beyond the source: ``NO_DATA`` there."""
    ny, nx = source.shape
    shape = (max(y[1] - y[0], 0), max(x[1] - x[0], 0))
    data, variance = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    dq = np.full(shape, int(DQ.NO_DATA), np.uint16)
    y0, y1, x0, x1 = max(y[0], 0), min(y[1], ny), max(x[0], 0), min(x[1], nx)
    if y0 < y1 and x0 < x1:
        strip = source.rows(slice(y0, y1))
        inside = (slice(y0 - y[0], y1 - y[0]), slice(x0 - x[0], x1 - x[0]))
        data[inside] = strip.data[:, x0:x1]
        variance[inside] = strip.variance[:, x0:x1]
        dq[inside] = strip.dq[:, x0:x1]
    return Image(data, variance, dq, source.unit)


def _gather(
    window: Image, first: NDArray[np.intp], weights: tuple[list[FloatArray], list[FloatArray]], area: float
) -> Image:
    """Weighted sums over the taps that begin at the flat indices `first` of the window."""
    finite = np.isfinite(window.data) & np.isfinite(window.variance)
    dq = np.where(finite, window.dq, window.dq | np.uint16(DQ.NO_DATA))
    measured = (dq & np.uint16(DQ.NO_DATA)) == 0
    width = window.shape[1]
    taps = [(j * width + i, wx, wy) for j, wy in enumerate(weights[1]) for i, wx in enumerate(weights[0])]
    sums = _sums(window, measured, first, taps)
    bits = np.zeros(first.shape, np.uint16)
    # Few pixels touch a flagged one: only those need bits, and sums over good pixels alone.
    touched = np.nonzero(_any_flag(dq, len(weights[0])).take(first))
    near = [(step, wx[touched], wy[touched]) for step, wx, wy in taps]
    missing = np.zeros(len(touched[0]), np.bool_)
    for step, wx, wy in near:
        tap, weight = dq.take(first[touched] + step), np.abs(wx * wy)
        bits[touched] |= np.where(weight > np.where(excluded(tap), _EXCLUDING, _INFLUENCE), tap, np.uint16(0))
        missing |= excluded(tap) & (weight > _INFLUENCE)
    spoilt = excluded(bits[touched])
    bits[touched] |= np.where(missing & ~spoilt, np.uint16(DQ.INTERPOLATED), np.uint16(0))
    good = _sums(window, measured & ~excluded(dq), first[touched], near)
    for total, other in zip(sums, good, strict=True):
        total[touched] = np.where(spoilt, total[touched], other)
    value, noise, norm = sums
    empty = norm < 0.5
    bits[empty] |= np.uint16(DQ.NO_DATA)
    norm[empty] = np.inf
    factor = np.float32(area) / norm
    return Image(value * factor, noise * factor**2, bits, window.unit)


def _sums(
    window: Image, taken: BoolArray, first: NDArray[np.intp], taps: list[tuple[int, FloatArray, FloatArray]]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Σ w d, Σ w² v and Σ w over the taps where `taken` is true."""
    data = np.where(taken, window.data, np.float32(0))
    variance = np.where(taken, window.variance, np.float32(0))
    counted = taken.astype(np.float32)
    value, noise, norm = (np.zeros(first.shape, np.float32) for _ in range(3))
    for step, wx, wy in taps:
        weight, at = wx * wy, first + step
        value += weight * data.take(at)
        noise += weight * weight * variance.take(at)
        norm += weight * counted.take(at)
    return value, noise, norm


def _any_flag(dq: DQArray, taps: int) -> BoolArray:
    """Whether any of the `taps` × `taps` pixels that begin at each pixel has a flag."""
    flagged: BoolArray = dq != 0
    result = flagged.copy()
    for step in range(1, taps):
        result[:, :-step] |= flagged[:, step:]
    across = result.copy()
    for step in range(1, taps):
        result[:-step] |= across[step:]
    return result


def _bilinear(f: Floats) -> list[FloatArray]:
    return [(1 - f).astype(np.float32), f.astype(np.float32)]


def _bicubic(f: Floats) -> list[FloatArray]:
    """Catmull-Rom (Keys 1981, a = −1/2): exact for quadratics."""
    weights = (
        ((-0.5 * f + 1) * f - 0.5) * f,
        (1.5 * f - 2.5) * f * f + 1,
        ((-1.5 * f + 2) * f + 0.5) * f,
        (0.5 * f - 0.5) * f * f,
    )
    return [weight.astype(np.float32) for weight in weights]


def _lanczos3(f: Floats) -> list[FloatArray]:
    """Lanczos window of three lobes, normalised so that a constant stays constant."""
    distances = [f + 2, f + 1, f, f - 1, f - 2, f - 3]
    weights = [np.sinc(distance) * np.sinc(distance / 3) for distance in distances]
    total = np.sum(weights, axis=0)
    return [(weight / total).astype(np.float32) for weight in weights]


_KERNELS: dict[Kernel, tuple[int, Callable[[Floats], list[FloatArray]]]] = {
    "bilinear": (2, _bilinear),
    "bicubic": (4, _bicubic),
    "lanczos3": (6, _lanczos3),
}
