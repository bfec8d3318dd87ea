"""Recipe ``bias``: raw biases to a master bias in electron.

What is left of a bias frame once its overscan is subtracted is the pattern of the amplifier and of bad columns, some
electron at most, with read noise on it. The master is the mean of many, so that it adds little to the noise of what
it is subtracted from: RN²/n.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ccdflow.recipes.combine.average import combine
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Card, Input, Inputs, Output, Recipe, Result
from ccdflow.recipes.core.response import response_cards
from ccdflow.recipes.core.statistics import clipped_mean, good_sample, robust_sigma
from ccdflow.recipes.detector.calibrate import one_product, raw_frames
from ccdflow.recipes.detector.finished import as_taken
from ccdflow.recipes.detector.masters import (
    MasterParameters,
    combined_cards,
    combined_quality,
    combined_warnings,
)
from ccdflow.recipes.detector.noise import with_own_noise
from ccdflow.recipes.detector.raw import PreparedFrame
from ccdflow.recipes.detector.readout import Readout, readouts
from ccdflow.recipes.detector.response import master_response, prepared_response
from ccdflow.recipes.gain import read_noise_of_amplifiers

NOISE_BIASES = 4
"""Biases that the read noise is measured from: their three differences tell it to 0.1 %; more would only cost time."""


class BiasParameters(MasterParameters):
    """Parameters of the recipe ``bias``."""


def run(inputs: Inputs, parameters: BiasParameters) -> Result:
    """Combine raw biases, overscan subtracted, into a master bias in electron.

    Parameters
    ----------
    inputs : Inputs
        ``main``: raw biases; ``gain``: a gain table, for gains and read noises that no header states.
    parameters : BiasParameters
        Overscan, average and clip.

    Returns
    -------
    Result
        Category ``master_bias``, in electron: variance that of the average, DQ the OR of the frames used.

    Raises
    ------
    ValueError
        If frames do not fit together, or are products.

    Notes
    -----
    Each frame's variance is RN² (1 + 1/n), see `PreparedFrame`. Where nobody states the read noise, it is measured
    from the biases themselves (`ccdflow.recipes.gain.read_noise_adu`), so that outliers can be told by it. A single
    bias has its overscan; without one, the scatter of its neighbouring pixels stands for it, with a warning.
    """
    frames = as_taken(raw_frames(inputs, "main"), parameters.done)
    known = readouts(frames, one_product(inputs, "gain"))
    # Measured in any case: beside the stated read noise it is the quality number that tells of a noisy night.
    measured = read_noise_of_amplifiers(frames[:NOISE_BIASES], known[0].gains, parameters.overscan)
    known = [_with_measured_noise(readout, measured) for readout in known]
    # What two biases would tell, one tells by its overscan, or at the worst by its neighbouring pixels.
    known, own = with_own_noise(frames, known, single=True)
    prepared = [
        PreparedFrame(frame, readout, overscan=parameters.overscan)
        for frame, readout in zip(frames, known, strict=True)
    ]
    combined = combine(prepared, parameters.combination)
    # The level should be near 0 where the overscan was subtracted: a level of some electron tells of a wrong section.
    level, spread = _level(combined.image)
    quality = {
        "level": level,
        "rms": spread,
        **_noise_quality(known[0], measured),
        **combined_quality(combined),
    }
    response = master_response(list(map(prepared_response, prepared)), combined)
    cards: dict[str, Card] = {
        "BIASLVL": (level, "[electron] level of the master bias"),
        **response_cards(response, combined.image.unit),
    }
    output = Output(
        combined.image,
        ngood=combined.ngood,
        cards={**combined_cards(combined, len(frames)), **known[0].cards, **cards},
        quality=quality,
    )
    doubts = [doubt for readout in known for doubt in readout.warnings]
    doubts += own + combined_warnings(combined)
    # Frames of one camera have the same doubts: each is said once.
    return Result({"master_bias": output}, tuple(dict.fromkeys(doubts)))


def _with_measured_noise(readout: Readout, measured: Sequence[float]) -> Readout:
    if readout.noise_from != "assumed" or not measured:
        return readout
    # Amplifier by amplifier: 0 means that nobody knows this one's.
    noises = [stated or new for stated, new in zip(readout.read_noises, measured, strict=True)]
    return replace(readout, read_noises=tuple(noises), noise_from="measured")


def _level(image: Image) -> tuple[float, float]:
    """Clipped mean and robust standard deviation in electron of good pixels; 0 and 0 if there are none."""
    good = good_sample(image)
    return (clipped_mean(good), robust_sigma(good)) if good.size else (0.0, 0.0)


def _noise_quality(readout: Readout, measured: Sequence[float]) -> dict[str, float]:
    stated = {"read_noise_stated": float(np.mean(readout.read_noises))}
    return {**stated, "read_noise": float(np.mean(measured))} if measured else stated


RECIPE = Recipe(
    name="bias",
    version="5",
    inputs={"main": Input("raw", 1, None), "gain": Input("product", 0, 1)},
    outputs=("master_bias",),
    parameters=BiasParameters,
    run=run,
    kernels=(
        "ccdflow.recipes.kernels.combine_kernels",
        "ccdflow.recipes.kernels.calibrate_kernels",
    ),
)
