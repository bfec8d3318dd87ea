"""Contradictions between a cascade and its recipes are said before anything is planned."""

from typing import Any

import pytest
from tests.cascade.specification.test_cascade import cascade, planned

from ccdflow.cascade.specification.contract import ContractError, check
from ccdflow.recipes.catalogue import RECIPES


def test_the_shipped_cascade_keeps_its_contract() -> None:
    check(cascade({}), RECIPES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks.bias.recipe": "bais"}, "task 'bias': unknown recipe 'bais'"),
        (
            {"tasks.science.inputs.drak": {"source": "dark"}},
            "task 'science': recipe 'science' takes unknown input 'drak'; known: bias, dark, flat",
        ),
        (
            {"tasks.science.inputs.bias": {"source": "raw_bias"}},
            "task 'science', input 'bias': the recipe takes products, 'raw_bias' gives raw frames",
        ),
        (
            {"tasks.dark.main": "raw_flats", "sources.raw_flats": {"class": "master_flat"}},
            "task 'dark': the recipe takes raw frames, 'raw_flats' gives products",
        ),
        (
            {"tasks.science.inputs.bias": {"source": "bias", "max": 3}},
            "task 'science', input 'bias': the recipe takes 1 at the most, the task may give 3",
        ),
        (
            {"tasks.science.inputs.bias": {"source": "bias", "side": "both"}},
            "the recipe takes 1 at the most, the task may give 2",
        ),
        (
            {"tasks.science.inputs.flat": {"source": "flat", "product": "master_falt"}},
            "task 'flat' hands on unknown product 'master_falt'; known: master_flat",
        ),
        ({"tasks.flat.outputs": ["mask"]}, "recipe 'flat' makes unknown output 'mask'"),
        ({"tasks.stack.parameters": {"sigm": 3}}, "task 'stack': unknown parameter 'sigm'"),
        (
            {"parameter_sets": {"odd": {"tasks": {"stack": {"sigma": -1}}}}},
            "parameter 'stack.sigma': Input should be greater than 0; found -1 (set odd)",
        ),
        (
            {"sources.raw_bias.class": "bais"},
            "source 'raw_bias': unknown class 'bais'",
        ),
        ({"sources.raw_bias.rules": []}, "'bias' has no rules that say which of it fits"),
        ({"tasks.gain.inputs": {}}, "task 'gain': recipe 'gain' needs 'bias', which the task does not have"),
        (
            {"tasks.gain.inputs.bias.min": 0},
            "task 'gain', input 'bias': the recipe can't do without it, the task can",
        ),
    ],
)
def test_each_contradiction_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError) as error:
        check(cascade(changes), RECIPES)
    assert message in str(error.value)


def test_all_are_said_at_once_and_planning_refuses_too() -> None:
    changes = {"tasks.bias.recipe": "bais", "tasks.flat.outputs": ["mask"]}
    with pytest.raises(ContractError) as error:
        planned(changes, "science")
    assert "bais" in str(error.value) and "mask" in str(error.value)
