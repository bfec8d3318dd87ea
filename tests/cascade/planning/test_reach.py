"""Plans on the few nights that matter are the plans on all of them."""

from dataclasses import replace
from datetime import date, timedelta
from math import inf

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cascade.planning.test_planner import IMAGING, frame, planned

from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.reach import association_levels, is_sure, nights_back
from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.specification.model import Cascade

LAST = date(2026, 3, 1)
AGES = (0, 1, 3, 6, 8, 20, 61, 100, 190)
"""Nights before the last one on which frames are taken."""


@st.composite
def years(draw: st.DrawFn) -> list[FrameRecord]:
    """Frames of one camera, on some nights of a year; science frames on the last one too."""
    made = []
    for age in sorted(draw(st.sets(st.sampled_from(AGES), min_size=1)) | {0}):
        kinds = draw(st.lists(st.sampled_from(("bias", "dark", "flat", "science")), max_size=5))
        for kind in [*kinds, *(["science", "science"] if age == 0 else [])]:
            number = len(made) + 1
            one = frame(
                number,
                kind,
                f"20:{number:02d}:00",
                **({"filter": "L"} if kind in ("flat", "science") else {}),
            )
            night = (LAST - timedelta(days=age)).isoformat()
            made.append(replace(one, night=night, obsdate=f"{night}{one.obsdate[10:]}", iobs=None, nobs=None))
    return made


def recent(frames: list[FrameRecord], nights: dict[str, float]) -> list[FrameRecord]:
    """Frames that lie no further back than is said for their class."""
    return [
        one
        for one in frames
        if (LAST - date.fromisoformat(one.night)).days <= nights.get(one.frame_class, -1.0)
    ]


def told(found: Plan) -> list[tuple[str, str, int]]:
    return [(job.key, job.state, job.worst_level) for job in found.jobs]


@settings(max_examples=150, deadline=None)
@given(years())
def test_a_part_of_the_nights_gives_the_plan_of_all_of_them(frames: list[FrameRecord]) -> None:
    since = {"since": f"{LAST}T00:00:00"}
    whole = planned(frames, **since)
    for level in association_levels(IMAGING):
        part = planned(recent(frames, nights_back(IMAGING, ["science", "stack"], level)), **since)
        if all(is_sure(job, level) for job in part.jobs):
            assert told(part) == told(whole)
            break
    part = planned(recent(frames, nights_back(IMAGING, ["science", "stack"])), **since)
    assert told(part) == told(whole)


def test_the_reach_adds_up_along_the_chain_of_calibrations() -> None:
    found = nights_back(IMAGING, ["science"], 1)
    assert found == {"science": 0, "dark": 16, "flat": 32, "bias": 40}  # of a flat's dark's bias's gain table
    assert nights_back(IMAGING, ["science"], 0) == dict.fromkeys(found, 0)
    assert nights_back(IMAGING, ["stack"], 0)["science"] == 1


SMALL = """
name: small
sources:
  raw_bias: {class: bias, group: {by: [night]}, rules: [{within: 2}]}
  raw_flat: {class: flat, group: GROUP, rules: [{within: WITHIN}]}
  raw_science: {class: science, group: each}
tasks:
  bias: {recipe: bias, stage: calibrate, main: raw_bias}
  flat: {recipe: flat, stage: calibrate, main: raw_flat, inputs: {bias: {source: bias}}}
  science: {recipe: science, stage: science, main: raw_science, tags: [science], inputs: {flat: {source: flat}}}
"""


@pytest.mark.parametrize(
    ("within", "group", "flat", "bias"),
    [
        ("same_night", "{by: [night]}", 0, 3),
        ("[-3, 0]", "{by: [night]}", 4, 7),
        ("unlimited", "{by: [night]}", inf, inf),
        ("same_night", "all", inf, 3),
    ],
)
def test_rules_and_groupings_without_a_limit_reach_all_nights(
    within: str, group: str, flat: float, bias: float
) -> None:
    cascade = Cascade.model_validate(yaml.safe_load(SMALL.replace("GROUP", group).replace("WITHIN", within)))
    assert nights_back(cascade, ["science"]) == {"science": 0, "flat": flat, "bias": bias}
