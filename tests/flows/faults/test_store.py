"""The store goes away while a drain works, or before it begins, and comes back."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.flows.conftest import Bench
from tests.flows.faults.conftest import Case
from tests.flows.faults.machinery import (
    PATIENCE,
    Manifest,
    ask,
    drain,
    eventually,
    frames,
    insert,
    products_of,
    reached,
    whole,
)

from ccdflow.archive.registry.jobs.records import find_jobs
from ccdflow.archive.store import RESULTS

LINGER = 15.0
"""Seconds: longer than a drain waits before it tries a job again."""


def take_away(bench: Bench) -> Callable[[], None]:
    """As if its disk were no longer mounted; gives what mounts it again."""
    store: Path = bench.space.project.store
    store.rename(store.with_name("elsewhere"))
    store.mkdir()

    def bring_back() -> None:
        # Prefect keeps its record of each task run, whatever became of it. No product was written there.
        shutil.rmtree(store / RESULTS, ignore_errors=True)
        store.rmdir()
        store.with_name("elsewhere").rename(store)

    return bring_back


@pytest.mark.torture
@pytest.mark.parametrize("moment", ["at work", "before it began"])
def test_a_store_that_goes_away_and_comes_back(
    night: Bench, database: str, undisturbed: Manifest, case: Callable[..., Case], moment: str
) -> None:
    row = case("store away", moment, database)
    night.space.claim_store()
    insert(night, frames(night))
    draining = drain(night, linger=LINGER)
    if moment == "at work":
        draining.start()
        eventually(lambda: products_of(night, "master_bias") == 1, "a product", draining)
        bring_back = take_away(night)
    else:
        bring_back = take_away(night)
        draining.start()
    eventually(lambda: "waits for it" in draining.said, "a drain that waits", draining)
    (count,) = ask(night, "SELECT count(*) FROM frame")[0]
    assert count == len(frames(night))
    assert draining.said.count("waits for it") == 1
    in_vain = {job.key for job in night.space.registry.read(find_jobs) if job.state != "done"}
    assert "failed" not in {job.state for job in night.space.registry.read(find_jobs)}
    bring_back()
    row.begin()
    eventually(lambda: reached(night, undisturbed), "all products", draining)
    row.recovered()
    assert draining.wait(PATIENCE) == 0 and "is there again" in draining.said
    row.end(whole(night, undisturbed, in_vain=in_vain))
