"""Frames cut into horizontal strips, so that combining them holds one strip of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.dq import BoolArray, DQArray, excluded
from ccdflow.recipes.image import FloatArray, ImageSource

STRIP_BYTES = 64_000_000
"""Memory that one strip of all frames may take."""
BYTES_PER_VALUE = 32
"""What a pixel of a frame costs while it is combined, copies to sort included."""
SURVEY_BANDS = 16
SURVEY_ROWS = 4

Calibration = tuple[str, ImageSource | None]
"""Identity of a frame's masters, and as data the part of its variance that they brought."""


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
    """Scaled values of all frames in some rows, shape (n, npix).

    `shared` is the masters' part of the variance, or None if no frame has one; `used` is true where a value
    is neither excluded by its bits nor infinite nor NaN.
    """

    values: FloatArray
    variance: FloatArray
    shared: FloatArray | None
    dq: DQArray
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
    """Rows of each strip, from top to bottom; by default as high as `STRIP_BYTES` allows for `n` frames."""
    ny, nx = shape
    height = height or max(1, STRIP_BYTES // (n * nx * BYTES_PER_VALUE))
    for start in range(0, ny, height):
        yield slice(start, min(start + height, ny))


def survey(frames: Frames) -> Strip:
    """Rows in a few evenly spread bands, the same whatever the strips; all rows of a small image."""
    ny = frames.shape[0]
    starts = np.linspace(0, ny - SURVEY_ROWS, SURVEY_BANDS).astype(int).tolist()
    bands = [slice(start, start + SURVEY_ROWS) for start in starts]
    if ny <= SURVEY_BANDS * SURVEY_ROWS:
        bands = [slice(0, ny)]
    read = [read_strip(frames, rows) for rows in bands]
    shared = [strip.shared for strip in read if strip.shared is not None]
    return Strip(
        np.concatenate([strip.values for strip in read], axis=1),
        np.concatenate([strip.variance for strip in read], axis=1),
        np.concatenate(shared, axis=1) if shared else None,
        np.concatenate([strip.dq for strip in read], axis=1),
        np.concatenate([strip.used for strip in read], axis=1),
    )


def read_strip(frames: Frames, rows: slice) -> Strip:
    """Rows of all frames, scaled."""
    identities = frames.identities
    shape = len(frames.sources), (rows.stop - rows.start) * frames.shape[1]
    values, variance = np.empty(shape, np.float32), np.empty(shape, np.float32)
    dq = np.empty(shape, np.uint16)
    shared = np.zeros(shape, np.float32) if any(identities) else None
    # What stands in excluded pixels may be anything, numbers that overflow included.
    with np.errstate(invalid="ignore", over="ignore"):
        for i, (source, scale) in enumerate(zip(frames.sources, frames.scales, strict=True)):
            image = source.rows(rows)
            np.multiply(image.data.ravel(), scale, out=values[i])
            np.multiply(image.variance.ravel(), scale**2, out=variance[i])
            dq[i] = image.dq.ravel()
            masters = frames.calibrations[i][1]
            if shared is not None and identities[i] and masters is not None:
                np.multiply(masters.rows(rows).data.ravel(), scale**2, out=shared[i])
    used = ~excluded(dq) & np.isfinite(values) & np.isfinite(variance)
    return Strip(values, variance, shared, dq, used if shared is None else used & np.isfinite(shared))
