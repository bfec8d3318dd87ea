"""Verbs of calibration: an image and a master in, a new image with its true variance out.

V is the variance, d the data. Bits of image and master are joined by OR. None of the verbs changes its
inputs. All of them are steps of one compiled pass, `apply_masters`, which takes any number of them together.
"""

from dataclasses import dataclass, replace

import numpy as np

from ccdflow.recipes.core.dq import DQ, excluded
from ccdflow.recipes.core.image import FloatArray, Image, Planes

_NOTHING = np.empty(0, np.float32)
_NO_MASTER = _NOTHING, _NOTHING, np.empty(0, np.uint16)


@dataclass(frozen=True)
class Applied:
    """Rows of masters that one pass applies, each None where there is none.

    Parameters
    ----------
    bias, dark, flat : Image or None
        The same rows of each.
    dark_factor : float
        What the dark is multiplied by.
    shared : float32 array or None
        Variance of the master bias, where the dark's exposures have lost the same one.
    cancelled : float
        By what factor it is taken off the variance again.
    """

    bias: Image | None = None
    dark: Image | None = None
    flat: Image | None = None
    dark_factor: float = 1.0
    shared: FloatArray | None = None
    cancelled: float = 0.0


def apply_masters(planes: Planes, applied: Applied, *, photons: bool = False) -> None:
    """Subtract bias, add photon variance, subtract dark, divide by flat: in place, whatever of it is given.

    What the masters bring to the variance is added to `planes.masters`, where there is one. The steps are
    those of `subtract_bias`, `add_photon_variance`, `subtract_dark` and `flat_correct`.
    """
    # LLVM takes a twentieth of a second to load, and most commands never need it.
    from ccdflow.recipes.kernels import calibrate_kernels

    masters = (_flattened(one) for one in (applied.bias, applied.dark, applied.flat))
    calibrate_kernels.apply_masters(
        photons,
        (applied.dark_factor, applied.cancelled),
        tuple(masters),
        _NOTHING if applied.shared is None else np.ravel(applied.shared),
        (
            planes.data.reshape(-1),
            planes.variance.reshape(-1),
            planes.dq.reshape(-1),
            _NOTHING if planes.masters is None else planes.masters.reshape(-1),
        ),
        np.empty((2, calibrate_kernels.CHUNK), np.float32),
    )


def _flattened(
    master: Image | None,
) -> tuple[FloatArray, FloatArray, np.ndarray[tuple[int], np.dtype[np.uint16]]]:
    return (
        _NO_MASTER
        if master is None
        else (np.ravel(master.data), np.ravel(master.variance), np.ravel(master.dq))
    )


def _applied(image: Image, applied: Applied, *, photons: bool = False) -> Image:
    """New image, to which masters were applied."""
    planes = Planes(image.data.copy("C"), image.variance.copy("C"), image.dq.copy("C"))
    apply_masters(planes, applied, photons=photons)
    return Image(planes.data, planes.variance, planes.dq, image.unit)


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


def subtract_bias(image: Image, master_bias: Image) -> Image:
    """Image minus the master bias, both in the same unit; variance V + V_bias.

    Raises
    ------
    ValueError
        If shapes or units differ.
    """
    check_master("master bias", (master_bias.shape, master_bias.unit), (image.shape, image.unit))
    return _applied(image, Applied(bias=master_bias))


def add_photon_variance(image: Image) -> Image:
    """Image in electron, bias subtracted, whose variance holds the photons' share: V + max(d, 0)."""
    return _applied(image, Applied(), photons=True)


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
    factor = dark_factor(
        (master_dark.shape, master_dark.unit), (image.shape, image.unit), exptime, dark_exptime
    )
    shared = None if master_dark.unit == image.unit else bias_variance
    cancelled = 2 * exptime / dark_exptime if shared is not None else 0.0
    applied = Applied(dark=master_dark, dark_factor=factor, shared=shared, cancelled=cancelled)
    return _applied(image, applied)


def dark_factor(
    master_dark: tuple[tuple[int, int], str],
    image: tuple[tuple[int, int], str],
    exptime: float,
    dark_exptime: float,
) -> float:
    """What a master dark is multiplied by for an image; both are given by shape and unit.

    Raises
    ------
    ValueError
        As `subtract_dark` says.
    """
    whole = master_dark[1] == image[1]
    if whole and not np.isclose(exptime, dark_exptime, rtol=1e-3, atol=0):
        raise ValueError(
            f"master dark of {dark_exptime:g} s still holds bias and can't be scaled; image has {exptime:g} s"
        )
    check_master("master dark", master_dark, (image[0], image[1] if whole else f"{image[1]} / s"))
    return 1.0 if whole else exptime


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
    return _applied(image, Applied(flat=master_flat))


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
