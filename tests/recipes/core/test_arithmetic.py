"""Verbs of calibration: truth of value and variance, bits, messages, purity, agreement with ccdproc."""

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty

from ccdflow.recipes.core.arithmetic import (
    add_photon_variance,
    flag_bad_pixels,
    flag_cosmic_rays,
    flat_correct,
    subtract_bias,
    subtract_dark,
)
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image

SHAPE = (200, 250)
READ_NOISE = 5.0


def image_of(data, variance=1.0, dq=0, unit="electron"):
    data = np.array(data, np.float32)
    variance = np.broadcast_to(np.asarray(variance, np.float32), data.shape).copy()
    return Image(data, variance, np.broadcast_to(np.uint16(dq), data.shape).copy(), unit)


def exposure(rng, signal):
    """A frame without bias, of a constant signal, with photon and read noise but no photon variance yet."""
    data = rng.poisson(signal, SHAPE) + rng.normal(0, READ_NOISE, SHAPE)
    return image_of(data, READ_NOISE**2)


def assert_true(image, truth):
    pull = (image.data - truth) / np.sqrt(image.variance.mean())
    assert pull.mean() == pytest.approx(0, abs=0.02)
    assert pull.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("signal", [100, 1e4])
def test_photon_variance_is_true(signal):
    assert_true(add_photon_variance(exposure(np.random.default_rng(1), signal)), signal)


@pytest.mark.parametrize("signal", [0, 1])
def test_photon_variance_of_a_faint_signal_is_what_the_formula_expects(signal):
    rng = np.random.default_rng(2)
    image = add_photon_variance(exposure(rng, signal))
    draws = rng.poisson(signal, 10**6) + rng.normal(0, READ_NOISE, 10**6)
    assert image.variance.mean() == pytest.approx(READ_NOISE**2 + np.maximum(draws, 0).mean(), rel=2e-3)


@pytest.mark.parametrize("signal", [100, 1e4])
def test_subtracting_a_noisy_bias_is_true(signal):
    rng = np.random.default_rng(3)
    frame = exposure(rng, signal)
    frame.data[:] += 1000
    master = image_of(rng.normal(1000, 3, SHAPE), 9)
    assert_true(add_photon_variance(subtract_bias(frame, master)), signal)


@pytest.mark.parametrize("signal", [100, 1e4])
def test_subtracting_a_noisy_dark_is_true(signal):
    rng = np.random.default_rng(4)
    frame = add_photon_variance(exposure(rng, signal + 0.2 * 60))
    dark = image_of(rng.normal(0.2, 0.1, SHAPE), 0.01, unit="electron / s")
    assert_true(subtract_dark(frame, dark, exptime=60, dark_exptime=300), signal)


@pytest.mark.parametrize("exptime", [60.0, 120.0, 300.0])
def test_error_of_a_bias_that_is_in_the_dark_too_cancels_in_part(exptime):
    rng = np.random.default_rng(5)
    error = rng.normal(0, 4, SHAPE)
    frame = exposure(rng, 200)
    bias = image_of(1000 + error, 16)
    dark_noise = rng.normal(0, 6, SHAPE)
    dark = image_of((1000 + dark_noise - bias.data) / 120, (36 + 16) / 120**2, unit="electron / s")
    frame.data[:] += 1000
    done = add_photon_variance(subtract_bias(frame, bias))
    done = subtract_dark(done, dark, exptime=exptime, dark_exptime=120, bias_variance=bias.variance)
    assert_true(done, 200)


@pytest.mark.parametrize("signal", [100, 1e4])
def test_dividing_by_a_noisy_flat_is_true(signal):
    rng = np.random.default_rng(6)
    response = rng.uniform(0.7, 1.3, SHAPE)
    frame = exposure(rng, signal * response)
    flat = image_of(response + rng.normal(0, 0.01, SHAPE), 1e-4, unit="")
    done = flat_correct(add_photon_variance(frame), flat)
    pull = (done.data - signal) / np.sqrt(done.variance)
    smooth = (done.data - signal) / np.sqrt(
        (READ_NOISE**2 + signal * response + signal**2 * 1e-4) / response**2
    )
    assert smooth.std() == pytest.approx(1, abs=0.02)
    assert pull.std() == pytest.approx(1, abs=0.03)


def test_variance_after_the_flat_is_finite_at_zero_signal():
    done = flat_correct(image_of([[0.0]], 9.0), image_of([[0.5]], 0.01, unit=""))
    assert done.variance[0, 0] == pytest.approx(36)


def test_variance_after_the_flat_follows_its_formula():
    done = flat_correct(image_of([[100.0]], 9.0), image_of([[0.5]], 0.01, unit=""))
    assert done.data[0, 0] == 200
    assert done.variance[0, 0] == pytest.approx((9 + 200**2 * 0.01) / 0.25)


def test_scaled_dark_is_subtracted_by_time():
    dark = image_of([[0.5]], 0.04, unit="electron / s")
    done = subtract_dark(image_of([[100.0]], 9.0), dark, exptime=20, dark_exptime=300)
    assert done.data[0, 0] == 90
    assert done.variance[0, 0] == pytest.approx(9 + 400 * 0.04)


def test_dark_that_holds_bias_serves_its_own_exposure_time_only():
    dark = image_of([[40.0]], 4.0)
    done = subtract_dark(image_of([[100.0]], 9.0), dark, exptime=60, dark_exptime=60)
    assert (done.data[0, 0], done.variance[0, 0]) == (60, 13)
    with pytest.raises(ValueError, match=r"master dark of 60 s still holds bias .* image has 120 s"):
        subtract_dark(image_of([[100.0]], 9.0), dark, exptime=120, dark_exptime=60)


VERBS = {
    "bias": (lambda image, master: subtract_bias(image, master), "electron"),
    "dark": (lambda image, master: subtract_dark(image, master, exptime=10, dark_exptime=20), "electron / s"),
    "flat": (lambda image, master: flat_correct(image, master), ""),
    "mask": (lambda image, master: flag_bad_pixels(image, master), ""),
}


@pytest.mark.parametrize("name", VERBS)
def test_verb_does_not_change_its_input(name):
    verb, unit = VERBS[name]
    rng = np.random.default_rng(7)
    image, master = (
        image_of(rng.uniform(1, 2, (20, 30)), rng.uniform(1, 2, (20, 30)), dq, unit_of_each)
        for dq, unit_of_each in ((DQ.NONLINEAR, "electron"), (DQ.HOT, unit))
    )
    before = [
        plane.copy() for operand in (image, master) for plane in (operand.data, operand.variance, operand.dq)
    ]
    verb(image, master)
    after = [plane for operand in (image, master) for plane in (operand.data, operand.variance, operand.dq)]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_photon_variance_and_cosmic_rays_do_not_change_their_input():
    image = image_of(np.random.default_rng(8).normal(100, 10, (64, 64)), 100.0)
    image.data[20, 20] = 5000
    data, variance, dq = image.data.copy(), image.variance.copy(), image.dq.copy()
    add_photon_variance(image)
    assert flag_cosmic_rays(image, sigma=6, contrast=5).dq.any()
    np.testing.assert_array_equal(image.data, data)
    np.testing.assert_array_equal(image.variance, variance)
    np.testing.assert_array_equal(image.dq, dq)


@pytest.mark.parametrize("name", VERBS)
def test_bits_of_image_and_master_are_joined(name):
    verb, unit = VERBS[name]
    done = verb(image_of([[1.0, 1.0]], 1, DQ.NONLINEAR), image_of([[0.0, 1.0]], 1, DQ.HOT, unit))
    assert done.dq[0, 1] & (DQ.NONLINEAR | DQ.HOT) == DQ.NONLINEAR | DQ.HOT


@pytest.mark.parametrize("name", VERBS)
def test_shapes_that_differ_are_both_named(name):
    verb, unit = VERBS[name]
    with pytest.raises(ValueError, match=r"has shape \(8, 9\), image has \(8, 10\)"):
        verb(image_of(np.ones((8, 10))), image_of(np.ones((8, 9)), unit=unit))


def test_units_that_differ_are_both_named():
    with pytest.raises(ValueError, match="master bias is in 'adu', image needs 'electron'"):
        subtract_bias(image_of([[1.0]]), image_of([[1.0]], unit="adu"))
    with pytest.raises(ValueError, match="master dark is in 'adu', image needs 'electron / s'"):
        subtract_dark(image_of([[1.0]]), image_of([[1.0]], unit="adu"), exptime=1, dark_exptime=1)
    with pytest.raises(ValueError, match="master flat is in 'electron', image needs ''"):
        flat_correct(image_of([[1.0]]), image_of([[1.0]]))


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e9, 1e30])
def test_what_stands_in_masked_pixels_of_a_flat_never_matters(garbage):
    rng = np.random.default_rng(9)
    flat = image_of(rng.uniform(0.8, 1.2, (20, 30)), 1e-4, unit="")
    image = image_of(rng.uniform(50, 100, (20, 30)), 10)
    masked = rng.random((20, 30)) < 0.2
    flat.dq[masked] = DQ.LOW_FLAT
    clean = flat_correct(image, flat)
    flat.data[masked], flat.variance[masked], image.data[masked] = garbage, garbage, garbage
    done = flat_correct(image, flat)
    np.testing.assert_array_equal(done.data[~masked], clean.data[~masked])
    np.testing.assert_array_equal(done.variance[~masked], clean.variance[~masked])
    assert (done.dq[masked] == DQ.LOW_FLAT).all()


def test_flat_of_zero_or_below_is_flagged_even_without_a_bit():
    done = flat_correct(image_of([[5.0, 5.0, 5.0]]), image_of([[0.0, -1.0, np.nan]], unit=""))
    assert (done.dq == DQ.LOW_FLAT).all()
    assert np.isfinite(done.data).all()


def test_bad_pixel_mask_flags_where_it_is_not_0():
    done = flag_bad_pixels(image_of([[5.0, 5.0]]), image_of([[1.0, 0.0]], unit=""))
    np.testing.assert_array_equal(done.dq, [[DQ.BAD_PIXEL, 0]])


def test_cosmic_rays_are_found_and_stars_and_excluded_pixels_spared():
    rng = np.random.default_rng(10)
    y, x = np.indices((128, 128))
    truth = np.full((128, 128), 100.0)
    for cy, cx in rng.uniform(10, 118, (12, 2)):
        truth += 5000 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 1.8**2))
    image = add_photon_variance(
        image_of(rng.poisson(truth) + rng.normal(0, READ_NOISE, truth.shape), READ_NOISE**2)
    )
    clean = flag_cosmic_rays(image, sigma=6, contrast=5)
    assert not clean.dq.any()
    faint = np.argwhere(truth[4:-4, 4:-4] < 130) + 4
    hits = faint[rng.choice(len(faint), 60, replace=False)]
    image.data[hits[:, 0], hits[:, 1]] += 1500
    image.dq[hits[0, 0], hits[0, 1]] = DQ.HOT
    image.data[3, 3], image.dq[3, 3] = np.nan, DQ.NO_DATA
    flagged = flag_cosmic_rays(image, sigma=6, contrast=5)
    assert (flagged.dq[hits[1:, 0], hits[1:, 1]] == DQ.COSMIC_RAY).mean() >= 0.95
    assert flagged.dq[hits[0, 0], hits[0, 1]] == DQ.HOT
    assert np.count_nonzero(flagged.dq & DQ.COSMIC_RAY) <= 70
    np.testing.assert_array_equal(flagged.data, image.data)


def test_chain_agrees_with_ccdproc():
    rng = np.random.default_rng(11)
    data, bias, dark = (rng.normal(level, 5, (40, 50)) for level in (3000, 500, 100))
    flat = rng.uniform(0.8, 1.2, (40, 50))
    frame = CCDData(data, unit="electron", uncertainty=StdDevUncertainty(np.full(data.shape, 6.0)))
    masters = [
        CCDData(plane, unit=unit, uncertainty=StdDevUncertainty(np.full(plane.shape, error)))
        for plane, unit, error in ((bias, "electron", 2.0), (dark, "electron", 1.0), (flat, "", 0.01))
    ]
    theirs = ccdproc.subtract_bias(frame, masters[0])
    theirs = ccdproc.subtract_dark(
        theirs, masters[1], dark_exposure=100 * u.s, data_exposure=30 * u.s, scale=True
    )
    theirs = ccdproc.flat_correct(theirs, masters[2], norm_value=1)
    ours = subtract_bias(image_of(data, 36), image_of(bias, 4))
    ours = subtract_dark(ours, image_of(dark / 100, 1e-4, unit="electron / s"), exptime=30, dark_exptime=100)
    ours = flat_correct(ours, image_of(flat, 1e-4, unit=""))
    np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(ours.variance), theirs.uncertainty.array, rtol=1e-4)
