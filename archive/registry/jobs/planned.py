"""Jobs are planned: written with their inputs and the products that they will make, and taken back or changed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, select, text, update

from ccdflow.archive.registry.bulk import batches, inserting_new
from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.jobs.lineage import main_frames
from ccdflow.archive.registry.jobs.records import SHARED_WITH_PRODUCTS
from ccdflow.archive.registry.tables import CollectionMemberRow, JobInputRow, JobRow, ProductRow, table
from ccdflow.cascade.planning.jobs import JobInput

_JOBS_PER_STATEMENT = 500
"""Each job is a row of about twenty values, and has many more rows of inputs."""


@dataclass(frozen=True)
class PlannedJob:
    """A job as it is planned.

    `outputs` are pairs of category and path in the store. `parameters` is what JSON can write: name to value
    and origin. `variant` says by what a request asked for it, where the project itself does not.
    `compromises` is in what its inputs are less than planned, a line each.
    """

    key: str
    step: str
    recipe: str
    version: str
    inputs: Sequence[JobInput] = ()
    outputs: Sequence[tuple[str, str]] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    state: Literal["planned", "incomplete", "refused"] = "planned"
    reason: str = ""
    night: str = ""
    telescope: str = ""
    camera: str = ""
    instrument: str = ""
    filter: str = ""
    object: str = ""
    exptime: float | None = None
    obsdate: str = ""
    set_id: int | None = None
    level: int = 0
    worst_level: int = 0
    variant: str = ""
    compromises: str = ""


_SAME = (
    *("key", "step", "recipe", "version", "state", "reason", "parameters", "set_id", "level", "worst_level"),
    "variant",
    "compromises",
    *SHARED_WITH_PRODUCTS,
)
"""Columns that have the same name in `PlannedJob` and in the table."""


def write_jobs(connection: Connection, jobs: Sequence[PlannedJob]) -> int:
    """Write jobs with their inputs and the products that they will make.

    Of a job that is known, nothing changes but the reason why it is incomplete, unless it lacked something until now,
    or names a frame that was deleted or has given way to a copy: then it is written anew.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    jobs : sequence of PlannedJob
        The jobs.

    Returns
    -------
    int
        How many were new.
    """
    new: set[str] = set()
    job_table = table(JobRow)
    for part in batches(jobs, _JOBS_PER_STATEMENT):
        # The statement gives back the keys of rows that were new; known jobs have their inputs already.
        rows = {job.key: _job_row(job) for job in part}
        statement = inserting_new(connection, job_table).returning(job_table.c.key)
        new |= set(connection.execute(statement, list(rows.values())).scalars())
        known = [job for job in part if job.state == "planned" and job.key not in new]
        again = _plan_again(connection, _lacking(connection, known))
        _write_inputs(connection, [job for job in part if job.key in new | again])
        _write_outputs(connection, part)
        for job in part:
            if job.state == "incomplete" and job.key not in new:
                _say_why(connection, job)
    return len(new)


def _lacking(connection: Connection, jobs: Sequence[PlannedJob]) -> list[PlannedJob]:
    """Jobs that can be done now, of which the registry says that they can't, or names other frames."""
    # A frame that was deleted and is registered again, and a copy that takes the place of a frame, have another id. A
    # job's key names the content, so the job is the same; of one that is done the product holds, and who does it knows
    # the files already.
    rows = connection.execute(_FRAMES_OF, {"keys": [job.key for job in jobs]}).all()
    lacking = {key for key, state, *_ in rows if state == "incomplete"}
    known: dict[str, list[tuple[str, int | None]]] = {}
    for key, _, role, frame, parent in rows:
        if parent is None and role is not None:
            known.setdefault(key, []).append((role, frame))
    for job in jobs:
        wanted = [(taken.role, taken.frame) for taken in job.inputs if taken.job is None]
        # Sorted by role as the rows are, and in their order within it.
        if job.key in known and known[job.key] != sorted(wanted, key=lambda taken: taken[0]):
            lacking.add(job.key)
    return [job for job in jobs if job.key in lacking]


_IDLE = ("incomplete", "planned", "failed")
_INPUT = table(JobInputRow).c
_FRAMES_OF = (
    select(JobRow.key, JobRow.state, _INPUT.role, _INPUT.frame_id, _INPUT.parent_job_key)
    .join_from(table(JobRow), table(JobInputRow), _INPUT.job_key == JobRow.key, isouter=True)
    .where(JobRow.key.in_(bindparam("keys", expanding=True)), JobRow.state.in_(_IDLE))
    .order_by(JobRow.key, _INPUT.role, _INPUT.position)
)


def _plan_again(connection: Connection, jobs: Sequence[PlannedJob]) -> set[str]:
    """Let jobs stand there as planned, without the inputs that they had; gives back their keys."""
    again: set[str] = set()
    for job in jobs:
        # Whoever has begun it meanwhile keeps it.
        idle = JobRow.key == job.key, JobRow.state.in_(_IDLE)
        anew = update(JobRow).where(*idle).values(**_job_row(job), owner="", heartbeat=None, attempts=0)
        again |= set(connection.execute(anew.returning(JobRow.key)).scalars())
    connection.execute(table(JobInputRow).delete().where(JobInputRow.job_key.in_(again)))
    return again


def _say_why(connection: Connection, job: PlannedJob) -> None:
    known = JobRow.key == job.key, JobRow.state == "incomplete", JobRow.reason != job.reason
    connection.execute(update(JobRow).where(*known).values(reason=job.reason))


def _job_row(job: PlannedJob) -> dict[str, Any]:
    return {name: getattr(job, name) for name in _SAME} | {"planned_at": now()}


def _write_inputs(connection: Connection, jobs: Sequence[PlannedJob]) -> None:
    rows = []
    for job in jobs:
        # Positions count anew for each role.
        positions: dict[str, int] = {}
        for taken in job.inputs:
            position = positions[taken.role] = positions.get(taken.role, -1) + 1
            row = {"job_key": job.key, "role": taken.role, "position": position, "identity": taken.identity}
            rows.append(row | {"frame_id": taken.frame, "parent_job_key": taken.job, "level": taken.level})
    if rows:
        connection.execute(inserting_new(connection, table(JobInputRow)), rows)


def _write_outputs(connection: Connection, jobs: Sequence[PlannedJob]) -> None:
    """Also of jobs that are known: one whose product was lost may make this time what it left out before."""
    rows = [
        {name: getattr(job, name) for name in (*SHARED_WITH_PRODUCTS, "exptime", "obsdate")}
        | {"job_key": job.key, "category": category, "path": path, "state": "planned"}
        for job in jobs
        if job.state == "planned"
        for category, path in job.outputs
    ]
    # A job that is done has what it made: an output that it left out must not come back as planned.
    keys = list(dict.fromkeys(row["job_key"] for row in rows))
    statement = select(JobRow.key).where(JobRow.state == "done", JobRow.key.in_(keys))
    done = set(connection.execute(statement).scalars())
    rows = [row for row in rows if row["job_key"] not in done]
    if rows:
        connection.execute(inserting_new(connection, table(ProductRow)), rows)


def adopt_jobs(connection: Connection, keys: Collection[str]) -> int:
    """Let jobs that a request's parameters asked for once count as the project's own, which now ask for them too.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    keys : collection of str
        Keys of the jobs.

    Returns
    -------
    int
        How many were not the project's before.
    """
    adopted = 0
    for part in batches(keys):
        changed = update(JobRow).where(JobRow.key.in_(part)).values(variant="").returning(JobRow.key)
        adopted += len(connection.execute(changed).scalars().all())
    return adopted


def variant_keys(connection: Connection) -> set[str]:
    """Return the keys of the jobs that only requests' own parameters have asked for.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.

    Returns
    -------
    set of str
        The keys.
    """
    # As the index of these few has the condition: behind a bound value neither database sees that it fits.
    return set(connection.execute(select(JobRow.key).where(text("variant <> ''"))).scalars())


def incomplete_reasons(connection: Connection, keys: Collection[str]) -> dict[str, str]:
    """Return why jobs can't be done, as the registry says.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    keys : collection of str
        Keys of jobs.

    Returns
    -------
    dict of str to str
        The reason by key; jobs that are not incomplete there are left out.
    """
    reasons: dict[str, str] = {}
    for part in batches(keys):
        statement = select(JobRow.key, JobRow.reason).where(
            JobRow.key.in_(part), JobRow.state == "incomplete"
        )
        reasons |= {key: reason for key, reason in connection.execute(statement)}
    return reasons


def drop_incomplete(
    connection: Connection, keep: Collection[str], places: Collection[tuple[str, str, str]]
) -> int:
    """Delete incomplete jobs that a plan does not name any more.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    keep : collection of str
        Keys of the jobs that stay.
    places : collection of tuple of str
        Step, night and camera of what the plan has looked at; jobs of others stay.

    Returns
    -------
    int
        How many were deleted.
    """
    columns = select(JobRow.key, JobRow.step, JobRow.night, JobRow.camera)
    incomplete = connection.execute(columns.where(JobRow.state == "incomplete"))
    planned_anew = {row.key for row in incomplete if (row.step, row.night, row.camera) in places}
    return len(_delete(connection, sorted(planned_anew - set(keep))))


def drop_overtaken(
    connection: Connection,
    keep: Collection[str],
    frames: Mapping[tuple[str, str, str], Collection[int]],
    states: Collection[str] = ("planned",),
) -> int:
    """Delete jobs that an earlier plan has left as planned, whose frames a plan has put into other jobs.

    Who was killed between planning and doing leaves such rows. They have no product and nobody at work on them; one
    that another program has yet in its queue fails there, and is planned anew.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    keep : collection of str
        Keys of the plan's jobs.
    frames : mapping
        By step, night and camera of the plan's jobs, the raw frames behind their main inputs.
    states : collection of str
        In which states such jobs are, ``planned`` or ``incomplete``.

    Returns
    -------
    int
        How many were deleted.
    """
    columns = select(JobRow.key, JobRow.step, JobRow.night, JobRow.camera)
    # What only a request's own parameters have asked for stays: the project's plan never names it.
    waiting = connection.execute(columns.where(JobRow.state.in_(states), JobRow.variant == "")).all()
    kept = set(keep)
    overtaken = [
        key
        for key, *place in waiting
        if key not in kept and _is_overtaken(connection, key, frames.get((place[0], place[1], place[2]), ()))
    ]
    # Once more by state, and held until the end of this transaction: somebody may have begun one meanwhile.
    free = select(JobRow.key).where(JobRow.key.in_(overtaken), JobRow.state.in_(states)).with_for_update()
    stale = sorted(connection.execute(free).scalars())
    return len(_delete(connection, stale))


def drop_waiting(connection: Connection, keys: Collection[str]) -> set[str]:
    """Delete jobs that are planned or incomplete.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    keys : collection of str
        Keys of jobs; those that somebody has begun meanwhile, or that have ended, stay.

    Returns
    -------
    set of str
        Keys of those that were deleted.
    """
    waiting = JobRow.state.in_(("planned", "incomplete"))
    stale: list[str] = []
    for part in batches(keys):
        free = select(JobRow.key).where(JobRow.key.in_(part), waiting).with_for_update()
        stale += connection.execute(free).scalars()
    return _delete(connection, stale)


def _is_overtaken(connection: Connection, key: str, frames: Collection[int]) -> bool:
    """Whether other jobs of its place have taken frames of a job, or it has none any more."""
    if not frames:
        return False  # the plan has not looked there
    own = main_frames(connection, key)
    return not own or not set(own).isdisjoint(frames)


def _delete(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Delete jobs with what they were to make, but for those whose products once stood in a collection."""
    kept: set[str] = set()
    for part in batches(keys):
        kept |= set(connection.execute(_COLLECTED, {"keys": part}).scalars())
    gone = [key for key in keys if key not in kept]
    # Inputs and products first, which point to the job.
    for part in batches(gone):
        for model, column in (
            (JobInputRow, JobInputRow.job_key),
            (ProductRow, ProductRow.job_key),
            (JobRow, JobRow.key),
        ):
            connection.execute(table(model).delete().where(column.in_(part)))
    return set(gone)


_COLLECTED = (
    select(ProductRow.job_key)
    .join(table(CollectionMemberRow), CollectionMemberRow.product_id == ProductRow.id)
    .where(ProductRow.job_key.in_(bindparam("keys", expanding=True)))
)


def unbegun(connection: Connection, keys: Collection[str]) -> set[str]:
    """Return those of some jobs that nobody does or has done, and let nobody begin one until the transaction ends.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    keys : collection of str
        Keys of jobs.

    Returns
    -------
    set of str
        Keys of those that are neither running nor done.
    """
    free: set[str] = set()
    for part in batches(keys):
        statement = select(JobRow.key).where(JobRow.key.in_(part), JobRow.state.not_in(("running", "done")))
        # FOR SHARE: who claims one of them waits. On SQLite, which does not know it, nobody else writes anyhow.
        free |= set(connection.execute(statement.with_for_update(read=True)).scalars())
    return free


def repoint_inputs(connection: Connection, frames: Mapping[str, Sequence[int]]) -> None:
    """Change the ids of the raw frames that jobs take as main inputs.

    A job's key names contents: where another row holds a content now, the job is the same and takes that row.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frames : mapping of str to sequence of int
        By key of a job, the ids of its main inputs in order.
    """
    for key, ids in frames.items():
        for position, frame in enumerate(ids):
            place = JobInputRow.job_key == key, JobInputRow.role == "main", JobInputRow.position == position
            connection.execute(update(JobInputRow).where(*place).values(frame_id=frame))
