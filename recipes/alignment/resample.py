"""Images moved onto another pixel grid, strip by strip, with true variance and honest flags."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.alignment.transform import Transform
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import FloatArray, Image, ImageSource, Planes, empty_planes, fill

Floats = NDArray[np.float64]
Kernel = Literal["bilinear", "bicubic", "lanczos3"]


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
        needed = self._untouched(rows)
        return _filled(self, rows) if needed is None else self.source.rows(needed)

    def fill(self, rows: slice, planes: Planes) -> None:
        """Write rows ``rows`` of the moved image."""
        needed = self._untouched(rows)
        if needed is not None:
            fill(self.source, needed, planes)
            return
        first, last, _ = rows.indices(self.shape[0])
        planes.data[:], planes.variance[:], planes.dq[:] = 0, 0, int(DQ.NO_DATA)
        to_y, from_y = _common(first, last, self.dy, self.source.shape[0])
        to_x, from_x = _common(0, self.shape[1], self.dx, self.source.shape[1])
        if from_y.start < from_y.stop and from_x.start < from_x.stop:
            strip = self.source.rows(from_y)
            planes.data[to_y, to_x] = strip.data[:, from_x]
            planes.variance[to_y, to_x] = strip.variance[:, from_x]
            planes.dq[to_y, to_x] = strip.dq[:, from_x]

    def _untouched(self, rows: slice) -> slice | None:
        """Rows of the source that are the wanted ones as they stand, if there are such."""
        first, last, _ = rows.indices(self.shape[0])
        top, bottom = first + self.dy, last + self.dy
        whole = self.dx == 0 and self.shape[1] == self.source.shape[1]
        return slice(top, bottom) if whole and 0 <= top <= bottom <= self.source.shape[0] else None


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

    def fill(self, rows: slice, planes: Planes) -> None:
        """Write rows ``rows`` with the level added."""
        fill(self.source, rows, planes)
        with np.errstate(over="ignore"):  # what stands in excluded pixels may be anything
            np.add(planes.data, np.float32(self.level), out=planes.data)


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
        return _filled(self, rows)

    def fill(self, rows: slice, planes: Planes) -> None:
        """Write rows ``rows`` of the resampled image."""
        # Not every stack resamples.
        from ccdflow.recipes.kernels.resample_kernels import resample, room_for

        first, last, _ = rows.indices(self.shape[0])
        at, taps = self.transform, _KERNELS[self.kernel][0]
        needed = self._needed(first, last, taps)
        strip = _native(self.source.rows(needed))
        affine = tuple(map(float, (at.a, at.b, at.c, at.d, at.dx, at.dy)))
        outputs = planes.data, planes.variance, planes.dq
        room = room_for(strip.shape, taps)
        resample(affine, taps, first, needed.start, strip.data, strip.variance, strip.dq, *outputs, room)

    def _needed(self, first: int, last: int, taps: int) -> slice:
        """Rows of the source that taps of the rows from `first` to `last` lie in, and one more on each side."""
        at, ny = self.transform, self.source.shape[0]
        ends = [
            at.c * x + at.d * y + at.dy for x in (0, self.shape[1] - 1) for y in (first, max(last - 1, first))
        ]
        low = int(np.clip(np.floor(min(ends)) - taps // 2, 0, ny))
        high = int(np.clip(np.floor(max(ends)) + taps // 2 + 2, low, ny))
        return slice(low, high)


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


def _filled(source: Shifted | Resampled, rows: slice) -> Image:
    first, last, _ = rows.indices(source.shape[0])
    planes = empty_planes((max(last - first, 0), source.shape[1]))
    source.fill(rows, planes)
    return Image(planes.data, planes.variance, planes.dq, source.unit)


def _native(image: Image) -> Image:
    """The image as kernels take it: in the machine's byte order, rows without gaps."""
    data, variance = (np.ascontiguousarray(plane, np.float32) for plane in (image.data, image.variance))
    return Image(data, variance, np.ascontiguousarray(image.dq, np.uint16), image.unit)


def _common(first: int, last: int, shift: int, size: int) -> tuple[slice, slice]:
    """Where what the source has of the places from `first` to `last` goes, and where it stands in the source."""
    start, stop = (min(max(place + shift, 0), size) for place in (first, last))
    return slice(start - shift - first, stop - shift - first), slice(start, stop)


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
