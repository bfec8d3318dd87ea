"""The disk is full while a drain is at work; nobody does anything but make room."""

import os
import shutil
import signal
from collections.abc import Callable

import pytest
from tests.flows.conftest import Bench
from tests.flows.faults.conftest import Case, NewNight
from tests.flows.faults.machinery import (
    Manifest,
    Process,
    drain,
    eventually,
    frames,
    insert,
    reached,
    small_disk,
    strays,
    whole,
)

from ccdflow.archive.registry.frames.queries import list_frames
from ccdflow.archive.registry.jobs.records import find_jobs
from ccdflow.config.project import PROJECT_FILE

LINGER = 15.0
"""Seconds: longer than a drain waits before it tries again."""


def configure(night: Bench, line: str) -> None:
    path = night.project / PROJECT_FILE
    told = path.read_text() if "registry: postgresql" in path.read_text() else ""
    path.write_text(f"{told}{line}\n")


def waiting(night: Bench) -> dict[str, str]:
    """Jobs that were begun in vain, with the sentence that says why."""
    return {
        job.key: job.reason
        for job in night.space.registry.read(find_jobs)
        if job.attempts and job.state == "planned"
    }


def held_up(night: Bench, draining: Process, sentence: str) -> set[str]:
    """Wait until jobs wait with a sentence; gives them. Nothing has failed, and the frames say why they wait."""
    eventually(lambda: sentence in " ".join(waiting(night).values()), sentence, draining)
    found = night.space.registry.read(find_jobs)
    assert "failed" not in {job.state for job in found}
    states = [
        row for row in night.space.registry.read(list_frames) if row["status"] not in ("done", "running")
    ]
    assert any(sentence in row["reason"] for row in states), states
    return {job.key for job in found if job.state != "done"}


def until_done(
    night: Bench,
    draining: Process,
    undisturbed: Manifest,
    row: Case,
    in_vain: set[str],
    room: Callable[[], None],
) -> None:
    room()
    row.begin()
    eventually(lambda: reached(night, undisturbed), "all products", draining)
    row.recovered()
    assert draining.wait() == 0 and draining.said.endswith("{}\n"), draining.said
    row.end(whole(night, undisturbed, in_vain=in_vain))


def test_a_run_on_a_full_disk_says_so_and_the_next_one_completes(
    new_night: NewNight, undisturbed: Manifest, case: Callable[..., Case]
) -> None:
    night = new_night("SQLite")
    configure(night, "least_free: 0")
    row = case("disk full", "ccdflow run", "SQLite")
    with small_disk(night.project / "store", "400k") as enlarge:
        report = night.run(night.raw)
        assert report.exit_code == 1 and report.jobs["incomplete"] == 0
        assert report.failed and all("No space left on device" in one for one in report.failed.values())
        assert any("jobs wait for those that failed" in one for one in report.problems)
        assert strays(night) == [] and "failed" not in {
            job.state for job in night.space.registry.read(find_jobs)
        }
        enlarge("300m")
        row.begin()
        assert night.run().exit_code == 0
        row.end(whole(night, undisturbed, in_vain=report.failed))


@pytest.mark.torture
@pytest.mark.parametrize(
    ("size", "line", "sentence"),
    [
        ("400k", "least_free: 0", "No space left on device"),
        ("50m", "least_free: 100 MB", "least_free in ccdflow.yaml"),
    ],
)
def test_full_store(
    new_night: NewNight, undisturbed: Manifest, case: Callable[..., Case], size: str, line: str, sentence: str
) -> None:
    night = new_night("SQLite")
    configure(night, line)
    row = case("disk full", f"store: {sentence}", "SQLite")
    with small_disk(night.project / "store", size) as enlarge:
        insert(night, frames(night))
        draining = drain(night, linger=LINGER).start()
        in_vain = held_up(night, draining, sentence)
        until_done(night, draining, undisturbed, row, in_vain, lambda: enlarge("300m"))


@pytest.mark.torture
def test_full_store_and_registry(
    new_night: NewNight, undisturbed: Manifest, case: Callable[..., Case]
) -> None:
    night = new_night("SQLite")
    configure(night, "least_free: 0")
    row = case("disk full", "store and registry", "SQLite")
    kept = (night.project / PROJECT_FILE).read_text()
    with small_disk(night.project, "8m") as enlarge:
        (night.project / PROJECT_FILE).write_text(kept)
        insert(night, frames(night))
        room = shutil.disk_usage(night.project).free - 250_000
        (night.project / "ballast").write_bytes(b"\0" * room)
        draining = drain(night, linger=LINGER).start()
        eventually(lambda: shutil.disk_usage(night.project).free < 20_000, "a full disk", draining)
        in_vain = {job.key for job in night.space.registry.read(find_jobs) if job.state != "done"}
        until_done(night, draining, undisturbed, row, in_vain, lambda: enlarge("300m"))
        night.space.registry.close()


@pytest.mark.torture
def test_files_that_may_not_grow(
    new_night: NewNight, undisturbed: Manifest, case: Callable[..., Case]
) -> None:
    night = new_night("PostgreSQL")
    row = case("disk full", "no file beyond 50 kB", "PostgreSQL")
    insert(night, frames(night))
    draining = drain(night, "small files: 50000", linger=LINGER).start()
    in_vain = held_up(night, draining, "File too large")
    assert strays(night) == []

    def room() -> None:
        os.kill(draining.pid, signal.SIGUSR1)

    until_done(night, draining, undisturbed, row, in_vain, room)
