"""Jobs in order: each as soon as what it takes is there, as many at once as the machine has cores."""

import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any

from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from ccdflow.cascade.jobs import Job
from ccdflow.tasks.memory import keep_memory
from ccdflow.tasks.reduce import done_keys, failure, recipe_task

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Jobs at once: one for each core, since recipes let go of the interpreter while they work on pixels."""

AHEAD = 4
"""Jobs that have been submitted, for each thread."""


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


def execute(directory: str, jobs: Iterable[Job]) -> Outcome:
    """Run `jobs`; each is submitted once the jobs are done whose products it takes.

    A job whose parent failed is left undone: the next planning finds it another parent or says what is missing.
    """
    keep_memory()
    todo = {job.key: job for job in jobs}
    return _Execution(directory, todo).run()


class _Execution:
    """Jobs that wait for others, jobs that could run, and those that do."""

    def __init__(self, directory: str, todo: Mapping[str, Job]) -> None:
        self.directory, self.todo = directory, todo
        self.done = done_keys(directory) & todo.keys()
        self.lacks = {key: {one for one in job.parents if one in todo} for key, job in todo.items()}
        self.children: dict[str, list[str]] = {}
        for key, parents in self.lacks.items():
            for parent in parents:
                self.children.setdefault(parent, []).append(key)
        self.ready = deque(key for key, parents in self.lacks.items() if not parents)
        self.running: set[str] = set()
        self.finished: Finished = SimpleQueue()
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Submit and wait until nothing runs and nothing can."""
        self._submit()
        while self.running:
            key, future = self.finished.get()
            self.running.discard(key)
            if _note(self.directory, key, future, self.outcome):
                self._release(key)
            self._submit()
        return self.outcome

    def _submit(self) -> None:
        """Keep some jobs waiting at the threads, not all: each takes memory from when it is submitted."""
        while self.ready and len(self.running) < AHEAD * THREADS:
            key = self.ready.popleft()
            self.running.add(key)
            task = recipe_task(self.directory, self.todo[key], self.done)
            future = task.submit(self.directory, key)
            future.add_done_callback(partial(self._report, key))

    def _report(self, key: str, future: PrefectFuture[Any]) -> None:
        self.finished.put((key, future))

    def _release(self, key: str) -> None:
        """What only waited for this job can run, and before what could run already: its inputs were just written."""
        for child in self.children.get(key, ()):
            self.lacks[child].discard(key)
            if not self.lacks[child]:
                self.ready.appendleft(child)


def _note(directory: str, key: str, future: PrefectFuture[Any], outcome: Outcome) -> bool:
    """Note what became of a job; true if it is done."""
    future.wait()  # until then `state` asks the server, which may not have heard yet
    if future.state.is_completed():
        outcome.done.add(key)
        return True
    outcome.failed[key] = failure(directory, key) or str(future.state.message)
    return False
