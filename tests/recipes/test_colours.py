"""Planes of a colour mosaic."""

import numpy as np
import pytest

from ccdflow.recipes.colours import RECIPE, ColoursParameters, run, wcs_cards
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.mosaic import PATTERNS, colour_pixels, places, shifted
from ccdflow.recipes.core.recipe import InputProduct, Output
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, RawFrame, Section
from ccdflow.recipes.flat import normalised_colours
from ccdflow.recipes.science import RECIPE as SCIENCE
from ccdflow.recipes.science import ScienceParameters
from ccdflow.recipes.stack import RECIPE as STACK
from ccdflow.recipes.stack import StackParameters
from ccdflow.recipes.stack_colour import RECIPE as STACK_COLOUR

LEVELS = {"R": 900.0, "G": 300.0, "B": 100.0}


def mosaic(pattern: str, shape: tuple[int, int]) -> Image:
    data = np.zeros(shape, np.float32)
    for pixels, level in zip(colour_pixels(pattern, shape), LEVELS.values(), strict=True):
        data[pixels] = level
    return Image(data, data + 25, np.zeros(shape, np.uint16), "electron")


def planes(image: Image, pattern: str, **header: object) -> dict[str, Output]:
    shared = Image(image.variance / 10, image.variance, image.dq, "electron2")
    product = InputProduct(image, 60.0, "s.fits", {"MOSAIC": pattern, **header}, "abc", shared)
    return dict(run({"main": [product]}, ColoursParameters()).outputs)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", [(6, 8), (7, 9)])
def test_each_colour_comes_back_with_its_variance(pattern: str, shape: tuple[int, int]) -> None:
    outputs = planes(mosaic(pattern, shape), pattern)
    for (category, output), (letter, level) in zip(outputs.items(), LEVELS.items(), strict=True):
        plane, parts = output.image, len(places(pattern, letter))
        assert plane is not None and output.calibration_variance is not None
        assert plane.shape == (shape[0] // 2, shape[1] // 2)
        np.testing.assert_allclose(plane.data, level)
        np.testing.assert_allclose(plane.variance, (level + 25) / parts)
        np.testing.assert_allclose(output.calibration_variance, (level + 25) / 10 / parts)
        assert output.cards["FILTER"][0] == letter and category.startswith("science_")
        assert plane.data.dtype == np.float32


def test_a_green_pixel_has_the_flags_of_both() -> None:
    image = mosaic("RGGB", (4, 4))
    image.dq[0, 1], image.dq[1, 0], image.dq[3, 3] = DQ.HOT, DQ.SATURATED, DQ.COSMIC_RAY
    outputs = planes(image, "RGGB")
    flags = {category: output.image.dq for category, output in outputs.items() if output.image is not None}
    assert flags["science_green"][0, 0] == DQ.HOT | DQ.SATURATED
    assert flags["science_blue"].tolist() == [[0, 0], [0, DQ.COSMIC_RAY]]
    assert not flags["science_red"].any()


def test_the_frame_does_not_change() -> None:
    image = mosaic("GRBG", (4, 4))
    before = image.data.copy()
    for output in planes(image, "GRBG").values():
        assert output.image is not None
        output.image.data[:] = 0
    np.testing.assert_array_equal(image.data, before)


def test_gain_of_green_is_that_of_two_pixels() -> None:
    outputs = planes(mosaic("RGGB", (4, 4)), "RGGB", GAIN=1.0, RDNOISE=5.0, SATURATE=60000.0)
    red, green = (outputs[f"science_{name}"].cards for name in ("red", "green"))
    assert (red["GAIN"][0], red["RDNOISE"][0], red["SATURATE"][0]) == (1.0, 5.0, 60000.0)
    assert green["GAIN"][0] == 2.0 and green["SATURATE"][0] == 60000.0
    # The noise of a mean of two: 5 / sqrt(2) in its own unit.
    assert green["RDNDATA"][0] == pytest.approx(5 / np.sqrt(2), rel=1e-6)


def test_what_would_make_a_mosaic_of_a_plane_is_gone() -> None:
    (red, *_) = planes(mosaic("RGGB", (4, 4)), "RGGB", BAYERPAT="RGGB", XPIXSZ=3.76).values()
    assert {"BAYERPAT", "MOSAIC", "XBAYROFF"} <= set(red.dropped)
    assert red.cards["XPIXSZ"][0] == 7.52


@pytest.mark.parametrize("letter", "RGB")
def test_the_wcs_of_a_plane_points_where_that_of_the_mosaic_does(letter: str) -> None:
    from astropy.wcs import WCS

    header = {
        **{"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CRVAL1": 83.8, "CRVAL2": -5.4},
        **{"CRPIX1": 51.5, "CRPIX2": 40.25, "CD1_1": -3e-4, "CD1_2": 2e-5, "CD2_1": 2e-5, "CD2_2": 3e-4},
        **{"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 2e-5, "A_1_1": -1e-5, "B_0_2": 3e-5},
        **{"NAXIS": 2, "NAXIS1": 100, "NAXIS2": 80},
    }
    cells = places("GRBG", letter)
    halved = header | {name: value for name, (value, _) in wcs_cards(header, cells).items()}
    row, column = np.mean(cells, axis=0)
    place = np.array([[10.0, 20.0], [40.0, 3.0]])  # of the plane, from 0
    sky = WCS(halved).all_pix2world(place, 0)
    np.testing.assert_allclose(sky, WCS(header).all_pix2world(2 * place + [column, row], 0), atol=1e-9)


def test_an_unknown_mosaic_is_refused() -> None:
    product = InputProduct(mosaic("RGGB", (4, 4)), 60.0, "s.fits")
    with pytest.raises(ValueError, match="MOSAIC=''; known: RGGB, BGGR, GRBG, GBRG"):
        run({"main": [product]}, ColoursParameters())
    assert RECIPE.outputs == ("science_red", "science_green", "science_blue")


def test_a_flat_is_1_in_each_colour() -> None:
    """By one mean, blue (100 of 400) would be near the limit of dark pixels, and the lamp's colour in the frames."""
    shape = (21, 30)
    slope = np.linspace(0.8, 1.2, 30, dtype=np.float32)[None, :]
    lamp = mosaic("BGGR", shape)
    image = Image(lamp.data * slope, lamp.variance, lamp.dq.copy(), "electron")
    image.data[3, 4] = 1.0  # below 0.2 of its own colour
    flat, norms = normalised_colours(image, "BGGR", low=0.2)
    for pixels in colour_pixels("BGGR", shape):
        assert float(flat.data[pixels & (flat.dq == 0)].mean()) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(flat.data[flat.dq == 0], (image.data / norms)[flat.dq == 0], rtol=1e-6)
    assert flat.dq[3, 4] == DQ.LOW_FLAT and (flat.dq != 0).sum() == 1
    # Two rows one above the other differ by no colour.
    np.testing.assert_allclose(flat.data[10, 6:20], flat.data[11, 6:20], rtol=0.03)


def test_a_mosaic_is_stacked_only_as_it_lies() -> None:
    image = mosaic("RGGB", (40, 40))
    product = [
        InputProduct(image, 60.0, f"{n}.fits", {"MOSAIC": pattern})
        for n, pattern in enumerate(["RGGB"] * 2 + ["GBRG"])
    ]
    refused = STACK.run({"main": product}, StackParameters())
    assert not refused.outputs and all("colour mosaic (RGGB)" in left.reason for left in refused.left_out[:2])
    result = STACK.run({"main": product}, StackParameters(register="none"))
    stacked = result.outputs["stack"].image
    assert stacked is not None
    np.testing.assert_allclose(stacked.data, image.data, rtol=1e-4)
    assert [left.reason for left in result.left_out] == [
        "its mosaic begins with GBRG, that of the others with RGGB"
    ]


def test_planes_of_two_colours_make_no_stack() -> None:
    plane = mosaic("RGGB", (40, 40))
    product = [InputProduct(plane, 60.0, f"{letter}.fits", {"FILTER": letter}) for letter in "RG"]
    with pytest.raises(ValueError, match="planes of the colours G, R; a stack needs one"):
        STACK_COLOUR.run({"main": product}, StackParameters())


def test_a_pattern_read_from_another_pixel() -> None:
    assert (
        shifted("RGGB", 0, 0) == "RGGB"
        and shifted("RGGB", 1, 1) == "BGGR"
        and shifted("GRBG", 2, 1) == "BGGR"
    )


@pytest.mark.parametrize(
    ("frame", "flat", "word"),
    [
        ("RGGB", "", "its flat states no colours, while the frame is a mosaic (RGGB)"),
        ("", "RGGB", "its flat is of a colour mosaic (RGGB), while the frame states none"),
        ("GRBG", "RGGB", ""),  # of the full frame, for a window
        ("", "", ""),
    ],
)
def test_a_frame_whose_flat_knows_other_colours_says_so(frame: str, flat: str, word: str) -> None:
    shape = (8, 10)
    whole = Section.whole(shape)
    detector = Detector(shape, (Amplifier(whole, whole, gain=1.0, read_noise=5.0, saturation=60000.0),))
    raw = RawFrame(np.full(shape, 300, np.uint16), detector, 60.0, "s.fits", mosaic=frame)
    ones = Image(np.ones(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.uint16), "")
    header = {"MOSAIC": flat} if flat else {}
    result = SCIENCE.run({"main": [raw], "flat": [InputProduct(ones, header=header)]}, ScienceParameters())
    told = [str(warning) for warning in result.warnings if "colours" in str(warning)]
    assert [word in sentence for sentence in told] == ([True] if word else [])
