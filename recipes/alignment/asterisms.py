"""Which star is which: first guesses of a transform from two lists of stars, and matches under a guess."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.alignment.transform import Floats, Transform, fit_shift, fit_similarity

Pairs = NDArray[np.intp]
Indices = NDArray[np.intp]

SEARCH_RADIUS = 3.0
"""Pixels within which a star must lie of where a first guess puts it."""
_MOST_SCALE = 1.05
"""Frames of one stream have one plate scale: triangles of other sizes are not the same stars."""


def match(reference: Floats, frame: Floats, transform: Transform, radius: float) -> Pairs:
    """Pairs of stars that are each other's nearest, at most `radius` pixels apart; indices, shape (n, 2)."""
    first, second, distance = _near(transform(reference), frame, radius)
    forth, back = (_nearest(one, distance) for one in (first, second))
    mutual = np.flatnonzero(forth & back)
    return np.column_stack([first[mutual], second[mutual]])


def _nearest(whose: Indices, distance: Floats) -> NDArray[np.bool_]:
    """Which pairs are the closest ones of the star that they belong to; of equal ones the first."""
    order = np.lexsort([distance, whose])
    closest = np.zeros(len(whose), np.bool_)
    closest[order[np.flatnonzero(np.diff(whose[order], prepend=-1))]] = True
    return closest


def _near(points: Floats, others: Floats, radius: float) -> tuple[Indices, Indices, Floats]:
    """Pairs at most `radius` apart: their indices in both lists, in order of the first, and their distances.

    The plane is cut into squares of that side, numbered row by row: whoever is near lies in the same square or in
    one of the eight around, three of which have consecutive numbers.
    """
    squares = [np.floor(each / radius).astype(np.int64) for each in (points, others)]
    low = np.minimum(*(each.min(axis=0, initial=0) for each in squares))
    width = max(int(each[:, 0].max(initial=0)) for each in squares) - low[0] + 3
    here, there = ((each - low) @ [1, width] for each in squares)
    order = np.argsort(there, kind="stable")
    found = [_between(there[order], here + row * width, order) for row in (-1, 0, 1)]
    first, second = (np.concatenate(each) for each in zip(*found, strict=True))
    distance = np.hypot(*(points[first] - others[second]).T)
    close = np.flatnonzero(distance <= radius)
    close = close[np.lexsort([second[close], first[close]])]
    return first[close], second[close], distance[close]


def _between(numbers: Indices, middle: Indices, order: Indices) -> tuple[Indices, Indices]:
    """Pairs of those whose sorted numbers differ by at most 1 from `middle`."""
    begin = np.searchsorted(numbers, middle - 1, "left")
    count = np.searchsorted(numbers, middle + 1, "right") - begin
    first = np.repeat(np.arange(len(middle)), count)
    steps = np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count)
    return first, order[np.repeat(begin, count) + steps]


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
    first, second, _ = _near(shifts, shifts, SEARCH_RADIUS)
    best = np.argmax(np.bincount(first))
    agreeing = shifts[second[first == best]]
    return fit_shift(np.zeros_like(agreeing), agreeing)


def _best_triangle(reference: Floats, frame: Floats) -> Transform | None:
    """Similarity, from one pair of similar triangles, that puts most stars upon stars."""
    corners, shapes, sizes = _triangles(reference[:60])
    other_corners, other_shapes, other_sizes = _triangles(frame[:60])
    if not len(corners) or not len(other_corners):
        return None
    distance, similar = _closest(shapes, other_shapes, 3)
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


def _closest(points: Floats, others: Floats, most: int) -> tuple[Floats, Indices]:
    """Distances and indices of the `most` nearest of the others to each point, the nearest first."""
    distance = np.sqrt(sum((a[:, None] - b[None, :]) ** 2 for a, b in zip(points.T, others.T, strict=True)))
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :most]
    return np.take_along_axis(distance, nearest, axis=1), nearest


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
    _, nearest = _closest(stars, stars, 7)
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
