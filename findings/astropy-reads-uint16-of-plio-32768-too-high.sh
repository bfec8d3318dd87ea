#!/usr/bin/env bash
# astropy 8.0.2 reads an unsigned 16-bit image that CFITSIO has compressed by PLIO 32768 too high, without a warning.
#
# CFITSIO stores such an image under PLIO as it is, since PLIO takes numbers from 0 on only, but writes BZERO = 32768 all the same. Its own
# readers know that; astropy adds BZERO. A mask whose flags are 0 to 500 comes back as 32768 to 33268.
# Seen with astropy 8.0.2 and fitsio 1.4.2 (CFITSIO 4.6.0) on 2026-11-30:
#     written [0, 7, 14, 21]  fitsio [0, 7, 14, 21]  astropy [32768, 32775, 32782, 32789]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv environment
environment/bin/pip install --quiet astropy==8.0.2 fitsio==1.4.2 numpy==2.4.6
environment/bin/python - <<'PYTHON'
import astropy, fitsio, numpy as np
from astropy.io import fits

written = 7 * np.arange(64, dtype=np.uint16).reshape(8, 8)
fitsio.write("mask.fits", written, compress="PLIO")
with fits.open("mask.fits") as hdus:
    by_astropy = hdus[1].data.astype(int)
by_fitsio = fitsio.read("mask.fits").astype(int)
print("astropy", astropy.__version__, "fitsio", fitsio.__version__, "CFITSIO", fitsio.cfitsio_version())
print("written", written[0, :4].tolist(), " fitsio", by_fitsio[0, :4].tolist(), " astropy", by_astropy[0, :4].tolist())
assert (by_fitsio == written).all(), "fitsio reads it otherwise now"
assert (by_astropy == written.astype(int) + 32768).all(), "astropy reads it otherwise now"
PYTHON
