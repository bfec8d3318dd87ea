"""Sets of frames, and where the grouping of each stream stands."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, text, update
from sqlalchemy.orm import Session

from ccdflow.archive.frames import batches, replacing
from ccdflow.archive.models import Frame, FrameSet, SetMember, StreamState, table
from ccdflow.cascade.records import Action, Status
from ccdflow.cascade.sequences import OrderKey, Stream

_MANY = 5000


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


_COLUMNS = [getattr(FrameSet, name) for name in SetRecord.__annotations__ if name != "frames"]


@dataclass(frozen=True)
class NewSet:
    """A set that appears. `ref` is a name by which other changes of the same transaction call it."""

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
class State:
    """Where the grouping of a stream stands; `rules` is a digest of the rules that it was made by."""

    stream: Stream
    step: str
    rules: str
    state: Any


@dataclass(frozen=True)
class SetFilter:
    """Which sets; what is None does not matter. `frames` selects sets that hold one of these frames."""

    step: str | None = None
    status: Collection[str] | None = ("open", "closed")
    stream: Stream | None = None
    ready: bool | None = None
    since_sequence: OrderKey | None = None
    ids: Collection[int] | None = None
    frames: Collection[int] | None = None


def sets(session: Session, wanted: SetFilter) -> list[SetRecord]:
    """The sets that `wanted` selects, by their first frame's time."""
    tests: list[ColumnElement[bool]] = []
    if wanted.step is not None:
        tests.append(FrameSet.step == wanted.step)
    if wanted.status is not None:
        tests.append(FrameSet.status.in_(wanted.status))
    if wanted.stream is not None:
        tests.append(_of_stream(wanted.stream))
    if wanted.ready is not None:
        tests.append(FrameSet.ready.is_(wanted.ready))
    if wanted.since_sequence is not None:
        tests.append(FrameSet.sequence_start >= key_text(wanted.since_sequence))
    found: dict[int, SetRecord] = {}
    for some in _narrowed(wanted):
        found |= _read(session, [*tests, *some])
    return sorted(found.values(), key=lambda one: (one.first_obsdate, *one.stream, one.id))


def count(session: Session, step: str) -> dict[str, int]:
    """How many sets of a step count: open ones, and closed ones by what is done with them."""
    columns = select(FrameSet.status, FrameSet.action, func.count()).where(
        FrameSet.step == step, FrameSet.status != "superseded"
    )
    counts: dict[str, int] = {}
    for status, action, number in session.execute(columns.group_by(FrameSet.status, FrameSet.action)):
        kind = "open" if status == "open" else action
        counts[kind] = counts.get(kind, 0) + number
    return counts


def holding_changed(session: Session, step: str, stream: Stream) -> list[SetRecord]:
    """Sets that count and hold a frame that was read anew since, or gave way to a new version."""
    # Written as the index has it: SQLite does not use that for "ungrouped IS 1".
    changed = select(SetMember.set_id).join(Frame, Frame.id == SetMember.frame_id).where(text("ungrouped"))
    tests = [FrameSet.step == step, _of_stream(stream), FrameSet.status != "superseded"]
    return list(_read(session, [*tests, FrameSet.id.in_(changed)]).values())


def _of_stream(stream: Stream) -> ColumnElement[bool]:
    telescope, camera, instrument = stream
    return and_(FrameSet.telescope == telescope, FrameSet.camera == camera, FrameSet.instrument == instrument)


def _narrowed(wanted: SetFilter) -> list[list[ColumnElement[bool]]]:
    if wanted.ids is not None:
        return [[FrameSet.id.in_(some)] for some in batches(sorted(set(wanted.ids)), _MANY)]
    if wanted.frames is not None:
        return [
            [FrameSet.id.in_(select(SetMember.set_id).where(SetMember.frame_id.in_(some)))]
            for some in batches(sorted(set(wanted.frames)), _MANY)
        ]
    return [[]]


def _read(session: Session, tests: Sequence[ColumnElement[bool]]) -> dict[int, SetRecord]:
    members: dict[int, list[int]] = {}
    of = select(FrameSet.id).where(*tests)
    statement = select(SetMember.set_id, SetMember.frame_id).where(SetMember.set_id.in_(of))
    for found, frame in session.execute(statement.order_by(SetMember.set_id, SetMember.position)):
        members.setdefault(found, []).append(frame)
    rows = session.execute(select(*_COLUMNS).where(*tests))
    return {row.id: _record(row._asdict(), members.get(row.id, [])) for row in rows}


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


def set_rows(found: Sequence[SetRecord]) -> list[dict[str, Any]]:
    """Sets as JSON has them."""
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


def apply_changes(
    session: Session, changes: Sequence[SetChange], states: Sequence[State], grouped: Collection[int]
) -> dict[str, int]:
    """Make the changes in order; gives the id of each new set by its `ref`.

    Raises
    ------
    SetConflictError
        If a frame would be in two sets of one step that count.
    """
    ids: dict[str, int] = {}
    for change in changes:
        match change:
            case NewSet():
                if change.ref in ids:
                    raise ValueError(f"two new sets are called {change.ref!r}")
                ids[change.ref] = _new_set(session, change)
            case Append():
                _append(session, _id(change.set, ids), change.frames)
            case Replace():
                _replace(session, _id(change.set, ids), change.frames)
            case Change():
                _change(session, _id(change.set, ids), change)
            case Supersede():
                by = None if change.by is None else _id(change.by, ids)
                _update(
                    session,
                    _id(change.set, ids),
                    {"status": "superseded", "superseded_by": by, "ready": False},
                )
    _refuse_conflicts(session, changes)
    for state in states:
        _save_state(session, state)
    for some in batches(grouped, _MANY):
        session.execute(
            update(Frame)
            .where(Frame.id.in_(some))
            .values(ungrouped=False)
            .execution_options(synchronize_session=False)
        )
    return ids


def _refuse_conflicts(session: Session, changes: Sequence[SetChange]) -> None:
    """Two programs that group the same new frames at once: the second sees what the first has made."""
    steps: dict[str, set[int]] = {}
    for change in changes:
        if isinstance(change, NewSet):
            steps.setdefault(change.step, set()).update(change.frames)
    for step, members in steps.items():
        for some in batches(sorted(members), _MANY):
            twice = (
                select(SetMember.frame_id)
                .join(FrameSet, FrameSet.id == SetMember.set_id)
                .where(FrameSet.step == step, FrameSet.status != "superseded", SetMember.frame_id.in_(some))
                .group_by(SetMember.frame_id)
                .having(func.count() > 1)
            )
            if (frame := session.execute(twice.limit(1)).scalar_one_or_none()) is not None:
                raise SetConflictError(f"frame {frame} would be in two sets of step {step!r}")


def _id(name: int | str, ids: Mapping[str, int]) -> int:
    if isinstance(name, int):
        return name
    if name not in ids:
        raise ValueError(f"no new set is called {name!r}; known: {', '.join(ids) or 'none'}")
    return ids[name]


def _new_set(session: Session, new: NewSet) -> int:
    telescope, camera, instrument = new.stream
    values = {
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
        "first_obsdate": "",
        "last_obsdate": "",
    }
    if new.frames:
        values["first_obsdate"], values["last_obsdate"] = _span(session, new.frames)
    made = table(FrameSet)
    identity = session.execute(made.insert().values(values).returning(made.c.id)).scalar_one()
    _put(session, identity, new.frames, 0)
    return int(identity)


def _put(session: Session, identity: int, frames: Sequence[int], first: int) -> None:
    rows = [
        {"set_id": identity, "position": position, "frame_id": frame}
        for position, frame in enumerate(frames, first)
    ]
    if rows:
        session.execute(table(SetMember).insert(), rows)


def _span(session: Session, frames: Sequence[int]) -> tuple[str, str]:
    """Times of the earliest and latest of these frames."""
    wanted = select(func.min(Frame.obsdate), func.max(Frame.obsdate))
    spans = [session.execute(wanted.where(Frame.id.in_(some))).one() for some in batches(frames, _MANY)]
    known = [(first, last) for first, last in spans if first is not None]
    if not known:
        raise ValueError(f"there is no frame {', '.join(map(str, frames[:5]))}")
    return min(first for first, _ in known), max(last for _, last in known)


def _append(session: Session, identity: int, frames: Sequence[int]) -> None:
    if not frames:
        return
    last = select(func.coalesce(func.max(SetMember.position), -1)).where(SetMember.set_id == identity)
    _put(session, identity, frames, session.execute(last).scalar_one() + 1)
    first_new, last_new = _span(session, frames)
    before = select(FrameSet.first_obsdate, FrameSet.last_obsdate).where(FrameSet.id == identity)
    first_old, last_old = session.execute(before).one()
    span = {"first_obsdate": min(first_old or first_new, first_new), "last_obsdate": max(last_old, last_new)}
    _update(session, identity, span)


def _replace(session: Session, identity: int, frames: Sequence[int]) -> None:
    members = table(SetMember)
    session.execute(members.delete().where(members.c.set_id == identity))
    _put(session, identity, frames, 0)
    first, last = _span(session, frames) if frames else ("", "")
    _update(session, identity, {"first_obsdate": first, "last_obsdate": last})


def _change(session: Session, identity: int, change: Change) -> None:
    names = ("action", "status", "ready", "reason", "product_id")
    values = {name: getattr(change, name) for name in names if getattr(change, name) is not None}
    if change.sequence_start is not None:
        values["sequence_start"] = key_text(change.sequence_start)
    if values:
        _update(session, identity, values)


def _update(session: Session, identity: int, values: Mapping[str, Any]) -> None:
    found = table(FrameSet)
    changed = session.execute(
        found.update().where(found.c.id == identity).values(values).returning(found.c.id)
    )
    if changed.scalar_one_or_none() is None:
        raise ValueError(f"there is no set {identity}")


def load_state(session: Session, stream: Stream, step: str, rules: str) -> Any:
    """Where the grouping of a stream stands; None where it has not begun, or was made by other rules."""
    telescope, camera, instrument = stream
    found = select(StreamState.rules, StreamState.state).where(
        StreamState.telescope == telescope,
        StreamState.camera == camera,
        StreamState.instrument == instrument,
        StreamState.step == step,
    )
    row = session.execute(found).one_or_none()
    return None if row is None or row.rules != rules else row.state


def _save_state(session: Session, state: State) -> None:
    telescope, camera, instrument = state.stream
    row = {"telescope": telescope, "camera": camera, "instrument": instrument, "step": state.step}
    row |= {"rules": state.rules, "state": state.state}
    session.execute(replacing(session, table(StreamState), "rules", "state"), [row])


def last_boundary(session: Session, stream: Stream, step: str, key: OrderKey) -> OrderKey | None:
    """Start of the last sequence of a stream that begins at or before `key`; None where there is none."""
    found = select(func.max(FrameSet.sequence_start)).where(
        _of_stream(stream),
        FrameSet.step == step,
        FrameSet.status != "superseded",
        FrameSet.sequence_start <= key_text(key),
        FrameSet.sequence_start != "",
    )
    return text_key(session.execute(found).scalar_one() or "")
