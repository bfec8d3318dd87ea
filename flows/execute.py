"""Jobs in order: each as soon as what it takes is there, as many at once as the machine has cores."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from ccdflow.cascade.jobs import Job
from ccdflow.tasks.reduce import failure, recipe_task


def task_runner() -> Any:
    """A runner with one thread for each core: recipes let go of the interpreter while they work on pixels."""
    return ThreadPoolTaskRunner(max_workers=os.cpu_count() or 1)


Finished = SimpleQueue[tuple[str, PrefectFuture[Any]]]
"""Where finished task runs report, with the keys of their jobs."""


@dataclass
class Outcome:
    """What became of the jobs: keys of those done and of those failed, and sentences for the failed."""

    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)


def execute(directory: str, jobs: Iterable[Job]) -> Outcome:
    """Run `jobs`; each is submitted once the jobs are done whose products it takes.

    A job whose parent failed is left undone: the next planning finds it another parent or says what is missing.
    """
    outcome = Outcome()
    todo = {job.key: job for job in jobs}
    lacks = {key: {one for one in job.parents if one in todo} for key, job in todo.items()}
    children: dict[str, list[str]] = {}
    for key, parents in lacks.items():
        for parent in parents:
            children.setdefault(parent, []).append(key)
    finished: Finished = SimpleQueue()
    running = [_submit(directory, todo[key], finished) for key, parents in lacks.items() if not parents]
    while running:
        key, future = finished.get()
        running.remove(key)
        if _note(directory, key, future, outcome):
            for child in children.get(key, ()):
                lacks[child].discard(key)
                if not lacks[child]:
                    running.append(_submit(directory, todo[child], finished))
    return outcome


def _submit(directory: str, job: Job, finished: Finished) -> str:
    future = recipe_task(directory, job).submit(directory, job.key)
    future.add_done_callback(lambda done: finished.put((job.key, done)))
    return job.key


def _note(directory: str, key: str, future: PrefectFuture[Any], outcome: Outcome) -> bool:
    """Note what became of a job; true if it is done."""
    future.wait()  # until then `state` asks the server, which may not have heard yet
    if future.state.is_completed():
        outcome.done.add(key)
        return True
    outcome.failed[key] = failure(directory, key) or str(future.state.message)
    return False
