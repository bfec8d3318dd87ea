"""Leases: who works on a job or drains a stream, how long that counts, and how a dead owner is told from a living one.

A lease is a row with an owner and the time of its last sign of life (heartbeat). It ends when the owner gives it back,
when it has been silent for longer than the lease, or, on the owner's own machine, when its process is gone. So a worker
that was killed is replaced at once where that can be seen, and after the length of a lease from other machines.

An owner that was only slow may find its job in other hands. So all that it writes of the job is one statement with the
condition that the job is still its own, and it never does harm: what it made does not count.
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

from ccdflow.archive.registry.bulk import batches, inserting_new
from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.tables import DrainRow, JobRow, table

HOST = "CCDFLOW_HOST"
"""Environment variable that names this machine, where the network's name says little, as in a container."""

Whereabouts = Literal["free", "elsewhere", "done", "failed"]
"""A job as a worker sees it: to be claimed, in the hands of another, or over, for better or worse."""


class LeaseLostError(Exception):
    """A job is no longer this owner's: another has taken it over, or it is finished."""


# --- owners -------------------------------------------------------------------------------------------------------


def this_owner() -> str:
    """Return the name of this thread: host, process id, when the process started, thread id."""
    # The thread too, since threads of a process do not share their jobs.
    pid = os.getpid()
    return f"{this_host()}:{pid}:{started(pid)}:{threading.get_ident()}"


def this_host() -> str:
    """Return the name of this machine, with a mark of what its process ids belong to."""
    # Colons separate the parts of an owner's name.
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
    """Return when a process started, as the kernel counts.

    A process id is used again after a while, a pair of process id and start is not.

    Parameters
    ----------
    pid : int
        The process id.

    Returns
    -------
    str
        Clock ticks since the machine was started; empty where there is no such process, or that can't be told.

    References
    ----------
    proc_pid_stat(5), field 22 (starttime) and field 3 (state).
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The second field is the program's name in brackets, which may hold anything. Behind it, state is the first field.
    state, *fields = stat.rpartition(")")[2].split()
    # A zombie (Z) or dead one (X) has ended, and is only not yet taken note of by its parent.
    return "" if state in "ZX" else fields[18]


def is_dead(owner: str) -> bool:
    """Return whether an owner is a process of this machine that has ended.

    Parameters
    ----------
    owner : str
        Its name, as `this_owner` makes it.

    Returns
    -------
    bool
        False also where that can't be told: of another machine, or of a name that says nothing.
    """
    parts = owner.split(":")
    if len(parts) < 3 or parts[0] != this_host() or not parts[1].isdigit() or not parts[2]:
        return False
    return Path("/proc/self/stat").exists() and started(int(parts[1])) != parts[2]


def clock() -> float:
    """Return the time in seconds since 1970-01-01 UTC, as leases have it; the clocks of all workers must agree."""
    return time.time()


# --- leases of jobs -----------------------------------------------------------------------------------------------


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
        Columns of the job to give back, as they are then.

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
    values = {"its_key": key, "taker": owner, "beat": moment, "at": now(), "silent": moment - lease}
    # Look and take in one statement: of many that try at once, one gets the row, whatever the others have read.
    row = connection.execute(_taking(columns), values).one_or_none()
    if row is None:
        holder = connection.execute(_HOLDER, {"its_key": key}).one_or_none()
        if holder is None:
            raise KeyError(f"no job {key!r} in the registry")
        # Whether a process is alive, no database can tell. The statement names the dead one, so that a job that
        # somebody else has taken over meanwhile stays theirs.
        if holder.state == "running" and is_dead(holder.owner):
            values |= {"dead": holder.owner}
            row = connection.execute(_taking(columns, dead=True), values).one_or_none()
    return row


_JOB = table(JobRow).c
_HOLDER = select(_JOB.state, _JOB.owner).where(_JOB.key == bindparam("its_key"))


@lru_cache
def _taking(columns: tuple[str, ...], *, dead: bool = False) -> ReturningUpdate[Any]:
    """The statement that gives a job to an owner: one that nobody works on, or that a dead one has held."""
    # "failed" is free too: whether a job is tried again is the decision of whoever claims it. "incomplete" and
    # "refused" can't be done, and "done" is done.
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
    taking = table(JobRow).update().where(_JOB.key == bindparam("its_key"), test).values(values)
    return taking.returning(*(_JOB[name] for name in columns))


def find_whereabouts(connection: Connection, keys: Collection[str], lease: float) -> dict[str, Whereabouts]:
    """Return how jobs stand to a worker that might claim them.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    keys : collection of str
        Keys of jobs; those that there are not are left out.
    lease : float
        How long an owner may be silent, in seconds.

    Returns
    -------
    dict of str to str
        By key: ``free``, ``elsewhere``, ``done`` or ``failed`` (also where it can't be done).
    """
    whereabouts: dict[str, Whereabouts] = {}
    for part in batches(sorted(set(keys))):
        columns = select(JobRow.key, JobRow.state, JobRow.owner, JobRow.heartbeat).where(JobRow.key.in_(part))
        for key, state, owner, heartbeat in connection.execute(columns):
            if state == "running":
                is_free = (heartbeat or 0.0) < clock() - lease or is_dead(owner)
                whereabouts[key] = "free" if is_free else "elsewhere"
            else:
                whereabouts[key] = _AT_REST.get(state, "failed")
    return whereabouts


_AT_REST: Mapping[str, Whereabouts] = {"planned": "free", "done": "done"}


def lost(key: str, owner: str) -> LeaseLostError:
    """Return the error of an owner whose job is in other hands.

    Parameters
    ----------
    key : str
        The job.
    owner : str
        Who believed that it works on the job.

    Returns
    -------
    LeaseLostError
        The error, to be raised.
    """
    return LeaseLostError(f"job {key[:8]} is not {owner}'s any more: what it made does not count")


def ensure_held(connection: Connection, key: str, owner: str) -> None:
    """Do nothing if a job is still in the hands of an owner.

    An owner that has been silent for too long still holds it, as long as nobody has taken it over.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
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
        raise lost(key, owner)


_HELD = select(_JOB.key).where(
    _JOB.key == bindparam("its_key"), _JOB.owner == bindparam("taker"), _JOB.state == "running"
)


def beat_jobs(connection: Connection, held: Collection[tuple[str, str]]) -> None:
    """Show a sign of life for jobs that are being done.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    held : collection of tuple of str and str
        Key and owner of each. A job that is no longer its owner's stays as it is.
    """
    # A job each, not all at once: those that were lost are to stay as they are.
    moment = clock()
    for key, owner in held:
        change_held(connection, key, owner, {"heartbeat": moment})


def change_held(connection: Connection, key: str, owner: str, values: Mapping[str, Any]) -> bool:
    """Change a job, if it is still in the hands of an owner.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    key : str
        The job.
    owner : str
        Who believes that it works on the job.
    values : mapping of str to object
        New values by column.

    Returns
    -------
    bool
        False where the job is no longer this owner's; then nothing is changed.
    """
    return change_and_read_held(connection, key, owner, values, ("key",)) is not None


def change_and_read_held(
    connection: Connection, key: str, owner: str, values: Mapping[str, Any], columns: tuple[str, ...]
) -> Row[Any] | None:
    """Change a job, if it is still in the hands of an owner, and read it in the same statement.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    key : str
        The job.
    owner : str
        Who believes that it works on the job.
    values : mapping of str to object
        New values by column.
    columns : tuple of str
        Columns to give back, as they are then.

    Returns
    -------
    Row or None
        The columns; None where the job is no longer this owner's. Then nothing is changed.
    """
    parameters = {"its_key": key, "holder": owner, **values}
    return connection.execute(_changing(tuple(values), columns), parameters).one_or_none()


@lru_cache
def _changing(names: tuple[str, ...], columns: tuple[str, ...]) -> ReturningUpdate[Any]:
    """The statement that changes these columns of a job that is held."""
    held = _JOB.key == bindparam("its_key"), _JOB.owner == bindparam("holder"), _JOB.state == "running"
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    return table(JobRow).update().where(*held).values(values).returning(*(_JOB[name] for name in columns))


def sweep_jobs(connection: Connection, lease: float) -> list[str]:
    """Give back the jobs of dead and silent owners.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    lease : float
        How long an owner may be silent, in seconds.

    Returns
    -------
    list of str
        Keys of the jobs that are free again.
    """
    running = select(JobRow.key, JobRow.owner, JobRow.heartbeat).where(JobRow.state == "running")
    silent_before = clock() - lease
    freed: list[str] = []
    for key, owner, heartbeat in connection.execute(running).all():
        if (heartbeat or 0.0) < silent_before or is_dead(owner):
            # As it was read: an owner that has shown a sign of life since keeps its job.
            as_read = and_(
                JobRow.key == key,
                JobRow.owner == owner,
                JobRow.heartbeat == heartbeat,
                JobRow.state == "running",
            )
            reason = f"its worker {owner} gave no sign of life"
            free = update(JobRow).where(as_read).values(state="planned", owner="", reason=reason)
            freed += connection.execute(free.returning(JobRow.key)).scalars()
    return freed


# --- drains: leases of streams ------------------------------------------------------------------------------------


def take_drain(connection: Connection, name: str, owner: str, lease: float) -> bool:
    """Become the drain of a stream, or stay it.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    name : str
        The stream, under the name by which it is drained.
    owner : str
        Who drains it.
    lease : float
        How long a drain may be silent, in seconds.

    Returns
    -------
    bool
        False while another one is alive.
    """
    # A stream that nobody has ever drained has no row: then the insert decides between two who want it.
    moment = clock()
    first = connection.execute(
        inserting_new(connection, table(DrainRow)).returning(table(DrainRow).c.name),
        [{"name": name, "owner": owner, "heartbeat": moment}],
    )
    if first.all():
        return True
    holder = connection.execute(select(DrainRow.owner).where(DrainRow.name == name)).scalar_one_or_none()
    free = or_(DrainRow.owner == owner, DrainRow.heartbeat < moment - lease)
    if holder is not None and is_dead(holder):
        free = or_(free, DrainRow.owner == holder)
    taking = update(DrainRow).where(DrainRow.name == name, free).values(owner=owner, heartbeat=moment)
    return bool(connection.execute(taking.returning(DrainRow.name)).all())


def stay_drain(connection: Connection, name: str, owner: str) -> bool:
    """Show a sign of life as the drain of a stream.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    name : str
        The stream.
    owner : str
        Who drains it.

    Returns
    -------
    bool
        False where the stream is another's by now.
    """
    mine = update(DrainRow).where(DrainRow.name == name, DrainRow.owner == owner).values(heartbeat=clock())
    return bool(connection.execute(mine.returning(DrainRow.name)).all())


def leave_drain(connection: Connection, name: str, owner: str) -> None:
    """Stop being the drain of a stream.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    name : str
        The stream.
    owner : str
        Who has drained it; another's drain stays.
    """
    connection.execute(delete(DrainRow).where(DrainRow.name == name, DrainRow.owner == owner))


def live_drains(connection: Connection, lease: float) -> dict[str, str]:
    """Return which streams are being drained.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    lease : float
        How long a drain may be silent, in seconds.

    Returns
    -------
    dict of str to str
        The owner by stream.
    """
    # Without the dead of this machine, though nobody has taken their place yet.
    heard = DrainRow.heartbeat >= clock() - lease
    rows = connection.execute(select(DrainRow.name, DrainRow.owner).where(heard))
    return {name: owner for name, owner in rows if not is_dead(owner)}
