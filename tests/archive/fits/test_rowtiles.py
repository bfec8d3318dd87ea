"""Rows of compressed images by our own way are those that astropy reads."""

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.fits.rowtiles import row_tiles

SHAPE = (41, 67)


def write(path, pixels, **options):
    options = {"compression_type": "RICE_1", **options}
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels, **options)]).writeto(path)
    return path


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "uint32"])
@pytest.mark.parametrize("height", [1, 8, 41])
def test_rows_are_those_that_astropy_reads(tmp_path, dtype, height):
    pixels = np.random.default_rng(1).normal(5000, 300, SHAPE).astype(dtype)
    path = write(tmp_path / "a.fits.fz", pixels, tile_shape=(height, SHAPE[1]))
    tiles = row_tiles(path, 1)
    assert tiles is not None
    assert tiles.height == height
    raw = open_raw(path).pixels
    for y0, y1 in [(0, 41), (5, 6), (7, 9), (40, 41), (12, 12)]:
        np.testing.assert_array_equal(raw[y0:y1, :], pixels[y0:y1])
    assert np.asarray(raw).dtype == fits.getdata(path, 1).dtype


@pytest.mark.parametrize(
    "options",
    [
        {"compression_type": "GZIP_1"},
        {"tile_shape": (8, 16)},
        {"compression_type": "HCOMPRESS_1", "tile_shape": (16, 67)},
    ],
)
def test_what_is_compressed_otherwise_is_left_to_astropy(tmp_path, options):
    pixels = np.random.default_rng(2).integers(0, 60000, SHAPE).astype(np.uint16)
    path = write(tmp_path / "a.fits.fz", pixels, **options)
    assert row_tiles(path, 1) is None
    np.testing.assert_array_equal(np.asarray(open_raw(path).pixels), pixels)


def test_noise_that_does_not_compress_comes_back(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 2**16, SHAPE).astype(np.uint16)
    path = write(tmp_path / "a.fits.fz", pixels, tile_shape=(1, SHAPE[1]))
    np.testing.assert_array_equal(np.asarray(open_raw(path).pixels), pixels)


def test_real_numbers_are_left_to_astropy(tmp_path):
    pixels = np.random.default_rng(4).normal(0, 1, SHAPE).astype(np.float32)
    path = write(tmp_path / "a.fits.fz", pixels, tile_shape=(1, SHAPE[1]))
    assert row_tiles(path, 1) is None
    np.testing.assert_array_equal(np.asarray(open_raw(path).pixels), fits.getdata(path, 1))


def test_a_file_that_got_shorter_says_so(tmp_path):
    pixels = np.random.default_rng(5).normal(5000, 300, SHAPE).astype(np.uint16)
    path = write(tmp_path / "a.fits.fz", pixels, tile_shape=(1, SHAPE[1]))
    tiles = row_tiles(path, 1)
    path.write_bytes(path.read_bytes()[:2880])
    with pytest.raises(OSError, match="ends before its last pixel"):
        tiles.rows(0, 10)


def test_a_card_that_is_broken_stops_nobody(tmp_path):
    pixels = np.random.default_rng(6).normal(5000, 300, SHAPE).astype(np.uint16)
    image = fits.CompImageHDU(pixels, fits.Header({"OBJECT": "M 13"}), compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "a.fits.fz")
    content = (tmp_path / "a.fits.fz").read_bytes()
    (tmp_path / "a.fits.fz").write_bytes(content.replace(b"'M 13    '", b"\xff M 13   '"))
    assert row_tiles(tmp_path / "a.fits.fz", 1) is not None
    np.testing.assert_array_equal(np.asarray(open_raw(tmp_path / "a.fits.fz").pixels), pixels)
