"""The headers of a FITS file, walked without reading its data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from gzip import GzipFile
from math import prod
from pathlib import Path
from typing import BinaryIO

from ccdflow.archive.digest import UnreadableFrameError
from ccdflow.archive.fits.cards import find_end, read_cards
from ccdflow.cascade.records import Value

Stream = BinaryIO | GzipFile

BLOCK = 2880
_MAX_BLOCKS = 2000  # 72,000 cards: a file without END card must not be read to its end


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
class Unit:
    """One header, with the place in the file where its data begin."""

    index: int
    values: Mapping[str, Value]
    comments: Mapping[str, str]
    offset: int

    @cached_property
    def tiled(self) -> bool:
        """Whether it is a tile-compressed image."""
        return self.values.get("ZIMAGE") is True

    def size(self, keyword: str, default: int = 0, *, stored: bool = False) -> int:
        """Return an integer card of the structure: of a tiled image the image's, unless `stored`."""
        found = self.values.get(f"Z{keyword}" if self.tiled and not stored else keyword, default)
        return found if isinstance(found, int) else default

    def real(self, keyword: str, default: float) -> float:
        """Return a number that stands in a card."""
        found = self.values.get(keyword, default)
        return float(found) if isinstance(found, int | float) else default

    @cached_property
    def length(self) -> int:
        """Bytes of data, without padding."""
        count = self.size("NAXIS", stored=True)
        if count < 1:
            return 0
        axes = (self.size(f"NAXIS{axis}", stored=True) for axis in range(1, count + 1))
        numbers = (self.size("PCOUNT", stored=True) + prod(axes)) * self.size("GCOUNT", 1, stored=True)
        return max(abs(self.size("BITPIX", stored=True)) // 8 * numbers, 0)

    @property
    def end(self) -> int:
        """Byte at which the file must not have ended."""
        return self.offset + self.length

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """Lengths of the axes of an image, the slowest first, leading ones left out; () for no image."""
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
        """The extension's name in upper case, or nothing."""
        return str(self.values.get("EXTNAME", "")).upper()

    @property
    def called(self) -> str:
        """Name for messages: ``SCI,1``, or ``HDU 2``."""
        version = self.values.get("EXTVER")
        return f"{self.name}{f',{version}' if version else ''}" if self.name else f"HDU {self.index}"


def units(path: Path, stream: Stream, *, ahead: int = 1, every: bool = False) -> Iterator[Unit]:
    """Yield the headers of a file; unless `every`, of a file with an image in the primary HDU that alone.

    `ahead` blocks are read at once: more than one where going back costs nothing.
    """
    index, position = 0, 0
    while (block := _header(path, stream, primary=index == 0, ahead=ahead)) is not None:
        values, comments = read_cards(block)
        unit = Unit(index, values, comments, position + len(block))
        yield unit
        if index == 0 and unit.axes and not every:
            return
        position = unit.offset + -(-unit.length // BLOCK) * BLOCK
        stream.seek(position)
        index += 1


def _header(path: Path, stream: Stream, *, primary: bool, ahead: int) -> bytes | None:
    """Return the blocks of the header that begins here; None where no other begins."""
    found = bytearray()
    while len(found) < _MAX_BLOCKS * BLOCK:
        more = stream.read(ahead * BLOCK)
        if not found and primary and not more:
            raise NotFitsError(f"{path} is empty")
        if not found and not more.startswith(b"SIMPLE  =" if primary else b"XTENSION="):
            if primary:
                raise NotFitsError(f"{path} is not FITS: it does not begin with SIMPLE")
            return None
        before = len(found)
        found += more
        end = find_end(found, before)
        if end >= 0:
            return bytes(found[: (end // BLOCK + 1) * BLOCK])
        if len(more) < ahead * BLOCK:
            raise TruncatedError(f"{path} is truncated: it ends within a header")
    raise NotFitsError(f"{path} is not FITS: a header of {_MAX_BLOCKS} blocks has no END")
