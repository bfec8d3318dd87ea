"""The sets that the registry keeps, made once, grown and regrouped, in whatever order frames arrive."""

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from sqlalchemy import event

from ccdflow.archive.registry.frames.files import NewFrame, add_frame
from ccdflow.archive.registry.frames.queries import find_frames, find_streams
from ccdflow.archive.registry.frames.stages import StageState, set_stages, stage_states
from ccdflow.archive.registry.sets.changes import Change, apply_set_changes
from ccdflow.archive.registry.sets.records import SetFilter, SetRecord, find_sets
from ccdflow.archive.registry.transactions import add_catalogue, exposures_in_stream
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.sequences.exposures import Exposure, SequenceRules, exposures
from ccdflow.simulate import simulate_night
from ccdflow.tasks.grouping import group_sets
from ccdflow.tasks.ingest import ingest_catalog
from ccdflow.tasks.workspace import Workspace

START = datetime(2026, 3, 1, 20)
ALL = SetFilter(status=None)
NewProject = Callable[[str], Workspace]


def exposure(minute: float, **changes: Any) -> NewFrame:
    known = NewFrame(
        frame_class="science",
        telescope="T",
        camera="C",
        instrument="I",
        filter="L",
        object="M13",
        exptime=60.0,
        obsdate=(START + timedelta(minutes=minute)).isoformat(),
        night="2026-03-01",
    )
    return replace(known, **changes)


def sequence(length: int, minute: float = 0.0, **changes: Any) -> list[NewFrame]:
    counted = {"nobs": length} | changes
    return [exposure(minute + 2 * i, iobs=i + 1, **counted) for i in range(length)]


def clock(minute: float, **parameters: Any) -> Request:
    given = {f"stack.{name}": value for name, value in parameters.items()}
    return Request(now=(START + timedelta(minutes=minute)).isoformat(), parameters=given)


def arrive(space: Workspace, frames: Iterable[NewFrame], request: Request | None = None) -> dict[str, int]:
    add_catalogue(space.registry, frames)
    return group_sets(space, request or Request())


def names(space: Workspace, found: Sequence[SetRecord]) -> list[tuple[str, tuple[str, ...]]]:
    """Action and frames of sets; frames are named by time and place, since their ids tell when they arrived."""
    known = {one.id: (*one.stream, one.obsdate, one.iobs) for one in space.registry.read(find_frames)}
    return sorted((one.action, tuple(str(known[frame]) for frame in one.frames)) for one in found)


def active(space: Workspace) -> list[tuple[str, tuple[str, ...]]]:
    return names(space, space.registry.read(find_sets))


def shape(space: Workspace) -> list[tuple[str, int]]:
    return [(one.action, len(one.frames)) for one in space.registry.read(find_sets)]


# --- the worked example ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def goto(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_night(tmp_path_factory.mktemp("goto"), night="goto", catalog_only=True).catalog


def of_ut1(space: Workspace) -> dict[tuple[str, str], list[tuple[str, int]]]:
    frames = {one.id: one for one in space.registry.read(find_frames)}
    found: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for one in space.registry.read(find_sets):
        first = frames[one.frames[0]]
        if (one.telescope, one.camera) == ("GOTO1", "UT1"):
            found[first.object, first.filter].append((one.action, len(one.frames)))
    return found


def test_a_night_of_goto_comes_to_the_sets_of_its_notebook(space: Workspace, goto: Path) -> None:
    assert ingest_catalog(space, goto).counts["new"] == 788
    counts = group_sets(space, Request())
    sets = of_ut1(space)
    assert sets["GW123456", "L"] == [("stack", 4), ("stack", 2)]
    assert [sets["GW123456", name] for name in "BVR"] == [[("stack", 2)]] * 3
    assert sets["Field79", "L"] == [("stack", 2), ("stack", 3)]
    assert [sets[f"Field{number}", "L"] for number in (88, 123, 135, 77)] == [[("stack", 2)] * 3] * 4
    assert sets["And123", "L"] == [("stack", 4)] * 3
    assert sets["Peg54", "L"] == [("stack", 3)]
    assert sets["Cas54", "L"] == [("stack", 4)]
    (cepheid,) = [one for (name, _), one in sets.items() if "ceph" in name.lower()]
    assert cepheid == [("pass", 20)]
    assert sum(counts.values()) == len(space.registry.read(find_sets))
    assert counts["open"] == 0


def test_each_frame_of_the_night_is_in_one_active_set(space: Workspace, goto: Path) -> None:
    ingest_catalog(space, goto)
    group_sets(space, Request())
    members = sorted(frame for one in space.registry.read(find_sets) for frame in one.frames)
    assert members == [one.id for one in sorted(space.registry.read(find_frames), key=lambda one: one.id)]


def test_a_night_that_comes_in_shuffled_parts_has_the_same_sets(
    new_project: NewProject, goto: Path, tmp_path: Path
) -> None:
    whole = new_project("whole")
    ingest_catalog(whole, goto)
    group_sets(whole, Request())
    with goto.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    Random(5).shuffle(rows)
    parts = new_project("parts")
    for number in range(0, len(rows), 160):
        some = tmp_path / "part.csv"
        with some.open("w", newline="") as stream:
            csv.writer(stream).writerows([header, *rows[number : number + 160]])
        ingest_catalog(parts, some)
        group_sets(parts, Request())
    assert active(parts) == active(whole)


# --- any order, any batches --------------------------------------------------------------------------


def random_stream(random: Random) -> list[NewFrame]:
    """Sequences of all kinds, back to back or after gaps, some of them cut off, some without numbers."""
    frames: list[NewFrame] = []
    minute = 0.0
    for _ in range(random.randint(2, 6)):
        length = random.choice([1, 2, 3, 4, 5, 6, 8, 13, 15])
        chosen = {
            "object": random.choice(["M13", "M31"]),
            "filter": random.choice("LR"),
            "frame_class": random.choice(["science"] * 6 + ["flat"]),
            "refused": random.choice([""] * 3 + ["no shutter"]),
            "keywords": random.choice([{}, {"ccd_temperature": -20.0}, {"ccd_temperature": -15.5}]),
        }
        made = sequence(length, minute, **chosen)
        if random.random() < 0.3:
            made = [replace(one, iobs=None, nobs=None) for one in made]
        made = made[: random.randint(1, length)] if random.random() < 0.3 else made
        frames += made
        minute += 2 * length + random.choice([0, 0, 0, 20, 29.9, 30, 31, 90])
    return [replace(one, camera=random.choice(["C", "C", "D"])) for one in frames]


def batches(frames: Sequence[NewFrame], random: Random) -> Iterator[list[NewFrame]]:
    rest = list(frames)
    while rest:
        size = random.choice([1, 1, 2, 3, 5, 8, 20])
        yield rest[:size]
        rest = rest[size:]


def no_frame_is_in_two_sets(space: Workspace) -> bool:
    members = [frame for one in space.registry.read(find_sets) for frame in one.frames]
    return len(members) == len(set(members))


@pytest.mark.parametrize("gap", ["start", "idle"])
def test_the_lean_reader_sees_what_the_rules_see_of_records(
    space: Workspace, gap: Literal["start", "idle"]
) -> None:
    rules = SequenceRules(
        same=("class", "object", "exptime", "binning", "night", "shutter"),
        tolerance={"ccd_temperature": 2.0, "exptime": 1.0, "mode": 1.0},
        gap=gap,
    )
    random = Random(3)
    frames = [
        replace(
            one,
            iobs=random.choice([one.iobs, 0, 99]),
            exptime=random.choice([60.0, None]),
            keywords={"binning": random.choice(["2x2", "", 2]), "shutter": True, "mode": "fast"}
            | one.keywords,
        )
        for seed in range(10)
        for one in random_stream(Random(seed))
    ]
    add_catalogue(space.registry, frames)
    register(space, exposure(1.5, keywords={"ccd_temperature": -20}), "file.fits", "a")
    register(space, exposure(1.5), "copy.fits", "a")
    for stream in space.registry.read(find_streams):
        records = [frame for frame in space.registry.read(find_frames) if frame.stream == stream]
        wanted = [one for _, one in exposures(records, rules, ("science",))]
        assert list(exposures_in_stream(space.registry, stream, rules, ("science",), batch=7)) == wanted
        after = wanted[3].key
        assert list(exposures_in_stream(space.registry, stream, rules, ("science",), after)) == wanted[4:]


@pytest.mark.parametrize("seed", range(30))
def test_order_and_batches_of_arrival_do_not_matter(new_project: NewProject, seed: int) -> None:
    random = Random(seed)
    frames = random_stream(random)
    whole = new_project("whole")
    arrive(whole, frames)
    parts = new_project("parts")
    random.shuffle(frames)
    for some in batches(frames, random):
        # Sets are open or closed by time at random; it must not matter.
        arrive(parts, some, random.choice([Request(), clock(random.uniform(0, 400))]))
        assert no_frame_is_in_two_sets(parts)
        if random.random() < 0.2:
            parts.registry.close()
            parts = new_project("parts")
    group_sets(parts, Request())
    assert active(parts) == active(whole)
    science = {one.id for one in parts.registry.read(find_frames) if one.frame_class == "science"}
    assert {frame for one in parts.registry.read(find_sets) for frame in one.frames} == science


def test_nothing_new_changes_nothing(space: Workspace) -> None:
    frames = random_stream(Random(1))
    arrive(space, frames)
    before = space.registry.read(find_sets, ALL)
    assert arrive(space, frames) == group_sets(space, Request())
    assert space.registry.read(find_sets, ALL) == before


# --- what becomes of ids -----------------------------------------------------------------------------


def test_an_open_set_grows_under_its_id(space: Workspace) -> None:
    frames = sequence(3)
    ids = []
    for number, frame in enumerate(frames):
        arrive(space, [frame], clock(2 * number))
        (one,) = space.registry.read(find_sets, ALL)
        ids.append(one.id)
        assert len(one.frames) == number + 1
        assert one.status == ("closed" if number == 2 else "open")
    assert len(set(ids)) == 1


def test_a_late_frame_regroups_its_sequence_and_no_other(space: Workspace) -> None:
    frames = [*sequence(4, 0), *sequence(4, 100, object="M31"), *sequence(3, 200)]
    late = frames.pop(5)
    arrive(space, frames)
    before = {one.id: one for one in space.registry.read(find_sets)}
    old = next(
        one for one in before.values() if len(one.frames) == 3 and one.first_obsdate < frames[-3].obsdate
    )
    space.registry.write(apply_set_changes, [Change(old.id, product_id=77)])
    arrive(space, [late])
    after = {one.id: one for one in space.registry.read(find_sets)}
    assert before.keys() - after.keys() == {old.id}
    assert {number: one for number, one in after.items() if number in before} == {
        number: one for number, one in before.items() if number != old.id
    }
    (new,) = (one for number, one in after.items() if number not in before)
    assert len(new.frames) == 4
    assert new.version == old.version + 1
    (kept,) = space.registry.read(find_sets, SetFilter(status=["superseded"]))
    assert (kept.id, kept.product_id, kept.superseded_by) == (old.id, 77, new.id)
    assert kept.frames == old.frames


def test_a_late_frame_that_parts_a_sequence_leaves_what_follows(space: Workspace) -> None:
    unnumbered = [replace(one, iobs=None, nobs=None) for one in sequence(6)]
    later = sequence(4, 300)
    arrive(space, [*unnumbered, *later])
    assert shape(space) == [("stack", 4), ("stack", 2), ("stack", 4)]
    last = space.registry.read(find_sets)[-1]
    arrive(space, [exposure(5, filter="R")])
    assert shape(space) == [("stack", 3), ("pass", 1), ("stack", 3), ("stack", 4)]
    assert space.registry.read(find_sets)[-1] == last


def test_a_set_closed_by_time_still_takes_a_late_frame(space: Workspace) -> None:
    frames = [replace(one, iobs=None, nobs=None) for one in sequence(3)]
    arrive(space, frames[:2], clock(60))
    (closed,) = space.registry.read(find_sets)
    assert closed.status == "closed"
    arrive(space, frames[2:], clock(60))
    (found,) = space.registry.read(find_sets)
    assert len(found.frames) == 3
    assert (found.version, found.id != closed.id) == (2, True)


def test_a_set_that_was_closed_too_early_opens_again(space: Workspace) -> None:
    frames = [replace(one, iobs=None, nobs=None) for one in sequence(3)]
    arrive(space, frames[:2], clock(60))
    arrive(space, frames[2:], clock(10))
    (found,) = space.registry.read(find_sets)
    assert (found.status, len(found.frames)) == ("open", 3)


def test_a_set_is_open_until_the_gap_has_passed(space: Workspace) -> None:
    arrive(space, sequence(2, nobs=3), clock(31.9))
    assert [one.status for one in space.registry.read(find_sets)] == ["open"]
    group_sets(space, clock(32.1))
    assert [one.status for one in space.registry.read(find_sets)] == ["closed"]


def test_ids_of_sets_are_never_used_again(space: Workspace) -> None:
    random = Random(8)
    frames = random_stream(random)
    random.shuffle(frames)
    first_seen: dict[int, tuple[Any, ...]] = {}
    for some in batches(frames, random):
        arrive(space, some)
        for one in space.registry.read(find_sets, ALL):
            start = one.step, one.stream, one.frames[0]
            assert first_seen.setdefault(one.id, start) == start
    known = {one.id for one in space.registry.read(find_sets, ALL)}
    assert known == set(first_seen), "a set was forgotten"


def ruled(space: Workspace, **said: object) -> Workspace:
    """The project with other rules for its stacks in its own cascade."""
    stack = space.cascade.tasks["stack"]
    changed = stack.model_copy(update={"parameters": {**stack.parameters, **said}})
    tasks = {**space.cascade.tasks, "stack": changed}
    return replace(space, cascade=space.cascade.model_copy(update={"tasks": tasks}))


def test_rules_of_a_request_regroup_nothing(space: Workspace) -> None:
    arrive(space, sequence(6))
    before = space.registry.read(find_sets)
    group_sets(space, Request(parameters={"stack.max_stack": 3}))
    group_sets(space, Request(parameters={"stack.group": "object"}))
    assert space.registry.read(find_sets, SetFilter(status=None)) == before


def test_other_rules_regroup_and_the_old_ones_come_back(space: Workspace) -> None:
    arrive(space, sequence(6))
    assert shape(space) == [("stack", 4), ("stack", 2)]
    group_sets(ruled(space, max_stack=3), Request())
    assert shape(space) == [("stack", 3), ("stack", 3)]
    assert len(space.registry.read(find_sets, SetFilter(status=["superseded"]))) == 2
    group_sets(space, Request())
    assert shape(space) == [("stack", 4), ("stack", 2)]


def test_other_rules_regroup_all_sequences(space: Workspace) -> None:
    arrive(space, [*sequence(4), *sequence(4, 100), *sequence(4, 200)])
    group_sets(ruled(space, max_stack=2), Request())
    assert shape(space) == [("stack", 2)] * 6


def test_sets_by_object_take_the_place_of_sequences(space: Workspace) -> None:
    arrive(space, [exposure(0), exposure(2, filter="R"), exposure(4), exposure(6, filter="R")])
    assert shape(space) == [("pass", 1)] * 4
    group_sets(ruled(space, group="object"), Request())
    assert shape(space) == [("stack", 2)] * 2
    assert no_frame_is_in_two_sets(space)
    group_sets(space, Request())
    assert shape(space) == [("pass", 1)] * 4


def test_streams_do_not_touch_each_other(space: Workspace) -> None:
    arrive(space, sequence(4, camera="C"))
    before = space.registry.read(find_sets)
    arrive(space, [exposure(3, camera="D", filter="R")])
    assert [one for one in space.registry.read(find_sets) if one.camera == "C"] == before


# --- readiness ---------------------------------------------------------------------------------------


def settle(space: Workspace, *states: str) -> list[int]:
    ids = [one.id for one in space.registry.read(find_frames)]
    marks = [StageState(number, "science", state) for number, state in zip(ids, states, strict=True)]
    space.registry.write(set_stages, marks)
    group_sets(space, Request())
    return ids


def test_a_set_is_ready_once_each_frame_is_calibrated_or_has_failed(space: Workspace) -> None:
    arrive(space, sequence(3))
    settle(space, "done", "done", "running")
    assert [one.ready for one in space.registry.read(find_sets)] == [False]
    settle(space, "done", "done", "failed")
    assert [one.ready for one in space.registry.read(find_sets)] == [True]


def test_failed_frames_stay_in_the_set_that_they_bound(space: Workspace) -> None:
    arrive(space, sequence(4))
    before = shape(space)
    settle(space, "failed", "done", "done", "failed")
    assert shape(space) == before == [("stack", 4)]


def test_refused_frames_count_and_hold_nothing_up(space: Workspace) -> None:
    frames = sequence(4)
    frames[1] = replace(frames[1], refused="shutter stuck")
    arrive(space, frames)
    ids = [one.id for one in space.registry.read(find_frames)]
    done = [StageState(number, "science", "done") for number in (ids[0], *ids[2:])]
    space.registry.write(set_stages, done)
    group_sets(space, Request())
    assert [(len(one.frames), one.ready) for one in space.registry.read(find_sets)] == [(4, True)]


def test_a_single_frame_passes_only_once_it_is_calibrated(space: Workspace) -> None:
    arrive(space, [exposure(0)])
    (number,) = [one.id for one in space.registry.read(find_frames)]
    assert space.registry.read(stage_states, "stack", [number]) == {}
    settle(space, "done")
    assert space.registry.read(stage_states, "stack", [number]) == {number: "passed"}


def test_a_frame_that_is_refused_later_holds_its_set_up_no_longer(space: Workspace) -> None:
    frames = sequence(3)
    ids = [register(space, one, f"{number}.fits", "abc"[number]) for number, one in enumerate(frames)]
    group_sets(space, Request())
    space.registry.write(set_stages, [StageState(number, "science", "done") for number in ids[:2]])
    group_sets(space, Request())
    assert [one.ready for one in space.registry.read(find_sets)] == [False]
    register(space, replace(frames[2], refused="shutter stuck"), "2.fits", "c")
    group_sets(space, Request())
    assert [(one.frames, one.ready) for one in space.registry.read(find_sets)] == [(tuple(ids), True)]


def test_a_late_frame_makes_a_ready_set_of_calibrated_frames(space: Workspace) -> None:
    frames = [replace(one, iobs=None, nobs=None) for one in sequence(4)]
    arrive(space, [*frames[:1], *frames[2:]])
    settle(space, "done", "done", "done")
    add_catalogue(space.registry, [frames[1]])
    settle(space, "done", "done", "done", "done")
    assert [(len(one.frames), one.ready) for one in space.registry.read(find_sets)] == [(4, True)]


@pytest.mark.parametrize("seed", range(5))
def test_sets_are_counted_as_they_are(space: Workspace, seed: int) -> None:
    random = Random(seed)
    frames = random_stream(random)
    random.shuffle(frames)
    for some in batches(frames, random):
        counts = arrive(space, some, random.choice([Request(), clock(random.uniform(0, 400))]))
        found = Counter(
            "open" if one.status == "open" else one.action for one in space.registry.read(find_sets)
        )
        assert +Counter(counts) == found


# --- files -------------------------------------------------------------------------------------------


def register(space: Workspace, frame: NewFrame, name: str, content: str) -> int:
    return space.registry.write(
        add_frame, replace(frame, path=f"/raw/{name}", sha256=content * 64, size=1, changed_ns=1), moves=False
    ).id


def test_a_duplicate_joins_no_set(space: Workspace) -> None:
    for number, one in enumerate(sequence(3)):
        register(space, one, f"{number}.fits", "abc"[number])
    register(space, sequence(3)[0], "copy.fits", "a")
    group_sets(space, Request())
    assert shape(space) == [("stack", 3)]


def test_a_new_version_takes_the_place_of_the_old(space: Workspace) -> None:
    ids = [register(space, one, f"{number}.fits", "abc"[number]) for number, one in enumerate(sequence(3))]
    group_sets(space, Request())
    new = register(space, sequence(3)[1], "1.fits", "d")
    group_sets(space, Request())
    assert [one.frames for one in space.registry.read(find_sets)] == [(ids[0], new, ids[2])]


def test_a_new_version_taken_at_another_time_leaves_its_old_set(space: Workspace) -> None:
    ids = [register(space, one, f"{number}.fits", "abc"[number]) for number, one in enumerate(sequence(3))]
    group_sets(space, Request())
    new = register(space, exposure(300), "1.fits", "d")
    group_sets(space, Request())
    assert [one.frames for one in space.registry.read(find_sets)] == [(ids[0], ids[2]), (new,)]


def test_a_new_version_in_another_stream_leaves_its_old_set(space: Workspace) -> None:
    frames = sequence(3)
    ids = [register(space, one, f"{number}.fits", "abc"[number]) for number, one in enumerate(frames)]
    group_sets(space, Request())
    new = register(space, replace(frames[1], camera="D"), "1.fits", "d")
    group_sets(space, Request())
    assert sorted(one.frames for one in space.registry.read(find_sets)) == [(ids[0], ids[2]), (new,)]


def test_a_frame_whose_header_is_read_otherwise_leaves_its_old_set(space: Workspace) -> None:
    frames = sequence(3)
    ids = [register(space, one, f"{number}.fits", "abc"[number]) for number, one in enumerate(frames)]
    group_sets(space, Request())
    register(space, replace(frames[1], camera="D"), "1.fits", "b")
    group_sets(space, Request())
    assert sorted(one.frames for one in space.registry.read(find_sets)) == [(ids[0], ids[2]), (ids[1],)]


def test_a_frame_that_moves_to_a_stream_before_its_own_leaves_its_old_set(space: Workspace) -> None:
    frames = sequence(3)
    ids = [register(space, one, f"{number}.fits", "abc"[number]) for number, one in enumerate(frames)]
    group_sets(space, Request())
    register(space, replace(frames[1], camera="B"), "1.fits", "b")
    group_sets(space, Request())
    assert sorted(one.frames for one in space.registry.read(find_sets)) == [(ids[0], ids[2]), (ids[1],)]


def test_programs_that_group_at_once_put_no_frame_into_two_sets(new_project: NewProject) -> None:
    space = new_project("busy")
    add_catalogue(space.registry, nights(60))
    spaces = [new_project("busy") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: group_sets(one, Request()), spaces))
    assert shape(space) == [("stack", 4)] * 60


# --- cost --------------------------------------------------------------------------------------------


@pytest.fixture
def frames_read(monkeypatch: pytest.MonkeyPatch) -> list[Exposure]:
    """The frames that grouping has read."""
    taken: list[Exposure] = []

    def counted(*wanted: Any, **options: Any) -> Iterator[Exposure]:
        for exposure in exposures_in_stream(*wanted, **options):
            taken.append(exposure)
            yield exposure

    monkeypatch.setattr("ccdflow.tasks.grouping.exposures_in_stream", counted)
    return taken


def nights(number: int) -> list[NewFrame]:
    """Sequences of 4, one an hour."""
    return [one for hour in range(number) for one in sequence(4, 60 * hour)]


@pytest.mark.parametrize("hours", [20, 400])
def test_a_new_frame_costs_its_sequence_whatever_the_length_of_the_table(
    space: Workspace, hours: int, frames_read: list[Exposure]
) -> None:
    arrive(space, nights(hours))
    frames_read.clear()
    arrive(space, [exposure(60 * hours)])
    assert 0 < len(frames_read) <= 5
    frames_read.clear()
    arrive(space, [exposure(60 * (hours // 2) + 20)])
    assert 0 < len(frames_read) <= 10


def test_a_late_frame_and_a_new_one_do_not_cost_what_lies_between(
    space: Workspace, frames_read: list[Exposure]
) -> None:
    arrive(space, nights(400))
    frames_read.clear()
    arrive(space, [exposure(20), exposure(60 * 400)])
    assert 0 < len(frames_read) <= 20


def statements(space: Workspace, work: Callable[[], object]) -> int:
    """How many statements `work` sends to the database."""
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        seen += 1

    event.listen(space.registry.database.engine, "after_cursor_execute", count)
    work()
    event.remove(space.registry.database.engine, "after_cursor_execute", count)
    return seen


def test_statements_of_a_new_frame_do_not_grow_with_the_table(new_project: NewProject) -> None:
    counts = []
    for hours in (20, 400):
        space = new_project(f"of {hours}")
        arrive(space, nights(hours))
        add_catalogue(space.registry, [exposure(60 * hours)])
        counts.append(statements(space, lambda space=space: group_sets(space, Request())))
    assert counts[0] == counts[1]


def unnumbered(length: int, minute: float) -> list[NewFrame]:
    return [replace(one, iobs=None, nobs=None) for one in sequence(length, minute)]


def work_of(space: Workspace, work: Callable[[], object]) -> int:
    """How many hundred steps SQLite takes for what `work` asks."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with space.registry.database.engine.connect() as connection:
        connection.connection.dbapi_connection.set_progress_handler(count, 100)
    work()
    with space.registry.database.engine.connect() as connection:
        connection.connection.dbapi_connection.set_progress_handler(None, 100)
    return steps


def test_the_database_does_not_read_more_for_a_new_frame_in_a_longer_table(new_project: NewProject) -> None:
    work = []
    for hours in (40, 800):
        space = new_project(f"of {hours}")
        # A long sequence is parted: many frames leave their sets at once.
        arrive(space, [*nights(hours), *unnumbered(20, 60 * hours)])
        add_catalogue(space.registry, [exposure(60 * hours + 21, filter="R")])
        work.append(work_of(space, lambda space=space: group_sets(space, Request())))
    assert work[1] < 1.2 * work[0]
