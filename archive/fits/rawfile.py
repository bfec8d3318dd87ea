"""Open raw FITS files: their headers at once and cheaply, their pixels strip by strip.

Three ways of storing an image look alike from outside: as it is, gzipped as a whole, and tile-compressed
(FITS 4.0, section 10.1). What a file is, its first bytes and its headers say, never its name.
"""

import gzip
import os
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import accumulate
from math import prod
from pathlib import Path

from ccdflow.archive.fits.cards import BLOCK
from ccdflow.archive.fits.hduheaders import (
    HduHeader,
    NoImageError,
    NotFitsError,
    Stream,
    TruncatedError,
    hdu_headers,
)
from ccdflow.archive.fits.rawpixels import ImageLayout, JoinedPixels, Part, PlainPixels, TiledPixels
from ccdflow.archive.foreignfile import UnreadableFrameError, open_plain, unread, why_unread
from ccdflow.archive.otherforms.forms import (
    CAMERA_SUFFIXES,
    MAGIC_BYTES,
    XISF_SUFFIXES,
    Form,
    OtherFormError,
    form_of,
)
from ccdflow.archive.patience import came, in_time
from ccdflow.cascade.records import CATEGORY, Doubt, Extension, Value

__all__ = [
    "FITS_SUFFIXES",
    "Extension",
    "NoImageError",
    "NotFitsError",
    "RawFile",
    "TruncatedError",
    "UnreadableFrameError",
    "is_structural",
    "looks_like_raw",
    "open_raw",
]

FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fz", ".fits.gz", ".fit.gz", ".fts.gz")
"""Endings of the names of FITS files."""
RAW_SUFFIXES = (*FITS_SUFFIXES, *XISF_SUFFIXES, *CAMERA_SUFFIXES)
"""Endings of the names of files that are looked at in a folder."""

LONGEST_AXIS = 1_000_000
"""Pixels of a row or column; the largest detectors have some ten thousand, and rows are read by dozens."""
LARGEST_IMAGE = 1 << 35
"""Bytes of an image as it is unpacked: what a file may have at most."""

ROOM_BEHIND = 1 << 30
"""Bytes that a gzipped file may hold behind what its headers tell of."""
LARGEST_TILE = 1 << 28
"""Pixels of a tile of a compressed image, which is unpacked as a whole; fpack makes one of each row."""

_AHEAD = 4  # blocks read at once, 11 kB: the header of most raw frames
_GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, section 2.3.1
_KNOWN_COMPRESSIONS = frozenset(
    {"RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1", "NOCOMPRESS"}
)
_KNOWN_BITPIX = (8, 16, 32, 64, -32, -64)  # FITS 4.0, section 4.4.1.1

# fmt: off
_AT_ONCE_S = 1.0
"""Seconds within which all parts of one exposure begin."""
_NO_FRAME = frozenset({
    "BPM", "MASK", "DQ", "ERR", "ERROR", "VAR", "VARIANCE",
    "UNCERT", "IVAR", "WEIGHT", "WGT", "CAT", "CALVAR", "NGOOD",
})
"""Names of extensions that go with an image and are none of their own."""

_COORDINATES = ("CTYPE", "CUNIT", "CRVAL", "CRPIX", "CDELT", "CROTA", "CD1_", "CD2_", "PC1_", "PC2_")
"""Keywords that say where pixels lie on the sky; each image of a file has its own."""

# What describes the file is no property of the frame: another program may store the same frame otherwise.
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
    history : tuple of str
        Texts of the ``HISTORY`` cards of the primary header, and of that of the first image.
    bitpix : int
        Of the first image: 8, 16, 32, 64 integer, -32, -64 real.
    images : tuple of HduHeader
        Headers of the images as they stand in the file, in the order of `extensions`.
    gzipped : bool
        The file as a whole is gzipped.
    repeated : mapping
        Other values of keywords that stand more than once in the header of the first image or the primary one.
    doubts : tuple of Doubt
        What is odd about the file as such.
    check : callable or None
        Says what a check sum of another form than FITS contradicts, blank for nothing; None where there is none.
    """

    path: Path
    header: Mapping[str, Value]
    comments: Mapping[str, str]
    extensions: tuple[Extension, ...]
    pixels: Part | JoinedPixels
    history: tuple[str, ...] = ()
    bitpix: int = 16
    images: tuple[HduHeader, ...] = ()
    gzipped: bool = False
    repeated: Mapping[str, Value] = field(default_factory=dict)
    doubts: tuple[Doubt, ...] = ()
    check: Callable[[], str] | None = None

    @property
    def parts(self) -> Sequence[Part]:
        """Pixels of each image; of images of different width the first's alone."""
        return self.pixels.parts if isinstance(self.pixels, JoinedPixels) else (self.pixels,)

    @property
    def index(self) -> int:
        """Number of the HDU that is read, or read first, the primary being 0."""
        return self.extensions[0].index

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns ``(ny, nx)``."""
        return self.pixels.shape


def looks_like_raw(path: Path) -> bool:
    """Tell whether a file's name ends as those of raw files do, FITS or of another form.

    Parameters
    ----------
    path : Path
        The file; it is not opened.

    Returns
    -------
    bool
        True for a name that ends with one of `RAW_SUFFIXES`, in upper or lower case.
    """
    return path.name.lower().endswith(RAW_SUFFIXES)


def open_raw(path: Path) -> RawFile:
    """Return a raw file, of which only the headers are read.

    FITS as it is, gzipped, or tile-compressed, XISF, or what a camera for photographers writes, whatever its name.
    Its size is checked against its headers. Only a gzipped file with more behind its image than a single look tells is
    read to its end.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    RawFile
        Its headers, and its pixels, in adu, to be read by strips.

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

    Examples
    --------
    >>> raw = open_raw(Path("m13-001.fits"))  # doctest: +SKIP
    >>> raw.header["EXPTIME"], raw.shape  # doctest: +SKIP
    (60.0, (4096, 4112))
    >>> strip = raw.pixels[0:100, :]  # doctest: +SKIP
    """
    try:
        contents = file_contents(path)
    except OtherFormError as other:
        return _open_other(path, other.form)
    images = _images(path, contents.hdus)
    _refuse_exposures(path, images)
    first = images[0]
    header, comments = merged_header(contents.hdus[0], images)
    if contents.short:
        # Raised as late as this, so that the error can carry what the headers say of the lost frame.
        raise TruncatedError(contents.short, header, first.shape)
    gzipped = contents.gzipped
    joinable = len(images) > 1 and len({image.shape[1] for image in images}) == 1
    parts = [image_pixels(path, image, gzipped=gzipped) for image in images]
    pixels = JoinedPixels(parts) if joinable else parts[0]
    rows = accumulate((image.shape[0] for image in images), initial=0)
    extensions = tuple(
        Extension(image.index, image.label, image.shape, _own(image), row)
        for image, row in zip(images, rows, strict=False)
    )
    history = tuple(line for hdu in dict.fromkeys([0, first.index]) for line in contents.hdus[hdu].history)
    more = (
        history,
        first.size("BITPIX"),
        tuple(images),
        gzipped,
        {**contents.hdus[0].repeated, **first.repeated},
        _unread_images(first, contents.behind),
    )
    return RawFile(path, header, comments, extensions, pixels, *more)


def _open_other(path: Path, form: Form) -> RawFile:
    # Hardly any project has files of all forms, and reading XML takes a while to import.
    if form == "xisf":
        from ccdflow.archive.otherforms.xisf import open_xisf

        return open_xisf(path)
    from ccdflow.archive.otherforms.cameraraw import open_camera_raw

    return open_camera_raw(path)


def _refuse_exposures(path: Path, images: Sequence[HduHeader]) -> None:
    """Refuse a file of several exposures: amplifiers of one begin at one time."""
    told = (str(image.values.get("DATE-OBS", "")) for image in images)
    times = [time for text in told if (time := _moment(text)) is not None]
    if len(times) > 1 and (max(times) - min(times)).total_seconds() > _AT_ONCE_S:
        raise UnreadableFrameError(
            f"{path} holds {len(images)} exposures, begun from {min(times)} to {max(times)}: split it, a file for each"
        )


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        return None


def _unread_images(first: HduHeader, behind: int) -> tuple[Doubt, ...]:
    """Say that images are passed over which may be frames of their own: programs that show one read as little."""
    if not behind:
        return ()
    size = "x".join(map(str, first.shape))
    more = "1 more is" if behind == 1 else f"{behind} more are"
    told = f"its first image alone is read, of {size} pixels, and {more} behind it"
    return (Doubt("images", f"{told}: exposures in one file, as in Siril's FITSEQ, must be split"),)


@dataclass(frozen=True)
class FileContents:
    """The headers of a FITS file, whether it is gzipped, and what is missing at its end: "" where it is whole.

    `behind` counts images like that of the primary HDU which stand behind it and are not read.
    """

    hdus: list[HduHeader]
    gzipped: bool
    short: str
    behind: int = 0


def file_contents(path: Path, *, every: bool = False) -> FileContents:
    """Return the headers of a FITS file, which may be gzipped, whatever its name.

    Parameters
    ----------
    path : Path
        The file.
    every : bool
        Also those behind an image in the primary HDU.

    Returns
    -------
    FileContents
        At least one header; a file that ends before its last image does is no error yet.

    Raises
    ------
    NotFitsError
        If it is no FITS file, is empty, or is a folder.
    TruncatedError
        If it ends within a header.
    UnreadableFrameError
        If it can't be read.
    """
    try:
        return in_time(path, lambda: _contents(path, every=every))
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise TruncatedError(f"{path} is a damaged gzip file, or ends before it should") from None
    except OSError as error:
        if isinstance(error, IsADirectoryError):
            raise NotFitsError(why_unread(path, error)) from None
        raise unread(path, error) from None


def _contents(path: Path, *, every: bool) -> FileContents:
    with open_plain(path, buffering=_AHEAD * BLOCK) as plain:
        head = plain.read(MAGIC_BYTES)
        if (form := form_of(head)) is not None:
            raise OtherFormError(path, form)
        gzipped = head[:2] == _GZIP_MAGIC
        plain.seek(0)
        if not gzipped:
            hdus = list(hdu_headers(path, plain, ahead=_AHEAD, every=every))
            size = os.fstat(plain.fileno()).st_size
            behind = 0 if every else _like_the_first(path, plain, hdus, size)
            return FileContents(hdus, False, _too_short(path, hdus[-1].end, size), behind)
        with gzip.GzipFile(fileobj=plain) as stream:
            hdus = list(hdu_headers(path, stream, every=every))
            size = _unpacked_size(path, hdus[-1].end, stream)
            behind = 0 if every else _like_the_first(path, stream, hdus, size)
            return FileContents(hdus, True, _too_short(path, hdus[-1].end, size), behind)


def _like_the_first(path: Path, stream: Stream, hdus: Sequence[HduHeader], size: int) -> int:
    """Count the images behind the one that is read alone which may be frames as well; hardly any file has one."""
    first, *others = frame_images(hdus) or [hdus[0]]
    if others or len(first.axes) != 2:
        return 0
    behind = list(hdus[hdus.index(first) + 1 :])
    # Behind the image of a primary HDU no more was read, which for hardly any file is worth it.
    if len(hdus) == 1 and size >= first.end + BLOCK + first.length:
        stream.seek(0)
        try:
            behind = list(hdu_headers(path, stream, ahead=_AHEAD, every=True))[1:]
        except UnreadableFrameError:  # what stands there is nobody's
            return 0
    return sum(_may_be_a_frame(hdu, first) for hdu in behind)


def _may_be_a_frame(hdu: HduHeader, first: HduHeader) -> bool:
    """Whether an image is none of the planes that go with another, and no thumbnail of it."""
    return len(hdu.axes) > 1 and hdu.name not in _NO_FRAME and prod(hdu.axes) >= prod(first.axes)


def image_pixels(path: Path, image: HduHeader, *, gzipped: bool) -> PlainPixels | TiledPixels:
    """Return the pixels of one image of a file.

    Parameters
    ----------
    path : Path
        The file.
    image : HduHeader
        An image with two axes.
    gzipped : bool
        The file as a whole is gzipped.

    Returns
    -------
    PlainPixels or TiledPixels
        Read when cut.

    Raises
    ------
    NotFitsError
        If numbers of this kind are unknown to FITS.
    UnreadableFrameError
        If it is compressed in a way that nobody here understands.
    """
    # BLANK has a meaning for integers only (FITS 4.0, section 4.4.2.5); `ImageLayout` looks at that. Of a compressed
    # image the number stands under ZBLANK, or under the name that it had before (section 10.1.3).
    blank = (
        image.values.get("ZBLANK", image.values.get("BLANK")) if image.tiled else image.values.get("BLANK")
    )
    layout = ImageLayout(
        offset=image.offset,
        bitpix=image.size("BITPIX"),
        shape=image.shape,
        scale=image.real("BSCALE", 1.0),
        zero=image.real("BZERO", 0.0),
        blank=blank if isinstance(blank, int) else None,
    )
    if layout.scale == 0:
        raise UnreadableFrameError(f"{path} has BSCALE = 0: all its pixels would be alike")
    if layout.bitpix not in _KNOWN_BITPIX:
        raise NotFitsError(f"{path} has BITPIX = {layout.bitpix}, which FITS does not know")
    if not image.tiled:
        return PlainPixels(path, layout, gzipped=gzipped)
    _check_tiles(path, image)
    return TiledPixels(path, image.index, layout, gzipped=gzipped, apart=_is_apart(image))


def _is_apart(image: HduHeader) -> bool:
    """Whether its tiles say themselves to how much they unpack: then a process of its own may take that in vain."""
    columns = {value for keyword, value in image.values.items() if keyword.startswith("TTYPE")}
    return image.values["ZCMPTYPE"] not in ("RICE_1", "RICE_ONE") or "GZIP_COMPRESSED_DATA" in columns


def _check_tiles(path: Path, image: HduHeader) -> None:
    """Refuse what would be decompressed wrong, or fail in the middle of a job."""
    sides = [image.size(f"TILE{axis}", 1 if axis > 1 else image.shape[1]) for axis in (1, 2)]
    if min(sides) < 1 or prod(sides) > LARGEST_TILE:
        raise NotFitsError(
            f"{path}: {image.label} has tiles of {sides[0]} x {sides[1]} pixels, wanted {LARGEST_TILE} at most"
        )
    algorithm = str(image.values.get("ZCMPTYPE", ""))
    if algorithm not in _KNOWN_COMPRESSIONS:
        known = ", ".join(sorted(_KNOWN_COMPRESSIONS))
        raise UnreadableFrameError(f"{path}: {image.label} is compressed by {algorithm!r}; known: {known}")
    # CFITSIO reads one scale for all tiles from the header too, where astropy takes the numbers as they are.
    if image.values.keys() & {"ZSCALE", "ZZERO"}:
        raise UnreadableFrameError(
            f"{path}: {image.label} states ZSCALE in its header for all tiles, wanted a column; funpack makes it plain"
        )


def _too_short(path: Path, wanted: int, size: int) -> str:
    """Say in one sentence what is missing of a file; empty for a whole one."""
    return f"{path} is truncated: it has {size} bytes, its headers say {wanted}" if size < wanted else ""


def most_unpacked(wanted: int) -> int:
    """Return how far a gzipped file is unpacked: a thousand times as many zeros fit into it as it has bytes.

    Parameters
    ----------
    wanted : int
        Bytes that its headers tell of.

    Returns
    -------
    int
        Bytes; extensions that nobody has looked at have room.
    """
    return 2 * wanted + ROOM_BEHIND


def _unpacked_size(path: Path, wanted: int, stream: gzip.GzipFile) -> int:
    """Return the bytes in a gzipped file, or `wanted` where a look at its end tells that it is whole."""
    # A gzip file ends with the size of its content modulo 2^32 (RFC 1952, section 2.3.1): most often that saves
    # reading it. Only an exact match counts: the four last bytes of a file that was cut off are anything.
    with open_plain(path) as plain:
        plain.seek(-4, os.SEEK_END)
        (stated,) = struct.unpack("<I", plain.read(4))
    if stated == (-(-wanted // BLOCK) * BLOCK) % 2**32:
        return wanted
    size = stream.tell()
    try:
        while size <= most_unpacked(wanted) and (chunk := stream.read1(2**20)):
            size += len(chunk)
            came(len(chunk))
    except gzip.BadGzipFile as error:
        # What follows behind a whole member is none of gzip's: its own program passes over it as well.
        if not str(error).startswith("Not a gzipped file"):
            raise
    return size


def _images(path: Path, hdus: list[HduHeader]) -> list[HduHeader]:
    """Return the images of the file, the one to read first; extensions called SCI before others."""
    images = frame_images(hdus)
    if not images:
        ours = hdus[0].values.get(CATEGORY)
        told = f": it is a table that ccdflow has made, a {ours}" if "JOBKEY" in hdus[0].values else ""
        raise NoImageError(f"{path} holds no image{told}")
    for image in images:
        if len(image.axes) != 2:
            kind = "a cube" if len(image.axes) > 2 else "a single row"
            raise NoImageError(f"{path} holds {kind} of shape {image.axes}, wanted an image with two axes")
        if min(image.axes) < 1:
            raise NotFitsError(f"{path} has {image.axes} as its rows and columns, wanted numbers above 0")
        bytes_of_image = prod(image.axes) * (abs(image.size("BITPIX")) // 8)
        if max(image.axes) > LONGEST_AXIS or bytes_of_image > LARGEST_IMAGE:
            raise NotFitsError(
                f"{path} has {image.axes} as its rows and columns, wanted at most {LONGEST_AXIS} of each, and "
                f"{LARGEST_IMAGE} bytes"
            )
    return images


def frame_images(hdus: Sequence[HduHeader]) -> list[HduHeader]:
    """Return those images of a file that are the frame, and nothing that goes with it, as masks and variances do.

    Parameters
    ----------
    hdus : sequence of HduHeader
        All headers that were read.

    Returns
    -------
    list of HduHeader
        The image of the primary HDU alone, where there is one; else extensions called SCI before others.
    """
    images = [hdu for hdu in hdus if hdu.axes and hdu.name not in _NO_FRAME]
    # ZSIMPLE stands where the compressed image was in the primary HDU (FITS 4.0, section 10.1.2): it goes alone, as
    # it did before. Programs that write it in each extension mean nothing by it.
    first = [image for image in images if image.tiled and image.values.get("ZSIMPLE") is True]
    if len(first) == 1 and first[0] is images[0]:
        return first
    return [image for image in images if image.name == "SCI"] or images


def merged_header(primary: HduHeader, images: Sequence[HduHeader]) -> tuple[dict[str, Value], dict[str, str]]:
    """Return values and comments of all headers; what the image's leaves blank is filled from the primary's.

    Of several images the first speaks, of its coordinates, and of what all of them say alike.

    Parameters
    ----------
    primary : HduHeader
        The first of the file.
    images : sequence of HduHeader
        The images that are read, at least one.

    Returns
    -------
    values, comments : dict
        By keyword, without those that describe the file's structure.
    """
    values: dict[str, Value] = {}
    comments: dict[str, str] = {}
    image, others = images[0], images[1:]
    for hdu in (primary, image) if primary is not image else (image,):
        stated = _alike(image, others) if others and hdu is image else hdu.values
        for keyword, value in stated.items():
            if not is_structural(keyword) and (value != "" or keyword not in values):
                values[keyword] = value
                comments[keyword] = hdu.comments[keyword]
    return values, comments


def _alike(image: HduHeader, others: Sequence[HduHeader]) -> dict[str, Value]:
    """Return what an image says as all others do, and of its coordinates."""
    return {
        keyword: value
        for keyword, value in image.values.items()
        if keyword.startswith(_COORDINATES) or all(other.values.get(keyword) == value for other in others)
    }


def _own(image: HduHeader) -> dict[str, Value]:
    """Return the values of an image's own header."""
    return {keyword: value for keyword, value in image.values.items() if not is_structural(keyword)}


@lru_cache(4096)
def is_structural(keyword: str) -> bool:
    """Tell whether a keyword describes how a file is stored, and nothing of the frame.

    Parameters
    ----------
    keyword : str
        In upper case.
    """
    return keyword in _STRUCTURE or keyword.rstrip("0123456789") in _NUMBERED_STRUCTURE
