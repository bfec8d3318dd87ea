#!/usr/bin/env bash
# gnuastro 0.19, astmkcatalog: the error of a sum comes out as if the standard deviations of --instd were variances,
# unless --variance says that they are.
#
# 100 pixels without light, each with a standard deviation of 16: their sum has an error of sqrt(100 * 16^2) = 160. What
# is written is 40 = sqrt(100 * 16). Given 256 as --instd with --variance it is 160.
# Seen with gnuastro 0.19-1+b2 of Debian 12 on 2026-12-01: STD 16: 40.0   VAR 256 --variance: 160.0
set -euo pipefail
command -v astmkcatalog > /dev/null || apt-get install --yes --no-install-recommends gnuastro=0.19-1+b2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv environment
environment/bin/pip install --quiet astropy==8.0.2 numpy==2.4.6
environment/bin/python - <<'PYTHON'
import subprocess
import numpy as np
from astropy.io import fits

pixels = np.zeros((100, 100), "f4")
labels = np.zeros((100, 100), "i4")
labels[40:50, 40:50] = 1
fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels, name="SCI"), fits.ImageHDU(pixels + 16, name="STD"),
              fits.ImageHDU(pixels + 256, name="VAR")]).writeto("frame.fits")
fits.writeto("labels.fits", labels)
print(subprocess.run(["astmkcatalog", "--version"], capture_output=True, text=True).stdout.splitlines()[0])


def error(*given):
    subprocess.run(["astmkcatalog", "labels.fits", "-h0", "--valuesfile=frame.fits", "--valueshdu=SCI", "--instd=frame.fits",
                    *given, "--ids", "--brightness", "--brightnesserr", "--output=catalogue.txt"], check=True, capture_output=True)
    return float(np.loadtxt("catalogue.txt", ndmin=2)[0, 2])


deviation, variance = error("--stdhdu=STD"), error("--stdhdu=VAR", "--variance")
print(f"true 160, STD 16: {deviation}   VAR 256 --variance: {variance}")
assert abs(variance - 160) < 0.1, "a variance is taken otherwise now"
assert abs(deviation - 40) < 0.1, "a standard deviation is taken otherwise now"
PYTHON
