"""Changes of instruments: mirrors coated, detectors swapped; calibrations do not cross them."""

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, select

from ccdflow.archive.registry.frames.oddvalues import is_time, words
from ccdflow.archive.registry.tables import InstrumentEventRow, table


@dataclass(frozen=True)
class InstrumentChange:
    """A change of an instrument: what happened, and when (ISO UTC); a blank name stands for any."""

    happened: str
    what: str
    telescope: str = ""
    camera: str = ""
    instrument: str = ""

    @property
    def oddity(self) -> str:
        """What is wrong with its time, as a row that another program has inserted may have it; mostly blank."""
        if self.happened and is_time(self.happened):
            return ""
        return f"its row has happened = {self.happened!r:.60}, wanted an ISO time: it lies between no frames"


def add_instrument_event(connection: Connection, change: InstrumentChange) -> None:
    """Record what happened to an instrument.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    change : InstrumentChange
        What happened.
    """
    connection.execute(table(InstrumentEventRow).insert(), [asdict(change)])


def remove_instrument_event(connection: Connection, change: InstrumentChange) -> int:
    """Take back what was recorded of an instrument.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    change : InstrumentChange
        The record, all of it.

    Returns
    -------
    int
        How many such records there were.
    """
    same = [getattr(InstrumentEventRow, name) == value for name, value in asdict(change).items()]
    removed = delete(InstrumentEventRow).where(*same).returning(InstrumentEventRow.id)
    return len(connection.execute(removed).all())


def find_instrument_events(connection: Connection) -> list[InstrumentChange]:
    """Return what happened to instruments.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.

    Returns
    -------
    list of InstrumentChange
        All that is recorded, by time.
    """
    columns = [getattr(InstrumentEventRow, name) for name in InstrumentChange.__annotations__]
    rows = connection.execute(select(*columns).order_by(InstrumentEventRow.happened, InstrumentEventRow.id))
    return [InstrumentChange(*map(words, row)) for row in rows]
