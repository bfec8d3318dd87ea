"""Recipe ``bias``: raw biases to a master bias in electron."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ccdflow.recipes.combine.average import combine
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Card, Input, Inputs, Output, Recipe, Result
from ccdflow.recipes.core.statistics import clipped_mean, good_sample, robust_sigma
from ccdflow.recipes.detector.calibrate import one_product, raw_frames
from ccdflow.recipes.detector.masters import (
    MasterParameters,
    combined_cards,
    combined_quality,
    combined_warnings,
)
from ccdflow.recipes.detector.raw import PreparedFrame
from ccdflow.recipes.detector.readout import Readout, readouts
from ccdflow.recipes.gain import read_noise_of_amplifiers

PAIRED = 4
"""So many biases measure the read noise; more would only cost time."""


class BiasParameters(MasterParameters):
    """Parameters of the recipe ``bias``."""


def run(inputs: Inputs, parameters: BiasParameters) -> Result:
    """Combine raw biases, overscan subtracted, into a master bias in electron.

    Where nobody says the read noise, it is measured from the biases themselves.
    """
    frames = raw_frames(inputs, "main")
    found = readouts(frames, one_product(inputs, "gain"))
    measured = read_noise_of_amplifiers(frames[:PAIRED], found[0].gains, parameters.overscan)
    found = [_with_measured_noise(readout, measured) for readout in found]
    combined = combine(
        [
            PreparedFrame(frame, readout, overscan=parameters.overscan)
            for frame, readout in zip(frames, found, strict=True)
        ],
        parameters.combination,
    )
    level, spread = _level(combined.image)
    quality = {
        "level": level,
        "rms": spread,
        **_noise_quality(found[0], measured),
        **combined_quality(combined),
    }
    cards: dict[str, Card] = {"BIASLVL": (level, "[electron] level of the master bias")}
    output = Output(
        combined.image,
        ngood=combined.ngood,
        cards={**combined_cards(combined, len(frames)), **found[0].cards, **cards},
        quality=quality,
    )
    doubts = [sentence for readout in found for sentence in readout.warnings] + combined_warnings(combined)
    return Result({"master_bias": output}, tuple(dict.fromkeys(doubts)))


def _with_measured_noise(readout: Readout, measured: Sequence[float]) -> Readout:
    if readout.noise_from != "assumed" or not measured:
        return readout
    noises = [known or new for known, new in zip(readout.read_noises, measured, strict=True)]
    return replace(readout, read_noises=tuple(noises), noise_from="measured")


def _level(image: Image) -> tuple[float, float]:
    """Clipped mean and robust standard deviation of the good pixels, of evenly spread ones of a large image."""
    good = good_sample(image)
    return (clipped_mean(good), robust_sigma(good)) if good.size else (0.0, 0.0)


def _noise_quality(readout: Readout, measured: Sequence[float]) -> dict[str, float]:
    stated = {"read_noise_stated": float(np.mean(readout.read_noises))}
    return {**stated, "read_noise": float(np.mean(measured))} if measured else stated


RECIPE = Recipe(
    name="bias",
    version="2",
    inputs={"main": Input("raw", 1, None), "gain": Input("product", 0, 1)},
    outputs=("master_bias",),
    parameters=BiasParameters,
    run=run,
    kernels=(
        "ccdflow.recipes.kernels.combine_kernels",
        "ccdflow.recipes.kernels.calibrate_kernels",
    ),
)
