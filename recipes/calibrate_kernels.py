"""Compiled kernels of calibration: raw numbers to electron, and masters applied, in one pass over a strip."""

import numpy as np
from numba import types

from ccdflow.recipes.compiled import array, compiled, constant
from ccdflow.recipes.dq import DQ, EXCLUDED

CHUNK = 2048
"""Pixels that go through all steps together, so that they stay in a core's cache."""

ZERO, ONE = np.float32(0), np.float32(1)
INF = np.float32(np.inf)
TOP_BIT = np.uint16(0x8000)
SATURATED = np.uint16(DQ.SATURATED)
NO_DATA = np.uint16(DQ.NO_DATA)
LOW_FLAT = np.uint16(DQ.LOW_FLAT)
EXCLUDING = np.uint16(EXCLUDED)


@compiled(constant(types.uint16, 1), types.float32, array(types.float32, 1))
def decode_integers(stored, zero, out):
    """Value of signed 16-bit numbers whose highest byte comes first, plus 32768 + `zero`."""
    for x in range(out.size):
        number = stored[x]
        out[x] = np.float32(np.uint16((number >> 8) | (number << 8)) ^ TOP_BIT) + zero


@compiled(constant(types.uint32, 1), array(types.uint32, 1))
def decode_reals(stored, out):
    """Bits of 32-bit numbers whose highest byte comes first."""
    for x in range(out.size):
        b = stored[x]
        out[x] = np.uint32((b >> 24) | ((b >> 8) & 0xFF00) | ((b << 8) & 0xFF0000) | (b << 24))


@compiled()
def _to_electron(raw, level, levels, gain, saturation, data, dq):
    for x in range(data.size):
        value = raw[x]
        measured = abs(value) < INF
        data[x] = (value - level - levels[x]) * gain if measured else ZERO
        dq[x] = (SATURATED if value >= saturation else np.uint16(0)) | (np.uint16(0) if measured else NO_DATA)


@compiled()
def _set(value, out):
    for x in range(out.size):
        out[x] = value


@compiled()
def _turn(values):
    last = values.size - 1
    for x in range(values.size // 2):
        values[x], values[last - x] = values[last - x], values[x]


_PLANES = (array(types.float32, 2), array(types.float32, 2), array(types.uint16, 2))


@compiled(
    constant(types.float32, 2),
    types.UniTuple(types.int64, 5),
    types.UniTuple(constant(types.float32, 1), 2),
    types.UniTuple(types.float32, 3),
    types.Tuple(_PLANES),
)
def electrons(raw, place, levels, numbers, out):
    """Write one amplifier's rows in electron: saturated pixels flagged, overscan subtracted, times the gain.

    Parameters
    ----------
    raw : float32 array, shape (rows, width of the raw array)
        adu.
    place : int64[5]
        First and last column in the raw array, first column in the image, and whether rows and columns are
        turned around.
    levels : (float32[rows], float32[columns])
        Level of the overscan in adu: of each row, and of each column on top of it.
    numbers : float32[3]
        Gain, variance and saturation level.
    out : (data, variance, dq)
        Planes of these rows of the image; written in the columns of this amplifier.
    """
    x0, x1, target, flip_y, flip_x = place
    gain, variance, saturation = numbers
    end = target + x1 - x0
    for y in range(raw.shape[0]):
        to = raw.shape[0] - 1 - y if flip_y else y
        data, dq = out[0][to, target:end], out[2][to, target:end]
        _to_electron(raw[y, x0:x1], levels[0][y], levels[1], gain, saturation, data, dq)
        _set(variance, out[1][to, target:end])
        if flip_x:
            _turn(data)
            _turn(dq)


@compiled(constant(types.uint16, 1), types.uint16)
def count_flagged(dq, bits):
    """How many pixels have any of the bits."""
    count = 0
    for x in range(dq.size):
        count += (dq[x] & bits) != 0
    return count


@compiled()
def _subtract(values, factor, out):
    for x in range(out.size):
        out[x] -= values[x] * factor


@compiled()
def _add(values, factor, out):
    for x in range(out.size):
        out[x] += values[x] * factor


@compiled()
def _join(bits, out):
    for x in range(out.size):
        out[x] |= bits[x]


@compiled()
def _add_photons(data, variance):
    for x in range(variance.size):
        variance[x] += data[x] if data[x] > ZERO else ZERO


@compiled()
def _not_below_zero(values):
    for x in range(values.size):
        values[x] = ZERO if values[x] < ZERO else values[x]


@compiled()
def _usable_flat(flat, spread, bits, divisor, error, dq):
    """Flat and its variance, 1 and 0 where it can't be divided by."""
    for x in range(divisor.size):
        usable = ((bits[x] & EXCLUDING) == 0) & (flat[x] > ZERO)
        divisor[x] = flat[x] if usable else ONE
        dq[x] |= bits[x] | (np.uint16(0) if usable else LOW_FLAT)
    for x in range(divisor.size):
        usable = ((bits[x] & EXCLUDING) == 0) & (flat[x] > ZERO)
        error[x] = spread[x] if usable else ZERO


@compiled()
def _divide(divisor, data):
    for x in range(data.size):
        data[x] /= divisor[x]


@compiled()
def _divide_variance(data, divisor, error, variance):
    for x in range(variance.size):
        f = divisor[x]
        variance[x] = (variance[x] + data[x] * data[x] * error[x]) / (f * f)


@compiled()
def _add_dark(spread, factor, shared, cancelled, variance):
    """Add the dark's part to a variance, less what cancels of a master bias that both have lost."""
    _add(spread, factor * factor, variance)
    if shared.size:
        _subtract(shared, cancelled, variance)
    _not_below_zero(variance)


_MASTER = types.Tuple((constant(types.float32, 1), constant(types.float32, 1), constant(types.uint16, 1)))


@compiled(
    types.boolean,
    types.UniTuple(types.float32, 2),
    types.UniTuple(_MASTER, 3),
    constant(types.float32, 1),
    types.Tuple(
        (array(types.float32, 1), array(types.float32, 1), array(types.uint16, 1), array(types.float32, 1))
    ),
)
def apply_masters(photons, numbers, masters, shared, out):
    """Apply what masters there are to pixels in electron, in place.

    Parameters
    ----------
    photons : bool
        Whether photon variance is to be added.
    numbers : float32[2]
        Factor of the dark, and of the variance `shared` that the dark takes back.
    masters : three times (data, variance, dq)
        Bias, dark and flat; empty where there is none.
    shared : float32 array
        Variance of the master bias, where the dark's exposures have lost the same; else empty.
    out : (data, variance, dq, brought)
        Pixels; to `brought`, if it is not empty, is added what the masters bring to the variance.
    """
    bias, dark, flat = masters
    divisor, error = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32)
    for start in range(0, out[0].size, CHUNK):
        stop = min(start + CHUNK, out[0].size)
        data, variance, dq, brought = (
            out[0][start:stop],
            out[1][start:stop],
            out[2][start:stop],
            out[3][start:stop],
        )
        if bias[0].size:
            _subtract(bias[0][start:stop], ONE, data)
            _join(bias[2][start:stop], dq)
            _add(bias[1][start:stop], ONE, variance)
            if brought.size:
                _add(bias[1][start:stop], ONE, brought)
        if photons:
            _add_photons(data, variance)
        if dark[0].size:
            _subtract(dark[0][start:stop], numbers[0], data)
            _join(dark[2][start:stop], dq)
            taken = shared[start:stop]
            _add_dark(dark[1][start:stop], numbers[0], taken, numbers[1], variance)
            if brought.size:
                _add_dark(dark[1][start:stop], numbers[0], taken, numbers[1], brought)
        if flat[0].size:
            f, e = divisor[: stop - start], error[: stop - start]
            _usable_flat(flat[0][start:stop], flat[1][start:stop], flat[2][start:stop], f, e, dq)
            _divide(f, data)
            _divide_variance(data, f, e, variance)
            if brought.size:
                _divide_variance(data, f, e, brought)
