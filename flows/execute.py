"""Jobs in order: each as soon as what it takes is there, as many at once as the machine has cores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any

from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from ccdflow.cascade.jobqueue import Order
from ccdflow.cascade.jobs import Job
from ccdflow.recipes.threads import cores
from ccdflow.tasks.machine import job_queue
from ccdflow.tasks.memory import keep_memory
from ccdflow.tasks.reduce import done_keys, failure, recipe_task

THREADS = cores()
"""Threads of a flow's task runner: one for each core, since recipes let go of the interpreter while they work."""


def task_runner() -> Any:
    """A runner with a thread for each core."""
    return ThreadPoolTaskRunner(max_workers=THREADS)


Finished = SimpleQueue[tuple[str, PrefectFuture[Any]]]
"""Where finished task runs report, with the keys of their jobs."""


@dataclass
class Outcome:
    """What became of the jobs: keys of those done and of those failed, and sentences for the failed."""

    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)


def execute(directory: str, jobs: Iterable[Job], order: Order | None = None) -> Outcome:
    """Run `jobs`; each is submitted once the jobs are done whose products it takes, and there is room for it.

    A job whose parent failed is left undone: the next planning finds it another parent or says what is missing.
    """
    keep_memory()
    return _Execution(directory, list(jobs), order).run()


class _Execution:
    """The queue of jobs, and those that were submitted."""

    def __init__(self, directory: str, jobs: Sequence[Job], order: Order | None) -> None:
        self.directory = directory
        self.done = done_keys(directory) & {job.key for job in jobs}
        self.queue = job_queue(directory, jobs, order)
        self.finished: Finished = SimpleQueue()
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Submit and wait until nothing runs and nothing can."""
        self._submit()
        while self.queue.running:
            key, future = self.finished.get()
            self.queue.finish(key, done=_note(self.directory, key, future, self.outcome))
            self._submit()
        return self.outcome

    def _submit(self) -> None:
        """Keep some jobs waiting at the threads, not all: each takes memory from when it is submitted."""
        while (job := self.queue.take()) is not None:
            future = recipe_task(self.directory, job, self.done).submit(self.directory, job.key)
            future.add_done_callback(partial(self._report, job.key))

    def _report(self, key: str, future: PrefectFuture[Any]) -> None:
        self.finished.put((key, future))


def _note(directory: str, key: str, future: PrefectFuture[Any], outcome: Outcome) -> bool:
    """Note what became of a job; true if it is done.

    Where Prefect could not keep its record of it, as on a full disk, the registry still knows.
    """
    future.wait()  # until then `state` asks the server, which may not have heard yet
    reason = None if future.state.is_completed() else failure(directory, key)
    if reason is None:
        outcome.done.add(key)
        return True
    outcome.failed[key] = reason or str(future.state.message)
    return False
