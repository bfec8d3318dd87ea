"""Keep the truth in files: one for each camera and each frame; never FITS, lest they be taken for raw frames."""

from pathlib import Path
from typing import Any

import numpy as np

from ccdflow.simulate.camera import AmplifierTruth, CameraTruth, amplifier_sections
from ccdflow.simulate.frames import FrameTruth
from ccdflow.simulate.schedule import Exposure
from ccdflow.simulate.sky import CosmicRays, Sky, Stars

# Names of columns are part of the file's format.
FRAME_COLUMNS = (
    *("file", "class", "telescope", "camera", "filter", "target", "obsdate", "exptime"),
    *("background", "transparency", "fwhm", "dy", "dx", "stars", "cosmic_ray_pixels"),
)


def save_camera(path: Path, camera: CameraTruth) -> None:
    """Write what is true of a camera.

    Parameters
    ----------
    path : Path
        An npz file; planes are float32 or bool, amplifiers columns.
    camera : CameraTruth
        What is written.
    """
    amplifiers = camera.amplifiers
    held: dict[str, Any] = {
        "structure": camera.structure.astype(np.float32),
        "dark": camera.dark.astype(np.float32),
        "hot": camera.hot,
        "bad": camera.bad,
        "amplifier": np.array([amplifier.name for amplifier in amplifiers]),
        "gain": np.array([amplifier.gain for amplifier in amplifiers]),
        "read_noise": np.array([amplifier.read_noise for amplifier in amplifiers]),
        "level": np.array([amplifier.level for amplifier in amplifiers]),
    }
    held |= {f"response_{name}": plane.astype(np.float32) for name, plane in camera.response.items()}
    np.savez(path, **held)


def load_camera(path: Path) -> CameraTruth:
    """Read what `save_camera` wrote.

    Parameters
    ----------
    path : Path
        An npz file.

    Returns
    -------
    CameraTruth
        To the precision of float32.
    """
    with np.load(path) as stored:
        held: dict[str, Any] = dict(stored)
    # Sections are not stored: they follow from the shape, see `amplifier_sections`.
    ny, nx = held["structure"].shape
    columns = zip(
        *(held[name].tolist() for name in ("amplifier", "gain", "read_noise", "level")), strict=True
    )
    return CameraTruth(
        shape=(ny, nx),
        amplifiers=tuple(
            AmplifierTruth(name, *sections, gain, read_noise, level)
            for (name, gain, read_noise, level), sections in zip(
                columns, amplifier_sections((ny, nx)), strict=True
            )
        ),
        structure=held["structure"].astype(float),
        dark=held["dark"].astype(float),
        hot=held["hot"],
        bad=held["bad"],
        response={
            key.removeprefix("response_"): plane.astype(float)
            for key, plane in held.items()
            if key.startswith("response_")
        },
    )


def save_frame(path: Path, truth: FrameTruth) -> None:
    """Write what is true of a frame.

    Parameters
    ----------
    path : Path
        An npz file.
    truth : FrameTruth
        What is written.
    """
    sky, stars, hits = truth.sky, truth.stars, truth.cosmic_rays
    np.savez(
        path,
        sky=np.array([sky.background, *sky.gradient, sky.transparency, sky.fwhm, *sky.shift]),
        stars=np.array([stars.x, stars.y, stars.electrons]),
        cosmic_ray_pixels=np.array([hits.y, hits.x]),
        cosmic_ray_electrons=hits.electrons,
        offsets=np.array(truth.offsets),
    )


def load_frame(path: Path) -> FrameTruth:
    """Read what `save_frame` wrote.

    Parameters
    ----------
    path : Path
        An npz file.

    Returns
    -------
    FrameTruth
        Equal to what was saved.
    """
    with np.load(path) as held:
        background, gradient_y, gradient_x, transparency, fwhm, dy, dx = held["sky"].tolist()
        x, y, electrons = held["stars"]
        rows, columns = held["cosmic_ray_pixels"]
        return FrameTruth(
            sky=Sky(background, (gradient_y, gradient_x), transparency, fwhm, (dy, dx)),
            stars=Stars(x, y, electrons),
            cosmic_rays=CosmicRays(rows, columns, held["cosmic_ray_electrons"]),
            offsets=tuple(held["offsets"].tolist()),
        )


def frame_row(file: str, exposure: Exposure, truth: FrameTruth) -> tuple[str | float, ...]:
    """Return one line of the table of frames.

    Parameters
    ----------
    file : str
        Path of the frame, relative to the night's directory.
    exposure : Exposure
        What was taken.
    truth : FrameTruth
        What was put into it.

    Returns
    -------
    tuple of str and float
        One value for each of `FRAME_COLUMNS`.
    """
    sky, camera = truth.sky, exposure.camera
    return (
        *(file, exposure.imagetype, camera.telescope, camera.name, exposure.filter, exposure.object),
        *(exposure.obsdate, exposure.exptime),
        *(round(value, 4) for value in (sky.background, sky.transparency, sky.fwhm, *sky.shift)),
        *(truth.stars.x.size, truth.cosmic_rays.x.size),
    )
