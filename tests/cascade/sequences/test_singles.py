"""Nights most of whose frames make no sequence, and the word about them."""

from dataclasses import replace
from typing import Any

from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.sequences.singles import Singles, singles
from ccdflow.cascade.sequences.statemachine import SequenceRules, group_sequences

RULES = SequenceRules()


def frame(number: int, minute: float, **changes: Any) -> FrameRecord:
    hour, rest = divmod(int(minute), 60)
    record = FrameRecord(
        *(number, "science", "T", "C", "I", "L", "M13", 60.0),
        f"2026-03-01T{hour:02d}:{rest:02d}:00",
        *(None, None, "2026-03-01", f"{number:064x}"),
    )
    return replace(record, **changes)


def told(frames: list[FrameRecord], rules: SequenceRules = RULES) -> list[Singles]:
    sets = group_sequences(frames, rules, 1e12)
    alone = {found.frames[0] for found in sets if found.action == "pass" and len(found.frames) == 1}
    return singles(frames, alone, rules)


def test_filters_that_alternate_are_told_with_the_stacks_there_could_be() -> None:
    frames = [frame(i, 2.0 * i, filter="LRGB"[i % 4]) for i in range(8)]
    assert told(frames) == [Singles("2026-03-01", 8, 8, 4, apart=False)]


def test_long_exposures_that_follow_each_other_are_told_to_be_apart() -> None:
    frames = [frame(i, 31.0 * i, exptime=1800.0) for i in range(3)]
    assert told(frames) == [Singles("2026-03-01", 3, 3, 1, apart=True)]
    assert told(frames, SequenceRules(gap="idle")) == []


def test_frames_hours_apart_are_not_called_near() -> None:
    frames = [frame(i, 120.0 * i) for i in range(3)]
    assert [night.apart for night in told(frames)] == [False]


def test_a_night_of_sequences_with_some_singles_is_not_worth_a_word() -> None:
    frames = [frame(i, 2.0 * i) for i in range(8)] + [
        frame(10 + i, 20.0 + 2 * i, filter="BVR"[i]) for i in range(3)
    ]
    assert told(frames) == []


def test_singles_that_nothing_goes_with_are_no_loss() -> None:
    assert told([frame(i, 2.0 * i, object=f"asteroid {i}") for i in range(9)]) == []
    assert told([frame(0, 0.0), frame(1, 2.0, filter="R")]) == []
    assert told([]) == []


def test_each_night_is_told_for_itself() -> None:
    one = [frame(i, 2.0 * i, filter="LR"[i % 2]) for i in range(6)]
    other = [
        replace(night, id=100 + night.id, night="2026-03-02", obsdate=night.obsdate.replace("01T", "02T"))
        for night in one
    ]
    assert [night.night for night in told(one + other)] == ["2026-03-01", "2026-03-02"]
