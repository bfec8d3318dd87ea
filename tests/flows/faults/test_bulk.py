"""Twenty thousand rows without files come in, and a drain is killed: frames with files do not wait for them."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.flows.conftest import Bench
from tests.flows.faults.conftest import Case
from tests.flows.faults.machinery import (
    Manifest,
    ask,
    drain,
    eventually,
    frames,
    insert,
    manifest,
    plain,
    products_of,
    reached,
    strays,
)

from ccdflow.archive.registry.frames.files import pending_frames
from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.archive.registry.jobs.records import find_jobs
from ccdflow.archive.registry.sets.news import first_row
from ccdflow.tasks.bridge import Bridge

ROWS, AT_ONCE = 20_000, 1_000
FIRST_JOB_S = 30.0
"""Seconds after which the successor of a drain that was killed has done its first job."""


def catalogue(night: Bench, streams: list[tuple[str, str, str]]) -> None:
    """Rows of the day before, by plain SQL: sequences of four, of cameras that observe and of others."""
    begin = datetime(2018, 1, 1)
    for first in range(0, ROWS, AT_ONCE):
        values = ", ".join(
            "('science', '{}', '{}', '{}', 'L', 'Field{}', 60.0, '{}', {}, 4, '2018-01-01')".format(
                *streams[number // 4 % len(streams)],
                number // 4,
                (begin + timedelta(seconds=70 * number)).isoformat(),
                number % 4 + 1,
            )
            for number in range(first, first + AT_ONCE)
        )
        columns = "class, telescope, camera, instrument, filter, object, exptime, obsdate, iobs, nobs, night"
        with plain(night) as connection:
            connection.execute(f"INSERT INTO frame ({columns}) VALUES {values}")


@pytest.mark.torture
def test_rows_that_come_in_keep_no_frame_waiting_not_even_after_a_kill(
    night: Bench, database: str, undisturbed: Manifest, case: Callable[..., Case]
) -> None:
    science = night.frames("science")
    row = case(f"{ROWS} rows without files, and kill -9 of the drain", "behind its first product", database)
    calibrations = [path for path in frames(night) if path not in science]
    insert(night, calibrations)
    first = drain(night, linger=60.0).start()
    registry = night.space.registry
    eventually(lambda: registry.read(pending_frames) == [], "calibrations are read", first)
    streams = sorted({frame.stream for frame in registry.read(find_frames)})
    catalogue(night, [*streams, ("SURVEY", "CCD1", "wide")])
    insert(night, [night.raw / f"never-{number}.fits" for number in range(500)])
    insert(night, science[:1])
    eventually(lambda: products_of(night, "science") > 0, "the first frame", first)
    first.kill()
    row.begin()
    insert(night, science[1:])
    second = drain(night, linger=5.0).start()
    eventually(lambda: products_of(night, "science") > 1, "the second frame", second, patience=FIRST_JOB_S)
    row.recovered()
    eventually(lambda: reached(night, undisturbed), "all products", second)
    assert manifest(night) == undisturbed and strays(night) == []
    assert {job.state for job in registry.read(find_jobs)} == {"done"}
    eventually(lambda: registry.read(first_row) is None, "all rows are in sets", second)
    row.end(f"{len(undisturbed)} of {len(undisturbed)} products, no job of a row, {_events(night)}")


def _events(night: Bench) -> str:
    """Tell everything that has happened, in far fewer events."""
    sent: list[dict[str, Any]] = []
    ((count,),) = ask(night, "SELECT count(*) FROM event")  # before: of delivered ones the oldest are deleted
    bridge, begin = Bridge(night.space, sent.extend), time.monotonic()
    while bridge.look():
        pass
    assert bridge.sent == count > ROWS and len(sent) < count / 10
    assert time.monotonic() - begin < 60.0
    return f"{count} events told in {len(sent)}"
