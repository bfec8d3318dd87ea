"""Verbs of calibration: an image and a master in, a new image with its true variance out.

V is the variance, d the data. None of the verbs changes its inputs. DQ bits of image and master are joined by OR,
and nothing is skipped by them: a flagged pixel is calculated as all others are, and what stands in it never reaches
another pixel. NaN and infinity in data or variance stay what they are, in their own pixel.

The variances are those of independent errors, to first order (GUM, JCGM 100:2008, section 5.1.2): for f(x, y) it
is (∂f/∂x)² V_x + (∂f/∂y)² V_y. Image and master are independent, but for the master bias that a frame and its dark
have both lost; `subtract_dark` has that term.

All verbs are steps of one compiled pass, `apply_masters`, which takes any number of them together.
"""

from dataclasses import dataclass, replace

import numpy as np

from ccdflow.recipes.core.dq import DQ, excluded
from ccdflow.recipes.core.image import FloatArray, Image, Planes
from ccdflow.recipes.core.times import SAME_EXPTIME

# The kernel's arguments have fixed types: what is not there is an array without elements.
_NOTHING = np.empty(0, np.float32)
_NO_MASTER = _NOTHING, _NOTHING, np.empty(0, np.uint16)

LEAST_COSMIC_VARIANCE = np.float32(1e-6)
"""Electron²; L.A.Cosmic divides by the noise, and a frame without read noise has none in its darkest pixels."""


# Five arguments that always go together, and a kernel that takes them all: one pass over a strip reads data and
# variance once, where five verbs in a row would read and write them five times.
@dataclass(frozen=True)
class Applied:
    """Rows of masters that one pass applies, each None where there is none.

    Parameters
    ----------
    bias, dark, flat : Image or None
        The same rows of each, shape (rows, nx).
    dark_factor : float
        Number that the dark is multiplied by: seconds for a rate, 1 for a dark in electron.
    shared : float32 array or None, shape (rows, nx)
        Variance of the master bias in electron², where the dark's exposures have lost the same one.
    cancelled : float
        Factor by which `shared` is taken off the variance again: 2 t / t_dark, see `subtract_dark`.
    """

    bias: Image | None = None
    dark: Image | None = None
    flat: Image | None = None
    dark_factor: float = 1.0
    shared: FloatArray | None = None
    cancelled: float = 0.0


def apply_masters(planes: Planes, applied: Applied, *, photons: bool = False) -> None:
    """Subtract bias, add photon variance, subtract dark, divide by flat: in place, those of it that are there.

    Parameters
    ----------
    planes : Planes
        Rows of an image in electron; data, variance and DQ are changed in place. What the masters bring to the
        variance is added to `Planes.masters`, where there is one.
    applied : Applied
        Masters, same rows and shape.
    photons : bool
        True to add the photons' variance, max(d, 0), once the bias is subtracted.

    Notes
    -----
    The steps are those of `subtract_bias`, `add_photon_variance`, `subtract_dark` and `flat_correct`, in that
    order, which is that of physics: photons make their noise before the flat is divided by, and the dark signal,
    since it is still in the data at that moment, makes its shot noise as light does.
    """
    # LLVM takes a twentieth of a second to load, and most commands never need it.
    from ccdflow.recipes.kernels import calibrate_kernels

    masters = (_flattened(master) for master in (applied.bias, applied.dark, applied.flat))
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
    # A verb must not change its input, the kernel works in place: so it gets a copy, C-contiguous as it needs it.
    planes = Planes(image.data.copy("C"), image.variance.copy("C"), image.dq.copy("C"))
    apply_masters(planes, applied, photons=photons)
    return Image(planes.data, planes.variance, planes.dq, image.unit)


def check_master(name: str, master: tuple[tuple[int, int], str], image: tuple[tuple[int, int], str]) -> None:
    """Refuse a master whose shape or unit does not fit the image's.

    Parameters
    ----------
    name : str
        Name of the kind of master, for the message: ``master bias``.
    master, image : ((int, int), str)
        Shape ``(ny, nx)`` and unit of each; for the image, the unit that the master must have.

    Raises
    ------
    ValueError
        If shape or unit differ; the message names both sides.
    """
    if master[0] != image[0]:
        raise ValueError(f"{name} has shape {master[0]}, image has {image[0]}")
    if master[1] != image[1]:
        raise ValueError(f"{name} is in {master[1]!r}, image needs {image[1]!r}")


def subtract_bias(image: Image, master_bias: Image) -> Image:
    """Return the image minus the master bias.

    Parameters
    ----------
    image : Image
        In any unit.
    master_bias : Image
        Same shape and unit.

    Returns
    -------
    Image
        Data d - d_bias, variance V + V_bias, DQ the OR of both, same unit.

    Raises
    ------
    ValueError
        If shapes or units differ.

    Examples
    --------
    >>> def level(value, variance):
    ...     plane = np.ones((1, 2), np.float32)
    ...     return Image(plane * value, plane * variance, np.zeros((1, 2), np.uint16), "electron")
    >>> light = subtract_bias(level(310, 25), level(300, 1))
    >>> light.data, light.variance
    (array([[10., 10.]], dtype=float32), array([[26., 26.]], dtype=float32))
    """
    check_master("master bias", (master_bias.shape, master_bias.unit), (image.shape, image.unit))
    return _applied(image, Applied(bias=master_bias))


def add_photon_variance(image: Image) -> Image:
    """Return the image with the photons' share in its variance: V + max(d, 0).

    Parameters
    ----------
    image : Image
        In electron, bias subtracted, the dark signal still in it.

    Returns
    -------
    Image
        Same data and DQ.

    Notes
    -----
    Counts of electrons are Poisson: their variance is their mean, of which the pixel's own value is the estimate
    (Howell 2006, Handbook of CCD Astronomy, 2nd ed., section 4.4). Below 0 only read noise is left: such a pixel
    got no negative number of photons. Taken over noisy pixels near 0 the mean of max(d, 0) is above max(mean, 0),
    by 0.4 times the read noise at a signal of 0. NaN adds nothing.
    """
    return _applied(image, Applied(), photons=True)


def subtract_dark(
    image: Image,
    master_dark: Image,
    *,
    exptime: float,
    dark_exptime: float,
    bias_variance: FloatArray | None = None,
) -> Image:
    """Return the image minus the dark signal of its exposure time t.

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
        Variance of the master bias in electron², if the same one was subtracted from the image and from the
        dark's exposures.

    Returns
    -------
    Image
        Data d - t d_dark (d - d_dark for a dark in electron), DQ the OR of both, in electron.

    Notes
    -----
    Variance V + t² V_dark - 2 (t / t_dark) V_bias, at least 0.

    The last term is a covariance. With the bias b subtracted from the image, and from the dark's exposures before
    they were divided by t_dark, the result holds -b + (t / t_dark) b. The error of b thus counts (1 - t / t_dark)²
    times, whereas V holds it once and t² V_dark holds it (t / t_dark)² times: 2 t / t_dark too many. Where both
    times are equal it cancels wholly. Rounding to float32 can leave a result below 0; it counts as 0.

    An exposure time of 0 subtracts nothing and keeps the DQ of the dark.

    Raises
    ------
    ValueError
        If shapes or units do not fit, or a dark that holds bias would have to be scaled.
    """
    factor = dark_factor(
        (master_dark.shape, master_dark.unit), (image.shape, image.unit), exptime, dark_exptime
    )
    # A dark that holds bias has lost none, so that there is nothing to cancel.
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
    """Return the number that a master dark is multiplied by for an image.

    Parameters
    ----------
    master_dark, image : ((int, int), str)
        Shape ``(ny, nx)`` and unit of each.
    exptime, dark_exptime : float
        Seconds, of the image and of the exposures that made the dark.

    Returns
    -------
    float
        `exptime` for a dark that is a rate; 1 for one in the image's unit, which still holds bias.

    Raises
    ------
    ValueError
        If shapes or units do not fit, or a dark that holds bias would have to be scaled: its bias would be
        scaled with it.
    """
    holds_bias = master_dark[1] == image[1]
    if holds_bias and not np.isclose(exptime, dark_exptime, rtol=SAME_EXPTIME, atol=0):
        raise ValueError(
            f"master dark of {dark_exptime:g} s still holds bias and can't be scaled; image has {exptime:g} s"
        )
    check_master("master dark", master_dark, (image[0], image[1] if holds_bias else f"{image[1]} / s"))
    return 1.0 if holds_bias else exptime


def flat_correct(image: Image, master_flat: Image) -> Image:
    """Return the image divided by the master flat f.

    Parameters
    ----------
    image : Image
        In any unit.
    master_flat : Image
        Same shape, without unit, 1 on average over its good pixels.

    Returns
    -------
    Image
        Data d / f, DQ the OR of both, and ``LOW_FLAT`` where f can't be divided by; same unit.

    Raises
    ------
    ValueError
        If shapes differ, or the flat has a unit.

    Notes
    -----
    Variance (V + (d/f)² V_flat) / f². The usual form (d/f)² (V/d² + V_flat/f²) is the same (Bevington & Robinson
    2003, chapter 3), but for d = 0, where it is NaN.

    Where the flat is excluded by its bits, or is 0, negative or NaN, it counts as 1 without error. The pixel is
    flagged anyway, and its value stays one that can be looked at.
    """
    check_master("master flat", (master_flat.shape, master_flat.unit), (image.shape, ""))
    return _applied(image, Applied(flat=master_flat))


def flag_bad_pixels(image: Image, bad_pixel_mask: Image) -> Image:
    """Return the image with the bits of a bad-pixel mask.

    Parameters
    ----------
    image : Image
        In any unit.
    bad_pixel_mask : Image
        Same shape; its unit and variance do not matter.

    Returns
    -------
    Image
        Same data and variance; DQ has the mask's bits too, and ``BAD_PIXEL`` where the mask's data are NaN or
        any number but 0.

    Raises
    ------
    ValueError
        If shapes differ.
    """
    if bad_pixel_mask.shape != image.shape:
        raise ValueError(f"bad pixel mask has shape {bad_pixel_mask.shape}, image has {image.shape}")
    # Masks come in two kinds: bits in a DQ plane, or an image of zeros and ones as IRAF and ccdproc make it.
    bad = np.where(bad_pixel_mask.data != 0, np.uint16(DQ.BAD_PIXEL), np.uint16(0))
    return replace(image, dq=image.dq | bad_pixel_mask.dq | bad)


def flag_cosmic_rays(image: Image, *, sigma: float, contrast: float) -> Image:
    """Return the image with ``COSMIC_RAY`` set where L.A.Cosmic finds a hit.

    Parameters
    ----------
    image : Image
        In electron.
    sigma : float
        Laplacian signal over noise of a hit.
    contrast : float
        Least contrast between the Laplacian image and the fine structure; higher spares the cores of sharp
        stars.

    Returns
    -------
    Image
        Same data and variance. Values are not replaced: a stack has better ones than neighbours are.

    Notes
    -----
    By `ccdproc.cosmicray_lacosmic`, with the image's own variance as the noise. Pixels that are excluded already,
    or not finite, are masked and never flagged. Those without a finite variance count as 1 electron².

    References
    ----------
    van Dokkum 2001, PASP 113, 1420.
    """
    # ccdproc takes a second to import, and most runs never need it.
    from astropy.nddata import CCDData
    from ccdproc import cosmicray_lacosmic

    # L.A.Cosmic convolves: one NaN would spread, so what is not finite is 0 and masked.
    bad = excluded(image.dq) | ~np.isfinite(image.data)
    data = np.where(np.isfinite(image.data), image.data, np.float32(0))
    variance = np.where(
        np.isfinite(image.variance), np.maximum(image.variance, LEAST_COSMIC_VARIANCE), np.float32(1)
    )
    # Read noise, gain and saturation are in the variance and the DQ already: ccdproc must not apply its own.
    cleaned = cosmicray_lacosmic(
        CCDData(data, unit="electron", mask=bad),
        sigclip=sigma,
        objlim=contrast,
        invar=variance,
        readnoise=0.0,
        satlevel=np.inf,
        gain_apply=False,
    )
    hits = cleaned.mask & ~bad
    return replace(image, dq=image.dq | np.where(hits, np.uint16(DQ.COSMIC_RAY), np.uint16(0)))
