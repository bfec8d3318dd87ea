"""SQLite files that are only asked: nothing beside them or in them changes, wherever they lie.

A file that is written ahead (WAL) wants two files beside it, also for reading. In a folder where nothing may be made
SQLite refuses. There the file alone tells all as long as no log lies beside it; a log that a killed program has left is
read with a copy of both.
"""

import os
import shutil
import sqlite3
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

BUSY_MS = 60_000
"""How long a question waits for another program that holds the file for itself, in milliseconds."""
_CLOSED = ("SQLITE_CANTOPEN", "SQLITE_READONLY")
"""What SQLite says where it can't make the files that it wants beside the database."""


def is_closed_folder(path: str) -> bool:
    """Tell whether nothing can be made beside a database.

    Parameters
    ----------
    path : str
        Its file.

    Returns
    -------
    bool
        True for a folder that may not be written to, and for one on a file system that is read-only.
    """
    return not os.access(Path(path).parent, os.W_OK)


def open_for_questions(path: str) -> sqlite3.Connection:
    """Open an SQLite file so that it can be asked, and not changed.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    sqlite3.Connection
        It leaves transactions to its caller.

    Raises
    ------
    sqlite3.OperationalError
        If there is no such file, or it can't be read.
    """
    # With a log beside it somebody works on it, or was killed: that is left as it is. Without one the file is opened as
    # for writing, since only then is what SQLite makes beside it taken away again.
    mode = "ro" if _log(path).exists() else "rw"
    try:
        return _opened(f"{_uri(path)}?mode={mode}")
    except sqlite3.OperationalError as error:
        if not Path(path).is_file() or not getattr(error, "sqlite_errorname", "").startswith(_CLOSED):
            raise
    if _log(path).exists() and _log(path).stat().st_size:
        return _opened(f"{_uri(_copied(path, _facts(path)))}?mode=rw")
    return _opened(f"{_uri(path)}?immutable=1")


def text_of(written: bytes) -> str:
    r"""Return a text of SQLite's, which keeps whatever bytes a program calls text.

    Parameters
    ----------
    written : bytes
        As the file holds them: one row of Latin-1 must not keep all others from being read.

    Returns
    -------
    str
        With ``\xe9`` for what is no UTF-8.
    """
    return written.decode("utf-8", "backslashreplace")


def _opened(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.text_factory = text_of
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only now the file is opened
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _uri(path: str) -> str:
    return f"file:{quote(str(Path(path).absolute()))}"


def _log(path: str) -> Path:
    return Path(f"{path}-wal")


def _facts(path: str) -> tuple[tuple[int, int], ...]:
    """By what one sees that a file or its log has changed."""
    return tuple((facts.st_size, facts.st_mtime_ns) for facts in (Path(path).stat(), _log(path).stat()))


@cache
def _copied(path: str, _changed: tuple[tuple[int, int], ...]) -> str:
    """Where a file and its log lie once more; until this program ends, unless they change."""
    folder = TemporaryDirectory(prefix="ccdflow-")
    _FOLDERS.append(folder)
    copy = Path(folder.name) / Path(path).name
    shutil.copyfile(path, copy)
    shutil.copyfile(_log(path), _log(str(copy)))
    return str(copy)


_FOLDERS: list[TemporaryDirectory[str]] = []
"""Deleted when this program ends."""
