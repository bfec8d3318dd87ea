"""What this machine has for jobs: cores and memory, unless the project says less or more."""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ccdflow.archive.digest import NotReadError
from ccdflow.archive.fits.productfile import ProductFileError
from ccdflow.archive.registry.database import is_passing
from ccdflow.archive.storemark import StoreAwayError
from ccdflow.cascade.planning.jobqueue import JobQueue, Needs, Order, urgent_jobs
from ccdflow.cascade.planning.jobs import Job
from ccdflow.recipes.kernels.threads import cores
from ccdflow.tasks.processes.stopping import StoppedError
from ccdflow.tasks.workspace import Workspace, open_workspace

JOBS_AHEAD = 4
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
"""Where Linux (cgroup v2) says how many bytes a container may have; ``max`` where it has no limit."""


def memory() -> int:
    """Return the bytes of memory that this machine, or the container, has."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(installed, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no limit, or a system without
        return installed


def machine(space: Workspace) -> Needs:
    """Return what jobs may take together.

    Parameters
    ----------
    space : Workspace
        The project, whose ``ccdflow.yaml`` may say less or more than the machine has.

    Returns
    -------
    Needs
        Cores, and bytes of memory.
    """
    project = space.project
    return Needs(project.cores or cores(), project.memory or memory())


def job_queue(directory: str, jobs: Sequence[Job], order: Order | None = None) -> JobQueue:
    """Return the queue of a plan's jobs.

    Parameters
    ----------
    directory : str
        Directory of the project.
    jobs : sequence of Job
        Those that are to be done.
    order : Order, optional
        Which come first; without it, as the project says.

    Returns
    -------
    JobQueue
        Which gives them out as what they take is done, and as the machine has room.
    """
    space = open_workspace(directory)
    needs = {name: step.needs for name, step in space.cascade.tasks.items() if step.needs is not None}
    urgent = urgent_jobs(jobs, space.project.urgent)
    there = machine(space)
    # The pool has a thread for each core of the machine. Where the project has fewer, what is handed out ahead would
    # not wait at the threads, but run.
    ahead = 1 if there.cores < cores() else JOBS_AHEAD
    return JobQueue(jobs, order or space.project.order, there, needs, ahead, urgent)


def threads_of(space: Workspace, step: str) -> int | None:
    """Return in how many threads a recipe may work.

    Parameters
    ----------
    space : Workspace
        The project.
    step : str
        The job's step, whose cores the cascade may state.

    Returns
    -------
    int or None
        No more than the project has; None for as many as the machine has cores.
    """
    own = space.cascade.tasks[step].cores if step in space.cascade.tasks else None
    stated = [number for number in (own, space.project.cores) if number is not None]
    return min(stated, default=None)


def refuse_too_large(space: Workspace, step: str) -> None:
    """Refuse a job that this machine has not the memory for.

    Parameters
    ----------
    space : Workspace
        The project.
    step : str
        The job's step, whose needs the cascade may state.

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


def is_the_machines(error: BaseException) -> bool:
    """Tell whether a job has failed because of what the machine lacks now, and not because of what it was made of.

    Parameters
    ----------
    error : BaseException
        As which it failed.

    Returns
    -------
    bool
        True for a full disk, no memory, a store or database that is gone, an end that we were told: the job then waits,
        and has not failed.
    """
    if isinstance(error, OSError | NotReadError | ProductFileError):
        return error.errno in PASSING
    return isinstance(error, FullStoreError | StoreAwayError | MemoryError | StoppedError) or is_passing(
        error
    )


def refuse_full_store(space: Workspace) -> None:
    """Refuse to begin a job where the store has too little space left.

    Parameters
    ----------
    space : Workspace
        The project.

    Raises
    ------
    FullStoreError
        If there is less than the project wants.
    """
    # The store's folder is made with the first product: until then its disk is that of the next folder above.
    store = space.project.store
    folder = next(folder for folder in (store, *store.parents) if folder.exists())
    free, wanted = shutil.disk_usage(folder).free, space.project.least_free
    if free < wanted:
        raise FullStoreError(
            f"the store has {_text(free)} left, wanted {_text(wanted)} (least_free in ccdflow.yaml)"
        )


def _text(size: int) -> str:
    """Bytes as people say them, in powers of ten as disks are sold."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size / 1e6:.4g} MB"
