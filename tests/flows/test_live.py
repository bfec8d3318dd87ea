"""Rows start processing: the bridge tells the server, a drain does what is due."""

import sqlite3
import threading
import time
from collections import Counter
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from astropy.io import fits
from prefect.client.orchestration import get_client
from sqlalchemy import make_url
from tests.flows.conftest import NIGHT, Bench, ccdflow

from ccdflow.archive.registry.events import find_events, summed_up
from ccdflow.archive.registry.frames.files import pending_frames
from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.archive.registry.holds import put_hold
from ccdflow.archive.registry.jobs.leases import leave_drain, take_drain
from ccdflow.archive.registry.jobs.products import find_products
from ccdflow.archive.registry.jobs.records import find_job, find_jobs
from ccdflow.archive.registry.sets.records import find_sets
from ccdflow.config.project import PROJECT_FILE
from ccdflow.flows.live import live, sweep
from ccdflow.flows.nightly import nightly
from ccdflow.flows.reprocess import retry
from ccdflow.tasks import draining
from ccdflow.tasks.bridge import WAKE, Bridge, to_server
from ccdflow.tasks.draining import only_drain
from ccdflow.tasks.ingest import read_rows

AGE = 100_000.0
"""Days: the frames of the tests are old."""
PATIENCE = 30.0
pytestmark = pytest.mark.usefixtures(
    "server"
)  # else a test that is run alone has Prefect start one, for 20 s at most


def insert(bench: Bench, *paths: Path) -> None:
    """Insert rows as any program may."""
    with sqlite3.connect(str(make_url(bench.space.registry.url).database), timeout=30) as connection:
        connection.executemany("INSERT INTO frame (path) VALUES (?)", [(str(one),) for one in paths])


def frames(bench: Bench) -> list[Path]:
    return [path for kind in ("bias", "dark", "flat", "science") for path in bench.frames(kind)]


def sent(bench: Bench) -> Counter[str]:
    """Events of the project that the server knows, by name; waits until they stand there."""
    wanted = {"event": {"prefix": ["ccdflow."]}, "order": "DESC"}
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/events/filter", json={"filter": wanted, "limit": 50}).json()[
            "events"
        ]
    project = str(bench.project)
    counts: Counter[str] = Counter()
    for one in found:
        if one["payload"].get("project") == project:
            counts[one["event"]] += one["payload"].get("count", 1)
    return counts


def eventually(bench: Bench, name: str, number: int) -> Counter[str]:
    end = time.monotonic() + PATIENCE
    while (found := sent(bench))[name] < number and time.monotonic() < end:
        time.sleep(0.2)
    return found


def test_live_makes_the_same_bytes_as_a_run_at_the_desk(fresh: Bench, reduced: Bench) -> None:
    insert(fresh, *frames(fresh))
    assert live(str(fresh.project), linger=0.0, max_age_days=AGE) == {}
    assert fresh.files() == reduced.files()
    assert fresh.run().jobs == {"new": 0, "reused": 7, "failed": 0, "incomplete": 0}


@pytest.mark.parametrize("category", ["science", "master_bias", "stack"])
def test_a_drain_makes_again_what_is_gone_of_finished_frames_however_few_it_looks_at_at_a_time(
    fresh: Bench, reduced: Bench, category: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "FRAMES_PER_LOOK", 2)
    insert(fresh, *frames(fresh))
    assert live(str(fresh.project), linger=0.0, max_age_days=AGE) == {}
    before = fresh.attempts()
    fresh.space.store.absolute(fresh.product(category).path).unlink()
    assert fresh.files() != reduced.files()
    assert live(str(fresh.project), linger=0.0, max_age_days=AGE) == {}
    assert fresh.files() == reduced.files()
    assert sum(fresh.work(before).values()) == 1


def test_a_drain_goes_on_while_frames_come_and_ends_when_none_do(fresh: Bench, reduced: Bench) -> None:
    paths = frames(fresh)
    insert(fresh, *paths[:-3])
    begun = threading.Event()

    def telescope() -> None:
        begun.wait()
        for path in paths[-3:]:
            time.sleep(0.3)
            insert(fresh, path)

    thread = threading.Thread(target=telescope)
    thread.start()
    threading.Timer(0.5, begun.set).start()
    assert live(str(fresh.project), linger=4.0, max_age_days=AGE) == {}
    thread.join()
    # To the clock of today the sequence ended long ago: a stack of what was there at first has given way.
    made, wanted = fresh.files(), reduced.files()
    assert wanted.items() <= made.items()
    given_way = [
        one.path for one in fresh.space.registry.read(find_products) if one.superseded_by is not None
    ]
    assert made.keys() - wanted.keys() == {*given_way}


def test_old_frames_are_left_to_the_night(fresh: Bench) -> None:
    insert(fresh, *frames(fresh))
    assert sweep(str(fresh.project)) == {}
    assert fresh.files() == {}
    assert {one.frame_class for one in fresh.space.registry.read(find_frames)} == {
        "bias",
        "dark",
        "flat",
        "science",
    }


def test_one_drain_at_a_time(fresh: Bench) -> None:
    insert(fresh, *frames(fresh))
    with only_drain(fresh.space, None) as mine:
        assert mine is not None
        other = threading.Thread(target=lambda: found.append(_is_mine(fresh)))
        found: list[bool] = []
        other.start()
        other.join()
    assert found == [False]
    fresh.space.registry.write(take_drain, "live all", "elsewhere:1:1", 60.0)
    assert live(str(fresh.project), linger=0.0, max_age_days=AGE) == {} and fresh.files() == {}
    fresh.space.registry.write(leave_drain, "live all", "elsewhere:1:1")
    assert live(str(fresh.project), linger=0.0, max_age_days=AGE) == {} and len(fresh.files()) == 7


def test_on_hold_nothing_is_begun_and_then_it_goes_on(server: str, fresh: Bench) -> None:
    insert(fresh, *frames(fresh))
    fresh.space.registry.write(put_hold, "clouds")
    assert live(str(fresh.project), linger=0.0, max_age_days=AGE) == {} and fresh.files() == {}
    done = ccdflow(fresh, "run")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "on hold since" in done.stderr and "clouds; 'ccdflow resume' goes on" in done.stderr
    night = threading.Thread(target=copy_context().run, args=[nightly, str(fresh.project)])
    night.start()
    time.sleep(3)
    assert night.is_alive() and fresh.files() == {}
    assert ccdflow(fresh, "resume").stdout == "goes on\n"
    night.join(PATIENCE)
    assert len(fresh.files()) == 7


def _is_mine(bench: Bench) -> bool:
    with only_drain(bench.space, None) as mine:
        return mine is not None


def test_the_bridge_tells_the_server_once_what_happened(server: str, fresh: Bench) -> None:
    insert(fresh, *frames(fresh)[:2])
    bridge = Bridge(fresh.space, to_server)
    assert bridge.look() == 2 and bridge.look() == 0
    found = eventually(fresh, WAKE, 1)
    assert found == {"ccdflow.frame.registered": 2, WAKE: 1}
    assert all(one.delivered for one in fresh.space.registry.read(find_events))
    insert(fresh, *frames(fresh)[2:4])
    assert Bridge(fresh.space, to_server).look() == 2
    assert eventually(fresh, "ccdflow.frame.registered", 4)["ccdflow.frame.registered"] == 4


def test_two_bridges_and_repeated_sending_count_once(server: str, fresh: Bench) -> None:
    insert(fresh, *frames(fresh)[:3])

    def twice(events: list[dict[str, object]]) -> None:
        to_server(events)
        to_server(events)

    first, second = Bridge(fresh.space, twice), Bridge(fresh.space, twice)
    waiting = fresh.space.registry.read(find_events, undelivered=True)
    second.send([second._event(one) for one in summed_up(waiting)])
    first.look()
    time.sleep(1)
    assert eventually(fresh, "ccdflow.frame.registered", 3)["ccdflow.frame.registered"] == 3


def test_a_server_that_is_gone_loses_nothing(server: str, fresh: Bench) -> None:
    said: list[str] = []
    down = True

    def send(events: list[dict[str, object]]) -> None:
        if down:
            raise httpx.ConnectError("no server")
        to_server(events)

    insert(fresh, *frames(fresh)[:3])
    bridge = Bridge(fresh.space, send, say=said.append)
    assert bridge.look() == 0 and bridge.look() == 0
    assert said == ["events wait: ConnectError: no server"]
    down = False
    assert bridge.look() == 3 and said[1:] == ["events are sent again"]
    assert eventually(fresh, "ccdflow.frame.registered", 3)["ccdflow.frame.registered"] == 3


def test_no_drain_is_called_for_while_one_is_at_work(server: str, fresh: Bench) -> None:
    fresh.space.registry.write(take_drain, "live all", "elsewhere:1:1", 60.0)
    insert(fresh, *frames(fresh)[:1])
    calls: list[dict[str, object]] = []
    Bridge(fresh.space, calls.extend).look()
    assert [one["event"] for one in calls] == ["ccdflow.frame.registered"]


def test_a_drain_is_called_for_later_where_the_last_one_was_about_to_end(
    fresh: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, object]] = []
    bridge = Bridge(fresh.space, calls.extend)
    fresh.space.registry.write(take_drain, "live all", "elsewhere:1:1", 60.0)
    insert(fresh, *frames(fresh)[:1])
    bridge.look()
    assert WAKE not in [one["event"] for one in calls]
    fresh.space.registry.write(leave_drain, "live all", "elsewhere:1:1")
    bridge.look()
    insert(fresh, *frames(fresh)[1:2])
    bridge.look()
    assert [one["event"] for one in calls].count(WAKE) == 1
    monkeypatch.setattr("ccdflow.tasks.bridge.CALL_AGAIN_S", 0.0)  # the time has passed
    bridge.look()
    bridge.look()
    assert [one["event"] for one in calls].count(WAKE) == 2


def test_once_a_drain_was_seen_the_next_is_called_for_at_once(fresh: Bench) -> None:
    calls: list[dict[str, object]] = []
    bridge = Bridge(fresh.space, calls.extend)
    for path in frames(fresh)[:3]:
        insert(fresh, path)
        bridge.look()
        fresh.space.registry.write(take_drain, "live all", "elsewhere:1:1", 60.0)
        bridge.look()
        fresh.space.registry.write(leave_drain, "live all", "elsewhere:1:1")
    woken = [one["id"] for one in calls if one["event"] == WAKE]
    assert len({*woken}) == len(woken) == 3


def test_what_a_drain_changes_itself_calls_for_no_other(fresh: Bench) -> None:
    calls: list[dict[str, object]] = []
    insert(fresh, frames(fresh)[0])
    Bridge(fresh.space, lambda events: None).look()
    bridge = Bridge(fresh.space, calls.extend)
    fresh.space.registry.write(take_drain, "live all", "elsewhere:1:1", 60.0)
    read_rows(str(fresh.project))
    bridge.look()
    fresh.space.registry.write(leave_drain, "live all", "elsewhere:1:1")
    bridge.look()
    assert [one["event"] for one in calls] == ["ccdflow.frame.changed"]


def test_calls_of_two_bridges_for_the_same_frames_are_one_event(fresh: Bench) -> None:
    insert(fresh, *frames(fresh)[:3])
    waiting = fresh.space.registry.read(find_events, undelivered=True)
    calls: list[dict[str, object]] = []
    for bridge in (Bridge(fresh.space, calls.extend), Bridge(fresh.space, calls.extend)):
        bridge._send(waiting)
    first, second = (one["id"] for one in calls if one["event"] == WAKE)
    assert first == second


def test_a_call_that_the_server_did_not_hear_is_made_again(fresh: Bench) -> None:
    calls: list[dict[str, object]] = []

    def send(events: list[dict[str, object]]) -> None:
        calls.extend(events)
        if len([one for one in calls if one["event"] == WAKE]) == 1:
            raise httpx.ConnectError("no server")

    bridge = Bridge(fresh.space, send, say=lambda sentence: None)
    fresh.space.registry.write(take_drain, "live all", "elsewhere:1:1", 60.0)
    insert(fresh, frames(fresh)[0])
    bridge.look()
    fresh.space.registry.write(leave_drain, "live all", "elsewhere:1:1")
    bridge.look()
    bridge.look()
    bridge.look()
    assert [one["event"] for one in calls] == ["ccdflow.frame.registered", WAKE, WAKE]


@pytest.mark.parametrize("whole", [True, False])
def test_files_of_a_watched_folder_are_registered_once_they_are_complete(
    fresh: Bench, tmp_path: Path, whole: bool
) -> None:
    bridge = Bridge(fresh.space, lambda events: None, [tmp_path])
    content = frames(fresh)[0].read_bytes()
    path = tmp_path / "a.fits"
    path.write_bytes(content[: len(content) if whole else 4000])
    bridge.look()
    assert fresh.space.registry.read(find_frames) == []
    if not whole:
        path.write_bytes(content)
        bridge.look()
        assert fresh.space.registry.read(find_frames) == []
    bridge.look()
    (found,) = fresh.space.registry.read(find_frames)
    assert (found.frame_class, found.refused) == ("bias", "")


def test_a_row_may_come_before_its_file(server: str, fresh: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "GAP_LOOK_S", 0.3)
    late, cut = frames(fresh)[-2:]
    content = {path: path.read_bytes() for path in (late, cut)}
    late.unlink()
    cut.write_bytes(content[cut][:9000])
    insert(fresh, *frames(fresh), late)

    def telescope() -> None:
        time.sleep(2.0)
        waiting.extend(fresh.space.registry.read(pending_frames))
        for path, whole in content.items():
            path.write_bytes(whole)

    waiting: list[tuple[int, str, str]] = []
    thread = threading.Thread(target=telescope)
    thread.start()
    assert live(str(fresh.project), linger=6.0, max_age_days=AGE) == {}
    thread.join()
    assert {path for _, path, _ in waiting} >= {str(late), str(cut)}
    found = fresh.space.registry.read(find_frames)
    assert len(found) == 10 and not any(one.refused for one in found)
    assert len([one for one in fresh.space.registry.read(find_products) if one.category == "science"]) == 3


def test_a_storm_of_frames_calls_for_one_drain(fresh: Bench) -> None:
    calls: list[dict[str, object]] = []
    bridge = Bridge(fresh.space, calls.extend)
    for number in range(40):
        insert(fresh, *[fresh.raw / f"{number}-{each}.fits" for each in range(5)])
        bridge.look()
    assert [one["event"] for one in calls].count(WAKE) == 1
    assert sum(one["payload"].get("count", 0) for one in calls) == 200


CLOSING = """
name: closing
extends: imaging
tasks:
  stack:
    groups:
      sequence: {max_stack: 4, max_sequence: 12, max_gap: 5}
"""


def exposed_now(path: Path, seconds_ago: float) -> None:
    """Give a raw file the date of now, and no place in a sequence that would close its set."""
    begun = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=seconds_ago)
    with fits.open(path, mode="update") as hdus:
        hdus[0].header["DATE-OBS"] = begun.isoformat(timespec="milliseconds")
        for keyword in ("MJD-OBS", "IOBS", "NOBS"):
            del hdus[0].header[keyword]


def test_a_set_closes_by_the_gap_though_no_frame_follows(
    server: str, fresh: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "GAP_LOOK_S", 0.5)
    (fresh.project / "closing.yaml").write_text(CLOSING)
    (fresh.project / PROJECT_FILE).write_text("cascade: closing.yaml\n")
    paths = frames(fresh)
    for number, path in enumerate(paths):
        exposed_now(path, 300.0 - number if path not in paths[-3:] else 2.0 - number / 10)
    insert(fresh, *paths)
    inserted = datetime.now(UTC).replace(tzinfo=None)
    assert live(str(fresh.project), linger=12.0) == {}
    (found,) = fresh.space.registry.read(find_sets)
    closes = datetime.fromisoformat(found.last_obsdate) + timedelta(seconds=5)
    (stack,) = [one for one in fresh.space.registry.read(find_jobs) if one.step == "stack"]
    assert (found.status, found.product_id is None) == ("closed", False)
    assert inserted < closes <= datetime.fromisoformat(stack.planned_at)


def test_drains_begin_a_job_that_fails_three_times_and_a_run_once_more(fresh: Bench) -> None:
    fresh.run(fresh.raw, targets=("flat",))
    bad = fresh.frames("science")[1]
    away = fresh.directory / bad.name
    bad.rename(away)
    failed = [sweep(str(fresh.project), max_age_days=AGE) for _ in range(5)]
    (key,) = failed[0]
    assert failed[2].keys() == {key} and failed[3:] == [{}, {}]
    job = fresh.space.registry.read(find_job, key)
    assert job is not None and (job.state, job.attempts) == ("failed", 3) and bad.name in job.reason
    assert retry(str(fresh.project), night=NIGHT).keys() == {key}
    away.rename(bad)
    with pytest.raises(ValueError, match="unknown camera 'nothing of this name'"):
        retry(str(fresh.project), camera="nothing of this name")
    job = fresh.space.registry.read(find_job, key)
    assert job is not None and (job.state, job.attempts) == ("failed", 1)
    assert retry(str(fresh.project), night=NIGHT) == {}
    job = fresh.space.registry.read(find_job, key)
    assert job is not None and (job.state, job.attempts) == ("done", 1)
