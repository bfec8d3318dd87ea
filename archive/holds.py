"""A project on hold: no job is begun until somebody releases it."""

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from ccdflow.archive.database import now
from ccdflow.archive.frames import replacing
from ccdflow.archive.models import Hold, table

ALL = "all"


def put(session: Session, reason: str) -> None:
    """Begin no job from now on, and say why."""
    row = {"name": ALL, "reason": reason, "since": now()}
    session.execute(replacing(session, table(Hold), "reason", "since"), [row])


def release(session: Session) -> bool:
    """Begin jobs again; false where nothing was on hold."""
    return bool(session.execute(delete(Hold).where(Hold.name == ALL).returning(Hold.name)).all())


def held(session: Session) -> str:
    """Since when, and why, no job is begun, in words; empty where jobs are."""
    row = session.execute(select(Hold.since, Hold.reason).where(Hold.name == ALL)).one_or_none()
    return (
        "" if row is None else f"on hold since {row.since[:19]}" + (f": {row.reason}" if row.reason else "")
    )
