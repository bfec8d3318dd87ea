"""One round: what stands in the registry before, while and after jobs are done; what differs between its callers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ccdflow.archive.registry.frames.stages import stage_states
from ccdflow.archive.registry.jobs.records import JobFilter, find_jobs
from ccdflow.archive.registry.sets.records import find_sets
from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.request import Request
from ccdflow.simulate import simulate_night
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.planning import planned
from ccdflow.tasks.rounds import Round
from ccdflow.tasks.workspace import Workspace

AT_THE_END = Request(now="2026-03-02T12:00:00")


FRAMES = {"bias": 3, "dark": 2, "flat": 2, "science": 3}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A few frames of one camera, filter and sequence."""
    directory = tmp_path_factory.mktemp("small")
    simulate_night(directory, night="small", shape=(64, 64))
    folder = directory / "raw" / "SIM1-CAM1"
    return [path for kind, n in FRAMES.items() for path in sorted(folder.glob(f"*_{kind}.fits"))[:n]]


@pytest.fixture
def night(space: Workspace, raw: list[Path]) -> Workspace:
    """A project with a night's frames, of which nothing is planned."""
    ingest_files(space, raw)
    return space


def plan_of(space: Workspace) -> Callable[[], Plan]:
    return lambda: planned(space, AT_THE_END)


def calibrations(jobs: list[Job]) -> list[Job]:
    return [job for job in jobs if job.stage == "calibrate"]


def waiting(space: Workspace, job: Job) -> set[str]:
    """States of a job's frames in its stage."""
    return set(
        space.registry.read(stage_states, job.stage, [frame.id for frame in job.group.frames]).values()
    )


def test_jobs_are_written_and_frames_wait_before_any_is_done(night: Workspace) -> None:
    known: list[dict[str, str]] = []

    def do(jobs: list[Job]) -> dict[str, str]:
        known.append({record.key: record.state for record in night.registry.read(find_jobs)})
        assert [waiting(night, job) for job in jobs] == [{"waiting"}] * len(jobs)
        return {}

    work = Round(night, plan_of(night), do, calibrations).run()
    assert work.jobs and {job.stage for job in work.jobs} == {"calibrate"}
    assert {known[0][job.key] for job in work.jobs} == {"planned"}
    assert len(known[0]) > len(work.jobs)  # also those of later rounds


def test_sets_are_cut_behind_the_work(night: Workspace) -> None:
    sets: list[int] = []

    def do(_jobs: list[Job]) -> dict[str, str]:
        sets.append(len(night.registry.read(find_sets)))
        return {}

    Round(night, plan_of(night), do, grouping=AT_THE_END).run()
    assert sets == [0] and night.registry.read(find_sets)


def test_sets_are_left_alone_where_another_flow_cuts_them(night: Workspace) -> None:
    Round(night, plan_of(night), lambda jobs: {}).run()
    assert night.registry.read(find_sets) == []


def test_what_failed_is_not_done_again_nor_what_needs_it_and_no_frame_waits_for_it(night: Workspace) -> None:
    bias = next(job for job in planned(night, AT_THE_END).jobs if job.step == "bias")
    work = Round(night, plan_of(night), lambda jobs: {}).run({bias.key})
    keys = {job.key for job in work.jobs}
    assert bias.key not in keys and not any(bias.key in job.parents for job in work.jobs)
    assert waiting(night, bias) == set()
    assert night.registry.read(find_jobs, JobFilter(keys=[bias.key]))[0].state == "planned"


def test_the_plan_of_a_part_is_written_only_where_something_can_be_done(night: Workspace) -> None:
    work = Round(night, plan_of(night), lambda jobs: {}, choose=lambda jobs: [], extent="beginning").run()
    assert not work.jobs and night.registry.read(find_jobs) == []
    Round(night, plan_of(night), lambda jobs: {}, choose=lambda jobs: []).run()
    assert night.registry.read(find_jobs)


def test_of_the_plan_of_a_part_no_more_is_written_than_what_is_begun_and_what_cannot_be_done(
    night: Workspace,
) -> None:
    def plan() -> Plan:
        return planned(
            night, AT_THE_END.model_copy(update={"quality_threshold": -3, "targets": ("bias", "stack")})
        )

    can_not = {job.key: job.reason for job in plan().jobs if job.state == "incomplete"}
    assert can_not and any(job.state == "new" for job in plan().jobs)
    work = Round(night, plan, lambda jobs: {}, choose=lambda jobs: jobs[:1], extent="beginning").run()
    known = {job.key: job for job in night.registry.read(find_jobs)}
    assert {key: job.reason for key, job in known.items() if job.state == "incomplete"} == can_not
    assert {key for key, job in known.items() if job.state == "planned"} == {job.key for job in work.jobs}
    # What is known to be lacking is not written each time, and still told.
    Round(night, plan, lambda jobs: {}, choose=lambda jobs: jobs[:1], extent="beginning").run()
    again = {job.key: job for job in night.registry.read(find_jobs)}
    assert again == known
    # With a plan of whole nights all the rest comes.
    Round(night, plan, lambda jobs: {}, choose=lambda jobs: []).run()
    assert {job.key for job in night.registry.read(find_jobs)} == {job.key for job in plan().jobs}


def test_where_nothing_can_be_due_sets_are_cut_all_the_same(night: Workspace) -> None:
    def do(_jobs: list[Job]) -> dict[str, str]:
        raise AssertionError("nothing was planned")

    work = Round(night, lambda: None, do, grouping=AT_THE_END).run()
    assert not work.jobs and not work.failed
    assert night.registry.read(find_jobs) == [] and night.registry.read(find_sets)


def test_a_round_that_only_takes_stock_writes_the_plan(night: Workspace) -> None:
    work = Round(night, plan_of(night), grouping=AT_THE_END).run()
    assert not work.jobs
    assert night.registry.read(find_jobs) and night.registry.read(find_sets)
