"""Gain, read noise and saturation that products state, against the noise that simulated frames really have."""

from math import sqrt

import numpy as np
import pytest

from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import InputProduct, Output
from ccdflow.recipes.core.response import Response, combined_response, response_cards, response_of
from ccdflow.recipes.stack import RECIPE, StackParameters

READ_NOISE = 8.0
SATURATION = 60000.0


def flat_sky(rate: float, exptime: float, seed: int, shape: tuple[int, int] = (120, 130)) -> InputProduct:
    """A frame of an even sky: electron, as a calibrated frame states it."""
    rng = np.random.default_rng(seed)
    truth = rate * exptime
    data = rng.poisson(truth, shape) + rng.normal(0, READ_NOISE, shape)
    variance = np.full(shape, truth + READ_NOISE**2, np.float32)
    image = Image(data.astype(np.float32), variance, np.zeros(shape, np.uint16), "electron")
    header = {
        "GAIN": 1.0,
        "RDNOISE": READ_NOISE,
        "SATURATE": SATURATION,
        "DATE-OBS": f"2026-03-01T21:{seed:02d}:00",
    }
    return InputProduct(image, exptime, f"frame{seed}.fits", header | {"EXPTIME": exptime})


def stacked(frames: list[InputProduct], **parameters: object) -> Output:
    values = {"register": "none", "clip": "none", **parameters}
    return RECIPE.run({"main": frames}, StackParameters.model_validate(values)).outputs["stack"]


@pytest.mark.parametrize("exptimes", [(60.0, 60.0, 60.0), (20.0, 20.0, 20.0, 320.0), (30.0, 90.0)])
@pytest.mark.parametrize("parameters", [{}, {"weight": "equal"}, {"method": "median"}])
def test_the_noise_of_a_stack_is_what_its_gain_and_read_noise_say(
    exptimes: tuple[float, ...], parameters: dict[str, object]
) -> None:
    output = stacked([flat_sky(2.0, exptime, seed) for seed, exptime in enumerate(exptimes)], **parameters)
    assert output.image is not None
    cards = {name: float(output.cards[name][0]) for name in ("GAIN", "RDNOISE", "RDNDATA")}
    level = float(np.median(output.image.data))
    stated = sqrt(level / cards["GAIN"] + (cards["RDNOISE"] / cards["GAIN"]) ** 2)
    assert stated == pytest.approx(float(output.image.data.std()), rel=0.03)
    assert cards["RDNDATA"] == pytest.approx(cards["RDNOISE"] / cards["GAIN"], rel=1e-5)


def test_of_equal_frames_the_gain_is_their_number() -> None:
    cards = stacked([flat_sky(2.0, 60.0, seed) for seed in range(3)]).cards
    assert cards["GAIN"][0] == pytest.approx(3, rel=0.01)
    assert cards["RDNOISE"][0] == pytest.approx(READ_NOISE * sqrt(3), rel=0.01)
    assert cards["RDNDATA"][0] == pytest.approx(READ_NOISE / sqrt(3), rel=0.01)
    assert cards["SATURATE"][0] == pytest.approx(SATURATION, rel=1e-3)


def test_saturation_follows_the_scale_and_the_sky() -> None:
    """Of 30 s and 120 s, scaled to 30 s, the long one saturates at a quarter."""
    cards = stacked([flat_sky(2.0, 30.0, 0), flat_sky(2.0, 120.0, 1)]).cards
    assert cards["SATURATE"][0] == pytest.approx(SATURATION / 4, rel=1e-3)


def test_a_frame_of_unknown_exposure_time_makes_no_time_of_0() -> None:
    frames = [flat_sky(2.0, 60.0, 0), flat_sky(2.0, 60.0, 1)]
    unknown = [
        InputProduct(f.image, 0.0, f.name, {k: v for k, v in f.header.items() if k != "EXPTIME"})
        for f in frames
    ]
    cards = stacked(unknown, scale="none").cards
    assert not {"EXPTIME", "TOTEXP", "XPOSURE", "DATE-END", "MJD-AVG"} & cards.keys()
    assert cards["DATE-BEG"][0] == "2026-03-01T21:00:00"


def test_what_one_frame_does_not_know_the_average_does_not() -> None:
    known, blind = Response(1.0, 5.0, 6e4), Response(1.0)
    both = combined_response([known, blind], [1.0, 1.0], [1.0, 1.0], [6e4, None])
    assert (both.gain, both.read_noise, both.saturation) == (2.0, None, None)
    assert response_cards(Response(), "electron") == {}


def test_adu_have_the_gain_that_their_header_states_and_electron_one_of_1() -> None:
    assert response_of({"GAIN": 1.7, "RDNOISE": 9}, "adu") == Response(1.7, 9.0)
    assert response_of({}, "electron") == Response(1.0)
    assert response_of({"GAIN": "high", "RDNOISE": 0}, "adu") == Response()
