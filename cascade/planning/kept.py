"""Which products are kept though other calibrations would be chosen now (``late: keep``)."""

from collections.abc import Iterator, Mapping, Sequence

from ccdflow.cascade.planning.framegroups import FrameGroups
from ccdflow.cascade.planning.jobs import DoneJob, Group, Job, JobInput
from ccdflow.cascade.planning.keys import KeyMaker, detector_digests, main_identity, work_name
from ccdflow.cascade.planning.request import Known


class KeptJobs:
    """Finds the done job that may stand for one that would be planned now, and counts what was kept.

    Parameters
    ----------
    known : Known
        What is done and how it was made, what is banned.
    worst : int or None
        Worst association level that is accepted.
    groups : FrameGroups
        Frames by id, keys of the tasks.
    planned : mapping of str to Job
        Jobs of this plan by key, also those that are added later.
    """

    def __init__(
        self, known: Known, worst: int | None, groups: FrameGroups, planned: Mapping[str, Job]
    ) -> None:
        self._known = known
        self._worst = worst
        self._frames = groups.by_id
        self._keys = groups.resolved.keys
        self._planned = planned
        self._done_jobs = {job.key: job for jobs in known.done_jobs.values() for job in jobs}
        self._kept: dict[tuple[str, str], list[str]] = {}

    def find(self, task: str, keys: KeyMaker, group: Group, inputs: Sequence[JobInput]) -> DoneJob | None:
        """Return what was made of the same main input in the same way, with calibrations that may still be used.

        Parameters
        ----------
        task : str
            Task of the job.
        keys : KeyMaker
            What would give the job its key now.
        group : Group
            Frames of the main input.
        inputs : sequence of JobInput
            Inputs that would be chosen now.

        Returns
        -------
        DoneJob or None
            The newest one; None where all were made otherwise, or of something that may not be used any more.
        """
        main = main_identity(item for item in inputs if item.role == "main")
        for job in self._known.done_jobs.get((task, main), ()):
            # With its own inputs a job gets its own key again, unless the recipe's version, parameters or detector have
            # changed since; then it was made otherwise, and not only of something else.
            detectors = detector_digests(self._known.detectors, group.frames, job.inputs)
            alike = keys.key(job.inputs, detectors) == job.key
            if alike and job.key in self._known.done and all(map(self._may_be_used, job.inputs)):
                self._count(task, job, inputs)
                return job
        return None

    def notes(self) -> Iterator[str]:
        """Say how many products of each task are kept, and what would be chosen now.

        Yields
        ------
        str
            A sentence for each task and choice.
        """
        for (task, better), keys in self._kept.items():
            yield f"{task}: {len(keys)} kept, though {better} would be chosen now; --late redo makes them anew"

    def _count(self, task: str, job: DoneJob, inputs: Sequence[JobInput]) -> None:
        """Remember a kept job for each role that would be filled otherwise now."""
        # Roles with an input that is in only one of the two lists.
        now = {(item.role, item.identity) for item in inputs}
        before = {(item.role, item.identity) for item in job.inputs}
        for role in sorted({role for role, _ in now ^ before}):
            self._kept.setdefault((task, self._better(role, job.inputs, inputs)), []).append(job.key)

    def _better(self, role: str, before: Sequence[JobInput], now: Sequence[JobInput]) -> str:
        """Say what would be chosen for a role now, rather than what."""
        new, old = ([item for item in inputs if item.role == role] for inputs in (now, before))
        return f"{self._described(role, new)} rather than {self._described('', old)}".strip()

    def _described(self, role: str, inputs: Sequence[JobInput]) -> str:
        """Name the first of some inputs by its night and level."""
        if not inputs:
            return f"no {role}".strip()
        first = inputs[0]
        level = "" if first.level is None else f" (level {first.level})"
        return f"{role} of {self._night(first)}{level}".strip()

    def _night(self, item: JobInput) -> str:
        """Return the night of an input: of its planned job, of its frame, or of the frames that it was made of."""
        planned = self._planned.get(item.job or "")
        if planned is not None:
            return planned.group.text("night")
        frames = [item.frame]
        if item.frame is None:
            frames = (
                [part.frame for part in self._done_jobs[item.job].inputs]
                if item.job in self._done_jobs
                else []
            )
        nights = (self._frames[frame].night for frame in frames if frame in self._frames)
        return next(nights, "elsewhere")

    def _may_be_used(self, item: JobInput) -> bool:
        """Tell whether an input of a done job is neither banned nor gone, nor made otherwise than is asked for."""
        if self._worst is not None and item.level is not None and item.level > self._worst:
            return False
        # A raw frame or a finished master: it must be registered still, and sound.
        if item.job is None:
            return item.frame in self._frames and not self._frames[item.frame].refused
        if item.job not in self._done_jobs or item.job not in self._known.done:
            return False
        return self._would_be_made_so(self._done_jobs[item.job])

    def _would_be_made_so(self, job: DoneJob) -> bool:
        """Tell whether a done job is not banned, and today's recipe and parameters give it its key again."""
        # Then its inputs are asked, and so on up to the raw frames: a bias that would be made with other parameters now
        # makes the darks that were made with it unusable too.
        main = [item for item in job.inputs if item.role == "main"]
        banned = self._known.banned
        if job.key in banned or work_name(job.task, main) in banned or job.task not in self._keys:
            return False
        frames = [self._frames[item.frame] for item in main if item.frame in self._frames]
        detectors = detector_digests(self._known.detectors, frames, job.inputs)
        alike = self._keys[job.task].key(job.inputs, detectors) == job.key
        return alike and all(map(self._may_be_used, job.inputs))
