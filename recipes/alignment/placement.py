"""The frames of a stack: each measured once, then registered on the grid of the reference, with fallbacks.

| asked for | done | where that fails |
|---|---|---|
| ``none`` | nothing | |
| ``shift`` | stars, rounded to whole pixels | cross-correlation |
| ``affine`` | stars; similarity or shift where there are few | cross-correlation |
| ``wcs`` | world coordinates of both headers | an error |

A fallback is told by a warning. A frame of which every way fails stops the stack, since a frame left out silently, or
put at a wrong place, would spoil it unseen.
"""

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
"""Stars that a reference needs, as many as the simplest model does."""
KEPT_BYTES = 200_000_000
"""If all frames take no more than that, they stay in memory once they were measured, and are not read again."""
BYTES_PER_PIXEL = 10
"""Of an image: data and variance in float32, flags in uint16."""


@dataclass(frozen=True)
class RegistrationOptions:
    """How frames are registered: see the fields of the same names in `ccdflow.recipes.stack.StackParameters`."""

    register: Register
    reference: Literal["first", "sharpest"]
    max_residual: float
    detection: Detection


@dataclass(frozen=True)
class MeasuredFrame:
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
        """Return all its pixels."""
        return self.source.rows(slice(0, self.source.shape[0]))


def measure_all(products: Sequence[InputProduct], detection: Detection) -> list[MeasuredFrame]:
    """Measure each product, as many at a time as there are cores.

    Parameters
    ----------
    products : sequence of InputProduct
        Calibrated frames.
    detection : Detection
        How stars are found.

    Returns
    -------
    list of MeasuredFrame
        In the order of `products`. They stay in memory if all together are small (`KEPT_BYTES`).

    Raises
    ------
    ValueError
        As `measure`.
    """

    def work(numbered: Iterator[tuple[int, InputProduct]]) -> list[tuple[int, MeasuredFrame]]:
        return [(number, measure(product, detection, keep=keep)) for number, product in numbered]

    pixels = sum(product.image.shape[0] * product.image.shape[1] for product in products if product.image)
    keep = pixels * BYTES_PER_PIXEL <= KEPT_BYTES
    measured = [pair for part in in_threads(work, enumerate(products)) for pair in part]
    return [frame for _, frame in sorted(measured, key=lambda pair: pair[0])]


def measure(product: InputProduct, detection: Detection, *, keep: bool = False) -> MeasuredFrame:
    """Measure stars, sky and typical variance of one frame.

    Parameters
    ----------
    product : InputProduct
        A calibrated frame.
    detection : Detection
        How stars are found.
    keep : bool
        Whether its pixels stay in memory; else they are there only while it is measured.

    Returns
    -------
    MeasuredFrame
        Its typical variance is in the image's unit squared.

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
    return MeasuredFrame(product, image if keep else product.image, find_stars(image, detection), variance)


def _typical_variance(image: Image) -> float | None:
    """Return the median variance of the good pixels among some evenly spread ones, or of all; None without any."""
    # An odd step, so that a pattern of every second column is not all that is seen.
    for step in (image.data.size // SAMPLE | 1, 1):
        data, variance = image.data.ravel()[::step], image.variance.ravel()[::step]
        good = ~excluded(image.dq.ravel()[::step]) & np.isfinite(data) & np.isfinite(variance)
        if good.any():
            return float(median(variance[good]))
    return None


def choose_reference(frames: Sequence[MeasuredFrame], options: RegistrationOptions) -> int:
    """Choose the frame that the others are registered on.

    Parameters
    ----------
    frames : sequence of MeasuredFrame
        At least one.
    options : RegistrationOptions
        `reference` says which is wanted.

    Returns
    -------
    int
        Index of the first, or of the one with the smallest FWHM; where stars are needed, of those that have at least
        three.
    """
    able = [i for i, frame in enumerate(frames) if int(frame.stars.usable.sum()) >= _FEWEST_STARS]
    if options.register in ("none", "wcs") or not able:
        able = list(range(len(frames)))
    if options.reference == "first":
        return able[0]
    return min(able, key=lambda i: (np.nan_to_num(frames[i].stars.fwhm, nan=np.inf), i))


def register_frame(
    frame: MeasuredFrame, reference: MeasuredFrame, options: RegistrationOptions
) -> tuple[Registration, str | None]:
    """Find out where a frame lies on the reference's grid.

    Parameters
    ----------
    frame, reference : MeasuredFrame
        The reference itself lies where it is.
    options : RegistrationOptions
        `register` says which way is asked for, `max_residual` how well it must fit, in pixels.

    Returns
    -------
    registration : Registration
        With the method that was used.
    warning : str or None
        A sentence, where that took a fallback.

    Raises
    ------
    ValueError
        If every way fails; the message names the frame and what was found.
    """
    if frame is reference:
        return Registration(Transform(), "reference"), None
    if options.register == "none":
        return Registration(Transform(), "none"), None
    if options.register == "wcs":
        return _by_wcs(frame, reference, options), None
    model: Literal["shift", "affine"] = options.register
    # Stars, with a simpler model if few match; without a match the correlation of all that is bright.
    try:
        registration = register_stars(reference.stars, frame.stars, model, options.max_residual)
    except NoMatchError as error:
        return _by_correlation(frame, reference, options, str(error))
    warning = None
    if registration.method != model:
        warning = f"{frame.name}: {registration.matches} matched stars allow a {registration.method} only, not {model}"
    return _on_pixels(registration, frame, reference, model), warning


def _by_wcs(frame: MeasuredFrame, reference: MeasuredFrame, options: RegistrationOptions) -> Registration:
    shape = reference.source.shape
    try:
        registration = register_wcs(
            reference.product.header, frame.product.header, shape, options.max_residual
        )
    except NoMatchError as error:
        message = f"{frame.name} cannot be placed on {reference.name} by their WCS: {error}"
        raise ValueError(message) from error
    registration = replace(registration, transform=registration.transform.snapped(shape, _SNAP))
    # Stars do not decide here, but tell how well the WCS fits, and by how much fluxes differ.
    a, b = reference.stars.positions(), frame.stars.positions()
    pairs = match(a, b, registration.transform, SEARCH_RADIUS)
    registration = replace(registration, matches=len(pairs), pairs=pairs)
    return replace(registration, rms=residual_rms(reference.stars, frame.stars, registration))


def _by_correlation(
    frame: MeasuredFrame, reference: MeasuredFrame, options: RegistrationOptions, cause: str
) -> tuple[Registration, str | None]:
    detection = options.detection
    a, b = (subtract_background(measured.read(), detection) for measured in (reference, frame))
    sigma = max(reference.stars.background_sigma, frame.stars.background_sigma)
    try:
        result = register_correlation(a, b, sigma)
    except NoMatchError as error:
        message = f"{frame.name} cannot be registered on {reference.name}: {cause}; {error}"
        raise ValueError(message) from error
    return result, f"{frame.name}: registered by cross-correlation to whole pixels, since {cause}"


def _on_pixels(
    registration: Registration,
    frame: MeasuredFrame,
    reference: MeasuredFrame,
    model: Literal["shift", "affine"],
) -> Registration:
    """Shifts become whole pixels, and what is almost one; the residuals are those of what is then done."""
    at = registration.transform
    if model == "shift":
        at = Transform(float(np.rint(at.dx)), float(np.rint(at.dy)))
    else:
        at = at.snapped(reference.source.shape, _SNAP)
    registration = replace(registration, transform=at)
    return replace(registration, rms=residual_rms(reference.stars, frame.stars, registration))


@dataclass(frozen=True)
class RegisteredFrame:
    """A frame with all that is done to it before it is averaged.

    On the reference's grid its pixels become ``scale * (pixel + level)``, so that its sky stands near 0.
    """

    frame: MeasuredFrame
    registration: Registration
    scale: float
    level: float
    weight: float
