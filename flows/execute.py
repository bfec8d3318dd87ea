"""Jobs in order: each as soon as what it takes is there, as many at once as the machine has cores."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from ccdflow.cascade.jobs import Job
from ccdflow.tasks.reduce import recipe_task


def task_runner() -> Any:
    """A runner with one thread for each core: recipes let go of the interpreter while they work on pixels."""
    return ThreadPoolTaskRunner(max_workers=os.cpu_count() or 1)


@dataclass
class Outcome:
    """What became of the jobs: keys of those done and of those failed, and sentences for the failed."""

    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)


def execute(directory: str, jobs: Iterable[Job]) -> Outcome:
    """Run `jobs`, given in an order in which each comes after those it takes products from.

    A job whose parent failed is left undone: the next planning finds it another parent or says what is missing.
    """
    outcome = Outcome()
    waiting = {job.key: job for job in jobs}
    finished: SimpleQueue[tuple[str, PrefectFuture[Any]]] = SimpleQueue()
    running: set[str] = set()
    while waiting or running:
        ready = [
            job
            for job in waiting.values()
            if not any(one in waiting or one in running for one in job.parents)
        ]
        for job in ready:
            del waiting[job.key]
            if outcome.failed.keys().isdisjoint(job.parents):
                running.add(job.key)
                _submit(directory, job, finished)
        if running:
            key, future = finished.get()
            running.remove(key)
            _note(key, future, outcome)
    return outcome


def _submit(directory: str, job: Job, finished: "SimpleQueue[tuple[str, PrefectFuture[Any]]]") -> None:
    future = recipe_task(directory, job).submit(directory, job.key)
    future.add_done_callback(lambda done: finished.put((job.key, done)))


def _note(key: str, future: PrefectFuture[Any], outcome: Outcome) -> None:
    future.wait()  # until then `state` asks the server, which may not have heard yet
    state = future.state
    if state.is_completed():
        outcome.done.add(key)
    else:
        outcome.failed[key] = state.message or state.name or state.type.value
