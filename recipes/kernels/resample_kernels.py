"""The compiled kernel of `ccdflow.recipes.alignment.resample`: some rows of a source in, some rows of another grid out.

A pixel of the output lies somewhere between pixels of the source. Its value is a sum over the `taps` x `taps` pixels
around that place, whose weights are a product of one along x and one along y.

Along an output row these places mostly stand one pixel apart, in the same row of the source. Such a run of pixels is
interpolated at once, tap by tap along rows that stay in a core's cache, so that the compiler turns it into vector
instructions. Pixels near a flag, a missing number or the source's edge are then done one by one (`_careful`).

Variances are interpolated as data are, with the squares of the same weights: the first index of `weights` and of `sums`
is 0 for data and 1 for variance.
"""

from typing import Any

import numpy as np

from ccdflow.recipes.core.dq import DQ, EXCLUDED
from ccdflow.recipes.kernels.compiled import array, compiled, constant

BILINEAR, BICUBIC, LANCZOS3 = 2, 4, 6
"""Interpolations by their number of taps."""

INFLUENCE = np.float32(0.01)
"""A pixel whose weight is above 1 % hands on its flags (as in DRAGONS), if they do not exclude it."""
EXCLUDING_WEIGHT = np.float32(0.1)
"""An excluded pixel above this weight excludes the result, below it the others are normalised without it.

Of a cubic kernel's 16 pixels only the four around the place weigh more. With 1 % here too a bad pixel would
spoil 16 instead of four, and three frames dithered by a pixel or two lose a per cent of the field.
"""

CHUNK = 256
"""Pixels of an output row that are done together: all their weights fit a core's nearest cache."""
SHORT = 6
"""Runs of fewer pixels are done one by one: there is no gain in vectors that are not filled once."""

OUTSIDE = 8.0
"""Pixels outside the source: more than the taps of any interpolation reach, and no int32 overflows."""

SIN_THIRDS = tuple(float(np.sin(np.pi / 3 * (2 - tap))) for tap in range(LANCZOS3))
COS_THIRDS = tuple(float(np.cos(np.pi / 3 * (2 - tap))) for tap in range(LANCZOS3))
"""Of a third of half a turn, times the whole pixels between a place and each tap."""

INF = np.float32(np.inf)
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
THREE_HALVES, TWO, FIVE_HALVES = np.float32(1.5), np.float32(2), np.float32(2.5)
NO_DATA = np.uint16(DQ.NO_DATA)
INTERPOLATED = np.uint16(DQ.INTERPOLATED)
EXCLUDING = np.uint16(EXCLUDED)


@compiled()
def _places(scale, start, shift, first, step, limit, origin, pixel, fraction):
    """Write the pixel, from `origin`, below each place ``scale * x + start + shift``, and the fraction above it.

    Whatever lies far outside is put just far enough outside that no tap reaches the source.
    """
    low, high = -OUTSIDE, limit + OUTSIDE
    for k in range(pixel.size):
        at = scale * (first + step * k) + start + shift
        at = low if at < low else at
        at = high if at > high else at
        below = np.floor(at)
        pixel[k] = np.int32(below) - origin
        fraction[k] = np.float32(at - below)


@compiled()
def _bilinear(f, weights):
    """Write the weights of a straight line between neighbours; those of tap t begin at ``t * CHUNK``."""
    for k in range(f.size):
        weights[k] = ONE - f[k]
        weights[k + CHUNK] = f[k]


@compiled()
def _bicubic(f, weights):
    """Write the weights of Catmull-Rom's cubic (Keys 1981, a = -1/2), which is exact for quadratics."""
    for k in range(f.size):
        g = f[k]
        weights[k] = ((ONE - HALF * g) * g - HALF) * g
        weights[k + CHUNK] = (THREE_HALVES * g - FIVE_HALVES) * g * g + ONE
        weights[k + 2 * CHUNK] = ((TWO - THREE_HALVES * g) * g + HALF) * g
        weights[k + 3 * CHUNK] = (HALF * g - HALF) * g * g


@compiled()
def _lanczos3(f, weights):
    """Write the weights of Lanczos' window of three lobes, normalised so that a constant stays constant.

    At the distance x a tap has the weight sinc(x) sinc(x/3) = 3 sin(pi x) sin(pi x/3) / (pi x)^2.
    """
    # Distances of the six taps differ by whole pixels, so that two sines and a cosine do for all: sin(pi x) only
    # changes its sign, and sin(pi x/3) follows from sine and cosine of pi g/3 by the addition theorem.
    for k in range(f.size):
        g = np.float64(f[k])
        sine, turn, turned = np.sin(np.pi * g), np.sin(np.pi / 3 * g), np.cos(np.pi / 3 * g)
        total = 0.0
        for tap in range(LANCZOS3):
            x = g + (2.0 - tap)
            sign = 1.0 if tap % 2 == 0 else -1.0
            third = turn * COS_THIRDS[tap] + turned * SIN_THIRDS[tap]
            weight = 1.0 if x == 0.0 else sign * sine * third / (x * x)
            weight = weight if x == 0.0 else weight * (3.0 / (np.pi * np.pi))
            weights[k + tap * CHUNK] = weight
            total += weight
        for tap in range(LANCZOS3):
            weights[k + tap * CHUNK] /= total


@compiled()
def _weigh(taps, f, weights):
    """Write the weights of all taps along one axis for places that lie `f` pixels above a whole one."""
    if taps == BICUBIC:
        _bicubic(f, weights)
    elif taps == BILINEAR:
        _bilinear(f, weights)
    else:
        _lanczos3(f, weights)


@compiled()
def _multiply(a, b, out):
    for k in range(out.size):
        out[k] = a[k] * b[k]


@compiled()
def _add_product(a, b, out):
    for k in range(out.size):
        out[k] += a[k] * b[k]


@compiled()
def _add_four(wx, values, wy, out):
    """Do what `_add_product` and `_multiply` do, in one pass for the default interpolation."""
    for k in range(out.size):
        out[k] += wy[k] * (
            wx[k] * values[k]
            + wx[k + CHUNK] * values[k + 1]
            + wx[k + 2 * CHUNK] * values[k + 2]
            + wx[k + 3 * CHUNK] * values[k + 3]
        )


@compiled()
def _weighted(plane, row, column, taps, wx, wy, spare, out):
    """Write the sums over all taps of a run of pixels whose first tap is at `row` and `column` of the plane."""
    n = out.size
    for k in range(n):
        out[k] = ZERO
    for j in range(taps):
        # Along x first: neighbouring pixels of the run meet the same row of the source, shifted by one.
        values, down = plane[row + j, column:], wy[j * CHUNK :]
        if taps == BICUBIC:
            _add_four(wx, values, down, out)
        else:
            _multiply(wx, values, spare)
            for i in range(1, taps):
                _add_product(wx[i * CHUNK :], values[i:], spare)
            _add_product(down, spare, out)


@compiled()
def _flagged(data, variance, dq, out):
    for x in range(out.size):
        out[x] = (dq[x] != 0) | (not abs(data[x]) < INF) | (not abs(variance[x]) < INF)


@compiled()
def _or_shifted(flags, out):
    for x in range(out.size):
        out[x] |= flags[x]


@compiled()
def _mark_flags(data, variance, dq, taps, near, flags):
    """Mark in `near`, which is 0, where any of the `taps` x `taps` pixels from there has a flag or is no number."""
    # Along x, then along y, as the flags of a square are those of its rows.
    rows, columns = data.shape
    for y in range(rows):
        _flagged(data[y], variance[y], dq[y], flags)
        for i in range(min(taps, columns)):
            _or_shifted(flags[i:], near[y, : columns - i])
    for y in range(rows):
        for j in range(1, min(taps, rows - y)):
            _or_shifted(near[y + j], near[y])


@compiled()
def _any(flags):
    bits = 0
    for x in range(flags.size):
        bits |= flags[x]
    return bits != 0


@compiled()
def _careful(planes, dq, row, column, taps, weights, k):
    """Give value, variance and bits of one pixel, its taps looked at one by one.

    Two sums are kept. That over good pixels is the result where no excluded one weighs much. Otherwise the result is
    excluded itself, and is the sum over all that was measured: a saturated star shall stay bright.
    """
    data, variance = planes
    wx, wy = weights[0, 0], weights[0, 1]
    bits, missing = np.uint16(0), False
    value = noise = norm = good_value = good_noise = good_norm = ZERO
    for j in range(taps):
        for i in range(taps):
            y, x = row + j, column + i
            weight = wx[k + i * CHUNK] * wy[k + j * CHUNK]
            size = abs(weight)
            if not (0 <= y < data.shape[0] and 0 <= x < data.shape[1]):
                tap = NO_DATA
            else:
                tap = dq[y, x]
                if not (abs(data[y, x]) < INF and abs(variance[y, x]) < INF):
                    tap |= NO_DATA
            bad = (tap & EXCLUDING) != 0
            if size > (EXCLUDING_WEIGHT if bad else INFLUENCE):
                bits |= tap
            missing |= bad and size > INFLUENCE
            if (tap & NO_DATA) == 0:
                value += weight * data[y, x]
                noise += weight * weight * variance[y, x]
                norm += weight
            if not bad:
                good_value += weight * data[y, x]
                good_noise += weight * weight * variance[y, x]
                good_norm += weight
    # Only pixels whose weight is above 10 % have brought an excluding bit.
    if (bits & EXCLUDING) == 0:
        value, noise, norm = good_value, good_noise, good_norm
        if missing:
            bits |= INTERPOLATED
    # The weights of all taps add up to 1. With less than half of it a value would be extrapolated.
    if norm < HALF:
        return ZERO, ZERO, bits | NO_DATA
    return value / norm, noise / (norm * norm), bits


@compiled()
def _scaled(values, factor, step, out):
    """Write values times a factor, in reverse where `step` is negative."""
    if step > 0:
        for k in range(out.size):
            out[k] = values[k] * factor
    else:
        for k in range(out.size):
            out[k] = values[out.size - 1 - k] * factor


@compiled()
def _copied(values, step, out):
    """Write values, in reverse where `step` is negative."""
    for k in range(out.size):
        out[k] = values[k] if step > 0 else values[out.size - 1 - k]


@compiled()
def _run_end(column, row, k, n):
    """Give the end of the run of places, one source pixel apart in one source row, that begins at `k`."""
    end = k + 1
    while end < n and column[end] - column[k] == end - k and row[end] == row[k]:
        end += 1
    return end


@compiled()
def _weighted_run(planes, row, column, taps, weights, start, sums, spare):
    """Write the sums over all taps of data and variance, for a run of pixels."""
    n = spare.size
    for p in range(2):
        wx, wy = weights[p, 0, start:], weights[p, 1, start:]
        _weighted(planes[p], row, column, taps, wx, wy, spare, sums[p, start : start + n])


@compiled()
def _interpolate(planes, dq, near, places, taps, weights, sums, bits, spare):
    """Fill `sums` and `bits` of one chunk."""
    column, row = places[0], places[1]
    rows, columns = dq.shape
    n, k = bits.size, np.intp(0)
    while k < n:
        end = _run_end(column, row, k, n)
        x, y = column[k], row[k]
        # Pixels of the run whose taps all lie inside the source.
        first, last = max(k, k - x), min(end, k + columns - taps + 1 - x)
        if y < 0 or y + taps > rows or last - first < SHORT:
            first, last = end, end
        else:
            _weighted_run(planes, y, x + first - k, taps, weights, first, sums, spare[: last - first])
        # Most runs are clear of flags and edges, and done.
        if last - first < end - k or _any(near[y, x : x + end - k]):
            for i in range(k, end):
                if first <= i < last and near[y, column[i]] == 0:
                    bits[i] = 0
                else:
                    sums[0, i], sums[1, i], bits[i] = _careful(planes, dq, y, column[i], taps, weights, i)
        else:
            for i in range(k, end):
                bits[i] = 0
        k = end


_ROOM = (
    array(np.uint8, 2),
    array(np.int32, 2),
    array(np.float32, 1),
    array(np.float32, 3),
    array(np.float32, 2),
    array(np.uint16, 1),
    array(np.float32, 1),
    array(np.uint8, 1),
)


def room_for(shape: tuple[int, int], taps: int) -> tuple[Any, ...]:
    """Return the memory that `resample` works in.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns ``(ny, nx)`` of the part of the source that it is given.
    taps : int
        `BILINEAR`, `BICUBIC` or `LANCZOS3`.

    Returns
    -------
    tuple of arrays
        For its argument `room`; good for one call.
    """
    lines = np.empty((2, CHUNK), np.int32), np.empty(CHUNK, np.float32)
    weights, sums = np.zeros((2, 2, taps * CHUNK), np.float32), np.empty((2, CHUNK), np.float32)
    spare = np.empty(CHUNK, np.uint16), np.empty(CHUNK, np.float32), np.empty(shape[1], np.uint8)
    return np.zeros(shape, np.uint8), *lines, weights, sums, *spare


@compiled(
    (np.float64,) * 6,
    np.int64,
    np.int64,
    np.int64,
    constant(np.float32, 2),
    constant(np.float32, 2),
    constant(np.uint16, 2),
    array(np.float32, 2),
    array(np.float32, 2),
    array(np.uint16, 2),
    _ROOM,
)
def resample(affine, taps, first, low, data, variance, dq, out_data, out_variance, out_dq, room):
    """Interpolate rows of the output that begin at row `first`, from rows of the source that begin at row `low`.

    The formulae, and what becomes of flags, are those of `ccdflow.recipes.alignment.resample.Resampled`.

    Parameters
    ----------
    affine : float64[6]
        a, b, c, d, dx, dy of `ccdflow.recipes.alignment.transform.Transform`: output pixels to source pixels.
    taps : int
        `BILINEAR`, `BICUBIC` or `LANCZOS3`.
    first, low : int
        First row of the output and of the source that are given here.
    data, variance, dq : arrays of shape (rows, columns)
        Rows of the source, all that the output needs as far as the source has them: float32, float32, uint16.
    out_data, out_variance, out_dq : arrays of shape (rows, columns)
        Rows of the output, in the unit of the source; written.
    room : tuple of arrays
        Memory to work in, see `room_for`.
    """
    a, b, c, d, dx, dy = affine
    rows, columns = data.shape
    ahead = taps // 2 - 1
    area = np.float32(abs(a * d - b * c))
    near, places, fraction, weights, sums, bits, spare, flags = room
    _mark_flags(data, variance, dq, taps, near, flags)
    # In a frame that is turned over (after a meridian flip, say) places run backwards along the source: then the output
    # is worked out from its right to its left.
    step = 1 if a >= 0 else -1
    for y in range(out_data.shape[0]):
        for x in range(0, out_data.shape[1], CHUNK):
            n = min(CHUNK, out_data.shape[1] - x)
            begin = x if step > 0 else x + n - 1
            _places(a, b * (first + y), dx, begin, step, columns, np.int32(ahead), places[0], fraction)
            _weigh(taps, fraction, weights[0, 0])
            _places(
                c, d * (first + y), dy, begin, step, low + rows, np.int32(low + ahead), places[1], fraction
            )
            _weigh(taps, fraction, weights[0, 1])
            for axis in range(2):
                _multiply(weights[0, axis], weights[0, axis], weights[1, axis])
            _interpolate((data, variance), dq, near, places, taps, weights, sums, bits[:n], spare)
            _scaled(sums[0, :n], area, step, out_data[y, x : x + n])
            _scaled(sums[1, :n], area * area, step, out_variance[y, x : x + n])
            _copied(bits[:n], step, out_dq[y, x : x + n])
