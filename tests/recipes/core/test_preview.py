"""Pictures show what is there, the right way up."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture

from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.preview import Stretch, png, preview


@pytest.fixture
def sky() -> NDArray[np.float32]:
    data = np.random.default_rng(1).normal(100, 10, (300, 400)).astype(np.float32)
    data[20:26, 30:36] = 20000
    return data


def test_first_row_is_at_the_bottom(sky: NDArray[np.float32]) -> None:
    grey = preview(sky)
    assert grey.shape == (300, 400)
    assert (grey[300 - 26 : 300 - 20, 30:36] == 255).all()
    assert grey[20:26, 30:36].max() < 200


@pytest.mark.parametrize("stretch", ["asinh", "linear"])
def test_brighter_is_never_darker(sky: NDArray[np.float32], stretch: Stretch) -> None:
    sky[100, :] = np.linspace(0, 30000, 400)
    assert (np.diff(preview(sky, stretch=stretch)[300 - 1 - 100].astype(int)) >= 0).all()


def test_asinh_tells_bright_stars_apart_that_linear_does_not(sky: NDArray[np.float32]) -> None:
    sky[200:206, 200:206] = 1000
    faint, bright = (300 - 203, 203), (300 - 23, 33)
    linear, asinh = preview(sky, stretch="linear"), preview(sky)
    assert linear[faint] == linear[bright] == 255
    assert 100 < asinh[faint] < asinh[bright]


def test_large_images_are_averaged_in_blocks() -> None:
    data = np.tile(np.array([[0, 2], [4, 6]], np.float32), (650, 700))
    data[:650] += 100
    grey = preview(data, most=1200)
    assert grey.shape == (650, 700)
    assert len(np.unique(grey[:320])) == 1
    assert grey[0, 0] < grey[-1, 0]


def test_pixels_without_data_are_black_and_change_nothing(sky: NDArray[np.float32]) -> None:
    dq = np.zeros(sky.shape, np.uint16)
    dq[:10] = DQ.NO_DATA
    for rubbish in (np.nan, np.inf, 1e9):
        data = sky.copy()
        data[:10] = rubbish
        grey = preview(data, dq)
        assert (grey[-10:] == 0).all()
        assert np.array_equal(grey, preview(np.where(dq > 0, np.nan, sky).astype(np.float32)))


def test_image_without_data_and_constant_image_have_pictures() -> None:
    assert (preview(np.full((20, 30), np.nan, np.float32)) == 0).all()
    assert preview(np.full((20, 30), 7, np.float32)).shape == (20, 30)


def test_png_reads_back_as_it_was(sky: NDArray[np.float32]) -> None:
    grey = preview(sky)
    assert np.array_equal(np.asarray(Picture.open(BytesIO(png(grey)))), grey)


def test_preview_does_not_change_the_image(sky: NDArray[np.float32]) -> None:
    before = sky.copy()
    preview(sky, most=100)
    assert np.array_equal(sky, before)


def test_a_picture_in_colour_keeps_the_colour_of_a_star_and_a_grey_sky() -> None:
    from ccdflow.recipes.core.preview import colour_preview

    rng = np.random.default_rng(3)
    planes = [rng.normal(sky, 3, (60, 80)).astype(np.float32) for sky in (900, 300, 100)]
    for plane, light in zip(planes, (4000, 2000, 1000), strict=True):
        plane[10:16, 20:26] += light
    dqs = [np.zeros((60, 80), np.uint16) for _ in planes]
    dqs[1][:5] = 16
    picture = colour_preview(planes, dqs)
    red, green, blue = picture[60 - 13, 23].astype(int)
    assert picture.shape == (60, 80, 3) and red > green > blue and abs(red - 2 * green) < 12
    sky = np.median(picture[:40], axis=(0, 1))
    assert max(sky) < 90 and max(sky) - min(sky) < 4 and not picture[55:].any()
    with pytest.raises(ValueError, match="three of one shape"):
        colour_preview([planes[0], planes[1], planes[2][:9]], dqs)
