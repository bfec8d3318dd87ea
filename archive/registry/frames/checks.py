"""Raw files are looked at again, each in its turn: when that was, and what was found.

A file is read whole when it is registered. Disks lose bits later, without telling: the time of change of a file stays
what it was. What was made of it before stays right; what would be made of it now is refused.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames.doubts import replace_doubts
from ccdflow.archive.registry.frames.oddvalues import size, words
from ccdflow.archive.registry.tables import FrameCheckRow, FrameRow, table
from ccdflow.cascade.records import Doubt

CONTENT = "content"
"""The source of doubts about a frame that reading its pixels tells."""

_FRAME, _CHECK = table(FrameRow).c, table(FrameCheckRow).c


@dataclass(frozen=True)
class RegisteredRaw:
    """A raw file as it was registered, with the time (ISO, UTC) at which it was last read whole."""

    id: int
    path: str
    sha256: str
    size: int
    changed_ns: int
    checked: str


def raws_by_age_of_check(connection: Connection) -> list[RegisteredRaw]:
    """Return the raw files of the registry, those first that nobody has looked at for longest.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.

    Returns
    -------
    list of RegisteredRaw
        The newest version of each file; registering it counts as a look.
    """
    checked = func.coalesce(_CHECK.checked_at, _FRAME.registered_at)
    columns = _FRAME.id, _FRAME.path, _FRAME.sha256, _FRAME.size, _FRAME.changed_ns, checked
    rows = (
        select(*columns)
        .select_from(table(FrameRow).outerjoin(table(FrameCheckRow), _CHECK.frame_id == _FRAME.id))
        .where(_FRAME.path.is_not(None), _FRAME.sha256.is_not(None), _FRAME.status != "superseded")
        .order_by(checked, _FRAME.id)
    )
    return [
        RegisteredRaw(number, words(path), words(sha256), size(bytes_of_file), size(changed_ns), words(when))
        for number, path, sha256, bytes_of_file, changed_ns, when in connection.execute(rows)
    ]


def note_check(connection: Connection, frame: int, damage: str = "") -> None:
    """Note that a raw file was read whole, and what is wrong with its content.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frame : int
        Id of the frame.
    damage : str
        One sentence; empty where it is as it was registered.
    """
    connection.execute(delete(table(FrameCheckRow)).where(_CHECK.frame_id == frame))
    changed_ns = connection.execute(select(_FRAME.changed_ns).where(_FRAME.id == frame)).scalar_one()
    row = {"frame_id": frame, "checked_at": now(), "changed_ns": changed_ns, "reason": damage}
    connection.execute(insert(table(FrameCheckRow)), row)
    replace_doubts(connection, frame, [Doubt("damaged", damage)] if damage else [], CONTENT)


def refuse_damaged_file(connection: Connection, path: str, damage: str) -> bool:
    """Refuse the frame of a file whose content turned out to be damaged when it was read for a job.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    path : str
        The file.
    damage : str
        What is wrong with it.

    Returns
    -------
    bool
        False where no current frame is of this file, as of a product.
    """
    current = select(_FRAME.id).where(_FRAME.path == path, _FRAME.status == "registered")
    frame = connection.execute(current).scalar()
    if frame is None:
        return False
    note_check(connection, frame, damage)
    refused = {"status": "refused", "reason": damage, "ungrouped": True}
    connection.execute(table(FrameRow).update().where(_FRAME.id == frame).values(refused))
    return True


def find_damage(connection: Connection, frames: Collection[int]) -> dict[int, str]:
    """Return what is wrong with the content of frames, as far as anybody has found.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    frames : collection of int
        Ids.

    Returns
    -------
    dict of int to str
        Sentences by id. A file that was touched since, as one that was restored is, counts as whole.
    """
    joined = table(FrameCheckRow).join(table(FrameRow), _CHECK.frame_id == _FRAME.id)
    holds = _CHECK.reason != "", _CHECK.changed_ns == _FRAME.changed_ns
    rows = select(_CHECK.frame_id, _CHECK.reason).select_from(joined).where(*holds)
    return {
        frame: reason
        for ids in batches(sorted(frames))
        for frame, reason in connection.execute(rows.where(_CHECK.frame_id.in_(ids)))
    }


def damage_of_known(connection: Connection, frame: int, changed_ns: int | None) -> str:
    """Return what is wrong with the content of a frame that is registered again; forget it of a file touched since.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frame : int
        Its id.
    changed_ns : int or None
        When its file was last changed, as it now is.

    Returns
    -------
    str
        A sentence, or nothing.
    """
    row = connection.execute(select(_CHECK.reason, _CHECK.changed_ns).where(_CHECK.frame_id == frame)).first()
    if row is None or not row.reason:
        return ""
    if row.changed_ns == changed_ns:
        return str(row.reason)
    note_check(connection, frame)
    return ""
