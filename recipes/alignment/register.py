"""Where a frame lies on the reference's grid: from matched stars, from cross-correlation, or from its WCS."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.alignment.asterisms import SEARCH_RADIUS, Pairs, guesses, match
from ccdflow.recipes.alignment.transform import FITS, Floats, Model, Transform, fit_affine
from ccdflow.recipes.core.image import FloatArray
from ccdflow.recipes.stars.sources import Stars

if TYPE_CHECKING:
    from astropy.wcs import WCS

_BRIGHTEST = 100
"""So many stars find the transform; five times as many refine it."""
_FEWEST = {"shift": 3, "similarity": 4, "affine": 12}
"""Matches that a model needs so that it is checked by more stars than it has freedom for."""
_SIGNIFICANT_PEAK = 8.0
"""The highest of a million values of noise lies near 5 standard deviations."""
_LEAST_COMMON = 0.1
"""Part of the frames that must overlap."""


class NoMatchError(ValueError):
    """A frame does not fit the reference; the message says what was found."""


@dataclass(frozen=True)
class Registration:
    """How a frame was placed.

    Parameters
    ----------
    transform : Transform
        Reference pixels to frame pixels.
    method : str
        ``reference``, ``none``, ``shift``, ``similarity``, ``affine``, ``correlation`` or ``wcs``.
    matches : int
        Stars that took part.
    rms : float
        Of their distances from where `transform` puts them, in pixels; 0 without stars.
    pairs : int array, shape (n, 2)
        Which usable star of the reference is which of the frame.
    """

    transform: Transform
    method: str
    matches: int = 0
    rms: float = 0.0
    pairs: Pairs | None = None


def register_stars(reference: Stars, frame: Stars, model: Model, max_residual: float) -> Registration:
    """Place `frame` on `reference` by their stars.

    First guesses are the shift that most pairs of stars agree upon, then similar triangles (as in astroalign,
    Beroiz et al. 2020, which draws random numbers without a seed and so does not give the same pixels
    twice). A guess is refined by least squares over all stars, clipped, and counts if enough of the brightest
    stars then match within `max_residual` pixels rms. ``affine`` becomes ``similarity``, that becomes
    ``shift``, where there are too few matches to check it.

    Raises
    ------
    NoMatchError
        If no guess stands up to that.
    """
    bright, faint = reference.positions(_BRIGHTEST), frame.positions(_BRIGHTEST)
    needed = max(_FEWEST["shift"], int(np.ceil(0.2 * min(len(bright), len(faint)))))
    most = 0
    for guess in guesses(bright, faint):
        matched = match(bright, faint, guess, SEARCH_RADIUS)
        if len(matched) >= needed:
            found = _refine(
                reference.positions(5 * _BRIGHTEST), frame.positions(5 * _BRIGHTEST), guess, model
            )
            matched = match(bright, faint, found.transform, 3 * max_residual)
            if len(matched) >= needed and found.rms <= max_residual:
                return found
        most = max(most, len(matched))
    raise NoMatchError(
        f"found {len(faint)} usable stars, the reference has {len(bright)}; {most} match, "
        f"{needed} must, within {max_residual:g} pixels"
    )


def _refine(reference: Floats, frame: Floats, guess: Transform, model: Model) -> Registration:
    """Least squares over ever closer matches: the radius shrinks to three sigma of a normal scatter."""
    transform, radius, used = guess, SEARCH_RADIUS, model
    pairs = match(reference, frame, transform, radius)
    for _ in range(6):
        used = next(m for m in _simpler(model) if len(pairs) >= _FEWEST[m] or m == "shift")
        transform = FITS[used](reference[pairs[:, 0]], frame[pairs[:, 1]])
        typical = float(np.median(_distances(reference, frame, pairs, transform)))
        radius = float(np.clip(3.5 * typical, 0.3, SEARCH_RADIUS))
        closer = match(reference, frame, transform, radius)
        if len(closer) < _FEWEST["shift"]:
            break
        pairs = closer
    return Registration(transform, used, len(pairs), _residual(reference, frame, pairs, transform), pairs)


def _simpler(model: Model) -> list[Model]:
    models: list[Model] = ["affine", "similarity", "shift"]
    return models[models.index(model) :]


def _distances(reference: Floats, frame: Floats, pairs: Pairs, transform: Transform) -> Floats:
    away = transform(reference[pairs[:, 0]]) - frame[pairs[:, 1]]
    return np.hypot(away[:, 0], away[:, 1])


def _residual(reference: Floats, frame: Floats, pairs: Pairs, transform: Transform) -> float:
    """Root of the mean squared distance, in pixels."""
    distances = _distances(reference, frame, pairs, transform)
    return float(np.sqrt(np.mean(distances**2))) if len(pairs) else 0.0


def residual_rms(reference: Stars, frame: Stars, found: Registration) -> float:
    """Root mean square distance in pixels of the matched stars from where the transform puts them."""
    if found.pairs is None:
        return found.rms
    return _residual(reference.positions(), frame.positions(), found.pairs, found.transform)


def register_correlation(reference: FloatArray, frame: FloatArray, sigma: float) -> Registration:
    """Place a frame by whole pixels, where its cross-correlation with the reference is highest.

    Parameters
    ----------
    reference, frame : float32 arrays, shape (ny, nx)
        Background subtracted, excluded pixels 0.
    sigma : float
        Noise of the background: what is brighter than 30 times that counts as just so bright, so that no
        single star decides.

    Raises
    ------
    NoMatchError
        If the highest value is below 8 standard deviations of all.
    """
    from scipy import fft  # a fallback, that takes long to import

    shape = [
        fft.next_fast_len(a + b - 1, real=True) for a, b in zip(reference.shape, frame.shape, strict=True)
    ]
    a, b = (np.clip(image, -5 * sigma, 30 * sigma) for image in (reference, frame))
    product = np.conj(fft.rfft2(a - a.mean(), shape)) * fft.rfft2(b - b.mean(), shape)
    shifts = [np.arange(size) for size in shape]
    for at, size, whole in zip(shifts, frame.shape, shape, strict=True):
        at[size:] -= whole
    common: NDArray[np.int_] = np.outer(
        *(_overlap(*each) for each in zip(reference.shape, frame.shape, shifts, strict=True))
    )
    # A sum over n pixels of noise has the scatter √n; slivers in common say nothing.
    enough = common > _LEAST_COMMON * min(reference.size, frame.size)
    surface = np.where(enough, fft.irfft2(product, shape) / np.sqrt(np.maximum(common, 1)), 0)
    row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
    spread = 1.4826 * float(np.median(np.abs(surface[enough])))
    peak = float(surface[row, column]) / spread if spread > 0 else 0.0
    if peak < _SIGNIFICANT_PEAK:
        raise NoMatchError(
            f"the highest cross-correlation is {peak:.1f} standard deviations, "
            f"{_SIGNIFICANT_PEAK:g} are needed"
        )
    return Registration(Transform(float(shifts[1][column]), float(shifts[0][row])), "correlation")


def _overlap(reference: int, frame: int, shift: NDArray[np.int_]) -> NDArray[np.int_]:
    """How many of the reference's rows (or columns) lie in the frame, for each shift."""
    common: NDArray[np.int_] = np.minimum(frame, reference + shift) - np.maximum(0, shift)
    return np.maximum(common, 0)


def register_wcs(
    reference: Mapping[str, Any], frame: Mapping[str, Any], shape: tuple[int, int], max_residual: float
) -> Registration:
    """Place a frame by the world coordinates of both headers, as the affine transform nearest to them.

    Raises
    ------
    NoMatchError
        If a header has no celestial coordinates, or the two differ from an affine transform by more than
        `max_residual` pixels.
    """
    ny, nx = shape
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(0, nx - 1, 20), np.linspace(0, ny - 1, 20)))
    sky = _celestial(reference, "reference").pixel_to_world(x, y)
    at = np.column_stack(_celestial(frame, "frame").world_to_pixel(sky))
    grid = np.column_stack([x, y])
    transform = fit_affine(grid, at)
    worst = float(np.abs(transform(grid) - at).max())
    if not worst <= max_residual:
        raise NoMatchError(
            f"the two WCS differ from an affine transform by up to {worst:.2f} pixels, "
            f"{max_residual:g} are allowed"
        )
    return Registration(transform, "wcs")


def _celestial(header: Mapping[str, Any], whose: str) -> "WCS":
    from astropy.io.fits import Header
    from astropy.wcs import WCS, FITSFixedWarning  # seldom needed, and takes long to import

    cards = [(key, value) for key, value in header.items() if key not in ("COMMENT", "HISTORY", "")]
    with warnings.catch_warnings():
        # astropy mends old spellings such as RADECSYS, and says so.
        warnings.simplefilter("ignore", FITSFixedWarning)
        wcs = WCS(Header(cards))
    if not wcs.has_celestial:
        raise NoMatchError(f"the {whose}'s header has no celestial WCS (CTYPE1, CTYPE2)")
    return wcs.celestial
