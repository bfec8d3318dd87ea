"""What a camera was set to, as programs write it."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from ccdflow.cascade.headers.classify import Description, FileFacts, describe
from ccdflow.cascade.headers.instrument import Instrument, inherit
from ccdflow.cascade.headers.setting import celsius
from ccdflow.cascade.records import Value
from ccdflow.config.instruments import load_instruments

INSTRUMENTS = load_instruments([Path(str(files("ccdflow.config"))) / "instruments"])
SHAPE = (48, 64)


def read(cards: dict[str, Value], shape: tuple[int, int] = SHAPE, **comments: str) -> Description:
    whole = {"IMAGETYP": "Dark", "DATE-OBS": "2026-03-01T20:00:00", "EXPTIME": 60.0, **cards}
    return describe(whole, shape, INSTRUMENTS, FileFacts(comments))


def value(
    cards: dict[str, Value], keyword: str, shape: tuple[int, int] = SHAPE, **comments: str
) -> Value | None:
    return read(cards, shape, **comments).record(1).value(keyword)


@pytest.mark.parametrize(
    ("written", "comment", "unit", "degrees"),
    [
        (-20.0, "", "", -20.0),
        (163.15, "", "", -110.0),
        (293.0, "", "", 19.85),
        (35.5, "", "", 35.5),
        ("163.15 K", "", "", -110.0),
        ("-25.1 C", "", "", -25.1),
        ("-10 degC", "[K]", "", -10.0),
        (50.0, "[K] cold plate", "", -223.15),
        (50.0, "Detector temperature (K)", "", -223.15),
        (50.0, "detector temperature, kelvin", "", -223.15),
        (-20.0, "sensor temperature (K)", "", -20.0),
        (50.0, "", "K", -223.15),
        (-4.0, "[F] chip", "", -20.0),
        (14.0, "CCD temperature in degrees Fahrenheit", "", -10.0),
        (20.0, "[degC] CCD temperature", "", 20.0),
        ("off", "", "", None),
    ],
)
def test_temperatures_are_celsius_whatever_unit_the_header_has(
    written: Value, comment: str, unit: str, degrees: float | None
) -> None:
    assert celsius(written, comment, unit) == (None if degrees is None else pytest.approx(degrees))


@pytest.mark.parametrize(
    ("cards", "degrees"),
    [
        ({"CCD-TEMP": -19.6, "SET-TEMP": -20.0}, -20.0),
        ({"CCD-TEMP": -20.4, "SET-TEMP": -20.0}, -20.0),
        ({"CCD-TEMP": 5.0, "SET-TEMP": -20.0}, 5.0),
        ({"CCD-TEMP": -19.6}, -19.6),
        ({"SET-TEMP": -15.0}, -15.0),
        ({"CCD-TEMP": 21.5, "SET-TEMP": 21.0, "COOLER": "OFF"}, 21.5),
        ({"CCD-TEMP": 21.5, "SET-TEMP": "off"}, 21.5),
        ({"DET-TEMP": 163.15}, -110.0),
        ({"CCDSTEMP": 173, "CCDATEMP": 173}, -100.15),  # Isaac Newton Group
        ({"TEMPCCD": -110.0}, -110.0),  # Magellan
        ({"TEMPERAS": -135.8}, -135.8),  # CFHT
        ({"CCD-TEMP": "-20,1"}, -20.1),
        ({"CCD-TEMP": "-20.0 degrees C"}, -20.0),
        ({"CCD-TEMP": -273.15}, None),
        ({}, None),
    ],
)
def test_the_set_point_counts_where_the_sensor_is_at_it(
    cards: dict[str, Value], degrees: float | None
) -> None:
    assert value(cards, "sensor_temperature") == degrees


def test_a_corrected_reading_corrects_the_temperature_of_the_sensor() -> None:
    record = read({"CCD-TEMP": 5.0}).record(1)
    corrected = replace(record, keywords={**record.keywords, "ccd_temperature": -20.0})
    assert (record.value("sensor_temperature"), corrected.value("sensor_temperature")) == (5.0, -20.0)


def test_a_temperature_that_can_not_be_is_a_doubt() -> None:
    found = read({"CCD-TEMP": -999.0})
    assert "ccd_temperature" not in found.keywords
    assert [str(doubt) for doubt in found.doubts] == ["value: CCD-TEMP='-999' is outside -273 to 100"]


@pytest.mark.parametrize(
    "said", [{"COOLER": "OFF"}, {"COOLERON": False}, {"COOLSTAT": "Off"}, {"SET-TEMP": "off"}]
)
def test_a_cooler_that_is_off_is_known(said: dict[str, Value]) -> None:
    assert value({"CCD-TEMP": 20.0, **said}, "cooler") == "off"


@pytest.mark.parametrize("said", [{}, {"COOLER": "ON"}, {"COOLERON": True}, {"SET-TEMP": 0}])
def test_a_cooler_that_runs_or_is_not_spoken_of_says_nothing(said: dict[str, Value]) -> None:
    assert value(said, "cooler") is None


@pytest.mark.parametrize(
    ("cards", "wanted"),
    [
        ({"GAIN": 100, "OFFSET": 50, "READMODE": "HCG"}, ("HCG", "100", "50")),
        ({"GAIN": 100, "BLKLEVEL": 50}, (None, "100", "50")),
        ({"OFFSET": 10}, (None, None, "10")),
        ({"OFFSET": 10.0}, (None, None, "10")),
        ({"BLKLEVEL": 240}, (None, None, "240")),
        # Electron per adu is no setting, unless another card tells it.
        ({"GAIN": 1.5}, (None, None, None)),
        ({"EGAIN": 1.5, "GAIN": 1.5}, (None, None, None)),
        ({"EGAIN": 0.8, "GAIN": 120}, (None, "120", None)),
        ({"GAIN": 120}, (None, "120", None)),
        ({"SWCREATE": "SharpCap 4.1", "GAIN": 2.0, "READOUTM": "Low Noise"}, ("Low Noise", "2", None)),
        ({"PREAMP": "4x", "EMGAIN": 200, "GAIN": 1.2, "READSPD": "5 MHz"}, (None, "4x/200", None)),
        # Programs for CMOS cameras, whose GAIN of 30 could be electron per adu.
        ({"SWCREATE": "INDIGO 2.0-200", "GAIN": 30.0}, (None, "30", None)),
        ({"CREATOR": "Sequence Generator Pro v3.1", "GAIN": 30}, (None, "30", None)),
        ({"INSTRUME": "ZWO CCD ASI1600MM Pro", "GAIN": 30}, (None, "30", None)),
        ({"ORIGIN": "DWARFLAB", "GAIN": 40, "EXPTIME": None, "EXP": 15.0}, (None, "40", None)),
        ({"GAIN": "1.0E+02", "OFFSET": "10.0"}, (None, "100", "10")),
        ({"GAINSET": "2x", "OFFSET": "auto"}, (None, "2x", "auto")),
        # -1 is none, and what is no whole number is an offset of the telescope.
        ({"GAIN": -1, "OFFSET": -1}, (None, None, None)),
        ({"OFFSET": -12.5}, (None, None, None)),
        ({"OFFSET": "12.0 -3.0", "BLKLEVEL": 8}, (None, None, "8")),
        # A readout's duration that was measured is no mode.
        ({"READOUT": 13.2}, (None, None, None)),
        ({"READOUT": 2}, ("2", None, None)),
    ],
)
def test_mode_gain_and_offset_are_told_apart(cards: dict[str, Value], wanted: tuple[Any, ...]) -> None:
    found = read(cards).keywords
    assert tuple(found.get(name) for name in ("readout_mode", "gain_setting", "offset")) == wanted


@pytest.mark.parametrize(
    ("cards", "speed"),
    [
        ({"CCDSPEED": "QUICK"}, "QUICK"),  # Isaac Newton Group
        ({"ROSPEED": "SLOW"}, "SLOW"),  # SALT
        ({"RSPEED": "200 kHz"}, "200 kHz"),  # GTC
        ({"AMPINTEG": 5000}, "5000"),  # Gemini
        ({"SPEED": "Slow"}, "Slow"),  # Magellan
        ({"SPEED": 3.2}, None),  # of the wind
        ({"READTIME": 5e-08}, "5e-08"),  # Andor
        ({"READTIME": 12.345}, None),
        ({"READTIME": "36.2 s"}, None),
        ({"SPEED": 3.2, "READTIME": 36.1, "ESO DET READ SPEED": "fast"}, "fast"),
    ],
)
def test_a_readout_speed_is_what_was_set_and_not_what_was_measured(
    cards: dict[str, Value], speed: str | None
) -> None:
    assert read(cards).keywords.get("readout_speed") == speed


@pytest.mark.parametrize(
    ("gain", "comment", "said"),
    [
        (0.5, "[ADU/e-] gain", "is adu per electron"),
        (0.5, "gain, DN per electron", "is adu per electron"),
        (26, "Sensor gain", "is a setting"),
        (12.0, "[dB] analog gain", "is a setting"),
        ("12 dB", "", "is a setting"),
        ("0.5 ADU/e-", "", "is adu per electron"),
        ("1.5 e-/ADU", "", ""),
        (1.5, "Electrons per ADU", ""),
        (1.39, "camera gain", ""),
        (1.5, "CCD gain setting [e-/ADU]", ""),
        (1.5, "", ""),
    ],
)
def test_a_comment_against_electron_per_adu_is_a_doubt(gain: Value, comment: str, said: str) -> None:
    doubts = read({"GAIN": gain}, GAIN=comment).doubts
    assert [doubt.kind for doubt in doubts] == (["gain_conflict"] if said else [])
    assert all(said in doubt.text for doubt in doubts)


@pytest.mark.parametrize(
    ("cards", "wanted"),
    [
        ({"DETXBIN": 2, "DETYBIN": 2}, "2x2"),  # NOT
        ({"CCDBIN1": 2, "CCDBIN2": 2}, "2x2"),  # CFHT
        ({"COLBIN": 1, "ROWBIN": 2}, "1x2"),  # SDSS
        ({"CBIN": 2, "RBIN": 2}, "2x2"),  # Lick
        ({"HBIN": 2, "VBIN": 4}, "2x4"),  # Andor
        ({"BINAXIS1": 3, "BINAXIS2": 3}, "3x3"),  # HST
        ({"BINNING": "2.0"}, "2x2"),
        ({"BINNING": 2.0}, "2x2"),
        ({"BINNING": "2*2"}, "2x2"),  # DWARF
        ({"XBINNING": "2.0", "YBINNING": "2.0"}, "2x2"),
    ],
)
def test_binnings_of_many_observatories_are_one_text(cards: dict[str, Value], wanted: str) -> None:
    assert value(cards, "binning") == wanted


@pytest.mark.parametrize(
    ("cards", "angle"),
    [
        ({"ROTATOR": 12.5}, 12.5),
        ({"ROTATANG": -90.0}, 270.0),
        ({"ROTATANG": 360.0}, 0.0),
        ({"ROTATOR": "Pegasus Falcon", "ROTATANG": 3.0}, 3.0),
        ({"ROTSKYPA": 10.0, "POSANGLE": 10.0, "OBJCTROT": 10.0, "ROTPA": 10.0}, None),
    ],
)
def test_only_the_angle_of_the_rotator_itself_is_read(cards: dict[str, Value], angle: float | None) -> None:
    assert value(cards, "rotator") == angle


@pytest.mark.parametrize(
    ("cards", "shape", "window"),
    [
        ({"XORGSUBF": 0, "YORGSUBF": 0}, (48, 64), "[1:64,1:48]"),
        ({"XORGSUBF": 100, "YORGSUBF": 200}, (48, 64), "[101:164,201:248]"),
        ({"XORGSUBF": 100, "YORGSUBF": 200, "XBINNING": 2, "YBINNING": 2}, (48, 64), "[201:328,401:496]"),
        ({"CCDSEC": "[101:164,201:248]"}, (48, 64), "[101:164,201:248]"),
        ({"DETSEC": "[101:228,201:296]", "CCDSUM": "2 2"}, (48, 64), "[101:228,201:296]"),
        (
            {"CCDSEC": "[51:114,1:48]", "DATASEC": "[11:74,1:48]", "TRIMSEC": "[13:72,1:48]"},
            (48, 80),
            "[53:112,1:48]",
        ),
        ({"XORGSUBF": 0, "YORGSUBF": 0, "TRIMSEC": "[3:62,1:48]"}, (48, 64), "[3:62,1:48]"),
        ({"LTV1": -100.0, "LTV2": -200.0}, (48, 64), "[101:164,201:248]"),
        (
            {"LTV1": -49.75, "LTV2": -99.75, "LTM1_1": 0.5, "LTM2_2": 0.5, "CCDSUM": "2 2"},
            (48, 64),
            "[101:228,201:296]",
        ),
        ({"ESO DET WIN1 STRX": 101, "ESO DET WIN1 STRY": 201}, (48, 64), "[101:164,201:248]"),
        ({"ESO DET WIN1 STRX": 101, "ESO DET WIN1 STRY": 201, "XBINNING": 2}, (48, 64), "[101:228,201:296]"),
        # What can't be read, or is no section of the data, hides none behind it.
        ({"CCDSEC": "unknown!", "DETSEC": "[101:164,201:248]"}, (48, 64), "[101:164,201:248]"),
        ({"CCDSEC": "[1:1024,1:1024]", "DETSEC": "[101:164,201:248]"}, (48, 64), "[101:164,201:248]"),
        ({"CCDSEC": "[0:0,0:0]", "DETSEC": "[101,201:164,248]"}, (48, 64), "[101:164,201:248]"),
        (
            {"ESO DET WIN1 STRX": 101, "ESO DET WIN1 STRY": "?", "WIN1STRX": 101, "WIN1STRY": 201},
            (48, 64),
            "[101:164,201:248]",
        ),
        ({"DETWIN1": "[101:164, 201:248]"}, (48, 64), "[101:164,201:248]"),
        ({"DETWIN1": "[101:228, 201:296]", "DETXBIN": 2, "DETYBIN": 2}, (48, 64), "[101:228,201:296]"),
        ({"DETWIN1": "[1:80, 201:248]", "BIASSEC": "[1:10,1:48]"}, (48, 80), "[11:80,201:248]"),
        # Of another size than the data, mirrored, or before the first pixel: then nothing is known.
        ({"CCDSEC": "[1:1024,1:1024]"}, (48, 64), None),
        ({"CCDSEC": "[164:101,201:248]"}, (48, 64), None),
        ({"XORGSUBF": -5, "YORGSUBF": 0}, (48, 64), None),
        ({}, (48, 64), None),
    ],
)
def test_the_place_of_a_window_is_a_section_of_the_detector(
    cards: dict[str, Value], shape: tuple[int, int], window: str | None
) -> None:
    assert value(cards, "window", shape) == window


def test_the_size_is_that_of_the_assembled_image() -> None:
    assert value({"DATASEC": "[11:74,1:48]"}, "size", (48, 80)) == "48x64"
    assert value({}, "size", (48, 80)) == "48x80"


def test_amplifiers_are_named() -> None:
    two = {"AMPLIST": "11 12", "DSEC11": "[1:32,1:48]", "DSEC12": "[33:64,1:48]"}
    assert value(two, "amplifiers") == "11 12"
    assert value({"AMPMODE": "SINGLE:B"}, "amplifiers") == "SINGLE:B"
    assert value({}, "amplifiers") is None


# What an instrument file may read by fewer keywords than the generic one, on purpose.
_OTHERWISE = {("cmos", "gain"), ("goto", "ccd_temperature"), ("goto", "set_temperature"), ("efosc2", "gain")}
_DECIDING = (
    "readout_mode",
    "readout_speed",
    "gain_setting",
    "offset",
    "amplifiers",
    "cooler",
    "ccd_temperature",
)
_DECIDING = (*_DECIDING, "set_temperature", "rotator", "gain")


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.name)
def test_every_shipped_instrument_reads_all_that_decides_as_the_generic_one_does(
    instrument: Instrument,
) -> None:
    generic = next(known for known in INSTRUMENTS if known.name == "generic")
    for name in _DECIDING:
        if (instrument.name, name) not in _OTHERWISE:
            assert set(getattr(generic.keywords, name)) <= set(getattr(instrument.keywords, name)), name
    assert generic.keep.keys() <= instrument.keep.keys()
    assert instrument.window == generic.window


def test_a_list_holds_what_the_extended_file_has_where_it_says_so() -> None:
    parent = Instrument.model_validate(
        {"name": "p", "keywords": {"filter": ["A", "B"]}, "keep": {"x": ["X"]}}
    )
    child = {"name": "c", "keywords": {"filter": ["MINE", "...", "LAST"]}, "keep": {"x": ["Y", "..."]}}
    both = inherit(Instrument.model_validate(child), parent)
    assert (both.keywords.filter, both.keep["x"]) == (("MINE", "A", "B", "LAST"), ("Y", "X"))


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.name)
def test_a_spelling_of_an_instrument_file_goes_before_the_inherited_class(instrument: Instrument) -> None:
    child = {"name": "mine", "classes": {"science": ["comp", "Zero-Frame", "..."]}}
    spellings = inherit(Instrument.model_validate(child), instrument).spellings
    assert (spellings["comp"], spellings["zeroframe"]) == ("science", "science")
    for word, name in instrument.spellings.items():
        assert spellings[word] == ("science" if word in ("comp", "zeroframe") else name)
