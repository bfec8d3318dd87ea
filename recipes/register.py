"""Where a frame lies on the reference's pixel grid: from matched stars, from cross-correlation, or from its WCS."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from astropy.io.fits import Header
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial import KDTree

from ccdflow.recipes.image import FloatArray
from ccdflow.recipes.resample import Transform
from ccdflow.recipes.sources import Stars

Floats = NDArray[np.float64]
Pairs = NDArray[np.intp]
Model = Literal["shift", "similarity", "affine"]

_BRIGHTEST = 100
"""So many stars find the transform; five times as many refine it."""
_SEARCH_RADIUS = 3.0
"""Pixels within which a star must lie of where a first guess puts it."""
_MOST_SCALE = 1.05
"""Frames of one stream have one plate scale: triangles of other sizes are not the same stars."""
_FEWEST = {"shift": 3, "similarity": 4, "affine": 12}
"""Matches that a model needs so that it is checked by more stars than it has freedom for."""
_SIGNIFICANT_PEAK = 8.0
"""The highest of a million values of noise lies near 5 standard deviations."""


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
    for guess in _guesses(bright, faint):
        matched = match(bright, faint, guess, _SEARCH_RADIUS)
        if len(matched) >= needed:
            found = _refine(
                reference.positions(5 * _BRIGHTEST), frame.positions(5 * _BRIGHTEST), guess, model
            )
            matched = match(bright, faint, found.transform, 3 * max_residual)
            if len(matched) >= needed and found.rms <= max_residual:
                return found
        most = max(most, len(matched))
    raise NoMatchError(
        f"found {len(faint)} usable stars, the reference has {len(bright)}; {most} match and {needed} are needed, "
        f"within {max_residual} pixels"
    )


def match(reference: Floats, frame: Floats, transform: Transform, radius: float) -> Pairs:
    """Pairs of stars that are each other's nearest, at most `radius` pixels apart; indices, shape (n, 2)."""
    if not len(reference) or not len(frame):
        return np.zeros((0, 2), dtype=np.intp)
    predicted = transform(reference)
    distance, nearest = KDTree(frame).query(predicted)
    _, back = KDTree(predicted).query(frame)
    mutual = (distance <= radius) & (back[nearest] == np.arange(len(reference)))
    return np.column_stack([np.flatnonzero(mutual), nearest[mutual]])


def _refine(reference: Floats, frame: Floats, guess: Transform, model: Model) -> Registration:
    """Least squares over ever closer matches: the radius shrinks to four times the typical residual."""
    transform, radius, used = guess, _SEARCH_RADIUS, model
    pairs = match(reference, frame, transform, radius)
    for _ in range(6):
        used = next(m for m in _simpler(model) if len(pairs) >= _FEWEST[m] or m == "shift")
        transform = _FITS[used](reference[pairs[:, 0]], frame[pairs[:, 1]])
        radius = float(np.clip(4 * _residual(reference, frame, pairs, transform), 0.3, _SEARCH_RADIUS))
        closer = match(reference, frame, transform, radius)
        if len(closer) < _FEWEST["shift"]:
            break
        pairs = closer
    return Registration(transform, used, len(pairs), _residual(reference, frame, pairs, transform), pairs)


def _simpler(model: Model) -> list[Model]:
    models: list[Model] = ["affine", "similarity", "shift"]
    return models[models.index(model) :]


def _residual(reference: Floats, frame: Floats, pairs: Pairs, transform: Transform) -> float:
    """Root of the mean squared distance, in pixels."""
    away = transform(reference[pairs[:, 0]]) - frame[pairs[:, 1]]
    return float(np.sqrt((away**2).sum(axis=1).mean())) if len(pairs) else 0.0


def residual_rms(reference: Stars, frame: Stars, found: Registration) -> float:
    """Root mean square distance in pixels of the matched stars from where the transform puts them."""
    if found.pairs is None:
        return found.rms
    return _residual(reference.positions(), frame.positions(), found.pairs, found.transform)


def _fit_shift(reference: Floats, frame: Floats) -> Transform:
    dx, dy = np.median(frame - reference, axis=0)
    return Transform(float(dx), float(dy))


def _fit_similarity(reference: Floats, frame: Floats) -> Transform:
    """Shift, rotation and scale: in complex numbers, frame = p · reference + q."""
    z, w = reference @ [1, 1j], frame @ [1, 1j]
    away = z - z.mean()
    spread = float(np.sum(np.abs(away) ** 2))
    p = np.sum(np.conj(away) * (w - w.mean())) / spread if spread > 0 else 1.0
    q = w.mean() - p * z.mean()
    return Transform(
        float(q.real), float(q.imag), float(p.real), float(-p.imag), float(p.imag), float(p.real)
    )


def _fit_affine(reference: Floats, frame: Floats) -> Transform:
    design = np.column_stack([reference, np.ones(len(reference))])
    (a, c), (b, d), (dx, dy) = np.linalg.lstsq(design, frame, rcond=None)[0].tolist()
    return Transform(dx, dy, a, b, c, d)


_FITS: Mapping[Model, Callable[[Floats, Floats], Transform]] = {
    "shift": _fit_shift,
    "similarity": _fit_similarity,
    "affine": _fit_affine,
}


def _guesses(reference: Floats, frame: Floats) -> Iterator[Transform]:
    if min(len(reference), len(frame)) >= _FEWEST["shift"]:
        yield _voted_shift(reference, frame)
        triangle = _best_triangle(reference, frame)
        if triangle is not None:
            yield triangle


def _voted_shift(reference: Floats, frame: Floats) -> Transform:
    """Shift that most pairs of stars agree upon; of equal ones the first, in order of brightness."""
    shifts = (frame[None, :, :] - reference[:, None, :]).reshape(-1, 2)
    tree = KDTree(shifts)
    votes = tree.query_ball_point(shifts, _SEARCH_RADIUS, return_length=True)
    agreeing = shifts[tree.query_ball_point(shifts[int(np.argmax(votes))], _SEARCH_RADIUS)]
    return _fit_shift(np.zeros_like(agreeing), agreeing)


def _best_triangle(reference: Floats, frame: Floats) -> Transform | None:
    """Similarity, from one pair of similar triangles, that puts most stars upon stars."""
    corners, shapes, sizes = _triangles(reference[:60])
    other_corners, other_shapes, other_sizes = _triangles(frame[:60])
    if not len(corners) or not len(other_corners):
        return None
    distance, similar = KDTree(other_shapes).query(shapes, k=min(3, len(other_shapes)))
    distance, similar = distance.reshape(len(shapes), -1), similar.reshape(len(shapes), -1)
    order = np.argsort(distance, axis=None, kind="stable")
    first, second = order // distance.shape[1], similar.ravel()[order]
    ratio = other_sizes[second] / sizes[first]
    alike = (distance.ravel()[order] < 0.05) & (ratio < _MOST_SCALE) & (ratio > 1 / _MOST_SCALE)
    best, most = None, 0
    for i, j in zip(first[alike][:1000], second[alike][:1000], strict=True):
        transform = _fit_similarity(reference[corners[i]], frame[other_corners[j]])
        count = len(match(reference, frame, transform, _SEARCH_RADIUS))
        if count > most:
            best, most = transform, count
        if most > 0.5 * min(len(reference), len(frame)):
            break
    return best


def _triangles(stars: Floats) -> tuple[Pairs, Floats, Floats]:
    """Triangles of each star with two of its six nearest.

    Returns
    -------
    corners : int array, shape (n, 3)
        Opposite the shortest, the middle and the longest side.
    shapes : float array, shape (n, 3)
        Logarithms of the sides' ratios, and ±1 for the sense in which the corners turn: a mirrored triangle
        is another one.
    sizes : float array, shape (n,)
        Longest side in pixels.
    """
    if len(stars) < 3:
        return np.zeros((0, 3), np.intp), np.zeros((0, 3)), np.zeros(0)
    _, nearest = KDTree(stars).query(stars, k=min(7, len(stars)))
    corners = np.array([(i, *two) for i, near in enumerate(nearest) for two in combinations(near[1:], 2)])
    corners = np.unique(np.sort(corners, axis=1), axis=0)
    points = stars[corners]
    sides = np.linalg.norm(np.roll(points, -1, axis=1) - np.roll(points, -2, axis=1), axis=2)
    order = np.argsort(sides, axis=1)
    sides = np.take_along_axis(sides, order, axis=1)
    corners = np.take_along_axis(corners, order, axis=1)
    wide = sides[:, 0] > 2 * _SEARCH_RADIUS
    corners, sides = corners[wide], sides[wide]
    u, v = stars[corners[:, 1]] - stars[corners[:, 0]], stars[corners[:, 2]] - stars[corners[:, 0]]
    sense = np.sign(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
    shapes = np.column_stack([np.log(sides[:, 2] / sides[:, 1]), np.log(sides[:, 1] / sides[:, 0]), sense])
    return corners, shapes, sides[:, 2]


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
    shape = [
        fft.next_fast_len(a + b - 1, real=True) for a, b in zip(reference.shape, frame.shape, strict=True)
    ]
    a, b = (np.clip(image, -5 * sigma, 30 * sigma) for image in (reference, frame))
    product = np.conj(fft.rfft2(a - a.mean(), shape)) * fft.rfft2(b - b.mean(), shape)
    surface = fft.irfft2(product, shape)
    row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
    spread = 1.4826 * float(np.median(np.abs(surface)))
    peak = float(surface[row, column]) / spread if spread > 0 else 0.0
    if peak < _SIGNIFICANT_PEAK:
        raise NoMatchError(
            f"the highest cross-correlation is {peak:.1f} standard deviations, {_SIGNIFICANT_PEAK:g} are needed"
        )
    dy = int(row) if row < reference.shape[0] + frame.shape[0] - shape[0] / 2 else int(row) - shape[0]
    dx = int(column) if column < shape[1] / 2 else int(column) - shape[1]
    return Registration(Transform(float(dx), float(dy)), "correlation")


def register_wcs(
    reference: Mapping[str, Any], frame: Mapping[str, Any], shape: tuple[int, int], max_residual: float
) -> Registration:
    """Place a frame by the world coordinates of both headers, as the affine transform that is nearest to them.

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
    transform = _fit_affine(grid, at)
    worst = float(np.abs(transform(grid) - at).max())
    if not worst <= max_residual:
        raise NoMatchError(
            f"the two WCS differ from an affine transform by up to {worst:.2f} pixels, {max_residual:g} are allowed"
        )
    return Registration(transform, "wcs")


def _celestial(header: Mapping[str, Any], whose: str) -> WCS:
    wcs = WCS(
        Header([(key, value) for key, value in header.items() if key not in ("COMMENT", "HISTORY", "")])
    )
    if not wcs.has_celestial:
        raise NoMatchError(f"the {whose}'s header has no celestial WCS (CTYPE1, CTYPE2)")
    return wcs.celestial
