"""The two doors to a registry, for what reads and what writes: each a transaction that waits for a lost database.

Statements are functions of this package that take a connection first. So one that is called by another takes part in
that one's transaction, and through a door it is a transaction of its own.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from ccdflow.archive.registry.database import Database, again
from ccdflow.archive.registry.listening import Ear
from ccdflow.archive.registry.rootpaths import Roots, is_kept_otherwise, keep_relative, roots_of

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Registry:
    """The registry of a project, on SQLite (``sqlite:///FILE``) or PostgreSQL (``postgresql://USER@HOST/NAME``).

    What can be asked or written are functions of this package that take a connection: ``find_frames``,
    ``claim``, ``finish_job``, ... They give plain records back. May be used by many threads and programs at once.

    Parameters
    ----------
    url : str
        Where the database is. Nothing connects to it yet; call `upgrade` before anything else is asked.
    read_only : bool
        It is only asked, and nothing is ever written; call `check` instead of `upgrade`.
    roots : tuple of tuple of str
        As of `Database`.

    Raises
    ------
    ValueError
        If the URL names no such database.

    Examples
    --------
    >>> registry = Registry("sqlite:////data/project/registry.sqlite")  # doctest: +SKIP
    >>> registry.read(find_frames, FrameFilter(night="2026-03-01"))  # doctest: +SKIP
    >>> registry.write(refuse_frame, 12, "the dome was closed")  # doctest: +SKIP
    """

    def __init__(self, url: str, *, read_only: bool = False, roots: Roots = ()) -> None:
        self.database = Database(url, read_only=read_only, roots=roots)

    @property
    def url(self) -> str:
        """Address of the registry, without password."""
        return self.database.url.render_as_string(hide_password=True)

    def upgrade(self) -> None:
        """Make the tables, or bring them up to date.

        Raises
        ------
        DatabaseVersionError
            If a newer version of ccdflow has written the registry.
        """
        # Without `again`: whoever opens a registry is told at once that there is none, and does not wait for one that
        # has never answered.
        self.database.upgrade()

    def check(self) -> None:
        """Make sure that the tables are there and up to date, without changing anything.

        Raises
        ------
        DatabaseVersionError
            If they are not; the sentence says what makes or changes them, or that ccdflow is too old.
        """
        self.database.check()

    def close(self) -> None:
        """Close all connections, and leave an SQLite file whole: nothing of it only in the log beside it."""
        self.database.close()

    def view(self) -> AbstractContextManager[None]:
        """Make all that this thread reads in the block one transaction: it sees one state, and takes less time."""
        return self.database.view()

    def read(
        self, statement: Callable[Concatenate[Connection, _P], _T], *arguments: _P.args, **named: _P.kwargs
    ) -> _T:
        """Ask something, in one transaction that only reads.

        Parameters
        ----------
        statement : callable
            A function that takes a connection first, as those of this package do.
        *arguments, **named
            What else it takes.

        Returns
        -------
        object
            What the function gives back. Where the database is lost meanwhile, it is asked again.

        Raises
        ------
        DBAPIError
            If the database stays lost, or does not take the statement.
        """

        def ask() -> _T:
            with self.database.read() as connection:
                return statement(connection, *arguments, **named)

        return again(ask)()

    def write(
        self, statement: Callable[Concatenate[Connection, _P], _T], *arguments: _P.args, **named: _P.kwargs
    ) -> _T:
        """Change something, in one transaction: all of it counts, or nothing.

        Parameters
        ----------
        statement : callable
            A function that takes a connection first, as those of this package do. It comes to the same when it is
            done twice: whether a commit counted whose answer was lost, nobody knows.
        *arguments, **named
            What else it takes.

        Returns
        -------
        object
            What the function gives back. Where the database is lost meanwhile, or another program has written the
            same row at this moment, it is done again.

        Raises
        ------
        IntegrityError
            If the second time too, what is written does not fit what is there.
        DBAPIError
            If the database stays lost, or does not take the statement.
        """

        def change() -> _T:
            with self.database.write() as connection:
                return statement(connection, *arguments, **named)

        def change_or_see() -> _T:
            try:
                return change()
            except IntegrityError:
                # On PostgreSQL another program may have registered the same file since this transaction looked for it:
                # the second time it is seen, and known. Once is enough: what has been committed stays visible. What was
                # wrong by itself fails again, and is told then.
                return change()

        return again(change_or_see)()

    def keep_relative(self) -> None:
        """Keep paths of raw files relative to the project's roots that are not: other programs know none."""
        # Mostly there is nothing to do, and a look holds up nobody.
        if not roots_of(self.database.engine.dialect):
            return
        waits = self.read(is_kept_otherwise)
        if waits:
            self.write(keep_relative)

    def tidy_sets(self) -> None:
        """Keep a new frame cheap after very many were grouped at once."""
        again(self.database.tidy)("frame", "frame_set", "set_member")

    def ear(self) -> Ear:
        """Return what hears that others have written to the registry."""
        return Ear(self.database.url)
