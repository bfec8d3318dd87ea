"""Files come into the registry: a new frame, a known one, a duplicate, or a new version of a known file.

A row of the table ``frame`` is a path with one content (its sha256). Two rules hold among the rows, each by a unique
index: of each path one row is current (`tables.CURRENT`), and each content is held by one row (`tables.ORIGINAL`).

- Another content at a known path is a new version: a new row; the old one is superseded by it, and keeps its id.
- A known content at another path is a duplicate of the row that holds it, and is not reduced a second time.
- Where the file of the row that holds a content is gone, that file was moved: the row takes the new path. If the new
  path has a row already, as a duplicate, that row holds the content from then on, and supersedes the old one.
- Where the file of that row was overwritten, its oldest duplicate holds the content from then on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, text, update

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames.checks import damage_of_known
from ccdflow.archive.registry.frames.doubts import add_doubts, find_doubts, replace_doubts
from ccdflow.archive.registry.frames.keywords import changed_keywords, keep_keywords, storable
from ccdflow.archive.registry.tables import CURRENT, ORIGINAL, PENDING, FrameKeywordRow, FrameRow, table
from ccdflow.cascade.headers.finished import PROCESSED
from ccdflow.cascade.records import DONE_BEFORE, Doubt, Value

Registration = Literal["new", "known", "duplicate", "version"]


@dataclass(frozen=True)
class NewFrame:
    """A frame as ingest describes it, file or not.

    `path` is None for a row of a catalogue. `changed_ns` is when the file was last changed, in nanoseconds
    since 1970-01-01 UTC (best its ctime, which nobody can set back). `refused` says why the frame can't be
    used; empty where it can; `processed` by what it is finished already; `doubts` what is odd about it. The other
    columns are as in `FrameRecord`.
    """

    path: str | None = None
    sha256: str | None = None
    size: int | None = None
    changed_ns: int | None = None
    frame_class: str = "unclassified"
    telescope: str = ""
    camera: str = ""
    instrument: str = ""
    filter: str = ""
    object: str = ""
    exptime: float | None = None
    obsdate: str = ""
    iobs: int | None = None
    nobs: int | None = None
    night: str = ""
    keywords: Mapping[str, Value] = field(default_factory=dict)
    refused: str = ""
    processed: str = ""
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True)
class Registered:
    """What became of a file that was given to the registry.

    `of` is the frame that it duplicates, or whose newer version it is; `processed` says by what it is finished already,
    and is blank for one that is used.
    """

    id: int
    outcome: Registration
    of: int | None = None
    processed: str = ""


BANNED = "banned: "
"""The beginning of the reason of a frame that somebody has banned."""
ENTERS = "enters"
"""Keyword of a frame that is finished and taken all the same: the task that somebody named for it."""

_DESCRIBED = (
    "telescope",
    "camera",
    "instrument",
    "filter",
    "object",
    "exptime",
    "obsdate",
    "iobs",
    "nobs",
    "night",
)
"""Columns that have the same name in `NewFrame` and in the table."""

# Both rows that matter in one question. The conditions stand there as the indexes have them: behind bound values SQLite
# does not see its indexes.
_LOOK_UP = text(f"""
    SELECT 1 AS by_path, id, path, sha256, version, duplicate_of
    FROM frame WHERE path = :path AND {CURRENT}
    UNION ALL
    SELECT 0, id, path, sha256, version, duplicate_of
    FROM frame WHERE sha256 = :sha256 AND {ORIGINAL}
""")
_INSERT = insert(table(FrameRow)).returning(table(FrameRow).c.id)


def add_frame(connection: Connection, new: NewFrame, *, moves: bool = True) -> Registered:
    """Register a file.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    new : NewFrame
        The file, with path and sha256.
    moves : bool
        Whether a known content at a new path may be a file that was moved, where the old path has none any more.
        Without it, it is a duplicate.

    Returns
    -------
    Registered
        The row that stands for the file now, and what became of it.

    Raises
    ------
    ValueError
        If the file has no path or no sha256.
    """
    if new.path is None or new.sha256 is None:
        raise ValueError(f"a file needs path and sha256, found {new.path!r} and {new.sha256!r}")
    at_path, original = _look_up(connection, new)
    if at_path is not None and at_path.sha256 is None:
        return _describe(connection, at_path.id, new, None if original is None else original.id)
    if at_path is not None and at_path.sha256 == new.sha256:
        return _see_again(connection, at_path, new, moves=moves)
    if at_path is not None:
        # Before the new row, of which there may be only one for the path and one for the content.
        old = update(FrameRow).where(FrameRow.id == at_path.id)
        connection.execute(old.values(status="superseded", ungrouped=True))
        _promote_duplicate(connection, at_path.id)
        # The old row may have held the content that the file has again; then nothing holds it now, or a duplicate.
        _, original = _look_up(connection, new)
    if original is not None and at_path is None and moves and not Path(original.path or "").exists():
        return Registered(original.id, "known", processed=_refresh(connection, original.id, new))
    version = 1 if at_path is None else at_path.version + 1
    frame = _insert(connection, new, version, None if original is None else original.id)
    if at_path is not None:
        connection.execute(update(FrameRow).where(FrameRow.id == at_path.id).values(superseded_by=frame))
    if original is not None:
        return Registered(frame, "duplicate", original.id)
    if at_path is None:
        return Registered(frame, "new", processed=new.processed)
    return Registered(frame, "version", at_path.id, new.processed)


def _look_up(connection: Connection, new: NewFrame) -> tuple[Any, Any]:
    """The current row of the path, and the row that holds the content; None where there is none.

    Duplicates and superseded versions don't hold a content.
    """
    rows = connection.execute(_LOOK_UP, {"path": new.path, "sha256": new.sha256})
    by_path = {row.by_path: row for row in rows}
    return by_path.get(1), by_path.get(0)


def _see_again(connection: Connection, at_path: Any, new: NewFrame, *, moves: bool) -> Registered:
    """A file that is known, with this content, at this path."""
    if at_path.duplicate_of is not None and moves and _is_gone(connection, at_path.duplicate_of):
        _take_over(connection, at_path.id, at_path.duplicate_of)
        at_path, _ = _look_up(connection, new)
    processed = _refresh(connection, at_path.id, new)
    return Registered(at_path.id, "known", at_path.duplicate_of, processed)


def _describe(connection: Connection, frame: int, new: NewFrame, original: int | None) -> Registered:
    """Fill in a row that another program has inserted; what its header leaves blank stays as the row has it."""
    before = connection.execute(select(table(FrameRow)).where(FrameRow.id == frame)).one()._mapping
    row = frame_row(new)
    del row["registered_at"]
    values = {name: value for name, value in row.items() if value not in ("", None)}
    if new.frame_class == "unclassified" and before["class"] != "unclassified":
        del values["class"]
    values |= {"status": row["status"], "reason": row["reason"], "ungrouped": True}
    if original is not None:
        values |= {"status": "duplicate", "duplicate_of": original, "ungrouped": False}
    connection.execute(update(table(FrameRow)).where(FrameRow.id == frame).values(values))
    keep_keywords(connection, [(frame, new.keywords)])
    replace_doubts(connection, frame, new.doubts)
    return (
        Registered(frame, "new", None, new.processed)
        if original is None
        else Registered(frame, "duplicate", original)
    )


def _promote_duplicate(connection: Connection, superseded: int) -> None:
    """The content of a superseded frame may still stand under another name: that file takes its place."""
    copies = select(FrameRow.id, FrameRow.reason).where(
        FrameRow.duplicate_of == superseded, FrameRow.status == "duplicate"
    )
    duplicates = connection.execute(copies.order_by(FrameRow.id)).all()
    if not duplicates:
        return
    oldest = duplicates[0]
    values = {"status": _status_by(oldest.reason), "duplicate_of": None, "ungrouped": True}
    connection.execute(update(FrameRow).where(FrameRow.id == oldest.id).values(**values))
    others = [duplicate.id for duplicate in duplicates[1:]]
    connection.execute(update(FrameRow).where(FrameRow.id.in_(others)).values(duplicate_of=oldest.id))


def _status_by(reason: str) -> str:
    """Status of a duplicate that counts from now on: it keeps in its reason why it could not be used."""
    if not reason:
        return "registered"
    return "processed" if reason.startswith(PROCESSED) else "refused"


def _is_gone(connection: Connection, frame: int) -> bool:
    path = connection.execute(select(FrameRow.path).where(FrameRow.id == frame)).scalar_one()
    return path is not None and not Path(path).exists()


def _take_over(connection: Connection, duplicate: int, original: int) -> None:
    """Let a duplicate stand for its content, since the file of the original is gone."""
    # The original first: two rows that hold one content are refused by uq_frame_content.
    gone = {"status": "superseded", "superseded_by": duplicate, "ungrouped": True}
    connection.execute(update(FrameRow).where(FrameRow.id == original).values(**gone))
    reason = connection.execute(select(FrameRow.reason).where(FrameRow.id == duplicate)).scalar_one()
    promoted = {"status": _status_by(reason), "duplicate_of": None, "ungrouped": True}
    connection.execute(update(FrameRow).where(FrameRow.id == duplicate).values(**promoted))
    others = update(FrameRow).where(FrameRow.duplicate_of == original, FrameRow.id != duplicate)
    connection.execute(others.values(duplicate_of=duplicate))


def _insert(connection: Connection, new: NewFrame, version: int, duplicate_of: int | None) -> int:
    row = frame_row(new) | {"version": version, "duplicate_of": duplicate_of}
    if duplicate_of is not None:
        row |= {"status": "duplicate", "ungrouped": False}
    frame = connection.execute(_INSERT, row).scalar_one()
    keep_keywords(connection, [(frame, new.keywords)])
    add_doubts(connection, [(frame, new.doubts)])
    return int(frame)


def _refresh(connection: Connection, frame: int, new: NewFrame) -> str:
    """Take over what is now said of a known frame: its place, its time on disk, what its header means.

    Returns by what it is finished already; nothing for one that is used.
    """
    before = connection.execute(select(table(FrameRow)).where(FrameRow.id == frame)).one()._mapping
    if new.processed and before["status"] == "registered":
        new = _still_taken(connection, frame, new)
    # What reading its pixels has told is not in its header: ingest can't see it, and must not forget it.
    if damage := damage_of_known(connection, frame, new.changed_ns):
        new = replace(new, refused=damage)
    row = frame_row(new)
    status = row.pop("status")
    del row["registered_at"]
    # A ban is a human's word and outlives what ingest says; a duplicate stays one.
    if before["status"] == "refused" and before["reason"].startswith(BANNED.rstrip(": ")):
        del row["reason"]
    elif before["status"] != "duplicate":
        row["status"] = status
    changed = {name: value for name, value in row.items() if before[name] != value}
    # Where the file lies and when it was touched means nothing to grouping.
    regroup = changed.keys() - {"path", "size", "changed_ns", "reason"}
    if regroup and before["status"] != "duplicate":
        changed["ungrouped"] = True
    if changed:
        connection.execute(update(table(FrameRow)).where(FrameRow.id == frame).values(changed))
    keep_keywords(connection, [(frame, changed_keywords(connection, frame, new.keywords))])
    replace_doubts(connection, frame, new.doubts)
    return "" if before["status"] == "duplicate" else new.processed


def _still_taken(connection: Connection, frame: int, new: NewFrame) -> NewFrame:
    """Keep a finished frame in use where somebody has said so: a word that outlives an ingest without it."""
    # Only a frame that was taken has these keywords; one of a project from before has none, and is used no longer.
    taken = FrameKeywordRow.frame_id == frame, FrameKeywordRow.name.in_((ENTERS, DONE_BEFORE))
    rows = connection.execute(select(FrameKeywordRow.name, FrameKeywordRow.value).where(*taken))
    said = {name: value for name, value in rows}
    if ENTERS not in said:
        return new
    kept = find_doubts(connection, [frame]).get(frame, ())
    return replace(new, processed="", keywords={**new.keywords, **said}, doubts=kept)


def frame_row(new: NewFrame) -> dict[str, Any]:
    """Return the row of a frame that is registered now.

    Parameters
    ----------
    new : NewFrame
        The frame.

    Returns
    -------
    dict of str to object
        Values by column; without version, and without what the row has to do with other rows.
    """
    described = {name: storable(getattr(new, name)) for name in _DESCRIBED}
    return described | {
        "path": new.path,
        "sha256": new.sha256,
        "size": new.size,
        "changed_ns": new.changed_ns,
        "class": storable(new.frame_class),
        "status": "processed" if new.processed else "refused" if new.refused else "registered",
        "reason": storable(new.processed or new.refused),
        "registered_at": now(),
    }


def pending_frames(connection: Connection, limit: int = 1000, after: int = 0) -> list[tuple[int, str, str]]:
    """Return rows that other programs have inserted, whose files have not been read yet.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    limit : int
        The most rows.
    after : int
        Only rows with higher ids, to go on where the last answer ended.

    Returns
    -------
    list of tuple of int, str and str
        Id, path and time of registration (ISO UTC) of each, by id.
    """
    columns = select(FrameRow.id, FrameRow.path, FrameRow.registered_at).where(
        text(PENDING), FrameRow.id > after
    )
    rows = connection.execute(columns.order_by(FrameRow.id).limit(limit))
    return [(frame, path or "", registered_at) for frame, path, registered_at in rows]


def refuse_frame(connection: Connection, frame: int, reason: str) -> None:
    """Record that a frame can't be used.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frame : int
        Its id.
    reason : str
        Why, in one sentence.
    """
    row = update(FrameRow).where(FrameRow.id == frame)
    connection.execute(row.values(status="refused", reason=reason, ungrouped=True))


def registered_files(connection: Connection) -> list[tuple[str, int, int]]:
    """Return the newest version of each file, so that ingest need not read what has not changed.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.

    Returns
    -------
    list of tuple of str, int and int
        Path, size in bytes and time of the last change (ns since 1970-01-01 UTC) of each, by path; 0 for what is not
        known of a file that has not been read yet.
    """
    columns = select(FrameRow.path, FrameRow.size, FrameRow.changed_ns).order_by(FrameRow.path)
    rows = connection.execute(columns.where(FrameRow.path.is_not(None), FrameRow.status != "superseded"))
    return [(path or "", size or 0, changed_ns or 0) for path, size, changed_ns in rows]
