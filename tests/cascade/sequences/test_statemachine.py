"""The sequence rules, against the worked example, an oracle of its own, and all that must not matter."""

import csv
from collections import defaultdict
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.sequences.statemachine import (
    FrameSet,
    SequenceMachine,
    SequenceRules,
    exposures,
    group_sequences,
)
from ccdflow.simulate import simulate_night

RULES = SequenceRules()
LATER = 1e12


def frame(number: int, minute: float, **changes: Any) -> FrameRecord:
    moment = f"2026-03-01T{int(minute // 60):02d}:{int(minute % 60):02d}:{minute * 60 % 60:09.6f}"
    record = FrameRecord(
        id=number,
        frame_class="science",
        telescope="T",
        camera="C",
        instrument="I",
        filter="L",
        object="M13",
        exptime=60.0,
        obsdate=moment,
        iobs=None,
        nobs=None,
        night="2026-03-01",
        sha256=f"{number:064x}",
    )
    return replace(record, **changes)


def sequence(nobs: int, *, start: int = 1, first: float = 0.0, **changes: Any) -> list[FrameRecord]:
    return [frame(start + i, first + 2 * i, iobs=i + 1, nobs=nobs, **changes) for i in range(nobs)]


def shape(found: list[FrameSet]) -> list[tuple[str, int]]:
    return [(one.action, len(one.frames)) for one in found]


def grouped(frames: list[FrameRecord], rules: SequenceRules = RULES, now: float = LATER) -> list[FrameSet]:
    return group_sequences(frames, rules, now)


# --- each rule alone ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sets"),
    [
        ({}, [("stack", 2)]),
        ({"object": "M14"}, [("pass", 1), ("pass", 1)]),
        ({"filter": "R"}, [("pass", 1), ("pass", 1)]),
        ({"exptime": 60.06}, [("stack", 2)]),
        ({"exptime": 59.94}, [("stack", 2)]),
        ({"exptime": 60.07}, [("pass", 1), ("pass", 1)]),
        ({"exptime": None}, [("pass", 1), ("pass", 1)]),
        ({"keywords": {"ccd_temperature": -20.0}}, [("pass", 1), ("pass", 1)]),
        ({"keywords": {"ccd_temperature": float("nan")}}, [("stack", 2)]),
        ({"camera": "D"}, [("pass", 1), ("pass", 1)]),
    ],
)
def test_what_differs_begins_a_new_sequence(changes: dict[str, Any], sets: list[tuple[str, int]]) -> None:
    assert shape(grouped([frame(1, 0), frame(2, 2, **changes)])) == sets


def test_temperature_is_held_against_the_first_frame_so_that_it_cannot_drift() -> None:
    frames = [frame(i, 2 * i, keywords={"ccd_temperature": -20 + 1.5 * i}) for i in range(4)]
    assert shape(grouped(frames)) == [("stack", 2), ("stack", 2)]


def test_a_difference_as_large_as_allowed_is_allowed_whatever_binary_makes_of_it() -> None:
    frames = [frame(i, i, keywords={"ccd_temperature": t}) for i, t in enumerate([4.1, 4.4, 4.41])]
    rules = SequenceRules(tolerance={"ccd_temperature": 0.3})
    assert shape(grouped(frames, rules)) == [("stack", 2), ("pass", 1)]


def test_any_keyword_can_be_one_that_must_not_change() -> None:
    frames = [frame(i, i, keywords={"binning": binning}) for i, binning in enumerate(["1x1", "1x1", "2x2"])]
    rules = RULES.model_copy(update={"same": ("class", "binning")})
    assert shape(grouped(frames, rules)) == [("stack", 2), ("pass", 1)]


def test_exposure_times_do_not_drift() -> None:
    frames = [frame(i, i, exptime=60 + 0.05 * i) for i in range(4)]
    assert shape(grouped(frames)) == [("stack", 2), ("stack", 2)]


def test_flats_ignore_the_exposure_time() -> None:
    frames = [frame(i, 2 * i, frame_class="flat", exptime=1.0 + i) for i in range(3)]
    assert shape(group_sequences(frames, RULES, LATER, classes=("flat",))) == [("stack", 3)]


def test_a_frame_of_another_class_ends_a_sequence_and_makes_no_set() -> None:
    frames = [frame(1, 0), frame(2, 2), frame(3, 4, frame_class="bias"), frame(4, 6), frame(5, 8)]
    assert shape(grouped(frames)) == [("stack", 2), ("stack", 2)]


@pytest.mark.parametrize(("minutes", "sets"), [(30.0, [("stack", 2)]), (30.01, [("pass", 1), ("pass", 1)])])
def test_only_strictly_more_than_the_gap_begins_a_new_sequence(
    minutes: float, sets: list[tuple[str, int]]
) -> None:
    assert shape(grouped([frame(1, 0), frame(2, minutes)])) == sets


def test_the_last_of_a_sequence_ends_it_though_nothing_else_changes() -> None:
    frames = [one for i in range(3) for one in sequence(2, start=1 + 2 * i, first=4.0 * i)]
    assert shape(grouped(frames)) == [("stack", 2)] * 3


def test_the_last_of_a_sequence_ends_it_also_where_restarts_do_not() -> None:
    frames = [one for i in range(7) for one in sequence(2, start=1 + 2 * i, first=4.0 * i)]
    assert shape(grouped(frames, RULES.model_copy(update={"restart": False}))) == [("stack", 2)] * 7


def test_classes_that_may_be_mixed_are_parted_where_only_one_is_asked_for() -> None:
    frames = [frame(i, i, frame_class="science" if i < 14 else "sky") for i in range(28)]
    mixed = RULES.model_copy(update={"same": ("object",)})
    assert [one.frames for one in grouped([*frames, frame(28, 28)], mixed)] == [tuple(range(14)), (28,)]
    both = group_sequences(frames, mixed, LATER, classes=("science", "sky"))
    assert [one.frames for one in both] == [tuple(range(28))]


def test_what_is_not_asked_to_be_the_same_may_change() -> None:
    frames = [frame(1, 0), frame(2, 1, exptime=80.0), frame(3, 2, filter="R"), frame(4, 3, object="M14")]
    assert shape(grouped(frames, SequenceRules(same=("class", "object")))) == [("stack", 3), ("pass", 1)]


def test_frames_of_the_same_time_are_in_order_of_their_place_then_of_their_content() -> None:
    frames = [
        frame(1, 0, iobs=2, nobs=9, sha256="b"),
        frame(2, 0, iobs=1, nobs=9, sha256="c"),
        frame(3, 0, iobs=2, nobs=9, sha256="a"),
        frame(4, 0, iobs=3, nobs=9, sha256="0"),
    ]
    assert [one.frames for one in grouped(frames)] == [(2, 3), (1, 4)]


def test_a_column_can_have_a_tolerance() -> None:
    frames = [frame(i, i, exptime=60.0 + 3 * i) for i in range(4)]
    rules = SequenceRules(same=("object",), tolerance={"exptime": 4.0})
    assert shape(grouped(frames, rules)) == [("stack", 2), ("stack", 2)]


def test_a_sequence_that_starts_again_is_a_new_one() -> None:
    frames = [*sequence(3)[:2], *sequence(3, start=4, first=6.0)]
    assert shape(grouped(frames)) == [("stack", 2), ("stack", 3)]
    joined = grouped(frames, RULES.model_copy(update={"restart": False}))
    assert shape(joined) == [("stack", 4), ("pass", 1)]


def test_a_sequence_joined_without_restarts_is_too_long_when_it_is() -> None:
    frames = [one for i in range(3) for one in sequence(6, start=1 + 5 * i, first=10.0 * i)[:5]]
    joined = grouped(frames, RULES.model_copy(update={"restart": False}))
    # The first four were full, by the plan, before the sequence turned out to go on.
    assert shape(joined) == [("stack", 4), ("pass", 11)]


def test_another_nobs_is_a_new_sequence() -> None:
    frames = [frame(1, 0, iobs=1, nobs=4), frame(2, 2, iobs=2, nobs=5)]
    assert shape(grouped(frames)) == [("pass", 1), ("pass", 1)]


@pytest.mark.parametrize("place", [(0, 0), (None, 3), (3, None), (5, 3), (-1, 3)])
def test_a_place_that_cannot_be_is_unknown(place: tuple[int | None, int | None]) -> None:
    frames = [frame(i, 2 * i, iobs=place[0], nobs=place[1]) for i in range(1, 4)]
    assert shape(grouped(frames)) == [("stack", 3)]


# --- cutting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "split", "sizes"),
    [
        (6, "fixed", [4, 2]),
        (6, "balanced", [3, 3]),
        (6, "whole", [6]),
        (10, "balanced", [4, 3, 3]),
        (5, "fixed", [4, 1]),
        (12, "fixed", [4, 4, 4]),
        (12, "whole", [12]),
        (1, "fixed", [1]),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_sequences_are_cut_by_split(length: int, split: str, sizes: list[int], known: bool) -> None:
    frames = sequence(length)
    if not known:
        frames = [replace(one, iobs=None, nobs=None) for one in frames]
    found = grouped(frames, RULES.model_copy(update={"split": split}))
    assert [len(one.frames) for one in found] == sizes
    assert [one.action for one in found] == ["stack" if size > 1 else "pass" for size in sizes]


@pytest.mark.parametrize("known", [True, False])
def test_long_sequences_pass_as_one_set(known: bool) -> None:
    frames = sequence(20)
    if not known:
        frames = [replace(one, iobs=None, nobs=None) for one in frames]
    (found,) = grouped(frames)
    assert (found.action, len(found.frames)) == ("pass", 20)
    assert "longer than 12" in found.reason


def test_a_sequence_known_to_be_long_is_never_combined_even_if_cut_off() -> None:
    assert shape(grouped(sequence(20)[:5])) == [("pass", 5)]


def test_a_sequence_cut_off_is_cut_by_what_was_planned() -> None:
    balanced = RULES.model_copy(update={"split": "balanced"})
    assert shape(grouped(sequence(6)[:4], balanced)) == [("stack", 3), ("pass", 1)]


def test_after_a_hole_sets_are_cut_by_what_was_planned_for_them() -> None:
    balanced = RULES.model_copy(update={"split": "balanced"})
    frames = [one for one in sequence(10) if one.iobs != 5]
    assert shape(grouped(frames, balanced)) == [("stack", 4), ("stack", 3), ("stack", 2)]


def test_the_last_frame_may_be_missing() -> None:
    other = frame(9, 20, object="M14")
    assert shape(grouped([*sequence(4)[:3], other])) == [("stack", 3), ("pass", 1)]


@pytest.mark.parametrize(
    ("frames", "reasons"),
    [
        (sequence(6), ["frames 1 to 4 of 6", "frames 5 to 6 of 6"]),
        (sequence(5), ["frames 1 to 4 of 5", "frame 5 of 5 left over"]),
        (sequence(3)[:2], ["frames 1 to 2 of 3"]),
        (sequence(3)[:1], ["single frame, 3 planned"]),
        (sequence(1), ["single frame"]),
        ([frame(1, 0)], ["single frame"]),
        ([frame(i, i) for i in range(5)], ["frames 1 to 4 of 5", "frame 5 of 5 left over"]),
        ([frame(i, i) for i in range(13)], ["sequence is longer than 12"]),
        (sequence(20)[:1], ["sequence of 20 is longer than 12"]),
    ],
)
def test_each_set_says_why_it_is_one(frames: list[FrameRecord], reasons: list[str]) -> None:
    assert [one.reason for one in grouped(frames)] == reasons


# --- open and closed ---------------------------------------------------------------------------------


def closed(frames: list[FrameRecord], now: float) -> list[tuple[bool, int]]:
    return [(one.closed, len(one.frames)) for one in grouped(frames, now=now)]


def test_a_sequence_is_open_until_the_gap_has_passed() -> None:
    frames = [frame(1, 0), frame(2, 2)]
    last = frames[-1].time
    assert closed(frames, last + 1800) == [(False, 2)]
    assert closed([], last) == []
    assert closed(frames, last + 1800.1) == [(True, 2)]


def test_a_full_set_closes_before_its_sequence_where_the_plan_is_known() -> None:
    now = sequence(12)[5].time
    assert closed(sequence(12)[:5], now) == [(True, 4), (False, 1)]
    assert closed(sequence(12)[:8], now) == [(True, 4), (True, 4)]


def test_a_full_set_waits_where_a_frame_is_missing_or_the_plan_is_not_known() -> None:
    frames = [one for one in sequence(12) if one.iobs != 3]
    assert closed(frames[:6], frames[5].time) == [(False, 6)]
    lenient = RULES.model_copy(update={"restart": False})
    again = [frame(i, i, iobs=iobs, nobs=8) for i, iobs in enumerate([1, 1, 3, 4])]
    assert [one.closed for one in grouped(again, lenient, now=again[-1].time)] == [False]
    unknown = [replace(one, iobs=None, nobs=None) for one in sequence(8)]
    assert closed(unknown, unknown[-1].time) == [(False, 8)]


def test_the_last_of_a_sequence_closes_it_at_once() -> None:
    assert closed(sequence(3), sequence(3)[-1].time) == [(True, 3)]


# --- GOTO's night ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def goto(tmp_path_factory: pytest.TempPathFactory) -> list[FrameRecord]:
    folder = tmp_path_factory.mktemp("goto")
    simulate_night(folder, night="goto", catalog_only=True)
    with (folder / "catalog.csv").open() as stream:
        return [
            FrameRecord(
                id=i,
                frame_class="science",
                telescope=row["telescope"],
                camera=row["camera"],
                instrument=row["instrument"],
                filter=row["filter"],
                object=row["target"],
                exptime=float(row["exptime"]),
                obsdate=row["obsdate"],
                iobs=int(row["iobs"]),
                nobs=int(row["nobs"]),
                night="2018-09-09",
            )
            for i, row in enumerate(csv.DictReader(stream))
        ]


def test_goto_night_on_the_camera_with_clouds(goto: list[FrameRecord]) -> None:
    frames = {one.id: one for one in goto}
    found: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for one in grouped(goto):
        if one.stream[:2] == ("GOTO1", "UT1"):
            first = frames[one.frames[0]]
            found[first.object, first.filter].append((one.action, len(one.frames)))
    assert found["GRB", "L"] == [("stack", 3)]
    assert found["GRB", "B"] == [("pass", 1)]
    assert found["Cepheid", "R"] == [("pass", 20)]
    assert found["GW123456", "L"] == [("stack", 4), ("stack", 2)]
    assert found["GW123456", "B"] == found["GW123456", "V"] == found["GW123456", "R"] == [("stack", 2)]
    assert found["Field79", "L"] == [("stack", 2), ("stack", 3)]
    assert found["And123", "L"] == [("stack", 4)] * 3
    assert found["Peg54", "L"] == [("stack", 3)]
    assert found["Cas54", "L"] == [("stack", 4)]
    for name in ("Field88", "Field123", "Field135", "Field77"):
        assert found[name, "L"] == [("stack", 2)] * 3
        assert found[name, "V"] == [("pass", 1)]


def test_goto_night_puts_each_frame_into_one_set(goto: list[FrameRecord]) -> None:
    members = sorted(one for found in grouped(goto) for one in found.frames)
    assert members == list(range(788))


def test_long_exposures_are_one_sequence_where_the_gap_counts_from_their_ends() -> None:
    frames = [frame(i, 31.0 * i, exptime=1800.0) for i in range(3)]
    assert shape(grouped(frames)) == [("pass", 1)] * 3
    assert shape(grouped(frames, SequenceRules(gap="idle"))) == [("stack", 3)]


def test_an_idle_gap_ends_a_sequence_to_the_second() -> None:
    by = SequenceRules(gap="idle", max_gap=600.0)
    frames = [
        frame(0, 0.0, exptime=300.0),
        frame(1, 15.0, exptime=300.0),
        frame(2, 30.0 + 1 / 60, exptime=300.0),
    ]
    assert shape(grouped(frames, by)) == [("stack", 2), ("pass", 1)]
    # Of an exposure of unknown length the end is not known: it counts from its start.
    unknown = [replace(one, exptime=None) for one in frames]
    assert shape(grouped(unknown, by)) == [("pass", 1)] * 3


def test_a_sequence_is_closed_by_the_clock_counted_from_the_end_of_its_last_exposure() -> None:
    frames, end = [frame(0, 0.0, exptime=1800.0), frame(1, 31.0, exptime=1800.0)], 61.0
    start = frames[0].time
    by_start = SequenceRules(gap="start", same=("class",), max_gap=1800.0)
    by_end = SequenceRules(gap="idle", same=("class",), max_gap=1800.0)
    for by, minutes in ((by_start, 31.0 + 30.0), (by_end, end + 30.0)):
        before, after = (
            group_sequences(frames, by, start + 60 * minutes + seconds)[-1].closed for seconds in (0, 1)
        )
        assert (before, after) == (False, True)


def test_the_default_gap_leaves_the_identity_of_rules_as_it_was() -> None:
    assert "gap" not in SequenceRules().identity
    assert SequenceRules(gap="idle").identity["gap"] == "idle"


# --- properties --------------------------------------------------------------------------------------


@st.composite
def nights(draw: st.DrawFn) -> list[FrameRecord]:
    """A stream that takes each rule to its edge: changes, gaps, restarts, holes, lies about nobs."""
    frames: list[FrameRecord] = []
    minute = 0.0
    for _ in range(draw(st.integers(0, 8))):
        nobs = draw(st.sampled_from([None, 0, 1, 2, 3, 4, 5, 6, 8, 12, 13, 20]))
        length = draw(st.integers(1, (nobs or 6) + 1))
        changes = {
            "object": draw(st.sampled_from(["A", "B"])),
            "filter": draw(st.sampled_from(["L", "R"])),
            "frame_class": draw(st.sampled_from(["science"] * 5 + ["bias"])),
            "exptime": draw(st.sampled_from([60.0, 60.0, 60.05, 80.0, 1790.0, None])),
        }
        for i in range(length):
            minute += draw(st.sampled_from([1.0] * 8 + [29.0, 31.0]))
            celsius = draw(st.sampled_from([-20.0] * 6 + [-19.0, -17.9]))
            if draw(st.integers(0, 9)):
                cold = {"ccd_temperature": celsius}
                frames.append(frame(len(frames) + 1, minute, iobs=i + 1, nobs=nobs, keywords=cold, **changes))
    return frames


rules = st.builds(
    SequenceRules,
    max_stack=st.integers(1, 5),
    max_sequence=st.sampled_from([3, 6, 12]),
    restart=st.booleans(),
    split=st.sampled_from(["fixed", "balanced", "whole"]),
    same=st.sampled_from([("class", "object", "filter", "exptime"), ("class", "object")]),
    max_gap=st.sampled_from([600.0, 1800.0, 7200.0]),
    gap=st.sampled_from(["start", "idle"]),
    tolerance=st.sampled_from([{}, {"ccd_temperature": 2.0}]),
)


def oracle(frames: list[FrameRecord], by: SequenceRules) -> list[tuple[str, tuple[int, ...]]]:
    """The sets of one stream of complete sequences, straight from the words of the rules: cut first, then look."""
    sequences: list[list[FrameRecord]] = []
    for one in sorted(frames, key=lambda frame: frame.obsdate):
        if sequences and not _starts(sequences[-1], one, by):
            sequences[-1].append(one)
        else:
            sequences.append([one])
    found = []
    for members in sequences:
        if members[0].frame_class == "science":
            found += _sets(members, by)
    return found


def _known(one: FrameRecord) -> tuple[int, int] | None:
    return (one.iobs, one.nobs) if one.iobs and one.nobs and one.iobs <= one.nobs else None


def _starts(before: list[FrameRecord], one: FrameRecord, by: SequenceRules) -> bool:
    last, first = before[-1], before[0]
    if any(one.value(name) != last.value(name) for name in by.same if name != "exptime"):
        return True
    if "exptime" in by.same and abs((one.exptime or -1) - (first.exptime or -1)) > 0.001 * (
        first.exptime or 0
    ):
        return True
    drift = float(one.keywords["ccd_temperature"]) - float(first.keywords["ccd_temperature"])
    if abs(drift) > by.tolerance.get("ccd_temperature", 1e9):
        return True
    open_for = (last.exptime or 0.0) if by.gap == "idle" else 0.0
    if one.time - last.time - open_for > by.max_gap:
        return True
    ours, theirs = _known(one), _known(last)
    if theirs and theirs[0] == theirs[1]:
        return True
    if not by.restart:
        return False
    return (ours or (0, 0))[1] != (theirs or (0, 0))[1] or bool(ours and theirs and ours[0] <= theirs[0])


def _sets(members: list[FrameRecord], by: SequenceRules) -> list[tuple[str, tuple[int, ...]]]:
    ids = tuple(one.id for one in members)
    known = _known(members[0])
    if len(members) > by.max_sequence or (known and known[1] > by.max_sequence):
        return [("pass", ids)]
    planned = known[1] if known else len(members)
    number = -(-planned // by.max_stack)
    sizes = {"fixed": [by.max_stack] * len(members), "whole": [planned]}.get(
        by.split, [planned // number + (i < planned % number) for i in range(number)]
    )
    found = []
    while ids:
        size = sizes.pop(0)
        found.append(("stack" if len(ids[:size]) > 1 else "pass", ids[:size]))
        ids = ids[size:]
    return found


@settings(max_examples=300, deadline=None)
@given(nights(), rules.filter(lambda one: one.restart))
def test_the_machine_agrees_with_the_words_of_the_rules(frames: list[FrameRecord], by: SequenceRules) -> None:
    assert [(one.action, one.frames) for one in grouped(frames, by)] == oracle(frames, by)


@settings(max_examples=100, deadline=None)
@given(nights(), rules)
def test_without_places_in_sequences_restart_changes_nothing(
    frames: list[FrameRecord], by: SequenceRules
) -> None:
    unknown = [replace(one, iobs=None) for one in frames]
    assert [(one.action, one.frames) for one in grouped(unknown, by)] == oracle(unknown, by)


@settings(max_examples=100, deadline=None)
@given(nights(), rules, st.randoms(use_true_random=False))
def test_order_of_input_does_not_matter(frames: list[FrameRecord], by: SequenceRules, random: Random) -> None:
    expected = grouped(frames, by)
    random.shuffle(frames)
    assert grouped(frames, by) == expected


@settings(max_examples=100, deadline=None)
@given(nights(), rules)
def test_each_frame_of_the_class_is_in_exactly_one_set(frames: list[FrameRecord], by: SequenceRules) -> None:
    members = sorted(one for found in grouped(frames, by) for one in found.frames)
    assert members == sorted(one.id for one in frames if one.frame_class == "science")


@settings(max_examples=100, deadline=None)
@given(nights(), rules)
def test_what_is_sure_after_some_frames_stays_so_after_all(
    frames: list[FrameRecord], by: SequenceRules
) -> None:
    final = {(one.action, one.frames) for one in grouped(frames, by)}
    for i in range(len(frames)):
        now = frames[i].time
        for one in grouped(frames[: i + 1], by, now):
            if one.closed and one.action == "stack":
                assert (one.action, one.frames) in final


@settings(max_examples=50, deadline=None)
@given(nights(), rules)
def test_memory_is_bounded_by_the_longest_sequence(frames: list[FrameRecord], by: SequenceRules) -> None:
    machine = SequenceMachine(by)
    for _, one in exposures(frames, by, ("science",)):
        machine.add(one)
        assert len(machine.pending) <= by.max_sequence


def test_a_stream_never_crosses_cameras() -> None:
    frames = [frame(1, 0), frame(2, 1, camera="D"), frame(3, 2), frame(4, 3, camera="D")]
    assert sorted(one.frames for one in grouped(frames)) == [(1, 3), (2, 4)]
