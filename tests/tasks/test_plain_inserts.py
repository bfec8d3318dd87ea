"""Rows that any program inserts with plain SQL: no line of ours takes part until they are read."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from astropy.io import fits
from sqlalchemy import make_url

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.files import pending_frames
from ccdflow.archive.registry.frames.queries import find_frames, list_frames
from ccdflow.cascade.planning.request import Request
from ccdflow.config.project import PROJECT_FILE, init_project
from ccdflow.tasks.grouping import group_sets
from ccdflow.tasks.ingest import IngestReport, Turn, read_pending, recheck_files
from ccdflow.tasks.planning import planned
from ccdflow.tasks.rawfiles.unread import changed_since
from ccdflow.tasks.workspace import Workspace, open_workspace

Execute = Callable[..., list[Any]]


@pytest.fixture(params=["sqlite", "postgresql"])
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Workspace, Execute]]:
    """A project, and a connection to its database by the driver alone."""
    init_project(tmp_path / "project")
    if request.param == "postgresql":
        url = request.getfixturevalue("new_database")
        (tmp_path / "project" / PROJECT_FILE).write_text(f"registry: {url}\n")
    space = open_workspace(tmp_path / "project")
    url = make_url(space.registry.url)
    if request.param == "postgresql":
        text = url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection: Any = psycopg.connect(text, autocommit=True)
    else:
        connection = sqlite3.connect(str(url.database), isolation_level=None)

    def execute(statement: str, *values: object) -> list[Any]:
        if request.param == "postgresql":
            statement = statement.replace("?", "%s")
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []

    yield space, execute
    connection.close()
    space.registry.close()


def bias(path: Path, value: int = 100, **cards: object) -> Path:
    header = fits.Header({"IMAGETYP": "bias", "DATE-OBS": "2026-03-01T20:00:00", "CAMERA": "C1", **cards})
    fits.PrimaryHDU(np.full((4, 4), value, np.uint16), header).writeto(path)
    return path


def events(execute: Execute) -> list[tuple[str, dict[str, Any]]]:
    found = execute("SELECT kind, payload FROM event ORDER BY id")
    return [(kind, told if isinstance(told, dict) else json.loads(told)) for kind, told in found]


def read(space: Workspace) -> IngestReport:
    report = IngestReport()
    read_pending(space, report)
    return report


def test_a_path_is_enough(plain: tuple[Workspace, Execute], tmp_path: Path) -> None:
    space, execute = plain
    execute("INSERT INTO frame (path) VALUES (?)", str(bias(tmp_path / "a.fits")))
    assert [kind for kind, _ in events(execute)] == ["frame.registered"]
    assert read(space).counts == {"new": 1}
    (found,) = space.registry.read(find_frames)
    assert (found.frame_class, found.camera, found.obsdate) == ("bias", "C1", "2026-03-01T20:00:00")
    assert found.sha256 and found.keywords["shape"] == "4x4"
    kind, told = events(execute)[-1]
    assert kind == "frame.changed" and told["camera"] == "C1" and told["class"] == "bias"
    assert read(space).total == 0 and recheck_files(space).total == 0


def test_what_the_header_leaves_open_stays_as_the_row_says(
    plain: tuple[Workspace, Execute], tmp_path: Path
) -> None:
    space, execute = plain
    path = bias(tmp_path / "a.fits", IMAGETYP="")
    columns = "path, class, telescope, camera, object"
    execute(f"INSERT INTO frame ({columns}) VALUES (?, 'dark', 'T7', 'wrong', 'M13')", str(path))
    read(space)
    (found,) = space.registry.read(find_frames)
    assert (found.frame_class, found.telescope, found.camera, found.object) == ("dark", "T7", "C1", "M13")


def test_rows_of_a_catalogue_need_no_file(plain: tuple[Workspace, Execute]) -> None:
    space, execute = plain
    values = "'science', 'C1', '2026-03-01T21:00:00', '2026-03-01'"
    execute(f"INSERT INTO frame (class, camera, obsdate, night) VALUES ({values})")
    assert read(space).total == 0
    (found,) = space.registry.read(find_frames)
    assert (found.frame_class, found.path, found.refused) == ("science", None, "")


@pytest.mark.parametrize("what", ["gone", "text", "cut", "folder", "long"])
def test_what_can_not_be_read_is_refused_with_a_reason(
    plain: tuple[Workspace, Execute], tmp_path: Path, what: str
) -> None:
    space, execute = plain
    path = tmp_path / "a.fits"
    if what == "text":
        path.write_text("no FITS file at all")
    elif what == "cut":
        path.write_bytes(bias(tmp_path / "whole.fits").read_bytes()[:2900])
    elif what == "folder":
        path.mkdir()
    elif what == "long":  # the system fails to look for it, as for what it may not look at
        path = tmp_path / f"{'a' * 300}.fits"
    execute("INSERT INTO frame (path) VALUES (?)", str(path))
    report = read(space)
    assert len(report.problems) == 1, report
    (row,) = space.registry.read(list_frames)
    said = {"gone": "no such file", "text": "is not FITS", "cut": "is truncated"}
    said |= {"folder": "is a folder, not a FITS file", "long": "can't be read: file name too long"}
    assert row["status"] == "refused" and said[what] in row["reason"]
    assert read(space).total == 0


def test_rows_that_name_no_file_keep_no_other_from_its_turn(
    plain: tuple[Workspace, Execute], tmp_path: Path
) -> None:
    space, execute = plain
    os.mkfifo(tmp_path / "pipe.fits")
    (tmp_path / "loop.fits").symlink_to(tmp_path / "loop.fits")
    (tmp_path / "zero.fits").symlink_to("/dev/zero")
    names: list[object] = [tmp_path / f"{name}.fits" for name in ("pipe", "loop", "zero", "two\nlines")]
    names = [str(name) for name in (*names, ".", "relative.fits", "/dev/zero", "/proc/self/mem")]
    of_bytes = 0
    if space.registry.database.sqlite:  # which keeps whatever it is given; PostgreSQL refuses it
        names += ["/raw/a\0b.fits", b"/raw/bytes\xe9.fits"]
        execute("INSERT INTO frame (path, object) VALUES (CAST(? AS TEXT), 'M')", b"/raw/latin\xe9.fits")
        of_bytes = 1
        execute(
            "INSERT INTO frame (telescope, obsdate, iobs, nobs, exptime) VALUES ('T', 'then', 'a', 'b', 'long')"
        )
    for name in (*names, str(bias(tmp_path / "z.fits"))):
        execute("INSERT INTO frame (path) VALUES (?)", name)
    assert list(changed_since(space))[-1].startswith(
        f"{len(names) + of_bytes + 1} frames are registered by a row"
    )
    report = read(space)
    assert report.counts == {"new": 1, "unreadable": len(names) + of_bytes}
    assert all("\n" not in line for line in report.problems)
    assert read(space).total == 0 and recheck_files(space).counts["new"] == 0
    assert [frame.frame_class for frame in space.registry.read(find_frames) if frame.sha256] == ["bias"]
    assert len(space.registry.read(list_frames)) == len(names) + 2 * of_bytes + 1


ODD_ROWS: list[dict[str, Any]] = [
    {"obsdate": "2016-12-31T23:59:60", "night": "2016-12-31"},
    {"obsdate": "yesterday evening", "night": "2026-02-30"},
    {"obsdate": "2026-03-01T21:00:00+01:00"},
    {"obsdate": "0001-01-01T00:00:00"},
    {"obsdate": "9999-12-31T23:59:59"},
    {"iobs": -1, "nobs": 3},
    {"iobs": 1, "nobs": 10**9},
    {"iobs": 10**9, "nobs": 10**9},
    {"exptime": -5.0},
    {"exptime": 1e308},
    {"exptime": float("inf")},
    {"class": "Light"},
    {"camera": "a/b", "telescope": "../.."},
    {"object": "|`<script>](javascript:x)\n# h"},
]
OF_SQLITE: list[dict[str, Any]] = [
    {"iobs": 1.5, "nobs": 2.5},
    {"iobs": 1, "nobs": 2.5},
    {"iobs": "a", "nobs": "b"},
    {"iobs": 2**62, "nobs": 2**62},
    {"exptime": "ten"},
    {"obsdate": 61000.5},
]
"""What PostgreSQL's columns refuse."""


def test_rows_that_say_what_can_not_be_stop_neither_plans_nor_grouping(
    plain: tuple[Workspace, Execute], tmp_path: Path
) -> None:
    space, execute = plain
    science = {"class": "science", "telescope": "T", "camera": "C1", "object": "M1", "night": "2026-03-01"}
    rows = [*ODD_ROWS, *(OF_SQLITE if space.registry.database.sqlite else [])]
    for number, odd in enumerate(rows):
        row = science | {"obsdate": f"2026-03-01T20:{number:02d}:00"} | odd
        places = ", ".join("?" * len(row))
        execute(f"INSERT INTO frame ({', '.join(row)}) VALUES ({places})", *row.values())
    for number in range(3):
        execute("INSERT INTO frame (path) VALUES (?)", str(bias(tmp_path / f"{number}.fits", number + 1)))
    assert read(space).counts == {"new": 3}
    group_sets(space, Request())
    request = Request(targets=("bias", "science", "stack"))
    wanted = planned(space, request)
    assert [job.step for job in wanted.jobs if job.step == "bias"] == ["bias"]
    # As a drain does, which begins at its oldest frame that is not over.
    planned(space, request.model_copy(update={"since": "yesterday evening"}))


def test_a_file_that_comes_after_its_row_is_read_once_it_is_there(
    plain: tuple[Workspace, Execute], tmp_path: Path
) -> None:
    space, execute = plain
    execute("INSERT INTO frame (path) VALUES (?)", str(tmp_path / "a.fits"))
    read(space)
    bias(tmp_path / "a.fits")
    assert recheck_files(space).problems == []
    (row,) = space.registry.read(list_frames)
    assert (row["class"], row["status"], row["reason"]) == ("bias", "done", "")


def test_the_same_content_under_two_names_counts_once(
    plain: tuple[Workspace, Execute], tmp_path: Path
) -> None:
    space, execute = plain
    first = bias(tmp_path / "a.fits")
    (tmp_path / "b.fits").write_bytes(first.read_bytes())
    for name in ("a.fits", "b.fits"):
        execute("INSERT INTO frame (path) VALUES (?)", str(tmp_path / name))
    assert read(space).counts == {"new": 1, "duplicate": 1}
    assert len(space.registry.read(find_frames)) == 1


def test_postgresql_notifies_who_listens(new_database: str) -> None:
    registry = Registry(new_database)
    registry.upgrade()
    with psycopg.connect(new_database, autocommit=True) as ear, psycopg.connect(new_database) as mouth:
        ear.execute("LISTEN ccdflow")
        mouth.execute("INSERT INTO frame (path) VALUES ('/raw/a.fits'), ('/raw/b.fits')")
        assert list(ear.notifies(timeout=0.2)) == []  # not before it counts
        mouth.commit()
        assert [one.channel for one in ear.notifies(timeout=5, stop_after=1)] == ["ccdflow"]
    registry.close()


def test_the_newest_rows_are_read_first_and_no_longer_than_their_turn(
    plain: tuple[Workspace, Execute], tmp_path: Path
) -> None:
    space, execute = plain
    for number in range(4):
        execute(
            "INSERT INTO frame (path) VALUES (?)", str(bias(tmp_path / f"{number}.fits", value=number + 1))
        )
    # No time at all: nothing is read, and nothing is lost.
    assert read_pending(space, IngestReport(), turn=Turn(0.0)) == 0
    read_first: list[str] = []

    class OneRow(Turn):
        @property
        def is_over(self) -> bool:
            return bool(read_first)

        def is_due(self, frame: int) -> bool:
            read_first.append(f"f{frame}")
            return True

    assert read_pending(space, IngestReport(), turn=OneRow()) == 1
    assert read_first == ["f4"] and len(space.registry.read(pending_frames)) == 3
    assert read_pending(space, IngestReport(), turn=Turn(60.0)) == 3


def test_thousands_of_rows_whose_files_never_come_cost_little(plain: tuple[Workspace, Execute]) -> None:
    space, execute = plain
    count = 400
    execute(
        "INSERT INTO frame (path) WITH RECURSIVE row(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM row WHERE n < ?) "
        "SELECT '/nowhere/' || n || '.fits' FROM row",
        count,
    )
    turn = Turn(60.0)
    assert read_pending(space, IngestReport(), patience=60.0, turn=turn) == 0
    assert len(turn.later) == count
    # Once they are old enough, all are refused together.
    assert read_pending(space, IngestReport(), turn=Turn(60.0)) == count
    assert {row["reason"] for row in space.registry.read(list_frames)} == {"no such file"}
