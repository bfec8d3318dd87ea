"""Masters are loaded once for all jobs and threads, and never served stale."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from ccdflow.archive.fits.productfile import Origin, ProductFileError, read_image, read_product, write_product
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import InputProduct, Output
from ccdflow.tasks.masters import ProductCache

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
