"""Recipe ``flat``: raw flats of one filter to a master flat, 1 on average over its good pixels.

Twilight flats differ in level, by factors. So each is scaled to a level of 1 by its own light before they are
compared; what is averaged is the pattern alone. The mean over all good pixels of all amplifiers then becomes 1: one
number for the whole detector, which keeps the ratio of its amplifiers; of a colour mosaic one for each colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from ccdflow.recipes.combine.average import Combined, combine
from ccdflow.recipes.core.doubts import Doubt
from ccdflow.recipes.core.dq import DQ, BoolArray, excluded
from ccdflow.recipes.core.image import FloatArray, Image
from ccdflow.recipes.core.mosaic import colour_pixels
from ccdflow.recipes.core.recipe import (
    Card,
    Input,
    InputProduct,
    Inputs,
    LeftOut,
    Output,
    Recipe,
    Result,
    left_out_cards,
)
from ccdflow.recipes.core.response import response_cards
from ccdflow.recipes.core.statistics import clipped_mean, median, robust_sigma
from ccdflow.recipes.core.times import SAME_EXPTIME, time_cards
from ccdflow.recipes.detector.amplifiers import RawFrame
from ccdflow.recipes.detector.calibrate import (
    NO_EXPTIME,
    CalibratedFrame,
    calibrated_frames,
    lacks_exptime,
    masters_of,
    one_product,
    raw_frames,
)
from ccdflow.recipes.detector.finished import as_taken
from ccdflow.recipes.detector.masters import (
    MasterParameters,
    combined_cards,
    combined_quality,
    combined_warnings,
)
from ccdflow.recipes.detector.readout import stated_gain_conflicts
from ccdflow.recipes.detector.response import calibrated_response, master_response
from ccdflow.recipes.detector.saturation import ASSUMED, saturation_cards, with_saturation
from ccdflow.recipes.gain import measured_gain


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


LIGHT_BANDS = 16
"""Bands of rows that tell how much light a flat has, evenly spread over its central half."""
LIGHT_PIXELS = 300_000
"""Pixels in these bands together: their mean is known to some 1e-4 where each is known to a few percent."""


@dataclass(frozen=True)
class Illumination:
    """Light in one flat.

    Parameters
    ----------
    level : float
        Electron, in the central half of rows and columns.
    snr : float
        Signal over noise of a typical pixel there.
    saturated : float
        Fraction of pixels that are saturated, in the rows that were looked at.
    limit : float
        adu from which on they are.
    """

    level: float
    snr: float
    saturated: float
    limit: float = ASSUMED

    def refusal(self, parameters: FlatParameters) -> str:
        """Say why the flat can't be used.

        Parameters
        ----------
        parameters : FlatParameters
            Limits of saturation and of signal over noise.

        Returns
        -------
        str
            Empty if it can be used.
        """
        if self.saturated > parameters.max_saturated:
            saturated = f"{self.saturated:.1%} of its pixels are saturated (from {self.limit:g} adu)"
            return f"{saturated}, {parameters.max_saturated:.1%} may be"
        if not self.level > 0:
            return f"its level is {self.level:.1f} electron, above 0 is needed"
        if self.snr < parameters.min_snr:
            return f"its signal over noise is {self.snr:.1f}, {parameters.min_snr:g} is needed"
        return ""


def run(inputs: Inputs, parameters: FlatParameters) -> Result:
    """Combine raw flats, each scaled to a common level, and normalise them.

    Parameters
    ----------
    inputs : Inputs
        ``main``: raw flats; ``bias``, ``dark``: masters; ``gain``: a gain table. Only ``main`` is needed. Of darks that
        still hold their bias there may be several, each for the flats of its own exposure time.
    parameters : FlatParameters
        Overscan, average, clip, and which flats and pixels are used.

    Returns
    -------
    Result
        Category ``master_flat``, without unit; see `normalised` for variance and DQ. Flats that can't be
        used are left out by name, with the reason.

    Raises
    ------
    ValueError
        If frames or masters do not fit together, or no flat can be used.

    Notes
    -----
    Flat i is multiplied by 1 / L_i, its level in electron, its variance by the square; its weight is the square of
    its signal over noise, which is the inverse of its relative variance. What the masters brought is common to
    all of them, see `combine`.
    """
    frames, reasons, doubts = _without_dark(inputs, parameters)
    # One look at each frame before it is combined: its level is its scale, and a bad one is left out with a reason.
    lit = {place: (frame, illumination(frame)) for place, frame in frames.items()}
    reasons |= {place: reason for place, (_, light) in lit.items() if (reason := light.refusal(parameters))}
    usable = [lit[place] for place in lit if place not in reasons]
    left_out = [LeftOut(place, inputs["main"][place].name, reasons[place]) for place in sorted(reasons)]
    if not usable:
        refused = [f"{left.name}: {left.reason}" for left in left_out]
        raise ValueError("; ".join(["no flat can be used", *refused]))
    # Scaled to level 1 each, so that a clip sees pattern and noise, and not the setting sun.
    combined = combine(
        [frame for frame, _ in usable],
        parameters.combination,
        scales=[1 / light.level for _, light in usable],
        # Flats of different exposure times may have lost different darks, whose errors they do not share.
        calibrations=[(f"masters {_dark_name(frame)}", frame) for frame, _ in usable],
    )
    mosaic = usable[0][0].prepared.frame.mosaic
    norm: float | FloatArray
    if mosaic:
        image, norm = normalised_colours(combined.image, mosaic, low=parameters.low)
    else:
        image, norm = normalised(combined.image, low=parameters.low)
    output = _output(image, norm, combined, usable)
    # What another program has worked on no longer has the noise of its photons.
    gain_cards, conflicts = _checked_gain([] if parameters.done else [frame for frame, _ in usable])
    cards = {**output.cards, **_of_the_usable(usable, float(np.mean(norm)), combined), **gain_cards}
    doubts += [*combined_warnings(combined), *conflicts]
    output = replace(output, cards=cards | left_out_cards(left_out))
    return Result({"master_flat": output}, tuple(doubts), tuple(left_out))


def _checked_gain(frames: Sequence[CalibratedFrame]) -> tuple[dict[str, Card], list[Doubt]]:
    """The gain that a master's flats measure, as cards, and where it is not the one that their headers state."""
    if len(frames) < 2 or frames[0].prepared.readout.gain_from != "header":
        return {}, []
    readout = frames[0].prepared.readout
    measured = [measured_gain(frames, number) for number in range(len(readout.gains))]
    cards: dict[str, Card] = {
        f"GAINMS{number:02d}": (gain.value, f"[electron/adu] gain by photon noise, amplifier {number}")
        for number, gain in enumerate(measured, start=1)
        if gain.pairs
    }
    gains = [gain.value if gain.pairs else None for gain in measured]
    return cards, stated_gain_conflicts(readout, gains, [gain.error for gain in measured])


def _of_the_usable(
    usable: list[tuple[CalibratedFrame, Illumination]], norm: float, combined: Combined
) -> dict[str, Card]:
    """Times and response of the flats that were not left out; a level of 1 is the light of them all."""
    responses = [calibrated_response(frame) for frame, _ in usable]
    factors = [1 / (light.level * norm) for _, light in usable]
    response = master_response(responses, combined, factors)
    times = time_cards([frame.prepared.frame.span for frame, _ in usable])
    return {**times, **response_cards(response, "")}


def _without_dark(
    inputs: Inputs, parameters: FlatParameters
) -> tuple[dict[int, CalibratedFrame], dict[int, str], list[Doubt]]:
    """Flats in electron, bias and dark subtracted, by their places; why others can't be so; and doubts."""
    raws, shown = _raws(inputs, parameters)
    darks = inputs.get("dark", ())
    # One flat without an exposure time does not cost the others their dark.
    timeless = [place for place, frame in enumerate(raws) if darks and lacks_exptime(frame)]
    reasons = dict.fromkeys(timeless, NO_EXPTIME) if len(timeless) < len(raws) else {}
    chosen = {place: _dark_of(frame, darks) for place, frame in enumerate(raws) if place not in reasons}
    calibrated: dict[int, CalibratedFrame] = {}
    doubts: list[Doubt] = []
    # Those of one dark together: each master is looked at once. A flat is never divided by a flat.
    for dark in dict.fromkeys(chosen.values()):
        own = [place for place, other in chosen.items() if other == dark]
        roles = {"bias": inputs.get("bias", ()), "dark": () if dark is None else darks[dark : dark + 1]}
        ready, more = calibrated_frames(
            [raws[place] for place in own],
            masters_of(roles),
            one_product(inputs, "gain"),
            parameters.overscan,
        )
        calibrated.update(zip(own, ready, strict=True))
        doubts += more
    return {place: calibrated[place] for place in chosen}, reasons, list(dict.fromkeys([*doubts, *shown]))


def _raws(inputs: Inputs, parameters: FlatParameters) -> tuple[list[RawFrame], list[Doubt]]:
    """Return the raw flats, and what is said of the level at which they saturate."""
    raws = as_taken(raw_frames(inputs, "main"), parameters.done)
    # Once something was done to them, no number is where the converter has put it.
    return (raws, []) if parameters.done else with_saturation(raws, pixels=LIGHT_PIXELS, lit=True)


def _dark_of(frame: RawFrame, darks: Sequence[RawFrame] | Sequence[InputProduct]) -> int | None:
    """Number of the dark for a frame: that of its exposure time, if there are several; None if there is none."""
    if len(darks) < 2:
        return 0 if darks else None
    times = [dark.exptime for dark in darks if isinstance(dark, RawFrame | InputProduct)]
    for number, exptime in enumerate(times):
        if np.isclose(exptime, frame.exptime, rtol=SAME_EXPTIME, atol=0):
            return number
    known = ", ".join(f"{exptime:g}" for exptime in times)
    raise ValueError(f"{frame.name} has {frame.exptime:g} s, there are darks of {known} s")


def _dark_name(frame: CalibratedFrame) -> str:
    dark = frame.masters.dark
    return "" if dark is None else f"{dark.name} {dark.exptime}"


def illumination(frame: CalibratedFrame) -> Illumination:
    """Measure the light in the central half of a flat's rows and columns.

    Parameters
    ----------
    frame : CalibratedFrame
        A flat, bias and dark subtracted. Of a large one some bands of rows are read.

    Returns
    -------
    Illumination
        The level is a clipped mean, so that stars and dust don't count. All 0 but the saturated fraction if no pixel
        is good; a signal over noise of 0 where the noise is 0.
    """
    ny, nx = frame.shape
    height = max(1, LIGHT_PIXELS // nx // LIGHT_BANDS)
    starts = np.linspace(ny // 4, max(ny - ny // 4 - height, ny // 4), LIGHT_BANDS).astype(int).tolist()
    bands = [frame.rows(slice(start, min(start + height, ny))) for start in starts]
    # Saturation counts over the whole width: an overexposed flat may well be good in its middle.
    limit = min(amplifier.saturation for amplifier in frame.prepared.frame.detector.amplifiers)
    saturated = float(np.mean([((band.dq & DQ.SATURATED) != 0).mean() for band in bands]))
    # The corners are vignetted, most of all in wide fields; the centre stands for what the shutter let through.
    middle = slice(nx // 4, max(nx - nx // 4, nx // 4 + 1))
    data, variance, dq = (
        np.concatenate([plane[:, middle].ravel() for plane in planes])
        for planes in zip(*((band.data, band.variance, band.dq) for band in bands), strict=True)
    )
    good = ~excluded(dq)
    if not good.any():
        return Illumination(0.0, 0.0, saturated, limit)
    level = clipped_mean(data[good])
    noise = float(np.sqrt(median(variance[good])))
    return Illumination(level, level / noise if noise > 0 else 0.0, saturated, limit)


def normalised(image: Image, *, low: float) -> tuple[Image, float]:
    """Return the flat divided by its mean over the good pixels, and that mean.

    Parameters
    ----------
    image : Image
        Combined flats, in any unit.
    low : float
        Fraction of the mean below which a pixel is too dark to divide by.

    Returns
    -------
    (Image, float)
        Data f = d / m without unit, for the mean m; variance V / m²; DQ with ``LOW_FLAT`` where d is below `low`
        times the mean. These pixels, and all that were excluded before, are 1 with variance 0.

    Raises
    ------
    ValueError
        If no pixel is good.

    Notes
    -----
    Pixels that are not good do not count in the mean, whatever stands in them, NaN and infinity included. The mean is
    taken twice: over the good pixels, to tell which are low, and again without these. Its own error, V / N for N
    pixels, is left out: it is one factor for the whole flat.
    """
    good = ~excluded(image.dq)
    first = _mean(image.data, good)
    dark = good & (image.data < low * first)
    good &= ~dark
    norm = _mean(image.data, good)
    # Excluded pixels are divided along with the others, and may overflow there; `where` then drops them.
    with np.errstate(invalid="ignore", over="ignore"):
        data = np.where(good, image.data / np.float32(norm), np.float32(1))
        variance = np.where(good, image.variance / np.float32(norm) ** 2, np.float32(0))
    dq = image.dq | np.where(dark, np.uint16(DQ.LOW_FLAT), np.uint16(0))
    return Image(data, variance, dq, ""), norm


def normalised_colours(image: Image, mosaic: str, *, low: float) -> tuple[Image, FloatArray]:
    """Return the flat of a colour mosaic divided by the mean of each colour, and these means.

    Parameters
    ----------
    image : Image
        Combined flats, in any unit.
    mosaic : str
        Colours of its first pixels, see `ccdflow.recipes.core.mosaic`.
    low : float
        Fraction of a colour's mean below which its pixels are too dark to divide by.

    Returns
    -------
    (Image, float32 array of shape (ny, nx))
        As `normalised`, and the mean that each pixel was divided by.

    Raises
    ------
    ValueError
        If a colour has no good pixel.

    Notes
    -----
    A lamp is red, twilight is blue: were all pixels divided by one mean, the colours of what the flat divides would be
    changed by those of the lamp, and the fainter ones would count as dark. So each colour is 1 on average.
    """
    data, variance, dq = image.data.copy(), image.variance.copy(), image.dq.copy()
    norms = np.ones(image.shape, np.float32)
    for pixels in colour_pixels(mosaic, image.shape):
        # One colour as an image of one row: what is true of a flat is true of each of its colours.
        row = Image(data[pixels][None], variance[pixels][None], dq[pixels][None], image.unit)
        own, norm = normalised(row, low=low)
        data[pixels], variance[pixels], dq[pixels] = own.data[0], own.variance[0], own.dq[0]
        norms[pixels] = norm
    return Image(data, variance, dq, ""), norms


def _mean(data: FloatArray, good: BoolArray) -> float:
    """Mean of the good pixels, summed in double precision: 24 bits are too few for millions of values."""
    if not good.any():
        raise ValueError("the flat has no good pixel")
    return float(data[good].mean(dtype=np.float64))


def _output(
    image: Image,
    norm: float | FloatArray,
    combined: Combined,
    usable: list[tuple[CalibratedFrame, Illumination]],
) -> Output:
    good = ~excluded(image.dq)
    # What the masters brought is divided like the variance that it is a part of.
    shared = combined.calibration_variance
    levels = [light.level for _, light in usable]
    cards: dict[str, Card] = {"FLATLVL": (float(np.mean(levels)), "[electron] mean level of the flats")}
    return Output(
        image,
        ngood=combined.ngood,
        calibration_variance=None
        if shared is None
        else np.where(good, shared / np.asarray(norm**2, np.float32), np.float32(0)),
        cards={
            **combined_cards(combined, len(usable)),
            **usable[0][0].prepared.readout.cards,
            **saturation_cards(usable[0][0].prepared.frame.detector),
            **cards,
        },
        quality={
            "level": float(np.mean(levels)),
            "rms": robust_sigma(image.data[good]),
            "low_fraction": float(((image.dq & DQ.LOW_FLAT) != 0).mean()),
            **combined_quality(combined),
        },
    )


RECIPE = Recipe(
    name="flat",
    version="7",
    inputs={
        "main": Input("raw", 1, None),
        "bias": Input("product", 0, 1),
        "dark": Input("product", 0, None),
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
