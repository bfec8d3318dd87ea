from importlib.resources import files
from pathlib import Path

import pytest
from pydantic import ValidationError

from ccdflow.archive.fits.cards import read_cards
from ccdflow.cascade.headers.amplifiers import detector, detector_digest
from ccdflow.cascade.headers.classify import classify
from ccdflow.cascade.headers.instrument import Instrument, claims, find_instrument, inherit
from ccdflow.cascade.headers.keywords import cards_of
from ccdflow.config.instruments import load_instruments
from ccdflow.recipes.detector.amplifiers import Section

SHIPPED = Path(str(files("ccdflow.config"))) / "instruments"
SHAPE = (48, 64)
ARCON = {
    "AMPLIST": "11 12",
    "CCDSUM": "1 1",
    **{"BSEC11": "[27:32,1:48]", "CSEC11": "[1:24,1:48]", "DSEC11": "[3:26,1:48]", "TSEC11": "[3:26,1:46]"},
    **{
        "BSEC12": "[33:38,1:48]",
        "CSEC12": "[25:48,1:48]",
        "DSEC12": "[39:62,1:48]",
        "TSEC12": "[39:62,1:46]",
    },
    **{"GTGAIN11": 3.1, "GTRON11": 4.9, "GTGAIN12": 3.2, "GTRON12": 5.1},
}


@pytest.fixture(scope="module")
def generic():
    return next(one for one in load_instruments([SHIPPED]) if one.name == "generic")


def with_detectors(generic, *detectors):
    return Instrument.model_validate({**generic.model_dump(by_alias=True), "detectors": detectors})


def test_without_sections_the_whole_array_is_data_and_nothing_is_known(generic):
    made = detector({}, generic, SHAPE)
    (only,) = made.amplifiers
    assert made.shape == SHAPE
    assert only.data == only.target == Section.whole(SHAPE)
    assert (only.overscan, only.gain, only.read_noise, only.saturation) == (None, None, None, 65535.0)


def test_overscan_is_cut_to_the_rows_of_the_data(generic):
    cards = {"BIASSEC": "[55:64,1:48]", "TRIMSEC": "[1:52,2:47]", "GAIN": 3.6, "RDNOISE": "4.0 e-"}
    made = detector({**cards, "SATURATE": 60000}, generic, SHAPE)
    (only,) = made.amplifiers
    assert made.shape == (46, 52)
    assert only.data == Section(1, 47, 0, 52)
    assert only.target == Section.whole((46, 52))
    assert only.overscan == Section(1, 47, 54, 64)
    assert (only.gain, only.read_noise, only.saturation) == (3.6, 4.0, 60000.0)


def test_overscan_above_the_data_is_cut_to_their_columns(generic):
    (only,) = detector({"BIASSEC": "[1:64,45:48]", "TRIMSEC": "[3:62,1:40]"}, generic, SHAPE).amplifiers
    assert only.overscan == Section(44, 48, 2, 62)


@pytest.mark.parametrize("none", ["[0:0,0:0]", "UNKNOWN", " "])
def test_a_section_may_be_said_to_be_none(generic, none):
    assert detector({"BIASSEC": none}, generic, SHAPE).amplifiers[0].overscan is None


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"TRIMSEC": "[1:65,1:48]"}, r"TRIMSEC='\[1:65,1:48\]' lies outside"),
        ({"TRIMSEC": "left half"}, "TRIMSEC: section 'left half' is not of the form"),
        (
            {"TRIMSEC": "[1:62,1:48]", "BIASSEC": "[60:64,1:48]"},
            r"overscan \[60:64,1:48\] and data \[1:62,1:48\] overlap; say it in the instrument file, "
            r'detectors: \[{amplifiers: \[{data: "\[1:59,1:48\]", overscan: "\[60:64,1:48\]"}\]}\]',
        ),
        ({"TRIMSEC": "[1:30,1:20]", "BIASSEC": "[40:64,30:48]"}, "no row or column in common"),
        ({**ARCON, "CSEC12": "[20:43,1:48]"}, "'11' and '12' overlap on the detector"),
        ({**ARCON, "CSEC12": "[25:50,1:48]"}, r"data \[39:62,1:46\], which differs in size from its place"),
    ],
)
def test_sections_that_contradict_are_refused(generic, cards, said):
    with pytest.raises(ValueError, match=said):
        detector(cards, generic, SHAPE)


def test_two_amplifiers_by_the_arcon_convention(generic):
    made = detector(ARCON, generic, SHAPE)
    left, right = made.amplifiers
    assert made.shape == (46, 48)
    assert (left.name, left.data, left.target) == ("11", Section(0, 46, 2, 26), Section(0, 46, 0, 24))
    assert (right.name, right.data, right.target) == ("12", Section(0, 46, 38, 62), Section(0, 46, 24, 48))
    assert (left.overscan, right.overscan) == (Section(0, 46, 26, 32), Section(0, 46, 32, 38))
    assert [(one.gain, one.read_noise) for one in (left, right)] == [(3.1, 4.9), (3.2, 5.1)]


def test_places_on_the_detector_may_count_unbinned_pixels(generic):
    cards = {**ARCON, "CCDSUM": "2 2", "CSEC11": "[1:48,1:96]", "CSEC12": "[49:96,1:96]"}
    assert detector(cards, generic, SHAPE) == detector(ARCON, generic, SHAPE)


def test_a_place_read_backwards_keeps_its_direction_and_its_trim(generic):
    left, _ = detector({**ARCON, "CSEC11": "[24:1,48:1]", "TSEC11": "[5:26,1:46]"}, generic, SHAPE).amplifiers
    # The two columns and two rows that are trimmed off at the far end are the detector's last and first.
    assert left.target == Section(2, 48, 0, 22, flip_y=True, flip_x=True)


def test_without_places_the_overscan_between_the_amplifiers_closes(generic):
    cards = {key: value for key, value in ARCON.items() if not key.startswith("CSEC")}
    assert [one.target for one in detector(cards, generic, SHAPE).amplifiers] == [
        Section(0, 46, 0, 24),
        Section(0, 46, 24, 48),
    ]


def test_a_list_of_amplifiers_without_their_sections_is_one_amplifier(generic):
    assert len(detector({"AMPLIST": "11 12"}, generic, SHAPE).amplifiers) == 1


def test_an_amplifier_without_gain_of_its_own_takes_the_headers(generic):
    cards = {key: value for key, value in ARCON.items() if not key.startswith("GTGAIN")}
    assert [one.gain for one in detector({**cards, "GAIN": 2.0}, generic, SHAPE).amplifiers] == [2.0, 2.0]
    assert [one.gain for one in detector({**cards, "GAIN": -1}, generic, SHAPE).amplifiers] == [None, None]


def test_numbers_of_the_file_beat_the_header_or_fill_it(generic):
    numbers = {"gain": 1.3, "read_noise": 8.0, "saturation": 50000, "linearity": [1e-6], "nonlinear": 80000}
    (only,) = detector({"GAIN": 2.0}, with_detectors(generic, numbers), SHAPE).amplifiers
    assert (only.gain, only.read_noise, only.saturation) == (1.3, 8.0, 50000.0)
    assert (only.linearity, only.nonlinear) == ((1e-6,), 80000.0)
    filling = with_detectors(generic, {**numbers, "beats_header": False})
    (only,) = detector({"GAIN": 2.0}, filling, SHAPE).amplifiers
    assert (only.gain, only.read_noise) == (2.0, 8.0)


def test_the_first_detector_that_fits_the_header_counts(generic):
    known = with_detectors(
        generic,
        {"match": {"CAMERA": "UT1", "XBINNING": 1}, "gain": 0.5},
        {"match": [{"CAMERA": "UT?"}, {"CAMERA": "spare"}], "gain": 0.6},
    )
    gains = [
        detector(cards, known, SHAPE).amplifiers[0].gain
        for cards in (
            {"CAMERA": "ut1", "XBINNING": 1},
            {"CAMERA": "UT1", "XBINNING": 2},
            {"CAMERA": "Spare"},
            {"CAMERA": "other"},
            {},
        )
    ]
    assert gains == [0.5, 0.6, 0.6, None, None]


def test_amplifiers_may_stand_in_the_file(generic):
    halves = [
        {"name": "low", "data": "[1:64,1:20]", "overscan": "[1:64,21:24]", "gain": 1.1},
        {"name": "high", "data": "[1:64,29:48]", "overscan": "[1:64,25:28]"},
    ]
    made = detector(ARCON, with_detectors(generic, {"amplifiers": halves, "gain": 1.2}), SHAPE)
    assert made.shape == (40, 64)
    low, high = made.amplifiers
    assert (low.target, high.target) == (Section(0, 20, 0, 64), Section(20, 40, 0, 64))
    assert (low.gain, high.gain) == (1.1, 1.2)
    assert high.overscan == Section(24, 28, 0, 64)


def test_an_instrument_claims_headers_by_any_of_its_ways_with_all_its_keywords():
    ours = Instrument.model_validate(
        {"name": "ours", "match": [{"TELESCOP": "GOTO*", "INSTRUME": ["a", "b"]}, {"OBSERVAT": "ours"}]}
    )
    fallback = Instrument(name="any")
    known = [fallback, ours]
    assert find_instrument({"TELESCOP": "goto-1", "INSTRUME": "B"}, known) is ours
    assert find_instrument({"OBSERVAT": "Ours"}, known) is ours
    assert find_instrument({"TELESCOP": "GOTO1", "INSTRUME": "c"}, known) is fallback
    assert find_instrument({}, known) is fallback
    with pytest.raises(ValueError, match=r"no instrument claims the header.*known: ours"):
        find_instrument({}, [ours])


def test_a_star_wants_the_keyword_to_be_there():
    assert claims({"GAIN": ["*"]}, {"GAIN": 100})
    assert not claims({"GAIN": ["*"]}, {})


def test_a_child_keeps_what_it_says_and_takes_the_rest():
    parent = Instrument.model_validate(
        {
            "name": "parent",
            "keywords": {"class": ["A"], "filter": ["B"]},
            "classes": {"bias": ["x"], "dark": ["y"]},
            "site": {"time_zone": "+02:00", "longitude": 1.0},
        }
    )
    child = Instrument.model_validate(
        {"name": "child", "keywords": {"filter": "C"}, "classes": {"dark": "z"}, "site": {"longitude": 2.0}}
    )
    made = inherit(child, parent)
    assert made.name == "child"
    assert (made.keywords.frame_class, made.keywords.filter) == (("A",), ("C",))
    assert made.classes == {"bias": ("x",), "dark": ("z",)}
    assert (made.site.time_zone, made.site.longitude) == ("+02:00", 2.0)


def test_the_digest_follows_what_decides_about_pixels_and_nothing_else(generic):
    same = generic.model_copy(update={"description": "other words", "keep": {}})
    other = with_detectors(generic, {"gain": 1.3})
    assert detector_digest(same) == detector_digest(generic)
    assert detector_digest(other) != detector_digest(generic)


def test_cards_of_any_kind_are_read_without_a_warning():
    lines = (
        "lower   = 'it''s  '           / quotes",
        "HIERARCH ESO TPL NEXP = 5 / number",
        "LONG    = 'first &'",
        "CONTINUE  'second' / comment",
        "DOUBLE  = 1.5D+03",
        "BROKEN  = 'no end",
        "FREE    = two words / said",
        "DEGREE  = 'warm \u00b0C'",
        "EMPTY   =",
        "COMMENT = not a value",
        "lower   = 'again'",
        "END",
        "AFTER   = 1",
    )
    values, comments = read_cards(b"".join(line.ljust(80).encode("latin-1") for line in lines))
    assert values == {
        "LOWER": "it's",
        "ESO TPL NEXP": 5,
        "LONG": "first second",
        "DOUBLE": 1500.0,
        "BROKEN": "no end",
        "FREE": "two words",
        "DEGREE": "warm \u00b0C",
    }
    assert comments["LONG"] == "comment"
    assert comments["FREE"] == "said"


def is_long(cards):
    return float(cards["EXPTIME"]) > 100


@pytest.mark.parametrize(("exptime", "found"), [(300.0, "sky"), (10.0, "flat")])
def test_a_function_may_tell_the_class(exptime, found):
    rule = {
        "class": "sky",
        "where": {"IMAGETYP": "flat"},
        "function": "tests.cascade.headers.test_instrument.is_long",
    }
    instrument = Instrument(
        name="x", keywords={"class": "IMAGETYP"}, classes={"flat": ["flat"]}, rules=[rule]
    )
    assert classify(cards_of({"IMAGETYP": "flat", "EXPTIME": exptime}), instrument) == (found, "")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"class": "sky"}, "needs where or function"),
        ({"class": "sky", "function": "no.such"}, "can't be imported"),
    ],
)
def test_a_rule_without_test_is_refused(rule, said):
    with pytest.raises(ValidationError, match=said):
        Instrument(name="x", rules=[rule])
