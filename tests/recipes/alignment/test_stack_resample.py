"""Pixels on another grid: values, variance and flags stay true, and only what is needed is read."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.recipes.alignment.oracle_resample import resampled

from ccdflow.recipes.alignment.resample import Interpolation, Offset, Resampled, Shifted, align, correlation
from ccdflow.recipes.alignment.transform import Transform
from ccdflow.recipes.core.dq import DQ, excluded
from ccdflow.recipes.core.image import Image

SHAPE = (120, 140)
KERNELS: list[Interpolation] = ["bilinear", "bicubic", "lanczos3"]
HALF = Transform(0.5, 0.5)
TILTED = Transform(3.3, -2.6, 0.9995, -0.012, 0.012, 0.9995)


@dataclass
class Recorded:
    """A source that remembers which rows were asked for."""

    image: Image
    asked: list[tuple[int, int]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.shape

    @property
    def unit(self) -> str:
        return self.image.unit

    def rows(self, rows: slice) -> Image:
        self.asked.append((rows.start, rows.stop))
        return self.image.rows(rows)


def image(data: NDArray[np.floating], variance: float = 1.0, dq: NDArray[np.uint16] | None = None) -> Image:
    flags = np.zeros(data.shape, np.uint16) if dq is None else dq
    return Image(data.astype(np.float32), np.full(data.shape, variance, np.float32), flags, "electron")


def noise(seed: int = 1, sigma: float = 1.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, sigma, SHAPE)


def whole(source: Shifted | Resampled | Offset) -> Image:
    return source.rows(slice(0, source.shape[0]))


@pytest.mark.parametrize(("dx", "dy"), [(3, -2), (-7, 5), (0, 11), (139, 0)])
def test_whole_shift_moves_values_variance_and_flags_untouched(dx: int, dy: int) -> None:
    rng = np.random.default_rng(2)
    dq = rng.choice(np.array([0, 1, 2], np.uint16), SHAPE)
    start = Image(noise().astype(np.float32), rng.random(SHAPE).astype(np.float32), dq, "electron")
    moved = whole(Shifted(start, dx, dy, SHAPE))
    for y in range(SHAPE[0]):
        for x in range(0, SHAPE[1], 7):
            inside = 0 <= y + dy < SHAPE[0] and 0 <= x + dx < SHAPE[1]
            if inside:
                assert moved.data[y, x] == start.data[y + dy, x + dx]
                assert moved.variance[y, x] == start.variance[y + dy, x + dx]
                assert moved.dq[y, x] == start.dq[y + dy, x + dx]
            else:
                assert (moved.data[y, x], moved.dq[y, x]) == (0, DQ.NO_DATA)


def test_shift_beyond_the_frame_leaves_nothing() -> None:
    assert (whole(Shifted(image(noise()), 500, 0, SHAPE)).dq == DQ.NO_DATA).all()
    assert (whole(Resampled(image(noise()), Transform(0.5, -500.5), SHAPE, "bicubic")).dq == DQ.NO_DATA).all()


def test_no_shift_is_the_source_itself() -> None:
    start = image(noise())
    assert align(start, Transform(), SHAPE, "bicubic") is start


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("transform", [HALF, TILTED])
def test_constant_stays_constant(kernel: Interpolation, transform: Transform) -> None:
    moved = whole(Resampled(image(np.full(SHAPE, 1000.0)), transform, SHAPE, kernel))
    good = moved.dq == 0
    assert good.mean() > 0.9
    assert moved.data[good] == pytest.approx(1000.0 * transform.area, rel=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_resampling_by_whole_pixels_is_a_shift(kernel: Interpolation) -> None:
    start = image(noise())
    exact = whole(Shifted(start, 4, -3, SHAPE))
    moved = whole(Resampled(start, Transform(4.0, -3.0), SHAPE, kernel))
    good = moved.dq == 0
    assert (good == (exact.dq == 0)).all()
    assert moved.data[good] == pytest.approx(exact.data[good], abs=1e-6)
    assert moved.variance[good] == pytest.approx(exact.variance[good])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("transform", [HALF, TILTED, Transform(0.2, -0.7)])
def test_stated_variance_is_the_scatter_of_the_result(kernel: Interpolation, transform: Transform) -> None:
    pulls = []
    for seed in range(20):
        moved = whole(Resampled(image(noise(seed, 3.0), 9.0), transform, SHAPE, kernel))
        good = moved.dq == 0
        pulls.append(moved.data[good] / np.sqrt(moved.variance[good]))
    assert np.concatenate(pulls).std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("kernel", KERNELS)
def test_correlation_says_how_much_noise_a_wide_aperture_has(kernel: Interpolation) -> None:
    turned = Transform(6.0, -6.0, 0.995, -0.1, 0.1, 0.995)
    sums, stated = [], []
    for seed in range(200):
        strip = Resampled(image(noise(seed, 3.0), 9.0), turned, SHAPE, kernel).rows(slice(20, 100))
        sums.append(float(strip.data[:, 20:120].sum(dtype=np.float64)))
        stated.append(float(strip.variance[:, 20:120].sum(dtype=np.float64)))
    expected = correlation(turned, kernel, SHAPE)
    assert np.std(sums) / np.sqrt(np.mean(stated)) == pytest.approx(expected, rel=0.12)
    assert correlation(Transform(3.0, 2.0), kernel, SHAPE) == 1


def test_correlation_of_bilinear_interpolation_is_one_and_a_half() -> None:
    """The mean over all places of (f² + (1-f)²) is 2/3 along each axis."""
    turned = Transform(6.0, -6.0, 0.995, -0.1, 0.1, 0.995)
    assert correlation(turned, "bilinear", SHAPE) == pytest.approx(1.5, abs=0.02)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("fwhm", [2.5, 4.0])
def test_star_keeps_its_flux_and_lands_where_it_should(kernel: Interpolation, fwhm: float) -> None:
    transform = Transform(3.37, -2.61, 1.003, -0.012, 0.012, 1.003)
    at = np.array([[70.2, 60.7]])
    x, y = transform(at)[0]
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    star = np.exp(-4 * np.log(2) * ((xx - x) ** 2 + (yy - y) ** 2) / fwhm**2)
    star *= 1e4 / star.sum()
    moved = whole(Resampled(image(star), transform, SHAPE, kernel)).data.astype(np.float64)
    assert moved.sum() == pytest.approx(1e4, rel=0.002)
    centroid = np.array([(moved * xx).sum(), (moved * yy).sum()]) / moved.sum()
    # A constant stays constant under Lanczos, but a slope does not quite.
    assert centroid == pytest.approx(at[0], abs=0.03 if kernel == "lanczos3" else 0.005)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("rubbish", [np.nan, np.inf, 1e9])
def test_excluded_pixels_never_enter(kernel: Interpolation, rubbish: float) -> None:
    bad = np.random.default_rng(3).random(SHAPE) < 0.02
    dq = np.where(bad, np.uint16(DQ.BAD_PIXEL), np.uint16(0))
    quiet = whole(Resampled(image(noise(), dq=dq), TILTED, SHAPE, kernel))
    loud = whole(Resampled(image(np.where(bad, rubbish, noise()), dq=dq), TILTED, SHAPE, kernel))
    good = ~excluded(quiet.dq)
    assert 0.7 < good.mean() < 0.95
    assert np.array_equal(good, ~excluded(loud.dq))
    assert np.array_equal(quiet.data[good], loud.data[good])
    assert np.array_equal(quiet.variance[good], loud.variance[good])
    assert np.isfinite(quiet.data).all()


def test_nan_that_nobody_flagged_becomes_no_data() -> None:
    data = noise()
    data[60, 70] = np.nan
    moved = whole(Resampled(image(data), HALF, SHAPE, "bicubic"))
    assert (moved.dq[59:61, 69:71] == DQ.NO_DATA).all()
    assert (excluded(moved.dq[5:115, 5:135])).sum() == 4
    assert np.isfinite(moved.data).all()


def test_bad_pixel_excludes_the_four_around_it_and_marks_the_next_as_interpolated() -> None:
    dq = np.zeros(SHAPE, np.uint16)
    dq[60, 70] = DQ.HOT
    moved = whole(Resampled(image(np.full(SHAPE, 50.0), dq=dq), HALF, SHAPE, "bicubic"))
    inner = moved.dq[59:61, 69:71]
    assert (inner == DQ.HOT).all()
    # Weights of 0.0039 in the corners of the 4 x 4 are below 1 %.
    around = moved.dq[58:62, 68:72]
    assert (around == DQ.INTERPOLATED).sum() == 8
    assert (moved.dq[10:110, 10:130] != 0).sum() == 12
    assert moved.data[58:62, 68:72][around == DQ.INTERPOLATED] == pytest.approx(50.0, rel=1e-5)


def test_flags_that_exclude_nothing_are_handed_on() -> None:
    dq = np.zeros(SHAPE, np.uint16)
    dq[60, 70] = DQ.NONLINEAR
    moved = whole(Resampled(image(noise(), dq=dq), HALF, SHAPE, "bilinear"))
    assert (moved.dq[59:61, 69:71] == DQ.NONLINEAR).all()
    assert (moved.dq == DQ.NONLINEAR).sum() == 4


def test_saturated_star_stays_bright_and_excluded() -> None:
    data = np.full(SHAPE, 100.0)
    data[55:65, 65:75] = 60000
    dq = np.where(data > 50000, np.uint16(DQ.SATURATED), np.uint16(0))
    moved = whole(Resampled(image(data, dq=dq), HALF, SHAPE, "bicubic"))
    assert moved.data[60, 70] == pytest.approx(60000)
    assert excluded(moved.dq)[60, 70]
    good = ~excluded(moved.dq)
    assert moved.data[good] == pytest.approx(100, rel=1e-4)


@pytest.mark.parametrize("transform", [TILTED, Transform(SHAPE[1] - 1.4, 70.3, -0.01, -1.0, 1.0, -0.01)])
def test_height_of_strips_does_not_matter(transform: Transform) -> None:
    dq = np.where(np.random.default_rng(4).random(SHAPE) < 0.01, np.uint16(DQ.HOT), np.uint16(0))
    source = Resampled(image(noise(), dq=dq), transform, SHAPE, "bicubic")
    once = whole(source)
    for height in (1, 7, 50):
        strips = [source.rows(slice(y, min(y + height, SHAPE[0]))) for y in range(0, SHAPE[0], height)]
        assert np.array_equal(np.vstack([strip.data for strip in strips]), once.data)
        assert np.array_equal(np.vstack([strip.variance for strip in strips]), once.variance)
        assert np.array_equal(np.vstack([strip.dq for strip in strips]), once.dq)


def test_only_the_rows_that_are_needed_are_read() -> None:
    recorded = Recorded(image(noise()))
    Resampled(recorded, Transform(0.3, 20.4), SHAPE, "lanczos3").rows(slice(30, 40))
    ((first, last),) = recorded.asked
    assert 40 <= first <= 50 - 2
    assert 60 + 3 <= last <= 70


def test_offset_adds_a_constant_and_nothing_else() -> None:
    start = image(noise())
    moved = whole(Offset(start, -12.5))
    assert moved.data == pytest.approx(start.data - 12.5)
    assert np.array_equal(moved.variance, start.variance)


def test_resampling_does_not_change_the_source() -> None:
    dq = np.where(np.random.default_rng(5).random(SHAPE) < 0.05, np.uint16(DQ.HOT), np.uint16(0))
    start = image(noise(), dq=dq)
    saved = start.data.copy(), start.variance.copy(), start.dq.copy()
    for source in (
        Resampled(start, TILTED, SHAPE, "bicubic"),
        Shifted(start, 1, 2, SHAPE),
        Offset(start, 3.0),
    ):
        whole(source)
    for plane, before in zip((start.data, start.variance, start.dq), saved, strict=True):
        assert np.array_equal(plane, before)


def flagged_field(seed: int) -> Image:
    """Noise on a slope with flags of all kinds, numbers missing, and rubbish where nothing was measured."""
    rng = np.random.default_rng(seed)
    data = (rng.normal(0, 3, SHAPE) + np.arange(SHAPE[1])).astype(np.float32)
    variance = rng.uniform(5, 15, SHAPE).astype(np.float32)
    dq = np.zeros(SHAPE, np.uint16)
    for bit in DQ:
        dq[rng.random(SHAPE) < 0.004] |= np.uint16(bit)
    dq[:, 33] |= np.uint16(DQ.BAD_PIXEL)
    data[rng.random(SHAPE) < 0.003] = np.nan
    variance[rng.random(SHAPE) < 0.003] = np.inf
    return Image(data, variance, dq, "electron")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "transform",
    [
        TILTED,
        Transform(0.31, -0.72),
        Transform(-5.3, 8.2, 1.02, 0.003, -0.002, 0.97),
        Transform(SHAPE[1] + 0.37, SHAPE[0] - 3.21, -1.0, 0.0011, -0.0011, -1.0),
        Transform(SHAPE[1] - 1.41, 0.33, 0.01, -1.0, 1.0, 0.01),
        Transform(300.2, 0.4),
    ],
)
@pytest.mark.parametrize("shape", [SHAPE, (90, 301)])
def test_compiled_interpolation_is_the_plain_one(
    kernel: Interpolation, transform: Transform, shape: tuple[int, int]
) -> None:
    start = flagged_field(6)
    moved = whole(Resampled(start, transform, shape, kernel))
    plain = resampled(start, transform, shape, kernel)
    assert np.mean(moved.dq != plain.dq) < 1e-4
    # Where just half of the weight was measured, rounding decides whether there is a value at all.
    same = (moved.dq == plain.dq) & ((moved.variance == 0) == (plain.variance == 0))
    assert np.mean(same) > 0.999
    assert same[~excluded(plain.dq) & (moved.dq == plain.dq)].all()
    assert moved.data[same] == pytest.approx(plain.data[same], rel=2e-5, abs=2e-4)
    assert moved.variance[same] == pytest.approx(plain.variance[same], rel=2e-5)
    assert moved.data.dtype == moved.variance.dtype == np.float32
    assert moved.dq.dtype == np.uint16


def test_resampling_takes_any_byte_order_and_arrays_with_gaps() -> None:
    start = flagged_field(7)
    wide = np.repeat(start.data.astype(">f4"), 2, axis=1)
    strange = Image(wide[:, ::2], start.variance.astype(">f4"), start.dq.astype(">u2"), "electron")
    one, other = (whole(Resampled(source, TILTED, SHAPE, "bicubic")) for source in (start, strange))
    assert np.array_equal(one.data, other.data)
    assert np.array_equal(one.variance, other.variance)
    assert np.array_equal(one.dq, other.dq)


def test_strips_may_be_asked_for_by_several_threads_at_once() -> None:
    source = Resampled(flagged_field(8), TILTED, SHAPE, "bicubic")
    once = whole(source)
    rows = [slice(y, y + 8) for y in range(0, SHAPE[0], 8)] * 4
    with ThreadPoolExecutor(4) as pool:
        for part, strip in zip(rows, pool.map(source.rows, rows), strict=True):
            assert np.array_equal(strip.data, once.data[part])
            assert np.array_equal(strip.dq, once.dq[part])
