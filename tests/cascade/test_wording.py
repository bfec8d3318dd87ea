"""Names that tell what something is of."""

import pytest

from ccdflow.cascade.wording import exposures


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
