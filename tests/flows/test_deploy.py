"""`ccdflow deploy` makes what a server needs, and what people have changed there stays."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from sqlalchemy import make_url
from tests.flows.conftest import NIGHT, Bench

from ccdflow.archive.registry.holds import put_hold, release_hold
from ccdflow.archive.registry.jobs.products import find_products
from ccdflow.commands import deploying

PATIENCE = 90.0
FLOWS = (
    "live",
    "sweep",
    "nightly",
    "housekeeping",
    "reduce",
    "reprocess",
    "retry",
    "pause",
    "resume",
    "ingest",
    "calibrate",
    "science",
    "group",
    "stack",
)
AUTOMATIONS = [
    "ccdflow: late live and sweep runs are cancelled",
    "ccdflow: late nightly and housekeeping runs are cancelled",
    "live__automation_1",
]
SCHEDULED = ("sweep", "nightly", "housekeeping")
"""Deployments that a clock starts."""


@pytest.fixture(scope="module")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server as an observatory runs it: that of the other tests schedules nothing."""
    with running_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@contextmanager
def running_server(home: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """A server with these settings, to which Prefect talks in the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    env = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **(settings or {}),
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", port]
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(command, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_for(url)
            with temporary_settings({PREFECT_API_URL: url}):
                yield url
        finally:
            process.terminate()


def _wait_for(url: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            httpx.get(f"{url}/health", timeout=2).raise_for_status()
            return
        except httpx.HTTPError:
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.3)


def ask(path: str) -> list[dict[str, Any]]:
    with get_client(sync_client=True) as client:
        found: list[dict[str, Any]] = client.request("POST", path, json={}).json()
    return found


def state(bench: Bench, *, check: bool = True) -> dict[str, Any]:
    """What the server knows of ccdflow's deployments, without ids and times."""
    deployments = {one["name"]: one for one in ask("/deployments/filter")}
    mine = {name: deployments[name] for name in FLOWS}
    assert not check or all(one["parameters"]["project"] == str(bench.project) for one in mine.values())
    queues = {one["name"]: one["priority"] for one in ask("/work_pools/ccdflow/queues/filter")}
    automations = [one["name"] for one in ask("/automations/filter")]
    schedules = {name: [each["schedule"] for each in one["schedules"]] for name, one in mine.items()}
    queue_of = {name: one["work_queue_name"] for name, one in mine.items()}
    return {"queues": queues, "automations": automations, "schedules": schedules, "queue_of": queue_of}


def scheduled(name: str) -> int:
    """How many runs of a deployment the server has scheduled; waits until there are some."""
    end = time.monotonic() + PATIENCE
    wanted = {"deployments": {"name": {"any_": [name]}}}
    while True:
        with get_client(sync_client=True) as client:
            found = len(client.request("POST", "/flow_runs/filter", json=wanted).json())
        if found > 1 or time.monotonic() > end:
            return found
        time.sleep(0.5)


def deploy_again(bench: Bench, morning: str | None = "15 8 * * *", *, reset: bool = False) -> list[str]:
    """What the command does, without the start of a process; gives what was left as it is."""
    return deploying.deploy(bench.space, morning, reset=reset).left


def deploy(bench: Bench, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ccdflow", "-C", str(bench.project), "deploy", "--morning", "15 8 * * *"]
    env = os.environ | {"PREFECT_API_URL": url}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_deploying_twice_makes_everything_once(real_server: str, fresh: Bench) -> None:
    done = deploy(fresh, real_server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "prefect worker start --type process --pool ccdflow" in done.stdout
    first = state(fresh)
    assert [first["queues"][name] for name in ("live", "nightly", "reprocessing")] == [1, 2, 3]
    assert first["schedules"]["nightly"][0]["cron"] == "15 8 * * *"
    assert first["schedules"]["sweep"][0]["interval"] == 60.0
    assert (first["queue_of"]["live"], first["queue_of"]["reduce"]) == ("live", "reprocessing")
    assert sorted(first["automations"]) == AUTOMATIONS
    assert deploy_again(fresh, None) == []
    # Nobody has changed the time, which was asked for once: the one that now would be chosen takes its place.
    assert state(fresh) != first
    assert deploy_again(fresh) == []
    assert state(fresh) == first
    # With some versions of its libraries Prefect's scheduler only logs errors.
    assert all(scheduled(name) > 1 for name in SCHEDULED)


def change(method: str, path: str, body: Any = None) -> None:
    """Change what the server has, as the browser does."""
    with get_client(sync_client=True) as untyped:
        client: Any = untyped  # its type knows the paths that it asks for itself, with braces for the ids
        client.request(method, path, json=body)


def patch(path: str, **body: object) -> None:
    change("PATCH", path, body)


@pytest.mark.usefixtures("real_server")
def test_what_somebody_has_switched_off_or_changed_stays_so_and_is_told(fresh: Bench) -> None:
    deploy_again(fresh, reset=True)
    mine = {one["name"]: one for one in ask("/deployments/filter")}
    schedules = {name: f"/deployments/{mine[name]['id']}/schedules" for name in SCHEDULED}
    sweep, nightly, housekeeping = (mine[name]["schedules"][0]["id"] for name in SCHEDULED)
    patch(f"{schedules['sweep']}/{sweep}", active=False)
    patch(f"{schedules['nightly']}/{nightly}", schedule={"cron": "0 5 * * *", "timezone": "UTC"})
    change("DELETE", f"{schedules['housekeeping']}/{housekeeping}")
    patch(f"/deployments/{mine['housekeeping']['id']}", parameters={"project": "there", "keep_days": 30})
    automations = {one["name"]: one["id"] for one in ask("/automations/filter")}
    _, late_by_day, live = AUTOMATIONS
    patch(f"/automations/{automations[live]}", enabled=False)
    change("DELETE", f"/automations/{automations[late_by_day]}")
    before = state(fresh, check=False)
    told = deploy_again(fresh, None)
    assert state(fresh) == before
    assert [one["enabled"] for one in ask("/automations/filter") if one["name"] == live] == [False]
    assert told[2].startswith("nightly's schedule, 0 5 * * * where ccdflow's would be ")
    assert told[:2] + told[3:] == [
        "the automation 'live__automation_1', switched off on the server",
        "sweep's schedule, switched off on the server",
        "housekeeping's parameters keep_days, set on the server",
        "housekeeping's schedule, deleted on the server",
        f"the automation {late_by_day!r}, deleted on the server",
    ]
    kept = next(one["parameters"] for one in ask("/deployments/filter") if one["name"] == "housekeeping")
    assert kept == {"project": str(fresh.project), "keep_days": 30}
    # What is asked for counts, though not whether it is on; and all of it is as ccdflow has it, once that is wanted.
    patch(f"{schedules['nightly']}/{nightly}", active=False)
    deploy_again(fresh, "7 7 * * *")
    (asked,) = next(one["schedules"] for one in ask("/deployments/filter") if one["name"] == "nightly")
    assert (asked["schedule"]["cron"], asked["active"]) == ("7 7 * * *", False)
    assert deploy_again(fresh, reset=True) == []
    assert state(fresh)["schedules"]["nightly"][0]["cron"] == "15 8 * * *"
    deployments = {one["name"]: one for one in ask("/deployments/filter")}
    assert all(deployments[name]["schedules"][0]["active"] for name in SCHEDULED)
    assert sorted(one["name"] for one in ask("/automations/filter") if one["enabled"]) == AUTOMATIONS


@pytest.mark.parametrize(
    ("name", "parameters", "told"),
    [
        ("reduce", {"path": ["/raw"]}, "'path' was unexpected"),
        ("reduce", {"late": "kep"}, "'kep' is not one of"),
        ("nightly", {"request": {"nigth": "2026-03-01"}}, "'nigth' was unexpected"),
        ("housekeeping", {"keep_day": 30}, "'keep_day' was unexpected"),
    ],
)
def test_a_misspelled_parameter_is_told(
    real_server: str, worked: Bench, name: str, parameters: dict[str, object], told: str
) -> None:
    base = f"{real_server}/deployments"
    known = httpx.get(f"{base}/name/{name}/{name}").json()["id"]
    answer = httpx.post(f"{base}/{known}/create_flow_run", json={"parameters": parameters})
    assert answer.status_code == httpx.codes.CONFLICT and told in answer.json()["detail"]


@pytest.fixture
def database_with_trigrams() -> Iterator[str]:
    """URL of an empty database in which Prefect's tables can be made; the server of the other tests lacks `pg_trgm`."""
    if not (url := os.environ.get("CCDFLOW_POSTGRESQL")):
        pytest.skip("CCDFLOW_POSTGRESQL names no PostgreSQL server that has pg_trgm, which Prefect needs")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield make_url(url).set(database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_server_on_postgresql_schedules_runs_too(
    tmp_path: Path, fresh: Bench, database_with_trigrams: str
) -> None:
    # Other statements than on SQLite insert the runs, so that the one says nothing about the other.
    database = make_url(database_with_trigrams).set(drivername="postgresql+asyncpg")
    settings = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database.render_as_string(hide_password=False)}
    with running_server(tmp_path, settings) as url:
        done = deploy(fresh, url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert all(scheduled(name) > 1 for name in SCHEDULED)


def stop_worker(process: subprocess.Popen[bytes]) -> None:
    """Ask the worker twice to end, as one does at a terminal; seen once to wait for ever, so it is killed then."""
    for sign in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1 if sign is signal.SIGKILL else 15)
            return


@pytest.fixture(scope="module")
def worked(
    real_server: str, new_bench: Callable[[], Bench], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """A deployed project, and a worker for it."""
    bench, home = new_bench(), tmp_path_factory.mktemp("worker")
    deploy_again(bench)
    env = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": real_server,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", "ccdflow"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            yield bench
        finally:
            stop_worker(process)


def state_of(run: str, *wanted: str) -> str:
    """State of a flow run; waits until it is one of those."""
    end = time.monotonic() + PATIENCE
    while True:
        with get_client(sync_client=True) as client:
            found = str(client.request("GET", f"/flow_runs/{run}").json()["state_type"])
        if found in wanted or time.monotonic() > end:
            return found
        time.sleep(0.3)


# The manual's example is run as it stands there, and git and make bring no curl with them.
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_what_is_asked_for_by_rest_is_made(real_server: str, worked: Bench) -> None:
    page = (Path(__file__).parents[2] / "docs" / "prefect.md").read_text()
    (example,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    example = example.replace("/data/night/raw", str(worked.raw))
    env = os.environ | {"PREFECT_API_URL": real_server}
    done = subprocess.run(["bash", "-c", example], env=env, capture_output=True, text=True, check=True)
    assert state_of(json.loads(done.stdout)["id"], "COMPLETED", "FAILED") == "COMPLETED"
    assert {one.category for one in worked.space.registry.read(find_products)} > {"science", "stack"}


def test_a_run_is_cancelled_by_its_name_and_the_next_one_does_its_work(
    real_server: str, worked: Bench
) -> None:
    assert worked.run(worked.raw).exit_code == 0
    worked.space.registry.write(put_hold, "test")
    with get_client(sync_client=True) as client:
        known = client.request("GET", "/deployments/name/reprocess/reprocess").json()["id"]
        body = {"parameters": {"project": str(worked.project), "night": NIGHT, "step": "flat"}}
        run = client.request("POST", f"/deployments/{known}/create_flow_run", json=body).json()["id"]
    assert state_of(run, "RUNNING") == "RUNNING"
    end = time.monotonic() + PATIENCE
    while not worked.planned().jobs or worked.planned().jobs[2].state != "new":  # it waits for the hold's end
        assert time.monotonic() < end
        time.sleep(0.2)
    listed = _command(worked, "cancel", "--json")
    name = f"reprocess project {NIGHT}"
    assert name in [one["name"] for one in json.loads(listed.stdout)]
    assert _command(worked, "cancel", name).returncode == 0
    assert state_of(run, "CANCELLED") == "CANCELLED"
    other = _command(worked, "cancel", name)
    assert other.returncode == 2 and "cancelled 0 of 1" in other.stderr
    worked.space.registry.write(release_hold)
    assert worked.run().jobs == {"new": 5, "reused": 2, "failed": 0, "incomplete": 0}


def _command(bench: Bench, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ccdflow", "-C", str(bench.project), *words]
    env = os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value())}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_forms_tell_what_each_parameter_means(real_server: str, worked: Bench) -> None:
    for one in ask("/deployments/filter"):
        told = one["parameter_openapi_schema"]["properties"]
        assert told["project"]["description"] == "Directory of the project."
        assert all(each.get("description") for each in told.values()), one["name"]
        assert all("default" in each for name, each in told.items() if name not in ("project", "paths"))


def test_without_a_server_it_is_said_what_is_wanted(fresh: Bench) -> None:
    for command in ("deploy", "listen"):
        done = deploy(fresh, "") if command == "deploy" else _listen(fresh)
        assert done.returncode == 2
        assert f"{command} needs a Prefect server: set PREFECT_API_URL" in done.stderr


def _listen(bench: Bench) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ccdflow", "-C", str(bench.project), "listen"]
    env = os.environ | {"PREFECT_API_URL": ""}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)
