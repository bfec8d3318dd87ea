import gzip
import hashlib
import os
import tracemalloc
from concurrent.futures import CancelledError
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.archive import rawfile
from ccdflow.archive.digest import digests_of, file_digest
from ccdflow.archive.fits.filefacts import file_facts
from ccdflow.archive.fits.rawfile import (
    NoImageError,
    NotFitsError,
    TruncatedError,
    UnreadableFrameError,
    looks_like_raw,
    open_raw,
)
from ccdflow.cascade.headers.classify import FileFacts, describe
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped

SHIPPED = Path(str(files("ccdflow.config"))) / "instruments"
HEADERS = Path(__file__).parents[2] / "headers"
SHAPE = (48, 64)
NOBODY = 65534


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(0, 65536, SHAPE).astype(np.uint16)


def header_in(name):
    lines = (HEADERS / name).read_text(encoding="utf-8").splitlines()
    header = fits.Header.fromstring("".join(line[:80].ljust(80) for line in lines if line != "END"))
    for keyword in ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "BZERO", "BSCALE", "EXTEND"):
        header.remove(keyword, ignore_missing=True)
    return header


def plain(path, pixels, **cards):
    header = fits.Header(cards)
    fits.PrimaryHDU(pixels, header).writeto(path)
    return path


def tiled(path, pixels, primary=None, **cards):
    image = fits.CompImageHDU(
        pixels, fits.Header(cards), name="SCI", compression_type="RICE_1", tile_shape=(8, 64)
    )
    fits.HDUList([fits.PrimaryHDU(header=primary), image]).writeto(path)
    return path


@pytest.mark.parametrize("name", ["a.fits", "a.fit", "a.fts", "a.FITS", "a.fits.gz"])
def test_unsigned_pixels_come_back_by_strips(tmp_path, pixels, name):
    raw = open_raw(plain(tmp_path / name, pixels, IMAGETYP="bias"))
    assert (raw.shape, raw.index, raw.header["IMAGETYP"]) == (SHAPE, 0, "bias")
    strips = [raw.pixels[y : y + 10, :] for y in range(0, 48, 10)]
    assert strips[0].dtype == np.uint16
    np.testing.assert_array_equal(np.concatenate(strips), pixels)
    np.testing.assert_array_equal(raw.pixels[5:9, 60:], pixels[5:9, 60:])
    np.testing.assert_array_equal(np.asarray(raw.pixels), pixels)
    assert raw.pixels[7:7, :].shape == (0, 64)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_pixels_are_what_astropy_reads(tmp_path, dtype):
    data = np.random.default_rng(2).integers(0, 100, SHAPE).astype(dtype)
    pixels = np.asarray(open_raw(plain(tmp_path / "a.fits", data)).pixels)
    np.testing.assert_array_equal(pixels, data)
    assert pixels.dtype == np.dtype(dtype)
    assert pixels.dtype.isnative


def test_scaled_pixels_are_real_and_blank_ones_not_a_number(tmp_path):
    hdu = fits.PrimaryHDU(np.arange(12, dtype=np.int16).reshape(3, 4))
    hdu.header["BLANK"] = 5
    hdu.header["BSCALE"] = 0.5
    hdu.header["BZERO"] = 100.0
    hdu.writeto(tmp_path / "a.fits")
    # astropy drops the cards of the scale when it writes; they are put back into the file.
    content = (tmp_path / "a.fits").read_bytes()
    if b"BSCALE" not in content:
        cards = b"BSCALE  =                  0.5".ljust(80) + b"BZERO   =                100.0".ljust(80)
        end = content.index(b"END".ljust(80))
        content = content[:end] + cards + b"END".ljust(80) + content[end + 240 :]
        (tmp_path / "a.fits").write_bytes(content)
    pixels = np.asarray(open_raw(tmp_path / "a.fits").pixels)
    wanted = np.arange(12).reshape(3, 4) * 0.5 + 100
    wanted[1, 1] = np.nan
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, wanted)


def test_tile_compressed_pixels_come_back_by_strips(tmp_path, pixels):
    raw = open_raw(tiled(tmp_path / "a.fits.fz", pixels))
    assert (raw.shape, raw.index, [extension.name for extension in raw.extensions]) == (SHAPE, 1, ["SCI"])
    assert raw.pixels[3:21, 2:9].dtype == np.uint16
    np.testing.assert_array_equal(raw.pixels[3:21, 2:9], pixels[3:21, 2:9])
    np.testing.assert_array_equal(np.asarray(raw.pixels), pixels)


def test_the_extension_wins_and_the_primary_fills(tmp_path, pixels):
    primary = fits.Header({"OBJECT": "primary", "TELESCOP": "1m0-05", "FILTER": "V"})
    raw = open_raw(tiled(tmp_path / "a.fz", pixels, primary, OBJECT="extension", TELESCOP=""))
    assert raw.header == {"OBJECT": "extension", "TELESCOP": "1m0-05", "FILTER": "V"}


def test_an_lco_like_file_is_described_whole(tmp_path, pixels):
    path = tmp_path / "cpt1m010-fa15-20170711-0001-e00.fits.fz"
    image = fits.CompImageHDU(pixels, header_in("lco_sci.txt"), name="SCI")
    mask = fits.CompImageHDU(np.zeros(SHAPE, np.uint8), name="BPM")
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.arange(3.0))], name="CAT")
    fits.HDUList([fits.PrimaryHDU(header=header_in("lco_primary.txt")), image, mask, table]).writeto(path)
    raw = open_raw(path)
    facts = FileFacts(raw.comments, raw.extensions)
    description = describe(raw.header, raw.shape, load_instruments([SHIPPED]), facts)
    assert (description.frame_class, description.telescope, description.object) == (
        "science",
        "1m0-05",
        "WASP-43",
    )
    assert (description.obsdate, description.exptime, description.refused) == (
        "2017-07-11T23:18:59.617",
        30.004,
        "",
    )


@pytest.mark.parametrize("name", ["maxim_light.txt", "nina_light.txt", "arcon_object.txt", "noao_zero.txt"])
def test_headers_are_read_as_astropy_reads_them(tmp_path, pixels, name):
    header = header_in(name)
    fits.PrimaryHDU(pixels, header).writeto(tmp_path / "a.fits")
    raw = open_raw(tmp_path / "a.fits")
    assert raw.header == {
        key: value.strip() if isinstance(value, str) else value for key, value in header.items()
    }
    assert {key: raw.comments[key] for key in raw.header} == {key: header.comments[key] for key in header}


def test_several_images_are_all_named(tmp_path, pixels):
    images = [fits.ImageHDU(pixels, name="SCI", ver=1), fits.ImageHDU(pixels, name="SCI", ver=2)]
    fits.HDUList([fits.PrimaryHDU(), *images, fits.ImageHDU(pixels, name="guider")]).writeto(
        tmp_path / "a.fits"
    )
    raw = open_raw(tmp_path / "a.fits")
    assert [(extension.index, extension.name) for extension in raw.extensions] == [(1, "SCI,1"), (2, "SCI,2")]


def test_a_cube_of_one_plane_is_an_image(tmp_path, pixels):
    assert open_raw(plain(tmp_path / "a.fits", pixels[None])).shape == SHAPE


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.zeros((3, 4, 5), np.int16), r"holds a cube of shape \(3, 4, 5\), wanted an image with two axes"),
        (np.zeros(7, np.int16), r"holds a single row of shape \(7,\)"),
        (None, "holds no image"),
    ],
)
def test_a_file_without_image_is_refused(tmp_path, data, said):
    with pytest.raises(NoImageError, match=said):
        open_raw(plain(tmp_path / "a.fits", data))


def test_a_file_of_tables_holds_no_image(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.arange(3.0))])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "a.fits")
    with pytest.raises(NoImageError, match="holds no image"):
        open_raw(tmp_path / "a.fits")


@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.fits.fz"])
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.7])
def test_a_truncated_file_is_refused_at_any_length(tmp_path, pixels, name, kept):
    path = tmp_path / name
    content = (tiled if name.endswith("fz") else plain)(path, pixels).read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises((TruncatedError, NoImageError)) as caught:
        open_raw(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gzipped_file_that_was_truncated_before_is_refused(tmp_path, pixels):
    content = plain(tmp_path / "a.fits", pixels).read_bytes()
    (tmp_path / "b.fits.gz").write_bytes(gzip.compress(content[:5000]))
    with pytest.raises(TruncatedError, match="has 5000 bytes, its headers say 9024"):
        open_raw(tmp_path / "b.fits.gz")


def test_missing_padding_is_no_harm(tmp_path, pixels):
    path = plain(tmp_path / "a.fits", pixels)
    path.write_bytes(path.read_bytes()[: 2880 + 2 * pixels.size])
    np.testing.assert_array_equal(np.asarray(open_raw(path).pixels), pixels)


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (b"", NotFitsError, "is empty"),
        (b"Dear observer,\nno FITS here.\n", NotFitsError, "is not FITS: it does not begin with SIMPLE"),
        (b"\x1f\x8b\x08", TruncatedError, "is a damaged gzip file"),
        (gzip.compress(b"text", mtime=0), NotFitsError, "is not FITS"),
        (gzip.compress(b"", mtime=0), NotFitsError, "is empty"),
        (b"SIMPLE  =                    T".ljust(80), TruncatedError, "it ends within a header"),
        (b"SIMPLE  =                    T".ljust(2880), TruncatedError, "it ends within a header"),
        (b"SIMPLE  =                    T".ljust(2880 * 2001), NotFitsError, "has no END"),
    ],
)
def test_what_is_not_fits_is_refused_in_one_sentence(tmp_path, content, kind, said):
    path = tmp_path / "a.fits"
    path.write_bytes(content)
    with pytest.raises(kind, match=said) as caught:
        open_raw(path)
    assert isinstance(caught.value, UnreadableFrameError)


def test_an_impossible_bitpix_is_refused(tmp_path, pixels):
    path = plain(tmp_path / "a.fits", pixels)
    path.write_bytes(
        path.read_bytes().replace(b"BITPIX  =                   16", b"BITPIX  =                   12")
    )
    with pytest.raises(NotFitsError, match="BITPIX = 12"):
        open_raw(path)


def test_a_size_below_0_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.zeros((4, 120), np.int16)).writeto(path)
    path.write_bytes(
        path.read_bytes().replace(b"NAXIS1  =                  120", b"NAXIS1  =                 -120")
    )
    with pytest.raises(NotFitsError, match="has NAXIS1 = -120, wanted a number from 0 on"):
        open_raw(path)


def test_folders_and_missing_files_are_refused(tmp_path):
    with pytest.raises(NotFitsError, match="is a folder, not a FITS file"):
        open_raw(tmp_path)
    with pytest.raises(UnreadableFrameError, match="can't be read: no such file or directory"):
        open_raw(tmp_path / "missing.fits")
    with pytest.raises(UnreadableFrameError, match="no such file"):
        file_digest(tmp_path / "missing.fits")


@contextmanager
def not_as_root():
    """Be somebody who can be denied a file, where the tests run as root, as in containers."""
    user = os.geteuid()
    os.seteuid(user or NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_must_not_be_read_is_refused(tmp_path, pixels):
    path = plain(tmp_path / "a.fits", pixels)
    path.chmod(0)
    with pytest.raises(UnreadableFrameError, match="can't be read: permission denied"), not_as_root():
        open_raw(path)


def test_a_file_cut_after_it_was_opened_is_noticed(tmp_path, pixels):
    raw = open_raw(plain(tmp_path / "a.fits", pixels))
    raw.path.write_bytes(raw.path.read_bytes()[:4000])
    with pytest.raises(OSError, match="has changed since it was opened"):
        np.asarray(raw.pixels)


def test_a_look_at_the_header_does_not_read_the_pixels(tmp_path):
    path = tmp_path / "big.fits"
    fits.PrimaryHDU(np.zeros((4, 4), np.int16)).writeto(path)
    header = path.read_bytes()[:2880]
    for name in (b"NAXIS1", b"NAXIS2"):
        header = header.replace(name + b"  =                    4", name + b"  =                20000")
    with path.open("wb") as stream:
        stream.write(header)
        stream.truncate(2880 + 2 * 20000 * 20000)  # 800 MB of hole
    tracemalloc.start()
    raw = open_raw(path)
    strip = raw.pixels[19990:20000, :]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000  # a hundredth of the pixels
    assert strip.shape == (10, 20000)


def test_the_digest_is_that_of_the_bytes(tmp_path, pixels):
    path = plain(tmp_path / "a.fits", pixels)
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_nobody_waits_for_is_not_hashed_to_its_end(tmp_path, pixels):
    path = plain(tmp_path / "a.fits", pixels)
    with digests_of([path, path]) as digests:
        assert {name: digest.result() for name, digest in digests.items()} == {path: file_digest(path)}
    given_up = Event()
    given_up.set()
    with pytest.raises(CancelledError, match="no longer wanted"):
        file_digest(path, given_up)
    endless = Path("/dev/zero")
    with pytest.raises(ValueError, match="unknown recipe"), digests_of([endless] * 3):
        raise ValueError("unknown recipe")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.fits", True),
        ("a.FIT", True),
        ("a.fts.gz", True),
        ("a.fits.fz", True),
        ("a.gz", False),
        ("a.txt", False),
    ],
)
def test_fits_files_are_known_by_their_names(name, wanted):
    assert looks_like_raw(Path(name)) is wanted


@pytest.mark.parametrize("cards", [3, 28, 64, 100, 136, 137, 300])
@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz"])
def test_headers_of_all_lengths_are_read(tmp_path, pixels, cards, name):
    stated = {f"KEY{place}": place for place in range(cards)}
    raw = open_raw(plain(tmp_path / name, pixels, **stated))
    assert raw.header == stated
    np.testing.assert_array_equal(np.asarray(raw.pixels), pixels)


def test_long_headers_of_extensions_are_read(tmp_path, pixels):
    stated = {f"KEY{place}": place for place in range(200)}
    images = [fits.ImageHDU(pixels, fits.Header(stated), name=name) for name in ("SCI", "GUIDE")]
    fits.HDUList([fits.PrimaryHDU(header=fits.Header({"OBJECT": "M 13"})), *images]).writeto(
        tmp_path / "a.fits"
    )
    raw = open_raw(tmp_path / "a.fits")
    assert raw.header == {"OBJECT": "M 13", **stated}
    np.testing.assert_array_equal(np.asarray(raw.pixels), pixels)


@pytest.mark.parametrize("kept", [2880, 4 * 2880, 4 * 2880 + 100])
def test_a_file_cut_off_within_a_long_header_is_truncated(tmp_path, pixels, kept):
    path = plain(tmp_path / "a.fits", pixels, **{f"KEY{place}": place for place in range(300)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(TruncatedError, match="it ends within a header"):
        open_raw(path)


def test_programs_from_outside_find_it_under_its_old_name() -> None:
    assert rawfile.open_raw is open_raw


@pytest.mark.parametrize(
    ("dtype", "change", "doubted"),
    [
        ("uint16", lambda counts: counts, False),
        ("float32", lambda counts: counts, False),  # a program that writes counts as reals
        (
            "float32",
            lambda counts: np.where(counts > 5200, counts / 3, counts),
            False,
        ),  # pixels that were mended
        ("float32", lambda counts: (counts - 500) * 1.37, True),
        ("float64", lambda counts: counts / 1.1, True),
    ],
)
def test_numbers_that_are_not_whole_are_a_doubt(tmp_path, dtype, change, doubted):
    counts = np.random.default_rng(1).normal(5000, 70, (40, 50)).round()
    cards = {"IMAGETYP": "Light Frame", "DATE-OBS": "2026-03-01T21:00:00", "EXPTIME": 60.0}
    file = open_raw(plain(tmp_path / "a.fits", change(counts).astype(dtype), **cards))
    description = describe(
        file.header, file.shape, load_instruments([shipped("instruments")]), file_facts(file)
    )
    assert [doubt.kind == "fractions" for doubt in description.doubts].count(True) == doubted
    assert description.finished is None and not description.refused


@pytest.mark.parametrize(
    ("card", "value", "said"),
    [
        ("ZNAXIS1", 640, "wanted 20 for an image of 640x16 pixels"),
        ("ZNAXIS2", 17, "wanted 3"),
        ("ZTILE2", 4, "wanted 4"),
    ],
)
def test_a_tiled_image_has_as_many_tiles_as_its_shape_wants(
    tmp_path: Path, card: str, value: int, said: str
) -> None:
    path = tiled(tmp_path / "a.fz", np.arange(16 * 64, dtype=np.int16).reshape(16, 64))
    open_raw(path)
    with fits.open(path, mode="update", disable_image_compression=True) as file:
        file[1].header[card] = value
    with pytest.raises(NotFitsError, match=f"SCI has 2 tiles \\(NAXIS2\\), {said}"):
        open_raw(path)


@pytest.mark.parametrize("ending", ["fits", "fits.gz"])
@pytest.mark.parametrize(("name", "told"), [("", 2), ("SCI", 2), ("MASK", 0)])
def test_images_behind_the_first_are_told(tmp_path, pixels, name, told, ending) -> None:
    others = [fits.ImageHDU(pixels + 1, name=name or None), fits.ImageHDU(pixels + 2, name=name or None)]
    path = tmp_path / f"seq.{ending}"
    fits.HDUList([fits.PrimaryHDU(pixels), *others]).writeto(path)
    raw = open_raw(path)
    np.testing.assert_array_equal(np.asarray(raw.pixels), pixels)
    assert [doubt.kind for doubt in raw.doubts] == ["images"] * bool(told)
    assert all(f"and {told} more are behind it" in doubt.text for doubt in raw.doubts)


def test_images_behind_one_that_was_packed_from_a_primary_are_told(tmp_path, pixels) -> None:
    # As fpack writes it: what was in the primary HDU says so.
    packed = [fits.CompImageHDU(pixels + n, compression_type="RICE_1") for n in range(3)]
    path = tmp_path / "seq.fz"
    fits.HDUList([fits.PrimaryHDU(), *packed]).writeto(path)
    with fits.open(path, mode="update", disable_image_compression=True) as file:
        file[1].header["ZSIMPLE"] = True
    raw = open_raw(path)
    np.testing.assert_array_equal(np.asarray(raw.pixels), pixels)
    assert [doubt.kind for doubt in raw.doubts] == ["images"]


@pytest.mark.parametrize(("shape", "told"), [((96, 128), 1), ((4, 48, 64), 1), ((12, 16), 0)])
def test_larger_images_behind_the_first_are_told_thumbnails_are_not(tmp_path, pixels, shape, told) -> None:
    other = fits.ImageHDU(np.ones(shape, np.uint16), name="SCI")
    fits.HDUList([fits.PrimaryHDU(pixels), other]).writeto(tmp_path / "a.fits")
    assert len(open_raw(tmp_path / "a.fits").doubts) == told


def with_text_card(path: Path, keyword: str, text: str) -> Path:
    """The same file with a card that stands there as a text."""
    content = path.read_bytes()
    begin = content.index(f"{keyword:8}= ".encode())
    card = f"{keyword:8}= {text}".ljust(80).encode()
    path.write_bytes(content[:begin] + card + content[begin + 80 :])
    return path


def test_a_zero_in_quotes_counts_and_a_scale_of_0_is_refused(tmp_path, pixels) -> None:
    path = with_text_card(plain(tmp_path / "a.fits", pixels), "BZERO", "'32768'")
    np.testing.assert_array_equal(np.asarray(open_raw(path).pixels), pixels)
    path = with_text_card(path, "BSCALE", "0")
    with pytest.raises(UnreadableFrameError, match="BSCALE = 0: all its pixels would be alike"):
        open_raw(path)


def test_what_is_no_header_behind_the_first_image_is_nobodys(tmp_path, pixels) -> None:
    path = plain(tmp_path / "a.fits", pixels)
    path.write_bytes(path.read_bytes() + b"XTENSION= nonsense" * 3000)
    assert open_raw(path).doubts == ()


def test_a_table_of_ours_is_named_where_an_image_is_wanted(tmp_path) -> None:
    cards = fits.Header({"JOBKEY": "0123", "CATEGORY": "gain_table"})
    table = fits.BinTableHDU.from_columns([fits.Column("gain", "D", array=[1.2])], name="TABLE")
    fits.HDUList([fits.PrimaryHDU(header=cards), table]).writeto(tmp_path / "a.fits")
    with pytest.raises(NoImageError, match=r"a table that ccdflow has made, a gain_table$"):
        open_raw(tmp_path / "a.fits")


@pytest.mark.parametrize(("seconds", "refused"), [(0, False), (0.4, False), (90, True)])
def test_exposures_in_one_file_are_refused_amplifiers_are_not(tmp_path, pixels, seconds, refused) -> None:
    start = datetime(2026, 3, 1, 20)
    images = []
    for number in range(3):
        header = fits.Header({"DATE-OBS": (start + timedelta(seconds=seconds * number)).isoformat()})
        images.append(fits.ImageHDU(pixels, header))
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(tmp_path / "a.fits")
    if not refused:
        assert len(open_raw(tmp_path / "a.fits").extensions) == 3
        return
    with pytest.raises(
        UnreadableFrameError, match=r"holds 3 exposures, begun from 2026-03-01 20:00:00 to .*: split it"
    ):
        open_raw(tmp_path / "a.fits")
