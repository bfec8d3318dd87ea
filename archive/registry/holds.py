"""A project on hold: no job is begun until somebody releases it."""

from sqlalchemy import Connection, delete, select

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames import replace_rows
from ccdflow.archive.registry.tables import HoldRow, table

ALL = "all"


def put_hold(connection: Connection, reason: str = "") -> None:
    """Begin no job from now on, and say why."""
    row = {"name": ALL, "reason": reason, "since": now()}
    replace_rows(connection, table(HoldRow), [row])


def release_hold(connection: Connection) -> bool:
    """Begin jobs again; false where nothing was on hold."""
    return bool(connection.execute(delete(HoldRow).where(HoldRow.name == ALL).returning(HoldRow.name)).all())


def hold_in_words(connection: Connection) -> str:
    """Since when, and why, no job is begun, in words; empty where jobs are."""
    row = connection.execute(select(HoldRow.since, HoldRow.reason).where(HoldRow.name == ALL)).one_or_none()
    return (
        "" if row is None else f"on hold since {row.since[:19]}" + (f": {row.reason}" if row.reason else "")
    )
