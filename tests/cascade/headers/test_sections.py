"""Sections as observatories write them: what is data, what is overscan, and what is said where that is open."""

from pathlib import Path

import numpy as np
import pytest

from ccdflow.cascade.headers.amplifiers import detector
from ccdflow.cascade.headers.classify import describe
from ccdflow.cascade.headers.sections import says_section
from ccdflow.config.instruments import load_instruments
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, RawFrame, Section
from ccdflow.recipes.detector.raw import PreparedFrame
from ccdflow.recipes.detector.readout import Readout

CONFIG = Path(__file__).parents[3] / "config" / "instruments"


@pytest.fixture(scope="module")
def generic():
    return next(by for by in load_instruments([CONFIG]) if by.name == "generic")


@pytest.mark.parametrize(
    ("shape", "cards", "data", "overscan"),
    [
        # NOT, ALFOSC: of its CCD's 50 columns of prescan only BIASSEC tells; whole, windowed, and binned by two
        ((2052, 2198), {"BIASSEC": "[1:50,1:2052]"}, "[51:2198,1:2052]", "[1:50,1:2052]"),
        ((500, 2148), {"BIASSEC": "[1:50,1:500]"}, "[51:2148,1:500]", "[1:50,1:500]"),
        ((1026, 1099), {"BIASSEC": "[1:25,1:1026]", "CCDSUM": "2 2"},
         "[26:1099,1:1026]", "[1:25,1:1026]"),
        # overscan at the right, at the top, short of the array's ends, and not at its very edge
        ((64, 80), {"BIASSEC": "[73:80,1:64]"}, "[1:72,1:64]", "[73:80,1:64]"),
        ((2102, 500), {"BIASSEC": "[1:500,2065:2102]"},
         "[1:500,1:2064]", "[1:500,2065:2102]"),
        ((64, 80), {"BIASSEC": "[73:80,12:57]"}, "[1:72,1:64]", "[73:80,12:57]"),
        ((64, 80), {"BIASSEC": "[74:79,1:64]"}, "[1:73,1:64]", "[74:79,1:64]"),
        # the whole array stated as data
        ((64, 80), {"DATASEC": "[1:80,1:64]", "BIASSEC": "[73:80,1:64]"},
         "[1:72,1:64]", "[73:80,1:64]"),
        ((64, 80), {"TRIMSEC": "[*,*]", "BIASSEC": "[73:80,*]"},
         "[1:72,1:64]", "[73:80,1:64]"),
        # ING, INT WFC and WHT ACAM
        ((4200, 2154), {"BIASSEC": "[11:50,3:4102]", "TRIMSEC": "[51:2098,3:4102]"},
         "[51:2098,3:4102]", "[11:50,3:4102]"),
        # SBIG STX with overscan; SI 620 at Maidanak
        ((4096, 4144), {"DATASEC": "[1:4096,1:4096]", "BIASSEC": "[4097:4144,1:4096]"},
         "[1:4096,1:4096]", "[4097:4144,1:4096]"),
        ((4096, 4196), {"DATASEC": "[1:4096,1:4096]", "BIASSEC": "[4097:4196,1:4096]"},
         "[1:4096,1:4096]", "[4097:4196,1:4096]"),
        # CFHT, OLAPA: TRIMSEC within DATASEC
        ((4608, 2088), {"DATASEC": "[21:2068,1:4608]", "TRIMSEC": "[21:2068,4:4605]", "BIASSEC": "[2069:2088,1:4608]"},
         "[21:2068,4:4605]", "[2069:2088,4:4605]"),
        # Lowell, LMI binned by two, in binned pixels, with a blank
        ((3080, 3124), {"BIASSEC": "[3100:3124, 3:3079]", "TRIMSEC": "[30:3094,   3:3079]", "CCDSUM": "2 2"},
         "[30:3094,3:3079]", "[3100:3124,3:3079]"),
        # a controller of OAN San Pedro says None; others say nothing in other ways
        ((64, 80), {"BIASSEC": "None", "TRIMSEC": "NONE", "DATASEC": "[1:72,1:64]"},
         "[1:72,1:64]", None),
        ((64, 80), {"BIASSEC": "[0:0,0:0]", "TRIMSEC": "[0:0,0:0]"}, "[1:80,1:64]", None),
        ((64, 80), {"BIASSEC": "[80:80,64:64]"}, "[1:80,1:64]", None),
        ((64, 80), {"TRIMSEC": "FULL"}, "[1:80,1:64]", None),
        # zeros in front are no zero section; a cube of one plane
        ((64, 80), {"TRIMSEC": "[0001:0072,0001:0064]", "BIASSEC": "[0073:0080,01:064]"},
         "[1:72,1:64]", "[73:80,1:64]"),
        ((64, 80), {"TRIMSEC": "[0010:0060,0001:0064]"}, "[10:60,1:64]", None),
        ((64, 80), {"TRIMSEC": "[1:72,1:64,1:1]"}, "[1:72,1:64]", None),
        # without brackets, in others, with other signs between
        ((64, 80), {"TRIMSEC": "1:72,1:64", "BIASSEC": "73:80, 1:64"}, "[1:72,1:64]", "[73:80,1:64]"),
        ((64, 80), {"TRIMSEC": "(1:72,1:64)", "BIASSEC": "[73..80,1..64]"}, "[1:72,1:64]", "[73:80,1:64]"),
        ((64, 80), {"TRIMSEC": "[1:72;1:64]", "BIASSEC": "[1:0,1:0]"}, "[1:72,1:64]", None),
        # prescan and overscan in one card
        ((64, 80), {"TRIMSEC": "[5:72,1:64]", "BIASSEC": "[1:4,1:64],[73:80,1:64]"},
         "[5:72,1:64]", "[73:80,1:64]"),
        ((64, 80), {"TRIMSEC": "[9:76,1:64]", "BIASSEC": "[1:8,1:64] [77:80,1:64]"},
         "[9:76,1:64]", "[1:8,1:64]"),
        # Calar Alto, CAFOS: corners, a width of nothing, and the window's place on the detector
        ((2048, 1000), {"DATASEC": "[501,1:1500,2048]", "BIASSEC": "[0,1:0,2048]"},
         "[1:1000,1:2048]", None),
        ((1024, 500), {"DATASEC": "[501,1:1500,2048]", "BIASSEC": "[0,1:0,2048]", "CCDXBIN": 2, "CCDYBIN": 2},
         "[1:500,1:1024]", None),
        # sections of unbinned pixels in a binned frame
        ((64, 80), {"TRIMSEC": "[1:144,1:128]", "BIASSEC": "[145:160,1:128]", "CCDSUM": "2 2"},
         "[1:72,1:64]", "[73:80,1:64]"),
        ((64, 40), {"TRIMSEC": "[1:144,1:128]", "BIASSEC": "[145:160,1:128]",
                    "XBINNING": 4, "YBINNING": 2},
         "[1:36,1:64]", "[37:40,1:64]"),
        ((64, 80), {"BIASSEC": "[145:160,1:128]", "CCDSUM": "2 2"},
         "[1:72,1:64]", "[73:80,1:64]"),
    ],
)  # fmt: skip
def test_sections_of_observatories(generic, shape, cards, data, overscan):
    (amplifier,) = detector(cards, generic, shape).amplifiers
    assert (str(amplifier.data), amplifier.overscan and str(amplifier.overscan)) == (data, overscan)


@pytest.mark.parametrize(
    ("shape", "cards", "said"),
    [
        ((64, 80), {"BIASSEC": "[39:42,1:64]"}, "BIASSEC='[39:42,1:64]' does not tell which pixels"),
        ((64, 80), {"BIASSEC": "[1:80,1:64]"}, "of the raw array [1:80,1:64] are data"),
        ((64, 80), {"TRIMSEC": "[1:144,1:128]"}, "'[1:144,1:128]' lies outside of the raw array of 80 columns"),
        # no whole number of binned pixels
        ((64, 80), {"TRIMSEC": "[2:144,1:128]", "CCDSUM": "2 2"}, "'[2:144,1:128]' lies outside"),
        ((64, 80), {"TRIMSEC": "[0:71,0:63]"}, "TRIMSEC: section '[0:71,0:63]' starts below pixel 1"),
        ((64, 80), {"TRIMSEC": "[33:40]"}, "TRIMSEC: section '[33:40]' is not of the form"),
        ((64, 80), {"TRIMSEC": "[1:72,1:64]", "BIASSEC": "[70:80,1:64]"},
         'data: "[1:69,1:64]", overscan: "[70:80,1:64]"'),
        ((64, 80), {"TRIMSEC": "[1:20,1:20]", "BIASSEC": "[73:80,40:64]"},
         "overscan [73:80,40:64] has no row or column"),
    ],
)  # fmt: skip
def test_what_sections_leave_open_is_refused_in_the_words_of_fits(generic, shape, cards, said):
    with pytest.raises(ValueError, match=r"TRIMSEC|BIASSEC|overscan") as error:
        detector(cards, generic, shape)
    assert said in str(error.value)
    assert "Section(" not in str(error.value)


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        (
            {"BIASSEC": "[73:80,1:64]"},
            "not told: of BIASSEC='[73:80,1:64]', all on its larger side, [1:72,1:64]",
        ),
        (
            {"TRIMSEC": "[1:144,1:128]", "CCDSUM": "2 2"},
            "before binning 2x2: TRIMSEC='[1:144,1:128]' as [1:72,1:64]",
        ),
        ({"DATASEC": "[11,1:90,64]"}, "DATASEC='[11,1:90,64]' is read as a window of the detector"),
    ],
)
def test_what_was_assumed_is_a_doubt(generic, cards, said):
    cards = {"IMAGETYP": "bias", "DATE-OBS": "2026-03-01T20:00:00", "EXPTIME": 0.0, **cards}
    described = describe(cards, (64, 80), [generic])
    (doubt,) = [doubt for doubt in described.doubts if doubt.kind == "sections"]
    assert said in doubt.text
    assert described.refused == ""


def test_sections_that_tell_all_leave_no_doubt(generic):
    cards = {"TRIMSEC": "[1:72,1:64]", "BIASSEC": "[73:80,1:64]"}
    assert detector(cards, generic, (64, 80)).assumptions == ()
    assert detector({}, generic, (64, 80)).assumptions == ()


def test_an_image_of_several_is_trimmed_beside_its_own_overscan(generic):
    from ccdflow.cascade.records import Extension

    by = generic.model_copy(
        update={"amplifiers": generic.amplifiers.model_copy(update={
            "extensions": True, "data": ("DATASEC",), "overscan": ("BIASSEC",), "target": ("DETSEC",), "sensitive": ()
        })}
    )  # fmt: skip
    images = [
        Extension(1, "im1", (64, 80), {"BIASSEC": "[73:80,1:64]", "DETSEC": "[1:72,1:64]"}, 0),
        Extension(2, "im2", (64, 80), {"BIASSEC": "[1:8,1:64]", "DETSEC": "[73:144,1:64]"}, 64),
    ]
    layout = detector({}, by, (128, 80), images)
    assert layout.shape == (64, 144)
    assert [str(amplifier.data) for amplifier in layout.amplifiers] == ["[1:72,1:64]", "[9:80,65:128]"]


@pytest.mark.parametrize(
    "written",
    ["", "NONE", "none", "[0:0,0:0]", "[ 0:0 , 0:0 ]", "[0,1:0,2048]", "[00:00,0:0]", "[1:0,1:0]", "UNKNOWN"],
)
def test_words_and_zeros_say_no_section(written):
    assert not says_section(written)


@pytest.mark.parametrize("written", ["[1:72,1:64]", "[10:50,100:2050]", "[*,*]", "left half"])
def test_what_says_a_section_is_read_or_refused(written):
    assert says_section(written)


def test_a_section_is_written_as_fits_writes_it():
    for written in ("[1:72,1:64]", "[72:1,64:1]", "[5:5,7:9]"):
        assert str(Section.parse(written)) == written


def test_an_overscan_too_short_for_rows_says_so_in_the_words_of_fits():
    data, overscan = Section.parse("[1:72,1:64]"), Section.parse("[73:80,12:57]")
    amplifier = Amplifier(data, Section.whole(data.shape), overscan)
    frame = RawFrame(np.ones((64, 80)), Detector(data.shape, (amplifier,)), name="short.fits")
    prepared = PreparedFrame(frame, Readout((1,), (1,)), overscan="row")
    with pytest.raises(
        ValueError,
        match=r"\[73:80,12:57\] of short.fits .* beside all of its data \[1:72,1:64\].*overscan=level",
    ):
        prepared.rows(slice(0, 1))
