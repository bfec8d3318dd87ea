"""Databases: how they are opened, written to and brought up to date."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_MS = 60_000
"""How long a program waits for another that writes to the same SQLite file."""

PATIENCE = 120.0
"""Seconds for which a database may be gone that did answer before: longer than it takes to start again."""
PAUSES = (0.0, 0.1, 0.3, 1.0)
"""Seconds before the next tries; the last counts for all further ones. At first only the connection may be stale."""
IDLE_S = 60
"""Seconds after which PostgreSQL ends a transaction whose program is stopped or cut off, and holds up the others."""

_UPGRADE_LOCK = 0x63636466
_PASSING = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")
_P = ParamSpec("_P")
_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_inside = threading.local()


class DatabaseVersionError(RuntimeError):
    """The database was written by another version of ccdflow."""


def now() -> str:
    """The time: ISO UTC without zone, with microseconds."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def is_passing(error: BaseException) -> bool:
    """Whether a database has raised this because it is gone, full or taken, and not because of what was asked."""
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorname", "").startswith(_PASSING)
    return error.connection_invalidated or isinstance(error, OperationalError)


def sentence(error: BaseException) -> str:
    """What went wrong, in one line; of a database's errors what it said itself."""
    told = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(told).split()) or type(told).__name__


def again(work: Callable[_P, _T]) -> Callable[_P, _T]:
    """`work`, done again where the database was lost meanwhile, until that has been gone for `PATIENCE` seconds.

    It must come to the same when it is done twice: whether a commit counted whose answer was lost, nobody knows. Inside
    of other such work it is not done again by itself.
    """

    @wraps(work)
    def waiting(*arguments: _P.args, **named: _P.kwargs) -> _T:
        if getattr(_inside, "patient", False):
            return work(*arguments, **named)
        _inside.patient = True
        try:
            return _until_it_answers(lambda: work(*arguments, **named))
        finally:
            _inside.patient = False

    return waiting


def _until_it_answers(work: Callable[[], _T]) -> _T:
    begun, tries = time.monotonic(), 0
    while True:
        try:
            found = work()
        except DBAPIError as error:
            if not is_passing(error) or time.monotonic() - begun > PATIENCE:
                raise
            if tries == 1:
                _log.warning("the database does not answer, waiting for it: %s", sentence(error))
            time.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1
        else:
            if tries > 1:
                _log.warning("the database answers again after %.1f s", time.monotonic() - begun)
            return found


class Database:
    """Transactions that read or write; may be used by many threads at once.

    On SQLite a transaction that writes begins with the right to write: one that began by reading could not
    wait for another writer, but would fail at once.
    """

    def __init__(self, url: str) -> None:
        self.url = _checked(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _engine(self.url)
        if self.sqlite:
            event.listen(self.engine, "connect", _configure_sqlite)
        # As SQLite does: by default PostgreSQL lets each statement see what was committed before it.
        one_state = {} if self.sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reader = self.engine.execution_options(**one_state)
        self._turn = threading.Lock() if self.sqlite else nullcontext()
        self._view = threading.local()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: it sees one state of the database."""
        if (shared := getattr(self._view, "connection", None)) is not None:
            yield shared
            return
        with self._transaction(self._reader, "BEGIN") as connection:
            yield connection

    @contextmanager
    def view(self) -> Iterator[None]:
        """Make all that this thread reads in the block one transaction: it sees one state, and takes less time."""
        with self.read() as connection:
            before = getattr(self._view, "connection", None)
            self._view.connection = connection
            try:
                yield
            finally:
                self._view.connection = before

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: all of it counts, or nothing."""
        with self._turn, self._transaction(self.engine, "BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, engine: Engine, begin: str) -> Iterator[Connection]:
        """A transaction; on SQLite it begins with these words, of which SQLAlchemy knows nothing."""
        with engine.connect() as connection:
            if self.sqlite:
                connection.exec_driver_sql(begin)
            yield connection
            # Of reading too: with a rollback the driver of PostgreSQL would forget the statements that it has prepared.
            connection.commit()

    def tidy(self, *tables: str) -> None:
        """Let PostgreSQL look at tables of which many rows have changed, before it does so by itself.

        Until then it takes an index that is nearly empty now for full, and reads whole tables.
        """
        if not self.sqlite:
            # This statement may not stand in a transaction.
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(f"VACUUM (ANALYZE) {', '.join(tables)}"))

    def upgrade(self) -> None:
        """Bring the tables up to date; makes them where there are none. Many programs may do so at once.

        Raises
        ------
        DatabaseVersionError
            If a newer version of ccdflow has written the database.
        """
        if self.sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        scripts = ScriptDirectory.from_config(config)
        with self.engine.connect() as connection:
            if _revision(connection) == scripts.get_current_head():
                return
        with self.write() as connection:
            if not self.sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            self._refuse_unknown(connection, scripts)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _refuse_unknown(self, connection: Connection, scripts: ScriptDirectory) -> None:
        found = _revision(connection)
        known = [script.revision for script in scripts.walk_revisions()]
        if found is not None and found not in known:
            raise DatabaseVersionError(
                f"{self.url} is at version {found}, this ccdflow knows up to {known[0]}: update ccdflow"
            )

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _checked(url: str) -> URL:
    """The URL as it is connected to; a password in it stands where it is not shown."""
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        # The error would quote parts of the URL, and thereby of a password.
        raise ValueError(
            "the database's URL can't be read; wanted sqlite:///FILE or postgresql://USER@HOST/NAME, with / : @ in a "
            "password as %2F %3A %40"
        ) from None
    if (password := found.query.get("password")) is not None:
        found = found.set(password=str(password)).difference_update_query(["password"])
    if found.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(f"database {found} is neither sqlite:///FILE nor postgresql://USER@HOST/NAME")
    if found.get_backend_name() == "sqlite" and found.database in (None, "", ":memory:"):
        raise ValueError(f"database {found} has no file; wanted sqlite:///FILE")
    if found.drivername == "postgresql":
        return found.set(drivername="postgresql+psycopg")
    return found


def _engine(url: URL) -> Engine:
    """An engine; its connections to PostgreSQL end transactions of stopped programs.

    What the URL says itself comes later, and so counts. hide_parameters: a message must not spell out the thousand
    rows of a statement.
    """
    found: dict[str, str] = {}
    if url.get_backend_name() != "sqlite":
        given = url.query.get("options", "")
        own = f"-c idle_in_transaction_session_timeout={IDLE_S}s"
        found["options"] = " ".join([own, *([given] if isinstance(given, str) else given)]).strip()
    return create_engine(url, pool_size=16, max_overflow=48, hide_parameters=True, connect_args=found)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # else the driver decides where transactions begin
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    _write_ahead(cursor)
    # A power cut may undo the last transactions, a killed program none; nothing is ever half written.
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Let readers and a writer not wait for each other; while another does so too, SQLite refuses at once."""
    end = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)
