"""Ids for rows that come from another registry: the same where none was ever given out here, else new ones."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, func, select, text

from ccdflow.archive.registry.bulk import is_postgresql


def last_id(connection: Connection, of: Table) -> int | None:
    """Return the last id that a table has given out, also of a row that is gone.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    of : Table
        The table, which counts its ids up and gives none out twice.

    Returns
    -------
    int or None
        None where there was none.
    """
    if not is_postgresql(connection):
        last = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        count = connection.execute(last, {"name": of.name}).scalar_one_or_none()
        return int(count) if count else None
    # A role that may only read can't always look at sequences: the highest id does then.
    sequence = connection.execute(_SEQUENCE, {"name": of.name}).scalar_one()
    allowed = text("SELECT has_sequence_privilege(:name, 'SELECT')")
    if connection.execute(allowed, {"name": sequence}).scalar_one():
        row = connection.execute(text(f"SELECT last_value, is_called FROM {sequence}")).one()
        return int(row.last_value) if row.is_called else None
    highest: int | None = connection.execute(select(func.max(of.c.id))).scalar_one()
    return highest


def count_on(connection: Connection, of: Table, last: int) -> None:
    """Let the next id of a table be the one behind `last`.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    of : Table
        The table.
    last : int
        The last id that counts as given out.
    """
    named: dict[str, Any] = {"name": of.name, "last": last}
    if is_postgresql(connection):
        connection.execute(text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :last)"), named)
    else:
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": of.name})
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), named)


def ids_for(connection: Connection, of: Table, elsewhere: Sequence[int]) -> dict[int, int]:
    """Return ids for rows that another registry has under ids of its own.

    Parameters
    ----------
    connection : Connection
        A transaction that writes, and will write these rows.
    of : Table
        Their table.
    elsewhere : sequence of int
        The ids there, in order.

    Returns
    -------
    dict of int to int
        The id here of each. A table that never had a row takes them as they are, so that an archive which is moved
        keeps the names that people know.
    """
    if not elsewhere:
        return {}
    last = last_id(connection, of)
    if last is None:
        count_on(connection, of, max(elsewhere))
        return {number: number for number in elsewhere}
    if is_postgresql(connection):
        counted = text(
            "SELECT nextval(pg_get_serial_sequence(:name, 'id')) FROM generate_series(1, CAST(:number AS BIGINT))"
        )
        named = {"name": of.name, "number": len(elsewhere)}
        return dict(zip(elsewhere, connection.execute(counted, named).scalars(), strict=True))
    count_on(connection, of, last + len(elsewhere))
    return dict(zip(elsewhere, range(last + 1, last + 1 + len(elsewhere)), strict=True))


_SEQUENCE = text("SELECT pg_get_serial_sequence(:name, 'id')")
