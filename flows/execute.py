"""Jobs in order: each as soon as what it takes is there, as many at once as the machine has cores."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from ccdflow.cascade.planning.jobqueue import Order
from ccdflow.cascade.planning.jobs import Job
from ccdflow.recipes.kernels.threads import cores
from ccdflow.tasks.holding import Holding
from ccdflow.tasks.machine import job_queue
from ccdflow.tasks.memory import keep_memory
from ccdflow.tasks.processes.stopping import stoppable
from ccdflow.tasks.running import ELSEWHERE, done_keys, failure, job_title, recipe_task, whereabouts
from ccdflow.tasks.workspace import open_workspace

THREADS = cores()
"""Threads of a flow's task runner: one for each core, since recipes let go of the interpreter while they work."""

ELSEWHERE_LOOK_S = 0.3
"""Seconds between two looks at jobs that others do."""


def task_runner() -> Any:
    """Return a runner with a thread for each core."""
    return ThreadPoolTaskRunner(max_workers=THREADS)


Finished = SimpleQueue[tuple[str, PrefectFuture[Any]]]
"""Where finished task runs report, with the keys of their jobs."""


@dataclass
class Outcome:
    """What became of the jobs: keys of those done and of those failed, and sentences for the failed."""

    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)


def execute(
    directory: str,
    jobs: Iterable[Job],
    order: Order | None = None,
    may_go_on: Callable[[], bool] | None = None,
) -> Outcome:
    """Run jobs; each is submitted once the jobs are done whose products it takes, and there is room for it.

    A job whose parent failed is left undone: the next planning finds it another parent or says what is missing.
    What another worker does meanwhile is left to it, and waited for behind all else.

    Parameters
    ----------
    directory : str
        Directory of the project.
    jobs : iterable of Job
        As a plan gives them.
    order : Order, optional
        Which come first; without it, as the project says.
    may_go_on : callable, optional
        Once it says no, what runs is finished and nothing is begun. Without it, a project that is on hold is waited
        for.

    Returns
    -------
    Outcome
        What became of the jobs.
    """
    keep_memory()
    with stoppable():
        return _Execution(directory, list(jobs), order, may_go_on or Holding(directory).wait).run()


class _Execution:
    """The queue of jobs, those that were submitted, and those that others do."""

    def __init__(
        self, directory: str, jobs: Sequence[Job], order: Order | None, may_go_on: Callable[[], bool]
    ) -> None:
        self.directory, self.may_go_on = directory, may_go_on
        self.store = open_workspace(directory).project.store
        self.done = done_keys(directory, {job.key for job in jobs})
        self.queue = job_queue(directory, jobs, order)
        self.finished: Finished = SimpleQueue()
        self.outcome = Outcome()
        self.is_shared = False

    def run(self) -> Outcome:
        """Submit and wait until nothing runs, here or elsewhere, and nothing can."""
        self._submit()
        # Jobs in hand are always waited for; those that others do only as long as there is a sense in going on. Without
        # any of these it is waited for reports alone, without a look at the registry in between.
        while self.queue.running or (self.queue.aside and self.may_go_on()):
            try:
                key, future = self.finished.get(timeout=ELSEWHERE_LOOK_S if self.queue.aside else None)
            except Empty:
                self._look_elsewhere()
            else:
                self._note(key, future)
            self._submit()
        return self.outcome

    def _submit(self) -> None:
        """Keep some jobs waiting at the threads, not all: each takes memory from when it is submitted."""
        while self.may_go_on() and (job := self.queue.take()) is not None:
            if self.is_shared and self._is_taken(job.key):
                continue  # which has put it aside, or noted that it is done
            # What the registry calls done Prefect has on record, and gives back; else its record does not count.
            task = recipe_task(job.recipe, self.store, anew=job.key not in self.done)
            future = task.submit(self.directory, job.key, job_title(job))
            future.add_done_callback(partial(self._report, job.key))

    def _report(self, key: str, future: PrefectFuture[Any]) -> None:
        # Called in the thread of the task run: all else is done in the flow's own.
        self.finished.put((key, future))

    def _note(self, key: str, future: PrefectFuture[Any]) -> None:
        """Note what became of a job."""
        future.wait()  # until then `state` asks the server, which may not have heard yet
        _forget(future)
        if future.state.name == ELSEWHERE:
            # From now on it is asked before, so that others' jobs make no task runs here.
            self.is_shared = True
            self.queue.set_aside(key)
        elif future.state.is_completed():
            self._finish(key)
        elif not self._is_taken(key):
            # The registry knows better where only this worker, or Prefect's record, failed.
            reason = failure(self.directory, key)
            self._finish(key, reason if reason is None else reason or str(future.state.message))

    def _is_taken(self, key: str) -> bool:
        """Whether another worker does a job or has done it; then that is noted."""
        where = whereabouts(self.directory, [key]).get(key)
        if where == "elsewhere":
            self.queue.set_aside(key)
        elif where == "done":
            self._finish(key)
        return where in ("elsewhere", "done")

    def _look_elsewhere(self) -> None:
        """See what has become of the jobs that others do; a job whose worker is silent or dead is done here."""
        for key, where in whereabouts(self.directory, self.queue.aside).items():
            if where == "free":
                self.queue.bring_back(key)
            elif where == "done":
                self._finish(key)
            elif where == "failed":
                self._finish(key, failure(self.directory, key) or "it failed elsewhere")

    def _finish(self, key: str, problem: str | None = None) -> None:
        if problem is None:
            self.outcome.done.add(key)
        else:
            self.outcome.failed[key] = problem
        self.queue.finish(key, done=problem is None)


def _forget(future: PrefectFuture[Any]) -> None:
    """Let Prefect's flow run forget a task run that is over: a drain makes tens of thousands of them in a day."""
    # Of each it keeps a state, by which it would find what made an argument of another task, an event by which it
    # would cancel it, and the assets that it made (Prefect 3.9.1: 3, 2 and 0.5 kB). Our tasks take keys and make no
    # assets, and none is cancelled once it is over.
    context = FlowRunContext.get()
    if context is not None:
        context.run_results.clear()
        context.task_run_assets.clear()
        getattr(context.task_runner, "_cancel_events", {}).pop(future.task_run_id, None)
