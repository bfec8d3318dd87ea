#!/usr/bin/env bash
# astropy 8.0.2: a table with a scaled column of integers, several in a row, is opened, its values are looked at, and it
# is written again: a tenth of the stored numbers is one less than before. Of a column with one number in a row none is.
#
# Such columns (TSCALn, TZEROn, TFORMn = '100I': FITS standard 4.0, section 7.3.2) hold spectra, light curves or pixels,
# scaled so that they fit into 8 or 16 bits. On writing, the real values are turned into integers again; those of a plain
# column are rounded before, those of an array lose what is behind the point: 28.999999999999996 becomes 28.
# Seen with astropy 8.0.2 on 2026-12-01, for the numbers 0 to 999, TSCALn = 0.019685 and TZEROn = -5.02:
#     not looked at: 0 and 0 differ      looked at: 0 of ONE differ, 107 of MANY, each by -1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv environment
environment/bin/pip install --quiet astropy==8.0.2 numpy==2.4.6
environment/bin/python - <<'PYTHON'
import astropy, numpy as np
from astropy.io import fits

numbers = np.arange(1000, dtype=np.int16).reshape(10, 100)
shapes = {"ONE": ("I", numbers.reshape(-1)), "MANY": ("100I", numbers)}


def stored(name):
    """The integers as they stand in the file."""
    with fits.open(name) as hdus:
        start = hdus[1].fileinfo()["datLoc"]
    with open(name, "rb") as file:
        return np.frombuffer(file.read()[start : start + numbers.nbytes], ">i2").astype(int)


def again(column, look):
    """By how much the integers differ after they were written again."""
    with fits.open(f"{column}.fits") as hdus:
        if look:
            hdus[1].data[column].mean()
        hdus.writeto("again.fits", overwrite=True)
    return stored("again.fits") - stored(f"{column}.fits")


for column, (form, values) in shapes.items():
    table = fits.BinTableHDU.from_columns([fits.Column(column, form, array=values)])
    table.header["TSCAL1"], table.header["TZERO1"] = 0.019685, -5.02
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(f"{column}.fits")
    assert (stored(f"{column}.fits") == numbers.reshape(-1)).all(), "the input is not what was meant"
    unseen, change = again(column, look=False), again(column, look=True)
    print("astropy", astropy.__version__, column, (unseen != 0).sum(), "differ; looked at", (change != 0).sum(), set(change.tolist()))
    assert not unseen.any(), "a table that was not looked at changes too now"
    assert change.any() == (column == "MANY") and change.min() == (-1 if column == "MANY" else 0), "it is written otherwise now"
PYTHON
