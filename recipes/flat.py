"""Recipe ``flat``: raw flats of one filter to a master flat, 1 on average over its good pixels."""

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from ccdflow.recipes.combine.average import Combined, combine
from ccdflow.recipes.core.dq import DQ, BoolArray, excluded
from ccdflow.recipes.core.image import FloatArray, Image
from ccdflow.recipes.core.recipe import Card, Input, Inputs, Output, Recipe, Result
from ccdflow.recipes.core.statistics import clipped_mean, median, robust_sigma
from ccdflow.recipes.detector.calibrate import (
    CalibratedFrame,
    calibrated_frames,
    masters_of,
    one_product,
    raw_frames,
)
from ccdflow.recipes.detector.masters import (
    MasterParameters,
    combined_cards,
    combined_quality,
    combined_warnings,
)


class FlatParameters(MasterParameters):
    """Parameters of the recipe ``flat``."""

    low: float = Field(
        0.2, ge=0, description="Pixels below this fraction of the mean are LOW_FLAT and count as 1."
    )
    max_saturated: float = Field(
        0.05, description="Fraction of saturated pixels above which a flat is left out."
    )
    min_snr: float = Field(
        50.0, description="Signal over noise of a typical pixel below which a flat is left out."
    )


LIGHT_BANDS, LIGHT_PIXELS = 16, 300_000
"""Bands of rows, and pixels in them, that tell how much light a flat has."""


@dataclass(frozen=True)
class Illumination:
    """Light in one flat: level in electron, signal over noise of a pixel, fraction of saturated pixels."""

    level: float
    snr: float
    saturated: float

    def refusal(self, parameters: FlatParameters) -> str:
        """Why the flat can't be used; ``""`` if it can."""
        if self.saturated > parameters.max_saturated:
            return f"{self.saturated:.1%} of its pixels are saturated, {parameters.max_saturated:.1%} may be"
        if not self.level > 0:
            return f"its level is {self.level:.1f} electron, above 0 is needed"
        if self.snr < parameters.min_snr:
            return f"its signal over noise is {self.snr:.1f}, {parameters.min_snr:g} is needed"
        return ""


def run(inputs: Inputs, parameters: FlatParameters) -> Result:
    """Combine raw flats, each scaled to a common level, and normalise them."""
    masters = masters_of({role: inputs.get(role, ()) for role in ("bias", "dark")})
    frames, doubts = calibrated_frames(
        raw_frames(inputs, "main"), masters, one_product(inputs, "gain"), parameters.overscan
    )
    lit = [(frame, illumination(frame)) for frame in frames]
    refused = [(frame.name, light.refusal(parameters)) for frame, light in lit]
    doubts += [f"{name} is left out: {reason}" for name, reason in refused if reason]
    usable = [(frame, light) for frame, light in lit if not light.refusal(parameters)]
    if not usable:
        raise ValueError(
            "; ".join(["no flat can be used", *(f"{name}: {reason}" for name, reason in refused)])
        )
    combined = combine(
        [frame for frame, _ in usable],
        parameters.combination,
        scales=[1 / light.level for _, light in usable],
        weights=[light.snr**2 for _, light in usable],
        calibrations=[("masters", frame) for frame, _ in usable],
    )
    image, norm = normalised(combined.image, low=parameters.low)
    return Result(
        {"master_flat": _output(image, norm, combined, usable)}, tuple(doubts + combined_warnings(combined))
    )


def illumination(frame: CalibratedFrame) -> Illumination:
    """Light in the central half of rows and columns: a clipped mean, so that stars and dust don't count.

    Of a large frame some bands of rows are looked at.
    """
    ny, nx = frame.shape
    height = max(1, LIGHT_PIXELS // nx // LIGHT_BANDS)
    starts = np.linspace(ny // 4, max(ny - ny // 4 - height, ny // 4), LIGHT_BANDS).astype(int).tolist()
    bands = [frame.rows(slice(start, min(start + height, ny))) for start in starts]
    saturated = float(np.mean([((band.dq & DQ.SATURATED) != 0).mean() for band in bands]))
    middle = slice(nx // 4, max(nx - nx // 4, nx // 4 + 1))
    data, variance, dq = (
        np.concatenate([plane[:, middle].ravel() for plane in planes])
        for planes in zip(*((band.data, band.variance, band.dq) for band in bands), strict=True)
    )
    good = ~excluded(dq)
    if not good.any():
        return Illumination(0.0, 0.0, saturated)
    level = clipped_mean(data[good])
    noise = float(np.sqrt(median(variance[good])))
    return Illumination(level, level / noise if noise > 0 else 0.0, saturated)


def normalised(image: Image, *, low: float) -> tuple[Image, float]:
    """Flat divided by its mean over the good pixels, and that mean.

    Pixels below `low` get ``LOW_FLAT``. These, and all that were excluded before, are 1 with variance 0, and
    don't count in the mean.

    Raises
    ------
    ValueError
        If no pixel is good.
    """
    good = ~excluded(image.dq)
    first = _mean(image.data, good)
    dark = good & (image.data < low * first)
    good &= ~dark
    norm = _mean(image.data, good)
    with np.errstate(invalid="ignore", over="ignore"):
        data = np.where(good, image.data / np.float32(norm), np.float32(1))
        variance = np.where(good, image.variance / np.float32(norm) ** 2, np.float32(0))
    dq = image.dq | np.where(dark, np.uint16(DQ.LOW_FLAT), np.uint16(0))
    return Image(data, variance, dq, ""), norm


def _mean(data: FloatArray, good: BoolArray) -> float:
    if not good.any():
        raise ValueError("the flat has no good pixel")
    return float(data[good].mean(dtype=np.float64))


def _output(
    image: Image, norm: float, combined: Combined, usable: list[tuple[CalibratedFrame, Illumination]]
) -> Output:
    good = ~excluded(image.dq)
    shared = combined.calibration_variance
    levels = [light.level for _, light in usable]
    cards: dict[str, Card] = {"FLATLVL": (float(np.mean(levels)), "[electron] mean level of the flats")}
    return Output(
        image,
        ngood=combined.ngood,
        calibration_variance=None
        if shared is None
        else np.where(good, shared / np.float32(norm**2), np.float32(0)),
        cards={**combined_cards(combined, len(usable)), **usable[0][0].prepared.readout.cards, **cards},
        quality={
            "level": float(np.mean(levels)),
            "rms": robust_sigma(image.data[good]),
            "low_fraction": float(((image.dq & DQ.LOW_FLAT) != 0).mean()),
            **combined_quality(combined),
        },
    )


RECIPE = Recipe(
    name="flat",
    version="2",
    inputs={
        "main": Input("raw", 1, None),
        "bias": Input("product", 0, 1),
        "dark": Input("product", 0, 1),
        "gain": Input("product", 0, 1),
    },
    outputs=("master_flat",),
    parameters=FlatParameters,
    run=run,
    kernels=(
        "ccdflow.recipes.kernels.combine_kernels",
        "ccdflow.recipes.kernels.calibrate_kernels",
    ),
)
