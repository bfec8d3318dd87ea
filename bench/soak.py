"""A day in time-lapse: 50,000 frames come in, and what runs takes no more memory at the end than at the beginning.

Server, worker and bridge run as an observatory has them, the drain is started by the first frame and goes on to the
last. The telescope writes the frames of GOTO's night over and over, with times that spread over the last 24 hours,
and never has more than a few waiting: the day passes as fast as the machine can follow. ``make soak`` does it and
draws the curve; ``python -m bench.soak --frames 2000`` does less.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import cycle, pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
from sqlalchemy import Connection, text

from bench.databases import DATABASES, registry
from bench.observatory import PROGRAMME, Observatory, Telescope, ccdflow, insert, observatory
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.events import DELIVERED_KEPT
from ccdflow.archive.registry.jobs.leases import live_drains
from ccdflow.archive.store import RESULTS
from ccdflow.config.project import init_project
from ccdflow.simulate.schedule import Exposure, science_exposures

FRAMES = 50_000
SHAPE = (64, 64)
DAY = timedelta(hours=24)
LONGEST_S = 10.0
"""Seconds of an exposure at most: seven cameras take 50,000 frames in a day, one every 12 s each."""
WAITING = 80
"""Frames that wait at most, those of open sequences among them: with more, the drain's night were not a telescope's."""
LOOKS = 250
"""How often it is looked, at most; never more than once a second."""
PATIENCE_S = 600.0
"""Seconds without a product after which it is given up."""
WARM = 0.2
"""Part of the frames in which everything warms up."""
WARM_FRAMES = 2000
"""In a short day it is so many frames, or half of them: until then a drain's heap takes its size."""
MEMORY_PARTS, HANDLE_PARTS = 8, 4
"""Parts of the looks behind the warm-up whose memory, and whose open files, are compared."""
FLAT, LINEAR = 1.10, 1.20
"""Most that memory and handles may grow by after the warm-up, and bytes of the registry for each frame."""
BETWEEN_CLEANINGS = 10_000
"""Events that may come while the bridge has not yet deleted those before."""
OURS = ("drain", "bridge", "worker")


@dataclass(frozen=True)
class Look:
    """What there was at a moment: counts, memory of its own (USS, bytes) and open files of each process."""

    seconds: float
    frames: int
    calibrated: int
    memory: dict[str, int]
    handles: dict[str, int]
    registry: int
    events: int
    undelivered: int
    records: int
    done: int


@dataclass
class Soak:
    """What was seen: looks in order, sentences on what was not as wanted, and how often a drain was started."""

    looks: list[Look] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    drains: int = 0


# --- the telescope -------------------------------------------------------------------------------------------------


def day(frames: int, end: datetime) -> Iterator[tuple[Exposure, datetime]]:
    """So many exposures of GOTO's programme, which spread over the 24 hours before `end`, and when each was over."""
    programme = cycle(science_exposures(PROGRAMME, "none"))
    for number, exposure in zip(range(frames), programme, strict=False):
        short = replace(exposure, exptime=min(exposure.exptime, LONGEST_S))
        yield short, end - DAY + (number + 1) / frames * DAY


def observe(known: Registry, telescope: Telescope, frames: int, end: datetime, stop: Event) -> None:
    """Take a day's frames, no more than `WAITING` ahead of what is through."""
    may_be = WAITING
    for number, (exposure, over) in enumerate(day(frames, end)):
        while number >= may_be:
            may_be = WAITING + known.read(through)
            if number >= may_be and stop.wait(0.2):
                return
        insert(known.url, [telescope.expose(exposure, over)])


# --- looks -----------------------------------------------------------------------------------------------------------


def _number(connection: Connection, statement: str) -> int:
    return int(connection.execute(text(statement)).scalar_one())


def calibrated(connection: Connection) -> int:
    """How many science frames are calibrated."""
    return _number(connection, "SELECT count(*) FROM product WHERE category = 'science'")


def through(connection: Connection) -> int:
    """How many science frames are through their last stage: in a stack, or in none for a reason."""
    ended = "f.class = 'science' AND s.stage = 'stack' AND s.state IN ('done', 'passed')"
    return _number(
        connection, f"SELECT count(*) FROM frame_stage s JOIN frame f ON f.id = s.frame_id WHERE {ended}"
    )


def _counts(connection: Connection) -> dict[str, int]:
    return {
        "frames": _number(connection, "SELECT count(*) FROM frame WHERE class = 'science'"),
        "calibrated": calibrated(connection),
        "events": _number(connection, "SELECT count(*) FROM event"),
        "undelivered": _number(connection, "SELECT count(*) FROM event WHERE delivered IS NULL"),
        "done": _number(connection, "SELECT count(*) FROM job WHERE state = 'done'"),
    }


def _size(known: Registry) -> int:
    """Bytes of the registry."""
    url = known.database.url
    if url.get_backend_name() != "sqlite":
        return known.read(_number, "SELECT pg_database_size(current_database())")
    files = (Path(f"{url.database}{ending}") for ending in ("", "-wal"))
    return sum(path.stat().st_size for path in files if path.exists())


def _processes(known: Registry, observed: Observatory) -> Iterator[tuple[str, psutil.Process]]:
    """Each process that runs on, with the drain of the moment."""
    for name, number in observed.processes.items():
        yield name, psutil.Process(number)
    for owner in known.read(live_drains, 60.0).values():
        with suppress(psutil.NoSuchProcess):
            yield "drain", psutil.Process(int(owner.split(":")[1]))


def look(known: Registry, observed: Observatory, store: Path, seconds: float) -> Look:
    """Look at everything once."""
    memory, handles = {}, {}
    for name, process in _processes(known, observed):
        with suppress(psutil.NoSuchProcess):
            memory[name], handles[name] = process.memory_full_info().uss, process.num_fds()
    records = sum(1 for _ in os.scandir(store / RESULTS))
    counts = known.read(_counts)
    return Look(seconds, memory=memory, handles=handles, registry=_size(known), records=records, **counts)


# --- the day ---------------------------------------------------------------------------------------------------------


def soak(
    folder: Path, frames: int, database: str = "SQLite", say: Callable[[Look], object] = lambda _: None
) -> Soak:
    """Observe for a day in time-lapse; what is seen, judged.

    Parameters
    ----------
    folder : Path
        Where project, raw frames and products go: 100 kB a frame.
    frames : int
        Science frames of the day.
    database : {'SQLite', 'PostgreSQL'}
        On what the registry is.
    say : callable
        Takes each look.
    """
    with registry(database, folder / "database") as known:
        project = folder / "project"
        init_project(project).write_text(f"registry: {known.url}\n")
        end = datetime.now(UTC)
        telescope = Telescope(folder / "raw", SHAPE)
        telescope.calibrations(end - DAY)
        ccdflow(
            project, "run", str(telescope.raw), *(f"--target={task}" for task in ("bias", "dark", "flat"))
        )
        (folder / "machine").mkdir()
        with observatory(folder / "machine", project, 60.0) as observed:
            seen = _followed(known, telescope, observed, frames, end, say)
            observed.drain(0.0)
        ccdflow(project, "run", "--target=stack")  # what the last drain has left, if anything
        seen.problems += judged(seen.looks, frames) + _left(known)
    return seen


def _followed(
    known: Registry,
    telescope: Telescope,
    observed: Observatory,
    frames: int,
    end: datetime,
    say: Callable[[Look], object],
) -> Soak:
    """Observe, and look until all frames are calibrated and told of, or nothing comes any more."""
    seen, stop, begin = Soak(), Event(), time.monotonic()
    thread = Thread(target=observe, args=(known, telescope, frames, end, stop), daemon=True)
    store, due, last, drains = observed.project / "store", frames / LOOKS, (0, begin), set[str]()
    thread.start()
    while True:
        done = known.read(calibrated)
        if done >= due * len(seen.looks):
            seen.looks.append(look(known, observed, store, time.monotonic() - begin))
            say(seen.looks[-1])
        drains |= set(known.read(live_drains, 60.0).values())
        last = (done, time.monotonic()) if done > last[0] else last
        if done >= frames and not known.read(_counts)["undelivered"]:
            break
        if time.monotonic() - last[1] > PATIENCE_S:
            seen.problems.append(f"nothing was calibrated for {PATIENCE_S:.0f} s, {done} of {frames} are")
            break
        time.sleep(1.0)
    stop.set()
    thread.join()
    seen.looks.append(look(known, observed, store, time.monotonic() - begin))
    seen.drains = len({owner.rpartition(":")[0] for owner in drains})
    return seen


def _left(known: Registry) -> list[str]:
    """What is not done at the end, in sentences."""
    statement = (
        "SELECT step || ': ' || state || ', ' || reason, count(*) FROM job WHERE state <> 'done' GROUP BY 1"
    )
    return [f"{count} jobs of {words}" for words, count in known.read(_rows, statement)]


def _rows(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.execute(text(statement))]


def _line(now: Look) -> str:
    memory = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sorted(now.memory.items()))
    return (
        f"{now.seconds:6.0f} s  {now.calibrated} of {now.frames} frames  {memory}  registry {now.registry / 1e6:.1f} MB"
        f"  {now.events} events, {now.undelivered} wait  {now.records} records of {now.done} jobs"
    )


# --- the verdict -----------------------------------------------------------------------------------------------------


def judged(looks: Sequence[Look], frames: int) -> list[str]:
    """What is not flat, bounded or linear, in sentences."""
    warm = warmed(looks, frames)
    problems = []
    for name in OURS:
        for what, ratio in zip(("memory", "open files"), grown(warm, name), strict=True):
            if ratio > FLAT:
                problems.append(f"{what} of the {name} grew {ratio:.2f} times")
    most = max(one.events - one.undelivered for one in looks)
    if most > DELIVERED_KEPT + BETWEEN_CLEANINGS:
        problems.append(f"{most} delivered events were kept")
    if looks[-1].undelivered:
        problems.append(f"{looks[-1].undelivered} events were not delivered")
    if looks[-1].records > looks[-1].done:
        problems.append(f"{looks[-1].records} records of {looks[-1].done} jobs")
    if (ratio := bytes_per_frame(warm)) > LINEAR:
        problems.append(f"a frame of the second half took {ratio:.2f} times the registry of one of the first")
    return problems


def warmed(looks: Sequence[Look], frames: int) -> list[Look]:
    """The looks behind the warm-up of a day of so many frames."""
    warm = max(WARM * frames, min(WARM_FRAMES, frames / 2))
    return [one for one in looks if one.calibrated >= warm]


def grown(looks: Sequence[Look], name: str) -> tuple[float, float]:
    """How many times what it was memory and open files of a process are."""
    memory = [one.memory[name] for one in looks if name in one.memory]
    handles = [one.handles[name] for one in looks if name in one.handles]
    # While a flow run begins a worker has six files more: what is left open shows in the fewest.
    return growth(memory, statistics.median, MEMORY_PARTS), growth(handles, min, HANDLE_PARTS)


def growth(values: Sequence[int], typical: Callable[[Sequence[int]], float], parts: int) -> float:
    """The largest of what is typical of each part, in parts of the first."""
    size = max(1, len(values) // parts)
    # Whole parts: of a rest of a few looks the fewest are many.
    found = [typical(values[begin : begin + size]) for begin in range(0, len(values) - size + 1, size)]
    return max(found) / found[0] if found else 0.0


def bytes_per_frame(looks: Sequence[Look]) -> float:
    """What the registry grows by for each frame in the second half of some looks, in parts of the first half."""
    middle = len(looks) // 2
    if not 0 < middle < len(looks) - 1:
        return 1.0
    first, second = (
        (later.registry - before.registry) / max(1, later.calibrated - before.calibrated)
        for before, later in ((looks[0], looks[middle]), (looks[middle], looks[-1]))
    )
    return second / first if first > 0 else 1.0


# --- the curve -------------------------------------------------------------------------------------------------------


def draw(looks: Sequence[Look], path: Path) -> None:
    """Draw memory, open files, registry and pace over the frames of the day."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10, 6.5), layout="constrained")
    axes = canvas.subplots(2, 2, sharex=True)
    frames = [one.calibrated for one in looks]
    for name in ("drain", "bridge", "worker", "server"):
        for axis, values, unit in ((axes[0, 0], "memory", 1e6), (axes[0, 1], "handles", 1.0)):
            points = [
                (one.calibrated, taken[name] / unit)
                for one in looks
                if name in (taken := getattr(one, values))
            ]
            axis.plot(*zip(*points, strict=True), label=name, lw=1.4)
    axes[0, 0].set_title("Memory of its own (MB)")
    axes[0, 1].set_title("Open files")
    axes[1, 0].plot(frames, [one.registry / 1e6 for one in looks], label="registry (MB)", color="#2a6f97")
    axes[1, 0].plot(
        frames, [one.events / 1e3 for one in looks], label="events kept (thousands)", color="#c1666b"
    )
    axes[1, 0].plot(
        frames, [one.records / 1e3 for one in looks], label="records of jobs (thousands)", color="#8a9a5b"
    )
    axes[1, 0].set_title("Registry and store")
    pairs = list(pairwise(looks))
    pace = [
        (b.calibrated - a.calibrated) / (b.seconds - a.seconds) for a, b in pairs if b.seconds > a.seconds
    ]
    axes[1, 1].plot(frames[1 : len(pace) + 1], pace, color="#2a6f97", lw=1.0)
    axes[1, 1].set_title("Frames calibrated per second, their stacks besides")
    for axis in axes.flat:
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.25)
        if axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=8, frameon=False)
    for axis in axes[1]:
        axis.set_xlabel("frames calibrated")
    canvas.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--database", choices=DATABASES, default=DATABASES[0])
    parser.add_argument(
        "--folder", type=Path, help="where everything goes and stays; else a temporary folder"
    )
    parser.add_argument(
        "--json", type=Path, help="write the looks into this file, each in a line as it comes"
    )
    parser.add_argument("--picture", type=Path, help="draw the curve into this PNG file")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all that was started ends

    def say(now: Look) -> None:
        print(_line(now), flush=True)
        if given.json:
            with given.json.open("a") as looks:
                looks.write(json.dumps(asdict(now)) + "\n")

    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as temporary:
        seen = soak(given.folder or Path(temporary), given.frames, given.database, say)
    if given.picture:
        draw(seen.looks, given.picture)
    warm = warmed(seen.looks, given.frames)
    for name in OURS:
        memory, handles = grown(warm, name)
        print(f"{name}: memory {memory:.2f} times, open files {handles:.2f} times what they were once warm")
    print(f"registry: a frame of the second half takes {bytes_per_frame(warm):.2f} of one of the first")
    print(f"{seen.drains} drains")
    for sentence in seen.problems:
        print(sentence, file=sys.stderr)
    return 1 if seen.problems else 0


if __name__ == "__main__":
    sys.exit(main())
