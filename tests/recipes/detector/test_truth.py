"""Raw frames of a known sky through all recipes: what comes out is the truth, within the stated noise.

Everything is drawn anew many times, masters too, so that the masters' own errors count.
"""

from dataclasses import replace

import numpy as np
import pytest

from ccdflow.recipes import bias, dark, flat, science
from ccdflow.recipes.core.dq import excluded
from ccdflow.recipes.core.recipe import InputProduct
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, RawFrame, Section

SHAPE = (32, 48)
NIGHTS = 24
GAIN, READ_NOISE = (1.4, 2.0), (6.0, 9.0)
OVER = 8
DARK_RATE, DARK_TIME = 0.5, 120.0
BIAS_FRAMES, DARK_FRAMES, FLAT_FRAMES = 4, 3, 4
FLAT_LEVEL = 20_000.0
NO_CLIP = {"clip": "none"}


def detector():
    ny, half = SHAPE[0], SHAPE[1] // 2
    left = Amplifier(
        Section(0, ny, 0, half),
        Section(0, ny, 0, half),
        Section(0, ny, half, half + OVER),
        GAIN[0],
        READ_NOISE[0],
    )
    right = Amplifier(
        Section(0, ny, half + 2 * OVER, 2 * (half + OVER), flip_x=True),
        Section(0, ny, half, 2 * half),
        Section(0, ny, half + OVER, half + 2 * OVER),
        GAIN[1],
        READ_NOISE[1],
    )
    return Detector(SHAPE, (left, right))


class Camera:
    """One drawing of bias structure and flat field, and the frames taken with them."""

    def __init__(self, rng):
        self.rng = rng
        self.structure = rng.normal(0, 3, SHAPE)
        self.response = rng.uniform(0.8, 1.2, SHAPE)
        self.response /= self.response.mean()

    def frame(self, light, exptime):
        """Raw frame of `light` electron before the flat field."""
        rng, half = self.rng, SHAPE[1] // 2
        electrons = rng.poisson(light * self.response + DARK_RATE * exptime)
        raw = np.empty((SHAPE[0], SHAPE[1] + 2 * OVER))
        raw[:] = 1000
        raw[:, :half] += electrons[:, :half] / GAIN[0] + self.structure[:, :half]
        raw[:, half + 2 * OVER :] += (electrons[:, half:] / GAIN[1] + self.structure[:, half:])[:, ::-1]
        noise = np.repeat(np.divide(READ_NOISE, GAIN), half + OVER)
        return RawFrame(raw + rng.normal(0, 1, raw.shape) * noise, detector(), exptime)


def product(result, category, exptime=0.0):
    output = result.outputs[category]
    header = {keyword: value for keyword, (value, _) in output.cards.items()}
    return InputProduct(output.image, exptime, header=header)


def master_bias(camera, **options):
    frames = [camera.frame(0, 0) for _ in range(BIAS_FRAMES)]
    return product(bias.RECIPE.run({"main": frames}, bias.BiasParameters(**options)), "master_bias")


def master_dark(camera, zero, **options):
    frames = [camera.frame(0, DARK_TIME) for _ in range(DARK_FRAMES)]
    result = dark.RECIPE.run({"main": frames, "bias": [zero]}, dark.DarkParameters(hot_sigma=100, **options))
    return product(result, "master_dark", DARK_TIME)


def master_flat(camera, zero, current, **options):
    frames = [camera.frame(FLAT_LEVEL * factor, 5.0) for factor in np.linspace(0.8, 1.2, FLAT_FRAMES)]
    inputs = {"main": frames, "bias": [zero], "dark": [current]}
    return product(flat.RECIPE.run(inputs, flat.FlatParameters(**options)), "master_flat")


def pulls(images, truths):
    """Errors over the mean stated noise of each half of the detector."""
    drawn = []
    for half in (slice(0, SHAPE[1] // 2), slice(SHAPE[1] // 2, None)):
        variance = np.mean([image.variance[:, half] for image in images])
        for image, truth in zip(images, truths, strict=True):
            good = ~excluded(image.dq[:, half])
            drawn.append(((image.data - truth)[:, half] / np.sqrt(variance))[good])
    return np.concatenate(drawn)


def assert_true(drawn, tolerance):
    assert drawn.mean() == pytest.approx(0, abs=0.03)
    assert drawn.std() == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize(("options", "tolerance"), [(NO_CLIP, 0.02), ({}, 0.04)])
def test_master_bias_is_true(options, tolerance):
    cameras = [Camera(np.random.default_rng(seed)) for seed in range(NIGHTS)]
    images = [master_bias(camera, **options).image for camera in cameras]
    gains = np.repeat(GAIN, SHAPE[1] // 2)
    assert_true(pulls(images, [camera.structure * gains for camera in cameras]), tolerance)


@pytest.mark.parametrize(("options", "tolerance"), [(NO_CLIP, 0.02), ({}, 0.04)])
def test_master_dark_is_true(options, tolerance):
    cameras = [Camera(np.random.default_rng(seed)) for seed in range(NIGHTS)]
    images = [master_dark(camera, master_bias(camera, **options), **options).image for camera in cameras]
    assert_true(pulls(images, [DARK_RATE] * NIGHTS), tolerance)


@pytest.mark.parametrize(("options", "tolerance"), [(NO_CLIP, 0.02), ({}, 0.04)])
def test_master_flat_is_true(options, tolerance):
    cameras = [Camera(np.random.default_rng(seed)) for seed in range(NIGHTS)]
    images = []
    for camera in cameras:
        zero = master_bias(camera, **options)
        images.append(master_flat(camera, zero, master_dark(camera, zero, **options), **options).image)
    assert_true(pulls(images, [camera.response for camera in cameras]), tolerance)


def calibrated(seed, signal, exptime, masters="own", **options):
    camera = Camera(np.random.default_rng(seed))
    zero = master_bias(camera, **options)
    current = master_dark(camera, zero, **options)
    if masters == "another bias":
        zero = master_bias(camera, **options)
    field = master_flat(camera, zero, current, **options)
    inputs = {"main": [camera.frame(signal, exptime)], "bias": [zero], "dark": [current], "flat": [field]}
    return science.RECIPE.run(inputs, science.ScienceParameters()).outputs["science"]


@pytest.mark.parametrize(("options", "tolerance"), [(NO_CLIP, 0.02), ({}, 0.04)])
@pytest.mark.parametrize("exptime", [30.0, DARK_TIME])
@pytest.mark.parametrize("signal", [100, 1e4])
def test_calibrated_frame_is_true(signal, exptime, options, tolerance):
    images = [calibrated(seed, signal, exptime, **options).image for seed in range(NIGHTS)]
    assert_true(pulls(images, [signal] * NIGHTS), tolerance)


def test_calibrated_frame_is_true_when_the_dark_was_made_with_another_bias():
    images = [calibrated(seed, 200, DARK_TIME, "another bias", **NO_CLIP).image for seed in range(NIGHTS)]
    assert_true(pulls(images, [200] * NIGHTS), 0.02)


@pytest.mark.parametrize("signal", [0, 1])
def test_faint_frame_is_unbiased_and_states_no_less_than_its_noise(signal):
    images = [calibrated(seed, signal, 30.0, **NO_CLIP).image for seed in range(NIGHTS)]
    drawn = pulls(images, [signal] * NIGHTS)
    assert drawn.mean() == pytest.approx(0, abs=0.03)
    assert 0.93 < drawn.std() < 1.01


def test_calibration_variance_is_the_masters_share():
    outputs = [calibrated(seed, 100, 30.0, **NO_CLIP) for seed in range(NIGHTS)]
    camera = Camera(np.random.default_rng(0))
    own = [output.image.variance - output.calibration_variance for output in outputs]
    noise = np.repeat(READ_NOISE, SHAPE[1] // 2) ** 2 * (1 + 1 / (SHAPE[0] * OVER))
    expected = np.mean((noise + 100 + DARK_RATE * 30) / camera.response**2)
    assert np.mean(own) == pytest.approx(expected, rel=0.03)
    assert all((output.calibration_variance > 0).all() for output in outputs)


def test_recipes_do_not_change_their_inputs():
    camera = Camera(np.random.default_rng(1))
    zero = master_bias(camera)
    current = master_dark(camera, zero)
    field = master_flat(camera, zero, current)
    frame = camera.frame(100, 30.0)
    masters = [master.image for master in (zero, current, field)]
    before = [plane.copy() for master in masters for plane in (master.data, master.variance, master.dq)]
    raw = frame.pixels.copy()
    mask = InputProduct(replace(field.image, unit=""))
    inputs = {"main": [frame], "bias": [zero], "dark": [current], "flat": [field], "bad_pixel_mask": [mask]}
    science.RECIPE.run(inputs, science.ScienceParameters(cosmic_rays=True))
    flat.RECIPE.run({**inputs, "main": [camera.frame(FLAT_LEVEL, 5.0)]}, flat.FlatParameters())
    after = [plane for master in masters for plane in (master.data, master.variance, master.dq)]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(frame.pixels, raw)
