"""Jobs as the registry knows them: asked for by what they are, how far they are, and by their keys."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Connection, case, func, select, update

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.conditions import is_of_camera, since_night
from ccdflow.archive.registry.selection import refuse_state, refuse_unknown, refuse_unknown_step, settle
from ccdflow.archive.registry.tables import JobInputRow, JobRow, ProductRow, table
from ccdflow.cascade.planning.jobs import JobInput

JobState = Literal["planned", "running", "done", "failed", "incomplete", "refused"]

SHARED_WITH_PRODUCTS = ("night", "telescope", "camera", "instrument", "filter", "object")
"""Columns that say what a job is of, and that its products take over."""

_LIKE_A_KEY = 10
"""How many keys are named where the beginning that somebody typed fits several."""


@dataclass(frozen=True)
class JobRecord:
    """A job as the registry knows it.

    `heartbeat` is in seconds since 1970-01-01 UTC; the times `planned_at`, `started_at` and `finished_at` are ISO UTC.
    `variant` is empty for what the project's own parameters ask for. `compromises` is in what its inputs are less than
    planned, a line each. `software` names the programs by which it was done, with their versions.
    """

    key: str
    step: str
    recipe: str
    version: str
    state: JobState
    reason: str
    night: str
    telescope: str
    camera: str
    instrument: str
    filter: str
    object: str
    parameters: Mapping[str, Any]
    set_id: int | None
    level: int
    worst_level: int
    owner: str
    heartbeat: float | None
    attempts: int
    planned_at: str
    started_at: str
    finished_at: str
    variant: str = ""
    compromises: str = ""
    software: str = ""
    inputs: tuple[JobInput, ...] = ()


JOB_COLUMNS = tuple(name for name in JobRecord.__annotations__ if name != "inputs")
"""Columns of the table that make a `JobRecord`, in its order; its inputs come behind them."""

_INPUT = table(JobInputRow).c
INPUT_COLUMNS = (_INPUT.role, _INPUT.identity, _INPUT.frame_id, _INPUT.parent_job_key, _INPUT.level)
"""Columns that make a `JobInput`, in its order."""
INPUT_ORDER = (case((_INPUT.role == "main", 0), else_=1), _INPUT.role, _INPUT.position)
"""The order of a job's inputs: the main ones first."""


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are asked for; what is None does not matter.

    `camera` is CAMERA or TELESCOPE/CAMERA, `from_night` the earliest night: jobs of frames of several nights are
    always among them. `strict` is False where night, camera and task come from the registry or the clock: that nothing
    is of them is no mistake then.
    """

    states: Collection[str] | None = None
    step: str | None = None
    night: str | None = None
    camera: str | None = None
    keys: Collection[str] | None = None
    from_night: str | None = None
    strict: bool = True

    def __post_init__(self) -> None:
        """Take texts and dates of any type."""
        settle(self, {}, ("states", "keys"))
        refuse_state("state", self.states, get_args(JobState))


ALL_JOBS = JobFilter()
"""Selects every job."""


def find_job(connection: Connection, key: str) -> JobRecord | None:
    """Return one job with its inputs.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    key : str
        Its key.

    Returns
    -------
    JobRecord or None
        None where there is no such job.
    """
    return next(iter(find_jobs(connection, JobFilter(keys=[key]))), None)


def find_jobs(connection: Connection, wanted: JobFilter = ALL_JOBS) -> list[JobRecord]:
    """Return the jobs that a filter selects, each with its inputs.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : JobFilter
        Which jobs.

    Returns
    -------
    list of JobRecord
        The jobs, in the order in which they were planned.
    """
    tests = _tests(wanted)
    if wanted.keys is None:
        jobs = _read(connection, tests)
    else:
        jobs = [
            job
            for keys in batches(sorted(set(wanted.keys)))
            for job in _read(connection, [*tests, JobRow.key.in_(keys)])
        ]
    if not jobs and wanted.strict:
        refuse_unknown(connection, wanted.night, wanted.camera)
        if wanted.step is not None:
            refuse_unknown_step(connection, wanted.step)
    return sorted(jobs, key=lambda job: (job.planned_at, job.key))


def _tests(wanted: JobFilter) -> list[ColumnElement[bool]]:
    """Conditions of all that a filter names, but for the keys."""
    tests: list[ColumnElement[bool]] = []
    if wanted.states is not None:
        tests.append(JobRow.state.in_(wanted.states))
    if wanted.step is not None:
        tests.append(JobRow.step == wanted.step)
    if wanted.night is not None:
        tests.append(JobRow.night == wanted.night)
    if wanted.from_night is not None:
        tests.append(since_night(JobRow, wanted.from_night))
    if wanted.camera is not None:
        tests.append(is_of_camera(JobRow, wanted.camera))
    return tests


def _read(connection: Connection, tests: Sequence[ColumnElement[bool]]) -> list[JobRecord]:
    # The inputs by the same conditions, in a statement of their own: with many jobs quicker than a join, which would
    # repeat each job for each of its inputs.
    inputs = _inputs(connection, tests)
    rows = connection.execute(select(*[getattr(JobRow, name) for name in JOB_COLUMNS]).where(*tests))
    return [JobRecord(*[*row, tuple(inputs.get(row[0], ()))]) for row in rows]


def _inputs(connection: Connection, tests: Sequence[ColumnElement[bool]]) -> dict[str, list[JobInput]]:
    """Inputs of the jobs that pass the tests, by key; the main ones first."""
    inputs: dict[str, list[JobInput]] = {}
    of_jobs = _INPUT.job_key.in_(select(JobRow.key).where(*tests))
    statement = select(_INPUT.job_key, *INPUT_COLUMNS).where(of_jobs).order_by(*INPUT_ORDER)
    for key, *values in connection.execute(statement):
        inputs.setdefault(key, []).append(JobInput(*values))
    return inputs


def keys_like(connection: Connection, prefix: str) -> list[str]:
    """Return keys that begin with what somebody has typed.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    prefix : str
        The beginning, in small letters.

    Returns
    -------
    list of str
        The first ten such keys, in order.
    """
    # A range, which both databases look up in the index. Its end is behind all such keys, since digits end with f.
    behind = prefix + "g"
    keys = select(JobRow.key).where(JobRow.key >= prefix, JobRow.key < behind).order_by(JobRow.key)
    return list(connection.execute(keys.limit(_LIKE_A_KEY)).scalars())


def done_keys(connection: Connection, from_night: str | None = None) -> set[str]:
    """Return the keys of the jobs that are done.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    from_night : str, optional
        The earliest night; without it, jobs of all nights.

    Returns
    -------
    set of str
        The keys; with `from_night` also those of jobs of frames of several nights.
    """
    # A drain asks again and again, and of all nights there may be very many keys.
    keys = select(JobRow.key).where(JobRow.state == "done")
    if from_night is not None:
        keys = keys.where(since_night(JobRow, from_night))
    return set(connection.execute(keys).scalars())


def done_among(connection: Connection, keys: Collection[str]) -> set[str]:
    """Return those of some keys whose jobs are done.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    keys : collection of str
        The keys.

    Returns
    -------
    set of str
        Those of jobs that are done.
    """
    done: set[str] = set()
    for part in batches(keys):
        statement = select(JobRow.key).where(JobRow.key.in_(part), JobRow.state == "done")
        done |= set(connection.execute(statement).scalars())
    return done


def done_by(connection: Connection, keys: Collection[str], owner: str) -> set[str]:
    """Return those of some jobs that a process has done.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    keys : collection of str
        Keys of jobs.
    owner : str
        Name of any thread of the process, as `ccdflow.archive.registry.jobs.leases.this_owner` gives it.

    Returns
    -------
    set of str
        Keys of those that are done, and were by it.
    """
    process = owner.rpartition(":")[0] + ":"
    mine = JobRow.state == "done", JobRow.owner.startswith(process, autoescape=True)
    statements = (select(JobRow.key).where(JobRow.key.in_(part), *mine) for part in batches(keys))
    return {key for statement in statements for key in connection.execute(statement).scalars()}


def count_finished(connection: Connection, keys: Collection[str]) -> int:
    """Count those of some jobs that are done or have failed.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    keys : collection of str
        Their keys.

    Returns
    -------
    int
        How many need not be waited for any more.
    """
    finished = JobRow.state.in_(("done", "failed"))
    statements = (select(func.count()).where(JobRow.key.in_(part), finished) for part in batches(keys))
    return sum(connection.execute(statement).scalar_one() for statement in statements)


def tried_since(connection: Connection, moment: str) -> set[str]:
    """Return the jobs that were tried in vain since a moment.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    moment : str
        ISO time, UTC.

    Returns
    -------
    set of str
        Keys of those that have failed, and of those that were given back since the machine could not do them.
    """
    # A job that was given back is planned, and its reason says why; one that failed and was opened again is as new.
    in_vain = JobRow.state.in_(("failed", "planned")) & (JobRow.reason != "") & (JobRow.attempts > 0)
    statement = select(JobRow.key).where(in_vain, JobRow.finished_at >= moment)
    return set(connection.execute(statement).scalars())


def ended_since(connection: Connection, moment: str) -> dict[str, str]:
    """Return the jobs that have come to an end since a moment, well or not.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    moment : str
        ISO time, UTC.

    Returns
    -------
    dict of str to str
        The night of each, by key.
    """
    ended = JobRow.state.in_(("done", "failed")), JobRow.finished_at >= moment
    return {key: night for key, night in connection.execute(select(JobRow.key, JobRow.night).where(*ended))}


def reopen_failed(connection: Connection, keys: Collection[str]) -> list[str]:
    """Let jobs that have failed be tried again as if they never had been.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    keys : collection of str
        Keys of jobs in any state.

    Returns
    -------
    list of str
        Keys of those that had failed.
    """
    # As new: the count of attempts too, or a drain that gives up after some would not try even once.
    reopened: list[str] = []
    for part in batches(sorted(keys)):
        failed = update(JobRow).where(JobRow.key.in_(part), JobRow.state == "failed").returning(JobRow.key)
        as_new = failed.values(state="planned", attempts=0, owner="", heartbeat=None)
        reopened += connection.execute(as_new).scalars()
    return reopened


def link_jobs(connection: Connection, sets: Mapping[str, int]) -> None:
    """Note of which sets jobs are made.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    sets : mapping of str to int
        Ids of sets by the keys of their jobs.
    """
    for key, number in sets.items():
        connection.execute(update(JobRow).where(JobRow.key == key).values(set_id=number))


def done_without_products(connection: Connection, from_night: str | None = None) -> set[str]:
    """Return the jobs that are done and have made nothing, since no two of their inputs could be combined.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    from_night : str, optional
        ISO date of the first night that is looked at; without it, all.

    Returns
    -------
    set of str
        Their keys.
    """
    made = select(ProductRow.id).where(ProductRow.job_key == JobRow.key)
    tests = [JobRow.state == "done", JobRow.reason != "", ~made.exists()]
    if from_night is not None:
        tests.append(since_night(JobRow, from_night))
    return set(connection.execute(select(JobRow.key).where(*tests)).scalars())
