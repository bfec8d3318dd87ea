"""From adu as the camera wrote them to electron on the assembled detector."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import FloatArray, Image, Planes, empty_planes
from ccdflow.recipes.core.statistics import clipped_mean, median, robust_sigma
from ccdflow.recipes.detector.amplifiers import (
    Amplifier,
    Detector,
    Pixels,
    RawFrame,
    StoredNumbers,
    are_stored,
)
from ccdflow.recipes.detector.readout import Readout

Overscan = Literal["level", "row", "none"]
"""One level per amplifier, one per row (per column, where the overscan lies above or below), or none."""

OVERSCAN_CLIP = 4.0
"""Overscan pixels further from the level, in standard deviations, were hit by something."""


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
    stored = np.asarray(frame.pixels[slice(section.y0, section.y1), slice(section.x0, section.x1)])
    finite = stored if stored.dtype.kind in "ui" else stored[np.isfinite(stored)]
    if not finite.size:
        raise ValueError(f"overscan of {frame.name} amplifier {amplifier.name!r} holds no finite pixel")
    if method == "level":
        level = clipped_mean(finite, sigma=OVERSCAN_CLIP)
        return OverscanLevel(np.full((1, 1), level, np.float32), stored.size)
    raw = np.asarray(stored, np.float64)
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
    filled = np.where(finite, lines, median(lines[finite]))
    residual = filled - median(filled)[:, None]
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
        planes = empty_planes((stop - start, self.shape[1]))
        self.fill(rows, planes)
        return Image(planes.data, planes.variance, planes.dq, self.unit)

    def fill(self, rows: slice, planes: Planes) -> None:
        """Write rows `rows` of the assembled detector; masters brought nothing to their variance."""
        start, stop, _ = rows.indices(self.shape[0])
        if not self._covered:
            planes.data[:], planes.variance[:], planes.dq[:] = 0, 0, DQ.NO_DATA
        if planes.masters is not None:
            planes.masters[:] = 0
        self._fill_amplifiers(start, stop, planes)

    def fill_uniform(self, rows: slice, data: FloatArray) -> float | None:
        """Write the data of rows, see `ccdflow.recipes.core.image.UniformFiller`: nearly all rows of biases are."""
        start, stop, _ = rows.indices(self.shape[0])
        first = self._amplifiers[0].numbers[1]
        if not self._covered or any(one.numbers[1] != first for one in self._amplifiers):
            return None
        nothing = np.empty((stop - start, 0), np.float32), np.empty((stop - start, 0), np.uint16)
        return None if self._fill_amplifiers(start, stop, Planes(data, *nothing)) else first

    @cached_property
    def _covered(self) -> bool:
        """Whether each pixel belongs to an amplifier, none to two."""
        targets = [amplifier.target for amplifier in self.frame.detector.amplifiers]
        covered = np.zeros(self.shape, np.bool_)
        for target in targets if len(targets) > 1 else ():
            covered[target.y0 : target.y1, target.x0 : target.x1] = True
        return bool(covered.all()) or [target.shape for target in targets] == [self.shape]

    def _fill_amplifiers(self, start: int, stop: int, planes: Planes) -> int:
        """Write rows `start` to `stop`; gives how many rows have a pixel to be flagged, where DQ has no columns."""
        flagged = 0
        for number, amplifier in enumerate(self.frame.detector.amplifiers):
            first, last = max(start, amplifier.target.y0), min(stop, amplifier.target.y1)
            if first < last:
                whole = (first, last) == (start, stop)
                part = planes if whole else _part(planes, first - start, last - start)
                flagged += self._fill_amplifier(number, first, last, part)
        return flagged

    def _fill_amplifier(self, number: int, first: int, last: int, planes: Planes) -> int:
        """As `_fill_amplifiers`, the columns of one amplifier, whose rows these are."""
        # LLVM takes a twentieth of a second to load, and most commands never need it.
        from ccdflow.recipes.kernels.calibrate_kernels import electrons, electrons_of_integers

        amplifier, one = self.frame.detector.amplifiers[number], self._amplifiers[number]
        rows = _data_rows(amplifier, first, last)
        first, last = rows.start - amplifier.data.y0, rows.stop - amplifier.data.y0
        levels = one.row_levels[first:last], one.column_levels
        out = planes.data, planes.variance, planes.dq
        pixels = self.frame.pixels
        stored = pixels.stored(rows) if are_stored(pixels) else None
        if stored is None or stored.numbers.dtype.itemsize != 2:
            return int(electrons(_adu(pixels, rows, stored), one.place, levels, one.numbers, out))
        numbers, row = (stored.numbers, stored.zero), np.empty(amplifier.data.shape[1], np.float32)
        return int(electrons_of_integers(*numbers, one.place, levels, one.numbers, out, row))

    @cached_property
    def _amplifiers(self) -> list["_AmplifierNumbers"]:
        amplifiers, noises = self.frame.detector.amplifiers, self.readout.read_noises
        return [
            _AmplifierNumbers.of(amplifier, level, gain, noise)
            for amplifier, level, gain, noise in zip(
                amplifiers, self.levels, self.readout.gains, noises, strict=True
            )
        ]


@dataclass(frozen=True)
class _AmplifierNumbers:
    """What the kernel is told of an amplifier, see `ccdflow.recipes.kernels.calibrate_kernels.electrons`."""

    place: tuple[int, int, int, bool, bool]
    row_levels: FloatArray
    column_levels: FloatArray
    numbers: tuple[float, float, float]

    @classmethod
    def of(
        cls, amplifier: Amplifier, level: OverscanLevel | None, gain: float, read_noise: float
    ) -> "_AmplifierNumbers":
        data, target = amplifier.data, amplifier.target
        row_levels, column_levels = (np.zeros(size, np.float32) for size in data.shape)
        variance = read_noise**2
        if level is not None:
            by_column = level.values.shape[1] > 1
            (column_levels if by_column else row_levels)[:] = level.values.ravel()
            variance *= 1 + 1 / level.pixels
        turned = data.flip_y != target.flip_y, data.flip_x != target.flip_x
        place = data.x0, data.x1, target.x0, *turned
        return cls(place, row_levels, column_levels, (gain, variance, amplifier.saturation))


def read_adu(pixels: Pixels, rows: slice) -> FloatArray:
    """Whole rows of a raw array in adu: float32, shape (rows, nx), C-contiguous."""
    return _adu(pixels, rows, pixels.stored(rows) if are_stored(pixels) else None)


def _adu(pixels: Pixels, rows: slice, stored: StoredNumbers | None) -> FloatArray:
    from ccdflow.recipes.kernels.calibrate_kernels import decode_integers, decode_reals

    if stored is None:
        return np.ascontiguousarray(pixels[rows, slice(None)], np.float32)
    adu = np.empty(stored.numbers.shape, np.float32)
    if stored.numbers.dtype.itemsize == 2:
        decode_integers(stored.numbers.reshape(-1), stored.zero, adu.reshape(-1))
    else:
        decode_reals(stored.numbers.reshape(-1), adu.view(np.uint32).reshape(-1))
    return adu


def _part(planes: Planes, first: int, last: int) -> Planes:
    return Planes(planes.data[first:last], planes.variance[first:last], planes.dq[first:last])


def prepare(frame: RawFrame, readout: Readout, *, overscan: Overscan = "level") -> Image:
    """Whole frame in electron: saturated pixels flagged, overscan subtracted, trimmed, assembled."""
    return PreparedFrame(frame, readout, overscan=overscan).rows(slice(None))


def amplifier_region(amplifier: Amplifier) -> tuple[slice, slice]:
    """Where an amplifier's pixels stand in the assembled image."""
    target = amplifier.target
    return slice(target.y0, target.y1), slice(target.x0, target.x1)


def correct_linearity(planes: Planes, detector: Detector, *, first_row: int = 0) -> None:
    """Make of each signal s the true s (1 + c1 s + c2 s² + ...), and flag what lies beyond its range; in place.

    Parameters
    ----------
    planes : Planes
        In electron, bias subtracted; rows of the assembled detector from `first_row` on.
    detector : Detector
        Its amplifiers' `linearity` holds c1, c2, ...; above its `nonlinear` a pixel gets ``NONLINEAR``.

    Notes
    -----
    Variances are multiplied by the square of the polynomial's derivative.
    """
    for amplifier in detector.amplifiers:
        rows, columns = amplifier_region(amplifier)
        place = slice(max(rows.start - first_row, 0), max(rows.stop - first_row, 0)), columns
        signal = planes.data[place].copy()
        if amplifier.nonlinear is not None:
            planes.dq[place] |= np.where(signal > amplifier.nonlinear, np.uint16(DQ.NONLINEAR), np.uint16(0))
        if amplifier.linearity:
            polynomial = np.polynomial.Polynomial([0.0, 1.0, *amplifier.linearity])
            planes.data[place] = polynomial(signal)
            slope = polynomial.deriv()(signal)
            planes.variance[place] *= slope**2
            if planes.masters is not None:
                planes.masters[place] *= slope**2


def _data_rows(amplifier: Amplifier, first: int, last: int) -> slice:
    data, target = amplifier.data, amplifier.target
    if data.flip_y != target.flip_y:
        return slice(data.y1 - (last - target.y0), data.y1 - (first - target.y0))
    return slice(data.y0 + first - target.y0, data.y0 + last - target.y0)
