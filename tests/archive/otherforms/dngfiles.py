"""The smallest DNG that LibRaw reads: a TIFF with the numbers of a sensor and its mosaic (DNG 1.4, chapter 4)."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BYTE, ASCII, SHORT, LONG, RATIONAL, SIGNED_RATIONAL = 1, 2, 3, 4, 5, 10
_FORMS = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I", SIGNED_RATIONAL: "i"}
_COLOURS = {"R": 0, "G": 1, "B": 2}
Tags = dict[int, tuple[int, list[int]]]


def _text(text: str) -> tuple[int, list[int]]:
    return ASCII, [*text.encode(), 0]


def write_dng(
    path: Path,
    pixels: NDArray[np.uint16],
    pattern: str = "RGGB",
    *,
    exif: Mapping[int, tuple[int, list[int]]] | None = None,
    margins: tuple[int, int] = (0, 0),
    **more: Any,
) -> Path:
    """Write the numbers of a sensor; `margins` are columns and rows at its left and top that are no picture."""
    ny, nx = pixels.shape
    black, white = more.get("black", 512), more.get("white", 15000)
    main: Tags = {
        254: (LONG, [0]),
        256: (LONG, [nx]),
        257: (LONG, [ny]),
        258: (SHORT, [16]),
        259: (SHORT, [1]),
        262: (SHORT, [32803 if pattern else 34892]),  # a mosaic; or colours mixed already
        271: _text("Canon"),
        272: _text(more.get("model", "Canon EOS 6D")),
        273: (LONG, [0]),
        274: (SHORT, [more.get("orientation", 1)]),
        277: (SHORT, [1]),
        278: (LONG, [ny]),
        279: (LONG, [pixels.nbytes]),
        284: (SHORT, [1]),
        306: _text("2026:03:01 21:00:00"),
        34665: (LONG, [0]),
        50706: (BYTE, [1, 4, 0, 0]),
        50707: (BYTE, [1, 1, 0, 0]),
        50708: _text("Canon EOS 6D"),
        50714: (SHORT, [black]),
        50717: (LONG, [white]),
        50721: (SIGNED_RATIONAL, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]),
        50728: (RATIONAL, [1, 1, 1, 1, 1, 1]),
        50778: (SHORT, [21]),
        50829: (LONG, [margins[1], margins[0], ny, nx]),
    }
    if pattern:
        main |= {33421: (SHORT, [2, 2]), 33422: (BYTE, [_COLOURS[letter] for letter in pattern])}
    own: Tags = {
        33434: (RATIONAL, [30, 1]),
        34855: (SHORT, [800]),
        36867: _text("2026:03:01 21:00:00"),
        37386: (RATIONAL, [500, 1]),
        37521: _text("25"),
        42033: _text("0123456"),
    }
    start = 8
    for _ in range(2):  # once more, now that the places are known
        ifd, end = _directory(main, start)
        main[34665] = (LONG, [end])
        sub, end = _directory(own | dict(exif or {}), end)
        main[273] = (LONG, [end])
    path.write_bytes(struct.pack("<2sHI", b"II", 42, start) + ifd + sub + pixels.astype("<u2").tobytes())
    return path


def _directory(tags: Tags, start: int) -> tuple[bytes, int]:
    """Bytes of a directory of TIFF with its values behind it, and where they end."""
    place = start + 2 + 12 * len(tags) + 4
    entries, behind = b"", b""
    for tag, (form, values) in sorted(tags.items()):
        content = struct.pack(f"<{len(values)}{_FORMS[form]}", *values)
        count = len(values) // 2 if form in (RATIONAL, SIGNED_RATIONAL) else len(values)
        if len(content) > 4:
            entries += struct.pack("<HHII", tag, form, count, place + len(behind))
            behind += content + b"\0" * (len(content) % 2)
        else:
            entries += struct.pack("<HHI", tag, form, count) + content.ljust(4, b"\0")
    whole = struct.pack("<H", len(tags)) + entries + bytes(4) + behind
    return whole, start + len(whole)
