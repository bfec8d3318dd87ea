"""Sets of frames appear, change and give way to others, all changes of a transaction together.

Whoever changes sets is alone meanwhile (`setcounts.alone`), so that the counts of sets can be kept by adding to them,
ids can be given out in advance, and a conflict is seen rather than made.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.sql.dml import ReturningUpdate

from ccdflow.archive.registry.bulk import batches, replace_rows
from ccdflow.archive.registry.frames.orderkeys import write_order_key
from ccdflow.archive.registry.sets import counts as setcounts
from ccdflow.archive.registry.sets.records import stream_values
from ccdflow.archive.registry.sets.settling import Settling, settle
from ccdflow.archive.registry.tables import FrameRow, FrameSetRow, SetMemberRow, StreamStateRow, table
from ccdflow.cascade.records import Action, Status
from ccdflow.cascade.sequences.exposures import OrderKey, Stream

_FEW_FRAMES = 100
"""Up to so many frames it is no quicker to look first which of them are in more than one set."""


class SetConflictError(Exception):
    """Another program has grouped the same frames since they were read: read again, and group again."""


@dataclass(frozen=True)
class NewSet:
    """A set that appears; the same transaction calls it by its `ref`.

    `span` are the obsdates of its first and last frame; without it they are looked up.
    """

    ref: str
    step: str
    stream: Stream
    frames: Sequence[int]
    action: Action = "stack"
    status: Status = "open"
    reason: str = ""
    sequence_start: OrderKey | None = None
    version: int = 1
    span: tuple[str, str] | None = None


@dataclass(frozen=True)
class Change:
    """What becomes of the set with this id; what is None stays."""

    set: int
    action: Action | None = None
    status: Status | None = None
    ready: bool | None = None
    reason: str | None = None
    product_id: int | None = None
    sequence_start: OrderKey | None = None


@dataclass(frozen=True)
class Replace:
    """Other frames in place of those that the set with this id has had."""

    set: int
    frames: Sequence[int]


@dataclass(frozen=True)
class Supersede:
    """A set that counts no more, because of a new one with the `ref` `by`; the row and its product stay."""

    set: int
    by: str | None = None


SetChange = NewSet | Change | Replace | Supersede


@dataclass(frozen=True)
class GroupingState:
    """The rules that a stream is grouped by, as a digest."""

    stream: Stream
    step: str
    rules: str


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
    changes : sequence of NewSet, Change, Replace or Supersede
        What becomes of sets.
    states : sequence of GroupingState
        The rules that streams are grouped by after it.
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
    ValueError
        If a set, a frame or a `ref` is named that there is not, or two new sets have one `ref`.
    """
    # First of all, and before anything is read here: what is counted and compared below must not change meanwhile.
    free = iter(setcounts.alone(connection, sum(isinstance(change, NewSet) for change in changes)))
    tally = _tally(connection, changes)
    ids: dict[str, int] = {}
    # Changes of a kind that stand together: new sets take two statements, however many they are.
    for kind, alike in groupby(changes, key=type):
        if kind is NewSet:
            _new_sets(connection, [change for change in alike if isinstance(change, NewSet)], ids, free)
        else:
            for change in alike:
                _apply(connection, change, ids)
    # When all is written, so that a frame which goes from one set to another in these changes is no conflict.
    _refuse_conflicts(connection, changes, looked_at)
    setcounts.add(connection, tally)
    for state in states:
        _save_state(connection, state)
    changed = [change.set for change in changes if not isinstance(change, NewSet)]
    for by in settling:
        settle(connection, by, [*ids.values(), *changed, *settled])
    # Last, in the same transaction: a frame counts as seen exactly where what came of it is there.
    for frames in batches(grouped):
        connection.execute(_SEEN, {"frames": frames})
    return ids


def _tally(connection: Connection, changes: Sequence[SetChange]) -> setcounts.Kinds:
    """How many sets of each kind there will be more, or fewer, once the changes have been made."""
    counted = {change.set for change in changes if isinstance(change, Change | Supersede)}
    known: dict[int, tuple[str, str, str]] = {}
    for numbers in batches(counted):
        known |= setcounts.placed(connection, numbers)
    tally: setcounts.Kinds = Counter()
    for change in changes:
        if isinstance(change, NewSet):
            tally[change.step, setcounts.kind(change.status, change.action)] += 1
        elif isinstance(change, Change | Supersede) and change.set in known:
            # A set may change twice: what the first change makes of it is what the second one takes away.
            step, status, action = known[change.set]
            tally[step, setcounts.kind(status, action)] -= 1
            if isinstance(change, Supersede):
                status = "superseded"
            else:
                status, action = change.status or status, change.action or action
            known[change.set] = step, status, action
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
        case Replace():
            _replace(connection, change)
        case Change():
            _change(connection, change)
        case Supersede():
            successor = None if change.by is None else _id(change.by, ids)
            # Not ready any more, so that nobody makes a job of it.
            values = {"status": "superseded", "superseded_by": successor, "ready": False}
            _update(connection, change.set, values)


def _id(ref: str, ids: Mapping[str, int]) -> int:
    if ref not in ids:
        raise ValueError(f"no new set is called {ref!r}; known: {', '.join(ids) or 'none'}")
    return ids[ref]


# --- no frame in two sets -----------------------------------------------------------------------------------------

_SET = table(FrameSetRow).c
_MEMBER = table(SetMemberRow).c


def _refuse_conflicts(
    connection: Connection, changes: Sequence[SetChange], looked_at: Collection[int]
) -> None:
    """Two programs that group the same new frames at once: the second sees what the first has made."""
    steps: dict[str, set[int]] = {}
    for change in changes:
        if isinstance(change, NewSet):
            steps.setdefault(change.step, set()).update(change.frames)
    for step, members in steps.items():
        for frames in batches(sorted(members)):
            # Of many first without looking at the sets: nearly all frames have only ever been in one.
            doubtful: Sequence[int] = frames
            if len(frames) > _FEW_FRAMES:
                doubtful = connection.execute(_HELD_TWICE, {"frames": frames}).scalars().all()
            if doubtful and (twice := _first_twice(connection, step, doubtful, looked_at)):
                raise SetConflictError(f"frame {twice} would be in two sets of step {step!r}")


def _first_twice(
    connection: Connection, step: str, frames: Sequence[int], but: Collection[int]
) -> int | None:
    """The first of these frames that is in two sets of a step that count, `but` for some sets."""
    rows = connection.execute(_SETS_OF, {"frames": frames})
    held = Counter(
        frame
        for frame, of_step, number, status in rows
        if of_step == step and status != "superseded" and number not in but
    )
    return min((frame for frame, count in held.items() if count > 1), default=None)


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


# --- the changes one by one ---------------------------------------------------------------------------------------


def _new_sets(
    connection: Connection, new: Sequence[NewSet], ids: dict[str, int], free: Iterator[int]
) -> None:
    """Write sets, all at once, and note their ids, from those that are `free`, by their refs."""
    for new_set in new:
        if new_set.ref in ids:
            raise ValueError(f"two new sets are called {new_set.ref!r}")
        ids[new_set.ref] = next(free)
    connection.execute(_INSERT_SETS, [_set_row(connection, new_set, ids[new_set.ref]) for new_set in new])
    members = [row for new_set in new for row in _member_rows(ids[new_set.ref], new_set.frames)]
    if members:
        connection.execute(_INSERT_MEMBERS, members)


_INSERT_SETS = table(FrameSetRow).insert()
_INSERT_MEMBERS = table(SetMemberRow).insert()


def _set_row(connection: Connection, new: NewSet, identity: int) -> dict[str, Any]:
    first, last = new.span or (_span(connection, new.frames) if new.frames else ("", ""))
    return {
        "id": identity,
        "step": new.step,
        **stream_values(new.stream),
        "action": new.action,
        "status": new.status,
        "reason": new.reason,
        "sequence_start": write_order_key(new.sequence_start),
        "version": new.version,
        "first_obsdate": first,
        "last_obsdate": last,
    }


def _member_rows(identity: int, frames: Sequence[int]) -> list[dict[str, int]]:
    return [
        {"set_id": identity, "position": position, "frame_id": frame} for position, frame in enumerate(frames)
    ]


def _span(connection: Connection, frames: Sequence[int]) -> tuple[str, str]:
    """Times of the earliest and latest of these frames."""
    ends = select(func.min(FrameRow.obsdate), func.max(FrameRow.obsdate))
    spans = [connection.execute(ends.where(FrameRow.id.in_(part))).one() for part in batches(frames)]
    known = [(first, last) for first, last in spans if first is not None]
    if not known:
        raise ValueError(f"there is no frame {', '.join(map(str, frames[:5]))}")
    return min(first for first, _ in known), max(last for _, last in known)


def _replace(connection: Connection, change: Replace) -> None:
    # What stays at the beginning stays as it is: a sequence may have grown to thousands of frames, by one at a time.
    known = connection.execute(_FRAMES_OF, {"its_id": change.set}).scalars().all()
    pairs = enumerate(zip(known, change.frames, strict=False))
    same = next((place for place, (old, new) in pairs if old != new), min(len(known), len(change.frames)))
    # The rest all anew: positions are part of the key, and frames that move up would meet each other there.
    behind = _MEMBER.set_id == change.set, _MEMBER.position >= same
    connection.execute(table(SetMemberRow).delete().where(*behind))
    if rows := _member_rows(change.set, change.frames)[same:]:
        connection.execute(_INSERT_MEMBERS, rows)
    first, last = _span(connection, change.frames) if change.frames else ("", "")
    _update(connection, change.set, {"first_obsdate": first, "last_obsdate": last})


_FRAMES_OF = select(_MEMBER.frame_id).where(_MEMBER.set_id == bindparam("its_id")).order_by(_MEMBER.position)


def _change(connection: Connection, change: Change) -> None:
    names = ("action", "status", "ready", "reason", "product_id")
    values = {name: getattr(change, name) for name in names if getattr(change, name) is not None}
    if change.sequence_start is not None:
        values["sequence_start"] = write_order_key(change.sequence_start)
    if values:
        _update(connection, change.set, values)


def _update(connection: Connection, identity: int, values: Mapping[str, Any]) -> None:
    changed = connection.execute(_updating(*values), {"its_id": identity, **values})
    if changed.scalar_one_or_none() is None:
        raise ValueError(f"there is no set {identity}")


@lru_cache(None)
def _updating(*names: str) -> ReturningUpdate[tuple[int]]:
    """The statement that changes these columns of one set."""
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    sets = table(FrameSetRow)
    return sets.update().where(sets.c.id == bindparam("its_id")).values(values).returning(sets.c.id)


def _save_state(connection: Connection, state: GroupingState) -> None:
    row = {**stream_values(state.stream), "step": state.step, "rules": state.rules, "state": {}}
    replace_rows(connection, table(StreamStateRow), [row])
