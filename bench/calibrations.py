"""The nearest calibration among a million, by the rules of the shipped cascade.

``python -m bench calibrations`` fills a registry with seven cameras' calibrations of many nights, by plain SQL,
and asks for the bias, dark and flat of science frames of random moments. Nights without flats are among them.
"""

import random
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from bench.databases import DATABASES, missing, registry
from bench.harness import Figure
from ccdflow.archive.registry.doors import Registry
from ccdflow.cascade.planning.associate import Rule
from ccdflow.cascade.planning.jobs import Group
from ccdflow.cascade.records import FrameRecord
from ccdflow.config.cascadefile import load_cascade
from ccdflow.config.shipped import shipped

FRAMES = 1_000_000
CAMERAS = 7
FIRST_NIGHT = datetime(1990, 1, 1)
FILTERS = ("L", "R", "G", "B", "Ha")
LIMITS = {"SQLite": 1.0, "PostgreSQL": 2.0}
"""Milliseconds for one calibration."""
COLUMNS = (
    "class", "telescope", "camera", "instrument", "filter", "exptime", "obsdate", "night",
    "path", "sha256",
)  # fmt: skip
KEYWORDS = {"binning": "1x1", "readout_mode": "slow", "shape": "4096x4096"}
ASKED = 300


def night_of(number: int) -> list[tuple[str, str, float]]:
    """Class, filter and exposure time of the calibrations of one night; flats come every third night."""
    biases = [("bias", "", 0.0)] * 20
    darks = [("dark", "", exptime) for exptime in (60.0, 120.0, 300.0) for _ in range(10)]
    flats = [("flat", name, 4.0) for name in FILTERS for _ in range(10)]
    return biases + darks + (flats if number % 3 == 0 else [])


def rows(number: int) -> Iterator[tuple[Any, ...]]:
    """Calibrations, night after night, of all cameras."""
    made = 0
    for day in range(number):
        night = FIRST_NIGHT + timedelta(days=day)
        for camera in range(CAMERAS):
            for place, (frame_class, filter_, exptime) in enumerate(night_of(day)):
                moment = (night + timedelta(hours=17, seconds=30 * place)).isoformat()
                name = (f"UT{camera}", "I", filter_, exptime, moment, night.date().isoformat())
                yield (frame_class, "T", *name, f"/raw/{made}.fits", f"{made:064d}")
                made += 1
                if made == number:
                    return


def fill(into: Registry, number: int) -> None:
    """Frames with keywords, and a product of each, without the events that registration would write."""
    with into.database.write() as connection:
        if into.database.sqlite:
            connection.execute(text("DROP TRIGGER frame_registered"))
            connection.execute(text("DROP TRIGGER product_inserted"))
            marks = ", ".join("?" * len(COLUMNS))
            cursor: Any = connection.connection.cursor()
            cursor.executemany(f"INSERT INTO frame ({', '.join(COLUMNS)}) VALUES ({marks})", rows(number))
        else:
            connection.execute(text("ALTER TABLE frame DISABLE TRIGGER USER"))
            connection.execute(text("ALTER TABLE product DISABLE TRIGGER USER"))
            copy(connection, rows(number))
        for name, value in KEYWORDS.items():
            keyword = "INSERT INTO frame_keyword (frame_id, name, value) SELECT id, :name, :value FROM frame"
            connection.execute(text(keyword), {"name": name, "value": value})
        masters(connection)
    with into.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def copy(connection: Connection, given: Iterable[tuple[Any, ...]]) -> None:
    cursor: Any = connection.connection.cursor()
    with cursor.copy(f"COPY frame ({', '.join(COLUMNS)}) FROM STDIN") as stream:
        for row in given:
            stream.write_row(row)


def masters(connection: Connection) -> None:
    """A finished job and its product for each frame: as many masters as there are frames."""
    connection.execute(
        text("""INSERT INTO job (key, step, recipe, version, state, parameters)
        SELECT sha256, class, class, '1', 'done', '{}' FROM frame""")
    )
    connection.execute(
        text("""INSERT INTO job_input (job_key, role, position, frame_id, identity)
        SELECT sha256, 'main', 0, id, sha256 FROM frame""")
    )
    connection.execute(
        text("""INSERT INTO product (job_key, category, path, state, night, telescope, camera, instrument, filter,
        exptime, obsdate) SELECT sha256, 'master_' || class, path, 'done', night, telescope, camera, instrument,
        filter, exptime, obsdate FROM frame""")
    )


def science(seed: int, nights: int) -> Group:
    """A science frame of a random night and camera."""
    chance = random.Random(seed)
    night = FIRST_NIGHT + timedelta(days=chance.randrange(nights))
    moment = night + timedelta(hours=19, seconds=chance.randrange(36_000))
    frame = FrameRecord(
        id=0,
        frame_class="science",
        telescope="T",
        camera=f"UT{chance.randrange(CAMERAS)}",
        instrument="I",
        filter=chance.choice(FILTERS),
        object="M 13",
        exptime=120.0,
        obsdate=moment.isoformat(),
        iobs=None,
        nobs=None,
        night=night.date().isoformat(),
        keywords=KEYWORDS,
    )
    return Group((frame,))


def shipped_rules() -> dict[str, Sequence[Rule]]:
    """By which the step science of the shipped cascade finds what it takes besides its frame, by class."""
    cascade = load_cascade(shipped("cascades") / "imaging.yaml")
    inputs = cascade.tasks["science"].inputs
    return {name: cascade.rules(inputs[name]) for name in ("bias", "dark", "flat")}


def asked(of: Registry, kind: str, by: Sequence[Rule], masters_too: bool, nights: int) -> list[float]:
    """Milliseconds of each of many questions; all have an answer."""
    times = []
    for seed in range(ASKED + 30):
        frame = science(seed, nights)
        start = time.perf_counter()
        if masters_too:
            found: list[Any] = of.master_candidates(f"master_{kind}", by, frame)
        else:
            found = of.candidates(kind, by, frame)
        times.append(1e3 * (time.perf_counter() - start))
        if not found:
            raise RuntimeError(f"no {kind} found for {frame.frames[0]}")
    return times[30:]


def measure(quick: bool, folder: Path) -> Iterator[Figure]:
    number = FRAMES // 20 if quick else FRAMES
    nights = number // (CAMERAS * 67)
    for name in DATABASES:
        if missing(name):
            continue
        with registry(name, folder / name) as opened:
            fill(opened, number)
            for masters_too in (False, True):
                for kind, by in shipped_rules().items():
                    times = asked(opened, kind, by, masters_too, nights)
                    yield figure(name, kind, times, number, masters_too)


def figure(database: str, kind: str, times: list[float], number: int, masters_too: bool) -> Figure:
    return Figure(
        f"{number} {'products' if masters_too else 'frames'}, {database}",
        f"nearest {'master ' if masters_too else ''}{kind} for a science frame",
        statistics.median(times),
        "ms",
        limit=LIMITS[database],
        note=f"95 % within {statistics.quantiles(times, n=20)[-1]:.2f} ms",
    )
