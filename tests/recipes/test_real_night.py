"""The recipes on a real night; skipped unless CCDFLOW_REAL_NIGHT names its folder."""

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.recipes import bias, dark, flat, gain, science
from ccdflow.recipes.core.dq import excluded
from ccdflow.recipes.core.recipe import InputProduct
from ccdflow.recipes.core.statistics import NORMAL_MAD
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, RawFrame, Section


@pytest.fixture(scope="module")
def frames(real_night):
    def opened(path):
        data, header = fits.getdata(path, header=True)
        section = Section.whole(data.shape)
        detector = Detector(data.shape, (Amplifier(section, section),))
        return RawFrame(data, detector, header["EXPTIME"], path.name)

    return lambda pattern: [opened(path) for path in sorted(real_night.glob(pattern))]


def product(result, category, exptime=0.0):
    output = result.outputs[category]
    header = {key: value for key, (value, _) in output.cards.items()}
    return InputProduct(output.image, exptime, category, header, table=output.table)


@pytest.fixture(scope="module")
def masters(frames):
    biases, darks = frames("Bias*"), frames("Dark*")
    measured = gain.RECIPE.run({"main": frames("domeflat*"), "bias": biases}, gain.GainParameters())
    table = product(measured, "gain_table")
    zero = product(bias.RECIPE.run({"main": biases, "gain": [table]}, bias.BiasParameters()), "master_bias")
    inputs = {"bias": [zero], "gain": [table]}
    result = dark.RECIPE.run({"main": darks, **inputs}, dark.DarkParameters())
    return {**inputs, "dark": [product(result, "master_dark", darks[0].exptime)]}


@pytest.fixture(scope="module")
def master_flat(masters, frames):
    return flat.RECIPE.run({"main": frames("domeflat_sdss_r*"), **masters}, flat.FlatParameters())


def test_gain_and_read_noise_are_those_of_the_camera(masters):
    table = masters["gain"][0].table
    assert table["gain"][0] == pytest.approx(1.3, abs=0.03)
    assert table["read_noise_adu"][0] == pytest.approx(6, abs=0.4)
    assert table["pairs"][0] == 4


def test_noise_model_holds_for_dome_flats(master_flat):
    output = master_flat.outputs["master_flat"]
    assert output.quality["scatter_ratio"] == pytest.approx(1, abs=0.03)
    assert output.cards["CLIPFALL"][0] is False
    assert output.quality["low_fraction"] < 1e-3


def test_scatter_of_the_sky_between_frames_is_the_stated_noise(masters, master_flat, frames):
    inputs = {**masters, "flat": [product(master_flat, "master_flat")]}
    image = science.RECIPE.run({"main": frames("M13_sdss_r*")[:1], **inputs}, science.ScienceParameters())
    calibrated = image.outputs["science"].image
    corner = calibrated.rows(slice(0, 100))
    good = ~excluded(corner.dq[:, :-1] | corner.dq[:, 1:])
    difference = (corner.data[:, 1:] - corner.data[:, :-1])[good] / np.sqrt(2 * np.median(corner.variance))
    assert np.median(np.abs(difference)) * NORMAL_MAD == pytest.approx(1, abs=0.1)
