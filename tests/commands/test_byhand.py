"""What goes wrong in a recipe by hand is said in one line that names the file."""

import errno
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from ccdflow.archive.foreignfile import DamagedFrameError, NotReadError
from ccdflow.cli import app
from ccdflow.commands import byhand

PATH = Path("/raw/a.fits")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EACCES, "Permission denied"), "/raw/a.fits can't be read: permission denied"),
        (IsADirectoryError(errno.EISDIR, "Is a directory"), "/raw/a.fits is a folder, not a FITS file"),
        (NotReadError(PATH, TimeoutError(errno.ETIMEDOUT, "not read within 120 s")), "not read within 120 s"),
        (DamagedFrameError(PATH, "tile 1 is odd"), "/raw/a.fits is damaged: tile 1 is odd"),
        (ValueError("cannot reshape"), "/raw/a.fits: cannot reshape"),
        (ValueError("a.fits has sections that overlap"), "a.fits has sections that overlap"),
        (RecursionError(), "/raw/a.fits can't be read: RecursionError"),
        (KeyError("x\ny"), r"/raw/a.fits can't be read: KeyError: 'x\ny'"),
        (MemoryError(), "/raw/a.fits can't be read: MemoryError"),
    ],
)
def test_an_error_is_one_line_that_names_the_file(error: Exception, said: str) -> None:
    told = byhand._in_words(PATH, error)
    assert told.endswith(said) and "\n" not in told and PATH.name in told


def test_a_library_that_stumbles_ends_the_command_with_its_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        pixels = np.random.default_rng(number).integers(90, 110, (8, 8)).astype(np.int16)
        fits.writeto(tmp_path / f"{number}.fits", pixels, fits.Header({"IMAGETYP": "bias", "EXPTIME": 0.0}))

    def stumbles(_: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(byhand, "refuse_damaged", stumbles)
    files = [str(tmp_path / f"{number}.fits") for number in range(3)]
    outcome = CliRunner().invoke(app, ["recipe", "bias", *files, "-o", str(tmp_path / "out.fits")])
    assert outcome.exit_code != 0 and isinstance(outcome.exception, ValueError)
    assert str(outcome.exception) == f"{files[0]} can't be read: RecursionError: too deep"
    assert not (tmp_path / "out.fits").exists()
