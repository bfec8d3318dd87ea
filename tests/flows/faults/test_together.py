"""Two `ccdflow run` at once on one project."""

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.flows.conftest import STEPS, Bench
from tests.flows.faults.conftest import Case
from tests.flows.faults.machinery import Manifest, whole

pytestmark = pytest.mark.torture
PATIENCE = 180.0


def counts(said: str) -> tuple[int, int]:
    """New and reused jobs, as a run says in its last line; fails where there are others."""
    (line,) = re.findall(r"^jobs: (\d+) new, (\d+) reused, 0 failed, 0 incomplete$", said, re.MULTILINE)
    return int(line[0]), int(line[1])


def test_of_two_runs_at_once_each_counts_what_it_made(
    night: Bench, database: str, undisturbed: Manifest, case: Callable[..., Case]
) -> None:
    row = case("two ccdflow run", "at once", database)
    words = [sys.executable, "-m", "ccdflow", "-C", str(night.project), "run", str(night.raw)]
    env = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    runs = [
        subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    told = [run.communicate(timeout=PATIENCE)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    jobs = sum(STEPS.values())
    said = [counts(text) for text in told]
    assert sum(new for new, _ in said) == jobs, told
    assert all(new + reused == jobs for new, reused in said), told
    row.end(f"{said[0][0]} and {said[1][0]} new; {whole(night, undisturbed)}")
