"""Jobs that wait though nothing asks for them any more: found with the reason, and taken away."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames
from ccdflow.archive.registry.jobs.leases import live_drains
from ccdflow.archive.registry.jobs.lineage import main_frames
from ccdflow.archive.registry.jobs.planned import drop_waiting
from ccdflow.archive.registry.jobs.records import JobFilter, JobRecord, find_jobs
from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.planning.request import Request
from ccdflow.tasks.planning import planned
from ccdflow.tasks.workspace import Workspace

WAITING = ("planned", "incomplete")
"""States of jobs that nobody is at work on and that have made nothing."""
PATIENCE = timedelta(days=1)
"""How long a job waits that only the parameters of somebody's request have asked for: he may begin it yet."""
NOBODY_ASKS = "nothing asks for it any more"
SHOWN = 3
"""How many jobs of one reason are named before three dots."""


@dataclass(frozen=True)
class Leftover:
    """A job that waits in vain, and why."""

    job: JobRecord
    reason: str


def leftovers(space: Workspace) -> list[Leftover]:
    """Find the jobs that wait in the registry and that no plan of the project would name.

    They are left where frames were corrected, deleted or refused, or the cascade was changed, before they were begun,
    and where a night's plan has no job of their task any more that could take their place.

    Parameters
    ----------
    space : Workspace
        The project.

    Returns
    -------
    list of Leftover
        Those first that were planned first.
    """
    waiting = space.registry.read(find_jobs, JobFilter(states=WAITING))
    old = (datetime.now(UTC) - PATIENCE).replace(tzinfo=None).isoformat()
    asked = [job for job in waiting if job.variant and job.planned_at < old]
    own = {job.key: job for job in waiting if not job.variant}
    places: dict[tuple[str, int], str] = {}
    # A plan of all that there is takes its time: it is made only where somebody waits, and for these tasks.
    for jobs in _plans(space, own):
        places |= {(job.step, frame.id): job.key for job in jobs for frame in job.group.frames}
        for job in jobs:
            own.pop(job.key, None)
        if not own:
            break
    found = [Leftover(job, _why(space, job, places)) for job in own.values()]
    # Others may be at work by a request of their own, of which only they know what it asks for.
    if _is_at_work(space):
        found = [left for left in found if left.reason != NOBODY_ASKS]
    found += [Leftover(job, f"asked for by {job.variant} and not begun within a day") for job in asked]
    return sorted(found, key=lambda left: (left.job.planned_at, left.job.key))


def _is_at_work(space: Workspace) -> bool:
    if space.registry.read(find_jobs, JobFilter(states=("running",))):
        return True
    return bool(space.registry.read(live_drains, space.project.keep_alive))


def take_away(space: Workspace, found: Sequence[Leftover]) -> list[Leftover]:
    """Delete jobs that wait in vain from the registry; what of them somebody has begun meanwhile stays.

    Parameters
    ----------
    space : Workspace
        The project.
    found : sequence of Leftover
        As `leftovers` gives them.

    Returns
    -------
    list of Leftover
        Those that were deleted.
    """
    if not found:
        return []
    gone = space.registry.write(drop_waiting, [left.job.key for left in found])
    return [left for left in found if left.job.key in gone]


def told(found: Sequence[Leftover]) -> list[str]:
    """Return a sentence for each reason, with the jobs that were taken away for it.

    Parameters
    ----------
    found : sequence of Leftover
        Jobs.

    Returns
    -------
    list of str
        As ``2 waiting jobs taken away (dark 5dcfa7ec, dark 90aa12bc): the cascade has no task 'dark' any more``.
    """
    by_reason: dict[str, list[JobRecord]] = {}
    for left in found:
        by_reason.setdefault(left.reason, []).append(left.job)
    return [
        f"{len(jobs)} waiting job{'s' * (len(jobs) > 1)} taken away ({_named(jobs)}): {reason}"
        for reason, jobs in by_reason.items()
    ]


def _named(jobs: Sequence[JobRecord]) -> str:
    names = [f"{job.step} {job.key[:8]}" for job in jobs[:SHOWN]]
    return ", ".join(names + ["..."] * (len(jobs) > SHOWN))


def _plans(space: Workspace, waiting: Mapping[str, JobRecord]) -> Iterator[Sequence[Job]]:
    """Give the jobs that plans for the tasks of some waiting jobs name, in one way after the other."""
    targets = tuple(sorted({job.step for job in waiting.values() if _is_task(space, job.step)}))
    if not targets:
        return
    # As whoever works may plan: with what was made kept or made anew, and without what has failed.
    failed = {job.key for job in space.registry.read(find_jobs, JobFilter(states=("failed",)))}
    request = Request(targets=targets)
    for without in (set(), failed) if failed else (set(),):
        for late in (request.late, "keep"):
            yield planned(space, request.model_copy(update={"late": late}), without).jobs


def _is_task(space: Workspace, step: str) -> bool:
    return step in space.cascade.tasks and space.cascade.tasks[step].recipe is not None


def _why(space: Workspace, job: JobRecord, places: Mapping[tuple[str, int], str]) -> str:
    """Say why no plan names a job; `places` are the jobs that plans name, by task and frame."""
    if not _is_task(space, job.step):
        return f"the cascade has no task {job.step!r} any more"
    recipe = space.cascade.tasks[job.step].recipe or ""
    version = space.recipes[recipe].version
    if (job.recipe, job.version) != (recipe, version):
        return f"its recipe is {recipe} {version} now, was {job.recipe} {job.version}"
    frames = space.registry.read(main_frames, job.key)
    taken = next((places[job.step, frame] for frame in frames if (job.step, frame) in places), "")
    other = f"job {taken[:8]} has taken its frames" if taken else NOBODY_ASKS
    return _why_by_frames(space, job, frames) or other


def _why_by_frames(space: Workspace, job: JobRecord, frames: Sequence[int]) -> str:
    """Say what has become of the raw frames of a job; empty where they are as they were."""
    if not frames or any(taken.frame is None and taken.job is None for taken in job.inputs):
        return "frames of it were deleted"
    wanted = space.cascade.sources[space.cascade.main_source(job.step)].frame_class
    records = space.registry.read(find_frames, FrameFilter(ids=frames, keywords=()))
    there = {frame.id for frame in records}
    if gone := [number for number in frames if number not in there]:
        return f"f{gone[0]} has given way to another frame"
    for frame in records:
        if frame.refused:
            return f"f{frame.id} was refused"
        if frame.frame_class != wanted:
            return f"f{frame.id} is {frame.frame_class} now, not {wanted}"
    return ""
