"""Masters that other programs have made, as ours: in our units, with what is known of their noise."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ccdflow.cascade.headers.classify import Description
from ccdflow.cascade.headers.keywords import number
from ccdflow.recipes.core.dq import DQ, excluded
from ccdflow.recipes.core.image import Image, ImageSource
from ccdflow.recipes.core.recipe import InputProduct
from ccdflow.recipes.core.statistics import median
from ccdflow.recipes.detector.amplifiers import Detector, Section
from ccdflow.recipes.detector.finished import FULL_SCALE

CATEGORIES = {"bias": "master_bias", "dark": "master_dark", "flat": "master_flat"}
"""Class of the frames to the category of their master."""
COUNTS = ("NCOMBINE", "STACKCNT", "NCOADD", "NCOMB", "NSTACK", "NUMCOMB", "SNAPSHOT")
"""Cards that say how many frames a master is the average of."""


@dataclass(frozen=True)
class ForeignMaster:
    """How a master of another program becomes one of ours.

    Parameters
    ----------
    category : str
        ``master_bias``, ``master_dark`` or ``master_flat``.
    unit : str
        Of the data, once they are multiplied.
    factor : float
        What its numbers are multiplied by; a flat is divided by its median besides.
    variance : float or None
        In the square of the unit, of each pixel; None where nobody knows.
    """

    category: str
    unit: str
    factor: float
    variance: float | None

    @property
    def sentence(self) -> str:
        """What a doubt says of it."""
        noise = (
            "its noise is that of the frames in it"
            if self.variance
            else "its noise is not known and left out"
        )
        return f"offered as {self.category} in {self.unit or 'no unit'}; {noise}"


def foreign_master(
    described: Description, header: Mapping[str, Any], detector: Detector, shape: tuple[int, int]
) -> ForeignMaster | str:
    """Return how a master can be taken as one of ours, or why it can't honestly be.

    Parameters
    ----------
    described : Description
        What its header says; it is combined.
    header : mapping
        Its cards.
    detector : Detector
        As its header describes it.
    shape : tuple of int
        Of its array, ``(ny, nx)``.

    Returns
    -------
    ForeignMaster or str
        Its pixels must be those of trimmed frames, a bias must have lost the overscan if there is one, a dark and a
        flat their bias, and the gain be known where the numbers are adu.
    """
    done = frozenset() if described.finished is None else described.finished.done
    whole = Section.whole(shape)
    if len(detector.amplifiers) > 1 or detector.amplifiers[0].data != whole:
        return "its array still is that of the raw frames"
    if detector.amplifiers[0].overscan is not None and not done & {"overscan", "bias"}:
        return "whether its overscan is subtracted is not told"
    if described.frame_class != "bias" and "bias" not in done:
        return "whether its bias is subtracted is not told"
    if described.frame_class == "flat":
        return ForeignMaster("master_flat", "", 1.0, None)
    gain = 1.0 if "gain" in done else detector.amplifiers[0].gain
    if gain is None:
        return "its numbers are adu, and the gain is not known"
    factor = gain * (FULL_SCALE if "scaled" in done else 1.0)
    noise, frames = detector.amplifiers[0].read_noise, _frames(header)
    variance = None if noise is None or frames is None else noise**2 / frames
    if described.frame_class == "bias":
        return ForeignMaster("master_bias", "electron", factor, variance)
    if not described.exptime:
        return "its exposure time is not known"
    seconds = described.exptime
    rate = None if variance is None else variance / seconds**2
    return ForeignMaster("master_dark", "electron / s", factor / seconds, rate)


def _frames(header: Mapping[str, Any]) -> float | None:
    """How many frames it is the average of; None where it does not say."""
    told = (number(header.get(name)) for name in COUNTS)
    return next((count for count in told if count is not None and count > 1), None)


def as_ours(product: InputProduct, master: ForeignMaster) -> InputProduct:
    """Return a master of another program as recipes take masters.

    Parameters
    ----------
    product : InputProduct
        As its file has it.
    master : ForeignMaster
        How it becomes one of ours.

    Returns
    -------
    InputProduct
        In `ForeignMaster.unit`; a variance that its file states counts before what is known otherwise. What is not
        finite is ``NO_DATA``.
    """
    if product.image is None:
        return product
    factor = master.factor
    if master.category == "master_flat":
        factor /= _level(product.image)
    return replace(product, image=_Multiplied(product.image, factor, master.unit, master.variance or 0.0))


def _level(source: ImageSource) -> float:
    image = source.rows(slice(0, source.shape[0]))
    good = image.data[~excluded(image.dq) & np.isfinite(image.data)]
    level = float(median(good)) if good.size else 0.0
    if not level > 0:
        raise ValueError(f"the median of a master flat is {level:g}, above 0 is needed")
    return level


@dataclass(frozen=True)
class _Multiplied:
    """An image source in another unit."""

    source: ImageSource
    factor: float
    unit: str
    variance: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape

    def rows(self, rows: slice) -> Image:
        image = self.source.rows(rows)
        finite = np.isfinite(image.data)
        data = np.where(finite, image.data, np.float32(0)) * np.float32(self.factor)
        variance = image.variance * np.float32(self.factor**2)
        if not variance.any():
            variance = np.full(data.shape, self.variance, np.float32)
        dq = image.dq | np.where(finite, np.uint16(0), np.uint16(DQ.NO_DATA))
        return Image(data.astype(np.float32), variance, dq, self.unit)
