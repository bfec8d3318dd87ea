"""Products that are kept though other calibrations would be chosen now."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from tests.cascade.planning.test_planner import IMAGING, frame, night, only

from ccdflow.cascade.planning.jobs import DoneJob, Job
from ccdflow.cascade.planning.keys import main_identity, work_name
from ccdflow.cascade.planning.planner import plan
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.records import FrameRecord
from ccdflow.recipes.catalogue import RECIPES

NIGHT = night()[:6]
"""Three biases and three darks."""
LATE = [frame(30 + i, "bias", f"18:3{i}:00") for i in range(3)]
"""Biases that came after the darks were reduced; with them the bias of the night is another one."""


def planned(frames: list[FrameRecord], before: Plan | None = None, **more: Any) -> Plan:
    """The plan for darks that keeps what an earlier plan made."""
    done = before.jobs if before else ()
    by_main: dict[tuple[str, str], list[DoneJob]] = {}
    for job in done:
        by_main.setdefault((job.step, main_identity(job.main)), []).append(
            DoneJob(job.key, job.step, job.inputs)
        )
    request = {"targets": ("dark",), "late": "keep", **more.pop("request", {})}
    known = {"done": {job.key for job in done}, "done_jobs": by_main, **more}
    return plan(
        Known(**{"cascade": IMAGING, "recipes": RECIPES, "frames": frames, **known}), Request(**request)
    )


BEFORE = planned(NIGHT)
DARK, BIAS = only(BEFORE, "dark"), only(BEFORE, "bias")


def dark_after(frames: Collection[FrameRecord] = (*NIGHT, *LATE), **more: Any) -> Job:
    return only(planned(list(frames), BEFORE, **more), "dark")


def test_a_late_calibration_changes_nothing_and_is_told() -> None:
    found = planned([*NIGHT, *LATE], BEFORE)
    dark = only(found, "dark")
    assert (dark.key, dark.state, dark.inputs) == (DARK.key, "reused", DARK.inputs)
    assert found.notes == (
        "dark: 1 kept, though bias of 2026-03-01 (level 0) rather than of 2026-03-01 (level 0) would be chosen now; "
        "--late redo makes them anew",
    )


def test_it_is_made_anew_where_that_is_asked() -> None:
    dark = dark_after(request={"late": "redo"})
    assert dark.state == "new" and dark.key != DARK.key


def test_what_would_be_chosen_again_needs_no_note() -> None:
    found = planned(NIGHT, BEFORE)
    assert only(found, "dark").state == "reused" and found.notes == ()


@pytest.mark.parametrize(
    "more",
    [
        {"banned": {BIAS.key}},
        {"banned": {work_name("bias", BIAS.main)}},
        {"done": {DARK.key}},
        {"request": {"parameters": {"bias.sigma": 2.5}}},
        {"recipes": {**RECIPES, "bias": replace(RECIPES["bias"], version="next")}},
        {"request": {"parameters": {"dark.sigma": 2.5}}},
    ],
    ids=["banned", "its work banned", "gone", "other parameters", "a newer recipe", "the dark's parameters"],
)
def test_it_is_made_anew_where_its_calibration_may_not_be_used_or_would_be_made_otherwise(
    more: dict[str, Any],
) -> None:
    dark = dark_after(**more)
    assert dark.state == "new" and dark.key != DARK.key


def test_it_is_made_anew_where_a_raw_frame_of_its_calibration_was_refused() -> None:
    frames = [replace(one, refused="truncated") if one.id == 1 else one for one in (*NIGHT, *LATE)]
    assert dark_after(frames).state == "new"


def test_it_is_made_anew_where_its_calibration_is_worse_than_is_accepted() -> None:
    old = [replace(one, night="2026-02-27", obsdate=f"2026-02-27{one.obsdate[10:]}") for one in NIGHT[:3]]
    before = planned([*old, *NIGHT[3:]])
    assert only(before, "dark").level == 1
    kept = planned([*old, *NIGHT[3:], *LATE], before)
    assert only(kept, "dark").key == only(before, "dark").key
    assert "bias of 2026-03-01 (level 0) rather than of 2026-02-27 (level 1)" in kept.notes[0]
    strict = planned([*old, *NIGHT[3:], *LATE], before, request={"quality_threshold": 0})
    assert only(strict, "dark").level == 0


def test_the_newest_of_several_is_kept() -> None:
    later = planned([*NIGHT, *LATE], request={"late": "redo"})
    newest = only(later, "dark")
    both = [DoneJob(job.key, job.step, job.inputs) for job in (newest, DARK)]
    done = {job.key for job in (*BEFORE.jobs, *later.jobs)}
    by_main = {
        ("dark", main_identity(DARK.main)): both,
        **{
            ("bias", main_identity(job.main)): [DoneJob(job.key, job.step, job.inputs)]
            for plan_ in (BEFORE, later)
            for job in plan_.jobs
            if job.step == "bias"
        },
    }
    newer_still = frame(60, "bias", "18:50:00")
    found = planned([*NIGHT, *LATE, newer_still], done=done, done_jobs=by_main)
    assert only(found, "dark").key == newest.key
