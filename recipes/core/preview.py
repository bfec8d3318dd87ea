"""A picture of an image: what a dashboard or a README shows of it."""

from collections.abc import Sequence
from io import BytesIO
from typing import Literal

import numpy as np
from astropy.visualization import ZScaleInterval
from numpy.typing import NDArray
from PIL import Image as Picture

from ccdflow.recipes.core.dq import DQ, DQArray
from ccdflow.recipes.core.image import FloatArray

Stretch = Literal["asinh", "linear"]

_SOFTENING = 5.0
"""asinh turns from linear to logarithmic at a fifth of the range of zscale."""
_WHITE = 0.9999
"""Fraction of the pixels that are darker than white: the rest are cores of stars, which may burn out."""
_SKY = 0.2
"""Height of the sky above black in a picture in colour, in ranges of zscale."""
_LEAST_RANGE = 20.0
"""White is at least so many ranges of zscale above black, so that an empty sky is dark."""


def preview(
    data: FloatArray, dq: DQArray | None = None, *, most: int = 1200, stretch: Stretch = "asinh"
) -> NDArray[np.uint8]:
    """Return the grey values of an image, its first row at the bottom of the picture.

    Parameters
    ----------
    data : float32 array, shape (ny, nx)
        In any unit; NaN and infinity count as pixels without data.
    dq : uint16 array, shape (ny, nx), optional
        Where it has ``NO_DATA``, the picture is black; other flagged pixels are shown as they are.
    most : int
        Larger images are averaged in blocks, until neither side has more pixels than that.
    stretch : {'asinh', 'linear'}
        ``linear`` runs over the range of IRAF's zscale; ``asinh`` goes on to the brightest 0.01 % of the
        pixels, so that faint and bright stars are both seen.

    Returns
    -------
    uint8 array, shape at most (most, most)
        0 is black and means no data, or as dark as that. All 0 if no pixel has data.

    References
    ----------
    zscale is IRAF's (``display``), by `astropy.visualization.ZScaleInterval`; the asinh stretch is that of Lupton
    et al. 2004, PASP 116, 133.
    """
    missing = ~np.isfinite(data)
    if dq is not None:
        missing |= (dq & np.uint16(DQ.NO_DATA)) != 0
    # The mean of a block, not every n-th pixel: stars narrower than a block would come and go.
    blocks = _block_mean(np.where(missing, np.nan, data), -(-max(data.shape) // most))
    seen = np.isfinite(blocks)
    if not seen.any():
        return np.zeros(blocks.shape, np.uint8)
    low, high = ZScaleInterval().get_limits(blocks[seen])
    # A constant image has no range: the least number that divides makes it black instead of NaN.
    value = (np.where(seen, blocks, low) - low) / max(high - low, 1e-30)
    if stretch == "asinh":
        brightest = max(float(np.quantile(value[seen], _WHITE)), _LEAST_RANGE)
        value = np.arcsinh(_SOFTENING * value) / np.arcsinh(_SOFTENING * brightest)
    grey = np.rint(255 * np.clip(value, 0, 1)).astype(np.uint8)
    return np.where(seen, grey, np.uint8(0))[::-1]


def colour_preview(
    planes: Sequence[FloatArray], dqs: Sequence[DQArray], *, most: int = 1200
) -> NDArray[np.uint8]:
    """Return the picture of three images as red, green and blue, its first row at the bottom.

    Parameters
    ----------
    planes : sequence of three float32 arrays, shape (ny, nx)
        Red, green and blue, in one unit.
    dqs : sequence of three uint16 arrays, shape (ny, nx)
        Where one has ``NO_DATA``, the picture is black.
    most : int
        As for `preview`.

    Returns
    -------
    uint8 array, shape at most (most, most, 3)
        The sky is grey; what is above it keeps its ratios, stretched by asinh of the three together.

    Raises
    ------
    ValueError
        If the planes differ in shape.
    """
    shapes = {plane.shape for plane in planes}
    if len(planes) != 3 or len(shapes) != 1:
        found = ", ".join(str(plane.shape) for plane in planes)
        raise ValueError(f"found images of {found}; a picture in colour needs three of one shape")
    size = -(-max(planes[0].shape) // most)
    blocks = [
        _block_mean(np.where(np.isfinite(plane) & (dq & np.uint16(DQ.NO_DATA) == 0), plane, np.nan), size)
        for plane, dq in zip(planes, dqs, strict=True)
    ]
    seen = np.all([np.isfinite(block) for block in blocks], axis=0)
    if not seen.any():
        return np.zeros((*seen.shape, 3), np.uint8)
    limits = [ZScaleInterval().get_limits(block[seen]) for block in blocks]
    # One range for all three, or a red star would be as white as any other.
    width = max(float(np.mean([high - low for low, high in limits])), 1e-30)
    # The sky is grey, whatever noise each colour has: its median stands equally far above black in all.
    blacks = [float(np.median(block[seen])) - _SKY * width for block in blocks]
    value = [np.where(seen, block - black, 0) / width for block, black in zip(blocks, blacks, strict=True)]
    light = np.maximum(np.mean(value, axis=0), 1e-6)
    brightest = max(float(np.quantile(light[seen], _WHITE)), _LEAST_RANGE)
    factor = np.arcsinh(_SOFTENING * light) / np.arcsinh(_SOFTENING * brightest) / light
    colours = np.clip(np.stack([part * factor for part in value], axis=-1), 0, None)
    # What is too bright in one colour is made fainter in all: cut off alone it would change its hue.
    colours /= np.maximum(colours.max(axis=-1, keepdims=True), 1)
    picture: NDArray[np.uint8] = np.rint(255 * np.where(seen[..., None], colours, 0)).astype(np.uint8)[::-1]
    return picture


def png(grey: NDArray[np.uint8]) -> bytes:
    """Return a picture as the bytes of a PNG file.

    Parameters
    ----------
    grey : uint8 array, shape (ny, nx) or (ny, nx, 3)
        As from `preview` or `colour_preview`; the first row is at the top.

    Returns
    -------
    bytes
    """
    stream = BytesIO()
    Picture.fromarray(grey).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _block_mean(data: NDArray[np.floating], block: int) -> NDArray[np.float64]:
    """Mean of what is finite in blocks of `block` × `block` pixels; NaN where nothing is."""
    # -(-a // b) rounds up: blocks at the far edges may be partly outside, where NaN stands.
    ny, nx = (-(-size // block) for size in data.shape)
    padded = np.full((ny * block, nx * block), np.nan)
    padded[: data.shape[0], : data.shape[1]] = data
    boxes = padded.reshape(ny, block, nx, block)
    count = np.isfinite(boxes).sum(axis=(1, 3))
    total = np.nansum(boxes, axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
