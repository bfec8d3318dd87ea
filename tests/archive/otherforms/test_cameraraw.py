"""Raw files of cameras are raw files: LibRaw reads real ones, and what is wrong with others is their own refusal."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.archive.otherforms.dngfiles import ASCII, write_dng

from ccdflow.archive.fits.filefacts import file_facts
from ccdflow.archive.fits.integrity import faults_of
from ccdflow.archive.fits.productfile import read_image, read_product
from ccdflow.archive.fits.rawfile import UnreadableFrameError, open_raw
from ccdflow.archive.otherforms import cameraraw
from ccdflow.archive.otherforms.forms import form_of
from ccdflow.cascade.headers.classify import Description, describe
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped

SHAPE = (64, 96)


@pytest.fixture(autouse=True)
def _needs_libraw() -> None:
    pytest.importorskip("rawpy", reason="the extra dslr")
    pytest.importorskip("exifread", reason="the extra dslr")


def counts() -> NDArray[np.uint16]:
    pixels = np.random.default_rng(4).integers(500, 3000, SHAPE).astype(np.uint16)
    pixels[:4] += 5000  # the picture's uppermost rows
    return pixels


def described(path: Path) -> Description:
    raw = open_raw(path)
    return describe(raw.header, raw.shape, load_instruments([shipped("instruments")]), file_facts(raw))


@pytest.mark.parametrize("orientation", [1, 3, 8])
def test_pixels_are_the_sensors_whichever_way_it_was_held(tmp_path: Path, orientation: int) -> None:
    path = write_dng(tmp_path / "a.dng", counts(), orientation=orientation)
    raw = open_raw(path)
    np.testing.assert_array_equal(np.asarray(raw.pixels), counts())
    np.testing.assert_array_equal(raw.pixels[3:9, 5:50], counts()[3:9, 5:50])
    np.testing.assert_array_equal(read_image(read_product(path)).data, counts())
    assert raw.header["ROWORDER"] == "TOP-DOWN"
    assert faults_of(raw) == ()


@pytest.mark.parametrize(
    ("margins", "pattern", "begin", "shown"),
    [
        ((0, 0), "RGGB", (0, 0), "RGGB"),
        ((0, 0), "GBRG", (0, 0), "GBRG"),
        ((6, 2), "GBRG", (6, 2), "GBRG"),
        ((5, 3), "RGGB", (6, 4), "BGGR"),  # LibRaw begins at even pixels
        ((0, 0), "", (0, 0), None),
    ],
)
def test_colours_are_those_of_the_first_pixels_that_are_read(
    tmp_path: Path, margins: tuple[int, int], pattern: str, begin: tuple[int, int], shown: str | None
) -> None:
    raw = open_raw(write_dng(tmp_path / "a.dng", counts(), pattern, margins=margins))
    np.testing.assert_array_equal(np.asarray(raw.pixels), counts()[begin[1] :, begin[0] :])
    assert raw.header.get("BAYERPAT") == shown


@pytest.mark.parametrize(
    ("folder", "frame_class"),
    [("darks", "dark"), ("Flats", "flat"), ("lights", "science"), ("biases", "bias"), ("n1", "unclassified")],
)
def test_what_the_camera_tells_is_read_and_the_folder_tells_the_class(
    tmp_path: Path, folder: str, frame_class: str
) -> None:
    (tmp_path / folder).mkdir()
    said = described(write_dng(tmp_path / folder / "IMG_1.dng", counts()))
    assert said.frame_class == frame_class
    assert (said.instrument, said.camera, said.exptime) == ("Canon EOS 6D", "0123456", 30.0)
    assert said.obsdate.startswith("2026-03-01T21:00:00.25")
    assert {"mosaic": "RGGB", "saturation": 15000.0, "profile": "dslr"}.items() <= said.keywords.items()
    assert "no time zone" in "".join(doubt.text for doubt in said.doubts if doubt.kind == "date")


def test_a_zone_makes_it_utc(tmp_path: Path) -> None:
    zone = {36881: (ASCII, [*b"+01:00", 0])}
    said = described(write_dng(tmp_path / "a.dng", counts(), exif=zone))
    assert said.obsdate.startswith("2026-03-01T20:00:00.25")
    assert not [doubt for doubt in said.doubts if doubt.kind == "date"]


def tiff(path: Path) -> bytes:
    Image.fromarray(counts()).save(path, "TIFF")
    return path.read_bytes()


WRONG: dict[str, tuple[Any, str]] = {
    "TIFF": (tiff, "is a TIFF that names no camera"),
    "half": (lambda path: write_dng(path, counts()).read_bytes()[:5000], "ends before it should"),
    "begin": (lambda _: b"II*\0" + bytes(range(256)) * 9, "that LibRaw knows"),
    "CR3": (lambda _: b"\0\0\0\x18ftypcrx " + bytes(4000), "that LibRaw knows"),
    "RAF": (lambda _: b"FUJIFILMCCD-RAW " + bytes(4000), "that LibRaw knows"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_raw_file_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    make, told = WRONG[kind]
    path = tmp_path / "a.dng"
    path.write_bytes(make(path))
    with pytest.raises(UnreadableFrameError, match=told) as refused:
        open_raw(path)
    assert "\n" not in str(refused.value) and "a.dng" in str(refused.value)


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dng(tmp_path / "a.dng", counts())
    monkeypatch.setattr(cameraraw, "find_spec", lambda name: None)
    with pytest.raises(
        UnreadableFrameError, match=r"needs rawpy and exifread: pip install 'ccdflow\[dslr\]'$"
    ):
        open_raw(path)


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b"SIMPLE  =       ", None),
        (b"\x1f\x8b\x08", None),
        (b"XISF0100\x10", "xisf"),
        (b"II*\x00\x10\x00\x00\x00CR\x02", "camera"),
        (b"IIRO\x08", "camera"),
        (b"\x00\x00\x00\x18ftypcrx \x00", "camera"),
        (b"\x00\x00\x00\x18ftypheic\x00", None),
        (b"", None),
    ],
)
def test_first_bytes_tell_the_form(head: bytes, form: str | None) -> None:
    assert form_of(head) == form
