"""Drains of streams: one process at a time does what is due on a stream, by lease."""

from sqlalchemy import Connection, delete, or_, select, update

from ccdflow.archive.registry.frames import ignoring
from ccdflow.archive.registry.jobs import clock
from ccdflow.archive.registry.owners import is_dead
from ccdflow.archive.registry.tables import Drain, table


def take(connection: Connection, name: str, owner: str, lease: float) -> bool:
    """Become the drain of a stream, or stay it; false while another one is alive."""
    moment = clock()
    made = connection.execute(
        ignoring(connection, table(Drain)).returning(table(Drain).c.name),
        [{"name": name, "owner": owner, "heartbeat": moment}],
    )
    if made.all():
        return True
    holder = connection.execute(select(Drain.owner).where(Drain.name == name)).scalar_one_or_none()
    free = or_(Drain.owner == owner, Drain.heartbeat < moment - lease)
    if holder is not None and is_dead(holder):
        free = or_(free, Drain.owner == holder)
    wanted = update(Drain).where(Drain.name == name, free).values(owner=owner, heartbeat=moment)
    return bool(connection.execute(wanted.returning(Drain.name)).all())


def stay(connection: Connection, name: str, owner: str) -> bool:
    """Show a sign of life as the drain of a stream; false where it is another's by now."""
    mine = update(Drain).where(Drain.name == name, Drain.owner == owner).values(heartbeat=clock())
    return bool(connection.execute(mine.returning(Drain.name)).all())


def leave(connection: Connection, name: str, owner: str) -> None:
    """Be the drain of a stream no longer."""
    connection.execute(delete(Drain).where(Drain.name == name, Drain.owner == owner))


def alive(connection: Connection, lease: float) -> dict[str, str]:
    """Streams that are being drained, and by whom."""
    rows = connection.execute(select(Drain.name, Drain.owner).where(Drain.heartbeat >= clock() - lease))
    return {name: owner for name, owner in rows if not is_dead(owner)}
