"""Which star is which: first guesses of a transform from two lists of stars, and matches under a guess."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ccdflow.recipes.transform import Floats, Transform, fit_shift, fit_similarity

Pairs = NDArray[np.intp]

SEARCH_RADIUS = 3.0
"""Pixels within which a star must lie of where a first guess puts it."""
_MOST_SCALE = 1.05
"""Frames of one stream have one plate scale: triangles of other sizes are not the same stars."""


def match(reference: Floats, frame: Floats, transform: Transform, radius: float) -> Pairs:
    """Pairs of stars that are each other's nearest, at most `radius` pixels apart; indices, shape (n, 2)."""
    if not len(reference) or not len(frame):
        return np.zeros((0, 2), dtype=np.intp)
    predicted = transform(reference)
    distance, nearest = KDTree(frame).query(predicted)
    _, back = KDTree(predicted).query(frame)
    mutual = (distance <= radius) & (back[nearest] == np.arange(len(reference)))
    return np.column_stack([np.flatnonzero(mutual), nearest[mutual]])


def guesses(reference: Floats, frame: Floats) -> Iterator[Transform]:
    """Yield transforms that may put the stars of the reference upon those of the frame, the likeliest first.

    Positions are of shape (n, 2), brightest first. Few stars give no guess.
    """
    if min(len(reference), len(frame)) >= 3:
        yield _voted_shift(reference, frame)
        triangle = _best_triangle(reference, frame)
        if triangle is not None:
            yield triangle


def _voted_shift(reference: Floats, frame: Floats) -> Transform:
    """Shift that most pairs of stars agree upon; of equal ones the first, in order of brightness."""
    shifts = (frame[None, :, :] - reference[:, None, :]).reshape(-1, 2)
    tree = KDTree(shifts)
    votes = tree.query_ball_point(shifts, SEARCH_RADIUS, return_length=True)
    agreeing = shifts[tree.query_ball_point(shifts[int(np.argmax(votes))], SEARCH_RADIUS)]
    return fit_shift(np.zeros_like(agreeing), agreeing)


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
        transform = fit_similarity(reference[corners[i]], frame[other_corners[j]])
        count = len(match(reference, frame, transform, SEARCH_RADIUS))
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
    wide = sides[:, 0] > 2 * SEARCH_RADIUS
    corners, sides = corners[wide], sides[wide]
    u, v = stars[corners[:, 1]] - stars[corners[:, 0]], stars[corners[:, 2]] - stars[corners[:, 0]]
    sense = np.sign(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
    shapes = np.column_stack([np.log(sides[:, 2] / sides[:, 1]), np.log(sides[:, 1] / sides[:, 0]), sense])
    return corners, shapes, sides[:, 2]
