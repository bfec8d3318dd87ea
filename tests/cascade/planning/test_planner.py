"""From a target to jobs."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from ccdflow.cascade.planning.jobs import Job, digest
from ccdflow.cascade.planning.planner import plan
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.reach import is_sure
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.records import FrameRecord
from ccdflow.config.cascadefile import load_cascade
from ccdflow.config.shipped import shipped
from ccdflow.recipes.catalogue import RECIPES

IMAGING = load_cascade(shipped("cascades") / "imaging.yaml")


def frame(number: int, frame_class: str, when: str, **changes: object) -> FrameRecord:
    """A frame of one camera, on the night of 2026-03-01 unless told otherwise."""
    keywords = {"binning": "1x1", "readout_mode": "slow", "gain": 1.5, "read_noise": 5.0}
    record = FrameRecord(
        id=number,
        frame_class=frame_class,
        telescope="T1",
        camera="C1",
        instrument="I1",
        filter="R" if frame_class in ("flat", "science") else "",
        object="M13" if frame_class == "science" else "",
        exptime={"bias": 0.0, "dark": 60.0, "flat": 5.0, "science": 60.0}[frame_class],
        obsdate=f"2026-03-01T{when}" if len(when) < 10 else when,
        iobs=None,
        nobs=None,
        night="2026-03-01",
        sha256=f"{number:064d}",
        path=f"/raw/frame{number}.fits",
        keywords=keywords,
    )
    return replace(record, **changes)


def night() -> list[FrameRecord]:
    """Three frames of each calibration and a sequence of three science frames."""
    kinds = ["bias"] * 3 + ["dark"] * 3 + ["flat"] * 3
    frames = [frame(i, kind, f"18:{i:02d}:00") for i, kind in enumerate(kinds, 1)]
    for i in range(3):
        frames.append(frame(10 + i, "science", f"20:0{i}:00", iobs=i + 1, nobs=3))
    return frames


def planned(
    frames: list[FrameRecord], *targets: str, done: set[str] | None = None, **request: object
) -> Plan:
    known = Known(IMAGING, RECIPES, frames, done or set(), {})
    return plan(known, Request(targets=targets, **request))


def steps(found: Plan) -> list[str]:
    return [job.step for job in found.jobs]


def only(found: Plan, step: str) -> Job:
    jobs = [job for job in found.jobs if job.step == step]
    assert len(jobs) == 1, steps(found)
    return jobs[0]


def test_a_night_becomes_one_master_of_each_kind_and_one_stack() -> None:
    found = planned(night(), "stack")
    assert steps(found) == ["bias", "dark", "flat", "science", "science", "science", "stack"]
    assert all(job.state == "new" for job in found.jobs)


def test_only_what_the_target_needs_is_planned() -> None:
    assert steps(planned(night(), "dark")) == ["bias", "dark"]
    assert steps(planned(night(), "bias")) == ["bias"]


def test_each_job_comes_after_those_it_takes_products_from() -> None:
    seen: set[str] = set()
    for job in planned(night()).jobs:
        assert seen.issuperset(job.parents)
        seen.add(job.key)


def test_order_of_frames_does_not_matter() -> None:
    frames = night()
    expected = planned(frames)
    Random(1).shuffle(frames)
    assert planned(frames) == expected


def test_an_irrelevant_frame_changes_no_key() -> None:
    frames = night()
    other = frame(99, "flat", "18:30:00", filter="B")
    assert [job.key for job in planned([*frames, other]).jobs] == [job.key for job in planned(frames).jobs]


def test_a_changed_byte_changes_exactly_what_depends_on_it() -> None:
    frames = night()
    before = {job.key for job in planned(frames).jobs}
    frames[6] = replace(frames[6], sha256="f" * 64)
    changed = [job.step for job in planned(frames).jobs if job.key not in before]
    assert changed == ["flat", "science", "science", "science", "stack"]


def test_a_changed_parameter_changes_exactly_what_depends_on_it() -> None:
    before = {job.key for job in planned(night()).jobs}
    found = planned(night(), parameters={"stack.sigma": 4.0})
    assert [job.step for job in found.jobs if job.key not in before] == ["stack"]
    assert only(found, "stack").parameters["sigma"].origin == "request"


def test_a_new_recipe_version_changes_exactly_what_depends_on_it() -> None:
    before = {job.key for job in planned(night()).jobs}
    recipes = {**RECIPES, "dark": replace(RECIPES["dark"], version="next")}
    found = plan(Known(IMAGING, recipes, night()), Request())
    assert [job.step for job in found.jobs if job.key in before] == ["bias"]


def test_what_is_done_is_reused() -> None:
    bias = only(planned(night()), "bias").key
    states = {job.step: job.state for job in planned(night(), done={bias}).jobs}
    assert states["bias"] == "reused" and states["dark"] == "new"


def test_a_missing_dark_is_allowed() -> None:
    found = planned([one for one in night() if one.frame_class != "dark"], "science")
    assert {job.state for job in found.jobs} == {"new"}


def test_a_missing_bias_makes_jobs_incomplete_and_says_why() -> None:
    found = planned([one for one in night() if one.frame_class not in ("bias", "dark")], "science")
    science = [job for job in found.jobs if job.step == "science"]
    assert len(science) == 3
    assert all(job.state == "incomplete" for job in science)
    reasons = [lack.reason for lack in science[0].missing if lack.input == "bias"]
    assert reasons == [
        "no bias: there are no such frames",
        "no dark_with_bias as 'bias': there are no such frames; add biases, or darks of the frame's own exposure time, "
        "since a dark that still holds its bias can't be scaled",
    ]


def test_of_candidates_that_could_not_be_made_the_nearest_are_named_first() -> None:
    days = ("2026-02-27", "2026-02-25", "2026-02-28", "2026-02-26")
    flats = [
        frame(20 + 3 * i + k, "flat", f"{day}T18:0{k}:00", night=day)
        for i, day in enumerate(days)
        for k in range(3)
    ]
    science = [one for one in night() if one.frame_class == "science"]
    missing = {one.input: one for one in _science([*science, *flats]).missing}
    nights = [one.name.rpartition(" ")[2] for one in missing["flat"].nearest]
    assert nights == ["2026-02-28", "2026-02-27", "2026-02-26"]


def test_the_nearest_candidates_are_named_with_the_test_that_they_failed() -> None:
    frames = [
        replace(one, keywords={**one.keywords, "binning": "2x2"}) if one.frame_class == "bias" else one
        for one in night()
        if one.frame_class != "dark"
    ]
    science = _science(frames)
    missing = next(lack for lack in science.missing if lack.input == "bias")
    assert [one.reason for one in missing.nearest] == ["binning is 2x2, wanted 1x1"]
    assert "f1..f3" in missing.nearest[0].name


def test_blank_telescope_matches_any() -> None:
    frames = [replace(one, telescope="") if one.frame_class != "science" else one for one in night()]
    assert {job.state for job in planned(frames).jobs} == {"new"}


def test_the_same_night_comes_first_then_days_with_a_worse_level() -> None:
    frames = night()
    earlier = [
        replace(
            one,
            id=100 + one.id,
            sha256=f"{100 + one.id:064d}",
            night="2026-02-27",
            obsdate=f"2026-02-27T{one.obsdate[11:]}",
        )
        for one in frames
        if one.frame_class == "bias"
    ]
    levels = {one.role: one.level for one in _science([*frames, *earlier]).associated}
    assert levels["bias"] == 0
    without = [one for one in frames if one.frame_class != "bias"]
    job = _science([*without, *earlier])
    assert {one.role: one.level for one in job.associated}["bias"] == 1
    assert job.level == 1


def _science(frames: list[FrameRecord]) -> Job:
    return next(job for job in planned(frames, "science").jobs if job.step == "science")


def test_a_flat_of_another_filter_never_fits() -> None:
    frames = [replace(one, filter="B") if one.frame_class == "flat" else one for one in night()]
    missing = {one.input: one for one in _science(frames).missing}
    assert missing["flat"].nearest[0].reason == "filter is B, wanted R"


def test_grouping_by_object_stacks_what_no_sequence_joins() -> None:
    frames = night()
    for i in range(9, 12):
        frames[i] = replace(frames[i], iobs=None, nobs=None, filter="RB"[i % 2], exptime=50.0 + i)
    flats = [replace(one, id=50 + one.id, sha256=f"{50 + one.id:064d}", filter="B") for one in frames[6:9]]
    assert steps(planned([*frames, *flats], "stack")).count("stack") == 0
    found = planned([*frames, *flats], "stack", parameters={"stack.group": "object"})
    assert len(only(found, "stack").main) == 2


def test_the_name_of_a_stack_tells_its_frames_and_their_times() -> None:
    frames = night()
    assert only(planned(frames, "stack"), "stack").name == "stack-M13-R-3x60s"
    frames[9:] = [
        replace(one, exptime=120.0 if one.id > 10 else 60.0, iobs=None, nobs=None) for one in frames[9:]
    ]
    found = planned(frames, "stack", parameters={"stack.group": "object"})
    assert only(found, "stack").name == "stack-M13-R-60+2x120s"
    endless = [replace(one, object="C/2023 A3 " * 20) for one in frames]
    name = only(planned(endless, "stack", parameters={"stack.group": "object"}), "stack").name
    assert len(name) < 60 and name.endswith("-R-60+2x120s")


def test_sequence_rules_can_be_changed_by_request() -> None:
    found = planned(night(), "stack", parameters={"stack.max_stack": 2})
    assert len(only(found, "stack").main) == 2
    assert [one.action for one in found.sets] == ["stack", "pass"]


def test_an_open_sequence_is_not_stacked_yet() -> None:
    found = planned(night()[:-1], "stack", now="2026-03-01T20:10:00")
    assert "stack" not in steps(found) and steps(found).count("science") == 2
    assert [one.closed for one in found.sets] == [False]


def test_failed_frames_leave_their_set() -> None:
    failed = _science(night()).key
    found = plan(Known(IMAGING, RECIPES, night()), Request(targets=("stack",)), failed={failed})
    assert len(only(found, "stack").main) == 2


def test_failed_frames_are_replaced_from_following_ones_where_that_is_asked() -> None:
    frames = night()[:9] + [frame(10 + i, "science", f"20:{i:02d}:00", iobs=i + 1, nobs=6) for i in range(6)]
    failed = _science(frames).key
    wanted = Request(targets=("stack",), parameters={"stack.on_failed": "refill"})
    found = plan(Known(IMAGING, RECIPES, frames), wanted, failed={failed})
    assert [len(job.main) for job in found.jobs if job.step == "stack"] == [4]
    assert [one.action for one in found.sets] == ["stack", "pass"]


def test_refused_frames_leave_their_set() -> None:
    frames = night()
    frames[10] = replace(frames[10], refused="truncated")
    found = planned(frames, "stack")
    assert len(only(found, "stack").main) == 2
    assert "1 of 3 frames failed or were refused" in found.sets[0].reason


def test_a_failed_calibration_is_replaced_by_the_next_best() -> None:
    frames = night()
    later = [
        replace(
            one,
            id=100 + one.id,
            sha256=f"{100 + one.id:064d}",
            obsdate=f"2026-03-03T{one.obsdate[11:]}",
            night="2026-03-03",
        )
        for one in frames
        if one.frame_class == "bias"
    ]
    first = only(planned(frames, "bias"), "bias").key
    known = Known(IMAGING, RECIPES, [*frames, *later])
    found = plan(known, Request(targets=("dark",)), failed={first})
    assert [one.level for one in only(found, "dark").associated] == [1]


def test_unknown_gain_asks_for_a_measurement() -> None:
    frames = [replace(one, keywords={"binning": "1x1"}) for one in night()]
    assert "gain" in steps(planned(frames, "science"))
    assert "gain" not in steps(planned(night(), "science"))


def test_selection_keeps_the_sets_that_hold_a_selected_frame() -> None:
    frames = night()
    found = planned(frames, "stack", since="2026-03-01T20:02:00")
    assert len(only(found, "stack").main) == 3
    assert planned(frames, "stack", night="2026-03-02").jobs == ()
    assert planned(frames, "stack", camera="T1/C1") == planned(frames, "stack", camera="C1")


def without_files(frames: Sequence[FrameRecord], *ids: int) -> list[FrameRecord]:
    """The same frames, of which these have no files yet."""
    return [replace(one, path=None, sha256=None) if one.id in ids else one for one in frames]


def test_rows_without_files_make_no_jobs_and_their_sets_say_why() -> None:
    frames = without_files(night(), *range(1, 100))
    found = planned(frames)
    assert found.jobs == ()
    assert found.sets and all(one.job is None for one in found.sets)
    (stack,) = (one for one in found.sets if one.action == "stack")
    assert stack.reason == "frames 1 to 3 of 3; none of its frames has a file yet"


def test_a_row_without_a_file_keeps_no_master_from_being_made() -> None:
    frames = night()
    biases = [one.id for one in frames if one.frame_class == "bias"]
    found = planned(without_files(frames, biases[0]), "bias")
    (bias,) = found.jobs
    assert bias.state == "new" and [one.frame for one in bias.main] == biases[1:]


def test_a_set_waits_for_the_file_of_a_row_and_its_other_frames_are_calibrated() -> None:
    frames = night()
    lights = [one.id for one in frames if one.frame_class == "science"]
    found = planned(without_files(frames, lights[0]))
    calibrated = [one.frame for job in found.jobs if job.step == "science" for one in job.main]
    assert calibrated == lights[1:]
    stack = only(found, "stack")
    assert (stack.state, stack.reason) == ("incomplete", f"f{lights[0]} has no file yet")
    assert {key for job in found.jobs for key in job.parents} <= {job.key for job in found.jobs}
    # Nothing that lies further away would help it: a drain need not look for more.
    assert not stack.lacks_inputs and is_sure(stack, 0)


def test_what_takes_all_products_of_an_object_does_without_rows_that_have_no_file() -> None:
    frames = night()
    lights = [one.id for one in frames if one.frame_class == "science"]
    request = {"parameters": {"stack.group": "object"}}
    found = planned(without_files(frames, lights[0]), "stack", **request)
    assert only(found, "stack").state == "new" and len(only(found, "stack").main) == len(lights) - 1


def test_a_key_is_the_digest_of_all_that_the_result_depends_on() -> None:
    frames = [replace(one, keywords={**one.keywords, "profile": "lab"}) for one in night()]
    found = plan(Known(IMAGING, RECIPES, frames, detectors={"lab": "digest of lab"}), Request())
    for job in found.jobs:
        roles: dict[str, list[str]] = {}
        for one in job.inputs:
            roles.setdefault(one.role, []).append(one.identity)
        whole = {
            "recipe": job.recipe,
            "version": job.version,
            "parameters": {name: one.value for name, one in job.parameters.items()},
            "inputs": roles,
            "detectors": [] if job.step == "stack" else ["digest of lab"],
        }
        assert job.key == digest(whole)


def test_digests_are_the_same_everywhere_and_always() -> None:
    known = "3eb13c6cca6613252136bae28bc613b4f460794dfc3d90898d2d3213b4a38809"
    assert digest({"b": [1, 2.5, None], "a": {"d": "é", "c": True}}) == known


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            {"targets": ("stak",)},
            "stack_blue, stack_object, object; did you mean 'stack'?",
        ),
        ({"parameters": {"stack.sigm": 3}}, "unknown parameter 'sigm'"),
        ({"parameters": {"stak.sigma": 3}}, "unknown task 'stak'"),
        ({"parameters": {"sigma": 3}}, "is not of the form STEP.NAME"),
        ({"parameters": {"stack.group": "objekt"}}, "unknown group 'objekt'; known: sequence, object"),
        ({"parameters": {"stack.max_stack": "many"}}, "parameter 'stack.max_stack'"),
    ],
)
def test_what_is_not_known_is_refused_with_what_would_have_worked(
    request_: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=r"unknown|form|parameter") as error:
        plan(Known(IMAGING, RECIPES, night()), Request(**request_))
    assert message in str(error.value)


def test_without_any_flat_a_frame_is_calibrated_at_level_3_and_says_so() -> None:
    frames = [one for one in night() if one.frame_class != "flat"]
    science = _science(frames)
    assert (science.state, science.level, science.worst_level) == ("new", 3, 3)
    assert [(lack.input, lack.level) for lack in science.compromises] == [("flat", 3)]
    assert "not divided" in science.compromises[0].reason
    blue = [replace(one, filter="B") if one.frame_class == "flat" else one for one in night()]
    assert _science(blue).state == "incomplete"


def test_a_dark_of_its_own_time_is_bias_and_dark_and_only_that() -> None:
    frames = [one for one in night() if one.frame_class != "bias"]
    flat = next(one for one in frames if one.frame_class == "flat")
    dark_flat = replace(flat, id=90, frame_class="dark", filter="", sha256=f"{90:064d}")
    science = _science([*frames, dark_flat])
    assert [item.role for item in science.associated] == ["dark", "flat"]
    assert (science.state, science.level) == ("new", 1)
    unknown = [
        replace(one, exptime=None) if one.frame_class in ("science", "dark") else one for one in frames
    ]
    assert _science(unknown).state == "incomplete"


def test_a_finished_dark_that_holds_its_bias_is_no_rate() -> None:
    def made_elsewhere(*, subtracted: bool) -> list[FrameRecord]:
        dark = next(one for one in night() if one.frame_class == "dark")
        master = replace(
            dark, frame_class="master_dark", keywords={**dark.keywords, "bias_subtracted": subtracted}
        )
        return [*(one for one in night() if one.frame_class != "dark"), master]

    assert [item.role for item in _science(made_elsewhere(subtracted=True)).associated] == [
        "bias",
        "dark",
        "flat",
    ]
    assert [item.role for item in _science(made_elsewhere(subtracted=False)).associated] == ["bias", "flat"]
    biasless = [one for one in made_elsewhere(subtracted=False) if one.frame_class != "bias"]
    assert "dark" in [item.role for item in _science(biasless).associated]
