"""Opening raw FITS files: their headers at once and cheaply, their pixels strip by strip."""

import gzip
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

from ccdflow.archive.digest import UnreadableFrameError, why_unread
from ccdflow.archive.fits.rawpixels import ImageLayout, JoinedPixels, PlainPixels, TiledPixels
from ccdflow.archive.fits.rawunits import (
    BLOCK,
    NoImageError,
    NotFitsError,
    TruncatedError,
    Unit,
    units,
)
from ccdflow.cascade.records import Extension, Value

__all__ = [
    "FITS_SUFFIXES",
    "Extension",
    "NoImageError",
    "NotFitsError",
    "RawFile",
    "TruncatedError",
    "UnreadableFrameError",
    "looks_like_fits",
    "open_raw",
]

FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fz", ".fits.gz", ".fit.gz", ".fts.gz")
"""Endings of the names of files that are looked at in a folder."""

_AHEAD = 4  # blocks read at once: the header of most raw frames

# fmt: off
_NO_FRAME = frozenset({
    "BPM", "MASK", "DQ", "ERR", "ERROR", "VAR", "VARIANCE",
    "UNCERT", "WEIGHT", "WGT", "CAT",
})
"""Names of extensions that go with an image and are none of their own."""

_COORDINATES = ("CTYPE", "CUNIT", "CRVAL", "CRPIX", "CDELT", "CROTA", "CD1_", "CD2_", "PC1_", "PC2_")
"""Keywords that say where pixels lie on the sky."""

_STRUCTURE = frozenset({
    "SIMPLE", "BITPIX", "NAXIS", "EXTEND", "XTENSION", "PCOUNT", "GCOUNT", "GROUPS", "TFIELDS", "THEAP",
    "BSCALE", "BZERO", "BLANK", "INHERIT", "EXTNAME", "EXTVER", "CHECKSUM", "DATASUM",
    "ZIMAGE", "ZTENSION", "ZBITPIX", "ZNAXIS", "ZCMPTYPE", "ZSIMPLE", "ZEXTEND", "ZPCOUNT",
    "ZGCOUNT", "ZHECKSUM", "ZDATASUM", "ZQUANTIZ", "ZDITHER0", "ZBLANK", "ZSCALE", "ZZERO",
})
_NUMBERED_STRUCTURE = frozenset({
    "NAXIS", "TTYPE", "TFORM", "TUNIT", "TSCAL", "TZERO", "TDIM", "ZNAXIS", "ZTILE", "ZNAME", "ZVAL",
})
# fmt: on


@dataclass(frozen=True)
class RawFile:
    """A raw file whose headers were read, and whose pixels were not.

    Parameters
    ----------
    path : Path
        The file.
    header : mapping
        Keyword to value: those of the image's extension (of several images, those that all have alike, and the
        coordinates of the first), and of the primary header what the extension leaves out or blank; without the
        keywords that describe the file's structure.
    comments : mapping
        Keyword to comment.
    extensions : tuple of Extension
        The images of the file. The primary HDU counts alone where it holds an image.
    pixels : PlainPixels, TiledPixels or JoinedPixels
        adu, shape (ny, nx), read when cut: ``pixels[0:100, :]``; ``numpy.asarray(pixels)`` is the whole. Several
        images are one above the other, the first at the bottom; of images of different width only the first is
        there.
    """

    path: Path
    header: Mapping[str, Value]
    comments: Mapping[str, str]
    extensions: tuple[Extension, ...]
    pixels: PlainPixels | TiledPixels | JoinedPixels

    @property
    def index(self) -> int:
        """Number of the HDU that is read, or read first, the primary being 0."""
        return self.extensions[0].index

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns ``(ny, nx)``."""
        return self.pixels.shape


def looks_like_fits(path: Path) -> bool:
    """Whether the file's name ends as those of FITS files do."""
    return path.name.lower().endswith(FITS_SUFFIXES)


def open_raw(path: Path) -> RawFile:
    """Return a raw file, of which only the headers are read.

    FITS as it is, gzipped, or tile-compressed, whatever its name. Its size is checked against its headers.
    Only a gzipped file with more behind its image than a single look tells is read to its end.

    Raises
    ------
    NotFitsError
        If it is no FITS file, is empty, or is a folder.
    TruncatedError
        If it ends before its header says.
    NoImageError
        If it holds no image, or one that has not two axes.
    UnreadableFrameError
        If it can't be read.
    """
    try:
        with path.open("rb", buffering=_AHEAD * BLOCK) as plain:
            gzipped = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            if not gzipped:
                found = list(units(path, plain, ahead=_AHEAD))
                return _raw(path, found, _too_short(path, found[-1].end, os.fstat(plain.fileno()).st_size))
            with gzip.GzipFile(fileobj=plain) as stream:
                found = list(units(path, stream))
                size = _unpacked_size(path, found[-1].end, stream)
                return _raw(path, found, _too_short(path, found[-1].end, size), gzipped=True)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise TruncatedError(f"{path} is a damaged gzip file, or ends before it should") from None
    except OSError as error:
        kind = NotFitsError if isinstance(error, IsADirectoryError) else UnreadableFrameError
        raise kind(why_unread(path, error)) from None


def _raw(path: Path, found: list[Unit], short: str, *, gzipped: bool = False) -> RawFile:
    images = _images(path, found)
    first = images[0]
    header, comments = _merged(found[0], images)
    if short:
        raise TruncatedError(short, header, first.shape)
    several = len(images) > 1 and len({one.shape[1] for one in images}) == 1
    parts = [_pixels(path, one, gzipped=gzipped) for one in images]
    pixels = JoinedPixels(parts) if several else parts[0]
    rows = accumulate((one.shape[0] for one in images), initial=0)
    extensions = tuple(
        Extension(one.index, one.called, one.shape, _own(one), row)
        for one, row in zip(images, rows, strict=False)
    )
    return RawFile(path, header, comments, extensions, pixels)


def _pixels(path: Path, image: Unit, *, gzipped: bool) -> PlainPixels | TiledPixels:
    """Pixels of one image of a file."""
    blank = image.values.get("BLANK")
    layout = ImageLayout(
        offset=image.offset,
        bitpix=image.size("BITPIX"),
        shape=image.shape,
        scale=image.real("BSCALE", 1.0),
        zero=image.real("BZERO", 0.0),
        blank=blank if isinstance(blank, int) else None,
    )
    if layout.bitpix not in (8, 16, 32, 64, -32, -64):
        raise NotFitsError(f"{path} has BITPIX = {layout.bitpix}, which FITS does not know")
    return (
        TiledPixels(path, image.index, layout) if image.tiled else PlainPixels(path, layout, gzipped=gzipped)
    )


def _too_short(path: Path, wanted: int, found: int) -> str:
    """What is missing of a file, in one sentence; empty for a whole one."""
    return f"{path} is truncated: it has {found} bytes, its headers say {wanted}" if found < wanted else ""


def _unpacked_size(path: Path, wanted: int, stream: gzip.GzipFile) -> int:
    """Bytes in a gzipped file, or `wanted` where a look at its end tells that it is whole."""
    # A whole gzip file ends with the size of its content: most often that saves reading it.
    with path.open("rb") as plain:
        plain.seek(-4, os.SEEK_END)
        (told,) = struct.unpack("<I", plain.read(4))
    if told == (-(-wanted // BLOCK) * BLOCK) % 2**32:
        return wanted
    found = stream.tell()
    while chunk := stream.read(2**20):
        found += len(chunk)
    return found


def _images(path: Path, found: list[Unit]) -> list[Unit]:
    """Return the images of the file, the one to read first; extensions called SCI before others."""
    images = [one for one in found if one.axes and one.name not in _NO_FRAME]
    images = [one for one in images if one.name == "SCI"] or images
    if not images:
        raise NoImageError(f"{path} holds no image")
    for one in images:
        if len(one.axes) != 2:
            what = "a cube" if len(one.axes) > 2 else "a single row"
            raise NoImageError(f"{path} holds {what} of shape {one.axes}, wanted an image with two axes")
    return images


def _merged(primary: Unit, images: Sequence[Unit]) -> tuple[dict[str, Value], dict[str, str]]:
    """Values and comments of all headers; what the image's leaves blank is filled from the primary's.

    Of several images the first speaks, of its coordinates, and of what all of them say alike.
    """
    values: dict[str, Value] = {}
    comments: dict[str, str] = {}
    image, others = images[0], images[1:]
    for unit in (primary, image) if primary is not image else (image,):
        said = unit.comments
        told = _alike(image, others) if others and unit is image else unit.values
        for keyword, value in told.items():
            if not _structural(keyword) and (value != "" or keyword not in values):
                values[keyword] = value
                comments[keyword] = said[keyword]
    return values, comments


def _alike(image: Unit, others: Sequence[Unit]) -> dict[str, Value]:
    """What an image says as all others do, and of its coordinates."""
    return {
        keyword: value
        for keyword, value in image.values.items()
        if keyword.startswith(_COORDINATES) or all(one.values.get(keyword) == value for one in others)
    }


def _own(image: Unit) -> dict[str, Value]:
    """Values of an image's own header."""
    return {keyword: value for keyword, value in image.values.items() if not _structural(keyword)}


@lru_cache(4096)
def _structural(keyword: str) -> bool:
    return keyword in _STRUCTURE or keyword.rstrip("0123456789") in _NUMBERED_STRUCTURE
