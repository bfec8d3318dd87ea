"""A process that decompresses tiles by astropy, of one file after the other, with limits of memory and time.

``python -m ccdflow.archive.fits.tiledecoder`` is started by `ccdflow.archive.fits.tileprocess`, and ends with it.
"""

import math
import pickle
import re
import resource
import sys
import zlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ccdflow.archive.fits.hduheaders import HduHeader
from ccdflow.archive.fits.rowtiles import damage_named, table_header
from ccdflow.archive.fits.tileprocess import LENGTH
from ccdflow.archive.foreignfile import DamagedFrameError, UnreadableFrameError

ROOM = 1 << 30
"""Bytes of memory that a request may take besides what its rows and the file do: gzipped files are unpacked whole."""
COPIES = 64
"""Bytes for each pixel of the rows and of the tiles that they touch: astropy and its libraries make several copies."""
LARGEST_NUMBER = 8
"""Bytes of a number of any image."""
_CPU_BEHIND_S = 60
_GZIP = 31  # zlib's number for gzip with a header, of any window


def decoded_rows(path: Path, index: int, y0: int, y1: int) -> tuple[NDArray[Any], str]:
    """Return rows of a compressed image, decompressed here.

    Parameters
    ----------
    path : Path
        The file.
    index : int
        Number of the HDU, the primary being 0.
    y0, y1 : int
        First row, and the one behind the last.

    Returns
    -------
    array, shape (y1 - y0, nx), and str
        Stored numbers, and the name of the algorithm.
    """
    from astropy.io import fits

    # astropy is not to scale: it takes no BLANK of unsigned numbers, nor one of 0, for "no value".
    with fits.open(path, do_not_scale_image_data=True) as file:
        hdu = file[index]
        planes = (0,) * (len(hdu.shape) - 2)  # leading axes of length 1, see `HduHeader.axes`
        return np.asarray(hdu.section[(*planes, slice(y0, y1), slice(None))]), str(hdu.compression_type)


def check_tiles(path: Path, index: int, y0: int, y1: int) -> None:
    """Refuse tiles that say to unpack to something else than they are to hold, before they are unpacked.

    Parameters
    ----------
    path : Path
        The file; one that is gzipped as a whole is left to the limit of memory.
    index : int
        Number of the HDU, the primary being 0.
    y0, y1 : int
        First row, and the one behind the last.

    Raises
    ------
    DamagedFrameError
        If one does.
    """
    with path.open("rb") as stream:
        if stream.read(2) == b"\x1f\x8b":
            return
        table = table_header(path, index)
        with damage_named(path):
            for number, algorithm, content, sides in _tiles(stream, table, y0, y1):
                if told := fault_of_tile(algorithm, content, sides):
                    raise DamagedFrameError(path, f"tile {number + 1} {told}")


def fault_of_tile(algorithm: str, content: bytes, sides: tuple[int, int]) -> str:
    """Say what is wrong with the size that a tile states of itself.

    Parameters
    ----------
    algorithm : str
        As ``ZCMPTYPE`` names it.
    content : bytes
        Of the tile.
    sides : (int, int)
        Rows and columns that it is to hold.

    Returns
    -------
    str
        Blank where nothing is.

    Notes
    -----
    HCOMPRESS begins with two bytes and the lengths of its axes (FITS 4.0, section 10.4.4); a line list of PLIO with
    seven words of 16 bits, of which the fourth and fifth hold its length (section 10.4.3).
    """
    if algorithm.startswith("GZIP"):
        most = sides[0] * sides[1] * LARGEST_NUMBER
        size = len(zlib.decompressobj(_GZIP).decompress(content, most + 1))
        return (
            f"unpacks to more than {most} bytes, wanted {sides[0]} x {sides[1]} numbers"
            if size > most
            else ""
        )
    if algorithm == "HCOMPRESS_1":
        stated = tuple(int.from_bytes(content[place : place + 4], "big") for place in (2, 6))
        if content[:2] != b"\xdd\x99" or sorted(stated) != sorted(sides):
            return f"says to hold {stated[0]} x {stated[1]} numbers, wanted {sides[0]} x {sides[1]}"
    if algorithm == "PLIO_1":
        words = np.frombuffer(content[: len(content) // 2 * 2], ">i2").astype(int)
        old = words.size > 3 and words[2] > 0
        length = (
            int(words[2]) if old else (int(words[4]) << 15) + int(words[3]) if words.size > 6 else math.inf
        )
        if not 0 <= length <= words.size:
            return f"says to have {length} words, found {words.size}"
    return ""


_WIDTHS = {
    "L": 1,
    "X": 1,
    "B": 1,
    "I": 2,
    "J": 4,
    "K": 8,
    "A": 1,
    "E": 4,
    "D": 8,
    "C": 8,
    "M": 16,
    "P": 8,
    "Q": 16,
}
"""Bytes of a number in a column of a table (FITS 4.0, table 18)."""


def _columns(header: Mapping[str, Any]) -> Iterator[tuple[str, int, str, int]]:
    """Columns of places in the heap: name, place in the row, kind of number, and bytes of an item there."""
    place = 0
    for number in range(1, int(header.get("TFIELDS", 0)) + 1):
        form = re.match(r"(\d*)([A-Z])([A-Z]?)", str(header.get(f"TFORM{number}", "")))
        if form is None:
            raise ValueError(f"TFORM{number} = {header.get(f'TFORM{number}')!r}")
        if form[2] in "PQ" and form[1] != "0":
            kind = ">i4" if form[2] == "P" else ">i8"
            yield str(header.get(f"TTYPE{number}", "")), place, kind, _WIDTHS[form[3] or "B"]
        place += int(form[1] or 1) * _WIDTHS[form[2]]


def _tiles(
    stream: BinaryIO, table: HduHeader, y0: int, y1: int
) -> Iterator[tuple[int, str, bytes, tuple[int, int]]]:
    """Number, algorithm, bytes, and rows and columns of each tile that some rows touch."""
    header: Mapping[str, Any] = table.values
    ny, nx = table.shape
    height, width = int(header.get("ZTILE2", 1)), int(header.get("ZTILE1", nx))
    across = -(-nx // width)
    ways = {"COMPRESSED_DATA": str(header.get("ZCMPTYPE")), "GZIP_COMPRESSED_DATA": "GZIP_1"}
    columns = [column for column in _columns(header) if column[0] in ways]
    size = int(header["NAXIS1"]) * int(header["NAXIS2"])
    heap = table.offset + int(header.get("THEAP", size))
    for number in range(y0 // height * across, min(-(-y1 // height) * across, int(header["NAXIS2"]))):
        stream.seek(table.offset + number * int(header["NAXIS1"]))
        row = stream.read(int(header["NAXIS1"]))
        top, left = number // across * height, number % across * width
        sides = min(height, ny - top), min(width, nx - left)
        for name, place, kind, item in columns:
            count, start = np.frombuffer(row, kind, 2, place).tolist()
            length = count * item
            if length < 0 or heap + start + length > table.end:
                raise DamagedFrameError(
                    Path(stream.name), f"tile {number + 1} lies outside of the image's data"
                )
            if length:
                stream.seek(heap + start)
                yield number, ways[name], stream.read(length), sides


def _limit(path: Path, index: int, y0: int, y1: int, seconds: float) -> None:
    """Let this process have no more memory and time than the rows can need."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # no Linux
        return
    table = table_header(path, index).values if not _is_gzipped(path) else {}
    ny, nx = int(table.get("ZNAXIS2", 1)), int(table.get("ZNAXIS1", 1))
    tile = min(int(table.get("ZTILE2", 1)), ny) * nx
    needs = ROOM + COPIES * (nx * max(y1 - y0, 1) + 2 * tile) + 2 * path.stat().st_size
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = pages * resource.getpagesize() + needs
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))
    used = resource.getrusage(resource.RUSAGE_SELF)
    end = int(used.ru_utime + used.ru_stime + seconds) + _CPU_BEHIND_S
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    # Whoever waits for it may have died.
    resource.setrlimit(resource.RLIMIT_CPU, (end if hard < 0 else min(end, hard), hard))


def _is_gzipped(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def answered(question: tuple[str, int, int, int, float]) -> tuple[tuple[Any, ...], bytes]:
    """Return what is answered to a question, and the bytes of the rows behind it.

    Parameters
    ----------
    question : tuple
        Path, HDU, first row and the one behind the last, and seconds of computing.

    Returns
    -------
    tuple, bytes
        ``("rows", dtype, shape, algorithm)`` with bytes; ``("system", errno, text)`` or ``("damaged", text)`` without.
    """
    path, (index, y0, y1, seconds) = Path(question[0]), question[1:]
    try:
        _limit(path, index, y0, y1, seconds)
        check_tiles(path, index, y0, y1)
        with damage_named(path):
            rows, algorithm = decoded_rows(path, index, y0, y1)
            content = np.ascontiguousarray(rows)
        return ("rows", content.dtype.str, content.shape, algorithm), content.tobytes()
    except DamagedFrameError as error:
        return ("damaged", error.reason), b""
    except MemoryError:
        return ("damaged", "it takes far more memory to decompress than its image has"), b""
    except OSError as error:
        return ("system", error.errno or 5, error.strerror or str(error)), b""
    except UnreadableFrameError as error:
        return ("damaged", str(error)), b""


def main() -> None:
    """Answer questions until there are no more."""
    import_module("astropy.io.fits")  # before anybody counts the seconds: it takes most of one

    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sink.write(LENGTH.pack(0))
    sink.flush()
    while length := source.read(LENGTH.size):
        told, content = answered(pickle.loads(source.read(LENGTH.unpack(length)[0])))
        answer = pickle.dumps(told)
        sink.write(LENGTH.pack(len(answer)) + answer)
        if told[0] == "rows":
            sink.write(LENGTH.pack(len(content)) + content)
        sink.flush()


if __name__ == "__main__":
    main()
