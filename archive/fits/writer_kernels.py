"""Compiled kernels of the FITS writer: numbers with their highest byte first, and their checksum."""

import numpy as np

from ccdflow.recipes.core.dq import EXCLUDED
from ccdflow.recipes.kernels.compiled import array, compiled, constant

WORDS, PAIRS = 0, 1
"""Kinds: numbers of 32 bits; two unsigned numbers of 16 bits in each word, stored less 32768."""

LOW_BYTES = np.uint32(0x00FF00FF)
SIGNS = np.uint32(0x00800080)


@compiled(np.int64, constant(np.uint32, 1), array(np.uint32, 1))
def encode(kind, values, out):
    """Write values as they stand in a FITS file; gives the sum of its words, highest byte first.

    With an empty `out` only the sum is worked out.
    """
    total = np.int64(0)
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
    """Write 1 where a bit excludes the pixel, 0 elsewhere."""
    for x in range(out.size):
        out[x] = (dq[x] & EXCLUDED) != 0
