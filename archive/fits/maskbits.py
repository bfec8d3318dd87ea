"""The bits of a stored mask: those of `DQ` that exclude a pixel, which are eight, in one byte.

``NONLINEAR`` and ``INTERPOLATED`` exclude no pixel, so that their places in the byte are free: ``EDGE`` and
``REJECTED``, whose own numbers would take a second byte, stand there. Cards say what each bit means.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.core.dq import DQ, EXCLUDED, DQArray

ANY_BIT = "BIT00"
"""Card that says of a mask that its numbers are bits of `DQ`."""
BITS = (
    *(DQ.BAD_PIXEL, DQ.EDGE, DQ.SATURATED, DQ.COSMIC_RAY, DQ.NO_DATA, DQ.HOT),
    *(DQ.LOW_FLAT, DQ.REJECTED),
)
"""What the bits of a byte mean, the lowest first."""
_BYTE = 255


def to_mask(dq: DQArray) -> tuple[NDArray[Any], dict[str, tuple[str, str]]]:
    """Return the mask of a product and the cards that say what its bits mean.

    Parameters
    ----------
    dq : uint16 array, shape (ny, nx)
        Bits of `DQ`.

    Returns
    -------
    mask : uint8 array, shape (ny, nx)
        0 where a pixel may be used; uint16 with the numbers of `DQ` where bits stand that this version does not know.
    cards : dict
        ``BIT00``, ``BIT01``, ...: name and comment.
    """
    bits = dq & EXCLUDED
    if bits.max(initial=0) > sum(DQ):
        return np.ascontiguousarray(bits), _cards(tuple(DQ))
    if bits.max(initial=0) > _BYTE:
        for place, bit in enumerate(BITS):
            if int(bit) > _BYTE:
                bits |= (bits & np.uint16(bit)) >> np.uint16(int(bit).bit_length() - 1 - place)
    return np.ascontiguousarray(bits, np.uint8), _cards(BITS)


def from_mask(mask: NDArray[Any], cards: Mapping[str, Any]) -> DQArray:
    """Return the bits of `DQ` that a stored mask holds.

    Parameters
    ----------
    mask : uint8 or uint16 array of any shape
        As it stands in a file.
    cards : mapping
        Its header.

    Returns
    -------
    uint16 array of the same shape
        Bits that no card of a known name explains stay where they are.
    """
    flags: DQArray = mask.astype(np.uint16)
    moved = _moved(cards)
    # Few pixels have such bits: the others are as they are.
    high = np.flatnonzero(mask & sum(place for place, _ in moved)) if moved else ()
    if len(high):
        flat = flags.reshape(-1)
        told = flat[high]
        known = told & ~np.uint16(sum(place for place, _ in moved))
        for place, bit in moved:
            known |= (told & np.uint16(place)) << np.uint16(bit.bit_length() - place.bit_length())
        flat[high] = known
    return flags


def _cards(bits: tuple[DQ, ...]) -> dict[str, tuple[str, str]]:
    return {f"BIT{place:02d}": (str(bit.name), f"meaning of {1 << place}") for place, bit in enumerate(bits)}


def _moved(cards: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Numbers of bits in a mask that mean a higher one of `DQ`, and that."""
    known = {str(bit.name): int(bit) for bit in DQ}
    stated = ((1 << place, known.get(str(cards.get(f"BIT{place:02d}")).strip(), 0)) for place in range(16))
    return [(place, bit) for place, bit in stated if bit > place]
