"""Nights without biases, darks or flats: what takes their place, and whether the variances are true all the same."""

from dataclasses import replace

import numpy as np
import pytest

from ccdflow.recipes import bias, dark, flat, science, stack
from ccdflow.recipes.core.dq import excluded
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import InputProduct
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, RawFrame, Section
from ccdflow.recipes.detector.noise import bias_levels, overscan_noise, with_own_noise
from ccdflow.recipes.detector.readout import Readout

SHAPE = (64, 96)
OVER = 16
GAIN, READ_NOISE, LEVEL = 1.5, 5.0, 1000.0
NIGHTS = 16
NO_CLIP = {"clip": "none"}


def detector(*, overscan=False, gain=GAIN, read_noise=READ_NOISE):
    whole = Section.whole(SHAPE)
    beside = Section(0, SHAPE[0], SHAPE[1], SHAPE[1] + OVER) if overscan else None
    return Detector(SHAPE, (Amplifier(whole, whole, beside, gain, read_noise),))


class Camera:
    """A CMOS camera: pattern in its bias, warm pixels, and an amplifier that glows at the right edge."""

    def __init__(self, seed, **options):
        self.rng = rng = np.random.default_rng(seed)
        self.detector = detector(**options)
        self.pattern = rng.normal(0, 1.0, SHAPE)
        self.rate = np.full(SHAPE, 0.7)
        self.rate[:, -20:] += 3.0
        self.rate[rng.random(SHAPE) < 0.01] += 8.0
        self.response = rng.uniform(0.8, 1.2, SHAPE)
        self.response /= self.response.mean()

    def frame(self, light, exptime, name=""):
        electrons = self.rng.poisson(light * self.response + self.rate * exptime)
        adu = LEVEL + electrons / GAIN + self.pattern
        width = SHAPE[1] + (OVER if self.detector.amplifiers[0].overscan else 0)
        raw = np.full((SHAPE[0], width), LEVEL)
        raw[:, : SHAPE[1]] = adu
        raw += self.rng.normal(0, READ_NOISE / GAIN, raw.shape)
        return RawFrame(np.rint(raw).astype(np.uint16), self.detector, exptime, name)

    def frames(self, n, light, exptime):
        return [self.frame(light, exptime, f"{light:g}-{exptime:g}-{i}") for i in range(n)]


def product(result, category, exptime=0.0, name="master", calibration=""):
    output = result.outputs[category]
    header = {keyword: value for keyword, (value, _) in output.cards.items()}
    shared = output.calibration_variance
    masters = None if shared is None else Image(shared, 0 * shared, np.zeros(shared.shape, np.uint16), "")
    return InputProduct(output.image, exptime, name, header, calibration, masters)


def made_dark(camera, exptime, n=5, **options):
    parameters = dark.DarkParameters(hot_sigma=1000, **{**NO_CLIP, **options})
    result = dark.RECIPE.run({"main": camera.frames(n, 0, exptime)}, parameters)
    return product(result, "master_dark", exptime, f"dark-{exptime:g}")


def made_flat(camera, darks, exptimes=(2.0,) * 5):
    frames = [camera.frame(20_000 * (1 + i / 20), time) for i, time in enumerate(exptimes)]
    result = flat.RECIPE.run({"main": frames, "dark": darks}, flat.FlatParameters(**NO_CLIP))
    return product(result, "master_flat")


def calibrated(frame, **masters):
    inputs = {"main": [frame], **{role: [master] for role, master in masters.items()}}
    return science.RECIPE.run(inputs, science.ScienceParameters())


def drawn(images, truths):
    """Errors of good pixels over the mean stated noise, in the glow and outside of it apart."""
    parts = []
    for columns in (slice(0, -20), slice(-20, None)):
        variance = np.mean([image.variance[:, columns] for image in images])
        for image, truth in zip(images, truths, strict=True):
            error = (image.data - truth)[:, columns] / np.sqrt(variance)
            parts.append(error[~excluded(image.dq[:, columns])])
    return np.concatenate(parts)


def assert_true(errors, tolerance=0.02):
    assert errors.mean() == pytest.approx(0, abs=0.03)
    assert errors.std() == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("known", [{}, {"read_noise": None}, {"overscan": True}])
def test_darks_of_its_own_time_take_bias_and_dark_from_a_frame(n, known):
    images = []
    for seed in range(NIGHTS):
        camera = Camera(seed, **known)
        master = made_dark(camera, 60.0, n)
        images.append(
            calibrated(camera.frame(300, 60.0), dark=master, flat=flat_of(camera)).outputs["science"].image
        )
    # A single dark can't tell its pattern from noise: it states somewhat more than there is.
    assert_true(drawn(images, [300.0] * NIGHTS), 0.02 if n > 1 else 0.05)


def flat_of(camera):
    return made_flat(camera, [made_dark(camera, 2.0)])


def test_dark_flats_take_the_bias_from_flats_of_their_own_times():
    images, truths = [], []
    times = (2.0, 2.0, 3.0, 3.0, 4.0)
    for seed in range(NIGHTS):
        camera = Camera(seed)
        darks = [made_dark(camera, time) for time in (4.0, 2.0, 3.0)]
        images.append(made_flat(camera, darks, times).image)
        truths.append(camera.response)
    assert_true(drawn(images, truths))


def test_flat_without_a_dark_of_its_time_says_which_there_are():
    camera = Camera(1)
    darks = [made_dark(camera, 2.0), made_dark(camera, 3.0)]
    with pytest.raises(ValueError, match=r"has 5 s, there are darks of 2, 3 s"):
        made_flat(camera, darks, (2.0, 5.0))


def test_dark_that_holds_its_bias_says_how_high_that_is():
    for n, tolerance in ((2, 3.0), (6, 2.0)):
        camera = Camera(7)
        header = made_dark(camera, 60.0, n).header
        assert header["BIASSUB"] is False
        assert header["BIASLV01"] == pytest.approx(LEVEL * GAIN, abs=tolerance)


def test_read_noise_above_the_scatter_makes_no_dark_current_negative():
    camera = Camera(8, read_noise=50.0)
    frames = camera.frames(4, 0, 1e-3)
    readouts = [Readout((GAIN,), (50.0,))] * 4
    assert bias_levels(frames, readouts, "level") == pytest.approx((LEVEL * GAIN,), abs=1)


def test_overscan_serves_as_bias_and_the_dark_is_a_rate():
    images = []
    for seed in range(NIGHTS):
        camera = Camera(seed, overscan=True)
        camera.pattern[:] = 0
        result = dark.RECIPE.run(
            {"main": camera.frames(4, 0, 60.0)}, dark.DarkParameters(hot_sigma=1000, **NO_CLIP)
        )
        master = product(result, "master_dark", 60.0)
        assert master.image.unit == "electron / s"
        assert master.header["BIASFROM"] == "overscan"
        assert "overscan serves as bias" in result.warnings[0].text
        done = calibrated(camera.frame(300, 120.0), dark=master, flat=made_flat(camera, [master]))
        assert "overscan alone serves as bias" in done.warnings[0].text
        assert done.outputs["science"].cards["BIASFROM"][0] == "overscan"
        images.append(done.outputs["science"].image)
    assert_true(drawn(images, [300.0] * NIGHTS))


def test_frames_without_a_flat_are_calibrated_and_say_so():
    camera = Camera(3)
    done = calibrated(camera.frame(300, 60.0), dark=made_dark(camera, 60.0))
    assert [doubt.text for doubt in done.warnings] == ["no master flat: the frame is not divided by one"]
    output = done.outputs["science"]
    assert output.cards["FLATCORR"][0] is False
    assert output.cards["BIASFROM"][0] == "dark"
    assert output.image.data.mean() == pytest.approx(300, abs=2)


def test_bias_beside_a_dark_that_holds_it_is_not_subtracted_twice():
    camera = Camera(4)
    zero = product(bias.RECIPE.run({"main": camera.frames(5, 0, 0)}, bias.BiasParameters()), "master_bias")
    done = calibrated(camera.frame(300, 60.0), dark=made_dark(camera, 60.0), bias=zero)
    assert "no master bias is subtracted besides" in done.warnings[0].text
    assert done.outputs["science"].image.data.mean() == pytest.approx(300, abs=2)


def test_dark_of_others_that_holds_its_bias_counts_no_bias_as_light():
    camera = Camera(5)
    master = replace(made_dark(camera, 60.0), header={})
    done = calibrated(camera.frame(300, 60.0), dark=master, flat=flat_of(camera))
    assert "does not say how much of it is bias" in done.warnings[0].text
    image = done.outputs["science"].image
    assert image.data.mean() == pytest.approx(300, abs=2)
    # Read noise, light, the noise of the dark: and not the 1500 electron of the bias.
    assert 325 < np.median(image.variance) < 400


def test_frames_that_share_a_dark_share_its_error_in_a_stack():
    images = []
    for seed in range(NIGHTS):
        camera = Camera(seed)
        camera.response[:] = 1
        master = made_dark(camera, 60.0, 3)
        frames = [
            product(calibrated(frame, dark=master), "science", 60.0, frame.name, "one dark")
            for frame in camera.frames(8, 100, 60.0)
        ]
        parameters = stack.StackParameters(register="none", clip="none", weight="equal", zero="none")
        images.append(stack.RECIPE.run({"main": frames}, parameters).outputs["stack"].image)
    assert_true(drawn(images, [100.0] * NIGHTS))


@pytest.mark.parametrize("overscan", [True, False])
def test_one_bias_knows_its_read_noise(overscan):
    camera = Camera(6, overscan=overscan, read_noise=None)
    result = bias.RECIPE.run({"main": camera.frames(1, 0, 0)}, bias.BiasParameters())
    output = result.outputs["master_bias"]
    assert output.cards["RDNSRC"][0] == "measured"
    # Without an overscan the pattern of the bias counts as noise too.
    expected = READ_NOISE if overscan else np.hypot(READ_NOISE, GAIN)
    assert output.cards["RDNOIS01"][0] == pytest.approx(expected, rel=0.05)
    assert (output.image.variance > 0).all()
    assert len(result.warnings) == (0 if overscan else 1)


def test_one_dark_and_one_flat_have_a_variance():
    camera = Camera(9, read_noise=None)
    assert (made_dark(camera, 60.0, 1).image.variance > 0).all()
    master = made_flat(camera, [made_dark(camera, 2.0, 1)], (2.0,))
    assert (master.image.variance[~excluded(master.image.dq)] > 0).all()


def test_overscan_of_few_pixels_tells_no_noise():
    frame = Camera(3, overscan=True).frame(0, 0)
    amplifier = replace(frame.detector.amplifiers[0], overscan=Section(0, 5, SHAPE[1], SHAPE[1] + 4))
    assert overscan_noise(frame, amplifier) == 0
    assert overscan_noise(frame, frame.detector.amplifiers[0]) == pytest.approx(READ_NOISE / GAIN, rel=0.08)
    known, doubts = with_own_noise([frame], [Readout((GAIN,), (4.0,))])
    assert known[0].read_noises == (4.0,)
    assert doubts == []
