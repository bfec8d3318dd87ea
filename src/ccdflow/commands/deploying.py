"""`ccdflow deploy` and `ccdflow listen`: the work of Prefect's own commands, in one go."""

import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from httpx import HTTPStatusError

from ccdflow.tasks.nightlog import site_longitude
from ccdflow.tasks.workspace import Workspace

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from ccdflow.commands.onserver import Deployed

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


def deploy(space: Workspace, cron: str | None, *, reset: bool = False) -> "Deployed":
    """Make known to the server: pool, queues, deployments, automations; what people have changed there stays.

    Parameters
    ----------
    space : Workspace
        The project.
    cron : str or None
        Cron line in UTC of `nightly`; None for the morning at the site.
    reset : bool
        Whether what people have changed is made as ccdflow has it.

    Returns
    -------
    Deployed
        What was made, and what was left.
    """
    from prefect.client.orchestration import get_client
    from prefect.events.schemas.automations import AutomationCore

    from ccdflow.commands.onserver import Deploying, shipped_files

    # The deployments' file takes these as Prefect's own command takes them from the environment: one file for all.
    variables = {
        "CCDFLOW_PROJECT": str(space.project.directory),
        "CCDFLOW_MORNING": cron or morning(space),
    }
    deployments, automations = shipped_files(variables)
    with get_client(sync_client=True) as client:
        _make_pool(client)
        work = Deploying(client, reset=reset, wanted=["nightly"] if cron else [])
        for deployment in deployments:
            work.deployment(deployment)
        for automation in automations:
            work.automation(AutomationCore.model_validate(automation))
        work.keep_record()
    return work.result


def _make_pool(client: "SyncPrefectClient") -> None:
    """Make the work pool and its queues, where they are not there."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
    for priority, name in enumerate(QUEUES, 1):
        body, place = {"name": name, "priority": priority}, {"work_pool_name": POOL}
        try:
            client.request("POST", "/work_pools/{work_pool_name}/queues", path_params=place, json=body)
        except HTTPStatusError as error:
            if error.response.status_code != HTTPStatus.CONFLICT:
                raise


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
    from ccdflow.tasks.bridge import Bridge, ToServer

    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    def say(sentence: str) -> None:
        if not quiet:
            sys.stderr.write(f"{sentence}\n")

    with ToServer() as send:
        bridge = Bridge(space, send, watch, say)
        bridge.run(stop.is_set)
    return bridge.sent
