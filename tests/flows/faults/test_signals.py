"""`ccdflow run` is told to end while a program or a function of somebody's own is at work."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.tasks.processes.test_functions import Project, project_of
from tests.tasks.processes.test_programs import gone

from ccdflow.archive.registry.jobs.records import find_job

pytestmark = pytest.mark.torture
MOST_S = 10.0
"""Seconds from the signal to the end."""
RECIPES: dict[str, dict[str, Any]] = {
    "program": {"program": ["sh", "-c", "trap '' TERM; echo $$ > {pids}; sleep 300 & wait; sleep 300"]},
    "never_ends": {"function": "badfunctions.never_ends"},
}


def running(project: Project, name: str, begun: subprocess.Popen[str]) -> None:
    """Wait until the job of a recipe runs."""
    end = time.monotonic() + 120
    while time.monotonic() < end and begun.poll() is None:
        job = project.space.registry.read(find_job, project.keys[name])
        if job is not None and job.state == "running":
            time.sleep(1)  # until it has started what it starts
            return
        time.sleep(0.1)
    raise AssertionError(f"{name} did not begin")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", RECIPES)
def test_a_run_ends_with_what_it_started_and_its_job_is_planned_again(
    tmp_path: Path, name: str, number: signal.Signals
) -> None:
    pids = tmp_path / "pids"
    recipe = dict(RECIPES[name])
    if "program" in recipe:
        recipe["program"] = [str(word).replace("{pids}", str(pids)) for word in recipe["program"]]
    project = project_of(tmp_path / "project", {name: recipe})
    command = [sys.executable, "-m", "ccdflow", "-C", str(tmp_path / "project"), "run", "--target", name]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    running(project, name, run)
    begun = time.monotonic()
    run.send_signal(number)
    said, _ = run.communicate(timeout=60)
    assert time.monotonic() - begun < MOST_S
    assert run.returncode == 128 + number
    job = project.space.registry.read(find_job, project.keys[name])
    assert job is not None
    assert (job.state, job.owner, job.reason) == ("planned", "", f"stopped by {number.name}")
    assert said.strip() == f"stopped by {number.name}; what ran is planned again, 'ccdflow run' goes on"
    assert not pids.exists() or gone(int(pids.read_text()))
    project.space.registry.close()
