"""`ccdflow deploy` and `ccdflow listen`: the work of Prefect's own commands, in one go."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from threading import Event

from ccdflow.tasks.nightlog import site_longitude
from ccdflow.tasks.workspace import Workspace

POOL = "ccdflow"
QUEUES = ("live", "nightly", "reprocessing")
"""Queues of the pool, by priority."""
MORNING = 7.5
"""Local mean time at which the night is put right: after sunrise, in every season, where people observe."""


def morning(space: Workspace) -> str:
    """Cron line, in UTC, of the morning at the site."""
    # 15 degrees of longitude are an hour; local mean time is ahead of UTC in the east.
    minutes = round((MORNING - site_longitude(space) / 15) % 24 * 60)
    return f"{minutes % 60} {minutes // 60 % 24} * * *"


def deploy(space: Workspace, cron: str | None, say: object = print) -> int:
    """Make pool, queues, deployments and automations; twice is harmless. Gives Prefect's exit code."""
    # The deployments' file takes these from the environment: one file serves every project.
    env = os.environ | {
        "CCDFLOW_PROJECT": str(space.project.directory),
        "CCDFLOW_MORNING": cron or morning(space),
    }
    _prefect(["work-pool", "create", POOL, "--type", "process"], env, quiet=True)
    for priority, queue in enumerate(QUEUES, 1):
        words = ["work-queue", "create", queue, "--pool", POOL, "--priority", str(priority)]
        _prefect(words, env, quiet=True)
    path = Path(str(files("ccdflow.deployments"))) / "prefect.yaml"
    return _prefect(["--no-prompt", "deploy", "--all", "--prefect-file", str(path)], env)


def _prefect(words: Sequence[str], env: dict[str, str], *, quiet: bool = False) -> int:
    """Run a command of Prefect and return its exit code; what is there already is no failure of the quiet ones."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *words], env=env, check=False, capture_output=quiet, text=True
    )
    if quiet and done.returncode and "already exists" not in done.stdout + done.stderr:
        raise RuntimeError(
            f"prefect {' '.join(words)}: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
        )
    return done.returncode


UNDER_WAY = ("RUNNING", "PENDING", "PAUSED", "CANCELLING")


def cancel_runs(space: Workspace, names: Sequence[str]) -> list[dict[str, str]]:
    """Cancel the project's flow runs of these names or ids, and tell them; without any, tell what is under way."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    wanted = {
        "flow_runs": {"state": {"type": {"any_": list(UNDER_WAY)}}, "parent_task_run_id": {"is_null_": True}}
    }
    with get_client(sync_client=True) as client:
        runs = client.request("POST", "/flow_runs/filter", json=wanted).raise_for_status().json()
        mine = [run for run in runs if run["parameters"].get("project") == str(space.project.directory)]
        chosen = [run for run in mine if not names or {run["name"], run["id"]} & set(names)]
        if names:
            for run in chosen:
                client.set_flow_run_state(run["id"], Cancelling(), force=False)
    return [
        {
            "name": run["name"],
            "state": "cancelling" if names else run["state_name"].lower(),
            "since": str(run["start_time"] or run["created"])[:19],
            "id": run["id"],
        }
        for run in chosen
    ]


def listen(space: Workspace, watch: Sequence[Path], *, quiet: bool) -> int:
    """Run the bridge until SIGINT or SIGTERM; gives how many events were sent."""
    from ccdflow.tasks.bridge import Bridge, to_server

    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    def say(sentence: str) -> None:
        if not quiet:
            sys.stderr.write(f"{sentence}\n")

    bridge = Bridge(space, to_server, watch, say)
    bridge.run(stop.is_set)
    return bridge.sent
