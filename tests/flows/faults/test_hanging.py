"""The Prefect server takes questions and never answers: from the beginning, or from some moment on."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from tests.flows.conftest import STEPS, Bench
from tests.flows.faults.conftest import ONE_IS_QUICK, Case
from tests.flows.faults.machinery import (
    Manifest,
    PrefectServer,
    bridge,
    drain,
    eventually,
    frames,
    insert,
    products_of,
    reached,
    whole,
)

from ccdflow.archive.registry.events import find_events
from ccdflow.archive.registry.jobs.records import find_jobs

pytestmark = pytest.mark.torture
PATIENCE = 240.0


@contextmanager
def deaf_server() -> Iterator[str]:
    """A server that accepts connections, reads nothing and never answers; gives its URL."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)
    held: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                held.append(listening.accept()[0])
            except OSError:
                return

    Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/api"
    finally:
        listening.close()
        for connection in held:
            connection.close()


@contextmanager
def stopped(server: PrefectServer) -> Iterator[None]:
    """Let a real server hang: its kernel goes on to accept connections for it."""
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def running(bench: Bench, url: str, home: Path) -> "subprocess.Popen[str]":
    """``ccdflow run`` on all frames, recorded by a server."""
    words = [sys.executable, "-m", "ccdflow", "-C", str(bench.project), "run", str(bench.raw)]
    env = os.environ | {"PREFECT_API_URL": url, "PREFECT_HOME": str(home)}
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_run_does_without_a_server_that_never_answers(
    night: Bench, database: str, tmp_path: Path, undisturbed: Manifest, case: Callable[..., Case]
) -> None:
    row = case("server hangs", "before ccdflow run", database)
    with deaf_server() as url:
        run = running(night, url, tmp_path)
        said, told = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, told
    assert f"the Prefect server {url} does not answer; this run goes on with one of its own" in told
    assert f"jobs: {sum(STEPS.values())} new, 0 reused, 0 failed, 0 incomplete" in said
    row.end(whole(night, undisturbed))


def test_a_run_goes_on_with_a_server_of_its_own_where_its_own_hangs_midway(
    night: Bench, database: str, tmp_path: Path, undisturbed: Manifest, case: Callable[..., Case]
) -> None:
    row = case("server hangs", "ccdflow run is at work", database)
    server = PrefectServer(tmp_path)
    server.start()
    run = running(night, server.url, tmp_path)
    eventually(
        lambda: any(job.state == "done" for job in night.space.registry.read(find_jobs)), "a job is done"
    )
    with stopped(server):
        row.begin()
        said, told = run.communicate(timeout=PATIENCE)
        row.recovered()
    assert run.returncode == 0, told
    assert f"the Prefect server {server.url} does not answer; this run goes on with one of its own" in told
    assert f"jobs: {sum(STEPS.values())} new, 0 reused, 0 failed, 0 incomplete" in said
    row.end(whole(night, undisturbed))


@ONE_IS_QUICK
def test_a_drain_goes_on_and_stays_while_its_server_does_not_answer(
    night: Bench, database: str, undisturbed: Manifest, case: Callable[..., Case], tmp_path: Path
) -> None:
    row = case("server hangs", "a drain is at work", database)
    server = PrefectServer(tmp_path)
    server.start()
    _, *others = night.frames("science")
    insert(night, [path for path in frames(night) if path not in others])
    with temporary_settings({PREFECT_API_URL: server.url}):
        draining = drain(night, linger=2.0).start()
        telling = bridge(night).start()
    eventually(lambda: products_of(night, "master_bias") > 0, "a master", draining)
    with stopped(server):
        # Behind its time of waiting for frames: nothing could start another drain now.
        time.sleep(20.0)
        insert(night, others)
        row.begin()
        eventually(
            lambda: reached(night, undisturbed), "all products, without an answer", draining, patience=40.0
        )
        row.recovered()
        assert not draining.ended
    assert draining.wait() == 0 and draining.said.endswith("{}\n"), draining.said

    def everything_is_told() -> bool:
        return all(event.delivered for event in night.space.registry.read(find_events))

    eventually(everything_is_told, "the bridge has told all", telling)
    row.end(whole(night, undisturbed))
