"""A password of the database stands where its owner has put it, and nowhere else."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_HOME
from sqlalchemy import URL, make_url, text
from tests.flows.conftest import Bench

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.events import find_events
from ccdflow.archive.registry.tables import Base
from ccdflow.config.project import PROJECT_FILE

PASSWORD, WRONG = "Xq7-hush-Wv2", "Jk5-wrong-Zt9"
CCDFLOW = (sys.executable, "-m", "ccdflow")
LISTS = ("flows", "flow_runs", "task_runs", "deployments", "artifacts", "logs", "automations", "work_pools")
LISTS += ("variables", "block_documents", "concurrency_limits")


@pytest.fixture
def guarded(new_database: str) -> Iterator[str]:
    """URL, without password, of a database whose owner is asked for one."""
    url, role = make_url(new_database), f"keeper_{uuid.uuid4().hex[:8]}"
    rules = _rules(url)
    before = rules.read_text()
    with psycopg.connect(new_database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        admin.execute(f"GRANT ALL ON SCHEMA public TO {role}")
        rules.write_text(f"local all {role} scram-sha-256\n{before}")
        admin.execute("SELECT pg_reload_conf()")
    yield url.set(username=role, password=None).render_as_string(hide_password=False)
    rules.write_text(before)
    with psycopg.connect(new_database, autocommit=True) as admin:
        admin.execute("SELECT pg_reload_conf()")
        admin.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}")


def _rules(url: Any) -> Path:
    with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
        (found,) = connection.execute("SHOW hba_file").fetchone() or ("",)
    return Path(found)


class House:
    """A project, the commands on it, and all that they have said."""

    def __init__(self, bench: Bench, server: str) -> None:
        self.bench, self.said = bench, ""
        self.home = bench.directory / "home"
        self.home.mkdir()
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.env |= {"PREFECT_API_URL": server, "PREFECT_HOME": str(self.home / "prefect")}
        self.env |= {"PREFECT_LOGGING_LEVEL": "DEBUG", "PREFECT_LOGGING_TO_API_ENABLED": "true"}

    def write(self, url: str) -> None:
        (self.bench.project / PROJECT_FILE).write_text(f"registry: {url}\n")

    def run(self, *words: str, code: int = 0) -> str:
        command = [*CCDFLOW, "-C", str(self.bench.project), *words]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        self.said += done.stdout + done.stderr
        return done.stdout + done.stderr

    def fail(self, url: URL | str, says: str, *commands: str) -> None:
        """Commands with a URL that leads nowhere: each says so, in one line."""
        self.write(url if isinstance(url, str) else url.render_as_string(hide_password=False))
        for command in commands:
            told = self.run(command, code=2)
            assert says in told and len(told.strip().splitlines()) == 1, told

    def listen(self, until: Callable[[], bool]) -> None:
        command = [*CCDFLOW, "-C", str(self.bench.project), "listen"]
        with subprocess.Popen(
            command, env=self.env, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        ) as bridge:
            end = time.monotonic() + 120
            while not until() and time.monotonic() < end:
                time.sleep(0.3)
            bridge.send_signal(signal.SIGTERM)
            self.said += "".join(one.decode() for one in bridge.communicate())


def on_the_server() -> str:
    """Everything that the server tells by REST."""
    with get_client(sync_client=True) as client:
        told = [client.request("POST", f"/{name}/filter", json={"limit": 200}) for name in LISTS]
        ours = {"filter": {"event": {"prefix": ["ccdflow."]}}, "limit": 50}
        told.append(client.request("POST", "/events/filter", json=ours))
        return " ".join(one.raise_for_status().text for one in told)


def files_with(word: str, *folders: Path) -> list[str]:
    """Files that hold a word, whatever they are."""
    found = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in found if word.encode() in path.read_bytes()]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "where", ["in the project", pytest.param("in a password file", marks=pytest.mark.torture)]
)
def test_the_password_is_nowhere_else(
    server: str, fresh: Bench, guarded: str, where: str, tmp_path: Path
) -> None:
    house, url, secret = House(fresh, server), make_url(guarded), tmp_path / "pgpass"
    if where == "in the project":
        url = url.set(password=PASSWORD)
    else:
        secret.write_text(f"*:*:*:*:{PASSWORD}\n")
        secret.chmod(0o600)
        house.env["PGPASSFILE"] = str(secret)
    house.write(url.render_as_string(hide_password=False))

    house.run("run", str(fresh.raw))
    house.run("deploy")
    house.run("verify")
    house.run("list", "jobs", "--json")
    house.run("init", str(tmp_path / "another"), "--json")
    registry = Registry(make_url(guarded).set(password=PASSWORD).render_as_string(hide_password=False))
    house.listen(lambda: all(one.delivered for one in registry.read(find_events)))
    with registry.database.read() as connection:
        tables = [connection.execute(text(f"SELECT * FROM {name}")) for name in Base.metadata.tables]
        rows = " ".join(repr(row) for table in tables for row in table)
    registry.close()
    assert "ccdflow.frame.registered" in (told := on_the_server()) and "project" in told
    assert PASSWORD not in house.said + told + rows

    (fresh.project / PROJECT_FILE).unlink()
    assert files_with(PASSWORD, fresh.directory, Path(str(PREFECT_HOME.value()))) == []


def test_errors_do_not_tell_the_password(server: str, fresh: Bench, guarded: str) -> None:
    house, url = House(fresh, server), make_url(guarded)
    house.fail(url.set(password=WRONG), "password authentication failed", "status", "run", "deploy", "listen")
    house.run("--debug", "status", code=1)  # with a traceback
    right = url.set(password=PASSWORD)
    house.fail(right.set(database="nowhere"), 'database "nowhere" does not exist', "status")
    house.run("--debug", "status", code=1)
    house.fail(right.set(query={}, host="127.0.0.1", port=9), "onnection refused", "status", "listen")
    house.fail(f"postgresql://{url.username}:{PASSWORD}@127.0.0.1:port/none", "can't be read", "status")
    house.fail(
        f"mysql://{url.username}:{PASSWORD}@127.0.0.1/none",
        "neither sqlite:///FILE nor postgresql://",
        "status",
    )
    house.fail(f"[{PASSWORD}]", "Input should be a valid string", "status")
    (fresh.project / PROJECT_FILE).unlink()
    for word in (PASSWORD, WRONG):
        assert word not in house.said
        assert files_with(word, fresh.directory, Path(str(PREFECT_HOME.value()))) == []
