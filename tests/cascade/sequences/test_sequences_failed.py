"""Failed frames leave their sets, and when sets are ready."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccdflow.cascade.sequences.exposures import SequenceRules
from ccdflow.cascade.sequences.settle import Settled, apply_failures
from ccdflow.cascade.sequences.statemachine import FrameSet

SHRINK = SequenceRules()
REFILL = SequenceRules(on_failed="refill")
START = ("2026-03-01T00:00:00", 1, "", 1)


def sets(*sizes: int) -> list[FrameSet]:
    found, first = [], 1
    for size in sizes:
        frames = tuple(range(first, first + size))
        action = "stack" if size > 1 else "pass"
        found.append(FrameSet(("T", "C", "I"), frames, action, True, "", START, "", ""))
        first += size
    return found


def shape(found: list[Settled]) -> list[tuple[str, tuple[int, ...]]]:
    return [(one.outcome, one.frames) for one in found]


def test_without_failures_sets_stay_as_they_are() -> None:
    for rules in (SHRINK, REFILL):
        assert [(one.set, one.frames, one.outcome) for one in apply_failures(sets(4, 1), (), rules)] == [
            (one, one.frames, one.action) for one in sets(4, 1)
        ]


@pytest.mark.parametrize(
    ("failed", "outcome", "frames"),
    [
        ((2,), "stack", (1, 3, 4)),
        ((1, 2), "stack", (3, 4)),
        ((1, 2, 4), "pass", (3,)),
        ((1, 2, 3, 4), "failed", ()),
    ],
)
def test_failed_frames_leave_their_set_smaller(
    failed: tuple[int, ...], outcome: str, frames: tuple[int, ...]
) -> None:
    found = apply_failures(sets(4, 2), failed, SHRINK)
    assert shape(found) == [(outcome, frames), ("stack", (5, 6))]
    assert found[0].reason == f"{len(failed)} of 4 frames failed or were refused, {4 - len(failed)} left"


def test_failed_frames_leave_a_sequence_that_passes() -> None:
    (long,) = sets(20)
    (found,) = apply_failures([replace(long, action="pass")], (3,), SHRINK)
    assert (found.outcome, len(found.frames)) == ("pass", 19)


def test_following_frames_take_the_place_of_failed_ones() -> None:
    found = apply_failures(sets(4, 4, 4), (2, 7), REFILL)
    assert shape(found) == [("stack", (1, 3, 4, 5)), ("stack", (6, 8, 9, 10)), ("stack", (11, 12))]
    assert (
        found[1].reason
        == "1 of 4 frames failed or were refused, 1 went to a set before, 2 came from a set behind, 4 left"
    )


def test_a_left_over_frame_can_fill_a_set() -> None:
    assert shape(apply_failures(sets(4, 1), (2,), REFILL)) == [("stack", (1, 3, 4, 5)), ("failed", ())]


def test_frames_of_a_set_that_has_been_made_are_not_taken() -> None:
    all_sets = sets(4, 4, 2)
    found = apply_failures(all_sets, (2,), REFILL, made=[all_sets[1]])
    assert shape(found) == [("stack", (1, 3, 4, 9)), ("stack", (5, 6, 7, 8)), ("pass", (10,))]


def test_open_sets_neither_give_nor_take() -> None:
    first, second = sets(4, 2)
    found = apply_failures([first, replace(second, closed=False)], (2,), REFILL)
    assert shape(found) == [("stack", (1, 3, 4)), ("stack", (5, 6))]


def test_sets_of_several_sequences_are_refused() -> None:
    first, second = sets(4, 4)
    with pytest.raises(ValueError, match="one sequence, found sets of several"):
        apply_failures([first, replace(second, sequence_start=("later", 1, "", 5))], (2,), REFILL)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.sets(st.integers(1, 25)),
    st.sets(st.integers(0, 4)),
    st.sampled_from([SHRINK, REFILL]),
)
def test_each_good_frame_is_in_one_set_in_order_and_no_failed_one_in_any(
    sizes: list[int], failed: set[int], made: set[int], rules: SequenceRules
) -> None:
    all_sets = sets(*sizes)
    found = apply_failures(all_sets, failed, rules, [one for i, one in enumerate(all_sets) if i in made])
    frames = [frame for one in found for frame in one.frames]
    assert sorted(frames) == [frame for frame in range(1, sum(sizes) + 1) if frame not in failed]
    assert all(len(one.frames) <= len(one.set.frames) for one in found)
    assert all(one.frames == tuple(sorted(one.frames)) for one in found)
    assert all((one.outcome == "failed") == (not one.frames) for one in found)
    assert all(one.outcome == "pass" for one in found if len(one.frames) == 1)
