"""What a raw frame in electron states of itself: gain 1, its amplifiers' read noise, and where it saturates."""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

import numpy as np

from ccdflow.recipes.combine.average import Combined
from ccdflow.recipes.core.dq import excluded
from ccdflow.recipes.core.image import ImageSource
from ccdflow.recipes.core.response import Response, combined_response
from ccdflow.recipes.core.statistics import median
from ccdflow.recipes.detector.amplifiers import Amplifier
from ccdflow.recipes.detector.calibrate import CalibratedFrame, pixels_of
from ccdflow.recipes.detector.raw import PreparedFrame

MIDDLE_ROWS = 16
"""Rows in the middle of a master bias that tell its level: thousands of pixels, of which none counts for much."""


def prepared_response(prepared: PreparedFrame) -> Response:
    """Return the response of a raw frame in electron.

    Parameters
    ----------
    prepared : PreparedFrame
        Its overscan is subtracted.

    Returns
    -------
    Response
        Gain 1. The read noise is the rms over the amplifiers, each by its number of pixels, None where nobody knows it;
        the saturation that of the amplifier which saturates first.
    """
    amplifiers, readout = prepared.frame.detector.amplifiers, prepared.readout
    sizes = [amplifier.data.shape[0] * amplifier.data.shape[1] for amplifier in amplifiers]
    known = all(noise > 0 for noise in readout.read_noises)
    squares = sum(noise**2 * size for noise, size in zip(readout.read_noises, sizes, strict=True)) / sum(
        sizes
    )
    overscans = [0.0 if level is None else float(level.values.mean()) for level in prepared.levels]
    saturation = min(
        (amplifier.saturation - overscan) * gain
        for amplifier, overscan, gain in zip(amplifiers, overscans, readout.gains, strict=True)
    )
    return Response(1.0, sqrt(squares) if known else None, saturation)


def calibrated_response(frame: CalibratedFrame) -> Response:
    """Return the response of a calibrated frame, for a pixel whose flat is 1.

    Parameters
    ----------
    frame : CalibratedFrame
        With its masters.

    Returns
    -------
    Response
        As `prepared_response`, the saturation less the bias that the masters take away, and corrected for linearity.
    """
    response = prepared_response(frame.prepared)
    if response.saturation is None:
        return response
    signal = response.saturation - _subtracted_level(frame)
    amplifiers = frame.prepared.frame.detector.amplifiers
    return replace(response, saturation=min(_linear(signal, amplifier) for amplifier in amplifiers))


def _subtracted_level(frame: CalibratedFrame) -> float:
    """Electron that the masters take from a frame without light or dark signal."""
    masters = frame.masters
    if masters.bias is not None:
        return _level(pixels_of(masters.bias, "master bias"))
    # A dark that holds its bias takes it away; of several amplifiers that one saturates first which has most.
    return max(masters.bias_levels or (0.0,)) if masters.dark_holds_bias else 0.0


def _level(source: ImageSource) -> float:
    """Median of the good pixels in the middle of an image."""
    first = max(0, (source.shape[0] - MIDDLE_ROWS) // 2)
    rows = source.rows(slice(first, min(source.shape[0], first + MIDDLE_ROWS)))
    good = rows.data[~excluded(rows.dq) & np.isfinite(rows.data)]
    return float(median(good)) if good.size else 0.0


def _linear(signal: float, amplifier: Amplifier) -> float:
    """A signal in electron as the correction for linearity leaves it."""
    return signal * (1 + sum(c * signal**power for power, c in enumerate(amplifier.linearity, start=1)))


def master_response(
    responses: Sequence[Response], combined: Combined, factors: Sequence[float] | None = None
) -> Response:
    """Return the response of a master that is the average of raw frames.

    Parameters
    ----------
    responses : sequence of Response
        Of the frames.
    combined : Combined
        The average, which knows the frames' weights.
    factors : sequence of float, optional
        What each frame is multiplied by; by default 1.

    Returns
    -------
    Response
        In the master's unit.
    """
    scales = list(factors or [1.0] * len(responses))
    levels = [
        None if response.saturation is None else factor * response.saturation
        for factor, response in zip(scales, responses, strict=True)
    ]
    return combined_response(responses, scales, combined.weights, levels, spread=combined.spread)
