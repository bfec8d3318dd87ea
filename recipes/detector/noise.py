"""What frames tell about their own read noise and bias where nothing else does: no header, no bias frame.

Read noise: from the overscan, or from one frame's neighbouring pixels. Level of the bias: from darks alone, by their
noise. The electrons of a dark scatter as their number does, the camera's bias does not, so that the variance says how
much of a dark's level is dark current (photon transfer, Janesick 2001, Scientific Charge-Coupled Devices, ch. 2).
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.core.doubts import OTHER, Doubt
from ccdflow.recipes.core.statistics import clipped_mean, without_outliers
from ccdflow.recipes.detector.amplifiers import Amplifier, RawFrame
from ccdflow.recipes.detector.blocks import OUTLIER, amplifier_rows, blocks
from ccdflow.recipes.detector.raw import Overscan
from ccdflow.recipes.detector.readout import Readout

Floats = NDArray[np.floating[Any]]

NOISE_FRAMES = 4
"""Frames whose differences are looked at: more would only cost time."""
FEWEST_PIXELS = 50
"""Differences of pixels that tell a noise at least: of fewer it is not even known to 10 %."""


def with_own_noise(
    frames: Sequence[RawFrame], readouts: Sequence[Readout], *, single: bool = False
) -> tuple[list[Readout], list[Doubt]]:
    """Return the readouts, read noise that nobody knows measured on the frames themselves.

    Parameters
    ----------
    frames : sequence of RawFrame
        Each with its own detector.
    readouts : sequence of Readout
        What is known of each.
    single : bool
        True if, without an overscan either, the scatter of a frame's neighbouring pixels may count: of biases, which
        hold nothing but noise and some pattern.

    Returns
    -------
    (list of Readout, list of Doubt)
        In the same order; and one doubt where a noise is that of neighbouring pixels.
    """
    measured, doubts = [], []
    for frame, readout in zip(frames, readouts, strict=True):
        noises, own = _own_noises(frame, readout, single=single)
        known = noises != readout.read_noises
        origin = "measured" if known and all(noises) else readout.noise_from
        measured.append(replace(readout, read_noises=noises, noise_from=origin))
        doubts += own
    return measured, doubts


def _own_noises(frame: RawFrame, readout: Readout, *, single: bool) -> tuple[tuple[float, ...], list[Doubt]]:
    noises, doubts = list(readout.read_noises), []
    # 0 is a noise that nobody knows, amplifier by amplifier.
    for number, amplifier in enumerate(frame.detector.amplifiers):
        if noises[number]:
            continue
        noises[number] = readout.gains[number] * overscan_noise(frame, amplifier)
        if single and not noises[number]:
            adu = amplifier_rows(frame, number, "none").data
            noises[number] = readout.gains[number] * _neighbours_noise(adu)
            measured = (
                f"{noises[number]:.3g} electron is the scatter of neighbouring pixels of "
                f"{frame.name or 'the frame'}, its pattern included"
            )
            # It is measured after a fashion: variances have it.
            sentence = f"read noise is neither in the header nor measured by two frames: {measured}"
            doubts = [Doubt(OTHER, sentence)]
    return tuple(noises), doubts


def overscan_noise(frame: RawFrame, amplifier: Amplifier) -> float:
    """Return the read noise of an amplifier from its overscan.

    Parameters
    ----------
    frame : RawFrame
        The overscan is cut from its pixels.
    amplifier : Amplifier
        One of the frame's.

    Returns
    -------
    float
        adu rms; 0 without an overscan, or if it has too few pixels.

    Notes
    -----
    Rms of the differences of neighbours along the longer side, over √2, outliers left out: neither a slope along
    the readout nor charge left over in the first columns counts.
    """
    section = amplifier.overscan
    if section is None:
        return 0.0
    pixels = np.asarray(frame.pixels[slice(section.y0, section.y1), slice(section.x0, section.x1)])
    return _neighbours_noise(pixels.astype(np.float64))


def _neighbours_noise(pixels: Floats) -> float:
    """Rms of the differences of neighbours along the longer side, over √2; 0 where there are too few."""
    axis = int(pixels.shape[1] > pixels.shape[0])
    steps = np.diff(pixels, axis=axis)
    steps = steps[np.isfinite(steps)]
    if steps.size < FEWEST_PIXELS:
        return 0.0
    return float(without_outliers(steps, sigma=OUTLIER).std() / np.sqrt(2))


def bias_levels(
    frames: Sequence[RawFrame], readouts: Sequence[Readout], overscan: Overscan
) -> tuple[float, ...]:
    """Return the level of each amplifier's bias in darks of one exposure time, where no bias frame tells it.

    Parameters
    ----------
    frames : sequence of RawFrame
        Darks, all alike; neighbours are compared.
    readouts : sequence of Readout
        Gain and read noise of each.
    overscan : {'level', 'row', 'none'}
        How the overscan is subtracted.

    Returns
    -------
    tuple of float
        Electron; 0 where the overscan is subtracted.

    Notes
    -----
    In a block of pixels with a mean level m and a variance s², in electron, the dark current's electrons are
    D = s² - RN², and the bias is m - D. The variance is half that of the difference of two darks. That of a single
    dark is half that of the differences of neighbouring pixels: pattern counts as noise then, so that the bias is taken
    for lower than it is, and a variance that is stated by it for higher.

    A read noise that is stated wrongly does no harm: RN² + (d - bias) is s² + (d - m) in any case. One above the
    noise there is would make dark current negative; the bias then is the level.
    """
    first = frames[0]
    return tuple(
        0.0
        if amplifier.overscan is not None and overscan != "none"
        else _bias_level(frames[:NOISE_FRAMES], readouts, number)
        for number, amplifier in enumerate(first.detector.amplifiers)
    )


def _bias_level(frames: Sequence[RawFrame], readouts: Sequence[Readout], number: int) -> float:
    gain, noise = readouts[0].gains[number], readouts[0].read_noises[number]
    images = [amplifier_rows(frame, number, "none", gain=gain).data for frame in frames]
    if len(images) > 1:
        pairs = [((a + b) / 2, a - b) for a, b in pairwise(images)]
    else:
        # Two pixels of one frame stand for one pixel of two frames.
        (image,) = images
        width = image.shape[1] - image.shape[1] % 2
        left, right = image[:, 0:width:2], image[:, 1:width:2]
        pairs = [((left + right) / 2, left - right)]
    levels, electrons = [], []
    for mean, difference in pairs:
        for level, step in zip(blocks(mean), blocks(difference), strict=True):
            kept = np.isfinite(step)
            if kept.sum() < FEWEST_PIXELS:
                continue
            levels.append(clipped_mean(level[kept]))
            electrons.append(without_outliers(step[kept], sigma=OUTLIER).var() / 2 - noise**2)
    if not levels:
        return 0.0
    level, dark = np.array(levels), np.array(electrons)
    # Averaged over the blocks before it is limited: one block's noise must not decide.
    return min(clipped_mean(level - dark), float(np.median(level)))
