"""Verbs of calibration: an image and a master in, a new image with its true variance out.

V is the variance, d the data. Bits of image and master are joined by OR. None of the verbs changes its
inputs.
"""

from dataclasses import replace

import numpy as np

from ccdflow.recipes.dq import DQ, excluded
from ccdflow.recipes.image import FloatArray, Image

_whatever_stands_in_excluded_pixels = np.errstate(invalid="ignore", over="ignore")


def check_master(name: str, master: tuple[tuple[int, int], str], image: tuple[tuple[int, int], str]) -> None:
    """Refuse a master whose shape or unit does not fit the image's.

    Raises
    ------
    ValueError
        With a sentence that names both.
    """
    if master[0] != image[0]:
        raise ValueError(f"{name} has shape {master[0]}, image has {image[0]}")
    if master[1] != image[1]:
        raise ValueError(f"{name} is in {master[1]!r}, image needs {image[1]!r}")


@_whatever_stands_in_excluded_pixels
def subtract_bias(image: Image, master_bias: Image) -> Image:
    """Image minus the master bias, both in the same unit; variance V + V_bias.

    Raises
    ------
    ValueError
        If shapes or units differ.
    """
    check_master("master bias", (master_bias.shape, master_bias.unit), (image.shape, image.unit))
    return Image(
        image.data - master_bias.data,
        image.variance + master_bias.variance,
        image.dq | master_bias.dq,
        image.unit,
    )


@_whatever_stands_in_excluded_pixels
def add_photon_variance(image: Image) -> Image:
    """Image in electron, bias subtracted, whose variance holds the photons' share: V + max(d, 0)."""
    return replace(image, variance=image.variance + np.maximum(image.data, np.float32(0)))


@_whatever_stands_in_excluded_pixels
def subtract_dark(
    image: Image,
    master_dark: Image,
    *,
    exptime: float,
    dark_exptime: float,
    bias_variance: FloatArray | None = None,
) -> Image:
    """Image minus the dark signal of its exposure time t.

    Parameters
    ----------
    image : Image
        In electron.
    master_dark : Image
        In electron / s (bias subtracted, any exposure time), or in electron (bias still in it: same exposure
        time only).
    exptime, dark_exptime : float
        Seconds, of the image and of the exposures that made the dark.
    bias_variance : float32 array, shape (ny, nx), optional
        Variance of the master bias, if the same one was subtracted from the image and from the dark's
        exposures.

    Notes
    -----
    Variance V + t² V_dark - 2 (t / t_dark) V_bias: the master bias is subtracted from the image and, with the
    scaled dark, added again t / t_dark times, so that its error cancels where both times are equal.

    Raises
    ------
    ValueError
        If shapes or units do not fit, or a dark that holds bias would have to be scaled.
    """
    if master_dark.unit == image.unit:
        factor = 1.0
        if not np.isclose(exptime, dark_exptime, rtol=1e-3, atol=0):
            raise ValueError(
                f"master dark of {dark_exptime:g} s still holds bias and can't be scaled; "
                f"image has {exptime:g} s"
            )
    else:
        factor = exptime
    wanted = image.unit if master_dark.unit == image.unit else f"{image.unit} / s"
    check_master("master dark", (master_dark.shape, master_dark.unit), (image.shape, wanted))
    variance = image.variance + np.float32(factor**2) * master_dark.variance
    if bias_variance is not None and master_dark.unit != image.unit:
        variance = variance - np.float32(2 * exptime / dark_exptime) * bias_variance
    return Image(
        image.data - np.float32(factor) * master_dark.data,
        np.maximum(variance, np.float32(0)),
        image.dq | master_dark.dq,
        image.unit,
    )


@_whatever_stands_in_excluded_pixels
def flat_correct(image: Image, master_flat: Image) -> Image:
    """Image divided by the master flat f; variance (V + (d/f)² V_flat) / f², finite at d = 0.

    Where the flat is excluded by its bits, or is not above 0, it counts as 1 without error; the pixel is
    flagged anyway.

    Raises
    ------
    ValueError
        If shapes differ, or the flat has a unit.
    """
    check_master("master flat", (master_flat.shape, master_flat.unit), (image.shape, ""))
    usable = ~excluded(master_flat.dq) & (master_flat.data > 0)
    flat = np.where(usable, master_flat.data, np.float32(1))
    flat_variance = np.where(usable, master_flat.variance, np.float32(0))
    flagged = master_flat.dq | np.where(usable, np.uint16(0), np.uint16(DQ.LOW_FLAT))
    data = image.data / flat
    variance = (image.variance + data**2 * flat_variance) / flat**2
    return Image(
        np.asarray(data, np.float32), np.asarray(variance, np.float32), image.dq | flagged, image.unit
    )


def flag_bad_pixels(image: Image, bad_pixel_mask: Image) -> Image:
    """Image with the bits of a bad-pixel mask, and ``BAD_PIXEL`` where the mask's data are not 0.

    Raises
    ------
    ValueError
        If shapes differ.
    """
    if bad_pixel_mask.shape != image.shape:
        raise ValueError(f"bad pixel mask has shape {bad_pixel_mask.shape}, image has {image.shape}")
    bad = np.where(bad_pixel_mask.data != 0, np.uint16(DQ.BAD_PIXEL), np.uint16(0))
    return replace(image, dq=image.dq | bad_pixel_mask.dq | bad)


def flag_cosmic_rays(image: Image, *, sigma: float, contrast: float) -> Image:
    """Image in electron with ``COSMIC_RAY`` set where L.A.Cosmic finds one; data stay as they are.

    Parameters
    ----------
    image : Image
        In electron.
    sigma : float
        Laplacian signal over noise of a hit.
    contrast : float
        Least contrast between the Laplacian image and the fine structure; higher spares the cores of sharp
        stars.

    Notes
    -----
    van Dokkum 2001, PASP 113, 1420, by `ccdproc.cosmicray_lacosmic`. Values are not replaced: a stack has
    better ones than neighbours are.
    """
    # ccdproc takes a second to import, and most runs never need it.
    from astropy.nddata import CCDData
    from ccdproc import cosmicray_lacosmic

    bad = excluded(image.dq) | ~np.isfinite(image.data)
    data = np.where(np.isfinite(image.data), image.data, np.float32(0))
    variance = np.where(
        np.isfinite(image.variance), np.maximum(image.variance, np.float32(1e-6)), np.float32(1)
    )
    found = cosmicray_lacosmic(
        CCDData(data, unit="electron", mask=bad),
        sigclip=sigma,
        objlim=contrast,
        invar=variance,
        readnoise=0.0,
        satlevel=np.inf,
        gain_apply=False,
    )
    hits = found.mask & ~bad
    return replace(image, dq=image.dq | np.where(hits, np.uint16(DQ.COSMIC_RAY), np.uint16(0)))
