"""What a path holds is reduced, and nothing else of the registry."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from ccdflow.cascade.planning.request import Request
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.nightlog import night_summaries
from ccdflow.tasks.planning import located, planned
from ccdflow.tasks.workspace import Workspace


def write(path: Path, kind: str, time: str, number: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    data = np.random.default_rng(number).integers(900, 1100, (12, 16)).astype(np.uint16)
    header = fits.Header({"IMAGETYP": kind, "INSTRUME": "C", "TELESCOP": "T", "DATE-OBS": time, "GAIN": 1.0})
    header.update(
        {"RDNOISE": 5.0, "EXPTIME": 0.0 if kind == "bias" else 60.0, "FILTER": "R", "OBJECT": "M13"}
    )
    fits.PrimaryHDU(data, header).writeto(path)
    return path


def test_only_what_lies_at_a_path_is_asked_for_with_the_calibrations_of_all(
    space: Workspace, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    for number in range(3):
        write(raw / f"bias{number}.fits", "bias", f"2026-03-01T18:0{number}:00", number)
    for day, folder in enumerate(("mine", "other"), 1):
        for number in range(2):
            name = raw / folder / f"{number}.fits"
            write(name, "object", f"2026-03-0{day}T20:0{number}:00", 10 * day + number)
    assert ingest_files(space, [raw]).counts == {"new": 7}
    everything = planned(space, Request(targets=("science",)))
    mine = Request(targets=("science",), paths=(str(raw / "mine"), str(raw / "other" / "1.fits")))
    jobs = planned(space, mine).jobs
    assert [job.step for job in everything.jobs].count("science") == 4
    assert [job.step for job in jobs].count("science") == 3
    assert [job.step for job in jobs].count("bias") == 1  # which lies elsewhere
    frames = {frame.id for job in jobs if job.step == "science" for frame in job.group.frames}
    assert located(space, mine).frames == frames
    assert not planned(space, Request(targets=("science",), paths=(str(tmp_path / "nothing"),))).jobs
    directory = str(space.project.directory)
    assert list(night_summaries(directory, Request(paths=(str(raw / "mine"),)))) == ["2026-03-01"]
