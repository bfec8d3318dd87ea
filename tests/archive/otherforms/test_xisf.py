"""XISF files are raw files: all ways of storing pixels, keywords and properties, and what is wrong with a file."""

from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.archive.otherforms.xisffiles import LIGHT, write_xisf

from ccdflow.archive.fits.integrity import faults_of
from ccdflow.archive.fits.pixeldigest import pixel_digest
from ccdflow.archive.fits.productfile import ProductFileError, read_image, read_product
from ccdflow.archive.fits.rawfile import TruncatedError, UnreadableFrameError, open_raw
from ccdflow.archive.otherforms import xisfblocks
from ccdflow.cascade.headers.classify import FileFacts, describe
from ccdflow.cascade.records import Value
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped

SHAPE = (43, 61)
INSTRUMENTS = load_instruments([shipped("instruments")])


def sky(kind: str = "<u2") -> NDArray[Any]:
    pixels = np.random.default_rng(8).normal(100, 9, SHAPE)
    pixels[:5] += 50  # the picture's uppermost rows
    return (pixels if "f" in kind else np.rint(pixels)).astype(kind)


def assert_holds(path: Path, pixels: NDArray[Any]) -> None:
    read = open_raw(path).pixels
    whole = np.asarray(read)
    np.testing.assert_array_equal(whole, pixels)
    assert whole.dtype == pixels.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read[7:31, 5:40], pixels[7:31, 5:40])
    np.testing.assert_array_equal(read_image(read_product(path)).data, pixels.astype(np.float32))


@pytest.mark.parametrize("kind", ["<u1", "<u2", "<u4", "<f4", "<f8", ">u2", ">f4"])
@pytest.mark.parametrize("codec", ["", "zlib", "zlib+sh", "lz4+sh", "zstd+sh"])
def test_all_numbers_come_back(tmp_path: Path, kind: str, codec: str) -> None:
    pixels = sky(kind)
    assert_holds(write_xisf(tmp_path / "a.xisf", pixels, codec=codec), pixels)


@pytest.mark.parametrize("codec", ["lz4", "lz4hc", "lz4hc+sh", "zstd", "zlib", "zlib+sh"])
@pytest.mark.parametrize("parts", [1, 3])
def test_all_ways_of_packing_come_back(tmp_path: Path, codec: str, parts: int) -> None:
    assert_holds(write_xisf(tmp_path / "a.xisf", sky(), codec=codec, parts=parts), sky())


@pytest.mark.parametrize("place", ["base64", "hex", "embedded"])
@pytest.mark.parametrize("codec", ["", "zlib+sh"])
def test_pixels_within_the_header_come_back(tmp_path: Path, place: str, codec: str) -> None:
    path = write_xisf(tmp_path / "a.xisf", sky(), place=place, codec=codec, sum="sha-1")
    assert_holds(path, sky())
    assert faults_of(open_raw(path)) == ()


def test_the_same_pixels_have_one_digest_in_all_forms(tmp_path: Path) -> None:
    paths = [write_xisf(tmp_path / f"{codec}.xisf", sky(), codec=codec) for codec in ("", "zlib", "zlib+sh")]
    assert len({pixel_digest(open_raw(path).pixels) for path in paths}) == 1


@pytest.mark.parametrize("codec", ["", "zlib"])
@pytest.mark.parametrize("sum", ["sha-1", "sha1", "sha-256", "sha512", "sha3-256"])
def test_a_check_sum_tells_of_a_bit_that_fell_over(tmp_path: Path, sum: str, codec: str) -> None:
    import hashlib

    name = {"sha3-256": "sha3_256"}.get(sum, sum.replace("-", ""))
    path = write_xisf(tmp_path / "a.xisf", sky(), codec=codec)
    content = path.read_bytes()
    digits = hashlib.new(name, content[4096:]).hexdigest()
    stated = content[16:4096].rstrip(b"\0").replace(b"<Image ", f'<Image checksum="{sum}:{digits}" '.encode())
    start = content[:8] + len(stated).to_bytes(4, "little") + bytes(4) + stated
    path.write_bytes(start.ljust(4096, b"\0") + content[4096:])
    assert faults_of(open_raw(path)) == ()
    broken = bytearray(path.read_bytes())
    broken[-9] ^= 4
    path.write_bytes(broken)
    (fault,) = faults_of(open_raw(path))
    assert fault.kind == "damaged" and "is stated as" in fault.text


def test_a_packed_block_that_does_not_unpack_is_damage(tmp_path: Path) -> None:
    path = write_xisf(tmp_path / "a.xisf", sky(), codec="zlib")
    broken = bytearray(path.read_bytes())
    broken[4100:4200] = bytes(100)
    path.write_bytes(broken)
    (fault,) = faults_of(open_raw(path))
    assert fault.kind == "damaged" and "can't unpack" in fault.text
    with pytest.raises(UnreadableFrameError, match="is damaged"):
        np.asarray(open_raw(path).pixels)


PROPERTIES = """
<Property id="Observation:Time:Start" type="TimePoint" value="2026-03-01T21:00:00.25+01:00"/>
<Property id="Observation:Object:Name" type="String">M 13</Property>
<Property id="Instrument:ExposureTime" type="Float32" value="12.5"/>
<Property id="Instrument:Telescope:FocalLength" type="Float32" value="0.5"/>
<Property id="Instrument:Sensor:Temperature" type="Float32" value="-10"/>
<Property id="Instrument:Filter:Name" type="String" location="attachment:9:9"/>
"""
OUTER = '<Metadata><Property id="XISF:CreatorApplication" type="String">PixInsight 1.9</Property></Metadata>'
READ: list[tuple[str, str, str, Value | None]] = [
    (LIGHT, "", "DATE-OBS", "2026-03-01T20:00:00.5"),
    (LIGHT, "", "GAIN", 120),
    (LIGHT, "", "EXPTIME", 30.0),
    (LIGHT + PROPERTIES, "", "EXPTIME", 30.0),  # the keyword goes before the property
    (PROPERTIES, "", "EXPTIME", 12.5),
    (PROPERTIES, "", "DATE-OBS", "2026-03-01T20:00:00.250000"),
    (PROPERTIES, "", "OBJECT", "M 13"),
    (PROPERTIES, "", "FOCALLEN", 500.0),
    (PROPERTIES, "", "CCD-TEMP", -10.0),
    (PROPERTIES, "", "FILTER", None),
    (LIGHT, OUTER, "SWCREATE", "PixInsight 1.9"),
    (LIGHT, "", "ROWORDER", "TOP-DOWN"),
    ('<ColorFilterArray pattern="GBRG" width="2" height="2"/>', "", "CFA", "GBRG"),
    (
        """<FITSKeyword name="OBJECT" value="'Barnard''s star '" comment=""/>""",
        "",
        "OBJECT",
        "Barnard's star",
    ),
    ('<FITSKeyword name="FLAG" value="T" comment=""/>', "", "FLAG", True),
    ('<FITSKeyword name="X" value="1.787e+04" comment=""/>', "", "X", 17870.0),
    ('<FITSKeyword name="X" value="0x10" comment=""/>', "", "X", "0x10"),
    ('<FITSKeyword name="BZERO" value="32768" comment=""/>', "", "BZERO", None),
    ('<FITSKeyword name="NAXIS1" value="9" comment=""/>', "", "NAXIS1", None),
]


@pytest.mark.parametrize(("inner", "outer", "keyword", "value"), READ)
def test_keywords_and_properties_are_cards(
    tmp_path: Path, inner: str, outer: str, keyword: str, value: Value | None
) -> None:
    path = write_xisf(tmp_path / "a.xisf", sky(), inner, outer=outer, imageType="Light")
    raw = open_raw(path)
    assert raw.header.get(keyword) == value
    assert raw.header["IMAGETYP"] == ("LIGHT" if "LIGHT" in inner else "Light")
    assert raw.history == (("a word",) if "a word" in inner else ())


def test_further_images_and_an_order_against_the_form_are_told(tmp_path: Path) -> None:
    order = """<FITSKeyword name="ROWORDER" value="'BOTTOM-UP'" comment=""/>"""
    second = '<Image id="rejection_high" geometry="1:1:1" sampleFormat="UInt8" location="attachment:1:1"/>'
    raw = open_raw(write_xisf(tmp_path / "a.xisf", sky(), order, outer=second, id="integration"))
    assert [doubt.kind for doubt in raw.doubts] == ["images", "images"]
    assert "it holds 2 images, of which the first ('integration') alone is read" in raw.doubts[0].text
    assert raw.header["ROWORDER"] == "TOP-DOWN"


def renamed(old: str, new: str) -> Callable[[str], str]:
    return lambda header: header.replace(old, new)


ENTITY = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]><xisf '
WRONG: list[tuple[Callable[[str], str], str]] = [
    (renamed("<xisf ", ENTITY), "declares a document type"),
    (renamed("</xisf>", ""), "is no XML"),
    (renamed("<Image", "<Picture"), "is no XML"),
    (lambda header: header.replace("<Image", "<Picture").replace("</Image", "</Picture"), "holds no image"),
    (lambda header: header.replace("<xisf", "<xml1").replace("</xisf", "</xml1"), "wanted 'xisf'"),
    (renamed('geometry="61:43:1"', 'geometry="61:43:3"'), "3 planes"),
    (renamed('geometry="61:43:1"', 'geometry="61:43:2:1"'), "3 axes"),
    (renamed('geometry="61:43:1"', 'geometry="61:44:1"'), "its block has 5246"),
    (renamed('geometry="61:43:1"', 'geometry="900000:900000:1"'), "wanted 4294967296 at most"),
    (renamed('geometry="61:43:1"', f'geometry="{"9" * 5000}:1:1"'), "is not of the form"),
    (renamed('geometry="61:43:1"', 'geometry="0:43:1"'), "wanted 1 to"),
    (renamed('geometry="61:43:1"', 'geometry="-61:43:1"'), "is not of the form"),
    (renamed("UInt16", "Complex32"), "'Complex32'; known: UInt8"),
    (renamed("attachment:4096", "url(http://127.0.0.1/a)"), "wanted a file that holds them"),
    (renamed("<Image ", '<Image byteOrder="middle" '), "neither little nor big"),
    (renamed("<Image ", '<Image compression="bz2:5246" '), "known: zlib, lz4"),
    (renamed("<Image ", '<Image compression="zlib+sh:5246:4" '), "shuffled as of numbers of 4"),
    (renamed("<Image ", '<Image compression="zlib:5246" subblocks="9,9" '), "do not add up"),
    (
        renamed("<Image ", f'<Image compression="zlib:5246" subblocks="{":".join(["0,0"] * 20000)}" '),
        "more than 10000 sub-blocks",
    ),
    (renamed("<Image ", '<Image compression="zlib:99999999999" '), "its block has 99999999999"),
    (renamed("<Image ", '<Image checksum="md5:00" '), "known: sha1"),
]


@pytest.mark.parametrize(("change", "told"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_with_a_file_is_its_own_refusal(
    tmp_path: Path, change: Callable[[str], str], told: str
) -> None:
    path = write_xisf(tmp_path / "a.xisf", sky(), change=change)
    with pytest.raises(UnreadableFrameError, match=r"a\.xisf") as refused:
        open_raw(path)
    assert told in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(ProductFileError):
        read_product(path)


@pytest.mark.parametrize("size", [9, 16, 300])
def test_a_header_that_was_cut_off_is_truncated(tmp_path: Path, size: int) -> None:
    path = write_xisf(tmp_path / "a.xisf", sky())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UnreadableFrameError, match=r"truncated|no XML"):
        open_raw(path)


def test_pixels_that_were_cut_off_leave_the_header(tmp_path: Path) -> None:
    path = write_xisf(tmp_path / "a.xisf", sky())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TruncatedError, match="its pixels end at") as cut:
        open_raw(path)
    assert cut.value.header is not None and cut.value.header["GAIN"] == 120 and cut.value.shape == SHAPE


@pytest.mark.parametrize("codec", ["zlib", "zstd", "lz4"])
@pytest.mark.parametrize("stated", [5246 - 122, 5246 + 122])
def test_no_more_is_unpacked_than_is_stated(tmp_path: Path, codec: str, stated: int) -> None:
    rows = stated // 122

    def change(header: str) -> str:
        return header.replace("61:43:1", f"61:{rows}:1").replace(f"{codec}:5246", f"{codec}:{stated}")

    path = write_xisf(tmp_path / "a.xisf", sky(), codec=codec, change=change)
    (fault,) = faults_of(open_raw(path))
    assert fault.kind == "damaged"


def test_few_bytes_that_claim_to_be_many_get_no_room(tmp_path: Path) -> None:
    pytest.importorskip("lz4.block", reason="the extra xisf")

    def change(header: str) -> str:
        return header.replace("61:43:1", "40000:40000:1").replace("lz4:5246", "lz4:3200000000")

    (fault,) = faults_of(open_raw(write_xisf(tmp_path / "a.xisf", sky(), codec="lz4", change=change)))
    assert "can't hold 3200000000" in fault.text


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_xisf(
        tmp_path / "a.xisf", sky(), codec="zlib", change=lambda header: header.replace("zlib:", "zstd:")
    )
    real = util.find_spec
    monkeypatch.setattr(xisfblocks, "find_spec", lambda name: None if name == "zstandard" else real(name))
    with pytest.raises(UnreadableFrameError, match=r"by zstd, .*: pip install 'ccdflow\[xisf\]'$"):
        open_raw(path)


def test_a_product_of_ours_that_was_saved_as_xisf_has_lost_its_noise(tmp_path: Path) -> None:
    ours = """<FITSKeyword name="JOBKEY" value="'0123'" comment=""/>"""
    path = write_xisf(tmp_path / "a.xisf", sky("<f4"), ours)
    with pytest.raises(
        ProductFileError, match="part of a product of ccdflow: its form holds the image alone"
    ):
        read_product(path)
    assert read_product(path, by_others=True).image is not None


def keyword(name: str, value: str) -> str:
    return f'<FITSKeyword name="{name}" value="{value}" comment=""/>'


def test_a_master_is_one_whatever_its_keyword_says(tmp_path: Path) -> None:
    words = keyword("IMAGETYP", "'FLAT'") + keyword("DATE-OBS", "'2026-03-01T20:00:00'")
    raw = open_raw(write_xisf(tmp_path / "a.xisf", sky(), words, imageType="MasterFlat"))
    assert (raw.header["IMAGETYP"], raw.header["IMAGETYPE"]) == ("FLAT", "MasterFlat")
    told = describe(raw.header, raw.shape, INSTRUMENTS, FileFacts(repeated=raw.repeated))
    assert told.frame_class == "flat" and told.finished is not None and "combined" in told.finished.done
    assert "class_conflict" not in {doubt.kind for doubt in told.doubts}


def told_as(name: str, kind: str, value: str) -> str:
    return f'<Property id="{name}" type="{kind}" value="{value}"/>'


@pytest.mark.parametrize(
    ("card", "element", "repeated"),
    [
        (("EXPTIME", "30."), ("Instrument:ExposureTime", "Float32", "60"), {"EXPTIME"}),
        (("EXPTIME", "30."), ("Instrument:ExposureTime", "Float32", "30.0001"), set()),
        (("FILTER", "'V'"), ("Instrument:Filter:Name", "String", "R"), {"FILTER"}),
        (("FILTER", "'ha'"), ("Instrument:Filter:Name", "String", "Ha"), set()),
        (
            ("DATE-OBS", "'2026-03-01T20:00:00'"),
            ("Observation:Time:Start", "TimePoint", "2026-03-01T22:00:00Z"),
            {"DATE-OBS"},
        ),
        (
            ("DATE-OBS", "'2026-03-01T20:00:00.25'"),
            ("Observation:Time:Start", "TimePoint", "2026-03-01T21:00:00.3+01:00"),
            set(),
        ),
        (("OBJECT", "'M13'"), ("Observation:Object:Name", "String", "Hercules"), set()),
    ],
)
def test_a_property_that_contradicts_a_keyword_is_told(
    tmp_path: Path, card: tuple[str, str], element: tuple[str, str, str], repeated: set[str]
) -> None:
    path = write_xisf(tmp_path / "a.xisf", sky(), keyword(*card) + told_as(*element))
    raw = open_raw(path)
    assert raw.repeated.keys() == repeated
    assert str(raw.header[card[0]]).startswith(card[1].strip("'"))
