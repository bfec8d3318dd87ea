"""Hold raw files against the checks that they carry: gzip's CRC, DATASUM and CHECKSUM, tiles that decompress.

A file that contradicts its own checks is damaged: a bit fell over on a disk or on the way, and pixels may be anything.
Nobody else would notice: a flipped bit is one wrong pixel of a plain file, some thousand of a compressed one.

CHECKSUM covers header and data, DATASUM the data alone. A header that somebody edited after it was written breaks
CHECKSUM, which is common and harms no pixel. Data that break DATASUM while CHECKSUM holds are what CHECKSUM was made
of: DATASUM was left over from another file.

References
----------
FITS Standard 4.0: section 4.4.2.7 and appendix J (sums), section 10.1.2 (ZDATASUM); RFC 1952 (gzip).
"""

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np

from ccdflow.archive.digest import DamagedFrameError, file_digest, unread
from ccdflow.archive.fits.cards import BLOCK
from ccdflow.archive.fits.hduheaders import HduHeader
from ccdflow.archive.fits.rawfile import RawFile, most_unpacked
from ccdflow.archive.fits.rawpixels import TiledPixels
from ccdflow.archive.fits.unpackedpixels import UnpackedPixels
from ccdflow.archive.foreignfile import open_plain
from ccdflow.archive.patience import came
from ccdflow.cascade.records import Doubt

DAMAGED, EDITED = "damaged", "checksum"
"""Kinds of doubts: content that is not what was written, and a check that no longer holds though the content may."""

_ONES = 2**32 - 1
"""Sums are in ones' complement, where 0 and this number are the same (appendix J.1)."""
_UNPACKED = 1 << 20
"""Bytes of a gzipped file that are unpacked at once."""
_DECODED_ROWS = 256
"""Rows of a compressed image that are decompressed at once; not kept."""


def read_whole(
    raw: RawFile, cancelled: Event | None = None, *, tiles: bool = False
) -> tuple[str, tuple[Doubt, ...]]:
    """Read all of a raw file: its sha256, and what its own checks say of it.

    Parameters
    ----------
    raw : RawFile
        As `ccdflow.archive.fits.rawfile.open_raw` gives it.
    cancelled : Event or None
        Ends the reading early.
    tiles : bool
        Whether all tiles are decompressed, also where a sum tells enough of them.

    Returns
    -------
    str, tuple of Doubt
        The digest, 64 hexadecimal digits, and the faults: of the kinds `DAMAGED` and `EDITED`.

    Raises
    ------
    UnreadableFrameError
        If the file can't be read.
    """
    sums = _FileSums(raw.images)
    # A plain file is hashed and added up in one reading; of a gzipped one the sums are of what it holds.
    watch = sums.feed if sums.regions and not raw.gzipped else None
    digest = file_digest(raw.path, cancelled, watch)
    return digest, _faults(raw, sums, read=watch is not None, cancelled=cancelled, tiles=tiles)


def faults_of(raw: RawFile) -> tuple[Doubt, ...]:
    """Return what the checks of a raw file say of it; it is read only where it carries any.

    Parameters
    ----------
    raw : RawFile
        As `ccdflow.archive.fits.rawfile.open_raw` gives it.

    Returns
    -------
    tuple of Doubt
        See `read_whole`.
    """
    return _faults(raw, _FileSums(raw.images), read=False)


def refuse_damaged(raw: RawFile) -> None:
    """Refuse a raw file that contradicts its own checks.

    Parameters
    ----------
    raw : RawFile
        As `ccdflow.archive.fits.rawfile.open_raw` gives it.

    Raises
    ------
    DamagedFrameError
        If it is damaged.
    """
    for fault in faults_of(raw):
        if fault.kind == DAMAGED:
            raise DamagedFrameError(raw.path, fault.text)


def tile_faults(raw: RawFile) -> Iterator[Doubt]:
    """Decompress all tiles of a raw file, and yield what is wrong with them.

    Parameters
    ----------
    raw : RawFile
        Of plain images nothing is read.

    Yields
    ------
    Doubt
        Of the kind `DAMAGED`: a tile that does not decompress, or numbers that contradict ZDATASUM.
    """
    for image, pixels in zip(raw.images, raw.parts, strict=False):
        if isinstance(pixels, TiledPixels):
            yield from _faults_of_tiles(image, pixels)


def _faults(
    raw: RawFile, sums: "_FileSums", *, read: bool, cancelled: Event | None = None, tiles: bool = False
) -> tuple[Doubt, ...]:
    """Return all faults; `read` says whether the sums have seen the file already."""
    if raw.gzipped:
        broken = _unpack(raw, sums.feed, cancelled)
        if broken:
            return (Doubt(DAMAGED, broken),)
    elif sums.regions and not read:
        file_digest(raw.path, cancelled, sums.feed)
    faults = [*sums.faults(), *_lost_tiles(raw), *_faults_of_other_forms(raw)]
    # To decompress takes ten times as long as to hash: only where there is a check, and no other.
    if tiles or any(_is_checked_by_tiles(image) for image in raw.images):
        faults += tile_faults(raw)
    return tuple(faults)


def _lost_tiles(raw: RawFile) -> Iterator[Doubt]:
    """Say which images without a sum have tiles that lie nowhere: a look at their table tells."""
    for image, pixels in zip(raw.images, raw.parts, strict=False):
        if isinstance(pixels, TiledPixels) and _stated(image, "DATASUM") is None:
            try:
                pixels.locate()
            except DamagedFrameError as error:
                yield Doubt(DAMAGED, f"{image.label}: {error.reason}")


def _faults_of_other_forms(raw: RawFile) -> Iterator[Doubt]:
    """Hold a file that is no FITS against its check sum, and unpack what is packed: its digest needs that anyway."""
    if raw.check is not None and (told := raw.check()):
        yield Doubt(DAMAGED, told)
        return
    for pixels in raw.parts:
        if isinstance(pixels, UnpackedPixels):
            try:
                pixels.unpack()
            except DamagedFrameError as error:
                yield Doubt(DAMAGED, error.reason)


def _is_checked_by_tiles(image: HduHeader) -> bool:
    """Whether only decompression tells that the tiles are whole: gzip has a sum in each, Rice and others have none."""
    if not image.tiled or _stated(image, "DATASUM") is not None:
        return False
    summed = _is_lossless(image) and _stated(image, "ZDATASUM") is not None
    return summed or str(image.values.get("ZCMPTYPE", "")).startswith("GZIP")


def _unpack(raw: RawFile, feed: Callable[[Any], None], cancelled: Event | None) -> str:
    """Unpack a gzipped file to its end; say what is wrong with it, nothing for a whole one."""
    path, told, size = raw.path, max(image.end for image in raw.images), 0
    try:
        with open_plain(path) as packed, gzip.GzipFile(fileobj=packed) as stream:
            # One reading at a time: what came before something strange is not to be lost with it.
            while chunk := stream.read1(_UNPACKED):
                if cancelled is not None and cancelled.is_set():
                    raise CancelledError(f"{path} is no longer wanted")
                if (size := size + len(chunk)) > most_unpacked(told):
                    return f"it unpacks to more than {most_unpacked(told)} bytes, its headers tell of {told}"
                came(len(chunk))
                feed(chunk)
    except gzip.BadGzipFile as error:
        # What follows behind a whole member is none of gzip's: its own program passes over it as well.
        if str(error).startswith("Not a gzipped file"):
            return ""
        return f"gzip's own check contradicts the content ({str(error).lower()})"
    except (EOFError, zlib.error) as error:
        return f"gzip can't unpack it to its end ({str(error).lower()})"
    except OSError as error:
        raise unread(path, error) from None
    return ""


def _faults_of_tiles(image: HduHeader, pixels: TiledPixels) -> Iterator[Doubt]:
    """Decompress one image, and add up its numbers where they come back as they were."""
    stated = _stated(image, "ZDATASUM") if _is_lossless(image) else None
    total = _Sum()
    try:
        for start in range(0, pixels.shape[0], _DECODED_ROWS):
            numbers = pixels.numbers(start, min(start + _DECODED_ROWS, pixels.shape[0]))
            came(numbers.nbytes)
            if stated is not None:
                total.add(numbers.astype(numbers.dtype.newbyteorder(">")).tobytes())
    except DamagedFrameError as error:
        yield Doubt(DAMAGED, f"{image.label}: {error.reason}")
        return
    if stated is not None and total.value % _ONES != stated % _ONES:
        yield Doubt(
            DAMAGED, f"{image.label}: ZDATASUM is {stated}, its pixels add up to {total.value % _ONES}"
        )


def _is_lossless(image: HduHeader) -> bool:
    scale = next(
        (image.values.get(f"ZVAL{name[5:]}") for name in image.values if image.values[name] == "SCALE"), 0
    )
    return image.size("BITPIX") > 0 and not scale


@dataclass
class _Sum:
    """The sum of 32 bit words, highest byte first, of bytes that come piece by piece."""

    value: int = 0
    size: int = 0

    def add(self, piece: Any) -> None:
        """Add the next bytes."""
        # Words that are cut by the pieces' borders are added in two halves: a sum does not mind.
        before, after = self.size % 4, -(self.size + len(piece)) % 4
        self.size += len(piece)
        if before or after:
            piece = b"\0" * before + bytes(piece) + b"\0" * after
        self.value += int(np.frombuffer(piece, ">u4").sum(dtype=np.uint64))


@dataclass
class _Region:
    """Bytes of the unpacked file that belong to one sum."""

    start: int
    end: int
    sum: _Sum = field(default_factory=_Sum)


class _FileSums:
    """The sums of all images of a file that state any, worked out while the file is read from its beginning."""

    def __init__(self, images: Sequence[HduHeader]) -> None:
        self._images = [
            image for image in images if {"DATASUM", "CHECKSUM"} & image.values.keys() and _checks(image)
        ]
        self.regions = [
            _Region(*bounds)
            for image in self._images
            for bounds in (
                (image.start, image.offset),
                (image.offset, image.offset + -(-image.length // BLOCK) * BLOCK),
            )
        ]
        self._at = 0

    def feed(self, chunk: Any) -> None:
        """Take the next bytes of the file."""
        start, self._at = self._at, self._at + len(chunk)
        for region in self.regions:
            first, last = max(start, region.start), min(self._at, region.end)
            if first < last:
                region.sum.add(memoryview(chunk)[first - start : last - start])

    def faults(self) -> Iterator[Doubt]:
        """Yield what the sums contradict."""
        pairs = zip(self.regions[::2], self.regions[1::2], strict=True)
        for image, (header, data) in zip(self._images, pairs, strict=True):
            fault = _fault(image, header.sum.value, data.sum.value)
            if fault is not None:
                yield fault


def _fault(image: HduHeader, header: int, data: int) -> Doubt | None:
    """Judge the sums of one image."""
    stated = _stated(image, "DATASUM")
    is_whole = (header + data) % _ONES == 0 if _has_checksum(image) else None
    if stated is not None and stated % _ONES != data % _ONES:
        told = f"{image.label}: DATASUM is {stated}, its data add up to {data % _ONES}"
        if is_whole:
            return Doubt(EDITED, f"{told}, though CHECKSUM holds: DATASUM is of other data")
        return Doubt(DAMAGED, told)
    if is_whole is False:
        told = f"{image.label}: CHECKSUM does not hold"
        if stated is not None:
            return Doubt(EDITED, f"{told}, header was edited; its data are as DATASUM says")
        return Doubt(EDITED, f"{told}, header was edited or data are damaged: no DATASUM tells which")
    return None


def _checks(image: HduHeader) -> bool:
    return _stated(image, "DATASUM") is not None or _has_checksum(image)


def _has_checksum(image: HduHeader) -> bool:
    # Blank, or sixteen zeros: not worked out (section 4.4.2.7).
    return str(image.values.get("CHECKSUM", "")).strip("0 ") != ""


def _stated(image: HduHeader, keyword: str) -> int | None:
    """Return a sum that a header states, as text or as a number; None for none."""
    value = image.values.get(keyword)
    text = "" if isinstance(value, bool) or value is None else str(value).strip()
    return int(text) if text.isdigit() and int(text) <= _ONES else None


__all__ = ["DAMAGED", "EDITED", "faults_of", "read_whole", "refuse_damaged", "tile_faults"]
