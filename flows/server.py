"""Where flows are recorded: a Prefect server if one is configured, else one embedded in the program."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    temporary_settings,
)

from ccdflow.flows.embedded import embedded_server

_EMBEDDED: ContextVar[bool] = ContextVar("embedded", default=False)
PATIENCE = 120.0
"""Seconds that a run waits at its end for a server that is gone."""


def is_embedded() -> bool:
    """Whether flows are recorded by a server of the program's own, which nobody looks at."""
    return _EMBEDDED.get()


def wait_for_server() -> None:
    """Return once the configured server answers, so that a run can tell it how it ended.

    Where it stays away, the run ends in an error and shows as crashed; what it made counts all the same.
    """
    end = time.monotonic() + PATIENCE
    while PREFECT_API_URL.value() and time.monotonic() < end:
        with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
            client.request("GET", "/health").raise_for_status()
            return
        time.sleep(1.0)


@contextmanager
def prefect_server(scratch: Path) -> Iterator[None]:
    """The configured Prefect server, or without one, a server of the project's own in `scratch`.

    Two projects never share the embedded server, and what a user has set up for other work is left alone.
    """
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        if PREFECT_API_URL.value():
            yield
        else:
            server = embedded_server(scratch)
            token = _EMBEDDED.set(True)
            with temporary_settings({PREFECT_API_URL: server.wait(), PREFECT_HOME: server.home}):
                yield
            _EMBEDDED.reset(token)
