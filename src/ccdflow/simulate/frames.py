"""One raw frame and its truth, from the exposure that was asked for."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ccdflow.simulate.camera import CameraTruth, Floats, bleed, expose, make_camera, read_out
from ccdflow.simulate.schedule import Camera, Exposure
from ccdflow.simulate.sky import (
    BANDS,
    CosmicRays,
    Sky,
    Stars,
    add_stars,
    background,
    cosmic_rays,
    star_field,
    stars_on_frame,
)

SEEING = 2.6
"""Usual full width at half maximum of a star, pixels."""
DITHER = 4.0
"""Farthest that an exposure's pointing may be off, pixels."""
TWILIGHT_GRADIENT = (0.006, 0.003)
"""Relative change of the twilight sky across the frame, along y and x."""


@dataclass(frozen=True)
class FrameTruth:
    """What is true of one frame; `offsets` is the drift of each amplifier's level, adu."""

    sky: Sky
    stars: Stars
    cosmic_rays: CosmicRays
    offsets: tuple[float, ...]


def generator(seed: int, *words: str) -> np.random.Generator:
    """Return random numbers that depend on the seed and on what they are for, never on what was drawn before.

    So that a frame stays the same when another is added, left out, or made in another order.

    Parameters
    ----------
    seed : int
        Seed of the night.
    *words : str
        What the numbers are for.

    Returns
    -------
    numpy.random.Generator
        A new generator.
    """
    return np.random.default_rng([seed, crc32("/".join(words).encode())])


def camera_truth(seed: int, camera: Camera, shape: tuple[int, int]) -> CameraTruth:
    """Draw the camera as it is on a night simulated with `seed`.

    Parameters
    ----------
    seed : int
        Seed of the night.
    camera : Camera
        Which camera.
    shape : (int, int)
        Light-sensitive rows and columns.

    Returns
    -------
    CameraTruth
        Everything that is true of it all night long.
    """
    return make_camera(generator(seed, "camera", camera.label), shape, camera.filters)


def simulate_frame(
    seed: int, camera: CameraTruth, exposure: Exposure
) -> tuple[NDArray[np.uint16], FrameTruth]:
    """Return the raw array of one exposure, and its truth.

    Parameters
    ----------
    seed : int
        Seed of the night.
    camera : CameraTruth
        The camera that takes it.
    exposure : Exposure
        What is taken.

    Returns
    -------
    raw : uint16 array, shape `CameraTruth.raw_shape`
        adu.
    truth : FrameTruth
        What was put into it.
    """
    rng = generator(seed, "frame", exposure.stem)
    # Not by camera: two cameras of a mount that expose at the same time look through the same air.
    sky = _sky(generator(seed, "sky", exposure.camera.telescope, exposure.obsdate), exposure)
    truth = FrameTruth(
        sky=sky,
        stars=_stars(seed, exposure, sky, camera.shape),
        cosmic_rays=cosmic_rays(rng, camera.shape, exposure.exptime),
        # The levels drift by an adu or two between frames, which is what overscans are there for.
        offsets=tuple(round(float(rng.normal(0.0, 1.5)), 3) for _ in camera.amplifiers),
    )
    light = None if exposure.imagetype in ("bias", "dark") else incident_light(truth, camera.shape)
    electrons = expose(rng, camera, light, exposure.filter, exposure.exptime)
    hits = truth.cosmic_rays
    # add.at, since a pixel may be hit twice. Cosmic rays come after the photons' noise, as charge of their own, and
    # before wells overflow.
    np.add.at(electrons, (hits.y, hits.x), hits.electrons)
    electrons = np.where(camera.bad, 0.0, bleed(electrons))
    return read_out(rng, camera, electrons, truth.offsets), truth


def incident_light(truth: FrameTruth, shape: tuple[int, int]) -> Floats:
    """Return the electrons that sky and stars give on average where the response is 1.

    This is what a perfect reduction finds.

    Parameters
    ----------
    truth : FrameTruth
        Sky and stars of the frame.
    shape : (int, int)
        Light-sensitive rows and columns.

    Returns
    -------
    float array, shape (ny, nx)
        Electron per pixel over the exposure.
    """
    light = background(truth.sky, shape)
    add_stars(light, truth.stars, truth.sky.fwhm)
    return light


def _sky(rng: np.random.Generator, exposure: Exposure) -> Sky:
    """Draw one atmosphere and one pointing for all cameras of a mount at a time."""
    if exposure.imagetype != "science":
        return Sky(exposure.twilight, TWILIGHT_GRADIENT, 1.0, SEEING, (0.0, 0.0))
    # The order of the draws is part of the seed's meaning: another gives other frames.
    dy, dx = rng.uniform(-DITHER, DITHER, 2).tolist()
    return Sky(
        background=BANDS[exposure.filter].sky * exposure.exptime * float(rng.uniform(0.95, 1.05)),
        gradient=(0.0, 0.0),
        # Haze only ever takes light away.
        transparency=1.0 - abs(float(rng.normal(0.0, 0.03))),
        fwhm=SEEING * float(rng.uniform(0.95, 1.1)),
        shift=(dy, dx),
    )


def _stars(seed: int, exposure: Exposure, sky: Sky, shape: tuple[int, int]) -> Stars:
    """Return the stars on the frame: a twilight sky outshines them, a closed shutter hides them."""
    if exposure.imagetype != "science":
        return Stars(np.zeros(0), np.zeros(0), np.zeros(0))
    # The same field whenever the camera points at it: exposures of one object can be registered and stacked.
    field = star_field(generator(seed, "field", exposure.camera.label, exposure.object), shape)
    return stars_on_frame(field, BANDS[exposure.filter], exposure.exptime, sky)
