"""Unpack the pixels of an XISF file piece by piece, and never more than their image has."""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from ccdflow.archive.digest import DamagedFrameError
from ccdflow.archive.fits.unpackedpixels import Write
from ccdflow.archive.foreignfile import UnreadableFrameError, open_plain, unread
from ccdflow.archive.otherforms.xisfheader import Block
from ccdflow.archive.patience import came

_PIECE = 1 << 20
"""Bytes that are read, and unpacked, at once."""
_LZ4_AT_MOST = 255
"""A byte of an LZ4 block unpacks to no more bytes than this (LZ4 block format: lengths are added in bytes of 255)."""
_LARGEST_LZ4 = (1 << 31) - 1
_LARGEST_WINDOW = 1 << 27
"""Bytes that Zstandard may look back, its own limit without the option ``--long``."""
_MODULES = {"lz4": "lz4.block", "lz4hc": "lz4.block", "zstd": "zstandard"}


def refuse_unknown_codec(path: Path, codec: str) -> None:
    """Refuse a file whose compression nothing here understands that is installed.

    Parameters
    ----------
    path : Path
        The file.
    codec : str
        As its header names it.

    Raises
    ------
    UnreadableFrameError
        With what to install.
    """
    module = _MODULES.get(codec)
    if module is not None and find_spec(module.partition(".")[0]) is None:
        raise UnreadableFrameError(
            f"{path} is compressed by {codec}, which needs a package more: pip install 'ccdflow[xisf]'"
        )


def unpack(path: Path, block: Block, write: Write) -> None:
    """Unpack a block.

    Parameters
    ----------
    path : Path
        The file.
    block : Block
        A compressed one, or one that stands in the header.
    write : callable
        Is given the pieces, in order.

    Raises
    ------
    DamagedFrameError
        If it unpacks to more or less than its header says.
    """
    if block.inline is not None:
        _unpack_from(path, BytesIO(block.inline), block, write)
        return
    try:
        with open_plain(path) as stream:
            stream.seek(block.start)
            _unpack_from(path, stream, block, write)
    except OSError as error:
        raise unread(path, error) from None


def _unpack_from(path: Path, stream: BinaryIO, block: Block, write: Write) -> None:
    codec = "" if block.packing is None else block.packing.codec
    parts = ((block.length, block.length),) if block.packing is None else block.packing.parts
    place = 0
    for stored, size in parts:
        # A part that does not get smaller is left as it is.
        how = _CODECS[codec if stored != size else ""]
        done = 0
        try:
            for piece in how(stream, stored, size):
                done += len(piece)
                if done > size:
                    break
                write(place, piece)
                place += len(piece)
                came(len(piece))
        except (OSError, MemoryError, DamagedFrameError):
            raise
        except Exception as error:  # each library has its own kind
            told = " ".join(str(error).split()) or type(error).__name__
            raise DamagedFrameError(path, f"{codec} can't unpack its pixels ({told})") from None
        if done != size:
            more = "more than" if done > size else f"{done} bytes, wanted"
            raise DamagedFrameError(path, f"its pixels unpack to {more} {size} bytes")


def _pieces(stream: BinaryIO, length: int) -> Iterator[bytes]:
    while length and (piece := stream.read(min(length, _PIECE))):
        length -= len(piece)
        yield piece


def _stored(stream: BinaryIO, stored: int, _size: int) -> Iterator[bytes]:
    return _pieces(stream, stored)


def _inflated(stream: BinaryIO, stored: int, _size: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj()
    for piece in _pieces(stream, stored):
        while piece and not inflater.eof:
            yield inflater.decompress(piece, _PIECE)
            piece = inflater.unconsumed_tail
    while not inflater.eof and (rest := inflater.decompress(b"", _PIECE)):
        yield rest


def _by_lz4(stream: BinaryIO, stored: int, size: int) -> Iterator[bytes]:
    # The format can't be unpacked piece by piece: nothing is made room for that so few bytes can't fill.
    if size > _LARGEST_LZ4 or size > _LZ4_AT_MOST * stored:
        raise ValueError(f"{stored} bytes can't hold {size}")
    unpacked: bytes = import_module("lz4.block").decompress(stream.read(stored), uncompressed_size=size)
    yield unpacked


def _by_zstd(stream: BinaryIO, stored: int, _size: int) -> Iterator[bytes]:
    zstandard = import_module("zstandard")
    source = BytesIO(stream.read(stored))
    decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    with decompressor.stream_reader(source) as reader:
        while piece := reader.read(_PIECE):
            yield piece


_Codec = Callable[[BinaryIO, int, int], Iterator[bytes]]
_CODECS: dict[str, _Codec] = {
    "": _stored,
    "zlib": _inflated,
    "lz4": _by_lz4,
    "lz4hc": _by_lz4,
    "zstd": _by_zstd,
}


def fault_of_sum(path: Path, block: Block) -> str:
    """Say what the check sum of a block contradicts.

    Parameters
    ----------
    path : Path
        The file.
    block : Block
        Any.

    Returns
    -------
    str
        Blank where the sum holds, or there is none.
    """
    if block.sum is None:
        return ""
    name, stated = block.sum
    digest: Any = hashlib.new(name)
    if block.inline is not None:
        digest.update(block.inline)
    else:
        try:
            with open_plain(path) as stream:
                stream.seek(block.start)
                for piece in _pieces(stream, block.length):
                    digest.update(piece)
                    came(len(piece))
        except OSError as error:
            raise unread(path, error) from None
    found = digest.hexdigest()
    if found == stated:
        return ""
    return f"its {name} is stated as {stated[:16]}..., its pixels have {found[:16]}..."
