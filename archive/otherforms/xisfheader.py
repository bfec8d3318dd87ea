"""Read the header of an XISF file: XML that tells of images, and where their pixels lie.

References
----------
XISF Version 1.0 Specification, PixInsight (2019): monolithic files (section 9), data blocks, compression and check sums
(10), standard properties (11.4), Image and FITSKeyword elements (11.5, 11.6).
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np

from ccdflow.archive.fits.hduheaders import NoImageError, NotFitsError, TruncatedError
from ccdflow.archive.fits.rawfile import LONGEST_AXIS
from ccdflow.archive.foreignfile import UnreadableFrameError

Element = ElementTree.Element

LARGEST_HEADER = 1 << 24
"""Bytes of the XML: those of integrations with all their processing history have some hundred thousand."""
MOST_ELEMENTS = 200_000
"""Elements of the XML, each of which takes some hundred bytes of memory."""
MOST_PARTS = 10_000
"""Sub-blocks of a block: PixInsight makes one for each thread, or for each GB."""
LARGEST_IMAGE = 1 << 32
"""Bytes of an image as it is unpacked."""

_START = 16  # signature, length of the XML, and four bytes that are reserved
_SAMPLES = {
    "UInt8": "u1",
    "UInt16": "u2",
    "UInt32": "u4",
    "UInt64": "u8",
    "Float32": "f4",
    "Float64": "f8",
}
_SUMS = {
    "sha1": "sha1",
    "sha256": "sha256",
    "sha512": "sha512",
    "sha3256": "sha3_256",
    "sha3512": "sha3_512",
}
"""Names of check sums without their hyphens, to those of hashlib."""
CODECS = ("zlib", "lz4", "lz4hc", "zstd")


@dataclass(frozen=True)
class Packing:
    """How a block is compressed.

    Parameters
    ----------
    codec : str
        One of `CODECS`.
    size : int
        Bytes once it is unpacked.
    shuffled : bool
        The bytes of the numbers are sorted by their place in these.
    parts : tuple of (int, int)
        Bytes of each part as it is stored, and unpacked; one for a block that is packed as a whole.
    """

    codec: str
    size: int
    shuffled: bool
    parts: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Block:
    """Where the bytes of an image are.

    Parameters
    ----------
    start, length : int
        In the file.
    inline : bytes or None
        The bytes themselves, where they stand in the header.
    packing : Packing or None
        None for bytes as they are.
    sum : (str, str) or None
        hashlib's name of a check sum, and its hexadecimal digits, of the bytes as they are stored.
    """

    start: int
    length: int
    inline: bytes | None = None
    packing: Packing | None = None
    sum: tuple[str, str] | None = None


@dataclass(frozen=True)
class XisfImage:
    """An image that a header tells of.

    Parameters
    ----------
    element : Element
        As it stands in the XML.
    shape : tuple of int
        ``(ny, nx)``.
    dtype : dtype
        Of its numbers.
    block : Block
        Where they are.
    """

    element: Element
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    block: Block

    @property
    def name(self) -> str:
        """Its id, or nothing."""
        return self.element.get("id", "")


def read_xml(path: Path, stream: BinaryIO) -> Element:
    """Return the XML of an XISF file.

    Parameters
    ----------
    path : Path
        The file, for messages.
    stream : binary stream
        The file, at its beginning.

    Returns
    -------
    Element
        Its root.

    Raises
    ------
    TruncatedError
        If it ends within its header.
    NotFitsError
        If the header is no XML, or declares entities.
    """
    start = stream.read(_START)
    length = int.from_bytes(start[8:12], "little")
    if length > LARGEST_HEADER:
        raise NotFitsError(f"{path} has an XISF header of {length} bytes, wanted {LARGEST_HEADER} at most")
    content = stream.read(length)
    if len(start) < _START or len(content) < length:
        raise TruncatedError(f"{path} is truncated: it ends within its XISF header")
    # Some programs fill the header up to where the pixels begin.
    return _parsed(path, content.rstrip(b"\0"))


def _parsed(path: Path, content: bytes) -> Element:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotFitsError(f"{path}: its XISF header is not UTF-8, as XISF wants it") from None
    # Entities are declared nowhere else: without a DOCTYPE there is nothing that could be expanded, or fetched.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise NotFitsError(f"{path}: its XISF header declares a document type, which XISF has none of")
    if text.count("<") > 2 * MOST_ELEMENTS:
        raise NotFitsError(f"{path}: its XISF header has more than {MOST_ELEMENTS} elements")
    try:
        # As text, so that no declaration of another encoding counts.
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise NotFitsError(f"{path}: its XISF header is no XML: {error}") from None
    if local(root) != "xisf":
        raise NotFitsError(f"{path}: its XISF header begins with the element {local(root)!r}, wanted 'xisf'")
    return root


def local(element: Element) -> str:
    """Return an element's name without its namespace, which some programs leave out.

    Parameters
    ----------
    element : Element
        Any.
    """
    return str(element.tag).rpartition("}")[2]


def children(element: Element, name: str) -> Iterator[Element]:
    """Yield the children of an element that have a name.

    Parameters
    ----------
    element : Element
        The parent.
    name : str
        Without namespace.

    Yields
    ------
    Element
        In order.
    """
    return (child for child in element if local(child) == name)


def images(path: Path, root: Element, size: int) -> list[XisfImage]:
    """Return the images of a file: the first must be one that is read, of others only their elements count.

    Parameters
    ----------
    path : Path
        The file, for messages.
    root : Element
        Of its header.
    size : int
        Bytes of the file.

    Returns
    -------
    list of XisfImage
        At least one.

    Raises
    ------
    NoImageError
        If there is none, or the first has not one plane of two axes.
    NotFitsError
        If what is stated of it can't be.
    UnreadableFrameError
        If it is stored in a way that nobody here understands.
    """
    elements = list(children(root, "Image"))
    if not elements:
        raise NoImageError(f"{path} holds no image")
    return [_image(path, element, size) for element in elements[:1]]


def count_images(root: Element) -> int:
    """Return how many images a header tells of.

    Parameters
    ----------
    root : Element
        Of the header.
    """
    return sum(1 for _ in children(root, "Image"))


def _image(path: Path, element: Element, size: int) -> XisfImage:
    shape = _shape(path, element)
    sample = element.get("sampleFormat", "")
    if sample not in _SAMPLES:
        known = ", ".join(_SAMPLES)
        raise UnreadableFrameError(f"{path}: its samples are {sample!r}; known: {known}")
    order = {"little": "<", "big": ">"}.get(element.get("byteOrder", "little").strip())
    if order is None:
        raise NotFitsError(f"{path}: byteOrder={element.get('byteOrder')!r} is neither little nor big")
    dtype = np.dtype(order + _SAMPLES[sample])
    wanted = prod(shape) * dtype.itemsize
    if wanted > LARGEST_IMAGE:
        raise NotFitsError(f"{path}: its image has {wanted} bytes, wanted {LARGEST_IMAGE} at most")
    block = _block(path, element, dtype)
    unpacked = block.length if block.packing is None else block.packing.size
    if unpacked != wanted:
        told = f"{shape[0]} rows of {shape[1]} {sample} have {wanted} bytes, its block has {unpacked}"
        raise NotFitsError(f"{path}: {told}")
    return XisfImage(element, shape, dtype, block)


def _shape(path: Path, element: Element) -> tuple[int, int]:
    stated = element.get("geometry", "")
    # Nobody's image has numbers of more digits, and Python takes long to read thousands of them.
    if not re.fullmatch(r"\d{1,9}(:\d{1,9})+", stated):
        raise NotFitsError(f"{path}: geometry={stated[:40]!r} is not of the form WIDTH:HEIGHT:PLANES")
    *axes, planes = (int(length) for length in stated.split(":"))
    if len(axes) != 2 or planes != 1:
        kind = (
            f"{planes} planes ({element.get('colorSpace', 'Gray')})" if planes != 1 else f"{len(axes)} axes"
        )
        raise NoImageError(f"{path} holds an image of {kind}, wanted one plane of raw numbers")
    nx, ny = axes
    if not (0 < nx <= LONGEST_AXIS and 0 < ny <= LONGEST_AXIS):
        told = f"{ny} rows of {nx} pixels, wanted 1 to {LONGEST_AXIS} of each"
        raise NotFitsError(f"{path} has {told}")
    return ny, nx


def _block(path: Path, element: Element, dtype: np.dtype[Any]) -> Block:
    """Return where the pixels of an image are; of embedded ones a child of its own tells how they are stored."""
    kind, *places = element.get("location", "").split(":")
    stated, inline = element, None
    if (
        kind == "attachment"
        and len(places) == 2
        and all(re.fullmatch(r"\d{1,18}", place) for place in places)
    ):
        start, length = map(int, places)
    elif kind in ("inline", "embedded"):
        stated = element if kind == "inline" else next(children(element, "Data"), element)
        encoding = places[0] if kind == "inline" and places else stated.get("encoding", "")
        inline = _decoded(path, encoding, stated.text or "")
        start, length = 0, len(inline)
    else:
        told = element.get("location", "")[:60]
        raise UnreadableFrameError(
            f"{path}: its pixels lie at {told!r}, wanted a file that holds them (attachment, inline, embedded)"
        )
    packing = _packing(path, stated, length, dtype)
    return Block(start, length, inline, packing, _sum(path, stated))


def _decoded(path: Path, encoding: str, text: str) -> bytes:
    packed = "".join(text.split())
    try:
        if encoding == "base64":
            return base64.b64decode(packed, validate=True)
        if encoding == "hex":
            return bytes.fromhex(packed)
    except (binascii.Error, ValueError):
        raise NotFitsError(f"{path}: its inline pixels are no {encoding}") from None
    raise UnreadableFrameError(f"{path}: its inline pixels are in {encoding!r}; known: base64, hex")


def _packing(path: Path, element: Element, length: int, dtype: np.dtype[Any]) -> Packing | None:
    stated = element.get("compression", "")
    if not stated:
        return None
    match = re.fullmatch(r"([a-z0-9]+)(\+sh)?:(\d{1,18})(?::(\d{1,9}))?", stated.strip())
    if match is None or match[1] not in CODECS:
        raise UnreadableFrameError(
            f"{path}: compression={stated[:40]!r} is not known; known: {', '.join(CODECS)}"
        )
    size, shuffled = int(match[3]), match[2] is not None
    if shuffled and int(match[4] or 1) != dtype.itemsize:
        told = f"shuffled as of numbers of {match[4]} bytes, its numbers have {dtype.itemsize}"
        raise UnreadableFrameError(f"{path}: its block is {told}")
    parts = tuple(_parts(path, element.get("subblocks", ""))) or ((length, size),)
    if sum(stored for stored, _ in parts) != length or sum(unpacked for _, unpacked in parts) != size:
        raise NotFitsError(f"{path}: its sub-blocks do not add up to its block")
    return Packing(match[1], size, shuffled, parts)


def _parts(path: Path, stated: str) -> Iterator[tuple[int, int]]:
    if stated.count(":") > MOST_PARTS:
        raise NotFitsError(f"{path}: its block has more than {MOST_PARTS} sub-blocks")
    for part in filter(None, stated.split(":")):
        match = re.fullmatch(r"(\d{1,18}),(\d{1,18})", part)
        if match is None:
            raise NotFitsError(f"{path}: subblocks={stated[:40]!r} is not of the form SIZE,SIZE:...")
        yield int(match[1]), int(match[2])


def _sum(path: Path, element: Element) -> tuple[str, str] | None:
    name, colon, digits = element.get("checksum", "").partition(":")
    if not colon:
        return None
    known = _SUMS.get(name.strip().lower().replace("-", ""))
    if known is None:
        raise UnreadableFrameError(
            f"{path}: its check sum is of the kind {name[:20]!r}; known: {', '.join(_SUMS)}"
        )
    return known, digits.strip().lower()


Properties = Mapping[str, str]


def properties(element: Element) -> dict[str, str]:
    """Return the properties of an image or a file that are a number, a text or a time.

    Parameters
    ----------
    element : Element
        With elements called Property.

    Returns
    -------
    dict of str to str
        Id to value, as it is written.
    """
    told = {}
    for prop in children(element, "Property"):
        value = prop.get("value") if prop.get("location") is None else None
        text = value if value is not None else (prop.text or "" if prop.get("location") is None else "")
        if text.strip():
            told[prop.get("id", "")] = text.strip()
    return told
