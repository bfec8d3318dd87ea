"""Near-live: what is due is done while frames come in; whatever was not woken is swept up."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from prefect import flow, get_run_logger, runtime

from ccdflow.archive.storemark import StoreAwayError
from ccdflow.cascade.planning.jobs import Job
from ccdflow.flows.dashboard import Publisher, publishing
from ccdflow.flows.execute import execute, task_runner
from ccdflow.flows.forms import form
from ccdflow.flows.nightly import without_heartbeat
from ccdflow.flows.server import answers, wait_for_server
from ccdflow.tasks.draining import Drain, only_drain
from ccdflow.tasks.holding import Holding
from ccdflow.tasks.nightlog import tonight
from ccdflow.tasks.rounds import Do
from ccdflow.tasks.workspace import open_workspace


def tonights_run_name(work: str) -> Callable[[], str]:
    """Return what names a flow run: what it does, for which camera, else which project, and the night of now.

    Parameters
    ----------
    work : str
        What the flow does.

    Returns
    -------
    callable
        Asked by Prefect within the run, whose parameters it looks at.
    """

    def name() -> str:
        parameters = runtime.flow_run.parameters
        where = parameters.get("camera") or Path(parameters["project"]).name
        return f"{work} {where} {tonight(open_workspace(parameters['project']))}"

    return name


@flow(name="live", flow_run_name=tonights_run_name("live"), task_runner=task_runner())
@form
def live(
    project: str, camera: str | None = None, linger: float = 120.0, max_age_days: float = 2.0
) -> dict[str, str]:
    """Do what is due, ask again until nothing is left, then wait for more; one drain at a time.

    While the store is not there it only registers frames, says so once, and waits.

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
    space, held = open_workspace(project), Holding(project)
    with without_heartbeat(), publishing(project) as publisher:
        with only_drain(space, camera) as mine:
            if mine is None:
                get_run_logger().info("another drain is at work")
                return {}
            with suppress(StoreAwayError):  # the drain says so, and waits
                space.find_store()
                space.recover()
            # Asked before every job: on hold, or once the lease is lost, what runs is finished and nothing is begun.
            do = _doing(project, publisher, lambda: not mine.lost and not held())
            say = get_run_logger().info
            drain = Drain(space, do, camera, max_age_days, lambda: not held() and mine.is_held(), say)
            drain.run(linger)
            # While the server is away nothing could start another one for frames that come: this one goes on.
            while linger and not mine.lost and not held() and not answers():
                drain.run(linger)
        # Outside the lease: while this run waits for its server, another drain may work.
        wait_for_server()
        if ended := mine.lost or held():
            get_run_logger().warning(ended)
        return drain.problems


def _doing(project: str, publisher: Publisher | None, may_go_on: Callable[[], bool]) -> Do:
    """Return what does jobs, and lets the pages of their nights follow."""

    def do(jobs: list[Job]) -> dict[str, str]:
        outcome = execute(project, jobs, may_go_on=may_go_on)
        if publisher is not None:
            stacks = [job.key for job in jobs if job.stage == "stack" and job.key in outcome.done]
            publisher.tell({job.group.text("night") for job in jobs}, stacks)
        return outcome.failed

    return do


@flow(name="sweep", flow_run_name=tonights_run_name("sweep"), task_runner=task_runner())
@form
def sweep(project: str, max_age_days: float = 2.0) -> dict[str, str]:
    """Do what is due though no event came, and end; nothing where a drain is at work.

    Parameters
    ----------
    project : str
        Directory of the project.
    max_age_days : float
        Older frames are left to `nightly`.
    """
    # As a plain function: with a run of its own there would be two on the dashboard for one piece of work.
    return live.fn(project, None, 0.0, max_age_days)
