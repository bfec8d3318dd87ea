"""Sets of frames, and where the grouping of each stream stands."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, literal_column, select
from sqlalchemy.sql.dml import ReturningUpdate

from ccdflow.archive.registry import setcounts
from ccdflow.archive.registry.frames import batches, replace_rows
from ccdflow.archive.registry.settling import Settling, settle
from ccdflow.archive.registry.tables import FrameRow, FrameSetRow, SetMemberRow, StreamStateRow, table
from ccdflow.cascade.records import Action, Status
from ccdflow.cascade.sequences.statemachine import OrderKey, Stream

_MANY = 5000
_FEW = 100


class SetConflictError(Exception):
    """Another program has grouped the same frames since they were read: read again, and group again."""


@dataclass(frozen=True)
class SetRecord:
    """A set as the registry knows it; `frames` in order.

    `sequence_start` is the order key of the first frame of the sequence that the set was cut from.
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
    frames: tuple[int, ...] = ()

    @property
    def stream(self) -> Stream:
        """Telescope, camera, instrument."""
        return self.telescope, self.camera, self.instrument


@dataclass(frozen=True)
class NewSet:
    """A set that appears. `ref` is a name by which other changes of the same transaction call it.

    `span` are the obsdates of its first and last frame; without it they are looked up.
    """

    ref: str
    step: str
    stream: Stream
    frames: Sequence[int]
    action: Action = "stack"
    status: Status = "open"
    ready: bool = False
    reason: str = ""
    sequence_start: OrderKey | None = None
    version: int = 1
    span: tuple[str, str] | None = None


@dataclass(frozen=True)
class Append:
    """Frames that join a set, behind those it has."""

    set: int | str
    frames: Sequence[int]


@dataclass(frozen=True)
class Change:
    """What becomes of a set; what is None stays."""

    set: int | str
    action: Action | None = None
    status: Status | None = None
    ready: bool | None = None
    reason: str | None = None
    product_id: int | None = None
    sequence_start: OrderKey | None = None


@dataclass(frozen=True)
class Replace:
    """Other frames in place of those a set has had."""

    set: int | str
    frames: Sequence[int]


@dataclass(frozen=True)
class Supersede:
    """A set that counts no more, because of another; the row and its product stay."""

    set: int | str
    by: int | str | None = None


SetChange = NewSet | Append | Change | Replace | Supersede


@dataclass(frozen=True)
class GroupingState:
    """Where the grouping of a stream stands; `rules` is a digest of the rules that it was made by."""

    stream: Stream
    step: str
    rules: str
    state: Any


@dataclass(frozen=True)
class SetFilter:
    """Which sets; what is None does not matter. `frames` selects sets that hold one of these frames.

    Their sequences start at `since_sequence` or later, and before `until_sequence`.
    """

    step: str | None = None
    status: Collection[str] | None = ("open", "closed")
    stream: Stream | None = None
    ready: bool | None = None
    since_sequence: OrderKey | None = None
    until_sequence: OrderKey | None = None
    ids: Collection[int] | None = None
    frames: Collection[int] | None = None


ALL_SETS = SetFilter()
"""Selects every set that counts."""


def find_sets(connection: Connection, wanted: SetFilter = ALL_SETS) -> list[SetRecord]:
    """The sets that `wanted` selects, by their first frame's time."""
    values: dict[str, Any] = {} if wanted.stream is None else _place(wanted.stream)
    if wanted.status is not None:
        values |= {"open": True} if list(wanted.status) == ["open"] else {"status": list(wanted.status)}
    given = {"step": wanted.step, "ready": wanted.ready}
    values |= {name: value for name, value in given.items() if value is not None}
    for name, key in (("since", wanted.since_sequence), ("until", wanted.until_sequence)):
        if key is not None:
            values[name] = key_text(key)
    found: dict[int, SetRecord] = {}
    for some in _narrowed(wanted):
        found |= _read(connection, values | some)
    return sorted(found.values(), key=lambda one: (one.first_obsdate, *one.stream, one.id))


def _place(stream: Stream) -> dict[str, str]:
    return dict(zip(("telescope", "camera", "instrument"), stream, strict=True))


def _narrowed(wanted: SetFilter) -> list[dict[str, Any]]:
    for name, chosen in (("ids", wanted.ids), ("frames", wanted.frames)):
        if chosen is not None:
            return [{name: some} for some in batches(sorted(set(chosen)), _MANY)]
    return [{}]


_SET = table(FrameSetRow).c
_MEMBER = table(SetMemberRow).c
_STATE = table(StreamStateRow).c
_TESTS: dict[str, ColumnElement[bool]] = {
    **{
        name: _SET[name] == bindparam(name) for name in ("telescope", "camera", "instrument", "step", "ready")
    },
    "status": _SET.status.in_(bindparam("status", expanding=True)),
    # As the index of open sets has it.
    "open": literal_column("status") == literal_column("'open'"),
    "since": _SET.sequence_start >= bindparam("since"),
    "until": _SET.sequence_start < bindparam("until"),
    "ids": _SET.id.in_(bindparam("ids", expanding=True)),
    "frames": _SET.id.in_(
        select(_MEMBER.set_id).where(_MEMBER.frame_id.in_(bindparam("frames", expanding=True)))
    ),
}
"""What sets may be asked for by, with the names of the values."""
_NAMES = tuple(name for name in SetRecord.__annotations__ if name != "frames")
_COLUMNS = [_SET[name] for name in _NAMES]


@lru_cache
def _statements(names: tuple[str, ...]) -> tuple[Select[Any], Select[Any]]:
    """Statements for sets and for their members; remembered, since making them takes longer than a small answer."""
    tests = [_TESTS[name] for name in names]
    members = select(_MEMBER.set_id, _MEMBER.frame_id).where(
        _MEMBER.set_id.in_(select(_SET.id).where(*tests))
    )
    return select(*_COLUMNS).where(*tests), members.order_by(_MEMBER.set_id, _MEMBER.position)


@lru_cache
def _joined(names: tuple[str, ...]) -> Select[Any]:
    """A statement for few sets together with their members: one answer takes less time than two."""
    both = table(FrameSetRow).outerjoin(table(SetMemberRow), _MEMBER.set_id == _SET.id)
    found = select(*_COLUMNS, _MEMBER.frame_id).select_from(both).where(*[_TESTS[name] for name in names])
    return found.order_by(_SET.id, _MEMBER.position)


def _together(rows: Iterable[Sequence[Any]]) -> dict[int, SetRecord]:
    found: dict[int, SetRecord] = {}
    for number, alike in groupby(rows, itemgetter(0)):
        members = list(alike)
        row = dict(zip(_NAMES, members[0], strict=False))
        found[number] = _record(row, [one[-1] for one in members if one[-1] is not None])
    return found


def _read(connection: Connection, values: Mapping[str, Any]) -> dict[int, SetRecord]:
    """Sets by id; `values` are what they are asked for by, as `_TESTS` names it."""
    given = {name: value for name, value in values.items() if name != "open"}
    if values.keys() & {"since", "until"}:
        return _together(connection.execute(_joined(tuple(values)), given))
    of_sets, of_members = _statements(tuple(values))
    rows = connection.execute(of_sets, given).mappings().all()
    members: dict[int, list[int]] = {}
    for found, frame in connection.execute(of_members, given) if rows else ():
        members.setdefault(found, []).append(frame)
    return {row["id"]: _record(dict(row), members.get(row["id"], [])) for row in rows}


def _record(row: Mapping[str, Any], frames: Sequence[int]) -> SetRecord:
    values = dict(row) | {"sequence_start": text_key(row["sequence_start"]), "frames": tuple(frames)}
    return SetRecord(**values)


def key_text(key: OrderKey | None) -> str:
    """An order key as text that sorts as the keys do; empty for none."""
    if key is None:
        return ""
    obsdate, iobs, sha256, frame = key
    # A blank sorts before the point of fractions of a second, as the end of a text does.
    return f"{obsdate} {iobs:010d} {sha256} {frame:019d}"


def text_key(text: str) -> OrderKey | None:
    """The order key that `key_text` wrote."""
    if not text:
        return None
    obsdate, iobs, sha256, frame = text.split(" ")
    return obsdate, int(iobs), sha256, int(frame)


def list_sets(connection: Connection, wanted: SetFilter = ALL_SETS) -> list[dict[str, Any]]:
    """Sets as JSON has them."""
    found = find_sets(connection, wanted)
    return [
        {
            "id": one.id,
            "step": one.step,
            "status": one.status,
            "action": one.action,
            "ready": one.ready,
            "frames": list(one.frames),
            "first": one.first_obsdate,
            "last": one.last_obsdate,
            "product": one.product_id,
            "telescope": one.telescope,
            "camera": one.camera,
            "instrument": one.instrument,
            "version": one.version,
            "superseded_by": one.superseded_by,
            "reason": one.reason,
        }
        for one in found
    ]


def apply_set_changes(
    connection: Connection,
    changes: Sequence[SetChange],
    *,
    states: Sequence[GroupingState] = (),
    grouped: Collection[int] = (),
    settling: Sequence[Settling] = (),
    settled: Collection[int] = (),
    looked_at: Collection[int] = (),
) -> dict[str, int]:
    """Make changes to sets in order, all or none.

    On PostgreSQL a crash of the server may take back what was changed last, whole: grouping and planning find it again.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    changes : sequence of NewSet, Append, Change, Replace or Supersede
        What becomes of sets.
    states : sequence of GroupingState
        Where the grouping of streams stands after it.
    grouped : collection of int
        Frames that grouping has seen now.
    settling : sequence of Settling
        How sets of each step become ready: those that change, and those of `settled`, are settled.
    settled : collection of int
        Sets that are settled though they do not change.
    looked_at : collection of int
        Sets that are looked at in the same run: a frame that goes from one of them to another stream may be in both
        until then.

    Returns
    -------
    dict of str to int
        The id of each new set by its `ref`.

    Raises
    ------
    SetConflictError
        If a frame would be in two sets of one step that count.
    """
    free = iter(setcounts.alone(connection, sum(isinstance(one, NewSet) for one in changes)))
    tally = _tally(connection, changes)
    ids: dict[str, int] = {}
    for kind, alike in groupby(changes, key=type):
        if kind is NewSet:
            _new_sets(connection, [one for one in alike if isinstance(one, NewSet)], ids, free)
        else:
            for change in alike:
                _apply(connection, change, ids)
    _refuse_conflicts(connection, changes, looked_at)
    setcounts.add(connection, tally)
    for state in states:
        _save_state(connection, state)
    changed = [_id(one.set, ids) for one in changes if not isinstance(one, NewSet)]
    for by in settling:
        settle(connection, by, [*ids.values(), *changed, *settled])
    for some in batches(grouped, _MANY):
        connection.execute(_SEEN, {"frames": some})
    return ids


def _tally(connection: Connection, changes: Sequence[SetChange]) -> setcounts.Kinds:
    """How many sets of each kind there will be more, or fewer, once the changes have been made."""
    known = {one.set for one in changes if isinstance(one, Change | Supersede) and isinstance(one.set, int)}
    at: dict[int | str, tuple[str, str, str]] = {}
    for some in batches(known, _MANY):
        at.update(setcounts.placed(connection, some).items())
    tally: setcounts.Kinds = Counter()
    for one in changes:
        if isinstance(one, NewSet):
            at[one.ref] = one.step, one.status, one.action
            tally[one.step, setcounts.kind(one.status, one.action)] += 1
        elif isinstance(one, Change | Supersede) and one.set in at:
            step, status, action = at[one.set]
            tally[step, setcounts.kind(status, action)] -= 1
            if isinstance(one, Supersede):
                status = "superseded"
            else:
                status, action = one.status or status, one.action or action
            at[one.set] = step, status, action
            tally[step, setcounts.kind(status, action)] += 1
    return tally


_SEEN = (
    table(FrameRow)
    .update()
    .where(table(FrameRow).c.id.in_(bindparam("frames", expanding=True)))
    .values(ungrouped=False)
)


def _apply(connection: Connection, change: SetChange, ids: Mapping[str, int]) -> None:
    match change:
        case Append():
            _append(connection, _id(change.set, ids), change.frames)
        case Replace():
            _replace(connection, _id(change.set, ids), change.frames)
        case Change():
            _change(connection, _id(change.set, ids), change)
        case Supersede():
            by = None if change.by is None else _id(change.by, ids)
            _update(
                connection,
                _id(change.set, ids),
                {"status": "superseded", "superseded_by": by, "ready": False},
            )


def _refuse_conflicts(
    connection: Connection, changes: Sequence[SetChange], looked_at: Collection[int]
) -> None:
    """Two programs that group the same new frames at once: the second sees what the first has made."""
    steps: dict[str, set[int]] = {}
    for change in changes:
        if isinstance(change, NewSet):
            steps.setdefault(change.step, set()).update(change.frames)
    for step, members in steps.items():
        for some in batches(sorted(members), _MANY):
            # Of many first without looking at the sets: nearly all frames have only ever been in one.
            again: Sequence[int] = some
            if len(some) > _FEW:
                again = connection.execute(_HELD_TWICE, {"frames": some}).scalars().all()
            if again and (twice := _first_twice(connection, step, again, looked_at)):
                raise SetConflictError(f"frame {twice} would be in two sets of step {step!r}")


def _first_twice(
    connection: Connection, step: str, frames: Sequence[int], but: Collection[int]
) -> int | None:
    """The first of these frames that is in two sets of a step that count, `but` for some sets."""
    rows = connection.execute(_SETS_OF, {"frames": frames})
    held = Counter(
        frame
        for frame, of, number, status in rows
        if of == step and status != "superseded" and number not in but
    )
    return min((frame for frame, number in held.items() if number > 1), default=None)


_HELD_TWICE = (
    select(_MEMBER.frame_id)
    .where(_MEMBER.frame_id.in_(bindparam("frames", expanding=True)))
    .group_by(_MEMBER.frame_id)
    .having(func.count() > 1)
)
# Without a condition on the step: by that SQLite would rather read all sets of the step.
_SETS_OF = (
    select(_MEMBER.frame_id, _SET.step, _SET.id, _SET.status)
    .join_from(table(SetMemberRow), table(FrameSetRow), _SET.id == _MEMBER.set_id)
    .where(_MEMBER.frame_id.in_(bindparam("frames", expanding=True)))
)


def _id(name: int | str, ids: Mapping[str, int]) -> int:
    if isinstance(name, int):
        return name
    if name not in ids:
        raise ValueError(f"no new set is called {name!r}; known: {', '.join(ids) or 'none'}")
    return ids[name]


def _new_sets(
    connection: Connection, new: Sequence[NewSet], ids: dict[str, int], free: Iterator[int]
) -> None:
    """Write sets, all at once, and note their ids, from those that are `free`, by their refs."""
    for one in new:
        if one.ref in ids:
            raise ValueError(f"two new sets are called {one.ref!r}")
        ids[one.ref] = next(free)
    connection.execute(_INSERT_SETS, [_set_row(connection, one, ids[one.ref]) for one in new])
    members = [
        {"set_id": ids[one.ref], "position": position, "frame_id": frame}
        for one in new
        for position, frame in enumerate(one.frames)
    ]
    if members:
        connection.execute(_INSERT_MEMBERS, members)


_INSERT_SETS = table(FrameSetRow).insert()
_INSERT_MEMBERS = table(SetMemberRow).insert()


def _set_row(connection: Connection, new: NewSet, identity: int) -> dict[str, Any]:
    telescope, camera, instrument = new.stream
    first, last = new.span or (_span(connection, new.frames) if new.frames else ("", ""))
    return {
        "id": identity,
        "step": new.step,
        "telescope": telescope,
        "camera": camera,
        "instrument": instrument,
        "action": new.action,
        "status": new.status,
        "ready": new.ready,
        "reason": new.reason,
        "sequence_start": key_text(new.sequence_start),
        "version": new.version,
        "first_obsdate": first,
        "last_obsdate": last,
    }


def _put(connection: Connection, identity: int, frames: Sequence[int], first: int) -> None:
    rows = [
        {"set_id": identity, "position": position, "frame_id": frame}
        for position, frame in enumerate(frames, first)
    ]
    if rows:
        connection.execute(_INSERT_MEMBERS, rows)


def _span(connection: Connection, frames: Sequence[int]) -> tuple[str, str]:
    """Times of the earliest and latest of these frames."""
    wanted = select(func.min(FrameRow.obsdate), func.max(FrameRow.obsdate))
    spans = [connection.execute(wanted.where(FrameRow.id.in_(some))).one() for some in batches(frames, _MANY)]
    known = [(first, last) for first, last in spans if first is not None]
    if not known:
        raise ValueError(f"there is no frame {', '.join(map(str, frames[:5]))}")
    return min(first for first, _ in known), max(last for _, last in known)


def _append(connection: Connection, identity: int, frames: Sequence[int]) -> None:
    if not frames:
        return
    last = select(func.coalesce(func.max(SetMemberRow.position), -1)).where(SetMemberRow.set_id == identity)
    _put(connection, identity, frames, connection.execute(last).scalar_one() + 1)
    first_new, last_new = _span(connection, frames)
    before = select(FrameSetRow.first_obsdate, FrameSetRow.last_obsdate).where(FrameSetRow.id == identity)
    first_old, last_old = connection.execute(before).one()
    span = {"first_obsdate": min(first_old or first_new, first_new), "last_obsdate": max(last_old, last_new)}
    _update(connection, identity, span)


def _replace(connection: Connection, identity: int, frames: Sequence[int]) -> None:
    members = table(SetMemberRow)
    connection.execute(members.delete().where(members.c.set_id == identity))
    _put(connection, identity, frames, 0)
    first, last = _span(connection, frames) if frames else ("", "")
    _update(connection, identity, {"first_obsdate": first, "last_obsdate": last})


def _change(connection: Connection, identity: int, change: Change) -> None:
    names = ("action", "status", "ready", "reason", "product_id")
    values = {name: getattr(change, name) for name in names if getattr(change, name) is not None}
    if change.sequence_start is not None:
        values["sequence_start"] = key_text(change.sequence_start)
    if values:
        _update(connection, identity, values)


def _update(connection: Connection, identity: int, values: Mapping[str, Any]) -> None:
    changed = connection.execute(_updating(*values), {"its_id": identity, **values})
    if changed.scalar_one_or_none() is None:
        raise ValueError(f"there is no set {identity}")


@lru_cache(None)
def _updating(*names: str) -> ReturningUpdate[tuple[int]]:
    """The statement that changes these columns of one set."""
    found = table(FrameSetRow)
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    return found.update().where(found.c.id == bindparam("its_id")).values(values).returning(found.c.id)


def _save_state(connection: Connection, state: GroupingState) -> None:
    telescope, camera, instrument = state.stream
    row = {"telescope": telescope, "camera": camera, "instrument": instrument, "step": state.step}
    row |= {"rules": state.rules, "state": state.state}
    replace_rows(connection, table(StreamStateRow), [row])


def last_boundary(connection: Connection, stream: Stream, step: str, key: OrderKey) -> OrderKey | None:
    """Start of the last sequence of a stream that begins at or before `key`; None where there is none."""
    values = _place(stream) | {"step": step, "key": key_text(key)}
    return text_key(connection.execute(_LAST_BOUNDARY, values).scalar_one_or_none() or "")


_LAST_BOUNDARY = (
    select(_SET.sequence_start)
    .where(
        *[_TESTS[name] for name in ("telescope", "camera", "instrument", "step")],
        _SET.status != "superseded",
        _SET.sequence_start <= bindparam("key"),
        _SET.sequence_start != "",
    )
    .order_by(_SET.sequence_start.desc())
    .limit(1)
)
