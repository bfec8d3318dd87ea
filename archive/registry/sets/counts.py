"""Numbers of sets of each kind: kept by whoever changes sets, so that nobody has to read all sets to count them."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, bindparam, select, text

from ccdflow.archive.registry.bulk import is_postgresql
from ccdflow.archive.registry.tables import FrameSetRow, SetCountRow, table

Kinds = Counter[tuple[str, str]]
"""Sets by step and kind."""

_LOCK = 0x63637365  # any number that no other lock of this package has


def kind(status: str, action: str) -> str:
    """Return the kind that a set counts as.

    Parameters
    ----------
    status : str
        ``open``, ``closed`` or ``superseded``.
    action : str
        ``stack`` or ``pass``.

    Returns
    -------
    str
        ``open``, of the closed ones ``stack`` or ``pass``; empty for superseded ones, which are not counted.
    """
    return "" if status == "superseded" else "open" if status == "open" else action


def alone(connection: Connection, new: int = 0) -> Sequence[int]:
    """Be the only one who changes sets until the transaction ends, as whoever writes to SQLite is anyhow.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    new : int
        How many sets will be added.

    Returns
    -------
    sequence of int
        Ids for those sets, which no set has had before.

    Notes
    -----
    PostgreSQL does not wait for the disk when it commits this transaction (``synchronous_commit``). A crash of the
    server may take back the last ones, whole: then the frames are still ungrouped, and their sets are made again. What
    was built on a set, a job or a product, is behind it in the server's log, so that it is never kept without the set.
    """
    if is_postgresql(connection):
        ids: Sequence[int] = connection.execute(_ALONE, {"key": _LOCK, "new": new}).one()[-1]
        return ids
    # Nobody else writes to the file until this transaction ends, so that the next ids are known.
    last = (connection.execute(_LAST_ID).scalar_one_or_none() or 0) if new else 0
    return range(last + 1, last + 1 + new)


def count_sets(connection: Connection, step: str) -> dict[str, int]:
    """Return how many sets of a step there are of each kind.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    step : str
        The step.

    Returns
    -------
    dict of str to int
        The number by kind, as `kind` names it; kinds without sets are left out.
    """
    rows = connection.execute(_COUNTS, {"step": step})
    return {name: number for name, number in rows if number}


def placed(connection: Connection, sets: Collection[int]) -> dict[int, tuple[str, str, str]]:
    """Return what sets are counted by.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    sets : collection of int
        Ids of sets.

    Returns
    -------
    dict of int to tuple of str
        Step, status and action by id.
    """
    rows = connection.execute(_PLACED, {"sets": sorted(sets)})
    return {number: (step, status, action) for number, step, status, action in rows}


def add(connection: Connection, changed: Mapping[tuple[str, str], int]) -> None:
    """Add to the counts what has changed.

    Parameters
    ----------
    connection : Connection
        A transaction that writes, and is `alone`.
    changed : mapping of tuple of str to int
        How many sets more (or fewer) there are, by step and kind; those of no kind are not counted.
    """
    rows = [
        {"step": step, "kind": name, "number": number}
        for (step, name), number in changed.items()
        if name and number
    ]
    if rows:
        connection.execute(_ADD, rows)


# Three things in one statement, since each way to the server and back takes time.
_ALONE = text(
    "SELECT pg_advisory_xact_lock(:key), set_config('synchronous_commit', 'off', true), "
    "ARRAY(SELECT nextval(pg_get_serial_sequence('frame_set', 'id')) FROM generate_series(1, :new))"
)
_LAST_ID = text("SELECT seq FROM sqlite_sequence WHERE name = 'frame_set'")
_SET = table(FrameSetRow).c
_COUNT = table(SetCountRow).c
# As text, since SQLAlchemy compiles an insert with ON CONFLICT anew each time that it is executed.
_ADD = text(
    "INSERT INTO set_count (step, kind, number) VALUES (:step, :kind, :number) "
    "ON CONFLICT (step, kind) DO UPDATE SET number = set_count.number + excluded.number"
)
_COUNTS = select(_COUNT.kind, _COUNT.number).where(_COUNT.step == bindparam("step"))
_PLACED = select(_SET.id, _SET.step, _SET.status, _SET.action).where(
    _SET.id.in_(bindparam("sets", expanding=True))
)
