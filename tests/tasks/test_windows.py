"""Masters of the full frame serve a window: cut where the window lies, and told in the header."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.archive.fits.productfile import InputNote, Origin, read_product, write_product
from ccdflow.cascade.windows import Window
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped
from ccdflow.recipes import science
from ccdflow.recipes.core.cutting import CutSource, cut_product
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import InputProduct, Output
from ccdflow.recipes.detector.calibrate import fingerprint
from ccdflow.tasks.inputs import JobInputs
from ccdflow.tasks.rawfiles.mainframes import MainFrame
from ccdflow.tasks.rawfiles.windows import ReadArea, cut_to

FULL = (40, 60)
INSTRUMENTS = load_instruments([shipped("instruments")])


def master(unit: str = "electron", window: str | None = None) -> InputProduct:
    """A master whose data are 100 times the row and once the column, with variance and DQ of their own."""
    rows, columns = np.indices(FULL, dtype=np.float32)
    dq = np.zeros(FULL, np.uint16)
    dq[12, 25] = DQ.BAD_PIXEL
    image = Image(100 * rows + columns, rows + 1, dq, unit)
    return InputProduct(image, name="master.fits", header={} if window is None else {"CCDSEC": window})


def test_a_part_has_data_variance_and_dq_of_the_whole_and_its_fingerprint() -> None:
    whole = master()
    part = cut_product(whole, (10, 20), (5, 8))
    assert isinstance(part.image, CutSource)
    image = part.image.rows(slice(1, 4))
    assert whole.image is not None
    np.testing.assert_array_equal(image.data, whole.image.rows(slice(11, 14)).data[:, 20:28])
    np.testing.assert_array_equal(image.variance[:, 0], [12, 13, 14])
    assert image.dq[1, 5] == DQ.BAD_PIXEL and image.dq.sum() == DQ.BAD_PIXEL
    assert image.data.flags.c_contiguous and part.image.shape == (5, 8) and part.image.unit == "electron"
    assert fingerprint(part.image) == fingerprint(whole.image)


def test_a_part_outside_is_refused_in_words_of_fits() -> None:
    with pytest.raises(
        ValueError, match=r"master.fits has 60 columns and 40 rows, wanted \[57:64,11:15\] of it"
    ):
        cut_product(master(), (10, 56), (5, 8))


@pytest.mark.parametrize(
    ("window", "binning", "told", "first"),
    [
        ("[21:28,11:15]", "1x1", None, (10, 20)),
        ("[21:28,11:15]", "1x1", "[1:60,1:40]", (10, 20)),
        ("[121:128,211:215]", "1x1", "[101:160,201:240]", (10, 20)),
        ("[41:56,21:30]", "2x2", "[1:120,1:80]", (10, 20)),
        ("[21:28,11:15]", "1x1", "[21:80,11:50]", (0, 0)),
    ],
)
def test_a_master_is_cut_where_the_window_lies(
    window: str, binning: str, told: str | None, first: tuple[int, int]
) -> None:
    area = ReadArea((5, 8), Window.parse(window), binning)
    inputs, cards = cut_to(area, {"main": ["raw"], "bias": [master(window=told)]})
    (y, x), (cut,) = first, inputs["bias"]
    assert cut.image.rows(slice(0, 1)).data[0, 0] == 100 * y + x
    assert cards["BIASCUT"][0] == f"[{x + 1}:{x + 8},{y + 1}:{y + 5}]"
    assert inputs["main"] == ["raw"]


@pytest.mark.parametrize(
    ("window", "told", "said"),
    [
        (
            "[57:64,11:15]",
            "[1:60,1:40]",
            r"bias master.fits: window is \[1:60,1:40\], which does not hold \[57:64",
        ),
        ("[1:60,2:41]", "[1:60,1:40]", "does not hold"),
    ],
)
def test_a_master_of_another_place_is_refused(window: str, told: str, said: str) -> None:
    place = Window.parse(window)
    assert place is not None
    shape = place.y2 - place.y1 + 1, place.x2 - place.x1 + 1
    with pytest.raises(ValueError, match=said):
        cut_to(ReadArea(shape, place, "1x1"), {"bias": [master(window=told)]})


def test_what_has_the_size_of_the_frame_or_no_place_stays_as_it_is() -> None:
    same = master()
    for area in (ReadArea(FULL, Window(1, 60, 1, 40), "1x1"), ReadArea((5, 8), None, "1x1")):
        inputs, cards = cut_to(area, {"bias": [same]})
        assert inputs["bias"][0] is same and not cards


def test_a_window_is_calibrated_with_masters_of_the_full_frame(tmp_path: Path) -> None:
    bias, flat = (
        np.random.default_rng(1).uniform(300, 400, FULL),
        np.random.default_rng(2).uniform(0.8, 1.2, FULL),
    )
    for role, data, unit in (("bias", bias, "electron"), ("flat", flat, "")):
        plane = data.astype(np.float32)
        output = Output(Image(plane, np.full(FULL, 0.01, np.float32), np.zeros(FULL, np.uint16), unit))
        with (tmp_path / f"{role}.fits").open("wb") as stream:
            write_product(stream, output, Origin("k", role, "1"))
    y, x, ny, nx = 11, 23, 16, 24
    part = slice(y, y + ny), slice(x, x + nx)
    cards = {
        "IMAGETYP": "Light",
        "DATE-OBS": "2026-03-01T21:00:00",
        "EXPTIME": 10.0,
        "EGAIN": 1.0,
        "RDNOISE": 5.0,
    }
    raw = fits.PrimaryHDU((bias + 1000 * flat)[part].astype(np.float32), fits.Header(cards))
    raw.header["XORGSUBF"], raw.header["YORGSUBF"] = x, y
    raw.writeto(tmp_path / "light.fits")
    inputs = JobInputs()
    inputs.add_raw("main", tmp_path / "light.fits", INSTRUMENTS, InputNote("main", "light.fits", "0" * 64))
    for role in ("bias", "flat"):
        inputs.add_product(
            role, tmp_path / f"{role}.fits", InputNote(role, f"{role}.fits", "1" * 64, "product", 0)
        )
    product = science.run(inputs.recipe_inputs, science.ScienceParameters()).outputs["science"]
    assert product.image is not None
    np.testing.assert_allclose(product.image.data, 1000, rtol=1e-4)
    with (tmp_path / "out.fits").open("wb") as stream:
        write_product(stream, product, inputs.origin("k", "science", "1"))
    header = read_product(tmp_path / "out.fits").header
    wanted = ("[24:47,12:27]",) * 3
    assert (header["CCDSEC"], header["BIASCUT"], header["FLATCUT"]) == wanted


PLACES: list[dict[str, Any]] = [
    {"XORGSUBF": 100, "YORGSUBF": 200},
    {"DETSEC": "[101:160,201:240]"},
    {"CCDSEC": "unknown", "DETSEC": "[101:160,201:240]"},
    {"LTV1": -100.0, "LTV2": -200.0, "LTM1_1": 1.0, "LTM2_2": 1.0},
]


@pytest.mark.parametrize("finished", [{"IMAGETYP": "Master Bias", "NCOMBINE": 9}, {"IMAGETYP": "Bias"}])
@pytest.mark.parametrize("place", PLACES)
def test_a_master_of_another_program_is_cut_where_it_tells_its_place(
    tmp_path: Path, place: dict[str, Any], finished: dict[str, Any]
) -> None:
    rows, columns = np.indices(FULL, dtype=np.float32)
    cards = {"DATE-OBS": "2026-03-01T20:00:00", "EXPTIME": 0.0, "BUNIT": "adu", "EGAIN": 1.0, "RDNOISE": 3.0}
    hdu = fits.PrimaryHDU(100 * rows + columns, fits.Header(cards | place | finished))
    hdu.writeto(tmp_path / "master.fits")
    area = ReadArea((5, 8), Window.parse("[121:128,211:215]"), "1x1")
    inputs = JobInputs(frames=[MainFrame("light.fits", INSTRUMENTS[0], area, (0, 0), {}, {})])
    note = InputNote("bias", "master.fits", "1" * 64, "product", 0)
    inputs.add_master("bias", tmp_path / "master.fits", INSTRUMENTS, note, "master_bias")
    (master,) = inputs.recipe_inputs["bias"]
    assert isinstance(master, InputProduct) and master.image is not None
    assert master.image.rows(slice(0, 1)).data[0, 0] == 100 * 10 + 20


@pytest.mark.parametrize(
    ("frame", "master", "told"),
    [
        ("TOP-DOWN", "BOTTOM-UP", True),
        ("bottom up", "TOP-DOWN", True),
        ("TOP-DOWN", "TOP-DOWN", False),
        ("TOP-DOWN", "", False),
        ("", "BOTTOM-UP", False),
    ],
)
def test_a_master_that_lies_the_other_way_up_is_told(
    tmp_path: Path, frame: str, master: str, told: bool
) -> None:
    cards = {"IMAGETYP": "Light", "DATE-OBS": "2026-03-01T20:00:00", "EXPTIME": 9.0, "ROWORDER": frame}
    pixels = np.random.default_rng(1).integers(0, 999, (8, 9)).astype(np.uint16)
    fits.PrimaryHDU(pixels, fits.Header(cards)).writeto(tmp_path / "light.fits")
    fits.PrimaryHDU(pixels + 1, fits.Header(cards | {"ROWORDER": master})).writeto(tmp_path / "bias.fits")
    inputs = JobInputs()
    inputs.add_raw("main", tmp_path / "light.fits", INSTRUMENTS, InputNote("main", "", "1" * 64, "raw", 0))
    inputs.add_product("bias", tmp_path / "bias.fits", InputNote("bias", "", "2" * 64, "product", 0))
    assert any("saved upside down" in sentence for sentence in inputs.differences) is told
