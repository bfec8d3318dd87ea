"""Frames of the programs that amateurs and small observatories take them with are read as raw frames."""

from typing import Any

import pytest

from ccdflow.cascade.headers.classify import describe
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped

INSTRUMENTS = load_instruments([shipped("instruments")])
Cards = dict[str, Any]

# Cards as they stand in files that others have published; without those that say how the file is stored.
MAXIM: Cards = {
    **{
        "DATE-OBS": "2026-03-01T20:00:00.12",
        "EXPTIME": 60.0,
        "EXPOSURE": 60.0,
        "SET-TEMP": -20.0,
        "CCD-TEMP": -19.8,
    },
    **{
        "XPIXSZ": 9.0,
        "XBINNING": 1,
        "YBINNING": 1,
        "XORGSUBF": 0,
        "YORGSUBF": 0,
        "READOUTM": "Fast",
        "EGAIN": 1.6,
    },
    **{"FILTER": "V", "IMAGETYP": "Light Frame", "PEDESTAL": 0, "FLIPSTAT": "", "INSTRUME": "SBIG STXL-6303"},
    **{
        "SWCREATE": "MaxIm DL Version 6.30 220715 0RS3T",
        "SBSTDVER": "SBFITSEXT Version 1.0",
        "OBJECT": "M13",
    },
    **{"ROWORDER": "TOP-DOWN", "CSTRETCH": "Medium", "CBLACK": 900, "CWHITE": 2000},
}
NINA: Cards = {
    **{"IMAGETYP": "LIGHT", "EXPOSURE": 120.0, "EXPTIME": 120.0, "DATE-LOC": "2026-03-01T21:00:00.500"},
    **{
        "DATE-OBS": "2026-03-01T20:00:00.500",
        "DATE-AVG": "2026-03-01T20:01:00.500",
        "XBINNING": 1,
        "YBINNING": 1,
    },
    **{
        "GAIN": 100,
        "OFFSET": 50,
        "EGAIN": 0.71,
        "INSTRUME": "ZWO ASI2600MC Pro",
        "SET-TEMP": -10.0,
        "CCD-TEMP": -10.0,
    },
    **{"READOUTM": "Low Conversion Gain", "BAYERPAT": "RGGB", "XBAYROFF": 0, "YBAYROFF": 0, "USBLIMIT": 40},
    **{"OBJECT": "M 13", "FILTER": "L", "ROWORDER": "TOP-DOWN", "SWCREATE": "N.I.N.A. 3.1.2.9001 (x64)"},
}
SHARPCAP: Cards = {
    **{"ROWORDER": "TOP-DOWN", "EXPTIME": 28, "XPIXSZ": 2.4, "XBINNING": 1, "YBINNING": 1, "CCD-TEMP": -0.5},
    **{
        "SWCREATE": "SharpCap v4.1.12946.0, 64 bit",
        "DATE-OBS": "2026-03-01T20:00:00.3846323",
        "RDNOISE": 1.7,
    },
    **{"DATE-END": "2026-03-01T20:00:28.3846323", "DATE-AVG": "2026-03-01T20:00:14.3846323", "EGAIN": 0.9},
    **{"JD_UTC": 2461101.3335, "COLORTYP": "RGGB", "BAYERPAT": "RGGB", "INSTRUME": "ZWO ASI183MC Pro"},
    **{"IMAGETYP": "Light", "GAIN": 200, "BLKLEVEL": 20, "OBJECT": "M13"},
}
ASIAIR: Cards = {
    **{
        "CREATOR": "ZWO ASIAIR Plus",
        "OFFSET": 50,
        "XORGSUBF": 0,
        "YORGSUBF": 0,
        "FOCALLEN": 400,
        "XBINNING": 1,
    },
    **{"YBINNING": 1, "CCDXBIN": 1, "CCDYBIN": 1, "XPIXSZ": 3.76, "IMAGETYP": "Light", "EXPOSURE": 300.0},
    **{"EXPTIME": 300.0, "CCD-TEMP": -10.0, "SET-TEMP": -10.0, "RA": 250.42, "DEC": 36.46, "FILTER": "L-Pro"},
    **{"DATE-OBS": "2026-03-01T20:00:00.111222", "INSTRUME": "ZWO ASI2600MC Pro", "GUIDECAM": "ZWO ASI120MM"},
    **{"BAYERPAT": "RGGB", "GAIN": 100, "OBJECT": "M 13", "BITPIX": 16},
}
SEESTAR: Cards = {
    **{
        "TELESCOP": "S50_40d24ed8",
        "INSTRUME": "Seestar S50",
        "CREATOR": "ZWO Seestar S50",
        "PRODUCER": "ZWO",
    },
    **{
        "OBJECT": "NGC 281",
        "IMAGETYP": "Light",
        "EXPTIME": 10.0,
        "EXPOSURE": 10.0,
        "GAIN": 80,
        "FILTER": "LP",
    },
    **{
        "CCD-TEMP": 27.9375,
        "RA": 13.633335,
        "DEC": 56.775833,
        "BAYERPAT": "GRBG",
        "FOCALLEN": 250.0,
        "XPIXSZ": 2.9,
    },
    **{"SITELAT": 30.5038, "SITELONG": -97.7429, "DATE-OBS": "2026-03-01T20:00:00.382641", "PROGRAM": "4.70"},
}
EKOS: Cards = {
    **{
        "ROWORDER": "TOP-DOWN",
        "INSTRUME": "ZWO CCD ASI1600MM Pro",
        "TELESCOP": "EQMod Mount",
        "OBSERVER": "Unknown",
    },
    **{"OBJECT": "M13", "EXPTIME": 60.0, "CCD-TEMP": -15.0, "PIXSIZE1": 3.8, "PIXSIZE2": 3.8, "XBINNING": 1},
    **{
        "YBINNING": 1,
        "XPIXSZ": 3.8,
        "YPIXSZ": 3.8,
        "FRAME": "Light",
        "IMAGETYP": "Light Frame",
        "FILTER": "Ha",
    },
    **{"SCALE": 1.2, "AIRMASS": 1.1, "DATE-OBS": "2026-03-01T20:00:00.000", "GAIN": 139.0, "OFFSET": 21.0},
}
AIJ: Cards = MAXIM | {
    "AIRMASS": 1.08,
    "JD_UTC": 2461101.33368,
    "BJD_TDB": 2461101.33718,
    "HJD_UTC": 2461101.336,
}


@pytest.mark.parametrize(
    ("cards", "exptime", "mosaic", "profile"),
    [
        (MAXIM, 60.0, None, "generic"),
        (NINA, 120.0, "RGGB", "cmos"),
        (SHARPCAP, 28.0, "RGGB", "cmos"),
        (ASIAIR, 300.0, "RGGB", "cmos"),
        (SEESTAR, 10.0, "GRBG", "cmos"),
        (EKOS, 60.0, None, "cmos"),
        (AIJ, 60.0, None, "generic"),
    ],
    ids=["MaxIm DL", "NINA", "SharpCap", "ASIAIR", "Seestar", "Ekos", "AstroImageJ"],
)
def test_a_light_is_read_as_its_program_writes_it(
    cards: Cards, exptime: float, mosaic: str | None, profile: str
) -> None:
    said = describe(cards, (200, 300), INSTRUMENTS)
    assert said.frame_class == "science" and not said.refused and said.finished is None
    assert said.obsdate.startswith("2026-03-01T20:00:00") and said.exptime == exptime
    assert said.keywords.get("mosaic") == mosaic and said.keywords["profile"] == profile
    assert not said.doubts, [doubt.text for doubt in said.doubts]


@pytest.mark.parametrize(
    ("cards", "told"),
    [
        (SEESTAR | {"STACKCNT": 30, "TOTALEXP": 300.0}, "combined"),
        (SHARPCAP | {"EXPTIME": 280, "SUBEXP": 28}, "combined"),
        (MAXIM | {"CALSTAT": "BDF"}, "bias, dark, flat"),
    ],
)
def test_what_the_same_programs_have_worked_on_is_no_raw_frame(cards: Cards, told: str) -> None:
    said = describe(cards, (200, 300), INSTRUMENTS)
    assert said.finished is not None and told in said.finished.sentence
