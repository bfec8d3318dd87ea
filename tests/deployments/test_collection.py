"""What a Prefect worker loads of ccdflow collects its garbage; other processes load it and nothing happens."""

import subprocess
import sys

import pytest

from ccdflow.deployments.collection import is_worker

LOOK = """
import sys, threading
sys.argv = {arguments}
from prefect.plugins import load_prefect_collections
loaded = load_prefect_collections()["ccdflow"]
assert not isinstance(loaded, Exception), loaded
print([thread.name for thread in threading.enumerate() if thread.name == "garbage"])
"""


@pytest.mark.parametrize(
    ("arguments", "worker"),
    [
        (["prefect", "worker", "start", "--type", "process", "--pool", "ccdflow"], True),
        (["prefect", "--profile", "site", "worker", "start"], True),
        (["prefect", "server", "start"], False),
        (["-m"], False),
    ],
)
def test_only_a_worker_is_one(arguments: list[str], worker: bool) -> None:
    assert is_worker(arguments) is worker


def test_prefect_loads_it_and_in_a_worker_garbage_is_collected() -> None:
    arguments = ["prefect", "worker", "start"]
    command = [sys.executable, "-c", LOOK.format(arguments=arguments)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "['garbage']\n"
