"""Sets of frames as the registry knows them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any, get_args

from sqlalchemy import ColumnElement, Connection, Select, bindparam, literal_column, select

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.frames.orderkeys import read_order_key, write_order_key
from ccdflow.archive.registry.selection import refuse_state, settle
from ccdflow.archive.registry.tables import STREAM, FrameSetRow, JobRow, SetMemberRow, table
from ccdflow.cascade.records import Action, Status
from ccdflow.cascade.sequences.exposures import OrderKey, Stream


@dataclass(frozen=True)
class SetRecord:
    """A set as the registry knows it; `frames` in order.

    `sequence_start` is the order key of the first frame of the sequence that the set was cut from, and `lost` tells
    that a frame of it was deleted since.
    """

    id: int
    step: str
    telescope: str
    camera: str
    instrument: str
    action: Action
    status: Status
    ready: bool
    reason: str
    sequence_start: OrderKey | None
    first_obsdate: str
    last_obsdate: str
    version: int
    superseded_by: int | None
    product_id: int | None
    lost: bool
    frames: tuple[int, ...] = ()

    @property
    def stream(self) -> Stream:
        """Telescope, camera, instrument."""
        return self.telescope, self.camera, self.instrument


@dataclass(frozen=True)
class SetFilter:
    """Which sets are asked for; what is None does not matter.

    `frames` selects sets that hold one of these frames. Their sequences start at `since_sequence` or later, and before
    `until_sequence`.
    """

    step: str | None = None
    status: Collection[str] | None = ("open", "closed")
    stream: Stream | None = None
    since_sequence: OrderKey | None = None
    until_sequence: OrderKey | None = None
    ids: Collection[int] | None = None
    frames: Collection[int] | None = None

    def __post_init__(self) -> None:
        """Take ids and texts of any type."""
        settle(self, {"ids": "s", "frames": "f"}, ("status",))
        refuse_state("status", self.status, get_args(Status))


ALL_SETS = SetFilter()
"""Selects every set that counts."""


def find_sets(connection: Connection, wanted: SetFilter = ALL_SETS) -> list[SetRecord]:
    """Return the sets that a filter selects, each with its frames.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : SetFilter
        Which sets.

    Returns
    -------
    list of SetRecord
        The sets, by the time of their first frame.
    """
    values = _values(wanted)
    sets: dict[int, SetRecord] = {}
    for narrower in _narrowed(wanted):
        sets |= _read(connection, values | narrower)
    return sorted(sets.values(), key=lambda record: (record.first_obsdate, *record.stream, record.id))


def _values(wanted: SetFilter) -> dict[str, Any]:
    """What sets are asked for by, but for ids and frames, under the names of `_TESTS`."""
    values: dict[str, Any] = {} if wanted.stream is None else stream_values(wanted.stream)
    if wanted.status is not None:
        values |= {"open": True} if list(wanted.status) == ["open"] else {"status": list(wanted.status)}
    if wanted.step is not None:
        values["step"] = wanted.step
    for name, key in (("since", wanted.since_sequence), ("until", wanted.until_sequence)):
        if key is not None:
            values[name] = write_order_key(key)
    return values


def stream_values(stream: Stream) -> dict[str, str]:
    """Return the names of a stream by column.

    Parameters
    ----------
    stream : tuple of str
        Telescope, camera, instrument.

    Returns
    -------
    dict of str to str
        The same, under the names of the columns.
    """
    return dict(zip(STREAM, stream, strict=True))


def _narrowed(wanted: SetFilter) -> list[dict[str, Any]]:
    """Further values: of one statement or, for many ids or frames, of several."""
    for name, numbers in (("ids", wanted.ids), ("frames", wanted.frames)):
        if numbers is not None:
            return [{name: part} for part in batches(sorted(set(numbers)))]
    return [{}]


_SET = table(FrameSetRow).c
_MEMBER = table(SetMemberRow).c
_TESTS: dict[str, ColumnElement[bool]] = {
    **{name: _SET[name] == bindparam(name) for name in (*STREAM, "step")},
    "status": _SET.status.in_(bindparam("status", expanding=True)),
    # Open sets are few, and have an index of their own. The condition is written as that has it: behind a bound value
    # neither database sees that the index fits.
    "open": literal_column("status") == literal_column("'open'"),
    "since": _SET.sequence_start >= bindparam("since"),
    "until": _SET.sequence_start < bindparam("until"),
    "ids": _SET.id.in_(bindparam("ids", expanding=True)),
    "frames": _SET.id.in_(
        select(_MEMBER.set_id).where(_MEMBER.frame_id.in_(bindparam("frames", expanding=True)))
    ),
}
"""Conditions that sets may be asked for by, each under the name of its value."""
_NAMES = tuple(name for name in SetRecord.__annotations__ if name != "frames")
_COLUMNS = [_SET[name] for name in _NAMES]


# Statements are cached by the names of their conditions: making one takes longer than a small answer.
@lru_cache
def _statements(names: tuple[str, ...]) -> tuple[Select[Any], Select[Any]]:
    """Statements for sets and for their members."""
    tests = [_TESTS[name] for name in names]
    members = select(_MEMBER.set_id, _MEMBER.frame_id).where(
        _MEMBER.set_id.in_(select(_SET.id).where(*tests))
    )
    return select(*_COLUMNS).where(*tests), members.order_by(_MEMBER.set_id, _MEMBER.position)


@lru_cache
def _joined(names: tuple[str, ...]) -> Select[Any]:
    """A statement for few sets together with their members: one answer takes less time than two."""
    both = table(FrameSetRow).outerjoin(table(SetMemberRow), _MEMBER.set_id == _SET.id)
    columns = select(*_COLUMNS, _MEMBER.frame_id).select_from(both)
    return columns.where(*[_TESTS[name] for name in names]).order_by(_SET.id, _MEMBER.position)


def _read(connection: Connection, values: Mapping[str, Any]) -> dict[int, SetRecord]:
    """Sets by id; `values` are what they are asked for by, as `_TESTS` names it."""
    names, bound = tuple(values), {name: value for name, value in values.items() if name != "open"}
    # A part of a stream: that is asked for with each new frame, and holds few sets.
    if values.keys() & {"since", "until"}:
        return _together(connection.execute(_joined(names), bound))
    of_sets, of_members = _statements(names)
    rows = connection.execute(of_sets, bound).mappings().all()
    members: dict[int, list[int]] = {}
    for number, frame in connection.execute(of_members, bound) if rows else ():
        members.setdefault(number, []).append(frame)
    return {row["id"]: _record(dict(row), members.get(row["id"], [])) for row in rows}


def _together(rows: Iterable[Sequence[Any]]) -> dict[int, SetRecord]:
    """Sets of joined rows: a set's columns are repeated for each member, or stand once with no frame behind them."""
    sets: dict[int, SetRecord] = {}
    for number, group in groupby(rows, itemgetter(0)):
        members = list(group)
        row = dict(zip(_NAMES, members[0], strict=False))
        sets[number] = _record(row, [member[-1] for member in members if member[-1] is not None])
    return sets


def _record(row: Mapping[str, Any], frames: Sequence[int]) -> SetRecord:
    values = dict(row) | {"sequence_start": read_order_key(row["sequence_start"]), "frames": tuple(frames)}
    return SetRecord(**values)


def list_sets(connection: Connection, wanted: SetFilter = ALL_SETS) -> list[dict[str, Any]]:
    """Return sets as JSON has them.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : SetFilter
        Which sets.

    Returns
    -------
    list of dict of str to object
        A row for each set, by the time of its first frame.
    """
    records = find_sets(connection, wanted)
    told = _told_by_jobs(connection, [record.id for record in records])
    return [
        {
            "id": record.id,
            "step": record.step,
            "status": record.status,
            # Where a job could not combine any two of its frames, all of them passed.
            "action": "pass" if record.id in told and record.product_id is None else record.action,
            "ready": record.ready,
            "frames": list(record.frames),
            "first": record.first_obsdate,
            "last": record.last_obsdate,
            "product": record.product_id,
            "telescope": record.telescope,
            "camera": record.camera,
            "instrument": record.instrument,
            "version": record.version,
            "superseded_by": record.superseded_by,
            "reason": "; ".join(filter(None, (record.reason, told.get(record.id)))),
        }
        for record in records
    ]


def _told_by_jobs(connection: Connection, sets: Sequence[int]) -> dict[int, str]:
    """Return what the newest done job of each set says of the frames that it has left out."""
    columns = select(JobRow.set_id, JobRow.reason).order_by(JobRow.finished_at)
    reasons: dict[int, str] = {}
    for part in batches(sets):
        rows = connection.execute(columns.where(JobRow.set_id.in_(part), JobRow.state == "done"))
        reasons |= {number: reason for number, reason in rows if number is not None}
    return reasons


def last_boundary(connection: Connection, stream: Stream, step: str, key: OrderKey) -> OrderKey | None:
    """Return the start of the last sequence of a stream that begins at or before a frame.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    stream : tuple of str
        Telescope, camera, instrument.
    step : str
        The step whose sets were cut from the sequences.
    key : OrderKey
        The order key of the frame.

    Returns
    -------
    OrderKey or None
        The order key of the sequence's first frame; None where no sequence begins so early.
    """
    values = stream_values(stream) | {"step": step, "key": write_order_key(key)}
    return read_order_key(connection.execute(_LAST_BOUNDARY, values).scalar_one_or_none() or "")


_LAST_BOUNDARY = (
    select(_SET.sequence_start)
    .where(
        *[_TESTS[name] for name in (*STREAM, "step")],
        _SET.status != "superseded",
        _SET.sequence_start <= bindparam("key"),
        _SET.sequence_start != "",
    )
    .order_by(_SET.sequence_start.desc())
    .limit(1)
)
