"""What each program is given of a product: one image in a file, and maps beside it, under the names that it looks for.

Each choice was tried (``docs/peers.md``): what stands in a pixel without a value, whether photons are counted once, and
which cards a program takes for its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.core.dq import DQ, EXCLUDED, excluded
from ccdflow.recipes.core.image import FloatArray, Image

if TYPE_CHECKING:
    from astropy.io.fits import HDUList, Header

UNKNOWN_SATURATION = 1e30
"""SATURATE of a product of which nobody knows it: without a card programs take a level of their own, mostly 50000."""
SCALE_CARD = "CCDSCALE"
_NO_STARS = 3.0
"""Standard deviations above the sky from which on a pixel's photons are taken for those of a star."""


@dataclass(frozen=True)
class Given:
    """What is to be written of a product.

    Parameters
    ----------
    image : Image
        All of its pixels.
    header : Header
        Its cards; each file gets a copy.
    stem : str
        Name of the files without ending.
    scale : float
        What the data are divided by, for a program that takes numbers from 0 to 1.
    """

    image: Image
    header: "Header"
    stem: str
    scale: float = 1.0


Files = Mapping[str, "HDUList"]
"""What stands behind the stem in a file's name, and the file's content."""


def _sextractor(given: Given) -> Files:
    """Data, weights that let saturated cores be, and flags; no GAIN, since the variance has the photons already."""
    image = given.image
    header = _saturation(given.header.copy())
    # With a GAIN in the header the stars' photons would be counted twice, whatever the options say.
    if "GAIN" in header:
        header.rename_keyword("GAIN", "GAINDATA")
    # A core without weight is filled up by source-extractor, which then does not flag it as saturated.
    usable = image.dq & ~np.uint16(DQ.SATURATED)
    weights = _weights(image, excluded(usable))
    flags = _flagged(image).dq.astype(np.int16)
    return {
        ".fits": _one(_finite(image.data), header),
        ".weight.fits": _one(weights, _beside(header, "1 / variance, 0 where excluded")),
        ".flag.fits": _one(flags, _beside(header, "bits of DQ")),
    }


def _swarp(given: Given) -> Files:
    """Data, and weights beside them under the name that SWarp finds by itself."""
    header = _saturation(given.header.copy())
    header.setdefault("GAIN", 0.0)
    weights = _weights(given.image, excluded(given.image.dq))
    return {
        ".fits": _one(_finite(given.image.data), header),
        ".weight.fits": _one(weights, _beside(header, "1 / variance, 0 where excluded")),
    }


def _siril(given: Given) -> Files:
    """Data between 0 and 1; excluded pixels are 0, which Siril leaves out, but for saturated cores: stars need them."""
    image, header = given.image, given.header.copy()
    bad = excluded(image.dq & ~np.uint16(DQ.SATURATED)) | ~np.isfinite(image.data)
    scaled = np.where(bad, 0, image.data / np.float32(given.scale)).astype(np.float32)
    header[SCALE_CARD] = given.scale, "the data times this are in BUNIT"
    if "SATURATE" in header:
        header["SATURATE"] /= given.scale
    return {".fits": _one(scaled, header)}


def _iraf(given: Given) -> Files:
    """Data without NaN and check sums, and the mask that their card BPM names."""
    header = given.header.copy()
    header["BPM"] = f"{given.stem}.bpm.fits"
    mask = (_flagged(given.image).dq & EXCLUDED).astype(np.int32)
    return {
        ".fits": _one(_finite(given.image.data), header),
        ".bpm.fits": _one(mask, _beside(given.header, "bits of DQ that exclude; 0 is good")),
    }


def _gnuastro(given: Given) -> Files:
    """An empty first HDU, data with NaN, and the variance of the sky: its programs add the photons themselves."""
    from astropy.io import fits

    image = given.image
    data = np.where(excluded(image.dq), np.float32(np.nan), image.data)
    gain = float(given.header.get("GAIN") or 1.0)
    planes = {"SCI": data, "VAR": sky_variance(image, gain)}
    hdus = [fits.ImageHDU(plane, given.header.copy(), name=name) for name, plane in planes.items()]
    hdus[1].header["CONTENT"] = "variance of the sky, without photons of stars"
    hdus[1].header["BUNIT"] = f"({given.image.unit})**2" if given.image.unit else ""
    return {".fits": fits.HDUList([fits.PrimaryHDU(), *hdus])}


def _plain(given: Given) -> Files:
    """Data, standard deviation and mask, an image in each file."""
    image = given.image
    mask = (excluded(_flagged(image).dq) | ~np.isfinite(image.variance)).astype(np.uint8)
    return {
        ".fits": _one(image.data, given.header.copy()),
        ".std.fits": _one(np.sqrt(image.variance), _beside(given.header, "standard deviation")),
        ".mask.fits": _one(mask, _beside(given.header, "1 where excluded")),
    }


def _shown(given: Given) -> Files:
    """Data with NaN where they are excluded, for programs that people look at images with."""
    image = given.image
    bad = excluded(image.dq & ~np.uint16(DQ.SATURATED))
    return {".fits": _one(np.where(bad, np.float32(np.nan), image.data), given.header.copy())}


def sky_variance(image: Image, gain: float) -> FloatArray:
    """Return the variance without the photons of stars.

    Parameters
    ----------
    image : Image
        Data and variance, shape (ny, nx).
    gain : float
        Electron for each unit of the data.

    Returns
    -------
    float32 array, shape (ny, nx)
        Above the sky the variance less D / gain for what stands above it; the typical one where that leaves nothing.

    Notes
    -----
    The variance of a pixel with D above the sky is that of the sky + D / gain. Noise must not follow itself: only what
    is well above the sky counts as light of stars.
    """
    good = ~excluded(image.dq) & np.isfinite(image.data) & (image.variance > 0)
    if not good.any():
        return image.variance.copy()
    sky, typical = np.median(image.data[good]), np.median(image.variance[good])
    above = image.data - sky
    stars = above > _NO_STARS * np.sqrt(typical)
    reduced = image.variance - np.where(stars, above / gain, 0)
    return np.where(reduced > 0.5 * typical, reduced, typical).astype(np.float32)


def largest(image: Image) -> float:
    """Return the largest value that a program is given which takes saturated pixels as they are.

    Parameters
    ----------
    image : Image
        Data of shape (ny, nx).

    Returns
    -------
    float
        0 where there is none.
    """
    kept = ~excluded(image.dq & ~np.uint16(DQ.SATURATED)) & np.isfinite(image.data)
    return float(np.abs(image.data, where=kept, out=np.zeros_like(image.data)).max(initial=0))


def _flagged(image: Image) -> Image:
    """The image with NO_DATA where its data are no numbers, whatever its flags say."""
    lacking = np.where(np.isfinite(image.data), np.uint16(0), np.uint16(DQ.NO_DATA))
    return Image(image.data, image.variance, image.dq | lacking, image.unit)


def _weights(image: Image, bad: NDArray[np.bool_]) -> FloatArray:
    if not (image.variance > 0).any():
        # Nobody knows the noise: without weights nothing would be found at all.
        return (~bad & np.isfinite(image.data)).astype(np.float32)
    known = ~bad & np.isfinite(image.data) & np.isfinite(image.variance) & (image.variance > 0)
    return np.divide(1, image.variance, out=np.zeros_like(image.variance), where=known)


def _finite(data: FloatArray) -> FloatArray:
    return np.where(np.isfinite(data), data, np.float32(0))


def _saturation(header: "Header") -> "Header":
    if "SATURATE" not in header:
        header["SATURATE"] = UNKNOWN_SATURATION, "not known"
    return header


def _beside(header: "Header", content: str) -> "Header":
    """The header of a map: where it lies on the sky, and what it holds."""
    from astropy.io.fits import Header

    kept = [
        card
        for card in header.cards
        if card.keyword[:2] in ("CT", "CR", "CD", "PC", "PV", "LO", "LA", "RA", "EQ")
    ]
    return Header([*kept, ("CONTENT", content)])


def _one(pixels: NDArray[Any], header: "Header") -> "HDUList":
    from astropy.io import fits

    return fits.HDUList([fits.PrimaryHDU(pixels, header)])


WEIGHTED = ("sextractor", "swarp")
"""Programs that are given weights."""

WRITERS: Mapping[str, Callable[[Given], Files]] = {
    "siril": _siril,
    "sextractor": _sextractor,
    "swarp": _swarp,
    "iraf": _iraf,
    "gnuastro": _gnuastro,
    "aij": _shown,
    "ds9": _shown,
    "plain": _plain,
}
"""Program to what writes for it."""
