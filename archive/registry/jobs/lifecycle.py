"""Steps in the life of a job: its row, its products and how far its frames have come change in one transaction.

planned -> running -> done, or failed, or planned again where the machine could not do it. Whoever looks sees all of a
step or nothing of it, and what a worker does that has lost its lease does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames.doubts import MEASURED, tell_doubts
from ccdflow.archive.registry.frames.stages import LEFT_OUT, StageState, set_stages, stage_states
from ccdflow.archive.registry.jobs.leases import change_held, claim
from ccdflow.archive.registry.jobs.lineage import main_frames
from ccdflow.archive.registry.jobs.planned import PlannedJob, unbegun, write_jobs
from ccdflow.archive.registry.jobs.productchanges import Made, finish_job
from ccdflow.archive.registry.jobs.products import ProductFilter, find_products
from ccdflow.archive.registry.jobs.records import (
    INPUT_COLUMNS,
    INPUT_ORDER,
    JOB_COLUMNS,
    JobFilter,
    JobRecord,
    find_jobs,
)
from ccdflow.archive.registry.tables import FrameRow, JobInputRow, JobRow, ProductRow, table
from ccdflow.cascade.planning.jobs import JobInput
from ccdflow.recipes.core.doubts import GAIN_CONFLICT

_NOTHING: Mapping[str, Sequence[StageState]] = {}
_NONE: Mapping[int, str] = {}


@dataclass(frozen=True)
class Begun:
    """A job that was claimed, with all that its worker has to know.

    `frames` are the ids of the raw frames behind its main input, `outputs` pairs of category and path in the
    store.
    """

    job: JobRecord
    frames: tuple[int, ...]
    outputs: tuple[tuple[str, str], ...]


def plan_jobs(
    connection: Connection,
    planned: Sequence[PlannedJob],
    waiting: Mapping[str, Sequence[StageState]] = _NOTHING,
) -> int:
    """Write jobs, their inputs and the products they will make, and let their frames wait.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    planned : sequence of PlannedJob
        The jobs; those that are known already stay as they are.
    waiting : mapping of str to sequence of StageState, optional
        By key of a job, how far the frames have come for which it is yet to be done. Written only where nobody has
        begun the job meanwhile: another drain may have done it since this plan was made.

    Returns
    -------
    int
        How many jobs were new.
    """
    new = write_jobs(connection, planned)
    # From this look on nobody can begin one of the jobs: what is written here can't come behind "running" or "done".
    free = unbegun(connection, waiting)
    set_stages(connection, [state for key, states in waiting.items() if key in free for state in states])
    return new


def begin_job(
    connection: Connection, key: str, owner: str, lease_seconds: float, stages: Mapping[str, str]
) -> Begun | None:
    """Claim a job, mark its raw frames as running, and read what its worker has to know.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    key : str
        The job.
    owner : str
        Who begins it, as `ccdflow.archive.registry.jobs.leases.this_owner` names it.
    lease_seconds : float
        How long an owner may be silent before its job is free, in seconds.
    stages : mapping of str to str
        The stage of each step; a step that is not in it is its own stage.

    Returns
    -------
    Begun or None
        None where the job is done, can't be done, or is being done by another.

    Raises
    ------
    KeyError
        If there is no such job.
    """
    row = claim(connection, key, owner, lease_seconds, JOB_COLUMNS)
    if row is None:
        # Who begins a job that it holds has not heard the answer to its first claim: that is the same attempt.
        row = connection.execute(_HELD, {"its_key": key, "taker": owner}).one_or_none()
    if row is None:
        return None
    # All that the worker has to know, in the same transaction: one way to the database before a job, one behind it.
    begun = _begun(connection, row)
    _mark_frames(connection, begun, stages, "running")
    return begun


_JOB, _INPUT, _PRODUCT = table(JobRow).c, table(JobInputRow).c, table(ProductRow).c
_HELD = select(*(_JOB[name] for name in JOB_COLUMNS)).where(
    _JOB.key == bindparam("its_key"), _JOB.owner == bindparam("taker"), _JOB.state == "running"
)
_INPUTS_OF = select(*INPUT_COLUMNS).where(_INPUT.job_key == bindparam("its_key")).order_by(*INPUT_ORDER)
_OUTPUTS_OF = (
    select(_PRODUCT.category, _PRODUCT.path)
    .where(_PRODUCT.job_key == bindparam("its_key"))
    .order_by(_PRODUCT.id)
)


def _frames_behind(connection: Connection, job: JobRecord) -> list[int]:
    """The raw frames behind a job's main input, as `main_frames` reads them; here its inputs are at hand already."""
    return [frame for frames in _behind(connection, job) for frame in frames]


def _behind(connection: Connection, job: JobRecord) -> list[list[int]]:
    """The raw frames behind each of a job's main inputs."""
    return [
        [taken.frame] if taken.frame is not None else main_frames(connection, taken.job or "")
        for taken in job.inputs
        if taken.role == "main"
    ]


def complete_job(
    connection: Connection,
    begun: Begun,
    owner: str,
    files: Sequence[Made],
    stages: Mapping[str, str],
    left_out: Mapping[int, str] = _NONE,
    software: str = "",
) -> list[int]:
    """Record what a job has made, that it is done, and that its raw frames are done in its stage.

    Frames that were left out have passed instead, with the reason; the job says which they are.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    begun : Begun
        The job, as it was begun.
    owner : str
        Who has done it.
    files : sequence of Made
        The products' files.
    stages : mapping of str to str
        As in `begin_job`.
    left_out : mapping of int to str, optional
        By its place among the main inputs, why one of them was not used.
    software : str
        Names and versions of the programs that did it.

    Returns
    -------
    list of int
        Ids of the products, in the order of `files`.

    Raises
    ------
    LeaseLostError
        If the job is no longer this owner's; then nothing is recorded.
    """
    # First the job: where its lease is lost, this raises, and the frames stay as its new owner has marked them.
    behind = _behind(connection, begun.job) if left_out else []
    reason = _left_out_sentence(connection, behind, left_out, is_stacked=bool(files)) if left_out else ""
    ids = finish_job(connection, begun.job.key, owner, files, reason, software)
    ended = _ended(connection, begun, stages)
    _mark_frames(connection, begun, stages, "done")
    stage = stages.get(begun.job.step, begun.job.step)
    passed = [
        StageState(frame, stage, "passed", f"{LEFT_OUT}{begun.job.step}: {why}")
        for place, why in left_out.items()
        for frame in behind[place]
        if frame not in ended
    ]
    set_stages(connection, passed)
    _doubt_gains(connection, begun, files)
    return ids


def _left_out_sentence(
    connection: Connection,
    behind: Sequence[Sequence[int]],
    left_out: Mapping[int, str],
    *,
    is_stacked: bool,
) -> str:
    """Name the main inputs that were left out by their frames, those of one reason together."""
    frames = {frame for place in left_out for frame in behind[place]}
    paths = {row.id: row.path for row in connection.execute(_PATHS, {"frames": sorted(frames)})}
    by_reason: dict[str, list[str]] = {}
    for place, why in sorted(left_out.items()):
        by_reason.setdefault(why, []).append("+".join(_frame_name(f, paths.get(f)) for f in behind[place]))
    named = "; ".join(f"{', '.join(names)}: {why}" for why, names in by_reason.items())
    count = f"{len(left_out)} of {len(behind)} frames"
    return (
        f"{count} left out: {named}" if is_stacked else f"nothing combined, {count} pass as they are: {named}"
    )


def _frame_name(frame: int, path: str | None) -> str:
    return f"f{frame} ({PurePath(path).name})" if path else f"f{frame}"


_PATHS = select(table(FrameRow).c.id, table(FrameRow).c.path).where(
    table(FrameRow).c.id.in_(bindparam("frames", expanding=True))
)


def _doubt_gains(connection: Connection, begun: Begun, files: Sequence[Made]) -> None:
    """Let raw frames carry that their gain is not the measured one; where that was cleared up, no longer."""
    # What a request's own parameters measure, as with other frames left out, is for that request alone.
    if begun.job.variant:
        return
    frames = [taken.frame for taken in begun.job.inputs if taken.role == "main" and taken.frame is not None]
    doubts = dict.fromkeys(doubt for file in files for doubt in file.doubts if doubt.kind == GAIN_CONFLICT)
    if frames:
        tell_doubts(connection, frames, list(doubts), MEASURED)


def give_up_job(
    connection: Connection, begun: Begun, owner: str, reason: str, stages: Mapping[str, str]
) -> bool:
    """Record why a job has failed, and that its raw frames have failed in its stage.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    begun : Begun
        The job, as it was begun.
    owner : str
        Who has tried.
    reason : str
        What went wrong, in one sentence.
    stages : mapping of str to str
        As in `begin_job`.

    Returns
    -------
    bool
        False where the job is no longer this owner's; then nothing is recorded.
    """
    values = {"state": "failed", "reason": reason, "heartbeat": None, "finished_at": now()}
    held = change_held(connection, begun.job.key, owner, values)
    if held:
        _mark_frames(connection, begun, stages, "failed", reason)
    return held


def put_back_job(
    connection: Connection, begun: Begun, owner: str, reason: str, stages: Mapping[str, str]
) -> bool:
    """Give a job back that the machine could not do now, and say why; its raw frames wait.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    begun : Begun
        The job, as it was begun.
    owner : str
        Who gives it back.
    reason : str
        Why it could not be done now, in one sentence.
    stages : mapping of str to str
        As in `begin_job`.

    Returns
    -------
    bool
        False where the job is no longer this owner's; then nothing is recorded.
    """
    values = {"state": "planned", "reason": reason, "owner": "", "heartbeat": None, "finished_at": now()}
    held = change_held(connection, begun.job.key, owner, values)
    if held:
        _mark_frames(connection, begun, stages, "waiting", reason)
    return held


def return_job(connection: Connection, key: str, owner: str, reason: str, stages: Mapping[str, str]) -> bool:
    """Give a job back of which its owner knows no more than the key, as `put_back_job` does.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    key : str
        The job.
    owner : str
        Who gives it back.
    reason : str
        Why, in one sentence.
    stages : mapping of str to str
        As in `begin_job`.

    Returns
    -------
    bool
        False where the job is not, or no longer, this owner's.
    """
    row = connection.execute(_HELD, {"its_key": key, "taker": owner}).one_or_none()
    if row is None:
        return False
    begun = _begun(connection, row)
    return put_back_job(connection, begun, owner, reason, stages)


def _begun(connection: Connection, row: Row[Any]) -> Begun:
    """Return all that a worker has to know of the job in a row."""
    key = {"its_key": row.key}
    inputs = tuple(JobInput(*values) for values in connection.execute(_INPUTS_OF, key))
    job = JobRecord(*[*row, inputs])
    outputs = tuple((category, path) for category, path in connection.execute(_OUTPUTS_OF, key))
    return Begun(job, tuple(_frames_behind(connection, job)), outputs)


def _mark_frames(
    connection: Connection, begun: Begun, stages: Mapping[str, str], state: str, reason: str = ""
) -> None:
    """Write the state of a job's frames in the stage of its step."""
    # The main input's frames alone: of a calibration that a job takes, the state is not this job's to tell.
    stage, ended = stages.get(begun.job.step, begun.job.step), _ended(connection, begun, stages)
    marks = [StageState(frame, stage, state, reason) for frame in begun.frames if frame not in ended]
    set_stages(connection, marks)


def _ended(connection: Connection, begun: Begun, stages: Mapping[str, str]) -> set[int]:
    """Frames of which a job has nothing to tell: what a request's own parameters make is not how far they are."""
    if not begun.job.variant:
        return set()
    reached = stage_states(connection, stages.get(begun.job.step, begun.job.step), begun.frames)
    return {frame for frame, state in reached.items() if state in ("done", "passed")}


def job_record(connection: Connection, key: str) -> dict[str, Any]:
    """Return what a job has made, as it is kept with Prefect's result of it.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    key : str
        The job.

    Returns
    -------
    dict
        Its ``key``, ``state`` and ``reason``, and its ``products``: id, category, path and sha256 of each.

    Raises
    ------
    KeyError
        If there is no such job.
    """
    # Read back, not made of what the worker knows: a task that is run twice has the same result.
    jobs = find_jobs(connection, JobFilter(keys=[key]))
    if not jobs:
        raise KeyError(f"no job {key!r} in the registry")
    products = [
        {"id": product.id, "category": product.category, "path": product.path, "sha256": product.sha256}
        for product in find_products(connection, ProductFilter(job_keys=[key]))
    ]
    return {"key": key, "state": jobs[0].state, "reason": jobs[0].reason, "products": products}
