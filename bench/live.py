"""Frames as they come: from the insert of a row to the committed calibrated frame, at GOTO's pace and at ten times it.

Prefect server, worker, ``ccdflow listen`` and a simulated telescope run on this machine, as an observatory has them.
The telescope writes a raw frame (1 Mpix, 16 bits, two amplifiers) and inserts its path with plain SQL; the frames
and their times are those of the busiest stretch of GOTO's night, seven cameras, masters made beforehand. Times run
from the insert's commit to that of the product, for calibrated frames; stacks are made besides.
``python -m bench live`` does it.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

from bench.databases import DATABASES, missing, registry
from bench.harness import Figure
from bench.observatory import PATIENCE, Observatory, Telescope, ccdflow, insert, observatory, stretch
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.events import find_events
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames
from ccdflow.archive.registry.jobs.leases import live_drains
from ccdflow.archive.registry.jobs.records import JobFilter, find_jobs
from ccdflow.config.project import init_project

SHAPE = (1024, 1024)
SMALL = (256, 256)
PACES = {1: 180.0, 10: 150.0}
"""Seconds that the telescope observes, by how many times faster than GOTO."""
COLD = 5
REST = 10.0
"""Seconds without a drain before a frame comes for which one must be started."""
LINGER = 120.0
WARM, START = 2.0, 8.0
"""Seconds wanted, 95 of 100 frames: while a drain runs, and when one must be started."""


@dataclass
class Night:
    """What was inserted when, and how many frames were waiting at each look."""

    inserted: dict[str, float] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    busy: float = 0.0


def finished(known: Registry) -> dict[str, float]:
    """When the calibrated frame of each raw file was committed."""
    done, times = known.read(find_jobs, JobFilter(step="science", states=("done",))), {}
    paths = {
        one.id: one.path or ""
        for one in known.read(find_frames, FrameFilter(classes=("science",), keywords=(), has_file=True))
    }
    for job in done:
        moment = datetime.fromisoformat(job.finished_at).replace(tzinfo=UTC).timestamp()
        times[paths[next(one.frame for one in job.inputs if one.role == "main" and one.frame)]] = moment
    return times


def wait_for(known: Registry, paths: Sequence[Path]) -> None:
    """Wait until the frames are calibrated."""
    end = time.monotonic() + PATIENCE
    while not {str(one) for one in paths} <= finished(known).keys():
        if time.monotonic() > end:
            raise TimeoutError(f"{len(paths)} frames were not calibrated in {PATIENCE:.0f} s")
        time.sleep(0.5)


def wait_for_the_end(known: Registry) -> None:
    """Wait until no drain is at work."""
    end = time.monotonic() + PATIENCE
    while known.read(live_drains, 60.0):
        if time.monotonic() > end:
            raise TimeoutError(f"a drain went on for {PATIENCE:.0f} s")
        time.sleep(0.2)


@contextmanager
def watching(known: Registry, night: Night) -> Iterator[None]:
    """Count waiting frames twice a second."""
    stop = Event()

    def look() -> None:
        while not stop.wait(0.5):
            night.waiting.append(len(night.inserted) - len(finished(known).keys() & night.inserted.keys()))

    thread, before = Thread(target=look), _processor()
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        idle, total = (after - was for after, was in zip(_processor(), before, strict=True))
        night.busy = 100 * (1 - idle / total)


def _processor() -> tuple[float, float]:
    """Ticks that the machine's cores were idle, and all of them."""
    words = [float(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return words[3] + words[4], sum(words)


def observe(known: Registry, telescope: Telescope, pace: int, seconds: float) -> Night:
    """Insert the frames of a stretch of the night as they come, and wait for the last."""
    night, plan = Night(), stretch(seconds * pace)
    telescope.draw(exposure for _, exposure in plan)
    begin = time.monotonic()
    with watching(known, night):
        for offset, exposure in plan:
            time.sleep(max(0.0, begin + offset / pace - time.monotonic()))
            path = telescope.expose(exposure)
            night.inserted[str(path)] = insert(known.url, [path])
    wait_for(known, [Path(one) for one in night.inserted])
    return night


def cold_starts(known: Registry, telescope: Telescope, repeats: int) -> Iterator[float]:
    """Seconds for a frame that comes when no drain is at work."""
    while known.read(find_events, undelivered=True, limit=1):  # the bridge is not there yet
        time.sleep(0.2)
    for (_, exposure), _number in zip(stretch(60.0), range(repeats), strict=False):
        wait_for_the_end(known)
        time.sleep(REST)
        path = telescope.expose(exposure)
        moment = insert(known.url, [path])
        wait_for(known, [path])
        yield finished(known)[str(path)] - moment


def warm_up(known: Registry, telescope: Telescope, observed: Observatory) -> None:
    """Have a drain at work, which has done one frame."""
    wait_for_the_end(known)
    observed.drain(LINGER)
    end = time.monotonic() + PATIENCE
    while not known.read(live_drains, 60.0):
        if time.monotonic() > end:
            raise TimeoutError(f"no drain began in {PATIENCE:.0f} s")
        time.sleep(0.2)
    path = telescope.expose(stretch(60.0)[-1][1])
    insert(known.url, [path])
    wait_for(known, [path])


def percentile(values: Sequence[float], part: int) -> float:
    """The value that `part` of 100 do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[part - 1]


def figures_of(name: str, pace: int, night: Night, known: Registry) -> Iterator[Figure]:
    """What a stretch of the night came to."""
    done = finished(known)
    took = [done[path] - moment for path, moment in night.inserted.items()]
    on = f"{pace} x GOTO's pace, {name}"
    many = f"{len(took)} frames"
    yield Figure(on, f"insert to product, half of {many}", percentile(took, 50), plot=False)
    yield Figure(on, f"insert to product, 95 of 100 of {many}", percentile(took, 95), limit=WARM)
    half = len(night.waiting) // 2
    for part, looks in (("first", night.waiting[:half]), ("second", night.waiting[half:])):
        if looks:  # a quick run looks once
            yield Figure(
                on, f"frames that wait at once, {part} half, mean", statistics.fmean(looks), "frames"
            )
    yield Figure(on, "cores busy, telescope included", night.busy, "%")


def measure(quick: bool, folder: Path) -> Iterator[Figure]:
    """Latencies and load, on each database."""
    for name in DATABASES[:1] if quick else DATABASES:
        if missing(name):
            yield Figure(f"{name}", "not installed", 0.0)
            continue
        place = folder / name.lower()
        with registry(name, place / "database") as known:
            yield from _on(name, known, place, quick=quick)


def _on(name: str, known: Registry, place: Path, *, quick: bool) -> Iterator[Figure]:
    init_project(place / "project").write_text(f"registry: {known.url}\n")
    telescope = Telescope(place / "raw", SMALL if quick else SHAPE)
    telescope.calibrations()
    ccdflow(
        place / "project", "run", str(telescope.raw), *(f"--target={one}" for one in ("bias", "dark", "flat"))
    )
    (place / "machine").mkdir()
    with observatory(place / "machine", place / "project", 0.0) as observed:
        cold = list(cold_starts(known, telescope, 1 if quick else COLD))
        yield Figure(
            name, f"insert to product, a drain is started, slowest of {len(cold)}", max(cold), limit=START
        )
        warm_up(known, telescope, observed)
        for pace, seconds in PACES.items():
            night = observe(known, telescope, pace, seconds / 10 if quick else seconds)
            yield from figures_of(name, pace, night, known)
