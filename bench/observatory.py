"""An observatory of one machine: Prefect server, worker, bridge, and a telescope that inserts frames with plain SQL."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
from astropy.io import fits
from sqlalchemy import make_url

from ccdflow.simulate.camera import CameraTruth
from ccdflow.simulate.frames import camera_truth, simulate_frame
from ccdflow.simulate.headers import raw_header
from ccdflow.simulate.nights import NIGHTS
from ccdflow.simulate.schedule import Camera, Exposure, calibration_exposures, science_exposures

PATIENCE = 120.0
SEED = 0
PROGRAMME = NIGHTS["goto"]


# --- the telescope ---------------------------------------------------------------------------------------


@dataclass
class Telescope:
    """The cameras of GOTO: the schedule of its night, with the dates of today.

    What is exposed is drawn once for each camera and filter. Headers differ from frame to frame, and one pixel does:
    files with the same noise would be copies of one exposure.
    """

    raw: Path
    shape: tuple[int, int]
    _cameras: dict[Camera, CameraTruth] = field(default_factory=dict)
    _drawn: dict[tuple[Camera, str, str], Any] = field(default_factory=dict)
    _number: int = 0

    def expose(self, exposure: Exposure, end: datetime | None = None) -> Path:
        """Write the file of an exposure that ended just now, or at `end` (UTC); gives its path."""
        moment = (end or datetime.now(UTC)).replace(tzinfo=None)
        self._number += 1
        shot = replace(exposure, start=moment - timedelta(seconds=exposure.exptime))
        camera = self._camera(exposure.camera)
        drawn, truth = self._light(exposure, camera)
        pixels = drawn.copy()
        pixels.flat[self._number % pixels.size] += 1
        path = self.raw / exposure.camera.label / f"{self._number:05d}_{exposure.imagetype}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        header = raw_header(PROGRAMME, SEED, shot, camera, truth)
        fits.PrimaryHDU(pixels, header).writeto(path)
        return path

    def _camera(self, camera: Camera) -> CameraTruth:
        if camera not in self._cameras:
            self._cameras[camera] = camera_truth(SEED, camera, self.shape)
        return self._cameras[camera]

    def _light(self, exposure: Exposure, camera: CameraTruth) -> Any:
        if exposure.imagetype != "science":
            return simulate_frame(SEED, camera, exposure)
        name = exposure.camera, exposure.filter, exposure.object
        if name not in self._drawn:
            self._drawn[name] = simulate_frame(SEED, camera, exposure)
        return self._drawn[name]

    def draw(self, exposures: Iterable[Exposure]) -> None:
        """Draw what will be exposed, so that it takes no time while the telescope observes."""
        for one in exposures:
            self._light(one, self._camera(one.camera))

    def calibrations(self, end: datetime | None = None) -> list[Path]:
        """The afternoon's biases and darks and the evening's flats, begun half an hour ago, or before `end` (UTC)."""
        taken = calibration_exposures(PROGRAMME)
        begin = (end or datetime.now(UTC)) - timedelta(minutes=30)
        return [self.expose(one, begin + timedelta(seconds=number)) for number, one in enumerate(taken)]


def stretch(seconds: float) -> list[tuple[float, Exposure]]:
    """The busiest stretch of GOTO's night: seconds from its begin at which frames are there, and the frames."""
    ends = sorted(
        ((one.start + timedelta(seconds=one.exptime), one) for one in science_exposures(PROGRAMME, "first")),
        key=lambda pair: (pair[0], pair[1].camera.label),
    )
    span = timedelta(seconds=seconds)
    best: list[tuple[datetime, Exposure]] = []
    for moment, _ in ends:
        inside = [pair for pair in ends if moment <= pair[0] < moment + span]
        best = max(best, inside, key=len)
    return [((moment - best[0][0]).total_seconds(), one) for moment, one in best]


def insert(url: str, paths: Sequence[Path]) -> float:
    """Insert rows as any program may; gives the time at which they were committed."""
    target, rows = make_url(url), [(str(path),) for path in paths]
    if target.get_backend_name() == "sqlite":
        with sqlite3.connect(str(target.database), timeout=30) as connection:
            connection.executemany("INSERT INTO frame (path) VALUES (?)", rows)
        connection.close()
    else:
        plain = target.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as other, other.cursor() as cursor:
            cursor.executemany("INSERT INTO frame (path) VALUES (%s)", rows)
    return time.time()


# --- the machine -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Observatory:
    """What runs: the server's URL, the project, and the ids of server, worker and bridge."""

    api: str
    project: Path
    processes: Mapping[str, int]

    def drain(self, seconds: float) -> None:
        """Have a drain started that waits so long for the next frame."""
        words = ["deployment", "run", "live/live", "--param", f"linger={seconds}"]
        env = os.environ | {"PREFECT_API_URL": self.api}
        subprocess.run(
            [sys.executable, "-m", "prefect", *words], env=env, stdout=subprocess.DEVNULL, check=True
        )


def _linger(api: str, seconds: float) -> None:
    """How long a drain that frames start shall wait for the next one."""
    with httpx.Client(base_url=api, timeout=30) as client:
        found = client.get("/deployments/name/live/live").raise_for_status().json()
        wanted = {"parameters": {**found["parameters"], "linger": seconds}}
        client.patch(f"/deployments/{found['id']}", json=wanted).raise_for_status()


@contextmanager
def observatory(folder: Path, project: Path, linger: float) -> Iterator[Observatory]:
    """Server, deployments, worker and bridge of a project, which run as long as the block.

    A drain that frames start waits `linger` seconds for the next one.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    api = f"http://127.0.0.1:{port}/api"
    settings = {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "MALLOC_ARENA_MAX": "2",  # as in the units of systemd
    }
    env = os.environ | settings
    worker = ["prefect", "worker", "start", "--type", "process"]
    bridge = ["ccdflow", "-C", str(project)]
    with ExitStack() as stack:

        def start(name: str, words: Sequence[str]) -> int:
            return stack.enter_context(_running(folder, name, words, env))

        processes = {"server": start("server", ["prefect", "server", "start", "--port", port])}
        _answers(api)
        ccdflow(project, "deploy", env=env)
        _linger(api, linger)
        processes["worker"] = start("worker", [*worker, "--pool", "ccdflow"])
        processes["bridge"] = start("bridge", [*bridge, "listen"])
        yield Observatory(api, project, processes)


def ccdflow(project: Path, *words: str, env: Mapping[str, str] = os.environ) -> None:
    """Run a command of ours; RuntimeError with what it said, if it fails."""
    argv = [sys.executable, "-m", "ccdflow", "-C", str(project), *words]
    done = subprocess.run(argv, env=dict(env), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


@contextmanager
def _running(folder: Path, name: str, words: Sequence[str], env: dict[str, str]) -> Iterator[int]:
    """A process that runs as long as the block; gives its id."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], env=env, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process.pid
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, number)
                    process.wait(10)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue


def _answers(api: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            httpx.get(f"{api}/health", timeout=2).raise_for_status()
            return
        except httpx.HTTPError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)
