"""Two machines, one store, one PostgreSQL: one is stopped for longer than its lease, and spoils nothing afterwards.

A machine is a process tree with a host name, a home and a Prefect directory of its own.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from prefect.client.orchestration import get_client
from sqlalchemy import make_url, text
from tests.flows.conftest import NIGHT, Bench
from tests.flows.stopping import JOB_MOMENTS, LINGERING
from tests.flows.test_live import AGE, frames

from ccdflow.archive.registry.jobs.leases import HOST, live_drains
from ccdflow.archive.registry.jobs.records import find_jobs
from ccdflow.archive.registry.tables import Base
from ccdflow.commands.queries import ledger, verify
from ccdflow.config.project import PROJECT_FILE
from ccdflow.flows.live import live
from ccdflow.simulate import simulate_night

PATIENCE = 240.0
LEASE = 2.0
"""Seconds without a sign of life after which another machine takes over."""
STOPPING = Path(__file__).with_name("stopping.py")
COMMANDS = Path(sys.executable).parent


@cache
def way_to_name() -> tuple[str, ...]:
    """What gives a command a host name of its own on this system; nothing where that is not allowed."""
    for way in (("unshare", "--uts"), ("unshare", "--user", "--map-root-user", "--uts")):
        with suppress(OSError):
            if subprocess.run([*way, "hostname", "probe"], capture_output=True, check=False).returncode == 0:
                return way
    return ()


class Machine:
    """Processes with a host name, a home and a Prefect directory of their own."""

    def __init__(self, name: str, folder: Path, server: str) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        home = folder / name
        (home / "prefect").mkdir(parents=True)
        shared = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.env = shared | {
            "HOME": str(home),
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_API_URL": server,
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "XDG_CACHE_HOME": str(Path.home() / ".cache"),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *command: str) -> None:
        words, env = [*command], dict(self.env)
        if way := way_to_name():
            words = [*way, "sh", "-c", 'hostname "$0" && exec "$@"', self.name, *words]
        else:
            env[HOST] = self.name
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                words, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def tell(self, number: int) -> None:
        """Send a signal to all processes of the machine."""
        assert self.process is not None
        first = psutil.Process(self.process.pid)
        for one in (first, *first.children(recursive=True)):
            with suppress(psutil.Error):
                one.send_signal(number)

    @property
    def is_stopped(self) -> bool:
        """Whether it is stopped; fails where it has ended instead."""
        assert self.process is not None and self.process.poll() is None, self.said
        return bool(psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.tell(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


@pytest.fixture
def machine(server: str, tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    made: list[Machine] = []

    def make(name: str) -> Machine:
        made.append(Machine(name, tmp_path, server))
        return made[-1]

    yield make
    for one in made:
        one.end()


def describe(bench: Bench, database: str) -> None:
    """Let the project be on PostgreSQL, with short leases; who is stopped within a transaction loses that as soon."""
    url = make_url(database).update_query_dict(
        {"options": f"-c idle_in_transaction_session_timeout={LEASE:.0f}s"}
    )
    text = url.render_as_string(hide_password=False)
    (bench.project / PROJECT_FILE).write_text(f"registry: {text}\nkeep_alive: {LEASE}\n")


@pytest.fixture
def night(fresh: Bench, new_database: str) -> Iterator[Bench]:
    """The tiny night, on PostgreSQL, with a short lease."""
    describe(fresh, new_database)
    yield fresh
    fresh.space.registry.close()


def insert(bench: Bench, paths: Sequence[Path]) -> None:
    with bench.space.registry.database.write() as session:
        for path in paths:
            session.execute(text("INSERT INTO frame (path) VALUES (:path)"), {"path": str(path)})


def wait_until(true: Callable[[], Any], what: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


def everything(bench: Bench) -> dict[str, Any]:
    """Every row of the registry, and of every file of a product name, inode, size and times."""
    with bench.space.registry.database.read() as session:
        rows: dict[str, Any] = {
            name: sorted(map(repr, session.execute(text(f"SELECT * FROM {name}"))))
            for name in Base.metadata.tables
        }
    store = bench.space.project.store
    for path in sorted(store.rglob("*")):
        if path.is_file() and ".results" not in path.parts:
            facts = path.stat()
            rows[str(path)] = facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
    return rows


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {
        name: (before.get(name), after.get(name))
        for name in {*before, *after}
        if before.get(name) != after.get(name)
    }


QUICK = ("before the rename", "before the commit", LINGERING)
MOMENTS = [
    one if one in QUICK else pytest.param(one, marks=pytest.mark.torture) for one in (*JOB_MOMENTS, LINGERING)
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_drain_that_was_stopped_past_its_lease_spoils_nothing(
    night: Bench, reduced: Bench, machine: Callable[[str], Machine], moment: str
) -> None:
    north = machine("north")
    insert(night, frames(night)[: -1 if moment == LINGERING else None])
    north.start(sys.executable, str(STOPPING), str(night.project), moment, "science", "60")
    wait_until(lambda: north.is_stopped, lambda: north.said)
    held = [job for job in night.space.registry.read(find_jobs) if job.state == "running"]
    assert len(held) >= (moment != LINGERING)
    assert all(job.owner.startswith("north/") for job in held)
    if moment == LINGERING:
        insert(night, frames(night)[-1:])

    wait_until(lambda: not night.space.registry.read(live_drains, LEASE), lambda: "the lease does not end")
    assert live(str(night.project), linger=0.0, max_age_days=AGE) == {}  # here is another machine
    assert reduced.files().items() <= night.files().items()
    attempts = {job.key: job.attempts for job in night.space.registry.read(find_jobs)}
    assert all(attempts[job.key] == 2 for job in held)
    before = everything(night)

    north.tell(signal.SIGCONT)
    assert north.process.wait(PATIENCE) == 0, north.said
    assert changes(before, everything(night)) == {}
    assert verify(night.space)["problems"] == []
    assert {job.state for job in night.space.registry.read(find_jobs)} == {"done"}
    assert north.said.count("lost job ") == len(held), north.said
    assert north.said.count("lost the drain 'live all'") == 1, north.said
    assert "failed: {}" in north.said, north.said


# --- true workers ------------------------------------------------------------------------------------------------


def request_run(bench: Bench) -> str:
    """Ask for the night as one does by REST; gives the id of the flow run."""
    with get_client(sync_client=True) as client:
        found = client.request("GET", "/deployments/name/reduce/reduce").json()
        body = {"parameters": {"project": str(bench.project), "paths": [str(bench.raw)]}}
        made = client.request("POST", f"/deployments/{found['id']}/create_flow_run", json=body).json()
    return str(made["id"])


def forget_runs() -> None:
    """Delete what other tests have left in the pool: a worker would take it, and their projects are gone."""
    waiting = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}}}
    with get_client(sync_client=True) as client:
        for run in client.request("POST", "/flow_runs/filter", json=waiting).json():
            client.request("DELETE", f"/flow_runs/{run['id']}")


def state_of(run: str) -> str:
    with get_client(sync_client=True) as client:
        return str(client.request("GET", f"/flow_runs/{run}").json()["state"]["type"])


def done_by(bench: Bench) -> dict[str, int]:
    """How many jobs each machine has done."""
    hosts = [
        job.owner.partition("/")[0] for job in bench.space.registry.read(find_jobs) if job.state == "done"
    ]
    return {host: hosts.count(host) for host in hosts}


@contextmanager
def nobody_plans(database: str) -> Iterator[Callable[[], int]]:
    """Hold up all who write jobs; gives a function that counts them."""
    with psycopg.connect(database) as lock, psycopg.connect(database, autocommit=True) as look:
        lock.execute("LOCK TABLE job IN SHARE ROW EXCLUSIVE MODE")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'job'::regclass"
        yield lambda: look.execute(waiting).fetchone()[0]


def stop_within_a_job(machines: Sequence[Machine], database: str) -> tuple[Machine, list[str]]:
    """Stop the first machine that is seen to do a job; gives it, and the keys of the jobs that it holds."""
    end = time.monotonic() + PATIENCE
    with psycopg.connect(database, autocommit=True) as look:
        held = partial(held_by, look)
        while time.monotonic() < end:
            for one in machines:
                if held(one):
                    one.tell(signal.SIGSTOP)
                    time.sleep(0.3)  # what was under way at the database gets there
                    if found := held(one):
                        return one, found
                    one.tell(signal.SIGCONT)
    raise AssertionError("no machine was seen to do a job")


def held_by(look: "psycopg.Connection[Any]", one: Machine) -> list[str]:
    running = "SELECT key FROM job WHERE state = 'running' AND owner LIKE %s"
    return [key for (key,) in look.execute(running, (f"{one.name}/%",))]


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_two_workers_share_a_night_and_one_of_them_is_stopped(
    server: str, machine: Callable[[str], Machine], tmp_path: Path, new_database: str
) -> None:
    bench = Bench(tmp_path)
    simulate_night(tmp_path / "simulated", night="small", shape=(512, 512))
    shutil.move(tmp_path / "simulated" / "raw", bench.raw)
    bench.project.mkdir()
    describe(bench, new_database)
    deploy = [str(COMMANDS / "ccdflow"), "-C", str(bench.project), "deploy"]
    env = os.environ | {"PREFECT_API_URL": server}
    assert subprocess.run(deploy, env=env, capture_output=True, check=False).returncode == 0

    forget_runs()
    machines = {name: machine(name) for name in ("north", "south")}
    for one in machines.values():
        one.start(
            str(COMMANDS / "prefect"),
            "worker",
            "start",
            "--type",
            "process",
            "--pool",
            "ccdflow",
            "--limit",
            "1",
        )

    def told() -> str:
        return "\n".join(f"{one.name}: {one.said}" for one in machines.values())

    with nobody_plans(
        new_database
    ) as waiting:  # until both have come so far: one may have started much later
        runs = [request_run(bench), request_run(bench)]
        wait_until(lambda: waiting() == 2, told)
    wait_until(lambda: min(done_by(bench).get(name, 0) for name in machines) > 1, told)

    north, held = stop_within_a_job(list(machines.values()), new_database)
    (south,) = [one for one in machines.values() if one is not north]
    wait_until(lambda: sorted(map(state_of, runs)) == ["COMPLETED", "RUNNING"], told)
    jobs = bench.space.registry.read(find_jobs)
    assert {job.state for job in jobs} == {"done"} and len(jobs) == 58
    assert {job.key for job in jobs if job.attempts != 1} == {*held}
    before = everything(bench)

    north.tell(signal.SIGCONT)
    wait_until(lambda: [*map(state_of, runs)] == ["COMPLETED", "COMPLETED"], told)
    assert changes(before, everything(bench)) == {}, told()
    assert north.said.count("lost job ") == len(held) and "lost job" not in south.said, told()
    assert verify(bench.space)["problems"] == []
    rows = ledger(bench.space, NIGHT)
    assert sum(row["frames"] for row in rows) == sum(row["done"] + row["passed"] for row in rows) == 73
    bench.space.registry.close()
