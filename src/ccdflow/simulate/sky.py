"""Simulate what comes from above: stars through the atmosphere, sky, charged particles."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOFFAT_BETA = 3.0
"""Exponent of the stars' profile; turbulence alone gives 4.8, real images less (Trujillo et al. 2001)."""

STAR_DENSITY = 1.0e-3
"""Stars per pixel down to `FAINTEST`."""
BRIGHTEST, FAINTEST = 10.5, 18.5
"""Magnitudes of the brightest and the faintest stars."""
COUNT_SLOPE = 0.30
"""Number of stars brighter than m grows as 10^(slope m); at middle galactic latitudes by about 0.3."""
MARGIN = 24
"""Pixels around the frame in which there are stars too, so that dithers bring new ones in."""

EDGE_LIGHT = 0.05
"""Electron per pixel at which a star's wing is cut off."""

COSMIC_RAY_RATE = 6.0e-7
"""Hits per pixel and second."""


@dataclass(frozen=True)
class Band:
    """A filter: sky in electron/s per pixel, and the magnitude that gives 1 electron/s."""

    sky: float
    zero_point: float


BANDS: Mapping[str, Band] = {
    "L": Band(8.0, 22.8),
    "B": Band(1.5, 21.3),
    "V": Band(2.5, 21.6),
    "G": Band(2.8, 21.9),
    "R": Band(3.5, 21.7),
    "I": Band(5.0, 21.0),
}
"""A 40 cm telescope with pixels of 1.24 arcsec under a dark sky."""


@dataclass(frozen=True)
class StarField:
    """Stars of one pointing: magnitudes, and pixel coordinates from 0 at the centre of the first pixel."""

    x: Floats
    y: Floats
    magnitude: Floats


@dataclass(frozen=True)
class Sky:
    """The state of the atmosphere and the pointing during one exposure.

    Parameters
    ----------
    background : float
        Sky in electron per pixel over the exposure.
    gradient : (float, float)
        Relative change of the background along y and x from one edge of the frame to the other.
    transparency : float
        Factor on the light of the stars.
    fwhm : float
        Full width at half maximum of a star, pixels.
    shift : (float, float)
        Where the field stands against its nominal place, pixels along y and x.
    """

    background: float
    gradient: tuple[float, float]
    transparency: float
    fwhm: float
    shift: tuple[float, float]


@dataclass(frozen=True)
class Stars:
    """Stars as they fall on one frame: pixel coordinates from 0, and electron over the exposure."""

    x: Floats
    y: Floats
    electrons: Floats


@dataclass(frozen=True)
class CosmicRays:
    """Pixels hit by charged particles, and the electrons that they set free; a pixel may be listed twice."""

    y: Ints
    x: Ints
    electrons: Floats


def star_field(rng: np.random.Generator, shape: tuple[int, int]) -> StarField:
    """Draw stars at random over a frame and its margin, with realistic numbers of faint ones.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of what is drawn.
    shape : (int, int)
        Rows and columns of the frame.

    Returns
    -------
    StarField
        At least 8 stars.
    """
    height, width = shape[0] + 2 * MARGIN, shape[1] + 2 * MARGIN
    number = max(8, round(STAR_DENSITY * height * width))
    # Inverse of the cumulative distribution N(<m) ~ 10^(slope m) between both limits.
    lowest = 10 ** (COUNT_SLOPE * (BRIGHTEST - FAINTEST))
    magnitude = FAINTEST + np.log10(rng.uniform(lowest, 1.0, number)) / COUNT_SLOPE
    x = rng.uniform(-MARGIN - 0.5, shape[1] + MARGIN - 0.5, number)
    y = rng.uniform(-MARGIN - 0.5, shape[0] + MARGIN - 0.5, number)
    return StarField(x, y, magnitude)


def stars_on_frame(field: StarField, band: Band, exptime: float, sky: Sky) -> Stars:
    """Place stars where one exposure has them, with the electrons that it collects.

    Parameters
    ----------
    field : StarField
        Stars at their nominal places.
    band : Band
        Filter.
    exptime : float
        Seconds.
    sky : Sky
        Pointing and transparency of the exposure.

    Returns
    -------
    Stars
        The same stars, in the same order; they may lie outside of the frame.
    """
    # Pogson's ratio: 5 magnitudes are a factor of 100.
    rate = 10 ** (-0.4 * (field.magnitude - band.zero_point))
    dy, dx = sky.shift
    return Stars(field.x + dx, field.y + dy, rate * exptime * sky.transparency)


def background(sky: Sky, shape: tuple[int, int]) -> Floats:
    """Return the light of the sky.

    Parameters
    ----------
    sky : Sky
        Background and its gradient.
    shape : (int, int)
        Rows and columns.

    Returns
    -------
    float array, shape (ny, nx)
        Electron per pixel over the exposure; its mean is ``sky.background``.
    """
    y = np.linspace(-0.5, 0.5, shape[0])[:, None] * sky.gradient[0]
    x = np.linspace(-0.5, 0.5, shape[1])[None, :] * sky.gradient[1]
    return sky.background * (1.0 + y + x)


def add_stars(image: Floats, stars: Stars, fwhm: float) -> None:
    """Add the expected electrons of stars to an image, in place.

    The profile is a circular Moffat function, integrated over each pixel by Gauss-Legendre quadrature of
    3 × 3 points.

    Parameters
    ----------
    image : float array, shape (ny, nx)
        Electron per pixel; changed.
    stars : Stars
        What is added; stars outside of the image add their wings only.
    fwhm : float
        Full width at half maximum, pixels.

    References
    ----------
    Moffat 1969, A&A 3, 455; Trujillo et al. 2001, MNRAS 328, 977.
    """
    # Moffat: intensity = peak * (1 + r^2 / alpha^2)^-beta, with alpha from the full width at half maximum, and the peak
    # such that the integral over the plane is the number of electrons.
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / MOFFAT_BETA) - 1))
    points, weights = np.polynomial.legendre.leggauss(3)
    for x, y, electrons in zip(stars.x, stars.y, stars.electrons, strict=True):
        radius = _wing(float(electrons), alpha)
        rows = _window(float(y), radius, image.shape[0])
        columns = _window(float(x), radius, image.shape[1])
        if not (rows and columns):
            continue
        # Offsets of 3 points in each row and column of the window; quadrature points lie in [-1, 1], pixels are 1 wide.
        dy = (np.array(rows)[:, None] + points[None, :] / 2 - y) ** 2
        dx = (np.array(columns)[:, None] + points[None, :] / 2 - x) ** 2
        profile = (1 + (dy[:, :, None, None] + dx[None, None, :, :]) / alpha**2) ** -MOFFAT_BETA
        stamp = np.einsum("iajb,a,b->ij", profile, weights / 2, weights / 2)
        peak = electrons * (MOFFAT_BETA - 1) / (np.pi * alpha**2)
        image[rows.start : rows.stop, columns.start : columns.stop] += peak * stamp


def _wing(electrons: float, alpha: float) -> int:
    """Return the distance in pixels at which a star gives less than `EDGE_LIGHT`."""
    peak = electrons * (MOFFAT_BETA - 1) / (np.pi * alpha**2)
    return int(np.ceil(alpha * np.sqrt(max((peak / EDGE_LIGHT) ** (1 / MOFFAT_BETA) - 1, 0.0)))) + 2


def _window(centre: float, radius: int, size: int) -> range:
    """Return the rows, or columns, within a radius of a star that lie in the image."""
    middle = round(centre)
    return range(max(middle - radius, 0), min(middle + radius + 1, size))


def cosmic_rays(rng: np.random.Generator, shape: tuple[int, int], exptime: float) -> CosmicRays:
    """Draw straight tracks of random direction, length and charge.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of what is drawn.
    shape : (int, int)
        Rows and columns of the frame.
    exptime : float
        Seconds, which decide how many there are.

    Returns
    -------
    CosmicRays
        Pixels on the frame and the electrons in them.
    """
    tracks = [_track(rng, shape) for _ in range(rng.poisson(COSMIC_RAY_RATE * shape[0] * shape[1] * exptime))]
    # The empty array lets a frame without any hit through.
    y, x, electrons = np.concatenate([np.zeros((3, 0)), *tracks], axis=1)
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    return CosmicRays(y[inside].astype(np.int64), x[inside].astype(np.int64), electrons[inside])


def _track(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Draw rows, columns and electrons of one hit, shape (3, length)."""
    along = np.arange(1 + int(rng.exponential(3.0)))
    angle = rng.uniform(0, 2 * np.pi)
    y = np.rint(rng.uniform(0, shape[0] - 1) + along * np.sin(angle))
    x = np.rint(rng.uniform(0, shape[1] - 1) + along * np.cos(angle))
    charge = np.rint(rng.lognormal(np.log(2000.0), 0.6) * rng.uniform(0.7, 1.3, along.size))
    return np.array([y, x, charge])
