"""Decompress only those tiles of an fpacked image that hold the rows that are asked for.

fpack cuts an image into tiles, by default one for each row, compresses each by itself and stores them in the heap
behind a binary table, whose rows say where each tile lies. A strip of rows therefore costs one reading and the
decompression of its own tiles, whereas astropy's general way opens the file and builds its HDUs for every strip.
Only the usual form is treated here: integers, tiles as wide as the image, Rice's algorithm, nothing scaled or
quantized. Anything else is left to astropy.

References
----------
FITS Standard 4.0, sections 10.1 (tiled image compression) and 10.4.1 (Rice).
Pence, Seaman & White 2009, PASP 121, 414, on fpack and Rice compression of astronomical images.
"""

import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.archive.fits.hduheaders import HduHeader, hdu_headers
from ccdflow.archive.foreignfile import DamagedFrameError, UnreadableFrameError, open_plain
from ccdflow.archive.patience import in_time

_DESCRIPTORS = {"P": ">i4", "Q": ">i8"}
"""Numbers, length and offset, that say where in the heap a tile lies, by the kind of the column (FITS 4.0, 7.3.5)."""


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Give what goes wrong while a file is unpacked the name of the file.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    DamagedFrameError
        For whatever decompression raises but what the system says: a file that is gone is not damaged.
    """
    try:
        yield
    except (UnreadableFrameError, MemoryError, CancelledError):
        raise
    except OSError as error:
        # gzip's complaints are OSErrors too, yet without a number of the system's.
        if error.errno is not None:
            raise
        raise DamagedFrameError(path, f"it can't be unpacked ({error})") from error
    except Exception as error:  # decompression raises whatever its code stumbles over, of no common kind
        told = str(error).strip() or type(error).__name__
        raise DamagedFrameError(path, f"it can't be decompressed ({told})") from error


@dataclass(frozen=True)
class RowTiles:
    """An image of integers in tiles that are as wide as it is.

    Parameters
    ----------
    path : Path
        The file.
    shape : (int, int)
        Rows and columns.
    height : int
        Rows of a tile; the last may have fewer.
    bytes_of_pixel, block : int
        Parameters of the algorithm: bytes of a number, and numbers that share their width in bits.
    tiles : int64 array, shape (number of tiles, 2)
        Length of each tile's bytes, and where in the file they begin.
    """

    path: Path
    shape: tuple[int, int]
    height: int
    bytes_of_pixel: int
    block: int
    tiles: NDArray[np.int64]

    def rows(self, y0: int, y1: int) -> NDArray[Any]:
        """Return the stored numbers of some rows.

        Parameters
        ----------
        y0, y1 : int
            First row, and the one behind the last, from 0 at the bottom.

        Returns
        -------
        int16 or int32 array, shape (y1 - y0, nx)
            Numbers as they were before compression, in the machine's byte order; BSCALE and BZERO are not applied.

        Raises
        ------
        OSError
            If the file has got shorter since it was opened.
        """
        # Whole tiles, since a tile can be decompressed from its beginning only; rows at both ends are then cut off.
        first, last = y0 // self.height, -(-y1 // self.height)
        parts = [self._tile(number, content) for number, content in self._contents(first, last)]
        if not parts:
            return np.empty((0, self.shape[1]), f"i{self.bytes_of_pixel}")
        start = first * self.height
        return np.concatenate(parts).reshape(-1, self.shape[1])[y0 - start : y1 - start]

    def _contents(self, first: int, last: int) -> list[tuple[int, bytes]]:
        """Read tiles; return the number and the bytes of each."""
        tiles = self.tiles[first:last]
        if not len(tiles):
            return []
        # Writers put the tiles of neighbouring rows one after the other, so all are had by one reading. Where they
        # lie in another order this reads more than is needed, and is still right.
        start = int(tiles[:, 1].min())
        end = int(tiles.sum(axis=1).max())
        content = in_time(self.path, lambda: self._between(start, end))
        if len(content) < end - start:
            raise OSError(f"{self.path} ends before its last pixel: it has changed since it was opened")
        return [
            (first + number, content[offset - start : offset - start + length])
            for number, (length, offset) in enumerate(tiles.tolist())
        ]

    def _between(self, start: int, end: int) -> bytes:
        with open_plain(self.path, buffering=0) as stream:
            return os.pread(stream.fileno(), end - start, start)

    def _tile(self, number: int, content: bytes) -> NDArray[Any]:
        # A private function of astropy, which is CFITSIO's decompression of a single tile; its public ways take whole
        # images. test_rowtiles holds it against them, so that a change there is noticed.
        from astropy.io.fits.hdu.compressed._compression import decompress_rice_1_c

        # The standard lets the last tile be lower, where tiles do not divide the image evenly.
        rows = min(self.height, self.shape[0] - number * self.height)
        with damage_named(self.path):
            numbers = decompress_rice_1_c(content, self.block, self.bytes_of_pixel, rows * self.shape[1])
        return np.frombuffer(numbers, f"i{self.bytes_of_pixel}")


def row_tiles(path: Path, index: int) -> RowTiles | None:
    """Return the tiles of a compressed image, if it is of the usual form.

    Parameters
    ----------
    path : Path
        The file.
    index : int
        Number of the HDU, the primary being 0.

    Returns
    -------
    RowTiles or None
        None for an image that is compressed in any other way, or has tiles that are.

    Raises
    ------
    DamagedFrameError
        If a tile lies where the image has no data.

    Notes
    -----
    FITS Standard 4.0, section 10.1: each row of a binary table holds the length and the place, in the heap behind
    the table, of one tile's bytes.
    """
    # The table as it stands, not the image that it holds; and by our own reader, which no odd card stops.
    return in_time(path, lambda: _row_tiles(path, index))


def _row_tiles(path: Path, index: int) -> RowTiles | None:
    with damage_named(path):
        return _told(path, table_header(path, index))


def table_header(path: Path, index: int) -> HduHeader:
    """Return the header of the table that holds a compressed image.

    Parameters
    ----------
    path : Path
        The file, which is not gzipped as a whole.
    index : int
        Number of the HDU, the primary being 0.

    Returns
    -------
    HduHeader
        As it stands in the file.
    """
    with open_plain(path) as stream:
        return next(hdu for hdu in hdu_headers(path, stream, ahead=4, every=True) if hdu.index == index)


def _told(path: Path, table: HduHeader) -> RowTiles | None:
    """Read where the tiles lie; None for what is not of the usual form."""
    header: Mapping[str, Any] = table.values
    column = re.match(r"1?([PQ])B", str(header.get("TFORM1", "")))
    options = _options(header)
    if column is None or not _is_plain(header, options):
        return None
    kind = np.dtype(_DESCRIPTORS[column[1]])
    # Wider rows have further columns: tiles that are stored in other ways, or scales of their own.
    if header["NAXIS1"] != 2 * kind.itemsize:
        return None
    # Only the table is read here, 8 or 16 bytes for each tile; the heap, which holds the pixels, is not.
    places = np.fromfile(path, kind, 2 * header["NAXIS2"], offset=table.offset).reshape(-1, 2)
    tiles = places.astype(np.int64)
    if not (tiles[:, 0] > 0).all():
        return None  # tiles that did not get smaller are stored elsewhere
    # From places in the heap to places in the file; without THEAP the heap follows the table at once.
    size = header["NAXIS1"] * header["NAXIS2"]
    first, end = table.offset + header.get("THEAP", size), table.offset + size + header.get("PCOUNT", 0)
    tiles[:, 1] += first
    outside = np.flatnonzero((tiles[:, 1] < first) | (tiles.sum(axis=1) > end))
    if outside.size:
        told = f"tile {outside[0] + 1} of {len(tiles)} lies outside of the image's data"
        raise DamagedFrameError(path, told)
    numbers = header["ZNAXIS2"], header["ZNAXIS1"], header.get("ZTILE2", 1)
    ny, nx, height = map(int, numbers)
    return RowTiles(path, (ny, nx), height, int(options["BYTEPIX"]), int(options["BLOCKSIZE"]), tiles)


def _options(header: Mapping[str, Any]) -> dict[str, int]:
    """Return the parameters of the algorithm by name, with the standard's defaults (FITS 4.0, section 10.4.1)."""
    stated = {
        str(header[name]): header[f"ZVAL{name[5:]}"]
        for name in header
        if name.startswith("ZNAME") and f"ZVAL{name[5:]}" in header
    }
    return {"BLOCKSIZE": 32, "BYTEPIX": 4, **stated}


def _is_plain(header: Mapping[str, Any], options: Mapping[str, int]) -> bool:
    """Tell whether it is an image of 16 or 32 bit integers, in tiles of whole rows, compressed by Rice's algorithm."""
    return (
        header.get("ZCMPTYPE") in ("RICE_1", "RICE_ONE")
        and header.get("TTYPE1") == "COMPRESSED_DATA"
        and header.get("ZBITPIX") in (16, 32)
        # Where the algorithm's numbers are wider than the image's, its result would have to be converted.
        and options["BYTEPIX"] * 8 == header["ZBITPIX"]
        and header.get("ZNAXIS") == 2
        and header.get("ZTILE1", header["ZNAXIS1"]) == header["ZNAXIS1"]
        # These belong to real numbers that were quantized (section 10.2).
        and not header.keys() & {"ZSCALE", "ZZERO", "ZQUANTIZ"}
    )
