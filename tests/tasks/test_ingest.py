"""Files and catalogues come in: each frame once, whatever happens, and what can't be used is named."""

import csv
import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames, list_frames
from ccdflow.archive.registry.sets.records import find_sets
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.records import FrameRecord
from ccdflow.tasks.grouping import group_sets
from ccdflow.tasks.ingest import (
    COLUMNS,
    IngestReport,
    ingest_catalog,
    ingest_files,
    ingest_paths,
    recheck_files,
)
from ccdflow.tasks.workspace import Workspace

EVERYTHING = FrameFilter(status=None)


def cards(**changes: Any) -> fits.Header:
    made = {
        "IMAGETYP": "Light Frame",
        "TELESCOP": "T",
        "DETECTOR": "C",
        "INSTRUME": "I",
        "FILTER": "L",
        "OBJECT": "M13",
        "EXPTIME": 60.0,
        "DATE-OBS": "2026-03-01T20:00:00",
    }
    made |= {name.replace("_", "-"): value for name, value in changes.items()}
    return fits.Header([(name, value) for name, value in made.items() if value is not None])


def pixels(seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(300, 1300, (16, 20)).astype(np.uint16)


def write(path: Path, seed: int = 0, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(pixels(seed), cards(**changes)).writeto(path, overwrite=True)
    return path


def counts(report: IngestReport) -> dict[str, int]:
    return {name: number for name, number in report.counts.items() if number}


def take_in(space: Workspace, *paths: Path) -> dict[str, int]:
    return counts(ingest_files(space, paths))


def rows(space: Workspace) -> list[dict[str, Any]]:
    return sorted(space.registry.read(list_frames, EVERYTHING), key=lambda one: int(one["id"]))


def only(space: Workspace) -> FrameRecord:
    (found,) = space.registry.read(find_frames)
    return found


# --- identity ----------------------------------------------------------------------------------------


def test_the_same_file_twice_is_nothing_new(space: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "raw" / "a.fits")
    assert take_in(space, path) == {"new": 1}
    before = rows(space)
    assert take_in(space, path) == {"known": 1}
    assert take_in(space, path.parent) == {"known": 1}
    assert rows(space) == before


def test_a_file_named_twice_at_once_counts_once_in_the_registry(space: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    assert take_in(space, path, path) == {"new": 1, "known": 1}
    assert len(rows(space)) == 1


def test_the_same_content_under_another_name_is_a_known_duplicate(space: Workspace, tmp_path: Path) -> None:
    first = write(tmp_path / "a.fits")
    second = tmp_path / "b.fits"
    second.write_bytes(first.read_bytes())
    assert take_in(space, first) == {"new": 1}
    assert take_in(space, second) == {"duplicate": 1}
    original, copy = rows(space)
    assert (copy["status"], copy["duplicate_of"]) == ("duplicate", original["id"])
    assert only(space).path == str(first)


def test_new_content_at_a_known_path_is_a_new_version(space: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", seed=0)
    take_in(space, path)
    write(path, seed=1)
    assert take_in(space, path) == {"version": 1}
    old, new = rows(space)
    assert (old["version"], new["version"]) == (1, 2)
    assert (old["status"], old["superseded_by"]) == ("superseded", new["id"])
    assert only(space).id == new["id"]


def test_one_changed_byte_is_new_content(space: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    take_in(space, path)
    content = bytearray(path.read_bytes())
    content[2880 * 1 + 100] ^= 1
    path.write_bytes(content)
    assert take_in(space, path) == {"version": 1}


def test_a_file_that_was_moved_is_known_at_its_new_place(space: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    take_in(space, path)
    moved = path.rename(tmp_path / "b.fits")
    assert take_in(space, moved) == {"known": 1}
    assert only(space).path == str(moved)


# --- what can't be used ------------------------------------------------------------------------------


def bad_files(folder: Path) -> dict[str, Path]:
    folder.mkdir()
    whole = write(folder / "truncated.fits").read_bytes()
    (folder / "truncated.fits").write_bytes(whole[: 2880 + 100])
    (folder / "text.fits").write_text("not a FITS file\n" * 400)
    (folder / "empty.fits").write_bytes(b"")
    fits.PrimaryHDU(header=cards()).writeto(folder / "no_image.fits")
    (folder / "cut.fits.gz").write_bytes(gzip.compress(whole)[:-300])
    return {path.stem.partition(".")[0]: path for path in sorted(folder.iterdir())}


def test_files_that_are_no_frames_are_named_and_kept_and_others_not_lost(
    space: Workspace, tmp_path: Path
) -> None:
    bad = bad_files(tmp_path / "raw")
    write(tmp_path / "raw" / "aaa.fits", seed=1)
    write(tmp_path / "raw" / "zzz.fits", seed=2)
    report = ingest_files(space, [tmp_path / "raw"])
    assert counts(report) == {"new": 2, "unreadable": len(bad)}
    assert report.exit_code == 1
    for path in bad.values():
        (problem,) = [one for one in report.problems if str(path) in one]
        assert "\n" not in problem
    refused = {one["path"]: one["reason"] for one in rows(space) if one["status"] == "refused"}
    assert refused.keys() == {str(path) for path in bad.values()}
    assert all(refused.values())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("truncated", "truncated"),
        ("text", "FITS"),
        ("empty", "empty"),
        ("no_image", "image"),
        ("cut", "end"),
    ],
)
def test_the_sentence_says_what_is_wrong(space: Workspace, tmp_path: Path, name: str, words: str) -> None:
    path = bad_files(tmp_path / "raw")[name]
    report = ingest_files(space, [path])
    assert report.exit_code == 2
    (problem,) = report.problems
    assert words in problem.replace(str(path), "")


def test_a_truncated_frame_keeps_its_place_in_its_sequence(space: Workspace, tmp_path: Path) -> None:
    """Its pixels are lost, but it was taken: the boundaries of sequences depend on what frames are."""
    for number in (1, 2, 3):
        when = f"2026-03-01T20:0{number}:00"
        path = write(tmp_path / f"{number}.fits", number, **{"DATE-OBS": when, "IOBS": number, "NOBS": 3})
    os.truncate(path, path.stat().st_size // 2)
    assert take_in(space, tmp_path)["unreadable"] == 1
    group_sets(space, Request(now="2026-03-01T20:04:00"))
    (found,) = space.registry.read(find_sets)
    assert (found.status, len(found.frames)) == ("closed", 3)
    last = space.registry.read(find_frames)[-1]
    assert last.iobs == 3 and "truncated" in last.refused


def test_a_bad_file_twice_is_one_row(space: Workspace, tmp_path: Path) -> None:
    bad = bad_files(tmp_path / "raw")
    ingest_files(space, [tmp_path / "raw"])
    before = rows(space)
    ingest_files(space, [tmp_path / "raw"])
    assert rows(space) == before
    assert len(before) == len(bad)


def test_a_file_that_arrives_whole_in_the_end_takes_the_place_of_its_beginning(
    space: Workspace, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.fits")
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    assert take_in(space, path) == {"unreadable": 1}
    path.write_bytes(whole)
    assert take_in(space, path) == {"version": 1}
    assert only(space).refused == ""


def test_a_frame_without_date_is_refused_with_a_reason(space: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", DATE_OBS=None)
    report = ingest_files(space, [path])
    assert counts(report) == {"refused": 1}
    assert str(path) in report.problems[0]
    assert "when it was taken" in rows(space)[0]["reason"]


def test_a_missing_file_is_named_and_leaves_no_row(space: Workspace, tmp_path: Path) -> None:
    good = write(tmp_path / "a.fits")
    report = ingest_files(space, [tmp_path / "gone.fits", good])
    assert counts(report) == {"new": 1, "unreadable": 1}
    assert str(tmp_path / "gone.fits") in report.problems[0]
    assert [one["path"] for one in rows(space)] == [str(good)]


def test_a_named_file_of_another_kind_is_named_and_leaves_no_row(space: Workspace, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("seeing 2 arcsec")
    report = ingest_files(space, [notes])
    assert (counts(report), report.exit_code) == ({"unreadable": 1}, 2)
    assert str(notes) in report.problems[0]
    assert rows(space) == []


def test_a_named_fits_file_counts_whatever_its_name(space: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits").rename(tmp_path / "frame.001")
    assert take_in(space, path) == {"new": 1}


def test_an_unclassified_frame_is_kept_with_the_keywords_seen(space: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", IMAGETYP="wobble")
    report = ingest_files(space, [path])
    assert counts(report) == {"new": 1}
    (problem,) = report.problems
    assert "unclassified" in problem
    assert "wobble" in problem
    found = only(space)
    assert (found.frame_class, found.object, found.exptime) == ("unclassified", "M13", 60.0)


def test_nothing_usable_is_exit_code_2(space: Workspace, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    report = ingest_files(space, [tmp_path / "empty"])
    assert report.exit_code == 2
    assert str(tmp_path / "empty") in report.problems[0]


# --- folders and formats -----------------------------------------------------------------------------


def test_folders_are_searched_below_and_only_fits_suffixes_are_looked_at(
    space: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "raw"
    # A folder that is called as a file is named as what it is not, and searched all the same.
    names = ["a.fits", "deep/er/b.FIT", "deep/c.fts", "d.Fits", "directory.fits/e.fits"]
    for seed, name in enumerate(names):
        write(folder / name, seed=seed)
    (folder / "notes.txt").write_text("seeing")
    (folder / "preview.png").write_bytes(b"\x89PNG")

    report = ingest_files(space, [folder])
    assert counts(report) == {"new": 5, "unreadable": 1}
    assert report.problems == [f"{folder / 'directory.fits'} is a folder, not a FITS file"]
    assert {one["path"] for one in rows(space)} == {str(folder / name) for name in names}


def test_compressed_files_are_read(space: Workspace, tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.fits", seed=1)
    zipped = tmp_path / "a.fits.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    tiled = tmp_path / "b.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels(2), cards(OBJECT="M31"))]).writeto(tiled)
    assert take_in(space, zipped, tiled) == {"new": 2}
    found = {one.object: one for one in space.registry.read(find_frames)}
    assert found.keys() == {"M13", "M31"}
    assert {one.keywords["shape"] for one in found.values()} == {"16x20"}
    assert {one.frame_class for one in found.values()} == {"science"}


def test_an_image_in_an_extension_is_read_with_the_primary_header(space: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    image = fits.ImageHDU(pixels(), name="SCI")
    fits.HDUList([fits.PrimaryHDU(header=cards(OBJECT="M31")), image]).writeto(path)
    assert take_in(space, path) == {"new": 1}
    found = only(space)
    assert (found.object, found.keywords["shape"], found.frame_class) == ("M31", "16x20", "science")


def test_products_of_ours_are_passed_over(space: Workspace, tmp_path: Path) -> None:
    write(tmp_path / "raw" / "a.fits", seed=1)
    write(tmp_path / "raw" / "product.fits", seed=2, JOBKEY="0" * 64)
    assert take_in(space, tmp_path / "raw") == {"new": 1, "product": 1}
    assert len(rows(space)) == 1


def test_files_of_the_store_are_not_looked_at(space: Workspace) -> None:
    write(space.project.store / "science" / "a.fits")
    write(space.project.directory / "raw" / "b.fits")
    assert take_in(space, space.project.directory) == {"new": 1}


def test_what_a_header_says_is_registered(space: Workspace, tmp_path: Path) -> None:
    take_in(space, write(tmp_path / "a.fits", IOBS=2, NOBS=3, XBINNING=2, YBINNING=2, EGAIN=1.5))
    found = only(space)
    assert (found.telescope, found.camera, found.instrument) == ("T", "C", "I")
    assert (found.filter, found.object, found.exptime) == ("L", "M13", 60.0)
    assert (found.obsdate, found.iobs, found.nobs) == ("2026-03-01T20:00:00", 2, 3)
    assert (found.night, found.frame_class) == ("2026-03-01", "science")
    assert (found.keywords["binning"], found.keywords["gain"]) == ("2x2", 1.5)


# --- changes on disk ---------------------------------------------------------------------------------


def test_touched_files_cause_nothing(space: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    take_in(space, path)
    os.utime(path, (1e9, 1e9))
    assert counts(recheck_files(space)) in ({}, {"known": 1})
    assert [(one["version"], one["status"]) for one in rows(space)] == [(1, "done")]
    assert counts(recheck_files(space)) == {}, "the new time is remembered"


def test_changed_files_are_noticed_even_if_size_and_mtime_are_the_same(
    space: Workspace, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.fits")
    take_in(space, path)
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-2000] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert counts(recheck_files(space)) == {"version": 1}


def test_many_files_that_are_gone_are_told_in_one_line(space: Workspace, tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.fits", number) for number in range(3)]
    take_in(space, tmp_path)
    for path in paths:
        path.unlink()
    (problem,) = [one for one in recheck_files(space).problems if "gone" in one]
    assert problem.startswith(f"3 raw files of {tmp_path} are gone")


def test_a_duplicate_stands_for_its_content_once_the_original_is_gone(
    space: Workspace, tmp_path: Path
) -> None:
    original, copy = write(tmp_path / "a" / "a.fits"), tmp_path / "b" / "b.fits"
    copy.parent.mkdir()
    copy.write_bytes(original.read_bytes())
    take_in(space, original, copy)
    original.unlink()
    assert take_in(space, copy) == {"known": 1}
    assert only(space).path == str(copy)


def test_files_that_are_gone_are_named_and_stay_registered(space: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    take_in(space, path)
    path.unlink()
    report = recheck_files(space)
    assert str(path) in report.problems[0]
    assert len(space.registry.read(find_frames)) == 1


def test_unchanged_files_are_not_read_again(space: Workspace, tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / "raw" / f"{seed}.fits", seed=seed)
    take_in(space, tmp_path / "raw")
    write(tmp_path / "raw" / "1.fits", seed=9)
    assert counts(recheck_files(space)) == {"version": 1}


# --- a crash -----------------------------------------------------------------------------------------


def test_a_killed_ingest_loses_nothing_and_doubles_nothing(space: Workspace, tmp_path: Path) -> None:
    number = 60
    paths = [write(tmp_path / "raw" / f"{seed:03}.fits", seed=seed) for seed in range(number)]
    code = (
        "import sys; from ccdflow.tasks.ingest import ingest_paths; ingest_paths(sys.argv[1], sys.argv[2:])"
    )
    arguments = [sys.executable, "-c", code, str(space.project.directory), str(tmp_path / "raw")]
    with subprocess.Popen(arguments) as worker:
        deadline = time.monotonic() + 60
        while not rows(space) and time.monotonic() < deadline and worker.poll() is None:
            time.sleep(0.005)
        worker.send_signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL, "the worker was done before it could be killed"
    registered = len(rows(space))
    assert 0 < registered < number
    assert take_in(space, tmp_path / "raw") == {"known": registered, "new": number - registered}
    assert [one["path"] for one in rows(space)] == [str(path) for path in paths]
    assert all(one.keywords["shape"] == "16x20" for one in space.registry.read(find_frames))


def test_paths_are_registered_by_name_of_the_project(space: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    directory = str(space.project.directory)
    assert ingest_paths(directory, [str(path)]) == {"new": 1}
    assert ingest_paths(directory, [str(path)]) == {"known": 1}


# --- catalogues --------------------------------------------------------------------------------------


def catalog(path: Path, *found: dict[str, Any], columns: Sequence[str] = COLUMNS) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(found)
    return path


def row(minute: int = 0, **changes: Any) -> dict[str, Any]:
    made = {
        "telescope": "T",
        "camera": "C",
        "instrument": "I",
        "filter": "L",
        "imagetype": "science",
        "target": "M13",
        "exptime": 60,
        "obsdate": f"2026-03-01T20:{minute:02}:00",
        "iobs": 1,
        "nobs": 3,
    }
    return made | changes


def test_a_row_of_a_catalogue_becomes_a_frame_without_a_file(space: Workspace, tmp_path: Path) -> None:
    report = ingest_catalog(space, catalog(tmp_path / "c.csv", row()))
    assert counts(report) == {"new": 1}
    found = only(space)
    assert (found.path, found.sha256) == (None, None)
    assert (found.frame_class, found.object, found.exptime) == ("science", "M13", 60.0)
    assert (found.obsdate, found.iobs, found.nobs) == ("2026-03-01T20:00:00", 1, 3)
    assert found.night == "2026-03-01"


def test_a_catalogue_twice_is_harmless(space: Workspace, tmp_path: Path) -> None:
    path = catalog(tmp_path / "c.csv", *(row(minute) for minute in range(5)))
    assert counts(ingest_catalog(space, path)) == {"new": 5}
    before = rows(space)
    assert counts(ingest_catalog(space, path)) == {"known": 5}
    assert rows(space) == before


@pytest.mark.parametrize("column", COLUMNS)
def test_a_catalogue_without_a_required_column_is_refused(
    space: Workspace, tmp_path: Path, column: str
) -> None:
    rest = [name for name in COLUMNS if name != column]
    path = catalog(tmp_path / "c.csv", {name: row()[name] for name in rest}, columns=rest)
    with pytest.raises(ValueError, match=f"lacks the columns {column}$"):
        ingest_catalog(space, path)
    assert rows(space) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("obsdate", "last night"),
        ("obsdate", ""),
        ("exptime", "long"),
        ("exptime", "nan"),
        ("iobs", "1.5"),
        ("nobs", "many"),
        ("nobs", "inf"),
        ("exptime", "-inf"),
    ],
)
def test_a_bad_row_is_named_by_its_line_and_the_others_count(
    space: Workspace, tmp_path: Path, column: str, value: str
) -> None:
    path = catalog(tmp_path / "c.csv", row(0), row(1, **{column: value}), row(2))
    report = ingest_catalog(space, path)
    assert counts(report) == {"new": 2, "refused": 1}
    assert report.exit_code == 1
    (problem,) = report.problems
    assert f"{path}, line 3:" in problem
    assert column in problem
    assert repr(value) in problem


def test_blank_numbers_are_unknown(space: Workspace, tmp_path: Path) -> None:
    ingest_catalog(space, catalog(tmp_path / "c.csv", row(exptime="", iobs="", nobs="")))
    found = only(space)
    assert (found.exptime, found.iobs, found.nobs) == (None, None, None)


def test_further_columns_become_keywords(space: Workspace, tmp_path: Path) -> None:
    columns = [*COLUMNS, "airmass", "observer", "comment"]
    path = catalog(tmp_path / "c.csv", row(airmass="1.25", observer="Ada", comment=""), columns=columns)
    ingest_catalog(space, path)
    found = only(space)
    assert found.keywords["observer"] == "Ada"
    assert "comment" not in found.keywords
    assert float(found.keywords["airmass"]) == 1.25


def test_a_temperature_column_counts_in_grouping_as_a_number(space: Workspace, tmp_path: Path) -> None:
    path = catalog(tmp_path / "c.csv", row(ccd_temperature="-20"), columns=[*COLUMNS, "ccd_temperature"])
    ingest_catalog(space, path)
    assert only(space).value("ccd_temperature") == -20


@pytest.mark.parametrize("text", ["007", "1_000", "nan", "1x1", "1e", "."])
def test_a_column_that_only_looks_like_a_number_stays_text(
    space: Workspace, tmp_path: Path, text: str
) -> None:
    ingest_catalog(space, catalog(tmp_path / "c.csv", row(plate=text), columns=[*COLUMNS, "plate"]))
    assert only(space).keywords["plate"] == text


def test_a_column_night_is_taken_as_it_is(space: Workspace, tmp_path: Path) -> None:
    path = catalog(tmp_path / "c.csv", row(night="2026-02-28"), columns=[*COLUMNS, "night"])
    ingest_catalog(space, path)
    assert only(space).night == "2026-02-28"


@pytest.mark.parametrize(
    "written", ["2026-03-01T21:00:00+01:00", "2026-03-01 20:00:00", "2026-03-01T20:00:00Z"]
)
def test_times_of_a_catalogue_become_utc(space: Workspace, tmp_path: Path, written: str) -> None:
    ingest_catalog(space, catalog(tmp_path / "c.csv", row(obsdate=written)))
    assert only(space).obsdate == "2026-03-01T20:00:00"


def test_an_exposure_time_of_a_catalogue_that_can_not_be_is_unknown_and_a_doubt(
    space: Workspace, tmp_path: Path
) -> None:
    report = ingest_catalog(space, catalog(tmp_path / "c.csv", row(exptime=-60)))
    assert only(space).exptime is None
    assert report.doubt_lines() == [
        "doubt exptime: 1 frame, for instance line 2: exptime=-60 can't be: it is unknown"
    ]


def test_an_unknown_image_type_is_unclassified_and_kept(space: Workspace, tmp_path: Path) -> None:
    ingest_catalog(space, catalog(tmp_path / "c.csv", row(imagetype="wobble")))
    assert only(space).frame_class == "unclassified"


def test_a_catalogue_with_byte_order_mark_and_short_rows_is_read(space: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    whole = ",".join(str(row()[name]) for name in COLUMNS)
    path.write_bytes(b"\xef\xbb\xbf" + f"{','.join(COLUMNS)}\r\n{whole}\r\nT,C\r\n".encode())
    report = ingest_catalog(space, path)
    assert counts(report) == {"new": 1, "refused": 1}
    assert "line 3" in report.problems[0]
