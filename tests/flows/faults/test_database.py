"""The database goes away for seconds while a drain, the bridge and a telescope are at work."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.flows.conftest import Bench
from tests.flows.faults.conftest import Case, NewNight
from tests.flows.faults.machinery import (
    Manifest,
    Postgres,
    bridge,
    drain,
    eventually,
    everything_was_told,
    frames,
    insert,
    inserter,
    locked,
    products_of,
    reached,
    whole,
)

from ccdflow.archive.registry.frames.files import NewFrame
from ccdflow.archive.registry.sets.news import read_news
from ccdflow.archive.registry.sets.records import find_sets
from ccdflow.archive.registry.transactions import add_catalogue
from ccdflow.cascade.planning.request import Request
from ccdflow.tasks.grouping import group_sets

LINGER = 6.0
"""Seconds: longer than the database is gone."""


def at_work(night: Bench, undisturbed: Manifest, row: Case, gone: Callable[[], None]) -> None:
    """A telescope inserts, the bridge tells, a drain makes products; then the database is gone for a while."""
    _, *others = night.frames("science")
    insert(night, [path for path in frames(night) if path not in others])
    listening = bridge(night).start()
    draining = drain(night, linger=LINGER).start()
    eventually(lambda: products_of(night, "master_bias") > 0, "a master", draining)
    telescope = inserter(night, others, 1.0).start()
    gone()
    row.begin()
    assert telescope.wait() == 0, telescope.said
    eventually(lambda: reached(night, undisturbed), "all products", draining)
    row.recovered()
    assert draining.wait() == 0 and draining.said.endswith("{}\n"), draining.said
    row.end(whole(night, undisturbed))
    assert "Traceback" not in draining.said, draining.said
    eventually(lambda: everything_was_told(night), "each event once at the server", listening)
    listening.end()
    assert "Traceback" not in listening.said, listening.said


@pytest.mark.torture
def test_sqlite_held_by_another_program_for_5_s(
    new_night: NewNight, undisturbed: Manifest, case: Callable[..., Case]
) -> None:
    night = new_night("SQLite")

    def gone() -> None:
        assert locked(night, 5.0).start().wait() == 0

    at_work(night, undisturbed, case("database held for 5 s", "at work", "SQLite"), gone)


@pytest.mark.parametrize(
    "how", ["stopped at once", pytest.param("kill -9 of the postmaster", marks=pytest.mark.torture)]
)
def test_postgresql_gone_for_5_s(
    new_night: NewNight, postgres: Postgres, undisturbed: Manifest, case: Callable[..., Case], how: str
) -> None:
    night = new_night("PostgreSQL")

    def gone() -> None:
        (postgres.stop if how == "stopped at once" else postgres.kill)()
        time.sleep(5.0)
        postgres.start()

    at_work(night, undisturbed, case("database gone for 5 s", how, "PostgreSQL"), gone)


def test_sets_that_a_crash_takes_back_are_made_again(new_night: NewNight, postgres: Postgres) -> None:
    space = new_night("PostgreSQL").space
    add_catalogue(space.registry, sequence("M13", 6))

    log_writer = postgres.hold_log()
    made = group_sets(space, Request())
    assert made == {"stack": 2, "pass": 0, "open": 0}
    postgres.crash(log_writer)
    assert space.registry.read(find_sets) == []
    assert len(space.registry.read(read_news, ()).ids) == 6

    log_writer = postgres.hold_log()
    assert group_sets(space, Request()) == made
    found = space.registry.read(find_sets)
    assert [len(one.frames) for one in found] == [4, 2]
    add_catalogue(
        space.registry, sequence("M15", 1)
    )  # which waits for the disk, and so for what is before it
    postgres.crash(log_writer)
    assert space.registry.read(find_sets) == found


def sequence(target: str, length: int) -> list[NewFrame]:
    """Frames of one sequence, one a minute."""
    known = NewFrame(
        frame_class="science",
        telescope="T",
        camera="C",
        instrument="I",
        filter="V",
        object=target,
        exptime=60.0,
    )
    times = [f"2026-03-01T20:{minute:02}:00" for minute in range(length)]
    return [
        replace(known, obsdate=time_, iobs=place, nobs=length) for place, time_ in enumerate(times, start=1)
    ]
