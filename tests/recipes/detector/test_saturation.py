"""Saturation where no header states it: by the converter's bits, or by the numbers at which pixels pile up."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import InputProduct
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, RawFrame, Section
from ccdflow.recipes.detector.saturation import saturation_cards, with_saturation
from ccdflow.recipes.flat import RECIPE as FLAT
from ccdflow.recipes.flat import FlatParameters
from ccdflow.recipes.science import RECIPE as SCIENCE
from ccdflow.recipes.science import ScienceParameters

SHAPE = (64, 80)
BIAS = 1000.0
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
VIGNETTING = 1 - 0.3 * ((Y - 32) ** 2 + (X - 40) ** 2) / (32**2 + 40**2)


def frame(counts: Any, *, dtype: Any = np.uint16, **known: Any) -> RawFrame:
    whole = Section.whole(SHAPE)
    amplifier = Amplifier(whole, whole, gain=1.0, read_noise=5.0, **known)
    return RawFrame(np.asarray(counts).astype(dtype), Detector(SHAPE, (amplifier,)), 1.0, "f.fits")


def light(level: Any, *, top: float = 65535, step: int = 1, seed: int = 1) -> Any:
    """Bias, photons and read noise of a camera that ends at `top` and knows multiples of `step` alone."""
    rng = np.random.default_rng(seed)
    counts = BIAS + rng.poisson(np.broadcast_to(level, SHAPE)) + rng.normal(0, 5, SHAPE)
    return np.minimum(np.rint(counts / step) * step, top)


def star(counts: Any, top: float, size: int = 6) -> Any:
    counts = counts.copy()
    counts[40 : 40 + size, 50 : 50 + size] = top
    return counts


def shown(*frames: RawFrame) -> tuple[float, str]:
    first = with_saturation(frames)[0][0].detector.amplifiers[0]
    return first.saturation, first.saturation_from


@pytest.mark.parametrize(
    ("top", "step"),
    [
        (65520, 16),
        (65532, 4),
        (65504, 32),
        (32767, 1),
        (16383, 1),
        (4095, 1),
        (65535, 1),
        (52341, 1),
        (64535, 1),
    ],
)
def test_the_plateau_of_a_star_tells_the_top(top: int, step: int) -> None:
    counts = star(light(300 * VIGNETTING, step=step), top)
    assert shown(frame(counts)) == (top, "pixels")


@pytest.mark.parametrize(
    ("top", "step"), [(65520, 16), (65532, 4), (65535, 1), (32767, 1), (16383, 1), (4095, 1), (52341, 1)]
)
@pytest.mark.parametrize("times", [2.0, 1.0])
def test_a_burnt_flat_is_left_out_at_any_top(top: int, step: int, times: float) -> None:
    levels = [times * top, 0.5 * top, 0.4 * top, 0.3 * top]
    flats = [
        replace(frame(light(level * VIGNETTING, top=top, step=step, seed=n)), name=f"f{n}.fits")
        for n, level in enumerate(levels)
    ]
    nothing = np.zeros(SHAPE, np.float32)
    bias = Image(nothing + np.float32(BIAS), nothing, np.zeros(SHAPE, np.uint16), "electron")
    result = FLAT.run({"main": flats, "bias": [InputProduct(bias)]}, FlatParameters(min_snr=10))
    (left,) = result.left_out
    assert left.name == "f0.fits" and f"saturated (from {top} adu)" in left.reason
    image = result.outputs["master_flat"].image
    assert image is not None
    corner, centre = image.data[:8, :8].mean(), image.data[28:36, 36:44].mean()
    true = VIGNETTING[:8, :8].mean() / VIGNETTING[28:36, 36:44].mean()
    assert corner / centre == pytest.approx(true, rel=0.02)


def test_a_header_goes_first_unless_it_says_no_more_than_16_bits() -> None:
    counts = star(light(300.0), 32767)
    stated = frame(counts, saturation=30000.0, saturation_from="header")
    assert shown(stated) == (30000.0, "header")
    assert shown(frame(counts, saturation=65535.0, saturation_from="header")) == (32767, "pixels")
    assert shown(frame(light(300.0), saturation=65535.0, saturation_from="header")) == (65535, "header")


def test_bits_of_the_converter_tell_the_top_of_plain_and_scaled_numbers() -> None:
    assert shown(frame(light(300.0), bits=14)) == (16383, "bits")
    assert shown(frame(light(300.0, step=4), bits=14)) == (65532, "bits")
    assert shown(frame(light(30000.0, step=4), bits=14)) == (65532, "bits")
    assert shown(frame(light(300.0), bits=16)) == (65535, "bits")
    # 16 bits are those of the file: a camera of 14 whose program states them still ends where its numbers do.
    assert shown(frame(star(light(300.0, step=4), 65532), bits=16)) == (65532, "pixels")
    assert shown(frame(star(light(300.0), 16383), bits=16)) == (16383, "pixels")
    # Numbers beyond what the bits allow: the card speaks of something else.
    assert shown(frame(star(light(300.0), 52341), bits=12)) == (52341, "pixels")


def test_no_file_holds_more_than_its_numbers_can() -> None:
    dim = light(20.0, top=255) - BIAS + 20
    assert shown(frame(dim, dtype=np.uint8)) == (255, "assumed")
    assert shown(frame(star(dim, 255), dtype=np.uint8)) == (255, "pixels")
    assert shown(frame(star(dim, 255), dtype=np.uint8, bits=12)) == (255, "bits")
    assert shown(frame(light(300.0), dtype=np.int16)) == (32767, "assumed")
    electrons = {"saturation": 98000.0, "saturation_from": "header"}
    assert shown(frame(light(300.0), **electrons)) == (65535, "assumed")
    assert shown(frame(light(300.0), dtype=np.int32, **electrons)) == (98000, "header")


def test_sums_of_readouts_end_where_pixels_pile_up() -> None:
    summed = star(light(3000.0, top=300000), 262140)
    assert shown(frame(summed, dtype=np.int32)) == (262140, "pixels")
    assert shown(frame(np.where(summed > 262000, 200123 + X, summed), dtype=np.int32)) == (262143, "assumed")


def test_a_flat_of_nothing_is_dark_and_not_saturated() -> None:
    assert (
        with_saturation([frame(np.zeros(SHAPE))], lit=True)[0][0].detector.amplifiers[0].saturation == 65535
    )


@pytest.mark.parametrize("step", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("level", [0.0, 30.0, 300.0, 3000.0, 20000.0])
def test_a_frame_without_a_saturated_pixel_has_no_pile(level: float, step: int) -> None:
    counts = light(level, step=step, seed=int(level) + step)
    top, _ = shown(frame(counts))
    assert top == 65536 - step
    assert counts.max() < top


def test_a_coarse_converter_makes_no_pile_of_the_sky() -> None:
    # All of a dark sky in two numbers, the higher one the more frequent.
    counts = np.where(np.random.default_rng(1).random(SHAPE) < 0.05, 1003, 1005)
    assert shown(frame(counts)) == (65535, "assumed")
    assert shown(frame(np.full(SHAPE, 1005))) == (65535, "assumed")
    # Of a flat the same numbers say that something has cut it off: light has noise.
    (flat,), _ = with_saturation([frame(np.full(SHAPE, 52341))], lit=True)
    assert flat.detector.amplifiers[0].saturation == 52341


def test_a_number_that_another_frame_exceeds_is_no_top() -> None:
    pile = frame(star(light(300.0), 32767))
    other = frame(star(light(300.0), 50001, size=1))
    assert shown(pile, other) == (65535, "assumed")
    assert shown(pile, frame(light(300.0))) == (32767, "pixels")


def test_one_frame_that_shows_it_tells_it_of_all() -> None:
    frames, said = with_saturation([frame(light(3000.0)), frame(star(light(300.0), 16383))])
    assert [f.detector.amplifiers[0].saturation for f in frames] == [16383, 16383]
    assert [doubt.text for doubt in said] == [
        "pixels pile up at 16383 adu: taken as saturation, which no header states"
    ]


def test_each_amplifier_has_its_own_top() -> None:
    left, right = Section(0, 64, 0, 40), Section(0, 64, 40, 80)
    amplifiers = tuple(Amplifier(half, half, name=name) for half, name in ((left, "L"), (right, "R")))
    counts = light(300.0)
    counts[10:20, 10:20], counts[10:20, 50:60] = 60001, 58003
    raw = RawFrame(counts.astype(np.uint16), Detector(SHAPE, amplifiers))
    (resolved,), said = with_saturation([raw])
    assert [amplifier.saturation for amplifier in resolved.detector.amplifiers] == [60001, 58003]
    assert "amplifier L pile up at 60001 adu" in said[0].text


def test_sums_of_several_readouts_do_not_end_at_16_bits() -> None:
    counts = light(300.0)
    counts[40, 50] = 200_001
    assert shown(frame(counts, dtype=np.int32)) == (262143, "assumed")


def test_reals_with_nan_are_looked_at_without_them() -> None:
    counts = star(light(300.0), 32767)
    counts[0, 0] = np.nan
    assert shown(frame(counts, dtype=np.float32)) == (32767, "pixels")
    assert shown(frame(np.full(SHAPE, np.nan), dtype=np.float32)) == (65535, "assumed")


@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.fits.fz"])
@pytest.mark.parametrize(("top", "dtype"), [(16383, np.uint16), (16383, np.int16), (65520, np.uint16)])
def test_files_show_what_arrays_show(tmp_path: Path, name: str, top: int, dtype: Any) -> None:
    counts = star(light(300.0, step=16 if top == 65520 else 1), top).astype(dtype)
    path = tmp_path / name
    plain = fits.PrimaryHDU(counts)
    plain.writeto(path) if "fz" not in name else fits.HDUList(
        [fits.PrimaryHDU(), fits.CompImageHDU(counts)]
    ).writeto(path)
    raw = replace(frame(counts), pixels=open_raw(path).pixels)
    assert shown(raw) == (top, "pixels")
    (looked,), _ = with_saturation([raw])
    np.testing.assert_array_equal(np.asarray(looked.pixels), counts)


def test_the_calibrated_frame_flags_the_plateau_and_says_who_knows_the_level() -> None:
    counts = star(light(300 * VIGNETTING, step=16), 65520)
    output = SCIENCE.run({"main": [frame(counts)]}, ScienceParameters()).outputs["science"]
    assert output.image is not None
    assert np.all(output.image.dq[40:46, 50:56] & 4) and not (output.image.dq[:40] & 4).any()
    assert (output.cards["SATSRC"][0], output.cards["SATUR01"][0]) == ("pixels", 65520)


def test_pixels_that_are_looked_at_do_not_change() -> None:
    raw = frame(star(light(300.0), 32767))
    before = np.array(raw.pixels)
    with_saturation([raw])
    np.testing.assert_array_equal(raw.pixels, before)
    assert raw.detector.amplifiers[0].saturation == 65535


def test_the_least_trusted_amplifier_names_the_source() -> None:
    whole = Section.whole(SHAPE)
    known = Amplifier(whole, whole, saturation=6e4, saturation_from="header")
    cards = saturation_cards(Detector(SHAPE, (known, replace(known, saturation_from="pixels"))))
    assert cards["SATSRC"][0] == "pixels" and cards["SATUR02"][0] == 6e4
