"""A part of a product: a master of the full frame serves a frame of which a window was read out."""

from dataclasses import dataclass, replace

import numpy as np

from ccdflow.recipes.core.image import Image, ImageSource
from ccdflow.recipes.core.recipe import InputProduct


@dataclass(frozen=True)
class CutSource:
    """A rectangle of another image, read from it strip by strip.

    Parameters
    ----------
    source : ImageSource
        The whole.
    first : tuple of int
        Its row and column that come first, counted from 0.
    shape : tuple of int
        Rows and columns ``(ny, nx)``.
    """

    source: ImageSource
    first: tuple[int, int]
    shape: tuple[int, int]

    @property
    def unit(self) -> str:
        """Unit of the data, as FITS writes it."""
        return self.source.unit

    def rows(self, rows: slice) -> Image:
        """Return some rows: data, variance and DQ as the whole has them.

        Parameters
        ----------
        rows : slice
            Consecutive rows of the rectangle, counted from 0.

        Returns
        -------
        Image
            C-contiguous planes of shape ``(rows, nx)``, since kernels take no others.
        """
        start, stop, _ = rows.indices(self.shape[0])
        y, x = self.first
        whole = self.source.rows(slice(y + start, y + stop))
        columns = slice(x, x + self.shape[1])
        data, variance = (np.ascontiguousarray(plane[:, columns]) for plane in (whole.data, whole.variance))
        return Image(data, variance, np.ascontiguousarray(whole.dq[:, columns]), whole.unit)


def cut_product(product: InputProduct, first: tuple[int, int], shape: tuple[int, int]) -> InputProduct:
    """Return a rectangle of a product.

    Parameters
    ----------
    product : InputProduct
        With an image, not changed.
    first : tuple of int
        Row and column of it that come first, counted from 0.
    shape : tuple of int
        Rows and columns ``(ny, nx)`` of what is left.

    Returns
    -------
    InputProduct
        With the same header; data, variance, DQ and the masters' part of the variance are cut alike.

    Raises
    ------
    ValueError
        If the rectangle does not lie inside, or the product has no image.
    """
    if product.image is None:
        raise ValueError(f"{product.name} has no pixels to be cut")
    ny, nx = product.image.shape
    (y, x), (rows, columns) = first, shape
    if min(y, x) < 0 or y + rows > ny or x + columns > nx:
        wanted = f"[{x + 1}:{x + columns},{y + 1}:{y + rows}]"
        raise ValueError(f"{product.name} has {nx} columns and {ny} rows, wanted {wanted} of it")
    masters = product.calibration_variance
    return replace(
        product,
        image=CutSource(product.image, first, shape),
        calibration_variance=None if masters is None else CutSource(masters, first, shape),
    )
