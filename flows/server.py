"""Where flows are recorded: a Prefect server if one is configured, else one embedded in the program."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import httpx
from prefect._internal.concurrency.services import _active_services
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
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
ANSWER_S = 10.0
"""Seconds after which a server counts as gone that has taken a question and does not answer."""
RETRIES = 1
"""Further attempts of a command's flow to reach its server before it does without: 22 s in all for one that hangs."""
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
    while time.monotonic() < end and not answers():
        time.sleep(SERVER_LOOK_S)


def answers() -> bool:
    """Tell whether the configured server answers within `ANSWER_S`; True where none is configured.

    Without a URL the server lives in this program or is started by Prefect itself.
    """
    if not PREFECT_API_URL.value():
        return True
    # Settings of its own make it a client of its own: what a flow has opened keeps the patience of its beginning.
    patience = {"timeout": ANSWER_S}
    with suppress(httpx.HTTPError, OSError), impatient():
        with get_client(httpx_settings=patience, sync_client=True) as client:
            client.request("GET", "/health").raise_for_status()
        return True
    return False


def gone(error: BaseException) -> str:
    """Say that the configured server is gone, where an error comes of that; empty where it answers.

    Parameters
    ----------
    error : Exception
        What a flow has ended with.

    Returns
    -------
    str
        A sentence, with the server's address.
    """
    chain: list[BaseException] = [error]
    while (last := chain[-1].__cause__ or chain[-1].__context__) is not None and last not in chain:
        chain.append(last)
    if not any(isinstance(link, httpx.HTTPError | OSError) for link in chain):
        return ""
    # Who took too long once may answer the shortest of all questions.
    return (
        silence() if any(isinstance(link, httpx.TimeoutException) for link in chain) or not answers() else ""
    )


def silence() -> str:
    """Return the sentence that the configured server does not answer."""
    return f"the Prefect server {PREFECT_API_URL.value()} does not answer"


@contextmanager
def impatient(retries: int = 0) -> Iterator[None]:
    """Let Prefect's clients in the block give up after `ANSWER_S` and so many further attempts.

    By itself each waits a minute for a server that has taken a question and never answers, six times over.

    Parameters
    ----------
    retries : int
        Attempts after the first, 2 s, 4 s, ... after one another.
    """
    with temporary_settings({PREFECT_API_REQUEST_TIMEOUT: ANSWER_S, PREFECT_CLIENT_MAX_RETRIES: retries}):
        yield


@contextmanager
def prefect_server(scratch: Path, *, own: bool = False) -> Iterator[None]:
    """Let flows in the block be recorded by the configured Prefect server, or without one, by the project's own.

    Two projects never share the embedded server, and what a user has set up for other work is left alone.

    Parameters
    ----------
    scratch : Path
        The project's scratch folder, in which the embedded server has its home.
    own : bool
        Whether the project's own server is taken though another one is configured.
    """
    # Without a heartbeat flows end at once: each would wait a second for its thread at its end.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        if PREFECT_API_URL.value() and not own:
            try:
                with impatient(RETRIES):
                    yield
            finally:
                end_senders()
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


def end_senders() -> None:
    """Wait until Prefect's senders of events and logs have sent all, or else until their server does not answer.

    By themselves they try each event for minutes then, and the program waits for them at its end.
    """
    senders = [*_active_services]
    # Looked up before they are told to end: then they forget their tasks.
    working = [(sender._loop, sender._task) for sender in senders]
    ends = [sender._drain() for sender in senders]
    while wait(ends, timeout=DRAIN_S).not_done:
        if not answers():
            logging.getLogger("prefect._internal.concurrency").setLevel(
                logging.CRITICAL
            )  # said by us, in one line
            for loop, task in working:
                if loop is not None and task is not None:
                    loop.call_soon_threadsafe(task.cancel)
            wait(ends, timeout=DRAIN_S)  # a connection takes its time to close
            return
