"""The frames of a stack: each measured once, then placed on the grid of the reference, with fallbacks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ccdflow.recipes.alignment.asterisms import SEARCH_RADIUS, match
from ccdflow.recipes.alignment.register import (
    NoMatchError,
    Registration,
    register_correlation,
    register_stars,
    register_wcs,
    residual_rms,
)
from ccdflow.recipes.alignment.transform import Transform
from ccdflow.recipes.core.dq import excluded
from ccdflow.recipes.core.image import Image, ImageSource
from ccdflow.recipes.core.recipe import InputProduct
from ccdflow.recipes.core.statistics import SAMPLE, median
from ccdflow.recipes.kernels.threads import in_threads
from ccdflow.recipes.stars.sources import Detection, Stars, find_stars, subtract_background

Register = Literal["none", "shift", "affine", "wcs"]

_SNAP = 0.03
"""Pixels: a transform so close to a shift by whole pixels is one, since interpolation would cost more."""
_FEWEST_STARS = 3
KEPT_BYTES = 200_000_000
"""If all frames take no more than that, they stay in memory once they were measured, and are not read again."""
BYTES_PER_PIXEL = 10


@dataclass(frozen=True)
class Placing:
    """How frames are placed: see the fields of the same names in `ccdflow.recipes.stack.StackParameters`."""

    register: Register
    reference: Literal["first", "sharpest"]
    max_residual: float
    detection: Detection


@dataclass(frozen=True)
class Frame:
    """One frame of the stack, and what was measured in it.

    Parameters
    ----------
    product : InputProduct
        As the recipe was given it.
    source : ImageSource
        Its pixels, in memory or where they were.
    stars : Stars
        With the sky's level and scatter.
    variance : float
        Typical (median) variance of its good pixels.
    """

    product: InputProduct
    source: ImageSource
    stars: Stars
    variance: float

    @property
    def name(self) -> str:
        """File name, for messages."""
        return self.product.name

    def read(self) -> Image:
        """All its pixels."""
        return self.source.rows(slice(0, self.source.shape[0]))


def measure_all(products: Sequence[InputProduct], detection: Detection) -> list[Frame]:
    """Each product measured, in order; as many at a time as there are cores.

    They stay in memory if all together are small (`KEPT_BYTES`).

    Raises
    ------
    ValueError
        As `measure`.
    """

    def work(numbered: Iterator[tuple[int, InputProduct]]) -> list[tuple[int, Frame]]:
        return [(number, measure(product, detection, keep=keep)) for number, product in numbered]

    pixels = sum(product.image.shape[0] * product.image.shape[1] for product in products if product.image)
    keep = pixels * BYTES_PER_PIXEL <= KEPT_BYTES
    found = [one for part in in_threads(work, enumerate(products)) for one in part]
    return [frame for _, frame in sorted(found, key=lambda one: one[0])]


def measure(product: InputProduct, detection: Detection, *, keep: bool = False) -> Frame:
    """Stars, sky and typical variance of one frame, which is in memory only meanwhile unless it is to be kept.

    Raises
    ------
    ValueError
        If it holds no image, or none of its pixels is good.
    """
    if product.image is None:
        raise ValueError(f"{product.name} holds no image; a stack needs images")
    image = product.image.rows(slice(0, product.image.shape[0]))
    variance = _typical_variance(image)
    if variance is None:
        raise ValueError(f"none of the {image.data.size} pixels of {product.name} is good; stack without it")
    return Frame(product, image if keep else product.image, find_stars(image, detection), variance)


def _typical_variance(image: Image) -> float | None:
    """Median variance of the good pixels among some evenly spread ones, or of all; None without a good one."""
    for step in (image.data.size // SAMPLE | 1, 1):
        data, variance = image.data.ravel()[::step], image.variance.ravel()[::step]
        good = ~excluded(image.dq.ravel()[::step]) & np.isfinite(data) & np.isfinite(variance)
        if good.any():
            return float(median(variance[good]))
    return None


def choose_reference(frames: Sequence[Frame], placing: Placing) -> int:
    """Index of the frame that the others are placed upon.

    The first, or the one with the smallest FWHM; where stars are needed, of those that have at least three.
    """
    able = [i for i, frame in enumerate(frames) if int(frame.stars.usable.sum()) >= _FEWEST_STARS]
    if placing.register in ("none", "wcs") or not able:
        able = list(range(len(frames)))
    if placing.reference == "first":
        return able[0]
    return min(able, key=lambda i: (np.nan_to_num(frames[i].stars.fwhm, nan=np.inf), i))


def place(frame: Frame, reference: Frame, placing: Placing) -> tuple[Registration, str | None]:
    """Where `frame` lies on the reference's grid, and a sentence of warning where that took a fallback.

    Raises
    ------
    ValueError
        If every way fails; the message names the frame and what was found.
    """
    if frame is reference:
        return Registration(Transform(), "reference"), None
    if placing.register == "none":
        return Registration(Transform(), "none"), None
    if placing.register == "wcs":
        return _by_wcs(frame, reference, placing), None
    model: Literal["shift", "affine"] = placing.register
    try:
        found = register_stars(reference.stars, frame.stars, model, placing.max_residual)
    except NoMatchError as error:
        return _by_correlation(frame, reference, placing, str(error))
    warning = None
    if found.method != model:
        warning = f"{frame.name}: {found.matches} matched stars allow a {found.method} only, not {model}"
    return _on_pixels(found, frame, reference, model), warning


def _by_wcs(frame: Frame, reference: Frame, placing: Placing) -> Registration:
    shape = reference.source.shape
    try:
        found = register_wcs(reference.product.header, frame.product.header, shape, placing.max_residual)
    except NoMatchError as error:
        message = f"{frame.name} cannot be placed on {reference.name} by their WCS: {error}"
        raise ValueError(message) from error
    found = replace(found, transform=found.transform.snapped(shape, _SNAP))
    a, b = reference.stars.positions(), frame.stars.positions()
    pairs = match(a, b, found.transform, SEARCH_RADIUS)
    found = replace(found, matches=len(pairs), pairs=pairs)
    return replace(found, rms=residual_rms(reference.stars, frame.stars, found))


def _by_correlation(
    frame: Frame, reference: Frame, placing: Placing, found: str
) -> tuple[Registration, str | None]:
    detection = placing.detection
    a, b = (subtract_background(each.read(), detection) for each in (reference, frame))
    sigma = max(reference.stars.background_sigma, frame.stars.background_sigma)
    try:
        result = register_correlation(a, b, sigma)
    except NoMatchError as error:
        message = f"{frame.name} cannot be registered on {reference.name}: {found}; {error}"
        raise ValueError(message) from error
    return result, f"{frame.name}: registered by cross-correlation to whole pixels, since {found}"


def _on_pixels(
    found: Registration, frame: Frame, reference: Frame, model: Literal["shift", "affine"]
) -> Registration:
    """Shifts become whole pixels, and what is almost one; the residuals are those of what is then done."""
    at = found.transform
    if model == "shift":
        at = Transform(float(np.rint(at.dx)), float(np.rint(at.dy)))
    else:
        at = at.snapped(reference.source.shape, _SNAP)
    found = replace(found, transform=at)
    return replace(found, rms=residual_rms(reference.stars, frame.stars, found))


@dataclass(frozen=True)
class Placed:
    """A frame with all that is done to it before it is averaged.

    On the reference's grid its pixels become ``scale * (pixel + level)``, so that its sky stands near 0.
    """

    frame: Frame
    registration: Registration
    scale: float
    level: float
    weight: float
