"""Planning: milliseconds of the processor for each job, from frames in memory to jobs with keys.

``python -m bench.planning`` plans nights of several cameras and filters, with biases, darks and flats, up to science
frames and stacks.
"""

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from statistics import median

from bench.harness import Figure
from ccdflow.cascade.planning.planner import plan
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.records import FrameRecord, Value
from ccdflow.config.cascadefile import load_cascade
from ccdflow.config.shipped import shipped
from ccdflow.recipes.catalogue import RECIPES

CAMERAS = 4
FILTERS = "BVRI"
SCIENCE = 100
"""Science frames of a camera in a night, in sequences of 4."""
JOBS_OF_A_NIGHT = CAMERAS * (SCIENCE + SCIENCE // 4 + 2 + len(FILTERS))
SIZES = (1_000, 10_000, 100_000)
LIMIT = 0.3
"""Milliseconds of the processor for each job."""
KEYWORDS: dict[str, Value] = {
    "binning": "1x1",
    "readout_mode": "slow",
    "shape": "64x64",
    "gain": 1.5,
    "read_noise": 5.0,
}
CALIBRATIONS = (
    ("bias", "", 0.0, 10),
    ("dark", "", 60.0, 5),
    *(("flat", one, 5.0, 5) for one in FILTERS),
)
"""Class, filter, exposure time, number."""


def frames(jobs: int) -> list[FrameRecord]:
    """Frames of whole nights, enough for about `jobs` jobs, in no order."""
    nights = max(1, round(jobs / JOBS_OF_A_NIGHT))
    made = [one for night in range(nights) for camera in range(CAMERAS) for one in _night(night, camera)]
    numbered = [replace(one, id=number, sha256=f"{number:064x}") for number, one in enumerate(made, 1)]
    random.Random(1).shuffle(numbered)
    return numbered


def _night(number: int, camera: int) -> Iterator[FrameRecord]:
    evening = datetime(2020, 1, 1, 18) + timedelta(days=number)
    night = evening.date().isoformat()
    kinds = [
        (kind, filter_, "", exptime, 1, 1)
        for kind, filter_, exptime, count in CALIBRATIONS
        for _ in range(count)
    ]
    for at in range(SCIENCE):
        filter_, target = FILTERS[at // 4 % len(FILTERS)], f"Field{at // 16}"
        kinds.append(("science", filter_, target, 60.0, at % 4 + 1, 4))
    for at, (kind, filter_, target, exptime, iobs, nobs) in enumerate(kinds):
        obsdate = (evening + timedelta(seconds=90 * at + camera)).isoformat()
        where = f"/raw/{night}/{camera}/{at}.fits"
        known = FrameRecord(
            0, kind, "T", f"C{camera}", "I", filter_, target, exptime, obsdate, iobs, nobs, night
        )
        yield replace(known, path=where, keywords=KEYWORDS)


def planned(found: list[FrameRecord]) -> Plan:
    """The plan for everything there is."""
    cascade = load_cascade(shipped("cascades") / "imaging.yaml")
    return plan(Known(cascade, RECIPES, found), Request())


def measure(quick: bool = False, repeats: int = 3) -> list[Figure]:
    """Milliseconds for each job, for plans of growing size."""
    return [_figure(size, repeats) for size in (SIZES[:2] if quick else SIZES)]


def _figure(size: int, repeats: int) -> Figure:
    found = frames(size)
    times, jobs = [], 0
    for _ in range(repeats if size < SIZES[-1] else min(repeats, 2)):
        start = time.process_time()
        jobs = len(planned(found).jobs)
        times.append((time.process_time() - start) * 1e3 / jobs)
    return Figure(
        f"{len(found)} frames, {jobs} jobs",
        "plan, for each job",
        median(times),
        unit="ms",
        limit=LIMIT,
        ours_range=(min(times), max(times)),
        note="CPU time",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, help="numbers of jobs")
    for size in parser.parse_args().sizes:
        one = _figure(size, 3)
        print(f"{one.name:>30}: {one.ours:.3f} ms a job (at most {LIMIT}) {one.verdict}", flush=True)


if __name__ == "__main__":
    main()
