"""Frames are read from the registry: by filter as records, and as rows for people."""

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
)

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.conditions import is_of_camera
from ccdflow.archive.registry.frames.amendments import amended_values, find_amendments
from ccdflow.archive.registry.frames.doubts import find_doubts
from ccdflow.archive.registry.frames.keywords import read_value
from ccdflow.archive.registry.frames.oddvalues import (
    finite,
    is_time,
    odd_in_words,
    untimely,
    whole,
    words,
)
from ccdflow.archive.registry.frames.stages import stages_of
from ccdflow.archive.registry.rootpaths import absolute, roots_of
from ccdflow.archive.registry.selection import (
    refuse_state,
    refuse_unknown,
    refuse_unknown_classes,
    settle,
)
from ccdflow.archive.registry.tables import (
    FrameKeywordRow,
    FrameRow,
    FrameSetRow,
    FrameStageRow,
    SetMemberRow,
)
from ccdflow.cascade.records import NO_FILE, STAGES, FrameRecord, Value
from ccdflow.cascade.sequences.exposures import Stream, order_key

_ROWS_AT_ONCE = 10_000
"""Rows taken from the driver at once: a million at a time would all lie in memory beside what is made of them."""

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
_PLACES = {column.key: place for place, column in enumerate(_COLUMNS)}
_NUMBERS = ((_PLACES["exptime"], finite), (_PLACES["iobs"], whole), (_PLACES["nobs"], whole))
"""Places of numbers among these, and what they have to be."""
_CHECKS = {"exptime": finite, "iobs": whole, "nobs": whole}
_OBSDATE, _PATH = _PLACES["obsdate"], _PLACES["path"]


@dataclass(frozen=True)
class FrameFilter:
    """Which frames are asked for; what is None does not matter.

    `status` is by default what grouping sees: duplicates and superseded versions are left out. `camera` is
    CAMERA or TELESCOPE/CAMERA; `since` and `until` are ISO times that belong to the range. `keywords` names
    those that the frames shall come with, which takes less time than all. `nights` names the earliest night by
    class; of classes that it does not name, all. `has_file` leaves out rows that have no file, or whose file nobody
    has read, `has_path` only those without even a path. `strict` is False where night, camera and the like come from
    the registry or the clock: that nothing is of them is no mistake then.
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
    has_file: bool = False
    has_path: bool = False
    strict: bool = True

    def __post_init__(self) -> None:
        """Take ids, texts and dates of any type."""
        settle(self, {"ids": "f"}, ("status", "classes", "keywords"))
        refuse_state("status", self.status, STATUSES)


STATUSES = ("registered", "duplicate", "superseded", "refused", "processed")
"""Every state that a row may have."""
ALL_FRAMES = FrameFilter()
"""Selects every frame that grouping sees."""
EVERY_ROW = FrameFilter(status=None)
"""Selects every row, whatever has become of it."""
COUNTED = ("registered", "refused", "processed")
"""States of the rows that a night's ledger counts: what was delivered, whether it is used or not."""


def conditions(wanted: FrameFilter) -> list[ColumnElement[bool]]:
    """Return the conditions on rows of frames that a filter stands for, but for its ids.

    Parameters
    ----------
    wanted : FrameFilter
        Which frames.

    Returns
    -------
    list of ColumnElement of bool
        All of which hold.
    """
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
    if wanted.has_file:
        tests.append(FrameRow.sha256.is_not(None))
    if wanted.has_path:
        tests.append(FrameRow.path.is_not(None))
    if wanted.camera is not None:
        tests.append(is_of_camera(FrameRow, wanted.camera))
    if wanted.nights:
        # A class that is not named is not limited: calibrations may be wanted however old they are.
        recent = [
            and_(FrameRow.frame_class == name, FrameRow.night >= night)
            for name, night in wanted.nights.items()
        ]
        tests.append(or_(*recent, FrameRow.frame_class.not_in(wanted.nights)))
    return tests


def _selections(wanted: FrameFilter) -> Iterator[list[ColumnElement[bool]]]:
    """The conditions of one statement or, for many ids, of several."""
    if wanted.ids is None:
        yield conditions(wanted)
        return
    for ids in batches(sorted(set(wanted.ids))):
        yield [*conditions(wanted), FrameRow.id.in_(ids)]


def find_frames(connection: Connection, wanted: FrameFilter = ALL_FRAMES) -> list[FrameRecord]:
    """Return the frames that a filter selects, each with its keywords or those that are wanted.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : FrameFilter
        Which frames, with which keywords.

    Returns
    -------
    list of FrameRecord
        The frames, by time, as `ccdflow.cascade.sequences.exposures.order_key` orders those of a stream.
    """
    frames: list[FrameRecord] = []
    # All that hold, which are few, rather than those of the frames that are asked for.
    amended = amended_values(connection)
    for tests in _selections(wanted):
        keywords: dict[int, dict[str, Value]] = {}
        if wanted.keywords is None or wanted.keywords:
            keywords = _keywords(connection, select(FrameRow.id).where(*tests), wanted.keywords)
        statement = select(*_COLUMNS, FrameRow.status, FrameRow.reason).where(*tests)
        rows = _with_paths(connection, _tuples(connection, statement))
        frames += [_record(row, keywords, amended) for row in rows]
    if not frames and wanted.strict:
        _refuse_mistakes(connection, wanted)
    return sorted(frames, key=order_key)


def _refuse_mistakes(connection: Connection, wanted: FrameFilter) -> None:
    """Refuse names that nothing has, of a question that found nothing."""
    refuse_unknown(connection, wanted.night, wanted.camera)
    refuse_unknown_classes(connection, wanted.classes or ())


def _tuples(connection: Connection, statement: Executable) -> Iterator[tuple[Any, ...]]:
    """Rows as the driver gives them: of many, SQLAlchemy's own take longer to make than the driver's to read."""
    with connection.execute(statement) as result:
        while rows := result.cursor.fetchmany(_ROWS_AT_ONCE):
            yield from rows


def _with_paths(connection: Connection, rows: Iterator[tuple[Any, ...]]) -> Iterator[Sequence[Any]]:
    """Rows of frames as the driver gives them, with paths in the place of what the registry keeps of them."""
    if not roots_of(connection.dialect):
        yield from rows
        return
    for row in rows:
        yield *row[:_PATH], absolute(row[_PATH], connection.dialect), *row[_PATH + 1 :]


def _keywords(
    connection: Connection, frames: Select[Any], names: Collection[str] | None
) -> dict[int, dict[str, Value]]:
    """Keywords of the frames that a statement selects: all, or those with these names."""
    columns = select(
        FrameKeywordRow.frame_id, FrameKeywordRow.name, FrameKeywordRow.value, FrameKeywordRow.number
    )
    columns = columns.where(FrameKeywordRow.frame_id.in_(frames))
    if names is not None:
        columns = columns.where(FrameKeywordRow.name.in_(names))
    keywords: dict[int, dict[str, Value]] = defaultdict(dict)
    shared: dict[str, str] = {}  # one text for what thousands of frames have in common
    for frame, name, value, number in _tuples(connection, columns):
        name = shared.setdefault(name, name)
        name = words(name)
        if number is None and type(value) is str:
            keywords[frame][name] = shared.setdefault(value, value)
        else:
            keywords[frame][name] = read_value(value, number)
    return keywords


def _record(
    row: Sequence[Any],
    keywords: Mapping[int, Mapping[str, Value]],
    amended: Mapping[int, Mapping[str, Value | None]],
) -> FrameRecord:
    *columns, status, reason = row
    # SQLite keeps whatever it is given in the place of a number: text there is an unknown, as of a header.
    for place, check in _NUMBERS:
        if columns[place] is not None:
            columns[place] = check(columns[place])
    if bytes in map(type, columns):
        columns = [*map(words, columns)]
    refused = reason or status if status in ("refused", "processed") else ""
    if not is_time(columns[_OBSDATE]):
        # A blank one has no place in any order; the row stays as it is, and whoever wrote it can mend it.
        refused, columns[_OBSDATE] = refused or untimely(columns[_OBSDATE]), ""
    return FrameRecord(*[*columns, keywords.get(columns[0], {}), refused, amended.get(columns[0], {})])


def find_streams(connection: Connection, wanted: FrameFilter = EVERY_ROW) -> list[Stream]:
    """Return the streams of frames.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : FrameFilter
        Which frames; without it, all rows.

    Returns
    -------
    list of tuple of str
        Telescope, camera and instrument of each, in the order of the alphabet.
    """
    columns = select(FrameRow.telescope, FrameRow.camera, FrameRow.instrument)
    statement = columns.where(*conditions(wanted)).distinct()
    return sorted((row[0], row[1], row[2]) for row in connection.execute(statement))


# --- rows for people ----------------------------------------------------------------------------------------------


def list_frames(connection: Connection, wanted: FrameFilter = ALL_FRAMES) -> list[dict[str, Any]]:
    """Return frames as rows for people: with furthest stage, state there, current set, and doubts.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : FrameFilter
        Which frames.

    Returns
    -------
    list of dict of str to object
        A row for each frame, by time.
    """
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
        doubts = find_doubts(connection, select(FrameRow.id).where(*tests))
        for row in rows:
            own = [str(doubt) for doubt in doubts.get(row.id, ())]
            columns_of = {name: words(value) for name, value in row._mapping.items()}
            odd = odd_in_words(columns_of)
            if odd:
                columns_of |= {name: check(columns_of[name]) for name, check in _CHECKS.items()}
            listed.append(_frame_row(columns_of, stages, sets) | {"doubts": own + odd})
    listed.sort(
        key=lambda row: (row["obsdate"], row["telescope"], row["camera"], row["iobs"] or 0, row["id"])
    )
    if not listed:
        _refuse_mistakes(connection, wanted)
    return listed


def show_frame(connection: Connection, identity: int) -> dict[str, Any] | None:
    """Return all that is known of one frame.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    identity : int
        Its id.

    Returns
    -------
    dict of str to object or None
        Its row as in `list_frames`, with its ``keywords`` and ``stages`` and what was ``amended``, a sentence each;
        None where there is no such frame.
    """
    wanted = FrameFilter(status=None, ids=[identity])
    # In whatever state: who names a frame wants to see a duplicate or an old version too.
    rows = list_frames(connection, wanted)
    if not rows:
        return None
    (record,) = find_frames(connection, wanted)
    amended = [str(amendment) for amendment in find_amendments(connection, [identity])]
    told = {"keywords": dict(record.keywords), "stages": stages_of(connection, identity)}
    return rows[0] | told | {"amended": amended}


def _frame_row(
    columns: Any, stages: Mapping[int, tuple[str, str, str]], sets: Mapping[int, int]
) -> dict[str, Any]:
    row = dict(columns)
    beginning = ("ingest", "waiting", NO_FILE) if row["path"] is None else ("ingest", "done", "")
    stage, status, reason = stages.get(row["id"], beginning)
    if row["status"] != "registered":  # whatever had become of it before
        stage, status, reason = "ingest", row["status"], row["reason"]
    row |= {"stage": stage, "status": status, "set": sets.get(row["id"])}
    row["reason"] = reason or row["reason"]
    return row


def _furthest(connection: Connection, frames: Select[Any]) -> dict[int, tuple[str, str, str]]:
    """Stage, state and reason by frame: of the first stage that is not done, or of the last where all are."""
    columns = select(FrameStageRow.frame_id, FrameStageRow.stage, FrameStageRow.state, FrameStageRow.reason)
    reached: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
    for frame, stage, state, reason in connection.execute(columns.where(FrameStageRow.frame_id.in_(frames))):
        reached[frame].append((stage, state, reason))
    furthest: dict[int, tuple[str, str, str]] = {}
    for frame, states in reached.items():
        # A frame that was stacked once and can't be calibrated any more has failed: an earlier stage counts first.
        states.sort(key=lambda reached_stage: _place_of_stage(reached_stage[0]))
        furthest[frame] = next((state for state in states if state[1] not in ("done", "passed")), states[-1])
    return furthest


def _place_of_stage(stage: str) -> int:
    """Place of a stage in a frame's life; one of a cascade of its own comes last."""
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def _current_sets(connection: Connection, frames: Select[Any]) -> dict[int, int]:
    """The newest set that counts, by frame."""
    statement = (
        select(SetMemberRow.frame_id, func.max(SetMemberRow.set_id))
        .join(FrameSetRow, FrameSetRow.id == SetMemberRow.set_id)
        .where(FrameSetRow.status != "superseded", SetMemberRow.frame_id.in_(frames))
        .group_by(SetMemberRow.frame_id)
    )
    return {frame: number for frame, number in connection.execute(statement)}
