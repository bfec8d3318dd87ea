"""What a job costs above its pixels: our flow against bare Prefect, job for job.

``python -m bench.orchestration`` reduces tiny frames, whose pixels cost nothing, through the real flow (plan,
claim, read, recipe, write, finish, task with cache and kept result), and runs as many empty tasks with kept
results on the same Prefect server, in the same process, with the same number of threads. The work of the jobs is
also done without registry and Prefect, so that one sees what is orchestration and what reading and writing. A run
ends when Prefect's threads have sent all events and logs.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from prefect import flow, task
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

from bench.harness import Figure, scratch
from ccdflow.archive.registry.jobs.leases import claim
from ccdflow.archive.registry.jobs.productchanges import finish_job
from ccdflow.archive.registry.jobs.records import JobFilter, find_jobs
from ccdflow.cascade.planning.request import Request
from ccdflow.config.project import init_project
from ccdflow.flows.embedded import embedded_server
from ccdflow.flows.execute import THREADS, task_runner
from ccdflow.flows.nightly import nightly
from ccdflow.flows.server import prefect_server
from ccdflow.recipes.catalogue import RECIPES
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.inputs import read_inputs
from ccdflow.tasks.outputs import store_result
from ccdflow.tasks.planning import planned
from ccdflow.tasks.rounds import write_plan
from ccdflow.tasks.workspace import Workspace, open_workspace

JOBS = 1000
SHAPE = (8, 8)
WANTED_MS = 10.0
"""What a job may cost above bare Prefect and above its files, in milliseconds of CPU: the wall of a shared machine
tells less."""
REQUEST = Request(targets=("science",))


def write_frames(folder: Path, number: int) -> Path:
    """Raw frames of 8x8 pixels: three biases, two flats, and as many science frames as wanted."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    kinds = [("bias", 0.0, 300)] * 3 + [("flat", 2.0, 20_000)] * 2 + [("science", 60.0, 1_000)] * number
    start = datetime(2026, 3, 1, 18)
    for place, (kind, exptime, level) in enumerate(kinds):
        cards = {
            "IMAGETYP": kind,
            "DATE-OBS": (start + timedelta(seconds=70 * place)).isoformat(),
            "EXPTIME": exptime,
            "TELESCOP": "T",
            "INSTRUME": "C",
            "OBJECT": "Field" if kind == "science" else kind,
            "GAIN": 1.5,
            "RDNOISE": 5.0,
        }
        cards |= {} if kind == "bias" else {"FILTER": "V"}
        pixels = rng.poisson(level, SHAPE).astype(np.uint16)
        fits.PrimaryHDU(pixels, fits.Header(cards)).writeto(folder / f"{place:06d}_{kind}.fits")
    return folder


def project_with(directory: Path, raw: Path) -> Workspace:
    """A project that has registered the raw frames."""
    init_project(directory)
    space = open_workspace(directory)
    ingest_files(space, [raw])
    return space


# --- clocks -----------------------------------------------------------------------------------------------


def server_cpu(folder: Path) -> float:
    """CPU seconds of the embedded Prefect server so far; 0 where the server is not ours."""
    pid = embedded_server(folder).pid
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


NAMES = ("wall", "cpu", "server", "fsync")


class Clock:
    """Seconds of wall, of CPU here and in the server, and waiting for fsync, between two moments."""

    def __init__(self, other: "Clock | None" = None, parts: int = 1) -> None:
        self.wall = self.cpu = self.server = self.fsync = 0.0
        for name in NAMES if other else ():
            setattr(self, name, getattr(other, name) / parts)

    def less(self, other: "Clock") -> "Clock":
        """What is left where `other` is taken away."""
        made = Clock()
        for name in NAMES:
            setattr(made, name, getattr(self, name) - getattr(other, name))
        return made

    @staticmethod
    def mean(first: "Clock", second: "Clock") -> "Clock":
        """The mean of two."""
        made = Clock()
        for name in NAMES:
            setattr(made, name, (getattr(first, name) + getattr(second, name)) / 2)
        return made


@contextmanager
def clocked(folder: Path) -> Iterator[Clock]:
    """Measure a block; the seconds stand in what it gives once the block has ended.

    The block ends when Prefect has sent all events and logs: a short one would leave it most of them.
    """
    clock = Clock()
    wall, cpu, server = time.perf_counter(), time.process_time(), server_cpu(folder)
    with _fsync_timed(clock):
        yield clock
        EventsWorker.drain_all()
        APILogWorker.drain_all()
    clock.wall, clock.cpu = time.perf_counter() - wall, time.process_time() - cpu
    clock.server = server_cpu(folder) - server


@contextmanager
def _fsync_timed(clock: Clock) -> Iterator[None]:
    """Add up the seconds, over all threads, that calls of fsync from Python take."""
    original, turn = os.fsync, threading.Lock()

    def timed(fd: Any) -> None:
        before = time.perf_counter()
        try:
            original(fd)
        finally:
            with turn:
                clock.fsync += time.perf_counter() - before

    os.fsync = timed
    try:
        yield
    finally:
        os.fsync = original


# --- what is compared -------------------------------------------------------------------------------------


def bare_prefect(folder: Path, number: int) -> Clock:
    """As many empty tasks with kept results as there are jobs."""

    @task(persist_result=True, result_serializer="json", result_storage=folder / "results")
    def empty(project: str, key: str) -> dict[str, str]:
        return {"key": key}

    @flow(name="bare", task_runner=task_runner())
    def bare() -> None:
        for one in [empty.submit("project", f"{place:064d}") for place in range(number)]:
            one.wait()

    with clocked(folder) as clock:
        bare()
    return clock


def work_alone(folder: Path, space: Workspace) -> Clock:
    """The work of all jobs one after the other: read, recipe, write; no registry in between, no Prefect."""
    write_plan(space, planned(space, REQUEST))
    todo = {job.key: job for job in space.registry.read(find_jobs, JobFilter(states=("planned",)))}
    with clocked(folder) as clock:
        for stage in ("bias", "flat", "science"):
            for job in [one for one in todo.values() if one.step == stage]:
                inputs = read_inputs(space, job)
                values = {name: one["value"] for name, one in job.parameters.items()}
                recipe = RECIPES[job.recipe]
                result = recipe.run(inputs.recipe_inputs, recipe.parameters.model_validate(values))
                made = store_result(space, job, inputs, result)
                if stage != "science":
                    space.registry.write(claim, job.key, "bench", 3600)
                    space.registry.write(finish_job, job.key, "bench", made)
    return clock


def our_flow(folder: Path, space: Workspace) -> Clock:
    """The real flow from registered frames to products."""
    with clocked(folder) as clock:
        failed = nightly(str(space.project.directory), request=REQUEST)
    if failed:
        raise RuntimeError(f"jobs failed: {failed}")
    return clock


def clocks(jobs: int) -> dict[str, Clock]:
    """What is compared, measured one after the other on one server; bare Prefect before and after."""
    with tempfile.TemporaryDirectory(dir=scratch()) as name:
        root = Path(name)
        write_frames(root / "raw", jobs - 2)
        with prefect_server(root):
            bare_prefect(root, 20)  # imports what is imported late
            our_flow(root, project_with(root / "warm", write_frames(root / "few", 4)))
            found = {"before": bare_prefect(root, jobs)}
            found["alone"] = work_alone(root, project_with(root / "alone", root / "raw"))
            found["ours"] = our_flow(root, project_with(root / "ours", root / "raw"))
            return found | {"after": bare_prefect(root, jobs)}


def measure(quick: bool = False, jobs: int | None = None) -> list[Figure]:
    """Milliseconds a job of bare Prefect, of the work alone, of our flow, and of our flow above these two."""
    number = jobs or (60 if quick else JOBS)
    found = clocks(number)
    each = {name: Clock(clock, number) for name, clock in found.items()}
    bare = Clock.mean(each["before"], each["after"])
    above = each["ours"].less(bare)
    name = f"{number} jobs on 8x8 pixels, {THREADS} threads"
    return [
        _figure(name, "an empty task of bare Prefect", bare),
        _figure(name, "the files of a job alone: read, recipe, write; one after the other", each["alone"]),
        _figure(name, "a job of our flow", each["ours"]),
        _figure(name, "a job of our flow above bare Prefect, its files included", above),
        _figure(
            name, "a job of our flow above bare Prefect and its files", above.less(each["alone"]), WANTED_MS
        ),
    ]


def _figure(name: str, what: str, clock: Clock, limit: float | None = None) -> Figure:
    note = f"server {1e3 * clock.server:.1f} ms of processor, fsync {1e3 * clock.fsync:.1f} ms"
    return Figure(
        name, what, 1e3 * clock.cpu, "ms", limit=limit, note=f"{1e3 * clock.wall:.1f} ms of wall; {note}"
    )


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=JOBS)
    found = measure(jobs=parser.parse_args().jobs)
    print(found[0].name)
    for one in found:
        print(f"{one.what:<70} {one.ours:7.2f} ms of processor ({one.note})")


if __name__ == "__main__":
    main()
