"""Headers of products of single raw frames: what of the camera's own cards is left, and what is said anew."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

from ccdflow.archive.fits.productfile import InputNote, write_product
from ccdflow.archive.fits.productheader import Origin, header_cards
from ccdflow.archive.fits.writer import HashingFile
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped
from ccdflow.recipes.catalogue import RECIPES
from ccdflow.recipes.core.times import Span
from ccdflow.tasks.inputs import JobInputs
from ccdflow.tasks.rawfiles.amendedcards import Amended
from ccdflow.tasks.rawfiles.rawheaders import Registered

INSTRUMENTS = load_instruments([shipped("instruments")])
BIAS, SIGNAL = 1000, 400
PLAIN = {"IMAGETYP": "Light Frame", "INSTRUME": "CAM", "DATE-OBS": "2026-03-01T21:00:00", "EXPTIME": 60.0}


def raw(path: Path, **cards: Any) -> Path:
    hdu = fits.PrimaryHDU(np.full((24, 30), BIAS + SIGNAL, np.uint16))
    for name, value in (PLAIN | cards).items():
        if value is not None:
            hdu.header[name.replace("__", "-")] = value
    hdu.writeto(path)
    return path


def product(
    folder: Path, files: list[Path], recipe: str = "science", known: Registered | None = None
) -> fits.Header:
    """The header of what a recipe makes of raw files."""
    inputs = JobInputs()
    for file in files:
        inputs.add_raw("main", file, INSTRUMENTS, InputNote("main", file.name, "0" * 64), known)
    declared = RECIPES[recipe]
    (output,) = declared.run(inputs.recipe_inputs, declared.parameters()).outputs.values()
    path = folder / f"{recipe}.fits"
    with path.open("wb", buffering=0) as file, HashingFile(file.write) as stream:
        write_product(stream, output, inputs.origin("0" * 64, recipe, declared.version))
    header: fits.Header = CCDData.read(path).header
    return header


def science(folder: Path, known: Registered | None = None, **cards: Any) -> fits.Header:
    return product(folder, [raw(folder / "raw.fits", **cards)], known=known)


@pytest.mark.parametrize(
    ("cards", "gain", "noise", "saturation"),
    [
        ({"EGAIN": 1.5, "RDNOISE": 7.5}, 1.5, 7.5, 65535.0),
        ({"EGAIN": 0.4, "GAIN": 100, "OFFSET": 10, "READOUTM": "Fast"}, 0.4, None, 65535.0),
        ({"CCDGAIN": 2.0, "READNOIS": 4.0, "SATLEVEL": 50000}, 2.0, 4.0, 50000.0),
        ({"HIERARCH ESO DET OUT1 CONAD": 0.6, "HIERARCH ESO DET OUT1 RON": 3.0}, 0.6, 3.0, 65535.0),
        ({"GAIN": 1.3, "RDNOISE": 3.2, "SATURATE": 40000.0, "MAXLIN": 39000.0}, 1.3, 3.2, 40000.0),
    ],
    ids=["maxim", "nina", "iraf", "eso", "banzai"],
)
def test_no_gain_is_left_that_would_be_applied_again(
    tmp_path: Path, cards: dict[str, Any], gain: float, noise: float | None, saturation: float
) -> None:
    header = science(tmp_path, **cards)
    assert header["GAIN"] == 1
    assert header.get("RDNOISE") == noise
    assert header["SATURATE"] == pytest.approx(gain * saturation, rel=1e-3)
    others = cards.keys() - {"GAIN", "RDNOISE", "SATURATE", "OFFSET", "READOUTM"}
    assert not {name.removeprefix("HIERARCH ") for name in others} & set(header)
    assert header.get("RAWGAIN") == cards.get("GAIN")
    assert header["GAIN01"] == pytest.approx(gain)


@pytest.mark.parametrize(
    ("second", "third", "sentences"),
    [
        ({}, {}, []),
        ({}, {"GAINSET": "low"}, ["2.fits has GAINSET low; the first, 0.fits, has high, and counts"]),
        (
            {"GAINSET": None},
            {"GAINSET": None},
            ["1.fits, 2.fits have GAINSET unknown; the first, 0.fits, has high, and counts"],
        ),
        (
            {"CCDSEC": "[41:70,1:24]"},
            {"TRIMSEC": "[3:30,1:24]", "CCDSEC": "[3:30,1:24]"},
            [
                "1.fits has window [41:70,1:24]; the first, 0.fits, has [1:30,1:24], and counts",
                "2.fits has window [3:30,1:24]; the first, 0.fits, has [1:30,1:24], and counts",
                "2.fits has size 28x24; the first, 0.fits, has 30x24, and counts",
                "2.fits has trim 2x0; the first, 0.fits, has 0x0, and counts",
            ],
        ),
    ],
    ids=["alike", "setting", "blank", "place"],
)
def test_what_the_first_frame_says_counts_and_those_that_differ_are_told(
    tmp_path: Path, second: dict[str, Any], third: dict[str, Any], sentences: list[str]
) -> None:
    first = {"GAINSET": "high", "CCDSEC": "[1:30,1:24]"}
    inputs = JobInputs()
    for number, cards in enumerate(({}, second, third)):
        path = raw(tmp_path / f"{number}.fits", **(first | cards))
        inputs.add_raw("main", path, INSTRUMENTS, InputNote("main", path.name, "0" * 64))
    assert inputs.differences == sentences
    cards = inputs.origin("0" * 64, "bias", "1").cards
    left = inputs.without([0]).origin("0" * 64, "bias", "1")
    assert left.cards.get("GAINSET", (None,))[0] == (first | second)["GAINSET"]
    assert cards["GAINSET"][0] == "high" and inputs.area is not None
    assert (inputs.area.shape, str(inputs.area.window)) == ((24, 30), "[1:30,1:24]")


def test_a_single_frame_tells_begin_middle_and_end(tmp_path: Path) -> None:
    header = science(tmp_path, DATE__OBS="2026-03-01T21:00:00.250", AIRMASS=1.2)
    assert header["DATE-OBS"] == "2026-03-01T21:00:00.250"
    assert (header["DATE-BEG"], header["DATE-AVG"], header["DATE-END"]) == (
        "2026-03-01T21:00:00.25",
        "2026-03-01T21:00:30.25",
        "2026-03-01T21:01:00.25",
    )
    assert (header["TELAPSE"], header["XPOSURE"], header["AIRMASS"]) == (60.0, 60.0, 1.2)


@pytest.mark.parametrize(
    ("cards", "begin", "end", "middle"),
    [
        # The end that a camera states counts, but not one that is that of something else.
        ({"DATE-END": "2026-03-01T21:01:02"}, "21:00:00", "21:01:02", "21:00:30"),
        ({"DATE-END": "2026-03-01T23:00:00"}, "21:00:00", "21:01:00", "21:00:30"),
        ({"DATE-END": "2026-03-01T20:59:00"}, "21:00:00", "21:01:00", "21:00:30"),
        (
            {"DATE-END": "2026-03-01T21:02:05", "DATE-AVG": "2026-03-01T21:01:02"},
            "21:00:00",
            "21:02:05",
            "21:01:02",
        ),
        # In any card that the instrument file knows; the first that can be true.
        ({"UT-END": "21:01:02"}, "21:00:00", "21:01:02", "21:00:30"),
        ({"DATE-END": "2026-03-02", "MJD-END": 61100.875763}, "21:00:00", "21:01:05.923", "21:00:30"),
        ({"DATE-AVG": "2026-03-01T20:00:00", "MJDMID": 61100.87537}, "21:00:00", "21:01:00", "21:00:31.968"),
        # Date and time apart, as IRAF has them; days; another time scale.
        ({"DATE-OBS": "2026-03-01", "TIME-OBS": "21:00:00"}, "21:00:00", "21:01:00", "21:00:30"),
        ({"DATE-OBS": None, "MJD-OBS": 61100.875}, "21:00:00", "21:01:00", "21:00:30"),
        ({"DATE-OBS": "2026-03-01T21:00:37", "TIMESYS": "TAI"}, "21:00:00", "21:01:00", "21:00:30"),
    ],
)
def test_times_as_cameras_write_them(
    tmp_path: Path, cards: dict[str, Any], begin: str, end: str, middle: str
) -> None:
    header = science(tmp_path, **cards)
    names = ("DATE-BEG", "DATE-END", "DATE-AVG")
    assert [header[name] for name in names] == [f"2026-03-01T{time}" for time in (begin, end, middle)]
    assert header["TIMESYS"] == "UTC"
    assert header["DATE-OBS"].startswith("2026-03-01")
    if "T" in header["DATE-OBS"]:
        assert header["DATE-OBS"] == header["DATE-BEG"]
    assert header["MJD-OBS"] == pytest.approx(61100.875, abs=1e-8)


def test_an_unknown_exposure_time_is_no_time_of_0(tmp_path: Path) -> None:
    header = science(tmp_path, EXPTIME=None)
    assert header["DATE-BEG"] == "2026-03-01T21:00:00"
    assert not {"EXPTIME", "XPOSURE", "TELAPSE", "DATE-END", "MJD-AVG"} & set(header)


def test_milliseconds_become_seconds(tmp_path: Path) -> None:
    header = science(tmp_path, EXPTIME=None, EXPOSURE="500 ms")
    assert (header["EXPTIME"], header["XPOSURE"]) == (0.5, 0.5)
    assert "EXPOSURE" not in header


def test_what_a_person_has_corrected_goes_before_the_header(tmp_path: Path) -> None:
    known = Registered("2026-03-01T20:00:00", 30.0)
    header = science(tmp_path, known, MJD__OBS=61100.875, DATE__END="2026-03-01T21:01:00", EXPOSURE=60.0)
    assert header["DATE-OBS"] == header["DATE-BEG"] == "2026-03-01T20:00:00"
    assert (header["DATE-END"], header["DATE-AVG"]) == ("2026-03-01T20:00:30", "2026-03-01T20:00:15")
    assert (header["EXPTIME"], header["XPOSURE"]) == (30.0, 30.0)
    assert header["MJD-OBS"] == pytest.approx(61100.875 - 1 / 24, abs=1e-8)
    assert "EXPOSURE" not in header


def test_masters_state_what_their_own_numbers_mean(tmp_path: Path) -> None:
    files = [
        raw(tmp_path / f"{number}.fits", IMAGETYP="Bias", DATE__OBS=f"2026-03-01T21:0{number}:00", EXPTIME=0.0,
            EGAIN=2.0, RDNOISE=6.0)
        for number in range(4)
    ]  # fmt: skip
    header = product(tmp_path, files, "bias")
    # A mean of four: half the noise of one, in electron.
    assert (header["GAIN"], header["RDNOISE"], header["RDNDATA"]) == (4.0, 12.0, 3.0)
    assert header["SATURATE"] == pytest.approx(2 * 65535, rel=1e-3)
    assert (header["DATE-BEG"], header["DATE-END"]) == ("2026-03-01T21:00:00", "2026-03-01T21:03:00")
    assert (header["DATE-AVG"], header["XPOSURE"]) == ("2026-03-01T21:01:30", 0.0)
    assert "EGAIN" not in header


def test_times_and_corrections_of_what_is_left_out_are_not_the_products() -> None:
    begun = [datetime(2026, 3, 1, hour) for hour in (20, 21, 22)]
    inputs = JobInputs(
        headers=[{"OBJECT": "M13"}, {"OBJECT": "M13"}, {"OBJECT": "moth"}],
        spans=[Span(begin, exptime=60.0) for begin in begun],
        amended=[
            [],
            [Amended("filter", "b.fits: filter B -> V")],
            [Amended("object", "c.fits: object M13 -> moth")],
        ],
    )
    cards = inputs.without([2]).origin("0" * 64, "stack", "1")
    assert (cards.cards["DATE-BEG"][0], cards.cards["DATE-END"][0]) == (
        "2026-03-01T20:00:00",
        "2026-03-01T21:01:00",
    )
    assert cards.cards["AMENDED"][0] == "filter" and cards.header["OBJECT"] == "M13"
    assert inputs.without([0, 1, 2]).spans == inputs.spans


@pytest.mark.parametrize(
    "cards",
    [
        {"DATE-OBS": "2026-03-01", "UT": "21:00:00", "EXPTIME": 60.0},  # IRAF
        {"DATE-OBS": "2026-03-01 21:00:00", "EXPTIME": "60.0 s"},
        {"DATE-OBS": "2026-03-01T21:00:37", "TIMESYS": "TAI", "EXPTIME": 60.0},
        {"JD": 2461101.375, "EXPOSURE": 60},
    ],
)
def test_a_product_of_another_program_tells_its_time_as_raw_frames_do(
    tmp_path: Path, cards: dict[str, Any]
) -> None:
    path = tmp_path / "reduced.fits"
    header = fits.Header({"BUNIT": "electron", "IMAGETYP": "Light Frame", **cards})
    fits.PrimaryHDU(np.full((8, 8), 5, np.float32), header).writeto(path)
    inputs = JobInputs()
    inputs.add_product("main", path, InputNote("main", path.name, "0" * 64, "product"), INSTRUMENTS)
    (span,), (image,) = inputs.spans, inputs.by_role["main"]
    assert (span.begin, span.exptime, span.scale) == (datetime(2026, 3, 1, 21), 60.0, "UTC")
    assert image.exptime == 60.0


@pytest.mark.parametrize(
    ("row_order", "shown", "order"),
    [
        ({}, "GBRG", None),
        ({"ROWORDER": "TOP-DOWN"}, "GBRG", "TOP-DOWN"),
        ({"ROWORDER": "bottom up"}, "GBRG", "BOTTOM-UP"),
    ],
)
def test_the_mosaic_is_told_as_other_programs_read_it(
    tmp_path: Path, row_order: dict[str, str], shown: str, order: str | None
) -> None:
    header = science(tmp_path, BAYERPAT="GBRG", **row_order)
    assert (header["BAYERPAT"], header.get("ROWORDER")) == (shown, order)
    assert header["MOSAIC"] == ("RGGB" if order == "BOTTOM-UP" else "GBRG")


def test_a_row_order_in_a_card_of_ones_own_is_told_in_the_card_that_others_read(tmp_path: Path) -> None:
    generic = next(known for known in INSTRUMENTS if known.name == "generic")
    keywords = generic.keywords.model_copy(update={"row_order": ("MYORDER",)})
    mine = [generic.model_copy(update={"keywords": keywords})]
    inputs = JobInputs()
    path = raw(tmp_path / "raw.fits", BAYERPAT="GBRG", MYORDER="BOTTOM-UP")
    inputs.add_raw("main", path, mine, InputNote("main", path.name, "0" * 64))
    cards = {name: inputs.settings[name][0] for name in ("MOSAIC", "BAYERPAT", "ROWORDER")}
    assert cards == {"MOSAIC": "RGGB", "BAYERPAT": "GBRG", "ROWORDER": "BOTTOM-UP"}


def test_a_product_of_products_keeps_the_comments_of_their_cards(tmp_path: Path) -> None:
    inputs = JobInputs()
    for number in (1, 2):
        path = tmp_path / f"{number}.fits"
        header = fits.Header([("OBJECT", "M31", "what is looked at")])
        fits.PrimaryHDU(np.zeros((4, 4), np.float32), header).writeto(path)
        inputs.add_product("main", path, InputNote("main", path.name, str(number), "product"))
    cards = header_cards(inputs.origin("key", "stack", "1"), {}, {})
    assert cards["OBJECT"] == ("M31", "what is looked at")


def test_a_recipe_may_know_which_masters_stand_behind_what_it_takes() -> None:
    cards = header_cards(Origin("key", "mine", "1", inherited="theirs"), {"CALIBID": ("own", "")}, {})
    assert cards["CALIBID"][0] == "own"
