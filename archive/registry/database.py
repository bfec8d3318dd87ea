"""Databases: how they are opened, written to and brought up to date."""

import logging
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from ccdflow.archive.registry.asking import is_closed_folder, open_for_questions, text_of
from ccdflow.archive.registry.rootpaths import Roots, set_roots
from ccdflow.archive.registry.views import drop_views, make_views

MIGRATIONS = Path(__file__).parent / "migrations"

DATABASE_PATIENCE_S = 120.0
"""How long a database that has answered before may be gone, in seconds: longer than a server takes to start again."""
DATABASE_PAUSES_S = (0.0, 0.1, 0.3, 1.0)
"""Pauses before the next tries, in seconds; the last counts for all further ones. The first is none, since mostly it is
only a connection of the pool that is stale."""
SQLITE_BUSY_MS = 60_000
"""How long a program waits for another that writes to the same SQLite file, in milliseconds."""
CHECKPOINT_MS = 2000
"""How long the end of a program waits for others that work on the same SQLite file, in milliseconds."""
POSTGRESQL_IDLE_S = 60
"""Seconds after which PostgreSQL ends a transaction whose program is stopped or cut off, and holds up the others."""

_UPGRADE_LOCK = 0x63636466  # any number that no other lock of this package has
_PASSING = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")
"""What SQLite says of a file that is taken, on a disk that is full, or on one that is away for a while."""
_OF_THE_FILE = (
    "SQLITE_CANTOPEN",
    "SQLITE_CORRUPT",
    "SQLITE_NOTADB",
    "SQLITE_IOERR",
    "SQLITE_FULL",
    "SQLITE_READONLY",
)
"""What SQLite says of a file, and not of a statement."""
LONGEST_SENTENCE = 4000
"""Characters of a sentence: it is kept with a job and each of its frames, and an error may hold a whole array."""
_P = ParamSpec("_P")
_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_this_thread = threading.local()


class DatabaseVersionError(RuntimeError):
    """The database was written by another version of ccdflow."""


def now() -> str:
    """Return the time: ISO UTC without zone, with microseconds."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def is_passing(error: BaseException) -> bool:
    """Return whether a database has raised an error because it is gone, full or taken, not because of the statement.

    Parameters
    ----------
    error : BaseException
        Any error.

    Returns
    -------
    bool
        True where it may go well later.
    """
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorname", "").startswith(_PASSING)
    return error.connection_invalidated or isinstance(error, OperationalError)


def sentence(error: BaseException) -> str:
    """Return what went wrong, in one line.

    Parameters
    ----------
    error : BaseException
        Any error.

    Returns
    -------
    str
        Its text; of a database's error what the database said itself, without SQLAlchemy's words around it. Of a text
        of more than `LONGEST_SENTENCE` its beginning and its end.
    """
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = _line(cause) or type(cause).__name__
    half = LONGEST_SENTENCE // 2
    return text if len(text) <= LONGEST_SENTENCE else f"{text[:half]} ... {text[-half:]}"


def typed_sentence(error: BaseException) -> str:
    """Return what went wrong, in one line that begins with the exception's type.

    Parameters
    ----------
    error : BaseException
        Any error.

    Returns
    -------
    str
        ``KeyError: 'main'``; the type alone where the error says nothing.
    """
    told = _line(error)
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def _line(error: BaseException) -> str:
    """What an error says, in one line that either database can hold: who can't be told has not failed."""
    # A file's name that is no UTF-8 stands in an error's text as half a character, which no database takes; and
    # PostgreSQL takes no NUL.
    words = " ".join(str(error).split()).replace("\0", "")
    return words if words.isascii() else words.encode("utf-8", "backslashreplace").decode()


def again(work: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let work be done again where the database is lost meanwhile.

    Parameters
    ----------
    work : callable
        What asks or changes the database, in whole transactions. It must come to the same when it is done twice:
        whether a commit counted whose answer was lost, nobody knows.

    Returns
    -------
    callable
        The same, which does it again until the database has been gone for `DATABASE_PATIENCE_S`. Then, and where the
        database was not lost, the error is raised.

    Notes
    -----
    Inside of other such work, work is not done again by itself: the outer one begins anew, and so sees one state.
    """

    @wraps(work)
    def patient(*arguments: _P.args, **named: _P.kwargs) -> _T:
        if getattr(_this_thread, "is_patient", False):
            return work(*arguments, **named)
        _this_thread.is_patient = True
        try:
            return _until_it_answers(lambda: work(*arguments, **named))
        finally:
            _this_thread.is_patient = False

    return patient


def _until_it_answers(work: Callable[[], _T]) -> _T:
    start, tries = time.monotonic(), 0
    while True:
        try:
            result = work()
        except DBAPIError as error:
            if not is_passing(error) or time.monotonic() - start > DATABASE_PATIENCE_S:
                raise
            # Not at the first error: a stale connection is replaced in silence.
            if tries == 1:
                _log.warning("the database does not answer, waiting for it: %s", sentence(error))
            time.sleep(DATABASE_PAUSES_S[min(tries, len(DATABASE_PAUSES_S) - 1)])
            tries += 1
        else:
            if tries > 1:
                _log.warning("the database answers again after %.1f s", time.monotonic() - start)
            return result


class Database:
    """An SQLite file or a PostgreSQL database, and its transactions; may be used by many threads at once.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.
    read_only : bool
        It is only asked: nothing is ever written, and rights to read are enough.
    roots : tuple of tuple of str
        Names of folders that paths of raw files are kept relative to (`rootpaths`), and the folders.

    Raises
    ------
    ValueError
        If the URL is neither, or can't be read.
    """

    def __init__(self, url: str, *, read_only: bool = False, roots: Roots = ()) -> None:
        self.url = _checked(url)
        self.read_only = read_only
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _engine(self.url, read_only=read_only)
        set_roots(self.engine.dialect, roots)
        if self.sqlite:
            event.listen(self.engine, "handle_error", _name_file)
            if not read_only:
                event.listen(self.engine, "connect", _configure_sqlite)
        # A question takes several statements (a frame, its keywords), which must see one state. On SQLite all those of
        # a transaction do; PostgreSQL's default, READ COMMITTED, lets each see what was committed before it. Whoever
        # writes keeps that default: with REPEATABLE READ each row that another has changed meanwhile would be an error.
        one_state = {} if self.sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reader = self.engine.execution_options(**one_state)
        # Threads of one program wait for each other here; SQLite would let each try again and again, with pauses.
        self._turn = threading.Lock() if self.sqlite else nullcontext()
        self._view = threading.local()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads, and sees one state of the database.

        Yields
        ------
        Connection
            That of the transaction; inside of `view` of the same thread, the one that all its reading shares.
        """
        if (shared := getattr(self._view, "connection", None)) is not None:
            yield shared
            return
        with self._transaction(self._reader, "BEGIN") as connection:
            yield connection

    @contextmanager
    def view(self) -> Iterator[None]:
        """Make all that this thread reads in the block one transaction: it sees one state, and takes less time."""
        # Views may lie in each other: the outermost one is the transaction.
        with self.read() as connection:
            before = getattr(self._view, "connection", None)
            self._view.connection = connection
            try:
                yield
            finally:
                self._view.connection = before

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes: all of it counts, or nothing.

        Yields
        ------
        Connection
            That of the transaction. It is committed at the end of the block, and rolled back where that raises.
        """
        # IMMEDIATE: it begins with the right to write, and waits for that up to SQLITE_BUSY_MS. One that began by
        # reading could not wait: where another has written since, what it has read is old, and SQLite refuses at once.
        if self.read_only:
            raise RuntimeError("a command that only asks has tried to write to the registry")
        with self._turn, self._transaction(self.engine, "BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, engine: Engine, begin: str) -> Iterator[Connection]:
        """A transaction; on SQLite it begins with the words `begin`, of which SQLAlchemy knows nothing."""
        with engine.connect() as connection:
            if self.sqlite:
                _let_sqlite_take_numpy()
                connection.exec_driver_sql(begin)
            before = self._file_facts()
            yield connection
            if self._file_facts() != before:
                raise _changed_meanwhile()
            # Of reading too: with a rollback the driver of PostgreSQL would forget which statements it has prepared.
            connection.commit()

    def _file_facts(self) -> tuple[int, int] | None:
        """By what a file that is read without locks is seen to have changed; None where there are locks."""
        if not (self.read_only and self.sqlite and is_closed_folder(str(self.url.database))):
            return None
        facts = Path(str(self.url.database)).stat()
        return facts.st_size, facts.st_mtime_ns

    def tidy(self, *tables: str) -> None:
        """Let PostgreSQL look at tables of which many rows have changed, before it does so by itself.

        Until then it takes an index that is nearly empty now for full, and reads whole tables.

        Parameters
        ----------
        *tables : str
            Names of the tables. On SQLite nothing is to be done.
        """
        if not self.sqlite:
            # This statement may not stand in a transaction.
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(f"VACUUM (ANALYZE) {', '.join(tables)}"))

    def upgrade(self) -> None:
        """Make the tables, or bring them up to date. Many programs may do so at once.

        Raises
        ------
        DatabaseVersionError
            If a newer version of ccdflow has written the database.
        """
        if self.sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        config = _alembic()
        scripts = ScriptDirectory.from_config(config)
        with self.engine.connect() as connection:
            if _revision(connection) == scripts.get_current_head():
                return
        with self.write() as connection:
            # The lock ends with the transaction. On SQLite only one can write anyhow.
            if not self.sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            self._refuse_unknown(connection, scripts)
            config.attributes["connection"] = connection
            drop_views(connection)
            command.upgrade(config, "head")
            make_views(connection)

    def _refuse_unknown(self, connection: Connection, scripts: ScriptDirectory) -> None:
        revision = _revision(connection)
        known = [script.revision for script in scripts.walk_revisions()]  # the newest first
        if revision is not None and revision not in known:
            raise DatabaseVersionError(
                f"{self.url} is at version {revision}, this ccdflow knows up to {known[0]}: update ccdflow"
            )

    def check(self) -> None:
        """Make sure that the tables are there and up to date, without changing anything.

        Raises
        ------
        DatabaseVersionError
            If they are not; the sentence says what makes or changes them, or that ccdflow is too old.
        """
        shown = self.url.render_as_string(hide_password=True)
        if self.sqlite and not Path(str(self.url.database)).exists():
            raise DatabaseVersionError(
                f"there is no registry {self.url.database}; 'ccdflow upgrade' makes it"
            )
        scripts = _scripts()
        with self.engine.connect() as connection:
            revision = _revision(connection)
            if revision == scripts.get_current_head():
                return
            self._refuse_unknown(connection, scripts)
        if revision is None:
            raise DatabaseVersionError(f"{shown} has no tables yet; 'ccdflow upgrade' makes them")
        raise DatabaseVersionError(
            f"{shown} is at version {revision}, this ccdflow needs {scripts.get_current_head()}: "
            "'ccdflow upgrade', or any command that writes, brings it up to date"
        )

    def revision(self) -> str | None:
        """Return the version of the tables; None where there are none."""
        with self.engine.connect() as connection:
            return _revision(connection)

    def close(self) -> None:
        """Close all connections, and leave an SQLite file whole: nothing of it only in the log beside it."""
        if self.sqlite and not self.read_only:
            with suppress(sqlite3.Error, OSError):
                self._empty_log()
        self.engine.dispose()

    def _empty_log(self) -> None:
        """Bring what others may see already from the log (WAL) into the file."""
        # The last one that closes the file would do so by itself. But others may have it open for as long as they like.
        path = Path(str(self.url.database))
        if not Path(f"{path}-wal").exists():
            return
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_MS}")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def current_schema() -> str:
    """Return the version of the tables that this ccdflow makes."""
    return str(_scripts().get_current_head())


def _checked(text_of_url: str) -> URL:
    """The URL as it is connected to; a password in it stands where it is not shown."""
    try:
        url = make_url(text_of_url)
    except (ArgumentError, ValueError):
        # The error would quote parts of the URL, and thereby of a password.
        raise ValueError(
            "the database's URL can't be read; wanted sqlite:///FILE or postgresql://USER@HOST/NAME, with / : @ in a "
            "password as %2F %3A %40"
        ) from None
    # As ?password=... it would be shown: SQLAlchemy hides only the one before the @.
    if (password := url.query.get("password")) is not None:
        url = url.set(password=str(password)).difference_update_query(["password"])
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(f"database {url} is neither sqlite:///FILE nor postgresql://USER@HOST/NAME")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError(f"database {url} has no file; wanted sqlite:///FILE")
    if url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    return url


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_alembic())


def _changed_meanwhile() -> OperationalError:
    """As if SQLite had found the file taken: what was read of it may be half old and half new, and is asked again."""
    error = sqlite3.OperationalError("the database was written to while it was read")
    error.sqlite_errorname = "SQLITE_BUSY"
    return OperationalError("", None, error)


def _name_file(context: ExceptionContext) -> None:
    """Put the file's name before what SQLite says of it: SQLite itself says only "unable to open database file"."""
    error = context.original_exception
    code = getattr(error, "sqlite_errorname", "") or ""
    if context.engine is not None and code.startswith(_OF_THE_FILE):
        path = f"{context.engine.url.database}: "
        if not str(error).startswith(path):
            error.args = (f"{path}{error}",)


def _engine(url: URL, *, read_only: bool) -> Engine:
    """An engine; its connections to PostgreSQL end transactions of stopped programs."""
    arguments: dict[str, str] = {}
    if read_only and url.get_backend_name() == "sqlite":
        path = str(url.database)
        # Where nothing can be made beside a file its connections see nothing of later writes: each is used once.
        pool = {"poolclass": NullPool} if is_closed_folder(path) else {}
        return create_engine(url, creator=lambda: open_for_questions(path), hide_parameters=True, **pool)
    if url.get_backend_name() != "sqlite":
        own = f"-c idle_in_transaction_session_timeout={POSTGRESQL_IDLE_S}s"
        own += " -c default_transaction_read_only=on" if read_only else ""
        # What the URL says itself comes later, and so counts.
        users = url.query.get("options", "")
        arguments["options"] = " ".join([own, *([users] if isinstance(users, str) else users)]).strip()
    # hide_parameters: a message must not spell out the thousand rows of a statement.
    return create_engine(url, pool_size=16, max_overflow=48, hide_parameters=True, connect_args=arguments)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


_NUMPY_TAUGHT = threading.Event()


def _let_sqlite_take_numpy() -> None:
    """Let SQLite's driver take numpy's numbers for what they are: an integer of numpy it would store as its bytes."""
    # Only where somebody has imported numpy is there such a number. PostgreSQL's driver knows them.
    numpy = sys.modules.get("numpy")
    codes = getattr(numpy, "typecodes", None)
    if numpy is None or not codes or _NUMPY_TAUGHT.is_set():
        return
    for code in codes["AllInteger"]:
        sqlite3.register_adapter(numpy.dtype(code).type, int)
    for code in codes["Float"]:
        sqlite3.register_adapter(numpy.dtype(code).type, float)
    sqlite3.register_adapter(numpy.bool_, bool)
    _NUMPY_TAUGHT.set()


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # else the driver decides where transactions begin
    connection.text_factory = text_of
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_MS}")
    _write_ahead(cursor)
    # A power cut may undo the last transactions, a killed program none; nothing is ever half written.
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Let readers and a writer not wait for each other, by a log that is written ahead (WAL)."""
    # While another program switches to it too, SQLite refuses at once, whatever the timeout says.
    end = time.monotonic() + SQLITE_BUSY_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)
