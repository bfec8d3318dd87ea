"""In which order jobs run, and how many at once: pure, and the same for the same plan."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from heapq import heappop, heappush
from typing import Literal

from ccdflow.cascade.planning.jobs import Job

Order = Literal["depth", "breadth", "type", "dynamic"]
"""What goes first of what is ready: what was begun (data set by data set), what depends on least (level by level),
the earlier step of the cascade, or what has been ready longest. Only ``dynamic`` lets a job that fits the machine
overtake one that has to wait for room."""

Rank = tuple[int, ...]
"""Place of a ready job in the queue: the smallest goes first."""

OLD_SHARE = 4
"""Of so many places of a part of the jobs one is for the oldest frames."""


@dataclass(frozen=True)
class Needs:
    """Cores, and memory in bytes, of one job; or of a machine."""

    cores: int = 1
    memory: int = 0


class JobQueue:
    """The jobs of a plan that are to be done.

    Parameters
    ----------
    jobs : sequence of Job
        Each after those whose products it takes.
    order : Order
        Which of those that are ready goes first.
    machine : Needs
        What there is. A job that needs more counts as if it needed all, and runs alone.
    needs : mapping
        Step to what one of its jobs needs; one core where nothing is said.
    ahead : int
        So many times the cores may be handed out, where no step says what it needs: the next jobs then wait at the
        workers already.
    urgent : collection of str
        Keys of jobs that go before all others.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        order: Order = "depth",
        machine: Needs = Needs(),
        needs: Mapping[str, Needs] | None = None,
        ahead: int = 1,
        urgent: Collection[str] = frozenset(),
    ) -> None:
        self._urgent = urgent
        self._jobs = {job.key: job for job in jobs}
        self._order = order
        self._needs = needs or {}
        # Who says what a job needs wants it kept to: then no more is handed out than there is room for.
        has_needs = any(job.step in self._needs for job in jobs)
        self._machine = Needs(machine.cores * (1 if has_needs else ahead), machine.memory)
        self._most_cores = machine.cores  # of one job: what is handed out ahead is no room for a larger one
        # What a job waits for: of the jobs whose products it takes, those that are to be done here and have not ended.
        self._lacks = {
            key: {parent for parent in job.parents if parent in self._jobs} for key, job in self._jobs.items()
        }
        self._children: dict[str, list[str]] = {}
        for key, parents in self._lacks.items():
            for parent in parents:
                self._children.setdefault(parent, []).append(key)
        steps = dict.fromkeys(job.step for job in jobs)
        self._step_number = {step: number for number, step in enumerate(steps)}
        self._number = {key: number for number, key in enumerate(self._jobs)}
        self._depth: dict[str, int] = {}
        self._ready: list[tuple[Rank, str]] = []  # a heap
        self._ended = 0
        self._running: dict[str, Needs] = {}
        self._aside: set[str] = set()
        for key, parents in self._lacks.items():
            # Parents stand before their children, so their depths are known.
            self._depth[key] = max((self._depth[parent] + 1 for parent in parents), default=0)
            if not parents:
                self._add(key)

    def take(self) -> Job | None:
        """Take the next job that is ready and has room.

        Returns
        -------
        Job or None
            None while there is none; ask again once a job has ended.
        """
        waiting: list[tuple[Rank, str]] = []
        taken = None
        while self._ready and taken is None:
            entry = heappop(self._ready)
            if self._has_room(self._need(entry[1])):
                taken = entry[1]
            else:
                waiting.append(entry)
                # A large job would never run if small ones could always slip past it; only ``dynamic`` lets them.
                if self._order != "dynamic":
                    break
        for entry in waiting:
            heappush(self._ready, entry)
        if taken is None:
            return None
        self._running[taken] = self._need(taken)
        return self._jobs[taken]

    def finish(self, key: str, *, done: bool) -> None:
        """Note that a job has ended.

        Parameters
        ----------
        key : str
            Key of a job that was taken, or set aside.
        done : bool
            Whether its products are there. Then what only waited for it is ready; else what depends on it never is.
        """
        # A job may end here or in other hands.
        self._running.pop(key, None)
        self._aside.discard(key)
        # Children of a failed job are never released: they stay among those that lack something.
        released = []
        for child in self._children.get(key, ()) if done else ():
            self._lacks[child].discard(key)
            if not self._lacks[child]:
                released.append(child)
        self._ended += 1
        for child in released:
            self._add(child)

    def set_aside(self, key: str) -> None:
        """Note that a job that was taken is in other hands: it needs no room here, and what depends on it waits.

        Parameters
        ----------
        key : str
            Key of a job that was taken.
        """
        del self._running[key]
        self._aside.add(key)

    def bring_back(self, key: str) -> None:
        """Put a job that was set aside among the ready ones again: it is to be done here after all.

        Parameters
        ----------
        key : str
            Key of a job that was set aside.
        """
        self._aside.remove(key)
        self._add(key)

    @property
    def aside(self) -> frozenset[str]:
        """Keys of the jobs that were set aside and have not ended."""
        return frozenset(self._aside)

    @property
    def running(self) -> int:
        """Number of jobs that were taken, are not set aside and have not ended."""
        return len(self._running)

    def _add(self, key: str) -> None:
        heappush(self._ready, (self._rank(key), key))

    def _rank(self, key: str) -> Rank:
        """Return the place of a job that becomes ready now."""
        return (0 if key in self._urgent else 1, *self._rank_by_order(key))

    # A rank is given when a job becomes ready and stays. For ``depth`` and ``dynamic`` it is the moment at which that
    # happened, counted in jobs that have ended: with the latest first, the children of the job that has just ended run
    # next, while its product is still in the system's cache, and one data set is finished before another is begun; with
    # the earliest first, nothing waits longer than it must. ``breadth`` ranks by the longest chain of jobs above a job,
    # ``type`` by the step. The number in the plan decides among equals, so that each order is the same every time.
    def _rank_by_order(self, key: str) -> Rank:
        number = self._number[key]
        if self._order == "depth":
            return (-self._ended, number)
        if self._order == "breadth":
            return (self._depth[key], number)
        if self._order == "type":
            return (self._step_number[self._jobs[key].step], number)
        return (self._ended, number)

    def _need(self, key: str) -> Needs:
        """Return what a job needs, at most all that the machine has: else it would wait for ever."""
        wanted = self._needs.get(self._jobs[key].step, Needs())
        return Needs(min(wanted.cores, self._most_cores), min(wanted.memory, self._machine.memory))

    def _has_room(self, wanted: Needs) -> bool:
        cores = sum(need.cores for need in self._running.values()) + wanted.cores
        memory = sum(need.memory for need in self._running.values()) + wanted.memory
        return cores <= self._machine.cores and memory <= self._machine.memory


def urgent_jobs(jobs: Sequence[Job], patterns: Sequence[str]) -> set[str]:
    """Return the keys of the jobs on urgent objects, and of all that these need.

    Parameters
    ----------
    jobs : sequence of Job
        Each after those whose products it takes.
    patterns : sequence of str
        What urgent objects are called (``GRB*``), as `fnmatch` has it, in upper and lower case as written.

    Returns
    -------
    set of str
        Also keys of jobs that are not among `jobs`, where an urgent one takes their products.
    """
    urgent: set[str] = set()
    # Backwards each job comes before those whose products it takes, so the need goes up the chain in one pass.
    for job in reversed(jobs):
        # The object of a flat or dark is where the telescope happened to point.
        objects = {frame.object for frame in job.group.frames} if job.stage != "calibrate" else ()
        if job.key in urgent or any(fnmatchcase(name, pattern) for name in objects for pattern in patterns):
            urgent |= {job.key, *job.parents}
    return urgent


def first_jobs(jobs: Sequence[Job], urgent: Collection[str], most: int) -> list[Job]:
    """Return a part of the jobs that can be done by itself: the urgent, those of the newest frames, a few old ones.

    Parameters
    ----------
    jobs : sequence of Job
        Each after those whose products it takes.
    urgent : collection of str
        Keys of urgent jobs and of all that these need.
    most : int
        Largest number of jobs.

    Returns
    -------
    list of Job
        Whatever of `jobs` one of them needs is among them too. Of the places that urgent jobs leave, one in
        `OLD_SHARE` is for the oldest frames: while more comes than can be done at once, they would wait for ever.
    """
    # Stable: otherwise the order stays.
    ordered = sorted(newest_first(jobs), key=lambda job: job.key not in urgent)
    left = most - sum(job.key in urgent for job in ordered)
    first = ordered[: most - max(0, left) // OLD_SHARE]
    chosen = {job.key for job in first}
    return [*first, *(job for job in oldest_first(jobs) if job.key not in chosen)][:most]


def newest_first(jobs: Sequence[Job]) -> list[Job]:
    """Return jobs in the order of their newest frames, each behind those whose products it takes.

    What was exposed just now is looked at just now; what waits since yesterday can wait a little longer.

    Parameters
    ----------
    jobs : sequence of Job
        Each after those whose products it takes.

    Returns
    -------
    list of Job
        The same jobs. A calibration stands before the first that needs it.
    """
    return _by_time(jobs, backwards=True)


def oldest_first(jobs: Sequence[Job]) -> list[Job]:
    """Return jobs with those first whose newest frame is the oldest, each behind those whose products it takes.

    Parameters
    ----------
    jobs : sequence of Job
        Each after those whose products it takes.

    Returns
    -------
    list of Job
        The same jobs. A calibration stands before the first that needs it.
    """
    return _by_time(jobs, backwards=False)


def _by_time(jobs: Sequence[Job], *, backwards: bool) -> list[Job]:
    by_key = {job.key: job for job in jobs}
    ordered: dict[str, Job] = {}

    def add(job: Job) -> None:
        # As deep as the cascade has tasks.
        for parent in job.parents:
            if parent in by_key and parent not in ordered:
                add(by_key[parent])
        ordered[job.key] = job

    # Sorting is stable: of frames of one moment the plan's order stays. Calibrations come when they are needed.
    in_time = sorted(
        jobs, key=lambda job: max(frame.obsdate for frame in job.group.frames), reverse=backwards
    )
    for job in sorted(in_time, key=lambda job: job.stage == "calibrate"):
        if job.key not in ordered:
            add(job)
    return list(ordered.values())


def parse_memory(text: str | int) -> int:
    """Return the bytes that a text such as ``2 GB`` or ``512 MB`` stands for.

    Parameters
    ----------
    text : str or int
        Number with a unit of powers of 1000, in upper or lower case; without unit, and as a number, bytes.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ValueError
        If it is none of these.

    Examples
    --------
    >>> parse_memory("1.5 GB")
    1500000000
    """
    if isinstance(text, int):
        return text
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"size {text!r} is not of the form '2 GB'")
    return int(float(match[1]) * _UNITS[match[2].upper()])


_MEMORY = re.compile(r"(\d+\.?\d*)\s*([kmgt]?b?)", re.IGNORECASE)
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {name[:-1]: factor for name, factor in _UNITS.items() if len(name) == 2}
