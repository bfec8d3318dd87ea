"""Images moved onto another pixel grid, strip by strip, with true variance and honest flags.

The interpolations are ``bilinear`` (4 pixels, smooths most, never overshoots), ``bicubic`` (16; Keys 1981, a = -1/2)
and ``lanczos3`` (36, keeps sharpness best, rings about saturated stars and hot pixels).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.alignment.transform import Transform
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import FloatArray, Image, ImageSource, Planes, empty_planes, fill

Floats = NDArray[np.float64]
Interpolation = Literal["bilinear", "bicubic", "lanczos3"]


def align(
    source: ImageSource, transform: Transform, shape: tuple[int, int], interpolation: Interpolation
) -> ImageSource:
    """Put an image on the reference's grid: as it is, moved by whole pixels, or resampled.

    Parameters
    ----------
    source : ImageSource
        Of the frame; read strip by strip, when rows of the result are.
    transform : Transform
        Reference pixels to frame pixels.
    shape : tuple of int
        Rows and columns ``(ny, nx)`` of the reference.
    interpolation : {'bilinear', 'bicubic', 'lanczos3'}
        Used where the shift is not one by whole pixels.

    Returns
    -------
    ImageSource
        Of the given shape.
    """
    # Whole pixels are moved untouched: values keep their noise, neighbours stay independent.
    if transform.shift == (0, 0) and source.shape == shape:
        return source
    if transform.shift is not None:
        return Shifted(source, *transform.shift, shape)
    return Resampled(source, transform, shape, interpolation)


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
        """Return some rows of the moved image; only the rows of the source that they need are read.

        Parameters
        ----------
        rows : slice
            Without a step.

        Returns
        -------
        Image
            Of shape ``(number of rows, nx)``.
        """
        needed = self._untouched(rows)
        return _filled(self, rows) if needed is None else self.source.rows(needed)

    def fill(self, rows: slice, planes: Planes) -> None:
        """Write some rows of the moved image.

        Parameters
        ----------
        rows : slice
            Without a step.
        planes : Planes
            Data, variance and DQ of that shape; overwritten.
        """
        needed = self._untouched(rows)
        if needed is not None:
            fill(self.source, needed, planes)
            return
        first, last, _ = rows.indices(self.shape[0])
        # First all as if nothing were there, then whatever the source has of it.
        planes.data[:], planes.variance[:], planes.dq[:] = 0, 0, int(DQ.NO_DATA)
        to_y, from_y = _common(first, last, self.dy, self.source.shape[0])
        to_x, from_x = _common(0, self.shape[1], self.dx, self.source.shape[1])
        if from_y.start < from_y.stop and from_x.start < from_x.stop:
            strip = self.source.rows(from_y)
            planes.data[to_y, to_x] = strip.data[:, from_x]
            planes.variance[to_y, to_x] = strip.variance[:, from_x]
            planes.dq[to_y, to_x] = strip.dq[:, from_x]

    def _untouched(self, rows: slice) -> slice | None:
        """Return rows of the source that are the wanted ones as they stand, if there are such."""
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
        """Return some rows with the level added.

        Parameters
        ----------
        rows : slice
            Without a step.

        Returns
        -------
        Image
            Variance and DQ are those of the source.
        """
        strip = self.source.rows(rows)
        return Image(strip.data + np.float32(self.level), strip.variance, strip.dq, strip.unit)

    def fill(self, rows: slice, planes: Planes) -> None:
        """Write some rows with the level added.

        Parameters
        ----------
        rows : slice
            Without a step.
        planes : Planes
            Data, variance and DQ of that shape; overwritten.
        """
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
    interpolation: Interpolation

    @property
    def unit(self) -> str:
        """Unit of the data, as FITS writes it."""
        return self.source.unit

    def rows(self, rows: slice) -> Image:
        """Return some rows of the resampled image; only the rows of the source that they need are read.

        Parameters
        ----------
        rows : slice
            Without a step.

        Returns
        -------
        Image
            Of shape ``(number of rows, nx)``.
        """
        return _filled(self, rows)

    def fill(self, rows: slice, planes: Planes) -> None:
        """Write some rows of the resampled image.

        Parameters
        ----------
        rows : slice
            Without a step.
        planes : Planes
            Data, variance and DQ of that shape; overwritten.
        """
        # Not every stack resamples.
        from ccdflow.recipes.kernels.resample_kernels import resample, room_for

        first, last, _ = rows.indices(self.shape[0])
        at, taps = self.transform, _INTERPOLATIONS[self.interpolation][0]
        needed = self._needed(first, last, taps)
        # Rows that two strips need are read twice: nothing is kept, so that strips may come in any order and thread.
        strip = _native(self.source.rows(needed))
        affine = tuple(map(float, (at.a, at.b, at.c, at.d, at.dx, at.dy)))
        outputs = planes.data, planes.variance, planes.dq
        room = room_for(strip.shape, taps)
        resample(affine, taps, first, needed.start, strip.data, strip.variance, strip.dq, *outputs, room)

    def _needed(self, first: int, last: int, taps: int) -> slice:
        """Return rows of the source that taps of rows `first` to `last` lie in, and one more on each side."""
        # Row numbers are linear in x and y: the corners of the strip hold the lowest and the highest.
        at, ny = self.transform, self.source.shape[0]
        ends = [
            at.c * x + at.d * y + at.dy for x in (0, self.shape[1] - 1) for y in (first, max(last - 1, first))
        ]
        low = int(np.clip(np.floor(min(ends)) - taps // 2, 0, ny))
        high = int(np.clip(np.floor(max(ends)) + taps // 2 + 2, low, ny))
        return slice(low, high)


def correlation(transform: Transform, interpolation: Interpolation, shape: tuple[int, int]) -> float:
    """Return by which factor the noise in a wide aperture exceeds what the resampled pixels' variances add up to.

    Parameters
    ----------
    transform : Transform
        Reference pixels to frame pixels.
    interpolation : {'bilinear', 'bicubic', 'lanczos3'}
        By which the frame is resampled.
    shape : tuple of int
        Rows and columns ``(ny, nx)`` of the reference.

    Returns
    -------
    float
        At least 1, and 1 where nothing is resampled.

    Notes
    -----
    Interpolation hands noise to neighbours: a pixel keeps Σ w² of its variance, a wide aperture all of it. So the
    variance of each pixel is true, but sums over many pixels need the factor (mean Σ w²)^(−1/2). The mean is taken over
    10,000 places of the image. Bilinear interpolation at random places has 3/2: the mean of f² + (1 − f)² is 2/3 along
    each axis. (Fruchter & Hook 2002 treat the same effect for drizzled images.)
    """
    if transform.shift is not None:
        return 1.0
    _, weigh = _INTERPOLATIONS[interpolation]
    ny, nx = shape
    x, y = np.meshgrid(np.linspace(0, nx - 1, 100), np.linspace(0, ny - 1, 100))
    at = transform(np.column_stack([x.ravel(), y.ravel()]))
    # Weights are products of one along x and one along y, and so are the sums of their squares.
    squares = [sum(w.astype(np.float64) ** 2 for w in weigh(p - np.floor(p))) for p in (at[:, 0], at[:, 1])]
    return float(1 / np.sqrt(np.mean(squares[0] * squares[1])))


def _filled(source: Shifted | Resampled, rows: slice) -> Image:
    first, last, _ = rows.indices(source.shape[0])
    planes = empty_planes((max(last - first, 0), source.shape[1]))
    source.fill(rows, planes)
    return Image(planes.data, planes.variance, planes.dq, source.unit)


def _native(image: Image) -> Image:
    """Return the image as kernels take it: in the machine's byte order, rows without gaps."""
    data, variance = (np.ascontiguousarray(plane, np.float32) for plane in (image.data, image.variance))
    return Image(data, variance, np.ascontiguousarray(image.dq, np.uint16), image.unit)


def _common(first: int, last: int, shift: int, size: int) -> tuple[slice, slice]:
    """Return where what the source has of places `first` to `last` goes, and where it stands in the source."""
    # Place p of the result is place p + shift of the source; bounds are held within the source, and moved back.
    start, stop = (min(max(place + shift, 0), size) for place in (first, last))
    return slice(start - shift - first, stop - shift - first), slice(start, stop)


# The weights of the kernel once more, by their formulae, for `correlation`: each takes the fraction f of a pixel by
# which a place lies above a whole one, and gives the weights of its taps from the lowest to the highest.


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


_INTERPOLATIONS: dict[Interpolation, tuple[int, Callable[[Floats], list[FloatArray]]]] = {
    "bilinear": (2, _bilinear),
    "bicubic": (4, _bicubic),
    "lanczos3": (6, _lanczos3),
}
