"""Strips of raw files: the same numbers however a file is stored, in whatever order its rows are asked for."""

import gzip
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.archive.fits import rawpixels
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.recipes.detector.raw import read_adu

SHAPE = 301, 47


def numbers(kind, seed=1):
    if np.dtype(kind).kind == "f":
        return np.random.default_rng(seed).normal(1000, 300, SHAPE).astype(kind)
    limits = np.iinfo(kind)
    drawn = np.random.default_rng(seed).integers(limits.min, limits.max, SHAPE, dtype=kind, endpoint=True)
    drawn[0, :2] = limits.min, limits.max
    return drawn


def plain(path, data):
    fits.PrimaryHDU(data).writeto(path)


def zipped(path, data):
    hdu = fits.PrimaryHDU(data)
    with gzip.open(path, "wb") as stream:
        hdu.writeto(stream)


def tiled(path, data):
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, compression_type="RICE_1")]).writeto(path)


@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize("write", [plain, zipped])
def test_rows_are_the_same_numbers_however_they_are_stored(tmp_path, write, kind):
    data = numbers(kind)
    write(tmp_path / "a.fits", data)
    pixels = open_raw(tmp_path / "a.fits").pixels
    for rows in (
        slice(0, SHAPE[0]),
        slice(120, 140),
        slice(300, 301),
        slice(0, 3),
        slice(290, 400),
        slice(5, 5),
    ):
        adu = read_adu(pixels, rows)
        assert adu.dtype == np.float32
        np.testing.assert_array_equal(adu, data[rows].astype(np.float32))
        np.testing.assert_array_equal(pixels[rows, slice(3, 9)], data[rows, 3:9])


@pytest.mark.parametrize("kind", ["i2", "u2", "i4"])
def test_tile_compressed_rows_are_the_same_numbers(tmp_path, kind):
    data = numbers(kind) // 7
    tiled(tmp_path / "a.fits.fz", data)
    pixels = open_raw(tmp_path / "a.fits.fz").pixels
    for rows in (slice(250, 301), slice(0, 2), slice(100, 200), slice(0, SHAPE[0])):
        np.testing.assert_array_equal(read_adu(pixels, rows), data[rows].astype(np.float32))


def test_numbers_that_are_scaled_or_blank_are_read_as_they_are_meant(tmp_path):
    hdu = fits.PrimaryHDU(np.arange(12, dtype=np.int16).reshape(3, 4))
    hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.5, 100.0, 5
    hdu.header.set("BLANK", 5)
    hdu.writeto(tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits", do_not_scale_image_data=True) as file:
        stored, header = file[0].data.copy(), file[0].header.copy()
    expected = stored * np.float32(header.get("BSCALE", 1)) + np.float32(header.get("BZERO", 0))
    expected[stored == header.get("BLANK")] = np.nan
    np.testing.assert_array_equal(read_adu(open_raw(tmp_path / "a.fits").pixels, slice(0, 3)), expected)


@pytest.mark.parametrize("write", [plain, zipped, tiled])
def test_threads_may_read_rows_of_one_file_in_any_order(tmp_path, write):
    data = numbers("u2")
    write(tmp_path / "a.fits", data)
    pixels = open_raw(tmp_path / "a.fits").pixels
    starts = np.random.default_rng(2).permutation(np.arange(0, SHAPE[0], 7)).tolist()
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda start: read_adu(pixels, slice(start, start + 7)), starts))
    for start, part in zip(starts, parts, strict=True):
        np.testing.assert_array_equal(part, data[start : start + 7].astype(np.float32))


def test_more_files_than_may_stay_open_are_read_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(rawpixels, "_MAY_STAY_OPEN", rawpixels.BoundedSemaphore(2))
    plain(tmp_path / "a.fits", numbers("u2"))
    every = [open_raw(tmp_path / "a.fits").pixels for _ in range(5)]
    for pixels in every:
        np.testing.assert_array_equal(read_adu(pixels, slice(0, SHAPE[0])), numbers("u2"))
    del every, pixels
    plain(tmp_path / "b.fits", numbers("u2"))
    open_raw(tmp_path / "b.fits").pixels[:, :]


def test_file_that_was_cut_off_since_is_not_read_as_if_whole(tmp_path):
    path = tmp_path / "a.fits"
    plain(path, numbers("u2"))
    pixels = open_raw(path).pixels
    with path.open("r+b") as stream:
        stream.truncate(10_000)
    with pytest.raises(OSError, match="ends before its last pixel"):
        read_adu(pixels, slice(200, 301))
