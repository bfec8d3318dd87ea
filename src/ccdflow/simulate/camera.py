"""What a detector does to the light that falls on it: the truth of one camera, and its readout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.detector.amplifiers import Section

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

OVERSCAN = 32
"""Overscan columns of each amplifier."""
ADC_LIMIT = 65535
"""Highest number that the converter gives, adu."""
FULL_WELL = 90_000.0
"""Electron that a pixel holds before it bleeds along its column: more than the converter can tell."""
PIXEL_SCALE = 1.24
"""Arcsec per pixel."""


@dataclass(frozen=True)
class AmplifierTruth:
    """One readout: sections of the raw array and the assembled image; electron/adu, electron and adu."""

    name: str
    data: Section
    overscan: Section
    target: Section
    gain: float
    read_noise: float
    level: float


@dataclass(frozen=True)
class CameraTruth:
    """Everything that is true of one camera all night long; arrays have the shape of the assembled image.

    Parameters
    ----------
    shape : (int, int)
        Light-sensitive rows and columns.
    amplifiers : tuple of AmplifierTruth
        From left to right.
    structure : float array
        Bias pattern on top of the amplifiers' levels, adu; the overscan has none.
    dark : float array
        Dark current, electron/s.
    hot : bool array
        Pixels of high dark current.
    bad : bool array
        Pixels that do not respond at all.
    response : mapping of float arrays
        For each filter vignetting × dust × pixel response: 0 in bad pixels, 1 on average over the others.
    """

    shape: tuple[int, int]
    amplifiers: tuple[AmplifierTruth, ...]
    structure: Floats
    dark: Floats
    hot: Bools
    bad: Bools
    response: Mapping[str, Floats]

    @property
    def raw_shape(self) -> tuple[int, int]:
        """Rows and columns of the raw array, overscan included."""
        return self.shape[0], self.shape[1] + OVERSCAN * len(self.amplifiers)


def make_camera(rng: np.random.Generator, shape: tuple[int, int], filters: Sequence[str]) -> CameraTruth:
    """Draw a camera at random, with two amplifiers side by side."""
    bad = _dead_columns(rng, shape)
    hot, dark = _dark_current(rng, shape)
    dust = _dust(rng, shape)
    return CameraTruth(
        shape=shape,
        amplifiers=_amplifiers(rng, shape),
        structure=_bias_structure(rng, shape),
        dark=np.where(bad, 0.0, dark),
        hot=hot & ~bad,
        bad=bad,
        response={name: _response(rng, dust, bad) for name in filters},
    )


def amplifier_sections(shape: tuple[int, int]) -> tuple[tuple[Section, Section, Section], ...]:
    """Give data, overscan and target section of both amplifiers.

    Raw columns are left data, left overscan, right overscan, right data.
    """
    ny, half = shape[0], shape[1] // 2
    right = half + 2 * OVERSCAN
    return (
        (Section(0, ny, 0, half), Section(0, ny, half, half + OVERSCAN), Section(0, ny, 0, half)),
        (
            Section(0, ny, right, right + half),
            Section(0, ny, half + OVERSCAN, right),
            Section(0, ny, half, 2 * half),
        ),
    )


def _amplifiers(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[AmplifierTruth, ...]:
    return tuple(
        AmplifierTruth(
            name,
            *sections,
            gain=round(float(rng.uniform(1.15, 1.35)), 3),
            read_noise=round(float(rng.uniform(5.0, 8.0)), 2),
            level=round(float(rng.uniform(900.0, 1200.0)), 1),
        )
        for name, sections in zip(("11", "12"), amplifier_sections(shape), strict=True)
    )


def _bias_structure(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Column pattern of 1.5 adu rms, a slope of 3 adu and a glow of 5 adu at the lower edge."""
    rows = np.arange(shape[0])[:, None]
    return rng.normal(0.0, 1.5, shape[1])[None, :] + 3.0 * rows / shape[0] + 5.0 * np.exp(-rows / 20.0)


def _dark_current(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Bools, Floats]:
    """Which pixels are hot (1 in 500), and electron/s: 0.05, 0.2 to 300 in hot ones."""
    dark = 0.05 * rng.lognormal(0.0, 0.1, shape)
    hot = rng.random(shape) < 0.002
    return hot, np.where(hot, 10 ** rng.uniform(np.log10(0.2), np.log10(300.0), shape), dark)


def _dead_columns(rng: np.random.Generator, shape: tuple[int, int]) -> Bools:
    """Columns that are dead from some row on: a trap holds what would be clocked through it."""
    bad = np.zeros(shape, dtype=bool)
    for column in rng.choice(shape[1], size=max(2, shape[1] // 128), replace=False):
        bad[rng.integers(0, shape[0] // 2) :, column] = True
    return bad


def _dust(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Vignetting of 15 % in the corners, and shadows of dust: rings, since the telescope is obstructed."""
    y, x = np.indices(shape, dtype=float)
    centre = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    light = 1 - 0.15 * ((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (centre[0] ** 2 + centre[1] ** 2)
    for _ in range(6):
        radius = rng.uniform(0.02, 0.05) * max(shape)
        distance = np.hypot(y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1])) / radius
        light *= 1 - rng.uniform(0.03, 0.08) * np.exp(-(((distance - 0.8) / 0.3) ** 2))
    return light


def _response(rng: np.random.Generator, dust: Floats, bad: Bools) -> Floats:
    response = np.where(bad, 0.0, dust * rng.normal(1.0, 0.01, dust.shape))
    mean: float = response[~bad].mean()
    return response / mean


def expose(
    rng: np.random.Generator, camera: CameraTruth, light: Floats | None, filter_name: str, exptime: float
) -> Floats:
    """Electrons that an exposure collects: light times response plus dark current, with Poisson noise."""
    expected = camera.dark * exptime
    if light is not None:
        expected = expected + light * camera.response[filter_name]
    return rng.poisson(expected).astype(np.float64)


def bleed(electrons: Floats) -> Floats:
    """Let what exceeds the full well flow along its column, half up and half down, and give the result."""
    result = np.minimum(electrons, FULL_WELL)
    excess = (electrons - result) / 2
    columns = np.flatnonzero(excess.any(axis=0))
    for step in (1, -1):
        flowing = np.zeros(columns.size)
        for row in range(electrons.shape[0])[::step]:
            flowing = flowing + excess[row, columns]
            taken = np.minimum(flowing, FULL_WELL - result[row, columns])
            result[row, columns] += taken
            flowing = flowing - taken
    return result


def read_out(
    rng: np.random.Generator, camera: CameraTruth, electrons: Floats, offsets: Sequence[float]
) -> NDArray[np.uint16]:
    """Convert to the raw array in adu; `offsets` says how far each amplifier's level has drifted, adu."""
    raw = np.empty(camera.raw_shape)
    for amplifier, offset in zip(camera.amplifiers, offsets, strict=True):
        data, target = _cut(amplifier.data), _cut(amplifier.target)
        raw[data] = camera.structure[target] + electrons[target] / amplifier.gain
        raw[_cut(amplifier.overscan)] = 0.0
        for section in (data, _cut(amplifier.overscan)):
            part = raw[section]
            noise = rng.normal(0.0, amplifier.read_noise / amplifier.gain, part.shape)
            raw[section] = part + noise + amplifier.level + offset
    return np.clip(np.rint(raw), 0, ADC_LIMIT).astype(np.uint16)


def _cut(section: Section) -> tuple[slice, slice]:
    return slice(section.y0, section.y1), slice(section.x0, section.x1)
