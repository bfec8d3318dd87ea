"""Frames are read from the registry: by filter, in the order of a stream, as rows for people."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Select,
    and_,
    func,
    or_,
    select,
    text,
)

from ccdflow.archive.registry.frames import batches, read_value
from ccdflow.archive.registry.stages import stages_of
from ccdflow.archive.registry.tables import (
    FrameKeywordRow,
    FrameRow,
    FrameSetRow,
    FrameStageRow,
    SetMemberRow,
)
from ccdflow.cascade.records import STAGES, FrameRecord, Value
from ccdflow.cascade.sequences.statemachine import OrderKey, Stream, sequence_position

_BATCH = 10_000  # rows taken from the driver at once
_MANY = 5000  # values in one statement; SQLite takes 32766

_COLUMNS = (
    FrameRow.id,
    FrameRow.frame_class,
    FrameRow.telescope,
    FrameRow.camera,
    FrameRow.instrument,
    FrameRow.filter,
    FrameRow.object,
    FrameRow.exptime,
    FrameRow.obsdate,
    FrameRow.iobs,
    FrameRow.nobs,
    FrameRow.night,
    FrameRow.sha256,
    FrameRow.path,
)


@dataclass(frozen=True)
class FrameFilter:
    """Which frames; what is None does not matter.

    `status` is by default what grouping sees: duplicates and superseded versions are left out. `camera` is
    CAMERA or TELESCOPE/CAMERA; `since` and `until` are ISO times that belong to the range. `keywords` names
    those that the frames shall come with, which takes less time than all. `nights` names the earliest night by
    class; of classes that it does not name, all.
    """

    status: Collection[str] | None = ("registered", "refused")
    classes: Collection[str] | None = None
    night: str | None = None
    camera: str | None = None
    since: str | None = None
    until: str | None = None
    ids: Collection[int] | None = None
    keywords: Collection[str] | None = None
    nights: Mapping[str, str] = field(default_factory=dict)


ALL_FRAMES = FrameFilter()
"""Selects every frame that grouping sees."""


def _conditions(wanted: FrameFilter) -> list[ColumnElement[bool]]:
    tests: list[ColumnElement[bool]] = []
    if wanted.status is not None:
        tests.append(FrameRow.status.in_(wanted.status))
    if wanted.classes is not None:
        tests.append(FrameRow.frame_class.in_(wanted.classes))
    if wanted.night is not None:
        tests.append(FrameRow.night == wanted.night)
    if wanted.since is not None:
        tests.append(FrameRow.obsdate >= wanted.since)
    if wanted.until is not None:
        tests.append(FrameRow.obsdate <= wanted.until)
    if wanted.camera is not None:
        tests.append(is_camera(wanted.camera))
    if wanted.nights:
        recent = [
            and_(FrameRow.frame_class == name, FrameRow.night >= night)
            for name, night in wanted.nights.items()
        ]
        tests.append(or_(*recent, FrameRow.frame_class.not_in(wanted.nights)))
    return tests


def is_camera(name: str) -> ColumnElement[bool]:
    """Whether a frame is of a camera, written CAMERA or TELESCOPE/CAMERA."""
    telescope, _, camera = name.rpartition("/")
    return or_(FrameRow.camera == name, and_(FrameRow.telescope == telescope, FrameRow.camera == camera))


def _selections(wanted: FrameFilter) -> Iterator[list[ColumnElement[bool]]]:
    """The conditions of one statement or, for many ids, of several."""
    if wanted.ids is None:
        yield _conditions(wanted)
        return
    for some in batches(sorted(set(wanted.ids)), _MANY):
        yield [*_conditions(wanted), FrameRow.id.in_(some)]


def find_frames(connection: Connection, wanted: FrameFilter = ALL_FRAMES) -> list[FrameRecord]:
    """The frames that `wanted` selects, by time, each with its keywords or those that are wanted."""
    found: list[FrameRecord] = []
    for tests in _selections(wanted):
        kept: dict[int, dict[str, Value]] = {}
        if wanted.keywords is None or wanted.keywords:
            kept = _keywords(connection, select(FrameRow.id).where(*tests), wanted.keywords)
        found += _records(connection, select(*_COLUMNS, FrameRow.status, FrameRow.reason).where(*tests), kept)
    return sorted(found, key=order_of)


def _tuples(connection: Connection, statement: Executable) -> Iterator[tuple[Any, ...]]:
    """Rows as the driver gives them: of many, SQLAlchemy's own take longer to make than the driver's to read."""
    with connection.execute(statement) as result:
        while some := result.cursor.fetchmany(_BATCH):
            yield from some


def _keywords(
    connection: Connection, of: Select[Any], names: Collection[str] | None = None
) -> dict[int, dict[str, Value]]:
    columns = select(
        FrameKeywordRow.frame_id, FrameKeywordRow.name, FrameKeywordRow.value, FrameKeywordRow.number
    )
    columns = columns.where(FrameKeywordRow.frame_id.in_(of))
    if names is not None:
        columns = columns.where(FrameKeywordRow.name.in_(names))
    kept: dict[int, dict[str, Value]] = defaultdict(dict)
    shared: dict[str, str] = {}  # one text for what thousands of frames have in common
    for frame, name, value, number in _tuples(connection, columns):
        name = shared.setdefault(name, name)
        if number is None:
            kept[frame][name] = shared.setdefault(value, value)
        else:
            kept[frame][name] = read_value(value, number)
    return kept


def keywords_of(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Value]]:
    """All keywords of frames, by id."""
    kept: dict[int, dict[str, Value]] = {}
    for some in batches(ids, _MANY):
        kept |= _keywords(connection, select(FrameRow.id).where(FrameRow.id.in_(some)))
    return kept


def _records(
    connection: Connection, statement: Executable, kept: dict[int, dict[str, Value]]
) -> Iterator[FrameRecord]:
    for row in _tuples(connection, statement):
        yield _record(row, kept)


def _record(row: Sequence[Any], kept: dict[int, dict[str, Value]]) -> FrameRecord:
    refused = row[-1] or "refused" if row[-2] == "refused" else ""
    return FrameRecord(*[*row[:-2], kept.get(row[0], {}), refused])


def stream_is(stream: Stream) -> ColumnElement[bool]:
    """Whether a frame belongs to a stream."""
    telescope, camera, instrument = stream
    return and_(FrameRow.telescope == telescope, FrameRow.camera == camera, FrameRow.instrument == instrument)


def order_of(frame: FrameRecord) -> OrderKey:
    """What orders the frames of a stream."""
    return frame.obsdate, sequence_position(frame.iobs, frame.nobs)[0] or 0, frame.sha256 or "", frame.id


def find_streams(connection: Connection, *, ungrouped: bool = False) -> list[Stream]:
    """All streams, or those with frames that have not been grouped."""
    statement = select(FrameRow.telescope, FrameRow.camera, FrameRow.instrument).distinct()
    if ungrouped:
        statement = statement.where(_ungrouped())
    return sorted((row[0], row[1], row[2]) for row in connection.execute(statement))


def _ungrouped() -> ColumnElement[bool]:
    # Written as the index has it: SQLite does not use that for "ungrouped IS 1".
    return and_(text("ungrouped"), FrameRow.status.in_(("registered", "refused")))


def list_frames(
    connection: Connection, wanted: FrameFilter = ALL_FRAMES, limit: int | None = None
) -> list[dict[str, Any]]:
    """Frames as rows for people: with furthest stage, state there, and current set."""
    listed: list[dict[str, Any]] = []
    columns = select(
        *_COLUMNS,
        FrameRow.status,
        FrameRow.reason,
        FrameRow.version,
        FrameRow.duplicate_of,
        FrameRow.superseded_by,
        FrameRow.registered_at,
    )
    for tests in _selections(wanted):
        rows = connection.execute(columns.where(*tests)).all()
        stages = _furthest(connection, select(FrameRow.id).where(*tests))
        sets = _current_sets(connection, select(FrameRow.id).where(*tests))
        listed += [_frame_row(row._mapping, stages, sets) for row in rows]
    listed.sort(
        key=lambda one: (one["obsdate"], one["telescope"], one["camera"], one["iobs"] or 0, one["id"])
    )
    return listed[:limit]


def show_frame(connection: Connection, identity: int) -> dict[str, Any] | None:
    """All that is known of one frame; None where there is none."""
    wanted = FrameFilter(status=None, ids=[identity])
    rows = list_frames(connection, wanted, 1)
    if not rows:
        return None
    (record,) = find_frames(connection, wanted)
    return rows[0] | {"keywords": dict(record.keywords), "stages": stages_of(connection, identity)}


def _frame_row(row: Any, stages: dict[int, tuple[str, str, str]], sets: dict[int, int]) -> dict[str, Any]:
    made = dict(row)
    stage, status, reason = stages.get(made["id"], ("ingest", "done", ""))
    if made["status"] != "registered":  # whatever had become of it before
        stage, status, reason = "ingest", made["status"], made["reason"]
    made |= {"stage": stage, "status": status, "set": sets.get(made["id"])}
    made["reason"] = reason or made["reason"]
    return made


def _furthest(connection: Connection, of: Select[Any]) -> dict[int, tuple[str, str, str]]:
    """Stage, state and reason by frame: of the first stage that is not done, or of the last where all are."""
    columns = select(FrameStageRow.frame_id, FrameStageRow.stage, FrameStageRow.state, FrameStageRow.reason)
    reached: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
    for frame, *there in connection.execute(columns.where(FrameStageRow.frame_id.in_(of))):
        stage, state, reason = there
        reached[frame].append((stage, state, reason))
    found: dict[int, tuple[str, str, str]] = {}
    for frame, stages in reached.items():
        stages.sort(key=lambda one: stage_order(one[0]))
        found[frame] = next((one for one in stages if one[1] not in ("done", "passed")), stages[-1])
    return found


def stage_order(stage: str) -> int:
    """Place of a stage in a frame's life; one of a cascade of its own comes last."""
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def _current_sets(connection: Connection, of: Select[Any]) -> dict[int, int]:
    statement = (
        select(SetMemberRow.frame_id, func.max(SetMemberRow.set_id))
        .join(FrameSetRow, FrameSetRow.id == SetMemberRow.set_id)
        .where(FrameSetRow.status != "superseded", SetMemberRow.frame_id.in_(of))
        .group_by(SetMemberRow.frame_id)
    )
    return {frame: found for frame, found in connection.execute(statement)}
