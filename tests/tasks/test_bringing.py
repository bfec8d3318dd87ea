"""Raw files are copied, moved or linked to their places: nothing is lost, nothing of another content replaced."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from ccdflow.archive.search.finding import Question, find_rows
from ccdflow.cli import app
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.rawfiles.bringing import MODES, Bringing, Mode, bring_files
from ccdflow.tasks.workspace import Workspace


def write(path: Path, seed: int = 0) -> Path:
    header = fits.Header(
        [("IMAGETYP", "Light Frame"), ("TELESCOP", "T 1/2"), ("EXPTIME", 60.0), ("FILTER", "L")]
    )
    header["DATE-OBS"] = "2026-03-01T20:00:00"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(300, 1300, (8, 10)).astype(np.uint16)
    fits.PrimaryHDU(pixels, header).writeto(path)
    return path


@pytest.fixture(params=["same", "other"])
def camera(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder that a camera writes to, on this file system or another one."""
    if request.param == "same":
        yield tmp_path / "camera"
        return
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def rows(space: Workspace) -> list[tuple[str, str]]:
    columns = ("path", "status")
    question = Question("frames", "status != 'superseded'", columns, every=True)
    return [(row["path"], row["status"]) for row in space.registry.read(find_rows, question)]


def brought(space: Workspace, source: Path, mode: Any, **more: Any) -> tuple[int, list[str]]:
    report = bring_files(space, [source], Bringing(mode, space.project.directory / "raw", **more))
    return report.exit_code, report.problems


@pytest.mark.parametrize("mode", ["copy", "move", "hardlink", "symlink"])
def test_files_are_registered_at_their_places(space: Workspace, camera: Path, mode: Mode) -> None:
    source = write(camera / "a.fits")
    content, target = source.read_bytes(), space.project.directory / "raw" / "T_1_2" / "2026-03-01" / "a.fits"
    if mode == "hardlink" and camera.stat().st_dev != space.project.directory.stat().st_dev:
        code, problems = brought(space, camera, mode)
        assert code == 2 and "two file systems" in problems[0] and not rows(space)
        return
    assert brought(space, camera, mode) == (0, []) and rows(space) == [(str(target), "registered")]
    assert target.read_bytes() == content and source.exists() == (mode != "move")
    assert target.is_symlink() == (mode == "symlink")
    assert (mode == "hardlink") == (
        source.exists() and not target.is_symlink() and os.path.samefile(source, target)
    )
    # The second time nothing is left to do, also for what lies at its place.
    code, _ = brought(space, camera if mode != "move" else target.parent, mode)
    assert code == 0 and len(rows(space)) == 1 and target.read_bytes() == content


@pytest.mark.parametrize("mode", ["copy", "move", "symlink"])
def test_another_content_is_not_replaced_nor_lost(space: Workspace, tmp_path: Path, mode: Mode) -> None:
    first, second = write(tmp_path / "a" / "x.fits"), write(tmp_path / "b" / "x.fits", 1)
    contents = first.read_bytes(), second.read_bytes()
    brought(space, first, "copy")
    code, problems = brought(space, second, mode)
    target = space.project.directory / "raw" / "T_1_2" / "2026-03-01" / "x.fits"
    assert code == 2 and "is there with another content" in problems[0]
    assert (target.read_bytes(), second.read_bytes()) == contents and len(rows(space)) == 1


def test_what_can_not_be_read_stays_where_it_is(space: Workspace, tmp_path: Path) -> None:
    write(tmp_path / "in" / "good.fits")
    (tmp_path / "in" / "bad.fits").write_text("no image")
    code, problems = brought(space, tmp_path / "in", "move")
    assert (
        code == 1
        and "bad.fits" in problems[0]
        and [path.name for path in (tmp_path / "in").iterdir()] == ["bad.fits"]
    )


def test_a_frame_that_was_registered_where_it_was_is_the_same_where_it_is_now(
    space: Workspace, camera: Path
) -> None:
    source = write(camera / "a.fits")
    ingest_files(space, [source])
    assert brought(space, source, "move", template="{class}/{name}")[0] == 0
    registered = [path for path, status in rows(space) if status == "registered"]
    assert registered == [str(space.project.directory / "raw" / "science" / "a.fits")] and not source.exists()


def test_a_link_at_its_place_keeps_what_it_leads_to(space: Workspace, tmp_path: Path) -> None:
    source = write(tmp_path / "in" / "a.fits")
    brought(space, source, "symlink")
    code, problems = brought(space, source, "move")
    assert code == 2 and "can't be moved there" in problems[0] and source.exists()


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{telescop}/{name}", "unknown field 'telescop'"),
        ("{night}", "must hold {name}"),
        ("../{name}", "leads out"),
        ("{name", "expected '}'"),
    ],
)
def test_a_template_is_looked_at_before_any_file(template: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told.replace("{", r"\{")):
        Bringing("copy", tmp_path, template)
    assert get_args(Mode) == MODES


def test_the_command_takes_a_mode_and_a_folder(tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["init", str(tmp_path / "P")]).exit_code == 0
    write(tmp_path / "in" / "a.fits")
    words = ["-C", str(tmp_path / "P"), "ingest", str(tmp_path / "in")]
    done = run(
        app, [*words, "--transfer", "move", "--into", str(tmp_path / "R"), "--template", "{night}/{name}"]
    )
    assert done.exit_code == 0 and (tmp_path / "R" / "2026-03-01" / "a.fits").is_file(), done.output
    assert run(app, [*words, "--into", str(tmp_path / "R")]).exit_code == 2
    assert "unknown --transfer 'mv'" in str(run(app, [*words, "--transfer", "mv"]).exception)
