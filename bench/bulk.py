"""Frames as they come while a catalogue of a hundred thousand rows comes in as well, and after the drain was killed.

The machine is that of ``python -m bench live``. The telescope observes twice at GOTO's pace: alone, and while another
program inserts rows without files with plain SQL, a thousand in each transaction, half of them of the telescope's own
cameras and of the last day. Then the drain is killed while more rows come: the time runs from the kill to the first
calibrated frame of its successor.
"""

import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg
from sqlalchemy import make_url

from bench.databases import DATABASES, missing, registry
from bench.harness import Figure
from bench.live import LINGER, SHAPE, SMALL, finished, observe, percentile, warm_up
from bench.observatory import PATIENCE, SEED, Observatory, Telescope, ccdflow, insert, observatory, stretch
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.jobs.leases import live_drains
from ccdflow.config.project import init_project

ROWS, FEW_ROWS = 100_000, 5_000
"""Rows that come in, and how many in a quick run."""
AT_ONCE = 1000
"""Rows of a transaction."""
SECONDS, FEW_SECONDS = 180.0, 40.0
"""Time that the telescope observes, each time."""
TWICE, FIRST_JOB = 2.0, 30.0
"""Wanted: slower by no more than this, 95 of 100 frames; seconds until a successor has done its first job."""
COLUMNS = (
    "class",
    "telescope",
    "camera",
    "instrument",
    "filter",
    "object",
    "exptime",
    "obsdate",
    "iobs",
    "nobs",
    "night",
)


@dataclass
class Catalogue:
    """A program that inserts rows without files; `inserted` counts them."""

    url: str
    cameras: list[tuple[str, str, str]]
    inserted: int = 0

    def rows(self) -> list[tuple[Any, ...]]:
        """The next transaction: sequences of one to six exposures, of the last day."""
        chance = random.Random(SEED + self.inserted)
        rows: list[tuple[Any, ...]] = []
        while len(rows) < AT_ONCE:
            telescope, camera, instrument = chance.choice(self.cameras)
            begin = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=chance.uniform(0, 86400))
            length, name = chance.randint(1, 6), f"Field{chance.randint(1, 500)}"
            for number in range(length):
                moment = (begin + timedelta(seconds=70 * number)).isoformat(timespec="milliseconds")
                place = number + 1, length, begin.date().isoformat()
                rows.append(("science", telescope, camera, instrument, "L", name, 60.0, moment, *place))
        return rows[:AT_ONCE]

    def insert(self) -> None:
        """Insert the next rows, in one transaction."""
        target, rows = make_url(self.url), self.rows()
        names, marks = ", ".join(COLUMNS), ", ".join("?" * len(COLUMNS))
        statement = f"INSERT INTO frame ({names}) VALUES ({marks})"
        if target.get_backend_name() == "sqlite":
            with sqlite3.connect(str(target.database), timeout=60) as connection:
                connection.executemany(statement, rows)
            connection.close()
        else:
            plain = target.set(drivername="postgresql").render_as_string(hide_password=False)
            with psycopg.connect(plain) as other, other.cursor() as cursor:
                cursor.executemany(statement.replace("?", "%s"), rows)
        self.inserted += len(rows)


@contextmanager
def coming_in(catalogue: Catalogue, rows: int, seconds: float) -> Iterator[None]:
    """Insert so many rows in so many seconds while the block runs."""
    stop, begin = Event(), time.monotonic()

    def work() -> None:
        for number in range(rows // AT_ONCE):
            if stop.wait(max(0.0, begin + seconds * number * AT_ONCE / rows - time.monotonic())):
                return
            catalogue.insert()

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def kill_the_drain(known: Registry) -> float:
    """Kill the process that drains; gives the time."""
    (owner,) = known.read(live_drains, 60.0).values()
    os.kill(int(owner.split(":")[1]), signal.SIGKILL)
    return time.time()


def first_job_after(known: Registry, telescope: Telescope, moment: float) -> float:
    """Seconds from a moment on until a frame is calibrated, one coming each second."""
    for _, exposure in stretch(PATIENCE):
        path = telescope.expose(exposure)
        insert(known.url, [path])
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            later = [done - moment for done in finished(known).values() if done > moment]
            if later:
                return min(later)
            time.sleep(0.2)
    raise TimeoutError(f"no frame was calibrated in {PATIENCE:.0f} s after the drain was killed")


def _on(
    name: str, known: Registry, telescope: Telescope, observed: Observatory, *, quick: bool
) -> Iterator[Figure]:
    seconds, rows = (FEW_SECONDS, FEW_ROWS) if quick else (SECONDS, ROWS)
    streams = sorted({one.stream for one in _frames(known)})
    others = [("SURVEY", f"CCD{number}", "wide") for number in range(len(streams))]
    catalogue = Catalogue(known.url, [*streams, *others])
    warm_up(known, telescope, observed)
    p95 = {}
    for words, more in (("alone", 0), (f"{rows:,} rows come in", rows)):
        with coming_in(catalogue, more, seconds):
            night = observe(known, telescope, 1, seconds)
        done = finished(known)
        took = [done[path] - moment for path, moment in night.inserted.items()]
        p95[words] = percentile(took, 95)
        on = f"{name}, {words}"
        yield Figure(on, f"insert to product, half of {len(took)} frames", percentile(took, 50), plot=False)
        yield Figure(on, f"insert to product, 95 of 100 of {len(took)} frames", p95[words])
        yield Figure(on, "cores busy, telescope and catalogue included", night.busy, "%")
    alone, busy = p95.values()
    yield Figure(name, f"95 of 100: with {rows:,} rows against alone", busy / alone, "times", limit=TWICE)
    with coming_in(catalogue, rows // 4, seconds / 4):
        took_up = first_job_after(known, telescope, kill_the_drain(known))
    yield Figure(name, "the drain is killed: first job of its successor", took_up, limit=FIRST_JOB)


def _frames(known: Registry) -> Any:
    from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames

    return known.read(find_frames, FrameFilter(has_file=True, keywords=()))


def measure(quick: bool, folder: Path) -> Iterator[Figure]:
    """Latencies without and with a catalogue coming in, on each database."""
    for name in DATABASES[:1] if quick else DATABASES:
        if missing(name):
            yield Figure(name, "not installed", 0.0)
            continue
        place = folder / name.lower()
        with registry(name, place / "database") as known:
            init_project(place / "project").write_text(f"registry: {known.url}\n")
            telescope = Telescope(place / "raw", SMALL if quick else SHAPE)
            telescope.calibrations()
            targets = [f"--target={task}" for task in ("bias", "dark", "flat")]
            ccdflow(place / "project", "run", str(telescope.raw), *targets)
            (place / "machine").mkdir()
            with observatory(place / "machine", place / "project", LINGER) as observed:
                yield from _on(name, known, telescope, observed, quick=quick)
