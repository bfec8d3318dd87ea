"""Functions of others: whatever one does, its own job fails with a reason, and the others go on."""

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits

from ccdflow.archive.registry.jobs.logs import find_log
from ccdflow.archive.registry.jobs.records import JobRecord, find_job
from ccdflow.cascade.planning.request import Request
from ccdflow.config.project import init_project
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.planning import planned
from ccdflow.tasks.processes.functions import end_keepers
from ccdflow.tasks.processes.stopping import STOP, StoppedError
from ccdflow.tasks.rounds import write_plan
from ccdflow.tasks.running import run_job
from ccdflow.tasks.workspace import Workspace, open_workspace

HERE = Path(__file__).parent
FAILURES = {
    "exits": "SystemExit: 3",
    "exits_with_words": "SystemExit: no stars in sight",
    "interrupts": "KeyboardInterrupt",
    "raises": "KeyError: 'flux'",
    "names_a_file": r"ValueError: M\udce931.fits can't be read",
    "vanishes": "its process ended with 0 without a result",
    "crashes": "its process was killed by SIGSEGV without a result",
    "is_killed": "its process was killed by SIGKILL without a result (was there too little memory?)",
    "never_ends": "recipe 'never_ends' took longer than 0.3 s (time_limit), and was ended",
    "gives_a_number": "ValueError: badfunctions.gives_a_number gave int, wanted a Result",
    "needs_too_much": "MemoryError: Unable to allocate",
    "gives_what_cannot_be_sent": "AttributeError: what it gave can't be handed over: ",
}
UNENDING = "waits"
SUCCESSES = ("good", "talks", "floods", "leaves_a_thread", "leaves_a_grandchild")


@dataclass(frozen=True)
class Project:
    """A project with one frame, and a task for each function."""

    space: Workspace
    keys: dict[str, str]

    def run(self, name: str) -> JobRecord:
        """Do the job of a function; give what the registry then says of it."""
        with suppress(Exception):
            run_job(str(self.space.project.directory), self.keys[name])
        job = self.space.registry.read(find_job, self.keys[name])
        assert job is not None
        return job

    def log(self, name: str) -> str:
        kept = self.space.registry.read(find_log, self.keys[name])
        return "" if kept is None else kept[2]


def frame(path: Path) -> Path:
    cards = {"IMAGETYP": "light", "EXPTIME": 5.0, "DATE-OBS": "2026-03-01T20:00:00", "INSTRUME": "CAM"}
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    fits.PrimaryHDU(pixels, fits.Header(cards)).writeto(path)
    return path


def project_of(folder: Path, recipes: dict[str, dict[str, object]]) -> Project:
    """A project whose tasks each run one recipe of its own on one raw frame."""
    declared = {"inputs": {"main": {"kind": "raw"}}, "outputs": ["made"]}
    cascade = {
        "name": "mine",
        "recipes": {name: declared | recipe for name, recipe in recipes.items()},
        "sources": {"sci": {"class": "science", "group": "each"}},
        "tasks": {name: {"recipe": name, "main": "sci", "stage": "science"} for name in recipes},
    }
    init_project(folder)
    shutil.copy(HERE / "badfunctions.py", folder)
    (folder / "mine.yaml").write_text(yaml.safe_dump(cascade))
    file = folder / "ccdflow.yaml"
    file.write_text(file.read_text().replace("cascade: imaging", "cascade: mine.yaml"))
    space = open_workspace(folder)
    ingest_files(space, [frame(folder / "frame.fits")])
    plan = planned(space, Request(targets=tuple(recipes), now="2026-03-02T12:00:00"))
    write_plan(space, plan)
    return Project(space, {job.step: job.key for job in plan.jobs})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    names = (*SUCCESSES, *FAILURES, UNENDING)
    limits = {"never_ends": {"time_limit": "0.3 s"}}
    recipes = {name: {"function": f"badfunctions.{name}"} | limits.get(name, {}) for name in names}
    made = project_of(tmp_path_factory.mktemp("own") / "project", recipes)
    yield made
    end_keepers()
    made.space.registry.close()


@pytest.mark.parametrize("name", FAILURES)
def test_a_function_that_goes_wrong_fails_its_job_with_the_reason(project: Project, name: str) -> None:
    job = project.run(name)
    assert (job.state, job.owner != "") == ("failed", True)
    assert job.reason.startswith(FAILURES[name]), job.reason


@pytest.mark.parametrize("name", SUCCESSES)
def test_what_a_function_leaves_running_or_says_spoils_nothing(project: Project, name: str) -> None:
    begun = time.monotonic()
    job = project.run(name)
    assert job.state == "done", job.reason
    assert time.monotonic() - begun < 10


def test_all_that_a_function_says_is_kept_as_text(project: Project) -> None:
    project.run("talks")
    text = project.log("talks")
    assert all(
        words in text for words in ("on standard output", "on standard error", "INFO mine: in the log")
    )
    assert "\ufffd\ufffd not UTF-8 red\n" in text and "\x00" not in text and "\x1b" not in text


def test_of_a_flood_head_and_tail_are_kept(project: Project) -> None:
    project.run("floods")
    text = project.log("floods")
    assert text.startswith("the beginning\n") and text.endswith("\nthe end\n")
    assert "bytes left out" in text and len(text) < 70_000


def test_a_crash_leaves_its_traceback_in_the_log(project: Project) -> None:
    project.run("crashes")
    assert "Segmentation fault" in project.log("crashes") and "badfunctions.py" in project.log("crashes")


def test_when_we_are_told_to_end_a_job_is_planned_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(STOP, "exit", lambda status: None)
    threading.Timer(0.5, STOP.tell, [signal.SIGTERM]).start()
    try:
        job = project.run(UNENDING)
        assert (job.state, job.reason, job.owner) == ("planned", "stopped by SIGTERM", "")
        # Nothing new is begun from now on.
        assert project.run("good").state != "running"
        with pytest.raises(StoppedError):
            run_job(str(project.space.project.directory), project.keys[UNENDING])
    finally:
        STOP.forget()
