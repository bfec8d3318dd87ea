"""Raw files below a named root move with it: the project file names another folder, and all paths lead there."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from sqlalchemy import text

from ccdflow.archive.moving.selecting import Selection
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.places import frames_at
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames
from ccdflow.archive.search.finding import Question, find_rows
from ccdflow.archive.search.places import frame_of_file
from ccdflow.config.project import load_project
from ccdflow.config.yamlfile import ConfigError
from ccdflow.tasks.ingest import IngestReport, ingest_files, read_pending
from ccdflow.tasks.keeping.moving import archive, import_archive
from ccdflow.tasks.keeping.putting import put_object
from ccdflow.tasks.workspace import Workspace

NewProject = Callable[[str], Workspace]
Rooted = Callable[..., Workspace]


def write(path: Path, seed: int = 0) -> Path:
    header = fits.Header([("IMAGETYP", "Light Frame"), ("TELESCOP", "T"), ("EXPTIME", 60.0), ("FILTER", "L")])
    header["DATE-OBS"] = f"2026-03-01T20:0{seed}:00"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(300, 1300, (8, 10)).astype(np.uint16)
    fits.PrimaryHDU(pixels, header).writeto(path)
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def rooted(request: pytest.FixtureRequest, new_project: NewProject) -> Iterator[Rooted]:
    """Gives one project with other roots each time."""
    opened: list[Registry] = []

    def project(**roots: Path) -> Workspace:
        space = new_project("rooted")
        url = space.project.registry
        if request.param == "postgresql":
            url = request.getfixturevalue("new_database")
        opened.append(Registry(url, roots=tuple((name, str(folder)) for name, folder in roots.items())))
        opened[-1].upgrade()
        return replace(space, registry=opened[-1])

    yield project
    for registry in opened:
        registry.close()


def kept(space: Workspace) -> list[str | None]:
    with space.registry.database.read() as connection:
        return list(connection.execute(text("SELECT path FROM frame ORDER BY id")).scalars())


def paths(space: Workspace) -> list[str]:
    question = Question("frames", "", ("path",), ("id",))
    asked = [row["path"] for row in space.registry.read(find_rows, question)]
    assert asked == [frame.path for frame in space.registry.read(find_frames, FrameFilter())]
    return asked


def test_paths_follow_their_root(rooted: Rooted, tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "raw", tmp_path / "there"
    first, other = write(here / "n1" / "a.fits"), write(tmp_path / "else" / "b.fits", 1)
    space = rooted(raw=here)
    assert ingest_files(space, [here, other]).counts["new"] == 2
    assert kept(space) == ["raw:n1/a.fits", str(other)] and paths(space) == [str(first), str(other)]
    assert ingest_files(space, [here, other]).counts["known"] == 2
    for folder in (here, here / "n1", first, tmp_path / "here"):
        assert space.registry.read(frames_at, [str(folder)]) == {1}, folder
    assert space.registry.read(frames_at, [str(here / "n")]) == set()
    shutil.move(here, there)
    space = rooted(raw=there)
    assert paths(space) == [str(there / "n1" / "a.fits"), str(other)]
    assert space.registry.read(frame_of_file, str(there / "n1" / "a.fits")) == 1
    assert ingest_files(space, [there]).counts["known"] == 1 and len(kept(space)) == 2
    # Without the root the file is not there, and nothing else is concluded.
    assert paths(rooted()) == ["raw:n1/a.fits", str(other)]


def test_absolute_paths_of_other_programs_and_of_before_are_taken(rooted: Rooted, tmp_path: Path) -> None:
    first, second = write(tmp_path / "raw" / "a.fits"), write(tmp_path / "raw" / "b.fits", 1)
    ingest_files(rooted(), [first])
    space = rooted(raw=tmp_path / "raw", inner=tmp_path / "raw" / "inner")
    space.registry.keep_relative()  # as whoever opens the project does
    third = write(tmp_path / "raw" / "inner" / "c.fits", 2)
    with space.registry.database.write() as connection:
        for path in (second, "inner:c.fits", first):
            connection.execute(text("INSERT INTO frame (path) VALUES (:path)"), {"path": str(path)})
    read_pending(space, IngestReport(), 0.0)
    assert kept(space)[:3] == ["raw:a.fits", "raw:b.fits", "inner:c.fits"]
    assert sorted(paths(space)) == sorted(map(str, (first, second, third)))
    # A pattern of a path is held against what is kept, too.
    question = Question("frames", f"path like '{tmp_path}/raw/b%'", ("id",))
    assert space.registry.read(find_rows, question) == [{"id": 2}]


def test_an_archive_keeps_what_is_relative(rooted: Rooted, new_project: NewProject, tmp_path: Path) -> None:
    space = rooted(raw=tmp_path / "raw")
    ingest_files(space, [write(tmp_path / "raw" / "a.fits")])
    space.claim_store()
    put_object(space, "a text", "remarks", ["f1"])
    archive(space, tmp_path / "a.tar", Selection())
    target = new_project("target")
    import_archive(target, tmp_path / "a.tar")
    assert kept(target) == ["raw:a.fits"]
    archive(target, tmp_path / "b.tar", Selection())
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    archive(space, tmp_path / "raws.tar", Selection(raws=True))


@pytest.mark.parametrize(
    ("roots", "told"),
    [
        ("{a b: raw}", "is no name"),
        ("{raw: ''}", "is empty"),
        ("{a: raw, b: raw}", "two roots are one folder"),
    ],
)
def test_roots_of_the_project_file_are_looked_at(space: Workspace, roots: str, told: str) -> None:
    file = space.project.directory / "ccdflow.yaml"
    file.write_text(f"{file.read_text()}\nroots: {roots}\n")
    with pytest.raises(ConfigError, match=told):
        load_project(space.project.directory)


def test_a_root_is_relative_to_the_project(space: Workspace) -> None:
    file = space.project.directory / "ccdflow.yaml"
    file.write_text(f"{file.read_text()}\nroots: {{raw: ../raw}}\n")
    assert ("raw", str(space.project.directory.parent / "raw")) in load_project(space.project.directory).roots
