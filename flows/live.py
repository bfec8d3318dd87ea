"""Near-live: what is due is done while frames come in; whatever was not woken is swept up."""

from prefect import flow

from ccdflow.cascade.jobs import Job
from ccdflow.flows.execute import execute, task_runner
from ccdflow.flows.nightly import without_heartbeat
from ccdflow.flows.server import wait_for_server
from ccdflow.flows.stages import run_name
from ccdflow.tasks.draining import Drain, only_drain
from ccdflow.tasks.planning import recover
from ccdflow.tasks.workspace import open_workspace


@flow(name="live", flow_run_name=run_name("live"), task_runner=task_runner())
def live(
    project: str, camera: str | None = None, linger: float = 120.0, max_age_days: float = 2.0
) -> dict[str, str]:
    """Do what is due, ask again until nothing is left, then wait for more; one drain at a time.

    Parameters
    ----------
    project : str
        Directory of the project.
    camera : str, optional
        Only CAMERA or TELESCOPE/CAMERA; without it, all.
    linger : float
        Seconds to wait for the next frame before the run ends; until then it needs no start-up.
    max_age_days : float
        Older frames are left to `nightly`.

    Returns
    -------
    dict
        Key of each job that failed or has to wait, and the sentence that says why; nothing where another drain is
        at work.
    """
    space = open_workspace(project)
    with without_heartbeat(), only_drain(space, camera) as mine:
        if not mine:
            return {}
        recover(project)

        def do(jobs: list[Job]) -> dict[str, str]:
            return execute(project, jobs).failed

        drain = Drain(space, do, camera, max_age_days)
        drain.run(linger)
    wait_for_server()
    return drain.problems


@flow(name="sweep", flow_run_name=run_name("sweep"), task_runner=task_runner())
def sweep(project: str, max_age_days: float = 2.0) -> dict[str, str]:
    """Do what is due though no event came, and end; nothing where a drain is at work."""
    return live.fn(project, None, 0.0, max_age_days)
