"""Raw frames to measure with, written as cameras write them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

GAIN = 1.5
"""electron/adu."""
READ_NOISE = 6.0
"""electron."""
LEVEL = 1000.0
"""adu of the bias."""
HITS = 1e-4
"""Fraction of the pixels of a frame that a cosmic ray has hit, so that there is something to clip."""
DARK_RATE = 0.05
"""electron/s."""
EXPOSURES = {"bias": 0.0, "dark": 300.0, "flat": 5.0, "science": 120.0}
"""Seconds."""
LEVELS = {"bias": 0.0, "dark": 0.0, "flat": 20000.0, "science": 300.0}
"""electron per pixel of light."""


def frame(kind: str, shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """Pixels of a raw frame in adu: bias, dark current, light, the noise of all that, and cosmic rays."""
    rng = np.random.default_rng(seed)
    mean = LEVELS[kind] + DARK_RATE * EXPOSURES[kind]
    noise = np.float32(np.hypot(READ_NOISE, np.sqrt(mean)) / GAIN)
    pixels = rng.standard_normal(shape, np.float32)
    pixels *= noise
    pixels += np.float32(LEVEL + mean / GAIN)
    number = int(HITS * pixels.size)
    pixels.ravel()[rng.integers(0, pixels.size, number)] += rng.exponential(500.0, number).astype(np.float32)
    return pixels


def header(kind: str, seed: int) -> fits.Header:
    """Cards of a raw frame of `kind`."""
    return fits.Header(
        [
            ("IMAGETYP", kind),
            ("EXPTIME", EXPOSURES[kind], "[s]"),
            ("DATE-OBS", f"2026-03-01T{18 + seed // 60 % 6:02d}:{seed % 60:02d}:00"),
            ("TELESCOP", "T1"),
            ("INSTRUME", "CAM1"),
            ("FILTER", "R"),
            ("OBJECT", "field"),
            ("EGAIN", GAIN, "[electron/adu]"),
            ("RDNOISE", READ_NOISE, "[electron]"),
            ("SATURATE", 65000, "[adu]"),
        ]
    )


def write_frame(path: Path, kind: str, shape: tuple[int, int], seed: int, dtype: str = "uint16") -> Path:
    """Write a raw frame, as 16 bit integers with BZERO or as float32."""
    pixels = frame(kind, shape, seed)
    stored = np.clip(np.rint(pixels), 0, 65535).astype(np.uint16) if dtype == "uint16" else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(stored, header(kind, seed)).writeto(path, overwrite=True)
    return path


def write_frames(
    folder: Path, kind: str, shape: tuple[int, int], number: int, dtype: str = "uint16"
) -> list[Path]:
    """Write `number` raw frames of one kind."""
    return [write_frame(folder / f"{kind}_{i + 1:05d}.fits", kind, shape, i, dtype) for i in range(number)]


def size_of(files: Sequence[Path]) -> int:
    """Bytes of all files together."""
    return sum(one.stat().st_size for one in files)


def shape_text(shape: tuple[int, int]) -> str:
    """Such as ``2048x2048``."""
    return f"{shape[1]}x{shape[0]}"
