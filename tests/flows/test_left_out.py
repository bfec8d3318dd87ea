"""Frames that fit no stack: the others are stacked, and whoever looks is told which are missing and why."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from tests.flows.conftest import Bench

from ccdflow.archive.registry.frames.queries import list_frames
from ccdflow.archive.registry.jobs.records import JobFilter, find_jobs
from ccdflow.archive.registry.sets.records import list_sets
from ccdflow.commands.reduction import RunReport
from ccdflow.config.project import init_project
from ccdflow.tasks.nightlog import night_page, observing_log

SHAPE = (120, 140)
Floats = NDArray[np.float64]


def field(seed: int, dx: float = 0.0, dy: float = 0.0) -> Floats:
    """Electrons of 25 stars of a field."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    at = rng.uniform([10, 10], [130, 110], (25, 2)) + np.array([dx, dy])
    return np.asarray(sum(3000 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 3.2) for a, b in at))


def write(path: Path, kind: str, time: str, electrons: Floats | float, **cards: object) -> None:
    rng = np.random.default_rng(int.from_bytes(path.name.encode(), "big") % 2**32)
    counts = 1000 + rng.poisson(np.broadcast_to(electrons, SHAPE)) + rng.normal(0, 5, SHAPE)
    camera = {"TELESCOP": "T", "DETECTOR": "C", "EGAIN": 1.0, "RDNOISE": 5.0, "EXPTIME": 60.0, "FILTER": "V"}
    header = fits.Header({"IMAGETYP": kind, "DATE-OBS": f"2026-03-01T{time}", **camera, **cards})
    fits.PrimaryHDU(np.rint(counts).astype(np.uint16), header).writeto(path)


@pytest.fixture(scope="module")
def night(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, RunReport]]:
    """M13 with a cloud before the third frame, and two frames of one name that show two fields."""
    bench = Bench(tmp_path_factory.mktemp("left_out"))
    bench.raw.mkdir()
    for i in range(2):
        write(bench.raw / f"b{i}.fits", "Bias Frame", f"18:0{i}:00", 0.0, EXPTIME=0.0)
        write(bench.raw / f"f{i}.fits", "Flat Field", f"18:3{i}:00", 20000.0, EXPTIME=1.0)
    for i, (dx, dy) in enumerate([(0, 0), (3, -2), (0, 0), (-2, 4)]):
        light = 300 + (0 if i == 2 else field(1, dx, dy))
        write(bench.raw / f"m{i}.fits", "Light Frame", f"21:0{i}:00", light, OBJECT="M13")
    for i in range(2):
        write(bench.raw / f"o{i}.fits", "Light Frame", f"22:0{i}:00", 300 + field(2 + i), OBJECT="Orion")
    init_project(bench.project)
    yield bench, bench.run(bench.raw)
    bench.space.registry.close()


Night = tuple[Bench, RunReport]


def test_one_cloud_costs_no_stack_and_the_run_says_which_frame_is_missing(night: Night) -> None:
    bench, report = night
    assert (report.exit_code, report.jobs["failed"]) == (0, 0)
    assert sum(
        "1 of 4 frames left out: " in line and "(m2.fits): it shows no star" in line
        for line in report.problems
    )
    product = bench.product("stack")
    header = fits.getheader(bench.space.store.absolute(product.path))
    assert (header["NCOMBINE"], header["NLEFTOUT"], header["TOTEXP"]) == (3, 1, 180.0)
    assert header["LEFT001"].startswith("m2-") and "it shows no star" in header["LEFT001"]


def test_left_out_frames_pass_with_their_reason(night: Night) -> None:
    frames = night[0].space.registry.read(list_frames)
    states = {Path(row["path"]).stem: (row["stage"], row["status"], row["reason"]) for row in frames}
    assert [states[f"m{i}"][:2] for i in (0, 1, 3)] == [("stack", "done")] * 3
    assert [states[name][:2] for name in ("m2", "o0", "o1")] == [("stack", "passed")] * 3
    assert states["m2"][2].startswith("left out of the stack: it shows no star")
    assert states["o0"][2] == "left out of the stack: no other frame fits it"


def test_sets_tell_who_is_missing_and_pass_where_nothing_could_be_combined(night: Night) -> None:
    space = night[0].space
    stacked, passed = space.registry.read(list_sets)
    assert stacked["action"] == "stack" and stacked["product"] is not None
    assert "1 of 4 frames left out" in stacked["reason"]
    assert (passed["action"], passed["product"]) == ("pass", None)
    assert "nothing combined, 2 of 2 frames pass as they are" in passed["reason"]


def test_a_second_run_has_nothing_to_do(night: Night) -> None:
    bench, _ = night
    report = bench.run(bench.raw)
    assert (report.jobs["new"], report.jobs["failed"], report.exit_code) == (0, 0, 0)
    stacks = bench.space.registry.read(find_jobs, JobFilter(step="stack"))
    assert [(job.state, job.attempts) for job in stacks] == [("done", 1)] * 2


def test_the_page_of_the_night_names_them(night: Night) -> None:
    page = night_page(night[0].space, "2026-03-01", "C", observing_log(night[0].space, "2026-03-01", "C"))
    assert page.count("left out of the stack") == 3
