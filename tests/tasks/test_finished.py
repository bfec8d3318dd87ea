"""Frames that another program has finished: registered and used by nothing, or taken where somebody says so."""

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.archive.fits.productfile import InputNote, read_image
from ccdflow.archive.registry.frames.doubts import MEASURED, find_doubts, tell_doubts
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames, list_frames
from ccdflow.archive.registry.sets.records import find_sets
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.records import Doubt
from ccdflow.recipes.core.image import Image
from ccdflow.tasks.grouping import group_sets
from ccdflow.tasks.ingest import ingest_files, recheck_files
from ccdflow.tasks.inputs import JobInputs
from ccdflow.tasks.nightlog import night_page, observing_log
from ccdflow.tasks.planning import planned
from ccdflow.tasks.rawfiles.finished import check_entry
from ccdflow.tasks.workspace import Workspace

SHAPE = (12, 16)
LATER = Request(now="2026-03-02T12:00:00")


def write(path: Path, kind: str, time: str, **cards: Any) -> Path:
    data = np.random.default_rng(crc32(path.name.encode())).integers(900, 1100, SHAPE).astype(np.uint16)
    known = {"TELESCOP": "T", "DETECTOR": "C", "FILTER": "V", "EGAIN": 2.0, "RDNOISE": 5.0, "EXPTIME": 60.0}
    header = fits.Header({"IMAGETYP": kind, "DATE-OBS": f"2026-03-01T{time}", **known, **cards})
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(data, header).writeto(path)
    return path


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Biases, flats and two lights."""
    for number in range(3):
        write(tmp_path / f"b{number}.fits", "Bias Frame", f"18:0{number}:00", EXPTIME=0.0)
        write(tmp_path / f"f{number}.fits", "Flat Field", f"18:3{number}:00", EXPTIME=1.0)
    for number in range(2):
        write(tmp_path / f"s{number}.fits", "Light Frame", f"21:0{number}:00", OBJECT="M13")
    return tmp_path


def states(space: Workspace) -> dict[str, tuple[str, str]]:
    """State and reason by file."""
    rows = space.registry.read(list_frames, FrameFilter(status=None))
    return {Path(row["path"]).name: (row["status"], row["reason"]) for row in rows}


def test_a_calibrated_frame_is_registered_and_in_no_plan(space: Workspace, night: Path) -> None:
    write(night / "s2.fits", "Light Frame", "21:02:00", OBJECT="M13", CALSTAT="BDF")
    report = ingest_files(space, [night])
    assert (report.counts["new"], report.counts["processed"], report.exit_code) == (8, 1, 0)
    sentence = "processed already: bias, dark, flat (CALSTAT='BDF')"
    assert report.finished_lines() == [
        f"{night / 's2.fits'}: {sentence}; not used (--take-processed TASK takes it)"
    ]
    assert states(space)["s2.fits"] == ("processed", sentence)
    assert len([job for job in planned(space, LATER).jobs if job.step == "science"]) == 2
    assert "s2" not in " ".join(job.name for job in planned(space, LATER).jobs)


def test_it_lies_in_no_sequence_and_in_the_ledger(space: Workspace, night: Path) -> None:
    # Calibrated copies beside the raw frames would make a sequence of 4.
    for number in range(2):
        write(night / f"c{number}.fits", "Light Frame", f"21:0{number}:00", OBJECT="M13", RLEVEL=91)
    ingest_files(space, [night])
    group_sets(space, LATER)
    (stack,) = space.registry.read(find_sets)
    assert len(stack.frames) == 2
    page = night_page(space, "2026-03-01", "T/C", observing_log(space, "2026-03-01", "T/C"))
    assert "10 frames" in page and "science | ingest processed | 2" in page and "RLEVEL=91" in page


def test_a_master_of_others_is_offered_as_master_and_not_averaged(space: Workspace, night: Path) -> None:
    path = write(night / "b9.fits", "Bias Frame", "18:09:00", EXPTIME=0.0, NCOMBINE=20)
    report = ingest_files(space, [night], take_processed="science")  # which takes no biases
    assert report.counts == {"new": 9} and [doubt.kind for _, doubt in report.doubts] == ["processed"]
    (bias,) = (job for job in planned(space, LATER).jobs if job.step == "bias")
    assert len(bias.main) == 3
    (master,) = (frame for frame in space.registry.read(find_frames) if frame.path == str(path))
    assert master.frame_class == "master_bias"
    wanted = Request(now=LATER.now, preference="master")
    roles = [item for job in planned(space, wanted).jobs if job.step == "science" for item in job.inputs]
    assert {item.frame for item in roles if item.role == "bias"} == {master.id}


@pytest.mark.parametrize(
    ("kind", "cards", "why"),
    [
        ("Master Bias", {"EGAIN": 0.0}, "the gain is not known"),
        ("Master Dark", {}, "whether its bias is subtracted is not told"),
        ("Master Flat", {}, "whether its bias is subtracted is not told"),
        ("Master Bias", {"TRIMSEC": "[1:12,1:12]"}, "still is that of the raw frames"),
    ],
)
def test_a_master_that_is_none_for_ours_is_left_out_with_the_reason(
    space: Workspace, tmp_path: Path, kind: str, cards: dict[str, Any], why: str
) -> None:
    write(tmp_path / "m.fits", kind, "18:09:00", **cards)
    ingest_files(space, [tmp_path])
    state, reason = states(space)["m.fits"]
    assert state == "processed" and why in reason and "combined" in reason


def test_masters_of_others_are_in_our_units(tmp_path: Path, space: Workspace) -> None:
    def taken(name: str, kind: str, category: str, **cards: Any) -> Image:
        path = write(tmp_path / name, kind, "18:09:00", **cards)
        inputs = JobInputs()
        inputs.add_master("x", path, space.instruments, InputNote("x", name, "", "product", 0), category)
        return read_image(inputs.recipe_inputs["x"][0])

    bias = taken("b.fits", "Master Bias", "master_bias", NCOMBINE=25)
    raw = fits.getdata(tmp_path / "b.fits").astype(np.float32)
    np.testing.assert_allclose(bias.data, 2 * raw)
    assert bias.unit == "electron" and np.allclose(bias.variance, 25 / 25)
    dark = taken(
        "d.fits", "Master Dark", "master_dark", ZEROCOR="Mar 1 21:10 Zero level correction image is Z"
    )
    np.testing.assert_allclose(dark.data, 2 * fits.getdata(tmp_path / "d.fits") / np.float32(60), rtol=1e-6)
    assert dark.unit == "electron / s" and not dark.variance.any()
    flat = taken("f.fits", "Master Flat", "master_flat", CALSTAT="BD")
    assert flat.unit == "" and np.median(flat.data) == pytest.approx(1, abs=1e-3)


def test_a_folder_of_finished_frames_alone_is_nothing_to_work_with(space: Workspace, tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"s{number}.fits", "Light Frame", f"21:0{number}:00", BUNIT="electron")
    report = ingest_files(space, [tmp_path])
    assert report.exit_code == 2
    (line,) = report.finished_lines()
    assert "s0.fits and 2 more: processed already: gain (BUNIT='electron')" in line


def test_one_that_is_taken_loses_only_what_was_not_done(space: Workspace, night: Path) -> None:
    path = write(night / "s2.fits", "Light Frame", "21:02:00", OBJECT="M13", CALSTAT="BD")
    ingest_files(space, [night])
    report = ingest_files(space, [path], take_processed="science")
    assert report.counts == {"known": 1}
    assert [doubt.kind for _, doubt in report.doubts] == ["processed"]
    jobs = {job.main[0].frame: job for job in planned(space, LATER).jobs if job.step == "science"}
    (frame,) = (frame for frame in space.registry.read(find_frames) if frame.path == str(path))
    job = jobs.pop(frame.id)
    assert [item.role for item in job.inputs] == ["main", "flat"]
    assert job.parameters["done"].value == ["bias", "dark"]
    assert all(other.parameters["done"].value == [] for other in jobs.values())


def test_the_word_that_takes_a_frame_outlives_the_next_ingest(space: Workspace, night: Path) -> None:
    path = write(night / "s2.fits", "Light Frame", "21:02:00", OBJECT="M13", CALSTAT="BDF")
    ingest_files(space, [night], take_processed="science")
    ingest_files(space, [night])
    recheck_files(space)
    assert states(space)["s2.fits"] == ("done", "")
    # What others have found stays theirs.
    noticed = Doubt("gain_conflict", "EGAIN says 1.5 electron/adu, measured was 0.75")
    (frame,) = (frame for frame in space.registry.read(find_frames) if frame.path == str(path))
    space.registry.write(tell_doubts, [frame.id], [noticed], MEASURED)
    ingest_files(space, [night])
    space.registry.write(tell_doubts, [frame.id], [], MEASURED)  # the next flats say otherwise
    assert [doubt.kind for doubt in space.registry.read(find_doubts, [frame.id])[frame.id]] == ["processed"]
    # Another word counts.
    report = ingest_files(space, [path], take_processed="bias")
    assert states(space)["s2.fits"][0] == "done" and report.counts == {"known": 1}


def test_a_later_task_takes_everything_as_done(space: Workspace, night: Path) -> None:
    path = write(night / "s2.fits", "Light Frame", "21:02:00", OBJECT="M13", BUNIT="electron")
    ingest_files(space, [night])
    ingest_files(space, [path], take_processed="stack")
    job = next(job for job in planned(space, LATER).jobs if job.parameters["done"].value)
    assert [item.role for item in job.inputs] == ["main"]
    assert job.parameters["done"].value == ["overscan", "trim", "bias", "dark", "flat", "gain"]


def test_raw_takes_a_frame_as_if_nothing_had_been_said(space: Workspace, night: Path) -> None:
    path = write(night / "s2.fits", "Light Frame", "21:02:00", OBJECT="M13", NCOMBINE=4)
    ingest_files(space, [night, path], take_processed="raw")
    assert [job.parameters["done"].value for job in planned(space, LATER).jobs if job.step == "science"] == [
        []
    ] * 3


def test_a_task_that_takes_other_frames_does_not_take_it(space: Workspace, night: Path) -> None:
    path = write(night / "s2.fits", "Light Frame", "21:02:00", OBJECT="M13", CALSTAT="BDF")
    report = ingest_files(space, [path], take_processed="flat")
    assert report.counts == {"processed": 1}
    assert "task 'flat' takes no science" in states(space)["s2.fits"][1]


def test_an_unknown_task_is_refused_with_those_that_there_are(space: Workspace) -> None:
    with pytest.raises(ValueError, match="unknown task 'scince'; known: raw, gain, bias"):
        check_entry(space.cascade, "scince")


def test_a_copy_of_a_finished_file_takes_its_place_as_finished(space: Workspace, tmp_path: Path) -> None:
    first = write(tmp_path / "a.fits", "Light Frame", "21:00:00", CALSTAT="B")
    second = tmp_path / "b.fits"
    second.write_bytes(first.read_bytes())
    ingest_files(space, [first, second])
    assert states(space)["b.fits"][0] == "duplicate"
    first.unlink()
    ingest_files(space, [second])
    assert states(space)["b.fits"][0] == "processed"
