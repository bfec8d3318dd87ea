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


# Three ways to read pixels, each a little faster and a little narrower than the one before: `ImageSource.rows` makes
# new arrays, `Filler.fill` writes into memory that is there, `UniformFiller.fill_uniform` leaves out variance and DQ.
# Only the first is needed: whatever has `shape`, `unit` and `rows` can be combined or applied as a master.


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
        """Return some rows as an image.

        Parameters
        ----------
        rows : slice
            Consecutive rows, counted from 0.

        Returns
        -------
        Image
            Shape ``(number of those rows, nx)``; not to be written to, since it may share the source's memory.
        """
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

    Raises
    ------
    ValueError
        If the planes differ in shape, or are not two-dimensional.

    Examples
    --------
    Ten electron everywhere, with the photon noise that belongs to them and no bad pixel:

    >>> ten = np.full((2, 3), 10, np.float32)
    >>> image = Image(ten, ten.copy(), np.zeros((2, 3), np.uint16), "electron")
    >>> image.shape, image.rows(slice(0, 1)).shape
    ((2, 3), (1, 3))
    """

    data: FloatArray
    variance: FloatArray
    dq: DQArray
    unit: str

    def __post_init__(self) -> None:
        # Shapes only: images are made for every strip of every frame, and dtypes are mypy's business.
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
        """Return some rows as an image that shares memory with this one.

        Parameters
        ----------
        rows : slice
            Rows, counted from 0.

        Returns
        -------
        Image
            Views of data, variance and DQ, in the same unit.
        """
        return Image(self.data[rows], self.variance[rows], self.dq[rows], self.unit)

    @cached_property
    def fingerprint(self) -> str:
        """CRC-32 of the data, in eight hexadecimal digits: tells one master from another, wherever its file lies."""
        return f"{crc32(np.ascontiguousarray(self.data).data):08x}"


@dataclass(frozen=True)
class Planes:
    """Memory for some rows of one frame, to be written.

    Parameters
    ----------
    data : float32 array, shape (rows, nx)
        C-contiguous, as all of them.
    variance : float32 array, shape (rows, nx)
    dq : uint16 array, shape (rows, nx)
    masters : float32 array or None, shape (rows, nx)
        For the part of the variance that master calibrations brought; None where nobody wants it.
    """

    data: FloatArray
    variance: FloatArray
    dq: DQArray
    masters: FloatArray | None = None


class Filler(ImageSource, Protocol):
    """An image source that writes its rows where they are wanted, which saves making and copying them."""

    def fill(self, rows: slice, planes: Planes) -> None:
        """Write some rows.

        Parameters
        ----------
        rows : slice
            Consecutive rows, counted from 0.
        planes : Planes
            Written whole; `Planes.masters` too, where there is one.
        """
        ...


class UniformFiller(ImageSource, Protocol):
    """An image source some of whose rows need no planes of variance and DQ."""

    def fill_uniform(self, rows: slice, data: FloatArray) -> float | None:
        """Write the data of some rows, if one number is the variance of all their pixels and none is flagged.

        Parameters
        ----------
        rows : slice
            Consecutive rows, counted from 0.
        data : float32 array, shape (rows, nx)
            C-contiguous; written.

        Returns
        -------
        float or None
            That variance. None where the rows are not like that, or it is not known: what stands in `data`
            then means nothing.
        """
        ...


def fills_uniformly(source: ImageSource) -> TypeGuard[UniformFiller]:
    """Tell whether an image source is a `UniformFiller`.

    Parameters
    ----------
    source : ImageSource
        Any; nothing is read from it.

    Returns
    -------
    bool
    """
    return hasattr(source, "fill_uniform")


def fills(source: ImageSource) -> TypeGuard[Filler]:
    """Tell whether an image source is a `Filler`.

    Parameters
    ----------
    source : ImageSource
        Any; nothing is read from it.

    Returns
    -------
    bool
    """
    # isinstance with a protocol looks at all its members anew each time, which for each strip is too slow.
    return hasattr(source, "fill")


def fill(source: ImageSource, rows: slice, planes: Planes) -> None:
    """Write rows of any image source into memory that is there.

    Parameters
    ----------
    source : ImageSource
        Read by its `fill` where it has one, which saves a copy; else by `rows`.
    rows : slice
        Consecutive rows, counted from 0.
    planes : Planes
        Written; `Planes.masters` only if the source is a `Filler`.
    """
    if fills(source):
        source.fill(rows, planes)
        return
    image = source.rows(rows)
    # Copied into the arrays, not bound to new ones: the planes are parts of somebody's memory.
    planes.data[:], planes.variance[:], planes.dq[:] = image.data, image.variance, image.dq


def empty_planes(shape: tuple[int, int], *, masters: bool = False) -> Planes:
    """Return memory for the planes of an image, with whatever stands in it.

    Parameters
    ----------
    shape : (int, int)
        Number of rows and columns ``(ny, nx)``.
    masters : bool
        True if the masters' part of the variance is wanted too.

    Returns
    -------
    Planes
        Aligned to cache lines.
    """
    data, variance = memory.empty(shape, np.float32), memory.empty(shape, np.float32)
    brought = memory.empty(shape, np.float32) if masters else None
    return Planes(data, variance, memory.empty(shape, np.uint16), brought)
