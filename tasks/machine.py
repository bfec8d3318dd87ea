"""What this machine has for jobs: cores and memory, unless the project says less or more."""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ccdflow.archive.registry.database import is_passing
from ccdflow.cascade.planning.jobqueue import JobQueue, Needs, Order, urgent_jobs
from ccdflow.cascade.planning.jobs import Job
from ccdflow.recipes.kernels.threads import cores
from ccdflow.tasks.workspace import Workspace, open_workspace

AHEAD = 4
"""Jobs that are submitted, for each core, where all need one: the next then wait at the threads already."""
PASSING = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EROFS,
        errno.ESTALE,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
    }
)
"""What the system says where a disk is full or gone, or it has too little of something: true now, not for good."""
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def memory() -> int:
    """Bytes of memory that this machine, or the container, has."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(installed, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no limit, or a system without
        return installed


def machine(space: Workspace) -> Needs:
    """What jobs may take together."""
    project = space.project
    return Needs(project.cores or cores(), project.memory or memory())


def job_queue(directory: str, jobs: Sequence[Job], order: Order | None = None) -> JobQueue:
    """The queue of a plan's jobs in a project; without `order`, as the project says."""
    space = open_workspace(directory)
    told = {name: step.needs for name, step in space.cascade.tasks.items()}
    needs = {name: one for name, one in told.items() if one is not None}
    urgent = urgent_jobs(jobs, space.project.urgent)
    return JobQueue(jobs, order or space.project.order, machine(space), needs, AHEAD, urgent)


def refuse_too_large(space: Workspace, step: str) -> None:
    """Say so of a job that this machine has not the memory for.

    Raises
    ------
    ValueError
        If it needs more than there is.
    """
    needs = space.cascade.tasks[step].needs if step in space.cascade.tasks else None
    there = machine(space).memory
    if needs is not None and needs.memory > there:
        raise ValueError(f"{step} needs {_text(needs.memory)} of memory, there are {_text(there)} for jobs")


class FullStoreError(Exception):
    """The store has less space left than the project wants."""


def is_the_machines(error: Exception) -> bool:
    """Whether a job has failed because of what the machine lacks now, and not because of what it was made of."""
    if isinstance(error, OSError):
        return error.errno in PASSING
    return isinstance(error, FullStoreError | MemoryError) or is_passing(error)


def refuse_full_store(space: Workspace) -> None:
    """Say so where the store has too little space left to begin a job.

    Raises
    ------
    FullStoreError
        If there is less than the project wants.
    """
    folder = next(one for one in (space.project.store, *space.project.store.parents) if one.exists())
    free, wanted = shutil.disk_usage(folder).free, space.project.least_free
    if free < wanted:
        raise FullStoreError(
            f"the store has {_text(free)} left, wanted {_text(wanted)} (least_free in ccdflow.yaml)"
        )


def _text(size: int) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size / 1e6:.4g} MB"
