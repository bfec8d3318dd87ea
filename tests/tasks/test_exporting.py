"""Products as other programs take them: what stands in pixels without a value, which maps, cards and options."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.archive.fits.productfile import Origin, write_product
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Output
from ccdflow.tasks.exporting.images import sky_variance
from ccdflow.tasks.exporting.writing import PEERS, Source, write_for

SHAPE = 20, 24
WORLD = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 150.0,
    "CRVAL2": 2.0,
    "CRPIX1": 1.0,
    "CRPIX2": 1.0,
}
SATURATED, HOLE, USABLE = (3, 4), (5, 6), (7, 8)
"""A pixel at saturation, one without data, and one that is flagged and may be used."""


def product(
    folder: Path,
    name: str = "science-M 13-r-60s.fits",
    level: float = 200.0,
    *,
    variance: float = 264.0,
    bits: int = DQ.NO_DATA,
    unit: str = "electron",
    **header: object,
) -> Path:
    folder.mkdir(exist_ok=True)
    data = np.full(SHAPE, level, np.float32)
    data[SATURATED], data[HOLE], data[0, 0] = 60_000, np.nan, -3
    dq = np.zeros(SHAPE, np.uint16)
    dq[SATURATED], dq[HOLE], dq[USABLE] = DQ.SATURATED, bits, DQ.NONLINEAR
    image = Image(data, np.full(SHAPE, variance, np.float32), dq, unit)
    cards = {"EXPTIME": 60.0, "MJD-OBS": 61000.5, **WORLD, **header}
    told = {"GAIN": (1.0, ""), "SATURATE": (59_000.0, "")}
    with (folder / name).open("wb") as stream:
        write_product(stream, Output(image, cards=told), Origin("0" * 64, "science", "1", header=cards))
    return folder / name


def written(tmp_path: Path, peer: str, *paths: Path) -> Path:
    sources = [Source(f"p{n}", path, "science", "M 13", "r") for n, path in enumerate(paths, 1)]
    told: list[str] = []
    exported = write_for(sources, tmp_path / peer, peer, told.append)
    assert len(exported) == len(paths) and not told
    return tmp_path / peer


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    return product(tmp_path / "store")


def test_source_extractor_gets_weights_flags_and_no_gain(tmp_path: Path, frame: Path) -> None:
    folder = written(tmp_path, "sextractor", frame)
    names = sorted(path.name for path in folder.glob("*.fits"))
    assert names == [f"science-M_13-r-60s{end}.fits" for end in ("", ".flag", ".weight")]
    data, flags, weights = (fits.getdata(folder / name) for name in names)
    header = fits.getheader(folder / names[0])
    assert "GAIN" not in header and header["SATURATE"] == 59_000 and header["EXPTIME"] == 60
    assert np.isfinite(data).all() and data[0, 0] == -3
    assert (weights[HOLE], flags[HOLE], flags[SATURATED], flags[USABLE]) == (0, 16, 4, 2)
    # A saturated core keeps its weight: without, it is filled up and not flagged.
    assert weights[SATURATED] == weights[9, 9] == pytest.approx(1 / 264)
    options = (folder / "run.sh").read_text()
    assert "-RESCALE_WEIGHTS N" in options and "-GAIN_KEY NONE" in options


def test_swarp_finds_its_weights_and_is_told_gain_and_saturation(tmp_path: Path, frame: Path) -> None:
    bare = product(tmp_path / "store", "bare.fits")
    folder = written(tmp_path, "swarp", frame, bare)
    weights = fits.getdata(folder / "bare.weight.fits")
    assert weights[SATURATED] == weights[HOLE] == 0 < weights[9, 9]
    assert {"GAIN", "SATURATE", "EXPTIME"} <= set(fits.getheader(folder / "bare.fits"))
    script = (folder / "run.sh").read_text()
    assert "-WEIGHT_TYPE MAP_WEIGHT" in script and "-RESAMPLE N" in script
    moved = product(tmp_path / "store", "moved.fits", CRPIX1=7.0)
    assert "-RESAMPLE N" not in (written(tmp_path, "swarp", frame, moved) / "run.sh").read_text()


def test_names_are_such_that_no_shell_or_program_takes_them_for_more(tmp_path: Path) -> None:
    odd = product(tmp_path / "store", "-o a 'b' $c;d.fits")
    folder = written(tmp_path, "swarp", odd)
    assert sorted(path.name for path in folder.glob("*.fits")) == ["o_a_b_c_d.fits", "o_a_b_c_d.weight.fits"]


def test_without_coordinates_swarp_is_not_run(tmp_path: Path) -> None:
    lost = product(tmp_path / "store", "lost.fits", CTYPE1="")
    script = (written(tmp_path, "swarp", lost) / "run.sh").read_text()
    assert "# lost has no coordinates" in script and "exit 1" in script


def test_siril_gets_a_sequence_between_0_and_1_divided_by_one_power_of_2(tmp_path: Path, frame: Path) -> None:
    bright = product(tmp_path / "store", "bright.fits", level=150_000.0)
    folder = written(tmp_path, "siril", frame, bright)
    first, second = sorted(folder.glob("*.fits"))
    assert first.name == "science-M_13-r-60s-24x20_00001.fits"
    scale = 262144.0
    for path, level in ((first, 200), (second, 150_000)):
        data, header = fits.getdata(path, header=True)
        assert header["CCDSCALE"] == scale and data.max() < 1
        assert (data[9, 9] * scale, data[SATURATED] * scale, data[HOLE]) == (level, 60_000, 0)
    assert "stack r_science-M_13-r-60s-24x20_ rej 3 3" in (folder / "ccdflow.ssf").read_text()


def test_frames_of_an_earlier_export_are_in_no_sequence_of_siril(tmp_path: Path) -> None:
    frames = [product(tmp_path / "store", f"{n}.fits") for n in range(4)]
    folder = written(tmp_path, "siril", *frames)
    foreign = folder / "science-M_13-r-60s-24x20_00009.fits"
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(foreign)
    written(tmp_path, "siril", *frames[:2])
    assert sorted(path.name[-10:] for path in folder.glob("*.fits")) == [
        "00001.fits",
        "00002.fits",
        "00009.fits",
    ]
    assert "rm -f science-M_13-r-60s-24x20_.seq" in (folder / "run.sh").read_text()


@pytest.mark.parametrize(
    ("name", "changes"),
    [("EXPTIME", {"EXPTIME": 120.0}), ("camera", {"camera": "C2"}), ("unit", {"unit": "electron / s"})],
)
def test_frames_that_differ_are_not_combined(
    tmp_path: Path, frame: Path, name: str, changes: dict[str, Any]
) -> None:
    place = {key: changes.pop(key) for key in ("camera",) if key in changes}
    other = product(tmp_path / "store", "other.fits", **changes)
    sources = [
        Source("p1", frame, "science", "M 13", "r", "C1"),
        Source("p2", other, "science", "M 13", "r", **({"camera": "C1"} | place)),
    ]
    write_for(sources, tmp_path / "out", "swarp")
    assert (tmp_path / "out" / "run.sh").read_text().count("-IMAGEOUT_NAME") == 2, name


def test_the_name_of_siril_s_stack_says_by_what_it_was_divided(tmp_path: Path, frame: Path) -> None:
    other = product(tmp_path / "store", "other.fits")
    folder = written(tmp_path, "siril", frame, other)
    assert "-out=stack_science-M_13-r-60s-24x20_times65536" in (folder / "ccdflow.ssf").read_text()
    assert "its data times 65536 are in the unit" in (folder / "run.sh").read_text()


def test_one_frame_alone_is_no_stack_and_no_success(tmp_path: Path, frame: Path) -> None:
    script = written(tmp_path, "siril", frame) / "run.sh"
    (tmp_path / "siril-cli").write_text("#!/bin/sh\n")
    (tmp_path / "siril-cli").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    ended = subprocess.run(["/bin/sh", script], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "one frame alone is not stacked" in ended.stderr


def test_an_export_for_another_program_is_told(tmp_path: Path, frame: Path) -> None:
    told: list[str] = []
    for peer in ("siril", "swarp", "swarp"):
        write_for([Source("p1", frame, "science")], tmp_path / "out", peer, told.append)
    assert len(told) == 1 and "holds an export for siril: its run.sh is replaced by that for swarp" in told[0]


def test_masters_are_combined_with_nothing(tmp_path: Path, frame: Path) -> None:
    write_for([Source(f"p{n}", frame, "master_bias") for n in (1, 2)], tmp_path / "out", "siril")
    assert "register" not in (tmp_path / "out" / "ccdflow.ssf").read_text()


TURNED = {"CDELT1": -1e-3, "CDELT2": 1e-3, "PC1_1": 0.0, "PC1_2": -1.0, "PC2_1": 1.0, "PC2_2": 0.0}


def test_frames_that_are_turned_are_resampled_or_left_out(tmp_path: Path) -> None:
    straight = product(tmp_path / "store", "straight.fits", CDELT1=-1e-3, CDELT2=1e-3)
    shifted = product(tmp_path / "store", "shifted.fits", CDELT1=-1e-3, CDELT2=1e-3, CRPIX1=4.0)
    turned = product(tmp_path / "store", "turned.fits", **TURNED)
    assert "-RESAMPLE N" not in (written(tmp_path, "swarp", straight, turned) / "run.sh").read_text()
    folder = written(tmp_path, "iraf", straight, shifted, turned)
    assert "left out, since they are turned or scaled: turned" in (folder / "run.sh").read_text()
    (listed,) = folder.glob("*.list")
    assert listed.read_text() == "straight.fits\nshifted.fits\n"
    assert 'offsets="wcs"' in (folder / "ccdflow.cl").read_text()


def test_names_are_no_longer_than_iraf_s_card_of_the_mask(tmp_path: Path) -> None:
    long = [product(tmp_path / "store", f"{'n' * 80}{n}.fits") for n in range(2)]
    folder = written(tmp_path, "iraf", *long)
    masks = {fits.getheader(path)["BPM"] for path in folder.glob("n*.fits") if ".bpm" not in path.name}
    assert len(masks) == 2 and all((folder / mask).exists() and len(mask) <= 60 for mask in masks)


@pytest.mark.parametrize("peer", ["iraf", "plain", "sextractor", "swarp"])
def test_what_is_no_number_is_flagged_whatever_its_bits_say(tmp_path: Path, peer: str) -> None:
    path = product(tmp_path / "store", "odd.fits", bits=0)
    folder = written(tmp_path, peer, path)
    ending, flagged = {
        "iraf": ("bpm", 16),
        "plain": ("mask", 1),
        "sextractor": ("flag", 16),
        "swarp": ("weight", 0),
    }[peer]
    assert fits.getdata(folder / f"odd.{ending}.fits")[HOLE] == flagged


def test_a_product_without_noise_is_told_and_has_weights_all_the_same(tmp_path: Path) -> None:
    path = product(tmp_path / "store", "bare.fits", variance=0.0)
    told: list[str] = []
    write_for([Source("p1", path)], tmp_path / "out", "sextractor", told.append)
    assert told == ["p1 states no noise: all its weights are 1, and errors of sextractor mean nothing"]
    weights = fits.getdata(tmp_path / "out" / "bare.weight.fits")
    assert weights[9, 9] == 1 and weights[HOLE] == 0


def test_iraf_gets_a_mask_and_no_checksum(tmp_path: Path, frame: Path) -> None:
    folder = written(tmp_path, "iraf", frame)
    data, header = fits.getdata(folder / "science-M_13-r-60s.fits", header=True)
    mask = fits.getdata(folder / header["BPM"])
    assert "CHECKSUM" not in header and np.isfinite(data).all()
    assert (mask[HOLE], mask[SATURATED], mask[USABLE], mask.dtype) == (16, 4, 0, np.dtype(">i4"))


def test_gnuastro_gets_nan_and_the_variance_of_the_sky(tmp_path: Path, frame: Path) -> None:
    folder = written(tmp_path, "gnuastro", frame)
    with fits.open(folder / "science-M_13-r-60s.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "VAR"] and hdus[0].data is None
        assert np.isnan(hdus["SCI"].data[HOLE]) and hdus["VAR"].data[9, 9] == pytest.approx(264)


def test_the_variance_of_the_sky_lacks_the_photons_of_stars() -> None:
    data, variance = np.full(SHAPE, 200, np.float32), np.full(SHAPE, 264, np.float32)
    data[4, 4], variance[4, 4] = 10_200, 10_264
    image = Image(data, variance, np.zeros(SHAPE, np.uint16), "electron")
    np.testing.assert_allclose(sky_variance(image, 1.0), 264)


def test_plain_files_have_one_image_each(tmp_path: Path, frame: Path) -> None:
    folder = written(tmp_path, "plain", frame)
    parts = {end: fits.getdata(folder / f"science-M_13-r-60s{end}.fits") for end in ("", ".std", ".mask")}
    assert parts[".std"][9, 9] == np.float32(np.sqrt(264)) and parts[".mask"].sum() == 2
    assert parts[".mask"].dtype == np.uint8


@pytest.mark.parametrize("peer", PEERS)
def test_every_script_is_shell_that_says_what_is_not_installed(
    tmp_path: Path, frame: Path, peer: str
) -> None:
    folder = written(tmp_path, peer, frame)
    script = folder / "run.sh"
    subprocess.run(["/bin/sh", "-n", str(script)], check=True)
    ended = subprocess.run(
        ["/bin/sh", str(script)], env={"PATH": ""}, capture_output=True, text=True, cwd="/", check=False
    )
    assert ended.returncode != 0
    for path in folder.glob("*[0-9s].fits"):
        assert fits.getheader(path, 1 if peer == "gnuastro" else 0)["EXPFOR"] == peer


def test_twice_changes_nothing_and_what_is_no_image_is_told(tmp_path: Path, frame: Path) -> None:
    folder = written(tmp_path, "plain", frame)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    written(tmp_path, "plain", frame)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    table = tmp_path / "gain.fits"
    with table.open("wb") as stream:
        write_product(stream, Output(None, table={"gain": np.ones(2)}), Origin("1" * 64, "gain", "1"))
    told: list[str] = []
    gone = Source("p8", tmp_path / "gone.fits")
    assert write_for([Source("p7", table), gone], tmp_path / "none", "plain", told.append) == []
    assert told[0] == "p7 is left out: gain.fits holds a table, no image" and told[1].startswith(
        "p8 is left out: "
    )
    assert not (tmp_path / "none").exists()
