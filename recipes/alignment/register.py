"""Where a frame lies on the reference's grid: from matched stars, from cross-correlation, or from its WCS.

`ccdflow.recipes.alignment.placement.register_frame` decides which of them is asked. Stars come first, since they alone
show rotation and parts of a pixel; correlation is the fallback where they do not match.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.alignment.asterisms import SEARCH_RADIUS, Pairs, guesses, match
from ccdflow.recipes.alignment.transform import FITS, Floats, Model, Transform, fit_affine
from ccdflow.recipes.core.image import FloatArray
from ccdflow.recipes.core.statistics import NORMAL_MAD
from ccdflow.recipes.stars.sources import Stars

if TYPE_CHECKING:
    from astropy.wcs import WCS

_BRIGHTEST = 100
"""Stars of each frame that the transform is searched with."""
_REFINING = 5 * _BRIGHTEST
"""Stars of each frame that refine it: together faint ones help, but they would only confuse the search."""
_LEAST_MATCHED = 0.2
"""Part of the brightest stars that must match, or it may be by chance: clouds and edges may take the others."""
_REFINEMENTS = 6
"""Rounds of fit and match, in which the radius of matches shrinks."""
_MATCH_SCATTER = 3.5
"""Radius of matches in units of their median distance: 2.9 times the rms distance of a normal scatter."""
_LEAST_RADIUS = 0.3
"""Pixels: the radius of matches shrinks no further, however well few stars fit."""
_CLIP_LOW, _CLIP_HIGH = -5, 30
"""In sigma of the sky, before correlation: no single star or flaw decides."""
_WCS_POINTS = 20
"""Points along each axis at which two WCS are compared."""
_FEWEST = {"shift": 3, "similarity": 4, "affine": 12}
"""Matches that a model needs, at least twice as many as fix it: the others check it."""
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
        Number of matched stars.
    rms : float
        Root mean square of their distances from where `transform` puts them, in pixels; 0 without stars.
    pairs : int array, shape (n, 2)
        Of each match, the index among the usable stars of the reference, and that among those of the frame.
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

    Parameters
    ----------
    reference, frame : Stars
        As `ccdflow.recipes.stars.sources.find_stars` gives them.
    model : {'shift', 'similarity', 'affine'}
        The most general transform that is allowed.
    max_residual : float
        Root mean square distance of matched stars that is allowed, in pixels of the frame.

    Returns
    -------
    Registration
        `method` is the model that was used.

    Raises
    ------
    NoMatchError
        If no guess stands up to that.
    """
    bright, faint = reference.positions(_BRIGHTEST), frame.positions(_BRIGHTEST)
    # The frame with fewer stars sets the measure: behind clouds only the brightest are left.
    needed = max(_FEWEST["shift"], int(np.ceil(_LEAST_MATCHED * min(len(bright), len(faint)))))
    most = 0
    for guess in guesses(bright, faint):
        matched = match(bright, faint, guess, SEARCH_RADIUS)
        if len(matched) >= needed:
            refined = _refine(reference.positions(_REFINING), frame.positions(_REFINING), guess, model)
            # Once more with the brightest alone: many faint stars of a crowded field match any transform.
            matched = match(bright, faint, refined.transform, 3 * max_residual)
            if len(matched) >= needed and refined.rms <= max_residual:
                return refined
        most = max(most, len(matched))
    raise NoMatchError(
        f"found {len(faint)} usable stars, the reference has {len(bright)}; {most} match, "
        f"{needed} must, within {max_residual:g} pixels"
    )


def _refine(reference: Floats, frame: Floats, guess: Transform, model: Model) -> Registration:
    """Least squares over ever closer matches: the radius shrinks to three sigma of a normal scatter."""
    transform, radius, used = guess, SEARCH_RADIUS, model
    pairs = match(reference, frame, transform, radius)
    for _ in range(_REFINEMENTS):
        # The most general model that the matches can check, and never one below a shift.
        used = next(m for m in _simpler(model) if len(pairs) >= _FEWEST[m] or m == "shift")
        transform = FITS[used](reference[pairs[:, 0]], frame[pairs[:, 1]])
        typical = float(np.median(_distances(reference, frame, pairs, transform)))
        radius = float(np.clip(_MATCH_SCATTER * typical, _LEAST_RADIUS, SEARCH_RADIUS))
        closer = match(reference, frame, transform, radius)
        # Too few within the new radius: the matches that this transform was fitted to are kept.
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


def residual_rms(reference: Stars, frame: Stars, registration: Registration) -> float:
    """Return the root mean square distance of matched stars from where the transform puts them.

    Parameters
    ----------
    reference, frame : Stars
        Those that were matched.
    registration : Registration
        With its pairs; without them its own rms is returned.

    Returns
    -------
    float
        In pixels of the frame.
    """
    if registration.pairs is None:
        return registration.rms
    return _residual(reference.positions(), frame.positions(), registration.pairs, registration.transform)


def register_correlation(reference: FloatArray, frame: FloatArray, sigma: float) -> Registration:
    """Place a frame by whole pixels, where its cross-correlation with the reference is highest.

    Parameters
    ----------
    reference, frame : float32 arrays, shape (ny, nx)
        Background subtracted, excluded pixels 0.
    sigma : float
        Noise of the background. Brighter pixels than 30 times that are cut to this level, so that no single
        star decides.

    Returns
    -------
    Registration
        A shift by whole pixels, with the method ``correlation`` and no matches.

    Raises
    ------
    NoMatchError
        If the highest correlation is below 8 standard deviations of all of them.
    """
    from scipy import fft  # a fallback, that takes long to import

    # Room for all shifts: without it what leaves the frame on one side would come in on the other.
    shape = [
        fft.next_fast_len(a + b - 1, real=True) for a, b in zip(reference.shape, frame.shape, strict=True)
    ]
    a, b = (np.clip(image, _CLIP_LOW * sigma, _CLIP_HIGH * sigma) for image in (reference, frame))
    # Correlation theorem: the inverse transform of conj(A) B holds, at the shift s, the sum over x of a(x) b(x + s).
    # Its peak is where the frame shows what the reference shows at x. Means are subtracted, since two constants would
    # correlate best where the frames overlap most, at no shift.
    product = np.conj(fft.rfft2(a - a.mean(), shape)) * fft.rfft2(b - b.mean(), shape)
    shifts = [np.arange(size) for size in shape]
    # A transform of so many values is periodic: its second half stands for negative shifts.
    for shift, size, period in zip(shifts, frame.shape, shape, strict=True):
        shift[size:] -= period
    common: NDArray[np.int_] = np.outer(
        *(_overlap(*axis) for axis in zip(reference.shape, frame.shape, shifts, strict=True))
    )
    # A sum over n pixels of noise has the scatter √n; slivers in common say nothing.
    enough = common > _LEAST_COMMON * min(reference.size, frame.size)
    surface = np.where(enough, fft.irfft2(product, shape) / np.sqrt(np.maximum(common, 1)), 0)
    row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
    # Of the surface itself, as nothing but noise would make it; a peak is too small a part to change its median.
    spread = NORMAL_MAD * float(np.median(np.abs(surface[enough])))
    peak = float(surface[row, column]) / spread if spread > 0 else 0.0
    if peak < _SIGNIFICANT_PEAK:
        raise NoMatchError(
            f"the highest cross-correlation is {peak:.1f} standard deviations, "
            f"{_SIGNIFICANT_PEAK:g} are needed"
        )
    return Registration(Transform(float(shifts[1][column]), float(shifts[0][row])), "correlation")


def _overlap(reference: int, frame: int, shift: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return how many of the reference's rows (or columns) lie in the frame, for each shift."""
    # Place i of the reference is i + shift in the frame: both ends are cut off by whichever image ends first.
    common: NDArray[np.int_] = np.minimum(frame, reference + shift) - np.maximum(0, shift)
    return np.maximum(common, 0)


def register_wcs(
    reference: Mapping[str, Any], frame: Mapping[str, Any], shape: tuple[int, int], max_residual: float
) -> Registration:
    """Place a frame by the world coordinates of both headers, as the affine transform nearest to them.

    Parameters
    ----------
    reference, frame : mapping
        Keywords of the headers.
    shape : tuple of int
        Rows and columns ``(ny, nx)`` of the reference.
    max_residual : float
        Largest distance from an affine transform that is allowed, in pixels of the frame.

    Returns
    -------
    Registration
        With the method ``wcs``, and no matches.

    Raises
    ------
    NoMatchError
        If a header has no celestial coordinates, or the two differ from an affine transform by more than
        `max_residual` pixels.
    """
    ny, nx = shape
    x, y = (
        grid.ravel()
        for grid in np.meshgrid(np.linspace(0, nx - 1, _WCS_POINTS), np.linspace(0, ny - 1, _WCS_POINTS))
    )
    sky = _celestial(reference, "reference").pixel_to_world(x, y)
    # Both may hold distortions. What matters is the map from one frame to the other, since an affine transform is all
    # that resampling knows.
    at = np.column_stack(_celestial(frame, "frame").world_to_pixel(sky))
    grid = np.column_stack([x, y])
    transform = fit_affine(grid, at)
    worst = float(np.abs(transform(grid) - at).max())
    # Written so that NaN, from places that the frame's WCS can't give, is refused as well.
    if not worst <= max_residual:
        raise NoMatchError(
            f"the two WCS differ from an affine transform by up to {worst:.2f} pixels, "
            f"{max_residual:g} are allowed"
        )
    return Registration(transform, "wcs")


def _celestial(header: Mapping[str, Any], whose: str) -> "WCS":
    from astropy.io.fits import Header
    from astropy.wcs import WCS, FITSFixedWarning  # seldom needed, and takes long to import

    # Free text says nothing about coordinates.
    cards = [(key, value) for key, value in header.items() if key not in ("COMMENT", "HISTORY", "")]
    with warnings.catch_warnings():
        # astropy mends old spellings such as RADECSYS, and says so.
        warnings.simplefilter("ignore", FITSFixedWarning)
        wcs = WCS(Header(cards))
    if not wcs.has_celestial:
        raise NoMatchError(f"the {whose}'s header has no celestial WCS (CTYPE1, CTYPE2)")
    return wcs.celestial
