"""Choices of people: frames and products that are to be taken first, or never."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, select, update

from ccdflow.archive.registry.bulk import replace_rows
from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames.files import BANNED
from ccdflow.archive.registry.tables import ChoiceRow, FrameRow, table
from ccdflow.cascade.plain import is_id

ChoiceKind = Literal["pinned", "banned"]


@dataclass(frozen=True)
class ChoiceRecord:
    """A frame (``f12``) or the product of a job (its key) that is taken first where it fits, or never."""

    subject: str
    verdict: ChoiceKind
    reason: str = ""
    created: str = ""


def choose(connection: Connection, subjects: Collection[str], verdict: ChoiceKind, reason: str = "") -> None:
    """Pin or ban frames and products.

    A frame that is banned is refused from then on, and leaves the sets that it is in.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    subjects : collection of str
        Frames (``f12``), and keys of jobs for their products.
    verdict : str
        ``pinned`` or ``banned``; of several for one subject the last counts.
    reason : str
        Why, for those who ask later.

    Raises
    ------
    ValueError
        If a frame is not there, or can't be used anyway.
    """
    frames = _frames(subjects)
    rows = connection.execute(select(FrameRow.id, FrameRow.status).where(FrameRow.id.in_(frames)))
    statuses = {frame: status for frame, status in rows}
    for frame in frames:
        if statuses.get(frame) not in ("registered", "refused"):
            raise ValueError(
                f"f{frame} is {statuses.get(frame, 'not there')}, wanted a frame that is registered"
            )
    row = {"verdict": verdict, "reason": reason, "created": now()}
    replace_rows(connection, table(ChoiceRow), [{"subject": subject, **row} for subject in subjects])
    # First as if nothing had been chosen: a frame that is banned once more gets its new reason, one that is pinned
    # instead may be used again. A frame that is unusable anyway keeps its own reason in both.
    _readmit(connection, frames)
    if verdict == "banned":
        usable = update(FrameRow).where(FrameRow.id.in_(frames), FrameRow.status == "registered")
        refused = {"status": "refused", "reason": f"{BANNED}{reason}".rstrip(": "), "ungrouped": True}
        connection.execute(usable.values(**refused))


def withdraw(connection: Connection, subjects: Collection[str]) -> int:
    """Take choices back.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    subjects : collection of str
        As in `choose`.

    Returns
    -------
    int
        How many choices there were.
    """
    choices = delete(ChoiceRow).where(ChoiceRow.subject.in_(subjects)).returning(ChoiceRow.subject)
    number = len(connection.execute(choices).all())
    _readmit(connection, _frames(subjects))
    return number


def _readmit(connection: Connection, frames: Collection[int]) -> None:
    """Frames that were banned may be used again."""
    # The reason tells a ban from a frame that ingest refused, which stays refused. Without its colon, since a ban
    # without words has none.
    banned = update(FrameRow).where(
        FrameRow.id.in_(frames), FrameRow.status == "refused", FrameRow.reason.startswith(BANNED.rstrip(": "))
    )
    connection.execute(banned.values(status="registered", reason="", ungrouped=True))


def find_choices(connection: Connection) -> list[ChoiceRecord]:
    """Return all choices.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.

    Returns
    -------
    list of ChoiceRecord
        The choices, in the order in which they were made.
    """
    columns = [getattr(ChoiceRow, name) for name in ChoiceRecord.__annotations__]
    rows = connection.execute(select(*columns).order_by(ChoiceRow.created, ChoiceRow.subject))
    return [ChoiceRecord(*row) for row in rows]


def _frames(subjects: Collection[str]) -> list[int]:
    """Ids of the frames among them."""
    return [int(subject[1:]) for subject in subjects if _is_frame(subject)]


def _is_frame(subject: str) -> bool:
    # A key of a job may begin with f and hold digits alone, but is longer than any id.
    return subject[:1] == "f" and is_id(subject[1:])
