"""Where jobs come from and what came of them: through the products that they take from each other."""

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, exists, select

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.conditions import is_of_camera
from ccdflow.archive.registry.jobs.records import JobFilter, JobRecord, find_jobs
from ccdflow.archive.registry.tables import FrameRow, JobInputRow, JobRow, table

_INPUT = table(JobInputRow).c


def lineage(connection: Connection, keys: Collection[str], *, up: bool) -> list[JobRecord]:
    """Return the jobs that some took products from, or that took theirs, and so on.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    keys : collection of str
        Keys of the jobs to begin with.
    up : bool
        True for those that they took products from, False for those that took theirs.

    Returns
    -------
    list of JobRecord
        The jobs, nearest first, without those to begin with.
    """
    # Generation by generation. A key that was seen is not followed again: two ways may lead to one job.
    seen, frontier = set(keys), set(keys)
    jobs: list[JobRecord] = []
    source, taker = JobInputRow.parent_job_key, JobInputRow.job_key
    here, there = (taker, source) if up else (source, taker)
    while frontier:
        neighbours: set[str] = set()
        for part in batches(sorted(frontier)):
            rows = connection.execute(select(there).where(here.in_(part))).scalars()
            neighbours |= {key for key in rows if key is not None}
        frontier = neighbours - seen
        seen |= frontier
        jobs += find_jobs(connection, JobFilter(keys=frontier)) if frontier else []
    return jobs


def main_frames(connection: Connection, key: str) -> list[int]:
    """Return the raw frames behind the main input of a job.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    key : str
        The job's key.

    Returns
    -------
    list of int
        Ids of the frames in the order of the inputs; where those are products, the frames behind these.
    """
    frames: list[int] = []
    for frame, parent in connection.execute(_MAIN_INPUTS, {"its_key": key}).all():
        if frame is not None:
            frames.append(frame)
        elif parent is not None:
            frames += main_frames(connection, parent)
    return frames


_MAIN_INPUTS = (
    select(_INPUT.frame_id, _INPUT.parent_job_key)
    .where(_INPUT.job_key == bindparam("its_key"), _INPUT.role == "main")
    .order_by(_INPUT.position)
)


def main_descendants(connection: Connection, frames: Collection[int]) -> dict[str, set[int]]:
    """Return the jobs that took some frames as main input, or products of such jobs.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    frames : collection of int
        Ids of the frames.

    Returns
    -------
    dict of str to set of int
        By key of each job, those of the frames that are behind it.
    """
    # Downwards, generation by generation; each job hands its frames on to those that take its products.
    behind: dict[str, set[int]] = {}
    of_frames = select(JobInputRow.job_key, JobInputRow.frame_id).where(JobInputRow.role == "main")
    for part in batches(sorted(set(frames))):
        for key, frame in connection.execute(of_frames.where(JobInputRow.frame_id.in_(part))):
            behind.setdefault(key, set()).add(frame or 0)
    of_jobs = select(JobInputRow.job_key, JobInputRow.parent_job_key).where(JobInputRow.role == "main")
    frontier = set(behind)
    while frontier:
        takers = [
            row
            for part in batches(sorted(frontier))
            for row in connection.execute(of_jobs.where(JobInputRow.parent_job_key.in_(part)))
        ]
        for key, parent in takers:
            behind.setdefault(key, set()).update(behind[parent or ""])
        frontier = {key for key, _ in takers}
    return behind


def keys_of_frames(connection: Connection, frames: Collection[int]) -> set[str]:
    """Return the keys of the jobs that took one of some frames themselves.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    frames : collection of int
        Ids of the frames.

    Returns
    -------
    set of str
        The keys; whatever the frame's role in the job is.
    """
    keys: set[str] = set()
    for part in batches(frames):
        statement = select(JobInputRow.job_key).where(JobInputRow.frame_id.in_(part))
        keys |= set(connection.execute(statement).scalars())
    return keys


def calibration_times(connection: Connection, night: str, camera: str) -> list[tuple[str, str]]:
    """Return when the raw science frames of a night were registered, and when the job of each was done.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    night : str
        ISO date of the evening.
    camera : str
        CAMERA or TELESCOPE/CAMERA.

    Returns
    -------
    list of tuple of str
        Both times, ISO, UTC, of each job that takes one raw science frame alone.
    """
    another = JobInputRow.__table__.alias("another")
    alone = ~exists().where(
        another.c.job_key == JobInputRow.job_key, another.c.role == "main", another.c.position > 0
    )
    its_job, its_frame = JobRow.key == JobInputRow.job_key, FrameRow.id == JobInputRow.frame_id
    statement = (
        select(FrameRow.registered_at, JobRow.finished_at)
        .select_from(JobRow)
        .join(JobInputRow, its_job)
        .join(FrameRow, its_frame)
        .where(JobRow.night == night, is_of_camera(JobRow, camera), JobRow.state == "done")
        .where(JobInputRow.role == "main", FrameRow.frame_class == "science", alone)
    )
    return [(registered, finished) for registered, finished in connection.execute(statement)]
