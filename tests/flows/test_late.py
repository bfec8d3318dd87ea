"""Calibrations that come late, and those that people ban or pin."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from astropy.io import fits
from tests.flows.conftest import Bench

from ccdflow.archive.registry.choices import choose, withdraw
from ccdflow.archive.registry.frames.queries import list_frames
from ccdflow.archive.registry.jobs.lineage import main_frames
from ccdflow.archive.registry.jobs.products import ProductFilter, find_products
from ccdflow.archive.registry.jobs.records import find_job, find_jobs
from ccdflow.commands.queries import explain, subject


def earlier(paths: list[Path], folder: Path) -> list[Path]:
    """Copies of flats that were taken a day before, with other noise."""
    folder.mkdir()
    made = []
    for path in paths:
        with fits.open(path) as file:
            file[0].header["DATE-OBS"] = file[0].header["DATE-OBS"].replace("2026-03-01", "2026-02-28")
            del file[0].header["MJD-OBS"]
            file[0].data[0, 0] += 1
            made.append(folder / f"earlier_{path.name}")
            file.writeto(made[-1])
    return made


@pytest.fixture
def late(new_bench: Callable[[], Bench], server: str, tmp_path: Path) -> Bench:
    """A night that was reduced with flats of the night before; its own flats have not been registered."""
    bench = new_bench()
    flats = bench.frames("flat")
    old = earlier(flats, tmp_path / "earlier")
    (bench.directory / "later").mkdir()
    for path in flats:
        shutil.move(path, bench.directory / "later")
    report = bench.run(bench.raw, *old)
    assert report.exit_code == 0, report.problems
    return bench


def states(bench: Bench, category: str) -> list[tuple[str, int | None]]:
    """Products of a category that are there: the job, and what has superseded it."""
    found = bench.space.registry.read(find_products, ProductFilter(category=category))
    return [(one.job_key, one.superseded_by) for one in found]


def combined(bench: Bench) -> int:
    """How many frames there are in the one stack that nothing has superseded."""
    (key,) = [key for key, by in states(bench, "stack") if by is None]
    job = bench.space.registry.read(find_job, key)
    assert job is not None
    return sum(one.role == "main" for one in job.inputs)


def test_a_late_flat_redoes_what_it_improves_and_marks_the_old(late: Bench) -> None:
    before, attempts = states(late, "science"), late.attempts()
    files = late.files()
    report = late.run(late.directory / "later")
    assert report.exit_code == 0, report.problems
    assert late.work(attempts) == {"flat": 1, "science": 3, "stack": 1}
    after = states(late, "science")
    assert len(after) == 6
    current = {
        one.id
        for one in late.space.registry.read(find_products, ProductFilter(category="science"))
        if one.superseded_by is None
    }
    assert {by for key, by in after if (key, None) in before} == current
    assert files.items() <= late.files().items()  # the old ones stay, byte by byte
    assert [by is None for _, by in states(late, "stack")] == [False, True]
    assert [by for _, by in states(late, "master_bias")] == [None]
    levels = Counter(job.worst_level for job in late.space.registry.read(find_jobs) if job.step == "stack")
    assert levels == {1: 1, 0: 1}


def test_keeping_is_a_policy_and_says_what_would_improve(late: Bench) -> None:
    before = late.files()
    report = late.run(late.directory / "later", late="keep")
    assert report.jobs["new"] == 0
    assert late.files() == before
    (note,) = report.after.notes
    better = "flat of 2026-03-01 (level 0) rather than of 2026-02-28 (level 1) would be chosen now"
    assert note == f"science: 3 kept, though {better}; --late redo makes them anew"
    assert late.run(late="redo").jobs["new"] == 5


def test_what_is_kept_is_made_anew_once_its_calibration_is_banned(late: Bench) -> None:
    late.run(late.directory / "later", late="keep")
    late.space.registry.write(choose, [late.product("master_flat").job_key], "banned", "dust")
    report = late.run(late="keep")
    assert report.jobs["new"] == 5


def test_only_what_came_late_is_kept(late: Bench) -> None:
    late.run(late.directory / "later", late="keep")
    assert {job.state for job in late.planned(late="keep").jobs} == {"reused"}
    assert any(job.state == "new" for job in late.planned(late="keep", parameters={"flat.sigma": 3.3}).jobs)
    levels = [job.worst_level for job in late.planned(late="keep", quality_threshold=0).jobs]
    assert max(levels) == 0
    used = late.space.registry.read(main_frames, late.product("master_flat").job_key)
    late.space.registry.write(choose, [f"f{one}" for one in used], "banned", "clouds")
    assert sum(job.state == "new" for job in late.planned(late="keep").jobs) == 5


def test_a_ban_outlasts_other_parameters(late: Bench) -> None:
    late.run(late.directory / "later")
    best = max(
        late.space.registry.read(find_products, ProductFilter(category="master_flat")),
        key=lambda one: one.night,
    )
    late.space.registry.write(choose, [best.job_key], "banned", "dust")
    found = late.planned(targets=("science",), parameters={"flat.sigma": 3.3})
    nights = {job.group.text("night") for job in found.jobs if job.step == "flat"}
    assert nights == {"2026-02-28"}


def test_a_product_is_explained_by_what_changed(late: Bench) -> None:
    product = f"p{late.product('science').id}"
    assert explain(late.space, product)["standing"] == "current"
    late.run(late.directory / "later", late="keep")
    found = explain(late.space, product)
    assert found["standing"].startswith("would be made anew")
    (change,) = found["changes"]
    assert change.startswith("flat: flat-")
    assert "2026-03-01" in change and "was flat of 2026-02-28" in change and "level 1" in change


def test_a_banned_frame_leaves_its_sets_and_comes_back(fresh: Bench) -> None:
    fresh.run(fresh.raw)
    path = fresh.frames("science")[1]
    name = subject(fresh.space, str(path))
    fresh.space.registry.write(choose, [name], "banned", "a plane")
    report = fresh.run(fresh.raw)  # registering it again does not lift the ban
    assert report.exit_code == 0, report.problems
    (row,) = [one for one in fresh.space.registry.read(list_frames) if f"f{one['id']}" == name]
    assert (row["status"], row["reason"]) == ("refused", "banned: a plane")
    assert combined(fresh) == 2
    fresh.space.registry.write(withdraw, [name])
    attempts = fresh.attempts()
    assert fresh.run().exit_code == 0
    assert fresh.work(attempts) == {}
    assert combined(fresh) == 3


def test_a_banned_master_gives_way_and_a_pinned_one_comes_first(late: Bench) -> None:
    first = late.product("master_flat").job_key
    late.run(late.directory / "later")
    late.space.registry.write(choose, [first], "pinned", "")
    attempts = late.attempts()
    assert late.run().exit_code == 0
    assert late.work(attempts) == {}  # what was made with it is there
    assert [by is None for _, by in states(late, "stack")] == [True, False]
    late.space.registry.write(choose, [first], "banned", "dust")
    assert late.run().exit_code == 0
    assert [by is None for _, by in states(late, "stack")] == [False, True]


def test_a_banned_calibrated_frame_leaves_its_stack(fresh: Bench) -> None:
    fresh.run(fresh.raw)
    fresh.space.registry.write(choose, [fresh.product("science").job_key], "banned", "trailed")
    report = fresh.run()
    assert report.jobs["new"] == 1, report
    assert [by is None for _, by in states(fresh, "stack")] == [False, True]
