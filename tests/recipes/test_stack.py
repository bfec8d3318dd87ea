"""Stacks of simulated frames against the truth that they were made from."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.special import erf

from ccdflow.recipes.alignment import placement
from ccdflow.recipes.alignment.transform import Transform
from ccdflow.recipes.core import strips
from ccdflow.recipes.core.dq import DQ, excluded
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import InputProduct, Output, Result
from ccdflow.recipes.kernels import threads
from ccdflow.recipes.stack import RECIPE, StackParameters
from ccdflow.recipes.stars.sources import Detection, find_stars

SHAPE = (320, 340)
FWHM, READ_NOISE = 3.0, 5.0
Floats = NDArray[np.float64]


def lattice() -> Floats:
    """Positions and fluxes (x, y, flux) of 42 stars on a jittered lattice: none touches another."""
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(np.arange(45, 310, 45), np.arange(30, 310, 45)), axis=-1).reshape(-1, 2)
    at = grid + rng.uniform(-9, 9, grid.shape)
    return np.column_stack([at, 10 ** rng.uniform(4.3, 5.3, len(at))])


STARS = lattice()


def scene(transform: Transform, fwhm: float = FWHM, stars: Floats = STARS) -> Floats:
    """Electrons of Gaussian stars, integrated over pixels, where the transform puts them."""
    width = fwhm / 2.3548 * np.sqrt(2)
    total = np.zeros(SHAPE)
    for (x, y), flux in zip(transform(stars[:, :2]), stars[:, 2], strict=True):
        profiles = [
            0.5 * np.diff(erf((np.arange(n + 1) - 0.5 - at) / width))
            for n, at in zip(SHAPE, (y, x), strict=True)
        ]
        total += flux * np.outer(*profiles)
    return total


def frame(electrons: Floats, seed: int, exptime: float = 60.0, **more: Any) -> InputProduct:
    """Poisson and read noise added to the truth, which also gives the variance."""
    rng = np.random.default_rng(seed)
    data = rng.poisson(electrons) + rng.normal(0, READ_NOISE, electrons.shape)
    variance = electrons + READ_NOISE**2
    dq = np.zeros(electrons.shape, np.uint16)
    image = Image(data.astype(np.float32), variance.astype(np.float32), dq, "electron")
    return InputProduct(image, exptime, f"frame{seed}.fits", **more)


def pixels(product: InputProduct) -> Image:
    assert isinstance(product.image, Image)
    return product.image


def changed(
    product: InputProduct, data: NDArray[Any] | None = None, dq: NDArray[np.uint16] | None = None
) -> InputProduct:
    image = pixels(product)
    data = image.data if data is None else data.astype(np.float32)
    return replace(product, image=Image(data, image.variance, image.dq if dq is None else dq, image.unit))


def stack(frames: Sequence[InputProduct], **parameters: Any) -> tuple[Image, Output, Result]:
    result: Result = RECIPE.run({"main": frames}, StackParameters.model_validate(parameters))
    output = result.outputs["stack"]
    assert output.image is not None
    return output.image, output, result


def drift(seed: int, rotation: float = 0.0) -> Transform:
    rng = np.random.default_rng(100 + seed)
    dx, dy = rng.uniform(-4, 4, 2) if seed else (0.0, 0.0)
    angle = np.radians(rotation * seed)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return Transform(float(dx), float(dy), c, -s, s, c)


def measured(image: Image) -> Floats:
    """Positions and fluxes of the stars, in the order in which they were put."""
    stars = find_stars(image, Detection(threshold=10))
    at = np.hypot(stars.x - STARS[:, :1], stars.y - STARS[:, 1:2]).argmin(axis=1)
    return np.column_stack([stars.x, stars.y, stars.flux])[at]


def without_noise(fwhm: float = FWHM) -> Image:
    data = (scene(Transform(), fwhm) + 100).astype(np.float32)
    return Image(data, np.full(SHAPE, 100, np.float32), np.zeros(SHAPE, np.uint16), "electron")


@pytest.mark.parametrize(
    ("register", "rotation", "tolerance"),
    [("affine", 0.0, 0.015), ("affine", 0.4, 0.015), ("shift", 0.0, 0.01)],
)
def test_stars_land_on_the_reference_with_their_flux(
    register: str, rotation: float, tolerance: float
) -> None:
    moves = [drift(seed, rotation) for seed in range(4)]
    if register == "shift":
        moves = [Transform(float(np.rint(move.dx)), float(np.rint(move.dy))) for move in moves]
    frames = [frame(scene(move) + 100, seed) for seed, move in enumerate(moves)]
    image, output, result = stack(frames, register=register)
    stars, truth = measured(image), measured(without_noise())
    assert np.sqrt(np.mean((stars[:, :2] - STARS[:, :2]) ** 2)) < 0.1
    assert np.median(stars[:, 2] / truth[:, 2]) == pytest.approx(1, abs=tolerance)
    assert np.abs(stars[:, 2] / truth[:, 2] - 1).max() < 3 * tolerance
    assert output.quality["registration_rms"] < 0.1
    assert result.warnings == ()


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic", "lanczos3"])
def test_change_of_seeing_does_not_cut_the_cores_of_bright_stars(kernel: str) -> None:
    frames = [frame(scene(drift(i), fwhm) + 100, i) for i, fwhm in enumerate((3.0, 3.2, 3.0, 3.3))]
    image, output, _ = stack(frames, kernel=kernel)
    bright = STARS[STARS[:, 2] > 1e5]
    x, y = np.rint(bright[:, :2]).astype(int).T
    assert output.ngood is not None
    assert (output.ngood[y, x] >= 3).mean() > 0.9
    box = [image.data[b - 12 : b + 13, a - 12 : a + 13].sum() - 100 * 625 for a, b in zip(x, y, strict=True)]
    assert np.median(box / bright[:, 2]) == pytest.approx(1, abs=0.015)


@pytest.mark.parametrize("register", ["shift", "affine"])
def test_constant_background_stays_constant(register: str) -> None:
    frames = [frame(scene(drift(i, 0.2)) + 400, i) for i in range(4)]
    image, _, _ = stack(frames, register=register)
    empty = (scene(Transform(), 2 * FWHM) < 0.05) & ~excluded(image.dq)
    blocks = []
    for rows in (slice(0, 110), slice(110, 220), slice(220, 320)):
        for columns in (slice(0, 110), slice(110, 220), slice(220, 340)):
            blocks.append(float(image.data[rows, columns][empty[rows, columns]].mean()))
    assert blocks == pytest.approx([400] * 9, abs=1.5)


def test_ngood_counts_the_frames_that_cover_a_pixel() -> None:
    shifts = [(0, 0), (5, -3), (-2, 7)]
    frames = [frame(scene(Transform(dx, dy)) + 100, i) for i, (dx, dy) in enumerate(shifts)]
    dead = np.zeros(SHAPE, np.uint16)
    dead[100, 50] = DQ.BAD_PIXEL
    frames[1] = changed(frames[1], dq=dead)
    _, output, _ = stack(frames, register="shift", clip="none")
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    by_hand = sum(
        ((x + dx >= 0) & (x + dx < SHAPE[1]) & (y + dy >= 0) & (y + dy < SHAPE[0])).astype(int)
        for dx, dy in shifts
    )
    by_hand[100 + 3, 50 - 5] -= 1
    assert output.ngood is not None
    assert np.array_equal(output.ngood, by_hand)
    assert output.cards["SHFTX002"][0] == 5
    assert output.cards["SHFTY003"][0] == 7


@pytest.mark.parametrize("register", ["none", "shift", "affine"])
@pytest.mark.parametrize("rubbish", [np.nan, np.inf, 1e9])
def test_what_stands_in_excluded_pixels_never_matters(register: str, rubbish: float) -> None:
    bad = np.random.default_rng(9).random(SHAPE) < 0.005
    dq = np.where(bad, np.uint16(DQ.HOT), np.uint16(0))
    frames = [changed(frame(scene(Transform(i * 0.7, i * 1.2)) + 100, i), dq=dq) for i in range(3)]
    loud = [changed(product, np.where(bad, rubbish, pixels(product).data)) for product in frames]
    quiet_image, quiet, _ = stack(frames, register=register)
    loud_image, _, _ = stack(loud, register=register)
    assert quiet.ngood is not None
    good = quiet.ngood > 0
    assert np.array_equal(quiet_image.data[good], loud_image.data[good])
    assert np.array_equal(quiet_image.variance[good], loud_image.variance[good])
    assert np.array_equal(quiet_image.dq[good], loud_image.dq[good])


@pytest.mark.parametrize("signal", [0, 1, 100, 10_000])
@pytest.mark.parametrize(("clip", "tolerance"), [("none", 0.02), ("variance", 0.04)])
def test_variance_of_an_unregistered_stack_is_true(signal: float, clip: str, tolerance: float) -> None:
    frames = [frame(np.full((500, 500), float(signal)), seed) for seed in range(5)]
    image, _, _ = stack(frames, register="none", clip=clip)
    pull = (image.data - signal) / np.sqrt(image.variance)
    assert pull.mean() == pytest.approx(0, abs=0.02)
    assert pull.std() == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("signal", [0, 1, 100, 10_000])
@pytest.mark.parametrize(
    ("register", "clip", "tolerance"),
    [("shift", "none", 0.02), ("shift", "variance", 0.04), ("affine", "variance", 0.04)],
)
def test_variance_of_a_registered_stack_is_true(
    signal: float, register: str, clip: str, tolerance: float
) -> None:
    stars = STARS * [1, 1, 3]
    moves = [Transform(), Transform(2.0, -3.0), Transform(-1.0, 1.0), Transform(4.0, 0.0)]
    if register == "affine":
        moves = [replace(move, dx=move.dx + 0.4 * i) for i, move in enumerate(moves)]
    frames = [frame(scene(move, stars=stars) + signal, seed) for seed, move in enumerate(moves)]
    image, _, _ = stack(frames, register=register, clip=clip)
    empty = (scene(Transform(), 2.5 * FWHM, stars) < 1e-3) & ~excluded(image.dq)
    pull = ((image.data - signal) / np.sqrt(image.variance))[empty]
    assert pull.mean() == pytest.approx(0, abs=0.03)
    assert pull.std() == pytest.approx(1, abs=tolerance)


def with_master(shared: Floats, seed: int, shift: int = 0) -> InputProduct:
    """Noise 5 of its own, and the master's error of 2, which all frames have in common."""
    rng = np.random.default_rng(seed)
    data = 1000 + rng.normal(0, 5, shared.shape) + shared + np.roll(scene(Transform()), shift, axis=1)
    variance = np.full(shared.shape, 29, np.float32)
    dq = np.zeros(shared.shape, np.uint16)
    masters = Image(np.full(shared.shape, 4, np.float32), np.zeros(shared.shape, np.float32), dq, "electron2")
    image = Image(data.astype(np.float32), variance, dq, "electron")
    return InputProduct(image, 60.0, f"{seed}.fits", calibration="bias1", calibration_variance=masters)


def test_error_of_a_shared_master_is_not_averaged_down() -> None:
    shared = np.random.default_rng(5).normal(0, 2, SHAPE)
    image, output, _ = stack([with_master(shared, seed) for seed in range(4)], register="none", clip="none")
    empty = scene(Transform(), 2.5 * FWHM) < 1e-3
    assert image.data[empty].std() == pytest.approx(np.sqrt(25 / 4 + 4), rel=0.02)
    assert np.sqrt(image.variance) == pytest.approx(np.full(SHAPE, 3.2016), rel=1e-4)
    assert output.calibration_variance == pytest.approx(np.full(SHAPE, 4.0), rel=1e-4)


def test_error_of_a_master_is_averaged_down_between_shifted_frames() -> None:
    shared = np.random.default_rng(5).normal(0, 2, SHAPE)
    frames = [with_master(shared, seed, 4 * seed) for seed in range(4)]
    image, _, _ = stack(frames, register="shift", clip="none")
    empty = (scene(Transform(), 2.5 * FWHM) < 1e-3)[:, 20:-20]
    assert image.data[:, 20:-20][empty].std() == pytest.approx(np.sqrt(29 / 4), rel=0.02)
    assert np.sqrt(image.variance[:, 20:-20]) == pytest.approx(np.sqrt(29 / 4), rel=1e-4)


def test_frames_that_moved_together_share_their_masters_error() -> None:
    shared = np.random.default_rng(5).normal(0, 2, SHAPE)
    frames = [with_master(shared, 0), *(with_master(shared, seed, 6) for seed in (1, 2))]
    image, _, _ = stack(frames, register="shift", clip="none")
    empty = (scene(Transform(), 2.5 * FWHM) < 1e-3)[:, 20:-20]
    expected = np.sqrt(25 / 3 + 4 * (4 + 1) / 9)
    assert image.data[:, 20:-20][empty].std() == pytest.approx(expected, rel=0.02)
    assert np.sqrt(image.variance[:, 20:-20]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("register", ["none", "affine"])
def test_cosmic_rays_in_a_stack_of_four_are_rejected(register: str) -> None:
    rng = np.random.default_rng(11)
    empty = scene(Transform(), 3 * FWHM) < 1e-3
    frames = [
        frame(scene(Transform(0.4 * i if register == "affine" else 0.0, 0.0)) + 100, i) for i in range(4)
    ]
    hits = np.zeros(SHAPE, dtype=bool)
    hits[rng.integers(10, 310, 200), rng.integers(10, 330, 200)] = True
    hits &= empty
    frames[1] = changed(frames[1], pixels(frames[1]).data + np.where(hits, 3000, 0))
    image, output, _ = stack(frames, register=register)
    excess = (image.data - 100)[hits] / np.sqrt(image.variance[hits])
    assert np.abs(excess).max() < 6
    assert np.mean(excess) == pytest.approx(0, abs=0.4)
    assert output.quality["rejected_fraction"] < 0.01


def test_exposures_are_scaled_to_that_of_the_reference() -> None:
    rate = scene(Transform()) / 60 + 3
    frames = [frame(rate * t, seed, t) for seed, t in enumerate((60.0, 120.0, 30.0))]
    image, output, _ = stack(frames, register="none")
    assert np.median(measured(image)[:, 2] / measured(without_noise())[:, 2]) == pytest.approx(1, abs=0.01)
    assert output.quality["background"] == pytest.approx(180, abs=1)
    assert output.cards["EXPTIME"][0] == 60
    assert output.cards["TOTEXP"][0] == 210
    assert [output.cards[f"SCALE00{i}"][0] for i in (1, 2, 3)] == [1, 0.5, 2]
    weights = [1 / 205, 1 / ((360 + 25) / 4), 1 / ((90 + 25) * 4)]
    stated = [float(output.cards[f"WEIGH00{i}"][0]) for i in (1, 2, 3)]
    assert stated == pytest.approx([weight / sum(weights) for weight in weights], rel=0.02)


def test_rates_are_not_scaled_by_exposure() -> None:
    frames = []
    for seed, t in enumerate((60.0, 120.0)):
        image = pixels(frame(scene(Transform()) + 100, seed))
        frames.append(InputProduct(replace(image, unit="electron / s"), t, f"{seed}.fits"))
    _, output, _ = stack(frames, register="none")
    assert [output.cards[f"SCALE00{i}"][0] for i in (1, 2)] == [1, 1]


@pytest.mark.parametrize("register", ["none", "affine"])
def test_transparency_is_recovered_from_the_stars(register: str) -> None:
    frames = [frame(scene(Transform()) + 100, 0), frame(0.7 * scene(Transform()) + 150, 1)]
    image, output, _ = stack(frames, register=register, scale="stars")
    assert output.cards["SCALE002"][0] == pytest.approx(1 / 0.7, rel=0.01)
    assert np.median(measured(image)[:, 2] / measured(without_noise())[:, 2]) == pytest.approx(1, abs=0.01)


def test_skies_are_brought_to_one_level_or_left() -> None:
    frames = [frame(scene(Transform()) + sky, i) for i, sky in enumerate((100, 300, 200))]
    _, matched, result = stack(frames, register="none", weight="equal")
    assert matched.quality["background"] == pytest.approx(200, abs=1)
    assert matched.quality["scatter_ratio"] == pytest.approx(1, abs=0.05)
    assert result.warnings == ()
    _, left, _ = stack(frames, register="none", zero="none", weight="equal")
    assert left.quality["scatter_ratio"] > 4


def test_scatter_beyond_the_stated_noise_makes_the_clip_fall_back() -> None:
    noisy = [frame(scene(Transform()) + 100, seed) for seed in range(4)]
    frames = [
        replace(product, image=replace(pixels(product), variance=pixels(product).variance / 4))
        for product in noisy
    ]
    _, output, result = stack(frames, register="none")
    assert output.cards["CLIPFALL"][0] is True
    assert output.cards["CLIPUSED"][0] == "mad"
    assert output.quality["scatter_ratio"] == pytest.approx(2, rel=0.05)
    assert (
        "2.0" in result.warnings[0].text
        and "clipped by mad at 5 sigma, not by variance" in result.warnings[0].text
    )


def test_too_few_stars_fall_back_to_correlation_with_a_warning() -> None:
    blob = np.array([[150.0, 160.0, 3e4], [190.0, 120.0, 2e4]])
    frames = [frame(scene(Transform(4.0 * i, -3.0 * i), stars=blob) + 50, i) for i in range(2)]
    _, output, result = stack(frames, register="affine")
    assert (output.cards["SHFTX002"][0], output.cards["SHFTY002"][0]) == (4, -3)
    assert output.cards["REGBY002"][0] == "correlation"
    assert "frame1.fits: registered by cross-correlation to whole pixels" in result.warnings[0].text
    assert "found 2 usable stars" in result.warnings[0].text


def reasons(result: Result) -> dict[str, str]:
    """Why frames were left out, by their names."""
    return {left.name: left.reason for left in result.left_out}


FOUR = [Transform(), Transform(4.0, -3.0), Transform(-2.0, 5.0), Transform(3.0, 2.0)]


def another_field(seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(10, 310, (42, 2)), STARS[:, 2]])


def trailed(length: float) -> Floats:
    moves = [Transform(0.8 * t, 0.6 * t) for t in np.arange(-length / 2, length / 2, 0.5)]
    return np.asarray(sum(scene(move) for move in moves) / len(moves))


BAD_FRAMES = {
    "cloud": (
        np.zeros(SHAPE),
        r"it shows no star: found 0 usable stars, the reference has \d+; 0 match, 3 must",
    ),
    "field": (scene(Transform(), stars=another_field(3)), r"another field than .*; \d+ match, \d+ must"),
    "scale": (
        scene(Transform(60.0, 50.0, 0.63, 0.0, 0.0, 0.63), 2.4),
        r"its scale is not that of frame\d.fits: .*; \d+ match if its pixels are 1.59 times as large",
    ),
    "trail": (trailed(20), r"it is trailed: its \d+ stars have a median ellipticity of 0.[789].*0 match"),
    "short trail": (trailed(7), r"it is trailed: its \d+ stars have a median ellipticity of 0.[45]"),
}


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("register", ["shift", "affine"])
@pytest.mark.parametrize("bad", BAD_FRAMES)
def test_one_unusable_frame_is_left_out_and_named(bad: str, register: str, place: int) -> None:
    electrons, reason = BAD_FRAMES[bad]
    frames = [frame(scene(move) + 100, i) for i, move in enumerate(FOUR)]
    frames[place] = frame(electrons + 100, place)
    image, output, result = stack(frames, register=register)
    assert [left.position for left in result.left_out] == [place]
    assert re.search(reason, result.left_out[0].reason)
    assert output.cards["NCOMBINE"][0] == 3
    assert output.cards["NLEFTOUT"][0] == 1
    assert str(output.cards["LEFT001"][0]).startswith(f"frame{place}.fits: it")
    assert output.cards["STACKREF"][0] == ("frame1.fits" if place == 0 else "frame0.fits")
    if place:
        found = measured(image)[:, 2] / measured(without_noise())[:, 2]
        assert np.median(found) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("dashes", [1, 12])
def test_a_satellite_does_not_cost_the_frame(dashes: int) -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    satellite = 3000.0 * ((np.abs(y - 0.7 * x - 20) < 1.5) & (x // dashes % 2 == 0))
    frames = [frame(scene(move) + 100 + (satellite if i == 2 else 0), i) for i, move in enumerate(FOUR)]
    image, _, result = stack(frames)
    assert result.left_out == ()
    assert np.abs(image.data[(satellite > 0) & (scene(FOUR[0]) < 1)] - 100).max() < 60


@pytest.mark.parametrize(
    ("product", "reason"),
    [
        (
            lambda bad: replace(bad, image=replace(pixels(bad), unit="adu")),
            "it is in 'adu', the others in 'electron'",
        ),
        (lambda bad: replace(bad, exptime=0.0), "its exposure time is not known"),
        (
            lambda bad: changed(bad, dq=np.full(SHAPE, DQ.NO_DATA, np.uint16)),
            "none of its 108800 pixels is good",
        ),
        (lambda bad: changed(bad, np.full(SHAPE, np.nan)), "none of its 108800 pixels is good"),
        (lambda bad: replace(bad, image=None), "it holds no image"),
        (lambda bad: frame(np.full((50, 60), 100.0), 0), r"it has shape (50, 60), the others (320, 340)"),
        (
            lambda bad: replace(bad, image=replace(pixels(bad), variance=np.zeros(SHAPE, np.float32))),
            "it states a variance of 0, which the others do not",
        ),
    ],
)
def test_a_frame_that_is_unlike_the_others_is_left_out_though_it_is_the_first(
    product: Callable[[InputProduct], InputProduct], reason: str
) -> None:
    frames = [frame(scene(Transform()) + 100, seed) for seed in range(4)]
    frames[0] = product(frames[0])
    _, output, result = stack(frames, register="none")
    assert reason in reasons(result)["frame0.fits"]
    assert output.cards["NCOMBINE"][0] == 3


def test_where_no_exposure_time_is_known_frames_count_alike_with_a_word() -> None:
    _, output, result = stack([frame(scene(Transform()) + 100, i, np.nan) for i in range(3)], register="none")
    assert [output.cards[f"SCALE00{i}"][0] for i in (1, 2, 3)] == [1, 1, 1]
    assert [str(doubt) for doubt in result.warnings] == [
        "recipe: no exposure time is known: frames are stacked as if all had the same"
    ]


def test_of_two_fields_the_one_with_more_frames_is_stacked() -> None:
    other = another_field(3)
    frames = [frame(scene(move, stars=other if i < 2 else STARS) + 100, i) for i, move in enumerate(FOUR)]
    frames.append(frame(scene(Transform(1.0, 1.0)) + 100, 4))
    _, output, result = stack(frames)
    assert output.cards["STACKREF"][0] == "frame2.fits"
    assert reasons(result).keys() == {"frame0.fits", "frame1.fits"}


@pytest.mark.parametrize("n", [2, 3])
def test_where_no_two_frames_fit_together_there_is_no_stack_and_all_are_named(n: int) -> None:
    frames = [frame(scene(Transform(), stars=another_field(i)) + 100, i) for i in range(n)]
    result = RECIPE.run({"main": frames}, StackParameters())
    assert result.outputs == {}
    assert reasons(result).keys() == {f"frame{i}.fits" for i in range(n)}
    assert reasons(result)["frame0.fits"] == "no other frame fits it"


def test_frames_without_a_star_are_stacked_unregistered_alone() -> None:
    frames = [frame(np.full(SHAPE, 100.0), i) for i in range(3)]
    assert RECIPE.run({"main": frames}, StackParameters()).outputs == {}
    _, output, _ = stack(frames, register="none")
    assert output.cards["NCOMBINE"][0] == 3


def test_frames_that_are_all_trailed_alike_are_stacked() -> None:
    whole = trailed(20)
    frames = [frame(np.roll(whole, (3 * i, -2 * i), (0, 1)) + 100, i) for i in range(3)]
    _, output, result = stack(frames)
    assert result.left_out == ()
    assert (output.cards["SHFTX003"][0], output.cards["SHFTY003"][0]) == (-4, 6)


def test_what_a_flat_leaves_in_all_frames_is_no_field_to_register_by() -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    rng = np.random.default_rng(7)
    pattern = 1 + 0.01 * np.sin(x / 40) + 0.003 * rng.standard_normal(SHAPE)
    for at in rng.uniform(30, 300, (6, 2)):
        pattern -= 0.02 * (np.abs(np.hypot(x - at[0], y - at[1]) - 14) < 5)
    frames = [frame(scene(move) + 400 * pattern, i) for i, move in enumerate(FOUR)]
    frames[3] = frame(400 * pattern, 3)
    _, _, result = stack(frames)
    assert "it shows no star" in reasons(result)["frame3.fits"]


@pytest.mark.parametrize("register", ["shift", "affine"])
@pytest.mark.parametrize(
    "flips", [(slice(None, None, -1), slice(None)), (slice(None), slice(None, None, -1))]
)
def test_mirrored_frames_are_turned_back_with_a_word(flips: tuple[slice, slice], register: str) -> None:
    frames = [frame(scene(move) + 100, i) for i, move in enumerate(FOUR)]
    frames[2] = changed(frames[2], np.ascontiguousarray(pixels(frames[2]).data[flips]))
    image, output, result = stack(frames, register=register)
    assert np.median(measured(image)[:, 2] / measured(without_noise())[:, 2]) == pytest.approx(1, abs=0.015)
    assert str(output.cards["REGBY003"][0]).endswith(", mirrored")
    (doubt,) = result.warnings
    assert "frame2.fits: it is mirrored, by " in doubt.text and "matched stars" in doubt.text
    assert doubt.kind == "registration"


def test_a_frame_out_of_focus_is_told() -> None:
    frames = [
        frame(scene(Transform(), fwhm) + 100, i) for i, fwhm in enumerate((FWHM, 1.8 * FWHM, 2.6 * FWHM))
    ]
    _, _, result = stack(frames)
    (doubt,) = result.warnings
    assert "frame2.fits: its stars are 2.6 times as wide as those in frame0.fits (focus?)" in doubt.text


def test_a_frame_half_behind_clouds_is_told() -> None:
    frames = [frame(factor * scene(Transform()) + 100, i) for i, factor in enumerate((1.0, 1.0, 0.3))]
    _, _, result = stack(frames)
    (doubt,) = result.warnings
    assert "frame2.fits: its stars have 0.30 times the fluxes of those in frame0.fits (clouds?)" in doubt.text


def test_a_scale_that_stars_make_absurd_leaves_the_frame_out() -> None:
    frames = [frame(factor * scene(Transform()) + 100, i) for i, factor in enumerate((0.03, 1.0, 1.0))]
    _, output, result = stack(frames, scale="stars")
    assert "its stars would have to be multiplied by" in reasons(result)["frame0.fits"]
    assert output.cards["STACKREF"][0] == "frame1.fits"


def test_the_reference_lends_its_world_coordinates() -> None:
    frames = [
        frame(scene(Transform(), fwhm) + 100, i, header={"CRVAL1": 10.0 + i, "OBJECT": "x"})
        for i, fwhm in enumerate((4.0, 2.8, 3.4))
    ]
    _, output, _ = stack(frames)
    assert output.cards["STACKREF"][0] == "frame0.fits"
    assert "CRVAL1" not in output.cards
    _, output, _ = stack(frames, reference="sharpest")
    assert output.cards["STACKREF"][0] == "frame1.fits"
    assert output.cards["CRVAL1"][0] == 11.0
    assert "OBJECT" not in output.cards


def test_two_stars_of_many_do_not_tell_where_a_frame_lies() -> None:
    cloudy = frame(scene(Transform(), stars=STARS[:2]) + 100, 0)
    _, output, result = stack([cloudy, *(frame(scene(FOUR[i]) + 100, i) for i in (1, 2))])
    assert "found 2 usable stars" in reasons(result)["frame0.fits"]
    assert output.cards["STACKREF"][0] == "frame1.fits"


def test_frames_are_placed_by_their_world_coordinates() -> None:
    moves = [Transform(), Transform(3.4, -2.3)]
    frames = []
    for i, move in enumerate(moves):
        cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 250.0, "CRVAL2": 36.0}
        cards |= {"CRPIX1": 170 + move.dx, "CRPIX2": 160 + move.dy, "CDELT1": -2e-4, "CDELT2": 2e-4}
        frames.append(frame(scene(move) + 100, i, header=cards))
    image, output, _ = stack(frames, register="wcs")
    assert (output.cards["SHFTX002"][0], output.cards["SHFTY002"][0]) == pytest.approx((3.4, -2.3), abs=1e-3)
    assert 0 < output.quality["registration_rms"] < 0.1
    assert np.sqrt(np.mean((measured(image)[:, :2] - STARS[:, :2]) ** 2)) < 0.1
    _, _, result = stack([*frames, frame(scene(Transform()) + 100, 2)], register="wcs")
    assert (
        "cannot be placed on frame0.fits by their WCS: the frame's header has no"
        in reasons(result)["frame2.fits"]
    )


@pytest.mark.parametrize("first", [True, False])
def test_a_frame_whose_world_coordinates_are_wrong_is_left_out(first: bool) -> None:
    wrong = 0 if first else 2
    frames = []
    for i, (x, y) in enumerate([(0.0, 0.0), (3.4, -2.3), (-4.0, 2.0)]):
        cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 250.0, "CRVAL2": 36.0}
        cards |= {"CRPIX1": 170 + x, "CRPIX2": 160 + y + 50 * (i == wrong), "CDELT1": -2e-4, "CDELT2": 2e-4}
        frames.append(frame(scene(Transform(x, y)) + 100, i, header=cards))
    _, output, result = stack(frames, register="wcs")
    assert "by its WCS it lies 50." in reasons(result)[f"frame{wrong}.fits"]
    assert output.cards["NCOMBINE"][0] == 2
    away = replace(frames[1], header=dict(frames[1].header) | {"CRVAL2": 40.0})
    _, _, result = stack([*frames, away], register="wcs")
    assert "shows nothing of the field of" in reasons(result)["frame1.fits"]


def test_field_edge_has_no_data_and_no_value() -> None:
    frames = [frame(scene(Transform(30.0 * i, 0.0)) + 100, i) for i in range(2)]
    dead = np.zeros(SHAPE, np.uint16)
    dead[:, 320:] = DQ.NO_DATA
    image, output, _ = stack([changed(frames[0], dq=dead), frames[1]], register="shift")
    assert output.ngood is not None
    assert (output.ngood[:, 320:] == 0).all()
    assert (image.data[:, 320:] == 0).all()
    assert ((image.dq[:, 320:] & np.uint16(DQ.NO_DATA)) != 0).all()


def test_sharpest_frame_can_be_the_reference() -> None:
    frames = [frame(scene(Transform(), fwhm) + 100, i) for i, fwhm in enumerate((4.0, 2.8, 3.4))]
    _, output, _ = stack(frames, reference="sharpest")
    assert output.cards["STACKREF"][0] == "frame1.fits"


def test_median_has_the_noise_that_it_states() -> None:
    frames = [frame(np.full((400, 400), 50.0), seed) for seed in range(5)]
    image, _, _ = stack(frames, register="none", method="median", clip="none")
    pull = (image.data - 50) / np.sqrt(image.variance)
    assert pull.std() == pytest.approx(1, abs=0.02)
    assert np.median(image.variance) == pytest.approx(0.2868 * 75, rel=0.01)


@pytest.mark.parametrize("register", ["shift", "affine"])
def test_height_of_strips_does_not_matter(register: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [frame(scene(drift(i, 0.2)) + 100, i) for i in range(3)]
    image, output, _ = stack(frames, register=register)
    monkeypatch.setattr("ccdflow.recipes.stack.STRIP_BYTES", 3 * SHAPE[1] * strips.BYTES_PER_VALUE * 7)
    again, same, _ = stack(frames, register=register)
    for plane, other in zip(
        (image.data, image.variance, image.dq), (again.data, again.variance, again.dq), strict=True
    ):
        assert np.array_equal(plane, other)
    assert output.ngood is not None and same.ngood is not None
    assert np.array_equal(output.ngood, same.ngood)


def test_stacking_does_not_change_its_inputs() -> None:
    frames = [frame(scene(drift(i)) + 100, i) for i in range(3)]
    saved = [
        tuple(plane.copy() for plane in (pixels(product).data, pixels(product).variance, pixels(product).dq))
        for product in frames
    ]
    stack(frames)
    for product, before in zip(frames, saved, strict=True):
        for plane, kept in zip(
            (pixels(product).data, pixels(product).variance, pixels(product).dq), before, strict=True
        ):
            assert np.array_equal(plane, kept)


def test_unknown_and_impossible_parameters_are_refused() -> None:
    with pytest.raises(ValidationError, match="signma"):
        StackParameters.model_validate({"signma": 3})
    with pytest.raises(ValidationError, match="affine"):
        StackParameters.model_validate({"register": "affin"})
    with pytest.raises(ValidationError, match="greater than 0"):
        StackParameters.model_validate({"sigma": 0})


def test_frames_that_are_read_again_give_the_same_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [frame(scene(drift(i)) + 100, i) for i in range(3)]
    kept, _, _ = stack(frames)
    monkeypatch.setattr(placement, "KEPT_BYTES", 0)
    again, _, _ = stack(frames)
    assert np.array_equal(kept.data, again.data)
    assert np.array_equal(kept.variance, again.variance)
    assert np.array_equal(kept.dq, again.dq)


@pytest.mark.parametrize("register", ["none", "shift", "affine"])
def test_number_of_threads_does_not_matter(register: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [frame(scene(drift(i)) + 100, i) for i in range(4)]
    stacks = []
    for number in (1, 2, 5):
        monkeypatch.setattr(threads, "cores", lambda number=number: number)
        stacks.append(stack(frames, register=register)[0])
    for repeated in stacks[1:]:
        assert np.array_equal(repeated.data, stacks[0].data)
        assert np.array_equal(repeated.variance, stacks[0].variance)
        assert np.array_equal(repeated.dq, stacks[0].dq)
