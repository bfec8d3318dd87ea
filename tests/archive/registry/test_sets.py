import pytest
from sqlalchemy.exc import IntegrityError

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.files import NewFrame
from ccdflow.archive.registry.frames.orderkeys import read_order_key, write_order_key
from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.archive.registry.frames.stages import StageState, set_stages
from ccdflow.archive.registry.sets.changes import (
    Change,
    GroupingState,
    NewSet,
    Replace,
    Supersede,
    apply_set_changes,
)
from ccdflow.archive.registry.sets.news import read_news
from ccdflow.archive.registry.sets.records import SetFilter, find_sets, last_boundary, list_sets
from ccdflow.archive.registry.sets.settling import Settling
from ccdflow.archive.registry.transactions import add_catalogue, settle_sets

STREAM = ("T", "C1", "")


@pytest.fixture
def frames(registry: Registry) -> list[int]:
    rows = [
        NewFrame(telescope="T", camera="C1", obsdate=f"2026-03-01T20:0{minute}:00") for minute in range(8)
    ]
    add_catalogue(registry, rows)
    return [record.id for record in registry.read(find_frames)]


def test_set_grows_and_closes(registry: Registry, frames: list[int]) -> None:
    start = ("2026-03-01T20:00:00", 1, "", frames[0])
    new = NewSet("a", "stack", STREAM, frames[:2], sequence_start=start, reason="sequence of 4")
    ids = registry.write(apply_set_changes, [new])
    registry.write(
        apply_set_changes, [Replace(ids["a"], frames[:4]), Change(ids["a"], status="closed", ready=True)]
    )
    (frame_set,) = registry.read(find_sets)
    assert frame_set.frames == tuple(frames[:4])
    assert (frame_set.stream, frame_set.status, frame_set.ready, frame_set.action) == (
        STREAM,
        "closed",
        True,
        "stack",
    )
    assert (frame_set.first_obsdate, frame_set.last_obsdate) == ("2026-03-01T20:00:00", "2026-03-01T20:03:00")
    assert (frame_set.sequence_start, frame_set.reason) == (start, "sequence of 4")
    (row,) = registry.read(list_sets)
    assert (row["id"], row["frames"], row["first"], row["product"]) == (
        ids["a"],
        frames[:4],
        frame_set.first_obsdate,
        None,
    )


def test_superseded_set_keeps_its_id_and_product(registry: Registry, frames: list[int]) -> None:
    old = registry.write(apply_set_changes, [NewSet("old", "stack", STREAM, frames[:2])])["old"]
    registry.write(apply_set_changes, [Change(old, product_id=7)])
    new = registry.write(
        apply_set_changes, [NewSet("new", "stack", STREAM, frames[:3], version=2), Supersede(old, by="new")]
    )["new"]
    assert [frame_set.id for frame_set in registry.read(find_sets)] == [new]
    (gone,) = registry.read(find_sets, SetFilter(status=["superseded"]))
    assert (gone.id, gone.superseded_by, gone.product_id, gone.frames) == (old, new, 7, tuple(frames[:2]))


def test_set_ids_are_never_used_again(registry: Registry, frames: list[int]) -> None:
    first = registry.write(apply_set_changes, [NewSet("a", "stack", STREAM, frames[:1])])["a"]
    with registry.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM frame_set")
    assert registry.write(apply_set_changes, [NewSet("a", "stack", STREAM, frames[:1])])["a"] > first


def test_frames_of_a_set_are_replaced(registry: Registry, frames: list[int]) -> None:
    identity = registry.write(apply_set_changes, [NewSet("a", "stack", STREAM, frames[:3])])["a"]
    registry.write(
        apply_set_changes, [Replace(identity, [frames[0], frames[2]]), Change(identity, reason="one failed")]
    )
    (frame_set,) = registry.read(find_sets)
    assert (frame_set.frames, frame_set.reason) == ((frames[0], frames[2]), "one failed")
    registry.write(apply_set_changes, [Replace(identity, [])])
    assert registry.read(find_sets)[0].frames == ()


def test_changes_count_together_or_not_at_all(registry: Registry, frames: list[int]) -> None:
    state = GroupingState(STREAM, "stack", "rules")
    with pytest.raises(ValueError, match="no new set is called 'b'; known: a"):
        registry.write(
            apply_set_changes,
            [NewSet("a", "stack", STREAM, frames[:1]), Supersede(1, by="b")],
            states=[state],
            grouped=frames,
        )
    with pytest.raises(ValueError, match="there is no set 12345"):
        registry.write(
            apply_set_changes, [NewSet("a", "stack", STREAM, frames[:1]), Change(12345, ready=True)]
        )
    assert registry.read(find_sets) == []
    news = registry.read(read_news, ())
    assert (news.rules, len(news.frames[STREAM])) == ({}, 8)


def test_all_steps_that_look_at_a_stage_are_settled(registry: Registry, frames: list[int]) -> None:
    steps = [Settling(name, "science", "stack") for name in ("stack", "deep")]
    new = [NewSet(step.step, step.step, STREAM, frames[:2], status="closed") for step in steps]
    registry.write(apply_set_changes, new)
    settle_sets(registry, steps)
    assert not any(frame_set.ready for frame_set in registry.read(find_sets))
    registry.write(set_stages, [StageState(frame, "science", "done") for frame in frames[:2]])
    settle_sets(registry, steps)
    assert [frame_set.ready for frame_set in registry.read(find_sets)] == [True, True]


def test_no_frame_is_twice_in_a_set(registry: Registry, frames: list[int]) -> None:
    with pytest.raises(IntegrityError):
        registry.write(apply_set_changes, [NewSet("a", "stack", STREAM, [frames[0], frames[0]])])


def test_the_rules_that_a_stream_was_grouped_by_are_kept(registry: Registry) -> None:
    for rules in ("rules", "other rules"):
        state = GroupingState(STREAM, "stack", rules)
        registry.write(apply_set_changes, [], states=[state])
        assert registry.read(read_news, ()).rules == {STREAM: {"stack": rules}}


def test_sets_are_selected(registry: Registry, frames: list[int]) -> None:
    ids = registry.write(
        apply_set_changes,
        [
            NewSet("a", "stack", STREAM, frames[:2], status="closed"),
            NewSet("b", "stack", STREAM, frames[2:3], action="pass", reason="single frame"),
            NewSet("c", "mosaic", ("T", "C2", ""), frames[2:4]),
        ],
    )

    def selected(**wanted: object) -> list[int]:
        return [frame_set.id for frame_set in registry.read(find_sets, SetFilter(**wanted))]

    assert selected(step="mosaic") == [ids["c"]]
    assert selected(status=["closed"]) == [ids["a"]]
    assert selected(stream=STREAM) == [ids["a"], ids["b"]]
    assert selected(frames=[frames[2]]) == [ids["b"], ids["c"]]
    assert selected(ids=[ids["b"]]) == [ids["b"]]


def test_last_boundary_before_a_frame_is_found(registry: Registry, frames: list[int]) -> None:
    keys = [(f"2026-03-01T20:0{minute}:00", 1, "", frames[minute]) for minute in range(8)]
    registry.write(
        apply_set_changes,
        [
            NewSet("a", "stack", STREAM, frames[:2], sequence_start=keys[0]),
            NewSet("b", "stack", STREAM, frames[2:4], sequence_start=keys[2]),
            NewSet("c", "stack", STREAM, frames[4:6], sequence_start=keys[4]),
        ],
    )
    assert registry.read(last_boundary, STREAM, "stack", keys[3]) == keys[2]
    assert registry.read(last_boundary, STREAM, "stack", keys[2]) == keys[2]
    assert registry.read(last_boundary, STREAM, "stack", ("2026-02-01T00:00:00", 1, "", 0)) is None
    assert registry.read(last_boundary, ("T", "C2", ""), "stack", keys[3]) is None
    since = registry.read(find_sets, SetFilter(stream=STREAM, since_sequence=keys[2]))
    assert [frame_set.sequence_start for frame_set in since] == [keys[2], keys[4]]


def test_order_keys_sort_as_text() -> None:
    keys = [
        ("", 0, "", 1),
        ("2026-03-01T20:00:00", 0, "", 9),
        ("2026-03-01T20:00:00", 2, "", 3),
        ("2026-03-01T20:00:00", 10, "", 3),
        ("2026-03-01T20:00:00", 10, "", 20),
        ("2026-03-01T20:00:00", 10, "a" * 64, 2),
        ("2026-03-01T20:00:00.500000", 0, "", 1),
        ("2026-03-01T20:00:01", 0, "", 1),
    ]
    assert sorted(keys) == keys
    assert sorted(map(write_order_key, keys)) == [write_order_key(key) for key in keys]
    as_others_write = ("2026-03-01 20:00:00", 0, "", 1)
    for key in (*keys, as_others_write):
        assert read_order_key(write_order_key(key)) == key
