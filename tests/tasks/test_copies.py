"""Copies of exposures among the files of a folder: told with their original, and never counted twice."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from sqlalchemy import text

from ccdflow.archive.registry.frames.files import without_pixels
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames, list_frames
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.rawfiles.copies import compare_known
from ccdflow.tasks.workspace import Workspace

NOISE = np.random.default_rng(8).normal(1000, 5, (48, 64)).round().astype(np.uint16)
CARDS = {
    "IMAGETYP": "Bias Frame",
    "DATE-OBS": "2026-03-01T18:00:00",
    "EXPTIME": 0.0,
    "TELESCOP": "T",
    "INSTRUME": "C",
}


def write(path: Path, data: Any = NOISE, **cards: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    known = {**CARDS, **{name.replace("__", "-"): value for name, value in cards.items()}}
    fits.PrimaryHDU(data, fits.Header(known)).writeto(path, overwrite=True)
    return path


def gzipped(folder: Path) -> None:
    (folder / "b.fits.gz").write_bytes(gzip.compress((folder / "a.fits").read_bytes()))


def packed(folder: Path) -> None:
    image = fits.CompImageHDU(NOISE, fits.Header(CARDS), compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(folder / "b.fits.fz")


COPIES: dict[str, Callable[[Path], object]] = {
    "gzip": gzipped,
    "fpack": packed,
    "history": lambda folder: write(folder / "b.fits", HISTORY="copied by the archive"),
    "bytes": lambda folder: (folder / "b.fits").write_bytes((folder / "a.fits").read_bytes()),
    "signed": lambda folder: write(folder / "b.fits", NOISE.astype(np.int16)),
    "real": lambda folder: write(folder / "b.fits", NOISE.astype(np.float32)),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_a_duplicate_of_its_original(space: Workspace, tmp_path: Path, kind: str) -> None:
    write(tmp_path / "raw" / "a.fits")
    COPIES[kind](tmp_path / "raw")
    report = ingest_files(space, [tmp_path / "raw"])
    assert report.counts == {"new": 1, "duplicate": 1}
    (line,) = report.document()["duplicates"]
    assert line.endswith("is a duplicate of f1 (a.fits)")
    assert len(space.registry.read(find_frames)) == 1
    assert ingest_files(space, [tmp_path / "raw"]).counts == {"known": 2}


def test_a_header_that_says_otherwise_is_told_with_what_would_correct_it(
    space: Workspace, tmp_path: Path
) -> None:
    write(tmp_path / "raw" / "a.fits")
    write(tmp_path / "raw" / "b.fits", DATE__OBS="2026-03-01T21:00:00", OBJECT="zero 1")
    (line,) = ingest_files(space, [tmp_path / "raw"]).copies.lines()
    assert (
        "b.fits is a duplicate of f1 (a.fits): the same pixels, though its header says object zero 1 instead"
        in line
    )
    assert "obsdate 2026-03-01T21:00:00 instead of 2026-03-01T18:00:00" in line
    assert line.endswith("ccdflow amend f1 'object=zero 1' obsdate=2026-03-01T21:00:00 --why ...")


def test_many_copies_are_one_line(space: Workspace, tmp_path: Path) -> None:
    for number in range(3):
        noise = np.roll(NOISE, number, axis=1)
        plain = write(tmp_path / "raw" / f"{number}.fits", noise, DATE__OBS=f"2026-03-01T18:0{number}:00")
        plain.with_suffix(".fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (line,) = ingest_files(space, [tmp_path / "raw"]).copies.lines()
    assert line.startswith("3 files are duplicates of known frames, for instance")


def test_bursts_and_frames_without_noise_are_what_they_are(space: Workspace, tmp_path: Path) -> None:
    noise = np.random.default_rng(9).normal(1000, 5, (4, 48, 64)).round().astype(np.uint16)
    for number in range(4):
        write(tmp_path / "raw" / f"burst{number}.fits", noise[number])
        write(tmp_path / "raw" / f"zero{number}.fits", 0 * NOISE, DATE__OBS=f"2026-03-01T18:00:0{number}")
    assert ingest_files(space, [tmp_path / "raw"]).counts == {"new": 8}


def test_frames_that_only_begin_alike_are_two(space: Workspace, tmp_path: Path) -> None:
    other = NOISE.copy()
    other[40] += 1
    write(tmp_path / "raw" / "a.fits")
    write(tmp_path / "raw" / "b.fits", other, DATE__OBS="2026-03-01T18:01:00")
    assert ingest_files(space, [tmp_path / "raw"]).counts == {"new": 2}
    assert ingest_files(space, [tmp_path / "raw"]).counts == {"known": 2}


def test_a_folder_that_was_packed_in_place_keeps_its_frames(space: Workspace, tmp_path: Path) -> None:
    write(tmp_path / "raw" / "a.fits")
    ingest_files(space, [tmp_path / "raw"])
    packed(tmp_path / "raw")
    (tmp_path / "raw" / "a.fits").unlink()
    assert ingest_files(space, [tmp_path / "raw"]).counts == {"known": 1}
    (frame,) = space.registry.read(list_frames, FrameFilter(status=None))
    assert frame["path"].endswith("b.fits.fz")


def test_frames_of_a_project_from_before_are_compared_by_and_by(space: Workspace, tmp_path: Path) -> None:
    write(tmp_path / "raw" / "a.fits")
    write(tmp_path / "raw" / "b.fits", np.roll(NOISE, 7))
    gzipped(tmp_path / "raw")
    (tmp_path / "raw" / "b.fits.gz").rename(tmp_path / "raw" / "c.fits.gz")
    for path in sorted((tmp_path / "raw").iterdir()):  # as it was before pixels were compared
        ingest_files(space, [path])
        with space.registry.database.write() as connection:
            connection.execute(text("UPDATE frame SET pixels = NULL"))
    assert len(space.registry.read(find_frames)) == 3
    assert compare_known(space, limit=2) == []
    (line,) = compare_known(space)
    assert line.endswith("c.fits.gz is a duplicate of f1: the same pixels")
    assert len(space.registry.read(find_frames)) == 2
    assert compare_known(space) == []


def test_a_frame_that_can_not_be_read_now_is_compared_later_and_keeps_nobody_waiting(
    space: Workspace, tmp_path: Path
) -> None:
    first = write(tmp_path / "raw" / "a.fits")
    gzipped(tmp_path / "raw")
    paths = [first, write(tmp_path / "raw" / "c.fits", np.roll(NOISE, 7)), tmp_path / "raw" / "b.fits.gz"]
    for path in paths:
        ingest_files(space, [path])
        with space.registry.database.write() as connection:
            connection.execute(text("UPDATE frame SET pixels = NULL"))
    whole = first.rename(tmp_path / "whole")
    first.symlink_to("/proc/self/mem")  # reading it gives EIO, as a disk that fails does
    assert compare_known(space, limit=2) == []
    assert [frame for frame, _ in space.registry.read(without_pixels, 9)] == [1]
    whole.replace(first)
    (line,) = compare_known(space, limit=1)
    assert line == "f3 is a duplicate of f1: the same pixels"
    assert space.registry.read(without_pixels, 9) == []
