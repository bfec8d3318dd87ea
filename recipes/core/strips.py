"""Frames cut into horizontal strips, so that combining them holds one strip of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.core import memory
from ccdflow.recipes.core.dq import BoolArray, DQArray, excluded
from ccdflow.recipes.core.image import FloatArray, ImageSource, Planes, fill, fills_uniformly

STRIP_BYTES = 16_000_000
"""Memory that one strip of all frames takes, where a row of each does not take more: larger ones leave the cache,
of smaller ones more pieces are to be read."""
LEAST_PIXELS, MOST_BYTES = 16_384, 64_000_000
"""Of many frames a strip is as large, within that memory, since each piece of each frame takes its time to be read."""
BYTES_PER_VALUE = 14
"""What a pixel of a frame takes in a strip."""
SURVEY_BANDS = 16
SURVEY_VALUES, SURVEY_LEAST = 200_000, 4_000
"""Values of all frames together, and of each at least, that tell how true the stated noise is."""

Calibration = tuple[str, ImageSource | None]
"""Identity of a frame's masters, and as data the part of its variance that they brought; or the frame itself, where
it writes that part beside its own pixels (`ccdflow.recipes.core.image.Filler`)."""


@dataclass(frozen=True)
class Frames:
    """Frames of one shape and unit, each with its scale, weight and masters."""

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
    """Values of all frames in some rows, as read, shape (n, npix); `shared` has no rows if no frame has any.

    Behind the pixels of the rows each array has some more, which mean nothing.

    Where `uniform` is not empty, it holds the variance of all pixels of each frame, and no pixel is flagged; what
    stands in `variance` and `dq` then means nothing.
    """

    values: FloatArray
    variance: FloatArray
    shared: FloatArray
    dq: DQArray
    uniform: FloatArray


@dataclass(frozen=True)
class Survey:
    """Scaled values of all frames at some pixels, shape (n, npix).

    `shared` is the masters' part of the variance, or None if no frame has one; `used` is true where a value
    is neither excluded by its bits nor infinite nor NaN.
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
    """Frames that were found to fit together.

    Raises
    ------
    ValueError
        If there is none, or shapes or units differ, or a scale, weight or calibration is missing or
        impossible.
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


def _factors(name: str, given: Sequence[float] | None, n: int) -> NDArray[np.float32]:
    factors = np.ones(n, np.float32) if given is None else np.asarray(given, np.float32)
    if factors.shape != (n,):
        raise ValueError(f"found {factors.size} {name} for {n} frames")
    if not (np.isfinite(factors) & (factors > 0)).all():
        raise ValueError(f"{name} must be finite and above 0; found {factors.tolist()}")
    return factors


def strips(shape: tuple[int, int], n: int, height: int | None = None) -> Iterator[slice]:
    """Rows of each strip, from top to bottom; by default as high as memory allows for `n` frames."""
    ny, nx = shape
    pixel = n * BYTES_PER_VALUE
    pixels = max(STRIP_BYTES // pixel, min(LEAST_PIXELS, MOST_BYTES // pixel))
    height = height or max(1, pixels // nx)
    for start in range(0, ny, height):
        yield slice(start, min(start + height, ny))


class StripReader:
    """Memory for one strip of all frames, and how it is filled; each thread has its own.

    With `uniform`, strips come without variance and DQ where one number stands for them.
    """

    def __init__(self, frames: Frames, rows: int, *, uniform: bool = False) -> None:
        self.frames = frames
        self.uniform = uniform and not any(frames.identities)
        self.pixels = rows * frames.shape[1]
        self.shape = shape = len(frames.sources), memory.whole_lines(self.pixels)
        self._values, self._variance = memory.empty(shape, np.float32), memory.empty(shape, np.float32)
        self._dq = memory.empty(shape, np.uint16)
        grouped = shape if any(frames.identities) else (0, shape[1])
        self._shared = memory.empty(grouped, np.float32)
        self._shared[:] = 0

    def read(self, rows: slice) -> Strip:
        """Rows of all frames, as the sources give them; valid until the next strip is read."""
        height, nx = rows.stop - rows.start, self.frames.shape[1]
        if height * nx != self.pixels:
            return StripReader(self.frames, height, uniform=self.uniform).read(rows)
        uniform = self._read_uniform(rows) if self.uniform else []
        if not uniform:
            self._read(rows)
        return Strip(self._values, self._variance, self._shared, self._dq, np.array(uniform, np.float32))

    def _read_uniform(self, rows: slice) -> list[float]:
        """Fill the values alone; gives the variance of each frame, or nothing where they do not suffice."""
        found: list[float] = []
        for source, values in zip(self.frames.sources, self._values, strict=True):
            data = values[: self.pixels].reshape(-1, self.frames.shape[1])
            variance = source.fill_uniform(rows, data) if fills_uniformly(source) else None
            if variance is None:
                return []
            found.append(variance)
        return found

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
            fill(source, rows, planes)
            if shared is not None and masters is not None and masters is not source:
                shared[:] = masters.rows(rows).data


def survey(frames: Frames) -> Survey:
    """Values of all frames in rows and columns evenly spread, scaled; nearly all of a small image.

    The same whatever the strips, and about as many whatever the number of frames.
    """
    ny, nx = frames.shape
    pixels = max(SURVEY_VALUES // len(frames.sources), SURVEY_LEAST)
    height = max(1, min(-(-ny // SURVEY_BANDS), pixels // nx // SURVEY_BANDS))
    starts = np.linspace(0, ny - height, min(SURVEY_BANDS, -(-ny // height))).astype(int).tolist()
    step = max(height * nx * len(starts) // pixels, 1) | 1  # odd, so that it does not keep to some columns

    reader = StripReader(frames, height)
    some = slice(0, height * nx, step)
    parts = [_surveyed(reader.read(slice(start, start + height)), frames, some) for start in starts]
    joined = [np.concatenate(planes, axis=1) for planes in zip(*parts, strict=True)]
    return Survey(joined[0], joined[1], joined[2] if len(joined[2]) else None, joined[3])


def _surveyed(strip: Strip, frames: Frames, some: slice) -> tuple[NDArray[Any], ...]:
    scale = frames.scales[:, None]
    dq = strip.dq[:, some]
    # What stands in excluded pixels may be anything, numbers that overflow included.
    with np.errstate(invalid="ignore", over="ignore"):
        values, variance = strip.values[:, some] * scale, strip.variance[:, some] * scale**2
        shared = strip.shared[:, some] * scale[: len(strip.shared)] ** 2
    used = ~excluded(dq) & np.isfinite(values) & np.isfinite(variance)
    if len(shared):
        used &= np.isfinite(shared)
    return values, variance, shared, used
