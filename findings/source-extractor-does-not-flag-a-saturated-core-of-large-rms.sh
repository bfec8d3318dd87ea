#!/usr/bin/env bash
# source-extractor 2.25.0: a saturated core that a map of MAP_RMS marks as bad (rms 1e15) gives a star with FLAGS 0 and
# IMAFLAGS_ISO 0, whatever the flag map beside it says; the same core with weight 0 in MAP_WEIGHT gives IMAFLAGS_ISO 4.
#
# So a catalogue that was made with rms maps holds saturated stars that nothing tells from good ones.
# Seen with source-extractor 2.25.0+ds-3 of Debian 12 on 2026-12-01: MAP_RMS: FLAGS 0, IMAFLAGS 0   MAP_WEIGHT: IMAFLAGS 4
set -euo pipefail
command -v source-extractor > /dev/null || apt-get install --yes --no-install-recommends source-extractor=2.25.0+ds-3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv environment
environment/bin/pip install --quiet astropy==8.0.2 numpy==2.4.6
environment/bin/python - <<'PYTHON'
import subprocess
import numpy as np
from astropy.io import fits

rows, columns = np.indices((128, 128))
distance = np.hypot(columns - 64, rows - 64)
data = 200 + np.random.default_rng(1).normal(0, 16, (128, 128)) + 1e5 * np.exp(-(distance**2) / (2 * 2.0**2))
core = distance < 2.5
data[core] = 60_000
fits.writeto("frame.fits", data.astype("f4"))
fits.writeto("flag.fits", np.where(core, 4, 0).astype("i2"))
fits.writeto("rms.fits", np.where(core, 1e15, 16).astype("f4"))
fits.writeto("weight.fits", np.where(core, 0, 1 / 256).astype("f4"))
with open("columns", "w") as file:
    file.write("X_IMAGE\nY_IMAGE\nFLAGS\nIMAFLAGS_ISO\n")
print(subprocess.run(["source-extractor", "--version"], capture_output=True, text=True).stdout.strip())


def flags(kind, weights):
    subprocess.run(["source-extractor", "frame.fits", "-c", "/dev/null", "-PARAMETERS_NAME", "columns", "-FILTER", "N",
                    "-CATALOG_NAME", "catalogue", "-WEIGHT_TYPE", kind, "-WEIGHT_IMAGE", weights, "-RESCALE_WEIGHTS", "N",
                    "-FLAG_IMAGE", "flag.fits", "-FLAG_TYPE", "OR", "-SATUR_LEVEL", "59000", "-VERBOSE_TYPE", "QUIET"], check=True)
    table = np.loadtxt("catalogue", ndmin=2)
    near = table[np.hypot(table[:, 0] - 65, table[:, 1] - 65) < 5]
    return int(np.bitwise_or.reduce(near[:, 2].astype(int))), int(np.bitwise_or.reduce(near[:, 3].astype(int)))


rms, weight = flags("MAP_RMS", "rms.fits"), flags("MAP_WEIGHT", "weight.fits")
print("FLAGS, IMAFLAGS_ISO: MAP_RMS", rms, "  MAP_WEIGHT", weight)
assert weight[1] == 4, "with weight 0 the core is not flagged any more"
assert rms[1] == 0 and not rms[0] & 4, "with a large rms the core is flagged now"
PYTHON
