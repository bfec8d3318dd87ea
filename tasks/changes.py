"""What changes: products that give way to better ones, and why a product would be made anew."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ccdflow.archive.registry.jobs import JobFilter, JobRecord, find_job, find_jobs
from ccdflow.archive.registry.leases import find_whereabouts
from ccdflow.archive.registry.lineage import main_descendants, main_frames
from ccdflow.archive.registry.productchanges import supersede_products
from ccdflow.archive.registry.queries import FrameFilter, find_frames
from ccdflow.cascade.planning.jobs import Job, JobInput
from ccdflow.tasks.workspace import Workspace

DEPTH = 4
"""So many jobs upward an input's change is followed."""


def mark_superseded(space: Workspace, made: Sequence[Job]) -> int:
    """Mark products of the same frames, by the same step and parameters, that were made with other inputs.

    They stay. What was made last is marked no longer, if it ever was. Jobs of `made` that were not done after all,
    as where what they take failed, make nothing give way. Gives how many were marked.
    """
    states = space.registry.read(find_whereabouts, [job.key for job in made], space.project.keep_alive)
    made = [job for job in made if states.get(job.key) == "done"]
    if not made:
        return 0
    frames = {frame.id for job in made for frame in job.group.frames}
    behind = space.registry.read(main_descendants, frames)
    newer = {one.key: one for one in made}
    done = space.registry.read(find_jobs, JobFilter(keys=behind.keys() - newer.keys(), states=("done",)))
    by_frame = {(job.step, frame.id): job for job in made for frame in job.group.frames}
    successors = {}
    for old in done:
        new = next((by_frame[old.step, one] for one in behind[old.key] if (old.step, one) in by_frame), None)
        if new is not None and _values(old.parameters) == _resolved(new):
            successors[old.key] = new.key
    return space.registry.write(supersede_products, successors) if successors else 0


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one["value"] for name, one in parameters.items()}


def _resolved(job: Job) -> dict[str, Any]:
    return {name: one.value for name, one in job.parameters.items()}


def differences(
    space: Workspace, old: JobRecord, new: Job, jobs: Mapping[str, Job], depth: int = 0
) -> list[str]:
    """What is other in a planned job than in one that was done on the same frames, in sentences.

    Parameters
    ----------
    old : JobRecord
        What was done.
    new : Job
        What is planned.
    jobs : mapping
        The plan's jobs by key, to follow what changed in the inputs.
    """
    found = [*_of_recipe(old, new), *_of_parameters(old, new)]
    roles = dict.fromkeys([*(one.role for one in old.inputs), *(one.role for one in new.inputs)])
    for role in roles:
        before = [one for one in old.inputs if one.role == role]
        after = [one for one in new.inputs if one.role == role]
        if [one.identity for one in before] != [one.identity for one in after]:
            found += _of_role(space, role, before, after, jobs, depth)
    found += [f"{one.input} is missing now: {one.reason}" for one in new.missing]
    return found or ["what an instrument file says of its detector has changed"]


def _of_recipe(old: JobRecord, new: Job) -> Iterator[str]:
    if (old.recipe, old.version) != (new.recipe, new.version):
        yield f"recipe {new.recipe} {new.version}, was {old.recipe} {old.version}"


def _of_parameters(old: JobRecord, new: Job) -> Iterator[str]:
    before, after = _values(old.parameters), _resolved(new)
    for name in dict.fromkeys([*before, *after]):
        if name not in after:
            yield f"parameter {name} is gone, was {before[name]!r}"
        elif name not in before:
            yield f"parameter {name} = {after[name]!r} ({new.parameters[name].origin}), was not there"
        elif before[name] != after[name]:
            yield f"parameter {name} = {after[name]!r} ({new.parameters[name].origin}), was {before[name]!r}"


def _of_role(
    space: Workspace,
    role: str,
    before: Sequence[JobInput],
    after: Sequence[JobInput],
    jobs: Mapping[str, Job],
    depth: int,
) -> Iterator[str]:
    """What is other in the inputs of one role."""
    known, wanted = {one.identity for one in before}, {one.identity for one in after}
    gone = [one for one in before if one.identity not in wanted]
    come = [one for one in after if one.identity not in known]
    if not gone and not come:
        yield f"{role}: in another order"
    for old, new in zip(gone, come, strict=False):
        yield from _exchanged(space, role, old, new, jobs, depth)
    for old in gone[len(come) :]:
        yield f"{role}: no longer {_old_name(space, old)}"
    for new in come[len(gone) :]:
        yield f"{role}: also {_new_name(new, jobs)}"


def _exchanged(
    space: Workspace, role: str, old: JobInput, new: JobInput, jobs: Mapping[str, Job], depth: int
) -> Iterator[str]:
    """An input that has taken the place of another; of the same frames, what has changed in how it is made."""
    record = space.registry.read(find_job, old.job) if old.job else None
    planned = jobs.get(new.job) if new.job else None
    if record is not None and planned is not None and depth < DEPTH and record.step == planned.step:
        frames = {one.id for one in planned.group.frames}
        if frames & set(space.registry.read(main_frames, record.key)):
            for sentence in differences(space, record, planned, jobs, depth + 1):
                yield f"{role}: {sentence}"
            return
    yield f"{role}: {_new_name(new, jobs)}, was {_old_name(space, old)}"


def _new_name(one: JobInput, jobs: Mapping[str, Job]) -> str:
    job = jobs.get(one.job) if one.job else None
    level = f", level {one.level}" if one.level is not None else ""
    if job is None:
        return f"f{one.frame}{level}" if one.frame is not None else f"{one.identity[:12]}{level}"
    return f"{job.name} of {job.group.text('night')} ({job.key[:12]}{level})"


def _old_name(space: Workspace, one: JobInput) -> str:
    level = f", level {one.level}" if one.level is not None else ""
    if one.job is None:
        (frame,) = space.registry.read(find_frames, FrameFilter(status=None, ids=[one.frame or 0])) or (None,)
        reason = f" ({frame.refused})" if frame is not None and frame.refused else ""
        return f"f{one.frame}{level}{reason}"
    job = space.registry.read(find_job, one.job)
    return f"{job.step} of {job.night} ({job.key[:12]}{level})" if job else f"{one.job[:12]}{level}"
