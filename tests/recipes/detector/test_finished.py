"""Frames on which another program has worked: nothing is done to them a second time."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ccdflow.recipes.core.recipe import Output
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, RawFrame, Section
from ccdflow.recipes.detector.finished import as_taken
from ccdflow.recipes.science import RECIPE, ScienceParameters

SHAPE = (6, 10)
DATA = Section(0, 6, 0, 8)
OVERSCAN = Section(0, 6, 8, 10)
AMPLIFIER = Amplifier(DATA, DATA, overscan=OVERSCAN, gain=2.0, read_noise=4.0, saturation=60000.0)
DETECTOR = Detector((6, 8), (AMPLIFIER,))


def calibrated(pixels: Any, *done: str) -> Output:
    result = RECIPE.run({"main": [RawFrame(pixels, DETECTOR, 60.0, "s.fits")]}, ScienceParameters(done=done))
    return result.outputs["science"]


def test_electron_are_not_multiplied_by_the_gain_again() -> None:
    pixels = np.full(SHAPE, 1500, np.float32)
    image = calibrated(pixels, "gain", "trim").image
    assert image is not None and image.shape == SHAPE
    assert np.all(image.data == 1500) and np.all(image.variance == 1500 + 4.0**2)


def test_an_overscan_that_was_subtracted_is_not_subtracted_again() -> None:
    pixels = np.full(SHAPE, 500, np.uint16)
    image = calibrated(pixels, "overscan").image
    assert image is not None and image.shape == (6, 8) and np.all(image.data == 1000)


def test_reals_of_0_to_1_are_adu_again() -> None:
    pixels = np.full(SHAPE, 1000 / 65535, np.float32)
    pixels[0, 0] = 1.0
    output = calibrated(pixels, "scaled", "trim", "bias")
    assert output.image is not None
    np.testing.assert_allclose(output.image.data[1:], 2000, rtol=1e-6)
    assert output.image.dq[0, 0] == 4 and output.image.dq[1:].max() == 0


def test_the_header_says_what_was_done_before() -> None:
    cards = calibrated(np.full(SHAPE, 500, np.uint16), "bias", "flat").cards
    assert (cards["BIASCORR"][0], cards["DARKCORR"][0], cards["FLATCORR"][0]) == (True, False, True)
    assert cards["PRIORCAL"][0] == "bias flat"
    assert "PRIORCAL" not in calibrated(np.full(SHAPE, 500, np.uint16)).cards


def test_raw_frames_stay_as_they_are() -> None:
    frame = RawFrame(np.zeros(SHAPE), replace(DETECTOR))
    assert as_taken([frame], ()) == [frame]


def test_what_nobody_can_do_is_refused() -> None:
    with pytest.raises(
        ValidationError, match="'bais' is nothing that can be done already; known: overscan, trim"
    ):
        ScienceParameters(done=("bais",))


def test_words_may_stand_as_on_a_command_line() -> None:
    assert ScienceParameters.model_validate({"done": "bias, dark"}).done == ("bias", "dark")
