"""Archives go into a tar file and out of it, and from project to project: whole, or not at all."""

import io
import json
import multiprocessing
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from sqlalchemy import text
from typer.testing import CliRunner

from ccdflow.archive.moving.manifest import ArchiveFileError
from ccdflow.archive.moving.packages import MANIFEST, refuse_member
from ccdflow.archive.moving.selecting import Selection
from ccdflow.archive.registry.choices import choose
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.amendments import amend
from ccdflow.archive.search.finding import Question, find_rows
from ccdflow.cascade.planning.request import Request
from ccdflow.cli import app
from ccdflow.tasks.grouping import group_sets
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.keeping.moving import archive, compare, import_archive, transfer
from ccdflow.tasks.keeping.putting import put_object
from ccdflow.tasks.workspace import Workspace

NewProject = Callable[[str], Workspace]
NOW = Request(now="2026-03-02T12:00:00")
SELECTIONS = {
    "all current": Selection(),
    "all": Selection(every=True),
    "one": Selection("category = 'remarks'"),
}


def write(path: Path, seed: int) -> Path:
    header = fits.Header(
        [("IMAGETYP", "Light Frame"), ("TELESCOP", "T"), ("INSTRUME", "I"), ("EXPTIME", 60.0)]
    )
    header["FILTER"], header["OBJECT"], header["DATE-OBS"] = "L", "M13", f"2026-03-01T20:0{seed}:00"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(300, 1300, (8, 10)).astype(np.uint16)
    fits.PrimaryHDU(pixels, header).writeto(path)
    return path


@pytest.fixture
def filled(new_project: NewProject, tmp_path: Path) -> Workspace:
    """Three frames in a set, one corrected and pinned, with products of two steps."""
    space = new_project("filled")
    # Two cameras' computers count their files alike.
    ingest_files(space, [write(tmp_path / "raws" / str(seed) / "image.fits", seed) for seed in range(3)])
    space.registry.write(amend, {1: {"object": "M 13"}}, "who", "why")
    group_sets(space, NOW)
    space.registry.write(choose, ["f1"], "pinned", "the best")
    space.claim_store()
    first = put_object(space, "a text", "remarks", ["f1", "f2"])
    put_object(space, {"x": [1, 2]}, "numbers", [f"p{first}", "f3"], parameters={"box": 64})
    with space.registry.database.write() as connection:
        connection.execute(text("INSERT INTO product_quality VALUES (1, 'fwhm', 2.5), (1, 'bad', NULL)"))
        connection.execute(text("INSERT INTO product_doubt VALUES (1, 0, 'recipe', 'odd')"))
        connection.execute(
            text(
                "INSERT INTO instrument_event (telescope, happened, what) VALUES ('T', '2026-01-01', 'mirror')"
            )
        )
    return space


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, new_project: NewProject) -> Iterator[Workspace]:
    space = new_project("empty")
    if request.param == "postgresql":
        space = replace(space, registry=Registry(request.getfixturevalue("new_database")))
        space.registry.upgrade()
    yield space
    if request.param == "postgresql":
        space.registry.close()


def frames(space: Workspace) -> list[dict[str, Any]]:
    columns = ("id", "object", "filter", "night", "sha256")
    return space.registry.read(find_rows, Question("frames", "", columns))


def counts(space: Workspace) -> list[int]:
    names = ("frame", "frame_set", "job", "product", "choice", "amendment", "instrument_event")
    with space.registry.database.read() as connection:
        return [connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in names]


def stored(space: Workspace) -> list[str]:
    return space.store.foreign(()) if space.store.root.is_dir() else []


@pytest.mark.parametrize("raws", [False, True])
@pytest.mark.parametrize("part", SELECTIONS)
def test_what_is_imported_is_archived_as_the_same_bytes(
    filled: Workspace, empty: Workspace, tmp_path: Path, part: str, raws: bool
) -> None:
    first, again, last = (tmp_path / name for name in ("first.tar", "again.tar", "last.tar"))
    selection = replace(SELECTIONS[part], raws=raws)
    archive(filled, first, selection)
    archive(filled, again, selection)
    moved = import_archive(empty, first)
    archive(empty, last, selection)
    assert first.read_bytes() == again.read_bytes() == last.read_bytes()
    assert moved.report.new["frame"] == (2 if part == "one" else 3) and not moved.report.known.total()
    if part != "one":
        assert (
            frames(empty) == frames(filled)
            and counts(empty) == counts(filled)
            and stored(empty) == stored(filled)
        )
    # Ids are given out behind those that came.
    ingest_files(empty, [write(tmp_path / "later.fits", 7)])
    assert max(row["id"] for row in frames(empty)) == max(row["id"] for row in frames(filled)) + (
        part != "one"
    )


def test_where_there_is_something_already_ids_are_others_and_twice_is_harmless(
    filled: Workspace, empty: Workspace, tmp_path: Path
) -> None:
    ingest_files(empty, [write(tmp_path / "mine" / "mine.fits", 8), filled_raw(tmp_path, 1)])
    group_sets(empty, NOW)
    archive(filled, tmp_path / "a.tar", Selection())
    moved = import_archive(empty, tmp_path / "a.tar")
    assert moved.report.new["frame"] == 2 and moved.report.known["frame"] == 1 and moved.files == 2
    told = [(row["id"], row["object"]) for row in frames(empty)]
    assert sorted(told) == [(1, "M13"), (2, "M13"), (3, "M 13"), (4, "M13")]
    lineage = "SELECT frame FROM v_lineage WHERE product = 1 ORDER BY position"
    with empty.registry.database.read() as connection:
        assert list(connection.execute(text(lineage)).scalars()) == [3, 2]
        assert connection.execute(text("SELECT subject FROM choice")).scalar_one() == "f3"
        # A frame is in one set of a step only: the one that was here counts.
        sets = connection.execute(
            text("SELECT status, superseded_by FROM frame_set ORDER BY id DESC")
        ).first()
    assert sets is not None and sets[0] == "superseded" and sets[1] is not None
    before = counts(empty)
    again = import_archive(empty, tmp_path / "a.tar")
    assert counts(empty) == before and not again.report.new.total() and again.files == 0


def filled_raw(tmp_path: Path, seed: int) -> Path:
    return tmp_path / "raws" / str(seed) / "image.fits"


def test_a_product_of_another_content_is_an_error_that_changes_nothing(
    filled: Workspace, empty: Workspace, tmp_path: Path
) -> None:
    archive(filled, tmp_path / "a.tar", Selection())
    import_archive(empty, tmp_path / "a.tar")
    with empty.registry.database.write() as connection:
        connection.execute(text(f"UPDATE product SET sha256 = '{'0' * 64}' WHERE id = 1"))
        connection.execute(text("DELETE FROM product WHERE id = 2"))
    before, files = counts(empty), stored(empty)
    with pytest.raises(ArchiveFileError, match=r"remarks.*is not p1 here.*sha256 0000.*nothing was changed"):
        import_archive(empty, tmp_path / "a.tar")
    assert (counts(empty), stored(empty)) == (before, files)


@pytest.mark.parametrize("state", ["missing", "planned", "done"])
def test_a_product_that_is_missing_comes_back(filled: Workspace, tmp_path: Path, state: str) -> None:
    archive(filled, tmp_path / "a.tar", Selection())
    (path,) = (filled.store.absolute(name) for name in stored(filled) if "remarks" in name)
    content = path.read_bytes()
    path.unlink()
    with filled.registry.database.write() as connection:
        connection.execute(text(f"UPDATE product SET state = '{state}' WHERE id = 1"))
    import_archive(filled, tmp_path / "a.tar")
    archive(filled, tmp_path / "b.tar", Selection())
    assert path.read_bytes() == content and not compare(tmp_path / "a.tar", tmp_path / "b.tar")[0]


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "elsewhere"
    return info


@pytest.mark.parametrize(
    "info",
    [
        member("/tmp/a"),
        member("products/../../a"),
        member("products/a", tarfile.SYMTYPE),
        member("products/a", tarfile.LNKTYPE),
        member("products/a", tarfile.CHRTYPE),
        member("products/a", tarfile.FIFOTYPE),
        member("products", tarfile.DIRTYPE),
    ],
    ids=["absolute", "upwards", "symlink", "hardlink", "device", "pipe", "folder"],
)
def test_members_that_are_no_plain_files_below_the_top_are_refused(info: tarfile.TarInfo) -> None:
    refuse_member(member("products/a"), "a.tar")
    with pytest.raises(ArchiveFileError, match="nothing of it is taken"):
        refuse_member(info, "a.tar")


def rewritten(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """A tar file with other members."""
    with tarfile.open(source) as tar:
        members = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    change(members)
    with tarfile.open(target, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def last(members: dict[str, bytes]) -> str:
    return list(members)[-1]


DAMAGES: dict[str, tuple[Callable[[dict[str, bytes]], Any], str]] = {
    "product": (lambda files: files.update({last(files): files[last(files)][:-1] + b"?"}), "is damaged"),
    "size": (lambda files: files.update({last(files): b"short"}), "has 5 bytes, wanted"),
    "missing": (lambda files: files.pop(last(files)), "is missing"),
    "more": (lambda files: files.update({"products/more": b""}), "is not in its manifest"),
    "order": (lambda files: files.update({MANIFEST: files.pop(MANIFEST)}), "first member is no manifest"),
    "row": (
        lambda files: files.update({MANIFEST: files[MANIFEST].replace(b"M13", b"M14")}),
        "manifest is damaged",
    ),
    "cut manifest": (lambda files: files.update({MANIFEST: files[MANIFEST][:3000]}), "no JSON"),
    "no end": (
        lambda files: files.update({MANIFEST: b"".join(files[MANIFEST].splitlines(keepends=True)[:-1])}),
        "has no end",
    ),
    "newer": (
        lambda files: files.update({MANIFEST: files[MANIFEST].replace(b'"schema":"0', b'"schema":"9')}),
        "update",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_whole_is_refused_before_anything_is_written(
    filled: Workspace, new_project: NewProject, tmp_path: Path, damage: str
) -> None:
    archive(filled, tmp_path / "a.tar", Selection())
    change, told = DAMAGES[damage]
    rewritten(tmp_path / "a.tar", tmp_path / "b.tar", change)
    fresh = new_project("fresh")
    with pytest.raises(ArchiveFileError, match=told):
        import_archive(fresh, tmp_path / "b.tar")
    assert not any(counts(fresh)) and not stored(fresh)


@pytest.mark.parametrize("length", [100, 20000, -3000])
def test_a_file_that_was_cut_off_or_is_something_else_is_refused(
    filled: Workspace, new_project: NewProject, tmp_path: Path, length: int
) -> None:
    archive(filled, tmp_path / "a.tar", Selection(raws=True))
    (tmp_path / "b.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:length][:-10240])
    with pytest.raises(ArchiveFileError, match=r"can't be read|was cut off|no end|no JSON"):
        import_archive(new_project("fresh"), tmp_path / "b.tar")
    with pytest.raises(ArchiveFileError, match="no archive; it is not replaced"):
        archive(filled, filled_raw(tmp_path, 0), Selection())


def killed_before_rows(space: Workspace, file: Path) -> None:
    """As `kill -9` when the files are there and no row is."""
    real = type(space.registry).write

    def dying(registry: Registry, statement: Any, *arguments: Any) -> Any:
        if statement.__name__ == "place":
            os._exit(9)
        return real(registry, statement, *arguments)

    type(space.registry).write = dying  # type: ignore[method-assign]
    import_archive(space, file)


def test_an_import_that_was_killed_leaves_nothing_and_the_next_one_succeeds(
    filled: Workspace, new_project: NewProject, tmp_path: Path
) -> None:
    archive(filled, tmp_path / "a.tar", Selection(raws=True))
    fresh = new_project("fresh")
    child = multiprocessing.get_context("fork").Process(
        target=killed_before_rows, args=(fresh, tmp_path / "a.tar")
    )
    child.start()
    child.join()
    assert child.exitcode == 9 and not any(counts(fresh)) and len(stored(fresh)) == 2
    import_archive(fresh, tmp_path / "a.tar")
    archive(fresh, tmp_path / "b.tar", Selection(raws=True))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_files_of_others_are_not_replaced(filled: Workspace, new_project: NewProject, tmp_path: Path) -> None:
    archive(filled, tmp_path / "a.tar", Selection())
    fresh = new_project("fresh")
    name = sorted(stored(filled))[-1]
    fresh.claim_store()
    fresh.store.absolute(name).parent.mkdir(parents=True)
    fresh.store.absolute(name).write_text("mine")
    with pytest.raises(ArchiveFileError, match=r"is there, and is not products/"):
        import_archive(fresh, tmp_path / "a.tar")
    assert stored(fresh) == [name] and not any(counts(fresh))


@pytest.mark.parametrize("away", ["missing", "damaged"])
def test_what_is_not_whole_is_not_archived(filled: Workspace, tmp_path: Path, away: str) -> None:
    path = filled.store.absolute(stored(filled)[0])
    content = path.read_bytes()
    path.unlink() if away == "missing" else path.write_bytes(content[:-1] + b"?")
    with pytest.raises(ArchiveFileError, match=r"is not there|is damaged"):
        archive(filled, tmp_path / "a.tar", Selection())
    assert not list(tmp_path.glob("*.tar")) and not list(tmp_path.glob(".*.part"))


def test_projects_are_compared_by_what_they_hold(
    filled: Workspace, new_project: NewProject, tmp_path: Path
) -> None:
    here, there = filled.project.directory, new_project("there")
    transfer(filled, there, Selection(every=True), link=True)
    inodes = [space.store.absolute(stored(space)[0]).stat().st_ino for space in (filled, there)]
    assert inodes[0] == inodes[1]
    assert compare(here, there.project.directory) == (
        [],
        {"frame": 3, "set": 2, "job": 2, "product": 2, "choice": 1, "event": 1},
    )
    with there.registry.database.write() as connection:
        connection.execute(text("UPDATE product_quality SET value = 3 WHERE name = 'fwhm'"))
        connection.execute(text("UPDATE product SET filter = 'V' WHERE id = 2"))
        connection.execute(text("DELETE FROM choice"))
    path = there.store.absolute(stored(there)[0])
    path.unlink()
    told, _ = compare(here, there.project.directory, quick=True)
    assert [(one.kind, one.column, one.first, one.second) for one in told] == [
        ("product", "quality fwhm", 2.5, 3.0),
        ("product", "filter", "L", "V"),
        ("choice", "", True, False),
    ]
    runner = CliRunner()
    done = runner.invoke(app, ["diff", str(here), str(there.project.directory)])
    assert done.exit_code == 1 and f"which is missing here: {path}" in done.output
    assert "filter is 'L' in" in done.output and "4 differences" in done.output
    assert (
        runner.invoke(app, ["-C", str(here), "archive", str(tmp_path / "a.tar"), "fwhm < 3"]).exit_code == 0
    )
    done = runner.invoke(app, ["diff", str(tmp_path / "a.tar"), str(here), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["both"]["product"] == 1
