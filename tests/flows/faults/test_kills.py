"""kill -9 at each moment of the making of a product."""

import signal
from collections import Counter
from collections.abc import Callable

import pytest
from tests.flows.conftest import Bench
from tests.flows.faults.conftest import ONE_IS_QUICK, Case
from tests.flows.faults.dying import MOMENTS
from tests.flows.faults.machinery import Manifest, drain, frames, insert, running, whole

PRODUCTS = ("master_bias", "science", "stack")


def kill_at(bench: Bench, moment: str, category: str, killed: Counter[str]) -> None:
    """Let a drain begin, which dies; notes the jobs that it held."""
    process = drain(bench, moment, category).start()
    assert process.wait() == -signal.SIGKILL, process.said
    killed.update(running(bench))


def recover(bench: Bench) -> None:
    process = drain(bench).start()
    assert process.wait() == 0 and process.said.endswith("{}\n"), process.said


@pytest.mark.torture
@pytest.mark.parametrize("category", PRODUCTS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_drain_that_dies_at_any_moment_is_followed_by_one_that_completes(
    night: Bench,
    database: str,
    undisturbed: Manifest,
    case: Callable[..., Case],
    moment: str,
    category: str,
) -> None:
    insert(night, frames(night))
    killed: Counter[str] = Counter()
    row = case("kill -9 of the drain", f"{moment} ({category})", database)
    kill_at(night, moment, category, killed)
    row.begin()
    recover(night)
    row.end(whole(night, undisturbed, killed))


CHAIN = (
    ("master_bias", "in the middle of the write"),
    ("master_flat", "after the rename"),
    ("science", "before the commit"),
)


@ONE_IS_QUICK
def test_drains_that_die_one_after_the_other_lose_nothing(
    night: Bench, database: str, undisturbed: Manifest, case: Callable[..., Case]
) -> None:
    insert(night, frames(night))
    killed: Counter[str] = Counter()
    row = case("kill -9 of three drains, one after the other", "three moments", database)
    for category, moment in CHAIN:
        kill_at(night, moment, category, killed)
    row.begin()
    recover(night)
    row.end(whole(night, undisturbed, killed))
