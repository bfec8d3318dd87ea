"""The outbox: what happened, as database triggers have written it, and what of it was delivered."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, func, or_, select, update

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.tables import EventRow


@dataclass(frozen=True)
class EventRecord:
    """Something that happened.

    `kind` is ``frame.registered``, ``product.made`` or ``set.closed``, `subject` what it happened to, as in
    ``frame/12``.
    """

    id: int
    kind: str
    subject: str
    payload: dict[str, Any]
    created: str
    delivered: str | None


def find_events(
    connection: Connection, *, undelivered: bool = False, limit: int | None = None
) -> list[EventRecord]:
    """Return what has happened, in order.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    undelivered : bool
        Whether only events are wanted that have not been delivered.
    limit : int, optional
        The most events.

    Returns
    -------
    list of EventRecord
        The events, by id. Ids are given out when rows are written, not when they are committed: an event may come
        behind one with a higher id.
    """
    # Undelivered ones by their own index (ix_event_undelivered): few, however long the outbox has grown.
    columns = [getattr(EventRow, name) for name in EventRecord.__annotations__]
    statement = select(*columns).order_by(EventRow.id).limit(limit)
    if undelivered:
        statement = statement.where(EventRow.delivered.is_(None))
    return [EventRecord(*row) for row in connection.execute(statement)]


def deliver_events(connection: Connection, ids: Collection[int]) -> None:
    """Mark events as delivered.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    ids : collection of int
        Ids of the events; of those that are delivered already the time stays.
    """
    for part in batches(ids):
        undelivered = update(EventRow).where(EventRow.id.in_(part), EventRow.delivered.is_(None))
        connection.execute(undelivered.values(delivered=now()))


@dataclass(frozen=True)
class EventSum:
    """Events of one kind and stream in one second: `count` of them, from the first to the last."""

    first: EventRecord
    last: EventRecord
    count: int


def summed_up(events: Iterable[EventRecord]) -> list[EventSum]:
    """Sum up events: one for each kind, stream and second.

    Parameters
    ----------
    events : iterable of EventRecord
        In order.

    Returns
    -------
    list of EventSum
        In the order of the first ones.
    """
    sums: dict[tuple[str, ...], EventSum] = {}
    for event in events:
        stream = (str(event.payload.get(name) or "") for name in ("telescope", "camera", "instrument"))
        name = (event.kind, event.created[:SECOND], *stream)
        known = sums.get(name)
        sums[name] = EventSum(known.first if known else event, event, known.count + 1 if known else 1)
    return list(sums.values())


SECOND = len("2026-03-01T20:00:00")
"""Characters of a time up to its second."""
DELIVERED_DAYS, UNDELIVERED_DAYS = 7.0, 30.0
"""Days that events are kept once they are delivered, and where nobody ever delivers them."""
DELIVERED_KEPT = 20_000
"""Delivered events that are kept however young they are: a survey writes a hundred thousand in a night."""


def forget_events(connection: Connection, limit: int = 5000, kept: int = DELIVERED_KEPT) -> int:
    """Delete the oldest events: an event only wakes, and that one wakes nobody any more.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    limit : int
        The most events.
    kept : int
        Delivered events that may stay, the newest, if they are younger than `DELIVERED_DAYS`.

    Returns
    -------
    int
        How many were deleted; fewer than the limit where nothing is left to delete.
    """
    # By id, the oldest first: no index of times is needed, and no more than so many rows are looked at.
    oldest = select(EventRow.id, EventRow.created, EventRow.delivered).order_by(EventRow.id).limit(limit)
    rows = oldest.subquery()
    moment = datetime.now(UTC).replace(tzinfo=None)
    delivered, created = (
        (moment - timedelta(days=days)).isoformat() for days in (DELIVERED_DAYS, UNDELIVERED_DAYS)
    )
    # Ids stand for the count, which would take a look at every row; gaps in them only make it delete earlier.
    newest = connection.execute(select(func.max(EventRow.id))).scalar() or 0
    too_many = and_(rows.c.delivered.is_not(None), rows.c.id <= newest - kept)
    too_old = or_(rows.c.delivered < delivered, rows.c.created < created)
    stale = select(rows.c.id).where(or_(too_many, too_old))
    ids = connection.execute(stale).scalars().all()
    for part in batches(ids):
        connection.execute(delete(EventRow).where(EventRow.id.in_(part)))
    return len(ids)
