"""Frames are placed where they were moved to, or refused with the reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from ccdflow.recipes.alignment.register import (
    NoMatchError,
    register_correlation,
    register_stars,
    register_wcs,
)
from ccdflow.recipes.alignment.transform import Model, Transform, fit_affine, fit_similarity
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.stars.sources import Detection, Stars, find_stars

Floats = NDArray[np.float64]
SIZE = 1000.0


def stars_at(positions: Floats, flux: Floats | None = None) -> Stars:
    """Stars in the order of `flux`, or already in order."""
    n = len(positions)
    flux = np.linspace(2, 1, n) if flux is None else flux
    order = np.argsort(-flux, kind="stable")
    x, y = positions[order].T if n else (np.zeros(0), np.zeros(0))
    true = np.ones(n, dtype=bool)
    return Stars(x, y, flux[order], np.zeros(n), ~true, true, 3.0, 100.0, 10.0)


def rotated(degrees: float, scale: float = 1.0, dx: float = 0.0, dy: float = 0.0) -> Transform:
    angle = np.radians(degrees)
    cosine, sine = float(scale * np.cos(angle)), float(scale * np.sin(angle))
    return Transform(dx, dy, cosine, -sine, sine, cosine)


def field(seed: int, n: int = 150) -> tuple[np.random.Generator, Floats]:
    rng = np.random.default_rng(seed)
    return rng, rng.uniform(0, SIZE, (n, 2))


def worst(found: Transform, true: Transform) -> float:
    corners = np.array([[0, 0], [SIZE, 0], [0, SIZE], [SIZE, SIZE]])
    return float(np.abs(found(corners) - true(corners)).max())


@pytest.mark.parametrize(
    "true",
    [
        Transform(0.0, 0.0),
        Transform(13.4, -207.9),
        rotated(0.3, 1.001, 5.2, -3.1),
        rotated(37.0, 1.0, 300.0, -100.0),
        rotated(180.0, 1.0, SIZE, SIZE),
        Transform(2.5, 1.5, 1.0004, 0.0002, -0.0003, 0.9996),
    ],
)
def test_affine_is_recovered_from_noisy_incomplete_lists(true: Transform) -> None:
    rng, positions = field(1)
    moved = true(positions) + rng.normal(0, 0.05, positions.shape)
    strangers = rng.uniform(0, SIZE, (30, 2))
    frame = np.vstack([moved[rng.random(len(moved)) < 0.8], strangers])
    reference = positions[rng.random(len(positions)) < 0.8]
    found = register_stars(stars_at(reference), stars_at(rng.permutation(frame)), "affine", 1.0)
    assert found.method == "affine"
    assert worst(found.transform, true) < 0.1
    assert found.rms == pytest.approx(0.05 * np.sqrt(2), rel=0.3)
    assert found.matches > 60


@pytest.mark.parametrize("model", ["affine", "shift"])
@pytest.mark.parametrize("n", [3, 5, 100])
@pytest.mark.parametrize("flip", [(-1, -1), (-1, 1), (1, -1)])
def test_flipped_and_mirrored_frames_are_placed(flip: tuple[int, int], n: int, model: Model) -> None:
    rng, positions = field(2, n)
    true = Transform(SIZE + 7, 3.0 - 5).after_flip(flip)
    found = register_stars(
        stars_at(positions), stars_at(true(positions) + rng.normal(0, 0.02, (n, 2))), model, 1.0
    )
    assert found.matches == n
    assert found.transform.is_mirrored == (flip[0] * flip[1] < 0)
    assert worst(found.transform, true) < 0.3


def test_mirrored_frame_at_any_angle_is_placed() -> None:
    rng, positions = field(2, 100)
    true = rotated(71.0, 1.0, 40.0, 900.0).after_flip((-1, 1))
    found = register_stars(
        stars_at(positions), stars_at(rng.permutation(true(positions)[:80])), "affine", 1.0
    )
    assert worst(found.transform, true) < 0.1
    assert found.transform.is_mirrored
    assert found.transform.rotation == pytest.approx(71.0)


@pytest.mark.parametrize("scale", [0.5, 0.63, 1.5])
def test_pixels_of_another_scale_are_named(scale: float) -> None:
    _, positions = field(2, 100)
    moved = rotated(20.0, scale, 400.0, 30.0)(positions)
    with pytest.raises(NoMatchError, match=f"match if its pixels are {1 / scale:.2f} times as large"):
        register_stars(stars_at(positions), stars_at(moved), "affine", 1.0)


@pytest.mark.parametrize("n", [3, 4, 6, 10, 20, 30])
def test_few_stars_of_another_field_do_not_match(n: int) -> None:
    for seed in range(20):
        _, positions = field(100 + seed, n)
        _, others = field(200 + seed, n)
        with pytest.raises(NoMatchError, match=f"the reference has {n}"):
            register_stars(stars_at(positions / 3), stars_at(others / 3), "affine", 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_unrelated_fields_do_not_match(seed: int) -> None:
    _, one = field(10 + seed, 100)
    _, other = field(20 + seed, 100)
    with pytest.raises(NoMatchError, match="usable stars, the reference has 100"):
        register_stars(stars_at(one), stars_at(other), "affine", 1.0)


def test_few_stars_allow_a_simpler_model_only() -> None:
    _, positions = field(3, 6)
    moved = Transform(4.0, 5.0)(positions)
    assert register_stars(stars_at(positions), stars_at(moved), "affine", 1.0).method == "similarity"
    three = register_stars(stars_at(positions[:3]), stars_at(moved[:3]), "affine", 1.0)
    assert (three.method, three.matches) == ("shift", 3)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_less_than_three_stars_are_refused_with_their_number(n: int) -> None:
    _, positions = field(4, 20)
    with pytest.raises(NoMatchError, match=f"found {n} usable stars, the reference has 20"):
        register_stars(stars_at(positions), stars_at(positions[:n]), "shift", 1.0)


def test_the_same_stars_give_the_same_transform_to_the_last_bit() -> None:
    rng, positions = field(5)
    frame = rotated(20.0, 1.0, 30.0, 40.0)(positions) + rng.normal(0, 0.1, positions.shape)
    found = {register_stars(stars_at(positions), stars_at(frame), "affine", 1.0).transform for _ in range(3)}
    assert len(found) == 1


def test_crowded_cluster_with_gross_mismatches_is_clipped() -> None:
    rng = np.random.default_rng(6)
    positions = rng.normal(SIZE / 2, 60, (400, 2))
    true = Transform(-3.3, 7.7)
    moved = true(positions) + rng.normal(0, 0.05, positions.shape)
    blended = rng.random(len(moved)) < 0.2
    moved[blended] += rng.normal(0, 1.5, (int(blended.sum()), 2))
    found = register_stars(stars_at(positions), stars_at(moved), "similarity", 1.0)
    assert np.abs(found.transform(positions) - true(positions)).max() < 0.1


def test_fits_are_exact_without_noise() -> None:
    _, positions = field(7, 20)
    true = rotated(5.0, 1.02, 3.0, 4.0)
    assert worst(fit_similarity(positions, true(positions)), true) < 1e-8
    sheared = Transform(1.0, 2.0, 1.01, 0.02, -0.03, 0.98)
    assert worst(fit_affine(positions, sheared(positions)), sheared) < 1e-8


def test_transform_knows_its_area_rotation_and_whole_shift() -> None:
    assert rotated(30.0, 1.1).area == pytest.approx(1.21)
    assert rotated(30.0, 1.1).rotation == pytest.approx(30.0)
    assert Transform(3.0, -2.0).shift == (3, -2)
    assert Transform(3.0, -2.1).shift is None
    assert rotated(1.0, 1.0, 3.0, -2.0).shift is None


def test_transform_near_a_whole_shift_becomes_one() -> None:
    assert Transform(2.98, -1.01, 1.00001).snapped((500, 500), 0.03) == Transform(3.0, -1.0)
    away = Transform(2.98, -1.01, 1.0003)
    assert away.snapped((500, 500), 0.03) is away


def smooth_field(seed: int, dx: int, dy: int) -> NDArray[np.float32]:
    """Two blobs, too few for matching, in noise; moved by whole pixels."""
    y, x = np.mgrid[:200, :240]
    blobs = sum(
        400 * np.exp(-((x - dx - at[0]) ** 2 + (y - dy - at[1]) ** 2) / 18) for at in ((60, 80), (150, 120))
    )
    return (blobs + np.random.default_rng(seed).normal(0, 10, x.shape)).astype(np.float32)


@pytest.mark.parametrize("shift", [(0, 0), (17, -9), (-30, 40)])
def test_correlation_finds_a_shift_by_whole_pixels(shift: tuple[int, int]) -> None:
    found = register_correlation(smooth_field(1, 0, 0), smooth_field(2, *shift), 10.0)
    assert found.transform.shift == shift
    assert found.method == "correlation"


def test_correlation_of_noise_is_refused() -> None:
    rng = np.random.default_rng(8)
    one, other = (rng.normal(0, 10, (300, 300)).astype(np.float32) for _ in range(2))
    with pytest.raises(NoMatchError, match="standard deviations, 8 are needed"):
        register_correlation(one, other, 10.0)


def blobs(seed: int, places: Floats) -> NDArray[np.float32]:
    y, x = np.mgrid[:200, :240]
    light = sum(400 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 8) for at in places)
    return (light + np.random.default_rng(seed).normal(0, 10, x.shape)).astype(np.float32)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_correlation_of_two_fields_is_refused_however_high_its_peak(n: int) -> None:
    rng = np.random.default_rng(30 + n)
    one, other = (blobs(seed, rng.uniform([10, 10], [230, 190], (n, 2))) for seed in (1, 2))
    with pytest.raises(NoMatchError, match=r"as high elsewhere|of what is to be seen"):
        register_correlation(one, other, 10.0)


def test_correlation_of_hot_pixels_is_refused() -> None:
    rng = np.random.default_rng(9)
    hot = np.where(rng.random((200, 240)) < 0.01, 3000, 0)
    one, other = ((hot + rng.normal(0, 10, hot.shape)).astype(np.float32) for _ in range(2))
    with pytest.raises(NoMatchError, match="cross-correlation"):
        register_correlation(one, other, 10.0)


def test_correlation_finds_a_nebula() -> None:
    rng = np.random.default_rng(4)
    knots = rng.uniform([60, 50], [180, 150], (30, 2))
    y, x = np.mgrid[:200, :240]
    frames = []
    for seed, (dx, dy) in enumerate([(0, 0), (7, -5)]):
        light = sum(60 * np.exp(-((x - dx - at[0]) ** 2 + (y - dy - at[1]) ** 2) / 60) for at in knots)
        frames.append((light + np.random.default_rng(seed).normal(0, 10, x.shape)).astype(np.float32))
    found = register_correlation(*frames, 10.0).transform
    assert (found.dx, found.dy) == pytest.approx((7, -5), abs=1)


def header(ra: float, rotation: float = 0.0, kind: str = "TAN") -> dict[str, object]:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{kind}", f"DEC--{kind}"]
    wcs.wcs.crpix, wcs.wcs.crval, wcs.wcs.cdelt = [256, 256], [ra, 30.0], [-0.0003, 0.0003]
    angle = np.radians(rotation)
    wcs.wcs.pc = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return dict(wcs.to_header())


def test_wcs_places_by_world_coordinates() -> None:
    one, other = header(250.0), header(250.01, rotation=3.0)
    found = register_wcs(one, other, (512, 512), 0.1).transform
    at = np.array([[10.0, 20.0], [400.0, 300.0]])
    sky = WCS(fits.Header(one)).pixel_to_world(*at.T)
    assert found(at) == pytest.approx(np.column_stack(WCS(fits.Header(other)).world_to_pixel(sky)), abs=0.01)


@pytest.mark.parametrize(
    ("cards", "told"),
    [
        ({"CRVAL1": float("nan")}, "the frame's WCS can't be read"),
        ({"CTYPE1": "RA---XYZ"}, "can't be read|no celestial|can't be put"),
        ({"CTYPE2": "RA---TAN"}, "can't be read|no celestial|can't be put"),
        ({"CDELT1": 1e-30, "CDELT2": 1e-30}, "can't be read|allowed|can't be put"),
        ({"PC1_1": 0.0, "PC1_2": 0.0, "PC2_1": 0.0, "PC2_2": 0.0}, "can't be read|can't be put|allowed"),
        ({"CDELT1": -3e-7, "CDELT2": 3e-7}, "0.1 to 10 are allowed"),
    ],
)
def test_a_wcs_that_can_not_be_is_that_frames_own_matter(cards: dict[str, Any], told: str) -> None:
    with pytest.raises(NoMatchError, match=told):
        register_wcs(header(250.0), header(250.0) | cards, (512, 512), 0.1)


def test_wcs_that_is_missing_is_named() -> None:
    with pytest.raises(NoMatchError, match="the frame's header has no celestial WCS"):
        register_wcs(header(250.0), {"EXPTIME": 5.0}, (512, 512), 0.1)


def test_real_crowded_frames_register_within_a_third_of_a_pixel(real_night: Path) -> None:
    stars = []
    for path in sorted(real_night.glob("M13_sdss_r_*.fits")):
        raw = fits.getdata(path).astype(np.float32)
        data = raw - np.float32(1311)
        dq = np.where(raw >= 60000, np.uint16(DQ.SATURATED), np.uint16(0))
        stars.append(find_stars(Image(data, np.maximum(data, 0) / 1.3 + 36, dq, "adu"), Detection()))
    assert len(stars) == 3
    for frame in stars[1:]:
        found = register_stars(stars[0], frame, "affine", 0.5)
        assert found.rms < 0.3
        assert found.matches > 100
        # A vote of hot pixels would say that nothing moved.
        assert np.hypot(found.transform.dx, found.transform.dy) > 0.5
