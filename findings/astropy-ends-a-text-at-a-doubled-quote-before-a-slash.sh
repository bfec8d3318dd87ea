#!/usr/bin/env bash
# astropy 8.0.2 ends the text of a card at a doubled quote that stands right before a slash, and takes the rest for the comment.
#
# By the FITS standard (4.0, section 4.2.1) two quotes in a row within a text stand for one quote, whatever comes behind. fitsio (CFITSIO)
# reads the text whole. With a blank between quote and slash astropy does too.
# Seen with astropy 8.0.2 and fitsio 1.4.2 on 2026-11-30, for the card  OBJECT  = 'Barnard''/2' / dark nebula:
#     astropy value "Barnard'" comment "2' / dark nebula"   fitsio value "Barnard'/2"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv environment
environment/bin/pip install --quiet astropy==8.0.2 fitsio==1.4.2 numpy==2.4.6
environment/bin/python - <<'PYTHON'
import astropy, fitsio
from astropy.io import fits

TEXT = "Barnard'/2"
cards = ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0"]
cards += ["OBJECT  = 'Barnard''/2' / dark nebula", "END"]
with open("frame.fits", "wb") as file:
    file.write("".join(card.ljust(80) for card in cards).ljust(2880).encode("ascii"))
by_astropy = fits.getheader("frame.fits").cards["OBJECT"]
by_fitsio = fitsio.read_header("frame.fits")["OBJECT"]
print("astropy", astropy.__version__, "fitsio", fitsio.__version__)
print("astropy", repr(by_astropy.value), repr(by_astropy.comment), " fitsio", repr(by_fitsio))
assert by_fitsio == TEXT, "fitsio reads it otherwise now"
assert (by_astropy.value, by_astropy.comment) == ("Barnard'", "2' / dark nebula"), "astropy reads it otherwise now"
PYTHON
