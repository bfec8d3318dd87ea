"""What the default cascade groups into one master, and which master it takes, by what frames were set to."""

from dataclasses import replace
from typing import Any

import pytest
from tests.cascade.planning.test_planner import IMAGING, frame, only, planned, steps

from ccdflow.cascade.planning.areas import Window
from ccdflow.cascade.planning.jobs import Group, Job
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.reach import is_sure
from ccdflow.cascade.records import FrameRecord, Value
from ccdflow.cascade.sequences.grouping import GroupSpec, group_frames

YESTERDAY = {"night": "2026-02-28"}


def some(
    first: int, kind: str, keywords: dict[str, Value], count: int = 3, **changes: Any
) -> list[FrameRecord]:
    """Frames of one class with further keywords, some minutes after six."""
    day = "2026-02-28T" if changes.get("night") == "2026-02-28" else "2026-03-01T"
    hour = 20 if kind == "science" else 18
    frames = [
        frame(first + i, kind, f"{day}{hour}:{(first + i) % 60:02d}:00", **changes) for i in range(count)
    ]
    return [replace(one, keywords={**one.keywords, **keywords}) for one in frames]


def night(bias: dict[str, Value], flat: dict[str, Value], science: dict[str, Value]) -> list[FrameRecord]:
    return [*some(1, "bias", bias), *some(11, "flat", flat), *some(41, "science", science, 1)]


def main(plan: Plan, step: str) -> list[list[int]]:
    return [[frame.id for frame in job.group.frames] for job in plan.jobs if job.step == step]


def taken(plan: Plan, role: str) -> tuple[list[int], int | None]:
    """Frames of the master that the science frame takes in a role, and the level."""
    science = only(plan, "science")
    (item,) = [item for item in science.associated if item.role == role]
    (job,) = [job for job in plan.jobs if job.key == item.job]
    return [frame.id for frame in job.group.frames], item.level


NO_DARK = "no dark was taken; the dark signal stays in the frame"


def told(job: Job) -> list[str]:
    return [lack.reason for lack in job.compromises if lack.reason != NO_DARK]


def test_a_camera_without_darks_is_told_and_one_with_darks_that_do_not_fit_is_incomplete() -> None:
    cold = {"ccd_temperature": -20.0}
    frames = night(cold, cold, cold)
    science = only(planned(frames, "science"), "science")
    assert [lack.reason for lack in science.compromises] == [NO_DARK] and not science.missing
    warm = some(21, "dark", {"ccd_temperature": 5.0})
    science = only(planned([*frames, *warm], "science"), "science")
    assert {lack.input for lack in science.missing} == {"dark"}


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ({"offset": "10"}, {"offset": "50"}),
        ({"gain_setting": "0"}, {"gain_setting": "100"}),
        ({"gain": 1.5}, {"gain": 0.8}),
        ({"readout_mode": "fast"}, {"readout_mode": "slow"}),
        ({"readout_speed": "1 MHz"}, {"readout_speed": "5 MHz"}),
        ({"amplifiers": "11 12"}, {"amplifiers": "12"}),
        ({"binning": "1x1"}, {"binning": "2x2"}),
        ({"window": "[1:64,1:48]"}, {"window": "[101:164,1:48]"}),
        ({"cooler": "off", "ccd_temperature": 20.0}, {"ccd_temperature": 20.0}),
        ({"ccd_temperature": 5.0}, {"ccd_temperature": -20.0}),
    ],
    ids=lambda setting: "+".join(setting),
)
def test_frames_of_two_settings_are_never_one_master_and_each_takes_its_own(
    low: dict[str, Value], high: dict[str, Value]
) -> None:
    frames = [*some(1, "bias", low), *some(5, "bias", high), *some(21, "dark", low), *some(25, "dark", high)]
    frames += [*some(11, "flat", low), *some(15, "flat", high), *some(41, "science", high, 1)]
    frames = [replace(one, keywords={"shape": "48x64", **one.keywords}) for one in frames]
    plan = planned(frames, "all")
    assert main(plan, "bias") == [[1, 2, 3], [5, 6, 7]]
    assert main(plan, "dark") == [[21, 22, 23], [25, 26, 27]]
    assert main(plan, "flat") == [[11, 12, 13], [15, 16, 17]]
    assert [taken(plan, role)[0][0] for role in ("bias", "dark", "flat")] == [5, 25, 15]


def test_a_dark_of_the_right_temperature_of_yesterday_goes_before_one_of_today() -> None:
    cold, warm = {"ccd_temperature": -20.0}, {"ccd_temperature": 5.0}
    frames = [*night(cold, cold, cold), *some(21, "dark", warm), *some(25, "dark", cold, **YESTERDAY)]
    assert taken(planned(frames, "science"), "dark") == ([25, 26, 27], 1)


def test_where_no_dark_fits_a_frame_is_incomplete_and_told_what_is_in_the_way() -> None:
    cold = {"ccd_temperature": -20.0}
    frames = [*night(cold, cold, cold), *some(21, "dark", {"ccd_temperature": 5.0, "offset": "10"})]
    science = only(planned(frames, "science"), "science")
    assert science.state == "incomplete"
    (lack,) = [lack for lack in science.missing if lack.input == "dark"]
    assert [(near.name, near.reason) for near in lack.nearest] == [
        ("dark f21..f23 of 2026-03-01", "sensor_temperature is 5, wanted -20 within 1")
    ]


def test_candidates_of_the_own_detector_are_named_before_closer_ones_of_others() -> None:
    frames = [*night({}, {}, {}), *some(21, "dark", {"offset": "10"}, **YESTERDAY)]
    frames = [replace(one, keywords={"offset": "50", **one.keywords}) for one in frames]
    # More of them than are looked at, all of this night.
    for number in range(40):
        frames += some(100 + 5 * number, "dark", {"offset": "50"}, telescope=f"SIM{number + 2}")
    science = only(planned(frames, "science"), "science")
    (lack,) = [lack for lack in science.missing if lack.input == "dark"]
    own, *others = [near.reason for near in lack.nearest]
    assert own == "offset is 10, wanted 50" and lack.nearest[0].name == "dark f21..f23 of 2026-02-28"
    assert len(others) == 2 and all(reason.startswith("telescope is SIM") for reason in others)


def test_a_frame_of_a_camera_without_darks_and_a_flat_go_on_without() -> None:
    cold = {"ccd_temperature": -20.0}
    assert only(planned(night(cold, cold, cold), "science"), "science").state == "new"
    frames = [*night(cold, {"ccd_temperature": -10.0}, cold), *some(21, "dark", cold)]
    flat = only(planned(frames, "science"), "flat")
    assert flat.state == "new" and not [item for item in flat.inputs if item.role == "dark"]


def test_the_tolerances_are_parameters() -> None:
    frames = [*night({}, {}, {"ccd_temperature": -20.0}), *some(21, "dark", {"ccd_temperature": -18.0})]
    assert only(planned(frames, "science"), "science").state == "incomplete"
    assert only(planned(frames, "science", parameters={"dark_temperature": 2}), "science").state == "new"


@pytest.mark.parametrize(
    "key", ["offset", "gain_setting", "readout_mode", "readout_speed", "amplifiers", "window"]
)
def test_a_blank_fits_at_a_worse_level_with_a_word(key: str) -> None:
    value = "[1:64,1:48]" if key == "window" else "50"
    frames = night({key: ""}, {key: value}, {key: value})
    plan = planned(frames, "science")
    assert taken(plan, "bias") == ([1, 2, 3], 2) and taken(plan, "flat")[1] == 0
    assert told(only(plan, "science")) == [f"bias fits less than planned: {key} is blank, wanted {value}"]
    # Only what is lacking may lie further away; what fits less than planned has a level, which tells.
    known = tuple(lack for lack in only(plan, "science").compromises if lack.reason != NO_DARK)
    sure = replace(only(plan, "science"), without=known)
    assert is_sure(sure, 2) and not is_sure(sure, 1)


def test_all_that_is_told_goes_before_a_blank() -> None:
    frames = [*night({"offset": ""}, {"offset": "50"}, {"offset": "50"})]
    frames += some(5, "bias", {"offset": "50"}, **YESTERDAY)
    assert taken(planned(frames, "science"), "bias") == ([5, 6, 7], 1)


def test_a_bias_of_another_temperature_fits_at_a_worse_level_with_a_word() -> None:
    cold = {"ccd_temperature": -20.0}
    plan = planned(night({"ccd_temperature": -5.0}, cold, cold), "science")
    assert taken(plan, "bias") == ([1, 2, 3], 2)
    said = "bias fits less than planned: sensor_temperature is -5, wanted -20 within 5"
    assert told(only(plan, "science")) == [said]


@pytest.mark.parametrize(
    ("angle", "fits"), [(0.5, True), (359.0, True), (5.0, False), (180.0, False), (None, True)]
)
def test_a_flat_fits_within_two_degrees_of_its_rotator(angle: float | None, fits: bool) -> None:
    frames = night({}, {"rotator": 0.0}, {} if angle is None else {"rotator": angle})
    science = only(planned(frames, "science"), "science")
    assert (science.state == "new") is fits
    if not fits:
        (lack,) = [lack for lack in science.missing if lack.nearest and lack.input == "flat"][:1]
        assert lack.nearest[0].reason == f"rotator is 0, wanted {angle:g} within 2"


def test_flats_of_two_angles_are_two_masters_and_0_is_close_to_360() -> None:
    frames = [*some(1, "bias", {}), *some(41, "science", {"rotator": 90.02}, 1)]
    for first, angle in ((11, 359.6), (14, 0.3), (17, 90.0)):
        frames += some(first, "flat", {"rotator": angle})
    plan = planned(frames, "all")
    assert main(plan, "flat") == [[11, 12, 13, 14, 15, 16], [17, 18, 19]]
    assert taken(plan, "flat")[0] == [17, 18, 19]


def test_exposure_times_as_they_were_measured_are_one_group() -> None:
    times = (59.998, 60.0, 60.004, 60.0035, 59.9985)
    frames = [
        frame(i, "dark", f"18:{i:02d}:00", exptime=time) for i, time in enumerate((*times, 30.0, 30.01))
    ]
    assert main(planned([*frames, *some(11, "bias", {})], "dark"), "dark") == [[0, 1, 2, 3, 4], [5, 6]]
    by_object = GroupSpec(by=("object", "exptime"))
    assert [len(group) for group in group_frames(frames, by_object).groups] == [5, 2]


def test_a_slow_drift_is_cut_and_never_chained() -> None:
    frames = [
        frame(i, "dark", f"18:{i:02d}:00", keywords={"ccd_temperature": -20 + 0.5 * i}) for i in range(50)
    ]
    groups = group_frames(frames, IMAGING.sources["raw_dark"].group).groups
    assert len(groups) == 17
    for group in groups:
        degrees = [float(one.keywords["ccd_temperature"]) for one in group]
        assert max(degrees) - min(degrees) <= 1


def test_groups_are_cut_where_the_gaps_are_widest() -> None:
    degrees = [-20.6, -20.0, -19.9, -19.3, -19.2, -18.9]
    frames = [
        frame(i, "dark", f"18:{i:02d}:00", keywords={"ccd_temperature": t}) for i, t in enumerate(degrees)
    ]
    groups = group_frames(frames, IMAGING.sources["raw_dark"].group).groups
    assert [[one.id for one in group] for group in groups] == [[0, 1, 2], [3, 4, 5]]


def test_the_middle_of_a_group_is_compared() -> None:
    frames = [
        frame(i, "flat", "18:00:00", keywords={"rotator": angle}) for i, angle in enumerate((359.0, 0.0, 1.0))
    ]
    assert Group(tuple(frames)).number("rotator") == 0.0
    darks = [
        frame(i, "dark", "18:00:00", keywords={"ccd_temperature": t})
        for i, t in enumerate((-20.4, -19.6, -19.8))
    ]
    assert Group(tuple(darks)).number("sensor_temperature") == -19.8


FULL = {"shape": "480x640", "window": "[1:640,1:480]"}


@pytest.mark.parametrize(
    ("science", "obstacle"),
    [
        ({"shape": "48x64", "window": "[101:164,201:248]"}, None),
        (
            {"shape": "48x64", "window": "[600:663,201:248]"},
            "window is [1:640,1:480], which does not hold [600:663,201:248]",
        ),
        ({"shape": "48x64"}, "size is 480x640, wanted 48x64, whose place in it is not told"),
    ],
)
def test_masters_of_the_full_frame_serve_a_window_that_tells_its_place(
    science: dict[str, Value], obstacle: str | None
) -> None:
    job = only(planned(night(FULL, FULL, science), "science"), "science")
    assert (job.state == "new") is (obstacle is None)
    if obstacle is not None:
        assert {near.reason for lack in job.missing for near in lack.nearest if lack.input == "flat"} == {
            obstacle
        }


def test_a_full_frame_that_does_not_tell_its_place_is_all_of_the_detector() -> None:
    science = {"shape": "48x64", "window": "[101:164,201:248]"}
    plan = planned(night({"shape": "480x640"}, FULL, science), "science")
    assert taken(plan, "bias")[1] == 2
    said = "bias fits less than planned: window is blank (size 480x640), wanted [101:164,201:248]"
    assert told(only(plan, "science")) == [said]


def test_windows_of_one_size_at_two_places_are_no_master_and_fit_nothing_else() -> None:
    here, there = ({"shape": "48x64", "window": f"[{x}:{x + 63},1:48]"} for x in (1, 101))
    plan = planned([*night(here, here, here), *some(5, "bias", there)], "all")
    assert main(plan, "bias") == [[1, 2, 3], [5, 6, 7]] and taken(plan, "bias")[0] == [1, 2, 3]
    assert only(planned(night(there, there, here), "science"), "science").state == "incomplete"


def test_a_window_is_counted_in_binned_pixels_of_the_master() -> None:
    assert Window(1, 128, 1, 96).cut(Window(41, 56, 21, 30), (2, 2)) == (20, 10)
    with pytest.raises(ValueError, match="2x2 pixels none begins where"):
        Window(1, 128, 1, 96).cut(Window(42, 57, 21, 30), (2, 2))


def test_every_class_of_calibration_is_planned_in_the_order_of_steps() -> None:
    assert steps(planned(night({}, {}, {}), "science")) == ["bias", "flat", "science"]
