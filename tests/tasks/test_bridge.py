"""What the bridge makes of thousands of events, and what of them is kept, with no server at all."""

import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from sqlalchemy import text
from tests.tasks.test_bulk import either
from tests.tasks.test_plain_inserts import bias

from ccdflow.archive.registry.events import (
    DELIVERED_DAYS,
    UNDELIVERED_DAYS,
    find_events,
    forget_events,
    summed_up,
)
from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.config.project import init_project
from ccdflow.tasks import bridge
from ccdflow.tasks.bridge import WAKE, Bridge
from ccdflow.tasks.workspace import Workspace, open_workspace

__all__ = ["either"]
Sent = list[dict[str, Any]]


def rows(space: Workspace, count: int, camera: str = "C", created: str = "") -> None:
    """Events as triggers write them, ten a second."""
    begin = datetime.fromisoformat(created or f"{datetime.now(UTC).date()}T00:00:00")
    values = [
        {"at": (begin + timedelta(seconds=number / 10)).isoformat(timespec="milliseconds"), "camera": camera}
        for number in range(count)
    ]
    with space.registry.database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO event (kind, subject, payload, created) VALUES ('frame.registered', 'frame/1', "
                "'{\"camera\": \"' || :camera || '\"}', :at)".replace(
                    "'{", "CAST('{" if connection.dialect.name == "postgresql" else "'{", 1
                ).replace("\"}'", "\"}' AS JSON)" if connection.dialect.name == "postgresql" else "\"}'", 1)
            ),
            values,
        )


@pytest.fixture
def sent() -> Iterator[Sent]:
    yield []


def test_events_of_a_stream_and_second_are_one_with_their_count(either: Workspace, sent: Sent) -> None:
    rows(either, 50)
    rows(either, 30, camera="D")
    assert Bridge(either, sent.extend).look() == 80
    told = [(one["payload"]["camera"], one["payload"]["count"]) for one in sent if one["event"] != WAKE]
    assert told == [("C", 10)] * 5 + [("D", 10)] * 3
    assert len({one["id"] for one in sent}) == len(sent) == 9
    assert either.registry.read(find_events, undelivered=True) == []


def test_a_sum_that_is_sent_again_is_the_same_event(either: Workspace) -> None:
    rows(either, 10)
    events = either.registry.read(find_events)
    first, second = (Bridge(either, lambda events: None)._event(*summed_up(events)) for _ in range(2))
    other = Bridge(either, lambda events: None)._event(*summed_up(events[:9]))
    assert first["id"] == second["id"] != other["id"]
    assert (first["payload"]["subject"], first["payload"]["last"]) == ("frame/1", "frame/1")


def test_sending_ends_after_a_while_and_goes_on_at_the_next_look(
    either: Workspace, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "EVENTS_PER_REQUEST", 10)
    monkeypatch.setattr(bridge, "SENDING_S", 0.0)
    rows(either, 25)
    listener = Bridge(either, sent.extend)
    assert [listener.look() for _ in range(4)] == [10, 10, 5, 0]


def test_old_events_are_deleted_a_few_at_a_time(either: Workspace) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    for days in (UNDELIVERED_DAYS + 1, DELIVERED_DAYS + 1, 0.0):
        rows(either, 4, created=(now - timedelta(days=days)).isoformat())
    with either.registry.database.write() as connection:
        connection.execute(text("UPDATE event SET delivered = created WHERE id > 4"))
    assert [either.registry.write(forget_events, 6) for _ in range(3)] == [6, 2, 0]
    assert len(either.registry.read(find_events)) == 4


def test_of_delivered_events_no_more_than_some_are_kept_and_all_that_wait(either: Workspace) -> None:
    rows(either, 10)
    with either.registry.database.write() as connection:
        connection.execute(text("UPDATE event SET delivered = created WHERE id > 2"))
    assert either.registry.write(forget_events, 5, 3) == 3  # of the oldest five two wait for their delivery
    assert [event.id for event in either.registry.read(find_events)] == [1, 2, 6, 7, 8, 9, 10]


def test_a_server_that_hangs_keeps_no_frame_from_being_registered(
    either: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "BUSY_LOOK_S", 0.05)
    folder = tmp_path / "incoming"
    folder.mkdir()
    hangs, stop = threading.Event(), threading.Event()

    def send(events: Sequence[dict[str, Any]]) -> None:
        hangs.set()
        stop.wait(30.0)
        raise httpx.ReadTimeout("no answer")

    rows(either, 1)
    listener = Bridge(either, send, [folder], say=lambda sentence: None)
    thread = threading.Thread(target=listener.run, args=(stop.is_set,))
    thread.start()
    assert hangs.wait(10.0)
    bias(folder / "a.fits")
    end = time.monotonic() + 20.0
    while not either.registry.read(find_frames) and time.monotonic() < end:
        time.sleep(0.05)
    assert len(either.registry.read(find_frames)) == 1 and not stop.is_set()
    stop.set()
    thread.join(10.0)
    assert not thread.is_alive() and listener.problem == "ReadTimeout: no answer"


def test_a_call_for_work_is_another_one_after_the_registry_was_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_project(tmp_path)
    space, sent = open_workspace(tmp_path), list[dict[str, Any]]()
    database, backup = tmp_path / "registry.sqlite", tmp_path / "backup.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO frame (path) VALUES ('/raw/1.fits')")
        connection.commit()
        connection.execute("VACUUM INTO ?", (str(backup),))
    for later in range(2):
        monkeypatch.setattr("time.time", lambda later=later: 1_800_000_000.0 + 60 * later)
        bridge.Bridge(space, sent.extend).look()
        space.registry.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{database}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(backup, database)
    happened = [event["id"] for event in sent if event["event"] == "ccdflow.frame.registered"]
    calls = [event["id"] for event in sent if event["event"] == bridge.WAKE]
    # What happened happened once; that somebody is to work on it again is new.
    assert len(happened) == 2 and len(set(happened)) == 1
    assert len(calls) == 2 and len(set(calls)) == 2


@pytest.fixture
def silent_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that takes connections and never answers: its URL, and the connections that it has taken."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):  # it is closed at the end
                while True:
                    taken.append(listener.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api", taken
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in taken:
        connection.close()


def test_a_server_that_never_answers_is_asked_once(
    silent_server: tuple[str, list[socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "TIMEOUT_S", 0.2)
    url, taken = silent_server
    with temporary_settings({PREFECT_API_URL: url}), bridge.ToServer() as send:
        for number in (1, 2):  # and anew at the next look
            with pytest.raises(httpx.TimeoutException):
                send([{"id": "1"}])
            assert len(taken) == number


class _ForgetfulServer(BaseHTTPRequestHandler):
    """Takes events, says that the connection stays, and closes it, as a server that is started anew."""

    protocol_version = "HTTP/1.1"
    taken: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.taken.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()
        self.close_connection = True

    def do_GET(self) -> None:
        self.send_error(404)  # it is asked for a token first, as servers are that want one

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_connection_that_a_server_has_closed_is_opened_again() -> None:
    with HTTPServer(("127.0.0.1", 0), _ForgetfulServer) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        try:
            with temporary_settings({PREFECT_API_URL: url}), bridge.ToServer() as send:
                for number in range(3):
                    send([{"id": str(number)}])
        finally:
            server.shutdown()
    assert _ForgetfulServer.taken == ['[{"id":"0"}]', '[{"id":"1"}]', '[{"id":"2"}]']
