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
    """Random numbers that depend on the seed and on what they are for, never on what was drawn before."""
    return np.random.default_rng([seed, crc32("/".join(words).encode())])


def camera_truth(seed: int, camera: Camera, shape: tuple[int, int]) -> CameraTruth:
    """Draw the camera as it is on a night simulated with `seed`."""
    return make_camera(generator(seed, "camera", camera.label), shape, camera.filters)


def simulate_frame(
    seed: int, camera: CameraTruth, exposure: Exposure
) -> tuple[NDArray[np.uint16], FrameTruth]:
    """Give the raw array of one exposure in adu, and its truth."""
    rng = generator(seed, "frame", exposure.stem)
    sky = _sky(generator(seed, "sky", exposure.camera.telescope, exposure.obsdate), exposure)
    truth = FrameTruth(
        sky=sky,
        stars=_stars(seed, exposure, sky, camera.shape),
        cosmic_rays=cosmic_rays(rng, camera.shape, exposure.exptime),
        offsets=tuple(round(float(rng.normal(0.0, 1.5)), 3) for _ in camera.amplifiers),
    )
    light = None if exposure.imagetype in ("bias", "dark") else incident_light(truth, camera.shape)
    electrons = expose(rng, camera, light, exposure.filter, exposure.exptime)
    hits = truth.cosmic_rays
    np.add.at(electrons, (hits.y, hits.x), hits.electrons)
    electrons = np.where(camera.bad, 0.0, bleed(electrons))
    return read_out(rng, camera, electrons, truth.offsets), truth


def incident_light(truth: FrameTruth, shape: tuple[int, int]) -> Floats:
    """Electron per pixel that sky and stars give on average where the response is 1.

    This is what a perfect reduction finds.
    """
    light = background(truth.sky, shape)
    add_stars(light, truth.stars, truth.sky.fwhm)
    return light


def _sky(rng: np.random.Generator, exposure: Exposure) -> Sky:
    """One atmosphere and one pointing for all cameras of a mount at a time."""
    if exposure.imagetype != "science":
        return Sky(exposure.twilight, TWILIGHT_GRADIENT, 1.0, SEEING, (0.0, 0.0))
    dy, dx = rng.uniform(-DITHER, DITHER, 2).tolist()
    return Sky(
        background=BANDS[exposure.filter].sky * exposure.exptime * float(rng.uniform(0.95, 1.05)),
        gradient=(0.0, 0.0),
        transparency=1.0 - abs(float(rng.normal(0.0, 0.03))),
        fwhm=SEEING * float(rng.uniform(0.95, 1.1)),
        shift=(dy, dx),
    )


def _stars(seed: int, exposure: Exposure, sky: Sky, shape: tuple[int, int]) -> Stars:
    """Stars on the frame: a twilight sky outshines them, a closed shutter hides them."""
    if exposure.imagetype != "science":
        return Stars(np.zeros(0), np.zeros(0), np.zeros(0))
    field = star_field(generator(seed, "field", exposure.camera.label, exposure.object), shape)
    return stars_on_frame(field, BANDS[exposure.filter], exposure.exptime, sky)
