"""Walk the headers of a FITS file without reading its data.

A header says how many bytes of data stand behind it, so the next header is found by seeking. Of a raw frame of
tens of megabytes only some kilobytes are read, which is what makes registering a night cheap.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from gzip import GzipFile
from math import prod
from pathlib import Path
from typing import BinaryIO

from ccdflow.archive.fits.cards import BLOCK, find_end, read_all_cards, read_history
from ccdflow.archive.foreignfile import LARGEST_FILE, UnreadableFrameError
from ccdflow.cascade.records import Value

Stream = BinaryIO | GzipFile
"""What headers are read from, open for reading at the beginning of the file."""

_MAX_BLOCKS = 2000  # 72,000 cards: a file without END card must not be read to its end
MOST_HDUS = 10_000
"""Headers of a file; mosaics of a hundred detectors with four amplifiers each have some hundred."""
_MOST_OF_ALL = 20_000  # blocks of all headers of a file: 58 MB, which gzip packs into some kilobytes
MOST_AXES = 999
"""The highest NAXIS (FITS 4.0, section 4.4.1.1)."""
_COUNTED = re.compile(r"Z?NAXIS\d*|PCOUNT|GCOUNT")


class NotFitsError(UnreadableFrameError):
    """It is no FITS file."""


class TruncatedError(UnreadableFrameError):
    """It ends before its header says, or is damaged.

    Where its headers are whole, `header` and `shape` are what they say: the frame was taken, though its pixels are
    lost.
    """

    def __init__(
        self, message: str, header: Mapping[str, Value] | None = None, shape: tuple[int, int] | None = None
    ) -> None:
        super().__init__(message)
        self.header = header
        self.shape = shape


class NoImageError(UnreadableFrameError):
    """It holds no two-dimensional image."""


@dataclass(frozen=True)
class HduHeader:
    """One header of a file, and the place where its data begin.

    Parameters
    ----------
    index : int
        Number of the HDU, the primary being 0.
    values, comments : mapping
        Keyword to value and to comment, see `ccdflow.archive.fits.cards.read_cards`.
    offset : int
        Byte of the (unpacked) file at which the data begin.
    history : tuple of str
        Texts of its ``HISTORY`` cards.
    start : int
        Byte at which the header begins.
    repeated : mapping
        Other values of keywords that stand there more than once.
    """

    index: int
    values: Mapping[str, Value]
    comments: Mapping[str, str]
    offset: int
    history: tuple[str, ...] = ()
    start: int = 0
    repeated: Mapping[str, Value] = field(default_factory=dict)

    @cached_property
    def tiled(self) -> bool:
        """Is true for a tile-compressed image (FITS 4.0, section 10.1)."""
        return self.values.get("ZIMAGE") is True

    def size(self, keyword: str, default: int = 0, *, stored: bool = False) -> int:
        """Return an integer that a card of the structure states.

        A tile-compressed image is a binary table, whose header states the table's structure under the usual
        keywords and the image's under the same with a Z before them (FITS 4.0, section 10.1.1).

        Parameters
        ----------
        keyword : str
            Such as ``NAXIS1``.
        default : int
            Given back where there is no such card, or one that states no integer.
        stored : bool
            Ask for what is stored, so of a tiled image for the table that holds it.

        Returns
        -------
        int
            The stated number.
        """
        value = self.values.get(f"Z{keyword}" if self.tiled and not stored else keyword, default)
        return value if isinstance(value, int) else default

    def real(self, keyword: str, default: float) -> float:
        """Return a number that a card states.

        Parameters
        ----------
        keyword : str
            Such as ``BZERO``.
        default : float
            Given back where there is no such card, or one that states no number.

        Returns
        -------
        float
            The stated number.
        """
        value = self.values.get(keyword, default)
        if isinstance(value, str):
            # Some programs put quotes around numbers; without BZERO all pixels would be wrong by that.
            with suppress(ValueError):
                return float(value)
        return float(value) if isinstance(value, int | float) else default

    @cached_property
    def length(self) -> int:
        """Bytes of data, without padding (FITS 4.0, section 4.4.1.2, equation 2)."""
        count = self.size("NAXIS", stored=True)
        if count < 1:
            return 0
        axes = (self.size(f"NAXIS{axis}", stored=True) for axis in range(1, count + 1))
        # PCOUNT counts what stands behind a table: the heap that holds the tiles of a compressed image.
        numbers = (self.size("PCOUNT", stored=True) + prod(axes)) * self.size("GCOUNT", 1, stored=True)
        return max(abs(self.size("BITPIX", stored=True)) // 8 * numbers, 0)

    @property
    def end(self) -> int:
        """Byte at which the file must not have ended; the padding behind it may be missing."""
        return self.offset + self.length

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """Lengths of the axes of an image, the slowest first; () for no image.

        Leading axes of length 1 are left out, as cameras write them that call each frame a cube of one plane.
        """
        if self.values.get("XTENSION", "IMAGE") != "IMAGE" and not self.tiled:
            return ()
        lengths = [self.size(f"NAXIS{axis}") for axis in range(self.size("NAXIS"), 0, -1)]
        while len(lengths) > 2 and lengths[0] == 1:
            del lengths[0]
        return tuple(lengths) if all(lengths) else ()

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns ``(ny, nx)`` of an image with two axes."""
        ny, nx = self.axes
        return ny, nx

    @property
    def name(self) -> str:
        """Name of the extension in upper case, or nothing."""
        return str(self.values.get("EXTNAME", "")).upper()

    @property
    def label(self) -> str:
        """Name for messages: ``SCI,1``, or ``HDU 2``."""
        version = self.values.get("EXTVER")
        return f"{self.name}{f',{version}' if version else ''}" if self.name else f"HDU {self.index}"


def hdu_headers(path: Path, stream: Stream, *, ahead: int = 1, every: bool = False) -> Iterator[HduHeader]:
    """Yield the headers of a file, one after the other.

    Parameters
    ----------
    path : Path
        The file, for messages.
    stream : binary stream
        The file, open at its beginning; gzipped ones as `gzip.GzipFile`.
    ahead : int
        Blocks of 2880 bytes that are read at once. More than one saves calls where a header has several, but
        only where going back costs nothing: a gzipped file would have to be unpacked from its beginning again.
    every : bool
        Go on to the extensions where the primary HDU holds an image; without, it then stands alone.

    Yields
    ------
    HduHeader
        In order; the stream stands somewhere else after each.

    Raises
    ------
    NotFitsError
        If the file is empty, does not begin as FITS does, or a header has no end.
    TruncatedError
        If the file ends within a header.
    """
    index, position, blocks = 0, 0, 0
    while (block := _header(path, stream, primary=index == 0, ahead=ahead)) is not None:
        values, comments, repeated = read_all_cards(block)
        hdu = HduHeader(
            index, values, comments, position + len(block), read_history(block), position, repeated
        )
        _refuse_absurd(path, hdu)
        blocks += len(block) // BLOCK
        yield hdu
        if index == 0 and hdu.axes and not every:
            return
        position = hdu.offset + -(-hdu.length // BLOCK) * BLOCK
        # No file is so long: there is no further header, and no place to go to either.
        if position > LARGEST_FILE:
            return
        stream.seek(position)
        index += 1
        if index == MOST_HDUS or blocks > _MOST_OF_ALL:
            raise NotFitsError(f"{path} is not FITS: it has {index} headers with {blocks} blocks, and more")


def _refuse_absurd(path: Path, hdu: HduHeader) -> None:
    """Refuse numbers that no file can have, before anything loops over them."""
    for keyword, value in hdu.values.items():
        if not isinstance(value, int) or isinstance(value, bool) or not _COUNTED.fullmatch(keyword):
            continue
        most = MOST_AXES if keyword in ("NAXIS", "ZNAXIS") else None
        if value < 0 or (most is not None and value > most):
            wanted = "a number from 0 on" if most is None else f"a number from 0 to {most}"
            raise NotFitsError(f"{path}: {hdu.label} has {keyword} = {value}, wanted {wanted}")
    if hdu.tiled:
        _refuse_other_tiles(path, hdu)


def _refuse_other_tiles(path: Path, hdu: HduHeader) -> None:
    """Refuse a tile-compressed image that has not as many tiles as its shape wants (FITS 4.0, section 10.1.1)."""
    wanted, shape = 1, []
    for axis in range(1, hdu.size("NAXIS") + 1):
        length = hdu.size(f"NAXIS{axis}")
        tile = hdu.size(f"TILE{axis}", length if axis == 1 else 1)
        wanted *= -(-length // tile) if tile else 0
        shape.append(str(length))
    stored = hdu.size("NAXIS2", stored=True)
    if stored != wanted:
        told = f"{hdu.label} has {stored} tiles (NAXIS2), wanted {wanted} for an image of {'x'.join(shape)} pixels"
        raise NotFitsError(f"{path}: {told}")


def _header(path: Path, stream: Stream, *, primary: bool, ahead: int) -> bytes | None:
    """Return the blocks of the header that begins here; None where no other begins."""
    header = bytearray()
    while len(header) < _MAX_BLOCKS * BLOCK:
        more = stream.read(ahead * BLOCK)
        if not header and primary and not more:
            raise NotFitsError(f"{path} is empty")
        if not header and not more.startswith(b"SIMPLE  =" if primary else b"XTENSION="):
            if primary:
                raise NotFitsError(f"{path} is not FITS: it does not begin with SIMPLE")
            # Behind the last HDU there may be anything (FITS 4.0, section 3.5, special records).
            return None
        before = len(header)
        header += more
        # Cards don't cross the blocks' borders, so that only what is new has to be searched.
        end = find_end(header, before)
        if end >= 0:
            return bytes(header[: (end // BLOCK + 1) * BLOCK])
        if len(more) < ahead * BLOCK:
            raise TruncatedError(f"{path} is truncated: it ends within a header")
    raise NotFitsError(f"{path} is not FITS: a header of {_MAX_BLOCKS} blocks has no END")
