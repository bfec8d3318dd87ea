"""A Prefect server for the session, and a tiny night that is reduced once and copied for each test."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.worker import EventsWorker
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE,
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL,
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE,
    temporary_settings,
)

from ccdflow.archive.registry.jobs.products import ProductRecord, find_products
from ccdflow.archive.registry.jobs.records import find_jobs
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.request import Request
from ccdflow.commands.reduction import RunReport, reduce_now
from ccdflow.config.project import init_project
from ccdflow.simulate import simulate_night
from ccdflow.tasks.planning import planned
from ccdflow.tasks.workspace import Workspace, open_workspace

NIGHT = "2026-03-01"
STEPS = {"bias": 1, "dark": 1, "flat": 1, "science": 3, "stack": 1}
"""Jobs of the tiny night, by step."""

FRAMES = {"bias": 3, "dark": 2, "flat": 2, "science": 3}
"""Raw frames of the tiny night, by class: one camera, one filter, one sequence."""


@dataclass(frozen=True)
class Bench:
    """A project with its raw frames in `raw`, and what tests ask of it."""

    directory: Path

    @property
    def raw(self) -> Path:
        return self.directory / "raw"

    @property
    def project(self) -> Path:
        return self.directory / "project"

    @property
    def space(self) -> Workspace:
        return open_workspace(self.project)

    def frames(self, kind: str) -> list[Path]:
        """The raw files of a class, in order of time."""
        return sorted(self.raw.glob(f"*_{kind}.fits"))

    def run(self, *paths: Path, **request: object) -> RunReport:
        """What ``ccdflow run`` does."""
        return reduce_now(self.space, paths, Request.model_validate(request), quiet=True)

    def planned(self, **request: object) -> Plan:
        """What a run would do."""
        return planned(self.space, Request.model_validate(request))

    def attempts(self) -> dict[str, int]:
        """How often each job was begun, by key."""
        return {job.key: job.attempts for job in self.space.registry.read(find_jobs)}

    def work(self, before: dict[str, int]) -> dict[str, int]:
        """How many times jobs of each step were begun since `before`."""
        jobs = self.space.registry.read(find_jobs)
        begun = Counter({step: 0 for step in {job.step for job in jobs}})
        for job in jobs:
            begun[job.step] += job.attempts - before.get(job.key, 0)
        return {step: number for step, number in begun.items() if number}

    def product(self, category: str) -> ProductRecord:
        """The first product of a category."""
        return next(one for one in self.space.registry.read(find_products) if one.category == category)

    def files(self) -> dict[str, str]:
        """Relative path and sha256 of every product's file in the store, read anew."""
        store = self.space.project.store
        return {
            path.relative_to(store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(store.rglob("*.fits"))
        }


def ccdflow(bench: Bench, *words: str) -> subprocess.CompletedProcess[str]:
    """A command as a user types it."""
    command = [sys.executable, "-m", "ccdflow", "-C", str(bench.project), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def flip(path: Path, offset: int) -> None:
    """Change the lowest bit of one byte; the file keeps its size."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        (byte,) = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))


def flow_runs() -> list[FlowRun]:
    """All flow runs that the server knows, the newest last."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(limit=200, sort=FlowRunSort.START_TIME_DESC)
        return sorted(found, key=lambda run: str(run.start_time))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Prefect server in a home of its own; gives its URL."""
    home = tmp_path_factory.mktemp("prefect")
    settings = {
        PREFECT_HOME: home,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{home}/prefect.db",
        PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE: 100,
        PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE: 100,
        # In whole seconds: of 0.5 Prefect makes 0, and its recorder spins.
        PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL: 1,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_LOGGING_TO_API_ENABLED: False,  # the server's own end is logged, to a server that has ended
    }
    with temporary_settings(settings, restore_defaults={PREFECT_API_URL}):
        running = SubprocessASGIServer()
        running.start(timeout=120)
        try:
            with temporary_settings({PREFECT_API_URL: running.api_url}):
                yield running.api_url
        finally:
            EventsWorker.instance().drain()  # else it waits for the stopped server at exit
            running.stop()


@pytest.fixture(scope="session")
def raw_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw frames of the tiny night."""
    directory = tmp_path_factory.mktemp("simulated")
    simulate_night(directory / "night", night="small", shape=(96, 96))
    taken = directory / "raw"
    taken.mkdir()
    for kind, number in FRAMES.items():
        found = sorted((directory / "night" / "raw" / "SIM1-CAM1").glob(f"*_{kind}.fits"))
        for path in found[:number]:
            shutil.copy2(path, taken)
    return taken


@pytest.fixture(scope="session")
def new_bench(tmp_path_factory: pytest.TempPathFactory, raw_frames: Path) -> Callable[[], Bench]:
    """Makes projects of which nothing is reduced, each with raw frames of its own."""

    def make() -> Bench:
        bench = Bench(tmp_path_factory.mktemp("new"))
        shutil.copytree(raw_frames, bench.raw)
        init_project(bench.project)
        return bench

    return make


@pytest.fixture
def fresh(new_bench: Callable[[], Bench]) -> Bench:
    """A project of which nothing is reduced."""
    return new_bench()


@pytest.fixture(scope="session")
def pattern(server: str, new_bench: Callable[[], Bench]) -> Bench:
    """The tiny night, reduced once without any disturbance; not to be changed."""
    bench = new_bench()
    report = bench.run(bench.raw)
    assert report.exit_code == 0, report.problems
    bench.space.registry.close()
    hidden = bench.directory.with_name("pattern")
    os.rename(bench.directory, hidden)  # so that copies are the frames' new home, not duplicates
    return Bench(hidden)


@pytest.fixture
def reduced(pattern: Bench, tmp_path: Path) -> Bench:
    """A copy of the reduced night, all jobs done, that a test may spoil."""
    bench = Bench(tmp_path / "copy")
    shutil.copytree(pattern.directory, bench.directory)
    report = bench.run(bench.raw)
    assert report.jobs == {"new": 0, "reused": 7, "failed": 0, "incomplete": 0}, report.problems
    return bench
