"""One job as a Prefect task: claim, read, call one recipe, write, finish."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.states import Completed
from prefect.tasks import Task

from ccdflow.archive.digest import DamagedFrameError
from ccdflow.archive.registry.database import sentence, typed_sentence
from ccdflow.archive.registry.frames.checks import refuse_damaged_file
from ccdflow.archive.registry.frames.files import let_copy_take_over
from ccdflow.archive.registry.jobs.leases import LeaseLostError, Whereabouts, find_whereabouts, this_owner
from ccdflow.archive.registry.jobs.lifecycle import (
    Begun,
    begin_job,
    complete_job,
    give_up_job,
    job_record,
    put_back_job,
)
from ccdflow.archive.registry.jobs.logs import keep_log
from ccdflow.archive.registry.jobs.productchanges import Made
from ccdflow.archive.registry.jobs.records import JobRecord, done_among, find_job
from ccdflow.archive.store import RESULTS
from ccdflow.archive.storemark import StoreAwayError
from ccdflow.cascade.planning.jobs import Job
from ccdflow.recipes.core.recipe import Result
from ccdflow.recipes.kernels.threads import at_most
from ccdflow.tasks.external import run_external
from ccdflow.tasks.inputs import JobInputs, read_inputs
from ccdflow.tasks.leases import kept_alive
from ccdflow.tasks.machine import is_the_machines, refuse_full_store, refuse_too_large, threads_of
from ccdflow.tasks.outputs import store_result
from ccdflow.tasks.processes.children import TimeLimitError
from ccdflow.tasks.processes.functions import RecipeError, run_function
from ccdflow.tasks.processes.output import Kept
from ccdflow.tasks.processes.stopping import refuse_when_stopping
from ccdflow.tasks.productdoubts import product_doubts
from ccdflow.tasks.provenance.software import in_words, software
from ccdflow.tasks.workspace import Workspace, open_workspace

Record = dict[str, Any]
"""What a job's task gives back: its key, its state, and id, category, path and sha256 of each product."""


LONGEST_WORD = 68
"""Characters of a word in names and tags of task runs: as many as a card of a header holds."""
ELSEWHERE = "Elsewhere"
"""Name of the state of a task run that has left its job to another worker."""


def run_job(project: str, key: str, title: str = "") -> Record | State[Any]:
    """Do one job, unless it is done: claim it, read its inputs, call its recipe, write its products, finish.

    Parameters
    ----------
    project : str
        Directory of the project.
    key : str
        The job's key.
    title : str
        What the task run is called.

    Returns
    -------
    dict or State
        The registry's record of the job and its products. Where another worker does it, or has taken it over, the
        run ends at once in the state `ELSEWHERE`.

    Raises
    ------
    Exception
        What the recipe raises; the registry then holds the sentence, and the job is failed, or, where only the machine
        could not do it now (a full disk), planned as it was.
    """
    space = open_workspace(project)
    record = _do_or_find_done(space, key)
    if record is not None:
        return record
    job = space.registry.read(find_job, key)
    message = (
        f"{job.owner} does it" if job is not None and job.state == "running" else "another worker does it"
    )
    return Completed(name=ELSEWHERE, message=message, data=space.registry.read(job_record, key))


def _do_or_find_done(space: Workspace, key: str) -> Record | None:
    """Do the job if nobody else does; None where another works on it or has taken it over."""
    refuse_when_stopping()
    owner = this_owner()
    stages = {name: step.stage for name, step in space.cascade.tasks.items()}
    begun = space.registry.write(begin_job, key, owner, space.project.keep_alive, stages)
    # Done, in the hands of another, or not to be done at all: the row says which.
    if begun is None:
        return _done_by_another(space, key)
    _tag(begun.job)
    try:
        with kept_alive(space.registry, key, owner, space.project.keep_alive, stages):
            products, left_out = _do(space, begun)
        # The files are in the store; they count from when this transaction is committed, all of them or none.
        ids = space.registry.write(
            complete_job, begun, owner, products, stages, left_out, in_words(software())
        )
    except LeaseLostError:
        _tell_lost(space, begun)
        return None
    # Whatever it is, it is this job's: an exit that a recipe asks for must not end the run, nor leave the job running.
    except BaseException as error:
        if isinstance(error, DamagedFrameError):
            # The next round plans without that frame, or with a copy of its file.
            space.registry.write(refuse_damaged_file, str(error.path), error.reason)
            space.registry.write(let_copy_take_over, str(error.path))
        away = _store_away(space)
        reason = away or (sentence(error) if isinstance(error, Exception) else typed_sentence(error))
        # A full disk says nothing about the job: its frames wait, and no other calibration takes its place. Nor does a
        # file that is not found once the whole store is away.
        end = put_back_job if away or is_the_machines(error) else give_up_job
        if not space.registry.write(end, begun, owner, reason, stages):
            _tell_lost(space, begun, reason)
            return None
        if isinstance(error, Exception):
            raise
        raise RecipeError(reason) from error
    return _record(key, ids, products)


def _store_away(space: Workspace) -> str:
    """What is wrong with the store as a whole; empty where it is there."""
    try:
        space.find_store()
    except StoreAwayError as error:
        return str(error)
    return ""


def _tell_lost(space: Workspace, begun: Begun, reason: str = "") -> None:
    """Say that a job was taken over while this worker was stopped, cut off or too slow to give signs of life."""
    now = space.registry.read(find_job, begun.job.key)
    holder = f"{now.owner} has it ({now.state})" if now is not None and now.owner else "it was given back"
    get_run_logger().warning(
        f"lost job {begun.job.key[:8]} ({begun.job.step}) after more than {space.project.keep_alive:g} s without a "
        f"sign of life: {holder}; what was made of it here does not count"
        + (f" ({reason})" if reason else "")
    )


def _tag(job: JobRecord) -> None:
    """Tag the task run with night, camera, object and step."""
    # Tags that a run begins with are asked for at the server, one request for each run, since they may limit how many
    # run at once. These only describe, and go along with the run's next state.
    context = TaskRunContext.get()
    if context is not None:
        words = (job.night, job.camera, job.object, job.step)
        context.task_run.tags += [tag[:LONGEST_WORD] for tag in dict.fromkeys(words) if tag]


def _done_by_another(space: Workspace, key: str) -> Record | None:
    """The record of a job that can't be claimed; None while another works on it."""
    job = space.registry.read(find_job, key)
    if job is not None and job.state in ("incomplete", "refused"):
        raise ValueError(f"job {key[:8]} is {job.state}: {job.reason}")
    return space.registry.read(job_record, key) if job is not None and job.state == "done" else None


def _do(space: Workspace, begun: Begun) -> tuple[list[Made], dict[int, str]]:
    """Read, call the recipe, write; say which main inputs it has left out, and why."""
    job = begun.job
    refuse_too_large(space, job.step)
    space.claim_store()
    refuse_full_store(space)
    inputs = read_inputs(space, job)
    result = _called(space, job, inputs)
    doubted = replace(result, warnings=(*inputs.differences, *result.warnings))
    doubts = product_doubts(doubted, inputs.policies, job.compromises.splitlines())
    for line in (*map(str, doubts), *(left.sentence for left in result.left_out)):
        get_run_logger().warning(line)
    paths = dict(begun.outputs)
    # A worker that was killed may have left what it was writing.
    if job.attempts > 1:
        space.store.clean_job(job.key, paths.values())
    products = store_result(space, job, inputs, result, paths, doubts)
    return products, {left.position: left.reason for left in result.left_out}


def _called(space: Workspace, job: JobRecord, inputs: JobInputs) -> Result:
    """Call the recipe: ours in this process, one of others in its own, with its output kept."""
    recipe = space.recipes[job.recipe]
    values = {name: resolved["value"] for name, resolved in job.parameters.items()}
    own = space.cascade.recipes.get(job.recipe)
    step = space.cascade.tasks.get(job.step)
    cores = threads_of(space, job.step)
    is_limited = step is not None and step.time_limit is not None
    if space.project.executor == "stub" or (own is None and not is_limited):
        # The queue lets other jobs run on the cores that the cascade does not give to this step.
        with at_most(cores):
            return recipe.run(inputs.recipe_inputs, recipe.parameters.model_validate(values))
    limit, kept = _time_limit(space, job), Kept()
    try:
        if own is not None and own.is_external:
            return run_external(own, inputs.paths, values, limit, kept)
        named = "" if own is None else own.function or own.class_
        project = str(space.project.directory)
        try:
            return run_function(project, job.key, named, cores, limit, kept)
        except TimeLimitError as error:
            raise TimeLimitError(f"recipe {job.recipe!r} {error}") from None
    finally:
        space.registry.write(keep_log, job.key, job.attempts, kept.text)


def _time_limit(space: Workspace, job: JobRecord) -> float:
    """Seconds that a job may take: as its task says, else its recipe, else the project."""
    step, own = space.cascade.tasks.get(job.step), space.cascade.recipes.get(job.recipe)
    stated = (step and step.time_limit, own and own.time_limit)
    return next((limit for limit in stated if limit), space.project.time_limit)


def _record(key: str, ids: Sequence[int], products: Sequence[Made]) -> Record:
    """What the registry says of a job that was just finished, without asking it."""
    rows = [
        {"id": identity, "category": product.category, "path": product.path, "sha256": product.sha256}
        for identity, product in sorted(zip(ids, products, strict=True), key=lambda pair: pair[0])
    ]
    return {"key": key, "state": "done", "reason": "", "products": rows}


@cache
def recipe_task(recipe: str, store: Path, *, anew: bool) -> Task[[str, str, str], Any]:
    """Return the Prefect task that runs the jobs of a recipe, with the record of each kept in the store.

    Parameters
    ----------
    recipe : str
        Name of the recipe, which is also that of the task.
    store : Path
        Root of the store.
    anew : bool
        Whether records that Prefect has kept do not count, as of work whose product is gone or damaged.

    Returns
    -------
    Task
        Takes directory of the project, key and title of the job.
    """
    return Task(
        run_job,
        name=recipe,
        task_run_name="{title}",
        persist_result=True,
        result_serializer="json",
        result_storage=store / RESULTS,
        cache_policy=CacheKeyFnPolicy(cache_key_fn=_job_key),
        refresh_cache=anew,
    )


def _job_key(_context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """The cache key of a task run *is* the key of its job."""
    # Prefect's own keys digest the task's code and arguments: another version of us would then do all work again.
    return str(parameters["key"])


def job_title(job: Job) -> str:
    """Return the name of a job in the dashboard, like a line of an observing log.

    Parameters
    ----------
    job : Job
        The job.

    Returns
    -------
    str
        Camera, step, object, filter, start of the first exposure, and the beginning of the key.
    """
    frame = job.group.frames[0]
    object_ = frame.object if job.stage != "calibrate" else ""
    words = [frame.camera, job.step, object_, frame.filter, frame.obsdate[:19], job.key[:8]]
    return " ".join(word[:LONGEST_WORD] for word in words if word)


def done_keys(project: str, keys: Collection[str]) -> set[str]:
    """Return which jobs are done.

    Parameters
    ----------
    project : str
        Directory of the project.
    keys : collection of str
        Keys of jobs.

    Returns
    -------
    set of str
        Those of the keys whose jobs are done.
    """
    return open_workspace(project).registry.read(done_among, keys)


def whereabouts(project: str, keys: Collection[str]) -> dict[str, Whereabouts]:
    """Return which of these jobs are free, in the hands of another worker, done or failed.

    Parameters
    ----------
    project : str
        Directory of the project.
    keys : collection of str
        Keys of jobs.

    Returns
    -------
    dict of str to str
        By key; jobs that the registry does not know are left out.
    """
    space = open_workspace(project)
    return space.registry.read(find_whereabouts, keys, space.project.keep_alive)


def failure(project: str, key: str) -> str | None:
    """Return the sentence that says why a job failed.

    Parameters
    ----------
    project : str
        Directory of the project.
    key : str
        The job's key.

    Returns
    -------
    str or None
        Empty where the registry has none; None where the job is done after all.
    """
    job = open_workspace(project).registry.read(find_job, key)
    if job is not None and job.state == "done":
        return None
    return "" if job is None else job.reason
