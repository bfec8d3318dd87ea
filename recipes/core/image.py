"""Pixels in memory: data, variance and data quality travel together."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeGuard
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.core import memory
from ccdflow.recipes.core.dq import DQArray

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
        Bits of `ccdflow.recipes.core.dq.DQ`; 0 is good.
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

    @cached_property
    def fingerprint(self) -> str:
        """Short text that tells the image by its data."""
        return f"{crc32(np.ascontiguousarray(self.data).data):08x}"


@dataclass(frozen=True)
class Planes:
    """Memory for some rows of one frame: C-contiguous arrays of shape (rows, nx), to be written.

    `masters` is for the part of the variance that master calibrations brought, where it is wanted.
    """

    data: FloatArray
    variance: FloatArray
    dq: DQArray
    masters: FloatArray | None = None


class Filler(ImageSource, Protocol):
    """An image source that writes its rows where they are wanted, which saves making and copying them."""

    def fill(self, rows: slice, planes: Planes) -> None:
        """Write the rows `rows`; `masters` too, where the planes have one."""
        ...


class UniformFiller(ImageSource, Protocol):
    """An image source some of whose rows need no planes of variance and DQ."""

    def fill_uniform(self, rows: slice, data: FloatArray) -> float | None:
        """Write the data of rows whose variance is one number, which is given back, and none of whose DQ has a bit.

        None where they are not such rows, or that is not known; what was written then means nothing.
        """
        ...


def fills_uniformly(source: ImageSource) -> TypeGuard[UniformFiller]:
    """Whether an image source is a `UniformFiller`."""
    return hasattr(source, "fill_uniform")


def fills(source: ImageSource) -> TypeGuard[Filler]:
    """Whether an image source is a `Filler`."""
    # isinstance with a protocol looks at all its members anew each time, which for each strip is too slow.
    return hasattr(source, "fill")


def fill(source: ImageSource, rows: slice, planes: Planes) -> None:
    """Write rows of any image source into memory that is there; `masters` only if it is a `Filler`."""
    if fills(source):
        source.fill(rows, planes)
        return
    image = source.rows(rows)
    planes.data[:], planes.variance[:], planes.dq[:] = image.data, image.variance, image.dq


def empty_planes(shape: tuple[int, int], *, masters: bool = False) -> Planes:
    """Memory for planes of a shape, with whatever stands in it."""
    data, variance = memory.empty(shape, np.float32), memory.empty(shape, np.float32)
    part = memory.empty(shape, np.float32) if masters else None
    return Planes(data, variance, memory.empty(shape, np.uint16), part)
