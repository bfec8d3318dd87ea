"""An observatory: Prefect server, work pool, worker, bridge, telescope. Each of them is killed while frames come.

What has ended is started again, as systemd does it; nothing else is done by hand.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from tests.flows.conftest import Bench
from tests.flows.faults.conftest import Case
from tests.flows.faults.machinery import (
    AGE,
    Manifest,
    Postgres,
    PrefectServer,
    Process,
    ask,
    bridge,
    eventually,
    frames,
    insert,
    inserter,
    prefect_env,
    products_of,
    reached,
    told,
    whole,
)

from ccdflow.archive.registry.jobs.records import find_jobs

pytestmark = pytest.mark.torture


class Site:
    """All that runs at an observatory, for one project."""

    def __init__(self, night: Bench, home: Path) -> None:
        self.night, self.home = night, home
        self.server = PrefectServer(home)

    def start(self) -> None:
        """Everything as the manual says, for frames of any age and with a drain that soon ends."""
        self.deploy()
        env = prefect_env(self.home) | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
        words = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", "ccdflow"]
        self.worker = Process(words, self.home / "worker.log", env).start()
        self.bridge = bridge(self.night).start()
        eventually(lambda: "started" in self.worker.said, "the worker has started", self.worker)

    def deploy(self) -> None:
        words = [sys.executable, "-m", "ccdflow", "-C", str(self.night.project), "deploy"]
        done = subprocess.run(
            words, env=os.environ | prefect_env(self.home), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        with get_client(sync_client=True) as client:
            for one in client.request("POST", "/deployments/filter", json={}).json():
                more = {"live": {"max_age_days": AGE, "linger": 5.0}, "sweep": {"max_age_days": AGE}}
                if one["name"] in more:
                    parameters = one["parameters"] | more[one["name"]]
                    path = f"/deployments/{one['id']}"
                    client.request("PATCH", path, json={"parameters": parameters}).raise_for_status()

    def drain(self) -> psutil.Process:
        """The process that holds the drain."""
        ((owner,),) = ask(self.night, "SELECT owner FROM drain")
        return psutil.Process(int(owner.split(":")[1]))

    def kill_worker(self) -> None:
        """The worker, and the flows that it has started."""
        children: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.worker.pid).children(recursive=True)
        self.worker.kill()
        for one in children:
            with suppress(psutil.NoSuchProcess):
                one.kill()

    def tend(self) -> None:
        """Start again what has ended."""
        for one in (self.worker, self.bridge):
            if one.ended:
                one.start()


@pytest.fixture
def site(night: Bench, server: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(night, tmp_path)
    made.server.start()
    with temporary_settings({PREFECT_API_URL: made.server.url}):
        try:
            made.start()
            yield made
        finally:
            made.kill_worker()


def restart(site: Site, seconds: float) -> None:
    site.server.kill()
    time.sleep(seconds)
    site.server.start()


FAULTS: dict[str, Callable[[Site], None]] = {
    "nothing": lambda site: None,
    "kill -9 of the drain's process": lambda site: site.drain().kill(),
    "kill -9 of the worker alone": lambda site: psutil.Process(site.worker.pid).kill(),
    "kill -9 of worker and drain": Site.kill_worker,
    "kill -9 of the bridge": lambda site: site.bridge.kill(),
    "kill -9 of the server": lambda site: restart(site, 0),
    "server gone for a minute": lambda site: restart(site, 60),
}


def through(site: Site, wanted: Manifest, row: Case, fault: Callable[[], None], lost: int = 0) -> None:
    """Frames come, something dies when the first of them are done, and all is made in the end.

    No more than `lost` jobs may have been begun twice.
    """
    night = site.night
    _, *others = night.frames("science")
    insert(night, [path for path in frames(night) if path not in others])
    eventually(lambda: products_of(night, "master_dark") > 0, "the first products", site.worker, patience=300)
    telescope = inserter(night, others, 1.0).start()
    fault()
    row.begin()

    def done() -> bool:
        site.tend()
        return reached(night, wanted)

    eventually(done, "all products", patience=600)
    row.recovered()
    assert telescope.wait() == 0, telescope.said

    def quiet() -> bool:
        site.tend()
        return ask(night, "SELECT name FROM drain") == [] and reached(night, wanted)

    eventually(quiet, "no drain is left", patience=600)
    attempts = {job.key: job.attempts for job in night.space.registry.read(find_jobs)}
    assert sum(attempts.values()) - len(attempts) <= lost, attempts
    row.end(whole(night, wanted, in_vain=attempts))
    names = told(night, "ccdflow.frame.registered")
    assert len(names) == len(set(names))


@pytest.mark.parametrize("fault", FAULTS)
def test_what_dies_at_an_observatory(
    site: Site, database: str, undisturbed: Manifest, case: Callable[..., Case], fault: str
) -> None:
    lost = os.cpu_count() or 1 if "drain" in fault else 0
    through(site, undisturbed, case(fault, "frames come", database), lambda: FAULTS[fault](site), lost)


@pytest.mark.parametrize("database", ["PostgreSQL"])
def test_postgresql_dies_at_an_observatory(
    site: Site, database: str, postgres: Postgres, undisturbed: Manifest, case: Callable[..., Case]
) -> None:
    def fault() -> None:
        postgres.kill()
        postgres.start()

    through(site, undisturbed, case("kill -9 of PostgreSQL", "frames come", database), fault)
