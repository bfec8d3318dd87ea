"""Every kind of compression and of numbers is read as a second library (CFITSIO, by fitsio) reads it."""

import gzip
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from ccdflow.archive.fits.productfile import read_image, read_product
from ccdflow.archive.fits.rawfile import UnreadableFrameError, open_raw

SHAPE = (41, 67)
TILES = [None, (1, 67), (8, 67), (41, 67), (8, 16), (13, 29)]
"""Rows and columns; None is what the writer takes by itself. The last does not divide the image either way."""
INTEGERS = ["uint8", "int16", "uint16", "int32", "uint32"]
REALS = ["float32", "float64"]


def integers(kind: str, *, runs: bool = False) -> NDArray[Any]:
    """Counts of a sky of 1000; unsigned ones from both sides of the number that BZERO is, signed ones around 0."""
    noise = np.random.default_rng(3).normal(0, 30, SHAPE)
    level = {"uint8": 100, "uint16": 32768, "uint32": 2**31}.get(kind, 0)
    if runs:  # PLIO is for masks: no number below 0 or above 2^24, and long runs of the same
        noise, level = np.repeat(np.abs(noise[:, :17]), 4, axis=1)[:, :67] // 1, min(level, 32768)
    return np.rint(level + noise / (4 if kind == "uint8" else 1)).astype(kind)


def reals(kind: str) -> NDArray[Any]:
    """A sky with rows and pixels without value, and of one value: tiles that can't be quantized."""
    sky = np.random.default_rng(4).normal(1000, 30, SHAPE)
    sky[3, 4:9] = sky[17] = np.nan
    sky[10], sky[11] = 5.0, 0.0
    sky[12, :20] = 0.0
    return sky.astype(kind)


def write(path: Path, pixels: NDArray[Any], compress: str, **options: Any) -> Path:
    fitsio.write(str(path), pixels, compress=compress, clobber=True, **options)
    return path


def assert_same(path: Path, stated: NDArray[Any] | None = None) -> None:
    theirs = fitsio.read(str(path))
    raw = open_raw(path)
    ours = np.asarray(raw.pixels)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(raw.pixels[7:23, 5:40], theirs[7:23, 5:40])
    if stated is not None:
        np.testing.assert_array_equal(ours, stated)


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("compression", ["RICE", "GZIP", "GZIP_2", "PLIO", "HCOMPRESS"])
def test_integers_come_back(tmp_path: Path, compression: str, kind: str) -> None:
    pixels = integers(kind, runs=compression == "PLIO")
    for tile in TILES:
        if compression == "HCOMPRESS" and tile == (1, 67):
            continue  # it takes tiles of four rows at least
        if compression == "PLIO" and kind == "uint32":
            continue  # CFITSIO writes none: less 2^31 they are below 0
        options = {} if tile is None else {"tile_dims": tile}
        assert_same(write(tmp_path / "a.fits.fz", pixels, compression, **options), pixels)


@pytest.mark.parametrize("kind", ["int16", "uint16", "int32"])
@pytest.mark.parametrize("smooth", [False, True])
def test_integers_that_lost_something_are_the_same_to_both(tmp_path: Path, kind: str, smooth: bool) -> None:
    options = {"hcomp_scale": 2.0, "hcomp_smooth": smooth, "tile_dims": (16, 67)}
    assert_same(write(tmp_path / "a.fits.fz", integers(kind), "HCOMPRESS", **options))


# CFITSIO writes no HCOMPRESS with the second dither.
QUANTIZED = [
    (compression, dither)
    for compression in ("RICE", "GZIP", "GZIP_2", "HCOMPRESS")
    for dither in ("NO_DITHER", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")
    if (compression, dither) != ("HCOMPRESS", "SUBTRACTIVE_DITHER_2")
]
# astropy writes no PLIO of unsigned numbers; those of CFITSIO are read above.
WITH_BLANKS = [
    (compression, kind)
    for compression in ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1")
    for kind in INTEGERS
    if not (compression == "PLIO_1" and kind in ("uint16", "uint32"))
]


@pytest.mark.parametrize("kind", REALS)
@pytest.mark.parametrize(("compression", "dither"), QUANTIZED)
def test_quantized_reals_are_the_same_to_both(
    tmp_path: Path, compression: str, kind: str, dither: str
) -> None:
    for tile in TILES:
        if compression == "HCOMPRESS" and tile == (1, 67):
            continue
        options = {} if tile is None else {"tile_dims": tile}
        for level in (4.0, -0.5):  # in units of the noise, and as it is
            path = write(
                tmp_path / "a.fits.fz",
                reals(kind),
                compression,
                qlevel=level,
                qmethod=dither,
                dither_seed=7,
                **options,
            )
            assert_same(path)


@pytest.mark.parametrize("kind", REALS)
@pytest.mark.parametrize("compression", ["GZIP", "GZIP_2"])
def test_lossless_reals_come_back(tmp_path: Path, compression: str, kind: str) -> None:
    for tile in TILES:
        options = {} if tile is None else {"tile_dims": tile}
        pixels = reals(kind)
        assert_same(write(tmp_path / "a.fits.fz", pixels, compression, qlevel=0, **options), pixels)


@pytest.mark.parametrize("kind", [*INTEGERS, "int64", *REALS])
def test_tiles_that_are_not_compressed_come_back(tmp_path: Path, kind: str) -> None:
    # CFITSIO writes such tiles in other columns, so astropy is the one that writes them.
    pixels = integers(kind) if kind in INTEGERS else np.arange(41 * 67).reshape(SHAPE).astype(kind)
    image = fits.CompImageHDU(pixels, compression_type="NOCOMPRESS", tile_shape=(8, 67), quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "a.fits.fz")
    np.testing.assert_array_equal(np.asarray(open_raw(tmp_path / "a.fits.fz").pixels), pixels)


@pytest.mark.parametrize("keyword", ["BLANK", "ZBLANK"])
@pytest.mark.parametrize(("compression", "kind"), WITH_BLANKS)
def test_a_number_for_no_value_means_none_however_it_is_stored(
    tmp_path: Path, kind: str, compression: str, keyword: str
) -> None:
    pixels = np.abs(integers(kind).astype(np.int64)).astype(kind)[:40]
    image = fits.CompImageHDU(pixels, compression_type=compression, tile_shape=(8, 67))
    path = tmp_path / "a.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    lowest = pixels.min()  # 0 of signed numbers, which astropy alone does not take for "no value"
    zero = {"uint16": 2**15, "uint32": 2**31}.get(kind, 0)
    with fits.open(path, mode="update", disable_image_compression=True) as hdus:
        hdus[1].header[keyword] = int(lowest) - zero
    wanted = np.where(pixels == lowest, np.nan, pixels.astype(np.float64))
    np.testing.assert_array_equal(np.asarray(open_raw(path).pixels), wanted)


def test_unsigned_numbers_of_plio_are_stored_as_they_are(tmp_path: Path) -> None:
    flags = np.repeat(np.arange(41, dtype=np.uint16)[:, None], 67, axis=1) * 1500
    path = write(tmp_path / "mask.fits.fz", flags, "PLIO")
    assert fits.getheader(path, 1)["BZERO"] == 32768
    assert_same(path, flags)
    (tmp_path / "again.fits.gz").write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(np.asarray(open_raw(tmp_path / "again.fits.gz").pixels), flags)
    with fits.open(path, mode="update", disable_image_compression=True) as hdus:
        hdus[1].header["BLANK"] = 3000 - 32768
    got = np.asarray(open_raw(path).pixels)
    np.testing.assert_array_equal(got, np.where(flags == 3000, np.nan, flags.astype(float)))


@pytest.mark.parametrize("compression", ["RICE", "PLIO"])
def test_a_cube_of_one_plane_is_an_image_when_compressed(tmp_path: Path, compression: str) -> None:
    pixels = integers("uint16", runs=True)
    path = write(tmp_path / "a.fits.fz", pixels[None], compression)
    np.testing.assert_array_equal(np.asarray(open_raw(path).pixels), pixels)


def test_a_compressed_file_that_is_gzipped_too_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits.fz", integers("uint16"), "RICE", tile_dims=(1, 67))
    (tmp_path / "b.fits.fz").write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(np.asarray(open_raw(tmp_path / "b.fits.fz").pixels), integers("uint16"))


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_2", "PLIO_1"])
def test_compressed_integers_are_scaled(tmp_path: Path, compression: str) -> None:
    pixels = np.abs(integers("int16"))
    image = fits.CompImageHDU(pixels, compression_type=compression, tile_shape=(8, 67))
    path = tmp_path / "a.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    with fits.open(path, mode="update", disable_image_compression=True) as hdus:
        hdus[1].header["BSCALE"], hdus[1].header["BZERO"] = 0.5, 100.0
    np.testing.assert_array_equal(np.asarray(open_raw(path).pixels), pixels * 0.5 + 100)
    np.testing.assert_array_equal(fitsio.read(str(path)), pixels * 0.5 + 100)


@pytest.mark.parametrize(
    ("cards", "said"),
    [({"ZCMPTYPE": "BZIP2_1"}, "BZIP2_1.*known: GZIP_1"), ({"ZSCALE": 0.5, "ZZERO": 0.0}, "ZSCALE.*funpack")],
)
def test_what_nobody_here_decompresses_is_refused(tmp_path: Path, cards: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "a.fits.fz", integers("int16"), "RICE")
    with fits.open(path, mode="update", disable_image_compression=True) as hdus:
        hdus[1].header.update(cards)
    with pytest.raises(UnreadableFrameError, match=said):
        open_raw(path)


def test_a_compressed_mask_is_a_product(tmp_path: Path) -> None:
    flags = (np.arange(41)[:, None] * np.ones(67, int) % 5 == 0).astype(np.uint16)
    for compression in ("PLIO", "RICE", "GZIP_2"):
        image = read_image(read_product(write(tmp_path / "bpm.fits.fz", flags, compression)))
        np.testing.assert_array_equal(image.data, flags)
        assert not image.dq.any()
    for name in ("BPM", "MASK", "DQ"):
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(flags.astype(np.int16), name=name)]).writeto(
            tmp_path / f"{name}.fits.fz"
        )
        np.testing.assert_array_equal(read_image(read_product(tmp_path / f"{name}.fits.fz")).data, flags)


def test_a_master_of_extensions_is_read_with_its_error_and_mask(tmp_path: Path) -> None:
    data, bad = reals("float32")[20:40], np.zeros((20, 67), np.uint8)
    bad[3, 4] = 1
    primary = fits.PrimaryHDU(header=fits.Header({"TELESCOP": "1m0-05", "EXPTIME": 30.0}))
    planes = [
        fits.CompImageHDU(data, fits.Header({"BUNIT": "electron"}), name="SCI", quantize_level=0,
                          compression_type="GZIP_2"),
        fits.CompImageHDU(bad, name="BPM"),
        fits.CompImageHDU(np.full((20, 67), 3, np.float32), name="ERR", quantize_level=0,
                          compression_type="GZIP_2"),
    ]  # fmt: skip
    fits.HDUList([primary, *planes]).writeto(tmp_path / "bias.fits.fz")
    product = read_product(tmp_path / "bias.fits.fz")
    image = read_image(product)
    np.testing.assert_array_equal(image.data, data)
    assert (product.exptime, image.unit, product.header["TELESCOP"]) == (30.0, "electron", "1m0-05")
    assert (image.variance.min(), image.variance.max(), image.dq[3, 4], image.dq.sum()) == (9.0, 9.0, 1, 1)
