#!/usr/bin/env bash
# The Python package xisf 0.9.7 takes no notice of byteOrder="big": 1 2 3 4 come back as 256 512 768 1024.
#
# An XISF image may have its numbers in either order, and says so by the attribute byteOrder of its Image element (XISF 1.0
# specification, on data blocks); little is what counts without it. Big-endian files are valid, and rare.
# Seen with xisf 0.9.7 on 2026-12-01, for 2 x 2 pixels of UInt16:
#     byteOrder little: [[1, 2], [3, 4]]      byteOrder big: [[256, 512], [768, 1024]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv environment
environment/bin/pip install --quiet xisf==0.9.7 numpy==2.4.6
environment/bin/python - <<'PYTHON'
import numpy as np
import xisf

read = {}
for order, kind in (("little", "<u2"), ("big", ">u2")):
    pixels = np.array([[1, 2], [3, 4]], kind).tobytes()
    header = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<xisf version="1.0" xmlns="http://www.pixinsight.com/xisf">'
        f'<Image geometry="2:2:1" sampleFormat="UInt16" colorSpace="Gray" byteOrder="{order}" location="attachment:1024:8"/>'
        '<Metadata><Property id="XISF:CreationTime" type="TimePoint" value="2026-12-01T00:00:00Z"/>'
        '<Property id="XISF:CreatorApplication" type="String">by hand</Property></Metadata></xisf>'
    ).encode()
    start = b"XISF0100" + len(header).to_bytes(4, "little") + bytes(4) + header
    with open("frame.xisf", "wb") as file:
        file.write(start.ljust(1024, b"\0") + pixels)
    read[order] = xisf.XISF.read("frame.xisf")[:, :, 0].tolist()
    print("xisf", xisf.__version__, "byteOrder", order, read[order])
assert read["little"] == [[1, 2], [3, 4]], "xisf reads little-endian pixels otherwise now"
assert read["big"] == [[256, 512], [768, 1024]], "xisf reads big-endian pixels otherwise now"
PYTHON
