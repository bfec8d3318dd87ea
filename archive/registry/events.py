"""The outbox: what happened, as database triggers have written it, and what of it was delivered."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames import batches
from ccdflow.archive.registry.tables import EventRow

_MANY = 5000


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
    connection: Connection, *, undelivered: bool = False, after: int = 0, limit: int | None = None
) -> list[EventRecord]:
    """Events behind the id `after`, in order."""
    columns = [getattr(EventRow, name) for name in EventRecord.__annotations__]
    statement = select(*columns).where(EventRow.id > after).order_by(EventRow.id).limit(limit)
    if undelivered:
        statement = statement.where(EventRow.delivered.is_(None))
    return [EventRecord(*row) for row in connection.execute(statement)]


def deliver_events(connection: Connection, ids: Collection[int]) -> None:
    """Mark events as delivered."""
    for some in batches(ids, _MANY):
        done = update(EventRow).where(EventRow.id.in_(some), EventRow.delivered.is_(None))
        connection.execute(done.values(delivered=now()))
