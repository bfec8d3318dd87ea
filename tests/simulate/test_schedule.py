from collections import Counter
from datetime import timedelta
from itertools import groupby, pairwise

import pytest

from ccdflow.simulate.nights import GOTO, NIGHTS, SMALL
from ccdflow.simulate.schedule import Exposure, calibration_exposures, science_exposures


def _of(exposures: list[Exposure], label: str) -> list[Exposure]:
    return [exposure for exposure in exposures if exposure.camera.label == label]


def _runs(exposures: list[Exposure]) -> list[tuple[str, str, int]]:
    """Target, filter and length of what follows each other, cut wherever iobs starts again."""
    runs: list[tuple[str, str, int]] = []
    for exposure in exposures:
        if exposure.iobs == 1:
            runs.append((exposure.object, exposure.filter, 0))
        target, name, count = runs[-1]
        assert (target, name, count + 1) == (exposure.object, exposure.filter, exposure.iobs)
        runs[-1] = (target, name, count + 1)
    return runs


@pytest.mark.parametrize(("clouds", "number"), [("first", 788), ("none", 786), ("all", 809)])
def test_goto_night_has_the_right_number_of_science_frames(clouds, number):
    assert len(science_exposures(GOTO, clouds)) == number


def test_goto_cameras_take_117_and_106_frames_without_clouds():
    counts = Counter(exposure.camera.label for exposure in science_exposures(GOTO, "none"))
    assert counts == {f"GOTO1-UT{n}": 117 for n in (1, 2, 3, 4)} | {f"GOTO2-UT{n}": 106 for n in (1, 2, 4)}


def test_goto_night_on_its_first_camera_follows_the_list_of_targets():
    field = [("L", 3), ("B", 1), ("V", 1), ("R", 1)]
    visits = [("L", 2)] * 3 + [("B", 1), ("V", 1), ("R", 1)]
    expected = [("GRB", *sequence) for sequence in field] + [("Cepheid", "R", 20)]
    expected += [("GW123456", *sequence) for sequence in (("L", 6), ("B", 2), ("V", 2), ("R", 2))]
    expected += [(f"Field{number}", *sequence) for number in (23, 44, 56) for sequence in field]
    expected += [("Field79", "L", 2)] + [("Field79", *sequence) for sequence in field]
    expected += [("And123", "L", 12), ("Peg54", "L", 3), ("Cas54", "L", 4)]
    expected += [(f"Field{number}", *sequence) for number in (88, 123, 135, 77) for sequence in visits]
    assert _runs(_of(science_exposures(GOTO, "first"), "GOTO1-UT1")) == expected


def test_filters_that_a_camera_lacks_are_skipped():
    exposures = science_exposures(GOTO, "first")
    assert {exposure.filter for exposure in exposures if exposure.camera.telescope == "GOTO1"} == {
        "L",
        "B",
        "V",
        "R",
    }
    assert {exposure.filter for exposure in exposures if exposure.camera.telescope == "GOTO2"} == {
        "L",
        "G",
        "R",
    }


def test_goto_night_begins_at_its_time_on_every_camera():
    exposures = science_exposures(GOTO, "first")
    for camera in GOTO.cameras:
        assert _of(exposures, camera.label)[0].obsdate == "2018-09-09T19:35:30"


def test_exposures_of_a_sequence_follow_each_other_after_exposure_time_and_readout():
    cepheid = [exposure for exposure in science_exposures(GOTO, "none") if exposure.object == "Cepheid"]
    first = [exposure.start for exposure in _of(cepheid, "GOTO2-UT4")]
    assert [b - a for a, b in pairwise(first)] == [timedelta(seconds=27)] * 19


def test_clouds_cut_field_79_after_two_frames_and_it_is_taken_again_90_minutes_later():
    exposures = _of(science_exposures(GOTO, "first"), "GOTO1-UT1")
    field = [
        (exposure.obsdate[11:], exposure.iobs, exposure.nobs)
        for exposure in exposures
        if exposure.object == "Field79"
    ]
    assert field[:5] == [
        ("21:09:42", 1, 3),
        ("21:11:54", 2, 3),
        ("22:43:00", 1, 3),
        ("22:45:12", 2, 3),
        ("22:47:24", 3, 3),
    ]


@pytest.mark.parametrize("night", NIGHTS.values(), ids=NIGHTS)
def test_nobody_begins_an_exposure_under_clouds(night):
    over = night.clouds.at + night.clouds.duration
    exposures = science_exposures(night, "all")
    assert not [exposure for exposure in exposures if night.clouds.at <= exposure.start < over]
    assert [exposure for exposure in exposures if exposure.start == over]


def test_clouds_on_the_first_camera_leave_the_others_as_they_were():
    first, none = science_exposures(GOTO, "first"), science_exposures(GOTO, "none")
    for camera in GOTO.cameras[1:]:
        assert _of(first, camera.label) == _of(none, camera.label)


def test_clouds_on_all_cameras_cut_another_sequence_of_the_mount_that_is_ahead():
    runs = _runs(_of(science_exposures(GOTO, "all"), "GOTO2-UT1"))
    assert [count for target, _, count in runs if target == "And123"] == [5, 12]


def test_small_night_has_the_sequences_that_the_rules_treat_differently():
    exposures = science_exposures(SMALL, "first")
    assert _runs(_of(exposures, "SIM1-CAM1")) == [
        ("Field12", "L", 3),
        ("Field12", "R", 1),
        ("Field34", "L", 2),
        ("Field34", "L", 3),
        ("Nebula", "L", 6),
        ("Variable", "R", 13),
    ]
    assert _runs(_of(exposures, "SIM1-CAM2")) == [
        ("Field12", "L", 3),
        ("Field12", "G", 1),
        ("Field34", "L", 3),
        ("Nebula", "L", 6),
    ]


@pytest.mark.parametrize(("night", "flats"), [(SMALL, 4), (GOTO, 3)], ids=["small", "goto"])
def test_every_camera_gets_its_calibrations(night, flats):
    exposures = calibration_exposures(night)
    for camera in night.cameras:
        own = _of(exposures, camera.label)
        counts = Counter((exposure.imagetype, exposure.filter) for exposure in own)
        wanted = {("bias", ""): 5, ("dark", ""): 3} | {("flat", name): flats for name in camera.filters}
        assert counts == wanted


@pytest.mark.parametrize("night", NIGHTS.values(), ids=NIGHTS)
def test_no_camera_exposes_twice_at_a_time(night):
    exposures = calibration_exposures(night) + science_exposures(night, "all")
    for camera in night.cameras:
        for exposure, following in pairwise(_of(exposures, camera.label)):
            assert following.start >= exposure.start + timedelta(seconds=exposure.exptime + night.readout)


def test_flats_are_exposed_longer_as_the_sky_fades_and_keep_their_level():
    flats = [exposure for exposure in calibration_exposures(SMALL) if exposure.imagetype == "flat"]
    for _, group in groupby(sorted(flats, key=_camera_and_filter), key=_camera_and_filter):
        own = list(group)
        times = [exposure.exptime for exposure in own]
        assert times == sorted(set(times))
        assert all(exposure.twilight == pytest.approx(26_000, rel=0.1) for exposure in own)
        assert len({exposure.twilight for exposure in own}) == len(own)


def _camera_and_filter(exposure: Exposure) -> tuple[str, str]:
    return exposure.camera.label, exposure.filter
