"""What a frame's pixels are known by, in whatever file they are.

The same exposure lies about gzipped, tile-compressed, with another header, or written anew by another program. Its
noise is its fingerprint: no two exposures have it alike. What has no noise is no fingerprint: all frames of a camera
that is not connected are 0.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.archive.fits.rawpixels import JoinedPixels, Part

Pixels = NDArray[Any]
RawPixels = Part | JoinedPixels

STRIP_ROWS = 32
"""Rows that are looked at together: of one strip a compressed file gives up little, and it has noise enough."""
COMPARED_ROWS = 512
"""Rows of two images that are compared at once."""
LEAST_NOISY = 64
"""Pixels that noise must show in: by chance alike are two such images in less than one of 2^64 cases."""
LEAST_NOISY_SHARE = 0.05
"""Part of a row's pixels that noise shows in; a lone hot pixel is less."""
NOISY_ROWS = 0.75
"""Part of the rows that noise must show in: it is everywhere, a star painted onto nothing is not."""
LARGEST_WHOLE = 2**62
"""Real numbers up to this are compared as whole ones, where they are."""
STEP = 2
"""Adu by which the second difference of neighbours is beyond the rounding of a smooth image."""
STEP_OF_REALS = 1e-3
"""The same for real numbers, as part of the typical value."""


def pixel_digest(pixels: RawPixels) -> str:
    """Return a digest of pixels by their values: whatever type, byte order and packing they have in their file.

    Parameters
    ----------
    pixels : PlainPixels, TiledPixels or JoinedPixels
        adu, shape (ny, nx); read from the bottom up to the first strip of rows that shows noise, and no further.

    Returns
    -------
    str
        64 hexadecimal digits, the same for the same values in the same shape; blank where no strip shows noise, as of
        a constant, a ramp or a mask.

    Notes
    -----
    That of two images with one digest the rest is alike too, `same_pixels` tells: few are ever asked. To read all
    pixels of each new file would take longer than all else, of a compressed one twenty times as long.
    """
    ny, nx = pixels.shape
    digest = hashlib.sha256(f"{ny}x{nx}".encode())
    for start in range(0, ny, STRIP_ROWS):
        strip = pixels[start : start + STRIP_ROWS, 0:nx]
        digest.update(_canonical(strip))
        if _shows_noise(strip):
            return digest.hexdigest()
    return ""


def same_pixels(pixels: RawPixels, others: RawPixels) -> bool:
    """Tell whether two images have the same values everywhere.

    Parameters
    ----------
    pixels, others : PlainPixels, TiledPixels or JoinedPixels
        adu; numbers of any types.

    Returns
    -------
    bool
        Pixels without a value equal each other.
    """
    if pixels.shape != others.shape:
        return False
    ny, nx = pixels.shape
    strips = (slice(start, start + COMPARED_ROWS) for start in range(0, ny, COMPARED_ROWS))
    return all(_alike(pixels[rows, 0:nx], others[rows, 0:nx]) for rows in strips)


def _alike(strip: Pixels, other: Pixels) -> bool:
    reals = strip.dtype.kind == "f" and other.dtype.kind == "f"
    return np.array_equal(strip, other, equal_nan=reals)


def _canonical(strip: Pixels) -> bytes:
    """Some rows as bytes by their values alone: 16 bits where they fit, else whole numbers, else real ones."""
    numbers = strip
    if strip.dtype.kind == "f":
        exact = np.isfinite(strip).all() and np.abs(strip).max(initial=0) < LARGEST_WHOLE
        whole = strip.astype(np.int64) if exact else None
        if whole is None or not (whole == strip).all():
            real = np.where(np.isnan(strip), np.nan, strip.astype(np.float64) + 0.0)  # one NaN, and no -0
            return b"real" + real.astype("<f8").tobytes()
        numbers = whole
    if numbers.dtype == np.uint16 or (numbers.size and numbers.min() >= 0 and numbers.max() < 2**16):
        return b"word" + numbers.astype("<u2").tobytes()
    return b"whole" + numbers.astype("<i8").tobytes()


def _shows_noise(rows: Pixels) -> bool:
    """Whether neighbours differ as they do where photons and electrons are counted."""
    # Second differences, in which a background that slopes is nothing; a lone hot pixel shows three times.
    values = rows.astype(np.float64)
    bend = np.abs(values[:, 2:] - 2 * values[:, 1:-1] + values[:, :-2])
    finite = np.isfinite(bend)
    if not finite.any():
        return False
    step: float = STEP
    if rows.dtype.kind == "f" and not (values[np.isfinite(values)] % 1 == 0).all():
        step = max(STEP_OF_REALS * float(np.nanmedian(np.abs(values))), float(np.finfo(np.float32).tiny))
    noisy = finite & (bend >= step)
    in_rows = noisy.sum(axis=1) >= LEAST_NOISY_SHARE * bend.shape[1]
    return bool(noisy.sum() >= LEAST_NOISY and in_rows.mean() >= NOISY_ROWS)
