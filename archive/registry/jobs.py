"""Jobs: planned, claimed by lease, finished, failed."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, func, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames import batches, ignoring
from ccdflow.archive.registry.owners import is_dead
from ccdflow.archive.registry.tables import Job, JobInput, Product, table

JobState = Literal["planned", "running", "done", "failed", "incomplete", "refused"]
Whereabouts = Literal["free", "elsewhere", "done", "failed"]
"""What a job is to a worker: to be claimed, in the hands of another, or over, for better or worse."""

_MANY = 5000


class LeaseLostError(Exception):
    """A job is no longer this owner's: another has taken it over, or it is finished."""


@dataclass(frozen=True)
class InputRecord:
    """One input of a job: a raw frame, or what another job makes.

    `identity` is what stands for it in the job's key, `level` that of the association.
    """

    role: str
    identity: str
    frame: int | None = None
    job: str | None = None
    level: int | None = None


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
    inputs: Sequence[InputRecord] = ()
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
class Claim:
    """The right to do a job, until the lease ends."""

    key: str
    owner: str
    attempts: int


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
    inputs: tuple[InputRecord, ...] = ()


@dataclass(frozen=True)
class Begun:
    """A job that was claimed, and what its worker has to know.

    `frames` are the ids of the raw frames behind its main input, `outputs` pairs of category and path in the
    store.
    """

    job: JobRecord
    frames: tuple[int, ...]
    outputs: tuple[tuple[str, str], ...]


_COLUMNS = [getattr(Job, name) for name in JobRecord.__annotations__ if name != "inputs"]
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


def plan_jobs(connection: Connection, jobs: Sequence[PlannedJob]) -> int:
    """Write jobs with their inputs and the products that they will make; gives how many were new.

    Of a job that is known, nothing changes but the reason why it is incomplete.
    """
    made: set[str] = set()
    for some in batches(jobs, 500):
        rows = {job.key: _job_row(job) for job in some}
        job_table = table(Job)
        statement = ignoring(connection, job_table).returning(job_table.c.key)
        made |= set(connection.execute(statement, list(rows.values())).scalars())
        _write_inputs(connection, [job for job in some if job.key in made])
        _write_outputs(connection, some)
        for job in some:
            if job.state == "incomplete" and job.key not in made:
                known = update(Job).where(
                    Job.key == job.key, Job.state == "incomplete", Job.reason != job.reason
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
        connection.execute(ignoring(connection, table(JobInput)), rows)


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
        connection.execute(select(Job.key).where(Job.state == "done", Job.key.in_(_keys(rows)))).scalars()
    )
    rows = [row for row in rows if row["job_key"] not in done]
    if rows:
        connection.execute(ignoring(connection, table(Product)), rows)


def _keys(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(row["job_key"]) for row in rows))


def clock() -> float:
    """The time in seconds since 1970-01-01 UTC, as leases have it; the clocks of all workers must agree."""
    return time.time()


def drop_incomplete(
    connection: Connection, keep: Collection[str], places: Collection[tuple[str, str, str]]
) -> int:
    """Delete the incomplete jobs of these steps, nights and cameras but for those to keep; gives how many."""
    wanted = select(Job.key, Job.step, Job.night, Job.camera).where(Job.state == "incomplete")
    stale = [row.key for row in connection.execute(wanted) if (row.step, row.night, row.camera) in places]
    stale = sorted(set(stale) - set(keep))
    for some in batches(stale, _MANY):
        for model, column in ((JobInput, JobInput.job_key), (Product, Product.job_key), (Job, Job.key)):
            connection.execute(table(model).delete().where(column.in_(some)))
    return len(stale)


def unbegun(connection: Connection, keys: Collection[str]) -> set[str]:
    """Those of these jobs that nobody does or has done; nor can anybody begin one until the transaction ends."""
    found: set[str] = set()
    for some in batches(keys, _MANY):
        wanted = select(Job.key).where(Job.key.in_(some), Job.state.not_in(("running", "done")))
        found |= set(connection.execute(wanted.with_for_update(read=True)).scalars())
    return found


def repoint(connection: Connection, frames: Mapping[str, Sequence[int]]) -> None:
    """Change the ids of the raw frames that jobs take as main inputs."""
    for key, ids in frames.items():
        for position, frame in enumerate(ids):
            one = JobInput.job_key == key, JobInput.role == "main", JobInput.position == position
            connection.execute(update(JobInput).where(*one).values(frame_id=frame))


def claim(connection: Connection, key: str, owner: str, lease: float) -> Claim | None:
    """Take a job that waits, has failed, or whose owner is silent for longer than `lease` seconds or dead."""
    row = _taken(connection, key, owner, lease, ("attempts",))
    return None if row is None else Claim(key, owner, row[0])


def _taken(
    connection: Connection, key: str, owner: str, lease: float, columns: tuple[str, ...]
) -> Any | None:
    """Columns of a job that was claimed; None where it can't be."""
    moment = clock()
    given = {"its_key": key, "taker": owner, "beat": moment, "at": now(), "silent": moment - lease}
    row = connection.execute(_taking(columns), given).one_or_none()
    if row is None:
        found = connection.execute(_HOLDER, {"its_key": key}).one_or_none()
        if found is None:
            raise KeyError(f"no job {key!r} in the registry")
        if found.state == "running" and is_dead(found.owner):
            row = connection.execute(_taking(columns, dead=True), given | {"dead": found.owner}).one_or_none()
    return row


_JOB = table(Job).c
_HOLDER = select(_JOB.state, _JOB.owner).where(_JOB.key == bindparam("its_key"))


@lru_cache
def _taking(columns: tuple[str, ...], *, dead: bool = False) -> ReturningUpdate[Any]:
    """The statement that gives a job to an owner: one that nobody works on, or that a dead one has held."""
    silent = or_(_JOB.heartbeat.is_(None), _JOB.heartbeat < bindparam("silent"))
    free = or_(_JOB.state.in_(("planned", "failed")), and_(_JOB.state == "running", silent))
    test = and_(_JOB.state == "running", _JOB.owner == bindparam("dead")) if dead else free
    values: dict[str, Any] = {
        "state": "running",
        "reason": "",
        "finished_at": "",
        "attempts": _JOB.attempts + 1,
    }
    values |= {"owner": bindparam("taker"), "heartbeat": bindparam("beat"), "started_at": bindparam("at")}
    taken = table(Job).update().where(_JOB.key == bindparam("its_key"), test).values(values)
    return taken.returning(*(_JOB[name] for name in columns))


def begin(connection: Connection, key: str, owner: str, lease: float) -> Begun | None:
    """Claim a job, and read what its worker has to know; None where it is done, can't be done, or is being done.

    Who begins a job that it holds has not heard the answer to its first claim: that is the same attempt.
    """
    given = {"its_key": key}
    row = _taken(connection, key, owner, lease, _NAMES)
    if row is None:
        row = connection.execute(_HELD, given | {"taker": owner}).one_or_none()
    if row is None:
        return None
    inputs = tuple(InputRecord(*one) for one in connection.execute(_INPUTS_OF, given))
    job = JobRecord(*[*row, inputs])
    outputs = tuple((one[0], one[1]) for one in connection.execute(_OUTPUTS_OF, given))
    return Begun(job, tuple(_frames_behind(connection, job)), outputs)


_NAMES = tuple(name for name in JobRecord.__annotations__ if name != "inputs")
_HELD = select(*(_JOB[name] for name in _NAMES)).where(
    _JOB.key == bindparam("its_key"), _JOB.owner == bindparam("taker"), _JOB.state == "running"
)
_OF = table(JobInput).c
_INPUTS_OF = (
    select(_OF.role, _OF.identity, _OF.frame_id, _OF.parent_job_key, _OF.level)
    .where(_OF.job_key == bindparam("its_key"))
    .order_by(case((_OF.role == "main", 0), else_=1), _OF.role, _OF.position)
)
_MADE = table(Product).c
_OUTPUTS_OF = (
    select(_MADE.category, _MADE.path).where(_MADE.job_key == bindparam("its_key")).order_by(_MADE.id)
)


def whereabouts(connection: Connection, keys: Collection[str], lease: float) -> dict[str, Whereabouts]:
    """What these jobs are to a worker that might claim them."""
    found: dict[str, Whereabouts] = {}
    for some in batches(sorted(set(keys)), _MANY):
        columns = select(Job.key, Job.state, Job.owner, Job.heartbeat).where(Job.key.in_(some))
        for key, state, owner, heartbeat in connection.execute(columns):
            if state == "running":
                silent = (heartbeat or 0.0) < clock() - lease or is_dead(owner)
                found[key] = "free" if silent else "elsewhere"
            else:
                found[key] = _OVER.get(state, "failed")
    return found


_OVER: Mapping[str, Whereabouts] = {"planned": "free", "done": "done"}


def holds(connection: Connection, key: str, owner: str) -> bool:
    """Whether a job is in the hands of an owner."""
    return connection.execute(_HELD, {"its_key": key, "taker": owner}).first() is not None


def beat(connection: Connection, held: Collection[tuple[str, str]]) -> None:
    """Tell that owners still work on jobs; `held` are pairs of key and owner."""
    moment = clock()
    for key, owner in held:
        set_state(connection, key, owner, {"heartbeat": moment})


def set_state(connection: Connection, key: str, owner: str, values: Mapping[str, Any]) -> bool:
    """Change a job that `owner` holds; False where it does not hold it."""
    return held_job(connection, key, owner, values, ("key",)) is not None


def held_job(
    connection: Connection, key: str, owner: str, values: Mapping[str, Any], columns: tuple[str, ...]
) -> Any | None:
    """Change a job that `owner` holds, and give some of its columns; None where it does not hold it."""
    given = {"its_key": key, "holder": owner, **values}
    return connection.execute(_changing(tuple(values), columns), given).one_or_none()


@lru_cache
def _changing(names: tuple[str, ...], columns: tuple[str, ...]) -> ReturningUpdate[Any]:
    """The statement that changes these columns of a job that is held."""
    held = _JOB.key == bindparam("its_key"), _JOB.owner == bindparam("holder"), _JOB.state == "running"
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    return table(Job).update().where(*held).values(values).returning(*(_JOB[name] for name in columns))


def sweep(connection: Connection, lease: float) -> list[str]:
    """Give back the jobs of dead and silent owners; gives their keys."""
    running = select(Job.key, Job.owner, Job.heartbeat).where(Job.state == "running")
    silent = clock() - lease
    freed: list[str] = []
    for key, owner, heartbeat in connection.execute(running).all():
        if (heartbeat or 0.0) < silent or is_dead(owner):
            reason = f"its worker {owner} gave no sign of life"
            held = and_(
                Job.key == key, Job.owner == owner, Job.heartbeat == heartbeat, Job.state == "running"
            )
            given = (
                update(Job).where(held).values(state="planned", owner="", reason=reason).returning(Job.key)
            )
            freed += connection.execute(given).scalars()
    return freed


def jobs(connection: Connection, wanted: JobFilter) -> list[JobRecord]:
    """The jobs that `wanted` selects, in the order in which they were planned."""
    tests: list[ColumnElement[bool]] = []
    if wanted.states is not None:
        tests.append(Job.state.in_(wanted.states))
    if wanted.step is not None:
        tests.append(Job.step == wanted.step)
    if wanted.night is not None:
        tests.append(Job.night == wanted.night)
    if wanted.from_night is not None:
        tests.append(since_night(wanted.from_night))
    if wanted.camera is not None:
        telescope, _, camera = wanted.camera.rpartition("/")
        both = and_(Job.telescope == telescope, Job.camera == camera)
        tests.append(or_(Job.camera == wanted.camera, both))
    if wanted.keys is None:
        return sorted(_read(connection, tests), key=lambda one: (one.planned_at, one.key))
    found = [
        one
        for some in batches(sorted(set(wanted.keys)), _MANY)
        for one in _read(connection, [*tests, Job.key.in_(some)])
    ]
    return sorted(found, key=lambda one: (one.planned_at, one.key))


def _read(connection: Connection, tests: Sequence[ColumnElement[bool]]) -> list[JobRecord]:
    inputs = _inputs(connection, tests)
    rows = connection.execute(select(*_COLUMNS).where(*tests))
    return [JobRecord(*[*row, tuple(inputs.get(row[0], ()))]) for row in rows]


def _inputs(connection: Connection, tests: Sequence[ColumnElement[bool]]) -> dict[str, list[InputRecord]]:
    """Inputs of the jobs that pass the tests, by key; the main ones first."""
    inputs: dict[str, list[InputRecord]] = {}
    of = select(Job.key).where(*tests)
    columns = (JobInput.role, JobInput.identity, JobInput.frame_id, JobInput.parent_job_key, JobInput.level)
    order = case((JobInput.role == "main", 0), else_=1), JobInput.role, JobInput.position
    statement = select(JobInput.job_key, *columns).where(JobInput.job_key.in_(of)).order_by(*order)
    for row in connection.execute(statement):
        inputs.setdefault(row[0], []).append(InputRecord(*row[1:]))
    return inputs


def keys_like(connection: Connection, prefix: str, limit: int) -> list[str]:
    """Keys that begin with `prefix`."""
    behind = prefix + "g"  # the digits of a key end with f
    found = select(Job.key).where(Job.key >= prefix, Job.key < behind).order_by(Job.key)
    return list(connection.execute(found.limit(limit)).scalars())


def done_keys(connection: Connection, from_night: str | None = None) -> set[str]:
    """Keys of the jobs that are done, of all nights or from one on."""
    wanted = select(Job.key).where(Job.state == "done")
    if from_night is not None:
        wanted = wanted.where(since_night(from_night))
    return set(connection.execute(wanted).scalars())


def try_again(connection: Connection, keys: Collection[str]) -> list[str]:
    """Let jobs that have failed be tried again as if they never had been; gives their keys."""
    found: list[str] = []
    for some in batches(sorted(keys), _MANY):
        wanted = update(Job).where(Job.key.in_(some), Job.state == "failed").returning(Job.key)
        found += connection.execute(
            wanted.values(state="planned", attempts=0, owner="", heartbeat=None)
        ).scalars()
    return found


def since_night(night: str) -> ColumnElement[bool]:
    """Whether a job is of this night or a later one, or of frames of several."""
    return or_(Job.night >= night, Job.night == "")


def done_among(connection: Connection, keys: Collection[str]) -> set[str]:
    """Those of the keys whose jobs are done."""
    found: set[str] = set()
    for some in batches(keys, _MANY):
        found |= set(
            connection.execute(select(Job.key).where(Job.key.in_(some), Job.state == "done")).scalars()
        )
    return found


def count_states(connection: Connection, keys: Collection[str]) -> dict[str, int]:
    """How many of these jobs are in each state."""
    counts: dict[str, int] = {}
    for some in batches(keys, _MANY):
        statement = select(Job.state, func.count()).where(Job.key.in_(some)).group_by(Job.state)
        for state, number in connection.execute(statement):
            counts[state] = counts.get(state, 0) + number
    return counts


def lineage(connection: Connection, keys: Collection[str], *, up: bool) -> list[JobRecord]:
    """The jobs that these took products from and so on (up), or that took theirs (down), nearest first."""
    seen, frontier = set(keys), set(keys)
    found: list[JobRecord] = []
    taken, taker = JobInput.parent_job_key, JobInput.job_key
    here, there = (taker, taken) if up else (taken, taker)
    while frontier:
        step: set[str] = set()
        for some in batches(sorted(frontier), _MANY):
            rows = connection.execute(select(there).where(here.in_(some))).scalars()
            step |= {one for one in rows if one is not None}
        frontier = step - seen
        seen |= frontier
        found += jobs(connection, JobFilter(keys=frontier)) if frontier else []
    return found


def _frames_behind(connection: Connection, job: JobRecord) -> list[int]:
    """As `main_frames`, of a job whose inputs are known."""
    found: list[int] = []
    for one in job.inputs:
        if one.role == "main" and one.frame is not None:
            found.append(one.frame)
        elif one.role == "main" and one.job is not None:
            found += main_frames(connection, one.job)
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
    taken = select(JobInput.job_key, JobInput.frame_id).where(JobInput.role == "main")
    for some in batches(sorted(set(frames)), _MANY):
        for key, frame in connection.execute(taken.where(JobInput.frame_id.in_(some))):
            behind.setdefault(key, set()).add(frame or 0)
    made_of = select(JobInput.job_key, JobInput.parent_job_key).where(JobInput.role == "main")
    frontier = set(behind)
    while frontier:
        found = [
            row
            for some in batches(sorted(frontier), _MANY)
            for row in connection.execute(made_of.where(JobInput.parent_job_key.in_(some)))
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
            connection.execute(select(JobInput.job_key).where(JobInput.frame_id.in_(some))).scalars()
        )
    return found


def input_row(one: InputRecord) -> dict[str, Any]:
    """An input as JSON has it: without what does not apply."""
    return {name: value for name, value in asdict(one).items() if value is not None}
