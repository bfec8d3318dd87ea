import pytest

from ccdflow.cascade.headers.classify import Description, FileFacts, describe
from ccdflow.cascade.records import Value
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped

KNOWN = load_instruments([shipped("instruments")])
LIGHT = {"IMAGETYP": "Light Frame", "DATE-OBS": "2026-03-01T20:00:00", "EXPTIME": 60.0}
MJD = 61100.833333333
"""The start of `LIGHT`."""
SECOND = 1 / 86400
"""Days."""


def read(comments: dict[str, str] | None = None, **cards: object) -> Description:
    header = {**LIGHT, **{name.replace("__", "-"): value for name, value in cards.items()}}
    return describe(header, (4, 4), KNOWN, FileFacts(comments or {}))


def doubts(**cards: object) -> list[str]:
    return [str(doubt) for doubt in read(**cards).doubts]


@pytest.mark.parametrize(
    ("cards", "wanted"),
    [
        ({"IMAGETYP": "Bias Frame"}, "class_conflict: a bias of 60 s"),
        ({"IMAGETYP": "zero", "EXPTIME": 2.0}, "class_conflict: a bias of 2 s"),
        (
            {"IMAGETYP": "Dark Frame", "EXPTIME": 0.0},
            "class_conflict: a dark of 0 s holds no dark current: it counts as a bias",
        ),
        ({"IMAGETYP": "Flat Field", "EXPTIME": 0.0}, "class_conflict: a flat of 0 s"),
        ({"EXPTIME": 1e-32}, "class_conflict: a light of 1e-32 s"),
        ({"FILTER": "Dark"}, "class_conflict: a light through filter Dark"),
        ({"OBJECT": "Flat-V"}, ""),
        ({"OBJECT": "skyflat"}, "class_conflict: a light of the object skyflat"),
        ({"OBSTYPE": "BIAS"}, "class_conflict: it is a light, but OBSTYPE='BIAS'"),
        ({"IMAGETYP": "object", "OBSTYPE": "SKY"}, ""),
        ({"IMAGETYP": "Dark Frame", "OBJECT": "M 31", "FILTER": "Dark"}, ""),
        ({"SHUTTER": "Closed"}, "shutter_conflict: a light with a closed shutter"),
        ({"SHUTSTAT": "SHUT"}, "shutter_conflict: a light with a closed shutter"),
        ({"SHUTTER": "open"}, ""),
        ({"IMAGETYP": "dark", "SHUTTER": "OPEN"}, "shutter_conflict: a dark with an open shutter"),
        ({"IMAGETYP": "dark", "SHUTTER": "closed"}, ""),
        ({"SHUTTER": True}, ""),
        (
            {"CCD__TEMP": 5.2, "SET__TEMP": -20.0},
            "temperature_conflict: the sensor is at 5.2 C, its set point -20 C",
        ),
        ({"CCD__TEMP": -19.6, "SET__TEMP": -20.0}, ""),
        ({"CCD__TEMP": 18.0, "SET__TEMP": 0.0}, ""),
        (
            {"XBINNING": 2, "YBINNING": 2, "CCDSUM": "1 1"},
            "binning_conflict: {XBINNING}x{YBINNING} says 2x2, CCDSUM says 1x1",
        ),
        ({"XBINNING": 2, "YBINNING": 1, "CCDSUM": "2 1"}, ""),
        ({"XBINNING": 2, "YBINNING": 2, "BINNING": "2x2", "CCDSUM": "2 2"}, ""),
    ],
)
def test_what_a_frame_is_against_how_it_was_taken(cards: dict[str, object], wanted: str) -> None:
    assert doubts(**cards) == ([wanted] if wanted else [])


@pytest.mark.parametrize(
    "cards",
    [
        {"MJD__OBS": MJD},
        {"MJD__OBS": MJD + 30 * SECOND},
        {"MJD__OBS": MJD + 60 * SECOND},
        {"MJD__OBS": 61100.83},
        {"JD": MJD + 2400000.5 + 30 * SECOND},
        {"JD": MJD + 2400000.5 - 40 * SECOND},
        {"DATE__BEG": "2026-03-01T20:00:00.7"},
        {"UT": "20:00:10"},
        {"UT": "19:59:30"},
        {"DATE": "2026-03-01T20:01:40"},
        {"DATE": "2026-03-01"},
        {"DATE": "2026-03-01T12:01:40"},
        {"DATE__OBS": "2026-03-01T20:00", "MJD__OBS": MJD + 50 * SECOND},
        {"DATE__END": "2026-03-01T20:01:12"},
        {"DATE__OBS": "2026-03-02T00:00:00", "UT": "23:59:50"},
        # ESO counts seconds of the day, others hours.
        {"UTC": 72000.132},
        {"UTC": 72000},
        {"DATE__OBS": "2026-03-02T00:00:12.3", "UTC": 12.3},
        {"UT": 20.0},
        {"UT": 20.0028},
        {"DATE__OBS": "2026-03-02T00:00:00", "UTC": 86390.5},
        {"UT__DATE": "2026-03-01"},
        {"DATE__OBS": "2026-03-01T23:59:50", "UT__DATE": "2026-03-02"},
        {"MJD__OBS": 0.0, "JD": 0},
        {"TIMESYS": "UTC(NIST)"},
        {
            "DATE__END": "2026-03-01T20:01:00.4689935",
            "DATE__AVG": "2026-03-01T20:00:30.42",
            "JD_UTC": 2461101.333685,
        },
    ],
)
def test_cards_of_the_start_the_middle_and_the_end_agree(cards: dict[str, object]) -> None:
    assert doubts(**cards) == []


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"MJD__OBS": MJD + 7 / 24}, "DATE-OBS and MJD-OBS are 7.0 h apart"),
        ({"MJD__OBS": MJD - 5 * SECOND}, "DATE-OBS and MJD-OBS are 5.0 s apart"),
        ({"MJD__OBS": MJD + 70 * SECOND}, "DATE-OBS and MJD-OBS are 70.0 s apart"),
        ({"JD": MJD + 2400001.5}, "DATE-OBS and JD are 24.0 h apart"),
        ({"DATE__BEG": "2026-03-01T20:05:00"}, "DATE-OBS and DATE-BEG are 5.0 min apart"),
        ({"UT": "18:00:00"}, "DATE-OBS and UT are 2.0 h apart"),
        ({"UT": 17.01}, "DATE-OBS and UT are 3.0 h apart"),
        ({"UTC": 61200.0}, "DATE-OBS and UTC are 3.0 h apart"),
        (
            {"UT__DATE": "2026-03-02"},
            "DATE-OBS says 2026-03-01, UT-DATE says 2026-03-02: which of them is local?",
        ),
        ({"DATE": "2025-11-02T20:01:40"}, "the file was written 119 days before its exposure"),
        ({"DATE__END": "2026-03-01T19:00:00"}, "DATE-END is 60.0 min from the start"),
        ({"DATE__END": "2026-03-02T03:01:00"}, "DATE-END is 7.0 h from the start"),
    ],
)
def test_cards_that_tell_different_times_are_a_doubt(cards: dict[str, object], said: str) -> None:
    described = read(**cards)
    assert described.obsdate == "2026-03-01T20:00:00"
    assert [doubt.kind for doubt in described.doubts if said in doubt.text] == ["date_conflict"]


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("end of exposure", "is of the end of the exposure"),
        ("UTC at mid-exposure", "is of the middle of the exposure"),
        ("local time of observation", "is local time"),
        ("[ISO 8601] UTC date/time of exposure start", ""),
        ("System Clock:Est. Frame Start", ""),
        ("seconds since midnight", ""),
        ("UTC date that FITS file was created", "is of the writing of the file"),
        ("date and time of readout", "is of the end of the exposure"),
        ("The UTC date and time at the start of the expo", ""),
        ("UTC shutter open", ""),
    ],
)
def test_the_comment_of_the_date_may_say_that_it_is_no_start(comment: str, said: str) -> None:
    description = read({"DATE-OBS": comment})
    assert [said in doubt.text for doubt in description.doubts] == ([True] if said else [])


@pytest.mark.parametrize(("scale", "said"), [("LOCAL", True), ("MST", True), ("UT", False), ("TAI", False)])
def test_a_time_scale_that_nobody_knows_is_a_doubt(scale: str, said: bool) -> None:
    assert [doubt.startswith(f"date: TIMESYS={scale!r}") for doubt in doubts(TIMESYS=scale)] == [True] * said


@pytest.mark.parametrize(
    ("cards", "repeated", "kind"),
    [
        ({"FILTER": "V"}, {"FILTER": "R"}, "filter_conflict"),
        ({}, {"IMAGETYP": "Flat Field"}, "class_conflict"),
        ({}, {"EXPTIME": 120.0}, "exptime_conflict"),
        ({}, {"DATE-OBS": "2026-03-02T20:00:00"}, "date_conflict"),
        ({"XBINNING": 1, "YBINNING": 1}, {"XBINNING": 2}, "binning_conflict"),
        ({"CCD-TEMP": -20.0}, {"CCD-TEMP": 5.0}, "temperature_conflict"),
        ({"OBJECT": "M 31"}, {"OBJECT": "M 33"}, "value"),
        ({}, {"EXPTIME": 60, "DATE-OBS": " 2026-03-01T20:00:00 ", "NOTES": "x", "FILTER": ""}, ""),
        ({}, {"OBJECT": "M 33"}, ""),
    ],
)
def test_a_card_that_stands_twice_is_a_doubt_where_it_says_two_things(
    cards: dict[str, object], repeated: dict[str, Value], kind: str
) -> None:
    found = describe({**LIGHT, **cards}, (4, 4), KNOWN, FileFacts(repeated=repeated)).doubts
    assert [doubt.kind for doubt in found] == ([kind] if kind else [])
    assert all("stands twice" in doubt.text for doubt in found)


def test_a_guessed_date_is_a_doubt() -> None:
    assert "two digits" in doubts(DATE__OBS="02/10/18", UT="11:08:35")[0]
    assert "never set" in doubts(DATE__OBS="1970-01-01T00:03:00")[0]
    assert doubts(DATE__OBS="02/10/98", UT="11:08:35") == []
