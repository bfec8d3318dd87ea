"""The frames of a stack: each measured once, then registered on the grid of the reference, with fallbacks.

| asked for | done | where that fails |
|---|---|---|
| ``none`` | nothing | |
| ``shift`` | stars, rounded to whole pixels | cross-correlation |
| ``affine`` | stars; similarity or shift where there are few | cross-correlation |
| ``wcs`` | world coordinates of both headers, if stars do not contradict them | |

A fallback is told by a warning. A frame of which every way fails is an `UnfitFrameError`: the stack is made of the
others (`ccdflow.recipes.alignment.selection`) and names it, since a frame put at a wrong place would spoil it unseen.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ccdflow.recipes.alignment.asterisms import SEARCH_RADIUS, match
from ccdflow.recipes.alignment.register import (
    NoMatchError,
    OtherScaleError,
    Registration,
    register_correlation,
    register_stars,
    register_wcs,
    residual_rms,
)
from ccdflow.recipes.alignment.transform import Transform
from ccdflow.recipes.core.doubts import REGISTRATION, Doubt
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
_MANY_STARS = 10
"""Stars of either frame of which some would match if the field were the same."""
_PLACES = 20
"""Places along each axis at which it is looked whether two frames overlap."""
KEPT_BYTES = 200_000_000
"""If all frames take no more than that, they stay in memory once they were measured, and are not read again."""
BYTES_PER_PIXEL = 10
"""Of an image: data and variance in float32, flags in uint16."""


class UnfitFrameError(ValueError):
    """A frame can't be stacked with the others; the message is the reason, without the frame's name."""


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


def measure_all(
    products: Mapping[int, InputProduct], detection: Detection
) -> dict[int, MeasuredFrame | UnfitFrameError]:
    """Measure each product, as many at a time as there are cores.

    Parameters
    ----------
    products : mapping of int to InputProduct
        Calibrated frames by their place among the inputs.
    detection : Detection
        How stars are found.

    Returns
    -------
    dict of int to MeasuredFrame or UnfitFrameError
        In the order of the places; of a frame without a good pixel, why it can't be measured. They stay in memory if
        all together are small (`KEPT_BYTES`).
    """

    def work(
        numbered: Iterator[tuple[int, InputProduct]],
    ) -> list[tuple[int, MeasuredFrame | UnfitFrameError]]:
        return [(number, _measured(product, detection, keep=keep)) for number, product in numbered]

    images = [product.image for product in products.values() if product.image is not None]
    keep = sum(image.shape[0] * image.shape[1] for image in images) * BYTES_PER_PIXEL <= KEPT_BYTES
    measured = [pair for part in in_threads(work, iter(products.items())) for pair in part]
    return dict(sorted(measured, key=lambda pair: pair[0]))


def _measured(product: InputProduct, detection: Detection, *, keep: bool) -> MeasuredFrame | UnfitFrameError:
    try:
        return measure(product, detection, keep=keep)
    except UnfitFrameError as error:
        return error


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
    UnfitFrameError
        If it holds no image, or none of its pixels is good.
    """
    if product.image is None:
        raise UnfitFrameError("it holds no image")
    image = product.image.rows(slice(0, product.image.shape[0]))
    variance = _typical_variance(image)
    if variance is None:
        raise UnfitFrameError(f"none of its {image.data.size} pixels is good")
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


def references(frames: Mapping[int, MeasuredFrame], options: RegistrationOptions) -> list[int]:
    """Return the frames that the others may be registered on, the one that is wanted most first.

    Parameters
    ----------
    frames : mapping of int to MeasuredFrame
        By their place among the inputs, at least one.
    options : RegistrationOptions
        `reference` says which is wanted.

    Returns
    -------
    list of int
        Places in their order, or by FWHM; where stars are needed, of those that have at least three, if there are such.
    """
    able = [i for i, frame in frames.items() if int(frame.stars.usable.sum()) >= _FEWEST_STARS]
    if options.register in ("none", "wcs") or not able:
        able = list(frames)
    if options.reference == "first":
        return able
    return sorted(able, key=lambda i: (np.nan_to_num(frames[i].stars.fwhm, nan=np.inf), i))


def register_frame(
    frame: MeasuredFrame, reference: MeasuredFrame, options: RegistrationOptions, *, correlate: bool = True
) -> tuple[Registration, Doubt | None]:
    """Find out where a frame lies on the reference's grid.

    Parameters
    ----------
    frame, reference : MeasuredFrame
        The reference itself lies where it is.
    options : RegistrationOptions
        `register` says which way is asked for, `max_residual` how well it must fit, in pixels.
    correlate : bool
        Whether cross-correlation may take the place of stars, which takes much longer.

    Returns
    -------
    registration : Registration
        With the method that was used.
    warning : Doubt or None
        Where that took a fallback.

    Raises
    ------
    UnfitFrameError
        If every way fails; the message says what was found.
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
        if isinstance(error, OtherScaleError):
            raise UnfitFrameError(f"its scale is not that of {reference.name}: {error}") from error
        if not correlate:
            raise UnfitFrameError(str(error)) from error
        return _by_correlation(frame, reference, options, str(error))
    doubts = []
    if registration.method != model:
        doubts.append(f"{registration.matches} matched stars allow a {registration.method} only, not {model}")
    if registration.transform.is_mirrored:
        doubts.append(f"it is mirrored, by {registration.matches} matched stars, and was turned back")
    warning = Doubt(REGISTRATION, f"{frame.name}: {'; '.join(doubts)}") if doubts else None
    return _on_pixels(registration, frame, reference, model), warning


def _by_wcs(frame: MeasuredFrame, reference: MeasuredFrame, options: RegistrationOptions) -> Registration:
    shape = reference.source.shape
    headers = reference.product.header, frame.product.header
    try:
        registration = register_wcs(*headers, shape, options.max_residual)
    except NoMatchError as error:
        raise UnfitFrameError(f"it cannot be placed on {reference.name} by their WCS: {error}") from error
    if not _overlap(registration.transform, shape, frame.source.shape):
        raise UnfitFrameError(f"by their WCS it shows nothing of the field of {reference.name}")
    registration = replace(registration, transform=registration.transform.snapped(shape, _SNAP))
    _refuse_contradiction(registration, frame, reference, options)
    # Stars do not decide here, but tell how well the WCS fits, and by how much fluxes differ.
    a, b = reference.stars.positions(), frame.stars.positions()
    pairs = match(a, b, registration.transform, SEARCH_RADIUS)
    registration = replace(registration, matches=len(pairs), pairs=pairs)
    return replace(registration, rms=residual_rms(reference.stars, frame.stars, registration))


def _overlap(transform: Transform, shape: tuple[int, int], other: tuple[int, int]) -> bool:
    """Tell whether any of a grid of places of the reference lies in the frame."""
    rows, columns = (np.linspace(0, size - 1, _PLACES) for size in shape)
    x, y = np.meshgrid(columns, rows)
    at = transform(np.column_stack([x.ravel(), y.ravel()]))
    inside = (at > -0.5) & (at < np.array(other[::-1]) - 0.5)
    return bool(inside.all(axis=1).any())


def _refuse_contradiction(
    registration: Registration, frame: MeasuredFrame, reference: MeasuredFrame, options: RegistrationOptions
) -> None:
    """Refuse a WCS where stars tell clearly that the frame lies elsewhere."""
    try:
        by_stars = register_stars(reference.stars, frame.stars, "affine", options.max_residual)
    except NoMatchError:
        return  # too few stars to contradict
    ny, nx = reference.source.shape
    middle = np.array([[(nx - 1) / 2, (ny - 1) / 2]])
    away = float(np.hypot(*(registration.transform(middle) - by_stars.transform(middle))[0]))
    # As far apart as matched stars may be (three times their rms), both can't be right.
    if away > 3 * options.max_residual:
        raise UnfitFrameError(
            f"by its WCS it lies {away:.1f} pixels from where {by_stars.matches} matched stars put it on "
            f"{reference.name}; {3 * options.max_residual:g} are allowed (register: affine goes by stars)"
        )


def _by_correlation(
    frame: MeasuredFrame, reference: MeasuredFrame, options: RegistrationOptions, cause: str
) -> tuple[Registration, Doubt | None]:
    detection = options.detection
    # Correlation is for what has no stars by its nature. Where one of the two has none at all, something hides them.
    if not len(frame.stars) and reference.stars.usable.sum() >= _FEWEST_STARS:
        raise UnfitFrameError(f"it shows no star: {cause}")
    a, b = (subtract_background(measured.read(), detection) for measured in (reference, frame))
    sigma = max(reference.stars.background_sigma, frame.stars.background_sigma)
    try:
        result = register_correlation(a, b, sigma)
    except NoMatchError as error:
        fewest = min(int(stars.usable.sum()) for stars in (reference.stars, frame.stars))
        seems = f"it seems to show another field than {reference.name}"
        problem = seems if fewest >= _MANY_STARS else f"it cannot be registered on {reference.name}"
        raise UnfitFrameError(f"{problem}: {cause}; {error}") from error
    sentence = f"{frame.name}: registered by cross-correlation to whole pixels, since {cause}"
    return result, Doubt(REGISTRATION, sentence)


def _on_pixels(
    registration: Registration,
    frame: MeasuredFrame,
    reference: MeasuredFrame,
    model: Literal["shift", "affine"],
) -> Registration:
    """Shifts become whole pixels, and what is almost one; the residuals are those of what is then done."""
    at = registration.transform
    if model == "shift":
        at = replace(at, dx=float(np.rint(at.dx)), dy=float(np.rint(at.dy)))
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
