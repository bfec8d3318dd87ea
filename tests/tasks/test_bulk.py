"""Rows without files, in their thousands: they make no jobs, and what has files does not notice them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from tests.tasks.test_grouping import START, clock, exposure, sequence

from ccdflow.archive.registry.frames.files import NewFrame, add_frame
from ccdflow.archive.registry.frames.nearrows import with_near_rows
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames, list_frames
from ccdflow.archive.registry.frames.stages import StageState, set_stages
from ccdflow.archive.registry.sets.news import first_row
from ccdflow.archive.registry.sets.records import find_sets
from ccdflow.archive.registry.transactions import add_catalogue
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.records import NO_FILE, FrameRecord
from ccdflow.commands.queries import explain
from ccdflow.config.project import PROJECT_FILE, init_project
from ccdflow.flows.dashboard import Publisher
from ccdflow.tasks.draining import FEWEST_ROWS, MOST_ROWS, ROWS_S, rows_next
from ccdflow.tasks.grouping import group_sets
from ccdflow.tasks.nightlog import cameras_of, night_page, observing_log
from ccdflow.tasks.planning import left_to_others, planned
from ccdflow.tasks.workspace import Workspace, open_workspace


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    """An empty project on each of the databases."""
    init_project(tmp_path / "project")
    if request.param == "postgresql":
        url = request.getfixturevalue("new_database")
        (tmp_path / "project" / PROJECT_FILE).write_text(f"registry: {url}\n")
    space = open_workspace(tmp_path / "project")
    yield space
    space.registry.close()


def filed(space: Workspace, *frames: NewFrame) -> list[int]:
    """Register frames as those of files; nobody looks at the files in these tests."""
    ids = []
    for frame in frames:
        name = f"{frame.camera}-{frame.frame_class}-{frame.obsdate}-{frame.iobs}"
        held = replace(frame, path=f"/raw/{name}.fits", sha256=name, size=1, changed_ns=1)
        ids.append(space.registry.write(add_frame, held).id)
    return ids


def bulk(space: Workspace, count: int, begin: datetime, seconds: float = 1.0, **changes: object) -> None:
    """Rows without files from a time on, all alike, so many seconds from one to the next."""
    times = (begin + timedelta(seconds=number * seconds) for number in range(count))
    add_catalogue(space.registry, [exposure(0, obsdate=time.isoformat(), **changes) for time in times])


def test_a_row_without_a_file_waits_and_says_for_what(either: Workspace) -> None:
    add_catalogue(either.registry, sequence(3))
    assert planned(either, clock(600)).jobs == ()
    for row in either.registry.read(list_frames):
        assert (row["stage"], row["status"], row["reason"]) == ("ingest", "waiting", NO_FILE)
    told = explain(either, "f1", clock(600))
    assert (told["state"], told["reason"], told["missing"]) == ("ingest waiting", NO_FILE, [])


def test_only_rows_next_to_frames_with_files_are_read(either: Workspace) -> None:
    bulk(either, 400, START)
    bulk(either, 400, START, camera="D")
    filed(either, exposure(3, object="A"), exposure(3.01, object="A"), exposure(20, object="A"))
    frames = either.registry.read(find_frames, FrameFilter(has_file=True))
    read = either.registry.read(with_near_rows, frames, 5)
    rows = [frame for frame in read if frame.path is None]
    # Five on each side of the first two, and the last five of the stream, which come before the third.
    assert len(read) - len(rows) == 3 and len(rows) == 15 and {row.camera for row in rows} == {"C"}
    assert [frame.obsdate for frame in read] == sorted(frame.obsdate for frame in read)


@pytest.mark.parametrize("seed", range(6))
def test_a_plan_is_the_same_as_one_that_knows_every_row(space: Workspace, seed: int) -> None:
    random = Random(seed)
    minute = 0.0
    for _number in range(60):
        minute += random.choice([0.0, 2.0, 2.0, 2.0, 45.0])
        length = random.choice([1, 2, 3, 4, 6, 16])
        frames = sequence(length, minute, object=random.choice("AB"), filter=random.choice("LR"))
        minute += 2 * length
        share = random.choice([0.0, 0.0, 0.0, 0.7, 1.0])
        with_files = [frame for frame in frames if random.random() < share]
        filed(space, *with_files)
        add_catalogue(space.registry, [frame for frame in frames if frame not in with_files])
    request = clock(minute + 600)
    near, whole = planned(space, request), planned(space, request, every_row=True)
    assert [job.key for job in near.jobs] == [job.key for job in whole.jobs]
    assert {job.step for job in near.jobs} >= {"science", "stack"}


def test_frames_that_are_too_old_for_live_are_counted(either: Workspace) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    old = [exposure(0, obsdate=(now - timedelta(days=3, minutes=n)).isoformat()) for n in range(3)]
    (first, *_) = filed(either, *old)
    filed(either, exposure(0, obsdate=now.isoformat()))
    bulk(either, 10, now - timedelta(days=5))
    assert left_to_others(either, 2.0) == "3 frames older than 2 days: left to nightly or reduce"
    assert left_to_others(either, 7.0) == ""
    either.registry.write(set_stages, [StageState(first + 1, "stack", "done")])
    assert left_to_others(either, 2.0).startswith("2 frames")
    assert (
        left_to_others(either, 1.0, (first, first)) == "1 frame older than 1 day: left to nightly or reduce"
    )
    assert explain(either, f"f{first}", Request())["reason"] == "older than 2 days: left to nightly or reduce"
    assert explain(either, f"f{first + 1}", Request())["reason"] == ""


def worked_off(space: Workspace, request: Request, most_rows: int) -> int:
    """Put rows into sets, so many at a time; how many times that took."""
    for turn in range(1, 500):
        group_sets(space, request, most_rows)
        if space.registry.read(first_row) is None:
            return turn
    raise AssertionError("rows are left for ever")


def cut(space: Workspace) -> list[tuple[str, tuple[str, ...]]]:
    """What sets there are, by times and objects of their frames."""
    known = {frame.id: f"{frame.obsdate} {frame.camera} {frame.object}" for frame in all_frames(space)}
    sets = space.registry.read(find_sets)
    return sorted((of.action, tuple(known[number] for number in of.frames)) for of in sets)


def all_frames(space: Workspace) -> list[FrameRecord]:
    return space.registry.read(find_frames)


@pytest.mark.parametrize("seed", range(4))
def test_rows_put_into_sets_little_by_little_give_the_same_sets(
    new_project: Callable[[str], Workspace], seed: int
) -> None:
    random = Random(seed)
    frames = [
        frame
        for number in range(12)
        for frame in sequence(
            random.choice([1, 3, 4, 6, 14]),
            40.0 * number,
            object=random.choice("AB"),
            camera=random.choice("CD"),
        )
    ]
    request = clock(2000)
    whole, parts = new_project("whole"), new_project("parts")
    with_files = [frame for frame in frames if random.random() < 0.3]
    rows = [frame for frame in frames if frame not in with_files]
    random.shuffle(rows)
    filed(whole, *with_files)
    add_catalogue(whole.registry, rows)
    group_sets(whole, request)
    add_catalogue(parts.registry, rows[::2])
    group_sets(parts, request, 5)
    filed(parts, *with_files)
    add_catalogue(parts.registry, rows[1::2])
    assert worked_off(parts, request, 5) >= len(rows) // 5 - 1
    assert cut(parts) == cut(whole)


def test_a_frame_with_a_file_is_put_into_its_set_before_thousands_of_rows(either: Workspace) -> None:
    bulk(either, 3000, START)
    (number,) = filed(either, exposure(600))
    group_sets(either, clock(600), 100)
    sets = either.registry.read(find_sets)
    assert number in {frame for of in sets for frame in of.frames}
    assert sum(len(of.frames) for of in sets) == 101
    assert either.registry.read(first_row) == 101


def test_rows_are_put_into_sets_for_a_fraction_of_a_second() -> None:
    rows, seconds_each = FEWEST_ROWS, 0.0002
    for _ in range(20):
        rows = rows_next(rows, rows * seconds_each)
    assert ROWS_S / 2 <= rows * seconds_each <= ROWS_S * 1.01
    for _ in range(20):  # scattered ones take longer
        rows = rows_next(rows, rows * 0.05)
    assert rows == FEWEST_ROWS
    assert rows_next(MOST_ROWS, 0.0) == MOST_ROWS


def test_a_night_s_page_counts_rows_and_lists_what_has_come(either: Workspace) -> None:
    bulk(either, 400, START)
    bulk(either, 30, START, camera="D")
    filed(either, exposure(3, object="A"), exposure(20, object="A"))
    night = either.registry.read(find_frames)[0].night
    cameras = [camera for _, camera in cameras_of(either, night)]
    logs = [observing_log(either, night, camera) for camera in cameras]
    assert (cameras, [len(log) for log in logs]) == (["C", "D"], [2, 0])
    page = night_page(either, night, "C", logs[0])
    assert "2 frames, and 400 rows whose files have not come" in page and "science | ingest done | 2" in page


def test_pages_take_a_small_part_of_a_drain_s_time(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher("project")
    writings: list[float] = []
    clock = 1000.0

    def take_20_s(nights: object, stacks: object) -> None:
        nonlocal clock
        writings.append(clock)
        clock += 20.0

    monkeypatch.setattr("ccdflow.flows.dashboard.monotonic", lambda: clock)
    monkeypatch.setattr(publisher, "_publish_to", take_20_s)
    for _ in range(600):
        publisher.tell({"2026-03-01"}, ())
        if publisher._running is not None:
            publisher._running.result()
        clock += 1.0
    publisher.close()
    assert writings[:4] == [1000.0, 1200.0, 1400.0, 1600.0]
