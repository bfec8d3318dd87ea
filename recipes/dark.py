"""Recipe ``dark``: raw darks to a master dark, a rate in electron / s.

As a rate a dark fits every exposure time. That takes a master bias, or at least an overscan: what still holds bias does
not grow with time, and such a dark, in electron, fits its own exposure time alone. There it takes away both.
"""

import math
from dataclasses import replace

import numpy as np
from pydantic import Field

from ccdflow.recipes.combine.average import Combined, combine
from ccdflow.recipes.core.doubts import OTHER, Doubt
from ccdflow.recipes.core.dq import DQ, BoolArray, excluded
from ccdflow.recipes.core.image import FloatArray, Image
from ccdflow.recipes.core.recipe import Card, Input, Inputs, Output, Recipe, Result
from ccdflow.recipes.core.response import response_cards
from ccdflow.recipes.core.statistics import good_sample, median, robust_sigma
from ccdflow.recipes.core.times import SAME_EXPTIME
from ccdflow.recipes.detector.amplifiers import RawFrame
from ccdflow.recipes.detector.calibrate import (
    BIAS_LEVEL,
    HOLDS_BIAS,
    CalibratedFrame,
    Masters,
    calibrated_frames,
    fingerprint,
    known_readouts,
    masters_of,
    one_product,
    pixels_of,
    raw_frames,
)
from ccdflow.recipes.detector.finished import as_taken
from ccdflow.recipes.detector.masters import (
    MasterParameters,
    combined_cards,
    combined_quality,
    combined_warnings,
)
from ccdflow.recipes.detector.noise import bias_levels
from ccdflow.recipes.detector.response import calibrated_response, master_response

NEIGHBOURHOOD = 32
"""Side in pixels of the blocks whose median stands for a pixel's neighbours: small against the glow of an amplifier,
large against a cluster of hot pixels."""


class DarkParameters(MasterParameters):
    """Parameters of the recipe ``dark``."""

    hot_sigma: float = Field(
        10.0, gt=0, description="Standard deviations above its neighbours from which a pixel is HOT."
    )


def run(inputs: Inputs, parameters: DarkParameters) -> Result:
    """Combine raw darks into a master dark.

    Parameters
    ----------
    inputs : Inputs
        ``main``: raw darks; ``bias``: a master bias; ``gain``: a gain table. Only ``main`` is needed.
    parameters : DarkParameters
        Overscan, average, clip, and what is hot.

    Returns
    -------
    Result
        Category ``master_dark``. With a master bias, or where all amplifiers have an overscan, in electron / s;
        without either the bias stays in it, in electron, and cards ``BIASLV01``, ... say how high it is, see
        `ccdflow.recipes.detector.noise.bias_levels`. DQ has ``HOT`` where `hot_pixels` says so, besides the OR of the
        frames used.

    Raises
    ------
    ValueError
        If frames do not fit together; with a master bias, if an exposure time is not above 0; where the bias stays in
        it, if exposure times differ by more than 0.1 %.

    Notes
    -----
    Each frame is divided by its exposure time t, its variance by t², and weighted by the inverse of its typical
    variance, which lies between t, where photon noise rules, and t², where read noise does: the longer one tells more.
    The error of the master bias is the same in all frames of one exposure time, and is not averaged down, see
    `combine`.
    """
    # A dark takes no dark and no flat, whatever else stands among the inputs.
    masters = masters_of({role: inputs.get(role, ()) for role in ("bias",)})
    raw, gain_table = as_taken(raw_frames(inputs, "main"), parameters.done), one_product(inputs, "gain")
    is_rate = masters.bias is not None or "bias" in parameters.done or _overscan_serves(raw, parameters)
    if not is_rate:
        levels = bias_levels(raw, known_readouts(raw, masters, gain_table)[0], parameters.overscan)
        masters = replace(masters, bias_levels=levels)
    frames, doubts = calibrated_frames(raw, masters, gain_table, parameters.overscan)
    combined = _combined(frames, parameters, is_rate=is_rate)
    # In units of the noise, so that the same limit does for rates and for electron.
    hot = hot_pixels(combined.image, sigma=parameters.hot_sigma)
    image = replace(
        combined.image,
        dq=combined.image.dq | np.where(hot, np.uint16(DQ.HOT), np.uint16(0)),
        unit="electron / s" if is_rate else HOLDS_BIAS,
    )
    output = Output(
        image,
        ngood=combined.ngood,
        calibration_variance=combined.calibration_variance,
        cards={
            **_cards(combined, frames, masters, is_rate=is_rate),
            **_response(frames, combined, is_rate=is_rate),
        },
        quality=_quality(image, hot, combined),
    )
    if is_rate and masters.bias is None:
        sentence = "no master bias: the overscan serves as bias, whose pattern stays in the dark"
        doubts.append(Doubt(OTHER, sentence))
    return Result({"master_dark": output}, tuple(doubts + combined_warnings(combined)))


def _overscan_serves(frames: list[RawFrame], parameters: DarkParameters) -> bool:
    """Tell whether the overscan takes the bias away, so that what is left grows with time."""
    # Of an exposure time that nobody knows, or of 0, no rate can be made.
    return parameters.overscan != "none" and all(
        frame.exptime > 0 and all(amplifier.overscan is not None for amplifier in frame.detector.amplifiers)
        for frame in frames
    )


def hot_pixels(image: Image, *, sigma: float) -> BoolArray:
    """Return the pixels whose dark current is far above that of their neighbours.

    Parameters
    ----------
    image : Image
        A combined dark, in any unit.
    sigma : float
        Standard deviations above the median of its block from which a pixel is hot.

    Returns
    -------
    bool array, shape (ny, nx)
        False where the pixel is excluded by its DQ.

    Notes
    -----
    The standard deviation is that of all good pixels about their blocks' medians, robustly (MAD), or the pixel's
    own stated noise if that is larger: in a cold detector the first is nearly 0, and the photon noise of a bright
    pixel would make it hot.
    """
    good = ~excluded(image.dq)
    excess = image.data - _block_medians(image.data, good)
    spread = robust_sigma(excess[good]) if good.any() else 0.0
    stated = np.sqrt(np.where(good, image.variance, np.float32(0)))
    hot: BoolArray = good & (excess > sigma * np.maximum(stated, spread))
    return hot


def _block_medians(data: FloatArray, good: BoolArray) -> FloatArray:
    """Median of the good pixels of each pixel's block; 0 where it has none."""
    # -(-a // b) rounds up: blocks at the far edges hold less. What is not good, or outside, is infinite and sorted to
    # the end, so that the median is the mean of the two in the middle of the first `count`.
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


def _combined(frames: list[CalibratedFrame], parameters: DarkParameters, *, is_rate: bool) -> Combined:
    """Average of the darks: as rates where the bias is subtracted, else as they are."""
    times = [frame.exptime for frame in frames]
    if not is_rate:
        if not np.allclose(times, times[0], rtol=SAME_EXPTIME, atol=0):
            raise ValueError(f"darks that hold bias must have one exposure time, found {times} s")
        return combine(frames, parameters.combination)
    for frame in frames:
        if not frame.exptime > 0:
            found = "that nobody knows" if math.isnan(frame.exptime) else f"of {frame.exptime:g} s"
            raise ValueError(f"{frame.name} has an exposure time {found}, a dark needs one above 0")
    # "bias" as identity: all frames have lost the same master, whichever it was.
    return combine(
        frames,
        parameters.combination,
        scales=[1 / time for time in times],
        calibrations=[("bias", frame) for frame in frames],
    )


def _cards(
    combined: Combined, frames: list[CalibratedFrame], masters: Masters, *, is_rate: bool
) -> dict[str, Card]:
    return {
        **combined_cards(combined, len(frames)),
        **frames[0].prepared.readout.cards,
        **_bias_cards(masters, is_rate=is_rate),
        "EXPTIME": (float(np.mean([frame.exptime for frame in frames])), "[s] exposure time of one frame"),
    }


def _response(frames: list[CalibratedFrame], combined: Combined, *, is_rate: bool) -> dict[str, Card]:
    """Gain, read noise and saturation in the master's unit."""
    factors = [1 / frame.exptime for frame in frames] if is_rate else None
    response = master_response(list(map(calibrated_response, frames)), combined, factors)
    return response_cards(response, "electron / s" if is_rate else HOLDS_BIAS)


def _quality(image: Image, hot: BoolArray, combined: Combined) -> dict[str, float]:
    """Level and rms in the image's unit, and fractions."""
    good = good_sample(image)
    return {
        "level": float(median(good)) if good.size else 0.0,
        "rms": robust_sigma(good) if good.size else 0.0,
        "hot_fraction": float(hot.mean()),
        **combined_quality(combined),
    }


def _bias_cards(masters: Masters, *, is_rate: bool) -> dict[str, Card]:
    bias = masters.bias
    cards: dict[str, Card] = {"BIASSUB": (is_rate, "bias subtracted: can be scaled by time")}
    if bias is not None:
        # A frame that is calibrated with this dark asks by this card whether it loses the same bias (`masters_of`).
        cards["BIASID"] = (fingerprint(pixels_of(bias, "master bias")), "checksum of that bias's pixels")
    elif is_rate:
        cards["BIASFROM"] = ("overscan", "what took the bias away")
    for number, level in enumerate(masters.bias_levels or (), start=1):
        cards[f"{BIAS_LEVEL}{number:02d}"] = (level, f"[electron] bias in it, amplifier {number}")
    return cards


RECIPE = Recipe(
    name="dark",
    version="5",
    inputs={"main": Input("raw", 1, None), "bias": Input("product", 0, 1), "gain": Input("product", 0, 1)},
    outputs=("master_dark",),
    parameters=DarkParameters,
    run=run,
    kernels=(
        "ccdflow.recipes.kernels.combine_kernels",
        "ccdflow.recipes.kernels.calibrate_kernels",
    ),
)
