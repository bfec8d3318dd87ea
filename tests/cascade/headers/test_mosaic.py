"""Which colour the first pixels have."""

from typing import Any

import pytest

from ccdflow.cascade.headers.classify import describe
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped

SHIPPED = load_instruments([shipped("instruments")])
CARDS = {"IMAGETYP": "LIGHT", "DATE-OBS": "2026-03-01T21:00:00", "EXPTIME": 60.0}


def read(shape: tuple[int, int] | None = (200, 300), **cards: Any) -> tuple[Any, list[str]]:
    header = CARDS | {name.replace("__", "-"): value for name, value in cards.items()}
    said = describe(header, shape, SHIPPED)
    return said.keywords.get("mosaic"), [doubt.text for doubt in said.doubts if doubt.kind == "mosaic"]


@pytest.mark.parametrize(
    ("cards", "wanted"),
    [
        ({"BAYERPAT": "RGGB"}, "RGGB"),
        ({"BAYERPAT": " rggb ", "XBAYROFF": 0, "YBAYROFF": 0, "ROWORDER": "TOP-DOWN"}, "RGGB"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 1}, "GRBG"),
        ({"BAYERPAT": "RGGB", "YBAYROFF": 1.0}, "GBRG"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": -1, "YBAYROFF": "1"}, "BGGR"),
        ({"BAYERPAT": "RGGB", "ROWORDER": "BOTTOM-UP"}, "GBRG"),
        ({"BAYERPAT": "RGGB", "ROWORDER": "bottom-up", "YBAYROFF": 1}, "RGGB"),
        ({"BAYERPAT": "BayerRG16"}, "RGGB"),
        ({"BAYERPAT": "GB"}, "GBRG"),
        ({"COLORTYP": "GRBG"}, "GRBG"),
        ({"BAYERPAT": "RGGB", "GAIN": 100, "OFFSET": 50}, "RGGB"),
        ({"BAYERPAT": "RGGB", "TRIMSEC": "[2:300,1:200]"}, "GRBG"),
        ({"BAYERPAT": "RGGB", "TRIMSEC": "[2:299,2:199]"}, "BGGR"),
        ({"BAYERPAT": "RGGB", "TRIMSEC": "[3:299,4:199]", "ROWORDER": "BOTTOM-UP"}, "RGGB"),
        ({"BAYERPAT": "RGGB", "XORGSUBF": 10, "YORGSUBF": 20}, "RGGB"),
        ({"BAYERPAT": "RGGB", "XORGSUBF": 11, "YORGSUBF": 20, "XBAYROFF": 1}, "GRBG"),
        ({"BAYERPAT": "RGGB", "COLORTYP": "RGGB", "XORGSUBF": 0, "YORGSUBF": 0}, "RGGB"),
        ({"BAYERPAT": "BAYER_RGGB16"}, "RGGB"),
        ({"BAYERPAT": "[RG;GB]"}, "RGGB"),
        ({"CFA": "GBRG"}, "GBRG"),
        ({"BAYERPAT": "RGGB", "CCDSEC": "[11:310,1:200]"}, "RGGB"),
        ({"BAYERPAT": "RGGB", "CCDSEC": "[12:311,1:200]", "XBAYROFF": 1}, "GRBG"),
        ({"BAYERPAT": "RGGB", "DATASEC": "[8:300,1:200]", "CCDSEC": "[1:293,1:200]"}, "GRBG"),
        ({"BAYERPAT": "NONE"}, None),
        ({"BAYERPAT": "MONO16"}, None),
        ({"BAYERPAT": "no Bayer", "XBAYROFF": 0}, None),
        ({"COLORTYP": "RAW16"}, None),
        ({"BAYERPAT": "Monochrome"}, None),
        ({"BAYERPAT": ""}, None),
        ({"COLORTYP": "RGB"}, None),
        ({"COLORTYP": 0}, None),
        ({}, None),
    ],
)
def test_patterns_of_the_first_pixels(cards: dict[str, Any], wanted: str | None) -> None:
    assert read(**cards) == (wanted, [])


def test_a_bottom_up_image_of_odd_height_begins_as_the_picture_does() -> None:
    assert read((201, 300), BAYERPAT="RGGB", ROWORDER="BOTTOM-UP") == ("RGGB", [])
    assert read(None, BAYERPAT="RGGB", ROWORDER="BOTTOM-UP") == ("GBRG", [])


@pytest.mark.parametrize(
    ("cards", "word"),
    [
        ({"BAYERPAT": "XTRANS"}, "not known"),
        ({"BAYERPAT": "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG"}, "not known"),
        ({"BAYERPAT": "CMYG"}, "not known"),
        ({"BAYERPAT": "TRUE"}, "not known"),
        ({"COLORTYP": "CMYG"}, "not known"),
        ({"BAYERPAT": "RGGB", "XBINNING": 2, "YBINNING": 2}, "binned 2x2"),
        ({"COLORTYP": "OSC"}, "not known"),
        ({"COLORTYP": 1}, "not known"),
        ({"BAYERPAT": "RGGB", "COLORTYP": "GRBG"}, "contradict each other"),
        ({"BAYERPAT": "NONE", "COLORTYP": "GRBG"}, "contradict each other"),
        ({"BAYERPAT": "RGGB", "XORGSUBF": 11, "YORGSUBF": 0}, "odd pixel"),
        ({"BAYERPAT": "RGGB", "CCDSEC": "[12:311,1:200]"}, "odd pixel"),
        ({"BAYERPAT": "RGGB", "LTV1": 0, "LTV2": -7}, "odd pixel"),
        ({"BAYERPAT": "RGGB", "ESO DET WIN1 STRX": 12, "ESO DET WIN1 STRY": 1}, "odd pixel"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 0.5}, "no whole number"),
        ({"BAYERPAT": "RGGB", "ROWORDER": "SIDEWAYS"}, "neither TOP-DOWN nor BOTTOM-UP"),
        ({"BAYERPAT": "RGGB", "TRIMSEC": "[300:1,1:200]"}, "mirrored"),
    ],
)
def test_a_mosaic_that_can_not_be_taken_apart_is_a_doubt(cards: dict[str, Any], word: str) -> None:
    mosaic, doubts = read(**cards)
    assert mosaic == "unknown" and len(doubts) == 1 and word in doubts[0]


def test_no_doubt_where_no_light_falls() -> None:
    assert read(IMAGETYP="BIAS", BAYERPAT="XTRANS") == ("unknown", [])


@pytest.mark.parametrize(
    ("cards", "word"),
    [
        ({"XBAYROFF": 0, "YBAYROFF": 0}, "XBAYROFF=0"),
        ({"INSTRUME": "ZWO ASI294MC Pro"}, "ASI294MC"),
        ({"INSTRUME": "QHY CCD QHY268C-1f2e"}, "QHY268C"),
        ({"INSTRUME": "Poseidon-C Pro"}, "Poseidon-C"),
        ({"CAMERA": "Canon EOS 600D"}, "Canon EOS"),
    ],
)
def test_a_colour_camera_without_a_pattern_is_monochrome_with_a_word(
    cards: dict[str, Any], word: str
) -> None:
    mosaic, (doubt,) = read(**cards)
    assert mosaic is None and word in doubt and "taken as monochrome" in doubt


@pytest.mark.parametrize(
    "camera", ["ZWO ASI294MM Pro", "QHY268M", "QHY16200A", "Poseidon-M", "CCD47-10", "NGC-C"]
)
def test_a_monochrome_camera_needs_no_word(camera: str) -> None:
    assert read(INSTRUME=camera) == (None, [])
