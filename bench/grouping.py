"""Frames of a registry grouped per second, the memory that it takes, and what one new frame costs.

``python -m bench.grouping`` fills a registry with rows of a catalogue, then measures, in a process of its
own for each size, the reading in order alone (``read``) and reading and cutting into sets (``group``); at last
the writing of all sets (``write``) and single frames that come at the end and in the middle (``one``).
``python -m bench.grouping 10000000`` takes many minutes and 10 GB of disk.
"""

import argparse
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from bench.harness import Figure
from ccdflow.archive.registry import Registry
from ccdflow.cascade.exposures import Exposure, SequenceRules, exposures
from ccdflow.cascade.sequences import Stream, assemble, cut
from ccdflow.tasks.grouping import SequenceTask, group_streams

SIZES = (100_000, 300_000, 1_000_000)
STREAMS = 7
TARGET = 150_000
"""Frames per second on one core, reading included."""
ONE_FRAME = 2.0
"""Milliseconds for a new frame, whatever the length of the table."""
NEW = 60
"""New frames whose times are taken."""
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


def fill(url: str, number: int, keywords: bool) -> None:
    """Make a registry with `number` frames, with two keywords each if wanted."""
    registry = Registry(url)
    registry.upgrade()
    registry.close()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.executemany(INSERT, rows(number))
        for name, value in (("ccd_temperature", -20.0), ("airmass", 1.25)) if keywords else ():
            connection.execute(
                "INSERT INTO frame_keyword (frame_id, name, value, number) SELECT id, ?, ?, ? FROM frame",
                (name, repr(value), value),
            )
    connection.close()


def reader(registry: Registry, stream: Stream, rules: SequenceRules, records: bool) -> Iterator[Exposure]:
    """The frames of a stream, by the lean way or, with `records`, by way of records of all that is known."""
    if not records:
        return registry.exposures_in_stream(stream, rules, CLASSES)
    return (one for _, one in exposures(registry.frames_in_stream(stream), rules, CLASSES))


def measured(url: str, work: str, records: bool) -> dict[str, float]:
    """Frames, sets, seconds by the clock and of the processor, and peak memory of this process in MB."""
    registry = Registry(url)
    rules = SequenceRules()
    frames = sets = 0
    before, start, used = peak_memory(), time.perf_counter(), time.process_time()
    for stream in registry.streams():
        found = reader(registry, stream, rules, records)
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
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        ((frames,),) = connection.execute("SELECT count(*) FROM set_member")
        ((sets,),) = connection.execute("SELECT count(*) FROM frame_set")
    return {"frames": frames, "sets": sets, "seconds": seconds, "processor": processor}


TASKS = (SequenceTask("stack", SequenceRules(), "science", float("inf")),)


def single(url: str, end: bool) -> list[float]:
    """Milliseconds of the processor for each of some new frames that come one by one, behind all others or between."""
    found: list[float] = []
    with (
        closing(Registry(url)) as registry,
        closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA synchronous = NORMAL")
        ((last,),) = connection.execute("SELECT max(obsdate) FROM frame WHERE camera = 'UT0'")
        for number in range(NEW):
            moment = datetime.fromisoformat(last)
            if not end:
                moment -= (moment - datetime(1900, 1, 1)) * ((number + 0.37) / NEW)
            moment += timedelta(seconds=300 * (number + 1) + 7)
            night = moment.date().isoformat()
            place = number % 4 + 1 if end else 1
            row = ("UT0", "L", "New", moment.isoformat(), place, 4, night)
            connection.execute(INSERT, row)
            start = time.process_time()
            group_streams(registry, TASKS)
            found.append((time.process_time() - start) * 1e3)
    return found


def in_a_process(url: str, work: str, records: bool = False) -> dict[str, float]:
    """Measured in a process of its own, so that the peak is that of the work alone."""
    command = [
        sys.executable,
        "-m",
        "bench.grouping",
        "--measure",
        url,
        work,
        *(["--records"] if records else []),
    ]
    here = Path(__file__).parent.parent
    ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd=here)
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def show(url: str, work: str, records: bool) -> None:
    """Measure and print a line."""
    found = in_a_process(url, work, records)
    rates = [found["frames"] / found[name] for name in ("seconds", "processor")]
    note = "below the target" if work == "group" and rates[1] < TARGET else ""
    print(
        f"{found['frames']:9.0f} {work:>6} {found['sets']:8.0f} {found['seconds']:7.2f} {rates[0]:9.0f}"
        f" {rates[1]:11.0f} {found['peak']:8.0f} {found['peak'] - found['before']:7.0f}  {note}".rstrip(),
        flush=True,
    )


def measure(folder: Path, quick: bool = False, repeats: int = 3) -> list[Figure]:
    """Frames per second read, grouped and written, memory, and the time of one new frame, on SQLite."""
    figures: list[Figure] = []
    for size in SIZES[:1] if quick else (SIZES[0], SIZES[-1]):
        url = f"sqlite:///{folder / f'{size}.sqlite'}"
        fill(url, size, keywords=False)
        for work in ("read", "group"):
            figures.append(_rate(size, work, [in_a_process(url, work) for _ in range(repeats)]))
        figures.append(_rate(size, "write", [written(url)]))
        for end in (True, False):
            figures.append(_one(size, end, single(url, end)))
    return figures


def _rate(size: int, work: str, runs: list[dict[str, float]]) -> Figure:
    rates = [one["frames"] / one["processor"] for one in runs]
    what = {
        "read": "read in order",
        "group": "read and grouped",
        "write": "read, grouped for the first time, and sets written",
    }
    growth = (
        f"; memory grows by {max(one['peak'] - one['before'] for one in runs):.0f} MB"
        if "peak" in runs[0]
        else ""
    )
    limit: dict[str, Any] = {"limit": TARGET} if work == "group" else {}
    ends = min(rates), max(rates)
    note = f"per second of the processor{growth}"
    return Figure(
        f"{size} frames", what[work], median(rates), "frames/s", ours_range=ends, note=note, **limit
    )


def _one(size: int, end: bool, times: list[float]) -> Figure:
    what = f"one new frame {'at the end' if end else 'in the middle'}, regrouped and written"
    ends = min(times), max(times)
    return Figure(
        f"{size} frames", what, median(times), "ms", limit=ONE_FRAME, ours_range=ends, note="CPU time"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, help="numbers of frames")
    parser.add_argument("--keywords", action="store_true", help="with two keywords for each frame")
    parser.add_argument(
        "--records", action="store_true", help="read records of all that is known of each frame"
    )
    parser.add_argument("--measure", nargs=2, metavar=("URL", "WORK"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        url, work = given.measure
        print(json.dumps(measured(url, work, given.records)))
        return
    print("   frames   work     sets       s  frames/s  per CPU s   peak MB  growth")
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'registry.sqlite'}"
            fill(url, size, given.keywords)
            for work in ("read", "group"):
                show(url, work, given.records)
            if not given.records:
                found = written(url)
                rate = found["frames"] / found["processor"]
                print(
                    f"{found['frames']:9.0f}  write {found['sets']:8.0f} {found['seconds']:7.2f} {'':9} {rate:11.0f}"
                )
                ends = [median(single(url, end)) for end in (True, False)]
                print(
                    f"{size:9.0f}    one new frame: {ends[0]:.2f} ms at the end, {ends[1]:.2f} ms in the middle"
                )


if __name__ == "__main__":
    main()
