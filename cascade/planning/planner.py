"""From a target to jobs: pure and deterministic, never silent about what can't be done."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from math import inf
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ccdflow.cascade.planning.associate import Barrier, Candidates
from ccdflow.cascade.planning.jobqueue import Order
from ccdflow.cascade.planning.jobs import (
    Group,
    Job,
    JobInput,
    KeyMaker,
    MadeJob,
    Missing,
    Resolved,
    State,
    content,
    main_identity,
    work_name,
)
from ccdflow.cascade.planning.search import Search, group_name
from ccdflow.cascade.records import CLASSES, DESCRIBED, VALIDITY, Action, FrameRecord, seconds
from ccdflow.cascade.sequences.grouping import GroupSpec, group_frames
from ccdflow.cascade.sequences.settle import Settled, apply_failures
from ccdflow.cascade.sequences.statemachine import FrameSet, SequenceRules, group_sequences
from ccdflow.cascade.specification import dotted
from ccdflow.cascade.specification.contract import ContractError, check, keyword_problems
from ccdflow.cascade.specification.expressions import Context, evaluate
from ccdflow.cascade.specification.model import Association, Cascade, Preference, Step
from ccdflow.cascade.specification.parameters import chosen, grouping, recipe_parameters, tuned
from ccdflow.cascade.wording import unknown
from ccdflow.recipes.core.recipe import Recipe


class Request(BaseModel):
    """What is asked for; only sets of target tasks that hold a selected frame are made."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    targets: tuple[str, ...] = ()
    """Tasks or tags; without any, the tasks tagged science."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """STEP.NAME, or NAME of a workflow parameter, to value."""
    parameter_set: str | None = None
    """Parameter set; without, ``default`` where the cascade has one."""
    quality_threshold: int | None = None
    """Worst association level that is accepted."""
    preference: Preference = "raw_per_level"
    """Whether raw frames or finished masters are associated first."""
    night: str | None = None
    """Frames of this night: the evening's date, 2026-03-01."""
    since: str | None = None
    """Frames that started at this time or later, ISO, UTC."""
    until: str | None = None
    """Frames that started at this time or earlier, ISO, UTC."""
    camera: str | None = None
    """Frames of this camera: CAMERA or TELESCOPE/CAMERA."""
    order: Order | None = None
    """Which jobs go first; without, as the project says."""
    late: Literal["redo", "keep"] | None = None
    """Where other calibrations would be chosen now than a product was made with: make it anew, or keep it; without,
    as the project says."""
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
    """The jobs, each after those whose products it takes; the sets; sentences on what was left out; tasks asked for."""

    jobs: tuple[Job, ...]
    sets: tuple[PlannedSet, ...] = ()
    notes: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """All that one job needs: the job, and the data sets of the jobs whose products it takes, by role.

    `level` is the worst association level in it, `complete` whether all of it can be made.
    """

    job: Job
    needs: tuple[tuple[str, "DataSet"], ...]
    level: int
    complete: bool


def data_sets(found: Plan) -> list[DataSet]:
    """The data sets of a plan's target jobs: those of tasks asked for by name, and all whose products no job takes."""
    made: dict[str, DataSet] = {}
    for job in found.jobs:  # each after those whose products it takes
        needs = tuple((one.role, made[one.job]) for one in job.inputs if one.job in made)
        complete = not job.missing and all(one.complete for _, one in needs)
        made[job.key] = DataSet(job, needs, job.worst_level, complete)
    taken = {key for job in found.jobs for key in job.parents}
    return [one for key, one in made.items() if key not in taken or one.job.step in found.asked]


@dataclass(frozen=True)
class Known:
    """What the planner is told: the cascade, the recipes' declarations, and what exists.

    `done` holds the keys of jobs whose products are there, `detectors` the digest of each instrument file's
    detector by the name of the file (the keyword ``profile`` of a frame). `banned` and `pinned` name frames
    (``f12``) and jobs (by key): what is banned is never taken, what is pinned is taken first where it fits. `keywords`
    are those that instrument files keep, besides what every frame is told of. `made`
    tells, for requests that keep what was made, how the done jobs of a task were made of some main input: by
    task and `main_identity`, the newest first. `whole` is false where frames that can't matter were left out.
    """

    cascade: Cascade
    recipes: Mapping[str, Recipe]
    frames: Sequence[FrameRecord]
    done: Collection[str] = frozenset()
    detectors: Mapping[str, str] = field(default_factory=dict)
    classes: Collection[str] = CLASSES
    barriers: Sequence[Barrier] = ()
    banned: Collection[str] = frozenset()
    pinned: Collection[str] = frozenset()
    keywords: Collection[str] = ()
    made: Mapping[tuple[str, str], Sequence[MadeJob]] = field(default_factory=dict)
    whole: bool = True


def plan(known: Known, request: Request, failed: Collection[str] = frozenset()) -> Plan:
    """The jobs that make the products of the request's targets, and all that they need.

    The same frames in any order give the same plan. `failed` holds the keys of jobs that have failed for good:
    their frames leave their sets, and another calibration takes their place.

    Raises
    ------
    ValueError
        If a target or parameter is not known, or the cascade contradicts its recipes.
    """
    check(known.cascade, known.recipes, known.classes)
    planner = _Planner(known, request, failed)
    planner.refuse_strange_keywords()
    return planner.plan()


class _Planner:
    """One planning: remembers groups and jobs, so that each is made once."""

    def __init__(self, known: Known, request: Request, failed: Collection[str]) -> None:
        self.known = known
        self.request = request
        self.failed = failed
        self.chosen = chosen(known.cascade, request.parameters, request.parameter_set)
        self.workflow = {name: one.value for name, one in self.chosen.workflow.items()}
        self.cascade = tuned(known.cascade, self.chosen)
        self.parameters = {
            name: self._parameters(name, step) for name, step in self.cascade.tasks.items() if step.recipe
        }
        self.frames = _in_order(one for one in known.frames if f"f{one.id}" not in known.banned)
        self.frame = {frame.id: frame for frame in self.frames}
        self.groups: dict[str, tuple[Group, ...]] = {}
        self.units: dict[str, dict[int, Group]] = {}
        self.jobs: dict[tuple[str, tuple[int, ...]], Job] = {}
        self.by_key: dict[str, Job] = {}
        self.candidates: dict[str, Candidates[Group]] = {}
        self.keys = {name: KeyMaker(self._recipe(name), values) for name, values in self.parameters.items()}
        self.kept: dict[tuple[str, str], list[str]] = {}
        self.notes: list[str] = []
        self.sets: list[PlannedSet] = []

    def plan(self) -> Plan:
        wanted: dict[str, Job] = {}
        for target in self.cascade.targets(self.request.targets):
            for job in self._target_jobs(target):
                self._collect(job, wanted)
        notes = [*self.notes, *self._of_kept()]
        asked = tuple(one for one in self.request.targets if one in self.cascade.tasks)
        return Plan(tuple(wanted.values()), tuple(self.sets), tuple(dict.fromkeys(notes)), asked)

    def _of_kept(self) -> Iterator[str]:
        """How many products are kept though other calibrations would be chosen now."""
        for (task, better), keys in self.kept.items():
            yield f"{task}: {len(keys)} kept, though {better} would be chosen now; --late redo makes them anew"

    def refuse_strange_keywords(self) -> None:
        """Refuse keywords that neither an instrument file keeps nor any frame has.

        Raises
        ------
        ContractError
            With a sentence for each.
        """
        named = {*FrameRecord.__slots__, "class", *DESCRIBED, *VALIDITY, *self.known.keywords}
        if any(keyword_problems(self.cascade, named)):
            for frame in self.known.frames:
                named |= frame.keywords.keys()
            if (
                self.known.whole
                and self.known.frames
                and (found := list(keyword_problems(self.cascade, named)))
            ):
                raise ContractError("; ".join(found))

    def _collect(self, job: Job, wanted: dict[str, Job]) -> None:
        if job.key in wanted:
            return
        for parent in job.parents:
            if parent in self.by_key:  # the calibrations of a product that is kept need not be planned
                self._collect(self.by_key[parent], wanted)
        wanted[job.key] = job

    def _recipe(self, task: str) -> Recipe:
        name = self.cascade.tasks[task].recipe or ""
        if name not in self.known.recipes:
            raise ValueError(f"task {task!r}: {unknown('recipe', name, self.known.recipes)}")
        return self.known.recipes[name]

    def _parameters(
        self, task: str, step: Step, hooked: Mapping[str, Any] | None = None
    ) -> dict[str, Resolved]:
        return recipe_parameters(task, step, self._recipe(task), self.chosen.tasks.get(task, ()), hooked)

    def _target_jobs(self, target: str) -> Iterator[Job]:
        """Jobs of a target task, and for sets that pass or wait, the jobs that make their members."""
        target = self.cascade.relayed(target)
        if target in self.cascade.sources:
            return
        if self._takes_frames(target):
            main = self.cascade.tasks[target].main
            for group in self._groups(self.cascade.main_source(target)):
                selected = any(self.request.selects(frame) for frame in group.frames)
                if selected and self._passes(main, group) and self._wanted(target, group):
                    yield self._job(target, group)
            return
        rules = self._grouping(target)
        for sets in self._product_sets(target, rules):
            if any(self.request.selects(self.frame[frame]) for one in sets for frame in one.frames):
                yield from self._jobs_of_sets(target, sets, rules)

    def _takes_frames(self, task: str) -> bool:
        """Whether the main input of a task are raw frames, be it through relays."""
        return self.cascade.relayed(self.cascade.tasks[task].main) in self.cascade.sources

    def _grouping(self, task: str) -> SequenceRules | GroupSpec:
        found: SequenceRules | GroupSpec = grouping(
            task, self.cascade.tasks[task], self.chosen.tasks.get(task, ())
        )
        return found

    def _holds(self, task: str, group: Group) -> bool:
        """Whether a step's condition holds for some frames."""
        condition = self.cascade.tasks[task].condition
        return not condition or bool(evaluate(condition, self._context(task, group)))

    def _passes(self, name: str, group: Group) -> bool:
        """Whether the relays that a name stands for let some frames, or what is made of them, through."""
        while name in self.cascade.tasks and self.cascade.tasks[name].recipe is None:
            if not self._holds(name, group):
                return False
            name = self.cascade.tasks[name].main
        return True

    def _wanted(self, task: str, group: Group) -> bool:
        """Whether a step's condition holds for some frames; notes where it does not."""
        if self._holds(task, group):
            return True
        condition = self.cascade.tasks[task].condition
        self.notes.append(f"{task}: no job for {group_name(group)}, since {condition} does not hold")
        return False

    def _context(
        self, task: str, group: Group, associated: Mapping[str, Sequence[Group]] | None = None
    ) -> Context:
        """What conditions, dynamic parameters and hooks look at."""
        context = Context(group, self._values_for(task), associated or {})
        for name, text in self.cascade.tasks[task].dynamic.items():
            context = replace(context, parameters={**context.parameters, name: evaluate(text, context)})
        return context

    def _values_for(self, name: str) -> Mapping[str, Any]:
        """Workflow parameters for a task or source; within a subworkflow, also by the names that they have there."""
        inside = name.rpartition(".")[0].replace(".", "_") + "_"
        if inside == "_":
            return self.workflow
        own = {
            key.removeprefix(inside): value for key, value in self.workflow.items() if key.startswith(inside)
        }
        return {**self.workflow, **own}

    def _groups(self, source: str) -> tuple[Group, ...]:
        """Sets of raw frames of a data source."""
        if source not in self.groups:
            wanted, text = self.cascade.sources[source].frame_class, self.cascade.sources[source].condition
            of_class = [one for one in self.frames if one.frame_class == wanted and not one.refused]
            if text:
                values = self._values_for(source)
                of_class = [one for one in of_class if evaluate(text, Context(Group((one,)), values))]
            grouped = group_frames(of_class, self.cascade.sources[source].group)
            self.groups[source] = tuple(Group(frames) for frames in grouped.groups)
            self.notes += [f"{source}: {one.reason}" for one in grouped.left_out]
        return self.groups[source]

    def _units(self, task: str) -> dict[int, Group]:
        """What a task makes, one product each, by the frame that stands for it: the first that it was made from.

        `task` may be a relay; what it does not let through is left out.
        """
        if task not in self.units:
            maker = self.cascade.relayed(task)
            if self._takes_frames(maker):
                main = self.cascade.tasks[maker].main
                groups = self._groups(self.cascade.main_source(maker))
                made = [one for one in groups if self._passes(main, one)]
            else:
                sets = (one for sets in self._product_sets(maker, self._grouping(maker)) for one in sets)
                closed = [one.frames for one in sets if one.action == "stack" and one.closed]
                made = [Group(tuple(self.frame[frame] for frame in frames)) for frames in closed]
            found = [one for one in made if self._passes(task, one) and self._holds(maker, one)]
            self.units[task] = {one.frames[0].id: one for one in found}
        return self.units[task]

    def _product_sets(self, task: str, rules: SequenceRules | GroupSpec) -> Iterator[list[FrameSet]]:
        """Sets of products, by the frames that stand for them; those of one sequence together."""
        frame_class = self.cascade.sources[self.cascade.main_source(task)].frame_class
        units = self._units(self.cascade.tasks[task].main)
        counted = {
            one.id for one in self.frames if one.frame_class == frame_class and one.refused
        } | units.keys()
        if isinstance(rules, SequenceRules):
            inside = {frame.id for one in units.values() for frame in one.frames[1:]} - counted
            frames = [
                one if one.frame_class != frame_class or one.id in counted else replace(one, frame_class="")
                for one in self.frames
                if one.id not in inside
            ]
            found = group_sequences(frames, rules, self.request.clock, classes=(frame_class,))
            for _, sets in groupby(found, key=lambda one: (one.stream, one.sequence_start)):
                yield list(sets)
            return
        grouped = group_frames([one for one in self.frames if one.id in counted], rules)
        for left in grouped.left_out:
            yield [_whole_set(left.frames, "pass", left.reason)]
        for group in grouped.groups:
            yield [_whole_set(group, "stack", "")]

    def _jobs_of_sets(
        self, task: str, sets: Sequence[FrameSet], rules: SequenceRules | GroupSpec
    ) -> Iterator[Job]:
        """Jobs of the sets of one sequence, after those that make their members."""
        frames = [frame for one in sets for frame in one.frames]
        made = self._made_of(task, frames)
        yield from made.values()
        lost = {frame for frame in frames if frame not in made or self._is_lost(made[frame])}
        by = rules if isinstance(rules, SequenceRules) else SequenceRules()
        stacked = [one for one in sets if by.on_failed == "refill" and self._is_made(task, one, made)]
        for one in apply_failures(sets, lost, by, stacked):
            yield from self._settled_job(task, one, made)

    def _made_of(self, task: str, frames: Sequence[int]) -> dict[int, Job]:
        """The jobs that make what a task on products takes, by the frame that stands for each."""
        main = self.cascade.tasks[task].main
        units, maker = self._units(main), self.cascade.relayed(main)
        found = {frame: self._unit(maker, units[frame]) for frame in frames if frame in units}
        return {frame: job for frame, job in found.items() if job is not None}

    def _unit(self, task: str, group: Group) -> Job | None:
        """The job that makes one product of a task; None where nothing is left to make it of."""
        if self._takes_frames(task):
            return self._job(task, group)
        made = self._made_of(task, [frame.id for frame in group.frames])
        left = {frame: job for frame, job in made.items() if not self._is_lost(job)}
        return self._product_job(task, left) if left else None

    def _is_banned(self, job: Job) -> bool:
        """Whether somebody has banned what a job makes, with these or with other parameters."""
        return job.key in self.known.banned or work_name(job.step, job.main) in self.known.banned

    def _is_lost(self, job: Job) -> bool:
        """Whether what a job makes can't be had."""
        return job.key in self.failed or self._is_banned(job)

    def _is_made(self, task: str, one: FrameSet, made: Mapping[int, Job]) -> bool:
        left = {frame: made[frame] for frame in one.frames if frame in made}
        return len(left) > 1 and self._product_job(task, left).state == "reused"

    def _settled_job(self, task: str, settled: Settled, made: Mapping[int, Job]) -> Iterator[Job]:
        """The job of a set, or none where it passes, waits or is lost."""
        action: Action = "stack" if settled.outcome == "stack" else "pass"
        planned = PlannedSet(task, settled.set.frames, action, settled.set.closed, settled.reason)
        if action == "stack" and settled.set.closed:
            members = {frame: made[frame] for frame in settled.frames}
            if self._wanted(task, Group(tuple(self.frame[frame] for frame in members))):
                job = self._product_job(task, members)
                planned = replace(planned, job=job.key)
                yield job
            else:
                reason = f"{self.cascade.tasks[task].condition} does not hold"
                planned = replace(planned, action="pass", reason=reason)
        self.sets.append(planned)

    def _product_job(self, task: str, members: Mapping[int, Job]) -> Job:
        """The job of `task` on the products of `members`, by frame."""
        group = Group(tuple(self.frame[frame] for frame in members))
        product = self.cascade.tasks[task].product
        inputs = [self._input("main", job, product) for job in members.values()]
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
        step, recipe = self.cascade.tasks[task], self._recipe(task)
        associated: dict[str, Sequence[Group]] = {}
        without: list[Missing] = []
        for role, association in step.inputs.items():
            context = self._context(task, group, associated)
            if not _applies(association, context):
                continue
            found = self.search.find(role, association, context)
            associated[role] = found.groups
            inputs += found.inputs
            missing += found.missing
            without += found.without
        parameters, keys = self.parameters[task], self.keys[task]
        if step.hooks:
            parameters = self._parameters(task, step, self._hooked(task, group, associated))
            keys = KeyMaker(recipe, parameters)
        absent = [JobInput(one.input, "missing") for one in missing]
        key = keys.key([*inputs, *absent], self._detectors(group, inputs))
        if self.request.late == "keep" and key not in self.known.done:
            kept = self._kept(task, keys, group, inputs)
            if kept is not None:
                key, inputs, missing = kept.key, list(kept.inputs), []
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
            worst_level=self._worst_level(inputs),
            without=tuple(without),
        )
        return self.by_key.setdefault(key, job)

    def _kept(self, task: str, keys: KeyMaker, group: Group, inputs: Sequence[JobInput]) -> MadeJob | None:
        """What was made of the same main input in the same way, with calibrations that may still be used."""
        main = main_identity(one for one in inputs if one.role == "main")
        for one in self.known.made.get((task, main), ()):
            alike = keys.key(one.inputs, self._detectors(group, one.inputs)) == one.key
            if alike and one.key in self.known.done and all(map(self._may_be_used, one.inputs)):
                other = {(e.role, e.identity) for e in inputs} ^ {(e.role, e.identity) for e in one.inputs}
                for role in sorted({role for role, _ in other}):
                    self.kept.setdefault((task, self._better(role, one.inputs, inputs)), []).append(one.key)
                return one
        return None

    def _better(self, role: str, before: Sequence[JobInput], now: Sequence[JobInput]) -> str:
        """What would be chosen for a role now, rather than what."""
        found, was = ([one for one in some if one.role == role] for some in (now, before))
        return f"{self._told(role, found)} rather than {self._told('', was)}".strip()

    def _told(self, role: str, some: Sequence[JobInput]) -> str:
        if not some:
            return f"no {role}".strip()
        one = some[0]
        job, made = self.by_key.get(one.job or ""), self.made_by_key.get(one.job or "")
        frames = (
            [one.frame] if one.frame is not None else [each.frame for each in made.inputs] if made else []
        )
        nights = [self.frame[each].night for each in frames if each in self.frame]
        night = job.group.text("night") if job is not None else next(iter(nights), "elsewhere")
        level = "" if one.level is None else f" (level {one.level})"
        return f"{role} of {night}{level}".strip()

    @cached_property
    def made_by_key(self) -> dict[str, MadeJob]:
        """How the jobs that are done were done, by key."""
        return {one.key: one for some in self.known.made.values() for one in some}

    def _may_be_used(self, one: JobInput) -> bool:
        """Whether an input of a job that was done is neither banned nor gone, nor made otherwise than is asked for."""
        worst = self.request.quality_threshold
        if worst is not None and one.level is not None and one.level > worst:
            return False
        if one.job is None:
            return one.frame in self.frame and not self.frame[one.frame].refused
        made = self.made_by_key.get(one.job)
        if made is None or one.job not in self.known.done or one.job in self.known.banned:
            return False
        main = [each for each in made.inputs if each.role == "main"]
        if work_name(made.task, main) in self.known.banned or made.task not in self.keys:
            return False
        frames = tuple(self.frame[each.frame] for each in main if each.frame in self.frame)
        detectors = self._detectors(Group(frames), made.inputs) if frames else []
        alike = self.keys[made.task].key(made.inputs, detectors) == made.key
        return alike and all(map(self._may_be_used, made.inputs))

    def _worst_level(self, inputs: Sequence[JobInput]) -> int:
        own = max((one.level for one in inputs if one.level is not None), default=0)
        below = {self.by_key[one.job].worst_level for one in inputs if one.job in self.by_key}
        return max(own, *below) if below else own

    def _hooked(self, task: str, group: Group, associated: Mapping[str, Sequence[Group]]) -> dict[str, Any]:
        """What the hooks of a step say of a job's parameters; a later one has the last word."""
        context = self._context(task, group, associated)
        found: dict[str, Any] = {}
        for hook in self.cascade.tasks[task].hooks:
            said = dotted.called(hook, context)
            if not isinstance(said, Mapping):
                raise ValueError(f"hook {hook!r} of task {task!r} gave {said!r}, wanted names and values")
            found |= said
        return found

    def _detectors(self, group: Group, inputs: Sequence[JobInput]) -> list[str]:
        """Digests of what instrument files say of the detectors of raw inputs."""
        if all(one.frame is None for one in inputs):
            return []
        profiles = {str(frame.value("profile")) for frame in group.frames}
        return [self.known.detectors[one] for one in sorted(profiles) if one in self.known.detectors]

    # What the search for associated inputs asks

    @cached_property
    def search(self) -> Search:
        """How associated inputs are found."""
        limits = self.request.quality_threshold, self.request.preference
        return Search(self.cascade, self, *limits, frozenset(self.known.pinned))

    def sets_of(self, source: str) -> Candidates[Group]:
        """Sets of frames of a data source, or from which a task could make its product."""
        if source not in self.candidates:
            maker = self.cascade.relayed(source)
            if maker in self.cascade.sources:
                groups = [one for one in self._groups(maker) if self._passes(source, one)]
            elif self._takes_frames(maker):
                every = self._groups(self.cascade.main_source(maker))
                main = self.cascade.tasks[maker].main
                groups = [one for one in every if self._passes(main, one) and self._passes(source, one)]
            else:
                groups = list(self._units(source).values())
            self.candidates[source] = Candidates(groups, self.known.barriers)
        return self.candidates[source]

    def masters_of(self, task: str, product: str) -> Candidates[Group]:
        """Finished products of a task's category that were made elsewhere, each as a set of one."""
        name = f"{task} {product}"
        if name not in self.candidates:
            task = self.cascade.relayed(task)
            outputs = self._recipe(task).outputs if task in self.cascade.tasks else ()
            wanted = product or next(iter(outputs), "")
            known = () if wanted in CLASSES else self.frames  # raw science frames are no products of science
            found = [Group((one,)) for one in known if one.frame_class == wanted and not one.refused]
            self.candidates[name] = Candidates(
                found if task in self.cascade.tasks else (), self.known.barriers
            )
        return self.candidates[name]

    def taken(self, role: str, source: str, product: str, candidate: Group) -> tuple[list[JobInput], str]:
        """A candidate as inputs of a job, or why it can't be had."""
        source = self.cascade.relayed(source)
        if source in self.cascade.sources:
            return [JobInput(role, content(one), frame=one.id) for one in candidate.frames], ""
        if not self._wanted(source, candidate):
            return [], f"{self.cascade.tasks[source].condition} does not hold"
        job = self._unit(source, candidate)
        if job is None:
            return [], WAITS
        if job.key in self.failed:
            return [], "failed"
        if self._is_banned(job):
            return [], "banned"
        return ([], job.reason) if job.state == "incomplete" else ([self._input(role, job, product)], "")

    def _input(self, role: str, job: Job, product: str) -> JobInput:
        """The product of a job; its category is part of what it is where the job makes several."""
        handed = self.cascade.tasks[job.step].outputs if job.step in self.cascade.tasks else None
        product = product or next(iter(handed or ()), "")
        several = len(job.outputs) > 1 and product not in ("", job.outputs[0])
        return JobInput(role, f"{job.key}:{product}" if several else job.key, job=job.key)


def _applies(association: Association, context: Context) -> bool:
    """Whether an input is to be looked for at all."""
    blanks = association.when_missing
    if blanks and all(context.group.value(one) is not None for one in blanks):
        return False
    return not association.condition or bool(evaluate(association.condition, context))


def _whole_set(frames: Sequence[FrameRecord], action: Action, reason: str) -> FrameSet:
    """A set that is no part of a sequence."""
    first, last = frames[0], frames[-1]
    key = first.obsdate, first.iobs or 0, first.sha256 or "", first.id
    ids = tuple(frame.id for frame in frames)
    return FrameSet(first.stream, ids, action, True, reason, key, first.obsdate, last.obsdate)


def _in_order(frames: Iterable[FrameRecord]) -> list[FrameRecord]:
    """Frames by obsdate, then ``iobs``, then content; a total order, whatever the order they came in.

    A frame without obsdate has no place in any order; it is refused at registration.
    """
    dated = [frame for frame in frames if frame.obsdate]
    return sorted(dated, key=lambda one: (one.obsdate, one.iobs or 0, content(one), one.id))
