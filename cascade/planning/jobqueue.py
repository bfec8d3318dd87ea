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
    urgent : collection of str
        Keys of jobs that go before all others.
    ahead : int
        So many times the cores may be handed out, where no step says what it needs: the next jobs then wait at the
        workers already.
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
        told = any(job.step in self._needs for job in jobs)
        self._machine = Needs(machine.cores * (1 if told else ahead), machine.memory)
        self._most = machine.cores
        self._lacks = {
            key: {one for one in job.parents if one in self._jobs} for key, job in self._jobs.items()
        }
        self._children: dict[str, list[str]] = {}
        for key, parents in self._lacks.items():
            for parent in parents:
                self._children.setdefault(parent, []).append(key)
        steps = dict.fromkeys(job.step for job in jobs)
        self._place = {step: number for number, step in enumerate(steps)}
        self._number = {key: number for number, key in enumerate(self._jobs)}
        self._levels: dict[str, int] = {}
        self._ready: list[tuple[Rank, str]] = []
        self._released = 0
        self._running: dict[str, Needs] = {}
        self._aside: set[str] = set()
        for key, parents in self._lacks.items():
            self._levels[key] = max((self._levels[one] + 1 for one in parents), default=0)
            if not parents:
                self._add(key)

    def take(self) -> Job | None:
        """The next job that is ready and has room; None while there is none."""
        waiting: list[tuple[Rank, str]] = []
        found = None
        while self._ready and found is None:
            entry = heappop(self._ready)
            if self._has_room(self._need(entry[1])):
                found = entry[1]
            else:
                waiting.append(entry)
                if self._order != "dynamic":
                    break
        for entry in waiting:
            heappush(self._ready, entry)
        if found is None:
            return None
        self._running[found] = self._need(found)
        return self._jobs[found]

    def finish(self, key: str, *, done: bool) -> None:
        """A job has ended; where it is done, what only waited for it is ready. Else what depends on it is left."""
        self._running.pop(key, None)
        self._aside.discard(key)
        released = []
        for child in self._children.get(key, ()) if done else ():
            self._lacks[child].discard(key)
            if not self._lacks[child]:
                released.append(child)
        self._released += 1
        for child in released:
            self._add(child)

    def set_aside(self, key: str) -> None:
        """A job that was taken is in other hands: it needs no room here, and what depends on it waits."""
        del self._running[key]
        self._aside.add(key)

    def bring_back(self, key: str) -> None:
        """A job that was set aside is to be done here after all."""
        self._aside.remove(key)
        self._add(key)

    @property
    def aside(self) -> frozenset[str]:
        """Keys of the jobs that were set aside and have not ended."""
        return frozenset(self._aside)

    @property
    def running(self) -> int:
        """How many jobs were taken, are not set aside and have not ended."""
        return len(self._running)

    def _add(self, key: str) -> None:
        heappush(self._ready, (self._rank(key), key))

    def _rank(self, key: str) -> Rank:
        return (0 if key in self._urgent else 1, *self._rank_by_order(key))

    def _rank_by_order(self, key: str) -> Rank:
        number = self._number[key]
        if self._order == "depth":  # its inputs were just written
            return (-self._released, number)
        if self._order == "breadth":
            return (self._levels[key], number)
        if self._order == "type":
            return (self._place[self._jobs[key].step], number)
        return (self._released, number)

    def _need(self, key: str) -> Needs:
        wanted = self._needs.get(self._jobs[key].step, Needs())
        return Needs(min(wanted.cores, self._most), min(wanted.memory, self._machine.memory))

    def _has_room(self, wanted: Needs) -> bool:
        cores = sum(one.cores for one in self._running.values()) + wanted.cores
        memory = sum(one.memory for one in self._running.values()) + wanted.memory
        return cores <= self._machine.cores and memory <= self._machine.memory


def urgent_jobs(jobs: Sequence[Job], patterns: Sequence[str]) -> set[str]:
    """Keys of the jobs on objects that are called like one of the patterns (``GRB*``), and of all that these need."""
    found: set[str] = set()
    for job in reversed(jobs):  # each behind those whose products it takes
        objects = {frame.object for frame in job.group.frames} if job.stage != "calibrate" else ()
        if job.key in found or any(fnmatchcase(name, one) for name in objects for one in patterns):
            found |= {job.key, *job.parents}
    return found


def first_jobs(jobs: Sequence[Job], urgent: Collection[str], most: int) -> list[Job]:
    """No more jobs than `most`, those that are urgent first; what a job needs of the others is among them."""
    ordered = sorted(jobs, key=lambda one: one.key not in urgent)  # which keeps the order otherwise
    return ordered[:most]


def parse_memory(text: str | int) -> int:
    """Bytes of ``2 GB``, ``512 MB``; of a number, itself.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if isinstance(text, int):
        return text
    found = _MEMORY.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"memory {text!r} is not of the form '2 GB'")
    return int(float(found[1]) * _UNITS[found[2].upper()])


_MEMORY = re.compile(r"(\d+\.?\d*)\s*([kmgt]?b?)", re.IGNORECASE)
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {name[:-1]: factor for name, factor in _UNITS.items() if len(name) == 2}
