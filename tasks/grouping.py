"""Sets kept in the registry: new frames are grouped, late ones regroup what they touch, all else keeps its id."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

from ccdflow.archive.exposures import Ungrouped
from ccdflow.archive.outbox import StageState
from ccdflow.archive.queries import FrameFilter
from ccdflow.archive.registry import Registry
from ccdflow.archive.sets import (
    Change,
    NewSet,
    Replace,
    SetChange,
    SetConflictError,
    SetFilter,
    SetRecord,
    State,
    Supersede,
)
from ccdflow.cascade.exposures import Exposure, OrderKey, SequenceRules, Stream
from ccdflow.cascade.jobs import digest
from ccdflow.cascade.parameters import chosen, grouping, tuned
from ccdflow.cascade.plan import Request
from ccdflow.cascade.records import Status
from ccdflow.cascade.regroup import difference, regroup
from ccdflow.cascade.sequences import FrameSet
from ccdflow.cascade.settle import is_ready
from ccdflow.tasks.planning import planned
from ccdflow.tasks.workspace import Workspace, open_workspace

SETTLED = ("done", "failed", "refused")
"""States in which a frame's calibration will not change any more."""


def group_frames(project: str, request: Request) -> dict[str, int]:
    """Cut the streams of a project into sets; gives how many sets there are of each kind."""
    return group_sets(open_workspace(project), request)


def group_sets(space: Workspace, request: Request) -> dict[str, int]:
    """Cut all streams into sets and settle those whose frames are; gives how many sets there are of each kind."""
    found = chosen(space.cascade, request.parameters, request.parameter_set)
    cascade = tuned(space.cascade, found)
    steps = {name: step for name, step in cascade.tasks.items() if step.groups}
    rules = {name: grouping(name, step, found.tasks.get(name, ())) for name, step in steps.items()}
    by_rules = [
        SequenceTask(task, one, cascade.sources[cascade.main_source(task)].frame_class, request.clock)
        for task, one in rules.items()
        if isinstance(one, SequenceRules)
    ]
    if by_rules:
        group_streams(space.registry, by_rules)
    counts: Counter[str] = Counter({"stack": 0, "pass": 0, "open": 0})
    for task, one in rules.items():
        if not isinstance(one, SequenceRules):
            name = digest(one.model_dump(mode="json"))
            _until_sure(partial(_keep_planned, space, task, request, name))
        _settle(space, task)
        counts.update(space.registry.count_sets(task))
    return dict(counts)


# --- sequences ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SequenceTask:
    """What a task groups by: rules, class of the frames that sets are made of, and clock."""

    task: str
    rules: SequenceRules
    frame_class: str
    clock: float

    @cached_property
    def name(self) -> str:
        """Digest of the rules."""
        return digest(self.rules.model_dump(mode="json"))


@dataclass(frozen=True)
class _Known:
    """A stream as the registry has it; sets that other rules made bound nothing (`anew`)."""

    registry: Registry
    stream: Stream
    by: SequenceTask
    anew: bool

    def boundary_before(self, key: OrderKey) -> OrderKey | None:
        return self._last_boundary((*key[:3], key[3] - 1))

    def is_boundary(self, key: OrderKey) -> bool:
        return self._last_boundary(key) == key

    def _last_boundary(self, key: OrderKey) -> OrderKey | None:
        return None if self.anew else self.registry.last_boundary(self.stream, self.by.task, key)

    def frames_from(self, key: OrderKey | None) -> Iterator[Exposure]:
        just_before = None if key is None else (*key[:3], key[3] - 1)
        classes = (self.by.frame_class,)
        return self.registry.exposures_in_stream(self.stream, self.by.rules, classes, just_before)


T = TypeVar("T")

ATTEMPTS = 10
"""How often a stream is grouped anew when other programs group it at the same time."""

BEGINNING: OrderKey = ("", 0, "", 0)
"""Before all frames of a stream."""


def _until_sure(work: Callable[[], T]) -> T:
    """Do `work`, anew where another program grouped the same frames in the meantime."""
    for _ in range(ATTEMPTS - 1):
        try:
            return work()
        except SetConflictError:
            continue
    return work()


@dataclass(frozen=True)
class _Anew:
    """What was found to be new: frames that no grouping has seen, and ids of the sets that hold one of them."""

    frames: Ungrouped
    held_by: Sequence[int]


def group_streams(registry: Registry, tasks: Sequence[SequenceTask]) -> None:
    """Group what is new in any stream, what has left it, and what time may have closed."""
    with registry.view():
        frames = registry.ungrouped()
        new = _Anew(frames, registry.sets_with(frames.ids))
        rules = {by.task: by.name for by in tasks}
        streams = sorted(registry.streams_to_close(rules, new.held_by) | frames.keys.keys())
        work = [(stream, by) for stream in streams for by in tasks]
        # One new frame is the common case: then all is read in this transaction.
        first = _stream_changes(registry, *work[0], new) if len(work) == 1 else None
    for stream, by in work[:-1]:
        _until_sure(partial(_group_stream, registry, stream, by, new, ()))
    # Only with the last: a frame that moved to another stream is new in that one and missing in the other.
    seen = frames.ids
    if work and not (first and _applied(registry, *work[0], first, seen)):
        _until_sure(partial(_group_stream, registry, *work[-1], new, seen))
    elif seen and not work:
        registry.apply_set_changes((), grouped=seen)


Changes = tuple[list[SetChange], bool]
"""What becomes of the sets of a stream, and whether all of them are made anew."""


def _group_stream(
    registry: Registry, stream: Stream, by: SequenceTask, new: _Anew, seen: Sequence[int]
) -> None:
    """Group what is new in a stream, what has left it, and what time may have closed; `seen` frames are new no more."""
    _apply(registry, stream, by, _stream_changes(registry, stream, by, new), seen)


def _apply(registry: Registry, stream: Stream, by: SequenceTask, found: Changes, seen: Sequence[int]) -> None:
    changes, anew = found
    if changes or anew or seen:
        states = [State(stream, by.task, by.name, {})] if anew else []
        registry.apply_set_changes(changes, states=states, grouped=seen)


def _applied(
    registry: Registry, stream: Stream, by: SequenceTask, found: Changes, seen: Sequence[int]
) -> bool:
    """Whether the changes could be made: not where another program has grouped the same frames meanwhile."""
    try:
        _apply(registry, stream, by, found, seen)
    except SetConflictError:
        return False
    return True


def _stream_changes(registry: Registry, stream: Stream, by: SequenceTask, new: _Anew) -> Changes:
    """What becomes of the sets of a stream with its new frames, and whether all of them are made anew."""
    changes: list[SetChange] = []
    with registry.view():
        anew = registry.load_state(stream, by.task, by.name) is None
        touched = [BEGINNING] if anew else [*new.frames.keys.get(stream, ())]
        touched += [] if anew else _unsure_places(registry, stream, by, new)
        known = _Known(registry, stream, by, anew)
        for region in regroup(stream, known, touched, by.rules, by.clock):
            part = SetFilter(by.task, stream=stream, since_sequence=region.start, until_sequence=region.until)
            before = registry.sets(part)
            held = [one for one in before if anew or region.holds(one.sequence_start or BEGINNING)]
            changes += _changes(by.task, held, region.sets)
    return changes, anew


def _unsure_places(registry: Registry, stream: Stream, by: SequenceTask, new: _Anew) -> list[OrderKey]:
    """Where open sets begin, which time may have closed, and sets of which a frame has changed, or left the stream."""
    found = registry.sets(SetFilter(step=by.task, stream=stream, status=("open",)))
    if new.held_by:
        found += registry.sets(SetFilter(step=by.task, stream=stream, ids=new.held_by))
    return [one.sequence_start or BEGINNING for one in found]


def _changes(task: str, before: Sequence[SetRecord], now: Sequence[FrameSet]) -> Iterator[SetChange]:
    """What makes of the registry's sets those that there are now; superseded ones and their products stay."""
    records = {one.id: one for one in before}
    found = difference({one.id: _frame_set(one) for one in before}, now)
    versions = {frame: records[name].version for name in found.gone for frame in records[name].frames}
    for number, one in enumerate(found.made):
        version = 1 + max((versions.get(frame, 0) for frame in one.frames), default=0)
        yield NewSet(
            ref=f"{task} {one.stream} {one.frames[0]} {number}",
            step=task,
            stream=one.stream,
            frames=one.frames,
            action=one.action,
            status=_status(one),
            reason=one.reason,
            sequence_start=one.sequence_start,
            version=version,
            span=(one.first, one.last),
        )
    for name, place in found.gone.items():
        heir = None if place is None else found.made[place]
        yield Supersede(name, None if heir is None else f"{task} {heir.stream} {heir.frames[0]} {place}")
    for name, one in found.changed.items():
        yield from _rewritten(records[name], one)


def _frame_set(one: SetRecord) -> FrameSet:
    return FrameSet(
        stream=one.stream,
        frames=one.frames,
        action=one.action,
        closed=one.status == "closed",
        reason=one.reason,
        sequence_start=one.sequence_start or BEGINNING,
        first=one.first_obsdate,
        last=one.last_obsdate,
    )


def _rewritten(known: SetRecord, now: FrameSet) -> Iterator[SetChange]:
    """A set that stays the one that it is, with other contents."""
    if now.frames != known.frames:
        yield Replace(known.id, now.frames)
    yield Change(known.id, now.action, _status(now), reason=now.reason, sequence_start=now.sequence_start)


def _status(found: FrameSet) -> Status:
    return "closed" if found.closed else "open"


# --- other ways --------------------------------------------------------------------------------------


def _keep_planned(space: Workspace, task: str, request: Request, name: str) -> None:
    """Sets of a grouping that looks at all frames at once: as the plan has them."""
    frames = {one.id: one for one in space.registry.frames()}
    everything = {"targets": (task,), "night": None, "camera": None, "since": None, "until": None}
    sets = []
    for one in planned(space, request.model_copy(update=everything)).sets:
        members = [frames[number] for number in one.frames]
        key = (members[0].obsdate, members[0].iobs or 0, members[0].sha256 or "", members[0].id)
        span = members[0].obsdate, members[-1].obsdate
        sets.append(FrameSet(members[0].stream, one.frames, one.action, one.closed, one.reason, key, *span))
    states = [State(stream, task, name, {}) for stream in space.registry.streams()]
    changes = list(_changes(task, space.registry.sets(SetFilter(step=task)), sets))
    space.registry.apply_set_changes(changes, states=states)


# --- readiness ---------------------------------------------------------------------------------------


def _settle(space: Workspace, task: str) -> None:
    """Closed sets become ready once each frame is calibrated or has failed; frames of sets that pass then pass."""
    upstream = space.cascade.tasks[space.cascade.tasks[task].main].stage
    stage = space.cascade.tasks[task].stage
    open_sets = space.registry.sets(SetFilter(step=task, ready=False))
    members = {frame for one in open_sets for frame in one.frames}
    states = space.registry.stages(upstream, members)
    reached = space.registry.stages(stage, members)
    refused = {one.id for one in space.registry.frames(FrameFilter(ids=members)) if one.refused}
    changes: list[SetChange] = []
    marks: list[StageState] = []
    for one in open_sets:
        reached_by = {frame: "refused" if frame in refused else states.get(frame, "") for frame in one.frames}
        ready = is_ready(_frame_set(one), {frame for frame, state in reached_by.items() if state in SETTLED})
        if ready:
            changes.append(Change(one.id, ready=True))
        for frame, state in reached_by.items():
            mark = _mark(one, ready, state)
            if mark is not None and reached.get(frame) != mark:
                marks.append(StageState(frame, stage, mark, one.reason))
    space.registry.apply_set_changes(changes)
    space.registry.set_frame_stage(*marks)


def _mark(one: SetRecord, ready: bool, state: str) -> str | None:
    """The state of a frame in the stage that its set belongs to; None where a job decides it, or nothing does yet."""
    if one.action == "pass" and state == "done":
        return "passed"
    if one.status == "open" and state == "done" and not ready:
        return "waiting"
    return None
