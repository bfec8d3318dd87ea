"""Write FITS by hand: planes go out in chunks, and their checksums are known before their headers are written.

Why not astropy: it makes a turned copy of each plane, and a stack has five of several tens of megabytes. And a header
stands before its data but states their checksum, so that a writer that only goes forward has to know it beforehand.
Here each plane is gone through twice, in chunks that fit into the processor's cache, by compiled loops: once in all
threads to add up its words, once to turn its bytes chunk by chunk while the chunk before is hashed and written. No copy
of a plane is ever made, nothing is written twice, and the sha256 of the file is known when it is closed.

References
----------
FITS Standard 4.0: sections 3.1 (blocks), 4.2 (values of cards), 4.4.2.7 (CHECKSUM and DATASUM), 5 (numbers have their
highest byte first), 7.1 and 7.3 (image and binary table extensions), appendix J (how checksums are worked out).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import cycle
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from ccdflow.archive.fits.cards import BLOCK, CARD, CardValue
from ccdflow.archive.fits.hduheaders import HduHeader
from ccdflow.recipes.core.recipe import Card
from ccdflow.recipes.kernels.threads import ahead, in_threads

CHUNK = 1 << 21
"""Bytes that are encoded, hashed and written together: a multiple of 4, so that chunks begin at words, and small enough
that a chunk which was just encoded is still in the cache when it is hashed and written."""
IN_FLIGHT = 2
"""Chunks that may still be hashed while a further one is encoded."""
LONGEST_TEXT = 67
"""Characters of a text, its quotes doubled, that fit into one card between the quotes; a longer one is continued."""

_NO_WORDS = np.empty(0, np.uint32)
_SIGN_BIT = 0x8000
"""BZERO of unsigned numbers of 16 bits, as the bit that it flips (FITS 4.0, section 5.2.5)."""

Bytes = bytes | memoryview | NDArray[np.uint8]


class Sink(Protocol):
    """Takes bytes one after the other, as a file does."""

    def write(self, data: Any, /) -> Any:
        """Take bytes.

        Parameters
        ----------
        data : bytes-like
            A chunk, which stays as it is until `IN_FLIGHT` further ones were written.

        Returns
        -------
        object
            Anything: files return numbers, which nobody looks at.
        """
        ...


class HashingFile:
    """A file that is open for writing, whose sha256 is worked out by a thread of its own while bytes pass.

    Parameters
    ----------
    write : callable
        Writes bytes and returns how many of them it took, as the method of an unbuffered file.
    """

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
        """Write bytes.

        Parameters
        ----------
        data : bytes-like
            They must stay as they are until `IN_FLIGHT` further chunks were written.

        Returns
        -------
        int
            Number of bytes, always all of them.
        """
        view = memoryview(data).cast("B")
        # A thread costs more than the hash of a header or a small table. Once there is one, all goes through it: the
        # bytes have to be hashed in order.
        if len(view) < CHUNK // 8 and self._pool is None:
            self._hash.update(view)
        else:
            # hashlib lets go of the interpreter while it works on more than 2 kB, so that it runs beside writing.
            self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="sha256")
            self._pending.append(self._pool.submit(self._hash.update, view))
        # An unbuffered file may take less than it is offered: Linux takes 2 GB at most in one call.
        done = 0
        while done < len(view):
            done += self._write(view[done:]) or 0
        # What is older may be written over from now on: see `Sink.write`.
        while len(self._pending) > IN_FLIGHT:
            self._pending.pop(0).result()
        self.size += len(view)
        return len(view)

    def flush(self) -> None:
        """Do nothing: every write goes to the file at once."""

    def digest(self) -> str:
        """Return the sha256 of all that was written, in hexadecimal."""
        for update in self._pending:
            update.result()
        self._pending.clear()
        return self._hash.hexdigest()


@dataclass(frozen=True)
class Plane:
    """A plane of pixels to be written.

    Parameters
    ----------
    values : float32, uint16 or uint8 array, C-contiguous
        Pixels, shape (ny, nx); in a piece of a plane (see `parts`) flat. uint16 is stored with BZERO = 32768.
    root : bool
        The values are float32, and what is written is their square root: a standard deviation for a variance.
    """

    values: NDArray[Any]
    root: bool = False

    @property
    def bitpix(self) -> int:
        """Bits of a stored number, negative for real ones (FITS 4.0, section 4.4.1.1)."""
        return {4: -32, 2: 16, 1: 8}[self.values.itemsize]

    @property
    def size(self) -> int:
        """Bytes of the plane in a file, without padding."""
        return self.values.size * abs(self.bitpix) // 8

    def parts(self, size: int) -> Iterator["Plane"]:
        """Yield the plane in pieces, without copying.

        Parameters
        ----------
        size : int
            Bytes that a piece takes in the file; the last may take fewer.

        Yields
        ------
        Plane
            Flat pieces, in the order of the file.
        """
        flat, step = self.values.reshape(-1), size * 8 // abs(self.bitpix)
        for start in range(0, flat.size, step):
            yield Plane(flat[start : start + step], self.root)

    def encoded(self, buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the bytes of a flat piece as they stand in the file.

        Parameters
        ----------
        buffer : uint8 array, shape (n,)
            Written; at least as long as the piece.

        Returns
        -------
        uint8 array, shape (size,)
            The beginning of the buffer.
        """
        # LLVM takes a twentieth of a second to load, and commands that only ask never need it.
        from ccdflow.archive.fits.writer_kernels import encode

        if self.bitpix == 8:
            return self.values
        out = buffer[: self.size]
        if self.bitpix == -32:
            encode(0, self._words(out), out.view(np.uint32))
        else:
            # Numbers of 16 bits are turned in pairs; an odd one is left over at the end.
            even = self.values.size // 2 * 2
            encode(1, self.values[:even].view(np.uint32), out[: 2 * even].view(np.uint32))
            if even < self.values.size:
                out[-2:].view(">u2")[0] = self.values[-1] ^ np.uint16(_SIGN_BIT)
        return out

    def checksum(self, spare: NDArray[np.uint8]) -> int:
        """Add up the words of a flat piece as they stand in the file.

        Parameters
        ----------
        spare : uint8 array, shape (n,)
            Memory of at least the piece's bytes; only roots are written there.

        Returns
        -------
        int
            Sum of the 32 bit words, what is carried out of 32 bits included. The piece must begin at a word, and
            what lacks of its last one counts as 0, as the padding of an HDU is.
        """
        from ccdflow.archive.fits.writer_kernels import encode

        if self.bitpix == -32:
            return int(encode(0, self._words(spare[: self.size]), _NO_WORDS))
        if self.bitpix == 8:
            return _bytes_sum(self.values.tobytes())
        even = self.values.size // 2 * 2
        total = int(encode(1, self.values[:even].view(np.uint32), _NO_WORDS))
        # In the file an odd number at the end stands in the upper half of a word, the lower half being padding.
        last = int(self.values[-1] ^ np.uint16(_SIGN_BIT)) << 16 if even < self.values.size else 0
        return total + last

    def _words(self, buffer: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """Bits of the real numbers that are written; roots stand in the buffer, which is as long as the piece."""
        values: NDArray[Any] = self.values
        if self.root:
            # What is below 0 is no variance, and its root NaN, which says so.
            with np.errstate(invalid="ignore"):
                values = np.sqrt(values, out=buffer.view(np.float32))
        return values.view(np.uint32)


@dataclass(frozen=True)
class Hdu:
    """A header and its data, to be written.

    Parameters
    ----------
    structure : mapping
        The cards that say what the data are, keyword to value and comment.
    cards : mapping
        Cards that follow them.
    data : Plane, bytes or None
        A plane, the bytes of a table, or nothing.
    """

    structure: Mapping[str, Card]
    cards: Mapping[str, tuple[CardValue, str]]
    data: Plane | bytes | None


def image_hdu(name: str, plane: Plane, cards: Mapping[str, tuple[CardValue, str]]) -> Hdu:
    """Return an image extension (FITS 4.0, section 7.1).

    Parameters
    ----------
    name : str
        Its EXTNAME.
    plane : Plane
        Pixels, shape (ny, nx).
    cards : mapping
        Further cards, keyword to value and comment.

    Returns
    -------
    Hdu
        Ready to be written.
    """
    structure: dict[str, Card] = {"XTENSION": ("IMAGE", "Image extension"), **_axes(plane)}
    structure |= {"PCOUNT": (0, "number of parameters"), "GCOUNT": (1, "number of groups")}
    # Section 5.2.5: an unsigned number is stored as the signed one that is 32768 less.
    if plane.bitpix == 16:
        structure |= {"BSCALE": (1, ""), "BZERO": (32768, "unsigned integers")}
    return Hdu(structure | {"EXTNAME": (name, "extension name")}, cards, plane)


def primary_hdu(plane: Plane | None, cards: Mapping[str, tuple[CardValue, str]]) -> Hdu:
    """Return the first HDU of a file, with or without an image.

    Parameters
    ----------
    plane : Plane or None
        float32 pixels, shape (ny, nx).
    cards : mapping
        Further cards, keyword to value and comment.

    Returns
    -------
    Hdu
        Ready to be written.
    """
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


def plane_table_hdu(name: str, plane: Plane, cards: Mapping[str, tuple[CardValue, str]]) -> Hdu:
    """Return a binary table of one row, whose one column is a plane: programs that look for images pass it by.

    Parameters
    ----------
    name : str
        Its EXTNAME, and the column's name.
    plane : Plane
        uint8 or uint16 pixels, shape (ny, nx).
    cards : mapping
        Further cards, keyword to value and comment: TSCAL1 and TZERO1 where stored numbers mean others.

    Returns
    -------
    Hdu
        Ready to be written.

    Notes
    -----
    FITS 4.0, section 7.3.2: TDIM1 has the shape of the column's array, the fastest axis first.
    """
    ny, nx = plane.values.shape
    structure: dict[str, Card] = {
        **_table_structure(plane.size, rows=1, fields=1),
        "TTYPE1": (name, ""),
        "TFORM1": (f"{plane.values.size}{'B' if plane.bitpix == 8 else 'I'}", ""),
        "TDIM1": (f"({nx},{ny})", "shape of the plane"),
    }
    if plane.bitpix == 16:
        structure |= {"TSCAL1": (1, ""), "TZERO1": (32768, "unsigned integers")}
    return Hdu(structure | {"EXTNAME": (name, "extension name")}, cards, plane)


def _table_structure(width: int, rows: int, fields: int) -> dict[str, Card]:
    return {
        "XTENSION": ("BINTABLE", "binary table extension"),
        "BITPIX": (8, "array data type"),
        "NAXIS": (2, "number of array dimensions"),
        "NAXIS1": (width, "length of dimension 1"),
        "NAXIS2": (rows, "length of dimension 2"),
        "PCOUNT": (0, "number of group parameters"),
        "GCOUNT": (1, "number of groups"),
        "TFIELDS": (fields, "number of table fields"),
    }


def table_hdu(name: str, columns: Mapping[str, NDArray[Any]]) -> Hdu:
    """Return a binary table (FITS 4.0, section 7.3).

    Parameters
    ----------
    name : str
        Its EXTNAME.
    columns : mapping of arrays
        Name to values, one for each row: numbers, texts or booleans. Numbers may have further axes, whose values stand
        together in a row.

    Returns
    -------
    Hdu
        Ready to be written.

    Raises
    ------
    ValueError
        If FITS has no type of column for the values.
    """
    arrays = {column: _stored_column(np.asarray(values)) for column, values in columns.items()}
    kinds = [(column, stored.dtype, stored.shape[1:]) for column, (stored, _) in arrays.items()]
    # A table is stored row by row, the fields of a row without gaps between them: just as numpy lays out a structured
    # array that is not aligned.
    rows = np.zeros(len(next(iter(arrays.values()))[0]) if arrays else 0, dtype=kinds)
    for column, (stored, _) in arrays.items():
        rows[column] = stored
    structure = _table_structure(rows.dtype.itemsize, len(rows), len(kinds))
    for number, (column, (stored, code)) in enumerate(arrays.items(), 1):
        repeat = stored.dtype.itemsize if code == "A" else int(np.prod(stored.shape[1:], dtype=int))
        structure |= {f"TTYPE{number}": (column, ""), f"TFORM{number}": (f"{repeat}{code}", "")}
    return Hdu(structure | {"EXTNAME": (name, "extension name")}, {}, rows.tobytes())


_CODES = {"f8": "D", "f4": "E", "i8": "K", "i4": "J", "i2": "I", "u1": "B"}
"""Codes of columns by the type of their numbers (FITS 4.0, section 7.3.1)."""


def _stored_column(values: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Return a column as it stands in a file, and the FITS code of its type.

    Raises
    ------
    ValueError
        If FITS has no type of column for the values, or if a row holds several texts.
    """
    if values.dtype.kind == "b":
        return np.where(values, np.uint8(ord("T")), np.uint8(ord("F"))), "L"
    # FITS knows ASCII only; names of files and objects that are none stand as the bytes of UTF-8.
    if values.dtype.kind == "U":
        values = np.char.encode(values, "utf-8")
    if values.dtype.kind == "S" and values.ndim == 1:
        return values.astype(f"S{max(values.dtype.itemsize, 1)}"), "A"
    # Whatever its byte order: `dtype.str` has that in front of kind and size, ">f4".
    code = _CODES.get(values.dtype.str[1:])
    if code is None:
        raise ValueError(f"a column of {values.dtype} with shape {values.shape} can't be written to FITS")
    return values.astype(values.dtype.newbyteorder(">")), code


def read_columns(hdu: HduHeader, stream: BinaryIO) -> dict[str, NDArray[Any]]:
    """Read the columns of a table that `table_hdu` made.

    Parameters
    ----------
    hdu : HduHeader
        Header of the table.
    stream : binary stream
        The file; it stands behind the table afterwards.

    Returns
    -------
    dict of arrays
        Name to values, in native byte order; texts as unicode, logical values as bool.

    Raises
    ------
    ValueError
        If a column is of another kind.
    """
    kinds = {code: kind for kind, code in _CODES.items()} | {"L": "u1"}
    fields: list[tuple[str, str, tuple[int, ...]]] = []
    logical: set[str] = set()
    for number in range(1, hdu.size("TFIELDS") + 1):
        name = str(hdu.values[f"TTYPE{number}"])
        form = re.fullmatch(r"(\d+)([A-Z])", str(hdu.values[f"TFORM{number}"]))
        if form is None or (form[2] != "A" and form[2] not in kinds):
            raise ValueError(f"column {name} is of a kind that products have not")
        repeat = int(form[1])
        kind = f"S{repeat}" if form[2] == "A" else f">{kinds[form[2]]}"
        fields.append((name, kind, () if form[2] == "A" or repeat == 1 else (repeat,)))
        logical |= {name} if form[2] == "L" else set()
    # Products have no heap and no scaled columns, so the bytes are the numbers.
    stream.seek(hdu.offset)
    rows = np.frombuffer(stream.read(hdu.length), dtype=fields, count=hdu.size("NAXIS2", stored=True))
    return {name: _read_column(rows[name], logical=name in logical) for name, _, _ in fields}


def _read_column(values: NDArray[Any], *, logical: bool) -> NDArray[Any]:
    if logical:
        return np.asarray(values == ord("T"))
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    return values.astype(values.dtype.newbyteorder("="))


def write_hdus(sink: Sink, hdus: Sequence[Hdu]) -> None:
    """Write HDUs, each with CHECKSUM and DATASUM.

    Parameters
    ----------
    sink : Sink
        Where to; an open file or a `HashingFile`.
    hdus : sequence of Hdu
        The primary HDU first.

    Notes
    -----
    FITS Standard 4.0, section 4.4.2.7 and appendix J. astropy writes the time into the comments of both cards; here
    nothing depends on the clock, so that the same HDUs give the same bytes.
    """
    # All sums first: a header states that of its data, and stands before them.
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
    """Yield the data as they stand in the file.

    Each chunk stays as it is until `IN_FLIGHT` further ones were taken.
    """
    if not isinstance(data, Plane):
        yield from [data] if data else []
        return
    number = -(-data.size // CHUNK)
    # Buffers are used in turn. At one moment `IN_FLIGHT` chunks are being hashed, one is with the sink, and one more is
    # encoded meanwhile: with fewer buffers a chunk would be written over before its hash is done.
    ring = [np.empty(CHUNK, np.uint8) for _ in range(min(IN_FLIGHT + 2, number))]
    pieces = zip(data.parts(CHUNK), cycle(ring))
    encoded = ahead if number > IN_FLIGHT else map
    yield from encoded(lambda piece: piece[0].encoded(piece[1]), pieces)


def _data_sums(data: Sequence[Plane | bytes | None]) -> list[int]:
    """Return the ones' complement sum of the words of each HDU's data, its DATASUM."""

    def work(parts: Iterator[tuple[int, Plane]]) -> list[tuple[int, int]]:
        spare = np.empty(CHUNK, np.uint8)
        return [(number, part.checksum(spare)) for number, part in parts]

    sums = [0 if block is None or isinstance(block, Plane) else _bytes_sum(block) for block in data]
    planes = [(number, block) for number, block in enumerate(data) if isinstance(block, Plane)]
    # Addition has no order, so that threads take chunks of any plane as they come.
    parts = [(number, part) for number, plane in planes for part in plane.parts(CHUNK)]
    for partial in in_threads(work, parts, threads=None if len(parts) > 2 * len(planes) else 1):
        for number, total in partial:
            sums[number] += total
    return [_folded(total) for total in sums]


def _bytes_sum(data: bytes) -> int:
    """Add up bytes as words of 32 bits, filled up with zeros at the end."""
    # Summed in 64 bits: words of 32 bits can't overflow that below 16 GB of them.
    words = np.frombuffer(data + bytes(-len(data) % 4), ">u4")
    return int(words.sum(dtype=np.uint64))


def _folded(total: int) -> int:
    """Return the sum in 32 bits, with what is carried out of it added again: ones' complement addition.

    That may as well be done once at the end as after each word.
    """
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _header(hdu: Hdu, data_sum: int) -> bytes:
    """Return the blocks of a header, with its checksums."""
    cards = [render(name, *card) for name, card in {**hdu.structure, **hdu.cards}.items()]
    # Appendix J: the sum of the HDU is taken with a CHECKSUM of sixteen zeros in it, which the encoded complement then
    # replaces, so that the sum of all words comes out as all ones.
    cards += [
        render("CHECKSUM", "0" * 16, "checksum of the HDU"),
        render("DATASUM", str(data_sum), "checksum of the data"),
    ]
    text = "".join(cards) + f"{'END':80}"
    plain = text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")
    written = encoded_checksum(_folded(_bytes_sum(plain) + data_sum))
    return plain.replace(b"CHECKSUM= '0000000000000000'", f"CHECKSUM= '{written}'".encode("ascii"), 1)


_PUNCTUATION = frozenset((*range(0x3A, 0x41), *range(0x5B, 0x61)))
"""Codes between digits, capitals and small letters, which a checksum must not hold."""


def encoded_checksum(total: int) -> str:
    """Return the text of a CHECKSUM card.

    Parameters
    ----------
    total : int
        Ones' complement sum of an HDU's words, with sixteen zeros in the place of the text.

    Returns
    -------
    str
        Sixteen letters and digits that make the sum all ones.

    Notes
    -----
    FITS standard 4.0, appendix J: each byte of the complement is spread over four characters above 0, those
    that come out as punctuation are moved against each other, and all is rotated by one character.
    """
    complement = ~total & 0xFFFFFFFF
    # Four words of four characters: their sum is the complement, plus the zeros that stood there before.
    spread = [[0] * 4 for _ in range(4)]
    for place in range(4):
        quotient, remainder = divmod((complement >> (24 - 8 * place)) & 0xFF, 4)
        digits = [quotient + 0x30 + (remainder if number == 0 else 0) for number in range(4)]
        # One up, one down: the sum stays.
        for pair in (0, 2):
            while digits[pair] in _PUNCTUATION or digits[pair + 1] in _PUNCTUATION:
                digits[pair] += 1
                digits[pair + 1] -= 1
        for number in range(4):
            spread[number][place] = digits[number]
    letters = [chr(code) for word in spread for code in word]
    # A text begins in column 12 of its card, one byte short of a word: hence the rotation.
    return "".join(letters[-1:] + letters[:-1])


def render(keyword: str, value: CardValue, comment: str) -> str:
    """Return a header card, or several where a text is long.

    Parameters
    ----------
    keyword : str
        At most 8 characters, or ``HIERARCH`` and a longer one.
    value : str, int, float, bool or None
        None gives a card without value.
    comment : str
        Cut off where there is no room for it.

    Returns
    -------
    str
        80 characters, or a multiple of it (``CONTINUE``, FITS 4.0, section 4.2.1.2).

    Examples
    --------
    >>> render("EXPTIME", 60.0, "[s] exposure time").rstrip()
    'EXPTIME =                 60.0 / [s] exposure time'
    """
    if isinstance(value, str) and len(value.replace("'", "''")) > LONGEST_TEXT and len(keyword) <= 8:
        # astropy takes a third of a second to import, and long texts are rare.
        from astropy.io import fits

        return str(fits.Card(keyword, value, comment).image)
    long = len(keyword) > 8
    written = _rendered(value)
    # Fixed format (FITS 4.0, section 4.2): numbers and logical values end in column 30, texts have 8 characters at
    # least.
    head = f"{keyword} = {written}" if long else f"{keyword:8}= {written:20}"
    room = CARD - len(head) - len(" / ")
    return f"{head} / {comment[:room]}".ljust(CARD) if comment and room > 0 else head.ljust(CARD)


def _rendered(value: CardValue) -> str:
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
    """Return the shortest decimal that reads back as `value`, with a point: without one it would be an integer."""
    mantissa, _, exponent = repr(value).upper().partition("E")
    point = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{point}E{exponent}" if exponent else point
