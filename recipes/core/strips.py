"""Frames cut into horizontal strips, so that combining them holds one strip of each.

A pixel of a stack depends on the same pixel of all frames, and on nothing else: how the frames are cut changes what is
in memory, never the result. What does concern all pixels, whether the stated noise is true, is measured beforehand on
a sample (`survey`), which does not depend on the strips either.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.core import memory
from ccdflow.recipes.core.dq import BoolArray, DQArray, excluded
from ccdflow.recipes.core.image import FloatArray, ImageSource, Planes, fill, fills_uniformly

STRIP_BYTES = 16_000_000
"""Bytes of one strip of all frames, unless a row of each takes more: larger strips do not stay in the cache, smaller
ones mean more pieces to read."""
LEAST_STRIP_PIXELS = 16_384
"""Pixels that a strip of many frames has at least, within `MOST_STRIP_BYTES`: reading a piece has a cost of its own."""
MOST_STRIP_BYTES = 64_000_000
"""Bytes of one strip of all frames at most, however many there are; but never less than a whole row."""
BYTES_PER_VALUE = 14
"""Bytes of a pixel of one frame in a strip: data 4, variance 4, masters' part 4, DQ 2."""
SURVEY_BANDS = 16
"""Bands of rows that are surveyed, from the first row to the last: flats and skies differ over the frame."""
SURVEY_VALUES = 200_000
"""Values of all frames together that tell how true the stated noise is; the scatter is then known to some 0.4 %."""
LEAST_SURVEYED = 4_000
"""Fewest values of each frame that are surveyed, for its typical variance."""

Calibration = tuple[str, ImageSource | None]
"""Identity of a frame's masters, and as data the part of its variance that they brought; or the frame itself, where
it writes that part beside its own pixels (`ccdflow.recipes.core.image.Filler`)."""


# From here on n is the number of frames, npix the number of pixels that are looked at together, and arrays of shape
# (n, npix) hold a frame in each row.


@dataclass(frozen=True)
class Frames:
    """Frames of one shape and unit, each with its scale, weight and masters.

    Parameters
    ----------
    sources : sequence of ImageSource
        The n frames.
    scales : float32 array, shape (n,)
        Factor of each frame's data.
    weights : float32 array, shape (n,)
        Weight of each frame in the mean; any sum.
    calibrations : sequence of (str, ImageSource or None)
        Each frame's masters, see `Calibration`.
    """

    sources: Sequence[ImageSource]
    scales: NDArray[np.float32]
    weights: NDArray[np.float32]
    calibrations: Sequence[Calibration]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns ``(ny, nx)``."""
        return self.sources[0].shape

    @property
    def identities(self) -> list[str]:
        """Each frame's identity of masters, ``""`` where their part of the variance is not known."""
        return [identity if source is not None else "" for identity, source in self.calibrations]


@dataclass(frozen=True)
class Strip:
    """Values of all frames in some rows, as read: not yet scaled.

    Behind the pixels of the rows each array has some more, up to a whole cache line, which mean nothing.

    Parameters
    ----------
    values : float32 array, shape (n, npix)
        Data, in the frames' unit.
    variance : float32 array, shape (n, npix)
    shared : float32 array, shape (n, npix) or (0, npix)
        The masters' part of the variance; without rows if no frame has any.
    dq : uint16 array, shape (n, npix)
    uniform : float32 array, shape (n,) or (0,)
        If not empty, the variance of all pixels of each frame; no pixel is flagged then, and what stands in
        `variance` and `dq` means nothing.
    """

    values: FloatArray
    variance: FloatArray
    shared: FloatArray
    dq: DQArray
    uniform: FloatArray


@dataclass(frozen=True)
class Survey:
    """Values of all frames at some pixels, multiplied by the frames' scales.

    Parameters
    ----------
    values, variance : float32 arrays, shape (n, npix)
        The variance is multiplied by the scales squared.
    shared : float32 array or None, shape (n, npix)
        The masters' part of the variance, scaled like it; None if no frame has one.
    used : bool array, shape (n, npix)
        True where a value is neither excluded by its bits nor infinite nor NaN, nor its variance.
    """

    values: FloatArray
    variance: FloatArray
    shared: FloatArray | None
    used: BoolArray


def checked_frames(
    sources: Sequence[ImageSource],
    scales: Sequence[float] | None,
    weights: Sequence[float] | None,
    calibrations: Sequence[Calibration] | None,
) -> Frames:
    """Return frames with their scales, weights and masters, checked that they fit together.

    Parameters
    ----------
    sources : sequence of ImageSource
        The n frames, of one shape and unit.
    scales, weights : sequence of float or None
        One for each frame, above 0; None means 1.
    calibrations : sequence of (str, ImageSource or None), or None
        One for each frame, see `Calibration`; None if nothing is known of their masters.

    Returns
    -------
    Frames

    Raises
    ------
    ValueError
        If there is no frame, or shapes or units differ, or a scale, weight or calibration is missing, or a scale or
        weight is not a finite number above 0.
    """
    if not sources:
        raise ValueError("there is no frame to combine")
    first, n = sources[0], len(sources)
    for number, source in enumerate(sources, start=1):
        if source.shape != first.shape:
            raise ValueError(f"frame {number} has shape {source.shape}, frame 1 has {first.shape}")
        if source.unit != first.unit:
            raise ValueError(f"frame {number} is in {source.unit!r}, frame 1 is in {first.unit!r}")
    calibrations = [("", None)] * n if calibrations is None else calibrations
    if len(calibrations) != n:
        raise ValueError(f"found {len(calibrations)} calibrations for {n} frames")
    return Frames(sources, _factors("scales", scales, n), _factors("weights", weights, n), calibrations)


def _factors(name: str, numbers: Sequence[float] | None, n: int) -> NDArray[np.float32]:
    factors = np.ones(n, np.float32) if numbers is None else np.asarray(numbers, np.float32)
    # A scale of 0 would make values without error; weights of both signs can have a sum of 0.
    if factors.shape != (n,):
        raise ValueError(f"found {factors.size} {name} for {n} frames")
    if not (np.isfinite(factors) & (factors > 0)).all():
        raise ValueError(f"{name} must be finite and above 0; found {factors.tolist()}")
    return factors


def strips(shape: tuple[int, int], n: int, height: int | None = None) -> Iterator[slice]:
    """Yield the rows of each strip, from the first to the last.

    Parameters
    ----------
    shape : (int, int)
        Number of rows and columns ``(ny, nx)`` of each frame.
    n : int
        Number of frames.
    height : int, optional
        Rows of a strip; by default as many as `STRIP_BYTES` and its kin allow, and at least 1.

    Yields
    ------
    slice
        Rows that follow each other without gap; the last strip may be lower.
    """
    ny, nx = shape
    pixel = n * BYTES_PER_VALUE
    # Three regimes: up to some 70 frames the cache decides; beyond that each frame's piece keeps its least size; from
    # some 280 frames on memory decides, and pieces get smaller.
    pixels = max(STRIP_BYTES // pixel, min(LEAST_STRIP_PIXELS, MOST_STRIP_BYTES // pixel))
    # Whole rows, since a source gives rows; a frame wider than the memory allows has strips of one row.
    height = height or max(1, pixels // nx)
    for start in range(0, ny, height):
        yield slice(start, min(start + height, ny))


class StripReader:
    """Memory for one strip of all frames, and how it is filled; each thread has its own.

    Parameters
    ----------
    frames : Frames
        What is read.
    rows : int
        Height of a strip.
    uniform : bool
        True if strips may come without variance and DQ where one number stands for them.
    """

    def __init__(self, frames: Frames, rows: int, *, uniform: bool = False) -> None:
        self.frames = frames
        # A master's part of the variance is another one in each pixel, so that no single number can stand for it.
        self.uniform = uniform and not any(frames.identities)
        self.pixels = rows * frames.shape[1]
        self.shape = shape = len(frames.sources), memory.whole_lines(self.pixels)
        self._values, self._variance = memory.empty(shape, np.float32), memory.empty(shape, np.float32)
        self._dq = memory.empty(shape, np.uint16)
        # Without masters their part takes no memory; with some, rows of frames without any stay 0.
        self._shared = memory.empty(shape if any(frames.identities) else (0, shape[1]), np.float32)
        self._shared[:] = 0

    def read(self, rows: slice) -> Strip:
        """Read some rows of all frames, as the sources give them.

        Parameters
        ----------
        rows : slice
            Consecutive rows; of another number than `rows` of the reader they cost memory of their own.

        Returns
        -------
        Strip
            Valid until the next strip is read, which is written over it.
        """
        height, nx = rows.stop - rows.start, self.frames.shape[1]
        # The last strip of a frame is lower as a rule: its arrays would not be contiguous in this memory.
        if height * nx != self.pixels:
            return StripReader(self.frames, height, uniform=self.uniform).read(rows)
        uniform = self._read_uniform(rows) if self.uniform else []
        if not uniform:
            self._read(rows)
        return Strip(self._values, self._variance, self._shared, self._dq, np.array(uniform, np.float32))

    def _read_uniform(self, rows: slice) -> list[float]:
        """Fill the values alone; return the variance of each frame, or nothing where one number does not do."""
        variances: list[float] = []
        for source, values in zip(self.frames.sources, self._values, strict=True):
            data = values[: self.pixels].reshape(-1, self.frames.shape[1])
            variance = source.fill_uniform(rows, data) if fills_uniformly(source) else None
            # One such frame is enough, since the combination takes all frames in one way: `_read` then fills all of
            # them anew.
            if variance is None:
                return []
            variances.append(variance)
        return variances

    def _read(self, rows: slice) -> None:
        """Fill all planes."""
        shape, size = (-1, self.frames.shape[1]), self.pixels
        for i, source in enumerate(self.frames.sources):
            identity, masters = self.frames.calibrations[i]
            wanted = bool(identity) and masters is not None
            shared = self._shared[i, :size].reshape(shape) if wanted else None
            planes = Planes(
                self._values[i, :size].reshape(shape),
                self._variance[i, :size].reshape(shape),
                self._dq[i, :size].reshape(shape),
                shared if masters is source else None,
            )
            # A source that is its own masters' part writes it along with its pixels; another is read by itself.
            fill(source, rows, planes)
            if shared is not None and masters is not None and masters is not source:
                shared[:] = masters.rows(rows).data


def survey(frames: Frames) -> Survey:
    """Return values of all frames in rows and columns evenly spread, scaled; nearly all of a small image.

    Parameters
    ----------
    frames : Frames
        Read in `SURVEY_BANDS` bands of rows.

    Returns
    -------
    Survey
        The same whatever the strips, and about as many values whatever the number of frames.
    """
    ny, nx = frames.shape
    pixels = max(SURVEY_VALUES // len(frames.sources), LEAST_SURVEYED)
    # Bands as high as the number of pixels allows, and no higher than that all of them cover the frame; a small frame
    # is covered by fewer. Of what they hold every `step`-th pixel is taken.
    height = max(1, min(-(-ny // SURVEY_BANDS), pixels // nx // SURVEY_BANDS))
    starts = np.linspace(0, ny - height, min(SURVEY_BANDS, -(-ny // height))).astype(int).tolist()
    step = max(height * nx * len(starts) // pixels, 1) | 1  # odd, so that it does not keep to some columns

    reader = StripReader(frames, height)
    chosen = slice(0, height * nx, step)
    parts = [_surveyed(reader.read(slice(start, start + height)), frames, chosen) for start in starts]
    # A band's rows lie side by side in `Strip`, so bands are joined along the pixels.
    joined = [np.concatenate(planes, axis=1) for planes in zip(*parts, strict=True)]
    return Survey(joined[0], joined[1], joined[2] if len(joined[2]) else None, joined[3])


def _surveyed(strip: Strip, frames: Frames, chosen: slice) -> tuple[NDArray[Any], ...]:
    # Frames are surveyed as they are combined, and there data are scaled by s, variances by s².
    scale = frames.scales[:, None]
    dq = strip.dq[:, chosen]
    # What stands in excluded pixels may be anything, numbers that overflow included.
    with np.errstate(invalid="ignore", over="ignore"):
        values, variance = strip.values[:, chosen] * scale, strip.variance[:, chosen] * scale**2
        # Without masters `shared` has no rows, and then takes no scales either.
        shared = strip.shared[:, chosen] * scale[: len(strip.shared)] ** 2
    used = ~excluded(dq) & np.isfinite(values) & np.isfinite(variance)
    if len(shared):
        used &= np.isfinite(shared)
    return values, variance, shared, used
