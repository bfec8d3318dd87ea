"""Robust statistics against numpy, theory and truth."""

import numpy as np
import pytest

from ccdflow.recipes.core.statistics import (
    clipped_mean,
    frame_median,
    median,
    median_variance,
    robust_sigma,
    sort_frames,
    typical_size,
    without_outliers,
)


@pytest.mark.parametrize(
    ("n", "exact"), [(1, 1.0), (2, 0.5), (3, 0.448671), (4, 0.298155), (5, 0.286834), (10, 0.138328)]
)
def test_variance_of_the_median_has_its_exact_small_sample_values(n, exact):
    assert median_variance(n) == pytest.approx(exact, rel=2e-4)


def test_variance_of_the_median_tends_to_pi_over_2n():
    assert median_variance(1000) * 1000 == pytest.approx(np.pi / 2, rel=3e-3)
    assert median_variance(1001) * 1001 == pytest.approx(np.pi / 2, rel=3e-3)


def test_variance_of_the_median_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        median_variance(0)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 13, 25, 64, 65])
def test_sorting_frames_equals_numpys_sort(n):
    values = np.random.default_rng(n).integers(0, 10, (n, 500)).astype(np.float32)
    expected = np.sort(values, axis=0)
    sort_frames(values)
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9, 10])
def test_frame_median_is_that_of_the_used_values_only(n):
    rng = np.random.default_rng(n)
    values = rng.normal(size=(n, 300)).astype(np.float32)
    used = rng.random((n, 300)) < 0.7
    values[~used] = rng.choice([np.nan, np.inf, -np.inf, 1e30], np.count_nonzero(~used))
    expected = [
        np.median(column[here]) if here.any() else 0 for column, here in zip(values.T, used.T, strict=True)
    ]
    np.testing.assert_allclose(frame_median(values, used), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("shape", [(1,), (2,), (9, 1), (5, 2), (64, 1023), (8, 4096)])
def test_the_median_is_bit_for_bit_numpys(dtype, shape):
    values = (100 * np.random.default_rng(7).normal(size=shape)).astype(dtype)

    fast, wanted = median(values), np.median(values, axis=-1)

    assert fast.dtype == wanted.dtype
    np.testing.assert_array_equal(fast, wanted)


def test_the_median_of_a_row_with_a_nan_or_without_values_is_nan():
    rows = np.ones((3, 8), np.float32)
    rows[0, 3], rows[1, 5], rows[2, :3] = np.nan, np.inf, -np.inf

    np.testing.assert_array_equal(median(rows), [np.nan, 1, 1])
    np.testing.assert_array_equal(median(rows[:, :0]), [np.nan] * 3)
    assert np.isnan(median(rows[0])) and np.isnan(median(rows[0, :0]))


def test_robust_sigma_finds_the_spread_among_outliers():
    rng = np.random.default_rng(1)
    values = rng.normal(100, 3, 100_000)
    values[:500] = 1e6
    assert robust_sigma(values) == pytest.approx(3, rel=0.015)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.5])
def test_robust_sigma_is_not_fooled_by_whole_numbers(sigma):
    values = np.rint(np.random.default_rng(2).normal(0.3, sigma, 200_000))
    assert robust_sigma(values) == pytest.approx(values.std(), rel=0.12)


def test_robust_sigma_of_nothing_is_nan_and_of_a_constant_is_0():
    assert np.isnan(robust_sigma(np.empty(0)))
    assert robust_sigma(np.full(10, 7.0)) == 0


def test_clipped_mean_ignores_outliers_and_keeps_the_rest():
    rng = np.random.default_rng(3)
    values = rng.normal(1000, 6, 50_000)
    values[:100] = 65535
    assert clipped_mean(values) == pytest.approx(1000, abs=5 * 6 / np.sqrt(50_000))
    assert 49_880 <= without_outliers(values).size <= 49_900


def test_clipped_mean_of_a_constant_is_the_constant_and_of_nothing_is_nan():
    assert clipped_mean(np.full(5, 3.0)) == 3
    assert np.isnan(clipped_mean(np.empty(0)))


@pytest.mark.parametrize("scale", [0.3, 1.0, 30.0])
@pytest.mark.parametrize("whole", [True, False])
def test_the_typical_size_is_the_median_of_the_steps(scale, whole):
    rng = np.random.default_rng(3)
    for size in range(1, 60):
        values = rng.normal(0, scale, size).astype(np.float32)
        values = np.rint(values) if whole else values
        steps, counts = np.unique(np.abs(values), return_counts=True)
        ranks = (np.cumsum(counts) - 0.5 * counts) / size
        assert typical_size(values) == pytest.approx(np.interp(0.5, ranks, steps), rel=1e-6)
