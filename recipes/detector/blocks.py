"""Pixels of one amplifier alone, and the blocks in which their noise is measured."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.core.image import Image
from ccdflow.recipes.detector.amplifiers import Detector, RawFrame, Section
from ccdflow.recipes.detector.raw import Overscan, PreparedFrame
from ccdflow.recipes.detector.readout import Readout

OUTLIER = 5.0
"""Standard deviations beyond which a pixel's difference was hit by something; of good pixels one in two million is."""
BLOCK = 32
"""Side in pixels of a block: within it dark current, the glow of amplifiers and a change of light are even."""
NOISE_PIXELS = 200_000
"""Pixels in the middle of an amplifier by which noise is known to 0.2 %; more would only cost time."""


def middle_rows(shape: tuple[int, int], pixels: int | None, block: int = BLOCK) -> slice:
    """Return the rows in the middle of an image that hold about so many pixels.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    pixels : int or None
        How many; None for all.
    block : int
        Rows at least, if there are as many.
    """
    if pixels is None:
        return slice(None)
    height = max(pixels // shape[1], block)
    first = max(0, (shape[0] - height) // 2)
    return slice(first, min(shape[0], first + height))


def amplifier_rows(
    frame: RawFrame,
    number: int,
    overscan: Overscan,
    *,
    gain: float = 1.0,
    pixels: int | None = NOISE_PIXELS,
    block: int = BLOCK,
) -> Image:
    """Return pixels of one amplifier.

    Parameters
    ----------
    frame : RawFrame
        The raw frame.
    number : int
        The amplifier, from 0.
    overscan : {'level', 'row', 'none'}
        How the overscan is subtracted.
    gain : float
        Electron per adu; with 1 the data are adu.
    pixels, block : int
        See `middle_rows`.

    Returns
    -------
    Image
        Without variance but that of nothing known: the read noise is 0.
    """
    amplifier = frame.detector.amplifiers[number]
    alone = replace(amplifier, target=Section.whole(amplifier.data.shape))
    detector = Detector(alone.data.shape, (alone,))
    prepared = PreparedFrame(replace(frame, detector=detector), Readout((gain,), (0.0,)), overscan=overscan)
    return prepared.rows(middle_rows(prepared.shape, pixels, block))


def blocks(plane: NDArray[np.floating[Any]], side: int = BLOCK) -> NDArray[np.float64]:
    """Return square blocks of an image.

    Parameters
    ----------
    plane : array of float, shape (ny, nx)
        In any unit.
    side : int
        Of a block, in pixels; where an image is smaller, the block is as small.

    Returns
    -------
    float64 array, shape (blocks, pixels)
        What is left over at the far edges is in none.
    """
    ny, nx = (max(1, size // side) for size in plane.shape)
    height, width = min(side, plane.shape[0]), min(side, plane.shape[1])
    cut = plane[: ny * height, : nx * width].reshape(ny, height, nx, width).astype(np.float64)
    cells: NDArray[np.float64] = cut.swapaxes(1, 2).reshape(ny * nx, height * width)
    return cells
