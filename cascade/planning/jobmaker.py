"""Jobs on raw frames and on products, and what can't be had of them."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from ccdflow.cascade.planning.assembly import JobAssembler
from ccdflow.cascade.planning.framegroups import FrameGroups
from ccdflow.cascade.planning.jobs import Group, Job, JobInput, Missing, frame_identity
from ccdflow.cascade.planning.keys import work_name
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.planning.search import group_name
from ccdflow.cascade.records import NO_FILE

WAITS = "can't be calibrated"
"""How the reason ends why a job on products is incomplete: the jobs that make them are."""


class JobMaker:
    """Makes jobs, those on raw frames once each.

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
    """

    # To find a job's calibrations is to make the jobs that make these, so it goes round: a job is put together by the
    # assembler, which searches associated inputs, and for each candidate that fits asks `as_inputs`, which makes the
    # candidate's job. A cascade has no cycles, so this ends at tasks that need nothing but raw frames.
    def __init__(
        self,
        known: Known,
        request: Request,
        failed: Collection[str],
        groups: FrameGroups,
        notes: list[str],
    ) -> None:
        self._banned = known.banned
        self._failed = failed
        self._groups = groups
        self._resolved = groups.resolved
        self._cascade = groups.resolved.cascade
        self._notes = notes
        self._assembler = JobAssembler(known, request, groups, self)
        self._of_frames: dict[tuple[str, tuple[int, ...]], Job] = {}

    @property
    def by_key(self) -> Mapping[str, Job]:
        """All jobs that were made, by key."""
        return self._assembler.by_key

    def kept_notes(self) -> Iterator[str]:
        """Say how many done jobs are kept though others would be planned now.

        Yields
        ------
        str
            A sentence for each task and choice.
        """
        return self._assembler.kept.notes()

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
        if self._resolved.conditions.holds(task, group):
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
        return job.key in self._banned or work_name(job.step, job.main) in self._banned

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
                missing.append(Missing("main", NO_FILE))
            self._of_frames[name] = self._assembler.assembled(task, group, main, missing)
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
            Incomplete where one of the members is, or a mandatory input is missing. Of members that have no files yet
            there are no jobs, so that it does not name them as inputs.
        """
        product = self._cascade.tasks[task].product
        there = {frame: job for frame, job in members.items() if job.has_files}
        main = [self._product_input("main", job, product) for job in there.values()]
        waiting = [f"f{frame}" for frame, job in there.items() if job.state == "incomplete"]
        missing = [Missing("main", f"{', '.join(waiting)} {WAITS}")] if waiting else []
        if absent := [f"f{frame}" for frame in members if frame not in there]:
            has = "has" if len(absent) == 1 else "have"
            missing.append(Missing("main", f"{', '.join(absent)} {has} no file yet"))
        return self._assembler.assembled(task, self._groups.group_of(there or members), main, missing)

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
        # A stack that is itself an input: it shrinks by the members that are lost, as a target's sets do.
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
        # The first product goes by the job's key alone, so that a recipe that learns to make a second one changes no
        # key of what takes its first.
        several = len(job.outputs) > 1 and product not in ("", job.outputs[0])
        return JobInput(role, f"{job.key}:{product}" if several else job.key, job=job.key)
