"""Raw frames for programs from outside, under the name by which `open_raw` has always been imported.

What belongs to ccdflow itself imports `ccdflow.archive.fits.rawfile`.
"""

from ccdflow.archive.fits.rawfile import TruncatedError, UnreadableFrameError, open_raw

__all__ = ["TruncatedError", "UnreadableFrameError", "open_raw"]
