"""Where a frame lies on the reference's grid: from matched stars, from cross-correlation, or from its WCS.

`ccdflow.recipes.alignment.placement.register_frame` decides which of them is asked. Stars come first, since they alone
show rotation and parts of a pixel; correlation is the fallback where they do not match.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.alignment.asterisms import (
    SEARCH_RADIUS,
    Pairs,
    false_matches,
    guess_of_any_scale,
    guesses,
    match,
)
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
_WCS_SCALE = 10.0
"""Pixels of one frame along a pixel of the other, more than any binning or reducer makes."""
_FEWEST = {"shift": 3, "similarity": 4, "affine": 12}
"""Matches that a model needs, at least twice as many as fix it: the others check it."""
_FIXED_BY = {"shift": 1, "similarity": 2, "affine": 3}
"""Matches that fix a model."""
_MOST_FALSE = 1e-3
"""Wrong transforms that may be expected to match as well as the one that is taken."""
_SIGNIFICANT_PEAK = 8.0
"""The highest of a million values of noise lies near 5 standard deviations."""
_LEAST_COMMON = 0.1
"""Part of the frames that must overlap."""
_UNIQUE_PEAK = 0.75
"""Of the highest correlation, what there may be at another shift: of two fields any few stars meet by chance."""
_PEAK_RADIUS = 16
"""Pixels around a peak that count as the peak itself."""
_LEAST_EXPLAINED = 0.5
"""Part of the light in the fainter frame that must have its like in the other."""
_STANDS_OUT = 5.0
"""In sigma: pixels that a frame shows something in."""
_LEAST_PIXELS = 5
"""Pixels that stand out, below which a frame shows nothing."""


class NoMatchError(ValueError):
    """A frame does not fit the reference; the message says what was found."""


class OtherScaleError(NoMatchError):
    """A frame shows the reference's stars in pixels of another size."""


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

    First guesses are the shift that most pairs of stars agree upon, as the frame is or after half a turn, then
    similar triangles (as in astroalign, Beroiz et al. 2020, which draws random numbers without a seed and so does
    not give the same pixels twice), then the same for the mirrored frame. A guess is refined by least squares over
    all stars, clipped, and counts if enough of the brightest stars then match within `max_residual` pixels rms, and
    so many as chance would not give (`false_matches`). ``affine`` becomes ``similarity``, that becomes ``shift``,
    where there are too few matches to check it.

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
        `method` is the model that was used, of the frame as it is, turned or mirrored: a ``shift`` may come with half
        a turn.

    Raises
    ------
    NoMatchError
        If no guess stands up to that; an `OtherScaleError` where pixels of another size would explain it.
    """
    bright, faint = reference.positions(_BRIGHTEST), frame.positions(_BRIGHTEST)
    # The frame with fewer stars sets the measure: behind clouds only the brightest are left.
    needed = max(_FEWEST["shift"], int(np.ceil(_LEAST_MATCHED * min(len(bright), len(faint)))))
    most = 0
    for flip, guess in guesses(bright, faint):
        # Refined as if the reference were flipped: then simple models need know nothing of it.
        there = bright * flip
        matched = match(there, faint, guess, SEARCH_RADIUS)
        if len(matched) >= needed:
            stars = reference.positions(_REFINING) * flip, frame.positions(_REFINING)
            refined = _refine(*stars, guess, model)
            # Once more with the brightest alone: many faint stars of a crowded field match any transform.
            matched = match(there, faint, refined.transform, 3 * max_residual)
            is_close = len(matched) >= needed and refined.rms <= max_residual
            if is_close and not _may_be_chance(there, faint, refined):
                return replace(refined, transform=refined.transform.after_flip(flip))
        most = max(most, len(matched))
    scale = _other_scale(bright, faint, needed)
    raise (OtherScaleError if scale else NoMatchError)(
        f"found {len(faint)} usable stars, the reference has {len(bright)}; {most} match, "
        f"{needed} must, within {max_residual:g} pixels"
        + (", and no better than by chance" if most >= needed else "")
        + scale
    )


def _other_scale(reference: Floats, frame: Floats, needed: int) -> str:
    """Say where a frame does show the same stars, in pixels of another size: another binning, or a focal reducer."""
    guess = guess_of_any_scale(reference, frame)
    if guess is None or len(match(reference, frame, guess, SEARCH_RADIUS)) < needed:
        return ""
    refined = _refine(reference, frame, guess, "similarity")
    if refined.matches < needed or _may_be_chance(reference, frame, refined):
        return ""
    size = 1 / refined.transform.scale
    return f"; {refined.matches} match if its pixels are {size:.2f} times as large as the reference's"


def _may_be_chance(reference: Floats, frame: Floats, registration: Registration) -> bool:
    """Tell whether as many stars might match as closely under a wrong transform."""
    radius = float(np.clip(3 * registration.rms, _LEAST_RADIUS, SEARCH_RADIUS))
    matches = len(match(reference, frame, registration.transform, radius))
    fixed_by = _FIXED_BY[registration.method]
    return false_matches(reference, frame, matches, radius, fixed_by) > _MOST_FALSE


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
        If the highest correlation is below 8 standard deviations of all of them, if it is nearly as high at another
        shift, or if most of what the frame shows has nothing like it in the reference.
    """
    # Single pixels that stand out, hot ones above all, lie at the same place in all frames and would correlate there.
    a, b = (
        _without_hot_pixels(np.clip(image, _CLIP_LOW * sigma, _CLIP_HIGH * sigma))
        for image in (reference, frame)
    )
    surface, enough = _correlation(a, b)
    row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
    # Of the surface itself, as nothing but noise would make it; a peak is too small a part to change its median.
    spread = NORMAL_MAD * float(np.median(np.abs(surface[enough])))
    peak = float(surface[row, column]) / spread if spread > 0 else 0.0
    if peak < _SIGNIFICANT_PEAK:
        raise NoMatchError(
            f"the highest cross-correlation is {peak:.1f} standard deviations, "
            f"{_SIGNIFICANT_PEAK:g} are needed"
        )
    # A transform of so many values is periodic: its second half stands for negative shifts.
    dy, dx = (
        int(at) - (size if at >= own else 0)
        for at, size, own in zip((row, column), surface.shape, frame.shape, strict=True)
    )
    if (other := _next_peak(surface, int(row), int(column))) > _UNIQUE_PEAK:
        raise NoMatchError(
            f"the cross-correlation is {other:.0%} as high elsewhere, {_UNIQUE_PEAK:.0%} are allowed"
        )
    if (shared := _explained(a, b, dx, dy)) < _LEAST_EXPLAINED:
        raise NoMatchError(
            f"where the cross-correlation is highest the frame shows {shared:.0%} of what is to be seen, "
            f"{_LEAST_EXPLAINED:.0%} are needed"
        )
    return Registration(Transform(float(dx), float(dy)), "correlation")


def _without_hot_pixels(image: FloatArray) -> FloatArray:
    """Return the medians of three by three pixels: stars of more than a pixel and a half stay."""
    from scipy.ndimage import median_filter  # a fallback, that takes long to import

    filtered: FloatArray = median_filter(image, 3, mode="constant")
    return filtered


def _correlation(a: FloatArray, b: FloatArray) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the cross-correlation for all shifts, and for which of them enough of both images lies in common.

    At row ``dy`` and column ``dx`` (negative ones count from the end) it is Σ a(x, y) b(x + dx, y + dy) / √n over the n
    pixels in common.
    """
    from scipy import fft  # a fallback, that takes long to import

    # Room for all shifts: without it what leaves the frame on one side would come in on the other.
    shape = [fft.next_fast_len(m + n - 1, real=True) for m, n in zip(a.shape, b.shape, strict=True)]
    # Correlation theorem: the inverse transform of conj(A) B holds, at the shift s, the sum over x of a(x) b(x + s).
    # Its peak is where the frame shows what the reference shows at x. Means are subtracted, since two constants would
    # correlate best where the frames overlap most, at no shift.
    product = np.conj(fft.rfft2(a - a.mean(), shape)) * fft.rfft2(b - b.mean(), shape)
    shifts = [np.arange(size) for size in shape]
    for shift, size, period in zip(shifts, b.shape, shape, strict=True):
        shift[size:] -= period
    common: NDArray[np.int_] = np.outer(
        *(_overlap(*axis) for axis in zip(a.shape, b.shape, shifts, strict=True))
    )
    # A sum over n pixels of noise has the scatter √n; slivers in common say nothing.
    enough = common > _LEAST_COMMON * min(a.size, b.size)
    return np.where(enough, fft.irfft2(product, shape) / np.sqrt(np.maximum(common, 1)), 0), enough


def _next_peak(surface: NDArray[Any], row: int, column: int) -> float:
    """Return how high the surface is away from its peak, as a part of it; 0 where nothing else is nearly so high."""
    from scipy.ndimage import label

    # The peak in the middle, since shifts are periodic and it may lie astride an edge.
    middle = [size // 2 for size in surface.shape]
    centred = np.roll(surface, (middle[0] - row, middle[1] - column), (0, 1))
    peak = centred[middle[0], middle[1]]
    # A nebula's peak is broad: all that hangs together with it above the limit is the same peak, whatever its width.
    # Noise breaks crumbs off its edge, which lie near.
    regions, _ = label(centred > _UNIQUE_PEAK * peak)
    away = regions != regions[middle[0], middle[1]]
    near = [slice(max(at - _PEAK_RADIUS, 0), at + _PEAK_RADIUS + 1) for at in middle]
    away[tuple(near)] = False
    return float(np.max(centred, where=away, initial=0.0) / peak)


def _explained(a: FloatArray, b: FloatArray, dx: int, dy: int) -> float:
    """Return which part of the light of the fainter image has the other's light at its place, under a shift.

    With w the fainter and s the other, over the pixels of w that stand out, that is (Σ w s)² / (Σ w² Σ s²), what noise
    adds to the squares taken off: 1 where s is a multiple of w, and k/n where of n stars k alike meet a star.
    """
    ny, nx = (min(m, n - shift) for m, n, shift in zip(a.shape, b.shape, (dy, dx), strict=True))
    y, x = max(0, -dy), max(0, -dx)
    noise = [NORMAL_MAD * float(np.median(np.abs(image))) for image in (a, b)]
    parts = [a[y:ny, x:nx].astype(np.float64), b[y + dy : ny + dy, x + dx : nx + dx].astype(np.float64)]
    # The one with less that stands out: behind clouds it need not show all that the other does.
    counts = [int((part > _STANDS_OUT * sigma).sum()) for part, sigma in zip(parts, noise, strict=True)]
    weak = int(counts[1] <= counts[0])
    chosen = parts[weak] > _STANDS_OUT * noise[weak]
    if counts[weak] < _LEAST_PIXELS:
        return 0.0
    w, s = parts[weak][chosen], parts[1 - weak][chosen]
    squares = [
        float((values**2).sum() - len(values) * sigma**2)
        for values, sigma in ((w, noise[weak]), (s, noise[1 - weak]))
    ]
    product = float((w * s).sum())
    return min(product**2 / (squares[0] * squares[1]), 1.0) if min(*squares, product) > 0 else 0.0


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
        If a header has no celestial coordinates, or none that can be, or the two differ from an affine transform by
        more than `max_residual` pixels.
    """
    ny, nx = shape
    x, y = (
        grid.ravel()
        for grid in np.meshgrid(np.linspace(0, nx - 1, _WCS_POINTS), np.linspace(0, ny - 1, _WCS_POINTS))
    )
    grid = np.column_stack([x, y])
    at = _mapped(grid, _celestial(reference, "reference"), _celestial(frame, "frame"))
    # Both may hold distortions. What matters is the map from one frame to the other, since an affine transform is all
    # that resampling knows.
    transform = fit_affine(grid, at)
    worst = float(np.abs(transform(grid) - at).max())
    # Written so that NaN, from places that the frame's WCS can't give, is refused as well.
    if not worst <= max_residual:
        raise NoMatchError(
            f"the two WCS differ from an affine transform by up to {worst:.2f} pixels, "
            f"{max_residual:g} are allowed"
        )
    # Matrices of zeros and misplaced exponents: the frame would shrink to a point, and its light to nothing.
    if not 1 / _WCS_SCALE <= transform.scale <= _WCS_SCALE:
        raise NoMatchError(
            f"by the two WCS one pixel of the reference is {transform.scale:.3g} pixels of the frame, "
            f"{1 / _WCS_SCALE:g} to {_WCS_SCALE:g} are allowed"
        )
    return Registration(transform, "wcs")


def _mapped(grid: Floats, reference: "WCS", frame: "WCS") -> Floats:
    """Return where pixels of the reference lie in the frame."""
    from astropy.wcs import NoConvergence

    try:
        return np.column_stack(frame.world_to_pixel(reference.pixel_to_world(*grid.T)))
    except (ValueError, TypeError, NoConvergence) as error:
        raise NoMatchError(f"the two WCS can't be put on each other ({_sentence(error)})") from error


def _sentence(error: Exception) -> str:
    """The first line of what a library says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _celestial(header: Mapping[str, Any], whose: str) -> "WCS":
    from astropy.io.fits import Header, VerifyError
    from astropy.wcs import WCS, FITSFixedWarning  # seldom needed, and takes long to import

    # Free text says nothing about coordinates.
    cards = [(key, value) for key, value in header.items() if key not in ("COMMENT", "HISTORY", "")]
    with warnings.catch_warnings():
        # astropy mends old spellings such as RADECSYS, and says so.
        warnings.simplefilter("ignore", FITSFixedWarning)
        # Whatever is wrong with the cards of one frame is a matter of that frame.
        try:
            wcs = WCS(Header(cards))
        except (ValueError, TypeError, KeyError, VerifyError) as error:
            raise NoMatchError(f"the {whose}'s WCS can't be read ({_sentence(error)})") from error
    if not wcs.has_celestial:
        raise NoMatchError(f"the {whose}'s header has no celestial WCS (CTYPE1, CTYPE2)")
    return wcs.celestial
