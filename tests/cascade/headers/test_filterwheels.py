import pytest

from ccdflow.cascade.headers.classify import Description, describe
from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped

KNOWN = load_instruments([shipped("instruments")])
LIGHT = {"IMAGETYP": "Light Frame", "DATE-OBS": "2026-03-01T20:00:00", "EXPTIME": 60.0}


def read(**cards: object) -> Description:
    return describe({**LIGHT, **cards}, (4, 4), KNOWN)


@pytest.mark.parametrize(
    "empty", ["clear", "Clear", "none", "OPEN", "open1-6", "NOFILTER", "<NO FILTER>", "NO_FILTER", "air"]
)
def test_a_wheel_without_a_filter_adds_nothing(empty: str) -> None:
    assert read(FILTER1=empty, FILTER2="V").filter == "V"
    assert read(FILTER1="V", FILTER2=empty).filter == "V"
    assert read(FILTER=empty, FILTER2="V").filter == "V"


@pytest.mark.parametrize(
    ("cards", "wanted"),
    [
        ({"FILTER1": "V", "FILTER2": "ND1"}, "V+ND1"),
        ({"FILTER1": "ND1", "FILTER2": "V"}, "ND1+V"),
        ({"FILTER1": "air", "FILTER2": "Ha", "FILTER3": "ND2"}, "Ha+ND2"),
        ({"FILTER1": "V", "FILTER2": "V"}, "V"),
        ({"FILTER": "rp", "FILTER1": "air", "FILTER2": "rp", "FILTER3": "air"}, "rp"),
        ({"FILTER": "V", "FILTER1": "V", "FILTER2": "ND1"}, "V+ND1"),
        ({"FILTER": "SDSS-r", "FILTER2": "GG455"}, "SDSS-r+GG455"),
        ({"FILTER": "V", "FILTER1": 0, "FILTER2": 3}, "V"),
        ({"FILTER": "Clear/V"}, "V"),
        ({"FILTER": "Ha/NII"}, "Ha/NII"),
        ({"FILTER": "r", "FILTER1": "open1-6", "FILTER2": "r_G0303"}, "r"),
        ({"ESO INS FILT1 NAME": "FREE", "ESO INS FILT2 NAME": "V#641"}, "V#641"),
        ({"ALFLTNM": "Open", "FAFLTNM": "R_Bes 650_130", "FBFLTNM": "Open"}, "R_Bes 650_130"),
        ({"FILTER": "Clear"}, "Clear"),
        ({"FILTER": "C"}, "C"),
        ({"FILTER": "L"}, "L"),
        ({"FILTER1": "clear", "FILTER2": "open"}, "clear"),
        ({"FILTER1": "open", "FILTER2": "clear"}, "clear"),
        ({"FILTER": " V "}, "V"),
        ({"FILTER1": "CLEAR1L", "FILTER2": "F814W"}, "F814W"),  # HST
        ({"FILTER1": "OPEN", "FILTER2": "Sloan_r", "FILTER3": "OPEN", "FILTER4": "OPEN"}, "Sloan_r"),  # GTC
        ({"WFFBAND": "r"}, "r"),  # Isaac Newton Telescope
        ({"ACAMWH1": "CLEAR", "ACAMWH2": "SlnR"}, "SlnR"),  # William Herschel Telescope
        ({"INSFLNAM": "Cousins R"}, "Cousins R"),  # Calar Alto
        ({"FILTER": "SII", "CLRBAND": "R"}, "SII"),  # MaxIm DL
        ({"FILTER": "Luminance"}, "Luminance"),
        ({"FILTER1": "CLR", "FILTER2": "V"}, "V"),
        ({"FILTER": False}, ""),
        ({}, ""),
    ],
)
def test_filters_of_several_wheels_are_joined(cards: dict[str, object], wanted: str) -> None:
    description = read(**cards)
    assert (description.filter, description.doubts) == (wanted, ())


def test_a_filter_that_no_wheel_holds_is_a_doubt() -> None:
    description = read(FILTER="V", FILTER1="B", FILTER2="clear")
    assert description.filter == "V"
    assert [doubt.kind for doubt in description.doubts] == ["filter_conflict"]
    assert "the filter is V, the wheels FILTER1+FILTER2" in description.doubts[0].text


def test_each_wheels_filter_is_respelt_and_a_file_that_names_one_card_is_believed() -> None:
    (generic,) = (known for known in KNOWN if known.name == "generic")
    stated = generic.model_dump(by_alias=True)
    respelt = Instrument.model_validate({**stated, "values": {"filter": {"V": ["Johnson V", "2"]}}})
    assert describe({**LIGHT, "FILTER1": "johnson v", "FILTER2": "ND1"}, (4, 4), [respelt]).filter == "V+ND1"
    keywords = {**stated["keywords"], "filter": ("FILTNO",)}
    single = Instrument.model_validate({**stated, "keywords": keywords, "values": {"filter": {"V": ["2"]}}})
    assert describe({**LIGHT, "FILTNO": 2, "FILTER1": "B"}, (4, 4), [single]).filter == "V"
