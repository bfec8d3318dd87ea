"""Recipe ``stack``: calibrated frames of one field into one: registered, brought to one scale and sky, averaged."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field

from ccdflow.recipes.alignment.asterisms import SEARCH_RADIUS, Pairs, match
from ccdflow.recipes.alignment.placement import (
    MeasuredFrame,
    Register,
    RegisteredFrame,
    RegistrationOptions,
    UnfitFrameError,
    register_frame,
)
from ccdflow.recipes.alignment.register import Registration
from ccdflow.recipes.alignment.resample import Interpolation, Offset, align
from ccdflow.recipes.alignment.selection import Placed, most_common, select
from ccdflow.recipes.combine.average import Combination, Combined, combine
from ccdflow.recipes.combine.report import cards, quality
from ccdflow.recipes.core.doubts import OTHER, SCATTER, Doubt
from ccdflow.recipes.core.image import ImageSource
from ccdflow.recipes.core.recipe import (
    Input,
    InputProduct,
    Inputs,
    Output,
    Parameters,
    Recipe,
    Result,
    left_out_cards,
)
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
MOST_EXTINCTION = 10.0
"""Factor between what stars and exposure times say of a scale, beyond which clouds, or wrong stars, say it."""
SAME_TRANSPARENCY = 2.0
"""Factor of the fluxes up to which nothing is said: airmass and haze do that."""
SAME_WIDTH = 2.0
"""Factor of the stars' widths up to which nothing is said: seeing does that."""
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
            default="variance", description="What outliers are told by: variance, mad, sigma, minmax or none"
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
        If what is left can't be combined.

    Notes
    -----
    A frame that does not fit the others, by its unit, size, noise, stars or place, is left out and named (`select`). Of
    several fields the one with most frames is stacked. Where fewer than two frames fit together there is no stack.

    With f = scale × area, the factor by which interpolation onto larger or smaller pixels changes a level included,
    a frame's typical variance V becomes V f², and its weight 1 / (V f²), one number for the whole frame: were it per
    pixel, a pixel that is low by chance would state less photon noise, weigh more, and pull the mean down.
    """
    products = [product for product in inputs["main"] if isinstance(product, InputProduct)]
    options = RegistrationOptions(
        parameters.register,
        parameters.reference,
        parameters.max_residual,
        Detection(threshold=parameters.threshold),
    )
    # What can't be stacked is left out before any star is sought.
    selection = select(
        products, dict(_misfits(products, parameters)), options, partial(_place, options, parameters)
    )
    members, reference, doubts = selection.members, selection.reference, selection.doubts
    left_out = tuple(selection.left_out)
    if len(members) < 2 or reference is None:
        return Result({}, tuple(doubts), left_out)
    if _by_exposure(reference.product, parameters) and not reference.product.exptime > 0:
        doubts.append(Doubt(OTHER, "no exposure time is known: frames are stacked as if all had the same"))
    combined = _combine(members, reference, parameters)
    if combined.fell_back:
        doubts.append(_scatter_doubt(combined, parameters))
    output = Output(
        image=combined.image,
        ngood=combined.ngood,
        calibration_variance=combined.calibration_variance,
        cards={
            **cards(combined, members, reference, parameters.model_dump()),
            **response_cards(_response(members, combined), combined.image.unit),
            **left_out_cards(left_out),
        },
        quality=quality(combined, members, options.detection),
    )
    return Result({"stack": output}, tuple(doubts), left_out)


def _response(members: Sequence[RegisteredFrame], combined: Combined) -> Response:
    """Gain, read noise and saturation of the stack: each frame's, with its scale, sky and weight."""
    responses = [response_of(member.frame.product.header, member.frame.source.unit) for member in members]
    # Interpolation onto larger pixels gathers the light of several, as a factor does.
    factors = [member.scale * member.registration.transform.area for member in members]
    sky = _mean_sky(members)
    levels = [
        None if known.saturation is None else factor * known.saturation + member.scale * member.level + sky
        for known, factor, member in zip(responses, factors, members, strict=True)
    ]
    return combined_response(responses, factors, combined.weights, levels, spread=combined.spread)


def _mean_sky(members: Sequence[RegisteredFrame]) -> float:
    """The level to which the average at sky 0 is brought back: the frames' weighted mean."""
    levels = [-member.level * member.scale for member in members]
    return float(np.average(levels, weights=[member.weight for member in members]))


def _scatter_doubt(combined: Combined, parameters: StackParameters) -> Doubt:
    ratio = combined.scatter_ratio
    compared = "could not be compared with" if ratio is None else f"is {ratio:.2f} times"
    clipped = f"values were clipped by {combined.clip} at 5 sigma, not by {parameters.clip}"
    return Doubt(SCATTER, f"scatter between the frames {compared} the stated noise: {clipped}")


def _misfits(products: Sequence[InputProduct], parameters: StackParameters) -> Iterator[tuple[int, str]]:
    """Yield the places of frames that can't be stacked with the others whatever they show, and why."""
    images = {i: product.image for i, product in enumerate(products) if product.image is not None}
    if not images:
        yield from ((i, "it holds no image") for i in range(len(products)))
        return
    # What most frames are counts, not what the first is: that may be the one that is wrong.
    unit = most_common({i: image.unit for i, image in images.items()})
    shape = most_common({i: image.shape for i, image in images.items() if image.unit == unit})
    mosaic = most_common({i: str(products[i].header.get("MOSAIC", "")) for i in images})
    any_exposure = any(product.exptime > 0 for product in products)
    for i, product in enumerate(products):
        if i not in images:
            yield i, "it holds no image"
        elif images[i].unit != unit:
            yield i, f"it is in {images[i].unit!r}, the others in {unit!r}; a stack needs one unit"
        elif pattern := str(product.header.get("MOSAIC", "")):
            # Any other placing would mix the colours of neighbouring pixels.
            if parameters.register != "none":
                yield (
                    i,
                    f"it is a colour mosaic ({pattern}): its colours are stacked (task colours), or register: none",
                )
            elif pattern != mosaic:
                yield i, f"its mosaic begins with {pattern}, that of the others with {mosaic or 'none'}"
        elif parameters.register == "none" and images[i].shape != shape:
            yield (
                i,
                f"it has shape {images[i].shape}, the others {shape}; without registration a stack needs one",
            )
        elif _by_exposure(product, parameters) and any_exposure and not product.exptime > 0:
            yield (
                i,
                "its exposure time is not known, so that it can't be scaled by it (scale: stars, or none, needs none)",
            )


def _by_exposure(product: InputProduct, parameters: StackParameters) -> bool:
    """True if frames are scaled by their exposure times: rates are on one scale already."""
    return parameters.scale == "exposure" and _counts(product)


def _counts(product: InputProduct) -> bool:
    """True if pixels grow with the exposure time."""
    # The three ways in which FITS files write "per second".
    return product.image is None or not product.image.unit.replace(" ", "").endswith(("/s", "s-1", "s**-1"))


def _place(
    options: RegistrationOptions,
    parameters: StackParameters,
    frame: MeasuredFrame,
    reference: MeasuredFrame,
    correlate: bool,
) -> Placed:
    """Frame on the reference, with its scale, level and weight, and the doubts about it."""
    registration, doubt = register_frame(frame, reference, options, correlate=correlate)
    scale = _scale(frame, reference, registration, parameters)
    # The level is added before the scale is applied: it brings the frame's own sky to 0, or, with zero ``none``, takes
    # off the reference's, the same in all frames.
    area = registration.transform.area
    additive = parameters.zero == "additive"
    level = -frame.stars.background * area if additive else -reference.stars.background / scale
    noise = frame.variance * (scale * area) ** 2
    weight = 1 / noise if parameters.weight == "variance" and noise > 0 else 1.0
    member = RegisteredFrame(frame, registration, scale, level, weight)
    doubts = [doubt, _transparency_doubt(member, reference), _width_doubt(member, reference)]
    return member, [told for told in doubts if told is not None]


def _exposure_ratio(frame: MeasuredFrame, reference: MeasuredFrame) -> float:
    """Factor that brings a frame's counts to the reference's exposure time; 1 for rates, and where none is known."""
    times = reference.product.exptime, frame.product.exptime
    return times[0] / times[1] if _counts(frame.product) and all(time > 0 for time in times) else 1.0


def _scale(
    frame: MeasuredFrame, reference: MeasuredFrame, registration: Registration, parameters: StackParameters
) -> float:
    """Factor that brings a frame to the reference's exposure time, or its stars to the reference's fluxes."""
    if parameters.scale == "exposure":
        return _exposure_ratio(frame, reference)
    if parameters.scale != "stars" or frame is reference:
        return 1.0
    pairs = _pairs(frame, reference, registration)
    if len(pairs) < FEWEST_PAIRS:
        raise UnfitFrameError(
            f"it has {len(pairs)} stars in common with {reference.name}; "
            "3 are needed to scale by stars (scale: exposure needs none)"
        )
    factor = _flux_ratio(frame, reference, pairs)
    expected = _exposure_ratio(frame, reference)
    if not expected / MOST_EXTINCTION <= factor <= expected * MOST_EXTINCTION:
        raise UnfitFrameError(
            f"its stars would have to be multiplied by {factor:.3g}, where exposure times say {expected:.3g}; "
            f"up to {MOST_EXTINCTION:g} times more or less is allowed"
        )
    return factor


def _pairs(frame: MeasuredFrame, reference: MeasuredFrame, registration: Registration) -> Pairs:
    """Matched stars; where it was not registered by stars, they are matched for their fluxes alone."""
    if registration.pairs is not None:
        return registration.pairs
    return match(reference.stars.positions(), frame.stars.positions(), registration.transform, SEARCH_RADIUS)


def _flux_ratio(frame: MeasuredFrame, reference: MeasuredFrame, pairs: Pairs) -> float:
    """Median flux of the reference's stars over that of the frame's, of those that do not vary."""
    # Pairs stand in the order of the reference's brightness: the brightest tell most about the scale.
    ratios = (reference.stars.fluxes()[pairs[:, 0]] / frame.stars.fluxes()[pairs[:, 1]])[:MOST_PAIRS]
    middle = np.median(ratios)
    spread = NORMAL_MAD * np.median(np.abs(ratios - middle))
    return float(np.median(ratios[np.abs(ratios - middle) <= PAIR_SIGMA * spread]))


def _transparency_doubt(member: RegisteredFrame, reference: MeasuredFrame) -> Doubt | None:
    """Say where a frame's stars stay much fainter, or brighter, than the reference's, though it was scaled."""
    pairs, frame = _pairs(member.frame, reference, member.registration), member.frame
    if len(pairs) < FEWEST_PAIRS or frame is reference:
        return None
    brightness = member.scale / _flux_ratio(frame, reference, pairs)
    if 1 / SAME_TRANSPARENCY <= brightness <= SAME_TRANSPARENCY:
        return None
    fluxes = f"its stars have {brightness:.2f} times the fluxes of those in {reference.name} (clouds?)"
    return Doubt(OTHER, f"{frame.name}: {fluxes}; scale: stars brings them to one")


def _width_doubt(member: RegisteredFrame, reference: MeasuredFrame) -> Doubt | None:
    """Say where a frame's stars are much wider, or sharper, than the reference's: the stack has some of both."""
    # In pixels of the reference; NaN, of a frame without stars, is nothing to compare.
    ratio = member.frame.stars.fwhm / member.registration.transform.scale / reference.stars.fwhm
    if not (ratio > SAME_WIDTH or ratio < 1 / SAME_WIDTH):
        return None
    width = f"its stars are {ratio:.2g} times as wide as those in {reference.name} (focus?)"
    return Doubt(OTHER, f"{member.frame.name}: {width}")


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
    version="7",
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
