"""From adu as the camera wrote them to electron on the assembled detector."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from ccdflow.recipes.detector import Amplifier, Detector, RawFrame, Section
from ccdflow.recipes.dq import DQ
from ccdflow.recipes.image import FloatArray, Image
from ccdflow.recipes.readout import Readout
from ccdflow.recipes.statistics import clipped_mean, robust_sigma

Overscan = Literal["level", "row", "none"]
"""One level per amplifier, one per row (per column, where the overscan lies above or below), or none."""

OVERSCAN_CLIP = 4.0
"""Overscan pixels further from the level, in standard deviations, were hit by something."""


def flag_saturated(image: Image, *, saturation: float) -> Image:
    """Image with ``SATURATED`` set where data are at or above `saturation`, in the unit of the image."""
    bits = np.where(image.data >= saturation, np.uint16(DQ.SATURATED), np.uint16(0))
    return replace(image, dq=image.dq | bits)


def subtract_overscan(image: Image, level: FloatArray) -> Image:
    """Image minus the overscan level: one number, or one per row or column, in an array that broadcasts."""
    return replace(image, data=image.data - level)


def apply_gain(image: Image, *, gain: float, read_noise: float) -> Image:
    """Image in electron, with the read noise as its variance.

    Parameters
    ----------
    image : Image
        In adu.
    gain : float
        Electron per adu.
    read_noise : float
        Electron rms per pixel.
    """
    variance = np.full(image.shape, read_noise**2, np.float32)
    return Image(image.data * np.float32(gain), variance, image.dq, "electron")


@dataclass(frozen=True)
class OverscanLevel:
    """Level of an amplifier in adu, and of how many pixels it is the mean.

    `values` has shape (1, 1), (ny, 1) or (1, nx), ny and nx being those of the amplifier's data section.
    """

    values: FloatArray
    pixels: int


def overscan_level(frame: RawFrame, amplifier: Amplifier, method: Overscan) -> OverscanLevel | None:
    """Level of the amplifier's overscan; None where it has none or `method` is ``none``.

    Notes
    -----
    A clipped mean, never a median: the median of whole adu is off by up to half an adu.

    Raises
    ------
    ValueError
        If the overscan holds no finite pixel, or `method` is ``row`` and it does not lie beside all rows (or
        all columns) of the data.
    """
    section = amplifier.overscan
    if section is None or method == "none":
        return None
    raw = np.asarray(frame.pixels[slice(section.y0, section.y1), slice(section.x0, section.x1)], np.float64)
    if not np.isfinite(raw).any():
        raise ValueError(f"overscan of {frame.name} amplifier {amplifier.name!r} holds no finite pixel")
    if method == "level":
        level = clipped_mean(raw[np.isfinite(raw)], sigma=OVERSCAN_CLIP)
        return OverscanLevel(np.full((1, 1), level, np.float32), raw.size)
    data = amplifier.data
    if section.y0 <= data.y0 and section.y1 >= data.y1:
        beside = raw[data.y0 - section.y0 : data.y1 - section.y0]
        return OverscanLevel(_line_means(beside)[:, None], raw.shape[1])
    if section.x0 <= data.x0 and section.x1 >= data.x1:
        above = raw[:, data.x0 - section.x0 : data.x1 - section.x0].T
        return OverscanLevel(_line_means(above)[None, :], raw.shape[0])
    raise ValueError(f"overscan {section} of {frame.name} does not lie beside all of its data {data}")


def _line_means(lines: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> FloatArray:
    """Clipped mean of each row of the array; of all rows, for a row without a good pixel."""
    finite = np.isfinite(lines)
    filled = np.where(finite, lines, np.median(lines[finite]))
    residual = filled - np.median(filled, axis=1, keepdims=True)
    good = finite & (np.abs(residual) <= OVERSCAN_CLIP * robust_sigma(residual[finite]))
    count = good.sum(axis=1)
    means = np.where(good, filled, 0).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, means, clipped_mean(filled)).astype(np.float32)


class PreparedFrame:
    """A raw frame as an image source in electron, prepared row by row as it is asked for.

    Flag saturated, subtract overscan, trim, multiply by gain, assemble the amplifiers. The variance is the
    read noise squared, and what the overscan level's own error adds. Pixels that no amplifier covers, or that
    are not finite, are 0 and ``NO_DATA``.

    Parameters
    ----------
    frame : RawFrame
        Only the rows that are asked for, and the overscan, are ever cut from its pixels.
    readout : Readout
        Gain and read noise of its amplifiers.
    overscan : {'level', 'row', 'none'}
        How the overscan is subtracted.
    """

    def __init__(self, frame: RawFrame, readout: Readout, *, overscan: Overscan = "level") -> None:
        ny, nx = frame.pixels.shape
        for amplifier in frame.detector.amplifiers:
            for section in (amplifier.data, amplifier.overscan):
                if section is not None and (section.y1 > ny or section.x1 > nx):
                    raise ValueError(f"{frame.name} has {ny} rows and {nx} columns, {section} lies outside")
            if amplifier.data.shape != amplifier.target.shape:
                raise ValueError(f"{amplifier.data} and {amplifier.target} of {frame.name} differ in shape")
        self.frame = frame
        self.readout = readout
        self.overscan = overscan

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns ``(ny, nx)`` of the assembled detector."""
        return self.frame.detector.shape

    @property
    def unit(self) -> str:
        """Always ``electron``."""
        return "electron"

    @cached_property
    def levels(self) -> list[OverscanLevel | None]:
        """Overscan level of each amplifier, measured once."""
        amplifiers = self.frame.detector.amplifiers
        return [overscan_level(self.frame, amplifier, self.overscan) for amplifier in amplifiers]

    def rows(self, rows: slice) -> Image:
        """Rows `rows` of the assembled detector."""
        start, stop, _ = rows.indices(self.shape[0])
        shape = stop - start, self.shape[1]
        whole = Image(
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            np.full(shape, DQ.NO_DATA, np.uint16),
            self.unit,
        )
        for number, amplifier in enumerate(self.frame.detector.amplifiers):
            first, last = max(start, amplifier.target.y0), min(stop, amplifier.target.y1)
            if first < last:
                part = self._amplifier_rows(number, first, last)
                place = slice(first - start, last - start), slice(amplifier.target.x0, amplifier.target.x1)
                whole.data[place], whole.variance[place], whole.dq[place] = part.data, part.variance, part.dq
        return whole

    def _amplifier_rows(self, number: int, first: int, last: int) -> Image:
        """Rows `first` to `last` of the detector, as far as the amplifier covers them."""
        amplifier, level = self.frame.detector.amplifiers[number], self.levels[number]
        rows = _data_rows(amplifier, first, last)
        image = _cut(self.frame, rows, amplifier.data)
        image = flag_saturated(image, saturation=amplifier.saturation)
        read_noise = self.readout.read_noises[number]
        if level is not None:
            inside = slice(rows.start - amplifier.data.y0, rows.stop - amplifier.data.y0)
            values = level.values[inside] if len(level.values) > 1 else level.values
            image = subtract_overscan(image, values)
            read_noise *= (1 + 1 / level.pixels) ** 0.5
        image = apply_gain(image, gain=self.readout.gains[number], read_noise=read_noise)
        image.data[(image.dq & DQ.NO_DATA) != 0] = 0
        return _turned(image, amplifier)


def prepare(frame: RawFrame, readout: Readout, *, overscan: Overscan = "level") -> Image:
    """Whole frame in electron: saturated pixels flagged, overscan subtracted, trimmed, assembled."""
    return PreparedFrame(frame, readout, overscan=overscan).rows(slice(None))


def amplifier_region(amplifier: Amplifier) -> tuple[slice, slice]:
    """Where an amplifier's pixels stand in the assembled image."""
    target = amplifier.target
    return slice(target.y0, target.y1), slice(target.x0, target.x1)


def correct_linearity(image: Image, detector: Detector, *, first_row: int = 0) -> Image:
    """Image in which a signal s became s (1 + c1 s + c2 s² + ...), and what lies beyond its range is flagged.

    Parameters
    ----------
    image : Image
        In electron, bias subtracted; rows of the assembled detector from `first_row` on.
    detector : Detector
        Its amplifiers' `linearity` holds c1, c2, ...; above its `nonlinear` a pixel gets ``NONLINEAR``.

    Notes
    -----
    The variance is multiplied by the square of the polynomial's derivative.
    """
    if not any(one.linearity or one.nonlinear is not None for one in detector.amplifiers):
        return image
    result = Image(image.data.copy(), image.variance.copy(), image.dq.copy(), image.unit)
    for amplifier in detector.amplifiers:
        rows, columns = amplifier_region(amplifier)
        start, stop = max(rows.start - first_row, 0), max(rows.stop - first_row, 0)
        place = slice(start, stop), columns
        signal = image.data[place]
        if amplifier.nonlinear is not None:
            result.dq[place] |= np.where(signal > amplifier.nonlinear, np.uint16(DQ.NONLINEAR), np.uint16(0))
        if amplifier.linearity:
            polynomial = np.polynomial.Polynomial([0.0, 1.0, *amplifier.linearity])
            result.data[place] = polynomial(signal)
            result.variance[place] *= polynomial.deriv()(signal) ** 2
    return result


def _data_rows(amplifier: Amplifier, first: int, last: int) -> slice:
    data, target = amplifier.data, amplifier.target
    if data.flip_y != target.flip_y:
        return slice(data.y1 - (last - target.y0), data.y1 - (first - target.y0))
    return slice(data.y0 + first - target.y0, data.y0 + last - target.y0)


def _cut(frame: RawFrame, rows: slice, section: Section) -> Image:
    data = np.array(frame.pixels[rows, slice(section.x0, section.x1)], np.float32)
    dq = np.where(np.isfinite(data), np.uint16(0), np.uint16(DQ.NO_DATA))
    return Image(data, np.zeros(data.shape, np.float32), dq, "adu")


def _turned(image: Image, amplifier: Amplifier) -> Image:
    """Image in the orientation of the assembled detector."""
    y = slice(None, None, -1 if amplifier.data.flip_y != amplifier.target.flip_y else 1)
    x = slice(None, None, -1 if amplifier.data.flip_x != amplifier.target.flip_x else 1)
    return Image(image.data[y, x], image.variance[y, x], image.dq[y, x], image.unit)
