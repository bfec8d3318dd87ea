#!/usr/bin/env bash
# rawpy 0.28.0 (LibRaw 0.22.2): raw_pattern begins at the sensor's first pixel, raw_image_visible behind the margins.
#
# Where the margins are no multiple of the mosaic's repeat, as with the 6 x 6 pixels of X-Trans, the pattern laid over the
# picture gives pixels the colours of others. raw_colors_visible has them right. Its documentation calls raw_pattern "the
# smallest possible Bayer pattern of this image".
# Seen with rawpy 0.28.0 on 2026-12-01, for a DNG of 48 x 36 pixels whose picture begins 4 columns and 2 rows in:
#     raw_pattern         RGGBGG GBRGRB RGGBGG BGGRGG GRBGBR BGGRGG
#     raw_colors_visible  GGRGGB GGBGGR BRGRBG GGBGGR GGRGGB RBGBRG
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv environment
environment/bin/pip install --quiet rawpy==0.28.0 numpy==2.4.6
environment/bin/python - <<'PYTHON'
import struct

import numpy as np
import rawpy

PATTERN = "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG"  # from the picture's first pixel on, as DNG has it
LEFT, TOP, WIDTH, HEIGHT = 4, 2, 48, 36
pixels = np.random.default_rng(1).integers(500, 3000, (HEIGHT, WIDTH)).astype("<u2").tobytes()
BYTE, ASCII, SHORT, LONG, RATIONAL, SIGNED = 1, 2, 3, 4, 5, 10
tags = {
    254: (LONG, [0]), 256: (LONG, [WIDTH]), 257: (LONG, [HEIGHT]), 258: (SHORT, [16]), 259: (SHORT, [1]),
    262: (SHORT, [32803]), 271: (ASCII, [*b"Maker\0"]), 272: (ASCII, [*b"Model\0"]), 273: (LONG, [0]), 277: (SHORT, [1]),
    278: (LONG, [HEIGHT]), 279: (LONG, [len(pixels)]), 33421: (SHORT, [6, 6]), 33422: (BYTE, ["RGB".index(c) for c in PATTERN]),
    50706: (BYTE, [1, 4, 0, 0]), 50708: (ASCII, [*b"Maker Model\0"]), 50717: (LONG, [15000]),
    50721: (SIGNED, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]), 50728: (RATIONAL, [1, 1] * 3),
    50778: (SHORT, [21]), 50829: (LONG, [TOP, LEFT, HEIGHT, WIDTH]),
}
FORMS = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I", SIGNED: "i"}


def directory():
    place, entries, behind = 8 + 2 + 12 * len(tags) + 4, b"", b""
    for tag, (form, values) in sorted(tags.items()):
        content = struct.pack(f"<{len(values)}{FORMS[form]}", *values)
        count = len(values) // 2 if form in (RATIONAL, SIGNED) else len(values)
        where = content.ljust(4, b"\0") if len(content) <= 4 else struct.pack("<I", place + len(behind))
        behind += b"" if len(content) <= 4 else content + b"\0" * (len(content) % 2)
        entries += struct.pack("<HHI", tag, form, count) + where
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + behind


tags[273] = (LONG, [len(directory())])
with open("frame.dng", "wb") as file:
    file.write(directory() + pixels)
with rawpy.imread("frame.dng") as raw:
    letters = raw.color_desc.decode()
    told = "".join(letters[i] for i in raw.raw_pattern.ravel())
    shown = "".join(letters[i] for i in raw.raw_colors_visible[:6, :6].ravel())
    print("rawpy", rawpy.__version__, "LibRaw", rawpy.libraw_version, "margins", raw.sizes.left_margin, raw.sizes.top_margin)
for name, text in (("raw_pattern", told), ("raw_colors_visible", shown)):
    print(f"{name:20}", *(text[row : row + 6] for row in range(0, 36, 6)))
assert shown == PATTERN, "rawpy shows other colours now"
assert told != PATTERN, "rawpy's raw_pattern is that of the picture now"
PYTHON
