"""Waiting until others have written to the registry: PostgreSQL says so, SQLite is asked."""

import sqlite3
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL

SQLITE_LOOK_S = 0.1
"""Seconds between two looks at an SQLite file; a look reads one number."""
CHANNEL = "ccdflow"
"""The name under which PostgreSQL's trigger on the table ``event`` notifies."""


class Ear:
    """An ear for what other connections commit; open it with ``with``.

    It may hear too much, and after a lost connection it does: whoever listens asks the registry what is to be done.

    Parameters
    ----------
    url : URL
        Where the registry is.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._sqlite = url.get_backend_name() == "sqlite"
        self._connection: Any = None
        self._version = -1

    def __enter__(self) -> Self:
        with suppress(_errors(sqlite=self._sqlite)):  # else `wait` connects once it can
            self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def wait(self, seconds: float) -> bool:
        """Wait until something is committed, or might have been, since the last call.

        Parameters
        ----------
        seconds : float
            How long to wait at most.

        Returns
        -------
        bool
            False where nothing was committed in that time, or the database could not be asked.
        """
        try:
            if self._connection is None:
                self._connect()
                return True  # nobody has listened for a while
            return self._asked(seconds) if self._sqlite else self._told(seconds)
        except _errors(sqlite=self._sqlite):
            self._close()
            # Not at once again: the database may be away for a while.
            time.sleep(min(seconds, 1.0))
            return False

    def _connect(self) -> None:
        if self._sqlite:
            self._connection = sqlite3.connect(str(self._url.database))
            self._version = self._seen()
            return
        import psycopg  # which only PostgreSQL needs, and takes its time to import

        # Written out as text the URL would be read otherwise by the driver: it knows no "+" for a blank.
        _, named = self._url.get_dialect()().create_connect_args(self._url)
        self._connection = psycopg.connect(autocommit=True, **named)
        self._connection.execute(f"LISTEN {CHANNEL}")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _seen(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _asked(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        # The number counts commits of other connections to the file, not those of this one.
        while (version := self._seen()) == self._version:
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(SQLITE_LOOK_S, left))
        self._version = version
        return True

    def _told(self, seconds: float) -> bool:
        heard = any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))
        for _ in self._connection.notifies(timeout=0):  # what came with it
            pass
        return heard


def _errors(*, sqlite: bool) -> type[Exception]:
    """The error that a lost connection raises."""
    if sqlite:
        return sqlite3.Error
    import psycopg

    return psycopg.Error
