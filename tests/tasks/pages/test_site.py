"""Where the telescope stands, for those who only have its frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.commands.deploying import morning
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.nightlog import site_longitude
from ccdflow.tasks.workspace import Workspace


def write(path: Path, number: int, **cards: Any) -> Path:
    data = np.random.default_rng(number).integers(900, 1100, (8, 8)).astype(np.uint16)
    header = fits.Header(
        {"IMAGETYP": "Bias", "INSTRUME": "C", "DATE-OBS": f"2026-03-01T18:0{number}:00", **cards}
    )
    fits.PrimaryHDU(data, header).writeto(path)
    return path


@pytest.mark.parametrize(
    ("cards", "degrees", "cron"),
    [
        ({"SITELONG": "-70 44 12"}, -70.7367, "13 12 * * *"),  # MaxIm DL, in degrees and minutes
        ({"LONGITUD": 289.1917}, -70.8083, "13 12 * * *"),  # LCO's -70.8, counted all around
        ({"OBSGEO-L": 203.7424}, -156.2576, "55 17 * * *"),  # Haleakala
        ({"SITELON": 149.07}, 149.07, "34 21 * * *"),  # Siding Spring
        ({}, 0.0, "30 7 * * *"),
    ],
)
def test_without_instrument_files_the_morning_is_that_of_the_frames(
    space: Workspace, tmp_path: Path, cards: dict[str, Any], degrees: float, cron: str
) -> None:
    assert site_longitude(space) == 0.0
    files = [
        write(tmp_path / f"{number}.fits", number, **(cards if number == 1 else {})) for number in range(3)
    ]
    ingest_files(space, files)
    files[2].unlink()
    assert site_longitude(space) == pytest.approx(degrees, abs=1e-3)
    assert morning(space) == cron
