"""From a target to jobs: pure and deterministic, never silent about what can't be done."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from math import inf
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ccdflow.cascade.associate import SHOWN_NEAREST, Candidates
from ccdflow.cascade.grouping import GroupSpec, group_frames
from ccdflow.cascade.jobs import (
    Group,
    Job,
    JobInput,
    KeyMaker,
    Missing,
    Nearest,
    Resolved,
    State,
    content,
)
from ccdflow.cascade.model import Association, Cascade, unknown
from ccdflow.cascade.parameters import grouping, recipe_parameters, split_request
from ccdflow.cascade.records import Action, FrameRecord, seconds
from ccdflow.cascade.sequences import FrameSet, SequenceRules, group_sequences
from ccdflow.cascade.settle import Settled, apply_failures
from ccdflow.recipes.recipe import Recipe


class Request(BaseModel):
    """What is asked for; only sets of target tasks that hold a selected frame are made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: tuple[str, ...] = ()
    """Tasks or tags; without any, the tasks tagged science."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """STEP.NAME to value."""
    night: str | None = None
    """Frames of this night: the evening's date, 2026-03-01."""
    since: str | None = None
    """Frames that started at this time or later, ISO, UTC."""
    until: str | None = None
    """Frames that started at this time or earlier, ISO, UTC."""
    camera: str | None = None
    """Frames of this camera: CAMERA or TELESCOPE/CAMERA."""
    now: str | None = None
    """The time at which sequences are closed, ISO, UTC; without it, all are."""

    def selects(self, frame: FrameRecord) -> bool:
        """Whether a frame lies within the asked night, times and camera."""
        return (
            self.night in (None, frame.night)
            and (self.since is None or frame.obsdate >= self.since)
            and (self.until is None or frame.obsdate <= self.until)
            and self.camera in (None, frame.camera, f"{frame.telescope}/{frame.camera}")
        )

    @property
    def clock(self) -> float:
        """`now` in seconds since 1970-01-01 UTC; infinite where it is not given."""
        return inf if self.now is None else seconds(self.now)


WAITS = "can't be calibrated"
"""How the reason ends why a job on products is incomplete: the jobs that make them are."""


@dataclass(frozen=True)
class PlannedSet:
    """Frames that a task on products takes together, or passes through as they are."""

    step: str
    frames: tuple[int, ...]
    action: Action
    closed: bool
    reason: str
    job: str | None = None


@dataclass(frozen=True)
class Plan:
    """The jobs, each after those whose products it takes; the sets; and what was left out, in sentences."""

    jobs: tuple[Job, ...]
    sets: tuple[PlannedSet, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """What the planner is told: the cascade, the recipes' declarations, and what exists.

    `done` holds the keys of jobs whose products are there, `detectors` the digest of each instrument file's
    detector by the name of the file (the keyword ``profile`` of a frame).
    """

    cascade: Cascade
    recipes: Mapping[str, Recipe]
    frames: Sequence[FrameRecord]
    done: Collection[str] = frozenset()
    detectors: Mapping[str, str] = field(default_factory=dict)


def plan(known: Known, request: Request, failed: Collection[str] = frozenset()) -> Plan:
    """The jobs that make the products of the request's targets, and all that they need.

    The same frames in any order give the same plan. `failed` holds the keys of jobs that have failed for good:
    their frames leave their sets, and another calibration takes their place.

    Raises
    ------
    ValueError
        If a target or parameter is not known.
    """
    return _Planner(known, request, failed).plan()


class _Planner:
    """One planning: remembers groups and jobs, so that each is made once."""

    def __init__(self, known: Known, request: Request, failed: Collection[str]) -> None:
        self.known = known
        self.cascade = known.cascade
        self.request = request
        self.failed = failed
        self.requested = split_request(known.cascade, request.parameters)
        self.parameters = {name: self._parameters(name) for name in known.cascade.tasks}
        self.frames = _in_order(known.frames)
        self.frame = {frame.id: frame for frame in self.frames}
        self.groups: dict[str, tuple[Group, ...]] = {}
        self.first_of: dict[str, dict[int, Group]] = {}
        self.jobs: dict[tuple[str, tuple[int, ...]], Job] = {}
        self.by_key: dict[str, Job] = {}
        self.candidates: dict[str, Candidates[Group]] = {}
        self.keys = {
            name: KeyMaker(known.recipes[step.recipe], self.parameters[name])
            for name, step in known.cascade.tasks.items()
        }
        self.notes: list[str] = []
        self.sets: list[PlannedSet] = []

    def plan(self) -> Plan:
        wanted: dict[str, Job] = {}
        for target in self.cascade.targets(self.request.targets):
            for job in self._target_jobs(target):
                self._collect(job, wanted)
        return Plan(tuple(wanted.values()), tuple(self.sets), tuple(dict.fromkeys(self.notes)))

    def _collect(self, job: Job, wanted: dict[str, Job]) -> None:
        if job.key in wanted:
            return
        for parent in job.parents:
            self._collect(self.by_key[parent], wanted)
        wanted[job.key] = job

    def _parameters(self, name: str) -> dict[str, Resolved]:
        step = self.cascade.tasks[name]
        if step.recipe not in self.known.recipes:
            raise ValueError(f"task {name!r}: {unknown('recipe', step.recipe, self.known.recipes)}")
        recipe = self.known.recipes[step.recipe]
        return recipe_parameters(name, step, recipe, self.requested.get(name, {}))

    def _target_jobs(self, target: str) -> Iterator[Job]:
        """Jobs of a target task, and for sets that pass or wait, the jobs that make their members."""
        if self.cascade.tasks[target].main in self.cascade.sources:
            for group in self._groups(self.cascade.tasks[target].main):
                if any(self.request.selects(frame) for frame in group.frames):
                    yield self._job(target, group)
            return
        rules = grouping(target, self.cascade.tasks[target], self.requested.get(target, {}))
        for sets in self._product_sets(target, rules):
            if any(self.request.selects(self.frame[frame]) for one in sets for frame in one.frames):
                yield from self._jobs_of_sets(target, sets, rules)

    def _groups(self, source: str) -> tuple[Group, ...]:
        """Sets of raw frames of a data source."""
        if source not in self.groups:
            wanted = self.cascade.sources[source].frame_class
            of_class = [one for one in self.frames if one.frame_class == wanted and not one.refused]
            grouped = group_frames(of_class, self.cascade.sources[source].group)
            self.groups[source] = tuple(Group(frames) for frames in grouped.groups)
            self.notes += [f"{source}: {one.reason}" for one in grouped.left_out]
        return self.groups[source]

    def _product_sets(self, task: str, rules: SequenceRules | GroupSpec) -> Iterator[list[FrameSet]]:
        """Sets of products, by the frames that they were made from; those of one sequence together."""
        frame_class = self.cascade.sources[self.cascade.main_source(task)].frame_class
        if isinstance(rules, SequenceRules):
            found = group_sequences(self.frames, rules, self.request.clock, classes=(frame_class,))
            for _, sets in groupby(found, key=lambda one: (one.stream, one.sequence_start)):
                yield list(sets)
            return
        grouped = group_frames([one for one in self.frames if one.frame_class == frame_class], rules)
        for left in grouped.left_out:
            yield [_whole_set(left.frames, "pass", left.reason)]
        for group in grouped.groups:
            yield [_whole_set(group, "stack", "")]

    def _jobs_of_sets(
        self, task: str, sets: Sequence[FrameSet], rules: SequenceRules | GroupSpec
    ) -> Iterator[Job]:
        """Jobs of the sets of one sequence, after those that make their members."""
        upstream, source = self.cascade.tasks[task].main, self.cascade.main_source(task)
        groups = self._group_of(source)
        frames = [frame for one in sets for frame in one.frames]
        made = {frame: self._job(upstream, groups[frame]) for frame in frames if frame in groups}
        yield from made.values()
        lost = {frame for frame in frames if frame not in made or made[frame].key in self.failed}
        by = rules if isinstance(rules, SequenceRules) else SequenceRules()
        stacked = [one for one in sets if by.on_failed == "refill" and self._is_made(task, one, made)]
        for one in apply_failures(sets, lost, by, stacked):
            yield from self._settled_job(task, one, made)

    def _is_made(self, task: str, one: FrameSet, made: Mapping[int, Job]) -> bool:
        left = {frame: made[frame] for frame in one.frames if frame in made}
        return len(left) > 1 and self._product_job(task, left).state == "reused"

    def _settled_job(self, task: str, settled: Settled, made: Mapping[int, Job]) -> Iterator[Job]:
        """The job of a set, or none where it passes, waits or is lost."""
        action: Action = "stack" if settled.outcome == "stack" else "pass"
        planned = PlannedSet(task, settled.set.frames, action, settled.set.closed, settled.reason)
        if action == "stack" and settled.set.closed:
            job = self._product_job(task, {frame: made[frame] for frame in settled.frames})
            planned = replace(planned, job=job.key)
            yield job
        self.sets.append(planned)

    def _group_of(self, source: str) -> dict[int, Group]:
        """The set of raw frames that each frame is the first of."""
        if source not in self.first_of:
            self.first_of[source] = {one.frames[0].id: one for one in self._groups(source)}
        return self.first_of[source]

    def _product_job(self, task: str, members: Mapping[int, Job]) -> Job:
        """The job of `task` on the products of `members`, by frame."""
        group = Group(tuple(self.frame[frame] for frame in members))
        inputs = [JobInput("main", job.key, job=job.key) for job in members.values()]
        waiting = [f"f{frame}" for frame, job in members.items() if job.state == "incomplete"]
        missing = []
        if waiting:
            missing.append(Missing("main", f"{', '.join(waiting)} {WAITS}"))
        return self._finished(task, group, inputs, missing)

    def _job(self, task: str, group: Group) -> Job:
        """The job of `task` on raw frames."""
        name = task, tuple(frame.id for frame in group.frames)
        if name not in self.jobs:
            inputs = [JobInput("main", content(frame), frame=frame.id) for frame in group.frames]
            missing = []
            if any(frame.path is None for frame in group.frames):
                missing.append(Missing("main", "no file, only a row of a catalogue"))
            self.jobs[name] = self._finished(task, group, inputs, missing)
        return self.jobs[name]

    def _finished(self, task: str, group: Group, inputs: list[JobInput], missing: list[Missing]) -> Job:
        """The job with its associated inputs, its key and its state."""
        step = self.cascade.tasks[task]
        for role, association in step.inputs.items():
            if association.when_missing and all(
                group.value(one) is not None for one in association.when_missing
            ):
                continue
            found = self._associated(role, association, group)
            inputs += found
            if len(found) < association.min:
                missing.append(self._missing(role, association, group, len(found)))
        recipe = self.known.recipes[step.recipe]
        absent = [JobInput(one.input, "missing") for one in missing]
        parameters = self.parameters[task]
        key = self.keys[task].key([*inputs, *absent], self._detectors(group, inputs))
        state: State = "incomplete" if missing else "reused" if key in self.known.done else "new"
        job = Job(
            key=key,
            step=task,
            stage=step.stage,
            recipe=recipe.name,
            version=recipe.version,
            state=state,
            group=group,
            inputs=tuple(inputs),
            missing=tuple(missing),
            parameters=parameters,
            outputs=recipe.outputs,
        )
        return self.by_key.setdefault(key, job)

    def _detectors(self, group: Group, inputs: Sequence[JobInput]) -> list[str]:
        """Digests of what instrument files say of the detectors of raw inputs."""
        if all(one.frame is None for one in inputs):
            return []
        profiles = {str(frame.value("profile")) for frame in group.frames}
        return [self.known.detectors[one] for one in sorted(profiles) if one in self.known.detectors]

    def _associated(self, role: str, association: Association, group: Group) -> list[JobInput]:
        """The best candidates for one input; a candidate whose own job is incomplete or failed is passed over."""
        found: list[JobInput] = []
        taken = 0
        for match in self._candidates(association.source).fitting(association.rules, group):
            if taken == association.max:
                break
            inputs = self._as_inputs(role, association.source, match.candidate, match.level)
            found += inputs
            taken += bool(inputs)
        return found

    def _as_inputs(self, role: str, source: str, candidate: Group, level: int) -> list[JobInput]:
        if source in self.cascade.sources:
            return [JobInput(role, content(frame), frame=frame.id, level=level) for frame in candidate.frames]
        job = self._job(source, candidate)
        if job.state == "incomplete" or job.key in self.failed:
            return []
        return [JobInput(role, job.key, job=job.key, level=level)]

    def _candidates(self, source: str) -> Candidates[Group]:
        """Sets of raw frames of a data source, or of the one at the upper end of a task."""
        name = source if source in self.cascade.sources else self.cascade.main_source(source)
        if name not in self.candidates:
            self.candidates[name] = Candidates(self._groups(name))
        return self.candidates[name]

    def _missing(self, role: str, association: Association, group: Group, found: int) -> Missing:
        """Why an input could not be filled: nothing there, nothing that fits, or what fits can't be made."""
        every = self._candidates(association.source)
        wanted = f"{association.min} {association.source}" if association.min > 1 else association.source
        needed = "" if role == association.source else f" as {role!r}"
        if not every:
            return Missing(role, f"no {wanted}{needed}: there are no such frames")
        refused = every.nearest_refused(association.rules, group)
        nearest = list(islice(self._not_made(association, group), SHOWN_NEAREST))
        nearest += [Nearest(_group_name(one.candidate), one.reason) for one in refused]
        reason = f"no {wanted} fits{needed}; {len(every)} looked at, {found} found"
        return Missing(role, reason, tuple(nearest[:SHOWN_NEAREST]))

    def _not_made(self, association: Association, group: Group) -> Iterator[Nearest]:
        """Candidates that fit, but whose own job failed or can't be done; the best first."""
        if association.source not in self.cascade.tasks:
            return
        for match in self._candidates(association.source).fitting(association.rules, group):
            job = self._job(association.source, match.candidate)
            if reason := "failed" if job.key in self.failed else job.reason:
                yield Nearest(_group_name(match.candidate), reason)


def _whole_set(frames: Sequence[FrameRecord], action: Action, reason: str) -> FrameSet:
    """A set that is no part of a sequence."""
    first, last = frames[0], frames[-1]
    key = first.obsdate, first.iobs or 0, first.sha256 or "", first.id
    ids = tuple(frame.id for frame in frames)
    return FrameSet(first.stream, ids, action, True, reason, key, first.obsdate, last.obsdate)


def _group_name(group: Group) -> str:
    """What to call a candidate in a sentence: its frames and its night."""
    first, last = group.frames[0], group.frames[-1]
    ids = f"f{first.id}" if first is last else f"f{first.id}..f{last.id}"
    return f"{first.frame_class} {ids} of {first.night}"


def _in_order(frames: Sequence[FrameRecord]) -> list[FrameRecord]:
    """Frames by obsdate, then ``iobs``, then content; a total order, whatever the order they came in.

    A frame without obsdate has no place in any order; it is refused at registration.
    """
    dated = [frame for frame in frames if frame.obsdate]
    return sorted(dated, key=lambda one: (one.obsdate, one.iobs or 0, content(one), one.id))
