"""What the recipes bias, dark, flat and science say and refuse."""

import numpy as np
import pytest

from ccdflow.recipes import bias, dark, flat, science
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image, empty_planes
from ccdflow.recipes.core.recipe import InputProduct
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, RawFrame, Section
from ccdflow.recipes.detector.calibrate import CalibratedFrame, Masters
from ccdflow.recipes.detector.raw import PreparedFrame
from ccdflow.recipes.detector.readout import Readout

SHAPE = (96, 80)


def raw(data, exptime=0.0, name="", gain=2.0, read_noise=8.0, saturation=65535.0):
    section = Section.whole(data.shape)
    amplifier = Amplifier(section, section, None, gain, read_noise, saturation)
    return RawFrame(np.rint(data).astype(np.uint16), Detector(data.shape, (amplifier,)), exptime, name)


def biases(rng, n=5, **numbers):
    return [raw(rng.normal(1000, 4, SHAPE), **numbers) for _ in range(n)]


def darks(rng, rate, exptime=100.0, n=5, **numbers):
    return [
        raw(1000 + rng.poisson(rate * exptime, SHAPE) / 2 + rng.normal(0, 4, SHAPE), exptime)
        for _ in range(n)
    ]


def flats(rng, response, levels, **numbers):
    return [
        raw(1000 + rng.poisson(level * response) / 2 + rng.normal(0, 4, SHAPE), 2.0, f"flat{i}", **numbers)
        for i, level in enumerate(levels)
    ]


def product(result, category, exptime=0.0, name="master"):
    output = result.outputs[category]
    return InputProduct(output.image, exptime, name, {key: value for key, (value, _) in output.cards.items()})


def made_bias(rng):
    return product(bias.RECIPE.run({"main": biases(rng)}, bias.BiasParameters()), "master_bias")


def test_master_bias_tells_its_level_and_noise():
    output = bias.RECIPE.run({"main": biases(np.random.default_rng(1))}, bias.BiasParameters()).outputs[
        "master_bias"
    ]
    assert output.quality["level"] == pytest.approx(2000, abs=0.5)
    assert output.quality["read_noise"] == pytest.approx(8, rel=0.03)
    assert output.quality["read_noise_stated"] == 8
    assert output.quality["rms"] == pytest.approx(8 / np.sqrt(5), rel=0.05)
    assert output.quality["scatter_ratio"] == pytest.approx(1, abs=0.03)
    assert output.cards["NCOMBINE"][0] == 5
    assert output.cards["GAINSRC"][0] == "header"
    assert output.cards["CLIPFALL"][0] is False
    assert (output.ngood >= 3).all()


def test_read_noise_that_nobody_knows_is_measured_from_the_biases():
    frames = biases(np.random.default_rng(2), read_noise=None)
    result = bias.RECIPE.run({"main": frames}, bias.BiasParameters())
    output = result.outputs["master_bias"]
    assert output.cards["RDNSRC"][0] == "measured"
    assert output.cards["RDNOIS01"][0] == pytest.approx(8, rel=0.03)
    assert np.median(output.image.variance) == pytest.approx(64 / 5, rel=0.06)
    assert result.warnings == ()


def test_gain_that_nobody_knows_is_one_sentence_whatever_the_number_of_frames():
    frames = biases(np.random.default_rng(3), gain=None, read_noise=4.0)
    result = bias.RECIPE.run({"main": frames}, bias.BiasParameters())
    assert len(result.warnings) == 1
    assert "1 electron/adu is assumed" in result.warnings[0].text
    assert result.outputs["master_bias"].cards["GAINSRC"][0] == "assumed"


def test_dark_knows_the_read_noise_that_the_master_bias_measured():
    rng = np.random.default_rng(4)
    zero = product(
        bias.RECIPE.run({"main": biases(rng, read_noise=None)}, bias.BiasParameters()), "master_bias"
    )
    frames = [raw(rng.normal(1000, 4, SHAPE), 10.0, read_noise=None) for _ in range(3)]
    output = dark.RECIPE.run({"main": frames, "bias": [zero]}, dark.DarkParameters()).outputs["master_dark"]
    assert output.cards["RDNOIS01"][0] == zero.header["RDNOIS01"]
    assert output.cards["CLIPFALL"][0] is False


def test_stated_noise_that_is_not_true_is_said():
    frames = biases(np.random.default_rng(5), read_noise=2.0)
    result = bias.RECIPE.run({"main": frames}, bias.BiasParameters())
    assert result.outputs["master_bias"].cards["CLIPFALL"][0] is True
    assert "times the stated noise" in result.warnings[0].text


def test_a_single_bias_is_its_own_master():
    frame = biases(np.random.default_rng(6), 1)[0]
    image = bias.RECIPE.run({"main": [frame]}, bias.BiasParameters()).outputs["master_bias"].image
    np.testing.assert_array_equal(image.data, frame.pixels * 2.0)


def test_master_dark_is_a_rate_whatever_the_exposure_times():
    rng = np.random.default_rng(7)
    frames = darks(rng, 2.0, 50.0, 3) + darks(rng, 2.0, 100.0, 3)
    output = dark.RECIPE.run({"main": frames, "bias": [made_bias(rng)]}, dark.DarkParameters()).outputs[
        "master_dark"
    ]
    assert output.image.unit == "electron / s"
    assert output.quality["level"] == pytest.approx(2, abs=0.02)
    assert output.cards["BIASSUB"][0] is True
    assert output.calibration_variance.mean() == pytest.approx(64 / 5 * (2 / 150) ** 2, rel=0.1)


@pytest.mark.parametrize("method", ["mean", "median"])
def test_darks_of_unequal_exposure_make_a_rate_whose_noise_and_response_are_true(method):
    rng = np.random.default_rng(4)
    times = (60.0, 60.0, 60.0, 900.0)
    frames = [frame for time in times for frame in darks(rng, 0.5, time, 1)]
    master = bias.RECIPE.run({"main": biases(rng, 40)}, bias.BiasParameters())
    output = dark.RECIPE.run(
        {"main": frames, "bias": [product(master, "master_bias")]}, dark.DarkParameters(method=method)
    ).outputs["master_dark"]
    stated = output.image.variance.mean()
    assert output.image.data.std() / np.sqrt(stated) == pytest.approx(1, abs=0.04)
    if method == "mean":
        best = 1 / sum(time**2 / (0.5 * time + 64) for time in times)
        assert output.image.data.std() < 1.05 * np.sqrt(best + output.calibration_variance.mean())
    # The header's numbers say the frames' own noise, without that of the bias.
    gain, noise = output.cards["GAIN"][0], output.cards["RDNOISE"][0]
    own = stated - output.calibration_variance.mean()
    assert 0.5 / gain + (noise / gain) ** 2 == pytest.approx(own, rel=0.05)


def test_flats_of_unequal_light_make_a_flat_whose_noise_is_true():
    rng = np.random.default_rng(5)
    levels, response = (1500.0, 1500.0, 1500.0, 60_000.0), np.ones(SHAPE)
    inputs = {"main": flats(rng, response, levels), "bias": [made_bias(rng)]}
    output = flat.RECIPE.run(inputs, flat.FlatParameters(min_snr=10)).outputs["master_flat"]
    best = 1 / sum(level**2 / (level + 64) for level in levels)
    assert output.image.data.std() == pytest.approx(np.sqrt(output.image.variance.mean()), rel=0.04)
    assert output.image.data.std() < 1.05 * np.sqrt(best)


def test_biases_of_unequal_read_noise_make_a_bias_whose_noise_is_true():
    rng = np.random.default_rng(6)
    frames = [raw(rng.normal(1000, noise / 2, SHAPE), read_noise=noise) for noise in (80.0, 80.0, 80.0, 8.0)]
    output = bias.RECIPE.run({"main": frames}, bias.BiasParameters()).outputs["master_bias"]
    assert output.image.data.std() == pytest.approx(np.sqrt(output.image.variance.mean()), rel=0.04)
    assert output.image.data.std() < 1.05 / np.sqrt(3 / 80**2 + 1 / 8**2)
    assert output.cards["RDNDATA"][0] == pytest.approx(output.image.data.std(), rel=0.05)


def test_hot_pixels_are_flagged_and_others_not():
    rng = np.random.default_rng(8)
    rate = np.full(SHAPE, 0.5) + np.linspace(0, 2, SHAPE[0])[:, None]
    hot = rng.random(SHAPE) < 0.01
    rate[hot] += 20
    output = dark.RECIPE.run(
        {"main": darks(rng, rate), "bias": [made_bias(rng)]}, dark.DarkParameters()
    ).outputs["master_dark"]
    np.testing.assert_array_equal((output.image.dq & DQ.HOT) != 0, hot)
    assert output.quality["hot_fraction"] == pytest.approx(hot.mean())


def test_dark_made_without_bias_stays_in_electron_and_serves_its_own_time_only():
    rng = np.random.default_rng(9)
    result = dark.RECIPE.run({"main": darks(rng, 1.0)}, dark.DarkParameters())
    current = product(result, "master_dark", 100.0)
    assert current.image.unit == "electron"
    assert current.header["BIASSUB"] is False
    (frame,) = darks(rng, 1.0, n=1)
    inputs = {"main": [frame], "dark": [current]}
    image = science.RECIPE.run(inputs, science.ScienceParameters()).outputs["science"].image
    assert image.data.mean() == pytest.approx(0, abs=1)
    with pytest.raises(ValueError, match="still holds bias"):
        science.RECIPE.run({**inputs, "main": darks(rng, 1.0, 60.0, 1)}, science.ScienceParameters())
    with pytest.raises(ValueError, match="one exposure time"):
        dark.RECIPE.run({"main": darks(rng, 1.0) + darks(rng, 1.0, 60.0)}, dark.DarkParameters())


def test_dark_without_exposure_time_is_refused_by_name():
    rng = np.random.default_rng(10)
    frame = raw(rng.normal(1000, 4, SHAPE), 0.0, "d7.fits")
    with pytest.raises(ValueError, match=r"d7\.fits has an exposure time of 0 s"):
        dark.RECIPE.run({"main": [frame], "bias": [made_bias(rng)]}, dark.DarkParameters())


def test_a_frame_without_exposure_time_has_no_dark_subtracted_as_if_it_were_0():
    rng = np.random.default_rng(10)
    masters = {"bias": [made_bias(rng)]}
    made = dark.RECIPE.run({"main": darks(rng, 5.0), **masters}, dark.DarkParameters())
    masters["dark"] = [product(made, "master_dark", 100.0)]
    unknown = raw(rng.normal(1000, 4, SHAPE) + 500, float("nan"), "s1.fits")
    with pytest.raises(ValueError, match=r"s1\.fits: its exposure time is not known, so that no dark"):
        science.RECIPE.run({"main": [unknown], **masters}, science.ScienceParameters())
    with pytest.raises(ValueError, match=r"s1\.fits has an exposure time that nobody knows"):
        dark.RECIPE.run({"main": [unknown], "bias": masters["bias"]}, dark.DarkParameters())
    result = flat.RECIPE.run(
        {"main": [unknown, *flats(rng, np.ones(SHAPE), [20_000, 30_000])], **masters}, flat.FlatParameters()
    )
    assert result.outputs["master_flat"].cards["NCOMBINE"][0] == 2
    (left,) = result.left_out
    assert left.position == 0 and left.sentence.startswith(
        "s1.fits is left out: its exposure time is not known"
    )


def test_a_frame_without_exposure_time_is_calibrated_where_there_is_no_dark():
    rng = np.random.default_rng(10)
    unknown = raw(rng.normal(1000, 4, SHAPE) + 500, float("nan"), "s1.fits")
    inputs = {"main": [unknown], "bias": [made_bias(rng)]}
    image = science.RECIPE.run(inputs, science.ScienceParameters()).outputs["science"].image
    assert image.data.mean() == pytest.approx(1000, abs=1)


def response_with_dead_column(rng):
    response = rng.uniform(0.8, 1.2, SHAPE)
    response[:, 7] = 0.01
    return response


def test_master_flat_is_1_over_its_good_pixels_and_flags_low_ones():
    rng = np.random.default_rng(11)
    response = response_with_dead_column(rng)
    result = flat.RECIPE.run(
        {"main": flats(rng, response, [20_000, 30_000, 40_000]), "bias": [made_bias(rng)]},
        flat.FlatParameters(),
    )
    image = result.outputs["master_flat"].image
    low = (image.dq & DQ.LOW_FLAT) != 0
    assert low[:, 7].all()
    assert np.count_nonzero(low) == SHAPE[0]
    assert (image.data[low] == 1).all()
    assert image.data[~low].mean(dtype=float) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(image.data[~low], (response / response[~low].mean())[~low], rtol=0.05)
    assert result.outputs["master_flat"].quality["scatter_ratio"] == pytest.approx(1, abs=0.04)


def test_flats_of_different_levels_weigh_by_their_light():
    rng = np.random.default_rng(12)
    frames = flats(rng, np.ones(SHAPE), [4_000, 40_000])
    options = flat.FlatParameters(clip="none")
    output = flat.RECIPE.run({"main": frames, "bias": [made_bias(rng)]}, options).outputs["master_flat"]
    assert output.image.data.std() == pytest.approx(1 / np.sqrt(44_000), rel=0.05)


def test_error_of_the_bias_is_not_averaged_down_in_the_flat():
    rng = np.random.default_rng(12)
    result = bias.RECIPE.run({"main": biases(rng, 1, read_noise=40.0)}, bias.BiasParameters())
    frames = flats(rng, np.ones(SHAPE), [5_000] * 8)
    inputs = {"main": frames, "bias": [product(result, "master_bias")]}
    output = flat.RECIPE.run(inputs, flat.FlatParameters(clip="none")).outputs["master_flat"]
    shared = (40 / 5000) ** 2
    assert output.calibration_variance.mean() == pytest.approx(shared, rel=0.02)
    assert output.image.variance.mean() == pytest.approx(shared + (64 + 5000) / 8 / 5000**2, rel=0.02)


def test_flats_that_are_faint_or_saturated_are_left_out_by_name():
    rng = np.random.default_rng(13)
    good = flats(rng, np.ones(SHAPE), [20_000, 22_000])
    faint, bright = flats(rng, np.ones(SHAPE), [500, 90_000], saturation=40_000)
    result = flat.RECIPE.run(
        {"main": [*good, faint, bright], "bias": [made_bias(rng)]}, flat.FlatParameters()
    )
    assert result.outputs["master_flat"].cards["NCOMBINE"][0] == 2
    assert result.warnings == () and [left.position for left in result.left_out] == [2, 3]
    faint_one, bright_one = (left.sentence for left in result.left_out)
    assert faint_one.startswith("flat0 is left out: its signal over noise")
    assert bright_one.startswith("flat1 is left out: 100.0% of its pixels are saturated")
    cards = result.outputs["master_flat"].cards
    assert cards["NLEFTOUT"][0] == 2 and cards["LEFT001"][0].startswith("flat0: its signal over noise")


def flats_and_light(stated, response=None):
    """Master flat and result of a light; the true gain is 2, the headers state another."""
    rng = np.random.default_rng(15)
    response = np.ones(SHAPE) if response is None else response
    bias_made = bias.RECIPE.run({"main": biases(rng, gain=stated)}, bias.BiasParameters())
    masters = {"bias": [product(bias_made, "master_bias")]}
    frames = flats(rng, response, [20_000, 22_000, 24_000], gain=stated)
    made = flat.RECIPE.run({"main": frames, **masters}, flat.FlatParameters())
    masters["flat"] = [product(made, "master_flat", name="flat.fits")]
    light = raw(rng.normal(1100, 4, SHAPE), 60.0, "light.fits", gain=stated)
    return made, science.RECIPE.run({"main": [light], **masters}, science.ScienceParameters())


@pytest.mark.parametrize("stated", [4.0, 1.0, 2.5])
def test_a_stated_gain_that_the_flats_contradict_is_said_of_master_and_frames(stated):
    made, light = flats_and_light(stated)
    measured = made.outputs["master_flat"].cards["GAINMS01"][0]
    assert measured == pytest.approx(2.0, rel=0.06)
    sentence = (
        f"the header's gain of {stated:g} electron/adu in amplifier 1 is {measured:.3g} by the photon noise"
    )
    assert any(doubt.text.startswith(sentence) for doubt in made.warnings)
    assert any(doubt.text.startswith(sentence) for doubt in light.warnings)


def test_a_stated_gain_that_the_flats_confirm_is_no_doubt_whatever_pattern_they_share():
    pattern = np.random.default_rng(16).uniform(0.9, 1.1, SHAPE) * np.linspace(0.8, 1.2, SHAPE[1])
    for response in (None, pattern):
        made, light = flats_and_light(2.0, response)
        assert made.outputs["master_flat"].cards["GAINMS01"][0] == pytest.approx(2.0, rel=0.06)
        assert (made.warnings, light.warnings) == ((), ())


def test_no_usable_flat_is_an_error_that_says_why():
    rng = np.random.default_rng(14)
    frames = flats(rng, np.zeros(SHAPE), [1.0])
    with pytest.raises(ValueError, match=r"no flat can be used; flat0: its (level|signal)"):
        flat.RECIPE.run({"main": frames, "bias": [made_bias(rng)]}, flat.FlatParameters())


def test_stars_in_twilight_flats_are_rejected():
    rng = np.random.default_rng(15)
    frames = []
    for i in range(5):
        response = np.ones(SHAPE)
        response[10 + 8 * i : 13 + 8 * i, 40:43] = 1.5
        frames += flats(rng, response, [20_000])
    image = (
        flat.RECIPE.run({"main": frames, "bias": [made_bias(rng)]}, flat.FlatParameters())
        .outputs["master_flat"]
        .image
    )
    assert image.data.max() < 1.02


def whole_chain(rng):
    zero = made_bias(rng)
    current = product(
        dark.RECIPE.run({"main": darks(rng, 1.0), "bias": [zero]}, dark.DarkParameters()),
        "master_dark",
        100.0,
    )
    lit = flats(rng, response_with_dead_column(rng), [20_000, 30_000])
    field = product(
        flat.RECIPE.run({"main": lit, "bias": [zero], "dark": [current]}, flat.FlatParameters()),
        "master_flat",
    )
    return {"bias": [zero], "dark": [current], "flat": [field]}


def test_science_flags_and_counts():
    rng = np.random.default_rng(16)
    masters = whole_chain(rng)
    frame = raw(1000 + rng.poisson(400, SHAPE) / 2 + rng.normal(0, 4, SHAPE), 100.0, saturation=30_000)
    frame.pixels[20, 20] = 30_000
    mask = np.zeros(SHAPE, np.float32)
    mask[30, 31] = 1
    bad = InputProduct(Image(mask, np.zeros_like(mask), np.zeros(SHAPE, np.uint16), ""))
    result = science.RECIPE.run(
        {"main": [frame], "bad_pixel_mask": [bad], **masters}, science.ScienceParameters()
    )
    output = result.outputs["science"]
    assert output.image.dq[20, 20] & DQ.SATURATED
    assert output.image.dq[30, 31] & DQ.BAD_PIXEL
    assert (output.image.dq[:, 7] & DQ.LOW_FLAT).all()
    assert output.quality["saturated_fraction"] == pytest.approx(1 / frame.pixels.size)
    assert output.quality["bad_fraction"] == pytest.approx((SHAPE[0] + 2) / frame.pixels.size, rel=0.05)
    assert output.quality["background"] == pytest.approx(300, abs=5)
    assert {
        key: output.cards[key][0] for key in ("BIASCORR", "DARKCORR", "FLATCORR", "LINCORR", "OVERSCAN")
    } == {
        "BIASCORR": True,
        "DARKCORR": True,
        "FLATCORR": True,
        "LINCORR": False,
        "OVERSCAN": False,
    }
    assert result.warnings == ()


def test_science_without_any_master_is_prepared_only():
    frame = raw(np.full(SHAPE, 1000.0), 5.0)
    output = science.RECIPE.run({"main": [frame]}, science.ScienceParameters()).outputs["science"]
    assert output.calibration_variance is None
    np.testing.assert_array_equal(output.image.data, 2000)


def test_gain_that_differs_from_the_masters_is_said():
    rng = np.random.default_rng(17)
    zero = made_bias(rng)
    result = science.RECIPE.run(
        {"main": biases(rng, 1, gain=2.2), "bias": [zero]}, science.ScienceParameters()
    )
    assert [str(doubt) for doubt in result.warnings] == [
        "gain_conflict: master was made with a gain of 2 electron/adu in amplifier 1, the frame has 2.2",
        "recipe: no master flat: the frame is not divided by one",
    ]


def brought_by_masters(frame, rows):
    planes = empty_planes((rows.stop - rows.start, frame.shape[1]), masters=True)
    frame.fill(rows, planes)
    return planes.masters


def test_strips_of_a_calibrated_frame_equal_those_of_the_whole():
    rng = np.random.default_rng(18)
    masters = {role: products[0] for role, products in whole_chain(rng).items()}
    frame = CalibratedFrame(
        PreparedFrame(darks(rng, 1.0, n=1)[0], Readout((2.0,), (8.0,))), Masters(**masters, same_bias=True)
    )
    whole = frame.rows(slice(None))
    for rows in (slice(0, 7), slice(50, 96)):
        np.testing.assert_array_equal(frame.rows(rows).data, whole.data[rows])
        np.testing.assert_array_equal(frame.rows(rows).variance, whole.variance[rows])
        np.testing.assert_array_equal(
            brought_by_masters(frame, rows), brought_by_masters(frame, slice(0, 96))[rows]
        )


def test_master_of_another_shape_is_refused_with_both_named():
    rng = np.random.default_rng(19)
    frame = raw(np.ones((8, 9)))
    with pytest.raises(ValueError, match=r"master bias has shape \(96, 80\), image has \(8, 9\)"):
        science.RECIPE.run({"main": [frame], "bias": [made_bias(rng)]}, science.ScienceParameters())


def test_wrong_kinds_and_numbers_of_inputs_are_refused():
    rng = np.random.default_rng(20)
    zero, frame = made_bias(rng), biases(rng, 1)[0]
    with pytest.raises(ValueError, match="found 2 inputs as bias, one is needed"):
        science.RECIPE.run({"main": [frame], "bias": [zero, zero]}, science.ScienceParameters())
    with pytest.raises(ValueError, match="raw frame"):
        science.RECIPE.run({"main": [frame], "bias": [frame]}, science.ScienceParameters())
    with pytest.raises(ValueError, match="raw frames are needed"):
        science.RECIPE.run({"main": [zero]}, science.ScienceParameters())
    with pytest.raises(ValueError, match="found 2 frames as main"):
        science.RECIPE.run({"main": [frame, frame]}, science.ScienceParameters())


@pytest.mark.parametrize(
    "model", [bias.BiasParameters, dark.DarkParameters, flat.FlatParameters, science.ScienceParameters]
)
def test_unknown_parameters_are_refused(model):
    with pytest.raises(ValueError, match="signma"):
        model(signma=3)
