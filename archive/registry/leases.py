"""Leases: who works on a job or drains a stream, how long that counts, and how a dead owner is told from a living one.

A lease is a row with an owner and the time of its last sign of life (heartbeat). It ends when the owner gives it back,
when it has been silent for longer than the lease, or, on the owner's own machine, when its process is gone.
"""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Row, and_, bindparam, delete, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames import batches, ignoring
from ccdflow.archive.registry.tables import DrainRow, JobRow, table

HOST = "CCDFLOW_HOST"
"""Environment variable with the name of this machine, where the network's name says little, as in a container."""

Whereabouts = Literal["free", "elsewhere", "done", "failed"]
"""What a job is to a worker: to be claimed, in the hands of another, or over, for better or worse."""

_MANY = 5000


class LeaseLostError(Exception):
    """A job is no longer this owner's: another has taken it over, or it is finished."""


def this_owner() -> str:
    """Name of this thread: host, process id, when the process started, thread id."""
    pid = os.getpid()
    return f"{this_host()}:{pid}:{started(pid)}:{threading.get_ident()}"


def this_host() -> str:
    """Name of this machine, and a mark of what its process ids belong to."""
    name = os.environ.get(HOST) or socket.gethostname()
    return f"{name.replace(':', '_')}/{_mark()}"


@cache
def _mark() -> str:
    """Digits for the running kernel and the namespace of process ids.

    Containers, and machines that were copied, may have one name; a process id means something else in each.
    """
    facts = []
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        facts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("".join(facts).encode()).hexdigest()[:6]


def started(pid: int) -> str:
    """When a process started, as the kernel counts; empty where it can't be told.

    A process id is used again after a while, a pair of process id and start is not.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The second field is the program's name in brackets, which may hold anything.
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def is_dead(owner: str) -> bool:
    """Whether an owner is a process of this machine that has ended; False where that can't be told."""
    parts = owner.split(":")
    if len(parts) < 3 or parts[0] != this_host() or not parts[1].isdigit() or not parts[2]:
        return False
    return Path("/proc/self/stat").exists() and started(int(parts[1])) != parts[2]


def clock() -> float:
    """The time in seconds since 1970-01-01 UTC, as leases have it; the clocks of all workers must agree."""
    return time.time()


def claim(
    connection: Connection, key: str, owner: str, lease: float, columns: tuple[str, ...] = ("attempts",)
) -> Row[Any] | None:
    """Take a job that waits, has failed, or whose owner is dead or has been silent for too long.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    key : str
        The job.
    owner : str
        Who takes it.
    lease : float
        How long an owner may be silent, in seconds.
    columns : tuple of str
        What to read of the job.

    Returns
    -------
    Row or None
        The columns; None where the job is done, can't be done, or is being done.

    Raises
    ------
    KeyError
        If there is no such job.
    """
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


_JOB = table(JobRow).c
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
    taken = table(JobRow).update().where(_JOB.key == bindparam("its_key"), test).values(values)
    return taken.returning(*(_JOB[name] for name in columns))


def find_whereabouts(connection: Connection, keys: Collection[str], lease: float) -> dict[str, Whereabouts]:
    """What these jobs are to a worker that might claim them."""
    found: dict[str, Whereabouts] = {}
    for some in batches(sorted(set(keys)), _MANY):
        columns = select(JobRow.key, JobRow.state, JobRow.owner, JobRow.heartbeat).where(JobRow.key.in_(some))
        for key, state, owner, heartbeat in connection.execute(columns):
            if state == "running":
                silent = (heartbeat or 0.0) < clock() - lease or is_dead(owner)
                found[key] = "free" if silent else "elsewhere"
            else:
                found[key] = _OVER.get(state, "failed")
    return found


_OVER: Mapping[str, Whereabouts] = {"planned": "free", "done": "done"}


def ensure_held(connection: Connection, key: str, owner: str) -> None:
    """Do nothing if a job is still in the hands of an owner.

    Parameters
    ----------
    connection : Connection
        A transaction.
    key : str
        The job.
    owner : str
        Who believes that it works on the job.

    Raises
    ------
    LeaseLostError
        If it does not any more.
    """
    if connection.execute(_HELD, {"its_key": key, "taker": owner}).first() is None:
        raise LeaseLostError(f"job {key[:8]} is not {owner}'s any more: what it made does not count")


_HELD = select(_JOB.key).where(
    _JOB.key == bindparam("its_key"), _JOB.owner == bindparam("taker"), _JOB.state == "running"
)


def beat_jobs(connection: Connection, held: Collection[tuple[str, str]]) -> None:
    """Tell that owners still work on jobs; `held` are pairs of key and owner."""
    moment = clock()
    for key, owner in held:
        change_held(connection, key, owner, {"heartbeat": moment})


def change_held(connection: Connection, key: str, owner: str, values: Mapping[str, Any]) -> bool:
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
    return table(JobRow).update().where(*held).values(values).returning(*(_JOB[name] for name in columns))


def sweep_jobs(connection: Connection, lease: float) -> list[str]:
    """Give back the jobs of dead and silent owners; gives their keys."""
    running = select(JobRow.key, JobRow.owner, JobRow.heartbeat).where(JobRow.state == "running")
    silent = clock() - lease
    freed: list[str] = []
    for key, owner, heartbeat in connection.execute(running).all():
        if (heartbeat or 0.0) < silent or is_dead(owner):
            reason = f"its worker {owner} gave no sign of life"
            held = and_(
                JobRow.key == key,
                JobRow.owner == owner,
                JobRow.heartbeat == heartbeat,
                JobRow.state == "running",
            )
            given = (
                update(JobRow)
                .where(held)
                .values(state="planned", owner="", reason=reason)
                .returning(JobRow.key)
            )
            freed += connection.execute(given).scalars()
    return freed


def take_drain(connection: Connection, name: str, owner: str, lease: float) -> bool:
    """Become the drain of a stream, or stay it; false while another one is alive."""
    moment = clock()
    made = connection.execute(
        ignoring(connection, table(DrainRow)).returning(table(DrainRow).c.name),
        [{"name": name, "owner": owner, "heartbeat": moment}],
    )
    if made.all():
        return True
    holder = connection.execute(select(DrainRow.owner).where(DrainRow.name == name)).scalar_one_or_none()
    free = or_(DrainRow.owner == owner, DrainRow.heartbeat < moment - lease)
    if holder is not None and is_dead(holder):
        free = or_(free, DrainRow.owner == holder)
    wanted = update(DrainRow).where(DrainRow.name == name, free).values(owner=owner, heartbeat=moment)
    return bool(connection.execute(wanted.returning(DrainRow.name)).all())


def stay_drain(connection: Connection, name: str, owner: str) -> bool:
    """Show a sign of life as the drain of a stream; false where it is another's by now."""
    mine = update(DrainRow).where(DrainRow.name == name, DrainRow.owner == owner).values(heartbeat=clock())
    return bool(connection.execute(mine.returning(DrainRow.name)).all())


def leave_drain(connection: Connection, name: str, owner: str) -> None:
    """Be the drain of a stream no longer."""
    connection.execute(delete(DrainRow).where(DrainRow.name == name, DrainRow.owner == owner))


def live_drains(connection: Connection, lease: float) -> dict[str, str]:
    """Streams that are being drained, and by whom."""
    rows = connection.execute(
        select(DrainRow.name, DrainRow.owner).where(DrainRow.heartbeat >= clock() - lease)
    )
    return {name: owner for name, owner in rows if not is_dead(owner)}
