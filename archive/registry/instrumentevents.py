"""What happened to instruments: mirrors coated, detectors swapped; calibrations do not cross it."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from ccdflow.archive.registry.tables import InstrumentEventRow, table


@dataclass(frozen=True)
class InstrumentChange:
    """What happened to an instrument, and when (ISO UTC); a blank matches any."""

    happened: str
    what: str
    telescope: str = ""
    camera: str = ""
    instrument: str = ""


def add_instrument_event(connection: Connection, change: InstrumentChange) -> None:
    """Record what happened to an instrument."""
    names = InstrumentChange.__annotations__
    connection.execute(table(InstrumentEventRow).insert(), [{name: getattr(change, name) for name in names}])


def remove_instrument_event(connection: Connection, change: InstrumentChange) -> int:
    """Take back what was recorded of an instrument; gives how many records there were."""
    tests = [
        getattr(InstrumentEventRow, name) == getattr(change, name)
        for name in InstrumentChange.__annotations__
    ]
    return len(
        connection.execute(delete(InstrumentEventRow).where(*tests).returning(InstrumentEventRow.id)).all()
    )


def find_instrument_events(connection: Connection) -> list[InstrumentChange]:
    """What happened to instruments, in order."""
    columns = [getattr(InstrumentEventRow, name) for name in InstrumentChange.__annotations__]
    rows = connection.execute(select(*columns).order_by(InstrumentEventRow.happened, InstrumentEventRow.id))
    return [InstrumentChange(*row) for row in rows]
