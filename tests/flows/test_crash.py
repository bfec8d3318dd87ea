import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.flows.conftest import FRAMES, STEPS, Bench

from ccdflow.archive.registry.jobs.products import find_products
from ccdflow.archive.registry.jobs.records import done_keys, find_job, find_jobs
from ccdflow.archive.storemark import MARK
from ccdflow.cascade.planning.request import Request
from ccdflow.commands.queries import ledger, verify
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.planning import planned
from ccdflow.tasks.rounds import write_plan

PATIENCE = 120.0
"""Seconds after which a run that is to be killed counts as stuck."""

WORKER = """
import os, signal, sys
from pathlib import Path
from ccdflow.archive.registry.jobs.leases import claim, this_owner
from ccdflow.archive.registry.jobs.products import outputs_of
from ccdflow.tasks.workspace import open_workspace

project, key, moment, content = sys.argv[1:]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def write(stream):
    whole = Path(content).read_bytes()
    if moment == "while it writes":
        stream.write(whole[: len(whole) // 2])
        stream.flush()
        die()
    stream.write(whole)

space = open_workspace(project)
assert space.registry.write(claim, key, this_owner(), 3600) is not None
(output,) = space.registry.read(outputs_of, key)
space.store.write(output.path, key, write)
die()
"""
"""Begins a job as a task does and dies; `content` is the product that it would have made."""


def state_of(bench: Bench) -> tuple[dict[str, str], set[str]]:
    """All that must not depend on what happened: the products' files, and the job of each."""
    return bench.files(), {one.job_key for one in bench.space.registry.read(find_products)}


def assert_as_if_nothing_had_happened(bench: Bench, pattern: Bench) -> None:
    assert state_of(bench) == state_of(pattern)
    assert strays(bench) == []
    found = verify(bench.space)
    assert (found["problems"], found["intact"]) == ([], sum(STEPS.values()))
    assert {(job.state, job.owner != "") for job in bench.space.registry.read(find_jobs)} == {("done", True)}
    rows = ledger(bench.space, None)
    assert sum(row["frames"] for row in rows) == sum(FRAMES.values())
    assert sum(row["done"] for row in rows) == sum(FRAMES.values())


def strays(bench: Bench) -> list[str]:
    """Files of the store that are neither products nor Prefect's records."""
    store = bench.space.project.store
    known = {one.path for one in bench.space.registry.read(find_products)}
    files = {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()} - {MARK}
    return sorted(path for path in files - known if not path.startswith(".results/"))


@pytest.mark.parametrize("moment", ["while it writes", "after it wrote"])
def test_the_work_of_a_worker_that_died_is_done_again(pattern: Bench, fresh: Bench, moment: str) -> None:
    ingest_files(fresh.space, [fresh.raw])
    plan = planned(fresh.space, Request())
    write_plan(fresh.space, plan)
    bias = plan.jobs[0]
    content = pattern.space.store.absolute(pattern.product("master_bias").path)
    arguments = [sys.executable, "-c", WORKER, str(fresh.project), bias.key, moment, str(content)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    left = fresh.space.registry.read(find_job, bias.key)
    assert left is not None
    assert (left.state, left.attempts) == ("running", 1)
    assert bool(list(fresh.space.store.temporaries())) == (moment == "while it writes")

    report = fresh.run()
    assert report.exit_code == 0, report.problems
    assert report.jobs == {"new": 7, "reused": 0, "failed": 0, "incomplete": 0}
    assert fresh.work({}) == STEPS | {"bias": 2}
    assert_as_if_nothing_had_happened(fresh, pattern)


def products_there(number: int) -> Callable[[Bench], bool]:
    def reached(bench: Bench) -> bool:
        return len(list(bench.space.project.store.rglob("*.fits"))) >= number

    return reached


def something_runs(bench: Bench) -> bool:
    return any(job.state == "running" for job in bench.space.registry.read(find_jobs))


def run_and_kill(bench: Bench, server: str, home: Path, reached: Callable[[Bench], bool]) -> None:
    """Start ``ccdflow run`` and kill it with all its children once `reached`."""
    environment = os.environ | {"PREFECT_API_URL": server, "PREFECT_HOME": str(home)}
    command = [
        str(Path(sys.executable).with_name("ccdflow")),
        "-C",
        str(bench.project),
        "run",
        str(bench.raw),
    ]
    with (home / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [*command, "--json"], env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            end = time.monotonic() + PATIENCE
            while not reached(bench):
                assert process.poll() is None, (home / "output.txt").read_text()
                assert time.monotonic() < end, (home / "output.txt").read_text()
                time.sleep(0.005)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
    assert code == -signal.SIGKILL


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    server: str, pattern: Bench, fresh: Bench, tmp_path: Path
) -> None:
    for reached in (something_runs, products_there(4)):
        run_and_kill(fresh, server, tmp_path, reached)
        assert len(fresh.space.registry.read(done_keys)) < sum(STEPS.values())
    before = fresh.attempts()
    done = fresh.space.registry.read(done_keys)
    report = fresh.run(fresh.raw)
    assert report.exit_code == 0, report.problems
    assert report.jobs["new"] == sum(STEPS.values()) - len(done)
    assert all(before[key] == number for key, number in fresh.attempts().items() if key in done)
    assert_as_if_nothing_had_happened(fresh, pattern)
    assert fresh.run(fresh.raw).jobs["reused"] == sum(STEPS.values())
