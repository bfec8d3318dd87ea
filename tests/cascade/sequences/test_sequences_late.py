"""Frames in batches and in any order of arrival: the sets are those of the whole table at once."""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.sequences.exposures import Exposure, OrderKey, SequenceRules, exposures, order_key
from ccdflow.cascade.sequences.regroup import difference, regroup
from ccdflow.cascade.sequences.statemachine import (
    FrameSet,
    SequenceMachine,
    assemble,
    cut,
    group_sequences,
)

STREAM = ("T", "C", "I")
RULES = SequenceRules()


def frame(number: int, minute: float, **changes: Any) -> FrameRecord:
    hours, rest = divmod(round(minute * 60), 3600)
    days, hours = divmod(hours, 24)
    record = FrameRecord(
        id=number,
        frame_class="science",
        telescope="T",
        camera="C",
        instrument="I",
        filter="L",
        object="M13",
        exptime=60.0,
        obsdate=f"2026-03-{1 + days:02d}T{hours:02d}:{rest // 60:02d}:{rest % 60:02d}",
        iobs=None,
        nobs=None,
        night="2026-03-01",
        sha256=f"{number:064x}",
    )
    return replace(record, **changes)


def sequence(nobs: int, *, start: int = 1, first: float = 0.0, **changes: Any) -> list[FrameRecord]:
    return [frame(start + i, first + 2 * i, iobs=i + 1, nobs=nobs, **changes) for i in range(nobs)]


@st.composite
def nights(draw: st.DrawFn) -> list[FrameRecord]:
    found: list[FrameRecord] = []
    minute = 0.0
    for _ in range(draw(st.integers(0, 7))):
        nobs = draw(st.sampled_from([None, 1, 2, 3, 5, 6, 7, 10, 14]))
        changes = {
            "object": draw(st.sampled_from("AB")),
            "frame_class": draw(st.sampled_from(["science"] * 5 + ["bias"])),
            "nobs": nobs,
            "exptime": draw(st.sampled_from([60.0, 60.0, 900.0, None])),
        }
        for i in range(draw(st.integers(1, nobs or 7))):
            minute += draw(st.sampled_from([0.0] + [1.0] * 8 + [29.0, 31.0]))
            if draw(st.integers(0, 9)):
                found.append(frame(len(found) + 1, minute, iobs=i + 1, **changes))
    return found


rules = st.builds(
    SequenceRules,
    max_stack=st.integers(1, 5),
    max_sequence=st.sampled_from([3, 6, 12]),
    restart=st.booleans(),
    split=st.sampled_from(["fixed", "balanced", "whole"]),
    gap=st.sampled_from(["start", "idle"]),
)


def looked_at(frames: Sequence[FrameRecord], by: SequenceRules) -> list[Exposure]:
    return sorted(one for _, one in exposures(frames, by, ("science",)))


# --- in batches --------------------------------------------------------------------------------------


def test_what_is_remembered_stays_small_however_long_the_sequence() -> None:
    machine = SequenceMachine(RULES)
    sizes = []
    for i in range(3000):
        (one,) = looked_at([frame(i + 1, i)], RULES)
        machine.add(one)
        sizes.append(len(pickle.dumps(machine.sequence)))
    assert max(sizes) < 3000
    assert sizes[-1] < 1000


def test_a_long_sequence_is_one_set_that_is_open_until_the_sequence_is_closed() -> None:
    frames = [frame(i, i) for i in range(20)]
    (found,) = group_sequences(frames, RULES, frames[-1].time)
    assert (found.action, len(found.frames), found.closed) == ("pass", 20, False)
    (found,) = group_sequences(frames, RULES, frames[-1].time + 1801)
    assert found.closed
    assert group_sequences([*frames, frame(99, 21, object="B")], RULES, 0)[0].closed
    (found,) = group_sequences(sequence(20), RULES, 0)
    assert found.closed
    machine = SequenceMachine(RULES)
    said = [cut for one in looked_at(sequence(20), RULES) for cut in machine.add(one)]
    assert [one.closed for one in said] == [False] * 19 + [True]
    assert machine.close() == []


# --- in any order ------------------------------------------------------------------------------------


class Table:
    """What a registry keeps of one stream, in memory: frames, sets by id, and how many frames were read."""

    def __init__(self, by: SequenceRules) -> None:
        self.rules = by
        self.frames: dict[int, FrameRecord] = {}
        self.sets: dict[int, FrameSet] = {}
        self.superseded: list[int] = []
        self.last = 0
        self.read = 0

    def boundary_before(self, key: OrderKey) -> OrderKey | None:
        return max(
            (one.sequence_start for one in self.sets.values() if one.sequence_start < key), default=None
        )

    def is_boundary(self, key: OrderKey) -> bool:
        return any(one.sequence_start == key for one in self.sets.values())

    def frames_from(self, key: OrderKey | None) -> Iterator[Exposure]:
        for one in looked_at(list(self.frames.values()), self.rules):
            if key is None or one.key >= key:
                self.read += 1
                yield one

    def take(self, changes: Mapping[int, FrameRecord | None], now: float) -> None:
        """Frames that are new or changed, by id; None for those that are gone."""
        touched = [one.sequence_start for one in self.sets.values() if not one.closed]
        for number, one in changes.items():
            before = self.frames.pop(number, None)
            touched += [order_key(found) for found in (before, one) if found is not None]
            if one is not None:
                self.frames[number] = one
        reached: OrderKey | None = ("", 0, "", 0)
        for region in regroup(STREAM, self, touched, self.rules, now):
            assert reached is not None
            assert region.start is None or region.start >= reached
            reached = region.until
            old = {name: one for name, one in self.sets.items() if region.holds(one.sequence_start)}
            found = difference(old, region.sets)
            assert {*found.kept, *found.changed, *found.gone} == set(old)
            for name, by in found.gone.items():
                assert by is None or set(found.made[by].frames) & set(self.sets[name].frames)
                self.superseded.append(name)
                del self.sets[name]
            self.sets.update(found.changed)
            for made in found.made:
                self.last += 1
                self.sets[self.last] = made

    def ordered(self) -> list[FrameSet]:
        return sorted(self.sets.values(), key=lambda one: order_key(self.frames[one.frames[0]]))


@settings(max_examples=150, deadline=None)
@given(nights(), rules, st.randoms(use_true_random=False), st.integers(1, 8))
def test_order_of_arrival_does_not_matter(
    frames: list[FrameRecord], by: SequenceRules, random: Any, batch: int
) -> None:
    clock = max((one.time for one in frames), default=0.0)
    arriving = random.sample(frames, len(frames))
    table = Table(by)
    for i in range(0, len(arriving), batch):
        now = clock + random.choice([-3000, 0, 900])
        before = {(one.action, one.frames): name for name, one in table.sets.items()}
        table.take({one.id: one for one in arriving[i : i + batch]}, now)
        after = {(one.action, one.frames): name for name, one in table.sets.items()}
        assert all(after[content] == before[content] for content in before.keys() & after.keys())
    table.take({}, clock + 900)
    assert table.ordered() == group_sequences(frames, by, clock + 900)
    table.take({}, clock + 1801)
    assert table.ordered() == group_sequences(frames, by, clock + 1801)


@settings(max_examples=150, deadline=None)
@given(nights(), rules, st.randoms(use_true_random=False))
def test_repaired_and_removed_frames_leave_the_sets_of_the_table_as_it_is(
    frames: list[FrameRecord], by: SequenceRules, random: Any
) -> None:
    now = 1e12
    table = Table(by)
    table.take({one.id: one for one in frames}, now)
    assert table.ordered() == group_sequences(frames, by, now)
    for _ in range(4):
        changes: dict[int, FrameRecord | None] = {}
        for one in random.sample(frames, min(2, len(frames))):
            elsewhere = random.choice(frames).obsdate
            fates = [{"object": "A"}, {"obsdate": elsewhere}, {"frame_class": "bias"}, {"iobs": 1, "nobs": 2}]
            changes[one.id] = replace(one, **random.choice(fates)) if random.random() < 0.8 else None
        table.take(changes, now)
        assert table.ordered() == group_sequences(table.frames.values(), by, now)


def test_a_late_frame_joins_a_sequence_that_time_had_closed() -> None:
    first, second, third = sequence(3)
    table = Table(RULES)
    table.take({1: first, 3: third}, third.time + 4000)
    assert [(one.frames, one.closed) for one in table.ordered()] == [((1, 3), True)]
    table.take({2: second}, third.time + 5000)
    assert [one.frames for one in table.ordered()] == [(1, 2, 3)]
    assert table.superseded == [1]


def test_a_late_frame_supersedes_only_the_sets_that_it_changes() -> None:
    frames = [one for i in range(6) for one in sequence(6, start=1 + 6 * i, first=20.0 * i)]
    late = frames.pop(13)
    table = Table(RULES)
    table.take({one.id: one for one in frames}, 1e12)
    before = dict(table.sets)
    table.take({late.id: late}, 1e12)
    assert [before[name].frames for name in table.superseded] == [(13, 15, 16, 17), (18,)]
    assert len(table.sets) == len(before)
    assert {name for name in before if name in table.sets} == before.keys() - set(table.superseded)


def test_an_open_set_grows_under_its_id_and_is_cut_when_its_sequence_ends() -> None:
    table = Table(RULES)
    for one in [frame(i, i) for i in range(1, 7)]:
        table.take({one.id: one}, one.time)
    assert [(name, one.frames, one.closed) for name, one in table.sets.items()] == [
        (1, (1, 2, 3, 4, 5, 6), False)
    ]
    table.take({}, one.time + 1801)
    assert [(name, one.frames, one.closed) for name, one in table.sets.items()] == [
        (1, (1, 2, 3, 4), True),
        (2, (5, 6), True),
    ]
    assert table.superseded == []


def test_time_closes_the_last_set_though_a_late_frame_is_regrouped_far_before() -> None:
    frames = [one for i in range(4) for one in sequence(3, start=1 + 3 * i, first=10.0 * i)]
    late, last = frames.pop(1), frames.pop()
    table = Table(RULES)
    table.take({one.id: one for one in frames}, frames[-1].time)
    assert not table.ordered()[-1].closed
    table.take({late.id: late}, last.time + 4000)
    assert all(one.closed for one in table.ordered())
    assert table.ordered()[0].frames == (1, 2, 3)


def test_a_repaired_first_frame_joins_the_sequence_before_it() -> None:
    frames = [frame(1, 0), frame(2, 1), frame(3, 2, filter="R"), frame(4, 3)]
    table = Table(RULES)
    table.take({one.id: one for one in frames}, 1e12)
    assert [one.frames for one in table.ordered()] == [(1, 2), (3,), (4,)]
    table.take({3: replace(frames[2], filter="L")}, 1e12)
    assert [one.frames for one in table.ordered()] == [(1, 2, 3, 4)]


def test_a_frame_costs_the_same_however_many_there_are() -> None:
    frames = [one for i in range(60) for one in sequence(6, start=1 + 6 * i, first=20.0 * i)]
    table = Table(RULES)
    reads = []
    for one in frames:
        before = table.read
        table.take({one.id: one}, one.time)
        reads.append(table.read - before)
    assert max(reads) <= 13
    late = frame(999, 601.0)
    before = table.read
    table.take({late.id: late}, frames[-1].time)
    assert table.read - before <= 30


def test_frames_without_a_time_stand_alone() -> None:
    frames = [frame(1, 0, obsdate=""), frame(2, 0, obsdate=""), frame(3, 0), frame(4, 1)]
    found = group_sequences(frames, RULES, 1e12)
    assert [one.frames for one in found] == [(1,), (2,), (3, 4)]
    assert all(one.closed for one in found)


def test_sets_follow_each_other_in_order_of_time() -> None:
    frames = [one for i in range(6) for one in sequence(5, start=1 + 5 * i, first=20.0 * i)]
    found = list(assemble(STREAM, cut(looked_at(frames, RULES), RULES, 1e12)))
    assert all(one.last <= two.first for one, two in pairwise(found))
