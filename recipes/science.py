"""Recipe ``science``: one raw frame to a calibrated frame in electron.

The whole recipe is `run`: read out, subtract, divide (`calibrated_planes`), then flag bad pixels and cosmic rays.
Nothing is replaced or interpolated: data stay what was measured, and the DQ says what not to use.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from pydantic import Field

from ccdflow.recipes.core.arithmetic import flag_bad_pixels, flag_cosmic_rays
from ccdflow.recipes.core.doubts import OTHER, Doubt
from ccdflow.recipes.core.dq import DQ, EXCLUDED
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Card, Input, InputProduct, Inputs, Output, Parameters, Recipe, Result
from ccdflow.recipes.core.response import response_cards
from ccdflow.recipes.core.sky import sky_quality
from ccdflow.recipes.detector.calibrate import (
    CalibratedFrame,
    Masters,
    calibrated_frames,
    calibrated_planes,
    masters_of,
    one_product,
    pixels_of,
    raw_frames,
)
from ccdflow.recipes.detector.finished import DONE_FIELD, Done, as_taken
from ccdflow.recipes.detector.raw import Overscan
from ccdflow.recipes.detector.readout import measured_gains, stated_gain_conflicts
from ccdflow.recipes.detector.response import calibrated_response
from ccdflow.recipes.detector.saturation import saturation_cards, with_saturation

ALL_ROWS = slice(None)


class ScienceParameters(Parameters):
    """Parameters of the recipe ``science``."""

    overscan: Overscan = Field("level", description="How the overscan is subtracted: level, row or none.")
    cosmic_rays: bool = Field(
        False, description="Flag cosmic rays by L.A.Cosmic; a stack rejects them anyway."
    )
    cosmic_sigma: float = Field(6.0, gt=0, description="Laplacian signal over noise of a cosmic ray.")
    cosmic_contrast: float = Field(
        5.0, gt=0, description="Least contrast that tells a hit from a star's core."
    )
    done: Done = DONE_FIELD


def run(inputs: Inputs, parameters: ScienceParameters) -> Result:
    """Calibrate one frame with each master that there is.

    Parameters
    ----------
    inputs : Inputs
        ``main``: one raw frame; ``bias``, ``dark``, ``flat``: masters; ``gain``: a gain table; ``bad_pixel_mask``:
        a mask, flagged where it is not 0. Only ``main`` is needed. A dark that still holds its bias serves as both.
    parameters : ScienceParameters
        Overscan, and whether cosmic rays are flagged.

    Returns
    -------
    Result
        Category ``science``, in electron, with the part of the variance that the masters brought beside it.

    Raises
    ------
    ValueError
        If there is not exactly one frame, or a master does not fit it, or a dark that holds bias would have to be
        scaled.

    Notes
    -----
    Variance RN² (1 + 1/n) + V_bias + max(d, 0) + t² V_dark, then (V + (d/f)² V_flat) / f²: see
    `ccdflow.recipes.detector.raw.PreparedFrame` and the verbs of `ccdflow.recipes.core.arithmetic`.
    """
    raw = as_taken(raw_frames(inputs, "main"), parameters.done)
    if len(raw) != 1:
        raise ValueError(f"found {len(raw)} frames as main, one is needed")
    # Once something was done to a frame, no number is where the converter has put it.
    raw, shown = (raw, []) if parameters.done else with_saturation(raw)
    masters = masters_of(inputs)
    (frame,), doubts = calibrated_frames(raw, masters, one_product(inputs, "gain"), parameters.overscan)
    readout = frame.prepared.readout
    doubts += stated_gain_conflicts(readout, measured_gains(masters.flat, len(readout.gains)))
    # The planes keep the masters' part of the variance apart, so that a stack can add it once for all its frames.
    planes = calibrated_planes(frame)
    image = Image(planes.data, planes.variance, planes.dq, frame.unit)
    image = _flagged(image, one_product(inputs, "bad_pixel_mask"), parameters)
    doubts += _lacking(frame, masters, parameters.done)
    output = Output(
        image,
        calibration_variance=planes.masters,
        cards={
            **frame.prepared.readout.cards,
            **saturation_cards(frame.prepared.frame.detector),
            **_cards(frame, masters, parameters.done),
            **response_cards(calibrated_response(frame), frame.unit),
        },
        quality=_quality(image),
    )
    return Result({"science": output}, (*doubts, *shown, *_of_other_colours(frame, masters.flat)))


def _of_other_colours(frame: CalibratedFrame, flat: InputProduct | None) -> Iterator[str]:
    """Say where a frame has colours and its flat was made without, or the other way round."""
    if flat is None:
        return
    own, of_flat = frame.prepared.frame.mosaic, str(flat.header.get("MOSAIC", ""))
    if own and not of_flat:
        told = f"its flat states no colours, while the frame is a mosaic ({own})"
        yield f"{told}: the colour of the flat's light, unless it was 1 in each, is taken out of the frame's"
    elif of_flat and not own:
        yield f"its flat is of a colour mosaic ({of_flat}), while the frame states none: colours are not told apart"


def _lacking(frame: CalibratedFrame, masters: Masters, done: Collection[str]) -> list[Doubt]:
    """One doubt for each step that was not done for want of a master."""
    lacking = []
    subtracted = any(level is not None for level in frame.prepared.levels)
    if masters.bias_from == "overscan" and "bias" not in done:
        lacking.append(
            "no master bias: the overscan alone serves as bias"
            if subtracted
            else "neither a master bias nor an overscan: the bias is still in the frame"
        )
    if masters.flat is None and "flat" not in done:
        lacking.append("no master flat: the frame is not divided by one")
    return [Doubt(OTHER, sentence) for sentence in lacking]


def _flagged(image: Image, bad_pixel_mask: InputProduct | None, parameters: ScienceParameters) -> Image:
    if bad_pixel_mask is not None:
        image = flag_bad_pixels(image, pixels_of(bad_pixel_mask, "bad pixel mask").rows(ALL_ROWS))
    # Last, so that known bad pixels are masked while hits are looked for.
    if parameters.cosmic_rays:
        image = flag_cosmic_rays(image, sigma=parameters.cosmic_sigma, contrast=parameters.cosmic_contrast)
    return image


def _cards(frame: CalibratedFrame, masters: Masters, done: Sequence[str]) -> dict[str, Card]:
    amplifiers = frame.prepared.frame.detector.amplifiers
    # In adu and averaged over the amplifiers: a number to plot over months, not one to calculate with.
    levels = [float(level.values.mean()) for level in frame.prepared.levels if level is not None]
    cards: dict[str, Card] = {
        "OVERSCAN": (bool(levels) or "overscan" in done, "overscan subtracted"),
        "BIASCORR": (masters.bias is not None or "bias" in done, "master bias subtracted"),
        "LINCORR": (any(amplifier.linearity for amplifier in amplifiers), "corrected for nonlinearity"),
        "DARKCORR": (masters.dark is not None or "dark" in done, "master dark subtracted"),
        "FLATCORR": (masters.flat is not None or "flat" in done, "divided by master flat"),
    }
    # Stated only where it is not as planned: a master bias.
    if masters.bias is None and "bias" not in done:
        taken = masters.dark_holds_bias or levels
        cards["BIASFROM"] = (masters.bias_from if taken else "none", "what took the bias away")
    if done:
        cards["PRIORCAL"] = (" ".join(done), "done by another program before")
    if levels:
        cards["OVSCNLVL"] = (float(np.mean(levels)), "[adu] level of the overscan")
    return cards


def _quality(image: Image) -> dict[str, float]:
    # LLVM takes a twentieth of a second to load, and most commands never need it.
    from ccdflow.recipes.kernels.calibrate_kernels import count_flagged

    # The sky's level and scatter are those of the frame as calibrated, in electron.
    bits = np.ravel(image.dq)
    return {
        **sky_quality(image),
        "saturated_fraction": count_flagged(bits, DQ.SATURATED) / bits.size,
        "bad_fraction": count_flagged(bits, int(EXCLUDED)) / bits.size,
    }


RECIPE = Recipe(
    name="science",
    version="6",
    inputs={
        "main": Input("raw", 1, 1),
        "bias": Input("product", 0, 1),
        "dark": Input("product", 0, 1),
        "flat": Input("product", 0, 1),
        "gain": Input("product", 0, 1),
        "bad_pixel_mask": Input("product", 0, 1),
    },
    outputs=("science",),
    parameters=ScienceParameters,
    run=run,
    kernels=("ccdflow.recipes.kernels.calibrate_kernels",),
)
