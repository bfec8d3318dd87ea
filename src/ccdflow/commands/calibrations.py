"""Which calibration fits a frame: what a plan of now takes for it, with level and reasons."""

from dataclasses import dataclass

from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames
from ccdflow.archive.registry.jobs.products import outputs_of
from ccdflow.cascade.planning.jobs import Job, JobInput
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.wording import unknown
from ccdflow.tasks.planning import planned
from ccdflow.tasks.workspace import Workspace


@dataclass(frozen=True)
class Calibration:
    """What a plan takes to calibrate a frame with.

    Parameters
    ----------
    role : str
        Input of the task, such as ``master_bias``.
    task : str
        The task that takes it.
    product : str or None
        Its id, such as ``p7``, or that of somebody's own finished master, ``f12``; None where it was not made yet, or
        nothing fits.
    job : str
        Key of the job that makes it; blank for a finished master, and where nothing fits.
    level : int or None
        Association level, 0 as planned; None where nothing fits.
    reasons : tuple of str
        In what it is less than planned, or why there is none.
    """

    role: str
    task: str
    product: str | None
    job: str
    level: int | None
    reasons: tuple[str, ...] = ()


def calibration_of(space: Workspace, frame: int, role: str) -> Calibration:
    """Return the calibration of a kind that fits a frame.

    Parameters
    ----------
    space : Workspace
        The project.
    frame : int
        Id of the frame.
    role : str
        An input of a task of the cascade, or one without ``master_``.

    Returns
    -------
    Calibration
        Of the first task that is applied to the frame and takes such a calibration.

    Raises
    ------
    ValueError
        If nothing that is made of the frame takes one; with the roles that there are.
    """
    (record,) = space.registry.read(find_frames, FrameFilter(status=None, ids=[frame], keywords=()))
    jobs = [job for job in _jobs_of(space, record) if any(part.frame == frame for part in job.main)]
    roles = {name: job for job in reversed(jobs) for name in _roles(job)}
    wanted = role if role in roles else f"master_{role}"
    if wanted not in roles:
        told = f"; {record.refused}" if record.refused else ""
        raise ValueError(f"{unknown(f'calibration of f{frame}', role, sorted(roles))}{told}")
    return _found(space, roles[wanted], wanted)


def _jobs_of(space: Workspace, record: FrameRecord) -> tuple[Job, ...]:
    targets = tuple(space.cascade.tasks)
    return planned(space, Request(targets=targets, night=record.night or None)).jobs


def _roles(job: Job) -> list[str]:
    """Roles that a job fills, or would fill."""
    lacking = [lack.input for lack in (*job.missing, *job.without)]
    return list(dict.fromkeys([*(part.role for part in job.associated), *lacking]))


def _found(space: Workspace, job: Job, role: str) -> Calibration:
    lacks = [lack for lack in (*job.missing, *job.without) if lack.input == role]
    reasons = tuple(dict.fromkeys(lack.reason for lack in lacks))
    part = next((part for part in job.associated if part.role == role), None)
    if part is None:
        return Calibration(role, job.step, None, "", None, reasons)
    return Calibration(role, job.step, _product(space, part), part.job or "", part.level or 0, reasons)


def _product(space: Workspace, part: JobInput) -> str | None:
    if part.job is None:
        return f"f{part.frame}"
    made = (product for product in space.registry.read(outputs_of, part.job) if product.state == "done")
    return next((f"p{product.id}" for product in made), None)
