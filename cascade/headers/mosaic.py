"""The colour mosaic of a one-shot colour camera, as its first pixels lie in the assembled image."""

import re
from typing import NamedTuple

from ccdflow.cascade.headers.amplifiers import detector_of
from ccdflow.cascade.headers.keywords import binning, first, number, quantity, text
from ccdflow.cascade.headers.place import trim_of
from ccdflow.cascade.headers.setting import Header
from ccdflow.recipes.core.mosaic import PATTERNS, shifted

UNKNOWN = "unknown"
"""Value of the keyword ``mosaic`` of a frame whose pixels have colours, but nobody knows which."""
_NONE = frozenset(
    (
        "NONE",
        "MONO",
        "MONOCHROME",
        "GRAY",
        "GREY",
        "GRAYSCALE",
        "NO",
        "FALSE",
        "F",
        "0",
        "OFF",
        "L",
        "LUM",
        "NULL",
        "NA",
    )
)
"""Words for a camera without a mosaic, without signs and blanks."""
_SHORT = {"RG": "RGGB", "BG": "BGGR", "GR": "GRBG", "GB": "GBRG"}
"""The first row alone, as GenICam (``BayerRG16``) and ZWO name patterns."""
_BAYER = re.compile(r"(?:BAYER)?(RG|BG|GR|GB)(?:8|10|12|14|16)?(?:P|PACKED)?")
_COLOUR_TYPE = "COLORTYP"
"""A card that says other things as well: what is no pattern in it says nothing."""
_BOTTOM_UP, _TOP_DOWN = "BOTTOMUP", "TOPDOWN"


class _Unknown(ValueError):
    """A mosaic that can't be taken apart; the message says why."""


class _Offset(NamedTuple):
    """By how many columns and rows the first pixel lies behind the pattern's first."""

    x: int
    y: int


def mosaic_of(header: Header, shape: tuple[int, int] | None, images: int = 1) -> tuple[str | None, str]:
    """Return the mosaic of a frame's assembled image.

    Parameters
    ----------
    header : Header
        The header, read by its instrument file.
    shape : tuple of int or None
        Rows and columns of the raw array; None for a row without a file, which counts as one of even height.
    images : int
        How many images the file holds.

    Returns
    -------
    pattern : str or None
        Four letters, first row first; ``unknown`` where a mosaic is stated that can't be taken apart; None without one.
    sentence : str
        Why it is unknown; else empty.

    Notes
    -----
    ``BAYERPAT`` describes the picture as it is shown, top row first. With ``ROWORDER = 'TOP-DOWN'``, or without that
    card, this is the file's first row; with ``'BOTTOM-UP'`` it is the file's last one, so that an image of an even
    number of rows begins with the pattern's second row. ``XBAYROFF`` and ``YBAYROFF`` count on from there. So Siril
    reads it (``adjust_Bayer_pattern``; manual, "Orientation of FITS images").
    """
    card = first(header.cards, header.by.keywords.mosaic)
    if card is None:
        return None, ""
    keyword, value = card
    word = re.sub(r"[\s'\"_,./-]", "", text(value)).upper()
    if word in _NONE or not word or (keyword == _COLOUR_TYPE and not _is_pattern(word)):
        return None, ""
    try:
        pattern = _pattern(word)
        offset = _offset(header)
        rows = _row_order(header, shape)
        trim = _trim(header, shape, images)
    except _Unknown as why:
        return UNKNOWN, f"{keyword}={text(value)!r}: {why}; neither colours are split nor frames stacked"
    return shifted(pattern, offset.x + trim.x, offset.y + trim.y + rows), ""


def _is_pattern(word: str) -> bool:
    return len(word) >= 2 and not set(word) - set("RGBCMYEW") and word != "RGB"


def _pattern(word: str) -> str:
    if word.removeprefix("BAYER") in PATTERNS:
        return word.removeprefix("BAYER")
    short = _BAYER.fullmatch(word)
    if short is None:
        raise _Unknown(f"this mosaic is not known, {', '.join(PATTERNS)} are")
    return _SHORT[short[1]]


def _offset(header: Header) -> _Offset:
    """Return the offset that is stated; that of a window is not to be guessed."""
    stated = [_whole(header, name) for name in ("mosaic_x", "mosaic_y")]
    card = first(header.cards, header.by.keywords.binning)
    factors = binning(card[1]) if card else ""
    if factors not in ("", "1x1"):
        raise _Unknown(f"binned {factors}, so that a pixel may be of one colour or of all")
    card = first(header.cards, header.by.window.origin)
    origin = text(card[1]).split() if card else []
    # Some programs count an odd place of the window in XBAYROFF, some do not; 0 beside it tells neither.
    for axis, (place, offset) in enumerate(zip(origin, stated, strict=False)):
        if (number(place) or 0) % 2 and not offset % 2:
            names = "/".join((header.by.keywords.mosaic_x, header.by.keywords.mosaic_y)[axis])
            raise _Unknown(f"the window begins at an odd pixel ({place}) and {names} does not count it")
    return _Offset(*stated)


def _whole(header: Header, name: str) -> int:
    card = first(header.cards, header.alternatives(name))
    if card is None:
        return 0
    size, _ = quantity(card[1])
    if size is None or size % 1:
        raise _Unknown(f"{card[0]}={text(card[1])!r} is no whole number")
    return int(size)


def _row_order(header: Header, shape: tuple[int, int] | None) -> int:
    """Return by how many rows the file's first one lies behind the pattern's first."""
    order = re.sub(r"[^A-Z]", "", header.first("row_order").upper())
    if order not in ("", _TOP_DOWN, _BOTTOM_UP):
        raise _Unknown(f"ROWORDER={order!r} is neither TOP-DOWN nor BOTTOM-UP")
    rows = 0 if shape is None else shape[0]
    return (rows - 1) % 2 if order == _BOTTOM_UP else 0


def _trim(header: Header, shape: tuple[int, int] | None, images: int) -> _Offset:
    """Return how many columns and rows are cut off before the first pixel that is kept."""
    if shape is None:
        return _Offset(0, 0)
    try:
        detector = detector_of(header.cards, header.by, shape)
    except ValueError:
        # Such a frame is refused for its sections anyway.
        return _Offset(0, 0)
    if images > 1 or any(part.data.flip_x or part.data.flip_y for part in detector.amplifiers):
        raise _Unknown("it is read out by several amplifiers, some of them mirrored")
    return _Offset(*trim_of(detector, several=False))
