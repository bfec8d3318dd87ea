"""Windows of a detector: columns and rows in unbinned pixels, and how binned images lie in them."""

import re
from typing import NamedTuple

from ccdflow.cascade.records import Value

_SECTION = re.compile(r"\[(\d+):(\d+),(\d+):(\d+)\]")
_SIZE = re.compile(r"(\d+)x(\d+)")


class Window(NamedTuple):
    """Columns and rows of the detector in unbinned pixels from 1, both ends included, as FITS sections have them."""

    x1: int
    x2: int
    y1: int
    y2: int

    def __str__(self) -> str:
        return f"[{self.x1}:{self.x2},{self.y1}:{self.y2}]"

    @classmethod
    def parse(cls, text: Value | None) -> "Window | None":
        """Return the window that a text means; None for any other text.

        Parameters
        ----------
        text : str or None
            ``[101:612,201:712]``.
        """
        match = _SECTION.fullmatch(str(text).replace(" ", ""))
        return None if match is None else cls(*map(int, match.groups()))

    def cut(self, other: "Window", factors: tuple[int, int]) -> tuple[int, int]:
        """Return the columns and rows, binned, by which another window begins behind this one.

        Parameters
        ----------
        other : Window
            A part of this one.
        factors : tuple of int
            Binning of both, columns and rows.

        Returns
        -------
        tuple of int
            Columns and rows to leave out before the first pixel.

        Raises
        ------
        ValueError
            If the other lies outside, or begins within a binned pixel.
        """
        if not (self.x1 <= other.x1 and other.x2 <= self.x2 and self.y1 <= other.y1 and other.y2 <= self.y2):
            raise ValueError(f"window is {self}, which does not hold {other}")
        columns, rows = other.x1 - self.x1, other.y1 - self.y1
        if columns % factors[0] or rows % factors[1]:
            binned = f"{factors[0]}x{factors[1]}"
            raise ValueError(f"window is {self}, in whose {binned} pixels none begins where {other} does")
        return columns // factors[0], rows // factors[1]


def binning_factors(text: Value | None) -> tuple[int, int]:
    """Return the factors of a binning, columns and rows.

    Parameters
    ----------
    text : str or None
        ``2x2``; what is no such text counts as no binning.
    """
    match = _SIZE.fullmatch(str(text))
    return (int(match[1]) or 1, int(match[2]) or 1) if match else (1, 1)


def window_of(size: Value | None, binning: Value | None, x1: int = 1, y1: int = 1) -> Window | None:
    """Return the window of an image that begins at a column and row.

    Parameters
    ----------
    size : str or None
        Rows and columns of the assembled image, ``512x1024``.
    binning : str or None
        ``2x2``.
    x1, y1 : int
        First column and row, unbinned, from 1.

    Returns
    -------
    Window or None
        None where the size is not known.
    """
    match = _SIZE.fullmatch(str(size))
    if match is None:
        return None
    x, y = binning_factors(binning)
    ny, nx = int(match[1]), int(match[2])
    return Window(x1, x1 + nx * x - 1, y1, y1 + ny * y - 1)
