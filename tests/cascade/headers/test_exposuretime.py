import pytest

from ccdflow.cascade.headers.classify import Description, FileFacts, describe
from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped

KNOWN = load_instruments([shipped("instruments")])
LIGHT = {"IMAGETYP": "Light Frame", "DATE-OBS": "2026-03-01T20:00:00"}


def read(comments: dict[str, str] | None = None, **cards: object) -> Description:
    """A light that began at 20:00 UTC; ``__`` stands for ``-``."""
    header = {**LIGHT, **{name.replace("__", "-"): value for name, value in cards.items()}}
    return describe(header, (4, 4), KNOWN, FileFacts(comments or {}))


def kinds(description: Description) -> list[str]:
    return [doubt.kind for doubt in description.doubts]


@pytest.mark.parametrize(
    ("cards", "wanted"),
    [
        ({"EXPTIME": "60 s"}, 60.0),
        ({"EXPTIME": "6.0D1"}, 60.0),
        ({"EXPTIME": "60,5"}, 60.5),
        ({"XPOSURE": 60.0}, 60.0),
        ({"EXPTIME": 60.0, "EXPOSURE": 60.0}, 60.0),
        ({"EXPTIME": 60.0, "EXPOSURE": 60.004}, 60.0),
        ({"EXPTIME": 0.05, "EXPOSURE": 0.0512}, 0.05),
        ({"EXPTIME": 60.0, "EXPOSURE": 60000}, 60.0),
        ({"EXPOSURE": 60.0, "EXPTIME": 60000}, 60.0),
        ({"EXPTIME": 0.5, "EXPOSURE": 500000}, 0.5),
        ({"EXPTIME": 60.0, "DARKTIME": 60.7, "TELAPSE": 75.0}, 60.0),
        ({"EXPTIME": 60.0, "DATE__END": "2026-03-01T20:01:00.2"}, 60.0),
        ({"EXPTIME": 60.0, "DATE__END": "2026-03-01T20:00:59.6"}, 60.0),
        ({"ITIME": 2.0, "COADDS": 1}, 2.0),
    ],
)
def test_an_exposure_time_that_is_told_plainly_leaves_no_doubt(
    cards: dict[str, object], wanted: float | None
) -> None:
    description = read(**cards)
    if wanted is None:
        assert kinds(description) == ["exptime"]
    else:
        assert (description.exptime, description.doubts) == (wanted, ())


@pytest.mark.parametrize(
    ("comment", "value", "wanted"),
    [
        ("[ms] exposure time", 60000, 60.0),
        ("[min] exposure", 1.5, 90.0),
        ("Total Exposure Time (s)", 60.0, 60.0),
        ("Exposure time in milliseconds", 250, 0.25),
        ("exposure, minutes", 45.0, 2700.0),
        ("Exposure time (microseconds)", 10000, 0.01),
        ("exposure time in milli-seconds", 60000, 60.0),
        ("exposure in 1/100 sec", 6000, 60.0),
        ("[d] time on source", 0.0145, 1252.8),
        ("exposure time; guider corrects every minute", 60.0, 60.0),
        ("Exposure time (s); max 10 minutes", 60.0, 60.0),
        ("Exposure time excluding pauses,in secs", 60.0, 60.0),
    ],
)
def test_the_unit_may_stand_in_the_comment(comment: str, value: float, wanted: float) -> None:
    description = read({"EXPTIME": comment}, EXPTIME=value)
    assert (description.exptime, description.doubts) == (wanted, ())


def test_the_unit_of_all_times_counts_where_a_card_has_none_of_its_own() -> None:
    assert read(EXPTIME=1.5, TIMEUNIT="min").exptime == 90.0
    assert read({"EXPTIME": "[s]"}, EXPTIME=60.0, TIMEUNIT="min").exptime == 60.0


def test_a_time_unit_of_days_is_that_of_the_standards_keywords_alone() -> None:
    description = read(EXPTIME=60.0, TELAPSE=0.0007, TIMEUNIT="d")
    assert (description.exptime, description.doubts) == (60.0, ())
    assert read(XPOSURE=0.0125, TIMEUNIT="d").exptime == 1080.0


@pytest.mark.parametrize(
    ("cards", "wanted", "kind", "said"),
    [
        (
            {"EXPTIME": 60.0, "EXPOSURE": 41.7},
            60.0,
            "exptime_conflict",
            "EXPTIME says 60 s, EXPOSURE says 41.7 s",
        ),
        ({"EXPTIME": 0.0, "EXPOSURE": 60.0}, 60.0, "exptime_conflict", "EXPTIME says 0 s"),
        ({"EXPTIME": -1.0, "EXPOSURE": 60.0}, 60.0, "exptime", "EXPTIME='-1' is outside"),
        ({"EXPTIME": 60.0, "DATE__END": "2026-03-01T20:00:41"}, 60.0, "exptime_conflict", "can't be longer"),
        ({"EXPTIME": 60.0, "TELAPSE": 41.7}, 60.0, "exptime_conflict", "TELAPSE says 41.7 s"),
        ({"UT__START": "20:00:00", "UT__END": "20:01:00"}, 60.0, "exptime", "taken from UT-END"),
        ({"UTEND": "00:30:00"}, 16200.0, "exptime", "taken from UTEND"),
        ({"DATE__END": "2026-03-01T20:01:00"}, 60.0, "exptime", "taken from DATE-END"),
        ({"MJD__END": 61100.834027778}, 60.0, "exptime", "taken from MJD-END"),
        ({"TELAPSE": 60.0}, 60.0, "exptime", "pauses and the readout"),
        ({"EXPEND": 61100.834027778}, 60.0, "exptime", "taken from EXPEND"),
        ({"EXPTIME": 0.0, "TELAPSE": 60.0}, 60.0, "exptime_conflict", "EXPTIME says 0 s"),
        ({"EXPTIME": 2.0, "COADDS": 30}, 2.0, "exptime", "of one of them (60 s in all)"),
    ],
)
def test_what_other_cards_say_is_a_doubt(
    cards: dict[str, object], wanted: float, kind: str, said: str
) -> None:
    description = read(**cards)
    assert description.exptime == pytest.approx(wanted, abs=0.001)
    assert kinds(description) == [kind]
    assert said in description.doubts[0].text


def test_the_total_of_coadds_beside_that_of_one_is_no_doubt_about_which() -> None:
    description = read(EXPTIME=60.0, COADDS=30, ELAPTIME=60.0, TELAPSE=2.0)
    assert description.exptime == 60.0
    assert "exptime" not in kinds(description)


@pytest.mark.parametrize("value", [None, -60.0, "long", "60,000", 1e9, float("nan")])
def test_an_unknown_exposure_time_is_unknown_and_a_doubt(value: object) -> None:
    description = read(**({} if value is None else {"EXPTIME": value}))
    assert description.exptime is None
    assert kinds(description) == ["exptime"]


def test_a_bias_needs_no_exposure_time_and_is_never_given_that_of_its_readout() -> None:
    for cards in ({}, {"TELAPSE": 12.0}, {"EXPTIME": 0.0, "TELAPSE": 12.0}):
        description = read(IMAGETYP="Bias Frame", **cards)
        assert (description.exptime, description.doubts) == (cards.get("EXPTIME"), ())


def test_an_instrument_file_may_state_the_unit() -> None:
    (generic,) = (known for known in KNOWN if known.name == "generic")
    by = Instrument.model_validate({**generic.model_dump(by_alias=True), "units": {"exptime": "ms"}})
    assert describe({**LIGHT, "EXPTIME": 1500}, (4, 4), [by]).exptime == 1.5
