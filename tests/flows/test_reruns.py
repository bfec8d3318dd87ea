import os
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
from prefect import flow
from tests.flows.conftest import FRAMES, NIGHT, STEPS, Bench, flip, flow_runs

from ccdflow.archive.registry.frames.queries import list_frames
from ccdflow.archive.registry.jobs.lifecycle import job_record
from ccdflow.archive.registry.jobs.products import find_products
from ccdflow.archive.registry.jobs.records import find_job, find_jobs
from ccdflow.archive.registry.sets.records import find_sets
from ccdflow.cascade.planning.request import Request
from ccdflow.flows.nightly import nightly
from ccdflow.recipes.catalogue import RECIPES
from ccdflow.tasks.planning import planned
from ccdflow.tasks.running import job_title, recipe_task

ALL = {"new": 0, "reused": 7, "failed": 0, "incomplete": 0}


def counts(*, new: int = 0, reused: int = 0, failed: int = 0, incomplete: int = 0) -> dict[str, int]:
    return {"new": new, "reused": reused, "failed": failed, "incomplete": incomplete}


def test_a_first_run_does_each_job_once(pattern: Bench) -> None:
    jobs = pattern.space.registry.read(find_jobs)
    assert {step: sum(job.step == step for job in jobs) for step in STEPS} == STEPS
    assert {(job.state, job.attempts) for job in jobs} == {("done", 1)}


def test_a_second_run_starts_no_flow_and_begins_no_job(reduced: Bench) -> None:
    runs, begun, files = len(flow_runs()), reduced.attempts(), reduced.files()
    report = reduced.run(reduced.raw)
    assert report.jobs == ALL
    assert report.exit_code == 0
    assert report.ingested.counts == {"known": sum(FRAMES.values())}
    assert len(flow_runs()) == runs
    assert reduced.work(begun) == {}
    assert reduced.files() == files


def test_the_flow_itself_begins_no_job_where_all_is_done(reduced: Bench) -> None:
    begun, files = reduced.attempts(), reduced.files()
    assert nightly(str(reduced.project)) == {}
    assert reduced.work(begun) == {}
    assert reduced.files() == files


def test_a_task_run_for_work_that_is_done_ends_cached(reduced: Bench) -> None:
    begun = reduced.attempts()
    jobs = planned(reduced.space, Request()).jobs

    @flow
    def again() -> list[tuple[str, object]]:
        tasks = [recipe_task(job.recipe, reduced.space.project.store, anew=False) for job in jobs]
        states = [
            task(str(reduced.project), job.key, job_title(job) + " {M 13}", return_state=True)
            for task, job in zip(tasks, jobs, strict=True)
        ]
        return [(state.name, state.result()) for state in states]

    found = again()
    assert [name for name, _ in found] == ["Cached"] * len(jobs)
    assert [record for _, record in found] == [
        reduced.space.registry.read(job_record, job.key) for job in jobs
    ]
    assert reduced.work(begun) == {}


def test_a_changed_parameter_remakes_the_steps_that_it_belongs_to_and_what_follows(reduced: Bench) -> None:
    begun, files = reduced.attempts(), reduced.files()
    report = reduced.run(parameters={"stack.sigma": 4.5})
    assert report.jobs == counts(new=1, reused=6)
    assert reduced.work(begun) == {"stack": 1}
    assert files.items() < reduced.files().items(), "the old stack stays beside the new one"
    assert len(reduced.files()) == len(files) + 1


def test_going_back_to_an_old_parameter_finds_the_old_product(reduced: Bench) -> None:
    reduced.run(parameters={"stack.sigma": 4.5})
    begun = reduced.attempts()
    assert reduced.run().jobs == ALL
    assert reduced.run(parameters={"stack.sigma": 4.5}).jobs == ALL
    assert reduced.work(begun) == {}


@pytest.mark.parametrize(
    ("kind", "remade", "named"),
    [
        ("dark", {"dark": 1, "flat": 1, "science": 3, "stack": 1}, False),
        ("flat", {"flat": 1, "science": 3, "stack": 1}, True),
        ("science", {"science": 1, "stack": 1}, False),
    ],
    ids=["dark, noticed by itself", "flat, ingested again", "science, noticed by itself"],
)
def test_one_changed_byte_in_a_raw_file_remakes_exactly_what_depends_on_it(
    reduced: Bench, kind: str, remade: dict[str, int], named: bool
) -> None:
    begun, files = reduced.attempts(), reduced.files()
    path = reduced.frames(kind)[0]
    flip(path, path.stat().st_size // 2 + 1)
    report = reduced.run(*([path] if named else []))
    number = sum(remade.values())
    assert report.ingested.counts == {"version": 1}
    assert report.jobs == counts(new=number, reused=7 - number)
    assert reduced.work(begun) == remade
    assert files.items() < reduced.files().items(), "what the old frame gave stays as it was"


def test_touching_all_raw_files_remakes_nothing(reduced: Bench) -> None:
    begun, runs = reduced.attempts(), len(flow_runs())
    for path in reduced.raw.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    report = reduced.run()
    assert report.ingested.counts == {"known": sum(FRAMES.values())}
    assert report.jobs == ALL
    assert reduced.work(begun) == {}
    assert len(flow_runs()) == runs


def delete(bench: Bench, category: str) -> None:
    bench.space.store.absolute(bench.product(category).path).unlink()


def damage(bench: Bench, category: str) -> None:
    path = bench.space.store.absolute(bench.product(category).path)
    flip(path, path.stat().st_size // 2)


def truncate(bench: Bench, category: str) -> None:
    path = bench.space.store.absolute(bench.product(category).path)
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("category", "step", "spoil"),
    [
        ("master_flat", "flat", delete),
        ("science", "science", delete),
        ("stack", "stack", delete),
        ("master_bias", "bias", damage),
        ("science", "science", damage),
        ("stack", "stack", truncate),
    ],
)
def test_a_spoilt_product_is_remade_alone_with_the_same_bytes(
    reduced: Bench, category: str, step: str, spoil: Callable[[Bench, str], None]
) -> None:
    begun, files = reduced.attempts(), reduced.files()
    ids = [one.id for one in reduced.space.registry.read(find_products)]
    spoil(reduced, category)
    report = reduced.run()
    assert report.jobs == counts(new=1, reused=6)
    assert reduced.work(begun) == {step: 1}
    assert reduced.files() == files
    assert [one.id for one in reduced.space.registry.read(find_products)] == ids


def test_touching_all_products_remakes_nothing(reduced: Bench) -> None:
    begun = reduced.attempts()
    for one in reduced.space.registry.read(find_products):
        os.utime(reduced.space.store.absolute(one.path), (1_000_000_000, 1_000_000_000))
    assert reduced.run().jobs == ALL
    assert reduced.work(begun) == {}


@pytest.mark.parametrize(
    ("name", "remade"),
    [("flat", {"flat": 1, "science": 3, "stack": 1}), ("stack", {"stack": 1})],
)
def test_a_new_recipe_version_remakes_what_it_makes_and_what_follows(
    reduced: Bench, monkeypatch: pytest.MonkeyPatch, name: str, remade: dict[str, int]
) -> None:
    begun = reduced.attempts()
    newer = {**RECIPES, name: replace(RECIPES[name], version="next")}
    monkeypatch.setattr("ccdflow.tasks.workspace.RECIPES", newer)
    report = reduced.run()
    number = sum(remade.values())
    assert report.jobs == counts(new=number, reused=7 - number)
    assert reduced.work(begun) == remade


def test_lost_records_of_prefect_change_nothing(reduced: Bench) -> None:
    begun, files = reduced.attempts(), reduced.files()
    shutil.rmtree(reduced.space.project.store / ".results")
    assert reduced.run().jobs == ALL
    delete(reduced, "stack")
    assert reduced.run().jobs == counts(new=1, reused=6)
    assert reduced.work(begun) == {"stack": 1}
    assert reduced.files() == files


def test_a_moved_project_is_still_done(reduced: Bench) -> None:
    moved = Bench(reduced.directory.with_name("elsewhere"))
    reduced.space.registry.close()
    reduced.directory.rename(moved.directory)
    begun = moved.attempts()
    report = moved.run(moved.raw)
    assert report.jobs == ALL
    assert report.exit_code == 0
    assert moved.work(begun) == {}


def test_a_target_makes_only_what_it_needs_and_the_next_run_the_rest(server: str, fresh: Bench) -> None:
    assert fresh.run(fresh.raw, targets=("dark",)).jobs == counts(new=2)
    assert fresh.work({}) == {"bias": 1, "dark": 1}
    assert fresh.run().jobs == counts(new=5, reused=2)
    assert fresh.work({}) == STEPS


# --- failures ----------------------------------------------------------------------------------------


def test_a_frame_that_fails_leaves_its_set_smaller_and_the_next_run_tries_again(
    server: str, pattern: Bench, fresh: Bench
) -> None:
    fresh.run(fresh.raw, targets=("flat",))
    bad = fresh.frames("science")[1]
    away = fresh.directory / bad.name
    bad.rename(away)
    report = fresh.run()
    (key, reason), *others = report.failed.items()
    assert not others
    assert bad.name in reason
    assert report.exit_code == 1
    assert report.jobs["failed"] == 1
    assert any(
        f"job {key[:8]} (science " in line and f") failed: {reason}" in line for line in report.problems
    )
    job = fresh.space.registry.read(find_job, key)
    assert job is not None
    assert (job.state, job.step) == ("failed", "science")
    assert reason == job.reason
    assert fresh.work({}) == STEPS
    assert stacked(fresh) == [2]
    row = next(one for one in fresh.space.registry.read(list_frames) if one["path"] == str(bad))
    assert (row["status"], row["reason"]) == ("failed", job.reason)
    balanced(fresh)

    away.rename(bad)
    report = fresh.run()
    assert report.exit_code == 0, report.problems
    assert report.failed == {}
    assert report.jobs == counts(new=2, reused=5)
    assert sorted(stacked(fresh)) == [2, 3]
    assert pattern.files().items() < fresh.files().items()
    balanced(fresh)


def test_a_frame_that_is_cut_short_after_registration_fails_alone(server: str, fresh: Bench) -> None:
    fresh.run(fresh.raw, targets=("flat",))
    bad = fresh.frames("science")[0]
    os.truncate(bad, bad.stat().st_size // 2)
    key = next(job.key for job in planned(fresh.space, Request()).jobs if job.step == "science")
    failed = nightly(str(fresh.project))
    assert list(failed) == [key]
    assert bad.name in failed[key]
    assert fresh.work({}) == STEPS
    assert stacked(fresh) == [2]


def test_a_refused_frame_leaves_its_set_smaller(reduced: Bench) -> None:
    begun = reduced.attempts()
    bad = reduced.frames("science")[2]
    os.truncate(bad, bad.stat().st_size // 2)
    report = reduced.run()
    assert report.exit_code == 1
    assert any(bad.name in line for line in report.problems)
    assert reduced.work(begun) == {"stack": 1}
    assert sorted(stacked(reduced)) == [2, 3]
    balanced(reduced)


def test_a_frame_that_is_restored_is_what_it_was(reduced: Bench) -> None:
    begun = reduced.attempts()
    path = reduced.frames("science")[1]
    whole = path.read_bytes()
    os.truncate(path, len(whole) // 2)
    reduced.run()
    path.write_bytes(whole)
    report = reduced.run()
    assert report.exit_code == 0, report.problems
    assert reduced.work(begun) == {"stack": 1}, "only the stack of the two others was made in between"
    rows = [one for one in reduced.space.registry.read(list_frames) if one["path"] == str(path)]
    assert [(one["stage"], one["status"]) for one in rows] == [("stack", "done")]
    assert [(len(one.frames), one.ready) for one in reduced.space.registry.read(find_sets)] == [(3, True)]
    balanced(reduced)


def test_a_calibration_that_fails_leaves_what_needs_it_incomplete_and_says_so(
    server: str, fresh: Bench
) -> None:
    fresh.run(fresh.raw, targets=("dark",))
    bad = fresh.frames("flat")[0]
    bad.rename(fresh.directory / bad.name)
    report = fresh.run()
    assert report.exit_code == 1
    assert report.jobs["failed"] == 1
    assert report.jobs["incomplete"] >= 3
    assert fresh.work({}) == {"bias": 1, "dark": 1, "flat": 1}
    assert any("incomplete" in line and "flat" in line for line in report.problems)
    balanced(fresh)


def stacked(bench: Bench) -> list[int]:
    """How many frames each stack was made of."""
    jobs = [
        job for job in bench.space.registry.read(find_jobs) if job.step == "stack" and job.state == "done"
    ]
    return [sum(one.role == "main" for one in job.inputs) for job in jobs]


def balanced(bench: Bench) -> None:
    rows = bench.space.registry.read(list_frames)
    assert len(rows) == sum(FRAMES.values())
    assert {row["night"] for row in rows if row["status"] != "refused"} == {NIGHT}
    assert {row["status"] for row in rows} <= {"done", "passed", "refused", "failed", "waiting"}
