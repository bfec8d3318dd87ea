"""The cascade with a request's values in place."""

from dataclasses import replace
from typing import Any

import pytest
from tests.cascade.planning.test_planner import IMAGING, frame
from tests.cascade.specification.test_cascade import HOOKED, cascade

from ccdflow.cascade.planning.jobs import Group
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.planning.resolved import ResolvedCascade
from ccdflow.cascade.sequences.grouping import GroupSpec
from ccdflow.cascade.sequences.statemachine import SequenceRules
from ccdflow.recipes.catalogue import RECIPES

PAIR = Group((frame(1, "science", "20:00:00"), frame(2, "science", "20:01:00")))


def resolved(changes: dict[str, Any], **request: Any) -> ResolvedCascade:
    return ResolvedCascade(Known(cascade(changes), RECIPES, ()), Request(**request))


def test_all_jobs_of_a_task_have_its_parameters_and_one_maker_of_keys() -> None:
    found = resolved({}, parameters={"stack.sigma": 4.0})
    values, keys = found.job_parameters("stack", PAIR, {})
    assert (values["sigma"].value, values["sigma"].origin) == (4.0, "request")
    assert values["method"].origin == "recipe"
    assert keys is found.keys["stack"]


def test_a_hook_gives_each_job_its_own_parameters_and_key() -> None:
    found = resolved(HOOKED)
    two, keys_of_two = found.job_parameters("stack", PAIR, {})
    one, keys_of_one = found.job_parameters("stack", Group(PAIR.frames[:1]), {})
    assert (two["sigma"].value, one["sigma"].value) == (4.5, 3.5)
    assert two["sigma"].origin == "hook"
    assert keys_of_two.key(()) != keys_of_one.key(())


def test_a_key_depends_on_values_not_on_where_they_come_from() -> None:
    default = resolved({}).job_parameters("stack", PAIR, {})[0]["sigma"].value
    asked = resolved({}, parameters={"stack.sigma": default})
    assert asked.keys["stack"].key(()) == resolved({}).keys["stack"].key(())


def test_products_are_grouped_as_the_request_says_with_its_values() -> None:
    by_sequence = resolved({}, parameters={"stack.max_stack": 2}).grouping("stack")
    assert isinstance(by_sequence, SequenceRules) and by_sequence.max_stack == 2
    by_object = resolved({}, parameters={"stack.group": "object"}).grouping("stack")
    assert isinstance(by_object, GroupSpec)


def test_a_task_takes_raw_frames_also_through_relays() -> None:
    changes = {
        "tasks.red": {"main": "raw_science", "stage": "science", "condition": "filter == 'R'"},
        "tasks.science.main": "red",
        "tasks.science.group": "each",
        "tasks.science.groups": {"each": "each"},
    }
    found = resolved(changes)
    assert found.takes_frames("science") and not found.takes_frames("stack")


def test_a_recipe_that_is_not_there_is_named() -> None:
    recipes = {name: recipe for name, recipe in RECIPES.items() if name != "stack"}
    with pytest.raises(ValueError, match=r"task 'stack': unknown recipe 'stack'; known: "):
        ResolvedCascade(Known(IMAGING, recipes, ()), Request())


def test_another_version_of_a_recipe_gives_other_keys() -> None:
    newer = {**RECIPES, "bias": replace(RECIPES["bias"], version="next")}
    found = ResolvedCascade(Known(IMAGING, newer, ()), Request())
    assert found.keys["bias"].key(()) != resolved({}).keys["bias"].key(())
    assert found.keys["dark"].key(()) == resolved({}).keys["dark"].key(())
