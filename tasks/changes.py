"""What changes: products that give way to better ones, and why a product would be made anew."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ccdflow.archive.registry.frames.amendments import find_amendments
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames
from ccdflow.archive.registry.jobs.leases import find_whereabouts
from ccdflow.archive.registry.jobs.lineage import main_descendants, main_frames
from ccdflow.archive.registry.jobs.productchanges import supersede_products
from ccdflow.archive.registry.jobs.records import JobFilter, JobRecord, find_job, find_jobs
from ccdflow.archive.registry.sets.records import SetFilter, find_sets
from ccdflow.cascade.planning.jobs import Job, JobInput
from ccdflow.tasks.workspace import Workspace

DEPTH = 4
"""Jobs upward that an input's change is followed: bias, dark, flat and science lie behind a stack."""


def mark_superseded(space: Workspace, jobs: Sequence[Job], variants: Mapping[str, str] | None = None) -> int:
    """Mark products of the same frames, by the same step and parameters, that were made with other inputs.

    Parameters
    ----------
    space : Workspace
        The project.
    jobs : sequence of Job
        What is current now. Jobs that were not done after all, as where what they take failed, make nothing give way.
    variants : mapping of str to str, optional
        By key, what a request said of parameters for these jobs; those of the project are not in it.

    Returns
    -------
    int
        How many products were marked. They stay; what was made last is marked no longer, if it ever was.
    """
    states = space.registry.read(find_whereabouts, [job.key for job in jobs], space.project.keep_alive)
    current = [job for job in jobs if states.get(job.key) == "done"]
    if not current:
        return 0
    frames = {frame.id for job in current for frame in job.group.frames}
    behind = space.registry.read(main_descendants, frames)
    older = behind.keys() - {job.key for job in current}
    done = space.registry.read(find_jobs, JobFilter(keys=older, states=("done",)))
    if not done:
        return 0
    by_frame = {(job.step, frame.id): job for job in current for frame in job.group.frames}
    tasks = _tasks_with(space, done, frames)
    successors = {}
    for old in done:
        # One frame in common is enough: a set that was cut anew gives way to the first one that took a frame of it.
        mine = tasks.get(old.key, {old.step})
        places = [(task, frame) for frame in behind[old.key] for task in sorted(mine)]
        new = next((by_frame[place] for place in places if place in by_frame), None)
        # One work may be that of two tasks (all frames of a sequence are also all of an object), and stays as long as
        # one of them has it. What other parameters made, be it of this job or of what it takes, was asked for as such.
        if new is None or mine - {new.step} or old.variant != (variants or {}).get(new.key, ""):
            continue
        if _values(old.parameters) == _resolved(new):
            successors[old.key] = new.key
    return space.registry.write(supersede_products, successors) if successors else 0


def _tasks_with(space: Workspace, jobs: Sequence[JobRecord], frames: Collection[int]) -> dict[str, set[str]]:
    """By key of a job on a set, the tasks that have a current set of just the frames that it was made of."""
    grouped = {name for name, step in space.cascade.tasks.items() if step.groups}
    on_sets = [job for job in jobs if job.step in grouped]
    if not on_sets:
        return {}
    tasks: dict[frozenset[int], set[str]] = {}
    for record in space.registry.read(find_sets, SetFilter(frames=frames)):
        tasks.setdefault(frozenset(record.frames), set()).add(record.step)
    behind = {job.key: frozenset(space.registry.read(main_frames, job.key)) for job in on_sets}
    return {key: tasks[members] for key, members in behind.items() if members in tasks}


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Values of parameters as the registry keeps them."""
    return {name: resolved["value"] for name, resolved in parameters.items()}


def _resolved(job: Job) -> dict[str, Any]:
    """Values of a planned job's parameters."""
    return {name: resolved.value for name, resolved in job.parameters.items()}


def differences(
    space: Workspace, old: JobRecord, new: Job, jobs: Mapping[str, Job], depth: int = 0
) -> list[str]:
    """Say what is other in a planned job than in one that was done on the same frames.

    Parameters
    ----------
    space : Workspace
        The project.
    old : JobRecord
        What was done.
    new : Job
        What is planned.
    jobs : mapping
        The plan's jobs by key, to follow what changed in the inputs.
    depth : int
        Jobs that were followed already, of `DEPTH`.

    Returns
    -------
    list of str
        Sentences, at least one.
    """
    sentences = [*_of_recipe(old, new), *_of_parameters(old, new)]
    roles = dict.fromkeys([*(part.role for part in old.inputs), *(part.role for part in new.inputs)])
    for role in roles:
        before = [part for part in old.inputs if part.role == role]
        after = [part for part in new.inputs if part.role == role]
        if [part.identity for part in before] != [part.identity for part in after]:
            sentences += _of_role(space, role, before, after, jobs, depth)
    sentences += [f"{missing.input} is missing now: {missing.reason}" for missing in new.missing]
    # Of all that a job's key is made of, only the digests of detectors are left.
    return sentences or ["what an instrument file says of its detector has changed"]


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
    known, wanted = {part.identity for part in before}, {part.identity for part in after}
    gone = [part for part in before if part.identity not in wanted]
    come = [part for part in after if part.identity not in known]
    if not gone and not come:
        yield f"{role}: in another order"
    # In pairs as long as both last: what came in the place of what. The rest has left, or came in addition.
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
        frames = {frame.id for frame in planned.group.frames}
        if frames & set(space.registry.read(main_frames, record.key)):
            for sentence in differences(space, record, planned, jobs, depth + 1):
                yield f"{role}: {sentence}"
            return
    if old.frame is not None and old.frame == new.frame:
        told = space.registry.read(find_amendments, [old.frame])
        now = "; ".join(str(amendment) for amendment in told) or "as its header says again"
        yield f"{role}: f{old.frame} was amended: {now}"
        return
    yield f"{role}: {_new_name(new, jobs)}, was {_old_name(space, old)}"


def _new_name(part: JobInput, jobs: Mapping[str, Job]) -> str:
    """An input as the plan knows it."""
    job = jobs.get(part.job) if part.job else None
    level = f", level {part.level}" if part.level is not None else ""
    if job is None:
        return f"f{part.frame}{level}" if part.frame is not None else f"{part.identity[:12]}{level}"
    return f"{job.name} of {job.group.text('night')} ({job.key[:12]}{level})"


def _old_name(space: Workspace, part: JobInput) -> str:
    """An input as the registry knows it, with the reason where its frame was refused since."""
    level = f", level {part.level}" if part.level is not None else ""
    if part.job is None:
        wanted = FrameFilter(status=None, ids=[part.frame or 0])
        (frame,) = space.registry.read(find_frames, wanted) or (None,)
        reason = f" ({frame.refused})" if frame is not None and frame.refused else ""
        return f"f{part.frame}{level}{reason}"
    job = space.registry.read(find_job, part.job)
    return f"{job.step} of {job.night} ({job.key[:12]}{level})" if job else f"{part.job[:12]}{level}"
