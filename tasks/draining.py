"""What is due on a stream: rows that wait to be read, jobs that can be done."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

from sqlalchemy.exc import SQLAlchemyError

from ccdflow.archive.registry.jobs import JobFilter, find_jobs
from ccdflow.archive.registry.leases import leave_drain, live_drains, stay_drain, take_drain, this_owner
from ccdflow.archive.registry.stages import unsettled_since
from ccdflow.cascade.planning.jobqueue import first_jobs, urgent_jobs
from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.planning.planner import Plan, Request
from ccdflow.cascade.planning.reach import is_sure, levels
from ccdflow.cascade.records import JOB_STAGES
from ccdflow.tasks.bridge import stream_name
from ccdflow.tasks.ingest import IngestReport, read_pending
from ccdflow.tasks.planning import for_good, planned, window
from ccdflow.tasks.rounds import Round
from ccdflow.tasks.workspace import Workspace

WHOLE = 30.0
"""Seconds after which all that is not too old is looked at again, though only what came last seems to matter."""
BATCH = 40
"""Jobs that are done before it is asked again what is due."""
PATIENCE = 60.0
"""Seconds after which a row is refused whose file is not there, or not whole."""
BEATS = 4
"""Signs of life within the length of a lease."""
MOST_ATTEMPTS = 3
"""So often a job is begun by drains before it is left to people, and to the night."""
AGAIN = 10.0
"""Seconds after which a job is tried again that the machine could not do, as on a full disk."""
GAP_LOOK = 10.0
"""Seconds after which sequences are looked at though nothing came: a gap may have passed."""


def live_request(camera: str | None, max_age_days: float) -> Request:
    """All of a stream that is not too old, with what was made kept as it is; the clock is now."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return Request(
        camera=camera,
        since=(now - timedelta(days=max_age_days)).isoformat(timespec="seconds"),
        now=now.isoformat(timespec="seconds"),
        late="keep",
    )


class DrainLease:
    """The right to drain a stream, which another gets where this process gives no sign of life for too long."""

    def __init__(self, space: Workspace, name: str, owner: str) -> None:
        self.space, self.name, self.owner = space, name, owner
        self.lost = ""

    def is_held(self) -> bool:
        """Give a sign of life; false once another has had the stream, even if that has left it since."""
        if not self.lost and not self.space.registry.write(stay_drain, self.name, self.owner):
            now = self.space.registry.read(live_drains, self.space.project.keep_alive).get(
                self.name, "nobody"
            )
            silent = f"after more than {self.space.project.keep_alive:g} s without a sign of life"
            self.lost = f"lost the drain {self.name!r} {silent}: {now} has it; this one ends"
        return not self.lost


@contextmanager
def only_drain(space: Workspace, camera: str | None) -> Iterator[DrainLease | None]:
    """Be the only one who drains a stream; None where another does."""
    name, owner, lease = stream_name(camera), this_owner(), space.project.keep_alive
    if not space.registry.write(take_drain, name, owner, lease):
        yield None
        return
    stop, mine = Event(), DrainLease(space, name, owner)

    def beat() -> None:
        while not stop.wait(lease / BEATS) and not mine.lost:
            with suppress(SQLAlchemyError):  # the next one comes before the lease ends
                mine.is_held()

    thread = Thread(target=beat, name="drain", daemon=True)
    thread.start()
    try:
        yield mine
    finally:
        stop.set()
        thread.join()
        space.registry.write(leave_drain, name, owner)


class Drain:
    """Rounds of reading, planning and doing, until nothing is left; then waiting for more.

    Parameters
    ----------
    space : Workspace
        The project.
    do : callable
        Does jobs; gives the sentences of what failed, by key.
    camera : str or None
        CAMERA or TELESCOPE/CAMERA; None for all.
    max_age_days : float
        Older frames are left to ``nightly``.
    may_go_on : callable
        Asked before each round; once it says no, the drain ends.
    """

    def __init__(
        self,
        space: Workspace,
        do: Callable[[list[Job]], dict[str, str]],
        camera: str | None = None,
        max_age_days: float = 2.0,
        may_go_on: Callable[[], bool] = lambda: True,
    ) -> None:
        self.may_go_on = may_go_on
        self.space, self.do, self.camera, self.max_age_days = space, do, camera, max_age_days
        tried = space.registry.read(find_jobs, JobFilter(states=("failed",)))
        self.given_up = {job.key for job in tried if job.attempts >= MOST_ATTEMPTS}
        self.failed: dict[str, str] = {}
        self.held: dict[str, tuple[float, str]] = {}
        self.done = 0
        self._looked = -WHOLE  # when all was looked at last
        self._unsure = True  # whether anything has happened since
        self._level = 0

    def run(self, linger: float) -> None:
        """Do what is due until nothing has come for `linger` seconds, and nothing is left; or it may not go on."""
        read_pending(self.space, IngestReport(), PATIENCE)  # on hold too
        with self.space.registry.ear() as ear:
            last = time.monotonic()
            while self.may_go_on():
                if self.round():
                    last = time.monotonic()
                    continue
                left = last + linger - time.monotonic()
                if left <= 0 and not self._unsure:
                    return
                if left <= 0:
                    self._looked = -WHOLE
                elif ear.wait(min(left, GAP_LOOK)):
                    time.sleep(0.05)  # rows that are inserted together are done together

    @property
    def problems(self) -> dict[str, str]:
        """Key of each job that could not be done, and the sentence that says why."""
        return self.failed | {key: reason for key, (_, reason) in self.held.items()}

    def round(self) -> int:
        """Read, plan and do once; gives how many rows there were, and jobs that came to an end."""
        count = read_pending(self.space, IngestReport(), PATIENCE)
        self._unsure = self._unsure or count > 0
        request = live_request(self.camera, self.max_age_days)
        whole = self._unsure and time.monotonic() - self._looked >= WHOLE
        if whole:
            self._looked, self._unsure = time.monotonic(), False
        work = Round(
            self.space,
            plan=lambda: self._planned(request if whole else self._of_the_last(request)),
            do=self._do,
            choose=self._first,
            whole=whole,
            grouping=request,
        ).run(self._in_vain())
        later = self.held.keys() & work.failed.keys()
        return count + len(work.jobs) - len(later)

    def _first(self, jobs: list[Job]) -> list[Job]:
        """So many that what comes meanwhile, and is urgent, need not wait for long."""
        return first_jobs(jobs, urgent_jobs(jobs, self.space.project.urgent), BATCH)

    def _in_vain(self) -> set[str]:
        """Jobs that are not tried now: given up, failed, or put off for a while."""
        now = time.monotonic()
        due = {key for key, (later, _) in self.held.items() if later <= now}
        self.held = {key: one for key, one in self.held.items() if key not in due}
        self._unsure = self._unsure or bool(due)
        return self.given_up | self.problems.keys()

    def _do(self, jobs: list[Job]) -> dict[str, str]:
        """Do jobs; those that have not failed for good are tried again in a while."""
        if not jobs:
            return {}
        self._unsure = True
        failed = self.do(jobs)
        lost = for_good(self.space, failed)
        self.failed |= {key: failed[key] for key in lost}
        later = time.monotonic() + AGAIN
        self.held |= {key: (later, reason) for key, reason in failed.items() if key not in lost}
        self.done += len(jobs) - len(failed)
        return failed

    def _of_the_last(self, request: Request) -> Request | None:
        """The request, from the oldest frame on that has not come to its end; None where all have."""
        cascade = self.space.cascade
        targets = sorted(
            cascade.targets(request.targets), key=lambda one: JOB_STAGES.index(cascade.tasks[one].stage)
        )
        ends = {
            cascade.sources[cascade.main_source(one)].frame_class: cascade.tasks[one].stage for one in targets
        }
        since = self.space.registry.read(unsettled_since, ends, request.since or "")
        return None if since is None else request.model_copy(update={"since": since})

    def _planned(self, request: Request | None) -> Plan | None:
        """The plan, on the fewest nights of the registry that give the same as all of them; None of nothing."""
        if request is None:
            return None
        known, failed = levels(self.space.cascade), self.given_up | self.failed.keys()
        for level in known[self._level :]:
            found = planned(self.space, request, failed, window(self.space.cascade, request, level))
            self._level = known.index(level)
            last = level == known[-1] and all(job.state != "incomplete" for job in found.jobs)
            if last or all(is_sure(job, level) for job in found.jobs):
                return found
        return planned(self.space, request, failed)  # which tells more of what is missing
