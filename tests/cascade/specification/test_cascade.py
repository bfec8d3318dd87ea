"""What a cascade can say: conditions, ways in order, sides, sets, hooks, relays, ports, pins."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from tests.cascade.planning.test_planner import frame, night

from ccdflow.cascade.planning.associate import AssociationRule, Barrier
from ccdflow.cascade.planning.jobs import Group, Job
from ccdflow.cascade.planning.planner import plan
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.specification.expressions import Context
from ccdflow.cascade.specification.model import Cascade
from ccdflow.config.shipped import shipped
from ccdflow.recipes.catalogue import RECIPES
from ccdflow.recipes.core.recipe import Input

WRITTEN = yaml.safe_load((shipped("cascades") / "imaging.yaml").read_text())


def cascade(changes: Mapping[str, Any]) -> Cascade:
    """The shipped cascade with other values at dotted places."""
    written = deepcopy(WRITTEN)
    for place, value in changes.items():
        *path, last = place.split(".")
        at = written
        for one in path:
            at = at.setdefault(one, {})
        at[last] = value
    return Cascade.model_validate(written)


def planned(
    changes: Mapping[str, Any],
    *targets: str,
    frames: list[FrameRecord] | None = None,
    known: Mapping[str, Any] | None = None,
    **request: Any,
) -> Plan:
    frames = night() if frames is None else frames
    given = Known(**{"cascade": cascade(changes), "recipes": RECIPES, "frames": frames, **(known or {})})
    return plan(given, Request(targets=targets, **request))


def like(number: int, kind: str, when: str, frame_class: str) -> FrameRecord:
    """A frame as one of `kind`, of another class."""
    return replace(frame(number, kind, when), frame_class=frame_class)


def jobs(found: Plan, step: str) -> list[Job]:
    return [job for job in found.jobs if job.step == step]


def roles(job: Job) -> list[str]:
    return [one.role for one in job.associated]


# --- conditions and parameters ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "taken"),
    [
        ("exptime > 30", True),
        ("exptime > 300", False),
        ("filter in ('R', 'I') and not object == 'M31'", True),
        ("ccd_temperature < -5", False),
        ("ccd_temperature is None", True),
        ("count >= 1 and min(exptime, 10) == 10", True),
    ],
)
def test_an_input_is_looked_for_only_where_its_condition_holds(condition: str, taken: bool) -> None:
    found = planned({"tasks.science.inputs.dark.condition": condition}, "science")
    assert ("dark" in roles(jobs(found, "science")[0])) == taken
    assert all(job.state == "new" for job in found.jobs)


def test_a_mandatory_input_whose_condition_does_not_hold_leaves_the_job_complete() -> None:
    changes = {"tasks.science.inputs.flat.condition": "filter != 'R'"}
    found = planned(changes, "science", frames=[one for one in night() if one.frame_class != "flat"])
    assert {job.state for job in found.jobs} == {"new"}


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("exptime >", "no expression"),
        ("__import__('os')", "may be called"),
        ("group.frames", "can't be imported"),
        ("[x for x in (1,)]", "not allowed"),
        ("no.such.function", "can't be imported"),
    ],
)
def test_what_is_no_condition_is_refused_when_it_is_read(condition: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        cascade({"tasks.science.inputs.dark.condition": condition})


def test_a_frame_may_belong_to_several_data_sources() -> None:
    changes = {
        "sources.long_exposures": {"class": "science", "condition": "exptime > 100", "group": "each"},
        "tasks.long": {"recipe": "science", "stage": "science", "main": "long_exposures"},
    }
    frames = [replace(one, exptime=200.0) if one.id == night()[-1].id else one for one in night()]
    assert [job.main[0].frame for job in jobs(planned(changes, "long", frames=frames), "long")] == [
        night()[-1].id
    ]
    assert len(jobs(planned(changes, "science", frames=frames), "science")) > 1


WORKFLOW = {
    "parameters.use_darks": {"default": True, "description": "Whether darks are subtracted."},
    "parameters.stack_by": {"default": "object"},
    "tasks.science.inputs.dark.condition": "use_darks",
    "tasks.stack.groups.object.by": ["night", "$stack_by"],
}


def test_workflow_parameters_steer_conditions_and_stand_in_for_values() -> None:
    assert "dark" in roles(jobs(planned(WORKFLOW, "science"), "science")[0])
    without = planned(WORKFLOW, "science", parameters={"use_darks": False})
    assert "dark" not in roles(jobs(without, "science")[0])
    frames = [
        *night(),
        frame(20, "science", "21:00:00", filter="V"),
        frame(21, "flat", "18:30:00", filter="V"),
    ]
    by_object = planned(WORKFLOW, "stack", frames=frames, parameters={"stack.group": "object"})
    assert [len(job.main) for job in jobs(by_object, "stack")] == [4]
    by_filter = {"stack.group": "object", "stack_by": "filter"}
    found = planned(WORKFLOW, "stack", frames=frames, parameters=by_filter)
    assert [len(job.main) for job in jobs(found, "stack")] == [3]


def test_an_unknown_workflow_parameter_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"unknown workflow parameter 'use_dark'; .*'use_darks'"):
        cascade({**WORKFLOW, "sources.raw_bias.group": {"by": ["$use_dark"]}})
    with pytest.raises(ValueError, match="no workflow parameter"):
        planned(WORKFLOW, "science", parameters={"use_dark": False})


SETS = {
    **WORKFLOW,
    "parameter_sets": {
        "default": {"tasks": {"stack": {"sigma": 4.0}}},
        "quick": {
            "extends": "default",
            "workflow": {"use_darks": False},
            "tasks": {"stack": {"method": "median"}},
        },
    },
}


def test_a_set_extends_another_and_the_request_has_the_last_word() -> None:
    found = planned(SETS, "stack", parameter_set="quick", parameters={"stack.method": "mean"})
    values = jobs(found, "stack")[0].parameters
    assert (values["sigma"].value, values["sigma"].origin) == (4.0, "set default")
    assert (values["method"].value, values["method"].origin) == ("mean", "request")
    assert "dark" not in roles(jobs(found, "science")[0])


def test_the_default_set_applies_by_itself() -> None:
    values = jobs(planned(SETS, "stack"), "stack")[0].parameters
    assert (values["sigma"].value, values["sigma"].origin) == (4.0, "set default")
    assert values["method"].origin == "recipe"


def test_unknown_and_circular_sets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown parameter set 'quik'; .*did you mean 'quick'"):
        planned(SETS, "stack", parameter_set="quik")
    with pytest.raises(ValidationError, match="extends itself"):
        cascade({"parameter_sets": {"a": {"extends": "b"}, "b": {"extends": "a"}}})
    with pytest.raises(ValidationError, match="unknown task 'stak'"):
        cascade({"parameter_sets": {"a": {"tasks": {"stak": {"sigma": 1}}}}})


# --- hooks and dynamic parameters -------------------------------------------------------------------------


def more_frames_harder_clip(context: Context) -> dict[str, Any]:
    """A hook: sigma from a dynamic parameter that knows the associated frames too."""
    return {"sigma": context.value("hardness")}


def hardness(context: Context) -> float:
    """A dynamic parameter."""
    return 2.5 + len(context.group.frames)


def gives_nonsense(context: Context) -> Any:
    """A hook that does not give names and values."""
    return 3


HOOKED = {
    "tasks.stack.dynamic": {"hardness": f"{__name__}.hardness"},
    "tasks.stack.hooks": [f"{__name__}.more_frames_harder_clip"],
}


def test_a_hook_gives_parameters_to_each_job_below_sets_and_request() -> None:
    values = jobs(planned(HOOKED, "stack"), "stack")[0].parameters
    assert (values["sigma"].value, values["sigma"].origin) == (5.5, "hook")
    asked = planned(HOOKED, "stack", parameters={"stack.sigma": 3.5})
    assert jobs(asked, "stack")[0].parameters["sigma"].value == 3.5
    assert jobs(asked, "stack")[0].key != jobs(planned(HOOKED, "stack"), "stack")[0].key


def test_a_hook_that_gives_nonsense_is_named() -> None:
    with pytest.raises(ValueError, match="gives_nonsense' of task 'stack' gave 3"):
        planned({"tasks.stack.hooks": [f"{__name__}.gives_nonsense"]}, "stack")


def test_a_step_is_left_out_where_its_condition_does_not_hold_and_says_so() -> None:
    found = planned({"tasks.science.condition": "iobs != 2"}, "science")
    assert len(jobs(found, "science")) == 2
    assert any("iobs != 2 does not hold" in note for note in found.notes)


def test_a_dynamic_parameter_steers_a_condition() -> None:
    changes = {
        "tasks.science.dynamic": {"long": "exptime > 100"},
        "tasks.science.inputs.dark.condition": "long",
    }
    assert "dark" not in roles(jobs(planned(changes, "science"), "science")[0])


# --- ways, sides, numbers -----------------------------------------------------------------------------------

SKY = {
    "sources.raw_sky": {
        "class": "sky",
        "group": {"by": ["night", "filter"]},
        "rules": [{"equal": ["filter"]}],
    },
    "tasks.sky_flat": {"recipe": "flat", "main": "raw_sky", "stage": "calibrate"},
    "tasks.science.inputs.flat": {"any_of": [{"source": "sky_flat"}, {"source": "flat"}]},
}


def test_of_several_ways_the_first_that_gives_enough_is_taken() -> None:
    skies = [like(30 + i, "flat", f"19:0{i}:00", "sky") for i in range(3)]
    found = planned(SKY, "science", frames=[*night(), *skies])
    assert len(jobs(found, "sky_flat")) == 1 and not jobs(found, "flat")
    found = planned(SKY, "science")
    assert len(jobs(found, "flat")) == 1 and not jobs(found, "sky_flat")


def test_where_no_way_gives_enough_each_says_why() -> None:
    found = planned(SKY, "science", frames=[one for one in night() if one.frame_class != "flat"])
    reasons = {job.reason for job in jobs(found, "science")}
    assert reasons == {"no sky_flat as 'flat': there are no such frames; no flat: there are no such frames"}


def test_ways_of_which_one_is_optional_leave_the_job_complete() -> None:
    changes = deepcopy(SKY)
    changes["tasks.science.inputs.flat"]["any_of"][1]["min"] = 0
    found = planned(changes, "science", frames=[one for one in night() if one.frame_class != "flat"])
    assert {job.state for job in jobs(found, "science")} == {"new"}


SCIENCE = RECIPES["science"]
OF_RAW_BIASES = {
    "recipes": {
        **RECIPES,
        "science": replace(SCIENCE, inputs={**SCIENCE.inputs, "bias": Input("raw", 0, None)}),
    }
}
"""Recipes of which ``science`` takes any number of raw biases."""


def biases_around() -> list[FrameRecord]:
    """A bias of the evening and one of the morning, each a set of its own, around one science frame."""
    frames = [frame(1, "bias", "18:00:00"), frame(2, "bias", "2026-03-02T06:00:00")]
    return [*frames, frame(3, "science", "20:00:00")]


@pytest.mark.parametrize(
    ("side", "most", "ids"),
    [
        ("either", 1, [1]),
        ("before", 1, [1]),
        ("after", 1, [2]),
        ("both", 1, [1, 2]),
        ("either", None, [1, 2]),
    ],
)
def test_the_nearest_before_after_either_or_on_both_sides(
    side: str, most: int | None, ids: list[int]
) -> None:
    bias = {"source": "raw_bias", "side": side, "max": most, "rules": [{"within": "one_day"}]}
    changes = {"sources.raw_bias.group": "each", "tasks.science.inputs": {"bias": bias}}
    (job,) = jobs(planned(changes, "science", frames=biases_around(), known=OF_RAW_BIASES), "science")
    assert sorted(one.frame or 0 for one in job.associated) == ids


def test_one_side_without_a_calibration_is_said() -> None:
    bias = {"source": "raw_bias", "side": "both", "rules": [{"within": "one_day"}]}
    changes = {"sources.raw_bias.group": "each", "tasks.science.inputs": {"bias": bias}}
    frames = [one for one in biases_around() if one.id != 2]
    (job,) = jobs(planned(changes, "science", frames=frames, known=OF_RAW_BIASES), "science")
    assert job.state == "incomplete" and "on each side" in job.reason


def test_what_the_recipe_is_not_handed_must_still_be_there() -> None:
    changes = {"tasks.science.inputs.dark": {"source": "dark", "handed": False}}
    (job, *_) = jobs(planned(changes, "science"), "science")
    assert job.state == "new" and "dark" not in roles(job)
    found = planned(changes, "science", frames=[one for one in night() if one.frame_class != "dark"])
    assert {one.state for one in jobs(found, "science")} == {"incomplete"}


# --- time ranges, functions, events -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("within", "hours", "fits"),
    [
        ("ninety_minutes", 1.4, True),
        ("ninety_minutes", -1.6, False),
        ("next_day", 23, True),
        ("next_day", -1, False),
        ("one_week", -167, True),
        ("past", -1e6, True),
        ("past", 0.1, False),
        ([-1, 0.5], -23, True),
        ([-1, 0.5], 13, False),
        (2, 47, True),
        (2, 49, False),
        ("unlimited", 1e6, True),
    ],
)
def test_time_ranges(within: Any, hours: float, fits: bool) -> None:
    from ccdflow.cascade.planning.associate import Candidates, refusal

    class At:
        identity = "x"

        def __init__(self, time: float) -> None:
            self.time = time

        def value(self, keyword: str) -> None:
            return None

        def number(self, keyword: str) -> None:
            return None

        def values(self, keywords: tuple[str, ...]) -> tuple[None, ...]:
            return (None,) * len(keywords)

    rule = AssociationRule.model_validate({"within": within})
    reference, candidate = At(1e9), At(1e9 + 3600 * hours)
    assert (refusal(rule, reference, candidate) is None) == fits
    assert bool(list(Candidates([candidate]).fitting([rule], reference))) == fits


def not_on_sundays(reference: Any, candidate: Any) -> bool | str:
    """A match function that says why not."""
    return True if candidate.value("exptime") == 0 else "taken on a Sunday"


def test_a_function_decides_and_its_sentence_is_shown() -> None:
    rule = {"function": f"{__name__}.not_on_sundays"}
    changes = {"tasks.science.inputs.bias": {"source": "bias", "rules": [rule]}}
    assert jobs(planned(changes, "science"), "science")[0].state == "new"
    frames = [replace(one, exptime=1.0) if one.frame_class == "bias" else one for one in night()]
    (job, *_) = jobs(planned(changes, "science", frames=frames), "science")
    assert job.missing[0].nearest[0].reason == "taken on a Sunday"


def test_calibrations_do_not_cross_what_happened_to_the_instrument() -> None:
    swap = Barrier("2026-03-01T19:00:00", "detector swapped", camera="C1")
    found = planned({}, "science", known={"barriers": [swap]})
    (job, *_) = jobs(found, "science")
    assert job.state == "incomplete"
    assert job.missing[0].nearest[0].reason == "detector swapped on 2026-03-01 lies between"
    other = replace(swap, camera="C2")
    assert jobs(planned({}, "science", known={"barriers": [other]}), "science")[0].state == "new"


def test_a_rule_may_say_which_events_matter_to_it() -> None:
    swap = Barrier("2026-03-01T19:00:00", "filter wheel cleaned")
    changes = {
        "sources.raw_bias.rules": [{"barriers": ["detector*"]}],
        "sources.raw_dark.rules": [{"barriers": ["detector*"]}],
    }
    (job, *_) = jobs(planned(changes, "science", known={"barriers": [swap]}), "science")
    assert [one.input for one in job.missing] == ["flat"]


def test_levels_worse_than_the_threshold_are_not_taken() -> None:
    frames = [
        replace(one, night="2026-02-27", obsdate=one.obsdate.replace("03-01", "02-27"))
        if one.frame_class == "bias"
        else one
        for one in night()
    ]
    assert jobs(planned({}, "bias", "dark", frames=frames), "dark")[0].level == 1
    found = planned({}, "dark", frames=frames, quality_threshold=0)
    assert jobs(found, "dark")[0].state == "incomplete"


# --- masters made elsewhere, pins and bans --------------------------------------------------------------------


def master(number: int = 50, when: str = "17:00:00") -> FrameRecord:
    return like(number, "bias", when, "master_bias")


@pytest.mark.parametrize(
    ("preference", "skipped"),
    [("raw_per_level", False), ("master_per_level", True), ("raw", False), ("master", True)],
)
def test_a_master_of_a_pool_skips_its_step_where_it_is_preferred(preference: Any, skipped: bool) -> None:
    found = planned({}, "science", frames=[*night(), master()], preference=preference)
    (job, *_) = jobs(found, "science")
    assert [one.frame for one in job.associated if one.role == "bias"] == ([50] if skipped else [None])
    assert bool(jobs(found, "bias")) != skipped


def test_a_master_of_a_pool_is_taken_where_there_are_no_raw_frames() -> None:
    frames = [one for one in night() if one.frame_class != "bias"]
    found = planned({}, "science", frames=[*frames, master()])
    assert {job.state for job in found.jobs} == {"new"} and not jobs(found, "bias")


def test_raw_per_level_prefers_a_master_of_a_better_level() -> None:
    frames = [
        replace(one, night="2026-02-27", obsdate=one.obsdate.replace("03-01", "02-27"))
        if one.frame_class == "bias"
        else one
        for one in night()
    ]
    (job, *_) = jobs(planned({}, "science", frames=[*frames, master()]), "science")
    assert [one.frame for one in job.associated if one.role == "bias"] == [50]
    (job, *_) = jobs(planned({}, "science", frames=[*frames, master()], preference="raw"), "science")
    assert [one.frame for one in job.associated if one.role == "bias"] == [None]


def test_an_input_may_prefer_otherwise_than_the_request() -> None:
    changes = {"tasks.science.inputs.bias": {"source": "bias", "preference": "master"}}
    found = planned(changes, "science", frames=[*night(), master()])
    (job, *_) = jobs(found, "science")
    assert [one.frame for one in job.associated if one.role == "bias"] == [50]
    assert [one.frame for one in jobs(found, "dark")[0].associated] == [None]


def test_what_is_banned_is_never_taken() -> None:
    whole = planned({}, "science")
    bias = jobs(whole, "bias")[0]
    assert [one.frame for one in bias.main] == [1, 2, 3]
    without = planned({}, "bias", known={"banned": {"f2"}})
    assert [one.frame for one in jobs(without, "bias")[0].main] == [1, 3]
    only_bias = {"tasks.science.inputs.bias": {"source": "bias"}}
    found = planned(only_bias, "science", known={"banned": {bias.key}})
    assert {job.state for job in jobs(found, "science")} == {"incomplete"}
    assert jobs(found, "science")[0].missing[0].nearest[0].reason == "banned"


def test_what_is_pinned_is_taken_first_where_it_fits() -> None:
    old = [
        replace(one, id=one.id + 60, sha256=f"{one.id + 60:064d}", night="2026-02-27", obsdate=when)
        for one in night()
        if one.frame_class == "bias"
        for when in [one.obsdate.replace("03-01", "02-27")]
    ]
    frames = [*night(), *old]
    pinned = jobs(planned({}, "bias", frames=frames), "bias")[0]
    assert pinned.group.frames[0].id == 61
    found = planned({}, "science", frames=frames, known={"pinned": {pinned.key}})
    (job, *_) = jobs(found, "science")
    assert [(one.job, one.level) for one in job.associated if one.role == "bias"] == [(pinned.key, 1)]


# --- relays, ports, static calibrations -----------------------------------------------------------------------


def test_a_relay_hands_on_what_its_main_input_is() -> None:
    changes = {
        "tasks.usable_bias": {"main": "bias", "stage": "calibrate"},
        "tasks.science.inputs.bias": {"source": "usable_bias"},
        "tasks.good_science": {"main": "science", "stage": "science", "tags": ["good"]},
        "tasks.stack.main": "good_science",
    }
    direct, relayed = planned({}, "stack"), planned(changes, "stack")
    assert [job.key for job in relayed.jobs] == [job.key for job in direct.jobs]
    assert [job.step for job in planned(changes, "good").jobs][-1] == "science"


def test_a_static_calibration_holds_from_when_until_when() -> None:
    static = {
        "sources.mask": {"class": "bad_pixel_mask", "group": "each", "rules": [{"match": ["camera"]}]},
        "tasks.science.inputs.bad_pixel_mask": {"source": "mask"},
    }

    def mask(number: int, **validity: str) -> FrameRecord:
        old = like(number, "bias", "2020-01-01T00:00:00", "bad_pixel_mask")
        return replace(old, keywords={**old.keywords, **validity})

    masks = [mask(70, valid_until="2026-01-01"), mask(71, valid_from="2026-01-01T00:00:00")]
    (job, *_) = jobs(planned(static, "science", frames=[*night(), *masks]), "science")
    assert [one.frame for one in job.associated if one.role == "bad_pixel_mask"] == [71]
    found = planned(static, "science", frames=[*night(), masks[0]])
    assert jobs(found, "science")[0].missing[0].nearest[0].reason == "valid until 2026-01-01"


def test_a_product_of_sets_may_be_an_associated_input() -> None:
    changes = {
        "tasks.night_sky": {
            "recipe": "stack",
            "main": "science",
            "stage": "calibrate",
            "group": "night",
            "groups": {"night": {"by": ["night", "filter"], "min_size": 2}},
        },
        "sources.late": {"class": "arc", "group": "each"},
        "tasks.late": {
            "recipe": "science",
            "main": "late",
            "stage": "science",
            "inputs": {"flat": {"source": "night_sky", "rules": [{"equal": ["filter"]}]}},
        },
    }
    with pytest.raises(ValidationError, match="name of a task and of a data source"):
        cascade(changes)
    changes["sources.later"] = changes.pop("sources.late")
    changes["tasks.late"]["main"] = "later"
    late = like(40, "science", "23:00:00", "arc")
    found = planned(changes, "late", frames=[*night(), late])
    assert [job.step for job in found.jobs][-2:] == ["night_sky", "late"]
    assert len(jobs(found, "night_sky")[0].main) == 3


# --- why not ----------------------------------------------------------------------------------------------------


def test_a_missing_input_tells_how_many_passed_each_test() -> None:
    frames = [
        replace(one, filter="V") if one.frame_class == "flat" and one.id == 7 else one for one in night()
    ]
    frames = [
        replace(one, camera="C9") if one.frame_class == "flat" and one.id > 7 else one for one in frames
    ]
    (job, *_) = jobs(planned({}, "science", frames=frames), "science")
    (missing,) = job.missing
    tests = dict(missing.survivors)
    assert tests["telescope"] == 2 and tests["camera"] == 1 and tests["filter"] == 0


def test_group_is_what_conditions_see() -> None:
    context = Context(Group((frame(1, "bias", "18:00:00"),)), {"limit": 3})
    assert (context.value("count"), context.value("limit"), context.value("binning")) == (1, 3, "1x1")
