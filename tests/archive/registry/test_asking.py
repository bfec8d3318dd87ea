"""Registries that are only asked: by who may only read, where nothing can be written, beside one that writes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from alembic import command
from sqlalchemy import make_url

from ccdflow.archive.registry.database import DatabaseVersionError, _alembic
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.files import NewFrame
from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.archive.registry.holds import put_hold
from ccdflow.archive.registry.jobs.stock import stock_rows
from ccdflow.archive.registry.transactions import add_catalogue

LEAVES_ITS_LOG = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1].removeprefix("sqlite:///"))
connection.execute("INSERT INTO hold (name, since) VALUES ('all', 'now')")
connection.commit()
os._exit(0)  # as a kill would
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users reach, too."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def url(folder: Path) -> str:
    """A registry of one frame, closed."""
    filled = Registry(f"sqlite:///{folder}/registry.sqlite")
    filled.upgrade()
    add_catalogue(filled, [NewFrame(telescope="T", obsdate="2026-03-01T20:00:00")])
    filled.close()
    return f"sqlite:///{folder}/registry.sqlite"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def holds(url: str) -> int:
    """How many holds a question sees."""
    asked = Registry(url, read_only=True)
    asked.check()
    assert len(asked.read(find_frames)) == 1
    with asked.database.read() as connection:
        number = connection.exec_driver_sql("SELECT count(*) FROM hold").scalar_one()
    asked.close()
    return int(number)


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """Be a user who may only read the folder and what is in it."""
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_the_end_of_a_writer_leaves_one_whole_file(url: str, folder: Path) -> None:
    assert list(content(folder)) == ["registry.sqlite"]


def test_it_does_so_while_another_has_the_file_open(url: str, folder: Path) -> None:
    other, writer = Registry(url), Registry(url)
    other.read(find_frames)
    writer.write(put_hold, "a" * 10_000)
    writer.close()
    assert not (folder / "registry.sqlite-wal").stat().st_size
    other.close()


def test_a_question_changes_no_byte_and_leaves_no_file(url: str, folder: Path) -> None:
    before = content(folder)
    assert holds(url) == 0
    assert content(folder) == before


def test_nor_does_it_where_a_killed_program_has_left_its_log(url: str, folder: Path) -> None:
    subprocess.run([sys.executable, "-c", LEAVES_ITS_LOG, url], check=True)
    before = content(folder)
    assert before["registry.sqlite-wal"] and holds(url) == 1
    del before["registry.sqlite-shm"]  # SQLite's own notes of who reads
    assert before.items() <= content(folder).items()


def closed(_url: str, _folder: Path) -> int:
    return 0


def with_a_log(url: str, _folder: Path) -> int:
    subprocess.run([sys.executable, "-c", LEAVES_ITS_LOG, url], check=True)
    return 1


def with_a_log_alone(url: str, folder: Path) -> int:
    with_a_log(url, folder)
    (folder / "registry.sqlite-shm").unlink()
    return 1


@pytest.mark.parametrize("left", [closed, with_a_log, with_a_log_alone])
def test_who_may_not_write_to_the_folder_can_ask(
    url: str, folder: Path, left: Callable[[str, Path], int]
) -> None:
    number = left(url, folder)
    holds(url)  # what is imported later could not be read by that user
    if left is with_a_log_alone:
        (folder / "registry.sqlite-shm").unlink(missing_ok=True)
    before = content(folder)
    with without_rights(folder):
        assert holds(url) == number
    assert content(folder) == before


def test_a_question_does_not_wait_for_who_writes(url: str) -> None:
    writer = Registry(url)
    with writer.database.write() as connection:
        connection.exec_driver_sql("INSERT INTO hold (name, since) VALUES ('all', 'now')")
        assert holds(url) == 0
    assert holds(url) == 1
    writer.close()


def test_a_question_writes_nothing(url: str) -> None:
    asked = Registry(url, read_only=True)
    with pytest.raises(RuntimeError, match="only asks"):
        asked.write(put_hold)
    with pytest.raises(Exception, match="readonly"), asked.database.read() as connection:
        connection.exec_driver_sql("DELETE FROM frame")
    asked.close()


def test_a_registry_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DatabaseVersionError, match=r"there is no registry .*'ccdflow upgrade' makes it"):
        Registry(f"sqlite:///{tmp_path}/mistyped.sqlite", read_only=True).check()
    assert list(tmp_path.iterdir()) == []


def test_an_older_registry_is_told_and_stays_old(url: str, folder: Path) -> None:
    older = Registry(url)
    with older.database.engine.begin() as connection:
        config = _alembic()
        config.attributes["connection"] = connection
        command.downgrade(config, "0016")
    older.close()
    before = content(folder)
    asked = Registry(url, read_only=True)
    with pytest.raises(DatabaseVersionError, match=r"at version 0016.*'ccdflow upgrade'"):
        asked.check()
    asked.close()
    assert content(folder) == before


def test_a_role_of_postgresql_that_may_only_select_can_ask(new_database: str) -> None:
    asked = Registry(new_database, read_only=True)
    with pytest.raises(DatabaseVersionError, match="no tables yet"):
        asked.check()
    asked.close()
    filled = Registry(new_database)
    filled.upgrade()
    add_catalogue(filled, [NewFrame(telescope="T", obsdate="2026-03-01T20:00:00")])
    name = f"reader_{os.getpid()}"
    with psycopg.connect(new_database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    reader = make_url(new_database).set(username=name).render_as_string(hide_password=False)
    asked = Registry(reader, read_only=True)
    asked.check()
    assert len(asked.read(find_frames)) == 1 and asked.read(stock_rows) == []
    asked.close()
    filled.close()
    with psycopg.connect(new_database, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"DROP ROLE {name}")
