"""Pixels of a raw file, read strip by strip: a strip costs its own memory and no more."""

import gzip
import os
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from threading import BoundedSemaphore, Lock, local
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ccdflow.archive.fits.rowtiles import RowTiles, row_tiles
from ccdflow.recipes.detector.amplifiers import StoredNumbers

Pixels = NDArray[Any]

BAND_ROWS = 128
"""Rows of a compressed image that are decompressed together."""
KEPT_BANDS = 3
"""So many bands are kept: strips are asked for nearly in order, by as many threads as there are cores."""
LARGEST_SCRATCH = 4_000_000
"""Bytes of the memory that a thread keeps to read into."""
_MAY_STAY_OPEN = BoundedSemaphore(256)
"""Files that stay open between two strips; others are opened for each."""


@dataclass(frozen=True)
class ImageLayout:
    """Where the pixels of an image lie in its file, and what their numbers mean.

    Parameters
    ----------
    offset : int
        Bytes before the first pixel.
    bitpix : int
        As the FITS standard has it: 8, 16, 32, 64 integer, -32, -64 real.
    shape : tuple of int
        ``(ny, nx)``.
    scale, zero : float
        Value = zero + scale * number (BSCALE, BZERO).
    blank : int or None
        Integer that stands for "no value".
    """

    offset: int
    bitpix: int
    shape: tuple[int, int]
    scale: float = 1.0
    zero: float = 0.0
    blank: int | None = None

    @property
    def stored(self) -> np.dtype[Any]:
        """Type of the numbers in the file, highest byte first."""
        kind = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}[self.bitpix]
        return np.dtype(f">{kind}")

    def as_stored(self, content: Pixels) -> StoredNumbers | None:
        """The bytes of some rows as numbers that need no more than their bytes turned; None for other kinds."""
        half = 2**15
        plain = self.scale == 1 and self.blank is None
        if self.bitpix == 16 and plain and self.zero in (0, half):
            return StoredNumbers(content.view(np.uint16), self.zero - half)
        if self.bitpix == -32 and self.scale == 1 and self.zero == 0:
            return StoredNumbers(content.view(np.uint32))
        return None

    def values(self, numbers: Pixels) -> Pixels:
        """Pixels in adu that the stored numbers mean.

        Integers where the file says integers (uint16 by BZERO = 32768), else real.
        Scaled numbers are float32 for 8 and 16 bits, else float64; where the image has a BLANK, they are NaN
        there.
        """
        native: Pixels = numbers.astype(self.stored.newbyteorder("="))
        half = {16: 2**15, 32: 2**31}.get(self.bitpix)
        if self.bitpix < 0 or self.blank is not None or self.scale != 1 or self.zero not in (0, half):
            return self._real(native)
        if self.zero == half:
            unsigned: Pixels = native.view(f"u{native.itemsize}")
            unsigned ^= half  # flipping the top bit adds BZERO
            return unsigned
        return native

    def _real(self, native: Pixels) -> Pixels:
        real: Pixels = native.astype(np.float32 if self.bitpix in (8, 16, -32) else np.float64)
        if self.scale != 1 or self.zero != 0:
            real *= self.scale
            real += self.zero
        if self.blank is not None and self.bitpix > 0:
            real[native == self.blank] = np.nan
        return real


class _Strips(Protocol):
    @property
    def shape(self) -> tuple[int, int]: ...

    def __getitem__(self, key: tuple[slice, slice], /) -> Pixels: ...


class PlainPixels:
    """Pixels of an image that is stored as it is, in a file that may be gzipped."""

    def __init__(self, path: Path, layout: ImageLayout, *, gzipped: bool = False) -> None:
        self.path = path
        self.layout = layout
        self.shape = layout.shape
        self._file = _Plain(path)
        self._bands = _Bands(layout.shape[0], _gzip_reader(path, layout)) if gzipped else None

    def __getitem__(self, key: tuple[slice, slice], /) -> Pixels:
        rows, columns = key
        return self.layout.values(self._content(rows).view(self.layout.stored)[:, columns])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        """Whole image, for `numpy.asarray`."""
        return whole(self, dtype)

    def stored(self, rows: slice) -> StoredNumbers | None:
        """Rows as they stand in the file, if that is in numbers of 16 bits or in reals of 32.

        They hold until this thread reads again, from this or another file.
        """
        return self.layout.as_stored(self._content(rows))

    def _content(self, rows: slice) -> Pixels:
        """Bytes of the rows, shape (rows, bytes of a row)."""
        ny, nx = self.shape
        y0, y1, step = rows.indices(ny)
        if step != 1:
            raise ValueError(f"rows are read in order, one by one; found a step of {step}")
        if self._bands is not None:
            return self._bands.rows(y0, max(y0, y1))
        width = nx * self.layout.stored.itemsize
        content = _scratch(max(y1 - y0, 0) * width).reshape(-1, width)
        self._file.read(self.layout.offset + y0 * width, content)
        return content


class TiledPixels:
    """Pixels of a tile-compressed image (``.fz``)."""

    def __init__(self, path: Path, index: int, layout: ImageLayout) -> None:
        self.path = path
        self.layout = layout
        self.shape = layout.shape
        self._index = index
        self._bands = _Bands(layout.shape[0], _tile_reader(path, index))

    @cached_property
    def _tiles(self) -> RowTiles | None:
        """Tiles that are decompressed one by one; None where astropy is left to do it."""
        return row_tiles(self.path, self._index) if self.layout.blank is None else None

    def __getitem__(self, key: tuple[slice, slice], /) -> Pixels:
        y0, y1, _ = key[0].indices(self.shape[0])
        if self._tiles is not None:
            return self.layout.values(self._tiles.rows(y0, max(y0, y1)))[:, key[1]]
        return self._bands.rows(y0, max(y0, y1))[:, key[1]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        """Whole image, for `numpy.asarray`."""
        return whole(self, dtype)


class JoinedPixels:
    """Several images of one width as one array, the first at the bottom: amplifiers that have an extension each."""

    def __init__(self, parts: Sequence[PlainPixels | TiledPixels]) -> None:
        self._parts = tuple(parts)
        self._starts = list(accumulate((one.shape[0] for one in parts), initial=0))
        self.shape = self._starts[-1], parts[0].shape[1]

    def __getitem__(self, key: tuple[slice, slice], /) -> Pixels:
        rows, columns = key
        found = [part[inside, columns] for part, inside in self._touched(rows)]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        """Whole array, for `numpy.asarray`."""
        return whole(self, dtype)

    def stored(self, rows: slice) -> StoredNumbers | None:
        """Rows as they stand in the file, see `PlainPixels.stored`; None where they are of two images."""
        touched = list(self._touched(rows))
        part, inside = touched[0]
        return part.stored(inside) if len(touched) == 1 and isinstance(part, PlainPixels) else None

    def _touched(self, rows: slice) -> Iterator[tuple[PlainPixels | TiledPixels, slice]]:
        """The images that rows belong to, each with its own rows; at least one."""
        y0, y1, _ = rows.indices(self.shape[0])
        first = max(bisect_right(self._starts, y0) - 1, 0)
        for number in range(min(first, len(self._parts) - 1), len(self._parts)):
            start, stop = self._starts[number], self._starts[number + 1]
            yield self._parts[number], slice(max(y0 - start, 0), max(min(y1, stop) - start, 0))
            if y1 <= stop:
                return


_OWN = local()


def _scratch(size: int) -> Pixels:
    """Memory of this thread, used again and again: for each strip anew it would have to be had from the system."""
    if size > LARGEST_SCRATCH:
        return np.empty(size, np.uint8)
    if getattr(_OWN, "memory", None) is None or _OWN.memory.size < size:
        _OWN.memory = np.empty(size, np.uint8)
    memory: Pixels = _OWN.memory[:size]
    return memory


class _Plain:
    """A file of which parts are read, by any number of threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._handle: int | None = None

    def read(self, start: int, into: Pixels) -> None:
        """Fill memory with the bytes from `start` on."""
        kept = self._kept()
        handle = os.open(self.path, os.O_RDONLY) if kept is None else kept
        try:
            if into.size and os.preadv(handle, [into.data], start) < into.nbytes:
                self._read_on(handle, start, into)
        finally:
            if kept is None:
                os.close(handle)

    def _read_on(self, handle: int, start: int, into: Pixels) -> None:
        """What one call does not read (it may stop early, at 2 GB at the latest) in as many as it takes."""
        done, flat = 0, into.reshape(-1)
        while done < into.nbytes:
            count = os.preadv(handle, [flat[done:].data], start + done)
            if count == 0:
                raise OSError(f"{self.path} ends before its last pixel: it has changed since it was opened")
            done += count

    def _kept(self) -> int | None:
        """Handle that stays open; None if enough others do."""
        with self._lock:
            if self._handle is None and _MAY_STAY_OPEN.acquire(blocking=False):
                try:
                    self._handle = os.open(self.path, os.O_RDONLY)
                except OSError:
                    _MAY_STAY_OPEN.release()
                    raise
                weakref.finalize(self, _close, self._handle)
            return self._handle


def _close(handle: int) -> None:
    os.close(handle)
    _MAY_STAY_OPEN.release()


class _Bands:
    """Rows of a compressed image, decompressed band by band; the last few bands are kept."""

    def __init__(self, ny: int, read: Callable[[int, int], Pixels]) -> None:
        self._ny = ny
        self._read = read
        self._lock = Lock()
        self._bands: dict[int, Pixels] = {}

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows `y0` to `y1`, C-contiguous."""
        first, last = y0 // BAND_ROWS, max(y1 - 1, y0) // BAND_ROWS
        with self._lock:
            if last - first >= KEPT_BANDS:
                return self._read(y0, y1)
            found = [self._band(number) for number in range(first, last + 1)]
        start = first * BAND_ROWS
        joined = found[0] if len(found) == 1 else np.concatenate(found)
        return joined[y0 - start : y1 - start]

    def _band(self, number: int) -> Pixels:
        if number not in self._bands:
            start = number * BAND_ROWS
            self._bands[number] = self._read(start, min(start + BAND_ROWS, self._ny))
            while len(self._bands) > KEPT_BANDS:
                del self._bands[next(iter(self._bands))]
        return self._bands[number]


def _gzip_reader(path: Path, layout: ImageLayout) -> Callable[[int, int], Pixels]:
    """Reader of rows as bytes; rows in order cost one pass together, rows further up begin anew."""
    width = layout.shape[1] * layout.stored.itemsize
    handle: gzip.GzipFile | None = None

    def read(y0: int, y1: int) -> Pixels:
        nonlocal handle
        if handle is None:
            handle = gzip.GzipFile(path, "rb")
            weakref.finalize(read, handle.close)
        handle.seek(layout.offset + y0 * width)
        content = handle.read((y1 - y0) * width)
        if len(content) < (y1 - y0) * width:
            raise OSError(f"{path} ends before its last pixel: it has changed since it was opened")
        return np.frombuffer(content, np.uint8).reshape(-1, width)

    return read


def _tile_reader(path: Path, index: int) -> Callable[[int, int], Pixels]:
    """Reader of rows as numbers; decompresses the tiles that they touch."""

    def read(y0: int, y1: int) -> Pixels:
        # astropy takes a third of a second to import, and only compressed files need it.
        from astropy.io import fits

        with fits.open(path) as file:
            strip = np.asarray(file[index].section[y0:y1, :])
        return strip.astype(strip.dtype.newbyteorder("="), copy=False)

    return read


def whole(pixels: _Strips, dtype: Any = None) -> Pixels:
    """All pixels in memory, of type `dtype` where one is given."""
    loaded = pixels[:, :]
    return loaded if dtype is None else loaded.astype(dtype, copy=False)
