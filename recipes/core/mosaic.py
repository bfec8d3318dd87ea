"""Colour mosaics: which filter lies before which pixel of a one-shot colour camera.

A pattern is four letters, the colours of the first two rows of two pixels as the image has them in memory, first row
first: ``RGGB`` is red and green, then green and blue. Whatever order a camera writes its rows in is settled before.
"""

from collections.abc import Iterator

import numpy as np

from ccdflow.recipes.core.dq import BoolArray

PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")
"""Patterns that can be taken apart: two green pixels on one diagonal, a red and a blue one on the other."""
COLOURS = {"R": "red", "G": "green", "B": "blue"}
"""Letters of the colours to their names."""
CELL = 2
"""Pixels along each side of a cell."""


def shifted(pattern: str, columns: int, rows: int) -> str:
    """Return the pattern of the same pixels, read from another first pixel.

    Parameters
    ----------
    pattern : str
        One of `PATTERNS`.
    columns, rows : int
        By how many pixels the new first one lies behind the old.

    Returns
    -------
    str

    Examples
    --------
    >>> shifted("RGGB", 1, 0), shifted("RGGB", 0, 1), shifted("RGGB", 3, -1)
    ('GRBG', 'GBRG', 'BGGR')
    """
    places = [
        ((row + rows) % CELL, (column + columns) % CELL) for row in range(CELL) for column in range(CELL)
    ]
    return "".join(pattern[CELL * row + column] for row, column in places)


def places(pattern: str, colour: str) -> list[tuple[int, int]]:
    """Return where the pixels of a colour lie within a cell.

    Parameters
    ----------
    pattern : str
        One of `PATTERNS`.
    colour : str
        ``R``, ``G`` or ``B``.

    Returns
    -------
    list of (int, int)
        Row and column, each 0 or 1: two places of green, one of the others.
    """
    return [divmod(place, CELL) for place, letter in enumerate(pattern) if letter == colour]


def colour_pixels(pattern: str, shape: tuple[int, int]) -> Iterator[BoolArray]:
    """Give the pixels of each colour of an image.

    Parameters
    ----------
    pattern : str
        One of `PATTERNS`.
    shape : (int, int)
        Rows and columns, odd numbers too.

    Yields
    ------
    bool array, shape (ny, nx)
        True for red pixels, then for green, then for blue.
    """
    for colour in COLOURS:
        pixels = np.zeros(shape, bool)
        for row, column in places(pattern, colour):
            pixels[row::CELL, column::CELL] = True
        yield pixels
