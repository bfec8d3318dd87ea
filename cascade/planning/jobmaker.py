"""Jobs: a task on its main input, with the associated inputs that were found, parameters and a key."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ccdflow.cascade.planning.framegroups import FrameGroups
from ccdflow.cascade.planning.jobs import (
    Group,
    Job,
    JobInput,
    Missing,
    detector_digests,
    frame_identity,
    work_name,
)
from ccdflow.cascade.planning.kept import KeptJobs
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.planning.search import Search, applies, group_name
from ccdflow.cascade.planning.supply import CandidateSupply

WAITS = "can't be calibrated"
"""How the reason ends why a job on products is incomplete: the jobs that make them are."""


@dataclass
class _Filled:
    """What was found for all roles of a job together."""

    groups: dict[str, Sequence[Group]] = field(default_factory=dict)
    inputs: list[JobInput] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    without: list[Missing] = field(default_factory=list)


class JobMaker:
    """Makes jobs, those on raw frames once each.

    To find a job's calibrations is to make the jobs that make these, so it goes round: a job asks `Search`, which asks
    `as_inputs` for each candidate that fits, which makes the candidate's job. A cascade has no cycles, so this ends at
    tasks that need nothing but raw frames.

    Parameters
    ----------
    known : Known
        What is done, banned and pinned.
    request : Request
        Levels and preferences of associations, and whether late calibrations matter.
    failed : collection of str
        Keys of jobs that have failed for good.
    groups : FrameGroups
        Frames, groups, and the resolved cascade.
    notes : list of str
        Sentences about what is left out are added to it.

    Attributes
    ----------
    by_key : dict of str to Job
        All jobs that were made.
    kept : KeptJobs
        Done jobs that are kept though others would be planned now.
    """

    def __init__(
        self,
        known: Known,
        request: Request,
        failed: Collection[str],
        groups: FrameGroups,
        notes: list[str],
    ) -> None:
        self._known = known
        self._failed = failed
        self._groups = groups
        self._resolved = groups.resolved
        self._cascade = groups.resolved.cascade
        self._notes = notes
        self._keeps = request.late == "keep"
        self._of_frames: dict[tuple[str, tuple[int, ...]], Job] = {}
        self.by_key: dict[str, Job] = {}
        self.kept = KeptJobs(known, request.quality_threshold, groups, self.by_key)
        supply = CandidateSupply(groups, known.barriers)
        limits = request.quality_threshold, request.preference
        self._search = Search(self._cascade, supply, self, *limits, frozenset(known.pinned))

    def wanted(self, task: str, group: Group) -> bool:
        """Tell whether a task's condition holds for some frames; a note says where it does not.

        Parameters
        ----------
        task : str
            Name of a task.
        group : Group
            Frames of the main input.

        Returns
        -------
        bool
        """
        if self._resolved.holds(task, group):
            return True
        condition = self._cascade.tasks[task].condition
        self._notes.append(f"{task}: no job for {group_name(group)}, since {condition} does not hold")
        return False

    def is_lost(self, job: Job) -> bool:
        """Tell whether what a job makes can't be had: it has failed for good, or is banned.

        Parameters
        ----------
        job : Job
            Any job.

        Returns
        -------
        bool
        """
        return job.key in self._failed or self._is_banned(job)

    def _is_banned(self, job: Job) -> bool:
        """Tell whether somebody has banned what a job makes, with these or with other parameters."""
        return job.key in self._known.banned or work_name(job.step, job.main) in self._known.banned

    def on_frames(self, task: str, group: Group) -> Job:
        """Return the job of a task on raw frames.

        Parameters
        ----------
        task : str
            Task that takes raw frames.
        group : Group
            Its main input.

        Returns
        -------
        Job
            Incomplete where a file or a mandatory input is missing.
        """
        name = task, tuple(frame.id for frame in group.frames)
        if name not in self._of_frames:
            main = [JobInput("main", frame_identity(frame), frame=frame.id) for frame in group.frames]
            missing = []
            if any(frame.path is None for frame in group.frames):
                missing.append(Missing("main", "no file, only a row of a catalogue"))
            self._of_frames[name] = self._finished(task, group, main, missing)
        return self._of_frames[name]

    def on_products(self, task: str, members: Mapping[int, Job]) -> Job:
        """Return the job of a task on products.

        Parameters
        ----------
        task : str
            Task that takes products.
        members : mapping of int to Job
            Jobs that make them, in order, by the frame that stands for each.

        Returns
        -------
        Job
            Incomplete where one of the members is, or a mandatory input is missing.
        """
        product = self._cascade.tasks[task].product
        main = [self._product_input("main", job, product) for job in members.values()]
        waiting = [f"f{frame}" for frame, job in members.items() if job.state == "incomplete"]
        missing = [Missing("main", f"{', '.join(waiting)} {WAITS}")] if waiting else []
        return self._finished(task, self._groups.group_of(members), main, missing)

    def members(self, task: str, frames: Sequence[int]) -> dict[int, Job]:
        """Return the jobs that make what a task on products takes.

        Parameters
        ----------
        task : str
            Task that takes products.
        frames : sequence of int
            Ids of the frames that stand for the products.

        Returns
        -------
        dict of int to Job
            By frame, in order; without the frames of which nothing can be made.
        """
        main = self._cascade.tasks[task].main
        products, maker = self._groups.product_groups(main), self._cascade.relayed(main)
        jobs = {frame: self._product_job(maker, products[frame]) for frame in frames if frame in products}
        return {frame: job for frame, job in jobs.items() if job is not None}

    def _product_job(self, task: str, group: Group) -> Job | None:
        """Return the job that makes one product of a task; None where nothing is left to make it of."""
        if self._resolved.takes_frames(task):
            return self.on_frames(task, group)
        members = self.members(task, [frame.id for frame in group.frames])
        left = {frame: job for frame, job in members.items() if not self.is_lost(job)}
        return self.on_products(task, left) if left else None

    def as_inputs(self, role: str, source: str, product: str, candidate: Group) -> tuple[list[JobInput], str]:
        """Return a candidate as inputs of a job, or why it can't be had.

        Parameters
        ----------
        role : str
            Role that it fills.
        source : str
            Data source, task or relay that it is a candidate of.
        product : str
            Category, of a task that makes several; else empty.
        candidate : Group
            Its frames.

        Returns
        -------
        inputs : list of JobInput
            Raw frames, or the one product; empty where it can't be had.
        reason : str
            Why it can't be had; else empty.
        """
        source = self._cascade.relayed(source)
        if source in self._cascade.sources:
            return [JobInput(role, frame_identity(frame), frame=frame.id) for frame in candidate.frames], ""
        if not self.wanted(source, candidate):
            return [], f"{self._cascade.tasks[source].condition} does not hold"
        job = self._product_job(source, candidate)
        if job is None:
            return [], WAITS
        if job.key in self._failed:
            return [], "failed"
        if self._is_banned(job):
            return [], "banned"
        return (
            ([], job.reason) if job.state == "incomplete" else ([self._product_input(role, job, product)], "")
        )

    def _product_input(self, role: str, job: Job, product: str) -> JobInput:
        """Return the product of a job as an input; its category is part of what it is where the job makes several."""
        outputs = self._cascade.tasks[job.step].outputs if job.step in self._cascade.tasks else None
        product = product or next(iter(outputs or ()), "")
        several = len(job.outputs) > 1 and product not in ("", job.outputs[0])
        return JobInput(role, f"{job.key}:{product}" if several else job.key, job=job.key)

    def _associated(self, task: str, group: Group) -> _Filled:
        """Find what fills the roles of a task, in order: what is found for one may decide about those behind it."""
        filled = _Filled()
        for role, association in self._cascade.tasks[task].inputs.items():
            context = self._resolved.context(task, group, filled.groups)
            if not applies(association, context):
                continue
            found = self._search.find(role, association, context)
            filled.groups[role] = found.groups
            filled.inputs += found.inputs
            filled.missing += found.missing
            filled.without += found.without
        return filled

    def _finished(self, task: str, group: Group, main: list[JobInput], lacking: list[Missing]) -> Job:
        """Return the job with its associated inputs, its key and its state."""
        filled = self._associated(task, group)
        inputs, missing = [*main, *filled.inputs], [*lacking, *filled.missing]
        parameters, keys = self._resolved.job_parameters(task, group, filled.groups)
        # The key of an incomplete job says what is missing, so that it is another one once that has come.
        absent = [JobInput(lack.input, "missing") for lack in missing]
        detectors = detector_digests(self._known.detectors, group.frames, inputs)
        key = keys.key([*inputs, *absent], detectors)
        if self._keeps and key not in self._known.done:
            kept = self.kept.find(task, keys, group, inputs)
            if kept is not None:
                key, inputs, missing = kept.key, list(kept.inputs), []
        step, recipe = self._cascade.tasks[task], self._resolved.recipe(task)
        job = Job(
            key=key,
            step=task,
            stage=step.stage,
            recipe=recipe.name,
            version=recipe.version,
            state="incomplete" if missing else "reused" if key in self._known.done else "new",
            group=group,
            inputs=tuple(inputs),
            missing=tuple(missing),
            parameters=parameters,
            outputs=recipe.outputs,
            worst_level=self._worst_level(inputs),
            without=tuple(filled.without),
        )
        return self.by_key.setdefault(key, job)

    def _worst_level(self, inputs: Sequence[JobInput]) -> int:
        """Return the worst level of a job's own associations and of those that its inputs depend on."""
        own = max((item.level for item in inputs if item.level is not None), default=0)
        below = {self.by_key[item.job].worst_level for item in inputs if item.job in self.by_key}
        return max(own, *below) if below else own
