"""Simulate what a detector does to the light that falls on it: the truth of one camera, and its readout.

The order is that of nature: photons and dark current fall in Poisson numbers, wells overflow, amplifiers add their
noise, level and pattern, the converter rounds and clips. A reduction undoes it from the other end.

References
----------
Howell 2006, Handbook of CCD Astronomy; Janesick 2007, Photon Transfer.
"""

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
    """One readout of a detector.

    Parameters
    ----------
    name : str
        As in the header's keywords.
    data, overscan, target : Section
        Its light-sensitive and its overscan pixels in the raw array, and where the former lie in the assembled image.
    gain : float
        electron/adu.
    read_noise : float
        Electron rms.
    level : float
        Bias level, adu.
    """

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
    """Draw a camera at random, with two amplifiers side by side.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all that is drawn, in a fixed order: the same generator gives the same camera.
    shape : (int, int)
        Light-sensitive rows and columns; an even number of columns.
    filters : sequence of str
        Each gets a response of its own; dust and vignetting are those of the camera.

    Returns
    -------
    CameraTruth
        Everything that is true of the camera.
    """
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
    """Return data, overscan and target section of both amplifiers.

    Raw columns are left data, left overscan, right overscan, right data: each amplifier reads towards its own side.

    Parameters
    ----------
    shape : (int, int)
        Light-sensitive rows and columns ``(ny, nx)``.

    Returns
    -------
    tuple of (Section, Section, Section)
        For the left and for the right amplifier.
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
    # Rounded, so that the header can state exactly what is true.
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
    """Draw a column pattern of 1.5 adu rms, a slope of 3 adu and a glow of 5 adu at the lower edge."""
    rows = np.arange(shape[0])[:, None]
    return rng.normal(0.0, 1.5, shape[1])[None, :] + 3.0 * rows / shape[0] + 5.0 * np.exp(-rows / 20.0)


def _dark_current(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Bools, Floats]:
    """Draw which pixels are hot (1 in 500), and electron/s: 0.05, 0.2 to 300 in hot ones."""
    # Hot pixels are spread evenly in the logarithm: many are a little hot, few are useless.
    dark = 0.05 * rng.lognormal(0.0, 0.1, shape)
    hot = rng.random(shape) < 0.002
    return hot, np.where(hot, 10 ** rng.uniform(np.log10(0.2), np.log10(300.0), shape), dark)


def _dead_columns(rng: np.random.Generator, shape: tuple[int, int]) -> Bools:
    """Draw columns that are dead from some row on: a trap holds what would be clocked through it."""
    bad = np.zeros(shape, dtype=bool)
    # At least two columns: the smallest frames have something to find as well.
    for column in rng.choice(shape[1], size=max(2, shape[1] // 128), replace=False):
        bad[rng.integers(0, shape[0] // 2) :, column] = True
    return bad


def _dust(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Draw vignetting of 15 % in the corners, and shadows of dust: rings, since the telescope is obstructed."""
    y, x = np.indices(shape, dtype=float)
    centre = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    light = 1 - 0.15 * ((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (centre[0] ** 2 + centre[1] ** 2)
    for _ in range(6):
        radius = rng.uniform(0.02, 0.05) * max(shape)
        distance = np.hypot(y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1])) / radius
        # Darkest at 0.8 of the radius: a ring.
        light *= 1 - rng.uniform(0.03, 0.08) * np.exp(-(((distance - 0.8) / 0.3) ** 2))
    return light


def _response(rng: np.random.Generator, dust: Floats, bad: Bools) -> Floats:
    """Draw the sensitivity of each pixel in one filter, 1 % rms, 1 on average over those that respond."""
    response = np.where(bad, 0.0, dust * rng.normal(1.0, 0.01, dust.shape))
    # A flat-field is normalised over good pixels; the truth has to be so too, or both would differ by a factor.
    mean: float = response[~bad].mean()
    return response / mean


def expose(
    rng: np.random.Generator, camera: CameraTruth, light: Floats | None, filter_name: str, exptime: float
) -> Floats:
    """Return the electrons that an exposure collects: light times response plus dark current, with Poisson noise.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the noise.
    camera : CameraTruth
        What is exposed.
    light : float array, shape (ny, nx), or None
        Expected electron per pixel where the response is 1; None with the shutter closed.
    filter_name : str
        Filter whose response counts; any with the shutter closed.
    exptime : float
        Seconds, for the dark current.

    Returns
    -------
    float array, shape (ny, nx)
        Whole numbers of electrons.
    """
    expected = camera.dark * exptime
    if light is not None:
        expected = expected + light * camera.response[filter_name]
    return rng.poisson(expected).astype(np.float64)


def bleed(electrons: Floats) -> Floats:
    """Return the electrons after what exceeds the full well has flowed along its column, half up and half down.

    Parameters
    ----------
    electrons : float array, shape (ny, nx)
        Collected electrons; not changed.

    Returns
    -------
    float array, shape (ny, nx)
        At most `FULL_WELL` in each pixel; what flows over the edge is lost.
    """
    result = np.minimum(electrons, FULL_WELL)
    excess = (electrons - result) / 2
    columns = np.flatnonzero(excess.any(axis=0))
    # Up, then down: what flows takes the room that a pixel has left, and what finds none goes on.
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
    """Convert electrons to the raw array.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the read noise.
    camera : CameraTruth
        What is read out.
    electrons : float array, shape (ny, nx)
        Electrons of the assembled image.
    offsets : sequence of float
        How far the level of each amplifier has drifted, adu.

    Returns
    -------
    uint16 array, shape `CameraTruth.raw_shape`
        adu, overscan included, clipped to what the converter gives.
    """
    raw = np.empty(camera.raw_shape)
    for amplifier, offset in zip(camera.amplifiers, offsets, strict=True):
        data, target = _cut(amplifier.data), _cut(amplifier.target)
        raw[data] = camera.structure[target] + electrons[target] / amplifier.gain
        raw[_cut(amplifier.overscan)] = 0.0
        # Level and read noise are added by the amplifier, so the overscan has them as well; light and bias pattern
        # are not in it.
        for section in (data, _cut(amplifier.overscan)):
            part = raw[section]
            noise = rng.normal(0.0, amplifier.read_noise / amplifier.gain, part.shape)
            raw[section] = part + noise + amplifier.level + offset
    # Rounding adds a variance of 1/12 adu^2 (Janesick 2007, quantizing noise); clipping is what saturation looks like.
    return np.clip(np.rint(raw), 0, ADC_LIMIT).astype(np.uint16)


def _cut(section: Section) -> tuple[slice, slice]:
    return slice(section.y0, section.y1), slice(section.x0, section.x1)
