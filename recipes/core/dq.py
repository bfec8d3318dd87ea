"""The bits of the data-quality plane, defined once."""

from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
DQArray = NDArray[np.uint16]


# The numbers stand in every product that was ever written: a bit may be added, none may get another meaning.
class DQ(IntFlag):
    """What is wrong with a pixel; 0 means good. Numbers as DRAGONS has them, where it has them."""

    BAD_PIXEL = 1
    """Does not respond, or a column that does not."""
    NONLINEAR = 2
    """Beyond the range where the response is linear; still usable."""
    SATURATED = 4
    """At or above the saturation level of the raw frame."""
    COSMIC_RAY = 8
    """Hit by a charged particle."""
    NO_DATA = 16
    """Nothing was measured here: outside every frame, or not a finite number."""
    HOT = 32
    """Dark current far above that of its neighbours."""
    LOW_FLAT = 64
    """The flat is too low here to divide by it."""
    INTERPOLATED = 128
    """The value was made from neighbours; still usable."""
    EDGE = 256
    """Too close to the edge of the detector to be trusted."""
    REJECTED = 512
    """Rejected from every frame of the stack."""


# A complement, so that a bit that this version does not know (1024 and above) excludes its pixel.
EXCLUDED = np.uint16(0xFFFF ^ int(DQ.NONLINEAR | DQ.INTERPOLATED))
"""The bits that exclude a pixel: all but ``NONLINEAR`` and ``INTERPOLATED``."""


def excluded(dq: DQArray) -> BoolArray:
    """Return which pixels must not be used.

    Parameters
    ----------
    dq : uint16 array, any shape
        Bits of `DQ`.

    Returns
    -------
    bool array, same shape
        True where any bit of `EXCLUDED` is set.

    Examples
    --------
    >>> excluded(np.array([0, DQ.NONLINEAR, DQ.SATURATED, DQ.NONLINEAR | DQ.HOT], np.uint16))
    array([False, False,  True,  True])
    """
    bad: BoolArray = (dq & EXCLUDED) != 0
    return bad
