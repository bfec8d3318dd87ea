"""The two doors to a registry: what reads, and what writes, each in one transaction that waits for a lost database."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from ccdflow.archive.registry.database import Database, again
from ccdflow.archive.registry.listening import Ear

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Registry:
    """The registry of a project, on SQLite (``sqlite:///FILE``) or PostgreSQL (``postgresql://USER@HOST/NAME``).

    What can be asked or written are functions of this package that take a connection: ``find_frames``,
    ``claim``, ``finish_job``, ... They give plain records back. May be used by many threads and programs at once.

    Examples
    --------
    >>> registry = Registry("sqlite:////data/project/registry.sqlite")  # doctest: +SKIP
    >>> registry.read(find_frames, FrameFilter(night="2026-03-01"))  # doctest: +SKIP
    >>> registry.write(refuse_frame, 12, "the dome was closed")  # doctest: +SKIP
    """

    def __init__(self, url: str) -> None:
        self.database = Database(url)

    @property
    def url(self) -> str:
        """Where the registry is, without password."""
        return self.database.url.render_as_string(hide_password=True)

    # Whoever opens a registry is told at once that there is none; who has one waits where it goes away.
    def upgrade(self) -> None:
        """Make the tables, or bring them up to date."""
        self.database.upgrade()

    create = upgrade

    def close(self) -> None:
        """Close all connections."""
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
        """

        def change() -> _T:
            with self.database.write() as connection:
                return statement(connection, *arguments, **named)

        def change_or_see() -> _T:
            try:
                return change()
            except IntegrityError:
                # On PostgreSQL another program may have registered the same file just now: then it is known.
                return change()

        return again(change_or_see)()

    def tidy_sets(self) -> None:
        """Keep a new frame cheap after very many were grouped at once."""
        again(self.database.tidy)("frame", "frame_set", "set_member")

    def ear(self) -> Ear:
        """Return what hears that others have written to the registry."""
        return Ear(self.database.url)
