"""Copies of a registry, made while all runs, and registries made of such copies.

A copy is always one SQLite file, whatever the registry itself is: it can be asked like any registry, kept on any disk,
and restored into either kind of database, also by a later version. It is the state of one moment: on SQLite by its own
backup, on PostgreSQL by one transaction that sees one state of all tables.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, select, text, update

from ccdflow.archive.registry.asking import open_for_questions
from ccdflow.archive.registry.bulk import insert_rows, is_postgresql
from ccdflow.archive.registry.database import Database, again
from ccdflow.archive.registry.ids import count_on, last_id
from ccdflow.archive.registry.tables import Base, FrameRow, JobRow, ProductRow, table

ROWS = 5000
"""Rows that are held in memory at once."""
_VERSIONS, _WITH_LOG = slice(18, 20), b"\x02\x02"
"""Where an SQLite file says how it is written and read, and what stands there of one with a write-ahead log."""


class BackupError(RuntimeError):
    """A copy can't be made or restored; the sentence says why."""


def back_up(url: str, file: Path) -> dict[str, int]:
    """Write a registry into a file, whole or not at all, while others work on it.

    Parameters
    ----------
    url : str
        The registry.
    file : Path
        The copy; an earlier one is replaced.

    Returns
    -------
    dict of str to int
        How many frames, jobs and products it holds.

    Raises
    ------
    BackupError
        If the file is there and no copy, can't be written (as where more than its own folder is missing), or the copy
        turns out to be damaged.
    DatabaseVersionError
        If the registry is on PostgreSQL and of another version.
    """
    database = Database(url, read_only=True)
    source = Path(str(database.url.database)).absolute() if database.sqlite else None
    if file.exists() and (file.absolute() == source or not _is_copy(file)):
        raise BackupError(f"{file} is there and no copy of a registry; it is not replaced")
    if _is_worked_with(file):
        raise BackupError(f"{file} is a registry that is worked with, and no copy; it is not replaced")
    # One folder may be new. Where more are, a disk is away, and the copy would lie below its mount point.
    folder = file.absolute().parent
    if not folder.parent.is_dir():
        raise BackupError(f"no copy was written to {file}: there is no folder {folder.parent}")
    folder.mkdir(exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        if source is not None:
            _copy_file(source, part)
        else:
            _copy_database(database, part)
        counts = _sealed(part)
        part.replace(file)
    except sqlite3.Error as error:
        # A full disk, a folder that nothing may be written to: the driver's own error, which no command expects.
        raise BackupError(f"no copy was written to {file}: {error}") from error
    finally:
        database.close()
        for rest in (part, *(part.with_name(f"{part.name}{end}") for end in ("-wal", "-shm", "-journal"))):
            rest.unlink(missing_ok=True)
    return counts


def restore(url: str, file: Path, *, replace: bool = False) -> dict[str, int]:
    """Make a registry of a copy.

    Parameters
    ----------
    url : str
        The registry; its database is there, with or without tables.
    file : Path
        The copy, of this version of ccdflow or an earlier one. It is not changed.
    replace : bool
        Whether what the registry holds may go.

    Returns
    -------
    dict of str to int
        How many frames, jobs and products there are now.

    Raises
    ------
    BackupError
        If the file is no copy, or the registry holds something and may not be replaced.
    DatabaseVersionError
        If a newer version of ccdflow has made the copy.
    """
    if not file.is_file() or not _is_copy(file):
        why = "" if file.exists() else "; there is no such file"
        raise BackupError(
            f"{file} is no copy of a registry; wanted a file that 'ccdflow backup' has written{why}"
        )
    with TemporaryDirectory(prefix="ccdflow-restore-") as folder:
        current = Database(f"sqlite:///{_taken(file, Path(folder) / 'copy.sqlite')}")
        target = Database(url)
        try:
            current.upgrade()
            target.upgrade()
            again(_restored)(current, target, replace)
            with target.read() as connection:
                return _counts(connection)
        finally:
            current.close()
            target.close()


def _restored(current: Database, target: Database, replace: bool) -> None:
    """Put the rows of one database in the place of another's, in one transaction."""
    with current.read() as source, target.write() as connection:
        held = _counts(connection)
        if any(held.values()) and not replace:
            raise BackupError(
                f"the registry {target.url.render_as_string(hide_password=True)} holds {held['frames']} frames and "
                f"{held['products']} products; wanted an empty one, or --replace"
            )
        _copy_rows(source, connection)


# --- on SQLite: the file ------------------------------------------------------------------------------------------


def _copy_file(source: Path, part: Path) -> None:
    with closing(open_for_questions(str(source))) as registry, closing(sqlite3.connect(part)) as copy:
        # In one step: so it is the state of one moment, and writers don't wait for it.
        registry.backup(copy)


def _taken(file: Path, copy: Path) -> Path:
    """A copy of a copy, with what a log beside it holds, as where the folder of a killed command was copied."""
    try:
        _copy_file(file, copy)
    except sqlite3.Error as error:
        raise BackupError(f"{file} can't be read: {error}") from error
    return copy


def _sealed(part: Path) -> dict[str, int]:
    """Make one file of a copy, to be opened on any disk, and read it whole."""
    with closing(sqlite3.connect(part)) as copy:
        copy.execute("PRAGMA journal_mode = DELETE")
        (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise BackupError(f"the copy would be damaged ({verdict}), so is the registry")
        counts = {
            name: copy.execute(f"SELECT count(*) FROM {row.__tablename__}").fetchone()[0]
            for name, row in _COUNTED.items()
        }
    with part.open("rb") as file:
        os.fsync(file.fileno())
    return counts


def _is_copy(file: Path) -> bool:
    """Whether a file is a registry on SQLite."""
    with suppress(sqlite3.Error, OSError), closing(open_for_questions(str(file))) as copy:
        tables = "SELECT count(*) FROM sqlite_master WHERE name IN ('alembic_version', 'frame', 'job')"
        return bool(copy.execute(tables).fetchone()[0] == 3)
    return False


def _is_worked_with(file: Path) -> bool:
    """Whether an SQLite file is one that commands write into: those have a log, and copies are sealed without one."""
    with suppress(OSError), file.open("rb") as stream:
        return stream.read(_VERSIONS.stop)[_VERSIONS] == _WITH_LOG
    return False


# --- between databases: the rows ----------------------------------------------------------------------------------


def _copy_database(database: Database, part: Path) -> None:
    """Write all rows of a database into a new SQLite file."""
    database.check()
    copy = Database(f"sqlite:///{part}")
    try:
        copy.upgrade()
        with database.read() as source, copy.write() as target:
            _copy_rows(source, target)
    finally:
        copy.close()


def _copy_rows(source: Connection, target: Connection) -> None:
    """Put the rows of one database in the place of another's, with the same ids."""
    tables = Base.metadata.sorted_tables
    with _without_triggers(target, tables):
        for one in reversed(tables):
            target.execute(update(one).values(dict.fromkeys(_own_links(one)))) if _own_links(one) else None
            target.execute(one.delete())
        for one in tables:
            _copy_table(source, target, one)
            _count_on(source, target, one)


def _copy_table(source: Connection, target: Connection, one: Table) -> None:
    # Rows that point to later ones of their own table can do so only when those are there.
    links = _own_links(one)
    kept: list[dict[str, Any]] = []
    rows = source.execution_options(yield_per=ROWS).execute(select(one).order_by(*one.primary_key))
    for part in rows.mappings().partitions():
        if links:
            kept += [
                {"its_id": row["id"], **{name: row[name] for name in links}}
                for row in part
                if any(row[name] is not None for name in links)
            ]
        blank = dict.fromkeys(links)
        insert_rows(target, one, [{**row, **blank} for row in part])
    if kept:
        linking = update(one).where(one.c.id == bindparam("its_id"))
        target.execute(linking.values({name: bindparam(name) for name in links}), kept)


def _own_links(one: Table) -> Sequence[str]:
    """Columns that point to other rows of the same table."""
    return [column.name for column in one.c for key in column.foreign_keys if key.column.table is one]


def _count_on(source: Connection, target: Connection, one: Table) -> None:
    """Let ids go on where the other database was: they are never given out twice, nor those of rows that are gone."""
    if not one.dialect_options["sqlite"]["autoincrement"]:
        return
    last = last_id(source, one)
    if last is not None:
        count_on(target, one, last)


@contextmanager
def _without_triggers(target: Connection, tables: Sequence[Table]) -> Iterator[None]:
    """Let nothing happen to the rows that are written in the block: what triggers did for them is among the rows."""
    if is_postgresql(target):
        for one in tables:
            target.execute(text(f'ALTER TABLE "{one.name}" DISABLE TRIGGER USER'))
        yield
        for one in tables:
            target.execute(text(f'ALTER TABLE "{one.name}" ENABLE TRIGGER USER'))
        return
    triggers = target.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")).all()
    for name, _ in triggers:
        target.exec_driver_sql(f'DROP TRIGGER "{name}"')
    yield
    for _, statement in triggers:
        target.exec_driver_sql(statement)


_COUNTED = {"frames": FrameRow, "jobs": JobRow, "products": ProductRow}


def _counts(connection: Connection) -> dict[str, int]:
    return {
        name: connection.execute(select(func.count()).select_from(table(row))).scalar_one()
        for name, row in _COUNTED.items()
    }
