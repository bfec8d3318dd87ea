"""Where flows are recorded: a Prefect server if one is configured, else one embedded in the program."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    temporary_settings,
)

from ccdflow.flows.embedded import embedded_server

_EMBEDDED: ContextVar[bool] = ContextVar("embedded", default=False)


def is_embedded() -> bool:
    """Whether flows are recorded by a server of the program's own, which nobody looks at."""
    return _EMBEDDED.get()


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
