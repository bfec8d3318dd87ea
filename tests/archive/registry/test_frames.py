import random
import re
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.files import _LOOK_UP, NewFrame, add_frame, registered_files
from ccdflow.archive.registry.frames.queries import (
    FrameFilter,
    find_frames,
    find_streams,
    list_frames,
    show_frame,
)
from ccdflow.archive.registry.frames.stages import StageState, set_stages, stage_states
from ccdflow.archive.registry.sets.changes import Change, NewSet, apply_set_changes
from ccdflow.archive.registry.sets.news import read_news
from ccdflow.archive.registry.tables import CURRENT
from ccdflow.archive.registry.transactions import add_catalogue, exposures_in_stream
from ccdflow.cascade.sequences.exposures import SequenceRules, order_key

START = datetime(2026, 3, 1, 20)
ALL = FrameFilter(status=None)


def frame(number: int = 0, path: Path | str | None = None, content: str = "", **more: object) -> NewFrame:
    """A science frame, one a minute."""
    file = {} if path is None else {"path": str(path), "sha256": content * 64, "size": 2880, "changed_ns": 7}
    described = {
        "frame_class": "science",
        "telescope": "T",
        "camera": "C1",
        "instrument": "I",
        "filter": "L",
        "object": "M 13",
        "exptime": 60.0,
        "obsdate": (START + timedelta(minutes=number)).isoformat(),
        "night": "2026-03-01",
    }
    return NewFrame(**{**described, **file, **more})


def on_disk(path: Path, content: str = "x") -> Path:
    path.write_text(content)
    return path


def status(registry: Registry) -> dict[int, str]:
    return {row["id"]: row["status"] for row in registry.read(list_frames, ALL)}


def test_frame_comes_back_as_it_was_given(registry: Registry) -> None:
    keywords = {
        "binning": "2x2",
        "ccd_temperature": -20.5,
        "offset": 10,
        "guided": True,
        "note": "T",
        "nul": "a\0b",
    }
    new = frame(path="/raw/a.fits", content="a", iobs=1, nobs=3, keywords=keywords)
    registered = registry.write(add_frame, new)
    (record,) = registry.read(find_frames)
    assert (registered.outcome, registered.id) == ("new", record.id)
    assert record.keywords == {**keywords, "nul": "ab"}
    assert {name: type(value) for name, value in record.keywords.items()} == {
        name: type(value) for name, value in keywords.items()
    }
    for name in (
        "frame_class",
        "telescope",
        "filter",
        "exptime",
        "obsdate",
        "iobs",
        "nobs",
        "night",
        "path",
        "sha256",
    ):
        assert getattr(record, name) == getattr(new, name)
    assert record.refused == ""


def test_same_file_again_is_known_and_its_time_kept(registry: Registry) -> None:
    first = registry.write(add_frame, frame(path="/raw/a.fits", content="a"))
    again = registry.write(add_frame, frame(path="/raw/a.fits", content="a", changed_ns=99))
    assert (again.outcome, again.id) == ("known", first.id)
    assert registry.read(registered_files) == [("/raw/a.fits", 2880, 99)]
    assert len(registry.read(list_frames, ALL)) == 1


def test_what_is_said_of_a_known_file_is_brought_up_to_date(registry: Registry) -> None:
    first = registry.write(
        add_frame, frame(path="/raw/a.fits", content="a", frame_class="unclassified", refused="no date")
    )
    registry.write(apply_set_changes, [], grouped=[first.id])
    registry.write(add_frame, frame(path="/raw/a.fits", content="a", keywords={"gain": 1.3}))
    (record,) = registry.read(find_frames)
    assert (record.frame_class, record.refused, record.keywords) == ("science", "", {"gain": 1.3})
    assert list(registry.read(read_news, ()).frames) == [("T", "C1", "I")]


def test_a_known_file_that_is_the_same_is_not_grouped_again(registry: Registry) -> None:
    first = registry.write(add_frame, frame(path="/raw/a.fits", content="a"))
    registry.write(apply_set_changes, [], grouped=[first.id])
    registry.write(add_frame, frame(path="/raw/a.fits", content="a", changed_ns=99))
    assert registry.read(read_news, ()).ids == []


def test_same_content_elsewhere_is_a_duplicate(registry: Registry, tmp_path: Path) -> None:
    first = registry.write(add_frame, frame(path=on_disk(tmp_path / "a.fits"), content="a"))
    copy = frame(path=on_disk(tmp_path / "b.fits"), content="a")
    second, third = registry.write(add_frame, copy), registry.write(add_frame, copy)
    assert (second.outcome, second.of) == ("duplicate", first.id)
    assert (third.outcome, third.id, third.of) == ("known", second.id, first.id)
    assert status(registry) == {first.id: "done", second.id: "duplicate"}
    assert [record.id for record in registry.read(find_frames)] == [first.id]
    assert [len(keys) for keys in registry.read(read_news, ()).frames.values()] == [1]


def test_moved_file_is_known_at_its_new_path(registry: Registry, tmp_path: Path) -> None:
    first = registry.write(add_frame, frame(path=tmp_path / "gone.fits", content="a"))
    new = frame(path=on_disk(tmp_path / "b.fits"), content="a")
    assert registry.write(add_frame, new, moves=False).outcome == "duplicate"
    moved = registry.write(add_frame, replace(new, path=str(on_disk(tmp_path / "c.fits"))))
    assert (moved.outcome, moved.id) == ("known", first.id)
    (record,) = registry.read(find_frames)
    assert record.path == str(tmp_path / "c.fits")


def test_new_content_at_a_known_path_is_a_new_version(registry: Registry) -> None:
    first = registry.write(add_frame, frame(path="/raw/a.fits", content="a"))
    second = registry.write(add_frame, frame(path="/raw/a.fits", content="b"))
    back = registry.write(add_frame, frame(path="/raw/a.fits", content="a"))
    assert (second.outcome, second.of, back.outcome, back.of) == ("version", first.id, "version", second.id)
    rows = {row["id"]: row for row in registry.read(list_frames, ALL)}
    assert [rows[identity]["version"] for identity in (first.id, second.id, back.id)] == [1, 2, 3]
    assert [rows[identity]["superseded_by"] for identity in (first.id, second.id, back.id)] == [
        second.id,
        back.id,
        None,
    ]
    assert [record.id for record in registry.read(find_frames)] == [back.id]


def test_copy_takes_the_place_of_an_original_that_was_overwritten(registry: Registry, tmp_path: Path) -> None:
    path, copies = on_disk(tmp_path / "a.fits"), [on_disk(tmp_path / f"{letter}.fits") for letter in "bc"]
    registry.write(add_frame, frame(path=path, content="a"))
    second, third = (
        registry.write(add_frame, frame(path=path_of_copy, content="a")) for path_of_copy in copies
    )
    version = registry.write(add_frame, frame(path=path, content="d"))
    assert {record.id for record in registry.read(find_frames)} == {second.id, version.id}
    assert registry.read(show_frame, third.id)["duplicate_of"] == second.id


def test_refused_frames_say_why_and_still_count(registry: Registry) -> None:
    registry.write(add_frame, frame(path="/raw/a.fits", content="a", obsdate="", refused="no date"))
    (record,) = registry.read(find_frames)
    assert record.refused == "no date"
    assert registry.read(find_frames, FrameFilter(status=["registered"])) == []
    assert registry.read(list_frames)[0]["reason"] == "no date"


def test_file_without_checksum_is_refused(registry: Registry) -> None:
    with pytest.raises(ValueError, match="a file needs path and sha256"):
        registry.write(add_frame, NewFrame(path="/raw/a.fits"))


def test_catalogue_rows_are_taken_once(registry: Registry) -> None:
    rows = [
        frame(number, iobs=number % 3 + 1, nobs=3, keywords={"seeing": number / 10}) for number in range(50)
    ]
    assert add_catalogue(registry, rows, batch=20) == 50
    assert add_catalogue(registry, [*rows, frame(99), frame(99)], batch=100) == 1
    records = registry.read(find_frames)
    assert len(records) == 51
    assert [record.keywords.get("seeing") for record in records[:50]] == [number / 10 for number in range(50)]
    assert all(record.path is None and record.sha256 is None for record in records)


def test_catalogue_rows_of_one_moment_differ_by_iobs(registry: Registry) -> None:
    assert add_catalogue(registry, [frame(iobs=1, nobs=2), frame(iobs=2, nobs=2), frame(camera="C2")]) == 3


def test_filters_select(registry: Registry) -> None:
    rows = [frame(0), frame(10, camera="C2"), frame(20, frame_class="flat"), frame(30, night="2026-03-02")]
    add_catalogue(registry, rows)
    ids = [record.id for record in registry.read(find_frames)]

    def selected(**wanted: object) -> list[int]:
        return [ids.index(record.id) for record in registry.read(find_frames, FrameFilter(**wanted))]

    assert selected(camera="C2") == [1]
    assert selected(camera="T/C2") == [1]
    assert selected(camera="S/C2", strict=False) == []
    with pytest.raises(ValueError, match="unknown camera 'S/C2'; known: T/C1, T/C2"):
        selected(camera="S/C2")
    assert selected(classes=["flat"]) == [2]
    assert selected(night="2026-03-02") == [3]
    assert selected(since=rows[1].obsdate, until=rows[2].obsdate) == [1, 2]
    assert selected(ids=[ids[3], ids[0]]) == [0, 3]
    assert selected(ids=[]) == []


def test_stream_comes_in_order_whatever_the_order_of_arrival(registry: Registry) -> None:
    rows = [frame(number // 2, iobs=number % 2 + 1, nobs=2) for number in range(30)]
    rows += [frame(40, path=f"/raw/{letter}.fits", content=letter) for letter in "cab"]
    rows += [frame(41, iobs=5, nobs=3), frame(41, iobs=2, nobs=3)]
    random.Random(4).shuffle(rows)
    for row in rows:
        registry.write(add_frame, row) if row.path else add_catalogue(registry, [row])
    add_catalogue(registry, [frame(1, camera="C2")])
    stream, rules = ("T", "C1", "I"), SequenceRules()
    exposures = list(exposures_in_stream(registry, stream, rules, ("science",), batch=7))
    keys = [exposure.key for exposure in exposures]
    assert len(keys) == 35
    records = registry.read(find_frames, FrameFilter(camera="C1"))
    assert keys == [order_key(record) for record in records] == sorted(keys)
    assert [record.iobs for record in records[-2:]] == [5, 2]  # 5 of 3 is no place in a sequence
    for at in (0, 6, 7, 31, 34):
        after = exposures_in_stream(registry, stream, rules, ("science",), keys[at], batch=7)
        assert list(after) == exposures[at + 1 :]
    assert registry.read(read_news, ()).frames[stream] == keys


def test_grouped_frames_are_no_longer_asked_for(registry: Registry) -> None:
    add_catalogue(registry, [frame(number) for number in range(3)])
    ids = [record.id for record in registry.read(find_frames)]
    registry.write(apply_set_changes, [], grouped=ids[:2])
    assert registry.read(read_news, ()).ids == ids[2:]
    registry.write(apply_set_changes, [], grouped=ids)
    assert registry.read(read_news, ()).ids == []
    assert registry.read(find_streams) == [("T", "C1", "I")]


def test_rows_for_people_tell_furthest_stage_and_current_set(registry: Registry) -> None:
    add_catalogue(registry, [frame(number) for number in range(3)])
    first, second, third = (record.id for record in registry.read(find_frames))
    states = [
        StageState(first, "science", "running"),
        StageState(first, "stack", "waiting", "set 1 is open"),
        StageState(second, "science", "failed", "no bias"),
    ]
    registry.write(set_stages, states)
    registry.write(set_stages, [StageState(first, "science", "done")])
    gone = registry.write(apply_set_changes, [NewSet("gone", "stack", ("T", "C1", "I"), [first, second])])
    registry.write(apply_set_changes, [Change(gone["gone"], status="superseded")])
    sets = registry.write(apply_set_changes, [NewSet("here", "stack", ("T", "C1", "I"), [first])])
    rows = {
        row["id"]: (row["stage"], row["status"], row["reason"], row["set"])
        for row in registry.read(list_frames)
    }
    assert rows == {
        first: ("stack", "waiting", "set 1 is open", sets["here"]),
        second: ("science", "failed", "no bias", None),
        third: ("ingest", "waiting", "no file, only a row of a catalogue", None),
    }
    assert [row["id"] for row in registry.read(list_frames)] == [first, second, third]


def test_an_earlier_stage_that_is_not_done_counts_before_a_later_one(registry: Registry) -> None:
    """A frame that was stacked once and then can't be calibrated any more has failed, whatever it was."""
    add_catalogue(registry, [frame(0), frame(1)])
    first, second = (record.id for record in registry.read(find_frames))
    for identity in (first, second):
        registry.write(
            set_stages, [StageState(identity, "science", "done"), StageState(identity, "stack", "done")]
        )
    registry.write(set_stages, [StageState(first, "science", "failed", "the raw file is gone")])
    rows = [(row["stage"], row["status"], row["reason"]) for row in registry.read(list_frames)]
    assert rows == [("science", "failed", "the raw file is gone"), ("stack", "done", "")]


def test_states_are_told_by_stage(registry: Registry) -> None:
    add_catalogue(registry, [frame(number) for number in range(5)])
    ids = [record.id for record in registry.read(find_frames)]
    registry.write(set_stages, [StageState(frame, "science", "done") for frame in ids[:3]])
    registry.write(set_stages, [StageState(frame, "science", "waiting") for frame in ids[3:]])
    assert registry.read(stage_states, "science", ids[2:4]) == {ids[2]: "done", ids[3]: "waiting"}
    assert registry.read(stage_states, "stack", ids) == {}


def test_unknown_states_are_not_taken(registry: Registry) -> None:
    add_catalogue(registry, [frame()])
    (record,) = registry.read(find_frames)
    with pytest.raises(IntegrityError):
        registry.write(set_stages, [StageState(record.id, "science", "perhaps")])


def test_show_frame_tells_everything(registry: Registry) -> None:
    registered = registry.write(add_frame, frame(path="/raw/a.fits", content="a", keywords={"gain": 1.5}))
    registry.write(set_stages, [StageState(registered.id, "science", "done")])
    shown = registry.read(show_frame, registered.id)
    assert shown is not None
    assert (shown["path"], shown["keywords"], shown["stages"][0]["state"]) == (
        "/raw/a.fits",
        {"gain": 1.5},
        "done",
    )
    assert registry.read(show_frame, registered.id + 1) is None


def test_many_threads_register_the_same_files_once(registry: Registry) -> None:
    files = [frame(number, path=f"/raw/{number}.fits", sha256=f"{number:064d}") for number in range(12)]
    outcomes: list[str] = []

    def ingest() -> None:
        outcomes.extend(registry.write(add_frame, file).outcome for file in files)

    threads = [threading.Thread(target=ingest) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (outcomes.count("new"), outcomes.count("known")) == (12, 36)
    assert len(registry.read(find_frames)) == 12


@pytest.mark.parametrize(
    "statement",
    [
        _LOOK_UP.text,
        f"SELECT id FROM frame WHERE path = :path AND size = 1 AND {CURRENT}",
    ],
)
def test_a_file_is_looked_up_through_indexes(tmp_path: Path, statement: str) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/registry.sqlite")
    registry.upgrade()
    with registry.database.read() as connection:
        file = {"path": "/raw/a.fits", "sha256": "a", "pixels": "a"}
        plan = connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"), file)
        steps = [row[3] for row in plan if "frame" in row[3]]
    registry.close()
    assert steps
    assert all(re.search("SEARCH frame USING INDEX (uq_frame|ix_frame_pixels)", step) for step in steps)


def test_frames_come_with_the_keywords_that_are_asked_for(registry: Registry) -> None:
    registry.write(
        add_frame, frame(path="/raw/a.fits", content="a", keywords={"gain": 1.5, "binning": "1x1", "x": 1})
    )
    (record,) = registry.read(find_frames, FrameFilter(keywords=("gain", "x", "y")))
    assert record.keywords == {"gain": 1.5, "x": 1}
    assert [record.keywords for record in registry.read(find_frames, FrameFilter(keywords=()))] == [{}]


def test_changed_keywords_of_a_known_file_are_taken_over(registry: Registry) -> None:
    registry.write(
        add_frame, frame(path="/raw/a.fits", content="a", keywords={"gain": 1.5, "n": 7, "t": "7"})
    )
    registry.write(
        add_frame, frame(path="/raw/a.fits", content="a", keywords={"gain": 1.5, "n": 7.0, "t": 7})
    )
    (record,) = registry.read(find_frames)
    assert {name: repr(value) for name, value in record.keywords.items()} == {
        "gain": "1.5",
        "n": "7.0",
        "t": "7",
    }


def test_keywords_that_differ_by_nul_alone_are_one(registry: Registry) -> None:
    registry.write(add_frame, frame(path="/raw/a.fits", content="a", keywords={"gain": 1.5, "gain\0": 2.5}))
    assert [record.keywords for record in registry.read(find_frames)] == [{"gain": 2.5}]


def test_a_number_that_someone_else_wrote_counts_before_its_text(registry: Registry) -> None:
    registered = registry.write(add_frame, frame(path="/raw/a.fits", content="a"))
    rows = [("a", "7 mm", 7.25), ("b", "7", 7.0), ("c", "T", 1.0), ("d", "7.0", 7.0), ("e", "much", None)]
    with registry.database.write() as connection:
        for name, value, number in rows:
            row = {"frame": registered.id, "name": name, "value": value, "number": number}
            connection.execute(text("INSERT INTO frame_keyword VALUES (:frame, :name, :value, :number)"), row)
    (record,) = registry.read(find_frames)
    assert record.keywords == {"a": 7.25, "b": 7, "c": True, "d": 7.0, "e": "much"}
    assert [type(record.keywords[name]) for name in "abcd"] == [float, int, bool, float]
