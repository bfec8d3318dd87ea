"""Associated inputs: which candidates are taken, in which order, and what is said where none is."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.cascade.planning.test_planner import IMAGING, frame

from ccdflow.cascade.planning.associate import Candidates
from ccdflow.cascade.planning.jobs import Group, JobInput, Missing
from ccdflow.cascade.planning.search import Search, applies, group_name
from ccdflow.cascade.specification.expressions import Context
from ccdflow.cascade.specification.model import Association

SCIENCE = Group((frame(100, "science", "20:00:00"),))


def bias(number: int, when: str, frame_class: str = "bias", **changes: object) -> Group:
    return Group((replace(frame(number, "bias", when, **changes), frame_class=frame_class),))


@dataclass
class Shelf:
    """Candidates that are there, of which some can't be had; remembers which were asked for."""

    raw: Sequence[Group] = ()
    masters: Sequence[Group] = ()
    failed: Collection[int] = ()
    asked: list[int] = field(default_factory=list)

    def sets_of(self, source: str) -> Candidates[Group]:
        return Candidates(self.raw)

    def masters_of(self, task: str, product: str) -> Candidates[Group]:
        return Candidates(self.masters)

    def as_inputs(self, role: str, source: str, product: str, candidate: Group) -> tuple[list[JobInput], str]:
        number = candidate.frames[0].id
        self.asked.append(number)
        if number in self.failed:
            return [], "failed"
        return [JobInput(role, f"job of {number}", job=f"job of {number}")], ""


def search(shelf: Shelf, threshold: int | None = None, pinned: Collection[str] = ()) -> Search:
    return Search(IMAGING, shelf, shelf, threshold, "raw_per_level", frozenset(pinned))


def wanted(**association: Any) -> Association:
    rules = [{"within": "same_night"}, {"level": 1, "within": "one_week"}]
    return Association.model_validate({"source": "bias", "rules": rules, **association})


def taken(shelf: Shelf, association: Association, **limits: Any) -> list[str]:
    found = search(shelf, **limits).find("bias", association, Context(SCIENCE))
    return [one.job or f"f{one.frame}" for one in found.inputs]


NEAR, FAR = bias(1, "19:00:00"), bias(2, "17:00:00")
OTHER_NIGHT = bias(3, "2026-02-28T20:00:00", night="2026-02-28")


def test_the_first_rule_that_any_candidate_passes_decides_then_the_closest() -> None:
    assert taken(Shelf([OTHER_NIGHT, FAR, NEAR]), wanted()) == ["job of 1"]
    (item,) = search(Shelf([OTHER_NIGHT])).find("bias", wanted(), Context(SCIENCE)).inputs
    assert (item.job, item.level) == ("job of 3", 1)


def test_no_more_candidates_are_made_than_are_taken() -> None:
    shelf = Shelf([OTHER_NIGHT, FAR, NEAR])
    taken(shelf, wanted())
    assert shelf.asked == [1]


def test_what_can_not_be_had_gives_way_to_the_next_best() -> None:
    assert taken(Shelf([NEAR, FAR], failed={1}), wanted()) == ["job of 2"]
    assert taken(Shelf([NEAR, FAR, OTHER_NIGHT], failed={1, 2}), wanted()) == ["job of 3"]


def test_all_that_fit_are_taken_where_there_is_no_maximum() -> None:
    assert taken(Shelf([OTHER_NIGHT, FAR, NEAR]), wanted(max=None)) == ["job of 1", "job of 2", "job of 3"]


MASTER, OLD_MASTER = (
    bias(8, "16:00:00", "master_bias"),
    bias(9, "2026-02-28T20:00:00", "master_bias", night="2026-02-28"),
)


@pytest.mark.parametrize(
    ("preference", "order"),
    [
        ("raw_per_level", ["job of 1", "f8", "job of 3", "f9"]),
        ("master_per_level", ["f8", "job of 1", "f9", "job of 3"]),
        ("raw", ["job of 1", "job of 3", "f8", "f9"]),
        ("master", ["f8", "f9", "job of 1", "job of 3"]),
    ],
)
def test_raw_frames_and_masters_take_turns_within_levels_or_over_all(
    preference: str, order: list[str]
) -> None:
    shelf = Shelf([NEAR, OTHER_NIGHT], [OLD_MASTER, MASTER])
    assert taken(shelf, wanted(max=None, preference=preference)) == order


@pytest.mark.parametrize("pin", ["f3", "job of 3"])
def test_what_is_pinned_goes_before_what_fits_better(pin: str) -> None:
    assert taken(Shelf([NEAR, OTHER_NIGHT]), wanted(), pinned={pin}) == ["job of 3"]


def test_what_is_pinned_is_not_taken_where_it_does_not_fit() -> None:
    old = bias(4, "2026-01-01T20:00:00", night="2026-01-01")
    assert taken(Shelf([NEAR, old]), wanted(), pinned={"f4"}) == ["job of 1"]


def test_rules_worse_than_the_threshold_let_nothing_pass() -> None:
    assert taken(Shelf([OTHER_NIGHT]), wanted(), threshold=1) == ["job of 3"]
    assert taken(Shelf([OTHER_NIGHT]), wanted(), threshold=0) == []


def lack(shelf: Shelf, **association: Any) -> Missing:
    (missing,) = search(shelf).find("bias", wanted(**association), Context(SCIENCE)).missing
    return missing


def test_without_any_frames_that_is_all_that_is_said() -> None:
    assert lack(Shelf()).reason == "no bias: there are no such frames"


def test_what_fits_and_can_not_be_had_is_named_before_what_does_not_fit() -> None:
    old = bias(4, "2026-01-01T20:00:00", night="2026-01-01")
    missing = lack(Shelf([old, FAR, NEAR], failed={1, 2}))
    assert missing.reason == "no bias fits; 3 looked at, 0 found"
    assert [(one.name, one.reason) for one in missing.nearest] == [
        ("bias f1 of 2026-03-01", "failed"),
        ("bias f2 of 2026-03-01", "failed"),
        ("bias f4 of 2026-01-01", "59.0 days away, wanted within 7"),
    ]
    assert missing.survivors == (("time", 2), ("validity", 2))


def test_no_more_than_three_are_named_and_the_closest_first() -> None:
    every = [bias(number, f"1{number}:00:00") for number in range(1, 7)]
    missing = lack(Shelf(every, failed=range(9)))
    assert [one.name.split()[1] for one in missing.nearest] == ["f6", "f5", "f4"]


def test_what_lies_on_the_wrong_side_is_said_to() -> None:
    missing = lack(Shelf([NEAR]), side="after")
    assert missing.reason == "no bias after it fits; 1 looked at, 0 found"
    assert [one.reason for one in missing.nearest] == ["taken 1.0 hours earlier, wanted after"]
    assert missing.survivors[-1] == ("after", 0)


def test_on_both_sides_each_needs_its_own() -> None:
    after = bias(5, "23:00:00")
    assert taken(Shelf([FAR, NEAR, after]), wanted(side="both")) == ["job of 1", "job of 5"]
    assert lack(Shelf([FAR, NEAR]), side="both").reason == ("no bias on each side fits; 2 looked at, 1 found")


def test_an_optional_input_is_done_without_and_only_shortly_explained() -> None:
    far_away = Shelf([bias(4, "2026-01-01T20:00:00", night="2026-01-01")])
    for shelf, reason in ((far_away, "no bias fits"), (Shelf(), "no bias: there are no such frames")):
        found = search(shelf).find("bias", wanted(min=0), Context(SCIENCE))
        assert found.missing == () and [one.reason for one in found.without] == [reason]


def test_of_several_ways_the_first_that_gives_enough_is_taken_and_else_all_reasons_are_told() -> None:
    ways = Association.model_validate(
        {
            "any_of": [
                {"source": "bias", "rules": [{"within": "next_day"}], "condition": "exptime > 100"},
                {"source": "bias", "rules": [{"within": 0.001}]},
                {"source": "bias", "rules": [{"within": 1}]},
            ]
        }
    )
    assert taken(Shelf([NEAR]), ways) == ["job of 1"]
    missing = search(Shelf([OTHER_NIGHT], failed={3})).find("bias", ways, Context(SCIENCE)).missing
    assert len(missing) == 2


def test_where_no_way_applies_their_conditions_are_told() -> None:
    way = {"any_of": [{"source": "bias", "condition": "exptime > 100"}]}
    (missing,) = search(Shelf([NEAR])).find("bias", Association.model_validate(way), Context(SCIENCE)).missing
    assert missing.reason == "no way to get 'bias' applies: exptime > 100"


def test_what_is_not_handed_to_the_recipe_is_known_to_conditions_all_the_same() -> None:
    found = search(Shelf([NEAR])).find("bias", wanted(handed=False), Context(SCIENCE))
    assert found.inputs == () and found.groups == (NEAR,)


@pytest.mark.parametrize(
    ("association", "looked_for"),
    [
        ({}, True),
        ({"condition": "exptime > 100"}, False),
        ({"when_missing": ["gain"]}, False),
        ({"when_missing": ["gain", "airmass"]}, True),
        ({"when_missing": ["airmass"], "condition": "exptime > 100"}, False),
    ],
)
def test_an_input_is_looked_for_where_its_condition_holds_and_a_keyword_is_blank(
    association: dict[str, Any], looked_for: bool
) -> None:
    assert applies("flat", wanted(**association), Context(SCIENCE)) == looked_for


def test_a_candidate_is_called_by_its_frames_and_night() -> None:
    assert group_name(NEAR) == "bias f1 of 2026-03-01"
    assert group_name(Group((*NEAR.frames, *FAR.frames))) == "bias f1..f2 of 2026-03-01"
