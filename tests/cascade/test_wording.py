"""Names that tell what something is of."""

import pytest

from ccdflow.cascade.wording import exposures, unknown


@pytest.mark.parametrize(
    ("exptimes", "name"),
    [
        ([60.0], "60s"),
        ([120.0] * 3, "3x120s"),
        ([120.0, 60.0, 120.0], "60+2x120s"),
        ([59.98, 60.01, 60.0], "3x60s"),
        ([0.5, 0.5], "2x0.5s"),
        ([1e-5], "1e-05s"),
        ([1800.0, 3600.0], "1800+3600s"),
        ([0.0, 0.0], "2x0s"),
        ([30.0, 60.0, None], "3frames"),
        ([], "0frames"),
        ([float(n) for n in range(1, 13)], "12x1-12s"),
    ],
)
def test_a_name_tells_how_many_exposures_of_which_length(exptimes: list[float | None], name: str) -> None:
    assert exposures(exptimes) == name


def test_names_stay_short() -> None:
    assert max(len(exposures([10.0**k + n for n in range(200)])) for k in range(6)) < 40


@pytest.mark.parametrize(
    ("name", "known", "nearest"),
    [
        ("cam1", ["CAM1", "CAM2"], "CAM1"),
        ("master_BIAS", ["master_bias", "science"], "master_bias"),
        ("ut4", ["UT4", "ut3"], "ut3"),
        ("stak", ["bias", "stack"], "stack"),
    ],
)
def test_a_name_in_another_case_has_a_nearest_one(name: str, known: list[str], nearest: str) -> None:
    assert unknown("name", name, known).endswith(f"; did you mean {nearest!r}?")


def test_a_name_like_no_other_has_no_nearest_one() -> None:
    assert unknown("camera", "guider", ["CAM1", "CAM2"]) == "unknown camera 'guider'; known: CAM1, CAM2"
