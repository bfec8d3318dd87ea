"""Gain and read noise from pairs, against truth."""

import numpy as np
import pytest

from ccdflow.recipes.core.recipe import InputProduct
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, RawFrame, Section
from ccdflow.recipes.detector.readout import resolve_readout
from ccdflow.recipes.gain import RECIPE, GainParameters, gain_from_flats, read_noise_adu

NY, HALF = 256, 128
GAINS, NOISES, LEVELS = (1.3, 2.2), (7.0, 11.0), (1000, 1400)
OPTIONS = GainParameters()


def detector():
    parts = [Section(0, NY, 0, HALF), Section(0, NY, HALF, 2 * HALF)]
    return Detector(
        (NY, 2 * HALF),
        tuple(Amplifier(part, part, name=name) for part, name in zip(parts, "AB", strict=True)),
    )


def raw(rng, electrons):
    """Whole adu of both amplifiers for an expected number of electrons."""
    gain = np.repeat(GAINS, HALF)
    noise = rng.normal(0, 1, (NY, 2 * HALF)) * np.repeat(NOISES, HALF)
    adu = (rng.poisson(electrons, (NY, 2 * HALF)) + noise) / gain + np.repeat(LEVELS, HALF)
    return RawFrame(np.clip(np.rint(adu), 0, 65535).astype(np.uint16), detector())


def night(rng, levels=(20_000, 23_000, 30_000), pattern=None):
    y, x = np.indices((NY, 2 * HALF)) / NY
    pattern = (
        rng.normal(1, 0.01, (NY, 2 * HALF)) * (1 - 0.3 * (y - 0.5) ** 2 - 0.1 * x)
        if pattern is None
        else pattern
    )
    return [raw(rng, level * pattern) for level in levels], [raw(rng, 0) for _ in range(4)]


def test_gain_and_read_noise_are_found_for_each_amplifier():
    flats, biases = night(np.random.default_rng(1))
    table = RECIPE.run({"main": flats, "bias": biases}, OPTIONS).outputs["gain_table"].table
    assert list(table["amplifier"]) == ["A", "B"]
    np.testing.assert_allclose(table["gain"], GAINS, rtol=0.015)
    np.testing.assert_allclose(table["read_noise"], NOISES, rtol=0.015)
    np.testing.assert_allclose(table["read_noise_adu"], np.divide(NOISES, GAINS), rtol=0.015)
    assert (np.abs(table["gain"] - GAINS) < 4 * table["gain_error"]).all()
    assert list(table["pairs"]) == [2, 2]


def test_stars_and_columns_and_cosmic_rays_do_not_matter():
    rng = np.random.default_rng(2)
    flats, biases = night(rng)
    for frame in flats + biases:
        frame.pixels[rng.integers(0, NY, 60), rng.integers(0, 2 * HALF, 60)] += 3000
        frame.pixels[:, 40] = 900
    flats[1].pixels[100:104, 50:54] += 20_000
    table = RECIPE.run({"main": flats, "bias": biases}, OPTIONS).outputs["gain_table"].table
    np.testing.assert_allclose(table["gain"], GAINS, rtol=0.02)
    np.testing.assert_allclose(table["read_noise"], NOISES, rtol=0.02)


def test_pairs_of_different_filters_are_left_out():
    rng = np.random.default_rng(3)
    red, biases = night(rng)
    blue, _ = night(
        rng, pattern=np.linspace(0.8, 1.2, 2 * HALF)[None, :] * rng.normal(1, 0.02, (NY, 2 * HALF))
    )
    table = RECIPE.run({"main": red + blue, "bias": biases}, OPTIONS).outputs["gain_table"].table
    assert list(table["pairs"]) == [4, 4]
    np.testing.assert_allclose(table["gain"], GAINS, rtol=0.015)


def test_a_pair_of_two_filters_whose_patterns_differ_by_little_does_not_count():
    rng = np.random.default_rng(11)
    response = rng.normal(1, 0.01, (NY, 2 * HALF))
    flats, biases = night(rng, pattern=response)
    dusty = response * rng.normal(1, 0.004, (NY, 2 * HALF))
    others, _ = night(rng, pattern=dusty)
    table = RECIPE.run({"main": flats + others, "bias": biases}, OPTIONS).outputs["gain_table"].table
    np.testing.assert_allclose(table["gain"], GAINS, rtol=0.015)
    assert list(table["pairs"]) == [4, 4]


def test_saturated_flats_are_left_out():
    rng = np.random.default_rng(4)
    flats, biases = night(rng, levels=(20_000, 21_000, 200_000))
    assert gain_from_flats(flats, biases, 0, NOISES[0] / GAINS[0], OPTIONS).pairs == 1


def test_level_of_the_biases_may_drift():
    rng = np.random.default_rng(5)
    biases = [raw(rng, 0) for _ in range(3)]
    biases[0].pixels[:] += 50
    assert read_noise_adu(biases, 0, OPTIONS).value == pytest.approx(NOISES[0] / GAINS[0], rel=0.015)


def test_without_a_pair_of_flats_gain_is_assumed_and_said_so():
    flats, biases = night(np.random.default_rng(6), levels=(20_000,))
    result = RECIPE.run({"main": flats, "bias": biases}, OPTIONS)
    table = result.outputs["gain_table"].table
    assert list(table["gain"]) == [1, 1]
    assert len(result.warnings) == 2
    readout = resolve_readout(detector(), InputProduct(None, table=table))
    assert readout.gain_from == "assumed"
    assert readout.noise_from == "measured"
    np.testing.assert_allclose(readout.read_noises, np.divide(NOISES, GAINS), rtol=0.015)


def test_measured_numbers_fill_only_what_the_header_lacks():
    flats, biases = night(np.random.default_rng(7))
    table = InputProduct(
        None, table=RECIPE.run({"main": flats, "bias": biases}, OPTIONS).outputs["gain_table"].table
    )
    part = Section(0, NY, 0, HALF)
    known = Detector((NY, HALF), (Amplifier(part, part, gain=3.0), Amplifier(part, part)))
    readout = resolve_readout(known, table)
    assert readout.gains[0] == 3.0
    assert readout.gains[1] == pytest.approx(GAINS[1], rel=0.02)
    assert readout.gain_from == "measured"
    with pytest.raises(ValueError, match="has 2 amplifiers, the detector has 1"):
        resolve_readout(Detector((NY, HALF), known.amplifiers[:1]), table)


def test_flats_alone_without_overscan_are_refused():
    flats, _ = night(np.random.default_rng(8))
    with pytest.raises(ValueError, match="without a bias frame"):
        RECIPE.run({"main": flats, "bias": []}, OPTIONS)


def test_frames_smaller_than_a_block_are_measured():
    rng = np.random.default_rng(9)
    small = Section(0, 20, 0, 20)
    frames = [
        RawFrame(rng.normal(1000, 6, (20, 20)), Detector((20, 20), (Amplifier(small, small),)))
        for _ in range(20)
    ]
    assert read_noise_adu(frames, 0, OPTIONS).value == pytest.approx(6, rel=0.06)


def test_read_noise_is_not_taken_for_photons():
    rng = np.random.default_rng(10)
    flats, biases = night(rng, levels=(400, 400, 500, 400, 450))
    noise = NOISES[1] / GAINS[1]
    options = GainParameters(max_structure=0.02)
    assert gain_from_flats(flats, biases, 1, noise, options).value == pytest.approx(GAINS[1], rel=0.04)
