"""Combining frames: truth of result and variance, clipping, bits, strips."""

import ccdproc
import numpy as np
import pytest
from astropy.nddata import CCDData

from ccdflow.recipes.combine.average import Combination, combine
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image

READ_NOISE = 10.0


def image_of(data, variance=1.0, dq=0, unit="electron"):
    data = np.array(data, np.float32)
    planes = np.broadcast_to(np.float32(variance), data.shape), np.broadcast_to(np.uint16(dq), data.shape)
    return Image(data, planes[0].copy(), planes[1].copy(), unit)


def exposures(rng, n, signal, shape=(150, 200)):
    """Frames of a constant signal with photon and read noise, and the variance that a frame states."""
    frames = []
    for _ in range(n):
        data = rng.poisson(signal, shape) + rng.normal(0, READ_NOISE, shape)
        frames.append(image_of(data, READ_NOISE**2 + np.maximum(data, 0)))
    return frames


def columns(*values, variance=1.0, dq=None):
    """One frame of one row for each tuple of values."""
    bits = dq or [0] * len(values)
    return [image_of([row], variance, bit) for row, bit in zip(values, bits, strict=True)]


@pytest.mark.parametrize("method", ["mean", "median"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 10, 25])
@pytest.mark.parametrize("signal", [100, 1e4])
def test_unclipped_result_is_true_within_its_stated_noise(method, n, signal):
    frames = exposures(np.random.default_rng(int(signal) + n), n, signal)
    image = combine(frames, Combination(method, "none")).image
    pull = (image.data - signal) / np.sqrt(image.variance.mean())
    assert pull.mean() == pytest.approx(0, abs=0.025)
    assert pull.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("signal", [0, 1])
@pytest.mark.parametrize("n", [4, 10])
def test_below_the_read_noise_the_stated_variance_is_what_the_formula_expects(signal, n):
    rng = np.random.default_rng(n)
    image = combine(exposures(rng, n, signal), Combination(clip="none")).image
    draws = rng.poisson(signal, 400_000) + rng.normal(0, READ_NOISE, 400_000)
    expected = (READ_NOISE**2 + np.maximum(draws, 0).mean()) / n
    assert image.variance.mean() == pytest.approx(expected, rel=2e-3)
    assert image.data.mean() == pytest.approx(signal, abs=5 * READ_NOISE / np.sqrt(n * image.data.size))


@pytest.mark.parametrize("n", [2, 3, 4, 10, 25])
@pytest.mark.parametrize("signal", [0, 1, 100, 1e4])
@pytest.mark.parametrize("method", ["mean", "median"])
def test_clipped_result_is_true_within_its_stated_noise(method, n, signal):
    combined = combine(exposures(np.random.default_rng(n), n, signal), Combination(method, "variance"))
    good = combined.ngood > 0
    pull = (combined.image.data[good] - signal) / np.sqrt(combined.image.variance[good].mean())
    assert not combined.fell_back
    assert combined.rejected < 0.007
    assert pull.mean() == pytest.approx(0, abs=0.03)
    assert pull.std() == pytest.approx(1, abs=0.04)


def test_weights_are_those_of_the_frames():
    combined = combine(columns([0.0], [4.0], variance=2.0), Combination(clip="none"), weights=[3, 1])
    assert combined.image.data[0, 0] == 1
    assert combined.image.variance[0, 0] == pytest.approx(2 * (9 + 1) / 16)


def test_scales_multiply_data_and_variance_by_the_square():
    frames = columns([10.0], [20.0], variance=4.0)
    combined = combine(frames, Combination(clip="none"), scales=[2, 1], weights=[1, 1])
    assert combined.image.data[0, 0] == 20
    assert combined.image.variance[0, 0] == pytest.approx((4 * 4 + 4) / 4)


@pytest.mark.parametrize("clip", ["none", "variance"])
def test_error_of_shared_masters_is_added_once(clip):
    rng = np.random.default_rng(5)
    shape = (200, 300)
    bias = rng.normal(0, 2, shape)
    frames = [image_of(rng.normal(100, 5, shape) + bias, 25 + 4) for _ in range(4)]
    shared = image_of(np.full(shape, 4.0), 0, unit="electron2")
    combined = combine(frames, Combination(clip=clip), calibrations=[("bias 1", shared)] * 4)
    assert np.sqrt(np.median(combined.image.variance)) == pytest.approx(np.sqrt(25 / 4 + 4), rel=1e-3)
    assert np.sqrt(np.median(combined.calibration_variance)) == pytest.approx(2, rel=1e-3)
    pull = (combined.image.data - 100) / np.sqrt(combined.image.variance.mean())
    assert pull.std() == pytest.approx(1, abs=0.02)
    assert combined.scatter_ratio == pytest.approx(1, abs=0.02)


def test_errors_of_different_masters_are_averaged_down():
    frames = columns([1.0], [1.0], variance=29.0)
    shared = image_of([[4.0]], 0)
    combined = combine(frames, Combination(clip="none"), calibrations=[("a", shared), ("b", shared)])
    assert combined.image.variance[0, 0] == pytest.approx(29 / 2)


@pytest.mark.parametrize("n", [4, 5, 10])
def test_cosmic_ray_is_rejected(n):
    frames = exposures(np.random.default_rng(7), n, 100.0)
    frames[1].data[40, 50] += 200 * READ_NOISE
    combined = combine(frames, Combination())
    others = np.mean([frame.data[40, 50] for i, frame in enumerate(frames) if i != 1])
    assert combined.image.data[40, 50] == pytest.approx(others, abs=1.5 * READ_NOISE)
    assert combined.ngood[40, 50] <= n - 1
    assert combined.image.dq[40, 50] == 0


def test_clip_takes_the_variance_at_the_mean_not_the_values_own():
    values = [[100.0], [100.0], [100.0], [2000.0]]
    frames = [image_of([row], 10 + np.abs(row[0]) * 1e4 * (row[0] > 1000)) for row in values]
    wide = [image_of(np.tile(frame.data, (1, 400)), frame.variance[0, 0]) for frame in frames]
    assert combine(wide, Combination("mean", "none"), weights=[1] * 4).image.data[0, 0] == 575
    survivors = combine(_mostly_noise(wide), Combination()).image.data[0, 0]
    assert survivors == 100


def _mostly_noise(frames):
    """Noise of the stated size in all but the first column, so that the noise model is trusted."""
    rng = np.random.default_rng(1)
    for frame in frames:
        frame.data[:, 1:] = rng.normal(100, np.sqrt(10), (1, 399))
        frame.variance[:, 1:] = 10
    return frames


def test_frames_of_unequal_noise_are_each_clipped_by_their_own():
    rng = np.random.default_rng(3)
    sigmas = [1.0, 1.0, 1.0, 4.0]
    frames = [image_of(rng.normal(0, sigma, (200, 200)), sigma**2) for sigma in sigmas]
    combined = combine(frames, Combination())
    assert combined.rejected < 0.006
    assert not combined.fell_back


def test_untrue_noise_falls_back_to_the_scatter_and_says_so():
    rng = np.random.default_rng(4)
    frames = [image_of(rng.normal(0, 3, (200, 200)), 1.0) for _ in range(5)]
    frames[2].data[10, 10] = 1e4
    combined = combine(frames, Combination())
    assert combined.fell_back
    assert combined.clip == "mad"
    assert combined.scatter_ratio == pytest.approx(3, rel=0.02)
    assert combined.ngood[10, 10] == 4
    assert combined.rejected < 1e-4


def test_frames_that_state_no_noise_are_clipped_by_their_scatter():
    rng = np.random.default_rng(4)
    frames = [image_of(rng.normal(0, 3, (50, 50)), 0.0) for _ in range(10)]
    frames[2].data[10, 10] = 1e4
    combined = combine(frames, Combination())
    assert combined.fell_back
    assert combined.scatter_ratio is None
    assert abs(combined.image.data[10, 10]) < 10


def test_whole_adu_of_little_noise_do_not_fall_back():
    rng = np.random.default_rng(4)
    frames = [image_of(np.rint(rng.normal(300.2, 0.8, (200, 200))), 0.8**2 + 1 / 12) for _ in range(5)]
    assert not combine(frames, Combination()).fell_back


def test_relative_noise_spares_the_cores_of_stars():
    rng = np.random.default_rng(4)
    frames = exposures(rng, 4, 100.0)
    for i, frame in enumerate(frames):
        frame.data[5, 5] = 50_000 * (1 + 0.05 * i)
        frame.variance[5, 5] = 50_000
    assert combine(frames, Combination()).ngood[5, 5] < 4
    assert combine(frames, Combination(relative_noise=0.1)).ngood[5, 5] == 4


def test_minmax_drops_lowest_and_highest_of_three_or_more():
    frames = columns([1.0, 5.0], [2.0, 7.0], [90.0, np.nan])
    combined = combine(frames, Combination(clip="minmax"))
    np.testing.assert_array_equal(combined.image.data, [[2, 6]])
    np.testing.assert_array_equal(combined.ngood, [[1, 2]])


@pytest.mark.parametrize(
    ("clip", "ours", "theirs"),
    [("mad", 5.0, "mad_std"), ("sigma", 2.0, "std")],
)
def test_clipped_mean_agrees_with_ccdproc(clip, ours, theirs):
    rng = np.random.default_rng(8)
    frames = [image_of(rng.normal(1000, 10, (40, 50)), 100) for _ in range(9)]
    for frame in frames:
        frame.data[rng.integers(0, 40, 20), rng.integers(0, 50, 20)] += 500
    combiner = ccdproc.Combiner([CCDData(frame.data.astype(float), unit="electron") for frame in frames])
    combiner.sigma_clipping(low_thresh=ours, high_thresh=ours, func="median", dev_func=theirs)
    expected = combiner.average_combine().data
    got = combine(frames, Combination(clip=clip, sigma=ours, iterations=1))
    np.testing.assert_allclose(got.image.data, expected, rtol=1e-5)
    assert got.rejected > 0.005


def test_median_agrees_with_ccdproc():
    rng = np.random.default_rng(8)
    frames = [image_of(rng.normal(1000, 10, (40, 50)), 100) for _ in range(6)]
    combiner = ccdproc.Combiner([CCDData(frame.data.astype(float), unit="electron") for frame in frames])
    got = combine(frames, Combination("median", "none")).image.data
    np.testing.assert_allclose(got, combiner.median_combine().data, rtol=1e-5)


@pytest.mark.parametrize("clip", ["variance", "mad", "sigma", "minmax", "none"])
@pytest.mark.parametrize("method", ["mean", "median"])
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e9, -1e30])
def test_what_stands_in_excluded_pixels_never_matters(clip, method, garbage):
    frames = exposures(np.random.default_rng(9), 5, 100.0, (30, 40))
    masked = np.random.default_rng(10).random((5, 30, 40)) < 0.2
    results = []
    for filler in (0.0, garbage):
        for frame, here in zip(frames, masked, strict=True):
            frame.dq[here] = DQ.BAD_PIXEL
            frame.data[here] = filler
            frame.variance[here] = abs(filler)
        results.append(combine(frames, Combination(method, clip)))
    good = results[0].ngood > 0
    assert good.mean() > 0.9
    for plane in ("data", "variance", "dq"):
        first, second = (getattr(result.image, plane)[good] for result in results)
        np.testing.assert_array_equal(first, second)
    assert np.isfinite(results[1].image.data).all()
    assert np.isfinite(results[1].image.variance).all()
    assert results[0].scatter_ratio == results[1].scatter_ratio


def test_values_that_are_not_finite_are_excluded_without_a_bit():
    combined = combine(columns([1.0], [np.nan], [3.0]), Combination(clip="none"))
    assert combined.image.data[0, 0] == 2
    assert combined.ngood[0, 0] == 2
    assert combined.image.dq[0, 0] == 0


def test_bits_are_those_of_the_values_used():
    frames = columns([1.0], [2.0], [3.0], dq=[DQ.NONLINEAR, DQ.SATURATED, 0])
    combined = combine(frames, Combination(clip="none"))
    assert combined.image.dq[0, 0] == DQ.NONLINEAR
    assert combined.image.data[0, 0] == 2


def test_pixel_without_a_good_value_keeps_all_bits_and_is_rejected():
    frames = columns([9.0], [11.0], dq=[DQ.SATURATED, DQ.HOT])
    combined = combine(frames, Combination())
    assert combined.image.dq[0, 0] == DQ.SATURATED | DQ.HOT | DQ.REJECTED
    assert combined.image.data[0, 0] == 10
    assert combined.ngood[0, 0] == 0


def test_pixel_that_was_never_measured_is_0_and_without_data():
    combined = combine(columns([np.nan], [5.0], dq=[0, DQ.NO_DATA]), Combination())
    assert combined.image.dq[0, 0] == DQ.NO_DATA | DQ.REJECTED
    assert combined.image.data[0, 0] == 0
    assert combined.image.variance[0, 0] == 0


def test_two_values_that_contradict_each_other_are_both_rejected():
    frames = exposures(np.random.default_rng(1), 2, 100.0)
    frames[0].data[3, 4] += 5000
    combined = combine(frames, Combination())
    assert combined.ngood[3, 4] == 0
    assert combined.image.dq[3, 4] == DQ.REJECTED


def test_constant_frames_stay_constant():
    combined = combine([image_of(np.full((20, 20), 7.0), 1.0)] * 5, Combination())
    np.testing.assert_array_equal(combined.image.data, 7)
    np.testing.assert_array_equal(combined.ngood, 5)
    assert combined.rejected == 0


@pytest.mark.parametrize("options", [Combination(), Combination("median", "mad"), Combination(clip="minmax")])
def test_height_of_the_strips_does_not_change_the_result(options):
    frames = exposures(np.random.default_rng(12), 4, 50.0, (101, 30))
    frames[0].dq[5:40, 3] = DQ.HOT
    whole = combine(frames, options, strip_rows=101)
    for height in (1, 7, 64):
        cut = combine(frames, options, strip_rows=height)
        for plane in ("data", "variance", "dq"):
            np.testing.assert_array_equal(getattr(cut.image, plane), getattr(whole.image, plane))
        np.testing.assert_array_equal(cut.ngood, whole.ngood)
        assert cut.rejected == whole.rejected
        assert cut.scatter_ratio == whole.scatter_ratio


class Counting:
    """An image source that remembers the highest strip that was asked for."""

    def __init__(self, image):
        self.image, self.shape, self.unit, self.highest = image, image.shape, image.unit, 0

    def rows(self, rows):
        self.highest = max(self.highest, rows.stop - rows.start)
        return self.image.rows(rows)


def test_never_more_than_a_strip_is_asked_for():
    frames = [Counting(frame) for frame in exposures(np.random.default_rng(1), 3, 10.0, (200, 20))]
    combine(frames, Combination(), strip_rows=16)
    assert max(frame.highest for frame in frames) == 16


def test_does_not_change_input():
    frames = exposures(np.random.default_rng(2), 3, 100.0, (20, 20))
    before = [(frame.data.copy(), frame.variance.copy(), frame.dq.copy()) for frame in frames]
    combine(frames, Combination(), scales=[1, 2, 3])
    for frame, (data, variance, dq) in zip(frames, before, strict=True):
        np.testing.assert_array_equal(frame.data, data)
        np.testing.assert_array_equal(frame.variance, variance)
        np.testing.assert_array_equal(frame.dq, dq)


def test_frames_that_do_not_fit_together_are_refused_with_both_sides_named():
    frame = image_of(np.zeros((8, 9)))
    with pytest.raises(ValueError, match=r"frame 2 has shape \(8, 10\), frame 1 has \(8, 9\)"):
        combine([frame, image_of(np.zeros((8, 10)))], Combination())
    with pytest.raises(ValueError, match="frame 2 is in 'adu', frame 1 is in 'electron'"):
        combine([frame, image_of(np.zeros((8, 9)), unit="adu")], Combination())
    with pytest.raises(ValueError, match="no frame"):
        combine([], Combination())
    with pytest.raises(ValueError, match="found 2 scales for 1 frames"):
        combine([frame], Combination(), scales=[1, 2])
    with pytest.raises(ValueError, match="weights must be finite and above 0"):
        combine([frame], Combination(), weights=[0])
