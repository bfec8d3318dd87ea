"""What a raw file says besides the values of its cards."""

from collections.abc import Sequence

import numpy as np

from ccdflow.archive.digest import DamagedFrameError
from ccdflow.archive.fits.rawfile import RawFile
from ccdflow.cascade.headers.classify import FileFacts
from ccdflow.cascade.headers.finished import Pixels
from ccdflow.cascade.records import Doubt

BANDS, BAND_ROWS = 4, 4
"""Bands of rows of an image of reals that are looked at, and rows of each."""
MOST_FRACTIONS = 0.5
"""Share of reals with a fraction above which no converter has written them; lone ones are of mended pixels."""


def file_facts(file: RawFile, faults: Sequence[Doubt] = ()) -> FileFacts:
    """Return comments, images, history, the kind of numbers and the repeated cards of a raw file.

    Parameters
    ----------
    file : RawFile
        Opened. Of its pixels some rows are read where they are reals, and none otherwise.
    faults : sequence of Doubt
        What the file's own checks say of its content.

    Returns
    -------
    FileFacts
    """
    doubts = (*faults, *file.doubts)
    return FileFacts(file.comments, file.extensions, file.history, _look(file), doubts, file.repeated)


def _look(file: RawFile) -> Pixels:
    # Cameras write integers. Of the few files of reals, some rows tell whether they were divided by 65535.
    if file.bitpix > 0:
        return Pixels()
    ny, _ = file.shape
    starts = np.linspace(0, max(ny - BAND_ROWS, 0), BANDS).astype(int).tolist()
    try:
        rows = [np.asarray(file.pixels[slice(start, start + BAND_ROWS), slice(None)]) for start in starts]
    except DamagedFrameError:
        return Pixels(real=True)
    finite = np.concatenate([band[np.isfinite(band)] for band in rows])
    if not finite.size:
        return Pixels(real=True)
    fractions = float(np.count_nonzero(finite % 1)) / finite.size > MOST_FRACTIONS
    return Pixels(real=True, low=float(finite.min()), high=float(finite.max()), fractions=fractions)
