"""The outbox: what happened, as database triggers have written it, and what of it was delivered."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

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
