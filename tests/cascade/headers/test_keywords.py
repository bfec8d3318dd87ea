import warnings
from datetime import UTC, datetime, timedelta, timezone

import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from ccdflow.cascade.headers.dates import DateKeywords, canonical, night, observation_date, read_date, zone_of
from ccdflow.cascade.headers.keywords import (
    angle,
    binning,
    cards_of,
    duration,
    first,
    look_up,
    number,
    text,
)

KEYWORDS = DateKeywords(
    date=("DATE-OBS",), time=("TIME-OBS", "UT"), mjd=("MJD-OBS",), jd=("JD",), system=("TIMESYS",)
)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (30, 30.0),
        ("30 s", 30.0),
        ("30s", 30.0),
        ("-25.0 C", -25.0),
        ("60.0 / sec", 60.0),
        ("1.3 e-/ADU", 1.3),
        ("1.5D+02", 150.0),
        (".5", 0.5),
        ("-25 °C", -25.0),
        ("", None),
        ("T", None),
        (True, None),
        (float("nan"), None),
        ("nan", None),
        ("1e999", None),
        ("16 41 41", None),
        ("2019-05-03", None),
        ("12:30", None),
        ("1h30m", None),
        ("1,5", 1.5),
        ("-20,0 C", -20.0),
        ("1,500", None),
        ("1,5,2", None),
        ("2,2.5", None),
        ("[1:2,3:4]", None),
    ],
)
def test_a_number_may_carry_its_unit_and_nothing_else(value, wanted):
    assert number(value) == wanted


@pytest.mark.parametrize(
    ("value", "unit", "comment", "wanted"),
    [
        (30.0, "", "", 30.0),
        ("500 ms", "", "", 0.5),
        ("500 ms", "s", "[s]", 0.5),
        (1500, "ms", "", 1.5),
        (1500, "", "[ms] Exposure duration", 1.5),
        (30.0, "", "[sec] Duration of exposure", 30.0),
        (30.0, "", "exposure in ms or so", 0.03),
        (30.0, "", "Total Exposure Time (s)", 30.0),
        (45.0, "", "Exposure time minutes", 2700.0),
        (500.0, "", "exposure duration, milliseconds", 0.5),
        (30.0, "", "in h alpha, m of 3", 30.0),
        ("1/250", "", "", 0.004),
        ("1/250 s", "ms", "", 0.004),
        ("00:01:30.5", "", "", 90.5),
        ("1m30s", "", "", 90.0),
        ("00h01m30.5s", "", "", 90.5),
        ("6.0D1", "", "", 60.0),
        ("2 min", "", "", 120.0),
        (30.0, "", "[parsec] nonsense", 30.0),
        ("long", "", "", None),
    ],
)
def test_the_unit_of_an_exposure_is_its_own_then_the_files_then_the_comments(value, unit, comment, wanted):
    assert duration(value, unit, comment) == wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("-105 49 13", -(105 + 49 / 60 + 13 / 3600)),
        ("105:49:13 W", -(105 + 49 / 60 + 13 / 3600)),
        ("W 105 49 13", -(105 + 49 / 60 + 13 / 3600)),
        ("-00 17 31.58", -(17 / 60 + 31.58 / 3600)),
        ("28d17m58s", 28 + 17 / 60 + 58 / 3600),
        ("+41° 16' 08\"", 41 + 16 / 60 + 8 / 3600),
        ("28D17M58S", 28 + 17 / 60 + 58 / 3600),
        ("S 31 16 24", -(31 + 16 / 60 + 24 / 3600)),
        ("105.82 W", -105.82),
        ("105d49m13.000s W", -(105 + 49 / 60 + 13 / 3600)),
        ("+36 27 35,5", 36 + 27 / 60 + 35.5 / 3600),
        ("105.82 E", 105.82),
        ("-105.82 deg", -105.82),
        (-105.82, -105.82),
        ("12 30", 12.5),
        ("12 60 00", None),
        ("north", None),
    ],
)
def test_angles_are_read_in_every_common_spelling(value, wanted):
    assert angle(value) == (None if wanted is None else pytest.approx(wanted, abs=1e-12))


def test_only_sexagesimal_right_ascensions_are_hours():
    assert angle("16 41 41", hours=True) == pytest.approx(250.420833333, abs=1e-8)
    assert angle("16h41m41s", hours=True) == pytest.approx(250.420833333, abs=1e-8)
    assert angle(250.42, hours=True) == 250.42


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("1 1", "1x1"),
        ("2x2", "2x2"),
        ("(2,1)", "2x1"),
        (2, "2x2"),
        (2.0, "2x2"),
        ("1*2", "1x2"),
        ("one", "one"),
    ],
)
def test_binning_has_one_spelling(value, wanted):
    assert binning(value) == wanted


def test_cards_are_found_in_any_case_and_blanks_are_not():
    cards = cards_of(
        {"ImageTyp": " bias ", "FILTER": "  ", "OBJECT": "n/a", "X": float("nan"), "Y": None}, ["N/A"]
    )
    assert cards == {"IMAGETYP": "bias"}


def test_hierarchical_keywords_have_one_name():
    cards = cards_of({"HIERARCH ESO TPL NEXP": 5})
    assert look_up(cards, "eso.tpl.nexp") == 5


def test_a_template_counts_only_where_all_its_cards_are_there():
    cards = {"XBINNING": 2, "CCDSUM": "1 1"}
    assert first(cards, ["{XBINNING}x{YBINNING}", "CCDSUM"]) == ("CCDSUM", "1 1")
    assert first({**cards, "YBINNING": 1.0}, ["{XBINNING}x{YBINNING}", "CCDSUM"]) == (
        "{XBINNING}x{YBINNING}",
        "2x1",
    )


def test_an_empty_wheel_counts_only_where_no_other_says_more():
    wheels = ["FILTER1", "FILTER2"]
    assert first({"FILTER1": "Air", "FILTER2": "V"}, wheels, ["air"]) == ("FILTER2", "V")
    assert first({"FILTER1": "Air"}, wheels, ["air"]) == ("FILTER1", "Air")
    assert first({}, wheels, ["air"]) is None


def test_text_of_whole_numbers_has_no_decimals():
    assert [text(one) for one in (2.0, 2.5, True, None, " x ")] == ["2", "2.5", "T", "", "x"]


@pytest.mark.parametrize(
    ("cards", "wanted"),
    [
        ({"DATE-OBS": "2019-05-03T08:43:34"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "2019-05-03 08:43:34"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "2019-05-03t08:43:34.1200"}, "2019-05-03T08:43:34.12"),
        ({"DATE-OBS": "2019-05-03T08:43"}, "2019-05-03T08:43:00"),
        ({"DATE-OBS": "2019-05-03T08:43:34Z"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "2019-05-03T08:43:34 UTC"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "2019-05-03T01:43:34.5+02:00"}, "2019-05-02T23:43:34.5"),
        ({"DATE-OBS": "2019-05-03T22:00:00-0530"}, "2019-05-04T03:30:00"),
        ({"DATE-OBS": "2019-05-03T08:43:34.1234567"}, "2019-05-03T08:43:34.123457"),
        ({"DATE-OBS": "2019-05-03T08:43:34.99999999"}, "2019-05-03T08:43:34.999999"),
        ({"DATE-OBS": "2019/5/3 8:43:34"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "2019-05-03", "TIME-OBS": "08:43:34.5"}, "2019-05-03T08:43:34.5"),
        ({"DATE-OBS": "2019-05-03", "UT": "08:43:34"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "2019-05-03", "UT": "2019-05-03T08:43:34"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "21/06/98", "UT": "03:14:15.90"}, "1998-06-21T03:14:15.9"),
        ({"DATE-OBS": "03/05/19", "UT": "08:43:34"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "03/05/2019", "UT": "08:43:34"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "03-MAY-2019 08:43:34"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "3 May 2019", "UT": "08:43:34"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "Fri May  3 08:43:34 2019"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "2019.05.03 08:43:34"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "20190503T084334.5"}, "2019-05-03T08:43:34.5"),
        ({"DATE-OBS": 20190503, "UT": "08:43:34"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "2019-05-03T084334"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "2019-05-03T08h43m34s"}, "2019-05-03T08:43:34"),
        ({"DATE-OBS": "2019-05-03T08:43:34,25"}, "2019-05-03T08:43:34.25"),
    ],
)
def test_dates_in_every_common_spelling_are_utc_without_a_doubt(cards, wanted):
    assert observation_date(cards, KEYWORDS) == (wanted, "")


@pytest.mark.parametrize(
    ("cards", "wanted", "said"),
    [
        ({"MJD-OBS": 58606.5}, "2019-05-03T12:00:00", "taken from MJD-OBS"),
        ({"JD": 2458606.8635879629}, "2019-05-03T08:43:34", "taken from JD"),
        ({"DATE-OBS": "2019-05-03", "MJD-OBS": 58606.25}, "2019-05-03T06:00:00", "has no time of day"),
        (
            {"DATE-OBS": "2019-02-30T01:02:03", "JD": 2458606.0},
            "2019-05-02T12:00:00",
            "no date of the calendar",
        ),
    ],
)
def test_julian_dates_help_out_and_it_is_said(cards, wanted, said):
    found, doubt = observation_date(cards, KEYWORDS)
    assert found == wanted
    assert said in doubt


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({}, "none of DATE-OBS, MJD-OBS, JD stands in the header"),
        ({"DATE-OBS": "2019-05-03"}, "DATE-OBS='2019-05-03' has no time of day, and none of TIME-OBS, UT"),
        ({"DATE-OBS": "2019-05-03", "UT": "late"}, "UT='late' has no such time of day"),
        ({"DATE-OBS": "2019-02-30T00:00:00"}, "no date of the calendar"),
        ({"DATE-OBS": "2019-05-03T24:01:00"}, "has no such time of day"),
        ({"DATE-OBS": "2016-12-31T23:59:61"}, "has no such time of day"),
        ({"DATE-OBS": "2019-05-03", "UT": "13:60:00 PM"}, "has no such time of day"),
        ({"DATE-OBS": "25/25/2018"}, "no date of the calendar"),
        ({"DATE-OBS": "0000-00-00T00:00:00"}, "no date of this age"),
        ({"DATE-OBS": "yesterday"}, "is no date"),
        ({"DATE-OBS": "03-XYZ-2019 08:43:34"}, "is no date"),
        ({"DATE-OBS": "12345678"}, "no date of this age"),
        ({"DATE-OBS": "2019-05-03T08:43:34 CEST"}, "unknown time zone 'CEST'"),
        ({"DATE-OBS": "2019-05-03T08:43:34+99:00"}, "unknown time zone '+99:00'"),
        ({"MJD-OBS": 0.0}, "no date of this age"),
        ({"JD": "soon"}, "is no number"),
    ],
)
def test_an_unknown_date_says_why(cards, said):
    found, doubt = observation_date(cards, KEYWORDS)
    assert found == ""
    assert said in doubt


@pytest.mark.parametrize(
    ("cards", "wanted", "said"),
    [
        ({"DATE-OBS": "2016-12-31T23:59:60.5"}, "2017-01-01T00:00:00.5", ""),
        ({"DATE-OBS": "2019-05-03T08:43:60"}, "2019-05-03T08:44:00", "has 60 seconds"),
        ({"DATE-OBS": "2019-05-03T24:00:00"}, "2019-05-04T00:00:00", ""),
        ({"DATE-OBS": "2019-05-03T18:24:00"}, "2019-05-03T18:24:00", ""),
        ({"DATE-OBS": "2019-05-03T00:24:00"}, "2019-05-03T00:24:00", ""),
        ({"DATE-OBS": "2019-05-03", "UT": "24:00:00.0"}, "2019-05-04T00:00:00", ""),
        ({"DATE-OBS": "2019-05-03", "TIME-OBS": "11:08:35 PM"}, "2019-05-03T23:08:35", ""),
        ({"DATE-OBS": "2019-05-03", "TIME-OBS": "12:08:35 a.m."}, "2019-05-03T00:08:35", ""),
        (
            {"DATE-OBS": "2019-05-03", "UT": 40115.5},
            "2019-05-03T11:08:35.5",
            "UT='40115.5' is read as seconds",
        ),
        ({"DATE-OBS": "2019-05-03", "UT": 6.25}, "2019-05-03T06:15:00", "is read as hours of the day"),
        ({"DATE-OBS": "2019-05-03", "UT": "040115"}, "2019-05-03T04:01:15", ""),
        ({"DATE-OBS": "03/05/19", "UT": "08:43:34"}, "2019-05-03T08:43:34", "two digits, read as 2019"),
        ({"DATE-OBS": "03/05/98", "UT": "08:43:34"}, "1998-05-03T08:43:34", ""),
        ({"DATE-OBS": "03/05/2019", "UT": "08:43:34"}, "2019-05-03T08:43:34", "read as 2019-05-03"),
        ({"DATE-OBS": "05/23/2019", "UT": "08:43:34"}, "2019-05-23T08:43:34", "has the month first"),
        ({"DATE-OBS": "1970-01-01T00:03:00"}, "1970-01-01T00:03:00", "a clock that was never set"),
    ],
)
def test_odd_times_are_read_and_guesses_are_told(cards, wanted, said):
    reading = read_date(cards, KEYWORDS)
    assert (reading.obsdate, reading.sentence) == (wanted, "")
    assert said in "; ".join(reading.remarks)


def test_a_date_without_zone_is_in_the_instruments_zone():
    cards = {"DATE-OBS": "2019-07-03T20:00:00"}
    assert observation_date(cards, KEYWORDS, "America/Denver")[0] == "2019-07-04T02:00:00"
    assert observation_date(cards, KEYWORDS, "+02:00")[0] == "2019-07-03T18:00:00"
    assert (
        observation_date({"DATE-OBS": "2019-07-03T20:00:00Z"}, KEYWORDS, "+02:00")[0] == "2019-07-03T20:00:00"
    )
    assert observation_date({"DATE-OBS": "2019-07-03", "UT": "20:00:00"}, KEYWORDS, "+02:00")[0] == (
        "2019-07-03T20:00:00"
    )


def test_other_time_scales_become_utc():
    cards = {"DATE-OBS": "2019-05-03T08:44:11", "TIMESYS": "TAI"}
    assert observation_date(cards, KEYWORDS)[0] == "2019-05-03T08:43:34"
    assert observation_date({**cards, "TIMESYS": "GPS"}, KEYWORDS)[0] == "2019-05-03T08:43:53"


@pytest.mark.parametrize("scale", ["tai", "tt"])
def test_leap_seconds_are_those_of_astropy(scale):
    for month in range(12 * 50):
        moment = datetime(1973 + month // 12, month % 12 + 1, 1, 0, 0, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "dubious year" beyond the leap seconds that are announced
            wanted = Time(moment, scale=scale).utc.to_datetime()
        found = observation_date({"DATE-OBS": moment.isoformat(), "TIMESYS": scale}, KEYWORDS)[0]
        assert abs(datetime.fromisoformat(found) - wanted) < timedelta(microseconds=10)


def test_an_unknown_zone_is_refused():
    with pytest.raises(ValueError, match="unknown time zone 'Mars/Olympus'"):
        zone_of("Mars/Olympus")


MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2069, 12, 31))
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(MOMENTS, st.sampled_from("T "))
def test_every_moment_survives_being_written_and_read(moment, separator):
    found, doubt = observation_date({"DATE-OBS": moment.isoformat(separator)}, KEYWORDS)
    assert (datetime.fromisoformat(found), doubt) == (moment, "")
    assert observation_date({"DATE-OBS": found}, KEYWORDS) == (found, "")


@given(MOMENTS, ZONES)
def test_every_zone_is_taken_off(moment, zone):
    written = moment.replace(tzinfo=UTC).astimezone(zone)
    assert observation_date({"DATE-OBS": written.isoformat()}, KEYWORDS) == (canonical(moment), "")


@given(MOMENTS)
def test_date_and_time_may_stand_apart_in_old_style(moment):
    cards = {"DATE-OBS": moment.strftime("%d/%m/%y"), "UT": moment.time().isoformat()}
    assert observation_date(cards, KEYWORDS) == (canonical(moment), "")


@given(MOMENTS)
def test_a_julian_date_gives_the_moment_to_a_millisecond(moment):
    mjd = (moment - datetime(1858, 11, 17)) / timedelta(days=1)
    for cards in ({"MJD-OBS": mjd}, {"JD": mjd + 2400000.5}):
        found = datetime.fromisoformat(observation_date(cards, KEYWORDS)[0])
        assert abs(found - moment) <= timedelta(milliseconds=1)


@given(MOMENTS, st.floats(-180, 180))
def test_a_night_begins_at_local_mean_noon(moment, longitude):
    evening = datetime.fromisoformat(night(canonical(moment), longitude))
    noon = evening + timedelta(hours=12) - timedelta(hours=longitude / 15)
    assert noon <= moment < noon + timedelta(days=1)


@pytest.mark.parametrize(
    ("obsdate", "longitude", "wanted"),
    [
        ("2019-05-03T08:43:34", -105.82, "2019-05-02"),
        ("2019-05-03T11:59:59", None, "2019-05-02"),
        ("2019-05-03T12:00:00", None, "2019-05-03"),
        ("2019-05-03T08:43:34", 149.06, "2019-05-03"),
    ],
)
def test_nights_have_the_date_of_their_evening(obsdate, longitude, wanted):
    assert night(obsdate, longitude) == wanted
