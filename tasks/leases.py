"""Signs of life: one thread renews the leases of all jobs that this process works on."""

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.jobs.leases import beat_jobs
from ccdflow.archive.registry.jobs.lifecycle import return_job
from ccdflow.tasks.processes.stopping import STOP

BEATS_PER_LEASE = 4
"""Signs of life within the length of a lease: some may be late, or fail."""


@dataclass(frozen=True)
class _Lease:
    """The claim of an owner on a job, which ends after `seconds` without a sign of life."""

    registry: Registry
    key: str
    owner: str
    seconds: float
    stages: Mapping[str, str] = field(default_factory=dict, compare=False)


class _Pulse:
    """The leases that are held, and the thread that renews them."""

    def __init__(self) -> None:
        self._held: set[_Lease] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def hold(self, lease: _Lease) -> None:
        with self._changed:
            self._held.add(lease)
            if self._thread is None or not self._thread.is_alive():
                # A daemon, so that a program may end whatever becomes of its jobs.
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
            self._changed.notify()

    def drop(self, lease: _Lease) -> None:
        with self._changed:
            self._held.discard(lease)

    def give_back(self, reason: str) -> None:
        """Let the jobs that are held be planned again: this process ends before they do."""
        with self._changed:
            held = set(self._held)
        for lease in held:
            with suppress(SQLAlchemyError, KeyError):
                lease.registry.write(return_job, lease.key, lease.owner, reason, lease.stages)

    def _run(self) -> None:
        last = time.monotonic()
        while True:
            with self._changed:
                if not self._held:
                    self._changed.wait()
                    last = time.monotonic()
                # The shortest lease sets the pace for all: one transaction renews every lease of a registry.
                pause = min((lease.seconds for lease in self._held), default=0.0) / BEATS_PER_LEASE
                self._changed.wait(max(0.0, last + pause - time.monotonic()))
                held = set(self._held)
            # Woken earlier, by a lease that came, it only waits again: what was just claimed is fresh.
            if held and time.monotonic() >= last + pause:
                _renew(held)
                last = time.monotonic()


def _renew(held: Collection[_Lease]) -> None:
    for registry in {lease.registry for lease in held}:
        mine = [(lease.key, lease.owner) for lease in held if lease.registry is registry]
        try:
            registry.write(beat_jobs, mine)
        except SQLAlchemyError:
            continue  # the next beat comes before the lease ends; a lease that has ended is noticed at the end


_PULSE = _Pulse()
STOP.before_the_end(_PULSE.give_back)


@contextmanager
def kept_alive(
    registry: Registry, key: str, owner: str, seconds: float, stages: Mapping[str, str]
) -> Iterator[None]:
    """Renew the lease of a job while the block works on it.

    Parameters
    ----------
    registry : Registry
        Where the job stands.
    key : str
        The job.
    owner : str
        Who has claimed it.
    seconds : float
        Length of the lease; signs of life come `BEATS_PER_LEASE` times within it.
    stages : mapping of str to str
        The stage of each step, for the frames of a job that is given back.

    Yields
    ------
    None
        Whether the lease was lost meanwhile is found when the job is finished.
    """
    lease = _Lease(registry, key, owner, seconds, stages)
    _PULSE.hold(lease)
    try:
        yield
    finally:
        _PULSE.drop(lease)
