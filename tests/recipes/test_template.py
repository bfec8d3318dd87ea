"""The recipe to copy: it finds the sky that was put in, states its error, and leaves its input alone."""

import numpy as np
import pytest
from pydantic import ValidationError

from ccdflow.recipes.catalogue import RECIPES
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import InputProduct, Output, Result
from ccdflow.recipes.template import RECIPE, TemplateParameters

SHAPE = (100, 121)
SKY, READ_NOISE = 200.0, 5.0


def frame(seed=0, sky=SKY):
    """A sky with its photon and read noise, and the variance that is true."""
    rng = np.random.default_rng(seed)
    data = (rng.poisson(sky, SHAPE) + rng.normal(0, READ_NOISE, SHAPE)).astype(np.float32)
    return Image(
        data, np.full(SHAPE, sky + READ_NOISE**2, np.float32), np.zeros(SHAPE, np.uint16), "electron"
    )


def subtracted(image, **parameters) -> tuple[Output, Result]:
    product = InputProduct(image, 60.0, "frame.fits")
    result = RECIPE.run({"main": [product]}, TemplateParameters(**parameters))
    return result.outputs["sky_subtracted"], result


def test_what_is_left_is_noise_of_the_stated_variance():
    output, result = subtracted(frame())
    pull = output.image.data / np.sqrt(output.image.variance)
    assert pull.mean() == pytest.approx(0, abs=0.02)
    assert pull.std() == pytest.approx(1, abs=0.02)
    assert output.image.unit == "electron" and result.warnings == ()


def test_the_level_is_the_sky_within_its_stated_error():
    # The noise of photons is lopsided: at 3 sigma the clip would take more above than below, 0.3 of the error.
    outputs = [subtracted(frame(seed), sigma=5.0)[0] for seed in range(200)]
    pulls = [(output.quality["sky_level"] - SKY) / output.quality["sky_error"] for output in outputs]
    assert np.mean(pulls) == pytest.approx(0, abs=0.25)
    assert np.std(pulls) == pytest.approx(1, abs=0.15)
    assert outputs[0].cards["SKYLEVEL"][0] == outputs[0].quality["sky_level"]


def test_variance_grows_by_that_of_the_level():
    image = frame()
    output, _ = subtracted(image)
    added = output.image.variance.astype(float) - image.variance
    assert added == pytest.approx((SKY + READ_NOISE**2) / image.data.size, rel=0.03)


def test_stars_do_not_count():
    image = frame()
    without, _ = subtracted(image)
    image.data[10:15, 20:25] += 5000
    with_star, _ = subtracted(image)
    assert with_star.quality["sky_level"] == pytest.approx(without.quality["sky_level"], abs=0.1)
    assert with_star.image.data[12, 22] == pytest.approx(5000, abs=100)


@pytest.mark.parametrize("junk", [1e30, np.nan, np.inf, -500.0])
def test_what_stands_in_flagged_pixels_changes_no_other(junk):
    image = frame()
    image.dq[::7] = DQ.SATURATED
    expected, _ = subtracted(image)
    image.data[::7] = junk
    output, _ = subtracted(image)
    good = image.dq == 0
    np.testing.assert_array_equal(output.image.data[good], expected.image.data[good])
    np.testing.assert_array_equal(output.image.variance, expected.image.variance)


def test_data_quality_is_kept_bit_by_bit():
    image = frame()
    image.dq[0, :3] = DQ.HOT, DQ.NONLINEAR, DQ.SATURATED | DQ.COSMIC_RAY
    output, _ = subtracted(image)
    np.testing.assert_array_equal(output.image.dq, image.dq)


def test_template_does_not_change_input():
    image, same = frame(), frame()
    output, _ = subtracted(image)
    for plane in ("data", "variance", "dq"):
        np.testing.assert_array_equal(getattr(image, plane), getattr(same, plane))
        assert not np.shares_memory(getattr(image, plane), getattr(output.image, plane))


def test_a_sky_below_0_is_a_doubt():
    image = frame()
    image.data[:] -= 300
    output, result = subtracted(image)
    assert output.quality["sky_level"] < 0
    assert len(result.warnings) == 1 and "frame.fits" in result.warnings[0].text


def test_a_frame_without_a_good_pixel_is_refused_by_name():
    image = frame()
    image.dq[:] = DQ.NO_DATA
    with pytest.raises(ValueError, match=r"frame\.fits has no good pixel"):
        subtracted(image)


def test_parameters_have_limits():
    with pytest.raises(ValidationError):
        TemplateParameters(sigma=0)
    with pytest.raises(ValidationError):
        TemplateParameters(sgima=3)


def test_users_are_not_offered_the_template():
    assert RECIPE.name not in RECIPES


def test_an_output_without_pixels_is_none():
    empty = np.zeros((0, 121), np.float32)
    with pytest.raises(ValueError, match=r"no pixels: its shape is \(0, 121\)"):
        Output(Image(empty, empty, empty.astype(np.uint16), "electron"))
