"""Frames of a registry grouped per second, the memory that it takes, and what one new frame costs.

``python -m bench.grouping`` fills a registry with rows of a catalogue, then measures, in a process of its
own for each size, the reading in order alone (``read``) and reading and cutting into sets (``group``); at last
the writing of all sets (``write``) and single frames that come at the end and in the middle (``one``). On PostgreSQL
the clock counts, since the server works in processes of its own. ``python -m bench grouping --frames 10000000`` (or
``python -m bench.grouping 10000000``) takes a quarter of an hour, 6 GB of disk and, for writing all sets at once, 5 GB
of memory.
"""

import argparse
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from shutil import rmtree
from statistics import median
from typing import Any

from sqlalchemy import text

from bench.databases import DATABASES, missing, registry
from bench.harness import Figure
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.queries import find_streams
from ccdflow.archive.registry.sets.counts import count_sets
from ccdflow.archive.registry.sets.settling import Settling
from ccdflow.archive.registry.transactions import exposures_in_stream
from ccdflow.cascade.sequences.exposures import SequenceRules
from ccdflow.cascade.sequences.statemachine import assemble, cut
from ccdflow.tasks.grouping import SequenceTask, group_streams

SIZES = (100_000, 300_000, 1_000_000)
STREAMS = 7
TARGET = 150_000
"""Frames per second on one core, reading included."""
ONE_FRAME = 2.0
"""Milliseconds for a new frame, whatever the length of the table."""
NEW = 60
"""New frames whose times are taken."""
UNTIMED = 2
"""New frames before them, with which statements are compiled."""
LATER = 1e12
CLASSES = ("science",)
INSERT = """INSERT INTO frame ("class", telescope, camera, instrument, filter, object, exptime, obsdate,
iobs, nobs, night) VALUES ('science', 'T', ?, 'I', ?, ?, 120.0, ?, ?, ?, ?)"""
SEQUENCES = tuple(zip("LBVBLVLRL", (3, 1, 1, 6, 2, 2, 12, 20, 4), strict=True))
"""Filters and lengths, over and over."""


def rows(number: int) -> Iterator[tuple[str, str, str, str, int, int, str]]:
    """Rows of several cameras that go through sequences of all lengths, nights of 300 frames."""
    for camera in range(STREAMS):
        for frame, (place, length, filter_) in zip(range(number // STREAMS), places(), strict=False):
            night = datetime(1900, 1, 1, 19) + timedelta(days=frame // 300)
            moment = night + timedelta(seconds=132.5 * (frame % 300))
            target = f"Field{frame // 40}"
            yield f"UT{camera}", filter_, target, moment.isoformat(), place, length, night.date().isoformat()


def places() -> Iterator[tuple[int, int, str]]:
    """Place, length and filter of the frames of sequence after sequence, without end."""
    while True:
        for filter_, length in SEQUENCES:
            yield from ((place + 1, length, filter_) for place in range(length))


COLUMNS = "class, telescope, camera, instrument, filter, object, exptime, obsdate, iobs, nobs, night"
KEYWORDS = (("ccd_temperature", -20.0), ("airmass", 1.25))


def fill(url: str, number: int, keywords: bool = False) -> None:
    """Make a registry with `number` frames, with two keywords each if wanted."""
    with closing(Registry(url)) as registry:
        registry.upgrade()
        (fill_sqlite if registry.database.sqlite else fill_postgresql)(registry, number)
        with registry.database.write() as connection:
            for name, value in KEYWORDS if keywords else ():
                insert = "INSERT INTO frame_keyword (frame_id, name, value, number) SELECT id, :name, :text, :value"
                given = {"name": name, "text": repr(value), "value": value}
                connection.execute(text(f"{insert} FROM frame"), given)


def fill_sqlite(registry: Registry, number: int) -> None:
    """Write the rows first and make the indexes then, which takes a tenth of the time."""
    with closing(sqlite3.connect(registry.database.url.database or "")) as connection:
        wanted = "FROM sqlite_master WHERE tbl_name = 'frame' AND type = 'index' AND sql IS NOT NULL"
        indexes = connection.execute(f"SELECT name, sql {wanted}").fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.executemany(INSERT, rows(number))
        for _, sql in indexes:
            connection.execute(sql)
        connection.commit()


def fill_postgresql(registry: Registry, number: int) -> None:
    """Write the rows as PostgreSQL takes them fastest, and let it look at them."""
    with registry.database.engine.begin() as connection:
        cursor: Any = connection.connection.cursor()
        with cursor.copy(f"COPY frame ({COLUMNS}) FROM STDIN") as copy:
            for camera, filter_, target, *rest in rows(number):
                copy.write_row(("science", "T", camera, "I", filter_, target, 120.0, *rest))
    with registry.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE frame"))


def measured(url: str, work: str) -> dict[str, float]:
    """Frames, sets, seconds by the clock and of the processor, and peak memory of this process in MB."""
    if work == "write":
        return {"before": peak_memory()} | written(url)
    registry = Registry(url)
    rules = SequenceRules()
    frames = sets = 0
    before, start, used = peak_memory(), time.perf_counter(), time.process_time()
    for stream in registry.read(find_streams):
        found = exposures_in_stream(registry, stream, rules, CLASSES)
        if work == "read":
            frames += sum(1 for _ in found)
            continue
        for one in assemble(stream, cut(found, rules, LATER)):
            frames += len(one.frames)
            sets += 1
    made = {"seconds": time.perf_counter() - start, "processor": time.process_time() - used}
    registry.close()
    return made | {"frames": frames, "sets": sets, "peak": peak_memory(), "before": before}


def peak_memory() -> float:
    """Most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def written(url: str) -> dict[str, float]:
    """Frames, and seconds by the clock and of the processor to group all of them and write their sets."""
    with closing(Registry(url)) as registry:
        start, used = time.perf_counter(), time.process_time()
        group_streams(registry, TASKS)
        seconds, processor = time.perf_counter() - start, time.process_time() - used
        with registry.database.read() as connection:
            frames = connection.execute(text("SELECT count(*) FROM set_member")).scalar_one()
        sets = sum(registry.read(count_sets, "stack").values())
    return {"frames": frames, "sets": sets, "seconds": seconds, "processor": processor, "peak": peak_memory()}


TASKS = (
    SequenceTask("stack", SequenceRules(), "science", float("inf"), Settling("stack", "science", "stack")),
)


@dataclass(frozen=True)
class Single:
    """Milliseconds for each of some new frames: of the processor, and by the clock."""

    processor: list[float]
    clock: list[float]


def single(url: str, end: bool) -> Single:
    """What some new frames take that come one by one, behind all others or between; two before that don't count."""
    found = Single([], [])
    with closing(Registry(url)) as registry, closing(Registry(url)) as other:
        for number, moment in enumerate(moments(registry, end), -UNTIMED):
            place = number % 4 + 1 if end else 1
            add(other, ("UT0", "L", "New", moment.isoformat(), place, 4, moment.date().isoformat()))
            clock, start = time.perf_counter(), time.process_time()
            group_streams(registry, TASKS)
            used, took = time.process_time() - start, time.perf_counter() - clock
            if number >= 0:
                found.processor.append(used * 1e3)
                found.clock.append(took * 1e3)
    return found


def moments(registry: Registry, end: bool) -> list[datetime]:
    """When new frames were taken: after the last of a stream, or anywhere before it."""
    stream = "telescope = 'T' AND camera = 'UT0' AND instrument = 'I'"
    with registry.database.read() as connection:
        found = connection.execute(text(f"SELECT max(obsdate) FROM frame WHERE {stream}")).scalar_one()
    last, first = datetime.fromisoformat(found), datetime(1900, 1, 1)
    offsets = [timedelta(seconds=300 * (number + 1) + 7) for number in range(UNTIMED + NEW)]
    if end:
        return [last + offset for offset in offsets]
    parts = [(number + 0.37) / (UNTIMED + NEW) for number in range(UNTIMED + NEW)]
    return [last - (last - first) * part + offset for part, offset in zip(parts, offsets, strict=True)]


def add(registry: Registry, row: Sequence[Any]) -> None:
    """Register a frame as another program does."""
    statement = INSERT if registry.database.sqlite else INSERT.replace("?", "%s")
    with registry.database.engine.begin() as connection:
        connection.exec_driver_sql(statement, tuple(row))


def in_a_process(url: str, work: str) -> dict[str, float]:
    """Measured in a process of its own, so that the peak is that of the work alone."""
    command = [
        sys.executable,
        "-m",
        "bench.grouping",
        "--measure",
        url,
        work,
    ]
    here = Path(__file__).parent.parent
    ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd=here)
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def show(url: str, work: str) -> None:
    """Measure and print a line."""
    found = in_a_process(url, work)
    rates = [found["frames"] / found[name] for name in ("seconds", "processor")]
    note = "below the target" if work == "group" and rates[1] < TARGET else ""
    print(
        f"{found['frames']:9.0f} {work:>6} {found['sets']:8.0f} {found['seconds']:7.2f} {rates[0]:9.0f}"
        f" {rates[1]:11.0f} {found['peak']:8.0f} {found['peak'] - found['before']:7.0f}  {note}".rstrip(),
        flush=True,
    )


def measure(folder: Path, quick: bool = False, repeats: int = 3, frames: int = SIZES[-1]) -> Iterator[Figure]:
    """Frames per second read, grouped and written, memory, and the time of one new frame, on each database."""
    for database in DATABASES:
        if missing(database):
            continue
        for size in SIZES[:1] if quick else sorted({SIZES[0], frames}):
            with registry(database, folder / f"{database}{size}") as made:
                url = made.database.url.render_as_string(hide_password=False)
                yield from figures(
                    f"{size} frames, {database}", url, size, 1 if size > SIZES[-1] else repeats
                )
            rmtree(folder / f"{database}{size}", ignore_errors=True)


def figures(name: str, url: str, size: int, repeats: int) -> Iterator[Figure]:
    """The lines for one size and database."""
    fill(url, size)
    clock = not url.startswith("sqlite")
    for work in ("read", "group"):
        yield _rate(name, work, [in_a_process(url, work) for _ in range(repeats)], clock)
    yield _rate(name, "write", [in_a_process(url, "write")], clock)
    for end in (True, False):
        yield _one(name, end, single(url, end), clock)


def _rate(name: str, work: str, runs: list[dict[str, float]], clock: bool) -> Figure:
    rates = [one["frames"] / one["seconds" if clock else "processor"] for one in runs]
    what = {
        "read": "read in order",
        "group": "read and grouped",
        "write": "read, grouped for the first time, and sets written",
    }
    growth = max(one["peak"] - one["before"] for one in runs)
    limit: dict[str, Any] = {"limit": TARGET} if work == "group" else {}
    ends = min(rates), max(rates)
    by = "by the clock" if clock else "per second of the processor"
    note = f"{by}; memory grows by {growth:.0f} MB"
    return Figure(name, what[work], median(rates), "frames/s", ours_range=ends, note=note, **limit)


def _one(name: str, end: bool, times: Single, clock: bool) -> Figure:
    what = f"one new frame {'at the end' if end else 'in the middle'}, regrouped and written"
    found = times.clock if clock else times.processor
    ends = min(found), max(found)
    note = "by the clock" if clock else "CPU time"
    return Figure(name, what, median(found), "ms", limit=ONE_FRAME, ours_range=ends, note=note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, help="numbers of frames")
    parser.add_argument("--keywords", action="store_true", help="with two keywords for each frame")
    parser.add_argument("--measure", nargs=2, metavar=("URL", "WORK"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        url, work = given.measure
        print(json.dumps(measured(url, work)))
        return
    print("   frames   work     sets       s  frames/s  per CPU s   peak MB  growth")
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'registry.sqlite'}"
            fill(url, size, given.keywords)
            for work in ("read", "group"):
                show(url, work)
            show(url, "write")
            ends = [median(single(url, end).processor) for end in (True, False)]
            print(
                f"{size:9.0f}    one new frame: {ends[0]:.2f} ms at the end, {ends[1]:.2f} ms in the middle"
            )


if __name__ == "__main__":
    main()
