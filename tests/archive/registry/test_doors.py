"""Unit tests of the two doors: what they give back, what they do twice, and what they wait for."""

import logging
import sqlite3
import threading

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from tests.archive.registry.test_database import end_connections

from ccdflow.archive.registry import database
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.files import NewFrame, Registered, add_frame, refuse_frame
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames

FILE = NewFrame(path="/raw/a.fits", sha256="a" * 64, obsdate="2026-03-01T20:00:00")
INSERT = text("INSERT INTO collection (name, created) VALUES (:name, '')")
NAMES = text("SELECT name FROM collection ORDER BY name")


def names(connection: Connection) -> list[str]:
    return list(connection.execute(NAMES).scalars())


def insert(connection: Connection, *new: str) -> int:
    for name in new:
        connection.execute(INSERT, {"name": name})
    return len(new)


def test_doors_hand_on_arguments_and_give_back_what_the_statement_gives(registry: Registry) -> None:
    registered = registry.write(add_frame, FILE, moves=False)
    assert registered == Registered(registered.id, "new")
    (frame,) = registry.read(find_frames, FrameFilter(ids=[registered.id]))
    assert frame.path == FILE.path
    assert registry.read(find_frames, wanted=FrameFilter(since="2027-03-02")) == []
    assert registry.write(refuse_frame, registered.id, reason="the dome was closed") is None
    assert registry.read(find_frames)[0].refused == "the dome was closed"


def test_a_write_is_all_or_nothing(registry: Registry) -> None:
    def insert_and_fail(connection: Connection) -> None:
        insert(connection, "a", "b")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        registry.write(insert_and_fail)
    assert registry.read(names) == []
    assert registry.write(insert, "a", "b") == 2
    assert registry.read(names) == ["a", "b"]


def test_a_row_that_another_has_written_at_this_moment_is_seen_the_second_time(registry: Registry) -> None:
    """As two programs on PostgreSQL that register one file: neither sees the other's row, and one may insert it."""
    tries: list[list[str]] = []

    def insert_if_new(connection: Connection) -> str:
        tries.append(names(connection))
        if len(tries) == 1:
            raise IntegrityError("INSERT", None, Exception("duplicate key value violates unique constraint"))
        return "known" if "a" in tries[-1] else "new"

    registry.write(insert, "a")
    assert registry.write(insert_if_new) == "known"
    assert len(tries) == 2


def test_two_that_insert_the_same_row_at_once_both_have_it(new_database: str) -> None:
    registry = Registry(new_database)
    registry.upgrade()
    looked = threading.Barrier(2)
    outcomes: list[str] = []

    def insert_if_new(connection: Connection, turn: list[int]) -> str:
        is_known = "a" in names(connection)
        turn.append(1)
        if len(turn) == 1:
            looked.wait(30)  # both have looked before either has inserted
        if is_known:
            return "known"
        insert(connection, "a")
        return "new"

    def work() -> None:
        outcomes.append(registry.write(insert_if_new, []))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["known", "new"]
    assert registry.read(names) == ["a"]
    registry.close()


def test_what_does_not_fit_is_tried_twice_and_then_told(registry: Registry) -> None:
    tries: list[int] = []

    def insert_twice(connection: Connection) -> None:
        tries.append(1)
        insert(connection, "a", "a")

    with pytest.raises(IntegrityError):
        registry.write(insert_twice)
    assert len(tries) == 2
    assert registry.read(names) == []


def test_a_lost_connection_is_waited_for(new_database: str, caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry(new_database)
    registry.upgrade()
    tries: list[int] = []

    def insert_and_lose(connection: Connection) -> list[str]:
        tries.append(1)
        insert(connection, "a")
        if len(tries) < 3:
            end_connections(new_database)
        return names(connection)

    def ask_and_lose(connection: Connection) -> list[str]:
        tries.append(1)
        if len(tries) < 3:
            end_connections(new_database)
        return names(connection)

    with caplog.at_level(logging.WARNING):
        assert registry.write(insert_and_lose) == ["a"]  # once, though it was tried three times
    assert len(tries) == 3
    assert [record.message.split(":")[0].split(" after")[0] for record in caplog.records] == [
        "the database does not answer, waiting for it",
        "the database answers again",
    ]
    tries.clear()
    assert registry.read(ask_and_lose) == ["a"]
    assert len(tries) == 3
    registry.close()


def test_patience_ends(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def never(connection: Connection) -> None:
        tries.append(1)
        raise OperationalError("SELECT", None, _gone(registry), connection_invalidated=True)

    monkeypatch.setattr(database, "DATABASE_PATIENCE_S", 0.05)
    monkeypatch.setattr(database, "DATABASE_PAUSES_S", (0.0, 0.02))
    with pytest.raises(OperationalError):
        registry.read(never)
    assert len(tries) > 2


def _gone(registry: Registry) -> BaseException:
    if not registry.database.sqlite:
        return Exception("server closed the connection unexpectedly")
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = "SQLITE_IOERR_READ"
    return error


def test_a_mistake_is_told_at_once(registry: Registry) -> None:
    tries: list[int] = []

    def mistaken(connection: Connection) -> None:
        tries.append(1)
        connection.execute(text("SELECT * FROM no_such_table"))

    with pytest.raises((OperationalError, ProgrammingError), match="no_such_table"):
        registry.read(mistaken)
    assert tries == [1]


def test_a_statement_in_a_view_sees_what_the_first_one_saw(registry: Registry) -> None:
    with registry.view():
        assert registry.read(names) == []
        other = threading.Thread(target=registry.write, args=(insert, "a"))
        other.start()
        other.join()
        assert registry.read(names) == []
    assert registry.read(names) == ["a"]
