"""Which star is which: first guesses of a transform from two lists of stars, and matches under a guess.

Two frames show mostly the same stars. Some stars are in one of them only, and the order of brightness differs. Nothing
says which star of one frame is which of the other. There are two ways to a first guess, for the frame as it is, after
half a turn (a meridian flip), and mirrored, the likelier first:

1. A vote. Frames of one night are mostly shifted only. Each pair of a star here and a star there states a shift; those
   of true pairs agree, those of others are spread over the field.
2. Triangles. Where the frame is turned by any angle (a field rotator), triangles of neighbouring stars are
   compared by what neither shift nor rotation nor scale changes: the ratios of their sides (Valdes et al. 1995,
   PASP 107, 1119; Beroiz et al. 2020, astroalign, which takes triangles of near neighbours too). One pair of alike
   triangles gives a similarity, and the one that puts most stars upon stars wins.

How many matches may be chance, `false_matches` tells.

No random numbers are drawn, and ties go to the first, so that the same lists always give the same transform.
"""

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.alignment.transform import Floats, Transform, fit_shift, fit_similarity

Pairs = NDArray[np.intp]
Indices = NDArray[np.intp]
Flip = tuple[int, int]
"""Factors of x and y, each 1 or -1, by which positions are multiplied."""

AS_IS, HALF_A_TURN, MIRRORED_X, MIRRORED_Y = (1, 1), (-1, -1), (-1, 1), (1, -1)
SEARCH_RADIUS = 3.0
"""Pixels within which a star must lie of where a first guess puts it."""
_TRIANGLE_STARS = 60
"""Stars that make triangles, the brightest ones: up to 15 triangles each, and both frames show most of them."""
_NEIGHBOURS = 6
"""Nearest neighbours of a star, with any two of which it makes a triangle."""
_CANDIDATES = 3
"""Triangles of the frame that are compared with each of the reference: the nearest in shape may be so by chance."""
_SHAPE_TOLERANCE = 0.05
"""Triangles are alike if the logarithms of their sides' ratios differ by less: 5 % of a ratio."""
_MOST_TRIALS = 1000
"""Pairs of triangles that are tried, the most alike first; true ones come early."""
_CLEAR_MAJORITY = 0.5
"""Part of the stars that a transform must put upon stars to be taken at once, without trying others."""
_MOST_SCALE = 1.05
"""Frames of one stream have one plate scale: triangles of other sizes are not the same stars."""
_ANY_SCALE = 5.0
"""Binning and focal reducers change the scale by less."""


def match(reference: Floats, frame: Floats, transform: Transform, radius: float) -> Pairs:
    """Return the pairs of stars that are each other's nearest under a transform.

    Parameters
    ----------
    reference, frame : float arrays, shapes (n, 2) and (m, 2)
        Positions ``(x, y)`` in pixels of either frame.
    transform : Transform
        Reference pixels to frame pixels.
    radius : float
        How far apart the stars of a pair may be, in pixels of the frame.

    Returns
    -------
    int array, shape (k, 2)
        Indices in `reference` and in `frame`, in order of the first.
    """
    first, second, distance = _near(transform(reference), frame, radius)
    forth, back = (_nearest(star, distance) for star in (first, second))
    # Mutual, so that no star is in two pairs: where one frame has a blend, the other's two stars both lie near to it.
    mutual = np.flatnonzero(forth & back)
    return np.column_stack([first[mutual], second[mutual]])


def _nearest(whose: Indices, distance: Floats) -> NDArray[np.bool_]:
    """Mark the pairs that are the closest ones of the star that they belong to; of equal ones the first."""
    # By star, and by distance within a star: the first entry of each star is its closest. Indices start at 0, so -1
    # before them makes the very first entry a change too.
    order = np.lexsort([distance, whose])
    closest = np.zeros(len(whose), np.bool_)
    closest[order[np.flatnonzero(np.diff(whose[order], prepend=-1))]] = True
    return closest


def _near(points: Floats, others: Floats, radius: float) -> tuple[Indices, Indices, Floats]:
    """Return pairs at most `radius` apart: their indices in both lists, in order of the first, and their distances.

    The plane is cut into squares of that side, numbered row by row: whoever is near lies in the same square or in
    one of the eight around, three of which have consecutive numbers.
    """
    squares = [np.floor(positions / radius).astype(np.int64) for positions in (points, others)]
    # Columns are counted from the leftmost one of both lists, so that `width` numbers are enough for a row.
    low = np.minimum(*(square.min(axis=0, initial=0) for square in squares))
    # Two columns more than there are, so that the square left of the first is not the last one of the row before.
    width = max(int(square[:, 0].max(initial=0)) for square in squares) - low[0] + 3
    here, there = ((square - low) @ [1, width] for square in squares)
    # Sorted by number, the points of three squares in a row are one run: two binary searches find it.
    order = np.argsort(there, kind="stable")
    pairs = [_between(there[order], here + row * width, order) for row in (-1, 0, 1)]
    first, second = (np.concatenate(indices) for indices in zip(*pairs, strict=True))
    # Squares only narrow the choice: what lies in a corner of one of them may still be too far away.
    distance = np.hypot(*(points[first] - others[second]).T)
    close = np.flatnonzero(distance <= radius)
    close = close[np.lexsort([second[close], first[close]])]
    return first[close], second[close], distance[close]


def _between(numbers: Indices, middle: Indices, order: Indices) -> tuple[Indices, Indices]:
    """Return pairs of those whose sorted numbers differ by at most 1 from `middle`."""
    begin = np.searchsorted(numbers, middle - 1, "left")
    count = np.searchsorted(numbers, middle + 1, "right") - begin
    # Runs of different lengths without a loop: `first` repeats each place as often as it has partners, and `steps`
    # counts 0, 1, 2, ... anew in each run.
    first = np.repeat(np.arange(len(middle)), count)
    steps = np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count)
    return first, order[np.repeat(begin, count) + steps]


def false_matches(reference: Floats, frame: Floats, matches: int, radius: float, fixed_by: int) -> float:
    """Return how many wrong transforms are to be expected that match so many stars so closely by chance.

    Parameters
    ----------
    reference, frame : float arrays, shapes (n, 2) and (m, 2)
        Positions ``(x, y)`` in pixels of the stars that a transform was searched with.
    matches : int
        How many of them match.
    radius : float
        How closely, in pixels.
    fixed_by : int
        How many pairs fix a transform of that kind: 1 a shift, 2 a similarity, 3 an affine transform.

    Returns
    -------
    float
        Far below 1 for a transform that can be believed.

    Notes
    -----
    Of n stars and m strewn at random over an area A, λ = n m π r² / A lie within r of each other, and their number
    follows Poisson's law. A transform is made to match `fixed_by` pairs; the others are chance or truth. Shifts are
    tried by the n m that the pairs state, in four orientations, and up to twice a thousand triangles.
    """
    if matches <= fixed_by or not len(reference) or not len(frame):
        return math.inf
    # Of stars in a line or a heap the room around them counts too: a match may lie there.
    width, height = np.ptp(frame, axis=0) + 2 * SEARCH_RADIUS
    expected = len(reference) * len(frame) * math.pi * radius**2 / float(width * height)
    few = min(len(reference), len(frame))
    trials = 4 * len(reference) * len(frame) + min(2 * _MOST_TRIALS, 2 * _CANDIDATES * math.comb(few, 3))
    return trials * _poisson_tail(matches - fixed_by, expected)


def _poisson_tail(least: int, expected: float) -> float:
    """Return the probability of `least` events or more."""
    # Summed from its largest term on: 1 less the sum of the others would lose what is small.
    terms = range(least, least + 100)
    logs = [count * math.log(expected) - expected - math.lgamma(count + 1) for count in terms]
    return min(1.0, math.fsum(map(math.exp, logs))) if expected < least else 1.0


def guesses(reference: Floats, frame: Floats) -> Iterator[tuple[Flip, Transform]]:
    """Yield transforms that may put the stars of the reference upon those of the frame, the likeliest first.

    Parameters
    ----------
    reference, frame : float arrays, shapes (n, 2) and (m, 2)
        Positions ``(x, y)`` in pixels, brightest first.

    Yields
    ------
    flip : tuple of int
        Factors of x and y by which positions of the reference are multiplied first.
    transform : Transform
        Flipped reference pixels to frame pixels. None are yielded where a list has fewer than three stars.
    """
    if min(len(reference), len(frame)) < 3:
        return
    # Half a turn is what a meridian flip does. Triangles find it too, but few stars make few of them; a shift needs but
    # three stars. Of mirrored frames one is the other turned: triangles need look at one of them only.
    for flip, guess in (
        (AS_IS, _voted_shift),
        (HALF_A_TURN, _voted_shift),
        (AS_IS, _best_triangle),
        (MIRRORED_X, _voted_shift),
        (MIRRORED_Y, _voted_shift),
        (MIRRORED_X, _best_triangle),
    ):
        if (transform := guess(reference * flip, frame)) is not None:
            yield flip, transform


def guess_of_any_scale(reference: Floats, frame: Floats) -> Transform | None:
    """Return the transform from similar triangles of whatever sizes, to tell what is wrong with a frame.

    Parameters
    ----------
    reference, frame : float arrays, shapes (n, 2) and (m, 2)
        Positions ``(x, y)`` in pixels, brightest first.

    Returns
    -------
    Transform or None
        Reference pixels to frame pixels; None where no triangles are alike.
    """
    if min(len(reference), len(frame)) < 3:
        return None
    return _best_triangle(reference, frame, _ANY_SCALE)


def _voted_shift(reference: Floats, frame: Floats) -> Transform | None:
    """Return the shift that most pairs of stars agree upon; of equal ones the first, in order of brightness."""
    # Each shift counts how many others lie within the search radius of it: no bins, whose edges might divide a crowd.
    # A pair of wrong stars can state any shift, pairs of right ones state the same: of 100 stars on either side, 10,000
    # shifts, a few dozen that agree stand out. A rotation spreads them, by its angle times the distance of the stars.
    shifts = (frame[None, :, :] - reference[:, None, :]).reshape(-1, 2)
    first, second, _ = _near(shifts, shifts, SEARCH_RADIUS)
    best = np.argmax(np.bincount(first))
    agreeing = shifts[second[first == best]]
    return fit_shift(np.zeros_like(agreeing), agreeing)


def _best_triangle(reference: Floats, frame: Floats, most_scale: float = _MOST_SCALE) -> Transform | None:
    """Return the similarity, from one pair of similar triangles, that puts most stars upon stars."""
    corners, shapes, sizes = _triangles(reference[:_TRIANGLE_STARS])
    other_corners, other_shapes, other_sizes = _triangles(frame[:_TRIANGLE_STARS])
    if not len(corners) or not len(other_corners):
        return None
    # Shapes are compared all with all: that is 900 by 900 at most.
    distance, similar = _closest(shapes, other_shapes, _CANDIDATES)
    # All pairs in one list, the most alike first.
    order = np.argsort(distance, axis=None, kind="stable")
    first, second = order // distance.shape[1], similar.ravel()[order]
    ratio = other_sizes[second] / sizes[first]
    alike = (distance.ravel()[order] < _SHAPE_TOLERANCE) & (ratio < most_scale) & (ratio > 1 / most_scale)
    best, most = None, 0
    for i, j in zip(first[alike][:_MOST_TRIALS], second[alike][:_MOST_TRIALS], strict=True):
        # Three corners fix the transform of a small part of the field only; how many stars of all of it then meet is
        # what tells right from wrong.
        transform = fit_similarity(reference[corners[i]], frame[other_corners[j]])
        count = len(match(reference, frame, transform, SEARCH_RADIUS))
        if count > most:
            best, most = transform, count
        if most > _CLEAR_MAJORITY * min(len(reference), len(frame)):
            break
    return best


def _closest(points: Floats, others: Floats, most: int) -> tuple[Floats, Indices]:
    """Return distances and indices of the `most` nearest of the others to each point, the nearest first."""
    distance = np.sqrt(sum((a[:, None] - b[None, :]) ** 2 for a, b in zip(points.T, others.T, strict=True)))
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :most]
    return np.take_along_axis(distance, nearest, axis=1), nearest


def _triangles(stars: Floats) -> tuple[Pairs, Floats, Floats]:
    """Return the triangles of each star with two of its six nearest.

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
    _, nearest = _closest(stars, stars, _NEIGHBOURS + 1)  # the nearest of all is the star itself
    corners = np.array([(i, *two) for i, near in enumerate(nearest) for two in combinations(near[1:], 2)])
    # A triangle is found from each of its corners that has the others among its neighbours: kept once.
    corners = np.unique(np.sort(corners, axis=1), axis=0)
    points = stars[corners]
    # Side i lies opposite corner i. Corners are ordered by the sides opposite to them, so that the same corner of two
    # similar triangles has the same place.
    sides = np.linalg.norm(np.roll(points, -1, axis=1) - np.roll(points, -2, axis=1), axis=2)
    order = np.argsort(sides, axis=1, kind="stable")
    sides = np.take_along_axis(sides, order, axis=1)
    corners = np.take_along_axis(corners, order, axis=1)
    # In a narrow triangle the error of a position changes the shape.
    wide = sides[:, 0] > 2 * SEARCH_RADIUS
    corners, sides = corners[wide], sides[wide]
    u, v = stars[corners[:, 1]] - stars[corners[:, 0]], stars[corners[:, 2]] - stars[corners[:, 0]]
    sense = np.sign(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
    # Logarithms, so that an error of the same part of a side counts alike at all ratios; the sense is at least 2 away
    # from the other, so that a mirrored triangle is never alike.
    shapes = np.column_stack([np.log(sides[:, 2] / sides[:, 1]), np.log(sides[:, 1] / sides[:, 0]), sense])
    return corners, shapes, sides[:, 2]
