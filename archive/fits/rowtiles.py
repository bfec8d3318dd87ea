"""Rows of images that fpack has compressed by Rice's algorithm: only the tiles that are asked for are decompressed."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DESCRIPTORS = {"P": ">i4", "Q": ">i8"}
"""Numbers, length and offset, that say where in the heap a tile lies, by the kind of the column."""


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
        """The stored numbers of rows `y0` to `y1`, as integers of the machine."""
        first, last = y0 // self.height, -(-y1 // self.height)
        made = [self._tile(number, content) for number, content in self._contents(first, last)]
        if not made:
            return np.empty((0, self.shape[1]), f"i{self.bytes_of_pixel}")
        start = first * self.height
        return np.concatenate(made).reshape(-1, self.shape[1])[y0 - start : y1 - start]

    def _contents(self, first: int, last: int) -> list[tuple[int, bytes]]:
        """Numbers of tiles and their bytes; the tiles of neighbouring rows stand one after the other: one reading."""
        wanted = self.tiles[first:last]
        if not len(wanted):
            return []
        start = int(wanted[:, 1].min())
        end = int(wanted.sum(axis=1).max())
        with self.path.open("rb", buffering=0) as stream:
            content = os.pread(stream.fileno(), end - start, start)
        if len(content) < end - start:
            raise OSError(f"{self.path} ends before its last pixel: it has changed since it was opened")
        return [
            (first + number, content[offset - start : offset - start + length])
            for number, (length, offset) in enumerate(wanted.tolist())
        ]

    def _tile(self, number: int, content: bytes) -> NDArray[Any]:
        from astropy.io.fits.hdu.compressed._compression import decompress_rice_1_c

        rows = min(self.height, self.shape[0] - number * self.height)
        made = decompress_rice_1_c(content, self.block, self.bytes_of_pixel, rows * self.shape[1])
        return np.frombuffer(made, f"i{self.bytes_of_pixel}")


def row_tiles(path: Path, index: int) -> RowTiles | None:
    """The tiles of the compressed image in HDU `index`; None if it is compressed in any other way.

    Notes
    -----
    FITS Standard 4.0, section 10: each row of a binary table holds the length and the place, in the heap behind
    the table, of one tile's bytes.
    """
    from astropy.io import fits

    with fits.open(path, disable_image_compression=True) as file:
        header = dict(file[index].header)
        start = file[index].fileinfo()["datLoc"]
    column = re.match(r"1?([PQ])B", str(header.get("TFORM1", "")))
    options = _options(header)
    if column is None or not _is_plain(header, options):
        return None
    kind = np.dtype(_DESCRIPTORS[column[1]])
    if header["NAXIS1"] != 2 * kind.itemsize:
        return None
    found = np.fromfile(path, kind, 2 * header["NAXIS2"], offset=start).reshape(-1, 2).astype(np.int64)
    if not (found[:, 0] > 0).all():
        return None  # tiles that did not get smaller are stored elsewhere
    found[:, 1] += start + header.get("THEAP", header["NAXIS1"] * header["NAXIS2"])
    shape = header["ZNAXIS2"], header["ZNAXIS1"]
    return RowTiles(path, shape, header.get("ZTILE2", 1), options["BYTEPIX"], options["BLOCKSIZE"], found)


def _options(header: Mapping[str, Any]) -> dict[str, int]:
    """Parameters of the algorithm by name, with the standard's defaults."""
    given = {
        str(header[name]): header[f"ZVAL{name[5:]}"]
        for name in header
        if name.startswith("ZNAME") and f"ZVAL{name[5:]}" in header
    }
    return {"BLOCKSIZE": 32, "BYTEPIX": 4, **given}


def _is_plain(header: Mapping[str, Any], options: Mapping[str, int]) -> bool:
    """Whether it is an image of 16 or 32 bit integers, in tiles of whole rows, compressed by Rice's algorithm."""
    return (
        header.get("ZCMPTYPE") in ("RICE_1", "RICE_ONE")
        and header.get("TTYPE1") == "COMPRESSED_DATA"
        and header.get("ZBITPIX") in (16, 32)
        and options["BYTEPIX"] * 8 == header["ZBITPIX"]
        and header.get("ZNAXIS") == 2
        and header.get("ZTILE1", header["ZNAXIS1"]) == header["ZNAXIS1"]
        and not header.keys() & {"ZSCALE", "ZZERO", "ZQUANTIZ", "ZBLANK"}
    )
