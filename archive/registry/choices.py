"""What people have chosen: frames and products that are to be taken first, or never."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, select, update

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames import BANNED, replace_rows
from ccdflow.archive.registry.tables import ChoiceRow, FrameRow, table

ChoiceKind = Literal["pinned", "banned"]


@dataclass(frozen=True)
class ChoiceRecord:
    """A frame (``f12``) or the product of a job (its key) that is taken first where it fits, or never."""

    subject: str
    verdict: ChoiceKind
    reason: str = ""
    created: str = ""


def choose(connection: Connection, subjects: Collection[str], verdict: ChoiceKind, reason: str = "") -> None:
    """Pin or ban; a frame that is banned is refused from then on, and leaves the sets it is in.

    Raises
    ------
    ValueError
        If a frame is not there, or can't be used anyway.
    """
    frames = [int(one[1:]) for one in subjects if _is_frame(one)]
    rows = connection.execute(select(FrameRow.id, FrameRow.status).where(FrameRow.id.in_(frames)))
    found = {frame: status for frame, status in rows}
    for frame in frames:
        if found.get(frame) not in ("registered", "refused"):
            raise ValueError(
                f"f{frame} is {found.get(frame, 'not there')}, wanted a frame that is registered"
            )
    moment = now()
    chosen = [{"subject": one, "verdict": verdict, "reason": reason, "created": moment} for one in subjects]
    replace_rows(connection, table(ChoiceRow), chosen)
    _readmit(connection, frames)
    if verdict == "banned":
        wanted = update(FrameRow).where(FrameRow.id.in_(frames), FrameRow.status == "registered")
        refused = {"status": "refused", "reason": f"{BANNED}{reason}".rstrip(": "), "ungrouped": True}
        connection.execute(wanted.values(**refused))


def withdraw(connection: Connection, subjects: Collection[str]) -> int:
    """Take choices back; gives how many there were."""
    gone = delete(ChoiceRow).where(ChoiceRow.subject.in_(subjects)).returning(ChoiceRow.subject)
    number = len(connection.execute(gone).all())
    _readmit(connection, [int(one[1:]) for one in subjects if _is_frame(one)])
    return number


def _readmit(connection: Connection, frames: Collection[int]) -> None:
    """Frames that were banned may be used again."""
    banned = update(FrameRow).where(
        FrameRow.id.in_(frames), FrameRow.status == "refused", FrameRow.reason.startswith(BANNED.rstrip(": "))
    )
    connection.execute(banned.values(status="registered", reason="", ungrouped=True))


def find_choices(connection: Connection) -> list[ChoiceRecord]:
    """All choices, in the order in which they were made."""
    columns = [getattr(ChoiceRow, name) for name in ChoiceRecord.__annotations__]
    rows = connection.execute(select(*columns).order_by(ChoiceRow.created, ChoiceRow.subject))
    return [ChoiceRecord(*row) for row in rows]


def _is_frame(subject: str) -> bool:
    return subject[:1] == "f" and subject[1:].isdigit() and len(subject) < 20
