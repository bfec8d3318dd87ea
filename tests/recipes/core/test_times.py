"""Times of frames, alone and together: the truth is written down, and asked for in the FITS standard's keywords."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from ccdflow.recipes.core.times import MJD_EPOCH, Span, moment, span_of, time_cards

NINE = datetime(2026, 3, 1, 21, 0)


def span(minutes: float, exptime: float | None, **more: Any) -> Span:
    return Span(NINE + timedelta(minutes=minutes), exptime=exptime, **more)


def told(*spans: Span) -> dict[str, object]:
    return {name: value for name, (value, _) in time_cards(spans).items()}


def test_exposures_of_different_length_are_weighted_by_it() -> None:
    cards = told(span(0, 30.0), span(2, 30.0), span(6, 90.0), span(12, 90.0))
    assert cards["DATE-BEG"] == cards["DATE-OBS"] == "2026-03-01T21:00:00"
    assert cards["DATE-END"] == "2026-03-01T21:13:30"
    # (0.25 + 2.25) min * 30 s + (6.75 + 12.75) min * 90 s over 240 s is 7.625 min.
    assert cards["DATE-AVG"] == "2026-03-01T21:07:37.5"
    assert cards["MJD-AVG"] == pytest.approx(61100.875 + 7.625 / 1440, abs=1e-8)
    assert (cards["TELAPSE"], cards["XPOSURE"]) == (810.0, 240.0)


def test_the_earliest_frame_begins_whatever_the_order() -> None:
    assert told(span(5, 60.0), span(0, 60.0))["DATE-OBS"] == "2026-03-01T21:00:00"


def test_an_unknown_exposure_time_leaves_unknown_what_follows_from_it() -> None:
    cards = told(span(0, 60.0), span(5, None))
    assert cards["DATE-BEG"] == "2026-03-01T21:00:00"
    assert not {"DATE-END", "MJD-AVG", "TELAPSE", "XPOSURE"} & cards.keys()


def test_an_unknown_start_leaves_the_exposure_time_only() -> None:
    assert told(span(0, 60.0), Span(exptime=60.0)) == {"XPOSURE": 120.0}


def test_biases_have_a_middle_though_they_have_no_length() -> None:
    cards = told(span(0, 0.0), span(1, 0.0), span(5, 0.0))
    assert (cards["DATE-AVG"], cards["XPOSURE"]) == ("2026-03-01T21:02:00", 0.0)


def test_times_of_two_scales_are_not_put_together() -> None:
    assert told(span(0, 60.0), span(5, 60.0, scale="TAI")) == {"XPOSURE": 120.0}
    assert told(span(0, 60.0, scale="TAI"))["TIMESYS"] == "TAI"


def test_airmass_is_the_mean_over_the_light() -> None:
    cards = told(span(0, 60.0, airmass=1.0), span(5, 180.0, airmass=2.0))
    assert cards["AIRMASS"] == 1.75
    assert "AIRMASS" not in told(span(0, 60.0, airmass=1.0), span(5, 180.0))


def test_a_stack_of_stacks_has_the_middle_of_all_their_light() -> None:
    parts = [span(0, 30.0), span(2, 90.0)], [span(9, 60.0), span(30, 20.0)]
    stacks = [span_of(told(*part)) for part in parts]
    direct, twice = told(*parts[0], *parts[1]), told(*stacks)
    # A date holds microseconds: the middle of a middle is rounded once more.
    assert twice["MJD-AVG"] == pytest.approx(direct["MJD-AVG"], abs=1e-8)
    for name in ("DATE-BEG", "DATE-END", "TELAPSE", "XPOSURE"):
        assert twice[name] == direct[name]


@pytest.mark.parametrize(
    ("header", "begin", "exptime"),
    [
        ({"DATE-OBS": "2026-03-01T21:00:00", "EXPTIME": 60}, NINE, 60.0),
        ({"DATE-OBS": "2026-03-01T22:00:00+01:00", "EXPOSURE": 60.0}, NINE, 60.0),
        ({"DATE-OBS": "2026-03-01T21:00:00Z", "EXPTIME": 30.0, "TOTEXP": 90.0}, NINE, 90.0),
        ({"DATE-OBS": "2026-03-01", "MJD-OBS": 61100.875}, NINE, None),
        ({"DATE-OBS": "2026-03-01", "EXPTIME": "60"}, None, None),
        ({"DATE-OBS": "yesterday", "EXPTIME": -1.0}, None, None),
        ({"MJD-OBS": True, "EXPTIME": float("nan")}, None, None),
        ({}, None, None),
    ],
)
def test_headers_of_other_programs(
    header: dict[str, object], begin: datetime | None, exptime: float | None
) -> None:
    read = span_of(header)
    assert (read.begin, read.exptime) == (begin, exptime)


def test_a_date_alone_is_no_moment() -> None:
    assert moment("2026-03-01") is None
    assert moment(61100.875) is None
    assert MJD_EPOCH + timedelta(days=61100.875) == NINE


@pytest.mark.parametrize(
    ("airmass", "wanted"), [(1.2, 1.2), (0.998, 0.998), (0.0, None), (-1.0, None), ("1.4", None)]
)
def test_a_placeholder_for_the_airmass_is_none(airmass: Any, wanted: float | None) -> None:
    assert span_of({"AIRMASS": airmass}).airmass == wanted
