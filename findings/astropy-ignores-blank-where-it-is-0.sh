#!/usr/bin/env bash
# astropy 8.0.2 takes no notice of BLANK = 0: pixels without value come back as 0, where any other BLANK gives NaN.
#
# By the FITS standard (4.0, section 4.4.2.5) an image of integers may call any of them BLANK, 0 as well: what a camera or a
# mosaic leaves without value often is 0.
# Seen with astropy 8.0.2 on 2026-11-30, for the pixels 0 1 2 3 and BSCALE = 2:
#     BLANK = 3: astropy [0.0, 2.0, 4.0, nan]      BLANK = 0: astropy [0.0, 2.0, 4.0, 6.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv environment
environment/bin/pip install --quiet astropy==8.0.2 numpy==2.4.6
environment/bin/python - <<'PYTHON'
import astropy, numpy as np
from astropy.io import fits

numbers = np.arange(4, dtype=">i2")
read = {}
for blank in (3, 0):
    cards = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 1, "NAXIS1": 4, "BSCALE": 2.0, "BLANK": blank}
    header = "".join(f"{name:8}= {value:>20}".ljust(80) for name, value in cards.items()) + "END"
    with open("frame.fits", "wb") as file:
        file.write(header.ljust(2880).encode("ascii") + numbers.tobytes().ljust(2880, b"\0"))
    read[blank] = fits.getdata("frame.fits")
    print("astropy", astropy.__version__, "BLANK", blank, read[blank].tolist())
assert np.isnan(read[3]).tolist() == [False, False, False, True], "astropy reads BLANK = 3 otherwise now"
assert read[0].tolist() == [0.0, 2.0, 4.0, 6.0], "astropy reads BLANK = 0 otherwise now"
PYTHON
