"""A project on hold: no job is begun until somebody releases it."""

from sqlalchemy import Connection, delete, select

from ccdflow.archive.registry.bulk import replace_rows
from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.tables import HoldRow, table

ALL = "all"
"""The only hold that there is: of the whole project."""


def put_hold(connection: Connection, reason: str = "") -> None:
    """Let no job begin from now on.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    reason : str
        Why; of several holds the last counts.
    """
    # A row, not a file: workers of other machines have to see it too.
    row = {"name": ALL, "reason": reason, "since": now()}
    replace_rows(connection, table(HoldRow), [row])


def release_hold(connection: Connection) -> bool:
    """Let jobs begin again.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.

    Returns
    -------
    bool
        False where nothing was on hold.
    """
    hold = delete(HoldRow).where(HoldRow.name == ALL).returning(HoldRow.name)
    return bool(connection.execute(hold).all())


def hold_in_words(connection: Connection) -> str:
    """Return in words since when, and why, no job begins.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.

    Returns
    -------
    str
        The words; empty where nothing is on hold.
    """
    hold = connection.execute(select(HoldRow.since, HoldRow.reason).where(HoldRow.name == ALL)).one_or_none()
    if hold is None:
        return ""
    return f"on hold since {hold.since[:19]}" + (f": {hold.reason}" if hold.reason else "")
