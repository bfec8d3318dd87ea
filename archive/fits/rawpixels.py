"""Read the pixels of a raw file strip by strip: a strip costs its own memory and no more.

Dozens of frames are combined at once, each strip of rows from all of them, by several threads. Hence three things
that reading one image whole would not need: files stay open, threads keep the memory that they read into, and of
compressed images that can't be read at any place the last rows are kept.
"""

import errno
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

from ccdflow.archive.fits.rowtiles import RowTiles, damage_named, row_tiles
from ccdflow.archive.fits.tileprocess import rows_apart
from ccdflow.archive.fits.unpackedpixels import UnpackedPixels
from ccdflow.archive.foreignfile import check_plain, open_plain, plain_handle, unread
from ccdflow.archive.patience import came, in_time
from ccdflow.recipes.detector.amplifiers import StoredNumbers

Pixels = NDArray[Any]

BAND_ROWS = 128
"""Rows of a compressed image that are decompressed together."""
KEPT_BANDS = 3
"""Bands that are kept: strips are asked for nearly in order, by as many threads as there are cores."""
LARGEST_SCRATCH = 4_000_000
"""Bytes of the memory that a thread keeps to read into; a strip of any camera is smaller."""
_MAY_STAY_OPEN = BoundedSemaphore(256)
"""Files that stay open between two strips; others are opened for each. Systems allow 1024 or more for a process."""

_SIGN_16, _SIGN_32, _SIGN_64 = 2**15, 2**31, 2**63
"""BZERO of unsigned numbers of 16 and 32 bits: FITS has signed ones only (FITS 4.0, section 5.2.5)."""


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
    kind : str
        numpy's name of the numbers' type where it is none of FITS, such as ``<u2``; then only `offset` and `shape`
        count besides.
    """

    offset: int
    bitpix: int
    shape: tuple[int, int]
    scale: float = 1.0
    zero: float = 0.0
    blank: int | None = None
    kind: str = ""

    @property
    def stored(self) -> np.dtype[Any]:
        """Type of the numbers in the file, highest byte first but for those that are none of FITS."""
        if self.kind:
            return np.dtype(self.kind)
        kind = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}[self.bitpix]
        return np.dtype(f">{kind}")

    def as_stored(self, content: Pixels) -> StoredNumbers | None:
        """Return the bytes of some rows as numbers that need no more than their bytes turned.

        Parameters
        ----------
        content : uint8 array, shape (rows, bytes of a row)
            Bytes as they stand in the file.

        Returns
        -------
        StoredNumbers or None
            A view of `content` as numbers of 16 bits or reals of 32, highest byte first; None for other kinds of
            numbers, and for those that are scaled or may be blank.
        """
        # An integer that means "no value" would need a look at each number; `values` does that.
        if self.kind:
            return None
        plain = self.scale == 1 and self.blank is None
        if self.bitpix == 16 and plain and self.zero in (0, _SIGN_16):
            return StoredNumbers(content.view(np.uint16), self.zero - _SIGN_16)
        if self.bitpix == -32 and self.scale == 1 and self.zero == 0:
            return StoredNumbers(content.view(np.uint32))
        return None

    def values(self, numbers: Pixels) -> Pixels:
        """Return the pixels in adu that stored numbers mean.

        Parameters
        ----------
        numbers : array of any shape
            As they stand in the file, in either byte order.

        Returns
        -------
        array of the same shape
            Adu, in the machine's byte order. Integers where the file says integers (uint16 by BZERO = 32768), else
            real. Scaled numbers are float32 for 8 and 16 bits, else float64; where the image has a BLANK, they are
            NaN there.
        """
        native: Pixels = numbers.astype(self.stored.newbyteorder("="))
        if self.kind:
            return native
        sign = {16: _SIGN_16, 32: _SIGN_32, 64: _SIGN_64}.get(self.bitpix)
        if self.bitpix < 0 or self.blank is not None or self.scale != 1 or self.zero not in (0, sign):
            return self._real(native)
        if self.zero == sign:
            unsigned: Pixels = native.view(f"u{native.itemsize}")
            unsigned ^= sign  # flipping the top bit adds BZERO
            return unsigned
        return native

    def _real(self, native: Pixels) -> Pixels:
        # Numbers of 16 bits are exact in float32, those of 32 are not.
        real: Pixels = native.astype(np.float32 if self.bitpix in (8, 16, -32) else np.float64)
        # FITS 4.0, section 4.4.2.5, equation 3: value = BZERO + BSCALE * number.
        if self.scale != 1 or self.zero != 0:
            real *= self.scale
            real += self.zero
        if self.blank is not None and self.bitpix > 0:
            real[native == self.blank] = np.nan
        return real


class _StripSource(Protocol):
    @property
    def shape(self) -> tuple[int, int]: ...

    def __getitem__(self, key: tuple[slice, slice], /) -> Pixels: ...


class PlainPixels:
    """Pixels of an image that is stored as it is, in a file that may be gzipped.

    Parameters
    ----------
    path : Path
        The file, which is opened when the first rows are asked for.
    layout : ImageLayout
        Where the pixels lie in the (unpacked) file, and what their numbers mean.
    gzipped : bool
        The file has to be unpacked.
    """

    def __init__(self, path: Path, layout: ImageLayout, *, gzipped: bool = False) -> None:
        self.path = path
        self.layout = layout
        self.shape = layout.shape
        self._file = _SharedFile(path)
        self._bands = _Bands(layout.shape[0], _gzip_reader(path, layout)) if gzipped else None

    @property
    def compressed(self) -> bool:
        """True where reading rows a second time means to unpack them a second time."""
        return self._bands is not None

    def __getitem__(self, key: tuple[slice, slice], /) -> Pixels:
        rows, columns = key
        return self.layout.values(self._content(rows).view(self.layout.stored)[:, columns])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        """Whole image, for `numpy.asarray`."""
        return as_array(self, dtype)

    def stored(self, rows: slice) -> StoredNumbers | None:
        """Return rows as they stand in the file, which saves making and copying numbers.

        Parameters
        ----------
        rows : slice
            Rows, from 0 at the bottom, in order and without gaps.

        Returns
        -------
        StoredNumbers or None
            Numbers of 16 bits or reals of 32, highest byte first; None for other kinds. They hold until this thread
            reads again, from this or another file.
        """
        return self.layout.as_stored(self._content(rows))

    def _content(self, rows: slice) -> Pixels:
        """Return the bytes of rows, shape (rows, bytes of a row)."""
        ny, nx = self.shape
        y0, y1, step = rows.indices(ny)
        if step != 1:
            raise ValueError(f"rows are read in order, one by one; found a step of {step}")
        # A gzipped file can't be read at any place: its rows come out of the bands that were unpacked last.
        if self._bands is not None:
            return self._bands.rows(y0, max(y0, y1))
        width = nx * self.layout.stored.itemsize
        content = _scratch(max(y1 - y0, 0) * width).reshape(-1, width)
        self._file.read(self.layout.offset + y0 * width, content)
        return content


class TiledPixels:
    """Pixels of a tile-compressed image (``.fz``).

    Parameters
    ----------
    path : Path
        The file.
    index : int
        Number of the HDU that holds the image.
    layout : ImageLayout
        Shape of the image, and what its numbers mean once they are decompressed.
    gzipped : bool
        The file as a whole is gzipped besides.
    apart : bool
        It is decompressed by a process of its own, see `ccdflow.archive.fits.tileprocess`.
    """

    def __init__(
        self, path: Path, index: int, layout: ImageLayout, *, gzipped: bool = False, apart: bool = False
    ) -> None:
        self.path = path
        self.layout = layout
        self.shape = layout.shape
        self._index = index
        self._gzipped = gzipped
        read = rows_apart if apart else _rows_here
        self._read = _tile_reader(path, index, layout, read)
        self._bands = _Bands(layout.shape[0], self._read)
        self.compressed = True

    @cached_property
    def _tiles(self) -> RowTiles | None:
        """Tiles that are decompressed one by one; None where astropy is left to do it."""
        # Tiles are read from their places in the file, which a gzipped one has not.
        return None if self._gzipped else row_tiles(self.path, self._index)

    def __getitem__(self, key: tuple[slice, slice], /) -> Pixels:
        y0, y1, _ = key[0].indices(self.shape[0])
        source = self._bands if self._tiles is None else self._tiles
        return self.layout.values(source.rows(y0, max(y0, y1))[:, key[1]])

    def locate(self) -> None:
        """Look up where the tiles lie, which reading them needs anyway; none is decompressed.

        Raises
        ------
        DamagedFrameError
            If one lies where the image has no data.
        """
        _ = self._tiles

    def numbers(self, y0: int, y1: int) -> Pixels:
        """Return rows as they were before compression, without BSCALE, BZERO and BLANK.

        Parameters
        ----------
        y0, y1 : int
            First row, and the one behind the last.

        Returns
        -------
        array, shape (y1 - y0, nx)
            In the machine's byte order; not kept for others.

        Raises
        ------
        DamagedFrameError
            If a tile does not decompress.
        """
        if self._tiles is not None:
            return self._tiles.rows(y0, y1)
        return self._read(y0, y1)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        """Whole image, for `numpy.asarray`."""
        return as_array(self, dtype)


Part = PlainPixels | TiledPixels | UnpackedPixels
"""Pixels of one image, whatever its form."""


class JoinedPixels:
    """Several images of one width as one array, the first at the bottom: amplifiers that have an extension each.

    Parameters
    ----------
    parts : sequence of PlainPixels or TiledPixels
        The images, at least one, from the bottom up.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._starts = list(accumulate((part.shape[0] for part in parts), initial=0))
        self.shape = self._starts[-1], parts[0].shape[1]
        self.compressed = any(part.compressed for part in parts)

    def __getitem__(self, key: tuple[slice, slice], /) -> Pixels:
        rows, columns = key
        pieces = [part[inside, columns] for part, inside in self._touched(rows)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        """Whole array, for `numpy.asarray`."""
        return as_array(self, dtype)

    def stored(self, rows: slice) -> StoredNumbers | None:
        """Return rows as they stand in the file, see `PlainPixels.stored`.

        Parameters
        ----------
        rows : slice
            Rows of the joined array.

        Returns
        -------
        StoredNumbers or None
            None also where the rows are of two images, or of a compressed one.
        """
        # Two amplifiers may be stored differently, and would have to be copied together: that is not "as they stand".
        touched = list(self._touched(rows))
        part, inside = touched[0]
        return part.stored(inside) if len(touched) == 1 and isinstance(part, PlainPixels) else None

    def _touched(self, rows: slice) -> Iterator[tuple[Part, slice]]:
        """Yield the images that rows belong to, each with its own rows; at least one, even for no rows."""
        y0, y1, _ = rows.indices(self.shape[0])
        # The part whose start is the last one not above y0.
        first = max(bisect_right(self._starts, y0) - 1, 0)
        for number in range(min(first, len(self.parts) - 1), len(self.parts)):
            start, stop = self._starts[number], self._starts[number + 1]
            yield self.parts[number], slice(max(y0 - start, 0), max(min(y1, stop) - start, 0))
            if y1 <= stop:
                return


_THREAD = local()
"""What each thread keeps for itself."""


def _scratch(size: int) -> Pixels:
    """Return memory of this thread, used again and again: new memory for each strip would come from the system.

    What was read into it before is written over: `PlainPixels.__getitem__` gives copies, `stored` says how long its
    view holds.
    """
    if size > LARGEST_SCRATCH:
        return np.empty(size, np.uint8)
    if getattr(_THREAD, "memory", None) is None or _THREAD.memory.size < size:
        _THREAD.memory = np.empty(size, np.uint8)
    memory: Pixels = _THREAD.memory[:size]
    return memory


def _forget_scratch() -> None:
    _THREAD.memory = None


_AT_ONCE = getattr(os, "RWF_NOWAIT", 0)
"""Flag of a reading that does not wait for a disk; 0 on systems that have none."""


def _at_hand(handle: int, start: int, into: Pixels) -> bool:
    """Fill memory with what the system has at hand; tell whether that was all of it."""
    if not _AT_ONCE or not into.size:
        return not into.size
    try:
        return os.preadv(handle, [into.data], start, _AT_ONCE) == into.nbytes
    except OSError:  # it would have to wait, or the file system knows no such readings
        return False


class _SharedFile:
    """A file of which parts are read, by any number of threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._handle: int | None = None

    def read(self, start: int, into: Pixels) -> None:
        """Fill memory with the bytes from `start` on."""
        # preadv takes the place as an argument, so that threads share a handle without a lock around seek and read.
        kept = self._kept()
        try:
            # What the system has in memory is there at once; anything else is waited for no longer than it may take.
            if kept is None or not _at_hand(kept, start, into):
                in_time(self.path, lambda: self._read(kept, start, into))
        except OSError as error:
            if error.errno == errno.ETIMEDOUT:
                _forget_scratch()  # into which the bytes may still come
                raise unread(self.path, error) from None
            raise

    def _read(self, kept: int | None, start: int, into: Pixels) -> None:
        handle = plain_handle(self.path) if kept is None else kept
        try:
            if into.size and os.preadv(handle, [into.data], start) < into.nbytes:
                self._read_on(handle, start, into)
            came(into.nbytes)
        finally:
            if kept is None:
                os.close(handle)

    def _read_on(self, handle: int, start: int, into: Pixels) -> None:
        """Read in as many calls as it takes what one does not: it may stop early, at 2 GB at the latest."""
        done, flat = 0, into.reshape(-1)
        while done < into.nbytes:
            count = os.preadv(handle, [flat[done:].data], start + done)
            if count == 0:
                raise OSError(f"{self.path} ends before its last pixel: it has changed since it was opened")
            done += count
            came(count)

    def _kept(self) -> int | None:
        """Return a handle that stays open; None if enough others do."""
        with self._lock:
            if self._handle is None and _MAY_STAY_OPEN.acquire(blocking=False):
                try:
                    self._handle = in_time(self.path, lambda: plain_handle(self.path))
                except BaseException:
                    _MAY_STAY_OPEN.release()
                    raise
                # Closed when nobody holds these pixels any more: a combination has no place at which it lets go.
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
        """Return rows `y0` to `y1`, C-contiguous."""
        first, last = y0 // BAND_ROWS, max(y1 - 1, y0) // BAND_ROWS
        # Held while a band is decompressed: other threads mostly want that very band, and should not make it as well.
        # So the readers below are never called twice at once, and may keep one handle.
        with self._lock:
            # More than may be kept: who asks for that reads the image once, from the bottom up.
            if last - first >= KEPT_BANDS:
                return self._read(y0, y1)
            bands = [self._band(number) for number in range(first, last + 1)]
        start = first * BAND_ROWS
        joined = bands[0] if len(bands) == 1 else np.concatenate(bands)
        return joined[y0 - start : y1 - start]

    def _band(self, number: int) -> Pixels:
        if number not in self._bands:
            start = number * BAND_ROWS
            self._bands[number] = self._read(start, min(start + BAND_ROWS, self._ny))
            # The band that was read first goes first (dictionaries keep the order).
            while len(self._bands) > KEPT_BANDS:
                del self._bands[next(iter(self._bands))]
        return self._bands[number]


def _gzip_reader(path: Path, layout: ImageLayout) -> Callable[[int, int], Pixels]:
    """Return a reader of rows as bytes; rows in order cost one pass together, rows before them begin anew."""
    width = layout.shape[1] * layout.stored.itemsize
    handle: gzip.GzipFile | None = None

    def read(y0: int, y1: int) -> Pixels:
        nonlocal handle
        if handle is None:
            packed = in_time(path, lambda: open_plain(path))
            handle = gzip.GzipFile(fileobj=packed)
            weakref.finalize(read, packed.close)  # a GzipFile leaves open what it was given
        stream = handle

        def unpack() -> bytes:
            # Forwards gzip unpacks and drops what lies between; backwards it begins again at the start of the file.
            stream.seek(layout.offset + y0 * width)
            return stream.read((y1 - y0) * width)

        with damage_named(path):
            try:
                content = in_time(path, unpack)
            except OSError as error:
                if error.errno == errno.ETIMEDOUT:
                    handle = None  # which a thread still works on
                    raise unread(path, error) from None
                raise
        if len(content) < (y1 - y0) * width:
            raise OSError(f"{path} ends before its last pixel: it has changed since it was opened")
        return np.frombuffer(content, np.uint8).reshape(-1, width)

    return read


def _tile_reader(
    path: Path, index: int, layout: ImageLayout, rows: Callable[[Path, int, int, int], tuple[Pixels, str]]
) -> Callable[[int, int], Pixels]:
    """Return a reader of rows as numbers before BSCALE, BZERO and BLANK; decompresses the tiles that they touch."""

    def read(y0: int, y1: int) -> Pixels:
        check_plain(path)
        with damage_named(path):
            strip, algorithm = rows(path, index, y0, y1)
        numbers = strip.astype(strip.dtype.newbyteorder("="), copy=False)
        return _signed(numbers) if algorithm == "PLIO_1" and _is_uint16(layout) else numbers

    return read


def _rows_here(path: Path, index: int, y0: int, y1: int) -> tuple[Pixels, str]:
    # astropy takes a third of a second to import, and only compressed files need it.
    from ccdflow.archive.fits.tiledecoder import decoded_rows

    return in_time(path, lambda: decoded_rows(path, index, y0, y1))


def _is_uint16(layout: ImageLayout) -> bool:
    return layout.bitpix == 16 and layout.zero == _SIGN_16


def _signed(numbers: Pixels) -> Pixels:
    """Return the signed numbers that FITS would have stored for unsigned ones that PLIO has stored as they are."""
    # PLIO knows no negative numbers. CFITSIO, the only writer of unsigned ones, therefore leaves them as they are, but
    # states BZERO = 32768 all the same, and does not add it when it reads (imcomp_decompress_tile).
    signed: Pixels = (numbers.view(np.uint16) ^ np.uint16(_SIGN_16)).view(np.int16)
    return signed


def as_array(pixels: _StripSource, dtype: Any = None) -> Pixels:
    """Return all pixels in memory.

    Parameters
    ----------
    pixels : PlainPixels, TiledPixels or JoinedPixels
        What is read.
    dtype : dtype or None
        Type of the numbers; without it, that of the pixels.

    Returns
    -------
    array, shape (ny, nx)
        Adu.
    """
    loaded = pixels[:, :]
    return loaded if dtype is None else loaded.astype(dtype, copy=False)
