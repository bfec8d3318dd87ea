"""What every benchmark is made of: figures, alternating timings, children that are measured, and peers.

A benchmark is a module of this folder with a function ``measure`` that gives `Figure` objects (or dicts with
their fields). It may take any of the arguments ``quick`` (bool), ``folder`` (Path, an empty scratch folder, in
memory where the system has that), ``disk`` (Path, an empty folder on a disk) and ``repeats`` (int) by name.
Each runs in a process of its own.
"""

import json
import logging
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

ENOUGH = 0.25
"""Seconds of work that a subject gets in a round, by being run again if it is quick."""
MOST = 3
"""Times that a quick subject is run in a round, at most."""
SLOW = 2.0
"""Seconds from which on the first run counts."""
BUDGET = 6.0
"""Seconds of a subject in all its rounds together; the run that exceeds it is its last."""
BETWEEN = 3.0
"""Seconds between looks at the pace of the machine."""
MEMORY = "/dev/shm"
ROOM = 4e9
"""Bytes that have to be free there."""


@contextmanager
def pace() -> Iterator[list[float]]:
    """Gives a list of how fast the machine is while the block runs, every few seconds.

    Milliseconds of the processor that a piece of plain Python takes, always the same.
    """
    found, over = [_piece()], threading.Event()

    def sample() -> None:
        while not over.wait(BETWEEN):
            found.append(_piece())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        found.append(_piece())


def _piece() -> float:
    start = time.thread_time()
    {str(number): number for number in range(100_000)}
    return (time.thread_time() - start) * 1e3


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Parameters
    ----------
    name : str
        On what, such as ``10 x 2048x2048 uint16``.
    what : str
        What was done, such as ``files to product, in process``.
    ours : float
        Median, in `unit`.
    unit : str
        ``s``, ``ms``, ``MB``, ``frames/s``, ``%``, ...; what is per second is better when higher.
    peer : str
        What it is compared with, ``""`` for nothing.
    theirs : float or None
        Median of the peer, in `unit`; None for a peer that is missing or was not run.
    wanted : float or None
        Ratio that is wanted at least.
    limit : float or None
        What `ours` may be at most (at least, where higher is better).
    ours_range, theirs_range : (float, float) or None
        Lowest and highest of the repeats.
    ours_processor, theirs_processor : float or None
        Median seconds of the processor, all threads together.
    note : str
        What must be known to read the line.
    bench : str
        The benchmark it belongs to; filled in by the harness.
    plot : bool
        Whether it is worth a bar in the plot.
    """

    name: str
    what: str
    ours: float
    unit: str = "s"
    peer: str = ""
    theirs: float | None = None
    wanted: float | None = None
    limit: float | None = None
    ours_range: tuple[float, float] | None = None
    theirs_range: tuple[float, float] | None = None
    ours_processor: float | None = None
    theirs_processor: float | None = None
    note: str = ""
    bench: str = ""
    plot: bool = False

    @property
    def higher_is_better(self) -> bool:
        """Whether the unit is a rate."""
        return self.unit.endswith("/s")

    @property
    def ratio(self) -> float | None:
        """How many times better ours is; None without a peer's figure."""
        if self.theirs is None or not self.ours or not self.theirs:
            return None
        return self.ours / self.theirs if self.higher_is_better else self.theirs / self.ours

    @property
    def processor_ratio(self) -> float | None:
        """How many times less processor time ours takes; None where it is not known."""
        return (
            self.theirs_processor / self.ours_processor
            if self.theirs_processor and self.ours_processor
            else None
        )

    @property
    def verdict(self) -> str:
        """``OK`` or ``below`` by what was wanted; ``""`` where nothing was, or the peer is missing."""
        found = [] if self.wanted is None or self.ratio is None else [self.ratio >= self.wanted]
        if self.limit is not None:
            found.append(self.ours >= self.limit if self.higher_is_better else self.ours <= self.limit)
        return "" if not found else "OK" if all(found) else "below"


def as_figure(given: Figure | Mapping[str, Any], bench: str) -> Figure:
    """A figure of the benchmark `bench`, from a figure or a dict; unknown fields go into the note."""
    values = asdict(given) if isinstance(given, Figure) else dict(given)
    known = {one.name for one in fields(Figure)}
    further = [f"{name} {value}" for name, value in values.items() if name not in known and name != "ratio"]
    kept = {name: value for name, value in values.items() if name in known}
    kept["note"] = "; ".join(filter(None, [kept.get("note", ""), *further]))
    return Figure(**{"what": "", **kept, "bench": kept.get("bench") or bench})


@dataclass
class Samples:
    """Repeated measurements of one subject: seconds by the clock, and of the processor."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    """MB, of children."""
    said: str = ""
    """What the last child said."""

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)

    @property
    def range(self) -> tuple[float, float]:
        """Shortest and longest."""
        return min(self.seconds), max(self.seconds)

    @property
    def busy(self) -> float:
        """Median seconds of the processor, all threads together."""
        return statistics.median(self.processor)

    @property
    def peak(self) -> float:
        """Median peak memory in MB; nan if it was not measured."""
        return statistics.median(self.peaks) if self.peaks else float("nan")


@dataclass(frozen=True)
class Ran:
    """A command that has run: seconds by the clock and of the processor, peak memory in MB, what it said."""

    seconds: float
    processor: float
    peak: float
    said: str


Subject = Callable[[], Any]
"""What is timed; what gives back a `Ran` has timed itself."""


def alternate(
    subjects: Mapping[str, Subject],
    repeats: int,
    *,
    warm: bool = True,
    budget: float = BUDGET,
    before: Callable[[], None] = lambda: None,
) -> dict[str, Samples]:
    """Time all subjects in turn, round by round, so that a slow minute of the machine hits all alike.

    A quick subject is run a few times in each round, one that has used up `budget` seconds no more. With
    `warm`, each is run once before, untimed, unless it is so slow that warming up makes no difference. `before`
    is done before each, untimed: it deletes what the last one has written, since that takes its time too.
    """
    found = {name: Samples() for name in subjects}
    if warm:
        for name, subject in subjects.items():
            first = Samples()
            before()
            if _timed(subject, first) > SLOW:
                found[name] = first
    for _ in range(repeats):
        for name, subject in subjects.items():
            _round(subject, found[name], budget, before)
    return found


def _round(subject: Subject, into: Samples, budget: float, before: Callable[[], None]) -> None:
    spent = 0.0
    for _ in range(MOST):
        if sum(into.seconds) > budget:
            return
        before()
        spent += _timed(subject, into)
        if spent > ENOUGH:
            return


def _timed(subject: Subject, into: Samples) -> float:
    start, used = time.perf_counter(), time.process_time()
    made = subject()
    seconds, processor = time.perf_counter() - start, time.process_time() - used
    if isinstance(made, Ran):
        seconds, processor = made.seconds, made.processor
        into.peaks.append(made.peak)
        into.said = made.said
    into.seconds.append(seconds)
    into.processor.append(processor)
    return seconds


@contextmanager
def elsewhere() -> Iterator[Callable[[Subject], Subject]]:
    """Gives what makes a subject run in another process, which stays: a peer as its users have it.

    This process keeps its memory (`ccdflow.tasks.memory`), from which a peer would profit. A subject has to be
    picklable, such as a method of a dataclass.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_be_quiet) as pool:
        yield lambda subject: lambda: pool.submit(_ran, subject).result()


def memory_of(subject: Subject) -> float:
    """Peak memory in MB of a subject beyond what a process has that has done the same before."""
    with elsewhere() as other:
        peaks = [other(subject)().peak for _ in range(2)]
    return float(peaks[-1])


def _be_quiet() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def _ran(subject: Subject) -> Ran:
    samples = Samples()
    with memory_above() as peak:
        _timed(subject, samples)
    return Ran(samples.median, samples.busy, peak[0], "")


def compared(name: str, what: str, ours: Samples, peer: str, theirs: Samples | None, **rest: Any) -> Figure:
    """The line for two that were timed; a peer without samples is one that is missing."""
    return Figure(
        name,
        what,
        ours.median,
        peer=peer,
        theirs=None if theirs is None else theirs.median,
        ours_range=ours.range,
        theirs_range=None if theirs is None else theirs.range,
        ours_processor=ours.busy,
        theirs_processor=None if theirs is None else theirs.busy,
        **rest,
    )


# A process that is started counts the peak memory of the one that started it as its own, so that the
# starter has to be small.
_STARTER = """
import json, os, sys, time
out, command = sys.argv[1], sys.argv[2:]
start = time.perf_counter()
child = os.posix_spawnp(command[0], command, os.environ)
_, status, used = os.wait4(child, 0)
seconds = time.perf_counter() - start
with open(out, "w") as stream:
    json.dump([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024], stream)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def command(argv: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None) -> Ran:
    """Run a command in `folder`; its start is part of its time.

    Raises
    ------
    RuntimeError
        If it fails; the message holds the end of what it said.
    """
    times = folder / ".times.json"
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _STARTER, str(times), *map(str, argv)],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    said = ran.stdout + ran.stderr
    if ran.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))[:200]} failed: {said[-800:]}")
    seconds, processor, peak = json.loads(times.read_text())
    return Ran(seconds, processor, peak, said)


@contextmanager
def memory_above() -> Iterator[list[float]]:
    """Gives a list that holds, when the block is left, its peak memory above what was there before, in MB."""
    found: list[float] = []
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    try:
        yield found
    finally:
        found.append(_status("VmHWM") - before)


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def peak_memory() -> float:
    """Most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def scratch() -> str | None:
    """Folder in memory for files that are measured with, so that the disk is not what is measured; None without."""
    if not os.path.isdir(MEMORY) or shutil.disk_usage(MEMORY).free < ROOM:
        return None
    return MEMORY


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
