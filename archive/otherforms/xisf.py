"""Open XISF files (PixInsight, N.I.N.A., INDIGO) as raw files: keywords as FITS has them, pixels on demand."""

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from ccdflow.archive.fits.hduheaders import TruncatedError
from ccdflow.archive.fits.rawfile import RawFile, is_structural
from ccdflow.archive.fits.rawpixels import ImageLayout, PlainPixels
from ccdflow.archive.fits.unpackedpixels import UnpackedPixels
from ccdflow.archive.foreignfile import open_plain, unread
from ccdflow.archive.otherforms.xisfblocks import fault_of_sum, refuse_unknown_codec, unpack
from ccdflow.archive.otherforms.xisfheader import (
    XisfImage,
    children,
    count_images,
    images,
    properties,
    read_xml,
)
from ccdflow.archive.patience import in_time
from ccdflow.cascade.records import Doubt, Extension, Value

_METRES = 1000.0
"""XISF has lengths of telescopes in metres, FITS keywords of amateurs' programs in millimetres."""
_CARDS: Mapping[str, tuple[str, float | None]] = {
    "Observation:Object:Name": ("OBJECT", None),
    "Observation:Center:RA": ("RA", 1.0),
    "Observation:Center:Dec": ("DEC", 1.0),
    "Observation:Object:RA": ("RA", 1.0),
    "Observation:Object:Dec": ("DEC", 1.0),
    "Observation:Location:Longitude": ("SITELONG", 1.0),
    "Observation:Location:Latitude": ("SITELAT", 1.0),
    "Observation:Time:Start": ("DATE-OBS", None),
    "Observation:Time:End": ("DATE-END", None),
    "Instrument:ExposureTime": ("EXPTIME", 1.0),
    "Instrument:Camera:Name": ("INSTRUME", None),
    "Instrument:Camera:Gain": ("EGAIN", 1.0),
    "Instrument:Camera:ISOSpeed": ("ISOSPEED", 1.0),
    "Instrument:Camera:ReadoutNoise": ("RDNOISE", 1.0),
    "Instrument:Camera:XBinning": ("XBINNING", 1.0),
    "Instrument:Camera:YBinning": ("YBINNING", 1.0),
    "Instrument:Filter:Name": ("FILTER", None),
    "Instrument:Sensor:Temperature": ("CCD-TEMP", 1.0),
    "Instrument:Sensor:TargetTemperature": ("SET-TEMP", 1.0),
    "Instrument:Sensor:XPixelSize": ("XPIXSZ", 1.0),
    "Instrument:Sensor:YPixelSize": ("YPIXSZ", 1.0),
    "Instrument:Telescope:Name": ("TELESCOP", None),
    "Instrument:Telescope:FocalLength": ("FOCALLEN", _METRES),
    "Instrument:Telescope:Aperture": ("APTDIA", _METRES),
}
"""Standard property (XISF 1.0, section 11.4) to the FITS keyword of the same, and its factor; None for a text."""
_TIMES = ("DATE-OBS", "DATE-END")
_COMPARED = ("EXPTIME", "FILTER", "DATE-OBS", "SET-TEMP")
"""Keywords that calibrations are chosen by: where the property says otherwise, that is told."""
_CREATORS = ("PROGRAM", "SWCREATE", "CREATOR", "SOFTWARE")
_TOP_DOWN = "TOP-DOWN"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([EeDd][-+]?\d{1,4})?")
_LONGEST = 1000
"""Characters of a keyword's text; a FITS card has 68, and lists of them are joined."""


@dataclass
class _Cards:
    """What a header tells by keyword, in the order in which it is told."""

    values: dict[str, Value]
    comments: dict[str, str]
    repeated: dict[str, Value]
    history: list[str]

    def put(self, keyword: str, value: Value, comment: str) -> None:
        """Take a keyword, unless it is there and says something."""
        if self.values.get(keyword, "") == "":
            self.values[keyword], self.comments[keyword] = value, comment
        elif self.values[keyword] != value:
            self.repeated[keyword] = value


def open_xisf(path: Path) -> RawFile:
    """Return an XISF file, of which only the header is read.

    Parameters
    ----------
    path : Path
        A monolithic file (XISF 1.0, section 9.2).

    Returns
    -------
    RawFile
        Its first image. Rows stand as in the file, the picture's uppermost first, and ``ROWORDER`` says so: as in the
        FITS files of the programs that write both. Keywords are those of ``FITSKeyword`` elements, and what standard
        properties tell besides.

    Raises
    ------
    UnreadableFrameError
        If it can't be read as an image with one plane; `TruncatedError`, `NoImageError`, `NotFitsError` say more.
    """
    try:
        return in_time(path, lambda: _opened(path))
    except OSError as error:
        raise unread(path, error) from None


def _opened(path: Path) -> RawFile:
    with open_plain(path) as stream:
        root = read_xml(path, stream)
        size = os.fstat(stream.fileno()).st_size
    (image,) = images(path, root, size)
    cards = _cards(root, image.element)
    doubts = tuple(_doubts(root, image, cards))
    cards.values["ROWORDER"], cards.comments["ROWORDER"] = _TOP_DOWN, "as XISF has it"
    end = image.block.start + image.block.length
    if image.block.inline is None and end > size:
        told = f"{path} is truncated: it has {size} bytes, its pixels end at {end}"
        raise TruncatedError(told, cards.values, image.shape)
    if image.block.packing is not None:
        refuse_unknown_codec(path, image.block.packing.codec)
    return RawFile(
        path=path,
        header=cards.values,
        comments=cards.comments,
        extensions=(Extension(0, image.name or "Image", image.shape, dict(cards.values), 0),),
        pixels=_pixels(path, image),
        history=tuple(cards.history),
        bitpix=image.dtype.itemsize * (-8 if image.dtype.kind == "f" else 8),
        repeated=cards.repeated,
        doubts=doubts,
        check=None if image.block.sum is None else partial(fault_of_sum, path, image.block),
    )


def _pixels(path: Path, image: XisfImage) -> PlainPixels | UnpackedPixels:
    block = image.block
    if block.inline is None and block.packing is None:
        bits = image.dtype.itemsize * (-8 if image.dtype.kind == "f" else 8)
        return PlainPixels(path, ImageLayout(block.start, bits, image.shape, kind=image.dtype.str))
    shuffled = block.packing is not None and block.packing.shuffled
    work = partial(unpack, path, block)
    return UnpackedPixels(path, image.dtype, image.shape, work, shuffled=shuffled)


def _cards(root: Element, image: Element) -> _Cards:
    """Return what an image's elements tell; keywords go before properties, the image's before the file's."""
    cards = _Cards({}, {}, {}, [])
    for element in children(image, "FITSKeyword"):
        keyword = element.get("name", "").strip().upper()
        written, comment = element.get("value", "").strip()[:_LONGEST], element.get("comment", "").strip()
        if keyword in ("HISTORY", "COMMENT", ""):
            if keyword == "HISTORY":
                # PixInsight writes the text as the comment, others as the value.
                cards.history.append(" ".join(filter(None, (_text(written), comment)))[:_LONGEST])
        elif written and not is_structural(keyword):
            cards.put(keyword, _value(written), comment)
    told: dict[str, str] = {}
    for element in (*children(root, "Metadata"), image):
        told |= properties(element)
    _put_properties(cards, told)
    kind = image.get("imageType", "").strip()
    if kind:
        # A keyword of the same class says nothing against its being a master.
        is_master = kind.casefold().startswith("master") and "IMAGETYP" in cards.values
        cards.put("IMAGETYPE" if is_master else "IMAGETYP", kind, "imageType")
    for mosaic in children(image, "ColorFilterArray"):
        if pattern := mosaic.get("pattern", "").strip():
            # Another pattern than a keyword's is told as two cards that contradict each other are.
            cards.values.setdefault("CFA", pattern)
            cards.comments.setdefault("CFA", "ColorFilterArray")
    creator = told.get("XISF:CreatorApplication", "")
    if creator and not any(keyword in cards.values for keyword in _CREATORS):
        cards.put("SWCREATE", creator[:_LONGEST], "XISF:CreatorApplication")
    return cards


def _put_properties(cards: _Cards, told: Mapping[str, str]) -> None:
    for name, (keyword, factor) in _CARDS.items():
        written = told.get(name, "")
        if not written or (factor is not None and not _NUMBER.fullmatch(written)):
            continue
        value: Value
        if factor is None:
            value = _utc(written) if keyword in _TIMES else written[:_LONGEST]
        else:
            value = float(written.replace("D", "E").replace("d", "e")) * factor
        known = cards.values.get(keyword, "")
        if known == "":
            cards.put(keyword, value, name)
        elif keyword in _COMPARED and not _agree(known, value):
            cards.repeated[keyword] = value


def _agree(keyword: Value, told: Value) -> bool:
    """Whether a property tells the same as the keyword: rounded, with other letters or digits of a second."""
    with suppress(ValueError):
        return math.isclose(float(keyword), float(told), rel_tol=1e-3)
    with suppress(ValueError):
        moments = [datetime.fromisoformat(_utc(str(text))) for text in (keyword, told)]
        return abs((moments[0] - moments[1]).total_seconds()) <= 1
    return str(keyword).strip().casefold() == str(told).strip().casefold()


def _utc(written: str) -> str:
    """Return a time as FITS has it: without a zone, in UTC."""
    with suppress(ValueError):
        moment = datetime.fromisoformat(written)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC).replace(tzinfo=None).isoformat()
    return written


def _text(written: str) -> str:
    if len(written) > 1 and written.startswith("'") and written.endswith("'"):
        return written[1:-1].replace("''", "'").rstrip()
    return written


def _value(written: str) -> Value:
    """Return the value of a keyword as FITS writes it."""
    if written.startswith("'"):
        return _text(written)
    if written in ("T", "F"):
        return written == "T"
    if re.fullmatch(r"[-+]?\d{1,18}", written):
        return int(written)
    if _NUMBER.fullmatch(written):
        return float(written.upper().replace("D", "E"))
    return written


def _doubts(root: Element, image: XisfImage, cards: _Cards) -> Iterator[Doubt]:
    count = count_images(root)
    if count > 1:
        name = f" ({image.name!r})" if image.name else ""
        yield Doubt("images", f"it holds {count} images, of which the first{name} alone is read")
    order = str(cards.values.get("ROWORDER", "")).strip().upper()
    if order not in ("", _TOP_DOWN):
        told = (
            f"ROWORDER={order!r} in an XISF file, whose rows begin with the picture's uppermost by its form"
        )
        yield Doubt("images", f"{told}: taken as {_TOP_DOWN}")


__all__ = ["open_xisf"]
