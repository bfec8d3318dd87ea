"""Masters are loaded once for all jobs and threads, and never served stale."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from ccdflow.archive.fits.productfile import Origin, ProductFileError, read_image, read_product, write_product
from ccdflow.cascade.headers.classify import describe
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import InputProduct, Output
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, Section
from ccdflow.tasks.masters import ProductCache
from ccdflow.tasks.rawfiles.foreign import ForeignMaster, foreign_master

SHAPE = 30, 41
SIZE = 30 * 41 * 10


def written(path: Path, level: float, key: str = "a" * 64) -> Path:
    data = np.random.default_rng(3).normal(level, 3, SHAPE).astype(np.float32)
    image = Image(data, np.abs(data), np.zeros(SHAPE, np.uint16), "electron")
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as stream:
        write_product(stream, Output(image), Origin(key, "bias", "1"))
    temporary.replace(path)
    return path


class Counting:
    def __init__(self) -> None:
        self.paths: list[Path] = []

    def __call__(self, path: Path) -> InputProduct:
        self.paths.append(path)
        return read_product(path)


def test_same_file_gives_the_same_object_with_the_pixels_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", 100)
    cache = ProductCache(10 * SIZE)
    first = cache.product(path)
    assert cache.product(path) is first
    assert isinstance(first.image, Image)
    for plane in ("data", "variance", "dq"):
        found = getattr(first.image, plane)
        np.testing.assert_array_equal(found, getattr(read_image(read_product(path)), plane))
        assert found.dtype.isnative
        assert found.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            found[0, 0] = 1


def test_replaced_file_is_read_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", 100)
    cache = ProductCache(10 * SIZE)
    before = cache.product(path)
    written(path, 200)
    after = cache.product(path)
    assert after is not before
    assert read_image(after).data.mean() == pytest.approx(200, abs=1)


def test_threads_that_ask_at_once_load_it_once(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", 100)
    counting, barrier = Counting(), Barrier(6)
    cache = ProductCache(10 * SIZE, counting)

    def ask(_: int) -> InputProduct:
        barrier.wait()
        return cache.product(path)

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, range(6)))
    assert all(one is found[0] for one in found)
    assert len(counting.paths) == 1


def test_what_was_not_asked_for_longest_is_forgotten_beyond_the_budget(tmp_path: Path) -> None:
    a, b, c = (written(tmp_path / f"{name}.fits", 100) for name in "abc")
    counting = Counting()
    cache = ProductCache(2 * SIZE, counting)
    for path in (a, b, a, c, a):
        cache.product(path)
    assert counting.paths == [a, b, c]
    cache.product(b)
    assert counting.paths == [a, b, c, b]


def test_product_beyond_the_budget_is_read_row_by_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", 100)
    found = ProductCache(SIZE - 1).product(path)
    assert not isinstance(found.image, Image)
    np.testing.assert_array_equal(read_image(found).data, read_image(read_product(path)).data)


def test_damaged_file_is_refused_each_time_and_read_once_mended(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"no FITS")
    cache = ProductCache(10 * SIZE)
    for _ in range(2):
        with pytest.raises(ProductFileError, match="is not FITS"):
            cache.product(path)
    written(path, 100)
    assert read_image(cache.product(path)).data.mean() == pytest.approx(100, abs=1)
    with pytest.raises(ProductFileError):
        cache.product(tmp_path / "missing.fits")


def foreign(path: Path, variance: NDArray[Any] | None) -> Path:
    level = np.full(SHAPE, 20_000.0, np.float32)
    level[:, 0] = np.nan
    hdus = fits.HDUList([fits.PrimaryHDU(level)])
    if variance is not None:
        hdus.append(fits.ImageHDU(variance.astype(np.float32), name="VAR"))
    hdus.writeto(path)
    return path


def test_a_master_of_another_program_is_made_ours_once(tmp_path: Path) -> None:
    path, read = foreign(tmp_path / "flat.fits", None), Counting()
    cache = ProductCache(10 * SIZE, read)
    master = cache.product(path, ForeignMaster("master_flat", "", 1.0, None))
    assert cache.product(path, ForeignMaster("master_flat", "", 1.0, None)) is master and len(read.paths) == 1
    image = read_image(master)
    assert (image.data[:, 1:] == 1).all() and image.unit == "" and not image.variance.any()
    assert (image.dq[:, 0] == DQ.NO_DATA).all() and not image.dq[:, 1:].any()
    assert read_image(cache.product(path)).data[0, 1] == 20_000


@pytest.mark.parametrize("budget", [10 * SIZE, 0])
def test_a_variance_that_a_master_states_counts_for_all_of_it(tmp_path: Path, budget: int) -> None:
    variance = np.zeros(SHAPE)
    variance[20:] = 4.0
    cache, bias = ProductCache(budget), ForeignMaster("master_bias", "electron", 2.0, 9.0)
    stated = cache.product(foreign(tmp_path / "a.fits", variance), bias).image
    assumed = cache.product(foreign(tmp_path / "b.fits", None), bias).image
    assert stated is not None and assumed is not None
    assert [stated.rows(slice(row, row + 1)).variance[0, 1] for row in (0, 25)] == [0, 16]
    assert (assumed.rows(slice(0, 5)).variance == 9).all()


WHOLE = Section.whole((4, 6))
DETECTOR = Detector((4, 6), (Amplifier(WHOLE, WHOLE, None, 1.5, 3.0, 65535.0),))
INSTRUMENTS = load_instruments([shipped("instruments")])


@pytest.mark.parametrize(
    ("cards", "factor"),
    [
        ({"BUNIT": "electron / s", "EXPTIME": 300.0}, 1.0),
        ({"BUNIT": "adu/s", "EXPTIME": 300.0}, 1.5),
        ({"BUNIT": "e-/h", "EXPTIME": 300.0}, 1 / 3600),
        ({"BUNIT": "electron/s"}, 1.0),
        ({"BUNIT": "adu", "EXPTIME": 300.0}, 1.5 / 300),
        ({"BUNIT": "electron", "EXPTIME": 300.0}, 1 / 300),
    ],
)
def test_a_dark_that_is_a_rate_is_not_divided_again(cards: dict[str, Any], factor: float) -> None:
    header = {"IMAGETYP": "dark", "CALSTAT": "BM", "DATE-OBS": "2026-03-01T20:00:00", **cards}
    master = foreign_master(describe(header, (4, 6), INSTRUMENTS), DETECTOR, (4, 6))
    assert isinstance(master, ForeignMaster) and master.factor == pytest.approx(factor)


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"IMAGETYP": "bias", "BUNIT": "adu/s", "NCOMBINE": 9}, "of a second, which a bias has not"),
        ({"IMAGETYP": "dark", "CALSTAT": "BM", "EXPTIME": 3000.0, "SUBEXP": 300.0}, "a sum or a mean"),
    ],
)
def test_what_a_master_leaves_open_is_told(cards: dict[str, Any], said: str) -> None:
    header = {"DATE-OBS": "2026-03-01T20:00:00", "EXPTIME": 0.0, **cards}
    told = foreign_master(describe(header, (4, 6), INSTRUMENTS), DETECTOR, (4, 6))
    assert isinstance(told, str) and said in told
