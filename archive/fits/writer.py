"""FITS written by hand: planes go out in chunks, their checksums are known before their headers are written."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import cycle
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from ccdflow.archive.fits.rawunits import Unit
from ccdflow.recipes.core.recipe import Card
from ccdflow.recipes.kernels.threads import ahead, in_threads

BLOCK = 2880
CARD = 80
CHUNK = 1 << 21
"""Bytes that are encoded, hashed and written together."""
IN_FLIGHT = 2
"""Chunks that may still be hashed while a further one is encoded."""

_NO_WORDS = np.empty(0, np.uint32)

Value = str | int | float | bool | None
Bytes = bytes | memoryview | NDArray[np.uint8]


class Sink(Protocol):
    """What takes bytes one after the other."""

    def write(self, data: Any, /) -> Any:
        """Take bytes; a chunk stays as it is until `IN_FLIGHT` further ones were written."""
        ...


class HashingFile:
    """A file that is open for writing, whose sha256 is worked out by a thread of its own while bytes pass."""

    def __init__(self, write: Callable[[memoryview], int | None]) -> None:
        self._write = write
        self._hash = sha256()
        self._pool: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []
        self.size = 0

    def __enter__(self) -> "HashingFile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def write(self, data: Any) -> int:
        """Write bytes; they must stay as they are until `IN_FLIGHT` further chunks were written."""
        view = memoryview(data).cast("B")
        if len(view) < CHUNK // 8 and self._pool is None:
            self._hash.update(view)
        else:
            self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="sha256")
            self._pending.append(self._pool.submit(self._hash.update, view))
        done = 0
        while done < len(view):
            done += self._write(view[done:]) or 0
        while len(self._pending) > IN_FLIGHT:
            self._pending.pop(0).result()
        self.size += len(view)
        return len(view)

    def flush(self) -> None:
        """Do nothing: every write goes to the file at once."""

    def digest(self) -> str:
        """sha256 of all that was written, in hexadecimal."""
        for one in self._pending:
            one.result()
        self._pending.clear()
        return self._hash.hexdigest()


@dataclass(frozen=True)
class Plane:
    """A plane of pixels: float32, uint16 (stored with BZERO), or as a mask of uint8 the bits of a DQ plane."""

    values: NDArray[Any]
    mask: bool = False

    @property
    def bitpix(self) -> int:
        """As the FITS standard has it."""
        return 8 if self.mask else {4: -32, 2: 16}[self.values.itemsize]

    @property
    def size(self) -> int:
        """Bytes of the plane in a file, without padding."""
        return self.values.size * abs(self.bitpix) // 8

    def parts(self, size: int) -> Iterator["Plane"]:
        """Pieces that take `size` bytes in the file, the last perhaps less."""
        flat, step = self.values.reshape(-1), size * 8 // abs(self.bitpix)
        for start in range(0, flat.size, step):
            yield Plane(flat[start : start + step], self.mask)

    def encoded(self, buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bytes of a piece as they stand in the file, written into the buffer."""
        # LLVM takes a twentieth of a second to load, and commands that only ask never need it.
        from ccdflow.archive.fits.writer_kernels import encode, encode_mask

        out = buffer[: self.size]
        if self.mask:
            encode_mask(self.values, out)
        elif self.bitpix == -32:
            encode(0, self.values.view(np.uint32), out.view(np.uint32))
        else:
            even = self.values.size // 2 * 2
            encode(1, self.values[:even].view(np.uint32), out[: 2 * even].view(np.uint32))
            if even < self.values.size:
                out[-2:].view(">u2")[0] = self.values[-1] ^ np.uint16(0x8000)
        return out

    def checksum(self, spare: NDArray[np.uint8]) -> int:
        """Sum of the words of a piece as they stand in the file, which starts at the beginning of a word."""
        from ccdflow.archive.fits.writer_kernels import encode

        if self.bitpix == -32:
            return int(encode(0, self.values.view(np.uint32), _NO_WORDS))
        if self.mask:
            return _bytes_sum(self.encoded(spare).tobytes())
        even = self.values.size // 2 * 2
        total = int(encode(1, self.values[:even].view(np.uint32), _NO_WORDS))
        last = int(self.values[-1] ^ np.uint16(0x8000)) << 16 if even < self.values.size else 0
        return total + last


@dataclass(frozen=True)
class Hdu:
    """A header and its data: a plane, the bytes of a table, or nothing.

    `structure` are the cards that say what the data are; `cards` follow them.
    """

    structure: Mapping[str, Card]
    cards: Mapping[str, tuple[Value, str]]
    data: Plane | bytes | None


def image_hdu(name: str, plane: Plane, cards: Mapping[str, tuple[Value, str]]) -> Hdu:
    """An image extension."""
    structure: dict[str, Card] = {"XTENSION": ("IMAGE", "Image extension"), **_axes(plane)}
    structure |= {"PCOUNT": (0, "number of parameters"), "GCOUNT": (1, "number of groups")}
    if plane.bitpix == 16:
        structure |= {"BSCALE": (1, ""), "BZERO": (32768, "unsigned integers")}
    return Hdu(structure | {"EXTNAME": (name, "extension name")}, cards, plane)


def primary_hdu(plane: Plane | None, cards: Mapping[str, tuple[Value, str]]) -> Hdu:
    """The first HDU, with or without an image."""
    axes: dict[str, Card] = {"BITPIX": (8, "array data type"), "NAXIS": (0, "number of array dimensions")}
    structure: dict[str, Card] = {
        "SIMPLE": (True, "conforms to FITS standard"),
        **(_axes(plane) if plane else axes),
    }
    return Hdu(structure | {"EXTEND": (True, "")}, cards, plane)


def _axes(plane: Plane) -> dict[str, Card]:
    ny, nx = plane.values.shape
    return {
        "BITPIX": (plane.bitpix, "array data type"),
        "NAXIS": (2, "number of array dimensions"),
        "NAXIS1": (nx, ""),
        "NAXIS2": (ny, ""),
    }


def table_hdu(name: str, columns: Mapping[str, NDArray[Any]]) -> Hdu:
    """A binary table with columns of numbers, truths or truths, each perhaps with several values in a row."""
    arrays = {column: _stored_column(np.asarray(values)) for column, values in columns.items()}
    kinds = [(column, stored.dtype, stored.shape[1:]) for column, (stored, _) in arrays.items()]
    rows = np.zeros(len(next(iter(arrays.values()))[0]) if arrays else 0, dtype=kinds)
    for column, (stored, _) in arrays.items():
        rows[column] = stored
    structure: dict[str, Card] = {
        "XTENSION": ("BINTABLE", "binary table extension"),
        "BITPIX": (8, "array data type"),
        "NAXIS": (2, "number of array dimensions"),
        "NAXIS1": (rows.dtype.itemsize, "length of dimension 1"),
        "NAXIS2": (len(rows), "length of dimension 2"),
        "PCOUNT": (0, "number of group parameters"),
        "GCOUNT": (1, "number of groups"),
        "TFIELDS": (len(kinds), "number of table fields"),
    }
    for number, (column, (stored, code)) in enumerate(arrays.items(), 1):
        repeat = stored.dtype.itemsize if code == "A" else int(np.prod(stored.shape[1:], dtype=int))
        structure |= {f"TTYPE{number}": (column, ""), f"TFORM{number}": (f"{repeat}{code}", "")}
    return Hdu(structure | {"EXTNAME": (name, "extension name")}, {}, rows.tobytes())


_CODES = {"f8": "D", "f4": "E", "i8": "K", "i4": "J", "i2": "I", "u1": "B"}


def _stored_column(values: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """A column as it stands in a file, and the FITS code of its kind.

    Raises
    ------
    ValueError
        If FITS has no such kind of number, or truths stand several in a row.
    """
    if values.dtype.kind == "b":
        return np.where(values, np.uint8(ord("T")), np.uint8(ord("F"))), "L"
    if values.dtype.kind == "U":
        values = np.char.encode(values, "utf-8")
    if values.dtype.kind == "S" and values.ndim == 1:
        return values.astype(f"S{max(values.dtype.itemsize, 1)}"), "A"
    code = _CODES.get(values.dtype.str[1:])
    if code is None:
        raise ValueError(f"a column of {values.dtype} with shape {values.shape} can't be written to FITS")
    return values.astype(values.dtype.newbyteorder(">")), code


def read_columns(unit: Unit, stream: BinaryIO) -> dict[str, NDArray[Any]]:
    """Columns of a table that `table_hdu` has made, in native byte order.

    Raises
    ------
    ValueError
        If a column is of another kind.
    """
    kinds = {code: kind for kind, code in _CODES.items()} | {"L": "u1"}
    fields: list[tuple[str, str, tuple[int, ...]]] = []
    truths: set[str] = set()
    for number in range(1, unit.size("TFIELDS") + 1):
        name = str(unit.values[f"TTYPE{number}"])
        form = re.fullmatch(r"(\d+)([A-Z])", str(unit.values[f"TFORM{number}"]))
        if form is None or (form[2] != "A" and form[2] not in kinds):
            raise ValueError(f"column {name} is of a kind that products have not")
        repeat = int(form[1])
        kind = f"S{repeat}" if form[2] == "A" else f">{kinds[form[2]]}"
        fields.append((name, kind, () if form[2] == "A" or repeat == 1 else (repeat,)))
        truths |= {name} if form[2] == "L" else set()
    stream.seek(unit.offset)
    rows = np.frombuffer(stream.read(unit.length), dtype=fields, count=unit.size("NAXIS2", stored=True))
    return {name: _read_column(rows[name], truth=name in truths) for name, _, _ in fields}


def _read_column(values: NDArray[Any], *, truth: bool) -> NDArray[Any]:
    if truth:
        return np.asarray(values == ord("T"))
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    return values.astype(values.dtype.newbyteorder("="))


def write_hdus(sink: Sink, hdus: Sequence[Hdu]) -> None:
    """Write HDUs, each with CHECKSUM and DATASUM (FITS standard 4.0, section 4.4.2.7 and appendix J)."""
    sums = _data_sums([hdu.data for hdu in hdus])
    for hdu, total in zip(hdus, sums, strict=True):
        sink.write(_header(hdu, total))
        size = 0
        for chunk in _chunks(hdu.data):
            size += len(chunk)
            sink.write(chunk)
        if size % BLOCK:
            sink.write(bytes(BLOCK - size % BLOCK))


def _chunks(data: Plane | bytes | None) -> Iterator[Bytes]:
    """The data as they stand in the file; each chunk stays as it is until `IN_FLIGHT` further ones were taken."""
    if not isinstance(data, Plane):
        yield from [data] if data else []
        return
    number = -(-data.size // CHUNK)
    # One more is encoded meanwhile.
    ring = [np.empty(CHUNK, np.uint8) for _ in range(min(IN_FLIGHT + 2, number))]
    pieces = zip(data.parts(CHUNK), cycle(ring))
    encoded = ahead if number > IN_FLIGHT else map
    yield from encoded(lambda piece: piece[0].encoded(piece[1]), pieces)


def _data_sums(data: Sequence[Plane | bytes | None]) -> list[int]:
    """Ones' complement sum of the words of each HDU's data."""

    def work(parts: Iterator[tuple[int, Plane]]) -> list[tuple[int, int]]:
        spare = np.empty(CHUNK, np.uint8)
        return [(number, part.checksum(spare)) for number, part in parts]

    sums = [0 if one is None or isinstance(one, Plane) else _bytes_sum(one) for one in data]
    planes = [(number, one) for number, one in enumerate(data) if isinstance(one, Plane)]
    parts = [(number, part) for number, plane in planes for part in plane.parts(CHUNK)]
    for found in in_threads(work, parts, threads=None if len(parts) > 2 * len(planes) else 1):
        for number, total in found:
            sums[number] += total
    return [_folded(total) for total in sums]


def _bytes_sum(data: bytes) -> int:
    words = np.frombuffer(data + bytes(-len(data) % 4), ">u4")
    return int(words.sum(dtype=np.uint64))


def _folded(total: int) -> int:
    """Sum of 32 bits, with what is carried out of it added again."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _header(hdu: Hdu, data_sum: int) -> bytes:
    cards = [render(name, *card) for name, card in {**hdu.structure, **hdu.cards}.items()]
    cards += [
        render("CHECKSUM", "0" * 16, "checksum of the HDU"),
        render("DATASUM", str(data_sum), "checksum of the data"),
    ]
    text = "".join(cards) + f"{'END':80}"
    plain = text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")
    written = encoded_checksum(_folded(_bytes_sum(plain) + data_sum))
    return plain.replace(b"CHECKSUM= '0000000000000000'", f"CHECKSUM= '{written}'".encode("ascii"), 1)


_PUNCTUATION = frozenset((*range(0x3A, 0x41), *range(0x5B, 0x61)))


def encoded_checksum(total: int) -> str:
    """Sixteen letters and digits that make the sum of an HDU's words, `total` without them, all ones.

    Notes
    -----
    FITS standard 4.0, appendix J.2: each byte of the complement is spread over four characters above 0, those
    that come out as punctuation are moved against each other, and all is rotated by one character.
    """
    complement = ~total & 0xFFFFFFFF
    spread = [[0] * 4 for _ in range(4)]
    for place in range(4):
        quotient, remainder = divmod((complement >> (24 - 8 * place)) & 0xFF, 4)
        digits = [quotient + 0x30 + (remainder if number == 0 else 0) for number in range(4)]
        for pair in (0, 2):
            while digits[pair] in _PUNCTUATION or digits[pair + 1] in _PUNCTUATION:
                digits[pair] += 1
                digits[pair + 1] -= 1
        for number in range(4):
            spread[number][place] = digits[number]
    letters = [chr(one) for row in spread for one in row]
    return "".join(letters[-1:] + letters[:-1])


def render(keyword: str, value: Value, comment: str) -> str:
    """A header card, or several where a text is long; `None` gives a card without value.

    `keyword` may be ``HIERARCH`` and a longer one. A comment for which there is no room is cut off.
    """
    if isinstance(value, str) and len(value.replace("'", "''")) > LONGEST_TEXT and len(keyword) <= 8:
        # astropy takes a third of a second to import, and long truths are rare.
        from astropy.io import fits

        return str(fits.Card(keyword, value, comment).image)
    long = len(keyword) > 8
    written = _rendered(value)
    head = f"{keyword} = {written}" if long else f"{keyword:8}= {written:20}"
    room = CARD - len(head) - len(" / ")
    return f"{head} / {comment[:room]}".ljust(CARD) if comment and room > 0 else head.ljust(CARD)


LONGEST_TEXT = 67


def _rendered(value: Value) -> str:
    if isinstance(value, bool):
        return f"{'T' if value else 'F':>20}"
    if isinstance(value, int):
        return f"{value:20d}"
    if isinstance(value, float):
        return f"{_real(value):>20}"
    if value is None:
        return ""
    return "'{:8}'".format(value.replace("'", "''"))


def _real(value: float) -> str:
    """Shortest decimal number that is `value` again, with a point."""
    mantissa, _, exponent = repr(value).upper().partition("E")
    point = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{point}E{exponent}" if exponent else point
