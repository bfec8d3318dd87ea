"""Products made again, handed out, thrown away; what is missing; pages about products."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.flows.conftest import Bench, ccdflow

from ccdflow.archive.registry.choices import choose
from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.archive.registry.jobs.lineage import main_frames
from ccdflow.archive.registry.jobs.productchanges import lose_products
from ccdflow.archive.registry.jobs.products import ProductFilter, ProductRecord, find_products
from ccdflow.archive.registry.jobs.records import JobFilter, find_job, find_jobs
from ccdflow.archive.registry.sets.records import find_sets
from ccdflow.archive.store import RESULTS
from ccdflow.cascade.planning.request import Request
from ccdflow.commands.queries import missing_calibrations
from ccdflow.commands.reports import report
from ccdflow.config.project import PROJECT_FILE
from ccdflow.flows.live import sweep
from ccdflow.flows.nightly import nightly
from ccdflow.tasks.again import make_again
from ccdflow.tasks.housekeeping import RECORD_AGE_S, export, forget_records, throw_away, waste
from ccdflow.tasks.planning import planned


def products(bench: Bench, category: str = "science") -> list[ProductRecord]:
    return bench.space.registry.read(find_products, ProductFilter(category=category))


def test_what_is_asked_for_again_is_made_again_and_nothing_else(reduced: Bench) -> None:
    before, attempts = reduced.files(), reduced.attempts()
    (flat,) = products(reduced, "master_flat")
    assert make_again(reduced.space, [flat.job_key]) == [flat.job_key]
    assert reduced.run().exit_code == 0
    assert reduced.work(attempts) == {"flat": 1}
    attempts = reduced.attempts()
    done = ccdflow(reduced, "redo", f"p{flat.id}", "--below")
    assert done.stdout.startswith("5 to be made again"), done
    assert reduced.run().exit_code == 0
    assert reduced.work(attempts) == {"flat": 1, "science": 3, "stack": 1}
    assert reduced.files() == before


def test_products_are_handed_out_under_names_of_ones_own(reduced: Bench, tmp_path: Path) -> None:
    found = products(reduced)
    put = list(export(reduced.space, found, tmp_path, template="{night}/{object}-{header.filter}.fits"))
    names = sorted(path.relative_to(tmp_path).as_posix() for _, path in put)
    assert len(set(names)) == 3 and all(name.startswith("2026-03-01/") for name in names)
    for one, path in put:
        assert path.read_bytes() == reduced.space.store.absolute(one.path).read_bytes()
    before = {path: path.stat().st_mtime_ns for _, path in put}
    list(export(reduced.space, found, tmp_path, template="{night}/{object}-{header.filter}.fits"))
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("mode", ["link", "symlink"])
def test_links_need_no_space(reduced: Bench, tmp_path: Path, mode: str) -> None:
    ((one, path),) = export(reduced.space, products(reduced)[:1], tmp_path, mode=mode)
    assert path.samefile(reduced.space.store.absolute(one.path)) and path.is_symlink() == (mode == "symlink")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{nigth}", "unknown 'nigth'; known: night"),
        ("../{id}", "out of the folder"),
        ("", "names no file"),
        (".", "names no file"),
        ("{id", "template '{id': expected '}'"),
    ],
)
def test_templates_that_can_not_be_are_refused(
    reduced: Bench, tmp_path: Path, template: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        list(export(reduced.space, products(reduced), tmp_path / "out", template=template))
    assert not (tmp_path / "out").exists()


def test_what_can_not_be_handed_out_is_told_and_the_others_are(reduced: Bench, tmp_path: Path) -> None:
    gone, *others = products(reduced)
    reduced.space.store.absolute(gone.path).unlink()
    done = ccdflow(reduced, "export", "--category", "science", "-o", str(tmp_path / "out"))
    assert done.returncode == 1 and f"p{gone.id} was not handed out" in done.stderr
    assert len(list((tmp_path / "out").rglob("*.fits"))) == len(others)
    told: list[str] = []
    odd = [replace(others[0], object=".."), replace(others[0], object="x" * 300), others[1]]
    put = list(export(reduced.space, odd, tmp_path, template="{object}/{id}.fits", warn=told.append))
    assert [product.id for product, _ in put] == [others[1].id] and len(told) == 2


@pytest.mark.parametrize("amount", [-1.0, float("nan")])
def test_an_amount_that_says_nothing_deletes_nothing(reduced: Bench, amount: float) -> None:
    with pytest.raises(ValueError, match=r"days is .*, wanted 0 or more"):
        waste(reduced.space, days=amount)
    with pytest.raises(ValueError, match=r"bytes is .*, wanted 0 or more"):
        waste(reduced.space, most_bytes=amount)


def test_only_what_is_superseded_and_not_needed_is_thrown_away(reduced: Bench) -> None:
    assert waste(reduced.space) == []
    reduced.space.registry.write(choose, [f"f{_first_science(reduced)}"], "banned", "")
    assert reduced.run().exit_code == 0
    found = waste(reduced.space)
    assert [one.product.category for one in found] == ["stack"]
    assert waste(reduced.space, days=1) == [] and waste(reduced.space, most_bytes=10**9) == []
    assert [one.product for one in waste(reduced.space, most_bytes=0)] == [one.product for one in found]
    path = reduced.space.store.absolute(found[0].product.path)
    assert ccdflow(reduced, "clean").returncode == 0 and path.exists()
    record = reduced.space.store.root / RESULTS / found[0].product.job_key
    assert record.exists()
    assert throw_away(reduced.space, found) == found[0].product.size and not path.exists()
    assert not record.exists()
    assert reduced.run().jobs["new"] == 0  # it is not wanted
    assert json.loads(ccdflow(reduced, "verify", "--json").stdout)["problems"] == []


def test_records_of_jobs_that_are_not_done_go_once_nobody_can_be_writing_them(reduced: Bench) -> None:
    folder = reduced.space.store.root / RESULTS
    stacked, *_ = products(reduced, "stack")
    kept = {path.name for path in folder.iterdir()}
    reduced.space.registry.write(lose_products, [stacked.id], "away")
    assert forget_records(reduced.space) == 0  # as young as one whose job is about to be done
    for path in folder.iterdir():
        os.utime(path, (time.time() - 2 * RECORD_AGE_S,) * 2)
    assert forget_records(reduced.space) == 1
    assert {path.name for path in folder.iterdir()} == kept - {stacked.job_key}


def _first_science(bench: Bench) -> int:
    return bench.space.registry.read(main_frames, products(bench)[0].job_key)[0]


def test_missing_calibrations_are_told_by_kind(reduced: Bench) -> None:
    # Flats that are there but of another filter: without any flat the frames would be made, at a worse level.
    assert ccdflow(reduced, "amend", "--class", "flat", "filter=Z", "--why", "another wheel").returncode == 0
    (row,) = missing_calibrations(planned(reduced.space, Request(targets=("science",))))
    assert (row["missing"], row["camera"], row["frames"], row["nights"]) == (
        "flat",
        "CAM1",
        3,
        ["2026-03-01"],
    )
    done = ccdflow(reduced, "missing")
    assert done.returncode == 1 and "flat" in done.stdout and "Traceback" not in done.stderr


def test_a_page_about_products(reduced: Bench) -> None:
    ids = [one.id for category in ("master_flat", "stack") for one in products(reduced, category)]
    page = report(reduced.space, ids, raw=True)
    assert page.count("<h2>") == 2 and page.count("data:image/png;base64,") == 2 + 2 + 3
    for word in ("registration_rms", "max_residual", "recipe stack", "_science.fits"):
        assert word in page, word


def test_no_job_is_begun_with_too_little_space_left(fresh: Bench) -> None:
    (fresh.project / PROJECT_FILE).write_text("least_free: 1000 TB\n")
    report = fresh.run(fresh.raw)
    assert report.failed and all("wanted 1000 TB (least_free" in one for one in report.failed.values())
    (fresh.project / PROJECT_FILE).write_text("")
    assert fresh.run().exit_code == 0


def test_all_that_a_frame_went_into_is_made_again(reduced: Bench) -> None:
    attempts, before = reduced.attempts(), reduced.files()
    frame = next(one for one in reduced.space.registry.read(find_frames) if one.frame_class == "flat")
    done = ccdflow(reduced, "redo", f"f{frame.id}")
    assert done.stdout.startswith("5 to be made again"), done
    assert reduced.run().exit_code == 0
    assert reduced.work(attempts) == {"flat": 1, "science": 3, "stack": 1} and reduced.files() == before


def test_a_set_or_a_task_of_a_night_is_made_again(reduced: Bench) -> None:
    attempts = reduced.attempts()
    (stack,) = [one for one in reduced.space.registry.read(find_sets) if one.action == "stack"]
    assert ccdflow(reduced, "redo", f"s{stack.id}").stdout.startswith("1 to be made again")
    found = ccdflow(reduced, "redo", "--night", "2026-03-01", "--camera", "CAM1", "--step", "dark")
    assert found.stdout.startswith("1 to be made again")
    assert reduced.run().exit_code == 0 and reduced.work(attempts) == {"dark": 1, "stack": 1}
    done = ccdflow(reduced, "redo")
    assert done.returncode == 2 and "wanted names, a night, a camera or a task" in done.stderr


def test_what_has_failed_often_is_tried_again_when_somebody_says_so(fresh: Bench) -> None:
    fresh.run(fresh.raw, targets=("flat",))
    gone = fresh.frames("science")[0]
    kept = gone.read_bytes()
    gone.unlink()
    for _ in range(3):
        nightly(str(fresh.project))
    (failed,) = fresh.space.registry.read(find_jobs, JobFilter(states=("failed",)))
    assert failed.attempts == 3
    gone.write_bytes(kept)
    assert sweep(str(fresh.project), max_age_days=1e5) == {}
    assert fresh.space.registry.read(find_job, failed.key).state == "failed"
    assert ccdflow(fresh, "retry").stdout.startswith("1 to be tried again")
    assert sweep(str(fresh.project), max_age_days=1e5) == {}
    assert fresh.space.registry.read(find_job, failed.key).state == "done"
