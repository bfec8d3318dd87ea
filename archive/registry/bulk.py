"""Many rows at once: in batches, past or over rows that are there already, and as JSON where that is quicker."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    Dialect,
    Double,
    Integer,
    Table,
    Text,
    TextClause,
    bindparam,
    cast,
    column,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

_T = TypeVar("_T")

VALUES_PER_STATEMENT = 5000
"""The most values in the IN (...) of one statement. SQLite takes 32766 in all of a statement, PostgreSQL 65535."""


def batches(rows: Iterable[_T], size: int = VALUES_PER_STATEMENT) -> Iterator[list[_T]]:
    """Cut rows, ids or keys into lists.

    Parameters
    ----------
    rows : iterable
        What is cut, in this order.
    size : int
        Length of each list but the last.

    Yields
    ------
    list
        The next rows; nothing where there are none.
    """
    # Rows may come from a generator, of which no more than one list is held.
    source = iter(rows)
    while batch := list(islice(source, size)):
        yield batch


def is_postgresql(connection: Connection) -> bool:
    """Return whether a connection leads to PostgreSQL rather than to SQLite.

    Parameters
    ----------
    connection : Connection
        Any transaction.

    Returns
    -------
    bool
        True for PostgreSQL.
    """
    return connection.dialect.name == "postgresql"


def inserting_new(connection: Connection, into: Table) -> Any:
    """Return an insert that passes over rows that are there already.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    into : Table
        The table.

    Returns
    -------
    Insert
        The statement; `returning` gives of it the rows that were new.
    """
    return _inserting_new(is_postgresql(connection), into)


def insert_rows(connection: Connection, into: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write new rows as they are: None is nothing, also in a column of JSON, of which it is a value of its own else.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    into : Table
        The table.
    rows : sequence of mapping of str to object
        Values by column, the same columns in each row.
    """
    if rows:
        named = [{f"new_{name}": value for name, value in row.items()} for row in rows]
        connection.execute(_inserting(into, tuple(rows[0])), named)


@lru_cache
def _inserting(into: Table, names: tuple[str, ...]) -> Any:
    types = {
        name: JSON(none_as_null=True) if isinstance(into.c[name].type, JSON) else into.c[name].type
        for name in names
    }
    # A parameter may not be called like a column.
    return insert(into).values({name: bindparam(f"new_{name}", type_=kind) for name, kind in types.items()})


def replace_rows(connection: Connection, into: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, also over those that are there already with the same primary key.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    into : Table
        The table.
    rows : sequence of mapping of str to object
        Values by column, the same columns in each row. Other columns of a row that is there stay.
    """
    if rows:
        connection.execute(_replacing(into, tuple(rows[0])), rows)


# Statements are cached, by what tells them apart: making one with SQLAlchemy takes longer than running it, and all that
# a new frame needs has to fit into about a millisecond.
@lru_cache
def _inserting_new(into_postgresql: bool, into: Table) -> Any:
    inserting: Any = postgresql.insert if into_postgresql else sqlite.insert
    return inserting(into).on_conflict_do_nothing()


@lru_cache
def _replacing(into: Table, names: tuple[str, ...]) -> TextClause:
    values = ", ".join(f":{name}" for name in names)
    parameters = [bindparam(name, type_=into.c[name].type) for name in names]
    return text(_upsert(into, names, f"VALUES ({values})")).bindparams(*parameters)


def _upsert(into: Table, names: Sequence[str], source: str) -> str:
    # As text, since SQLAlchemy compiles an insert with ON CONFLICT anew each time that it is executed.
    keys = list(into.primary_key.columns.keys())
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
    return (
        f"INSERT INTO {into.name} ({', '.join(names)}) {source} "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {updates}"
    )


# --- PostgreSQL: one value that holds all rows as JSON ------------------------------------------------------------
# It is read, planned and answered once, and so several times faster than as many values in a statement. With SQLite
# there is no way to a server and back that would be saved.


@lru_cache
def inserting_json(into: Table, names: tuple[str, ...]) -> Any:
    """Return an insert for PostgreSQL of many rows, which are given as one JSON text.

    Parameters
    ----------
    into : Table
        The table.
    names : tuple of str
        The columns that each row has.

    Returns
    -------
    Insert
        The statement, whose value `rows` is a JSON list of objects.
    """
    typed = [column(name, _json_type(into.c[name].type)) for name in names]
    rows = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON)).table_valued(*typed)
    rows = rows.render_derived(with_types=True)
    return postgresql.insert(into).from_select(names, select(*[rows.c[name] for name in names]))


@lru_cache
def replacing_json(dialect: Dialect, into: Table, names: tuple[str, ...]) -> TextClause:
    """Return what `replace_rows` executes, for PostgreSQL and rows that are given as one JSON text.

    Parameters
    ----------
    dialect : Dialect
        The connection's.
    into : Table
        The table.
    names : tuple of str
        The columns that each row has.

    Returns
    -------
    TextClause
        The statement, whose value `rows` is a JSON list of objects. It may not name a primary key twice.
    """
    typed = ", ".join(f"{name} {_json_type(into.c[name].type).compile(dialect)}" for name in names)
    source = f"json_to_recordset(CAST(:rows AS json)) AS given({typed})"
    return text(_upsert(into, names, f"SELECT {', '.join(names)} FROM {source}"))


def _json_type(column_type: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type that PostgreSQL reads a value of JSON as: without collation, and wide enough for any integer."""
    if isinstance(column_type, Integer):
        return BigInteger()
    return Double() if isinstance(column_type, Double) else Text()
