"""Groups of raw frames, groups that become one product each, and sets of products."""

from dataclasses import replace
from random import Random
from typing import Any

from tests.cascade.planning.test_planner import frame, night
from tests.cascade.specification.test_cascade import cascade

from ccdflow.cascade.planning.framegroups import FrameGroups
from ccdflow.cascade.planning.jobs import Group
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.planning.resolved import ResolvedCascade
from ccdflow.cascade.records import FrameRecord
from ccdflow.recipes.catalogue import RECIPES


def groups_of(
    frames: list[FrameRecord], changes: dict[str, Any] | None = None, **request: Any
) -> tuple[FrameGroups, list[str]]:
    """Groups of some frames, and the notes that are taken."""
    asked, notes = Request(**request), list[str]()
    resolved = ResolvedCascade(Known(cascade(changes or {}), RECIPES, frames), asked)
    return FrameGroups(resolved, frames, asked, notes), notes


def ids(group: Group) -> list[int]:
    return [one.id for one in group.frames]


def sequence(*filters: str) -> list[FrameRecord]:
    """Science frames a minute apart, the first with id 1."""
    return [frame(i, "science", f"20:{i:02d}:00", filter=name) for i, name in enumerate(filters, 1)]


def test_raw_frames_are_grouped_as_their_source_says_in_any_order_of_arrival() -> None:
    frames = night()
    Random(3).shuffle(frames)
    groups, _ = groups_of(frames)
    assert [ids(group) for group in groups.raw_groups("raw_bias")] == [[1, 2, 3]]
    assert [ids(group) for group in groups.raw_groups("raw_science")] == [[10], [11], [12]]


def test_what_is_too_few_makes_no_group_and_is_noted_once() -> None:
    groups, notes = groups_of(night(), {"sources.raw_bias.group": {"by": ["night"], "min_size": 5}})
    assert groups.raw_groups("raw_bias") == () and groups.raw_groups("raw_bias") == ()
    assert notes == ["raw_bias: 3 bias (2026-03-01), at least 5 wanted"]


def test_a_product_is_known_by_the_first_frame_that_it_is_made_of() -> None:
    groups, _ = groups_of(night())
    assert {first: ids(group) for first, group in groups.product_groups("bias").items()} == {1: [1, 2, 3]}
    assert list(groups.product_groups("science")) == [10, 11, 12]
    assert {first: ids(group) for first, group in groups.product_groups("stack").items()} == {
        10: [10, 11, 12]
    }


def test_nothing_is_made_where_a_condition_does_not_hold() -> None:
    changes = {
        "tasks.science.condition": "filter != 'B'",
        "tasks.red": {"main": "science", "stage": "science", "condition": "filter == 'R'"},
    }
    groups, _ = groups_of(sequence("R", "B", "V"), changes)
    assert list(groups.product_groups("science")) == [1, 3]
    assert list(groups.product_groups("red")) == [1]


def test_frames_of_one_sequence_are_cut_into_sets_that_come_together() -> None:
    frames = sequence("R", "R", "R", "V", "V")
    groups, _ = groups_of(frames, parameters={"stack.max_stack": 2})
    sets = [[one.frames for one in of_sequence] for of_sequence in groups.product_sets("stack")]
    assert sets == [[(1, 2), (3,)], [(4, 5)]]


def test_frames_of_which_nothing_is_made_still_end_a_sequence() -> None:
    groups, _ = groups_of(sequence("R", "B", "R"), {"tasks.science.condition": "filter == 'R'"})
    assert [one.frames for sets in groups.product_sets("stack") for one in sets] == [(1,), (3,)]


def test_a_refused_frame_has_its_place_in_the_set_that_it_was_taken_for() -> None:
    frames = sequence("R", "R", "R")
    frames[1] = replace(frames[1], refused="truncated")
    groups, _ = groups_of(frames)
    assert [one.frames for sets in groups.product_sets("stack") for one in sets] == [(1, 2, 3)]


def test_a_sequence_that_may_go_on_is_no_product_yet() -> None:
    groups, _ = groups_of(sequence("R", "R"), now="2026-03-01T20:05:00")
    assert [one.closed for sets in groups.product_sets("stack") for one in sets] == [False]
    assert groups.product_groups("stack") == {}


def test_a_grouping_that_knows_no_sequences_gives_each_set_alone_and_passes_what_is_too_few() -> None:
    groups, _ = groups_of(sequence("R", "B", "R"), parameters={"stack.group": "object"})
    sets = list(groups.product_sets("stack"))
    assert [[(one.frames, one.action, one.closed) for one in alone] for alone in sets] == [
        [((2,), "pass", True)],
        [((1, 3), "stack", True)],
    ]


def test_frames_at_one_time_are_ordered_by_content_not_by_number() -> None:
    first = frame(7, "bias", "18:00:00", sha256="a" * 64)
    twin = frame(3, "bias", "18:00:00", sha256="b" * 64)
    groups, _ = groups_of([twin, first])
    assert [one.id for one in groups.ordered] == [7, 3]
    undated = replace(first, id=9, obsdate="")
    assert [one.id for one in groups_of([twin, undated, first])[0].ordered] == [7, 3]
