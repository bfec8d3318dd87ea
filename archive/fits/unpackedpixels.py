"""Pixels of a file that is unpacked as a whole, once, when the first rows are asked for."""

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.archive.fits.spool import Room
from ccdflow.archive.foreignfile import DamagedFrameError
from ccdflow.archive.patience import in_time

Pixels = NDArray[Any]
Write = Callable[[int, Any], None]
"""Takes the place of the first byte, and bytes."""


class UnpackedPixels:
    """Pixels that another form packs so that no row can be had without all: they are kept on disk once unpacked.

    Parameters
    ----------
    path : Path
        The file.
    dtype : dtype
        Of the numbers as they are unpacked, in any byte order.
    shape : tuple of int
        ``(ny, nx)``.
    unpack : callable
        Unpacks the file: is given what writes bytes at a place, and writes all of them.
    shuffled : bool
        First come the first bytes of all numbers, then their second ones, ... (XISF 1.0, byte shuffling).
    """

    compressed = False
    """Rows can be read a second time without unpacking them again."""

    def __init__(
        self,
        path: Path,
        dtype: np.dtype[Any],
        shape: tuple[int, int],
        unpack: Callable[[Write], None],
        *,
        shuffled: bool = False,
    ) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.shape = shape
        self._unpack = unpack
        self._shuffled = shuffled and self.dtype.itemsize > 1
        self._lock = Lock()
        self._room: Room | None = None
        self._damage: DamagedFrameError | None = None

    def __getitem__(self, key: tuple[slice, slice], /) -> Pixels:
        rows, columns = key
        ny, nx = self.shape
        y0, y1, step = rows.indices(ny)
        if step != 1:
            raise ValueError(f"rows are read in order, one by one; found a step of {step}")
        count = max(y1 - y0, 0) * nx
        numbers = self._numbers(y0 * nx, count).view(self.dtype).reshape(-1, nx)[:, columns]
        return np.ascontiguousarray(numbers, self.dtype.newbyteorder("="))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        """Whole image, for `numpy.asarray`."""
        loaded = self[:, :]
        return loaded if dtype is None else loaded.astype(dtype, copy=False)

    def unpack(self) -> Room:
        """Unpack the file, where that is not done yet.

        Returns
        -------
        Room
            Where its bytes are.

        Raises
        ------
        DamagedFrameError
            If it does not unpack to what it is to hold.
        """
        with self._lock:
            if self._damage is not None:
                raise self._damage
            if self._room is None:
                try:
                    self._room = in_time(self.path, self._unpacked)
                except DamagedFrameError as error:
                    self._damage = error
                    raise
            return self._room

    def _unpacked(self) -> Room:
        room = Room(self.shape[0] * self.shape[1] * self.dtype.itemsize)
        self._unpack(room.write)
        return room

    def _numbers(self, first: int, count: int) -> NDArray[np.uint8]:
        """Return the bytes of some numbers, one number after the other."""
        room, size = self.unpack(), self.dtype.itemsize
        if not self._shuffled:
            return room.read(first * size, count * size)
        whole = self.shape[0] * self.shape[1]
        numbers = np.empty((count, size), np.uint8)
        for byte in range(size):
            numbers[:, byte] = room.read(byte * whole + first, count)
        return numbers.reshape(-1)
