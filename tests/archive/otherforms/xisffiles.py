"""XISF files as the specification has them, written by hand."""

import base64
import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLES = {"u1": "UInt8", "u2": "UInt16", "u4": "UInt32", "f4": "Float32", "f8": "Float64"}
LIGHT = """
<FITSKeyword name="IMAGETYP" value="'LIGHT'" comment="Type of exposure"/>
<FITSKeyword name="DATE-OBS" value="'2026-03-01T20:00:00.5'" comment="UTC"/>
<FITSKeyword name="EXPTIME" value="30." comment="[s]"/>
<FITSKeyword name="GAIN" value="120" comment=""/>
<FITSKeyword name="HISTORY" value="" comment="a word"/>
"""


def shuffled(content: bytes, size: int) -> bytes:
    """First the first bytes of all numbers, then their second ones, ..."""
    return np.frombuffer(content, np.uint8).reshape(-1, size).T.tobytes()


def packed(codec: str, content: bytes) -> bytes:
    """Content as one of XISF's codecs packs it; the test is skipped where that is not installed."""
    import pytest

    if codec == "zlib":
        return zlib.compress(content)
    if codec == "zstd":
        return bytes(pytest.importorskip("zstandard", reason="the extra xisf").compress(content))
    lz4 = pytest.importorskip("lz4.block", reason="the extra xisf")
    mode = {"mode": "high_compression"} if codec == "lz4hc" else {}
    return bytes(lz4.compress(content, store_size=False, **mode))


def write_xisf(
    path: Path,
    pixels: NDArray[Any],
    inner: str = LIGHT,
    *,
    codec: str = "",
    parts: int = 1,
    place: str = "attachment",
    sum: str = "",
    outer: str = "",
    change: Callable[[str], str] = lambda header: header,
    **attributes: str,
) -> Path:
    """Write one image; `change` is given the header's XML."""
    kind, item = pixels.dtype, pixels.dtype.itemsize
    ny, nx = pixels.shape
    content = pixels.tobytes()
    told = {"geometry": f"{nx}:{ny}:1", "sampleFormat": SAMPLES[kind.str[1:]], "colorSpace": "Gray"}
    if kind.str[0] == ">":
        told["byteOrder"] = "big"
    if codec:
        name, _, shuffle = codec.partition("+")
        plain = shuffled(content, item) if shuffle else content
        step = -(-len(plain) // parts)
        pieces = [plain[start : start + step] for start in range(0, len(plain), step)]
        blocks = [packed(name, piece) for piece in pieces]
        told["compression"] = f"{codec}:{len(content)}" + (f":{item}" if shuffle else "")
        if parts > 1:
            sizes = [f"{len(block)},{len(piece)}" for block, piece in zip(blocks, pieces, strict=True)]
            told["subblocks"] = ":".join(sizes)
        content = b"".join(blocks)
    if sum:
        told["checksum"] = f"{sum}:{hashlib.new(sum.replace('-', '')).hexdigest()}"
        told["checksum"] = f"{sum}:{hashlib.new(sum.replace('-', ''), content).hexdigest()}"
    text, data = "", b""
    if place == "attachment":
        told["location"], data = f"attachment:4096:{len(content)}", content
    elif place == "embedded":
        own = " ".join(f'{name}="{told.pop(name)}"' for name in ("compression", "checksum") if name in told)
        told["location"] = "embedded"
        text = f'<Data encoding="base64" {own}>{base64.b64encode(content).decode()}</Data>'
    else:
        told["location"] = f"inline:{place}"
        text = base64.b64encode(content).decode() if place == "base64" else content.hex()
    written = " ".join(f'{name}="{value}"' for name, value in (told | attributes).items())
    header = (
        '<?xml version="1.0" encoding="UTF-8"?><xisf version="1.0" xmlns="http://www.pixinsight.com/xisf">'
        f"<Image {written}>{text}{inner}</Image>{outer}</xisf>"
    )
    xml = change(header).encode()
    start = b"XISF0100" + len(xml).to_bytes(4, "little") + bytes(4) + xml
    path.write_bytes(start.ljust(4096, b"\0") + data if data else start)
    return path
