"""Sets kept in the registry: new frames are grouped, late ones regroup what they touch, all else keeps its id."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ccdflow.archive.outbox import StageState
from ccdflow.archive.queries import FrameFilter
from ccdflow.archive.sets import Append, Change, NewSet, SetChange, SetFilter, SetRecord, State, Supersede
from ccdflow.cascade.jobs import digest
from ccdflow.cascade.parameters import grouping, split_request
from ccdflow.cascade.plan import Request
from ccdflow.cascade.records import FrameRecord, Status
from ccdflow.cascade.sequences import (
    Cut,
    Exposure,
    FrameSet,
    OrderKey,
    SequenceMachine,
    SequenceRules,
    Stream,
    assemble,
    exposures,
)
from ccdflow.tasks.planning import planned
from ccdflow.tasks.workspace import Workspace, open_workspace

SETTLED = ("done", "failed", "refused")
"""States in which a frame's calibration will not change any more."""


def group_frames(project: str, request: Request) -> dict[str, int]:
    """Cut the streams of a project into sets; gives how many sets there are of each kind."""
    return group_sets(open_workspace(project), request)


def group_sets(space: Workspace, request: Request) -> dict[str, int]:
    """Cut all streams into sets and settle those whose frames are; gives how many sets there are of each kind."""
    requested = split_request(space.cascade, request.parameters)
    counts: Counter[str] = Counter({"stack": 0, "pass": 0, "open": 0})
    for task, step in space.cascade.tasks.items():
        if not step.groups:
            continue
        rules = grouping(task, step, requested.get(task, {}))
        if isinstance(rules, SequenceRules):
            _group_streams(space, task, rules, request.clock)
        else:
            _keep_planned(space, task, request, digest(rules.model_dump(mode="json")))
        _settle(space, task)
        for one in space.registry.sets(SetFilter(step=task)):
            counts["open" if one.status == "open" else one.action] += 1
    return dict(counts)


# --- sequences ---------------------------------------------------------------------------------------


def _group_streams(space: Workspace, task: str, rules: SequenceRules, clock: float) -> None:
    source = space.cascade.sources[space.cascade.main_source(task)]
    name = digest(rules.model_dump(mode="json"))
    for stream in space.registry.streams():
        new = space.registry.ungrouped_frames(stream)
        start = _start(space, stream, task, name, new, (rules, source.frame_class, clock))
        if start is None:
            continue
        pending = {frame.id for frame in new}
        run = _regroup(space, stream, task, start, pending, (rules, source.frame_class, clock))
        changes = _changes(task, run)
        state = State(stream, task, name, {"frames": len(run.sets)})
        space.registry.apply_set_changes(changes, states=[state], grouped=sorted(pending))


ANEW: OrderKey = ("", 0, "", 0)
"""Before all frames of a stream, whose sets were made by other rules: none of their boundaries holds."""

BEGINNING: OrderKey = ("", 0, "", 1)
"""Before all frames of a stream."""

By = tuple[SequenceRules, str, float]
"""Rules, class of the frames that sets are made of, and clock."""


def _start(
    space: Workspace, stream: Stream, task: str, name: str, new: Sequence[FrameRecord], by: By
) -> OrderKey | None:
    """Where grouping begins: key of a sequence's first frame, or None where nothing has changed."""
    if space.registry.load_state(stream, task, name) is None:
        return ANEW
    starts: list[OrderKey] = []
    if new:
        ((_, first),) = exposures(new[:1], by[0], ())
        starts.append(space.registry.last_boundary(stream, task, first.key) or BEGINNING)
    open_sets = space.registry.sets(SetFilter(step=task, stream=stream, status=("open",)))
    starts += [one.sequence_start or BEGINNING for one in open_sets]
    return min(starts) if starts else None


@dataclass
class _Run:
    """One regrouping: sets as they are now, and the registry's sets in the same part of the stream."""

    sets: list[FrameSet] = field(default_factory=list)
    known: list[SetRecord] = field(default_factory=list)


def _regroup(space: Workspace, stream: Stream, task: str, start: OrderKey, pending: set[int], by: By) -> _Run:
    """Run the machine from `start` on, until a sequence begins where one began before and nothing new follows."""
    known = space.registry.sets(SetFilter(step=task, stream=stream, since_sequence=start))
    starts = {one.sequence_start for one in known if one.sequence_start is not None and start != ANEW}
    ends: list[OrderKey] = []
    cuts = _cuts(_from(space, stream, start, by), starts, set(pending), by, ends)
    sets = list(assemble(stream, cuts))
    if ends:
        known = [one for one in known if (one.sequence_start or BEGINNING) < ends[0]]
    return _Run(sets, known)


def _from(space: Workspace, stream: Stream, start: OrderKey, by: By) -> Iterator[Exposure]:
    just_before = (*start[:3], start[3] - 1)
    return space.registry.exposures_in_stream(stream, by[0], (by[1],), just_before)


def _cuts(
    frames: Iterable[Exposure], starts: set[OrderKey], pending: set[int], by: By, ends: list[OrderKey]
) -> Iterator[tuple[Cut, bool]]:
    rules, _, clock = by
    machine = SequenceMachine(rules)
    for frame in frames:
        begins = machine.previous is not None and machine.begins(frame)
        if begins and not pending and frame.key in starts:
            ends.append(frame.key)
            yield from ((one, True) for one in machine.close())
            return
        pending.discard(frame.id)
        yield from ((one, True) for one in machine.add(frame))
    last = machine.previous
    if last is not None and clock - last.time > rules.max_gap:
        yield from ((one, True) for one in machine.close())
    elif (rest := machine.waiting()) is not None:
        yield rest, False


def _changes(task: str, run: _Run) -> list[SetChange]:
    """What makes the run's sets of the registry's: equal sets keep their id, open ones grow, others give way."""
    known = {(one.action, one.frames): one for one in run.known}
    growing = {one.frames[0]: one for one in run.known if one.status == "open" and one.frames}
    kept: set[int] = set()
    changes: list[SetChange] = []
    fresh: list[tuple[str, FrameSet]] = []
    for number, found in enumerate(run.sets):
        same = known.get((found.action, found.frames))
        grown = growing.get(found.frames[0])
        if same is not None:
            kept.add(same.id)
            changes += _restated(same, found)
        elif grown is not None and grown.frames == found.frames[: len(grown.frames)]:
            kept.add(grown.id)
            changes.append(Append(grown.id, found.frames[len(grown.frames) :]))
            changes.append(Change(grown.id, found.action, _status(found), reason=found.reason))
        else:
            fresh.append((f"new{number}", found))
    gone = [one for one in run.known if one.id not in kept]
    return [*_replaced(task, gone, fresh), *changes]


def _status(found: FrameSet) -> Status:
    return "closed" if found.closed else "open"


def _restated(same: SetRecord, found: FrameSet) -> Iterator[SetChange]:
    status = _status(found)
    if (same.status, same.reason) != (status, found.reason):
        yield Change(same.id, status=status, reason=found.reason)


def _replaced(
    task: str, gone: Sequence[SetRecord], fresh: Sequence[tuple[str, FrameSet]]
) -> Iterator[SetChange]:
    """New sets, as later versions of the sets whose frames they take; the old ones and their products stay."""
    versions = {frame: one.version for one in gone for frame in one.frames}
    home = {frame: name for name, found in fresh for frame in found.frames}
    for name, found in fresh:
        yield NewSet(
            ref=name,
            step=task,
            stream=found.stream,
            frames=found.frames,
            action=found.action,
            status=_status(found),
            reason=found.reason,
            sequence_start=found.sequence_start,
            version=1 + max((versions.get(frame, 0) for frame in found.frames), default=0),
        )
    for one in gone:
        yield Supersede(one.id, next((home[frame] for frame in one.frames if frame in home), None))


# --- other ways --------------------------------------------------------------------------------------


def _keep_planned(space: Workspace, task: str, request: Request, name: str) -> None:
    """Sets of a grouping that looks at all frames at once: as the plan has them."""
    frames = {one.id: one for one in space.registry.frames()}
    plan = planned(space, request.model_copy(update={"targets": (task,), "night": None, "camera": None}))
    sets = []
    for one in plan.sets:
        members = [frames[number] for number in one.frames]
        key = (members[0].obsdate, members[0].iobs or 0, members[0].sha256 or "", members[0].id)
        span = members[0].obsdate, members[-1].obsdate
        sets.append(FrameSet(members[0].stream, one.frames, one.action, one.closed, one.reason, key, *span))
    run = _Run(sets, space.registry.sets(SetFilter(step=task)))
    states = [State(stream, task, name, {}) for stream in space.registry.streams()]
    space.registry.apply_set_changes(_changes(task, run), states=states)


# --- readiness ---------------------------------------------------------------------------------------


def _settle(space: Workspace, task: str) -> None:
    """Closed sets become ready once each frame is calibrated or has failed; frames of sets that pass then pass."""
    upstream = space.cascade.tasks[space.cascade.tasks[task].main].stage
    stage = space.cascade.tasks[task].stage
    open_sets = [
        one for one in space.registry.sets(SetFilter(step=task)) if not one.ready or one.action == "pass"
    ]
    members = {frame for one in open_sets for frame in one.frames}
    states = space.registry.stages(upstream, members)
    reached = space.registry.stages(stage, members)
    refused = {one.id for one in space.registry.frames(FrameFilter(ids=members)) if one.refused}
    changes: list[SetChange] = []
    marks: list[StageState] = []
    for one in open_sets:
        settled = {frame: "refused" if frame in refused else states.get(frame, "") for frame in one.frames}
        ready = one.status == "closed" and all(state in SETTLED for state in settled.values())
        if ready and not one.ready:
            changes.append(Change(one.id, ready=True))
        for frame, state in settled.items():
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
