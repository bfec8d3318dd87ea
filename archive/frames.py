"""Frames come into the registry: new, known, duplicate, or a new version of a known path."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import Table, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from ccdflow.archive.database import now
from ccdflow.archive.models import Frame, FrameKeyword, table
from ccdflow.cascade.records import Value

Outcome = Literal["new", "known", "duplicate", "version"]
_T = TypeVar("_T")


@dataclass(frozen=True)
class NewFrame:
    """A frame as ingest describes it.

    `path` is None for a row of a catalogue. `changed_ns` is when the file was last changed, in nanoseconds
    since 1970-01-01 UTC (best its ctime, which nobody can set back). `refused` says why the frame can't be
    used; empty where it can. The other columns are as in `FrameRecord`.
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


@dataclass(frozen=True)
class Registered:
    """What became of a frame that was given to the registry.

    `of` is the frame that it duplicates, or whose newer version it is.
    """

    id: int
    outcome: Outcome
    of: int | None = None


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


def add_frame(session: Session, new: NewFrame, *, moves: bool) -> Registered:
    """Register a file."""
    if new.path is None or new.sha256 is None:
        raise ValueError(f"a file needs path and sha256, found {new.path!r} and {new.sha256!r}")
    here = _current(session, new.path)
    if here is not None and here.sha256 == new.sha256:
        if here.duplicate_of is not None and moves and _is_gone(session, here.duplicate_of):
            _take_over(session, here.id, here.duplicate_of)
            here = _current(session, new.path)
        _refresh(session, here.id, new)
        return Registered(here.id, "known", here.duplicate_of)
    if here is not None:
        session.execute(update(Frame).where(Frame.id == here.id).values(status="superseded", ungrouped=True))
        _promote_duplicate(session, here.id)
    original = _original(session, new.sha256)
    if original is not None and here is None and moves and not Path(original.path or "").exists():
        _refresh(session, original.id, new)
        return Registered(original.id, "known")
    version = 1 if here is None else here.version + 1
    made = _insert(session, new, version, None if original is None else original.id)
    if here is not None:
        session.execute(update(Frame).where(Frame.id == here.id).values(superseded_by=made))
    if original is not None:
        return Registered(made, "duplicate", original.id)
    return Registered(made, "new") if here is None else Registered(made, "version", here.id)


def _current(session: Session, path: str) -> Any:
    """The newest version of a path."""
    columns = select(Frame.id, Frame.sha256, Frame.version, Frame.duplicate_of)
    return session.execute(columns.where(Frame.path == path, Frame.status != "superseded")).one_or_none()


def _original(session: Session, sha256: str) -> Any:
    """The frame that holds this content, duplicates and superseded versions left out."""
    wanted = Frame.sha256 == sha256, Frame.status.in_(("registered", "refused"))
    return session.execute(select(Frame.id, Frame.path).where(*wanted)).one_or_none()


def _promote_duplicate(session: Session, superseded: int) -> None:
    """The content of a superseded frame may still stand under another name: that file takes its place."""
    copies = select(Frame.id, Frame.reason).where(
        Frame.duplicate_of == superseded, Frame.status == "duplicate"
    )
    found = session.execute(copies.order_by(Frame.id)).all()
    if not found:
        return
    first = found[0]
    status = "refused" if first.reason else "registered"
    values = {"status": status, "duplicate_of": None, "ungrouped": True}
    session.execute(update(Frame).where(Frame.id == first.id).values(**values))
    others = [one.id for one in found[1:]]
    session.execute(update(Frame).where(Frame.id.in_(others)).values(duplicate_of=first.id))


def _is_gone(session: Session, frame: int) -> bool:
    path = session.execute(select(Frame.path).where(Frame.id == frame)).scalar_one()
    return path is not None and not Path(path).exists()


def _take_over(session: Session, duplicate: int, original: int) -> None:
    """Let a duplicate stand for its content, since the file of the original is gone."""
    gone = {"status": "superseded", "superseded_by": duplicate, "ungrouped": True}
    session.execute(update(Frame).where(Frame.id == original).values(**gone))
    reason = session.execute(select(Frame.reason).where(Frame.id == duplicate)).scalar_one()
    here = {"status": "refused" if reason else "registered", "duplicate_of": None, "ungrouped": True}
    session.execute(update(Frame).where(Frame.id == duplicate).values(**here))
    others = update(Frame).where(Frame.duplicate_of == original, Frame.id != duplicate)
    session.execute(others.values(duplicate_of=duplicate))


def _insert(session: Session, new: NewFrame, version: int, duplicate_of: int | None) -> int:
    row = _row(new) | {"version": version, "duplicate_of": duplicate_of}
    if duplicate_of is not None:
        row |= {"status": "duplicate", "ungrouped": False}
    made = session.execute(insert(table(Frame)).values(row).returning(table(Frame).c.id)).scalar_one()
    _keep(session, [(made, new.keywords)])
    return int(made)


def _refresh(session: Session, frame: int, new: NewFrame) -> None:
    """Take over what is now said of a known frame: its place, its time on disk, what its header means."""
    row = _row(new)
    status = row.pop("status")
    del row["registered_at"]
    before = session.execute(select(table(Frame)).where(Frame.id == frame)).one()._mapping
    if before["status"] != "duplicate":
        row["status"] = status
    changed = {name: value for name, value in row.items() if before[name] != value}
    regroup = changed.keys() - {"path", "size", "changed_ns", "reason"}
    if regroup and before["status"] != "duplicate":
        changed["ungrouped"] = True
    if changed:
        session.execute(update(table(Frame)).where(Frame.id == frame).values(changed))
    _keep(session, [(frame, new.keywords)])


def _row(new: NewFrame) -> dict[str, Any]:
    """A row of the table, without version."""
    described = {name: _clean(getattr(new, name)) for name in _DESCRIBED}
    return described | {
        "path": new.path,
        "sha256": new.sha256,
        "size": new.size,
        "changed_ns": new.changed_ns,
        "class": _clean(new.frame_class),
        "status": "refused" if new.refused else "registered",
        "reason": _clean(new.refused),
        "registered_at": now(),
    }


def _clean(value: _T) -> _T | str | None:
    """A value that every database takes: PostgreSQL has no text with NUL, SQLite no NaN."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def ignoring(session: Session, into: Table) -> Any:
    """An insert that passes over rows that are there already."""
    return _dialect_insert(session, into).on_conflict_do_nothing()


def replacing(session: Session, into: Table, *columns: str) -> Any:
    """An insert that replaces `columns` of rows that are there already (those with the same primary key)."""
    statement = _dialect_insert(session, into)
    new = {name: statement.excluded[name] for name in columns}
    return statement.on_conflict_do_update(index_elements=list(into.primary_key.columns), set_=new)


def _dialect_insert(session: Session, into: Table) -> Any:
    name = session.get_bind().dialect.name
    return postgresql.insert(into) if name == "postgresql" else sqlite.insert(into)


def _keep(session: Session, frames: Iterable[tuple[int, Mapping[str, Value]]]) -> None:
    rows = [row for frame, keywords in frames for row in _keyword_rows(frame, keywords)]
    if rows:
        session.execute(replacing(session, table(FrameKeyword), "value", "number"), rows)


def _keyword_rows(frame: int, keywords: Mapping[str, Value]) -> Iterator[dict[str, Any]]:
    for name, value in keywords.items():
        written, number = write_value(value)
        yield {"frame_id": frame, "name": _clean(name), "value": written, "number": number}


def write_value(value: Value) -> tuple[str, float | None]:
    """The value of a keyword as text and, where it is one, as a number."""
    if isinstance(value, bool):
        return "T" if value else "F", float(value)
    if isinstance(value, str):
        return value.replace("\0", ""), None
    return repr(value), float(value) if math.isfinite(value) else None


def read_value(written: str, number: float | None) -> Value:
    """The value that `write_value` wrote; of a row that someone else wrote, the number if it has one."""
    if number is None:
        return written
    if written in ("T", "F"):
        return written == "T"
    try:
        return int(written)
    except ValueError:
        return number


def add_catalogue(session: Session, rows: Sequence[NewFrame]) -> int:
    """Register rows without files; those that are there already are passed over. Gives how many were new."""
    frame = table(Frame)
    wanted = [_row(one) | {"path": None, "version": 1} for one in rows]
    identity = (frame.c.telescope, frame.c.camera, frame.c.instrument, frame.c.obsdate, frame.c.iobs)
    # Of rows of one identity in one batch, the first counts.
    by_identity = {
        _identity(row): (row, one.keywords) for row, one in reversed(list(zip(wanted, rows, strict=True)))
    }
    unique = [row for row, _ in reversed(by_identity.values())]
    made = session.execute(ignoring(session, frame).returning(frame.c.id, *identity), unique).all()
    _keep(session, ((one[0], by_identity[_key(one[1:])][1]) for one in made))
    return len(made)


def _identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return _key([row[name] for name in ("telescope", "camera", "instrument", "obsdate", "iobs")])


def _key(parts: Sequence[Any]) -> tuple[Any, ...]:
    return (*parts[:4], parts[4] or 0)


def batches(rows: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """`rows` in lists of at most `size`."""
    source = iter(rows)
    while batch := list(islice(source, size)):
        yield batch


def known_file(session: Session, path: str, size: int, changed_ns: int) -> int | None:
    """The frame of a file that has not been touched, told by size and time alone."""
    wanted = (
        Frame.path == path,
        Frame.size == size,
        Frame.changed_ns == changed_ns,
        Frame.status != "superseded",
    )
    return session.execute(select(Frame.id).where(*wanted)).scalar_one_or_none()


def files(session: Session) -> list[tuple[str, int, int]]:
    """Path, size and time of the newest version of each file."""
    columns = select(Frame.path, Frame.size, Frame.changed_ns).order_by(Frame.path)
    rows = session.execute(columns.where(Frame.path.is_not(None), Frame.status != "superseded"))
    return [(path or "", size or 0, changed_ns or 0) for path, size, changed_ns in rows]
