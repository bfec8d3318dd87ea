"""Write a whole night to disk: raw frames, the catalogue of the science frames, and the truth."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from astropy.io import fits

from ccdflow.simulate.frames import camera_truth, simulate_frame
from ccdflow.simulate.headers import raw_header
from ccdflow.simulate.nights import NIGHTS
from ccdflow.simulate.schedule import (
    CloudCover,
    Exposure,
    Programme,
    calibration_exposures,
    science_exposures,
)
from ccdflow.simulate.truth import FRAME_COLUMNS, frame_row, save_camera, save_frame

CATALOG_COLUMNS = (
    *("telescope", "camera", "instrument", "filter", "imagetype"),
    *("target", "exptime", "obsdate", "iobs", "nobs"),
)

SMALLEST = 64
"""Rows and columns that a detector has at least."""


@dataclass(frozen=True)
class Night:
    """A night that was written.

    Parameters
    ----------
    directory : Path
        Where it lies.
    catalog : Path
        CSV file of the science frames.
    paths : tuple of Path
        Raw frames in order of time; empty without pixels.
    counts : mapping
        Class to number of frames; without pixels, of the catalogue's rows.
    """

    directory: Path
    catalog: Path
    paths: tuple[Path, ...]
    counts: Mapping[str, int]


@dataclass(frozen=True)
class _Choice:
    """All that decides the bytes that are written."""

    programme: Programme
    seed: int
    shape: tuple[int, int]
    clouds: CloudCover

    # Kept beside the truth: it tells whether a directory holds the same simulation.
    def as_json(self) -> str:
        chosen = {"night": self.programme.name, "seed": self.seed, "shape": self.shape, "clouds": self.clouds}
        return json.dumps(chosen, sort_keys=True) + "\n"


def simulate_night(
    directory: Path,
    *,
    night: str = "small",
    seed: int = 0,
    shape: tuple[int, int] | None = None,
    catalog_only: bool = False,
    clouds: str = "first",
    progress: Callable[[int, int], None] | None = None,
) -> Night:
    """Write a night of raw frames with known truth; the same arguments give the same bytes.

    ``raw/TELESCOPE-CAMERA/*.fits`` holds the frames, ``catalog.csv`` a row for each science frame, and
    ``truth/`` what was put in: a file for each camera and each frame, and ``frames.csv``.

    Parameters
    ----------
    directory : Path
        New, empty, or the result of the same simulation, which is then written again.
    night : str
        ``small`` or ``goto``.
    seed : int
        Seed of all random numbers, 0 or above.
    shape : (int, int), optional
        Light-sensitive rows and columns of each detector; the night's own without it.
    catalog_only : bool
        Write the catalogue and no pixels.
    clouds : str
        Whose sequence the clouds cut: ``first`` (the first camera's), ``all`` or ``none``.
    progress : callable, optional
        Called after each frame with the number of frames done and to be done.

    Returns
    -------
    Night
        What was written.

    Raises
    ------
    ValueError
        If an argument is not one of these, or the directory holds something else.
    """
    choice = _choose(night, seed, shape, clouds)
    science = science_exposures(choice.programme, choice.clouds)
    catalog = _csv(CATALOG_COLUMNS, (_catalog_row(exposure) for exposure in science))
    _refuse_foreign(directory, choice, catalog)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "catalog.csv"
    path.write_text(catalog, encoding="utf-8")
    if catalog_only:
        return Night(directory, path, (), {"science": len(science)})
    exposures = calibration_exposures(choice.programme) + science
    paths = _write_frames(directory, choice, exposures, progress)
    return Night(directory, path, paths, dict(Counter(exposure.imagetype for exposure in exposures)))


def _choose(night: str, seed: int, shape: tuple[int, int] | None, clouds: str) -> _Choice:
    if night not in NIGHTS:
        raise ValueError(f"unknown night {night!r}; known: {', '.join(sorted(NIGHTS))}")
    if seed < 0:
        raise ValueError(f"seed is {seed}, should be 0 or above")
    # One by one, so that the type checker knows which of the words it is.
    for known in get_args(CloudCover):
        if clouds == known:
            return _Choice(NIGHTS[night], seed, _checked(shape or NIGHTS[night].shape), known)
    raise ValueError(f"unknown clouds {clouds!r}; known: {', '.join(get_args(CloudCover))}")


def _checked(shape: tuple[int, int]) -> tuple[int, int]:
    ny, nx = shape
    if min(ny, nx) < SMALLEST:
        raise ValueError(f"shape is {ny}x{nx}, should be {SMALLEST}x{SMALLEST} or above")
    # Amplifiers of unequal width exist, but none of the cameras here has them.
    if nx % 2:
        raise ValueError(
            f"shape is {ny}x{nx}, the second number should be even: two amplifiers share the columns"
        )
    return ny, nx


def _refuse_foreign(directory: Path, choice: _Choice, catalog: str) -> None:
    """Refuse a directory that holds somebody else's files.

    Harmless are hidden files, the very catalogue that would be written, and the same simulation.
    """
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ValueError(f"{directory} is a file, should be a directory")
    held = {path.name for path in directory.iterdir() if not path.name.startswith(".")}
    # What would be written again byte for byte can't be lost.
    stored = directory / "truth" / "simulation.json"
    if stored.is_file() and stored.read_text(encoding="utf-8") == choice.as_json():
        held -= {"raw", "truth"}
    listed = directory / "catalog.csv"
    if listed.is_file() and listed.read_text(encoding="utf-8") == catalog:
        held.discard(listed.name)
    if held:
        names = ", ".join(sorted(held)[:3]) + (", ..." if len(held) > 3 else "")
        raise ValueError(
            f"{directory} holds {names}; should be new, empty or the result of the same simulation"
        )


def _write_frames(
    directory: Path,
    choice: _Choice,
    exposures: Sequence[Exposure],
    progress: Callable[[int, int], None] | None,
) -> tuple[Path, ...]:
    truth_directory = directory / "truth"
    (truth_directory / "frames").mkdir(parents=True, exist_ok=True)
    (truth_directory / "simulation.json").write_text(choice.as_json(), encoding="utf-8")
    cameras = {camera: camera_truth(choice.seed, camera, choice.shape) for camera in choice.programme.cameras}
    for camera, known in cameras.items():
        (directory / "raw" / camera.label).mkdir(parents=True, exist_ok=True)
        save_camera(truth_directory / f"{camera.label}.npz", known)
    paths, rows = [], []
    for number, exposure in enumerate(exposures, start=1):
        path = directory / "raw" / exposure.camera.label / f"{exposure.stem}.fits"
        raw, truth = simulate_frame(choice.seed, cameras[exposure.camera], exposure)
        header = raw_header(choice.programme, choice.seed, exposure, cameras[exposure.camera], truth)
        # By astropy, not by our own writer: the simulator is to be a stranger to what it tests.
        fits.PrimaryHDU(raw, header).writeto(path, overwrite=True)
        save_frame(truth_directory / "frames" / f"{exposure.stem}.npz", truth)
        paths.append(path)
        rows.append(frame_row(path.relative_to(directory).as_posix(), exposure, truth))
        if progress is not None:
            progress(number, len(exposures))
    (truth_directory / "frames.csv").write_text(_csv(FRAME_COLUMNS, rows), encoding="utf-8")
    return tuple(paths)


def _catalog_row(exposure: Exposure) -> tuple[str | float, ...]:
    camera = exposure.camera
    return (
        *(camera.telescope, camera.name, camera.instrument, exposure.filter, exposure.imagetype),
        *(exposure.object, exposure.exptime, exposure.obsdate, exposure.iobs, exposure.nobs),
    )


def _csv(columns: Sequence[str], rows: Iterable[Sequence[str | float]]) -> str:
    # The same line ends everywhere: a night is compared byte for byte.
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
