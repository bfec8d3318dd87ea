"""Jobs: planned, claimed by lease, finished, failed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, func, or_, select, update

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames import batches, ignoring
from ccdflow.archive.registry.tables import JobInputRow, JobRow, ProductRow, table
from ccdflow.cascade.planning.jobs import JobInput

JobState = Literal["planned", "running", "done", "failed", "incomplete", "refused"]

_MANY = 5000


@dataclass(frozen=True)
class PlannedJob:
    """A job as it is planned.

    `outputs` are pairs of category and path in the store. `parameters` is what JSON can write: name to value
    and origin.
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


@dataclass(frozen=True)
class JobRecord:
    """A job as the registry knows it; `heartbeat` in seconds since 1970-01-01 UTC."""

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
    inputs: tuple[JobInput, ...] = ()


_COLUMNS = [getattr(JobRow, name) for name in JobRecord.__annotations__ if name != "inputs"]
_PLACE = ("night", "telescope", "camera", "instrument", "filter", "object")


@dataclass(frozen=True)
class JobFilter:
    """Which jobs; what is None does not matter. `camera` is CAMERA or TELESCOPE/CAMERA, `from_night` the earliest."""

    states: Collection[str] | None = None
    step: str | None = None
    night: str | None = None
    camera: str | None = None
    keys: Collection[str] | None = None
    from_night: str | None = None


ALL_JOBS = JobFilter()
"""Selects every job."""


def write_jobs(connection: Connection, jobs: Sequence[PlannedJob]) -> int:
    """Write jobs with their inputs and the products that they will make; gives how many were new.

    Of a job that is known, nothing changes but the reason why it is incomplete.
    """
    made: set[str] = set()
    for some in batches(jobs, 500):
        rows = {job.key: _job_row(job) for job in some}
        job_table = table(JobRow)
        statement = ignoring(connection, job_table).returning(job_table.c.key)
        made |= set(connection.execute(statement, list(rows.values())).scalars())
        _write_inputs(connection, [job for job in some if job.key in made])
        _write_outputs(connection, some)
        for job in some:
            if job.state == "incomplete" and job.key not in made:
                known = update(JobRow).where(
                    JobRow.key == job.key, JobRow.state == "incomplete", JobRow.reason != job.reason
                )
                connection.execute(known.values(reason=job.reason))
    return len(made)


def _job_row(job: PlannedJob) -> dict[str, Any]:
    same = (
        "key",
        "step",
        "recipe",
        "version",
        "state",
        "reason",
        "parameters",
        "set_id",
        "level",
        "worst_level",
        *_PLACE,
    )
    return {name: getattr(job, name) for name in same} | {"planned_at": now()}


def _write_inputs(connection: Connection, jobs: Sequence[PlannedJob]) -> None:
    rows = []
    for job in jobs:
        positions: dict[str, int] = {}
        for one in job.inputs:
            position = positions[one.role] = positions.get(one.role, -1) + 1
            row = {"job_key": job.key, "role": one.role, "position": position, "identity": one.identity}
            rows.append(row | {"frame_id": one.frame, "parent_job_key": one.job, "level": one.level})
    if rows:
        connection.execute(ignoring(connection, table(JobInputRow)), rows)


def _write_outputs(connection: Connection, jobs: Sequence[PlannedJob]) -> None:
    rows = [
        {name: getattr(job, name) for name in (*_PLACE, "exptime", "obsdate")}
        | {"job_key": job.key, "category": category, "path": path, "state": "planned"}
        for job in jobs
        if job.state == "planned"
        for category, path in job.outputs
    ]
    # A job that is done has what it made: an output that it left out must not come back as planned.
    done = set(
        connection.execute(
            select(JobRow.key).where(JobRow.state == "done", JobRow.key.in_(_keys(rows)))
        ).scalars()
    )
    rows = [row for row in rows if row["job_key"] not in done]
    if rows:
        connection.execute(ignoring(connection, table(ProductRow)), rows)


def _keys(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(row["job_key"]) for row in rows))


def drop_incomplete(
    connection: Connection, keep: Collection[str], places: Collection[tuple[str, str, str]]
) -> int:
    """Delete the incomplete jobs of these steps, nights and cameras but for those to keep; gives how many."""
    wanted = select(JobRow.key, JobRow.step, JobRow.night, JobRow.camera).where(JobRow.state == "incomplete")
    stale = [row.key for row in connection.execute(wanted) if (row.step, row.night, row.camera) in places]
    stale = sorted(set(stale) - set(keep))
    for some in batches(stale, _MANY):
        for model, column in (
            (JobInputRow, JobInputRow.job_key),
            (ProductRow, ProductRow.job_key),
            (JobRow, JobRow.key),
        ):
            connection.execute(table(model).delete().where(column.in_(some)))
    return len(stale)


def unbegun(connection: Connection, keys: Collection[str]) -> set[str]:
    """Those of these jobs that nobody does or has done; nor can anybody begin one until the transaction ends."""
    found: set[str] = set()
    for some in batches(keys, _MANY):
        wanted = select(JobRow.key).where(JobRow.key.in_(some), JobRow.state.not_in(("running", "done")))
        found |= set(connection.execute(wanted.with_for_update(read=True)).scalars())
    return found


def repoint_inputs(connection: Connection, frames: Mapping[str, Sequence[int]]) -> None:
    """Change the ids of the raw frames that jobs take as main inputs."""
    for key, ids in frames.items():
        for position, frame in enumerate(ids):
            one = JobInputRow.job_key == key, JobInputRow.role == "main", JobInputRow.position == position
            connection.execute(update(JobInputRow).where(*one).values(frame_id=frame))


_OF = table(JobInputRow).c


def find_job(connection: Connection, key: str) -> JobRecord | None:
    """One job with its inputs; None where there is none."""
    return next(iter(find_jobs(connection, JobFilter(keys=[key]))), None)


def find_jobs(connection: Connection, wanted: JobFilter = ALL_JOBS) -> list[JobRecord]:
    """The jobs that `wanted` selects, in the order in which they were planned."""
    tests: list[ColumnElement[bool]] = []
    if wanted.states is not None:
        tests.append(JobRow.state.in_(wanted.states))
    if wanted.step is not None:
        tests.append(JobRow.step == wanted.step)
    if wanted.night is not None:
        tests.append(JobRow.night == wanted.night)
    if wanted.from_night is not None:
        tests.append(since_night(wanted.from_night))
    if wanted.camera is not None:
        telescope, _, camera = wanted.camera.rpartition("/")
        both = and_(JobRow.telescope == telescope, JobRow.camera == camera)
        tests.append(or_(JobRow.camera == wanted.camera, both))
    if wanted.keys is None:
        return sorted(_read(connection, tests), key=lambda one: (one.planned_at, one.key))
    found = [
        one
        for some in batches(sorted(set(wanted.keys)), _MANY)
        for one in _read(connection, [*tests, JobRow.key.in_(some)])
    ]
    return sorted(found, key=lambda one: (one.planned_at, one.key))


def _read(connection: Connection, tests: Sequence[ColumnElement[bool]]) -> list[JobRecord]:
    inputs = _inputs(connection, tests)
    rows = connection.execute(select(*_COLUMNS).where(*tests))
    return [JobRecord(*[*row, tuple(inputs.get(row[0], ()))]) for row in rows]


def _inputs(connection: Connection, tests: Sequence[ColumnElement[bool]]) -> dict[str, list[JobInput]]:
    """Inputs of the jobs that pass the tests, by key; the main ones first."""
    inputs: dict[str, list[JobInput]] = {}
    of = select(JobRow.key).where(*tests)
    columns = (
        JobInputRow.role,
        JobInputRow.identity,
        JobInputRow.frame_id,
        JobInputRow.parent_job_key,
        JobInputRow.level,
    )
    order = case((JobInputRow.role == "main", 0), else_=1), JobInputRow.role, JobInputRow.position
    statement = select(JobInputRow.job_key, *columns).where(JobInputRow.job_key.in_(of)).order_by(*order)
    for row in connection.execute(statement):
        inputs.setdefault(row[0], []).append(JobInput(*row[1:]))
    return inputs


def keys_like(connection: Connection, prefix: str, limit: int = 10) -> list[str]:
    """Keys that begin with `prefix`."""
    behind = prefix + "g"  # the digits of a key end with f
    found = select(JobRow.key).where(JobRow.key >= prefix, JobRow.key < behind).order_by(JobRow.key)
    return list(connection.execute(found.limit(limit)).scalars())


def done_keys(connection: Connection, from_night: str | None = None) -> set[str]:
    """Keys of the jobs that are done, of all nights or from one on."""
    wanted = select(JobRow.key).where(JobRow.state == "done")
    if from_night is not None:
        wanted = wanted.where(since_night(from_night))
    return set(connection.execute(wanted).scalars())


def reopen_failed(connection: Connection, keys: Collection[str]) -> list[str]:
    """Let jobs that have failed be tried again as if they never had been; gives their keys."""
    found: list[str] = []
    for some in batches(sorted(keys), _MANY):
        wanted = update(JobRow).where(JobRow.key.in_(some), JobRow.state == "failed").returning(JobRow.key)
        found += connection.execute(
            wanted.values(state="planned", attempts=0, owner="", heartbeat=None)
        ).scalars()
    return found


def since_night(night: str) -> ColumnElement[bool]:
    """Whether a job is of this night or a later one, or of frames of several."""
    return or_(JobRow.night >= night, JobRow.night == "")


def done_among(connection: Connection, keys: Collection[str]) -> set[str]:
    """Those of the keys whose jobs are done."""
    found: set[str] = set()
    for some in batches(keys, _MANY):
        found |= set(
            connection.execute(
                select(JobRow.key).where(JobRow.key.in_(some), JobRow.state == "done")
            ).scalars()
        )
    return found


def count_finished(connection: Connection, keys: Collection[str]) -> int:
    """How many of these jobs are done or have failed."""
    return sum(
        connection.execute(
            select(func.count()).where(JobRow.key.in_(some), JobRow.state.in_(("done", "failed")))
        ).scalar_one()
        for some in batches(keys, _MANY)
    )


def lineage(connection: Connection, keys: Collection[str], *, up: bool) -> list[JobRecord]:
    """The jobs that these took products from and so on (up), or that took theirs (down), nearest first."""
    seen, frontier = set(keys), set(keys)
    found: list[JobRecord] = []
    taken, taker = JobInputRow.parent_job_key, JobInputRow.job_key
    here, there = (taker, taken) if up else (taken, taker)
    while frontier:
        step: set[str] = set()
        for some in batches(sorted(frontier), _MANY):
            rows = connection.execute(select(there).where(here.in_(some))).scalars()
            step |= {one for one in rows if one is not None}
        frontier = step - seen
        seen |= frontier
        found += find_jobs(connection, JobFilter(keys=frontier)) if frontier else []
    return found


def main_frames(connection: Connection, key: str) -> list[int]:
    """Raw frames behind the main input of a job, in order."""
    found: list[int] = []
    for frame, parent in connection.execute(_MAIN_OF, {"its_key": key}).all():
        if frame is not None:
            found.append(frame)
        elif parent is not None:
            found += main_frames(connection, parent)
    return found


_MAIN_OF = (
    select(_OF.frame_id, _OF.parent_job_key)
    .where(_OF.job_key == bindparam("its_key"), _OF.role == "main")
    .order_by(_OF.position)
)


def main_descendants(connection: Connection, frames: Collection[int]) -> dict[str, set[int]]:
    """The jobs that took some of these frames as main input, or products of such jobs; to each, its frames."""
    behind: dict[str, set[int]] = {}
    taken = select(JobInputRow.job_key, JobInputRow.frame_id).where(JobInputRow.role == "main")
    for some in batches(sorted(set(frames)), _MANY):
        for key, frame in connection.execute(taken.where(JobInputRow.frame_id.in_(some))):
            behind.setdefault(key, set()).add(frame or 0)
    made_of = select(JobInputRow.job_key, JobInputRow.parent_job_key).where(JobInputRow.role == "main")
    frontier = set(behind)
    while frontier:
        found = [
            row
            for some in batches(sorted(frontier), _MANY)
            for row in connection.execute(made_of.where(JobInputRow.parent_job_key.in_(some)))
        ]
        for key, parent in found:
            behind.setdefault(key, set()).update(behind[parent or ""])
        frontier = {key for key, _ in found}
    return behind


def keys_of_frames(connection: Connection, frames: Collection[int]) -> set[str]:
    """Keys of the jobs that took one of these frames themselves."""
    found: set[str] = set()
    for some in batches(frames, _MANY):
        found |= set(
            connection.execute(select(JobInputRow.job_key).where(JobInputRow.frame_id.in_(some))).scalars()
        )
    return found


def input_row(one: JobInput) -> dict[str, Any]:
    """An input as JSON has it: without what does not apply."""
    return {name: value for name, value in asdict(one).items() if value is not None}
