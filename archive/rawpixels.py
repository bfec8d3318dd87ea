"""Pixels of a raw file, read strip by strip: a strip costs its own memory and no more."""

import gzip
import weakref
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Protocol

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

Pixels = NDArray[Any]


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
    """Pixels of an image that is stored as it is, in a file that may be gzipped.

    A gzipped file can only be read forward: strips in order cost one pass together, a strip further up begins
    anew.
    """

    def __init__(self, path: Path, layout: ImageLayout, *, gzipped: bool = False) -> None:
        self.path = path
        self.layout = layout
        self.shape = layout.shape
        self._gzipped = gzipped
        self._handle: gzip.GzipFile | None = None
        self._lock = Lock()

    def __getitem__(self, key: tuple[slice, slice], /) -> Pixels:
        rows, columns = key
        ny, nx = self.shape
        y0, y1, step = rows.indices(ny)
        if step != 1:
            raise ValueError(f"rows are read in order, one by one; found a step of {step}")
        width = nx * self.layout.stored.itemsize
        content = self._read(self.layout.offset + y0 * width, max(y1 - y0, 0) * width)
        strip = np.frombuffer(content, self.layout.stored).reshape(-1, nx)
        return self.layout.values(strip[:, columns])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        """Whole image, for `numpy.asarray`."""
        return whole(self, dtype)

    def _read(self, start: int, size: int) -> bytes:
        if not self._gzipped:
            with self.path.open("rb") as plain:
                plain.seek(start)
                return _exactly(plain, size, self.path)
        with self._lock:
            if self._handle is None:
                self._handle = gzip.GzipFile(self.path, "rb")
                weakref.finalize(self, self._handle.close)
            self._handle.seek(start)
            return _exactly(self._handle, size, self.path)


class TiledPixels:
    """Pixels of a tile-compressed image (``.fz``); a strip decompresses only the tiles that it touches."""

    def __init__(self, path: Path, index: int, layout: ImageLayout) -> None:
        self.path = path
        self.layout = layout
        self.shape = layout.shape
        self._index = index

    def __getitem__(self, key: tuple[slice, slice], /) -> Pixels:
        with fits.open(self.path) as file:
            strip = np.asarray(file[self._index].section[key])
        return strip.astype(strip.dtype.newbyteorder("="), copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        """Whole image, for `numpy.asarray`."""
        return whole(self, dtype)


def whole(pixels: _Strips, dtype: Any = None) -> Pixels:
    """All pixels in memory, of type `dtype` where one is given."""
    loaded = pixels[:, :]
    return loaded if dtype is None else loaded.astype(dtype, copy=False)


def _exactly(stream: BinaryIO | gzip.GzipFile, size: int, path: Path) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise OSError(f"{path} ends before its last pixel: it has changed since it was opened")
    return content
