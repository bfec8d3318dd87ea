"""Frames per second and peak memory of the sequence rules on a million catalogue rows.

Makes a table of rows in a temporary SQLite file, reads it in order and groups it, once for each size and each in a
process of its own, so that one size's peak does not hide the next's. Time is linear and memory flat if the lines look
alike.

    python bench/grouping.py --sizes 100000 300000 1000000
"""

import argparse
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from ccdflow.cascade.exposures import SequenceRules, exposures
from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.sequences import FrameSet, assemble, cut

COLUMNS = (
    "id, class, telescope, camera, instrument, filter, object, exptime, obsdate, iobs, nobs, night, sha256"
)
STREAMS = [("GOTO1", f"UT{i}") for i in (1, 2, 3, 4)] + [("GOTO2", f"UT{i}") for i in (1, 2, 4)]
SEQUENCES = [
    ("L", 6, 120.0),
    ("B", 1, 120.0),
    ("R", 20, 15.0),
    ("V", 3, 180.0),
    ("L", 12, 80.0),
    ("R", 2, 120.0),
]

Row = tuple[int, str, str, str, str, str, str, float, str, int, int, str, str]


def exposure_times() -> Iterator[tuple[str, float, int, int, int]]:
    """Filter, exposure time, iobs, nobs and number of the field, without end."""
    field = 0
    while True:
        for band, nobs, exptime in SEQUENCES:
            for iobs in range(1, nobs + 1):
                yield band, exptime, iobs, nobs, field
        field += 1


def rows(number: int) -> Iterator[Row]:
    """Rows as cameras that expose together write them: one of each stream in turn."""
    moment = datetime(2018, 9, 9, 19, 35, 30)
    made = 0
    for band, exptime, iobs, nobs, field in exposure_times():
        written, night = moment.isoformat(), moment.date().isoformat()
        for telescope, camera in STREAMS:
            if made == number:
                return
            made += 1
            place = (telescope, camera, "CCD", band, f"Field{field}", exptime, written, iobs, nobs, night)
            yield (made, "science", *place, f"{made * 2654435761 % 2**64:064x}")
        moment += timedelta(seconds=exptime + 12)


def make_table(path: Path, number: int) -> None:
    with sqlite3.connect(path) as base:
        base.execute(f"create table frame ({COLUMNS})")
        base.executemany(f"insert into frame values ({', '.join('?' * 13)})", rows(number))
        base.execute(
            "create index in_order on frame (telescope, camera, instrument, obsdate, iobs, sha256, id)"
        )
    base.close()


def records(path: Path) -> Iterator[FrameRecord]:
    """The frames of the table, stream by stream in order."""
    base = sqlite3.connect(path)
    order = "telescope, camera, instrument, obsdate, iobs, sha256, id"
    for row in base.execute(f"select {COLUMNS} from frame order by {order}"):
        yield FrameRecord(*row)
    base.close()


def group(path: Path, rules: SequenceRules) -> Iterator[FrameSet]:
    """The sets of the whole table, in constant memory."""
    seen = exposures(records(path), rules, ("science",))
    for stream, found in groupby(seen, key=itemgetter(0)):
        yield from assemble(stream, cut((one for _, one in found), rules, float("inf")))


def measure(path: Path, number: int) -> None:
    """Print one line: how long reading alone and reading with grouping take, and the most memory used."""
    start, cpu = time.perf_counter(), time.process_time()
    deque(records(path), maxlen=0)
    read, read_cpu = time.perf_counter() - start, time.process_time() - cpu
    start, cpu = time.perf_counter(), time.process_time()
    sets = sum(1 for _ in group(path, SequenceRules()))
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{number:>9} frames {sets:>8} sets {wall:6.2f} s ({used:.2f} s of CPU), {number / wall:>8.0f} frames/s "
        f"({number / used:.0f} per s of CPU; without reading {number / (used - read_cpu):.0f}), "
        f"reading alone {read:.2f} s, peak {peak:.0f} MiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[100_000, 300_000, 1_000_000], help="rows of the table"
    )
    parser.add_argument("--table", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.table is not None:
        measure(options.table, options.sizes[0])
        return
    for number in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frames.sqlite"
            make_table(path, number)
            command = [sys.executable, __file__, "--table", str(path), "--sizes", str(number)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
