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

_BYTES_OF_INTEGERS = 2
"""Bytes of a value that tell the two kinds of `StoredNumbers` apart; reals have 4."""

OVERSCAN_CLIP = 4.0
"""Standard deviations from the level beyond which an overscan pixel is left out: something hit it."""


@dataclass(frozen=True)
class OverscanLevel:
    """Level of an amplifier's overscan.

    Parameters
    ----------
    values : float32 array, shape (1, 1), (ny, 1) or (1, nx)
        adu; ny and nx are those of the amplifier's data section.
    pixels : int
        Number of pixels that each value is the mean of; its own error is read noise / √pixels.
    """

    values: FloatArray
    pixels: int


def overscan_level(frame: RawFrame, amplifier: Amplifier, method: Overscan) -> OverscanLevel | None:
    """Return the level of an amplifier's overscan.

    Parameters
    ----------
    frame : RawFrame
        The overscan is cut from its pixels, and nothing else.
    amplifier : Amplifier
        One of the frame's.
    method : {'level', 'row', 'none'}
        One number; or one for each row, or for each column if the overscan lies above or below the data.

    Returns
    -------
    OverscanLevel or None
        None where the amplifier has no overscan or `method` is ``none``.

    Raises
    ------
    ValueError
        If the overscan holds no finite pixel, or `method` is ``row`` and it does not lie beside all rows (or
        all columns) of the data.

    Notes
    -----
    A clipped mean, never a median: the median of whole adu is off by up to half an adu. NaN and infinity are left
    out; a row without a good pixel gets the mean of all rows.
    """
    section = amplifier.overscan
    if section is None or method == "none":
        return None
    # All of the section counts. A camera whose first overscan columns hold charge left over from the row should state a
    # section without them: that is a property of the camera, and its instrument file says it.
    stored = np.asarray(frame.pixels[slice(section.y0, section.y1), slice(section.x0, section.x1)])
    # Integers are finite: looking would cost as much as the mean.
    finite = stored if stored.dtype.kind in "ui" else stored[np.isfinite(stored)]
    if not finite.size:
        raise ValueError(f"overscan of {frame.name} amplifier {amplifier.name!r} holds no finite pixel")
    # Both methods count the pixels of the section, clipped ones too: without hits 4 sigma leave out 1 in 16,000.
    if method == "level":
        level = clipped_mean(finite, sigma=OVERSCAN_CLIP)
        return OverscanLevel(np.full((1, 1), level, np.float32), stored.size)
    raw = np.asarray(stored, np.float64)
    # Beside the data, an overscan pixel was read right after its row; above them, after its column.
    data = amplifier.data
    if section.y0 <= data.y0 and section.y1 >= data.y1:
        beside = raw[data.y0 - section.y0 : data.y1 - section.y0]
        return OverscanLevel(_line_means(beside)[:, None], raw.shape[1])
    if section.x0 <= data.x0 and section.x1 >= data.x1:
        above = raw[:, data.x0 - section.x0 : data.x1 - section.x0].T
        return OverscanLevel(_line_means(above)[None, :], raw.shape[0])
    raise ValueError(
        f"overscan {section} of {frame.name} does not lie beside all of its data {data}, which a level for each row"
        " needs: overscan=level takes one for all, or the instrument file states smaller data"
    )


def _line_means(lines: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> FloatArray:
    """Clipped mean of each row of the array; of all rows, for a row without a good pixel."""
    # One spread for all rows: a row of a few dozen pixels can't tell its own well enough to clip with.
    finite = np.isfinite(lines)
    filled = np.where(finite, lines, median(lines[finite]))
    residual = filled - median(filled)[:, None]
    good = finite & (np.abs(residual) <= OVERSCAN_CLIP * robust_sigma(residual[finite]))
    # Sums over a mask, not `numpy.nanmean`, which warns of rows without any good pixel.
    count = good.sum(axis=1)
    means = np.where(good, filled, 0).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, means, clipped_mean(filled)).astype(np.float32)


class PreparedFrame:
    """A raw frame as an image source in electron, prepared row by row as it is asked for.

    Flag saturated, subtract overscan, trim, multiply by gain, assemble the amplifiers. Pixels that no amplifier
    covers, or that are not finite, are 0 and ``NO_DATA``.

    Parameters
    ----------
    frame : RawFrame
        Only the rows that are asked for, and the overscan, are ever cut from its pixels.
    readout : Readout
        Gain and read noise of its amplifiers.
    overscan : {'level', 'row', 'none'}
        How the overscan is subtracted.

    Raises
    ------
    ValueError
        If a section lies outside the raw array, or an amplifier's data and target differ in shape.

    Notes
    -----
    In electron: data g (adu - level), variance RN² (1 + 1/n), for a gain g, a read noise RN, and a level that is the
    mean of n overscan pixels: the second term is the level's own error. That error is common to all pixels of the
    amplifier (of the row, with ``row``), where the variance of each pixel counts it. Photons are not yet in the
    variance, since the bias still is in the data.

    Saturation is told by the raw adu, before anything is subtracted: that is where the converter ends.
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
        """Overscan level of each amplifier, in adu, measured once."""
        amplifiers = self.frame.detector.amplifiers
        return [overscan_level(self.frame, amplifier, self.overscan) for amplifier in amplifiers]

    def rows(self, rows: slice) -> Image:
        """Return some rows of the assembled detector.

        Parameters
        ----------
        rows : slice
            Consecutive rows, counted from 0.

        Returns
        -------
        Image
            In electron; new memory.
        """
        start, stop, _ = rows.indices(self.shape[0])
        planes = empty_planes((stop - start, self.shape[1]))
        self.fill(rows, planes)
        return Image(planes.data, planes.variance, planes.dq, self.unit)

    def fill(self, rows: slice, planes: Planes) -> None:
        """Write some rows of the assembled detector.

        Parameters
        ----------
        rows : slice
            Consecutive rows, counted from 0.
        planes : Planes
            Written; `Planes.masters`, where there is one, gets 0.
        """
        start, stop, _ = rows.indices(self.shape[0])
        if not self._covered:
            planes.data[:], planes.variance[:], planes.dq[:] = 0, 0, DQ.NO_DATA
        # No master has been applied yet: all of the variance is the frame's own.
        if planes.masters is not None:
            planes.masters[:] = 0
        self._fill_amplifiers(start, stop, planes)

    def fill_uniform(self, rows: slice, data: FloatArray) -> float | None:
        """Write the data of some rows alone, if nothing is flagged and all amplifiers have one variance.

        Nearly all rows of biases are like that, see `ccdflow.recipes.core.image.UniformFiller`.

        Parameters
        ----------
        rows : slice
            Consecutive rows, counted from 0.
        data : float32 array, shape (rows, nx)
            In electron; written.

        Returns
        -------
        float or None
            Variance of each pixel in electron²; None where there is no such number.
        """
        # Amplifiers of different read noise, or with overscans of different size, have no variance in common.
        start, stop, _ = rows.indices(self.shape[0])
        first = self._amplifiers[0].numbers[1]
        if not self._covered or any(amplifier.numbers[1] != first for amplifier in self._amplifiers):
            return None
        # Planes without columns tell the kernel to write data only, and to count rows that would need a flag.
        nothing = np.empty((stop - start, 0), np.float32), np.empty((stop - start, 0), np.uint16)
        return None if self._fill_amplifiers(start, stop, Planes(data, *nothing)) else first

    @cached_property
    def _covered(self) -> bool:
        """True if each pixel belongs to an amplifier, so that nothing has to be written beforehand."""
        targets = [amplifier.target for amplifier in self.frame.detector.amplifiers]
        # One amplifier that covers the detector is the rule: its shape says so without an array.
        covered = np.zeros(self.shape, np.bool_)
        for target in targets if len(targets) > 1 else ():
            covered[target.y0 : target.y1, target.x0 : target.x1] = True
        return bool(covered.all()) or [target.shape for target in targets] == [self.shape]

    def _fill_amplifiers(self, start: int, stop: int, planes: Planes) -> int:
        """Write rows `start` to `stop`; return how many have a pixel to be flagged, where DQ has no columns."""
        flagged = 0
        for number, amplifier in enumerate(self.frame.detector.amplifiers):
            first, last = max(start, amplifier.target.y0), min(stop, amplifier.target.y1)
            if first < last:
                every_row = (first, last) == (start, stop)
                part = planes if every_row else _part(planes, first - start, last - start)
                flagged += self._fill_amplifier(number, first, last, part)
        return flagged

    def _fill_amplifier(self, number: int, first: int, last: int, planes: Planes) -> int:
        """As `_fill_amplifiers`, the columns of one amplifier, whose rows these are."""
        # LLVM takes a twentieth of a second to load, and most commands never need it.
        from ccdflow.recipes.kernels.calibrate_kernels import electrons, electrons_of_integers

        amplifier, known = self.frame.detector.amplifiers[number], self._amplifiers[number]
        # From rows of the assembled image to those of the raw array, and to those of the overscan's levels.
        rows = _data_rows(amplifier, first, last)
        first, last = rows.start - amplifier.data.y0, rows.stop - amplifier.data.y0
        # Levels are those of raw rows, in the order of the raw array: the kernel turns rows around when it writes them.
        levels = known.row_levels[first:last], known.column_levels
        out = planes.data, planes.variance, planes.dq
        pixels = self.frame.pixels
        # Integers of 16 bits, as nearly all cameras write them, go from the file's bytes to electron in one pass.
        stored = pixels.stored(rows) if are_stored(pixels) else None
        if stored is None or stored.numbers.dtype.itemsize != _BYTES_OF_INTEGERS:
            return int(electrons(_adu(pixels, rows, stored), known.geometry, levels, known.numbers, out))
        numbers, row = (stored.numbers, stored.zero), np.empty(amplifier.data.shape[1], np.float32)
        return int(electrons_of_integers(*numbers, known.geometry, levels, known.numbers, out, row))

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
    """What the kernel is told of an amplifier, see `ccdflow.recipes.kernels.calibrate_kernels.electrons`.

    `numbers` are the gain [electron/adu], the variance [electron²] and the saturation level [adu].
    """

    geometry: tuple[int, int, int, bool, bool]
    row_levels: FloatArray
    column_levels: FloatArray
    numbers: tuple[float, float, float]

    @classmethod
    def of(
        cls, amplifier: Amplifier, level: OverscanLevel | None, gain: float, read_noise: float
    ) -> "_AmplifierNumbers":
        data, target = amplifier.data, amplifier.target
        # The kernel subtracts both, so that one of them is 0.
        row_levels, column_levels = (np.zeros(size, np.float32) for size in data.shape)
        variance = read_noise**2
        if level is not None:
            by_column = level.values.shape[1] > 1
            (column_levels if by_column else row_levels)[:] = level.values.ravel()
            # The mean of n pixels of variance RN² has variance RN² / n, and is subtracted from each pixel.
            variance *= 1 + 1 / level.pixels
        # Two turns cancel: what is read backwards and belongs in the image backwards is copied as it is.
        turned = data.flip_y != target.flip_y, data.flip_x != target.flip_x
        geometry = data.x0, data.x1, target.x0, *turned
        return cls(geometry, row_levels, column_levels, (gain, variance, amplifier.saturation))


def read_adu(pixels: Pixels, rows: slice) -> FloatArray:
    """Return some rows of a raw array in adu.

    Parameters
    ----------
    pixels : Pixels
        Raw array of shape (ny, nx), overscan included.
    rows : slice
        Consecutive rows, counted from 0.

    Returns
    -------
    float32 array, shape (rows, nx)
        C-contiguous. Integers of 16 bits are exact in it.
    """
    return _adu(pixels, rows, pixels.stored(rows) if are_stored(pixels) else None)


def _adu(pixels: Pixels, rows: slice, stored: StoredNumbers | None) -> FloatArray:
    from ccdflow.recipes.kernels.calibrate_kernels import decode_integers, decode_reals

    if stored is None:
        return np.ascontiguousarray(pixels[rows, slice(None)], np.float32)
    adu = np.empty(stored.numbers.shape, np.float32)
    if stored.numbers.dtype.itemsize == _BYTES_OF_INTEGERS:
        decode_integers(stored.numbers.reshape(-1), stored.zero, adu.reshape(-1))
    else:
        decode_reals(stored.numbers.reshape(-1), adu.view(np.uint32).reshape(-1))
    return adu


def _part(planes: Planes, first: int, last: int) -> Planes:
    return Planes(planes.data[first:last], planes.variance[first:last], planes.dq[first:last])


def prepare(frame: RawFrame, readout: Readout, *, overscan: Overscan = "level") -> Image:
    """Return a whole frame in electron: saturated pixels flagged, overscan subtracted, trimmed, assembled.

    Parameters
    ----------
    frame : RawFrame
        Not changed.
    readout : Readout
        Gain and read noise of its amplifiers.
    overscan : {'level', 'row', 'none'}
        How the overscan is subtracted.

    Returns
    -------
    Image
        Shape of the detector; as from `PreparedFrame`, whose notes have the variance.

    Raises
    ------
    ValueError
        If sections do not fit the frame, or the overscan can't be measured.

    Examples
    --------
    Three columns of light at 310 adu and one of overscan at 300, with 2 electron/adu and a read noise of 4 electron:

    >>> from ccdflow.recipes.detector.amplifiers import Section
    >>> adu = np.array([[310, 310, 310, 300]] * 2, np.uint16)
    >>> light, dark = Section.parse("[1:3,1:2]"), Section.parse("[4:4,1:2]")
    >>> detector = Detector((2, 3), (Amplifier(light, light, overscan=dark),))
    >>> image = prepare(RawFrame(adu, detector), Readout(gains=(2.0,), read_noises=(4.0,)))
    >>> image.data[0], image.variance[0]
    (array([20., 20., 20.], dtype=float32), array([24., 24., 24.], dtype=float32))
    """
    return PreparedFrame(frame, readout, overscan=overscan).rows(slice(None))


def amplifier_region(amplifier: Amplifier) -> tuple[slice, slice]:
    """Return where an amplifier's pixels stand in the assembled image.

    Parameters
    ----------
    amplifier : Amplifier
        One of a detector's.

    Returns
    -------
    (slice, slice)
        Rows and columns.
    """
    target = amplifier.target
    return slice(target.y0, target.y1), slice(target.x0, target.x1)


def correct_linearity(planes: Planes, detector: Detector, *, first_row: int = 0) -> None:
    """Turn each signal s into the true s (1 + c1 s + c2 s² + ...), and flag what lies beyond its range; in place.

    Parameters
    ----------
    planes : Planes
        In electron, bias subtracted; rows of the assembled detector from `first_row` on.
    detector : Detector
        Its amplifiers' `linearity` holds c1, c2, ...; above its `nonlinear` a pixel gets ``NONLINEAR``.
    first_row : int
        Row of the detector that the first row of the planes is.

    Notes
    -----
    Variances, `Planes.masters` included, are multiplied by the square of the polynomial's derivative at s: the
    error of f(s) is f'(s) times that of s. The polynomial is 0 at 0, and is used for negative s too, where it is
    near to s. NaN stays NaN, and gets no flag here.
    """
    for amplifier in detector.amplifiers:
        rows, columns = amplifier_region(amplifier)
        part = slice(max(rows.start - first_row, 0), max(rows.stop - first_row, 0)), columns
        # A copy: what is flagged, and the slope, are those of the signal as measured.
        signal = planes.data[part].copy()
        if amplifier.nonlinear is not None:
            planes.dq[part] |= np.where(signal > amplifier.nonlinear, np.uint16(DQ.NONLINEAR), np.uint16(0))
        if amplifier.linearity:
            # 0 + 1 s + c1 s² + c2 s³ + ...: a coefficient ci belongs to the power i + 1.
            polynomial = np.polynomial.Polynomial([0.0, 1.0, *amplifier.linearity])
            planes.data[part] = polynomial(signal)
            slope = polynomial.deriv()(signal)
            planes.variance[part] *= slope**2
            if planes.masters is not None:
                planes.masters[part] *= slope**2


def _data_rows(amplifier: Amplifier, first: int, last: int) -> slice:
    """Rows of the raw array that become the rows `first` to `last` of the assembled detector."""
    # Row k of a target that runs the other way is the raw row k from the end, so first and last change places.
    data, target = amplifier.data, amplifier.target
    if data.flip_y != target.flip_y:
        return slice(data.y1 - (last - target.y0), data.y1 - (first - target.y0))
    return slice(data.y0 + first - target.y0, data.y0 + last - target.y0)
