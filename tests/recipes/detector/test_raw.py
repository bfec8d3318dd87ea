"""From raw adu to electron: overscan, trim, gain, amplifiers, flips."""

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData

from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Planes
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, RawFrame, Section
from ccdflow.recipes.detector.raw import PreparedFrame, correct_linearity, prepare
from ccdflow.recipes.detector.readout import Readout, resolve_readout

NY, NX, OVER = 60, 40, 16


def two_amplifiers(**numbers):
    """Left data, left overscan, right overscan, right data; the right one is read from its far end."""
    left = Amplifier(Section(0, NY, 0, NX), Section(0, NY, 0, NX), Section(0, NY, NX, NX + OVER), **numbers)
    right = Amplifier(
        Section(0, NY, NX + 2 * OVER, 2 * NX + 2 * OVER, flip_y=True, flip_x=True),
        Section(0, NY, NX, 2 * NX),
        Section(0, NY, NX + OVER, NX + 2 * OVER),
        **numbers,
    )
    return Detector((NY, 2 * NX), (left, right))


def one_amplifier(shape, **numbers):
    section = Section.whole(shape)
    return Detector(shape, (Amplifier(section, section, **numbers),))


def raw_of_two(rng, signal, levels, gains, read_noise):
    """Raw array of the two amplifiers above for a signal in electron."""
    raw = np.empty((NY, 2 * NX + 2 * OVER))
    raw[:, :NX] = signal[:, :NX] / gains[0] + levels[0]
    raw[:, NX : NX + OVER] = levels[0]
    raw[:, NX + OVER : NX + 2 * OVER] = levels[1]
    raw[:, NX + 2 * OVER :] = signal[::-1, : NX - 1 : -1] / gains[1] + levels[1]
    return raw + rng.normal(0, read_noise, raw.shape)


def test_two_amplifiers_of_different_gain_and_direction_are_assembled():
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 1000, (NY, 2 * NX))
    raw = raw_of_two(rng, truth, (1000, 1400), (1.3, 2.1), 0.0)
    image = prepare(RawFrame(raw, two_amplifiers()), Readout((1.3, 2.1), (5.0, 8.0)))
    np.testing.assert_allclose(image.data, truth, atol=2e-3)
    assert image.unit == "electron"
    assert np.median(image.variance[:, :NX]) == pytest.approx(25, rel=2e-3)
    assert np.median(image.variance[:, NX:]) == pytest.approx(64, rel=2e-3)
    assert not image.dq.any()


@pytest.mark.parametrize("method", ["level", "row"])
def test_read_noise_and_overscan_error_make_the_stated_variance(method):
    rng = np.random.default_rng(2)
    pulls = []
    for _ in range(30):
        raw = raw_of_two(rng, np.zeros((NY, 2 * NX)), (1000, 1400), (1.0, 1.0), 5.0)
        image = prepare(RawFrame(raw, two_amplifiers()), Readout((1.0, 1.0), (5.0, 5.0)), overscan=method)
        pulls.append(image.data / np.sqrt(image.variance))
    assert np.mean(pulls) == pytest.approx(0, abs=0.02)
    assert np.std(pulls) == pytest.approx(1, abs=0.02)


def test_overscan_level_is_found_among_hits():
    raw = np.random.default_rng(3).normal(1234.4, 4, (NY, 2 * NX + 2 * OVER))
    raw[5:9, NX : NX + 3] = 60000
    frame = PreparedFrame(RawFrame(raw, two_amplifiers()), Readout((1, 1), (4, 4)))
    level = frame.levels[0]
    assert level is not None
    assert level.values[0, 0] == pytest.approx(1234.4, abs=5 * 4 / np.sqrt(NY * OVER))


def test_row_by_row_overscan_removes_a_level_that_drifts():
    rng = np.random.default_rng(4)
    raw = raw_of_two(rng, np.zeros((NY, 2 * NX)), (1000, 1000), (1, 1), 0.0) + np.arange(NY)[:, None]
    raw[::-1, NX + 2 * OVER :] = raw[:, NX + 2 * OVER :][::-1].copy()
    image = prepare(RawFrame(raw, two_amplifiers()), Readout((1, 1), (0, 0)), overscan="row")
    np.testing.assert_allclose(image.data, 0, atol=1e-3)


def test_overscan_above_the_data_is_subtracted_column_by_column():
    raw = np.tile(np.arange(20.0), (15, 1)) + 500
    data, over = Section(0, 10, 0, 20), Section(10, 15, 0, 20)
    detector = Detector((10, 20), (Amplifier(data, data, over),))
    np.testing.assert_allclose(prepare(RawFrame(raw, detector), Readout((1,), (0,)), overscan="row").data, 0)
    level = prepare(RawFrame(raw, detector), Readout((1,), (0,))).data
    np.testing.assert_allclose(level[0], np.arange(20) - 9.5, atol=1e-3)


def test_overscan_that_is_not_wanted_is_trimmed_only():
    raw = np.full((NY, 2 * NX + 2 * OVER), 700.0)
    image = prepare(RawFrame(raw, two_amplifiers()), Readout((1, 1), (1, 1)), overscan="none")
    np.testing.assert_array_equal(image.data, 700)


@pytest.mark.parametrize("overscan", ["level", "row"])
def test_rows_of_a_prepared_frame_equal_those_of_the_whole(overscan):
    rng = np.random.default_rng(5)
    raw = raw_of_two(rng, rng.uniform(0, 500, (NY, 2 * NX)), (1000, 1400), (1.3, 2.1), 3.0)
    frame = PreparedFrame(RawFrame(raw, two_amplifiers()), Readout((1.3, 2.1), (5, 8)), overscan=overscan)
    whole = frame.rows(slice(None))
    for rows in (slice(0, 1), slice(7, 31), slice(59, 60), slice(40, None)):
        part = frame.rows(rows)
        np.testing.assert_array_equal(part.data, whole.data[rows])
        np.testing.assert_array_equal(part.variance, whole.variance[rows])
        np.testing.assert_array_equal(part.dq, whole.dq[rows])


class Watched:
    """Pixels that remember the highest cut of what is not overscan."""

    def __init__(self, array, overscan):
        self.array, self.shape, self.overscan, self.highest = array, array.shape, overscan, 0

    def __getitem__(self, key):
        if key[1] != self.overscan:
            self.highest = max(self.highest, key[0].stop - key[0].start)
        return self.array[key]


def test_only_the_rows_that_are_asked_for_are_cut():
    section, over = Section(0, 100, 0, 30), Section(0, 100, 30, 40)
    pixels = Watched(np.full((100, 40), 10.0), slice(30, 40))
    frame = PreparedFrame(
        RawFrame(pixels, Detector((100, 30), (Amplifier(section, section, over),))), Readout((1,), (1,))
    )
    frame.rows(slice(20, 25))
    assert pixels.highest == 5


def test_saturated_pixels_are_flagged_in_raw_adu_before_anything_is_subtracted():
    raw = np.full((4, 6), 1000.0)
    raw[1, 2], raw[1, 3] = 60000, 59999
    image = prepare(RawFrame(raw, one_amplifier((4, 6), saturation=60000)), Readout((1.5,), (3,)))
    assert image.dq[1, 2] == DQ.SATURATED
    assert np.count_nonzero(image.dq) == 1


def test_pixels_that_are_not_finite_are_0_and_without_data():
    raw = np.full((4, 6), 1000.0)
    raw[1, 2], raw[1, 3] = np.nan, np.inf
    image = prepare(RawFrame(raw, one_amplifier((4, 6))), Readout((1.5,), (3,)))
    assert (image.dq[1, 2:4] & DQ.NO_DATA).all()
    assert (image.data[1, 2:4] == 0).all()
    assert (image.data[0] == 1500).all()


def test_pixels_that_no_amplifier_covers_hold_no_data():
    section = Section(0, 4, 0, 5)
    image = prepare(
        RawFrame(np.ones((4, 6)), Detector((4, 6), (Amplifier(section, section),))), Readout((1,), (1,))
    )
    assert (image.dq[:, 5] == DQ.NO_DATA).all()
    assert not image.dq[:, :5].any()


def test_whole_adu_of_every_kind_are_read():
    for kind in (np.uint16, np.int16, np.int32, np.float32, ">f4"):
        image = prepare(RawFrame(np.full((3, 4), 300, kind), one_amplifier((3, 4))), Readout((2.0,), (1,)))
        np.testing.assert_array_equal(image.data, 600)
        assert image.data.dtype == np.float32


def test_raw_pixels_stay_as_they_are():
    raw = np.full((3, 4), 300, np.uint16)
    prepare(RawFrame(raw, one_amplifier((3, 4))), Readout((2.0,), (1,)))
    assert (raw == 300).all()


def test_sections_outside_the_array_are_refused():
    section = Section(0, 10, 0, 10)
    frame = RawFrame(np.ones((10, 9)), Detector((10, 10), (Amplifier(section, section),)), name="a.fits")
    with pytest.raises(ValueError, match=r"a\.fits has 10 rows and 9 columns"):
        PreparedFrame(frame, Readout((1,), (1,)))


def test_overscan_trim_and_gain_agree_with_ccdproc():
    rng = np.random.default_rng(6)
    raw = rng.normal(1000, 5, (50, 70))
    data, over = Section(0, 50, 0, 60), Section(0, 50, 60, 70)
    got = prepare(
        RawFrame(raw, Detector((50, 60), (Amplifier(data, data, over),))),
        Readout((1.7,), (5,)),
        overscan="row",
    )
    ccd = CCDData(raw, unit="adu")
    ccd = ccdproc.subtract_overscan(ccd, overscan=ccd[:, 60:], overscan_axis=1, median=False)
    ccd = ccdproc.gain_correct(ccdproc.trim_image(ccd[:, :60]), 1.7 * u.electron / u.adu)
    np.testing.assert_allclose(got.data, ccd.data, atol=1e-5 * 1700)


def test_linearity_is_corrected_with_its_variance_and_flagged_beyond_its_range():
    detector = one_amplifier((2, 3), linearity=(1e-5, 2e-10), nonlinear=40_000.0)
    signal = np.array([[0, 100, 1e4], [3e4, 4e4, 5e4]], np.float32)
    got = Planes(
        signal.copy(),
        np.full((2, 3), 4, np.float32),
        np.zeros((2, 3), np.uint16),
        np.full((2, 3), 3, np.float32),
    )
    correct_linearity(got, detector)
    s = signal.astype(float)
    np.testing.assert_allclose(got.data, s * (1 + 1e-5 * s + 2e-10 * s**2), rtol=1e-6)
    np.testing.assert_allclose(got.variance, 4 * (1 + 2e-5 * s + 6e-10 * s**2) ** 2, rtol=1e-5)
    np.testing.assert_allclose(got.masters, 3 * (1 + 2e-5 * s + 6e-10 * s**2) ** 2, rtol=1e-5)
    np.testing.assert_array_equal(got.dq, [[0, 0, 0], [0, 0, DQ.NONLINEAR]])


def test_linearity_of_a_strip_is_that_of_its_own_amplifier():
    low = Amplifier(Section(0, 5, 0, 4), Section(0, 5, 0, 4), linearity=(1e-3,))
    high = Amplifier(Section(5, 10, 0, 4), Section(5, 10, 0, 4), linearity=(2e-3,))
    detector = Detector((10, 4), (low, high))
    whole, part = (
        Planes(
            np.full((rows, 4), 100, np.float32),
            np.ones((rows, 4), np.float32),
            np.zeros((rows, 4), np.uint16),
        )
        for rows in (10, 5)
    )
    correct_linearity(whole, detector)
    correct_linearity(part, detector, first_row=3)
    np.testing.assert_array_equal(part.data, whole.data[3:8])
    assert set(whole.data[:, 0].round(2)) == {110, 120}


def test_gain_that_nobody_knows_is_1_and_said_so():
    readout = resolve_readout(one_amplifier((3, 4)))
    assert readout.gains == (1.0,)
    assert readout.read_noises == (0.0,)
    assert readout.cards["GAINSRC"][0] == "assumed"
    assert len(readout.warnings) == 2


def test_gain_of_the_header_is_taken():
    readout = resolve_readout(one_amplifier((3, 4), gain=2.5, read_noise=4.0))
    assert (readout.gains, readout.read_noises, readout.gain_from) == ((2.5,), (4.0,), "header")
    assert readout.warnings == []
