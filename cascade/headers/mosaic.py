"""The colour mosaic of a one-shot colour camera, as its first pixels lie in the assembled image."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from ccdflow.cascade.headers.amplifiers import detector_of
from ccdflow.cascade.headers.keywords import binning, first, quantity, text
from ccdflow.cascade.headers.place import detector_place, trim_of
from ccdflow.cascade.headers.setting import Header
from ccdflow.recipes.core.mosaic import PATTERNS, shifted
from ccdflow.recipes.detector.amplifiers import Detector

UNKNOWN = "unknown"
"""Value of the keyword ``mosaic`` of a frame whose pixels have colours, but nobody knows which."""
MOSAIC_CARD = "MOSAIC"
"""Card of ours that tells the pattern of the assembled image, wherever else the header has it begin."""
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
_MONO = re.compile(r"MONO.*|Y(?:8|10|12|14|16)|NO(?:BAYER|CFA|MOSAIC|COLOU?R)|B&?W|GR[AE]Y.*")
"""Further words for it, as libraries of cameras name the formats of their pixels."""
_SHORT = {"RG": "RGGB", "BG": "BGGR", "GR": "GRBG", "GB": "GBRG"}
"""The first row alone, as GenICam (``BayerRG16``) and ZWO name patterns."""
_BAYER = re.compile(r"(?:BAYER)?(RGGB|BGGR|GRBG|GBRG|RG|BG|GR|GB)(?:8|10|12|14|16)?(?:P|PACKED|LE|BE)?")
_COLOUR_TYPE = "COLORTYP"
"""A card that also tells how the program shows or stores a picture: such words say nothing of its pixels."""
_FORMAT = re.compile(r"(?:RAW|RGB|BGR|JPE?G|PNG|FITS)\d*")
_COLOUR_CAMERA = re.compile(
    r"\bASI\s?\d+MC\b|\bQHY[\w-]*?\d+C\b|\bSeestar\b|\bCanon\s+EOS\b|\bNikon\s+[DZ]\s?\d|\bILCE-|\bcolou?r\b|\bOSC\b"
    r"|\b(?:Mars|Neptune|Uranus|Saturn|Poseidon|Artemis|Ares|Apollo|Xena|Zeus)-C\b",
    re.IGNORECASE,
)
"""Names of cameras whose sensors have colours, as their makers tell the two kinds apart."""
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
    own = text(header.cards.get(MOSAIC_CARD, ""))
    if own in PATTERNS:
        return own, ""
    stated = list(_stated(header))
    if not stated:
        return None, _not_told(header)
    keyword, word = stated[0]
    said = f"{keyword}={word!r}"
    try:
        pattern = _agreed(stated)
        if pattern is None:
            return None, ""
        offset = _offset(header)
        rows = _row_order(header, shape)
        trim = _trim(header, shape, images, offset)
    except _Unknown as why:
        return UNKNOWN, f"{said}: {why}; neither colours are split nor frames stacked"
    return shifted(pattern, offset.x + trim.x, offset.y + trim.y + rows), ""


def _stated(header: Header) -> Iterator[tuple[str, str]]:
    """Yield the cards that tell a pattern, or that there is none, and what they say."""
    for keyword in header.by.keywords.mosaic:
        card = first(header.cards, [keyword])
        word = text(card[1]).strip() if card else ""
        if word and not (keyword == _COLOUR_TYPE and _FORMAT.fullmatch(_plain(word))):
            yield keyword, word


def _not_told(header: Header) -> str:
    """Say where there is no pattern, though something else tells of colours; nothing for a monochrome camera."""
    for name in ("mosaic_x", "mosaic_y"):
        if (card := first(header.cards, header.alternatives(name))) is not None:
            return f"{card[0]}={text(card[1])} tells of a mosaic, but no card of its pattern: taken as monochrome"
    for name in (header.first("instrument"), header.first("camera")):
        match = _COLOUR_CAMERA.search(name)
        if match is not None:
            told = f"{name!r} ({match[0]}) seems to be a colour camera, but no card tells its mosaic"
            return f"{told}: taken as monochrome"
    return ""


def _plain(word: str) -> str:
    return re.sub(r"[^A-Z0-9&]", "", word.upper())


def _agreed(stated: list[tuple[str, str]]) -> str | None:
    """Return the pattern that all cards tell, None for none."""
    patterns = {keyword: _pattern(_plain(word)) for keyword, word in stated}
    if len(set(patterns.values())) > 1:
        told = ", ".join(f"{keyword}={word!r}" for keyword, word in stated)
        raise _Unknown(f"cards contradict each other ({told})")
    return patterns[stated[0][0]]


def _pattern(word: str) -> str | None:
    if word in _NONE or _MONO.fullmatch(word):
        return None
    known = _BAYER.fullmatch(word)
    if known is None:
        raise _Unknown(f"this mosaic is not known, {', '.join(PATTERNS)} are")
    return _SHORT.get(known[1], known[1])


def _offset(header: Header) -> _Offset:
    """Return the offset that is stated; that of binned pixels is not to be guessed."""
    stated = [_whole(header, name) for name in ("mosaic_x", "mosaic_y")]
    card = first(header.cards, header.by.keywords.binning)
    factors = binning(card[1]) if card else ""
    if factors not in ("", "1x1"):
        raise _Unknown(f"binned {factors}, so that a pixel may be of one colour or of all")
    return _Offset(*stated)


def _whole(header: Header, name: str) -> int:
    card = first(header.cards, header.alternatives(name))
    if card is None:
        return 0
    size, _ = quantity(card[1])
    if size is None or size % 1:
        raise _Unknown(f"{card[0]}={text(card[1])!r} is no whole number")
    return int(size)


def is_bottom_up(header: Header) -> bool:
    """Tell whether a file's first row is the lowest of the picture.

    Parameters
    ----------
    header : Header
        The header, read by its instrument file.
    """
    return _order(header) == _BOTTOM_UP


def _order(header: Header) -> str:
    return re.sub(r"[^A-Z]", "", header.first("row_order").upper())


def _row_order(header: Header, shape: tuple[int, int] | None) -> int:
    """Return by how many rows the file's first one lies behind the pattern's first."""
    order = _order(header)
    if order not in ("", _TOP_DOWN, _BOTTOM_UP):
        raise _Unknown(f"ROWORDER={order!r} is neither TOP-DOWN nor BOTTOM-UP")
    rows = 0 if shape is None else shape[0]
    return (rows - 1) % 2 if order == _BOTTOM_UP else 0


def _trim(header: Header, shape: tuple[int, int] | None, images: int, offset: _Offset) -> _Offset:
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
    trim = _Offset(*trim_of(detector, several=False))
    _check_window(header, shape, detector, _Offset(offset.x + trim.x, offset.y + trim.y))
    return trim


def _check_window(header: Header, shape: tuple[int, int], detector: Detector, begun: _Offset) -> None:
    """Refuse a window whose first pixel is an odd one of the detector, where the pattern is told as of an even one."""
    # Some programs count an odd place of the window in XBAYROFF, some do not; 0 beside it tells neither.
    place = detector_place(header.cards, header.by, shape, detector)
    if place is None:
        return
    for axis, name in enumerate(("mosaic_x", "mosaic_y")):
        if place[axis] % 2 and not begun[axis] % 2:
            names = "/".join(header.alternatives(name))
            raise _Unknown(f"the window begins at an odd pixel ({place[axis]}) and {names} does not count it")
