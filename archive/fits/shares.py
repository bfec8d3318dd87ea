"""A part of the variance in 8 bits: the logarithm of its share, in steps of at most 4.6 %.

What the masters brought to a pixel's variance is needed where frames that share them are combined, and there 2 % of it
are far below what a variance is known to. As a plane of its own it would take as much room as the variance.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.core.image import FloatArray
from ccdflow.recipes.kernels.threads import in_threads

CODES = 255
"""Codes of shares: 1 to 255; 0 says that there is none."""
LEAST = 1e-5
"""Of the largest share in a plane; what is less counts as that."""
PIECE = 1 << 18
"""Pixels that are worked on together: they stay in the cache."""
_ANY_STEP = 0.01
"""Where all shares are equal, or none is there: a card that states 0 would stand for a column without numbers."""
_DROPPED_BITS = 13
"""Lower bits of a float32 that the code of a share does not go by: what is left tells shares apart that differ by
0.1 %."""


@dataclass(frozen=True)
class CodedShares:
    """Shares as they are stored.

    Parameters
    ----------
    codes : uint8 array, shape (ny, nx)
        A share is 10^(zero + step * code); 0 for none.
    step, zero : float
        Of the decimal logarithm.
    """

    codes: NDArray[np.uint8]
    step: float
    zero: float


def coded_shares(part: FloatArray, whole: FloatArray) -> CodedShares:
    """Return what share of a whole its part is, in 8 bits.

    Parameters
    ----------
    part, whole : float32 array, shape (ny, nx)
        Variances, C-contiguous. Where the quotient is not above 0, or not finite, the share counts as 0.

    Returns
    -------
    CodedShares
        The range between the least and the largest share is divided evenly in the logarithm: where all are equal the
        code is exact but for rounding, and it is never off by more than half of 4.6 %.
    """
    # LLVM takes a twentieth of a second to load, and commands that only ask never need it.
    from ccdflow.archive.fits.writer_kernels import look_up

    bits = _limits(part, whole)
    codes = np.zeros(part.shape, np.uint8)
    if bits is None:
        return CodedShares(codes, _ANY_STEP, 0.0)
    largest = _number(bits[1])
    zero = math.log10(max(_number(bits[0]), LEAST * largest))
    # From code 1 to code 255 there are 254 steps; where all shares are equal any step will do.
    step = (math.log10(largest) - zero) / (CODES - 1) or _ANY_STEP
    first, table = _table(zero, step, bits)
    flat = codes.reshape(-1)

    def work(pieces: Iterator[slice]) -> None:
        shares = np.empty(PIECE, np.float32)
        for piece in pieces:
            look_up(_quotients(part, whole, piece, shares), first, table, flat[piece])

    in_threads(work, _pieces(flat.size), threads=None if flat.size > PIECE else 1)
    return CodedShares(codes, step, zero - step)


def share_of_code(step: float, zero: float) -> FloatArray:
    """Return the share that each code means.

    Parameters
    ----------
    step, zero : float
        As in `CodedShares`.

    Returns
    -------
    float32 array, shape (256,)
        0 for code 0.
    """
    shares = 10 ** (zero + step * np.arange(CODES + 1))
    shares[0] = 0
    return shares.astype(np.float32)


def _limits(part: FloatArray, whole: FloatArray) -> tuple[int, int] | None:
    """Bits of the least and of the largest share; None where there is none."""
    from ccdflow.archive.fits.writer_kernels import limits

    def work(pieces: Iterator[slice]) -> list[int]:
        shares = np.empty(PIECE, np.float32)
        return [limits(_quotients(part, whole, piece, shares)) for piece in pieces]

    found = in_threads(work, _pieces(part.size), threads=None if part.size > PIECE else 1)
    there = [both for several in found for both in several if both >= 0]
    return (min(both & 0xFFFFFFFF for both in there), max(both >> 32 for both in there)) if there else None


def _pieces(size: int) -> Iterator[slice]:
    return (slice(start, min(start + PIECE, size)) for start in range(0, size, PIECE))


def _quotients(part: FloatArray, whole: FloatArray, piece: slice, buffer: FloatArray) -> NDArray[np.uint32]:
    """Bits of the shares of some pixels, in the buffer's memory."""
    out = buffer[: piece.stop - piece.start]
    # What comes of 0 / 0 and the like is no share, as the kernels see.
    with np.errstate(all="ignore"):
        np.divide(part.reshape(-1)[piece], whole.reshape(-1)[piece], out=out)
        # A part is no more than the whole: one pixel that says otherwise must not set the range of all.
        np.minimum(out, 1, out=out)
    return out.view(np.uint32)


def _table(zero: float, step: float, bits: tuple[int, int]) -> tuple[int, NDArray[np.uint8]]:
    """Upper bits of the least share, and the code of all upper bits from there to the largest."""
    first = max(bits[0], int(np.float32(10**zero).view(np.uint32))) >> _DROPPED_BITS
    upper = np.arange(first, (bits[1] >> _DROPPED_BITS) + 1, dtype=np.uint32)
    middle = ((upper << _DROPPED_BITS) + (1 << (_DROPPED_BITS - 1))).astype(np.uint32).view(np.float32)
    codes = np.rint((np.log10(middle.astype(np.float64)) - zero) / step) + 1
    return first, np.clip(codes, 1, CODES).astype(np.uint8)


def _number(bits: int) -> float:
    return float(np.uint32(bits).view(np.float32))
