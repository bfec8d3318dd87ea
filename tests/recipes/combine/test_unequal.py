"""Frames of unequal depth: what is clipped, how they weigh, and whether the stated noise is true."""

import numpy as np
import pytest

from ccdflow.recipes.combine.average import Combination, combine
from ccdflow.recipes.combine.clip import limits_squared, photon_slopes
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image

READ_NOISE = 5.0
SHAPE = (240, 240)
MIXES = [
    ((20, 20, 20, 320), 5.0),
    ((60, 60, 180), 5.0),
    ((20, 320), 5.0),
    ((20, 20, 320), 5.0),
    ((10, 10, 10, 1000), 0.5),
    ((1,) * 9 + (100,), 5.0),
    ((10,) * 5 + (1000,) * 5, 0.1),
    ((5, 5, 500, 500), 200.0),
    (tuple(np.geomspace(10, 1000, 16)), 1.0),
    ((60,) * 4, 5.0),
]
"""Exposure times in s, and the sky in electron / s: from 1:1 to 1:100, read noise or photon noise above the other."""


def exposures(times, sky, seed=1):
    """Frames of an even sky, and the factors that bring them to the longest exposure."""
    rng = np.random.default_rng(seed)
    frames = []
    for time in times:
        data = rng.poisson(sky * time, SHAPE) + rng.normal(0, READ_NOISE, SHAPE)
        frames.append(frame_of(data))
    return frames, max(times) / np.array(times, float)


def frame_of(data, flags=0):
    """A frame that states the noise of its photons and its read noise."""
    data = np.asarray(data, np.float32)
    return Image(data, READ_NOISE**2 + np.maximum(data, 0), np.full(data.shape, flags, np.uint16), "electron")


def true_variances(times, sky):
    """Variance of each frame, brought to the longest exposure."""
    times = np.array(times, float)
    return (READ_NOISE**2 + sky * times) * (times.max() / times) ** 2


@pytest.mark.parametrize("masked", [0.0, 0.2])
@pytest.mark.parametrize(("times", "sky"), MIXES)
def test_scatter_is_stated_and_that_of_the_inverse_variance_mean(times, sky, masked):
    frames, scales = exposures(times, sky)
    rng = np.random.default_rng(7)
    precisions = np.zeros(SHAPE)
    for frame, variance in zip(frames, true_variances(times, sky), strict=True):
        hidden = rng.random(SHAPE) < masked
        frame.dq[hidden], frame.data[hidden] = DQ.BAD_PIXEL, 1e6
        precisions += np.where(hidden, 0, 1 / variance)
    combined = combine(frames, Combination(), scales=scales)
    good = combined.ngood > 0
    stated = np.sqrt(combined.image.variance[good].mean())
    scatter = (combined.image.data[good] - sky * max(times)).std()
    assert not combined.fell_back
    assert scatter / stated == pytest.approx(1.005, abs=0.035)
    assert scatter < 1.05 * np.sqrt((1 / precisions[good]).mean())
    assert combined.rejected < 0.005


@pytest.mark.parametrize(("times", "sky"), [mix for mix in MIXES if len(mix[0]) > 2])
@pytest.mark.parametrize("outlier", [5.0, -5.0])
def test_no_frame_loses_good_values_and_outliers_are_found_where_they_show(times, sky, outlier):
    frames, scales = exposures(times, sky)
    variances = true_variances(times, sky)
    rng = np.random.default_rng(3)
    for who in {0, len(times) - 1}:
        hit = rng.random(SHAPE) < 0.03
        own = np.sqrt(READ_NOISE**2 + sky * times[who])
        # NONLINEAR excludes nothing: it tells where this frame was used.
        marked = frame_of(frames[who].data + outlier * own * hit, DQ.NONLINEAR)
        combined = combine([*frames[:who], marked, *frames[who + 1 :]], Combination(), scales=scales)
        lost = combined.image.dq & DQ.NONLINEAR == 0
        rest = 1 / (1 / np.delete(variances, who)).sum()
        pull = abs(outlier) / np.sqrt(1 + rest / variances[who])
        assert lost[~hit].mean() < 0.005
        # A pull of 4.33 lies above 3 standard deviations in 91 of 100 cases.
        if pull > 4.4:
            assert lost[hit].mean() > 0.9


def test_cosmic_ray_in_the_deep_frame_is_found_by_the_shallow_ones():
    frames, scales = exposures((20, 20, 20, 320), 5.0)
    frames[3].data[50, 60] += 50_000
    frames[3].variance[50, 60] += 50_000
    combined = combine(frames, Combination(), scales=scales)
    assert combined.ngood[50, 60] == 3
    assert combined.image.data[50, 60] == pytest.approx(1600, abs=600)


def test_bright_stars_keep_the_deep_frame():
    # The sky's noise is that of reading out, where the deep frame has 1/160 of the variance; the star's is 1/16.
    times, light = (20, 20, 20, 320), np.where(np.arange(240) % 8 == 0, 400.0, 0.05)
    rng = np.random.default_rng(5)
    frames = [
        frame_of(rng.poisson(np.broadcast_to(light * time, SHAPE)) + rng.normal(0, READ_NOISE, SHAPE), flags)
        for time, flags in zip(times, (0, 0, 0, DQ.NONLINEAR), strict=True)
    ]
    combined = combine(frames, Combination(), scales=max(times) / np.array(times))
    lost = combined.image.dq & DQ.NONLINEAR == 0
    assert lost[:, light > 1].mean() < 0.005
    assert combined.rejected < 0.005


def test_frames_of_unequal_depth_whose_noise_is_understated_keep_the_deep_one():
    frames, scales = exposures((10, 10, 10, 1000), 0.5)
    for frame in frames:
        frame.variance[:] /= 4
    frames[3].dq[:] = DQ.NONLINEAR
    frames[0].data[9, 9] += 5000
    combined = combine(frames, Combination(), scales=scales)
    assert combined.fell_back
    assert (combined.image.dq & DQ.NONLINEAR == 0).mean() < 1e-3
    assert combined.ngood[9, 9] == 3


def test_masters_that_weigh_more_in_short_exposures_do_not_clip_them():
    # One noisy bias is subtracted from all: in a rate its error is 1/t.
    rng = np.random.default_rng(6)
    times = (60, 60, 60, 900)
    bias = rng.normal(0, READ_NOISE, SHAPE)
    frames, masters = [], []
    for time in times:
        data = rng.poisson(0.5 * time, SHAPE) + rng.normal(0, READ_NOISE, SHAPE)
        variance = READ_NOISE**2 * 2 + data.clip(0)
        frames.append(
            Image(
                (data - bias).astype(np.float32),
                variance.astype(np.float32),
                np.zeros(SHAPE, np.uint16),
                "electron",
            )
        )
        shared = np.full(SHAPE, READ_NOISE**2, np.float32)
        masters.append(("bias", Image(shared, shared, np.zeros(SHAPE, np.uint16), "electron2")))
    combined = combine(frames, Combination(), scales=1 / np.array(times), calibrations=masters)
    assert combined.rejected < 0.005
    pull = (combined.image.data - 0.5) / np.sqrt(combined.image.variance.mean())
    assert pull.std() == pytest.approx(1, abs=0.04)


def test_of_two_unequal_frames_the_shallow_one_goes_and_of_two_equal_ones_both():
    frames, scales = exposures((20, 320), 5.0)
    frames[0].data[4, 5], frames[1].data[4, 5] = 100 + 48, 1600  # 4.3 sigma of the shallow one
    frames[0].data[6, 7] += 5000
    combined = combine(frames, Combination(), scales=scales)
    assert combined.ngood[4, 5] == 1
    assert combined.image.data[4, 5] == frames[1].data[4, 5]
    assert combined.ngood[6, 7] == 0
    assert combined.image.dq[6, 7] == DQ.REJECTED


def test_limit_of_a_frame_that_outweighs_all_others_grows_with_its_weight():
    limits = np.sqrt(limits_squared(3.0, np.array([0.25, 0.25, 0.5])))
    np.testing.assert_allclose(limits, 3)
    limits = np.sqrt(limits_squared(3.0, np.array([0.005, 0.005, 0.99])))
    assert limits[0] == 3
    assert 4 < limits[2] < 5


def test_of_equal_values_the_first_pixels_count_on_every_machine():
    rng = np.random.default_rng(5)
    values = 2 * np.round(rng.normal(100, 2, 2000)).astype(np.float32)  # whole adu: most are there many times
    variance = (values * rng.uniform(0.5, 1.5, values.size) + 50).astype(np.float32)
    order = sorted(range(values.size), key=values.tolist().__getitem__)
    low, high = order[: values.size // 3], order[-(values.size // 3) :]
    growth, distance = (np.median(plane[high]) - np.median(plane[low]) for plane in (variance, values))
    (slope,) = photon_slopes(values[None], variance[None], np.ones((1, values.size), bool))
    assert slope == pytest.approx(float(growth / distance), rel=1e-6)


def test_slopes_are_those_of_photon_noise():
    rng = np.random.default_rng(2)
    electrons = rng.poisson(np.linspace(10, 5000, 20_000), (2, 20_000)).astype(np.float32)
    scales = np.array([[1.0], [4.0]], np.float32)
    variance = (25 + electrons) * scales**2
    used = np.ones(electrons.shape, bool)
    np.testing.assert_allclose(photon_slopes(electrons * scales, variance, used), [1, 4], rtol=1e-3)
    assert photon_slopes(electrons, np.full_like(variance, 25), used) == ()


@pytest.mark.parametrize(("times", "sky"), MIXES)
def test_median_of_unequal_frames_states_its_own_noise(times, sky):
    frames, scales = exposures(times, sky)
    combined = combine(frames, Combination("median"), scales=scales)
    stated = np.sqrt(combined.image.variance.mean())
    assert (combined.image.data - sky * max(times)).std() / stated == pytest.approx(0.99, abs=0.055)
