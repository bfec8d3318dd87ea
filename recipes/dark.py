"""Recipe ``dark``: raw darks to a master dark, a rate in electron / s."""

from dataclasses import replace

import numpy as np
from pydantic import Field

from ccdflow.recipes.combine.average import Combined, combine
from ccdflow.recipes.core.dq import DQ, BoolArray, excluded
from ccdflow.recipes.core.image import FloatArray, Image
from ccdflow.recipes.core.recipe import Card, Input, InputProduct, Inputs, Output, Recipe, Result
from ccdflow.recipes.core.statistics import good_sample, median, robust_sigma
from ccdflow.recipes.detector.calibrate import (
    CalibratedFrame,
    calibrated_frames,
    fingerprint,
    masters_of,
    one_product,
    pixels_of,
    raw_frames,
)
from ccdflow.recipes.detector.masters import (
    MasterParameters,
    combined_cards,
    combined_quality,
    combined_warnings,
)

NEIGHBOURHOOD = 32
"""Side in pixels of the blocks whose median stands for a pixel's neighbours."""


class DarkParameters(MasterParameters):
    """Parameters of the recipe ``dark``."""

    hot_sigma: float = Field(
        10.0, gt=0, description="Standard deviations above its neighbours from which a pixel is HOT."
    )


def run(inputs: Inputs, parameters: DarkParameters) -> Result:
    """Combine raw darks into a master dark.

    With a master bias, in electron / s. Without one the bias stays in it: in electron, of one exposure time
    only.
    """
    masters = masters_of({role: inputs.get(role, ()) for role in ("bias",)})
    frames, doubts = calibrated_frames(
        raw_frames(inputs, "main"), masters, one_product(inputs, "gain"), parameters.overscan
    )
    combined = _combined(frames, masters.bias, parameters)
    hot = hot_pixels(combined.image, sigma=parameters.hot_sigma)
    image = replace(
        combined.image,
        dq=combined.image.dq | np.where(hot, np.uint16(DQ.HOT), np.uint16(0)),
        unit="electron / s" if masters.bias is not None else "electron",
    )
    good = good_sample(image)
    output = Output(
        image,
        ngood=combined.ngood,
        calibration_variance=combined.calibration_variance,
        cards={
            **combined_cards(combined, len(frames)),
            **frames[0].prepared.readout.cards,
            **_bias_cards(masters.bias),
            "EXPTIME": (
                float(np.mean([frame.exptime for frame in frames])),
                "[s] exposure time of one frame",
            ),
        },
        quality={
            "level": float(median(good)) if good.size else 0.0,
            "rms": robust_sigma(good) if good.size else 0.0,
            "hot_fraction": float(hot.mean()),
            **combined_quality(combined),
        },
    )
    return Result({"master_dark": output}, tuple(doubts + combined_warnings(combined)))


def hot_pixels(image: Image, *, sigma: float) -> BoolArray:
    """Pixels more than `sigma` standard deviations above the median of their block.

    The standard deviation is that of all good pixels about their blocks' medians, robustly, or the pixel's
    own stated noise if that is larger.
    """
    good = ~excluded(image.dq)
    excess = image.data - _block_medians(image.data, good)
    spread = robust_sigma(excess[good]) if good.any() else 0.0
    stated = np.sqrt(np.where(good, image.variance, np.float32(0)))
    hot: BoolArray = good & (excess > sigma * np.maximum(stated, spread))
    return hot


def _block_medians(data: FloatArray, good: BoolArray) -> FloatArray:
    """Median of the good pixels of each pixel's block; 0 where it has none."""
    ny, nx = data.shape
    side = NEIGHBOURHOOD
    rows, columns = -(-ny // side), -(-nx // side)
    padded = np.full((rows * side, columns * side), np.inf, np.float32)
    np.copyto(padded[:ny, :nx], data, where=good)
    blocks = padded.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(rows, columns, -1)
    blocks.sort(axis=2)
    count = np.isfinite(blocks).sum(axis=2, keepdims=True)
    low, high = (np.take_along_axis(blocks, np.maximum(at, 0), 2) for at in ((count - 1) // 2, count // 2))
    medians = np.where(count > 0, (low + high) / 2, 0)[:, :, 0].astype(np.float32)
    return np.repeat(np.repeat(medians, side, 0), side, 1)[:ny, :nx]


def _combined(
    frames: list[CalibratedFrame], bias: InputProduct | None, parameters: DarkParameters
) -> Combined:
    times = [frame.exptime for frame in frames]
    if bias is None:
        if not np.allclose(times, times[0], rtol=1e-3, atol=0):
            raise ValueError(f"darks that hold bias must have one exposure time, found {times} s")
        return combine(frames, parameters.combination)
    for frame in frames:
        if not frame.exptime > 0:
            raise ValueError(
                f"{frame.name} has an exposure time of {frame.exptime:g} s, a dark needs one above 0"
            )
    return combine(
        frames,
        parameters.combination,
        scales=[1 / time for time in times],
        weights=times,
        calibrations=[("bias", frame) for frame in frames],
    )


def _bias_cards(bias: InputProduct | None) -> dict[str, Card]:
    subtracted: dict[str, Card] = {
        "BIASSUB": (bias is not None, "master bias subtracted: can be scaled by time")
    }
    if bias is None:
        return subtracted
    return {
        **subtracted,
        "BIASID": (fingerprint(pixels_of(bias, "master bias")), "checksum of that bias's pixels"),
    }


RECIPE = Recipe(
    name="dark",
    version="2",
    inputs={"main": Input("raw", 1, None), "bias": Input("product", 0, 1), "gain": Input("product", 0, 1)},
    outputs=("master_dark",),
    parameters=DarkParameters,
    run=run,
    kernels=(
        "ccdflow.recipes.kernels.combine_kernels",
        "ccdflow.recipes.kernels.calibrate_kernels",
    ),
)
