"""Rows of others with anything in the place of a number or a time stop nothing, and are told of."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from ccdflow.archive.registry.frames.keywords import read_value
from ccdflow.archive.registry.frames.oddvalues import (
    finite,
    is_time,
    odd_in_words,
    position,
    size,
    whole,
    words,
)
from ccdflow.archive.registry.frames.queries import find_frames, list_frames
from ccdflow.archive.registry.sets.records import find_sets
from ccdflow.cascade.planning.request import Request
from ccdflow.cli import app
from ccdflow.commands.queries import LISTS
from ccdflow.config.project import PROJECT_FILE, init_project
from ccdflow.tasks.draining import Drain
from ccdflow.tasks.grouping import group_sets
from ccdflow.tasks.ingest import recheck_files
from ccdflow.tasks.planning import planned
from ccdflow.tasks.rawfiles.rawchecks import check_raws
from ccdflow.tasks.workspace import Workspace, open_workspace

LATER = Request(now="2026-03-02T12:00:00")
BYTES = b"\xff\xfe"
COLUMNS = (
    "telescope",
    "camera",
    "instrument",
    "class",
    "object",
    "filter",
    "night",
    "obsdate",
    "exptime",
    "iobs",
    "nobs",
)
INFINITE = float("inf")
ODD: list[dict[str, Any]] = [
    {"exptime": "abc"},
    {"exptime": BYTES},
    {"exptime": INFINITE},
    {"exptime": -INFINITE},
    {"exptime": 1e308},
    {"iobs": "abc"},
    {"iobs": 1.5},
    {"iobs": BYTES, "nobs": BYTES},
    {"nobs": "abc"},
    {"nobs": BYTES},
    {"nobs": 1.5},
    {"nobs": 1e300},
    {"nobs": 2**62},
    {"obsdate": "abc"},
    {"obsdate": "2026-13-45T99:99:99"},
    {"obsdate": ""},
    {"night": "abc"},
    {"object": BYTES},
    {"filter": "\x1b[31m"},
]
EVERYTHING = {"night": None, "camera": None, "superseded": False}
CALIBRATED = (("flat", "19:00:00"), ("science", "21:00:00"))
OF_POSTGRESQL = [
    row
    for row in ODD
    if not any(
        isinstance(value, bytes) or (name == "exptime" and value == "abc") for name, value in row.items()
    )
    and not any(name in ("iobs", "nobs") for name in row)
]
KEYWORDS: list[tuple[Any, Any, Any]] = [
    ("ccd_temperature", "abc", "xyz"),
    ("set_temperature", "-10", BYTES),
    ("gain", "9" * 400, 1e308),
    ("gain", "1", INFINITE),
    ("binning", BYTES, None),
    (BYTES, "a", None),
]


def rows(odd: list[dict[str, Any]]) -> list[list[Any]]:
    """A row for each odd one, and good ones before and behind them, a second apart."""
    plain: list[dict[str, Any]] = [{}, *odd, {}]
    return [
        [
            {
                "telescope": "T1",
                "camera": "C1",
                "instrument": "I1",
                "class": "science",
                "object": "M13",
                "filter": "V",
                "night": "2026-03-01",
                "obsdate": f"2026-03-01T20:{number // 60:02d}:{number % 60:02d}",
                "exptime": 30.0,
                "iobs": 1,
                "nobs": 1,
                **row,
            }[name]
            for name in COLUMNS
        ]
        for number, row in enumerate(plain)
    ]


STATEMENT = f"INSERT INTO frame ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"


def put(connection: sqlite3.Connection, statement: str, values: list[Any]) -> bool:
    """Do a statement, unless SQLite itself refuses it: the events' JSON takes no bytes."""
    try:
        connection.execute(statement, values)
    except sqlite3.OperationalError:
        assert any(isinstance(value, bytes) for value in values)
        return False
    return True


def everything(space: Workspace) -> None:
    """All that reads rows and is not to stop."""
    group_sets(space, LATER)
    planned(space, LATER)
    looks = iter((True, True, False, False, False))
    Drain(space, lambda jobs: {}, max_age_days=30_000, may_go_on=lambda: next(looks)).run(0.0)
    recheck_files(space)
    list(check_raws(space))


def test_odd_rows_of_sqlite_stop_nothing(space: Workspace) -> None:
    with sqlite3.connect(str(make_url(space.registry.url).database)) as connection:
        count = sum(put(connection, STATEMENT, row) for row in rows(ODD))
        for name, value, number in KEYWORDS:
            (last,) = connection.execute("SELECT max(id) FROM frame").fetchone()
            connection.execute(
                "INSERT OR REPLACE INTO frame_keyword (frame_id, name, value, number) VALUES (?, ?, ?, ?)",
                [last, name, value, number],
            )
    connection.close()
    everything(space)
    frames = space.registry.read(find_frames)
    assert len(frames) == count > len(ODD) - 3
    assert all(frame.exptime is None or finite(frame.exptime) is not None for frame in frames)
    # Those that are as they should be are in sets.
    held = {frame for record in space.registry.read(find_sets) for frame in record.frames}
    assert {min(frame.id for frame in frames), max(frame.id for frame in frames)} <= held
    told = [row["doubts"] for row in space.registry.read(list_frames) if row["doubts"]]
    assert ["its row has exptime = 'abc', wanted a number: it is unknown"] in told
    assert any("obsdate = 'abc', wanted an ISO time" in line for lines in told for line in lines)
    run = CliRunner()
    for words_of_command in (
        ["list", "frames"],
        ["list", "frames", "--json"],
        ["status"],
        ["plan"],
        ["group"],
    ):
        outcome = run.invoke(app, ["-C", str(space.project.directory), *words_of_command])
        assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception


def test_a_row_that_somebody_has_changed_to_something_odd_stops_nothing(space: Workspace) -> None:
    with sqlite3.connect(str(make_url(space.registry.url).database)) as connection:
        connection.executemany(STATEMENT, rows([{}] * len(ODD)))
    group_sets(space, LATER)
    with connection:
        for number, odd in enumerate(ODD, 2):
            for name, value in odd.items():
                put(connection, f'UPDATE frame SET "{name}" = ? WHERE id = ?', [value, number])
    connection.close()
    everything(space)


def test_odd_rows_of_postgresql_stop_nothing(new_database: str, tmp_path: Path) -> None:
    init_project(tmp_path / "project")
    (tmp_path / "project" / PROJECT_FILE).write_text(f"registry: {new_database}\n")
    space = open_workspace(tmp_path / "project")
    url = make_url(new_database).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        for row in rows([*OF_POSTGRESQL, {"exptime": float("nan")}]):
            connection.execute(STATEMENT.replace("?", "%s"), row)
        connection.execute("INSERT INTO frame_keyword VALUES (1, 'ccd_temperature', 'nan', 'NaN')")
    everything(space)
    assert all(
        frame.exptime is None or finite(frame.exptime) is not None
        for frame in space.registry.read(find_frames)
    )
    space.registry.close()


@pytest.mark.parametrize(
    ("check", "value", "known"),
    [
        (finite, 1.5, 1.5),
        (finite, "1.5", None),
        (finite, BYTES, None),
        (finite, INFINITE, None),
        (finite, float("nan"), None),
        (whole, 3.0, 3),
        (whole, 1.5, None),
        (whole, 1e300, None),
        (whole, 2**40, None),
        (whole, None, None),
        (size, "abc", 0),
        (size, None, 0),
        (size, 2880, 2880),
        (words, BYTES, r"\xff\xfe"),
        (words, "a", "a"),
        (words, None, None),
        (is_time, "2026-03-01T20:00:00Z", True),
        (is_time, "", True),
        (is_time, "abc", False),
    ],
)
def test_what_a_row_may_hold_is_what_it_means(check: Callable[[Any], Any], value: Any, known: Any) -> None:
    assert check(value) == known


@pytest.mark.parametrize(
    ("row", "known"),
    [
        ((1, 3), (1, 3)),
        ((1.5, 3), (0, None)),
        ((1, "abc"), (0, None)),
        ((0, 3), (0, None)),
        ((4, 3.0), (0, None)),
    ],
)
def test_a_place_in_a_sequence_is_believed_where_both_numbers_are(row: tuple[Any, Any], known: Any) -> None:
    assert position(*row) == known


@pytest.mark.parametrize(
    ("row", "known"),
    [
        (("abc", "xyz"), "abc"),
        (("1", BYTES), "1"),
        ((BYTES, None), r"\xff\xfe"),
        (("9" * 400, 1e308), 1e308),
        (("9" * 5000, 5.0), 5.0),
        (("T", 1.0), True),
        (("7", 7.0), 7),
        (("1", INFINITE), "1"),
    ],
    ids=range(8),
)
def test_a_keyword_of_an_odd_row_is_a_value(row: tuple[Any, Any], known: Any) -> None:
    assert read_value(*row) == known


def test_each_odd_column_is_told_once() -> None:
    assert odd_in_words({"exptime": 30.0, "iobs": 1, "nobs": None, "obsdate": "2026-03-01T20:00:00"}) == []
    assert len(odd_in_words({"exptime": BYTES, "iobs": 1.5, "nobs": "x", "obsdate": "x"})) == 4


def test_a_change_of_an_instrument_at_no_time_lies_between_no_frames(space: Workspace) -> None:
    odd = ["yesterday", "", "0000-01-01", BYTES]
    statement = "INSERT INTO instrument_event (happened, what) VALUES (?, 'detector swapped')"
    with sqlite3.connect(space.project.directory / "registry.sqlite") as connection:
        connection.executemany(statement, [(happened,) for happened in [*odd, "2026-03-01T20:00:00"]])
    connection.close()
    told = {row["happened"]: row["reason"] for row in LISTS["interventions"](space, **EVERYTHING)}
    assert told.pop("2026-03-01T20:00:00") == "" and len(told) == len(odd)
    assert all("wanted an ISO time" in reason for reason in told.values())
    frames = [{"class": name, "obsdate": f"2026-03-01T{hour}"} for name, hour in CALIBRATED]
    with sqlite3.connect(space.project.directory / "registry.sqlite") as connection:
        for row in rows(frames)[1:-1]:
            connection.execute(STATEMENT, row)
    connection.close()
    planned(space, LATER)
