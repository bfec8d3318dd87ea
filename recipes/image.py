"""Pixels in memory: data, variance and data quality travel together."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.dq import DQArray

FloatArray = NDArray[np.float32]


class ImageSource(Protocol):
    """Anything that gives an image strip by strip: an `Image`, or a product read from its file."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns ``(ny, nx)``."""
        ...

    @property
    def unit(self) -> str:
        """Unit of the data, as FITS writes it."""
        ...

    def rows(self, rows: slice) -> "Image":
        """The rows ``rows`` as an image of shape ``(len(rows), nx)``."""
        ...


@dataclass(frozen=True)
class Image:
    """One image with its uncertainty.

    Parameters
    ----------
    data : float32 array, shape (ny, nx)
        In `unit`.
    variance : float32 array, shape (ny, nx)
        In `unit` squared.
    dq : uint16 array, shape (ny, nx)
        Bits of `ccdflow.recipes.dq.DQ`; 0 is good.
    unit : str
        ``electron``, ``adu``, ``electron / s`` or empty for a number without unit.
    """

    data: FloatArray
    variance: FloatArray
    dq: DQArray
    unit: str

    def __post_init__(self) -> None:
        if not (self.data.shape == self.variance.shape == self.dq.shape and self.data.ndim == 2):
            raise ValueError(
                "data, variance and dq must be planes of one shape; found "
                f"{self.data.shape}, {self.variance.shape} and {self.dq.shape}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns ``(ny, nx)``."""
        ny, nx = self.data.shape
        return ny, nx

    def rows(self, rows: slice) -> "Image":
        """The rows ``rows`` as an image that shares memory with this one."""
        return Image(self.data[rows], self.variance[rows], self.dq[rows], self.unit)
