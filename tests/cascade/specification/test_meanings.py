"""What a cascade says is done as it was said, or refused: nothing is passed over in silence."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from tests.cascade.planning.test_planner import frame, night
from tests.cascade.specification.test_cascade import cascade, jobs, planned

from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.sequences.grouping import GroupSpec, group_frames
from ccdflow.cascade.specification.contract import ContractError
from ccdflow.cascade.specification.ownrecipes import OwnRecipe, recipe_of
from ccdflow.cascade.specification.parameters import chosen

ONE_STACK = {"tasks.stack.group": "object"}


def two_objects() -> list[FrameRecord]:
    """A night with four science frames, two of each of two objects, each pair a sequence."""
    taken = [
        frame(10 + n, "science", f"20:0{n}:00", object=f"M{n // 2}", iobs=n % 2 + 1, nobs=2) for n in range(4)
    ]
    return [*night()[:9], *taken]


MOSAIC = {
    "tasks.mosaic": {
        "recipe": "stack",
        "stage": "stack",
        "main": "stack",
        "group": "all",
        "groups": {"all": "all", "by": {"by": ["night"], "min_size": 3}},
    }
}


def test_products_of_products_are_products() -> None:
    found = planned(MOSAIC, "mosaic", frames=two_objects())
    steps = [job.step for job in found.jobs]
    assert steps.count("science") == 4 and steps.count("stack") == 2 and steps[-1] == "mosaic"
    (mosaic,) = jobs(found, "mosaic")
    assert {one.job for one in mosaic.main} == {job.key for job in jobs(found, "stack")}
    assert {job.state for job in found.jobs} == {"new"}


def test_what_groups_products_counts_products() -> None:
    changes = MOSAIC | {"tasks.mosaic.group": "by"}
    found = planned(changes, "mosaic", frames=two_objects())
    assert not jobs(found, "mosaic")
    assert "2 science" in found.sets[-1].reason and "at least 3 wanted" in found.sets[-1].reason


def test_frames_that_a_source_leaves_out_are_not_counted() -> None:
    changes = {
        "sources.raw_science.condition": "airmass < 2",
        "tasks.stack.groups.object": {"by": ["object"], "max_size": 2},
        **ONE_STACK,
    }
    frames = [
        replace(one, keywords={**one.keywords, "airmass": 2.5 if one.id in (10, 11) else 1.0}, object="M13")
        if one.frame_class == "science"
        else one
        for one in [*night()[:9], *(frame(10 + n, "science", f"20:0{n}:00") for n in range(6))]
    ]
    assert [len(job.main) for job in jobs(planned(changes, "stack", frames=frames), "stack")] == [2, 2]


def test_a_condition_of_a_task_on_products_counts() -> None:
    found = planned({"tasks.stack.condition": "object == 'M0'"}, "stack", frames=two_objects())
    assert [job.group.text("object") for job in jobs(found, "stack")] == ["M0"]
    assert any("object == 'M0' does not hold" in note for note in found.notes)


@pytest.mark.parametrize("where", ["main", "input"])
def test_a_condition_of_a_relay_counts(where: str) -> None:
    pick = {
        "main": "science" if where == "main" else "flat",
        "stage": "science",
        "condition": "filter == 'B'",
    }
    changes: dict[str, Any] = {"tasks.pick": pick}
    if where == "main":
        assert not jobs(planned(changes | {"tasks.stack.main": "pick"}, "stack"), "stack")
        return
    changes["tasks.science.inputs.flat"] = {"source": "pick"}
    (first, *_) = jobs(planned(changes, "science"), "science")
    assert [one.input for one in first.missing] == ["flat"]


def test_a_mandatory_input_without_a_way_that_applies_is_missing() -> None:
    ways = [
        {"source": "flat", "condition": "filter == 'Y'"},
        {"source": "flat", "condition": "filter == 'Z'"},
    ]
    (first, *_) = jobs(planned({"tasks.science.inputs.flat": {"any_of": ways}}, "science"), "science")
    assert first.missing[0].reason == "no way to get 'flat' applies: filter == 'Y'; filter == 'Z'"


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(ValidationError, match="'calibrate', 'science' or 'stack'"):
        cascade({"tasks.science.stage": "scince"})


def test_grouping_parameters_of_a_task_count() -> None:
    found = planned({"tasks.stack.parameters": {"max_stack": 2}}, "stack", frames=two_objects())
    assert [len(job.main) for job in jobs(found, "stack")] == [2, 2]
    changes = {"tasks.stack.parameters": {"group": "object", "max_stack": 3}}
    assert len(jobs(planned(changes, "stack", frames=night()), "stack")) == 1


def says_max_stack(_context: object) -> dict[str, int]:
    return {"max_stack": 2}


def test_a_hook_can_not_change_how_products_are_grouped() -> None:
    changes = {"tasks.stack.hooks": ["tests.cascade.specification.test_meanings.says_max_stack"]}
    with pytest.raises(ValueError, match="a hook can't change how products are grouped"):
        planned(changes, "stack")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"sources.raw_flat.rules": [{"match": ["fliter"]}]},
            "source 'raw_flat', rule 1: no frame has a keyword 'fliter'",
        ),
        (
            {"sources.raw_flat.group": {"by": ["camera", "fliter"]}},
            "group: no frame has a keyword 'fliter'; did you mean",
        ),
        (
            {"tasks.science.condition": "exptim > 1"},
            "no frame has a keyword 'exptim'; did you mean 'exptime'",
        ),
        ({"tasks.science.inputs.dark.condition": "use_darks"}, "no frame has a keyword 'use_darks'"),
    ],
)
def test_keywords_that_nothing_has_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ContractError, match=said.replace("(", r"\(")):
        planned(changes, "science")


def test_a_keyword_that_some_frame_has_is_known() -> None:
    frames = [replace(one, keywords={**one.keywords, "dither": 1}) for one in night()]
    changes = {"sources.raw_flat.rules": [{"match": ["dither", "filter"]}]}
    assert {job.state for job in planned(changes, "science", frames=frames).jobs} == {"new"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sources.raw_science.group": "all"}, "the recipe takes 1 as main, its sets may be larger"),
        ({"tasks.flat.outputs": []}, "task 'flat' hands nothing on"),
        (
            {"tasks.science.inputs.flat": {"any_of": [{"source": "flat", "handed": False}]}},
            "",  # the recipe can do without
        ),
    ],
)
def test_contradictions_are_told(changes: dict[str, Any], said: str) -> None:
    if not said:
        planned(changes, "science")
        return
    with pytest.raises(ContractError, match=said):
        planned(changes, "science")


@pytest.mark.parametrize("within", [[3, -3], -3, "one_weak"])
def test_ranges_that_nothing_can_lie_in_are_refused(within: object) -> None:
    with pytest.raises(ValidationError, match=r"no time lies within|did you mean 'one_week'"):
        cascade({"sources.raw_flat.rules": [{"within": within}]})


def test_another_command_is_another_recipe() -> None:
    declared = {"inputs": {"main": {"kind": "product"}}, "outputs": ["o"]}
    one, other = (OwnRecipe(program=("cp", "{main}", name), **declared) for name in ("{out.o}", "elsewhere"))
    versions = {recipe_of("x", each).version for each in (one, other, one)}
    assert len(versions) == 2 and all(version.startswith("1+") for version in versions)


@pytest.mark.parametrize(
    ("default", "value", "wanted"),
    [
        (True, "flase", "true or false"),
        (3, "many", "a number"),
        (1.5, True, "a number"),
        ("night", 3, "a text"),
    ],
)
def test_workflow_parameters_are_of_their_defaults_kind(default: object, value: object, wanted: str) -> None:
    found = cascade({"parameters.mine": {"default": default}})
    with pytest.raises(ValueError, match=f"workflow parameter 'mine' is {wanted}, found {value!r}"):
        chosen(found, {"mine": value})


def raises_keyerror(frames: object) -> object:
    raise KeyError("x")


def gives_a_number(frames: object) -> int:
    return 7


@pytest.mark.parametrize(
    ("name", "said"), [("raises_keyerror", "failed: KeyError"), ("gives_a_number", "gave 7")]
)
def test_grouping_functions_fail_with_a_sentence(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        group_frames(night(), GroupSpec(function=f"tests.cascade.specification.test_meanings.{name}"))


def test_a_side_is_a_test_that_candidates_fail() -> None:
    changes = {"tasks.science.inputs.flat": {"source": "flat", "side": "after"}}
    (first, *_) = jobs(planned(changes, "science"), "science")
    (missing,) = first.missing
    assert ("after", 0) in missing.survivors
    assert missing.nearest and "earlier, wanted after" in missing.nearest[0].reason


def test_each_way_says_what_it_lacks() -> None:
    ways = [
        {"source": "flat", "rules": [{"within": [5, 6]}]},
        {"source": "dark", "rules": [{"equal": ["filter"]}]},
    ]
    (first, *_) = jobs(planned({"tasks.science.inputs.flat": {"any_of": ways}}, "science"), "science")
    assert [one.input for one in first.missing] == ["flat", "flat"]
    assert [one.nearest[0].name.split()[0] for one in first.missing] == ["flat", "dark"]
    assert first.reason.count("fits") == 2


def test_an_optional_input_that_was_not_found_is_told() -> None:
    frames = [one for one in night() if one.frame_class != "dark"]
    (first, *_) = jobs(planned({}, "science", frames=frames), "science")
    assert [(one.input, one.reason) for one in first.without] == [
        ("dark", "no dark was taken; the dark signal stays in the frame")
    ]
    assert first.state == "new" and not first.missing
