"""The bridge: what the registry's outbox holds becomes events of the Prefect server. They wake; they never decide."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from sqlalchemy.exc import SQLAlchemyError

from ccdflow.archive.patience import in_time
from ccdflow.archive.registry.database import sentence
from ccdflow.archive.registry.events import (
    EventRecord,
    EventSum,
    deliver_events,
    find_events,
    forget_events,
    summed_up,
)
from ccdflow.archive.registry.frames.files import registered_files
from ccdflow.archive.registry.holds import hold_in_words
from ccdflow.archive.registry.jobs.leases import live_drains
from ccdflow.tasks.ingest import IngestReport, find_files, ingest_file
from ccdflow.tasks.workspace import Workspace

Sender = Callable[[Sequence[dict[str, Any]]], None]
"""Hands events to the server; raises where that has not certainly taken them."""

EVENTS_PER_REQUEST = 2000
"""Events of the outbox that are sent together, summed up by stream and second."""
SUMMED_S = 0.5
"""Seconds after a sending in which events gather for the next one: each costs this process and the server the same."""
SENDING_S = 5.0
"""Seconds that are spent on sending before anything else gets its turn."""
TIMEOUT_S = 10.0
"""Seconds after which a server counts as gone that takes no events."""
FORGETTING_S = 60.0
"""Seconds between two looks for events that are so old that they are deleted."""
IDLE_LOOK_S = 5.0
"""Seconds after which the outbox is looked at though nothing was heard."""
BUSY_LOOK_S = 1.0
"""The same, where files or the end of a drain are waited for."""
CALL_AGAIN_S = 10.0
"""Seconds between two calls for a drain, unless one is seen in between: one needs some to start."""
SAME_CALL_S = 10.0
"""Seconds within which calls of two bridges for the same frames are one."""
WAKE = "ccdflow.work.waiting"
"""Event that asks for a drain; all others tell what happened."""
ALL = "all"


def stream_name(camera: str | None) -> str:
    """Return the name of a drain.

    Parameters
    ----------
    camera : str or None
        CAMERA or TELESCOPE/CAMERA; None for all.

    Returns
    -------
    str
        ``live CAMERA`` or ``live all``.
    """
    return f"live {camera or ALL}"


@dataclass
class Bridge:
    """Sends what is in the outbox, and calls for a drain where nobody works.

    Parameters
    ----------
    space : Workspace
        The project.
    send : callable
        See `Sender`.
    say : callable
        Takes a sentence for people.
    watch : sequence of Path
        Folders whose new files are registered, once they are complete.
    """

    space: Workspace
    send: Sender
    watch: Sequence[Path] = ()
    say: Callable[[str], None] = print
    sent: int = 0
    problem: str = ""
    _called: float = -CALL_AGAIN_S
    _forgot: float = -FORGETTING_S
    # When frames came that may need a call still, and their last event.
    _came: tuple[float, int] | None = None
    # Size and time of change of files in watched folders, at the last look.
    _sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Listen until told to stop; what could not be sent is sent later, in order.

        Parameters
        ----------
        should_stop : callable
            Asked before each look.
        """
        with self._watching(should_stop), self.space.registry.ear() as ear:
            while not should_stop():
                count = self.deliver()
                if self.problem:
                    time.sleep(BUSY_LOOK_S)  # not for every row that is written while the server is away
                elif count:
                    time.sleep(SUMMED_S)
                ear.wait(BUSY_LOOK_S if self._came else IDLE_LOOK_S)

    @contextmanager
    def _watching(self, should_stop: Callable[[], bool]) -> Iterator[None]:
        """Look into the folders while the block runs, by themselves: a slow server must not keep frames back."""
        stop = Event()

        def watch() -> None:
            while not stop.is_set() and not should_stop():
                with suppress(SQLAlchemyError):  # a database that is away is told of by those who send
                    self._look_into_folders()
                stop.wait(BUSY_LOOK_S)

        thread = Thread(target=watch, name="folders", daemon=True)
        if self.watch:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            if self.watch:
                thread.join()

    def look(self) -> int:
        """Register what has come into the watched folders, and send what is waiting; see `deliver`.

        Returns
        -------
        int
            How many events were delivered.
        """
        try:
            self._look_into_folders()
        except SQLAlchemyError as error:
            self._tell(f"{type(error).__name__}: {sentence(error)}")
            return 0
        return self.deliver()

    def deliver(self) -> int:
        """Send what is waiting, summed up by kind, stream and second, for no more than `SENDING_S`.

        Returns
        -------
        int
            How many events were delivered.
        """
        count, end = 0, time.monotonic() + SENDING_S
        try:
            while events := self.space.registry.read(find_events, undelivered=True, limit=EVENTS_PER_REQUEST):
                # Marked only once they are sent: whoever is killed in between sends them again, with the same ids.
                self._send(events)
                self.space.registry.write(deliver_events, [event.id for event in events])
                count += len(events)
                # Fewer than were asked for were all; those that have come since are summed up at the next look.
                if len(events) < EVENTS_PER_REQUEST or time.monotonic() >= end:
                    break
            self._send(())
            self._tell("")
            self._forget()
        except (httpx.HTTPError, OSError, SQLAlchemyError) as error:  # what is not marked is sent again
            self._tell(f"{type(error).__name__}: {sentence(error)}")
        self.sent += count
        return count

    def _forget(self) -> None:
        """Delete old events now and then, a few thousand at a time."""
        if time.monotonic() - self._forgot >= FORGETTING_S:
            self._forgot = time.monotonic()
            self.space.registry.write(forget_events)

    def _tell(self, problem: str) -> None:
        """Say once what is wrong, and once that it is over."""
        if problem != self.problem:
            self.say(f"events wait: {problem}" if problem else "events are sent again")
        self.problem = problem

    def _event(self, what: EventSum) -> dict[str, Any]:
        """An event of the server; the same one, sent twice, has the same id, and counts once."""
        record, more = what.first, {"count": what.count, "last": what.last.subject}
        until = "" if what.count == 1 else f" {what.last.id} {what.count}"
        return {
            "id": self._id(f"{record.id} {record.created}{until}"),
            "occurred": f"{record.created}+00:00",
            "event": f"ccdflow.{record.kind}",
            "resource": {
                "prefect.resource.id": self._resource(record.payload),
                "ccdflow.project": self._project,
            },
            "payload": {**record.payload, "project": self._project, "subject": record.subject, **more},
        }

    def _id(self, subject: str) -> str:
        """A UUID that every bridge of this project gives the same subject."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.space.registry.url} {subject}"))

    @property
    def _project(self) -> str:
        return str(self.space.project.directory)

    def _resource(self, payload: dict[str, Any]) -> str:
        words = [str(payload.get(name) or "-") for name in ("telescope", "camera")]
        return ".".join(["ccdflow.camera", *(word.replace(" ", "_") for word in words)])

    def _send(self, events: Sequence[EventRecord]) -> None:
        """Hand over what happened, and a call for a drain where frames wait for one."""
        calls = [self._call(self._came[1])] if self._should_call(events) and self._came else []
        if events or calls:
            self.send([*map(self._event, summed_up(events)), *calls])
        # Not before: where the sending failed, the call is made again.
        if calls:
            self._called, self._came = time.monotonic(), None

    def _should_call(self, events: Sequence[EventRecord]) -> bool:
        """Whether frames came and nobody drains; not again before the drain that was called can have started."""
        now = time.monotonic()
        news = [event for event in events if event.kind.startswith("frame.")]
        if not news and self._came is None and now - self._called >= CALL_AGAIN_S:
            return False
        drained = stream_name(None) in self.space.registry.read(live_drains, self.space.project.keep_alive)
        if drained:
            self._called = -CALL_AGAIN_S  # the last call was heard
            news = [event for event in news if event.kind == "frame.registered"]  # it changes frames itself
        if news:
            self._came = now, news[-1].id
        # A drain that was about to end when frames came may not have seen them, so it is watched a little longer. One
        # that is at work still has looked since: it needs no call.
        if drained and self._came is not None and now - self._came[0] >= CALL_AGAIN_S:
            self._came = None
        idle = not drained and now - self._called >= CALL_AGAIN_S
        return idle and self._came is not None and not self.space.registry.read(hold_in_words)

    def _call(self, number: int) -> dict[str, Any]:
        """The event that asks for a drain; calls of two bridges for the same frames are mostly the same one."""
        # The time as well: where the registry was restored, its events have numbers again that were called for once,
        # and the server would take the call for one that it knows.
        turn = int(time.time() / SAME_CALL_S)
        return {
            "id": self._id(f"call {number} {turn}"),
            "occurred": datetime.now(UTC).isoformat(),
            "event": WAKE,
            "resource": {"prefect.resource.id": f"ccdflow.project.{self.space.project.directory.name}"},
            "payload": {"project": self._project},
        }

    def _look_into_folders(self) -> None:
        """Register files that are complete: no larger and no newer than at the last look, and whole."""
        if not self.watch:
            return
        known = {name for name, _, _ in self.space.registry.read(registered_files)}
        report = IngestReport()
        for path in find_files(self.watch, report):
            if str(path.absolute()) in known:
                continue
            with suppress(OSError):
                facts = in_time(path, path.stat)
                size_and_time = facts.st_size, facts.st_mtime_ns
                if self._sizes.get(path) == size_and_time:
                    ingest_file(self.space, path, report)
                    del self._sizes[path]
                else:
                    self._sizes[path] = size_and_time


class ToServer:
    """Hands events to the Prefect server that is configured, by one client for as long as it serves; used with `with`.

    A client for each sending takes longer than the sending, and memory that comes back late.
    """

    def __init__(self) -> None:
        self._client: SyncPrefectClient | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, events: Sequence[dict[str, Any]]) -> None:
        """Send events.

        Parameters
        ----------
        events : sequence of dict
            As the server's API takes them.

        Raises
        ------
        httpx.HTTPError
            If it does not answer, or does not take them.
        """
        was_open = self._client is not None
        try:
            self._post(events)
        except httpx.TransportError as error:
            self.close()
            # A server that was started anew has closed the connection; one that is slow must not be waited for twice.
            if not was_open or isinstance(error, httpx.TimeoutException):
                raise
            self._post(events)

    def _post(self, events: Sequence[dict[str, Any]]) -> None:
        # Prefect's client asks a server that does not answer five times more, for two minutes in all; the bridge itself
        # comes again.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            if self._client is None:
                client = get_client(httpx_settings={"timeout": TIMEOUT_S}, sync_client=True)
                self._client = self._opened.enter_context(client)
            self._client.request("POST", "/events", json=list(events)).raise_for_status()

    def close(self) -> None:
        """Close the connection; the next sending opens another."""
        self._client = None
        self._opened.close()


def to_server(events: Sequence[dict[str, Any]]) -> None:
    """Hand events to the Prefect server that is configured, once.

    Parameters
    ----------
    events : sequence of dict
        As the server's API takes them.

    Raises
    ------
    httpx.HTTPError
        If it does not answer, or does not take them.
    """
    with ToServer() as send:
        send(events)
