"""One job as a Prefect task: claim, read, call one recipe, write, finish."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prefect import get_run_logger
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.context import TaskRunContext
from prefect.tasks import Task

from ccdflow.archive.jobs import LeaseLostError
from ccdflow.archive.outbox import StageState
from ccdflow.archive.owners import this_owner
from ccdflow.archive.products import Made
from ccdflow.cascade.jobs import Job
from ccdflow.recipes.catalogue import RECIPES
from ccdflow.tasks.inputs import read_inputs
from ccdflow.tasks.outputs import store_result
from ccdflow.tasks.workspace import Workspace, open_workspace

Record = dict[str, Any]
"""What a job's task gives back: its key, and id, path and sha256 of each product."""

RESULTS = ".results"
"""Folder in the store where Prefect keeps the records, so that all workers share them."""


def job_key_of(_context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """The cache key of a task run *is* the key of its job."""
    return str(parameters["key"])


def reduce_job(project: str, key: str) -> Record:
    """Do one job, unless it is done: claim it, read its inputs, call its recipe, write its products, finish.

    Raises
    ------
    Exception
        What the recipe raises; the registry then holds the sentence, and the job is failed.
    """
    space = open_workspace(project)
    while not _do_or_find_done(space, key):
        time.sleep(0.2)
    return space.registry.record(key)


def _do_or_find_done(space: Workspace, key: str) -> bool:
    """Do the job if nobody else does; false while another works on it."""
    owner = this_owner()
    if space.registry.claim(key, owner, space.project.keep_alive) is None:
        job = space.registry.job(key)
        if job is not None and job.state in ("incomplete", "refused"):
            raise ValueError(f"job {key[:8]} is {job.state}: {job.reason}")
        return job is not None and job.state == "done"
    try:
        with _kept_alive(space, key, owner):
            made = _do(space, key)
        space.registry.finish(key, owner, made)
    except LeaseLostError:
        return False
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        space.registry.fail(key, owner, reason)
        _mark(space, key, "failed", reason)
        raise
    _mark(space, key, "done", "")
    return True


def _do(space: Workspace, key: str) -> list[Made]:
    """Read, call the recipe, write."""
    job = space.registry.job(key)
    if job is None:
        raise KeyError(f"no job {key!r} in the registry")
    _mark(space, key, "running", "")
    recipe = RECIPES[job.recipe]
    inputs = read_inputs(space, job)
    values = {name: one["value"] for name, one in job.parameters.items()}
    result = recipe.run(inputs.recipe_inputs, recipe.parameters.model_validate(values))
    for sentence in result.warnings:
        get_run_logger().warning(sentence)
    space.store.clean_job(key, [one.path for one in space.registry.outputs_of(key)])
    return store_result(space, job, inputs, result)


def _mark(space: Workspace, key: str, state: str, reason: str) -> None:
    """Write the state of the job's frames."""
    job = space.registry.job(key)
    if job is not None:
        stage = space.cascade.tasks[job.step].stage if job.step in space.cascade.tasks else job.step
        frames = space.registry.frames_of_job(key)
        space.registry.set_frame_stage(*(StageState(frame, stage, state, reason) for frame in frames))


@contextmanager
def _kept_alive(space: Workspace, key: str, owner: str) -> Iterator[None]:
    """Renew the lease while the job is worked on."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(space.project.keep_alive / 4):
            space.registry.heartbeat(key, owner)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


RECIPE_TASKS: Mapping[str, Task[[str, str], Record]] = {
    name: Task(
        reduce_job,
        name=name,
        persist_result=True,
        result_serializer="json",
        cache_policy=CacheKeyFnPolicy(cache_key_fn=job_key_of),
    )
    for name in RECIPES
}


def recipe_task(project: str, job: Job) -> Task[[str, str], Record]:
    """The task of a job's recipe, named and tagged for the dashboard.

    A record of work whose product is gone or damaged does not count: the task is then run again.
    """
    space = open_workspace(project)
    frame = job.group.frames[0]
    object_ = frame.object if job.stage != "calibrate" else ""
    words = [frame.camera, job.step, object_, frame.filter, frame.obsdate[:19]]
    known = space.registry.job(job.key)
    return RECIPE_TASKS[job.recipe].with_options(
        task_run_name=" ".join(word for word in words if word) + f" {job.key[:8]}",
        tags=[tag for tag in (frame.night, frame.camera, frame.object, job.step) if tag],
        result_storage=space.project.store / RESULTS,
        refresh_cache=known is None or known.state != "done",
    )


def failure(project: str, key: str) -> str:
    """The sentence that says why a job failed; empty where the registry has none."""
    job = open_workspace(project).registry.job(key)
    return "" if job is None else job.reason
