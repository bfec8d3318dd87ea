"""How many sets there are of each kind: counted on by whoever changes sets, so that nobody has to read them all."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, bindparam, select, text

from ccdflow.archive.registry.tables import FrameSetRow, SetCountRow, table

Kinds = Counter[tuple[str, str]]
"""Sets by step and kind."""

_LOCK = 0x63637365


def kind(status: str, action: str) -> str:
    """What a set counts as: ``open``, of the closed ones ``stack`` or ``pass``; nothing for superseded ones."""
    return "" if status == "superseded" else "open" if status == "open" else action


def alone(connection: Connection, new: int = 0) -> Sequence[int]:
    """Be the only one who changes sets until the transaction ends, as whoever writes to SQLite is anyhow.

    Gives ids for so many `new` sets, that none has had. PostgreSQL does not wait for the disk when it commits: sets
    that a crash of the server takes back are made again, and what was built on them is behind them in its log, so
    that it is never kept without them.
    """
    if connection.dialect.name == "postgresql":
        found: Sequence[int] = connection.execute(_ALONE, {"key": _LOCK, "new": new}).one()[-1]
        return found
    last = (connection.execute(_LAST_ID).scalar_one_or_none() or 0) if new else 0
    return range(last + 1, last + 1 + new)


def count_sets(connection: Connection, step: str) -> dict[str, int]:
    """How many sets of a step there are of each kind."""
    found = connection.execute(_COUNTS, {"step": step})
    return {name: number for name, number in found if number}


def placed(connection: Connection, sets: Collection[int]) -> dict[int, tuple[str, str, str]]:
    """Step, status and action of sets, by id."""
    found = connection.execute(_PLACED, {"sets": sorted(sets)})
    return {number: (step, status, action) for number, step, status, action in found}


def add(connection: Connection, changed: Mapping[tuple[str, str], int]) -> None:
    """Add to the counts what has changed."""
    rows = [
        {"step": step, "kind": name, "number": number}
        for (step, name), number in changed.items()
        if name and number
    ]
    if rows:
        connection.execute(_ADD, rows)


_ALONE = text(
    "SELECT pg_advisory_xact_lock(:key), set_config('synchronous_commit', 'off', true), "
    "ARRAY(SELECT nextval(pg_get_serial_sequence('frame_set', 'id')) FROM generate_series(1, :new))"
)
_LAST_ID = text("SELECT seq FROM sqlite_sequence WHERE name = 'frame_set'")
_SET = table(FrameSetRow).c
_COUNT = table(SetCountRow).c
# In words, since SQLAlchemy makes such a statement anew each time.
_ADD = text(
    "INSERT INTO set_count (step, kind, number) VALUES (:step, :kind, :number) "
    "ON CONFLICT (step, kind) DO UPDATE SET number = set_count.number + excluded.number"
)
_COUNTS = select(_COUNT.kind, _COUNT.number).where(_COUNT.step == bindparam("step"))
_PLACED = select(_SET.id, _SET.step, _SET.status, _SET.action).where(
    _SET.id.in_(bindparam("sets", expanding=True))
)
