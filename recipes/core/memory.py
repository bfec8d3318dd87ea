"""Memory that begins where a cache line does: vector instructions take a quarter longer where each spans two."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

CACHE_LINE = 64
"""Bytes of a cache line on x86-64 and most of ARM; AVX-512 reads one such line at a time."""

_SMALLEST_VALUE = 2
"""Bytes of the smallest value that `whole_lines` serves: uint16, of which DQ is made."""


def empty(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array as `numpy.empty` does, whose address is a multiple of `CACHE_LINE`.

    Parameters
    ----------
    shape : int or tuple of int
        Any number of axes.
    dtype : dtype-like
        Type of the values.

    Returns
    -------
    array of that shape and dtype
        C-contiguous; it holds whatever stood in that memory before.

    Notes
    -----
    A call takes some microseconds. For memory that is needed anew for each strip, `numpy.empty` is better.
    """
    kind = np.dtype(dtype)
    size = (shape if isinstance(shape, int) else prod(shape)) * kind.itemsize
    # numpy's own memory may begin at any multiple of 16 bytes: ask for a line more, and begin within it.
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.__array_interface__["data"][0] % CACHE_LINE
    return memory[start : start + size].view(kind).reshape(shape)


def whole_lines(values: int) -> int:
    """Return the number of values, rounded up so that they fill whole cache lines.

    Rows of that length all begin where a line does, for values of 2 bytes (DQ) or more.

    Parameters
    ----------
    values : int
        How many values a row must hold at least.

    Returns
    -------
    int
        That number or the next higher multiple of 32.
    """
    return -(-values // (CACHE_LINE // _SMALLEST_VALUE)) * (CACHE_LINE // _SMALLEST_VALUE)
