"""Where flows are recorded: a Prefect server if one is configured, else one embedded in the program."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    temporary_settings,
)

from ccdflow.flows.embedded import embedded_server

_EMBEDDED: ContextVar[bool] = ContextVar("embedded", default=False)
SERVER_PATIENCE_S = 120.0
"""Seconds that a run waits at its end for a server that is gone: systemd has started it again by then."""
DRAIN_S = 10.0
"""Seconds that a program waits at most for the last events of its flows to be taken by its own server."""
SERVER_LOOK_S = 1.0
"""Seconds between two questions whether it is there again."""


def is_embedded() -> bool:
    """Tell whether flows are recorded by a server of the program's own, which nobody looks at."""
    return _EMBEDDED.get()


def wait_for_server() -> None:
    """Return once the configured server answers, so that a run can tell it how it ended.

    Where it stays away, the run ends in an error and shows as crashed; what it made counts all the same.
    """
    end = time.monotonic() + SERVER_PATIENCE_S
    # Without a URL the server lives in this program or is started by Prefect itself: there is nothing to wait for.
    while PREFECT_API_URL.value() and time.monotonic() < end:
        with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
            client.request("GET", "/health").raise_for_status()
            return
        time.sleep(SERVER_LOOK_S)


@contextmanager
def prefect_server(scratch: Path) -> Iterator[None]:
    """Let flows in the block be recorded by the configured Prefect server, or without one, by the project's own.

    Two projects never share the embedded server, and what a user has set up for other work is left alone.

    Parameters
    ----------
    scratch : Path
        The project's scratch folder, in which the embedded server has its home.
    """
    # Without a heartbeat flows end at once: each would wait a second for its thread at its end.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        if PREFECT_API_URL.value():
            yield
        else:
            server = embedded_server(scratch)
            token = _EMBEDDED.set(True)
            try:
                with temporary_settings({PREFECT_API_URL: server.wait(), PREFECT_HOME: server.home}):
                    yield
            finally:
                # One worker of Prefect's sends the events of a program, and keeps to the server that it began with.
                # The next project's would go to this server, which may have ended, with an error for each.
                EventsWorker.drain_all(timeout=DRAIN_S, at_exit=False)
                _EMBEDDED.reset(token)
