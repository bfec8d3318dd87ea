"""A header that says what was corrected, and nothing beside it that contradicts."""

from typing import Any

import pytest

from ccdflow.cascade.headers.amended import amended_detector, amended_header
from ccdflow.cascade.headers.amplifiers import detector
from ccdflow.cascade.headers.classify import describe
from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped

INSTRUMENTS = load_instruments([shipped("instruments")])
HEADER = {
    "IMAGETYP": "Light Frame",
    "DATE-OBS": "2026-03-01",
    "TIME-OBS": "20:00:00",
    "MJD-OBS": 61100.8333,
    "JD": 2461101.3333,
    "DATE-END": "2026-03-01T20:01:00",
    "EXPTIME": 60.0,
    "EXPOSURE": 60.0,
    "FILTER1": "V",
    "FILTER2": "clear",
    "OBJECT": "M13",
    "GAIN": 1.5,
    "RDNOISE": 7.0,
    "CCD-TEMP": -20.0,
    "OBSERVER": "Ada",
}


def generic() -> Instrument:
    (found,) = (instrument for instrument in INSTRUMENTS if instrument.name == "generic")
    return found


def amended(**values: Any) -> dict[str, Any]:
    return amended_header(HEADER, generic(), values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("filter", "R"),
        ("object", "M 31"),
        ("exptime", 30.0),
        ("obsdate", "2026-03-02T21:00:00.5"),
        ("telescope", "T9"),
        ("camera", "C9"),
        ("instrument", "I9"),
    ],
)
def test_what_was_corrected_is_read_from_the_header(name: str, value: Any) -> None:
    before, after = describe(HEADER, None, INSTRUMENTS), describe(amended(**{name: value}), None, INSTRUMENTS)
    assert getattr(after, name) == value
    others = {"filter", "object", "exptime", "obsdate", "telescope", "camera", "instrument"} - {name}
    assert {other: getattr(before, other) for other in others} == {
        other: getattr(after, other) for other in others
    }
    assert {doubt.kind for doubt in after.doubts} <= {doubt.kind for doubt in before.doubts}


@pytest.mark.parametrize(
    ("name", "value"), [("gain", 2.5), ("read_noise", 9.0), ("ccd_temperature", -10.0), ("OBSERVER", "Bo")]
)
def test_keywords_too(name: str, value: Any) -> None:
    assert describe(amended(**{name: value}), None, INSTRUMENTS).keywords[name] == value


def test_a_class(name: str = "class") -> None:
    assert describe(amended(**{name: "flat"}), None, INSTRUMENTS).frame_class == "flat"


def test_another_time_is_another_night_and_no_card_tells_the_old_one() -> None:
    header = amended(obsdate="2026-03-05T21:00:00")
    assert describe(header, None, INSTRUMENTS).night == "2026-03-05"
    assert header["DATE-OBS"] == "2026-03-05T21:00:00"
    assert header["MJD-OBS"] == pytest.approx(61104.875)
    assert header.keys().isdisjoint({"TIME-OBS", "JD", "DATE-END"})


def test_a_time_is_utc_whatever_the_zone_of_the_headers() -> None:
    away = generic().model_copy(update={"site": generic().site.model_copy(update={"time_zone": "+05:00"})})
    header = amended_header(HEADER, away, {"obsdate": "2026-03-05T21:00:00"})
    assert describe(header, None, [away]).obsdate == "2026-03-05T21:00:00"


def test_what_is_not_known_has_no_card() -> None:
    header = amended(exptime=None, filter=None)
    assert header.keys().isdisjoint({"EXPTIME", "EXPOSURE", "FILTER1", "FILTER2"})
    assert describe(header, None, INSTRUMENTS).exptime is None


def test_the_header_itself_is_left_alone() -> None:
    before = dict(HEADER)
    amended(filter="R", obsdate="2026-03-05T21:00:00")
    assert before == HEADER


def test_a_corrected_gain_is_that_of_all_amplifiers() -> None:
    known = detector(HEADER, generic(), (100, 120))
    corrected = amended_detector(known, {"gain": 2.5, "saturation": None, "filter": "R"})
    (amplifier,) = corrected.amplifiers
    assert (amplifier.gain, amplifier.read_noise) == (2.5, 7.0)
    assert amplifier.saturation == known.amplifiers[0].saturation
    assert amended_detector(known, {"filter": "R"}) is known


def test_a_corrected_mosaic_is_that_of_the_first_pixels_whatever_else_the_header_tells() -> None:
    cards = {"BAYERPAT": "GRBG", "XBAYROFF": 1, "TRIMSEC": "[2:300,1:200]", "XORGSUBF": 11, "YORGSUBF": 0}
    header = HEADER | cards
    for value, wanted in (("RGGB", "RGGB"), (None, None)):
        said = describe(amended_header(header, generic(), {"mosaic": value}), (200, 300), INSTRUMENTS)
        assert said.keywords.get("mosaic") == wanted
        assert not [doubt for doubt in said.doubts if doubt.kind == "mosaic"]
