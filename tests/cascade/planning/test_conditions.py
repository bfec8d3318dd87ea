"""Conditions of tasks, relays and data sources."""

from dataclasses import replace
from typing import Any

from tests.cascade.planning.test_planner import frame
from tests.cascade.specification.test_cascade import cascade

from ccdflow.cascade.planning.conditions import Conditions
from ccdflow.cascade.planning.jobs import Group
from ccdflow.cascade.specification.model import Cascade

RED = Group((frame(1, "science", "20:00:00"),))
BLUE = Group((frame(2, "science", "20:01:00", filter="B"),))
RELAYS = {
    "tasks.red": {"main": "science", "stage": "science", "condition": "filter == 'R'"},
    "tasks.long": {"main": "red", "stage": "science", "condition": "exptime > 50"},
}


def conditions(changes: dict[str, Any], **workflow: Any) -> Conditions:
    return Conditions(cascade(changes), workflow)


def test_a_task_without_condition_holds_for_everything() -> None:
    assert conditions({}).holds("science", RED) and conditions({}).holds("science", BLUE)


def test_a_condition_looks_at_the_frames_and_at_workflow_parameters() -> None:
    asked = {"tasks.science.condition": "filter == wanted", "parameters.wanted": {"default": "R"}}
    assert conditions(asked, wanted="R").holds("science", RED)
    assert not conditions(asked, wanted="R").holds("science", BLUE)
    assert conditions(asked, wanted="B").holds("science", BLUE)


def test_a_relay_lets_through_what_it_and_the_relays_above_it_let_through() -> None:
    short = Group((replace(RED.frames[0], exptime=10.0),))
    chain = conditions(RELAYS)
    assert [chain.passes("red", group) for group in (RED, BLUE, short)] == [True, False, True]
    assert [chain.passes("long", group) for group in (RED, BLUE, short)] == [True, False, False]


def test_what_is_no_relay_lets_everything_through_whatever_its_own_condition() -> None:
    never = conditions({"tasks.science.condition": "exptime > 1e6"})
    assert never.passes("science", RED) and never.passes("raw_science", RED)
    assert not never.holds("science", RED)


def test_a_dynamic_parameter_may_look_at_the_one_before_it_and_at_what_was_found() -> None:
    dynamic = {"twice": "2 * exptime", "more": "twice + len(found)"}
    context = conditions({"tasks.science.dynamic": dynamic}).context("science", RED, {"bias": [BLUE]})
    assert (context.value("twice"), context.value("more")) == (120.0, 121.0)


def test_a_source_has_the_frames_of_its_class_that_are_not_refused_and_fulfil_its_condition() -> None:
    long, short = frame(1, "science", "20:00:00"), frame(2, "science", "20:01:00", exptime=1.0)
    refused = frame(3, "science", "20:02:00", refused="truncated")
    frames = [short, frame(4, "bias", "18:00:00"), refused, long]
    assert conditions({}).source_frames("raw_science", frames) == [short, long]
    only_long = conditions({"sources.raw_science.condition": "exptime > least"}, least=30)
    assert only_long.source_frames("raw_science", frames) == [long]


def test_inside_a_subworkflow_a_parameter_goes_by_its_short_name_too() -> None:
    written = cascade({}).written
    inner = {"recipe": "science", "stage": "science", "main": "raw_science", "condition": "filter == wanted"}
    both = Cascade.model_validate({**written, "tasks": {**written["tasks"], "near.science": inner}})
    held = Conditions(both, {"near_wanted": "R", "wanted": "B"})
    assert held.holds("near.science", RED) and not held.holds("near.science", BLUE)
    assert held.context("science", RED).value("wanted") == "B"
