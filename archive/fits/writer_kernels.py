"""Compiled kernels of the FITS writer: numbers with their highest byte first, and their checksum."""

import numpy as np

from ccdflow.recipes.core.dq import EXCLUDED
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


@compiled(constant(np.uint16, 1), array(np.uint8, 1))
def encode_mask(dq, out):
    """Write 1 where a bit excludes the pixel, 0 elsewhere.

    Parameters
    ----------
    dq : uint16 array, shape (n,)
        Bits of `DQ`.
    out : uint8 array, shape (n,)
        Written.
    """
    for x in range(out.size):
        out[x] = (dq[x] & EXCLUDED) != 0
