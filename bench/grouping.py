"""Frames of a registry grouped per second, and the memory that it takes.

``python bench/grouping.py`` fills a registry with rows of a catalogue, then measures, in a process of its
own for each size, the reading in order alone (``read``) and reading and cutting into sets (``group``).
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
from datetime import datetime, timedelta
from pathlib import Path

from ccdflow.archive.registry import Registry
from ccdflow.cascade.exposures import Exposure, SequenceRules, exposures
from ccdflow.cascade.sequences import Stream, assemble, cut

SIZES = (100_000, 300_000, 1_000_000)
STREAMS = 7
TARGET = 100_000
"""Frames per second on one core, reading included."""
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


def measure(url: str, work: str, records: bool) -> dict[str, float]:
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


def show(url: str, work: str, records: bool) -> None:
    """Measure in a process of its own, so that the peak is that of the work alone, and print a line."""
    command = [sys.executable, __file__, "--measure", url, work, *(["--records"] if records else [])]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rates = [found["frames"] / found[name] for name in ("seconds", "processor")]
    note = "below the target" if work == "group" and rates[1] < TARGET else ""
    print(
        f"{found['frames']:9.0f} {work:>6} {found['sets']:8.0f} {found['seconds']:7.2f} {rates[0]:9.0f}"
        f" {rates[1]:11.0f} {found['peak']:8.0f} {found['peak'] - found['before']:7.0f}  {note}".rstrip(),
        flush=True,
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
        print(json.dumps(measure(*given.measure, given.records)))
        return
    print("   frames   work     sets       s  frames/s  per CPU s   peak MB  growth")
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'registry.sqlite'}"
            fill(url, size, given.keywords)
            for work in ("read", "group"):
                show(url, work, given.records)


if __name__ == "__main__":
    main()
