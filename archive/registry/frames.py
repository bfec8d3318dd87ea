"""Frames come into the registry: new, known, duplicate, or a new version of a known path."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    Dialect,
    Double,
    Integer,
    Table,
    Text,
    TextClause,
    bindparam,
    cast,
    column,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.tables import CURRENT, ORIGINAL, PENDING, FrameKeywordRow, FrameRow, table
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


BANNED = "banned: "
"""How the reason of a frame begins that somebody has banned."""

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


# The conditions stand there as the indexes have them: behind bound values SQLite does not see its indexes.
_FOUND = text(f"""
    SELECT 1 AS by_path, id, path, sha256, version, duplicate_of
    FROM frame WHERE path = :path AND {CURRENT}
    UNION ALL
    SELECT 0, id, path, sha256, version, duplicate_of
    FROM frame WHERE sha256 = :sha256 AND {ORIGINAL}
""")
_INSERT = insert(table(FrameRow)).returning(table(FrameRow).c.id)


def add_frame(connection: Connection, new: NewFrame, *, moves: bool = True) -> Registered:
    """Register a file."""
    if new.path is None or new.sha256 is None:
        raise ValueError(f"a file needs path and sha256, found {new.path!r} and {new.sha256!r}")
    here, original = _found(connection, new)
    if here is not None and here.sha256 is None:
        return _describe(connection, here.id, new, None if original is None else original.id)
    if here is not None and here.sha256 == new.sha256:
        if here.duplicate_of is not None and moves and _is_gone(connection, here.duplicate_of):
            _take_over(connection, here.id, here.duplicate_of)
            here, _ = _found(connection, new)
        _refresh(connection, here.id, new)
        return Registered(here.id, "known", here.duplicate_of)
    if here is not None:
        connection.execute(
            update(FrameRow).where(FrameRow.id == here.id).values(status="superseded", ungrouped=True)
        )
        _promote_duplicate(connection, here.id)
        _, original = _found(connection, new)
    if original is not None and here is None and moves and not Path(original.path or "").exists():
        _refresh(connection, original.id, new)
        return Registered(original.id, "known")
    version = 1 if here is None else here.version + 1
    made = _insert(connection, new, version, None if original is None else original.id)
    if here is not None:
        connection.execute(update(FrameRow).where(FrameRow.id == here.id).values(superseded_by=made))
    if original is not None:
        return Registered(made, "duplicate", original.id)
    return Registered(made, "new") if here is None else Registered(made, "version", here.id)


def _describe(connection: Connection, frame: int, new: NewFrame, original: int | None) -> Registered:
    """Fill in a row that another program has inserted; what its header leaves blank stays as the row has it."""
    before = connection.execute(select(table(FrameRow)).where(FrameRow.id == frame)).one()._mapping
    row = _row(new)
    del row["registered_at"]
    told = {name: value for name, value in row.items() if value not in ("", None)}
    if new.frame_class == "unclassified" and before["class"] != "unclassified":
        del told["class"]
    told |= {"status": row["status"], "reason": row["reason"], "ungrouped": True}
    if original is not None:
        told |= {"status": "duplicate", "duplicate_of": original, "ungrouped": False}
    connection.execute(update(table(FrameRow)).where(FrameRow.id == frame).values(told))
    _keep(connection, [(frame, new.keywords)])
    return Registered(frame, "new" if original is None else "duplicate", original)


def pending_frames(connection: Connection, limit: int = 1000, after: int = 0) -> list[tuple[int, str, str]]:
    """Id, path and time of rows behind `after` that others have inserted, whose files have not been read yet."""
    columns = select(FrameRow.id, FrameRow.path, FrameRow.registered_at).where(
        text(PENDING), FrameRow.id > after
    )
    rows = connection.execute(columns.order_by(FrameRow.id).limit(limit))
    return [(frame, path or "", registered) for frame, path, registered in rows]


def refuse_frame(connection: Connection, frame: int, reason: str) -> None:
    """Say why a frame can't be used."""
    wanted = update(FrameRow).where(FrameRow.id == frame)
    connection.execute(wanted.values(status="refused", reason=reason, ungrouped=True))


def _found(connection: Connection, new: NewFrame) -> tuple[Any, Any]:
    """The newest version of the path, and the frame that holds the content; None where there is none.

    Duplicates and superseded versions don't hold a content.
    """
    found = {row.by_path: row for row in connection.execute(_FOUND, {"path": new.path, "sha256": new.sha256})}
    return found.get(1), found.get(0)


def _promote_duplicate(connection: Connection, superseded: int) -> None:
    """The content of a superseded frame may still stand under another name: that file takes its place."""
    copies = select(FrameRow.id, FrameRow.reason).where(
        FrameRow.duplicate_of == superseded, FrameRow.status == "duplicate"
    )
    found = connection.execute(copies.order_by(FrameRow.id)).all()
    if not found:
        return
    first = found[0]
    status = "refused" if first.reason else "registered"
    values = {"status": status, "duplicate_of": None, "ungrouped": True}
    connection.execute(update(FrameRow).where(FrameRow.id == first.id).values(**values))
    others = [one.id for one in found[1:]]
    connection.execute(update(FrameRow).where(FrameRow.id.in_(others)).values(duplicate_of=first.id))


def _is_gone(connection: Connection, frame: int) -> bool:
    path = connection.execute(select(FrameRow.path).where(FrameRow.id == frame)).scalar_one()
    return path is not None and not Path(path).exists()


def _take_over(connection: Connection, duplicate: int, original: int) -> None:
    """Let a duplicate stand for its content, since the file of the original is gone."""
    gone = {"status": "superseded", "superseded_by": duplicate, "ungrouped": True}
    connection.execute(update(FrameRow).where(FrameRow.id == original).values(**gone))
    reason = connection.execute(select(FrameRow.reason).where(FrameRow.id == duplicate)).scalar_one()
    here = {"status": "refused" if reason else "registered", "duplicate_of": None, "ungrouped": True}
    connection.execute(update(FrameRow).where(FrameRow.id == duplicate).values(**here))
    others = update(FrameRow).where(FrameRow.duplicate_of == original, FrameRow.id != duplicate)
    connection.execute(others.values(duplicate_of=duplicate))


def _insert(connection: Connection, new: NewFrame, version: int, duplicate_of: int | None) -> int:
    row = _row(new) | {"version": version, "duplicate_of": duplicate_of}
    if duplicate_of is not None:
        row |= {"status": "duplicate", "ungrouped": False}
    made = connection.execute(_INSERT, row).scalar_one()
    _keep(connection, [(made, new.keywords)])
    return int(made)


def _refresh(connection: Connection, frame: int, new: NewFrame) -> None:
    """Take over what is now said of a known frame: its place, its time on disk, what its header means."""
    row = _row(new)
    status = row.pop("status")
    del row["registered_at"]
    before = connection.execute(select(table(FrameRow)).where(FrameRow.id == frame)).one()._mapping
    if before["status"] == "refused" and before["reason"].startswith(BANNED.rstrip(": ")):
        del row["reason"]
    elif before["status"] != "duplicate":
        row["status"] = status
    changed = {name: value for name, value in row.items() if before[name] != value}
    regroup = changed.keys() - {"path", "size", "changed_ns", "reason"}
    if regroup and before["status"] != "duplicate":
        changed["ungrouped"] = True
    if changed:
        connection.execute(update(table(FrameRow)).where(FrameRow.id == frame).values(changed))
    _keep(connection, [(frame, _unknown_keywords(connection, frame, new.keywords))])


def _unknown_keywords(connection: Connection, frame: int, keywords: Mapping[str, Value]) -> dict[str, Value]:
    """Those keywords of a frame that are not known, or not with these values."""
    columns = select(FrameKeywordRow.name, FrameKeywordRow.value, FrameKeywordRow.number)
    rows = connection.execute(columns.where(FrameKeywordRow.frame_id == frame))
    known = {name: (value, number) for name, value, number in rows}
    return {name: value for name, value in keywords.items() if known.get(name) != write_value(value)}


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


def ignoring(connection: Connection, into: Table) -> Any:
    """An insert that passes over rows that are there already."""
    return _ignoring(_dialect(connection), into)


def replace_rows(connection: Connection, into: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that name the same columns, also over those that are there already with the same primary key."""
    if rows:
        connection.execute(_replacing(into, tuple(rows[0])), rows)


def _dialect(connection: Connection) -> str:
    return connection.dialect.name


# Remembered, since making a statement takes longer than running it.
@lru_cache
def _ignoring(dialect: str, into: Table) -> Any:
    return _insert_into(dialect, into).on_conflict_do_nothing()


@lru_cache
def _replacing(into: Table, names: tuple[str, ...]) -> TextClause:
    values = ", ".join(f":{name}" for name in names)
    given = [bindparam(name, type_=into.c[name].type) for name in names]
    return text(_replaced(into, names, f"VALUES ({values})")).bindparams(*given)


def _replaced(into: Table, names: Sequence[str], source: str) -> str:
    """In words, since SQLAlchemy makes a statement with ON CONFLICT anew each time."""
    keys = list(into.primary_key.columns.keys())
    new = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
    return f"INSERT INTO {into.name} ({', '.join(names)}) {source} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {new}"


def _insert_into(dialect: str, into: Table) -> Any:
    return postgresql.insert(into) if dialect == "postgresql" else sqlite.insert(into)


@lru_cache
def _from_json(into: Table, names: tuple[str, ...]) -> Any:
    """An insert of many rows, given as the JSON text `rows`.

    PostgreSQL takes it several times faster than as many values: it is read, planned and answered once.
    """
    typed = [column(name, _bare(into.c[name].type)) for name in names]
    given = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON)).table_valued(*typed)
    given = given.render_derived(with_types=True)
    return postgresql.insert(into).from_select(names, select(*[given.c[name] for name in names]))


def _bare(of: TypeEngine[Any]) -> TypeEngine[Any]:
    if isinstance(of, Integer):
        return BigInteger()
    return Double() if isinstance(of, Double) else Text()


def _keep(connection: Connection, frames: Iterable[tuple[int, Mapping[str, Value]]]) -> None:
    rows = [row for frame, keywords in frames for row in _keyword_rows(frame, keywords)]
    if not rows:
        return
    if _dialect(connection) != "postgresql":
        replace_rows(connection, table(FrameKeywordRow), rows)
        return
    # One statement may not name a row twice.
    single = list({(row["frame_id"], row["name"]): row for row in rows}.values())
    connection.execute(
        _replacing_json(connection.dialect, table(FrameKeywordRow), tuple(rows[0])),
        {"rows": json.dumps(single)},
    )


@lru_cache
def _replacing_json(dialect: Dialect, into: Table, names: tuple[str, ...]) -> TextClause:
    typed = ", ".join(f"{name} {_bare(into.c[name].type).compile(dialect)}" for name in names)
    given = f"json_to_recordset(CAST(:rows AS json)) AS given({typed})"
    return text(_replaced(into, names, f"SELECT {', '.join(names)} FROM {given}"))


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
    if not number.is_integer():
        return number
    if written in ("T", "F"):
        return written == "T"
    try:
        return int(written)
    except ValueError:
        return number


def add_catalogue_rows(connection: Connection, rows: Sequence[NewFrame]) -> int:
    """Register rows without files; those that are there already are passed over. Gives how many were new."""
    frame = table(FrameRow)
    wanted = [_row(one) | {"path": None, "version": 1} for one in rows]
    identity = (frame.c.telescope, frame.c.camera, frame.c.instrument, frame.c.obsdate, frame.c.iobs)
    # Of rows of one identity in one batch, the first counts.
    by_identity = {
        _identity(row): (row, one.keywords) for row, one in reversed(list(zip(wanted, rows, strict=True)))
    }
    unique = [row for row, _ in reversed(by_identity.values())]
    if _dialect(connection) == "postgresql":
        statement = _from_json(frame, tuple(unique[0])).on_conflict_do_nothing()
        made = connection.execute(
            statement.returning(frame.c.id, *identity), {"rows": json.dumps(unique)}
        ).all()
    else:
        made = connection.execute(ignoring(connection, frame).returning(frame.c.id, *identity), unique).all()
    _keep(connection, ((one[0], by_identity[_key(one[1:])][1]) for one in made))
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


def registered_files(connection: Connection) -> list[tuple[str, int, int]]:
    """Path, size and time of the newest version of each file."""
    columns = select(FrameRow.path, FrameRow.size, FrameRow.changed_ns).order_by(FrameRow.path)
    rows = connection.execute(columns.where(FrameRow.path.is_not(None), FrameRow.status != "superseded"))
    return [(path or "", size or 0, changed_ns or 0) for path, size, changed_ns in rows]
