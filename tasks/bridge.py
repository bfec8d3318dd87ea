"""The bridge: what the registry's outbox holds becomes events of the Prefect server. They wake; they never decide."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from sqlalchemy.exc import SQLAlchemyError

from ccdflow.archive.database import sentence
from ccdflow.archive.outbox import EventRecord
from ccdflow.tasks.ingest import IngestReport, find_files, ingest_file
from ccdflow.tasks.workspace import Workspace

Sender = Callable[[Sequence[dict[str, Any]]], None]
"""Hands events to the server; raises where that has not certainly taken them."""

BATCH = 200
"""Events that are sent together."""
LOOK = 5.0
"""Seconds after which the outbox is looked at though nothing was heard."""
AGAIN = 10.0
"""Seconds between two calls for a drain of the same stream: one needs some to start."""
WAKE = "ccdflow.work.waiting"
"""Event that asks for a drain; all others tell what happened."""
ALL = "all"


def stream_name(camera: str | None) -> str:
    """Name of a drain: of a camera (TELESCOPE/CAMERA), or of all."""
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
    _called: float = -AGAIN
    _came: float | None = None  # when frames came for which a drain may have to be called still
    _sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Listen until told to stop; what could not be sent is sent later, in order."""
        pause = LOOK if not self.watch else 1.0
        with self.space.registry.ear() as ear:
            while not should_stop():
                self.look()
                ear.wait(pause)

    def look(self) -> int:
        """Register what has come into the watched folders, send what is waiting; gives how many events were sent."""
        count = 0
        try:
            self._look_into_folders()
            while found := self.space.registry.events(undelivered=True, limit=BATCH):
                self.send([*map(self._event, found), *self._calls(found)])
                self.space.registry.deliver([one.id for one in found])
                count += len(found)
            if calls := list(self._calls(())):
                self.send(calls)
            self._tell("")
        except (httpx.HTTPError, OSError, SQLAlchemyError) as error:  # what is not marked is sent again
            self._tell(f"{type(error).__name__}: {sentence(error)}")
        self.sent += count
        return count

    def _tell(self, problem: str) -> None:
        """Say once what is wrong, and once that it is over."""
        if problem != self.problem:
            self.say(f"events wait: {problem}" if problem else "events are sent again")
        self.problem = problem

    def _event(self, one: EventRecord) -> dict[str, Any]:
        """An event of the server; the same one, sent twice, has the same id, and counts once."""
        origin = f"{self.space.registry.url} {one.id} {one.created}"
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, origin)),
            "occurred": f"{one.created}+00:00",
            "event": f"ccdflow.{one.kind}",
            "resource": {
                "prefect.resource.id": self._resource(one.payload),
                "ccdflow.project": self._project,
            },
            "payload": {**one.payload, "project": self._project, "subject": one.subject},
        }

    @property
    def _project(self) -> str:
        return str(self.space.project.directory)

    def _resource(self, payload: dict[str, Any]) -> str:
        words = [str(payload.get(name) or "-") for name in ("telescope", "camera")]
        return ".".join(["ccdflow.camera", *(word.replace(" ", "_") for word in words)])

    def _calls(self, found: Sequence[EventRecord]) -> Iterator[dict[str, Any]]:
        """One call for a drain, where frames came and nobody drains; not again before it can have started.

        A drain that was about to end when they came is looked for a little longer.
        """
        now = time.monotonic()
        if any(one.kind.startswith("frame.") for one in found):
            self._came = now
        if self._came is None:
            return
        if stream_name(None) in self.space.registry.drains(self.space.project.keep_alive):
            if now - self._came >= AGAIN:
                self._came = None
            return
        if self.space.registry.held() or now - self._called < AGAIN:
            return
        self._called, self._came = now, None
        yield {
            "id": str(uuid.uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": WAKE,
            "resource": {"prefect.resource.id": f"ccdflow.project.{self.space.project.directory.name}"},
            "payload": {"project": self._project},
        }

    def _look_into_folders(self) -> None:
        """Register files that are complete: no larger and no newer than at the last look, and whole."""
        if not self.watch:
            return
        known = {name for name, _, _ in self.space.registry.files()}
        report = IngestReport()
        for path in find_files(self.watch, report):
            if str(path.absolute()) in known:
                continue
            with suppress(OSError):
                facts = path.stat()
                found = facts.st_size, facts.st_mtime_ns
                if self._sizes.get(path) == found:
                    ingest_file(self.space, path, report)
                    del self._sizes[path]
                else:
                    self._sizes[path] = found


def to_server(events: Sequence[dict[str, Any]]) -> None:
    """Hand events to the Prefect server that is configured.

    Raises
    ------
    httpx.HTTPError
        If it does not answer, or does not take them.
    """
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=list(events)).raise_for_status()
