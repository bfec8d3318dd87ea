#!/usr/bin/env bash
# Siril 1.0.6, convert: which extensions of a FITS file become frames depends on their order. Images of the first one's BITPIX
# are taken, whatever they are called, up to the first of another BITPIX, where it stops without a word.
#
# One file with data, error and mask gives two frames, of which the second is the error map, or one, if the mask stands first.
# Seen with siril 1.0.6-1+b2 of Debian 12 on 2026-12-01: float, float, int16: 2 frames   float, int16, float: 1 frame
set -euo pipefail
command -v siril-cli > /dev/null || apt-get install --yes --no-install-recommends siril=1.0.6-1+b2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv environment
environment/bin/pip install --quiet astropy==8.0.2 numpy==2.4.6
environment/bin/python - <<'PYTHON'
import os, pathlib, subprocess
import numpy as np
from astropy.io import fits

data = np.random.default_rng(1).normal(0.1, 0.01, (64, 64)).astype("f4")
mask = np.zeros((64, 64), "i2")
print(subprocess.run(["siril-cli", "--version"], capture_output=True, text=True).stdout.strip())


def frames(name, *planes):
    folder = pathlib.Path(name)
    folder.mkdir()
    hdus = [fits.PrimaryHDU(data), *(fits.ImageHDU(plane, name=extension) for extension, plane in planes)]
    fits.HDUList(hdus).writeto(folder / "frame.fits")
    (folder / "script.ssf").write_text("requires 1.0.0\nsetext fits\nconvert light\n")
    environment = {**os.environ, "HOME": os.getcwd()}
    subprocess.run(["siril-cli", "-d", folder.absolute(), "-s", folder.absolute() / "script.ssf"], env=environment, check=True, capture_output=True)
    return len(list(folder.glob("light_*.fits")))


behind, before = frames("behind", ("ERR", data / 10), ("MASK", mask)), frames("before", ("MASK", mask), ("ERR", data / 10))
print(f"float, float, int16: {behind} frames   float, int16, float: {before} frame")
assert (behind, before) == (2, 1), "another number of extensions is taken now"
PYTHON
