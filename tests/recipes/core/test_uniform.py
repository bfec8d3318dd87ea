"""Frames of one variance come without planes of variance and DQ: that changes nothing but the time it takes."""

from dataclasses import astuple

import numpy as np
import pytest

from ccdflow.recipes.combine.average import Combination, combine
from ccdflow.recipes.core import memory
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, RawFrame, Section
from ccdflow.recipes.detector.raw import PreparedFrame
from ccdflow.recipes.detector.readout import Readout

NY, HALF, OVER = 37, 51, 9
SATURATION = 60_000.0


def two_amplifiers():
    """Data of two amplifiers side by side, the second turned around, each with overscan beside it."""
    left = Amplifier(
        Section(0, NY, 0, HALF),
        Section(0, NY, 0, HALF),
        Section(0, NY, HALF, HALF + OVER),
        saturation=SATURATION,
    )
    right = Amplifier(
        Section(0, NY, HALF + 2 * OVER, 2 * (HALF + OVER), flip_y=True, flip_x=True),
        Section(0, NY, HALF, 2 * HALF),
        Section(0, NY, HALF + OVER, HALF + 2 * OVER),
        saturation=SATURATION,
    )
    return Detector((NY, 2 * HALF), (left, right))


def raw_frames(n, noises=(5.0, 5.0), dtype=np.uint16, saturated=()):
    """Biases with a cosmic in each, and some frames with a saturated pixel."""
    rng = np.random.default_rng(n)
    frames = []
    for i in range(n):
        adu = np.rint(rng.normal(1000, 3, (NY, 2 * (HALF + OVER)))).astype(dtype)
        adu[rng.integers(NY), rng.integers(HALF)] = 20_000
        if i in saturated:
            adu[20, 3] = 65_000
        readout = Readout((1.5, 1.5), tuple(noise * (1 + i % 2 * 0.5) for noise in noises))
        frames.append(PreparedFrame(RawFrame(adu, two_amplifiers()), readout))
    return frames


CASES = {
    "uniform": {},
    "reals": {"dtype": np.float32},
    "a saturated pixel": {"saturated": (2,)},
    "amplifiers of different noise": {"noises": (5.0, 8.0)},
}


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("clip", ["none", "minmax", "sigma", "mad", "variance"])
@pytest.mark.parametrize("method", ["mean", "median"])
def test_it_is_as_with_all_planes(method, clip, case, scaled):
    frames = raw_frames(6, **CASES[case])
    scales = [1.0, 1.2, 0.9, 1.0, 2.0, 0.7] if scaled else None
    options = Combination(method, clip)
    combined = combine(frames, options, scales=scales, strip_rows=5)
    planes = [frame.rows(slice(None)) for frame in frames]
    wanted = combine(planes, options, scales=scales)
    for plane, other in zip(astuple(combined.image)[:3], astuple(wanted.image)[:3], strict=True):
        np.testing.assert_array_equal(plane, other)
    np.testing.assert_array_equal(combined.ngood, wanted.ngood)
    assert (combined.rejected, combined.scatter_ratio) == (wanted.rejected, wanted.scatter_ratio)


def filled(frame, rows):
    data = np.empty((rows.stop - rows.start, 2 * HALF), np.float32)
    return data, frame.fill_uniform(rows, data)


def test_rows_of_one_variance_are_told_from_others():
    plain, saturated, different = (
        raw_frames(1)[0],
        raw_frames(1, saturated=(0,))[0],
        raw_frames(1, (5.0, 8.0))[0],
    )
    data, variance = filled(plain, slice(18, 25))
    whole = plain.rows(slice(18, 25))
    np.testing.assert_array_equal(data, whole.data)
    assert np.float32(variance) == np.unique(whole.variance)
    assert filled(saturated, slice(18, 25))[1] is None
    assert filled(saturated, slice(21, 25))[1] is not None, "the saturated pixel lies below"
    assert filled(different, slice(18, 25))[1] is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_was_not_measured_is_not_uniform(value):
    (frame,) = raw_frames(1, dtype=np.float32)
    frame.frame.pixels[4, 7] = value
    assert filled(frame, slice(0, 10))[1] is None
    assert frame.rows(slice(0, 10)).dq[4, 7] & DQ.NO_DATA


@pytest.mark.parametrize("shape", [0, 7, (3, 5), (0, 4), (2, 3, 64)])
@pytest.mark.parametrize("dtype", [np.bool_, np.uint16, np.float32, np.int64])
def test_memory_begins_where_a_cache_line_does(shape, dtype):
    array = memory.empty(shape, dtype)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.ctypes.data % memory.CACHE_LINE == 0 or not array.size
    assert (array.dtype, array.shape) == (np.dtype(dtype), np.empty(shape, dtype).shape)


def test_an_image_keeps_its_shape_where_rows_do_not_fill_cache_lines():
    frames = [
        Image(np.full((3, 5), i, np.float32), np.ones((3, 5), np.float32), np.zeros((3, 5), np.uint16), "adu")
        for i in range(4)
    ]
    image = combine(frames, Combination(clip="none"), strip_rows=2).image
    np.testing.assert_array_equal(image.data, np.full((3, 5), 1.5))
