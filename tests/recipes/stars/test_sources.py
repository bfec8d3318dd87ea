"""Stars are found where they were put, as bright and as sharp, and excluded pixels change nothing."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import erf

from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.stars.sources import Detection, Stars, find_stars, subtract_background

SHAPE = (300, 320)
FWHM = 3.2
SKY, READ_NOISE = 100.0, 5.0
Floats = NDArray[np.float64]


def gaussian_star(x: float, y: float, flux: float, fwhm: float = FWHM) -> Floats:
    """A Gaussian integrated over the pixels."""
    width = fwhm / 2.3548 * np.sqrt(2)
    row, column = (
        0.5 * np.diff(erf((np.arange(size + 1) - 0.5 - at) / width))
        for size, at in zip(SHAPE, (y, x), strict=True)
    )
    return flux * np.outer(row, column)


def observed(truth: Floats, seed: int = 1) -> Image:
    rng = np.random.default_rng(seed)
    data = rng.poisson(truth) + rng.normal(0, READ_NOISE, truth.shape)
    variance = np.maximum(data, 0) + READ_NOISE**2
    return Image(
        data.astype(np.float32), variance.astype(np.float32), np.zeros(truth.shape, np.uint16), "electron"
    )


@pytest.fixture(scope="module")
def placed() -> tuple[Floats, Floats, Floats]:
    """40 stars on a jittered lattice, so that none touches another: x, y, flux."""
    rng = np.random.default_rng(2)
    grid = np.stack(np.meshgrid(np.arange(20, 300, 40), np.arange(20, 280, 40)), axis=-1).reshape(-1, 2)
    at = grid[:40] + rng.uniform(-5, 5, (40, 2))
    return at[:, 0], at[:, 1], 10 ** rng.uniform(3.7, 5, 40)


@pytest.fixture(scope="module")
def image(placed: tuple[Floats, Floats, Floats]) -> Image:
    return observed(SKY + np.sum([gaussian_star(*star) for star in zip(*placed, strict=True)], axis=0))


def nearest(stars: Stars, x: Floats, y: Floats) -> NDArray[np.intp]:
    return np.hypot(stars.x - x[:, None], stars.y - y[:, None]).argmin(axis=1)


def test_all_stars_are_found_where_they_were_put(image: Image, placed: tuple[Floats, Floats, Floats]) -> None:
    stars = find_stars(image, Detection())
    at = nearest(stars, *placed[:2])
    away = np.hypot(stars.x[at] - placed[0], stars.y[at] - placed[1])
    assert len(stars) == 40
    assert np.sqrt(np.mean(away**2)) < 0.04


def test_fluxes_are_those_within_the_aperture(image: Image, placed: tuple[Floats, Floats, Floats]) -> None:
    stars = find_stars(image, Detection())
    ratio = stars.flux[nearest(stars, *placed[:2])] / placed[2]
    within = 1 - np.exp(-4 * np.log(2) * 1.5**2)
    assert np.median(ratio) == pytest.approx(within, abs=0.01)


@pytest.mark.parametrize("fwhm", [2.2, 3.2, 6.0])
def test_fwhm_is_that_of_the_profile(fwhm: float, placed: tuple[Floats, Floats, Floats]) -> None:
    truth = SKY + np.sum([gaussian_star(*star, fwhm) for star in zip(*placed, strict=True)], axis=0)
    stars = find_stars(observed(truth), Detection())
    # A square pixel widens the profile by its own variance of 1/12.
    assert stars.fwhm == pytest.approx(np.sqrt(fwhm**2 + 2.3548**2 / 12), rel=0.03)
    assert stars.median_ellipticity < 0.08


def test_background_and_its_scatter_are_measured(image: Image) -> None:
    stars = find_stars(image, Detection())
    assert stars.background == pytest.approx(SKY, abs=1)
    assert stars.background_sigma == pytest.approx(np.sqrt(SKY + READ_NOISE**2), rel=0.05)


def test_brightest_come_first(image: Image) -> None:
    stars = find_stars(image, Detection())
    assert (np.diff(stars.flux) <= 0).all()
    assert len(stars.positions(7)) == 7
    assert stars.fluxes(7).min() >= stars.fluxes()[7:].max()


def test_saturated_stars_are_flagged_and_not_usable(
    image: Image, placed: tuple[Floats, Floats, Floats]
) -> None:
    brightest = int(np.argmax(placed[2]))
    dq = image.dq.copy()
    dq[image.data > 0.5 * image.data.max()] |= np.uint16(DQ.SATURATED)
    stars = find_stars(Image(image.data, image.variance, dq, image.unit), Detection())
    at = np.hypot(stars.x - placed[0][brightest], stars.y - placed[1][brightest]) < 4
    assert at.any()
    assert stars.saturated[at].all()
    assert not stars.usable[at].any()
    assert stars.usable.sum() >= 25


def test_hot_pixels_that_nobody_flagged_are_not_usable_stars(image: Image) -> None:
    rng = np.random.default_rng(3)
    data = image.data.copy()
    hot = rng.integers(10, 290, 60), rng.integers(10, 290, 60)
    data[hot] += 5000
    stars = find_stars(Image(data, image.variance, image.dq, image.unit), Detection())
    away = np.hypot(stars.x - hot[1][:, None], stars.y - hot[0][:, None]).min(axis=0)
    assert not (stars.usable & (away < 0.5)).any()
    assert stars.fwhm == pytest.approx(find_stars(image, Detection()).fwhm, rel=0.02)


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, -np.inf, 1e9])
def test_what_stands_in_excluded_pixels_never_matters(image: Image, rubbish: float) -> None:
    bad = np.random.default_rng(4).random(SHAPE) < 0.01
    dq = np.where(bad, np.uint16(DQ.BAD_PIXEL), image.dq)
    quiet = find_stars(Image(image.data, image.variance, dq, image.unit), Detection())
    data = np.where(bad, np.float32(rubbish), image.data)
    loud = find_stars(Image(data, image.variance, dq, image.unit), Detection())
    assert np.array_equal(quiet.x, loud.x)
    assert np.array_equal(quiet.flux, loud.flux)
    assert quiet.background == loud.background


def test_big_endian_and_strided_arrays_give_the_same_stars(image: Image) -> None:
    wide = np.repeat(image.data.astype(">f4"), 2, axis=1)
    strange = Image(wide[:, ::2], image.variance.astype(">f4"), image.dq, image.unit)
    assert np.array_equal(find_stars(strange, Detection()).x, find_stars(image, Detection()).x)


def test_image_without_stars_has_none() -> None:
    stars = find_stars(observed(np.full(SHAPE, SKY)), Detection())
    assert not stars.usable.any()
    assert np.isnan(stars.fwhm)
    assert np.isnan(stars.median_ellipticity)


def test_image_without_good_pixels_is_refused(image: Image) -> None:
    dq = np.full(SHAPE, DQ.NO_DATA, np.uint16)
    with pytest.raises(ValueError, match="none of the 96000 pixels is good"):
        find_stars(Image(image.data, image.variance, dq, image.unit), Detection())


def test_crowded_field_that_overflows_the_finder_is_searched_at_a_higher_threshold() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 1, (700, 700))
    everywhere = Image(
        (1000 * np.abs(noise)).astype(np.float32), np.full(noise.shape, 1e-4, np.float32),
        np.zeros(noise.shape, np.uint16), "electron",
    )  # fmt: skip
    assert len(find_stars(everywhere, Detection())) > 0


def test_finding_stars_does_not_change_the_image(image: Image) -> None:
    before = image.data.copy(), image.variance.copy(), image.dq.copy()
    find_stars(image, Detection())
    for plane, saved in zip((image.data, image.variance, image.dq), before, strict=True):
        assert np.array_equal(plane, saved)


def test_neighbours_are_told_apart() -> None:
    pairs = [(80.0, 80.0, 4e4), (86.4, 80.9, 2e4), (200.0, 150.0, 1e5), (205.3, 153.6, 1.5e4)]
    stars = find_stars(observed(SKY + np.sum([gaussian_star(*star) for star in pairs], axis=0)), Detection())
    truth = np.array(pairs)
    at = nearest(stars, truth[:, 0], truth[:, 1])
    assert len(stars) == 4
    assert np.hypot(stars.x[at] - truth[:, 0], stars.y[at] - truth[:, 1]).max() < 0.5


def test_wings_of_a_bright_star_are_no_stars_of_their_own() -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    moffat = (1 + ((x - 160.3) ** 2 + (y - 140.8) ** 2) / 3.0**2) ** -2.5
    stars = find_stars(observed(SKY + 3e4 * moffat), Detection())
    assert len(stars) == 1
    assert (stars.x[0], stars.y[0]) == pytest.approx((160.3, 140.8), abs=0.02)


def test_sky_with_a_slope_is_subtracted(placed: tuple[Floats, Floats, Floats]) -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    slope = SKY + 0.5 * x + 0.2 * y
    stars = np.sum([gaussian_star(*star) for star in zip(*placed, strict=True)], axis=0)
    image = observed(slope + stars)
    left = subtract_background(image, Detection())[stars < 0.01]
    assert left.mean() == pytest.approx(0, abs=1)
    assert left.std() == pytest.approx(np.sqrt(slope.mean() + READ_NOISE**2), rel=0.05)


def test_sky_where_nothing_is_good_is_that_around(image: Image) -> None:
    dq = image.dq.copy()
    dq[:140, :150] = DQ.NO_DATA
    stars = find_stars(Image(image.data, image.variance, dq, image.unit), Detection())
    assert stars.background == pytest.approx(SKY, abs=1)
    assert not ((stars.x < 149) & (stars.y < 139)).any()
    few = np.full(SHAPE, DQ.NO_DATA, np.uint16)
    few[100:110, 100:110] = 0
    assert find_stars(Image(image.data, image.variance, few, image.unit), Detection()).background > 0


def test_image_that_states_no_noise_is_searched_with_that_of_its_sky(image: Image) -> None:
    silent = Image(image.data, np.zeros_like(image.variance), image.dq, image.unit)
    assert len(find_stars(silent, Detection())) >= 38


def test_flux_beside_an_excluded_pixel_is_made_good(image: Image) -> None:
    stars = find_stars(image, Detection())
    chosen = int(np.flatnonzero(stars.usable)[3])
    dq = image.dq.copy()
    dq[round(stars.y[chosen]) + 4, round(stars.x[chosen])] = DQ.BAD_PIXEL
    again = find_stars(Image(image.data, image.variance, dq, image.unit), Detection())
    same = np.hypot(again.x - stars.x[chosen], again.y - stars.y[chosen]).argmin()
    assert again.flux[same] == pytest.approx(stars.flux[chosen], rel=0.03)


def test_stars_may_be_looked_for_in_several_threads_at_once(image: Image) -> None:
    once = find_stars(image, Detection())
    with ThreadPoolExecutor(4) as pool:
        for stars in pool.map(find_stars, [image] * 8, [Detection()] * 8):
            assert np.array_equal(stars.x, once.x)
            assert np.array_equal(stars.flux, once.flux)
