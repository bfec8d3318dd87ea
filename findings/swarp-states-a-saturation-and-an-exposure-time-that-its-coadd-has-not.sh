#!/usr/bin/env bash
# SWarp 2.41.5: of frames without the cards SATURATE and GAIN it makes a coadd with SATURATE = 50000 and GAIN = 0, though its
# pixels stand at 105000; and the coadd's EXPTIME is the sum, while the data of a median are at the level of one frame.
#
# Whatever reads the coadd next (source-extractor, HOTPANTS) takes all of it for saturated, and counts per second are too
# low by the number of frames.
# Seen with SWarp 2.41.5-1+b2 of Debian 12 on 2026-12-01, for two frames of 60 s, of 100000 and 110000:
#     data 105000.0   SATURATE 50000.0   GAIN 0.0   EXPTIME 120.0
set -euo pipefail
command -v SWarp > /dev/null || apt-get install --yes --no-install-recommends swarp=2.41.5-1+b2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv environment
environment/bin/pip install --quiet astropy==8.0.2 numpy==2.4.6
environment/bin/python - <<'PYTHON'
import subprocess
import numpy as np
from astropy.io import fits

world = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 50.5, "CRPIX2": 50.5,
         "CD1_1": -1e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-4, "EXPTIME": 60.0}
for number, level in enumerate((100_000, 110_000)):
    fits.writeto(f"{number}.fits", np.full((100, 100), level, "f4"), fits.Header(world))
print(subprocess.run(["SWarp", "--version"], capture_output=True, text=True).stdout.strip())
subprocess.run(["SWarp", "0.fits", "1.fits", "-c", "/dev/null", "-SUBTRACT_BACK", "N", "-COMBINE_TYPE", "MEDIAN", "-RESAMPLE", "N",
                "-FSCALASTRO_TYPE", "NONE", "-WRITE_XML", "N"], check=True, capture_output=True)
data, header = fits.getdata("coadd.fits", header=True)
seen = {name: float(header[name]) for name in ("SATURATE", "GAIN", "EXPTIME")}
print("data", float(np.median(data)), seen)
assert float(np.median(data)) == 105_000, "the coadd is another"
assert seen == {"SATURATE": 50_000.0, "GAIN": 0.0, "EXPTIME": 120.0}, "its cards say something else now"
PYTHON
