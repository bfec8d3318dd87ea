"""The compiled kernel of combining against plain arithmetic in double precision."""

from dataclasses import replace

import numpy as np
import pytest
from tests.recipes.combine.oracle_combine import average_pixel

from ccdflow.recipes.combine.average import Combination, combine, run_kernel
from ccdflow.recipes.combine.clip import ClipRule, FrameNoise
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.strips import checked_frames

SHAPE = 5, 61
RULES = [
    ClipRule("none"),
    ClipRule("minmax"),
    ClipRule("sigma", 2.0),
    ClipRule("mad", 3.0),
    ClipRule("mad", 2.5, floor=0.9),
    ClipRule("variance", 3.0),
    ClipRule("variance", 2.0, relative_noise=0.02),
    ClipRule("variance", 2.5, iterations=1),
]


def frames_of(n, seed=0):
    """Frames with cosmic rays, bad, saturated, infinite and missing pixels, constant and all-masked ones."""
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 5, (n, *SHAPE)).astype(np.float32)
    values[rng.random(values.shape) < 0.05] += 80
    variance = rng.uniform(20, 30, values.shape).astype(np.float32)
    shared = rng.uniform(0, 3, values.shape).astype(np.float32)
    dq = np.zeros(values.shape, np.uint16)
    bits = [DQ.BAD_PIXEL, DQ.SATURATED, DQ.NONLINEAR, DQ.NO_DATA, DQ.HOT]
    hit = rng.random(values.shape) < 0.05
    dq[hit] = rng.choice(np.array(bits, np.uint16), hit.sum())
    for garbage in (np.nan, np.inf, -np.inf):
        values[rng.random(values.shape) < 0.003] = garbage
        variance[rng.random(values.shape) < 0.003] = garbage
        shared[rng.random(values.shape) < 0.003] = abs(garbage)
    bad = (dq == DQ.BAD_PIXEL) & (rng.random(values.shape) < 0.5)
    values[bad], variance[bad] = 1e38, -1e38
    values[:, 0, :9] = 77.7  # constant
    values[:, 1, :9] = 65535
    dq[:, 1, :9] = DQ.SATURATED  # nothing good, but something to see
    dq[:, 2, :9] = DQ.NO_DATA
    values[:, 3, :9] = np.nan
    return values, variance, shared, dq


def combined(n, rule, *, median, identities, seed=0, **options):
    values, variance, shared, dq = frames_of(n, seed)
    scales = np.linspace(0.8, 1.3, n).astype(np.float32)
    weights = np.linspace(1.0, 2.0, n).astype(np.float32)
    images = [Image(*planes, "electron") for planes in zip(values, variance, dq, strict=True)]
    masters = [Image(plane, plane, dq[0], "electron2") for plane in shared]
    calibrations = [(one, master if one else None) for one, master in zip(identities, masters, strict=True)]
    frames = checked_frames(images, scales, weights, calibrations)
    planes, counts = run_kernel(frames, rule, median=median, **options)
    with np.errstate(invalid="ignore", over="ignore"):
        squared = (scales**2)[:, None, None]
        given = values * scales[:, None, None], variance * squared, shared * squared, dq, weights
    return planes, counts, given


@pytest.mark.parametrize("median", [False, True], ids=["mean", "median"])
@pytest.mark.parametrize(
    ("rule", "grow"),
    [(rule, False) for rule in RULES] + [(rule, True) for rule in RULES if rule.by_noise],
    ids=lambda value: (
        f"{value.clip}-{value.sigma}-{value.floor}" if isinstance(value, ClipRule) else str(value)
    ),
)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 10, 31])
def test_every_pixel_is_what_plain_arithmetic_gives(n, rule, median, grow):
    check_every_pixel(n, rule, median, grow)


@pytest.mark.parametrize("rule", [RULES[2], RULES[4], RULES[5]], ids=lambda rule: rule.clip)
def test_every_pixel_of_very_many_frames_too(rule):
    check_every_pixel(200, rule, median=False, grow=False)


def check_every_pixel(n, rule, median, grow):
    """Hold every pixel of combined frames against plain arithmetic."""
    noise = FrameNoise(
        ratios=tuple(np.linspace(0.7, 1.4, n).tolist()),
        slopes=tuple(np.linspace(0.1, 0.04, n).tolist()) if grow else (),
        level=90.0,
        typical=25.0,
        shares=grow,
    )
    own = replace(rule, noise=noise)
    identities = ["a"] * n if grow else [["", "a", "a", "b"][i % 4] for i in range(n)]
    planes, _, (values, variance, shared, dq, weights) = combined(
        n, own, median=median, identities=identities
    )
    nothing = np.zeros(SHAPE, np.float32)
    found = [(plane if plane.size else nothing).ravel() for plane in planes]
    for x in range(values[0].size):
        at = np.unravel_index(x, SHAPE)
        one = average_pixel(
            *(plane[(slice(None), *at)].astype(np.float64) for plane in (values, variance, shared)),
            dq[(slice(None), *at)], weights.astype(np.float64), identities, own, median,
        )  # fmt: skip
        assert (found[3][x], found[4][x]) == (one.dq, one.ngood)
        np.testing.assert_allclose(
            [found[0][x], found[1][x], found[2][x]],
            [one.data, one.variance, one.shared],
            rtol=2e-5,
            atol=1e-4,
        )


@pytest.mark.parametrize("n", [3, 10, 70])
def test_neither_threads_nor_strips_change_a_bit_of_the_result(n):
    rule = ClipRule("variance", 2.5)
    identities = ["a"] * n
    whole, counts, _ = combined(n, rule, median=False, identities=identities, threads=1, strip_rows=5)
    for threads, rows in ((2, 1), (3, 2), (1, 1)):
        planes, counted, _ = combined(
            n, rule, median=False, identities=identities, threads=threads, strip_rows=rows
        )
        assert counted == counts
        for one, other in zip(planes, whole, strict=True):
            np.testing.assert_array_equal(one, other)


def test_usable_and_rejected_values_are_counted():
    planes, (usable, rejected), (values, variance, _, dq, _) = combined(
        10, ClipRule("variance", 3.0), median=False, identities=[""] * 10
    )
    good = np.isfinite(values) & np.isfinite(variance) & ((dq & ~np.uint16(DQ.NONLINEAR)) == 0)
    assert usable == good.sum()
    assert rejected == usable - planes[4].sum()
    assert rejected > 0


def test_two_hundred_frames_average_down_and_lose_their_cosmic_rays():
    rng = np.random.default_rng(7)
    frames = []
    for _ in range(200):
        data = rng.normal(50, 4, (40, 50)).astype(np.float32)
        data[rng.random(data.shape) < 0.01] += 1000
        frames.append(Image(data, np.full_like(data, 16), np.zeros(data.shape, np.uint16), "electron"))
    made = combine(frames, Combination())
    pull = (made.image.data - 50) / np.sqrt(made.image.variance)
    assert pull.mean() == pytest.approx(0, abs=5 / np.sqrt(2000))
    assert pull.std() == pytest.approx(1, abs=0.06)
