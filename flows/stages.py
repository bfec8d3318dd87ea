"""One flow for each stage of a frame's life: ingest, calibrate, science, group, stack."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from prefect import flow, get_run_logger, runtime

from ccdflow.archive.registry.jobs.records import tried_since
from ccdflow.cascade.plain import no_path_in_words
from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.records import JOB_STAGES, Stage
from ccdflow.flows.execute import execute, task_runner
from ccdflow.flows.forms import form
from ccdflow.tasks.grouping import group_frames
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.pages.markdown import LISTED_ROWS, shortened
from ccdflow.tasks.planning import planned_again
from ccdflow.tasks.rounds import Round
from ccdflow.tasks.workspace import open_workspace


def run_name(stage: str) -> Callable[[], str]:
    """Return what names a flow run: its stage, the project, and the night and camera that it was asked for.

    Parameters
    ----------
    stage : str
        What the flow does.

    Returns
    -------
    callable
        Asked by Prefect within the run, whose parameters it looks at.
    """

    def name() -> str:
        parameters = runtime.flow_run.parameters
        # Night and camera are parameters of their own, or stand in a request.
        request = Request.model_validate(parameters.get("request") or {})
        camera = parameters.get("camera") or request.camera
        night = parameters.get("night") or request.night
        words = [stage, Path(parameters["project"]).name, camera, night]
        return " ".join(word for word in words if word)

    return name


def timed(request: Request | None) -> Request:
    """Return the request, or one for everything, with the clock of now where it has none.

    Parameters
    ----------
    request : Request or None
        What was asked for.

    Returns
    -------
    Request
        Its `now` is set: all stages of a night see the same sequences as closed.
    """
    wanted = request or Request()
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    return wanted if wanted.now else wanted.model_copy(update={"now": now})


@flow(name="ingest", flow_run_name=run_name("ingest"))
@form
def ingest(project: str, paths: list[str]) -> dict[str, int]:
    """Register the frames of files and folders; gives how many were new, known, duplicate, ...

    Parameters
    ----------
    project : str
        Directory of the project.
    paths : list of str
        Files and folders.
    """
    for path in paths:
        # Of an empty text a path object would make the folder in which the worker runs.
        if not path:
            raise ValueError(no_path_in_words(path))
    report = ingest_files(open_workspace(project), [Path(path) for path in paths])
    problems = [shortened(problem) for problem in report.problems]
    more = len(problems) - LISTED_ROWS
    left = [f"... and {more} more; 'ccdflow list frames' tells them all"] if more > 0 else []
    for line in [*problems[:LISTED_ROWS], *left]:
        get_run_logger().warning(line)
    return dict(report.counts)


@flow(name="calibrate", flow_run_name=run_name("calibrate"), task_runner=task_runner())
@form
def calibrate(project: str, request: Request | None = None, since: str | None = None) -> dict[str, str]:
    """Make the master calibrations that the request's targets need.

    Parameters
    ----------
    project : str
        Directory of the project.
    request : Request, optional
        Targets, parameters and selection; without it, everything.
    since : str, optional
        ISO time, UTC: jobs that were tried in vain since then are not tried again.
    """
    return _run(project, timed(request), "calibrate", since)


@flow(name="science", flow_run_name=run_name("science"), task_runner=task_runner())
@form
def science(project: str, request: Request | None = None, since: str | None = None) -> dict[str, str]:
    """Make the calibrated frames that the request's targets need.

    Parameters
    ----------
    project : str
        Directory of the project.
    request : Request, optional
        Targets, parameters and selection; without it, everything.
    since : str, optional
        ISO time, UTC: jobs that were tried in vain since then are not tried again.
    """
    return _run(project, timed(request), "science", since)


@flow(name="group", flow_run_name=run_name("group"))
@form
def group(project: str, request: Request | None = None) -> dict[str, int]:
    """Cut the stream of frames into sets.

    Parameters
    ----------
    project : str
        Directory of the project.
    request : Request, optional
        Targets, parameters and selection; without it, everything.
    """
    return group_frames(project, timed(request))


@flow(name="stack", flow_run_name=run_name("stack"), task_runner=task_runner())
@form
def stack(project: str, request: Request | None = None, since: str | None = None) -> dict[str, str]:
    """Make the stacks that the request asks for.

    Parameters
    ----------
    project : str
        Directory of the project.
    request : Request, optional
        Targets, parameters and selection; without it, everything.
    since : str, optional
        ISO time, UTC: jobs that were tried in vain since then are not tried again.
    """
    return _run(project, timed(request), "stack", since)


def of_stages(jobs: Sequence[Job], stages: Collection[str]) -> list[Job]:
    """Return the jobs of some stages that need no job of another stage which is yet to be done.

    Parameters
    ----------
    jobs : sequence of Job
        What is to be done, each job behind those whose products it takes.
    stages : collection of str
        Stages.

    Returns
    -------
    list of Job
        In the same order.
    """
    # A cascade may make calibrations of calibrated frames (a flat of the night's sky): these are left to a later stage.
    left: set[str] = set()
    chosen = []
    for job in jobs:
        if job.stage in stages and left.isdisjoint(job.parents):
            chosen.append(job)
        else:
            left.add(job.key)
    return chosen


def _run(project: str, request: Request, last: Stage, since: str | None) -> dict[str, str]:
    """Plan and run until nothing is left up to a stage; gives the sentences of what failed, by job key."""
    # What failed before is asked of the registry, and not a parameter: it grows with the night, and of more than
    # 512 kB of parameters Prefect makes no run.
    tried = set() if since is None else open_workspace(project).registry.read(tried_since, since)
    failed: dict[str, str] = {}
    stages = JOB_STAGES[: JOB_STAGES.index(last) + 1]
    # A stage does what an earlier one has left: a calibration that fails is replaced by the next best, which may still
    # have to be made. Where nothing failed, nothing is left.
    while True:
        space = open_workspace(project)
        work = Round(
            space,
            plan=partial(planned_again, space, request, tried),
            do=lambda jobs: execute(project, jobs, request.order).failed,
            choose=lambda jobs: of_stages(jobs, stages),
            # Of some files of a night alone, what else is missing of it is not known.
            extent="beginning" if request.paths or request.frames is not None else "nights",
        ).run(tried)
        failed |= work.failed
        tried = tried | work.failed.keys()
        if not work.failed:
            return failed
