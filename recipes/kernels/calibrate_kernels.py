"""Compiled kernels of calibration: raw numbers to electron, and masters applied, in one pass over a strip.

The formulae are those of `ccdflow.recipes.core.arithmetic`, in float32. A plane that is not wanted comes as an empty
array: loops over it then do nothing, and no kernel needs a second form.
"""

import numpy as np

from ccdflow.recipes.core.dq import DQ, EXCLUDED
from ccdflow.recipes.kernels.compiled import array, compiled, constant

CHUNK = 2048
"""Pixels that go through all steps together, so that they stay in a core's cache: 70 kB with a master's."""

ZERO, ONE = np.float32(0), np.float32(1)
INF = np.float32(np.inf)
TOP_BIT = np.uint16(0x8000)
"""FITS keeps unsigned 16-bit numbers as signed ones less 32768 (BZERO): to add that is to turn this bit over."""
SATURATED = np.uint16(DQ.SATURATED)
NO_DATA = np.uint16(DQ.NO_DATA)
LOW_FLAT = np.uint16(DQ.LOW_FLAT)
GOOD = np.uint16(0)
EXCLUDING = np.uint16(EXCLUDED)


@compiled(constant(np.uint16, 1), np.float32, array(np.float32, 1))
def decode_integers(stored, zero, out):
    """Decode 16-bit numbers of a FITS file.

    Parameters
    ----------
    stored : uint16 array, shape (n,)
        Bits of signed numbers whose highest byte comes first, as they stand in the file.
    zero : float32
        BZERO less 32768, in adu; 0 in files of unsigned numbers.
    out : float32 array, shape (n,)
        Numbers + 32768 + `zero`, in adu; written.
    """
    for x in range(out.size):
        number = stored[x]
        out[x] = np.float32(np.uint16((number >> 8) | (number << 8)) ^ TOP_BIT) + zero


@compiled(constant(np.uint16, 2), np.int64, np.int64, array(np.uint16, 1))
def highest_integers(stored, first, last, out):
    """Find the highest of 16-bit numbers of a FITS file, and the bits that are set in any.

    Parameters
    ----------
    stored : uint16 array, shape (rows, nx)
        Bits of signed numbers whose highest byte comes first, as they stand in the file.
    first, last : int64
        Columns that are looked at, from `first` on, without `last`.
    out : uint16 array, shape (2,)
        Highest number + 32768, and all bits; written.
    """
    highest, bits = np.uint16(0), np.uint16(0)
    for y in range(stored.shape[0]):
        for number in stored[y, first:last]:
            value = np.uint16((number >> 8) | (number << 8)) ^ TOP_BIT
            bits = bits | value
            highest = value if value > highest else highest
    out[0], out[1] = highest, bits


@compiled(constant(np.uint32, 1), array(np.uint32, 1))
def decode_reals(stored, out):
    """Turn the bytes of 32-bit numbers of a FITS file into this machine's order.

    Parameters
    ----------
    stored : uint32 array, shape (n,)
        Bits of float32 numbers whose highest byte comes first, as they stand in the file.
    out : uint32 array, shape (n,)
        Bits of the same numbers; written.
    """
    for x in range(out.size):
        b = stored[x]
        out[x] = np.uint32((b >> 24) | ((b >> 8) & 0xFF00) | ((b << 8) & 0xFF0000) | (b << 24))


_PLANES = (array(np.float32, 2), array(np.float32, 2), array(np.uint16, 2))


@compiled()
def _electrons_of_row(values, level, columns, numbers, flip_x, data, spread, dq):
    """One row of `electrons`; gives whether one of its pixels is to be flagged, where dq is not written."""
    gain, variance, saturation = numbers
    flagged = False
    if dq.size == 0:
        for x in range(data.size):
            # `not abs(v) < inf` is true of NaN too, which `abs(v) == inf` is not.
            data[x] = (values[x] - level - columns[x]) * gain
            flagged |= (values[x] >= saturation) | ~(abs(values[x]) < INF)
    for x in range(dq.size):
        measured = abs(values[x]) < INF  # neither infinite nor NaN
        data[x] = (values[x] - level - columns[x]) * gain if measured else ZERO
        dq[x] = (SATURATED if values[x] >= saturation else GOOD) | (GOOD if measured else NO_DATA)
    for x in range(spread.size):
        spread[x] = variance
    # An amplifier that reads out from the other side: its columns go into the image in reverse. Its variance is one
    # number for all pixels.
    if flip_x:
        for x in range(data.size // 2):
            other = data.size - 1 - x
            data[x], data[other] = data[other], data[x]
        for x in range(dq.size // 2):
            other = dq.size - 1 - x
            dq[x], dq[other] = dq[other], dq[x]
    return flagged


@compiled(
    constant(np.float32, 2),
    (np.int64,) * 5,
    (constant(np.float32, 1),) * 2,
    (np.float32,) * 3,
    _PLANES,
)
def electrons(raw, geometry, levels, numbers, out):
    """Write one amplifier's rows in electron: saturated pixels flagged, overscan subtracted, times the gain.

    Parameters
    ----------
    raw : float32 array, shape (rows, width of the raw array)
        adu.
    geometry : int64[5]
        First column in the raw array, the one behind the last, first column in the image, and whether rows and columns
        are turned around (0 or 1).
    levels : (float32[rows], float32[columns])
        Level of the overscan in adu: of each row, and of each column on top of it.
    numbers : float32[3]
        Gain in electron per adu, variance in electron**2 (of read noise and overscan) and saturation level in adu.
    out : (data, variance, dq)
        Planes of these rows of the image; written in the columns of this amplifier: float32 in electron and
        electron**2, uint16. Pixels at or above the saturation level get ``SATURATED``, those that are not finite
        ``NO_DATA`` and the value 0. Where variance and dq have no columns, only data are written.

    Returns
    -------
    int
        How many rows have a pixel that is to be flagged; 0 where dq is written.
    """
    flagged = 0
    x0, x1, target, flip_y, flip_x = geometry
    end = target + x1 - x0
    for y in range(raw.shape[0]):
        to = raw.shape[0] - 1 - y if flip_y else y
        data, spread, dq = out[0][to, target:end], out[1][to, target:end], out[2][to, target:end]
        flagged += _electrons_of_row(
            raw[y, x0:x1], levels[0][y], levels[1], numbers, flip_x, data, spread, dq
        )
    return flagged


@compiled(
    constant(np.uint16, 2),
    np.float32,
    (np.int64,) * 5,
    (constant(np.float32, 1),) * 2,
    (np.float32,) * 3,
    _PLANES,
    array(np.float32, 1),
)
def electrons_of_integers(stored, zero, geometry, levels, numbers, out, values):
    """Write one amplifier's rows as `electrons` does, from numbers as `decode_integers` takes them.

    Parameters
    ----------
    stored : uint16 array, shape (rows, width of the raw array)
        As they stand in the file.
    zero : float32
        BZERO less 32768, in adu.
    geometry, levels, numbers, out
        As in `electrons`.
    values : float32 array
        Room for a row of the amplifier; written.

    Returns
    -------
    int
        As `electrons`.
    """
    flagged = 0
    x0, x1, target, flip_y, flip_x = geometry
    end = target + x1 - x0
    for y in range(stored.shape[0]):
        to = stored.shape[0] - 1 - y if flip_y else y
        data, spread, dq = out[0][to, target:end], out[1][to, target:end], out[2][to, target:end]
        row = stored[y, x0:x1]
        # As `decode_integers`, row by row, so that the numbers are still in the cache when they are used.
        for x in range(row.size):
            number = row[x]
            values[x] = np.float32(np.uint16((number >> 8) | (number << 8)) ^ TOP_BIT) + zero
        flagged += _electrons_of_row(values, levels[0][y], levels[1], numbers, flip_x, data, spread, dq)
    return flagged


@compiled(constant(np.uint16, 1), np.uint16)
def count_flagged(dq, bits):
    """Count the pixels that have any of some bits.

    Parameters
    ----------
    dq : uint16 array, shape (n,)
        Flags.
    bits : uint16
        Those that count.

    Returns
    -------
    int
        Number of pixels.
    """
    count = 0
    for x in range(dq.size):
        count += (dq[x] & bits) != 0
    return count


@compiled()
def _add_dark(spread, factor, shared, cancelled, variance):
    """Add the dark's part to a variance, less what cancels of a master bias that both have lost.

    Rounding must not leave a variance below 0.
    """
    for x in range(variance.size):
        variance[x] += spread[x] * (factor * factor)
    if shared.size:
        for x in range(variance.size):
            variance[x] -= shared[x] * cancelled
    for x in range(variance.size):
        variance[x] = ZERO if variance[x] < ZERO else variance[x]


@compiled()
def _divide(data, divisor, error, variance):
    """Divide a variance by the flat, whose own adds to it; `data` are divided already.

    With q = d/f: var(q) = (var(d) + q^2 var(f)) / f^2.
    """
    for x in range(variance.size):
        f = divisor[x]
        variance[x] = (variance[x] + data[x] * data[x] * error[x]) / (f * f)


_MASTER = (constant(np.float32, 1), constant(np.float32, 1), constant(np.uint16, 1))


@compiled(
    np.int64,
    (np.float32,) * 2,
    (_MASTER,) * 3,
    constant(np.float32, 1),
    (array(np.float32, 1), array(np.float32, 1), array(np.uint16, 1), array(np.float32, 1)),
    array(np.float32, 2),
)
def apply_masters(photons, numbers, masters, shared, out, spare):
    """Apply what masters there are to pixels in electron, in place.

    Parameters
    ----------
    photons : bool
        Whether photon variance (Poisson's, in electron**2 equal to the signal in electron) is to be added.
    numbers : float32[2]
        Factor of the dark (exposure time in s if it is a rate), and of the variance `shared` that the dark takes back.
    masters : three times (data, variance, dq), shape (n,)
        Bias in electron, dark in electron/s or electron, flat without unit; empty where there is none.
    shared : float32 array
        Variance of the master bias, where the dark's exposures have lost the same; else empty.
    out : (data, variance, dq, brought)
        Pixels, shape (n,); changed. Flags of the masters are added to theirs. Where the flat is excluded or not
        above 0 they are not divided, and flagged ``LOW_FLAT``. To `brought`, if it is not empty, is added what the
        masters bring to the variance.
    spare : float32 array, shape (2, CHUNK)
        Written.
    """
    bias, dark, flat = masters
    # Of each master, `level`, `spread` and `bits` are its data, variance and flags in this chunk.
    for start in range(0, out[0].size, CHUNK):
        stop = min(start + CHUNK, out[0].size)
        data, variance, dq, brought = (
            out[0][start:stop],
            out[1][start:stop],
            out[2][start:stop],
            out[3][start:stop],
        )
        if bias[0].size:
            level, spread, bits = bias[0][start:stop], bias[1][start:stop], bias[2][start:stop]
            for x in range(data.size):
                data[x] -= level[x]
                variance[x] += spread[x]
            for x in range(data.size):
                dq[x] |= bits[x]
            for x in range(brought.size):
                brought[x] += spread[x]
        # Electrons of dark current scatter as photons do: hence after the bias, and before the dark is subtracted.
        if photons:
            for x in range(data.size):
                variance[x] += data[x] if data[x] > ZERO else ZERO
        if dark[0].size:
            level, spread, bits = dark[0][start:stop], dark[1][start:stop], dark[2][start:stop]
            for x in range(data.size):
                data[x] -= level[x] * numbers[0]
                dq[x] |= bits[x]
            taken = shared[start:stop]
            _add_dark(spread, numbers[0], taken, numbers[1], variance)
            if brought.size:
                _add_dark(spread, numbers[0], taken, numbers[1], brought)
        if flat[0].size:
            level, spread, bits = flat[0][start:stop], flat[1][start:stop], flat[2][start:stop]
            # What is not usable of the flat becomes 1 +- 0 first, so that the divisions have no branch and become
            # vector instructions. (`&` rather than `and` for the same reason.)
            f, e = spare[0, : data.size], spare[1, : data.size]
            for x in range(data.size):
                usable = ((bits[x] & EXCLUDING) == 0) & (level[x] > ZERO)
                f[x] = level[x] if usable else ONE
                e[x] = spread[x] if usable else ZERO
            for x in range(data.size):
                usable = ((bits[x] & EXCLUDING) == 0) & (level[x] > ZERO)
                dq[x] |= bits[x] | (GOOD if usable else LOW_FLAT)
            for x in range(data.size):
                data[x] /= f[x]
            _divide(data, f, e, variance)
            if brought.size:
                _divide(data, f, e, brought)
