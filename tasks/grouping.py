"""Sets kept in the registry: new frames are grouped, late ones regroup what they touch, all else keeps its id."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

from ccdflow.archive.registry.database import again
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.keywords import keywords_there
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames, find_streams
from ccdflow.archive.registry.sets.changes import (
    Change,
    GroupingState,
    NewSet,
    Replace,
    SetChange,
    SetConflictError,
    Supersede,
    apply_set_changes,
)
from ccdflow.archive.registry.sets.counts import count_sets
from ccdflow.archive.registry.sets.news import News, Unsure, last_row, read_news
from ccdflow.archive.registry.sets.records import SetFilter, SetRecord, find_sets, last_boundary
from ccdflow.archive.registry.sets.settling import RAW, Settling
from ccdflow.archive.registry.transactions import exposures_in_stream, settle_sets
from ccdflow.cascade.planning.jobs import Group, digest
from ccdflow.cascade.planning.reach import frames_before
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.records import FrameRecord, Status
from ccdflow.cascade.sequences.exposures import (
    Exposure,
    OrderKey,
    SequenceRules,
    Stream,
    known_time,
    order_key,
)
from ccdflow.cascade.sequences.grouping import GroupSpec
from ccdflow.cascade.sequences.regroup import difference, regroup
from ccdflow.cascade.sequences.statemachine import FrameSet
from ccdflow.cascade.specification.expressions import Context, evaluate, names
from ccdflow.cascade.specification.model import Cascade
from ccdflow.cascade.specification.parameters import chosen, grouping, tuned
from ccdflow.tasks.planning import planned
from ccdflow.tasks.workspace import Workspace, open_workspace


def group_frames(project: str, request: Request) -> dict[str, int]:
    """Cut the streams of a project into sets; see `group_sets`.

    Parameters
    ----------
    project : str
        Directory of the project.
    request : Request
        Its clock says what time may have closed.

    Returns
    -------
    dict of str to int
        How many sets there are of each kind: ``stack``, ``pass`` and ``open``.
    """
    return group_sets(open_workspace(project), request)


def group_sets(space: Workspace, request: Request, most_rows: int | None = None) -> dict[str, int]:
    """Cut all streams into sets, and settle those whose frames are settled.

    Parameters
    ----------
    space : Workspace
        The project.
    request : Request
        Its clock says what time may have closed, its targets which tasks are looked at that group all frames at once.
        Sets are those of the project's own rules, whatever parameters a request has: what these make stands beside.
    most_rows : int, optional
        So many new rows without files are looked at, the first ones; others are left to the next time. Without it,
        all.

    Returns
    -------
    dict of str to int
        How many sets there are of each kind: ``stack``, ``pass`` and ``open``.
    """
    request = request.own
    choice = chosen(space.cascade, {})
    cascade = tuned(space.cascade, choice)
    steps = {name: step for name, step in cascade.tasks.items() if step.groups}
    rules = {name: grouping(name, step, choice.tasks.get(name, ())) for name, step in steps.items()}
    # Two ways: where sets follow from the frames in their order alone, a stream is read from its last boundary on, and
    # the cost does not grow with the night. All other groupings are made as a plan of all frames makes them.
    settled = _settled_conditions(space, cascade)
    by_rules = [
        _sequence_task(cascade, task, its_rules, request.clock)
        for task, its_rules in rules.items()
        if isinstance(its_rules, SequenceRules) and _counts_each_frame(cascade, task, settled)
    ]
    # These cost a plan of all frames each time, so that nobody pays who does not want what is made of them.
    wanted = needed(cascade, cascade.targets(request.targets))
    at_once = [task for task in rules if task in wanted and task not in {by.task for by in by_rules}]
    at_once = [task for task in at_once if not _has_nothing(space, cascade, task, settled)]
    others = [_settling(space.cascade, task) for task in at_once]
    if by_rules:
        group_streams(space.registry, by_rules, others, most_rows)
    else:
        settle_sets(space.registry, others)
    for task in at_once:
        name = _identity(rules[task])
        _until_sure(partial(_keep_planned, space, task, request, name))
    # Kinds of which there is no set are told, too.
    counts: Counter[str] = Counter({"stack": 0, "pass": 0, "open": 0})
    for task in rules:
        counts.update(space.registry.read(count_sets, task))
    return dict(counts)


def few_before(space: Workspace, request: Request) -> dict[str, int]:
    """Return how many frames of a stream before the first one asked for decide what is made, by class of frame.

    Parameters
    ----------
    space : Workspace
        The project.
    request : Request
        Its targets count; parameters of its own are none of the project's.

    Returns
    -------
    dict of str to int
        Of classes that are left out it takes all; see `ccdflow.cascade.planning.reach.frames_before`.
    """
    choice = chosen(space.cascade, {})
    cascade = tuned(space.cascade, choice)
    settled = _settled_conditions(space, cascade)
    rules: dict[str, SequenceRules | GroupSpec] = {}
    for name, step in cascade.tasks.items():
        if not step.groups or not all(settled.get(above, True) for above in cascade.chain(name)):
            continue  # nothing reaches it
        own = grouping(name, step, choice.tasks.get(name, ()))
        # A sequence of some frames only may begin before any number of others.
        counts = not isinstance(own, SequenceRules) or _counts_each_frame(cascade, name, settled)
        rules[name] = own if counts else GroupSpec()
    return frames_before(cascade, cascade.targets(request.targets), rules)


def needed(cascade: Cascade, targets: Collection[str]) -> set[str]:
    """Return tasks with all those whose products they take as their main input, and so on.

    Parameters
    ----------
    cascade : Cascade
        The cascade.
    targets : collection of str
        Names of tasks.

    Returns
    -------
    set of str
        Names of tasks, those of `targets` among them.
    """
    names: set[str] = set()
    for target in targets:
        name = target
        while name in cascade.tasks and name not in names:
            names.add(name)
            name = cascade.tasks[name].main
    return names


def _identity(rules: Any) -> str:
    """Digest of the rules by which a task groups."""
    return digest(rules.identity if isinstance(rules, SequenceRules) else rules.model_dump(mode="json"))


def _settled_conditions(space: Workspace, cascade: Cascade) -> dict[str, bool]:
    """Return the conditions of tasks that hold for all frames or for none: those of keywords that no frame has."""
    of_frames = {*FrameRecord.__slots__, "class", "count", "found", "handed", *cascade.parameters}
    asked = {}
    for name, step in cascade.tasks.items():
        looked_at = names(step.condition) if step.condition else set()
        # What a function looks at is not known, and dynamic parameters are worked out for each job.
        if looked_at and not looked_at & {*of_frames, *step.dynamic}:
            asked[name] = looked_at
    there = space.registry.read(keywords_there, set().union(*asked.values()))
    nothing = Context(Group(()))
    return {
        name: bool(evaluate(cascade.tasks[name].condition, nothing))
        for name, looked_at in asked.items()
        if not looked_at & there
    }


def _has_nothing(space: Workspace, cascade: Cascade, task: str, settled: Mapping[str, bool]) -> bool:
    """Whether nothing reaches a task, and nothing ever has: then there is nothing to be planned for its sets."""
    if all(settled.get(name, True) for name in cascade.chain(task)):
        return False
    return not sum(space.registry.read(count_sets, task).values())


def _counts_each_frame(cascade: Cascade, task: str, settled: Mapping[str, bool]) -> bool:
    """Whether what a task puts together are products of single frames of a class, and of all of them."""
    # Down from the task, by what each takes as its main input, to the raw frames.
    _, *tasks = cascade.chain(task)
    source = cascade.main_source(task)
    with_recipe = [name for name in tasks if cascade.tasks[name].recipe is not None]
    # A condition that holds for all frames that there are counts as none.
    takes_all = all(not cascade.tasks[name].condition or settled.get(name) for name in (task, *tasks))
    each_alone = cascade.sources[source].group.how == "each" and not cascade.sources[source].condition
    return len(with_recipe) == 1 and takes_all and each_alone


def _sequence_task(cascade: Cascade, task: str, rules: SequenceRules, clock: float) -> "SequenceTask":
    frame_class = cascade.sources[cascade.main_source(task)].frame_class
    return SequenceTask(task, rules, frame_class, clock, _settling(cascade, task))


def _settling(cascade: Cascade, task: str) -> Settling:
    """How the sets of a task become ready."""
    # Through relays: what hands on raw frames has a stage of its own, in which nothing is done.
    maker = cascade.relayed(cascade.tasks[task].main)
    upstream = RAW if maker in cascade.sources else cascade.tasks[maker].stage
    return Settling(task, upstream, cascade.tasks[task].stage)


# --- sequences ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SequenceTask:
    """What a task groups by: rules, class of the frames that sets are made of, clock, and when its sets are ready."""

    task: str
    rules: SequenceRules
    frame_class: str
    clock: float
    settling: Settling | None = None

    @cached_property
    def name(self) -> str:
        """Digest of the rules."""
        return _identity(self.rules)


@dataclass(frozen=True)
class _Known:
    """A stream as the registry has it; sets that other rules made bound nothing (`anew`)."""

    registry: Registry
    stream: Stream
    by: SequenceTask
    anew: bool
    until: int

    def boundary_before(self, key: OrderKey) -> OrderKey | None:
        # Keys end with the frame's id, a whole number: with one less it is the last key that comes before.
        return self._last_boundary((*key[:3], key[3] - 1))

    def is_boundary(self, key: OrderKey) -> bool:
        return self._last_boundary(key) == key

    def _last_boundary(self, key: OrderKey) -> OrderKey | None:
        return None if self.anew else self.registry.read(last_boundary, self.stream, self.by.task, key)

    def frames_from(self, key: OrderKey | None) -> Iterator[Exposure]:
        just_before = None if key is None else (*key[:3], key[3] - 1)
        classes = (self.by.frame_class,)
        return exposures_in_stream(
            self.registry, self.stream, self.by.rules, classes, just_before, until=self.until
        )


T = TypeVar("T")

ATTEMPTS = 10
"""How often a stream is grouped anew when other programs group it at the same time."""

MANY_FRAMES = 10_000
"""New frames at once after which the database's statistics no longer hold: its plans of queries would be slow ones."""

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
class Also:
    """What is written together with changes to sets, as `apply_set_changes` describes it."""

    grouped: Collection[int] = ()
    settling: Sequence[Settling] = ()
    settled: Collection[int] = ()
    looked_at: Collection[int] = ()


@dataclass(frozen=True)
class _News:
    """What was found, and those of whose sets some may have become ready, since a frame has changed its state."""

    news: News
    unsettled: Sequence[Settling]
    until: int

    @classmethod
    def of(cls, registry: Registry, settling: Sequence[Settling], most_rows: int | None) -> "_News":
        """What the registry has; of new rows without files the first ones, and the others are not there yet."""
        until = registry.read(last_row, most_rows)
        news = registry.read(read_news, [way.upstream for way in settling], until)
        return cls(news, [way for way in settling if way.upstream in news.unsettled], until)

    def is_anew(self, stream: Stream, by: SequenceTask) -> bool:
        """Whether the sets of a stream are to be made anew, since it has none, or of other rules."""
        return self.news.rules.get(stream, {}).get(by.task) != by.name

    def streams(self, tasks: Sequence[SequenceTask]) -> list[Stream]:
        """Streams with something new, with sets that may not stay, or that other rules have grouped."""
        steps = {by.task: by for by in tasks}
        unsure = {
            record.stream
            for record in self.news.unsure
            if record.step in steps and not _stays_open(record, steps[record.step])
        }
        others = {stream for stream in self.news.rules if any(self.is_anew(stream, by) for by in tasks)}
        return sorted(self.news.frames.keys() | unsure | others)

    def touched(self, stream: Stream, by: SequenceTask) -> list[OrderKey]:
        """Where a stream has to be looked at: at new frames, and where sets begin that may not stay."""
        unsure = [record for record in self.news.unsure if record.step == by.task and record.stream == stream]
        return [*self.news.frames.get(stream, ()), *(record.sequence_start or BEGINNING for record in unsure)]

    def also(self, stream: Stream, tasks: Sequence[SequenceTask]) -> Also:
        """What is written with the sets of a stream: those of other streams that hold a frame of it lose it soon."""
        settling = [by.settling for by in tasks if by.settling is not None]
        elsewhere = [record.id for record in self.news.unsure if record.stream != stream]
        return Also(settling=settling, looked_at=elsewhere)


@again
def group_streams(
    registry: Registry,
    tasks: Sequence[SequenceTask],
    others: Sequence[Settling] = (),
    most_rows: int | None = None,
) -> None:
    """Group what is new in any stream, what has left it, and what time may have closed.

    Parameters
    ----------
    registry : Registry
        The registry, which remembers what grouping has not seen.
    tasks : sequence of SequenceTask
        The tasks whose sets follow from the frames in their order.
    others : sequence of Settling, optional
        How sets of other tasks become ready. Like those of `tasks` they are settled where frames had changed their
        states before.
    most_rows : int, optional
        As for `group_sets`.

    Notes
    -----
    Frames count as grouped only in the transaction that writes the last stream's sets: whoever is killed before leaves
    them new, and grouping a stream twice changes nothing.
    """
    with registry.view():
        settling = [*others, *(by.settling for by in tasks if by.settling is not None)]
        new = _News.of(registry, settling, most_rows)
        work = [(stream, by) for stream in new.streams(tasks) for by in tasks]
        # One new frame is the common case: then all is read in this transaction.
        first = _stream_changes(registry, *work[0], new) if len(work) == 1 else None
    # Only with the last: a frame that moved to another stream is new in that one and missing in the other.
    last = work[-1][0] if work else ("", "", "")
    settled = [record.id for record in new.news.unsure]
    ending = replace(new.also(last, tasks), grouped=new.news.ids, settled=settled)
    for stream, by in work[:-1]:
        # Each stream in a transaction of its own, and anew where another program was faster.
        _until_sure(partial(_group_stream, registry, stream, by, new))
    if work and not (first and _applied(registry, *work[0], first, ending)):
        _until_sure(partial(_group_stream, registry, *work[-1], new, ending))
    elif ending.grouped and not work:
        registry.write(apply_set_changes, (), grouped=ending.grouped)
    if len(ending.grouped) >= MANY_FRAMES:
        registry.tidy_sets()
    if new.unsettled:
        settle_sets(registry, new.unsettled)


def _stays_open(record: Unsure, by: SequenceTask) -> bool:
    """Whether an open set to which nothing has happened is as open as it was: too little time has passed."""
    # Not read again in each round: a sequence that goes on all night may have thousands of frames. A gap is counted
    # from the start of the last exposure at the earliest.
    return bool(record.until) and by.clock - known_time(record.until) <= by.rules.max_gap


Changes = tuple[list[SetChange], bool]
"""What becomes of the sets of a stream, and whether all of them are made anew."""


def _group_stream(
    registry: Registry, stream: Stream, by: SequenceTask, new: _News, ending: Also | None = None
) -> None:
    """Group what is new in a stream, what has left it, and what time may have closed; with the last, the ending."""
    also = ending or new.also(stream, [by])
    _apply(registry, stream, by, _stream_changes(registry, stream, by, new), also)


def _apply(registry: Registry, stream: Stream, by: SequenceTask, work: Changes, also: Also) -> None:
    """Write what becomes of the sets of a stream, and what belongs to it, in one transaction."""
    changes, anew = work
    if changes or anew or also.grouped:
        states = [GroupingState(stream, by.task, by.name)] if anew else []
        registry.write(
            apply_set_changes,
            changes,
            states=states,
            grouped=also.grouped,
            settling=also.settling,
            settled=also.settled,
            looked_at=also.looked_at,
        )


def _applied(registry: Registry, stream: Stream, by: SequenceTask, work: Changes, also: Also) -> bool:
    """Whether the changes could be made: not where another program has grouped the same frames meanwhile."""
    try:
        _apply(registry, stream, by, work, also)
    except SetConflictError:
        return False
    return True


def _stream_changes(registry: Registry, stream: Stream, by: SequenceTask, new: _News) -> Changes:
    """What becomes of the sets of a stream with its new frames, and whether all of them are made anew."""
    changes: list[SetChange] = []
    anew = new.is_anew(stream, by)
    with registry.view():
        known = _Known(registry, stream, by, anew, new.until)
        touched = [BEGINNING] if anew else new.touched(stream, by)
        # From the last boundary before each touched frame until the new boundaries coincide with the old ones again.
        for region in regroup(stream, known, touched, by.rules, by.clock):
            part = SetFilter(by.task, stream=stream, since_sequence=region.start, until_sequence=region.until)
            before = registry.read(find_sets, part)
            held = [record for record in before if anew or region.holds(record.sequence_start or BEGINNING)]
            changes += _changes(by.task, held, region.sets)
    return changes, anew


def _changes(task: str, before: Sequence[SetRecord], now: Sequence[FrameSet]) -> Iterator[SetChange]:
    """What makes of the registry's sets those that there are now; superseded ones and their products stay."""
    records = {record.id: record for record in before}
    changed = difference({record.id: _frame_set(record) for record in before}, now)
    # A new set's version is one above those of the sets from which its frames come.
    versions = {frame: records[name].version for name in changed.gone for frame in records[name].frames}
    for number, new in enumerate(changed.made):
        version = 1 + max((versions.get(frame, 0) for frame in new.frames), default=0)
        yield NewSet(
            ref=_reference(task, new, number),
            step=task,
            stream=new.stream,
            frames=new.frames,
            action=new.action,
            status=_status(new),
            reason=new.reason,
            sequence_start=new.sequence_start,
            version=version,
            span=(new.first, new.last),
        )
    for name, place in changed.gone.items():
        yield Supersede(name, None if place is None else _reference(task, changed.made[place], place))
    for name, kept in changed.changed.items():
        yield from _rewritten(records[name], kept)


def _reference(task: str, new: FrameSet, number: int) -> str:
    """What a new set is called by the other changes that are written with it, before it has an id."""
    return f"{task} {new.stream} {new.frames[0]} {number}"


DELETED = 0
"""Stands for frames that were deleted; ids begin with 1."""


def _frame_set(record: SetRecord) -> FrameSet:
    """A set of the registry as the sequence rules have it."""
    # What is left of a set is not that set: it must match none that there is now, and so gives way to one of them.
    return FrameSet(
        stream=record.stream,
        frames=(DELETED, *record.frames) if record.lost else record.frames,
        action=record.action,
        closed=record.status == "closed",
        reason=record.reason,
        sequence_start=record.sequence_start or BEGINNING,
        first=record.first_obsdate,
        last=record.last_obsdate,
    )


def _rewritten(known: SetRecord, now: FrameSet) -> Iterator[SetChange]:
    """A set that stays the one that it is, with other contents."""
    if now.frames != known.frames:
        yield Replace(known.id, now.frames)
    # What opens again is no longer ready.
    ready = None if now.closed else False
    yield Change(known.id, now.action, _status(now), ready, now.reason, sequence_start=now.sequence_start)


def _status(frame_set: FrameSet) -> Status:
    return "closed" if frame_set.closed else "open"


# --- other ways --------------------------------------------------------------------------------------


def _keep_planned(space: Workspace, task: str, request: Request, name: str) -> None:
    """Sets of a grouping that looks at all frames at once: as the plan has them."""
    frames = {frame.id: frame for frame in space.registry.read(find_frames, FrameFilter(keywords=()))}
    # The request may be for one night or camera; what is not planned would lose its sets.
    limits = ("night", "camera", "since", "until", "frames")
    everything: dict[str, object] = {"targets": (task,), "paths": (), **dict.fromkeys(limits)}
    sets = []
    for of_plan in planned(space, request.model_copy(update=everything), every_row=True).sets:
        members = [frames[number] for number in of_plan.frames]
        first, last = members[0], members[-1]
        sets.append(
            FrameSet(
                stream=first.stream,
                frames=of_plan.frames,
                action=of_plan.action,
                closed=of_plan.closed,
                reason=of_plan.reason,
                sequence_start=order_key(first),
                first=first.obsdate,
                last=last.obsdate,
            )
        )
    states = [GroupingState(stream, task, name) for stream in space.registry.read(find_streams)]
    known = space.registry.read(find_sets, SetFilter(step=task))
    changes = list(_changes(task, known, sets))
    settling = [_settling(space.cascade, task)]
    # Nobody has settled those that stay since this task was asked for last.
    settled = [record.id for record in known if not record.ready]
    space.registry.write(apply_set_changes, changes, states=states, settling=settling, settled=settled)
