import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import pytest
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from ccdflow.commands.onserver import shipped_files
from ccdflow.flows import embedded
from ccdflow.flows.embedded import EmbeddedServer
from ccdflow.flows.server import prefect_server

PATIENCE = 30.0
"""Seconds within which a process ends."""

PROGRAM = """
import sys, time
from pathlib import Path
from ccdflow.flows import embedded
from ccdflow.flows.embedded import EmbeddedServer

server = EmbeddedServer(Path(sys.argv[1]))
server.wait()
print(server.pid, flush=True)
time.sleep(600)
"""
"""Starts a server, tells its process id, and waits to be killed."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder for what outlives a project."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def first(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """The first server that is started after an installation."""
    home = tmp_path_factory.mktemp("first")
    # Two at once, as two runs of one project: each wants to make the tables.
    server, other = EmbeddedServer(home), EmbeddedServer(home)
    server.start()
    other.start()
    assert server.wait() != other.wait()
    other.stop()
    yield server
    server.stop()


def tables(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_a_server_answers_and_a_second_start_is_the_same_server(first: EmbeddedServer) -> None:
    url, pid = first.wait(), first.pid
    first.start()
    assert (first.wait(), first.pid) == (url, pid)
    with urlopen(f"{url}/health", timeout=PATIENCE) as answer:
        assert answer.status == 200


def test_two_that_take_the_template_at_once_have_one_database(first: EmbeddedServer, tmp_path: Path) -> None:
    database = tmp_path / "prefect.db"
    assert embedded._take_template(database)
    taken = database.stat().st_ino
    assert not embedded._take_template(database)
    assert database.stat().st_ino == taken and list(tmp_path.iterdir()) == [database]


def test_the_first_server_leaves_the_tables_for_the_next_project(first: EmbeddedServer, cache: Path) -> None:
    (template,) = (cache / "ccdflow").iterdir()
    assert tables(template) == tables(first.home / "prefect.db")


def test_a_later_server_begins_with_these_tables_and_ends_when_its_program_is_killed(
    first: EmbeddedServer, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        assert is_alive(pid)
        assert tables(tmp_path / "prefect.db") == tables(first.home / "prefect.db")
        program.send_signal(signal.SIGKILL)
    end = time.monotonic() + PATIENCE
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_alive(pid)


def test_events_of_the_next_project_go_to_its_own_server(
    first: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccdflow.flows.server.embedded_server", lambda _: first)
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        with prefect_server(tmp_path / "one"):
            sender = EventsWorker.instance()
        with prefect_server(tmp_path / "other"):
            assert EventsWorker.instance() is not sender


@pytest.mark.parametrize("name", ["DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED"])
def test_nobody_is_told_how_prefect_is_used(name: str) -> None:
    program = f"import os, ccdflow; print(os.environ[{name!r}])"
    env = {key: value for key, value in os.environ.items() if key != name}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in ("1", "false")
    # Runs are processes of a worker, which imports Prefect before us.
    deployments, _ = shipped_files({})
    assert {one["work_pool"]["job_variables"]["env"]["DO_NOT_TRACK"] for one in deployments} == {"1"}


def test_a_server_that_can_not_start_says_where_to_look(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_text("no database " * 1000)
    with pytest.raises(RuntimeError, match=r"did not start; it says why in .*server\.log"):
        EmbeddedServer(tmp_path).wait()
    assert "not a database" in (tmp_path / "server.log").read_text()
