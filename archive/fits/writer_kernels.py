"""Compiled kernels of the FITS writer: numbers with their highest byte first, their checksum, and shares in 8 bits."""

import numpy as np

from ccdflow.recipes.kernels.compiled import array, compiled, constant

WORDS, PAIRS = 0, 1
"""Kinds: numbers of 32 bits; two unsigned numbers of 16 bits in each word, stored less 32768."""

LOW_BYTES = np.uint32(0x00FF00FF)
"""The lower byte of each of the two numbers in a word."""
SIGNS = np.uint32(0x00800080)
"""The highest bits of both numbers where they stand once the bytes are turned: BZERO = 32768 flips them."""


@compiled(np.int64, constant(np.uint32, 1), array(np.uint32, 1))
def encode(kind, values, out):
    """Write values as they stand in a FITS file, highest byte first (FITS 4.0, section 5), and add them up.

    Parameters
    ----------
    kind : int
        `WORDS` or `PAIRS`.
    values : uint32 array, shape (n,)
        Bits of float32 numbers, or of two uint16 numbers each, as they stand in a little-endian machine.
    out : uint32 array, shape (n,) or (0,)
        Written; with an empty one only the sum is worked out.

    Returns
    -------
    int64
        Sum of the words as they stand in the file. It can't overflow: that takes 2^31 words, a chunk has 2^19.
    """
    total = np.int64(0)
    # The sum has a loop of its own: it needs no byte turned, and LLVM makes vector instructions of both loops. In a
    # word of the file the first of two numbers stands in the upper half, in the machine's word in the lower.
    if kind == WORDS:
        for x in range(values.size):
            total += values[x]
        for x in range(out.size):
            w = values[x]
            out[x] = (w << 24) | ((w & 0xFF00) << 8) | ((w >> 8) & 0xFF00) | (w >> 24)
    else:
        for x in range(values.size):
            w = values[x] ^ np.uint32(0x80008000)
            total += ((w << 16) & 0xFFFF0000) | (w >> 16)
        for x in range(out.size):
            w = values[x]
            out[x] = (((w & LOW_BYTES) << 8) | ((w >> 8) & LOW_BYTES)) ^ SIGNS
    return total


@compiled(constant(np.uint32, 1), np.int64, constant(np.uint8, 1), array(np.uint8, 1))
def look_up(shares, first, table, out):
    """Write the code of each share: what a table has for the upper bits of its number.

    Parameters
    ----------
    shares : uint32 array, shape (n,)
        Bits of float32 numbers; of such numbers above 0 the larger has the larger bits (IEEE 754).
    first : int
        Upper bits of the least share that has a code of its own; what is less has that of the least.
    table : uint8 array, shape (m,)
        Code of each of the upper bits from `first` on.
    out : uint8 array, shape (n,)
        Written; 0 for shares that are 0, below it or not finite.
    """
    last = np.int64(table.size - 1)
    for x in range(out.size):
        bits = np.int64(shares[x])
        place = min(max((bits >> 13) - first, 0), last)
        out[x] = table[place] if 0 < bits < 0x7F800000 else 0


@compiled(constant(np.uint32, 1))
def limits(shares):
    """Return the least and the largest of all shares that are above 0 and finite.

    Parameters
    ----------
    shares : uint32 array, shape (n,)
        Bits of float32 numbers, as in `look_up`.

    Returns
    -------
    int64
        Bits of the largest in the upper 32 bits, those of the least in the lower ones; below 0 where there is none.
    """
    least, largest = np.int64(0x7F800000), np.int64(-1)
    for x in range(shares.size):
        bits = np.int64(shares[x])
        if 0 < bits < 0x7F800000:
            least = min(least, bits)
            largest = max(largest, bits)
    return (largest << 32) | least
