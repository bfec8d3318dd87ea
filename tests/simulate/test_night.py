import csv
import shutil
from pathlib import Path

import pytest
from astropy.io import fits

from ccdflow.simulate import Night, simulate_night
from ccdflow.simulate.nights import GOTO, SMALL
from ccdflow.simulate.schedule import calibration_exposures, science_exposures

SHAPE = (64, 96)
COLUMNS = [
    "telescope",
    "camera",
    "instrument",
    "filter",
    "imagetype",
    "target",
    "exptime",
    "obsdate",
    "iobs",
    "nobs",
]


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Night:
    return simulate_night(tmp_path_factory.mktemp("nights") / "one", shape=SHAPE, seed=3)


def _bytes(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_same_seed_gives_the_same_bytes(night, tmp_path):
    simulate_night(tmp_path / "two", shape=SHAPE, seed=3)
    assert _bytes(tmp_path / "two") == _bytes(night.directory)


def test_another_seed_gives_other_pixels_under_the_same_names(night, tmp_path):
    simulate_night(tmp_path / "two", shape=SHAPE, seed=4)
    first, second = _bytes(night.directory), _bytes(tmp_path / "two")
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first if name.startswith("raw/"))


def test_clouds_do_not_change_the_pixels_of_other_frames(night, tmp_path):
    simulate_night(tmp_path / "two", shape=SHAPE, seed=3, clouds="none")
    first, second = _bytes(night.directory), _bytes(tmp_path / "two")
    common = [name for name in first if name in second and name.startswith("raw/SIM1-CAM2/")]
    assert len(common) == 29
    assert all(first[name] == second[name] for name in common)


def test_the_summary_counts_what_stands_on_disk(night):
    exposures = calibration_exposures(SMALL) + science_exposures(SMALL, "first")
    assert sorted(night.paths) == sorted((night.directory / "raw").rglob("*.fits"))
    assert len(night.paths) == len(exposures)
    assert night.counts == {"bias": 10, "dark": 6, "flat": 16, "science": 41}


def test_only_raw_frames_look_like_fits(night):
    suffixes = {
        path.suffix for path in night.directory.rglob("*") if path.is_file() and path not in night.paths
    }
    assert suffixes == {".csv", ".npz", ".json"}


def test_frames_are_unsigned_integers_of_the_shape_asked_for_and_their_overscan(night):
    for path in night.paths:
        with fits.open(path) as hdus:
            assert hdus[0].data.dtype.name == "uint16"
            assert hdus[0].data.shape == (64, 96 + 2 * 32)


def test_headers_tell_what_the_schedule_says(night):
    kinds = {"bias": "zero", "dark": "dark", "flat": "sky flat", "science": "object"}
    exposures = calibration_exposures(SMALL) + science_exposures(SMALL, "first")
    for exposure, path in zip(exposures, night.paths, strict=True):
        header = fits.getheader(path)
        assert header["IMAGETYP"] == kinds[exposure.imagetype]
        assert header.get("FILTER", "") == exposure.filter
        assert (header["TELESCOP"], header["CAMERA"]) == ("SIM1", exposure.camera.name)
        assert (header["DATE-OBS"], header["EXPTIME"]) == (exposure.obsdate, exposure.exptime)
        assert (header["IOBS"], header["NOBS"]) == (exposure.iobs, exposure.nobs)


def test_the_catalogue_of_the_goto_night_has_788_rows_and_the_agreed_columns(tmp_path):
    listing = simulate_night(tmp_path / "goto", night="goto", catalog_only=True)
    rows = _rows(listing.catalog)
    assert list(rows[0]) == COLUMNS
    assert len(rows) == 788
    assert listing.counts == {"science": 788}
    assert [path.name for path in listing.directory.iterdir()] == ["catalog.csv"]
    first = ["GOTO1", "UT1", "GOTO", "L", "science", "GRB", "180.0", "2018-09-09T19:35:30", "1", "3"]
    assert list(rows[0].values()) == first
    assert [row["obsdate"] for row in rows] == sorted(row["obsdate"] for row in rows)


def test_the_catalogue_is_the_same_with_pixels_and_without(night, tmp_path):
    listing = simulate_night(tmp_path / "listed", shape=SHAPE, seed=3, catalog_only=True)
    assert listing.catalog.read_bytes() == night.catalog.read_bytes()


def test_the_table_of_frames_lists_every_frame_with_its_file(night):
    rows = _rows(night.directory / "truth" / "frames.csv")
    assert [night.directory / row["file"] for row in rows] == list(night.paths)
    assert all(
        (night.directory / "truth" / "frames" / f"{Path(row['file']).stem}.npz").is_file() for row in rows
    )


def test_progress_counts_up_to_the_number_of_frames(tmp_path):
    seen: list[tuple[int, int]] = []
    simulate_night(
        tmp_path / "night", shape=(64, 64), progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(number, 73) for number in range(1, 74)]


def test_the_goto_night_with_pixels_adds_calibrations_of_each_filter():
    counts = len(calibration_exposures(GOTO))
    assert counts == 4 * (5 + 3 + 5 * 3) + 3 * (5 + 3 + 4 * 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"night": "gotoo"}, "unknown night 'gotoo'; known: goto, small"),
        ({"seed": -1}, "seed is -1, should be 0 or above"),
        ({"clouds": "some"}, "unknown clouds 'some'; known: first, all, none"),
        ({"shape": (32, 64)}, "shape is 32x64, should be 64x64 or above"),
        ({"shape": (64, 65)}, "shape is 64x65, the second number should be even"),
    ],
)
def test_a_bad_argument_is_refused_in_one_line_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        simulate_night(tmp_path / "night", **arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "night").exists()


def test_a_directory_that_holds_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds thesis\.tex; should be new, empty or"):
        simulate_night(tmp_path, catalog_only=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "night").write_text("")
    with pytest.raises(ValueError, match="is a file, should be a directory"):
        simulate_night(tmp_path / "night", catalog_only=True)


def test_hidden_files_and_the_same_catalogue_are_harmless(tmp_path):
    (tmp_path / ".gitignore").write_text("*")
    simulate_night(tmp_path, catalog_only=True)
    simulate_night(tmp_path, catalog_only=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".gitignore", "catalog.csv"]


def test_the_same_simulation_is_written_again_and_another_one_refused(night, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(night.directory, copy)
    damaged = copy / night.paths[5].relative_to(night.directory)
    damaged.write_bytes(b"half written")
    simulate_night(copy, shape=SHAPE, seed=3)
    assert _bytes(copy) == _bytes(night.directory)
    with pytest.raises(ValueError, match="holds raw, truth; should be"):
        simulate_night(copy, shape=SHAPE, seed=4)
