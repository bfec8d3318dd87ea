"""Recipe ``stack``: calibrated frames of one field into one: registered, brought to one scale and sky, averaged."""

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
from ccdflow.recipes.core.recipe import Input, InputProduct, Inputs, Output, Parameters, Recipe, Result
from ccdflow.recipes.core.response import Response, combined_response, response_cards, response_of
from ccdflow.recipes.core.statistics import NORMAL_MAD
from ccdflow.recipes.core.strips import BYTES_PER_VALUE
from ccdflow.recipes.stars.sources import Detection

STRIP_BYTES = 24_000_000
"""Bytes of a strip of all frames, at most: more than other combinations take (`ccdflow.recipes.core.strips`), since
interpolation also needs rows beyond the strip, which weigh more the lower it is."""
STRIP_ROWS = 32
"""Rows of a strip, at most: threads share small images too."""
FEWEST_PAIRS = 3
"""Stars in common that scale a frame at least: of fewer a median can't drop one that varies."""
MOST_PAIRS = 100
"""Stars in common that scale a frame at most, the brightest: fainter ones add more noise than they tell."""
PAIR_SIGMA = 3.0
"""Standard deviations (MAD) from the median beyond which a star's ratio of fluxes does not count."""

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

    Parameters
    ----------
    inputs : Inputs
        ``main``: two calibrated frames or more, of one unit.
    parameters : StackParameters
        Registration, scale, zero, average and clip.

    Returns
    -------
    Result
        Category ``stack``, on the grid of the reference, scaled to its exposure time; with ``additive``
        zeros its sky is the weighted mean of the frames' skies. EXPTIME is the time that the data are scaled to, the
        reference's (without scaling, the weighted mean); TOTEXP and XPOSURE are the sum. GAIN and RDNOISE are those of
        the average, SATURATE the level above which a frame is missing, see `ccdflow.recipes.core.response`. Variance
        and DQ are those of `combine`.

    Raises
    ------
    ValueError
        If frames do not fit together, or one can't be registered; the message names it.

    Notes
    -----
    With f = scale × area, the factor by which interpolation onto larger or smaller pixels changes a level included,
    a frame's typical variance V becomes V f², and its weight 1 / (V f²), one number for the whole frame: were it per
    pixel, a pixel that is low by chance would state less photon noise, weigh more, and pull the mean down.
    """
    products = [product for product in inputs["main"] if isinstance(product, InputProduct)]
    # What can't be stacked is refused before any star is sought.
    _check(products, parameters)
    options = RegistrationOptions(
        parameters.register,
        parameters.reference,
        parameters.max_residual,
        Detection(threshold=parameters.threshold),
    )
    frames = measure_all(products, options.detection)
    reference = frames[choose_reference(frames, options)]
    members, doubts = [], []
    for frame in frames:
        registration, doubt = register_frame(frame, reference, options)
        members.append(_levelled(frame, reference, registration, parameters))
        doubts.extend([doubt] if doubt else [])
    combined = _combine(members, reference, parameters)
    if combined.fell_back:
        doubts.append(_scatter_doubt(combined, parameters))
    output = Output(
        image=combined.image,
        ngood=combined.ngood,
        calibration_variance=combined.calibration_variance,
        cards={
            **cards(combined, members, reference, parameters.model_dump()),
            **response_cards(_response(members, reference, parameters), combined.image.unit),
        },
        quality=quality(combined, members, options.detection),
    )
    return Result({"stack": output}, tuple(doubts))


def _response(
    members: Sequence[RegisteredFrame], reference: MeasuredFrame, parameters: StackParameters
) -> Response:
    """Gain, read noise and saturation of the stack: each frame's, with its scale, sky and weight."""
    responses = [response_of(member.frame.product.header, member.frame.source.unit) for member in members]
    # Interpolation onto larger pixels gathers the light of several, as a factor does.
    factors = [member.scale * member.registration.transform.area for member in members]
    sky = _mean_sky(members)
    levels = [
        None if known.saturation is None else factor * known.saturation + member.scale * member.level + sky
        for known, factor, member in zip(responses, factors, members, strict=True)
    ]
    weights = [member.weight for member in members]
    return combined_response(responses, factors, weights, levels, median=parameters.method == "median")


def _mean_sky(members: Sequence[RegisteredFrame]) -> float:
    """The level to which the average at sky 0 is brought back: the frames' weighted mean."""
    levels = [-member.level * member.scale for member in members]
    return float(np.average(levels, weights=[member.weight for member in members]))


def _scatter_doubt(combined: Combined, parameters: StackParameters) -> str:
    ratio = combined.scatter_ratio
    compared = "could not be compared with" if ratio is None else f"is {ratio:.2f} times"
    return (
        f"scatter between the frames {compared} the stated noise: values were clipped "
        f"by {combined.clip} at 5 sigma, not by {parameters.clip}"
    )


def _check(products: Sequence[InputProduct], parameters: StackParameters) -> None:
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
                f"the exposure time of {product.name} is not known, so that it can't be scaled by it "
                "(scale: stars, or none, needs none)"
            )


def _by_exposure(product: InputProduct, parameters: StackParameters) -> bool:
    """True if frames are scaled by their exposure times: rates are on one scale already."""
    # The three ways in which FITS files write "per second".
    rate = product.image is not None and product.image.unit.replace(" ", "").endswith(("/s", "s-1", "s**-1"))
    return parameters.scale == "exposure" and not rate


def _levelled(
    frame: MeasuredFrame, reference: MeasuredFrame, registration: Registration, parameters: StackParameters
) -> RegisteredFrame:
    """Frame with its scale, level and weight."""
    # The level is added before the scale is applied: it brings the frame's own sky to 0, or, with zero ``none``, takes
    # off the reference's, the same in all frames.
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
    # Registered by headers, or not at all: stars are matched for the scale alone.
    if pairs is None:
        pairs = match(
            reference.stars.positions(), frame.stars.positions(), registration.transform, SEARCH_RADIUS
        )
    if len(pairs) < FEWEST_PAIRS:
        raise ValueError(
            f"{frame.name} has {len(pairs)} stars in common with {reference.name}; "
            "3 are needed to scale by stars (scale: exposure needs none)"
        )
    # Pairs stand in the order of the reference's brightness: the brightest tell most about the scale.
    ratios = (reference.stars.fluxes()[pairs[:, 0]] / frame.stars.fluxes()[pairs[:, 1]])[:MOST_PAIRS]
    middle = np.median(ratios)
    spread = NORMAL_MAD * np.median(np.abs(ratios - middle))
    return float(np.median(ratios[np.abs(ratios - middle) <= PAIR_SIGMA * spread]))


def _combine(
    members: Sequence[RegisteredFrame], reference: MeasuredFrame, parameters: StackParameters
) -> Combined:
    """Average of the frames at sky 0, brought back to their weighted mean sky."""
    sources: list[ImageSource] = []
    calibrations: list[tuple[str, ImageSource | None]] = []
    shape = reference.source.shape
    for member in members:
        aligned = align(member.frame.source, member.registration.transform, shape, parameters.kernel)
        sources.append(Offset(aligned, member.level))
        calibrations.append(_shared(member, shape, parameters))
    options = Combination(
        method=parameters.method,
        clip=parameters.clip,
        sigma=parameters.sigma,
        relative_noise=parameters.relative_noise,
    )
    combined = combine(
        sources,
        options,
        scales=[member.scale for member in members],
        weights=[member.weight for member in members],
        calibrations=calibrations,
        strip_rows=max(1, min(STRIP_ROWS, STRIP_BYTES // (len(sources) * shape[1] * BYTES_PER_VALUE))),
    )
    # Of all common levels the frames' weighted mean is the one whose error is that of the mean itself.
    level = _mean_sky(members)
    # Where nothing was measured, data and variance are 0 and stay so.
    image = combined.image
    measured = (combined.ngood != 0) | (image.variance != 0)
    data = np.add(image.data, np.float32(level), out=image.data.copy(), where=measured)
    return replace(combined, image=replace(image, data=data))


def _shared(
    member: RegisteredFrame, shape: tuple[int, int], parameters: StackParameters
) -> tuple[str, ImageSource | None]:
    """Identity and variance of what a frame shares with others that have the same masters and the same shift."""
    # The masters' error is another one in each pixel: frames shifted against each other do not share it.
    product, shift = member.frame.product, member.registration.transform.shift
    if shift is None or not product.calibration or product.calibration_variance is None:
        return "", None
    masters = align(product.calibration_variance, member.registration.transform, shape, parameters.kernel)
    return f"{product.calibration} {shift}", masters


RECIPE = Recipe(
    name="stack",
    version="3",
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
