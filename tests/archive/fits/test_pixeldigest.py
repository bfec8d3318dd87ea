"""Pixels are known by their values, in whatever file they are."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.archive.fits.pixeldigest import pixel_digest, same_pixels
from ccdflow.archive.fits.rawfile import open_raw

NOISE = np.random.default_rng(5).normal(1000, 5, (80, 96)).round().astype(np.uint16)


def plain(path: Path, data: Any, **cards: object) -> Path:
    fits.PrimaryHDU(data, fits.Header(cards)).writeto(path)
    return path


def packed(path: Path, data: Any, kind: str) -> Path:
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, compression_type=kind)]).writeto(path)
    return path


def gzipped(path: Path, data: Any) -> Path:
    path.write_bytes(gzip.compress(plain(path.with_suffix(".plain"), data).read_bytes()))
    return path


def digest(path: Path) -> str:
    return pixel_digest(open_raw(path).pixels)


def other_containers(folder: Path) -> list[Path]:
    unscaled = fits.PrimaryHDU(NOISE.astype(np.float32))
    unscaled.scale("int16", bscale=0.5, bzero=1000)
    unscaled.writeto(folder / "scaled.fits")
    extension = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(NOISE)])
    extension.writeto(folder / "extension.fits")
    return [
        plain(folder / "history.fits", NOISE, HISTORY="copied by the archive"),
        gzipped(folder / "a.fits.gz", NOISE),
        *(packed(folder / f"{kind}.fits.fz", NOISE, kind) for kind in ("RICE_1", "GZIP_1", "GZIP_2")),
        plain(folder / "int16.fits", NOISE.astype(np.int16)),
        plain(folder / "int32.fits", NOISE.astype(np.int32)),
        plain(folder / "int64.fits", NOISE.astype(np.int64)),
        plain(folder / "float32.fits", NOISE.astype(np.float32)),
        plain(folder / "float64.fits", NOISE.astype(np.float64)),
        folder / "scaled.fits",
        folder / "extension.fits",
    ]


def test_values_count_and_neither_container_nor_type(tmp_path: Path) -> None:
    original = plain(tmp_path / "a.fits", NOISE)
    for copy in other_containers(tmp_path):
        assert digest(copy) == digest(original) != "", copy.name
        assert same_pixels(open_raw(copy).pixels, open_raw(original).pixels), copy.name


def test_another_exposure_has_another_digest(tmp_path: Path) -> None:
    one_pixel = NOISE.copy()
    one_pixel[3, 7] += 1
    seen = [NOISE, one_pixel, NOISE[:, ::-1], NOISE.T, NOISE.astype(np.int32) - 2000, NOISE / 3]
    digests = {digest(plain(tmp_path / f"{number}.fits", data)) for number, data in enumerate(seen)}
    assert len(digests) == len(seen)


def test_pixels_that_only_begin_alike_are_not_the_same(tmp_path: Path) -> None:
    above = NOISE.copy()
    above[70, 7] += 1
    first, second = plain(tmp_path / "a.fits", NOISE), plain(tmp_path / "b.fits", above)
    assert digest(first) == digest(second)
    assert not same_pixels(open_raw(first).pixels, open_raw(second).pixels)


def test_pixels_without_a_value_equal_each_other(tmp_path: Path) -> None:
    holes = NOISE.astype(np.float32)
    holes[2:4, 5:9] = np.nan
    first = plain(tmp_path / "a.fits", holes)
    second = plain(tmp_path / "b.fits", holes.astype(np.float64))
    assert digest(first) == digest(second) != ""
    assert same_pixels(open_raw(first).pixels, open_raw(second).pixels)


ROWS, COLUMNS = np.mgrid[0:64, 0:80]
HOT = np.full((64, 80), 100, np.uint16)
HOT[np.arange(10), np.arange(10) * 7] = 5000
STARS = (1000 + 60000 * np.exp(-((COLUMNS - 40) ** 2 + (ROWS - 30) ** 2) / 8)).astype(np.uint16)


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((64, 80), np.uint16),
        np.full((64, 80), 1000, np.int32),
        np.full((64, 80), 0.5, np.float32),
        np.arange(64 * 80, dtype=np.uint16).reshape(64, 80),
        (1000 + 0.37 * COLUMNS + 0.11 * ROWS).astype(np.uint16),
        HOT,
        STARS,
        np.full((64, 80), np.nan, np.float32),
        np.random.default_rng(0).integers(0, 60000, (3, 4)).astype(np.uint16),
    ],
    ids=["zero", "constant", "real", "ramp", "slope", "hot", "painted", "nothing", "tiny"],
)
def test_what_has_no_noise_is_no_fingerprint(tmp_path: Path, data: Any) -> None:
    assert digest(plain(tmp_path / "a.fits", data)) == ""


@pytest.mark.parametrize("noise", [0.4, 1.0, 20.0])
def test_even_a_quiet_camera_has_one(tmp_path: Path, noise: float) -> None:
    data = np.random.default_rng(1).normal(500, noise, (64, 512)).round().astype(np.uint16)
    assert digest(plain(tmp_path / "a.fits", data)) != ""


def test_noise_above_a_dark_edge_counts(tmp_path: Path) -> None:
    edged = NOISE.copy()
    edged[:40] = 0
    other = edged.copy()
    other[60] = NOISE[10]
    first = plain(tmp_path / "a.fits", edged)
    assert digest(first) != ""
    assert digest(first) != digest(plain(tmp_path / "b.fits", other))
