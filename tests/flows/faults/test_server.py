"""The Prefect server goes away while a drain is at work."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from tests.flows.conftest import Bench
from tests.flows.faults.conftest import ONE_IS_QUICK, Case
from tests.flows.faults.machinery import (
    Manifest,
    PrefectServer,
    drain,
    eventually,
    frames,
    insert,
    products_of,
    reached,
    whole,
)


@pytest.mark.torture
@ONE_IS_QUICK
def test_a_drain_goes_on_without_the_server_and_tells_it_in_the_end(
    night: Bench, database: str, undisturbed: Manifest, case: Callable[..., Case], tmp_path: Path
) -> None:
    row = case("server gone until all is made", "a drain is at work", database)
    server = PrefectServer(tmp_path)
    server.start()
    _, *others = night.frames("science")
    insert(night, [path for path in frames(night) if path not in others])
    with temporary_settings({PREFECT_API_URL: server.url}):
        draining = drain(night, linger=4.0).start()
    eventually(lambda: products_of(night, "master_bias") > 0, "a master", draining)
    server.kill()
    row.begin()
    insert(night, others)
    eventually(lambda: reached(night, undisturbed), "all products, without the server", draining)
    row.recovered()
    time.sleep(5.0)  # by now the drain has nothing to do and waits for the server
    server.start()
    assert draining.wait() == 0 and draining.said.endswith("{}\n"), draining.said
    row.end(whole(night, undisturbed))
