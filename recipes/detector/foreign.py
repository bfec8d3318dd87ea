"""Pixels of masters that other programs have made, in our units."""

from dataclasses import dataclass

import numpy as np

from ccdflow.recipes.core.dq import DQ, excluded
from ccdflow.recipes.core.image import Image, ImageSource
from ccdflow.recipes.core.statistics import median

STRIP_ROWS = 256
"""Rows that are looked at together."""


@dataclass(frozen=True)
class Multiplied:
    """An image source times a number, in another unit.

    Parameters
    ----------
    source : ImageSource
        Its pixels; what is not finite is ``NO_DATA``.
    factor : float
        What they are multiplied by.
    unit : str
        Of the product.
    variance : float or None
        In the square of the unit, of each pixel; None where the source states its own, which is multiplied by the
        square of the factor.
    """

    source: ImageSource
    factor: float
    unit: str
    variance: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns ``(ny, nx)``."""
        return self.source.shape

    def rows(self, rows: slice) -> Image:
        """Return some rows in the unit.

        Parameters
        ----------
        rows : slice
            Consecutive rows, counted from 0.

        Returns
        -------
        Image
            In new memory.
        """
        image = self.source.rows(rows)
        finite = np.isfinite(image.data)
        data = np.where(finite, image.data, np.float32(0)) * np.float32(self.factor)
        if self.variance is None:
            variance = (image.variance * np.float32(self.factor**2)).astype(np.float32)
        else:
            variance = np.full(data.shape, self.variance, np.float32)
        dq = image.dq | np.where(finite, np.uint16(0), np.uint16(DQ.NO_DATA))
        return Image(data.astype(np.float32), variance, dq, self.unit)


def states_variance(source: ImageSource) -> bool:
    """Tell whether an image has a variance: above 0 in any pixel.

    Parameters
    ----------
    source : ImageSource
        Read until one is found.
    """
    starts = range(0, source.shape[0], STRIP_ROWS)
    return any(source.rows(slice(start, start + STRIP_ROWS)).variance.any() for start in starts)


def flat_level(source: ImageSource) -> float:
    """Return the level of a master flat, by which it is divided.

    Parameters
    ----------
    source : ImageSource
        Read whole.

    Returns
    -------
    float
        Median of its good pixels.

    Raises
    ------
    ValueError
        If it is not above 0.
    """
    image = source.rows(slice(0, source.shape[0]))
    good = image.data[~excluded(image.dq) & np.isfinite(image.data)]
    level = float(median(good)) if good.size else 0.0
    if not level > 0:
        raise ValueError(f"the median of a master flat is {level:g}, above 0 is needed")
    return level
