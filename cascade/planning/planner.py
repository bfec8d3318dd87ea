"""From targets to jobs: pure and deterministic, never silent about what can't be done."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from ccdflow.cascade.planning.framegroups import FrameGroups, is_stacked
from ccdflow.cascade.planning.jobmaker import JobMaker
from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.planning.plans import Plan, PlannedSet
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.planning.resolved import ResolvedCascade
from ccdflow.cascade.records import DESCRIBED, VALIDITY, Action, FrameRecord
from ccdflow.cascade.sequences.settle import Settled, apply_failures
from ccdflow.cascade.sequences.statemachine import FrameSet, SequenceRules
from ccdflow.cascade.specification.contract import ContractError, check, keyword_problems
from ccdflow.cascade.specification.model import Cascade


def plan(known: Known, request: Request, failed: Collection[str] = frozenset()) -> Plan:
    """Return the jobs that make the products of the request's targets, and all that they need.

    The same frames in any order give the same plan.

    Parameters
    ----------
    known : Known
        Cascade, recipes, frames, and what is done.
    request : Request
        What is asked for.
    failed : collection of str, optional
        Keys of jobs that have failed for good: their frames leave their sets, and another calibration takes their
        place.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If a target or parameter is not known, or the cascade contradicts its recipes.
    """
    check(known.cascade, known.recipes, known.classes)
    resolved = ResolvedCascade(known, request)
    _refuse_strange_keywords(known, resolved.cascade)
    # One list for all parts: notes stand in the order in which planning came upon them. Some are found twice, since a
    # condition is asked again for each job that would take the product.
    notes: list[str] = []
    frames = (frame for frame in known.frames if f"f{frame.id}" not in known.banned)
    groups = FrameGroups(resolved, frames, request, notes)
    maker = JobMaker(known, request, failed, groups, notes)
    walk = _Walk(request, groups, maker)
    wanted: dict[str, Job] = {}
    for target in resolved.cascade.targets(request.targets):
        for job in walk.jobs_of(target):
            _collect(job, maker.by_key, wanted)
    notes += maker.kept_notes()
    asked = tuple(target for target in request.targets if target in resolved.cascade.tasks)
    return Plan(tuple(wanted.values()), tuple(walk.sets), tuple(dict.fromkeys(notes)), asked)


def _collect(job: Job, by_key: Mapping[str, Job], wanted: dict[str, Job]) -> None:
    """Add a job behind all jobs that it takes products from."""
    if job.key in wanted:
        return
    for parent in job.parents:
        # What a kept product was made with need not be planned: the product is there.
        if parent in by_key:
            _collect(by_key[parent], by_key, wanted)
    wanted[job.key] = job


def _refuse_strange_keywords(known: Known, cascade: Cascade) -> None:
    """Refuse keywords that neither an instrument file keeps nor any frame has.

    Raises
    ------
    ContractError
        With a sentence for each.
    """
    names = {*FrameRecord.__slots__, "class", *DESCRIBED, *VALIDITY, *known.keywords}
    # Most cascades name nothing else; only for those that do the keywords of all frames are looked at.
    if not any(keyword_problems(cascade, names)):
        return
    # Of a part of the frames, or of none, nothing follows: the others may have the keyword.
    if not known.whole or not known.frames:
        return
    for frame in known.frames:
        names |= frame.keywords.keys()
    if problems := list(keyword_problems(cascade, names)):
        raise ContractError("; ".join(problems))


class _Walk:
    """Goes from targets to their jobs, and notes what comes of each set of products."""

    def __init__(self, request: Request, groups: FrameGroups, maker: JobMaker) -> None:
        self._request = request
        self._groups = groups
        self._resolved = groups.resolved
        self._cascade = groups.resolved.cascade
        self._maker = maker
        self.sets: list[PlannedSet] = []

    def jobs_of(self, target: str) -> Iterator[Job]:
        """Give the jobs of a target, and for sets that pass or wait, the jobs that make their members."""
        task = self._cascade.relayed(target)
        if task in self._cascade.sources:
            return
        if self._resolved.takes_frames(task):
            yield from self._jobs_on_frames(task)
            return
        # Whole sequences are asked for or not: where failed frames are replaced, its sets give frames to one another.
        for sets in self._groups.product_sets(task):
            frames = [self._groups.by_id[frame] for frame_set in sets for frame in frame_set.frames]
            if any(map(self._request.selects, frames)):
                yield from self._jobs_of_sequence(task, sets)

    def _jobs_on_frames(self, task: str) -> Iterator[Job]:
        if self._cascade.tasks[task].groups:
            yield from self._jobs_on_frame_sets(task)
            return
        main = self._cascade.tasks[task].main
        for group in self._groups.raw_groups(self._cascade.main_source(task)):
            selected = any(map(self._request.selects, group.frames))
            # Rows of a catalogue may be thousands: nothing is planned for them before their files are there.
            if not selected or group.frames[0].path is None:
                continue
            if self._resolved.conditions.passes(main, group) and self._maker.wanted(task, group):
                yield self._maker.on_frames(task, group)

    def _jobs_on_frame_sets(self, task: str) -> Iterator[Job]:
        """Give the jobs of a task that puts raw frames together itself, and note its sets."""
        for cut in self._groups.frame_sets(task):
            group = self._groups.group_of(cut.frames)
            if not any(map(self._request.selects, group.frames)):
                continue
            planned = PlannedSet(task, cut.frames, cut.action, cut.closed, cut.reason)
            if is_stacked(cut) and any(frame.path is not None for frame in group.frames):
                if self._maker.wanted(task, group):
                    job = self._maker.on_frames(task, group)
                    planned = replace(planned, job=job.key)
                    yield job
                else:
                    reason = f"{self._cascade.tasks[task].condition} does not hold"
                    planned = replace(planned, action="pass", reason=reason)
            self.sets.append(planned)

    def _jobs_of_sequence(self, task: str, sets: Sequence[FrameSet]) -> Iterator[Job]:
        """Give the jobs of the sets of one sequence, after those that make their members."""
        frames = [frame for frame_set in sets for frame in frame_set.frames]
        members = self._maker.members(task, frames)
        # First those of the members, also of sets that pass or wait: their frames are to be calibrated all the same.
        yield from (job for job in members.values() if job.has_files)
        lost = {frame for frame in frames if frame not in members or self._maker.is_lost(members[frame])}
        # A grouping without sequences has no rule for failures; the default leaves its sets smaller.
        grouping = self._resolved.grouping(task)
        rules = grouping if isinstance(grouping, SequenceRules) else SequenceRules()
        stacked = [
            frame_set
            for frame_set in sets
            if rules.on_failed == "refill" and self._is_stacked(task, frame_set, members)
        ]
        for settled in apply_failures(sets, lost, rules, stacked):
            yield from self._settled_job(task, settled, members)

    def _is_stacked(self, task: str, frame_set: FrameSet, members: Mapping[int, Job]) -> bool:
        """Tell whether the product of a set is there already; such a set gives no frames away."""
        left = {frame: members[frame] for frame in frame_set.frames if frame in members}
        return len(left) > 1 and self._maker.on_products(task, left).state == "reused"

    def _settled_job(self, task: str, settled: Settled, members: Mapping[int, Job]) -> Iterator[Job]:
        """Give the job of a set, or none where it passes, waits or is lost."""
        # A set is known by the frames that it was cut with, its job by those that are left.
        action: Action = "stack" if settled.outcome == "stack" else "pass"
        planned = PlannedSet(task, settled.set.frames, action, settled.set.closed, settled.reason)
        if action == "stack" and settled.set.closed:
            if not any(members[frame].has_files for frame in settled.frames):
                planned = replace(
                    planned, reason=f"{settled.reason}; none of its frames has a file yet".lstrip("; ")
                )
            elif self._maker.wanted(task, self._groups.group_of(settled.frames)):
                job = self._maker.on_products(task, {frame: members[frame] for frame in settled.frames})
                planned = replace(planned, job=job.key)
                yield job
            else:
                reason = f"{self._cascade.tasks[task].condition} does not hold"
                planned = replace(planned, action="pass", reason=reason)
        self.sets.append(planned)
