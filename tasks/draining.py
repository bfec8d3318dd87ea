"""What is due on a stream: rows that wait to be read, jobs that can be done."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

from sqlalchemy.exc import SQLAlchemyError

from ccdflow.archive.jobs import JobFilter
from ccdflow.archive.owners import this_owner
from ccdflow.cascade.jobs import Job
from ccdflow.cascade.plan import Request
from ccdflow.tasks.bridge import stream_name
from ccdflow.tasks.changes import mark_superseded
from ccdflow.tasks.grouping import group_sets
from ccdflow.tasks.ingest import IngestReport, read_pending
from ccdflow.tasks.planning import for_good, link_sets, planned, to_do, write_plan
from ccdflow.tasks.workspace import Workspace

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


@contextmanager
def only_drain(space: Workspace, camera: str | None) -> Iterator[bool]:
    """Be the only one who drains a stream; false where another does."""
    name, owner, lease = stream_name(camera), this_owner(), space.project.keep_alive
    if not space.registry.drain(name, owner, lease):
        yield False
        return
    stop = Event()

    def beat() -> None:
        while not stop.wait(lease / BEATS):
            with suppress(SQLAlchemyError):  # the next beat comes before the lease ends
                space.registry.drain(name, owner, lease)

    thread = Thread(target=beat, name="drain", daemon=True)
    thread.start()
    try:
        yield True
    finally:
        stop.set()
        thread.join()
        space.registry.leave_drain(name, owner)


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
    """

    def __init__(
        self,
        space: Workspace,
        do: Callable[[list[Job]], dict[str, str]],
        camera: str | None = None,
        max_age_days: float = 2.0,
    ) -> None:
        self.space, self.do, self.camera, self.max_age_days = space, do, camera, max_age_days
        tried = space.registry.jobs(JobFilter(states=("failed",)))
        self.given_up = {job.key for job in tried if job.attempts >= MOST_ATTEMPTS}
        self.failed: dict[str, str] = {}
        self.held: dict[str, tuple[float, str]] = {}
        self.done = 0

    def run(self, linger: float) -> None:
        """Do what is due until nothing has come for `linger` seconds."""
        with self.space.registry.ear() as ear:
            last = time.monotonic()
            while True:
                if self.round():
                    last = time.monotonic()
                    continue
                left = last + linger - time.monotonic()
                if left <= 0:
                    return
                if ear.wait(min(left, GAP_LOOK)):
                    time.sleep(0.05)  # rows that are inserted together are done together

    @property
    def problems(self) -> dict[str, str]:
        """Key of each job that could not be done, and the sentence that says why."""
        return self.failed | {key: reason for key, (_, reason) in self.held.items()}

    def round(self) -> int:
        """Read, plan and do once; gives how many rows there were, and jobs that came to an end."""
        count = read_pending(self.space, IngestReport())
        request = live_request(self.camera, self.max_age_days)
        found = planned(self.space, request, self.given_up | self.failed.keys())
        now = time.monotonic()
        self.held = {key: one for key, one in self.held.items() if one[0] > now}
        in_vain = self.given_up | self.problems.keys()
        todo = to_do(found, in_vain)
        if todo:
            write_plan(self.space, found, in_vain)
            count += self._do(todo)
        group_sets(self.space, request)
        if todo:
            link_sets(self.space, found)
        return count

    def _do(self, todo: Sequence[Job]) -> int:
        """Do jobs; gives how many were done or have failed for good. The others are tried again in a while."""
        failed = self.do(list(todo))
        lost = for_good(self.space, failed)
        self.failed |= {key: failed[key] for key in lost}
        later = time.monotonic() + AGAIN
        self.held |= {key: (later, reason) for key, reason in failed.items() if key not in lost}
        made = [job for job in todo if job.key not in failed]
        mark_superseded(self.space, made)
        self.done += len(made)
        return len(made) + len(lost)
