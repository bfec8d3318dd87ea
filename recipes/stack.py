"""Calibrated frames of one field into one: registered, brought to one scale and sky, clipped, averaged."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from ccdflow.recipes.alignment.asterisms import SEARCH_RADIUS, match
from ccdflow.recipes.alignment.placement import (
    MeasuredFrame,
    Register,
    RegisteredFrame,
    RegistrationOptions,
    choose_reference,
    measure_all,
    register_frame,
)
from ccdflow.recipes.alignment.register import Registration
from ccdflow.recipes.alignment.resample import Interpolation, Offset, align
from ccdflow.recipes.combine.average import Combination, Combined, combine
from ccdflow.recipes.combine.report import cards, quality
from ccdflow.recipes.core.image import ImageSource
from ccdflow.recipes.core.recipe import Input, Inputs, Output, Parameters, Product, Recipe, Result
from ccdflow.recipes.core.strips import BYTES_PER_VALUE
from ccdflow.recipes.stars.sources import Detection

STRIP_BYTES, STRIP_ROWS = 24_000_000, 32
"""Memory and rows of a strip of all frames, at most: interpolation also needs rows beyond it, which weigh more the
lower it is."""

with warnings.catch_warnings():
    # pydantic takes ABCMeta.register, which no instance has, for an attribute of `Parameters`.
    warnings.filterwarnings("ignore", "Field name .register. in", UserWarning)

    class StackParameters(Parameters):
        """Parameters of the recipe ``stack``."""

        register: Register = Field(
            default="affine",
            description="By matched stars 'shift' (whole pixels) or 'affine'; by headers 'wcs'; or 'none'",
        )
        reference: Literal["first", "sharpest"] = Field(
            default="first", description="The frame that the others are placed upon and scaled to"
        )
        kernel: Interpolation = Field(
            default="bicubic", description="Interpolation where frames are not shifted by whole pixels"
        )
        scale: Literal["exposure", "stars", "none"] = Field(
            default="exposure",
            description="Frames are multiplied to the reference's exposure time, or stars' fluxes",
        )
        zero: Literal["additive", "none"] = Field(
            default="additive",
            description="Whether skies are brought to one level, by adding a constant",
        )
        method: Literal["mean", "median"] = Field(
            default="mean", description="Average of what is not clipped"
        )
        weight: Literal["variance", "equal"] = Field(
            default="variance", description="Frames' weights in the mean: inverse typical variance, or equal"
        )
        clip: Literal["variance", "mad", "sigma", "minmax", "none"] = Field(
            default="variance", description="What a value's distance from the median is measured by"
        )
        sigma: float = Field(
            default=3.0, gt=0, description="Standard deviations beyond which a value is clipped"
        )
        relative_noise: float = Field(
            default=0.1,
            ge=0,
            description="Noise of the clip as a fraction of the light above the sky, for changes of seeing",
        )
        max_residual: float = Field(
            default=1.0, gt=0, description="Largest rms distance in pixels between matched stars"
        )
        threshold: float = Field(
            default=5.0, gt=0, description="Sigma above the sky at which stars are found"
        )


def run(inputs: Inputs, parameters: StackParameters) -> Result:
    """Stack the frames in role ``main``.

    Frames are measured in as many threads as there are cores and averaged strip by strip: at most one for each
    core is ever whole in memory, or all of them if together they are small. While they are averaged their skies
    stand at 0, so that `StackParameters.relative_noise` means the light above the sky.

    Returns
    -------
    Result
        Category ``stack``, on the grid of the reference, scaled to its exposure time; with ``additive``
        zeros its sky is the weighted mean of the frames' skies. EXPTIME is the reference's (without scaling,
        the weighted mean), TOTEXP the sum.

    Raises
    ------
    ValueError
        If frames do not fit together, or one can't be registered; the message names it.
    """
    products = [product for product in inputs["main"] if isinstance(product, Product)]
    _check(products, parameters)
    placing = RegistrationOptions(
        parameters.register,
        parameters.reference,
        parameters.max_residual,
        Detection(threshold=parameters.threshold),
    )
    frames = measure_all(products, placing.detection)
    reference = frames[choose_reference(frames, placing)]
    placed, doubts = [], []
    for frame in frames:
        registration, doubt = register_frame(frame, reference, placing)
        placed.append(_levelled(frame, reference, registration, parameters))
        doubts.extend([doubt] if doubt else [])
    combined = _combine(placed, reference, parameters)
    if combined.fell_back:
        doubts.append(_scatter_doubt(combined, parameters))
    output = Output(
        image=combined.image,
        ngood=combined.ngood,
        calibration_variance=combined.calibration_variance,
        cards=cards(combined, placed, reference, parameters.model_dump()),
        quality=quality(combined, placed, placing.detection),
    )
    return Result({"stack": output}, tuple(doubts))


def _scatter_doubt(combined: Combined, parameters: StackParameters) -> str:
    ratio = combined.scatter_ratio
    found = "could not be compared with" if ratio is None else f"is {ratio:.2f} times"
    return (
        f"scatter between the frames {found} the stated noise: values were clipped "
        f"by {combined.clip} at 5 sigma, not by {parameters.clip}"
    )


def _check(products: Sequence[Product], parameters: StackParameters) -> None:
    first = products[0]
    for product in products:
        if product.image is None or first.image is None:
            raise ValueError(f"{product.name} holds no image; a stack needs images")
        if product.image.unit != first.image.unit:
            raise ValueError(
                f"{product.name} is in {product.image.unit!r}, {first.name} in {first.image.unit!r}; "
                "a stack needs one unit"
            )
        if parameters.register == "none" and product.image.shape != first.image.shape:
            raise ValueError(
                f"{product.name} has shape {product.image.shape}, {first.name} {first.image.shape}; "
                "without registration a stack needs one shape"
            )
        if _by_exposure(product, parameters) and not product.exptime > 0:
            raise ValueError(
                f"{product.name} has an exposure time of {product.exptime} s, and cannot be scaled by it"
            )


def _by_exposure(product: Product, parameters: StackParameters) -> bool:
    """Whether exposure times matter: rates are on one scale already."""
    rate = product.image is not None and product.image.unit.replace(" ", "").endswith(("/s", "s-1", "s**-1"))
    return parameters.scale == "exposure" and not rate


def _levelled(
    frame: MeasuredFrame, reference: MeasuredFrame, registration: Registration, parameters: StackParameters
) -> RegisteredFrame:
    """Frame with its scale, level and weight."""
    scale = _scale(frame, reference, registration, parameters)
    area = registration.transform.area
    additive = parameters.zero == "additive"
    level = -frame.stars.background * area if additive else -reference.stars.background / scale
    noise = frame.variance * (scale * area) ** 2
    weight = 1 / noise if parameters.weight == "variance" and noise > 0 else 1.0
    return RegisteredFrame(frame, registration, scale, level, weight)


def _scale(
    frame: MeasuredFrame, reference: MeasuredFrame, registration: Registration, parameters: StackParameters
) -> float:
    """Factor that brings a frame to the reference's exposure time, or its stars to the reference's fluxes."""
    if _by_exposure(frame.product, parameters):
        return reference.product.exptime / frame.product.exptime
    if parameters.scale != "stars" or frame is reference:
        return 1.0
    pairs = registration.pairs
    if pairs is None:
        pairs = match(
            reference.stars.positions(), frame.stars.positions(), registration.transform, SEARCH_RADIUS
        )
    if len(pairs) < 3:
        raise ValueError(
            f"{frame.name} has {len(pairs)} stars in common with {reference.name}; "
            "3 are needed to scale by stars (scale: exposure needs none)"
        )
    # Pairs stand in the order of the reference's brightness: the brightest tell most about the scale.
    ratios = (reference.stars.fluxes()[pairs[:, 0]] / frame.stars.fluxes()[pairs[:, 1]])[:100]
    middle = np.median(ratios)
    spread = 1.4826 * np.median(np.abs(ratios - middle))
    return float(np.median(ratios[np.abs(ratios - middle) <= 3 * spread]))


def _combine(
    placed: Sequence[RegisteredFrame], reference: MeasuredFrame, parameters: StackParameters
) -> Combined:
    """Average of the frames at sky 0, brought back to their weighted mean sky."""
    sources: list[ImageSource] = []
    calibrations: list[tuple[str, ImageSource | None]] = []
    shape = reference.source.shape
    for one in placed:
        aligned = align(one.frame.source, one.registration.transform, shape, parameters.kernel)
        sources.append(Offset(aligned, one.level))
        calibrations.append(_shared(one, shape, parameters))
    options = Combination(
        method=parameters.method,
        clip=parameters.clip,
        sigma=parameters.sigma,
        relative_noise=parameters.relative_noise,
    )
    combined = combine(
        sources,
        options,
        scales=[one.scale for one in placed],
        weights=[one.weight for one in placed],
        calibrations=calibrations,
        strip_rows=max(1, min(STRIP_ROWS, STRIP_BYTES // (len(sources) * shape[1] * BYTES_PER_VALUE))),
    )
    # Of all common levels the frames' weighted mean is the one whose error is that of the mean itself.
    level = np.average([-one.level * one.scale for one in placed], weights=[one.weight for one in placed])
    image = combined.image
    measured = (combined.ngood != 0) | (image.variance != 0)
    data = np.add(image.data, np.float32(level), out=image.data.copy(), where=measured)
    return replace(combined, image=replace(image, data=data))


def _shared(
    one: RegisteredFrame, shape: tuple[int, int], parameters: StackParameters
) -> tuple[str, ImageSource | None]:
    """Identity and variance of what a frame shares with others that have the same masters and the same shift.

    The masters' error is another one in each pixel: frames shifted against each other do not share it.
    """
    product, shift = one.frame.product, one.registration.transform.shift
    if shift is None or not product.calibration or product.calibration_variance is None:
        return "", None
    masters = align(product.calibration_variance, one.registration.transform, shape, parameters.kernel)
    return f"{product.calibration} {shift}", masters


RECIPE = Recipe(
    name="stack",
    version="2",
    inputs={"main": Input("product", minimum=2, maximum=None)},
    outputs=("stack",),
    parameters=StackParameters,
    run=run,
    kernels=(
        "ccdflow.recipes.kernels.combine_kernels",
        "ccdflow.recipes.kernels.sources_kernels",
        "ccdflow.recipes.kernels.resample_kernels",
        "ccdflow.recipes.kernels.calibrate_kernels",
    ),
)
