"""Recipe ``gain``: gain and read noise of each amplifier, from pairs of flats and of biases.

Both are told by the difference of two frames of the same kind, in which the pattern that they share (bias, dust,
vignetting) is gone and noise is left: photon transfer. A table comes out, one row for each amplifier.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ccdflow.recipes.core.doubts import GAIN_ASSUMED, READ_NOISE_UNKNOWN, Doubt
from ccdflow.recipes.core.dq import excluded
from ccdflow.recipes.core.image import FloatArray, Image
from ccdflow.recipes.core.mosaic import CELL
from ccdflow.recipes.core.recipe import Input, Inputs, Output, Parameters, Recipe, Result
from ccdflow.recipes.core.statistics import (
    NORMAL_MAD,
    median,
    robust_sigma,
    sampled,
    typical_size,
    without_outliers,
)
from ccdflow.recipes.detector.amplifiers import RawFrame
from ccdflow.recipes.detector.blocks import NOISE_PIXELS, OUTLIER, amplifier_rows, blocks, middle_rows
from ccdflow.recipes.detector.calibrate import CalibratedFrame, raw_frames
from ccdflow.recipes.detector.raw import Overscan
from ccdflow.recipes.detector.saturation import with_saturation

Floats = NDArray[np.float64]

AGREEMENT = 0.02
"""Fraction of the smallest 1 / gain within which pairs are averaged, besides their errors."""
AGREEMENT_SIGMA = 5.0
"""Standard errors of the difference between two pairs that are added to `AGREEMENT`."""
LEAST_SPREAD = 1e-9
"""adu; a limit above 0 where two frames are alike, whose differences of 0 then count as good."""
SATURATION_PIXELS = 300_000
"""Pixels of a flat that tell at which number it is burnt."""


CHECKED_FLATS = 4
"""Flats of a master by which a stated gain is checked: three pairs, of which the quietest count."""


class GainParameters(Parameters):
    """Parameters of the recipe ``gain``."""

    overscan: Overscan = Field("level", description="How the overscan is subtracted: level, row or none.")
    block: int = Field(32, ge=4, description="Side in pixels of the blocks in which noise is measured.")
    max_saturated: float = Field(
        0.05, description="Fraction of saturated pixels above which a flat is left out."
    )
    max_structure: float = Field(
        0.003,
        description="Largest rms, over the blocks, of the ratio of two flats of one filter and one lamp.",
    )


@dataclass(frozen=True)
class Measured:
    """A number from pairs of frames.

    Parameters
    ----------
    value : float
        Their mean.
    error : float
        Its standard error, in the same unit.
    pairs : int
        How many pairs; 0 means that nothing was measured.
    """

    value: float
    error: float
    pairs: int


def run(inputs: Inputs, parameters: GainParameters) -> Result:
    """Measure gain and read noise of each amplifier.

    Parameters
    ----------
    inputs : Inputs
        ``main``: raw flats, of which neighbours are paired; ``bias``: raw biases.
    parameters : GainParameters
        Overscan, blocks, and which pairs are used.

    Returns
    -------
    Result
        Category ``gain_table``, without image. Columns ``gain`` and ``gain_error`` in electron/adu, ``read_noise`` in
        electron, ``read_noise_adu`` in adu, ``pairs`` of flats; ``amplifier`` is its name or number from 1. What could
        not be measured is 1 (gain) or 0 (read noise), and a warning says so.

    Raises
    ------
    ValueError
        If there is no frame at all, or no bias and an amplifier without overscan.
    """
    flats, shown = with_saturation(raw_frames(inputs, "main"), pixels=SATURATION_PIXELS, lit=True)
    biases = raw_frames(inputs, "bias")
    if not flats + biases:
        raise ValueError("there is no flat and no bias to measure with")
    rows, doubts = [], shown
    # Frames of one job are of one detector: the first one's amplifiers are those of all.
    for number, amplifier in enumerate((flats or biases)[0].detector.amplifiers):
        if not biases and amplifier.overscan is None:
            raise ValueError(
                "without a bias frame or an overscan the flats' light can't be told from their bias"
            )
        noise = read_noise_adu(biases, number, parameters)
        gain = gain_from_flats(flats, biases, number, noise.value, parameters)
        label = amplifier.name or str(number + 1)
        if not gain.pairs:
            sentence = f"amplifier {label}: no pair of alike flats; a gain of 1 electron/adu is assumed"
            doubts.append(Doubt(GAIN_ASSUMED, sentence))
        if not noise.pairs:
            sentence = f"amplifier {label}: fewer than 2 biases; read noise is not known"
            doubts.append(Doubt(READ_NOISE_UNKNOWN, sentence))
        rows.append((label, gain, noise))
    return Result({"gain_table": _output(rows)}, tuple(doubts))


def read_noise_adu(
    biases: Sequence[RawFrame], number: int, parameters: GainParameters, pixels: int | None = None
) -> Measured:
    """Measure the read noise of an amplifier.

    Parameters
    ----------
    biases : sequence of RawFrame
        In the order in which they were taken; neighbours are paired.
    number : int
        The amplifier, from 0.
    parameters : GainParameters
        Overscan and blocks.
    pixels : int, optional
        About how many pixels, in the middle of the amplifier, are enough; by default all.

    Returns
    -------
    Measured
        In adu rms; 0 with 0 pairs if there are fewer than two biases.

    Notes
    -----
    Rms of the difference of two biases / √2 (Howell 2006, Handbook of CCD Astronomy, 2nd ed., section 4.3). The
    variance is averaged over blocks and pairs, and its root taken last: its standard error e then is e / (2 noise)
    for the noise. Neighbouring pairs share a frame; the error takes them as independent.
    """
    measured = []
    for first, second in pairwise(_amplifier_images(biases, number, parameters, pixels)):
        variances = without_outliers(block_variances(first.data - second.data, parameters.block)) / 2
        measured.append((float(variances.mean()), float(variances.std()) / sqrt(variances.size)))
    mean = _mean(measured)
    noise = sqrt(mean.value)
    return Measured(noise, mean.error / (2 * noise) if noise else 0.0, mean.pairs)


def read_noise_of_amplifiers(
    biases: Sequence[RawFrame], gains: Sequence[float], overscan: Overscan
) -> tuple[float, ...]:
    """Measure the read noise of each amplifier in electron.

    Parameters
    ----------
    biases : sequence of RawFrame
        Neighbours are paired.
    gains : sequence of float
        Electron/adu of each amplifier.
    overscan : {'level', 'row', 'none'}
        How the overscan is subtracted.

    Returns
    -------
    tuple of float
        Electron rms, from about `NOISE_PIXELS` pixels of each pair; empty if there are fewer than two biases.
    """
    if len(biases) < 2:
        return ()
    parameters = GainParameters(overscan=overscan)
    return tuple(
        gain * read_noise_adu(biases, number, parameters, NOISE_PIXELS).value
        for number, gain in enumerate(gains)
    )


def gain_from_flats(
    flats: Sequence[RawFrame],
    biases: Sequence[RawFrame],
    number: int,
    noise: float,
    parameters: GainParameters,
) -> Measured:
    """Measure the gain of an amplifier, over neighbouring flats that are alike.

    Parameters
    ----------
    flats, biases : sequence of RawFrame
        In the order in which they were taken. The mean bias is subtracted; without biases, the overscan alone is.
    number : int
        The amplifier, from 0.
    noise : float
        Its read noise in adu rms.
    parameters : GainParameters
        Overscan, blocks, and which pairs are used.

    Returns
    -------
    Measured
        In electron/adu; 1 with error 0 and 0 pairs if no two neighbours are alike.

    Notes
    -----
    Photon transfer (Janesick 2001, Scientific Charge-Coupled Devices, ch. 2) with flats of unequal level: in
    each block, where the flats' bias-free levels are S1 and S2 [adu] and s = S1 / S2, the difference D = F1 -
    s F2 is free of the pattern that both share, and

        var(D) = (S1 + s² S2) / gain + (1 + s²) read_noise²

    since a level of S adu has a photon variance of S / gain adu². Solved for 1 / gain in each block, averaged, and
    inverted last: gain is not linear in what is measured. The standard error e of 1 / gain becomes e gain².
    For s = 1 this is the formula of Howell 2006, Handbook of CCD Astronomy, 2nd ed., section 4.3.
    """
    # The mean of all biases: its own noise is common to both flats of a pair, and mostly cancels in their difference.
    bias = sum(
        (image.data / len(biases) for image in _amplifier_images(biases, number, parameters)), np.float32(0)
    )
    measured = []
    for first, second in pairwise(_amplifier_images(flats, number, parameters)):
        # Near saturation photon noise is cut off, and the gain would come out too high.
        if max(excluded(flat.dq).mean() for flat in (first, second)) > parameters.max_saturated:
            continue
        inverse = _inverse_gains(first.data - bias, second.data - bias, noise, parameters)
        if inverse.size and inverse.mean() > 0:
            measured.append((float(inverse.mean()), float(inverse.std()) / sqrt(inverse.size)))
    mean = _mean(_quietest(measured))
    if not mean.pairs:
        return Measured(1.0, 0.0, 0)
    return Measured(1 / mean.value, mean.error / mean.value**2, mean.pairs)


def _quietest(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those pairs of flats, each with 1 / gain and its error, that agree with the smallest 1 / gain."""
    # Whatever two flats do not share, such as the dust of another filter, adds to the variance of their difference and
    # never takes away from it: the smallest is nearest to photon noise alone.
    if not pairs:
        return []
    least, error = min(pairs)
    return [
        pair
        for pair in pairs
        if pair[0] - least <= AGREEMENT * least + AGREEMENT_SIGMA * hypot(pair[1], error)
    ]


def measured_gain(frames: Sequence[CalibratedFrame], number: int) -> Measured:
    """Measure the gain of an amplifier from flats that were brought to electron with a gain that somebody stated.

    Parameters
    ----------
    frames : sequence of CalibratedFrame
        Flats, bias and dark subtracted, in the order in which they were taken; the first `CHECKED_FLATS` are enough.
    number : int
        The amplifier, from 0.

    Returns
    -------
    Measured
        In electron/adu; 0 pairs if no two neighbours are alike, or the read noise is more than their photon noise.

    Notes
    -----
    As `gain_from_flats`, with signals in electron of the stated gain G: 1 / gain of that formula is then G over the
    true gain.
    """
    parameters = GainParameters()
    readout = frames[0].prepared.readout
    stated, noise = readout.gains[number], readout.read_noises[number]
    target = frames[0].prepared.frame.detector.amplifiers[number].target
    middle = middle_rows((target.y1 - target.y0, target.x1 - target.x0), NOISE_PIXELS, parameters.block)
    rows = slice(target.y0 + middle.start, target.y0 + middle.stop)
    flats = frames[:CHECKED_FLATS]
    images = [frame.rows(rows).data[:, target.x0 : target.x1] for frame in flats]
    if frames[0].prepared.frame.mosaic:
        images = [
            image[::CELL, ::CELL] for image in images
        ]  # of one colour: neighbours of others have other levels
    measured = []
    for first, second in pairwise(images):
        if min(float(median(image.ravel())) for image in (first, second)) > noise**2:
            ratios = _inverse_gains(first, second, noise, parameters)
            if ratios.size and ratios.mean() > 0:
                measured.append((float(ratios.mean()), float(ratios.std()) / sqrt(ratios.size)))
    mean = _mean(_quietest(measured))
    return (
        Measured(stated / mean.value, mean.error * stated / mean.value**2, mean.pairs) if mean.pairs else mean
    )


def block_variances(difference: FloatArray, block: int) -> Floats:
    """Return the variance of the difference of two frames in each block, outliers left out.

    Parameters
    ----------
    difference : float32 array, shape (ny, nx)
        adu.
    block : int
        Side of a block in pixels; what is left over at the far edges is not used.

    Returns
    -------
    float64 array, shape (blocks,)
        adu². Each block has its own level: what changes slowly over the frame is not counted. 0 for a block with fewer
        than two good pixels.
    """
    # Flats whose light changed its slope, or skies with a gradient, differ by a plane: small blocks see little of it.
    cells = blocks(difference, block)
    residual = cells - median(cells)[:, None]
    # One spread for all blocks, since it is only to tell what was hit; the level is the mean of what is left.
    good = np.abs(residual) <= OUTLIER * max(NORMAL_MAD * typical_size(sampled(residual)), LEAST_SPREAD)
    count = np.maximum(good.sum(axis=1), 2)
    mean = np.where(good, residual, 0).sum(axis=1) / count
    squares = np.where(good, residual - mean[:, None], 0) ** 2
    variances: Floats = squares.sum(axis=1) / (count - 1)
    return variances


def _inverse_gains(first: FloatArray, second: FloatArray, noise: float, parameters: GainParameters) -> Floats:
    """1 / gain in each block; none if the flats are too different for a pair, or hold no light."""
    levels, others = (median(blocks(flat, parameters.block)) for flat in (first, second))
    # A block without light has no ratio.
    if min(levels.min(), others.min()) <= 0:
        return np.empty(0)
    ratio = levels / others
    # One ratio for all blocks: with one for each, the noise would be fitted away.
    typical = float(median(ratio))
    if robust_sigma(ratio / typical) > parameters.max_structure:
        return np.empty(0)
    variances = block_variances(first - np.float32(typical) * second, parameters.block)
    inverse: Floats = (variances - (1 + typical**2) * noise**2) / (levels + typical**2 * others)
    return without_outliers(inverse)


def _amplifier_images(
    frames: Sequence[RawFrame], number: int, parameters: GainParameters, pixels: int | None = None
) -> Iterator[Image]:
    """Pixels of one amplifier in adu, or about so many in its middle, one frame after the other."""
    for frame in frames:
        yield amplifier_rows(frame, number, parameters.overscan, pixels=pixels, block=parameters.block)


def _mean(pairs: Sequence[tuple[float, float]]) -> Measured:
    """Mean of the pairs' numbers, their errors added in quadrature."""
    if not pairs:
        return Measured(0.0, 0.0, 0)
    values, errors = np.array(pairs).T
    return Measured(float(values.mean()), float(np.sqrt((errors**2).sum()) / len(pairs)), len(pairs))


def _output(rows: Sequence[tuple[str, Measured, Measured]]) -> Output:
    table: dict[str, NDArray[Any]] = {
        "amplifier": np.array([label for label, _, _ in rows]),
        "gain": np.array([gain.value for _, gain, _ in rows]),
        "gain_error": np.array([gain.error for _, gain, _ in rows]),
        "read_noise": np.array([gain.value * noise.value for _, gain, noise in rows]),
        "read_noise_adu": np.array([noise.value for _, _, noise in rows]),
        "pairs": np.array([gain.pairs for _, gain, _ in rows], np.int32),
    }
    quality = {
        name: float(table[name].mean()) for name in ("gain", "gain_error", "read_noise", "read_noise_adu")
    }
    return Output(None, table=table, quality=quality)


RECIPE = Recipe(
    name="gain",
    version="4",
    inputs={"main": Input("raw", 1, None), "bias": Input("raw", 1, None)},
    outputs=("gain_table",),
    parameters=GainParameters,
    run=run,
    kernels=("ccdflow.recipes.kernels.calibrate_kernels",),
)
