import json
import re
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from uuid import UUID

import numpy as np
import pytest
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun
from tests.flows.conftest import FRAMES, NIGHT, STEPS, Bench, flow_runs

from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.archive.registry.jobs.products import find_products
from ccdflow.archive.registry.jobs.records import find_jobs
from ccdflow.cascade.planning.request import Request
from ccdflow.flows.nightly import nightly

PATIENCE = 60.0
"""Seconds within which the server has recorded all task runs."""


@pytest.fixture(scope="module")
def observed(server: str, new_bench: Callable[[], Bench]) -> Bench:
    """A night reduced by the flow `nightly` with files to register, one camera and one night asked for."""
    bench = new_bench()
    request = Request(night=NIGHT, camera="CAM1")
    assert nightly(str(bench.project), [str(bench.raw)], request) == {}
    return bench


def runs_of(bench: Bench) -> dict[str, FlowRun]:
    """Flow runs of a project by the first word of their names, in the order in which they started."""
    runs = [run for run in flow_runs() if run.parameters.get("project") == str(bench.project)]
    return {run.name.split()[0]: run for run in runs}


def task_runs(bench: Bench, wanted: int) -> list[TaskRun]:
    """Recorded task runs of the stages, the subflows' own left out; waits until there are as many as wanted."""
    ids = [run.id for run in runs_of(bench).values()]
    end = time.monotonic() + PATIENCE
    while True:
        with get_client(sync_client=True) as client:
            found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)))
        tasks = [
            one
            for one in found
            if one.state is not None and one.state.state_details.child_flow_run_id is None
        ]
        if (
            sum(one.state is not None and one.state.is_final() for one in tasks) >= wanted
            or time.monotonic() > end
        ):
            return tasks
        time.sleep(0.2)


def artifacts(run: UUID) -> list[Artifact]:
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        return client.read_artifacts(artifact_filter=wanted)


def test_there_is_a_flow_run_for_each_stage_below_that_of_the_night(observed: Bench) -> None:
    runs = runs_of(observed)
    assert list(runs) == ["nightly", "ingest", "calibrate", "science", "group", "stack"]
    assert {run.state_name for run in runs.values()} == {"Completed"}
    assert runs["nightly"].parent_task_run_id is None
    assert all(runs[stage].parent_task_run_id for stage in runs if stage != "nightly")


def test_flow_runs_are_named_by_stage_project_camera_and_night(observed: Bench) -> None:
    names = {stage: run.name for stage, run in runs_of(observed).items()}
    assert names.pop("ingest") == "ingest project"
    assert names == {stage: f"{stage} project CAM1 {NIGHT}" for stage in names}


def test_each_job_is_one_task_run_named_like_a_line_of_an_observing_log(observed: Bench) -> None:
    jobs = {job.key[:8]: job for job in observed.space.registry.read(find_jobs)}
    tasks = task_runs(observed, len(jobs))
    named = {task.name.rsplit(" ", 1)[1]: task for task in tasks}
    assert len(tasks) == len(jobs) == sum(STEPS.values())
    assert named.keys() == jobs.keys()
    for key, job in jobs.items():
        words = named[key].name.split()
        assert job.step in words
        assert job.object in words
        assert (job.filter in words) == (job.step in ("flat", "science", "stack"))
    assert {task.state_name for task in tasks} == {"Completed"}


def test_task_runs_carry_night_camera_object_and_step_as_tags(observed: Bench) -> None:
    tasks = task_runs(observed, sum(STEPS.values()))
    assert all({NIGHT, "CAM1"} <= set(task.tags) for task in tasks)
    tags = Counter(tag for task in tasks for tag in task.tags)
    assert {step: tags[step] for step in STEPS} == STEPS
    objects = {job.object for job in observed.space.registry.read(find_jobs) if job.step == "science"}
    assert len(objects) == 1
    assert tags[objects.pop()] == STEPS["science"] + STEPS["stack"]


def test_the_stages_do_the_jobs_of_their_stage(observed: Bench) -> None:
    runs = {run.id: stage for stage, run in runs_of(observed).items()}
    tasks = task_runs(observed, sum(STEPS.values()))
    where = {
        (runs[task.flow_run_id], step)
        for task in tasks
        if task.flow_run_id
        for step in STEPS
        if step in task.tags
    }
    calibrate = {("calibrate", step) for step in ("bias", "dark", "flat")}
    assert where == calibrate | {("science", "science"), ("stack", "stack")}


def pages(run: UUID) -> dict[str, Artifact]:
    """What stands on the artifacts of a flow run, by the first words of their keys behind the project's."""
    return {str(one.key).removeprefix("project-").split("-")[0]: one for one in artifacts(run)}


def test_each_night_has_one_summary(observed: Bench) -> None:
    summary = pages(runs_of(observed)["nightly"].id)["night"]
    assert (summary.key, summary.type) == (f"project-night-{NIGHT}", "markdown")
    text = str(summary.data)
    assert "10 frames" in text
    for category, number in (("master_bias", 1), ("master_flat", 1), ("science", 3), ("stack", 1)):
        assert f"{category} | {number}" in text


def test_each_camera_has_an_observing_log_of_its_night(observed: Bench) -> None:
    log = pages(runs_of(observed)["nightly"].id)["log"]
    assert (log.key, log.type) == (f"project-log-{NIGHT}-sim1-cam1", "table")
    rows = json.loads(log.data)
    assert [row["class"] for row in rows] == [kind for kind, number in FRAMES.items() for _ in range(number)]
    known = {one.id: one for one in observed.space.registry.read(find_frames)}
    products = {f"p{one.id}": one.category for one in observed.space.registry.read(find_products)}
    for row in rows:
        frame = known[int(row["frame"][1:])]
        assert (row["object"], row["exposure"]) == (frame.object, frame.exptime)
    science = [row for row in rows if row["class"] == "science"]
    assert {row["state"] for row in science} == {"stack done"}
    assert [sorted(products[one] for one in row["product"].split()) for row in science] == [
        ["science", "stack"]
    ] * 3
    assert len({row["set"] for row in science} - {""}) == 1


def test_a_camera_s_page_tells_ledger_latency_and_shows_the_last_stack(observed: Bench) -> None:
    page = str(pages(runs_of(observed)["nightly"].id)["camera"].data)
    assert "10 frames" in page and "science | stack done | 3" in page
    assert "From insert to calibrated frame: half within " in page
    assert page.count("(data:image/png;base64,") == 1 and "## Not done" not in page


def test_a_stack_s_page_shows_its_picture_and_numbers(observed: Bench) -> None:
    page = pages(runs_of(observed)["nightly"].id)["stack"]
    stack = observed.product("stack")
    assert f"Stack p{stack.id}" in str(page.description)
    (picture,) = re.findall(r"data:image/png;base64,([^)]*)\)", str(page.data))
    grey = np.asarray(Image.open(BytesIO(b64decode(picture))))
    assert grey.shape == (96, 96) and np.ptp(grey) > 100
    for name, value in stack.quality.items():
        assert f"{name} | {value:.4g}" in str(page.data)


def test_a_failed_job_is_a_failed_task_run_and_stands_in_the_summary(server: str, fresh: Bench) -> None:
    fresh.run(fresh.raw, targets=("flat",))
    bad = fresh.frames("science")[1]
    bad.unlink()
    (key,) = nightly(str(fresh.project))
    runs = [run for run in flow_runs() if run.parameters.get("project") == str(fresh.project)]
    last = [run for run in runs if run.name.startswith("nightly")][-1]
    # What failed in one stage is not handed to the next as a parameter: of many failed jobs Prefect takes no such run.
    stages = runs[runs.index(last) + 1 :]
    said = {run.name.split()[0]: json.dumps(run.parameters) for run in stages}
    assert list(said) == ["calibrate", "science", "group", "stack"]
    assert all(len(text) < 1000 and key not in text and bad.name not in text for text in said.values())
    found = pages(last.id)
    summary, page = found["night"], found["camera"]
    assert "## Not done" in str(page.data) and f"failed | {bad} can't be read" in str(page.data)
    assert "## Not done" in str(summary.data)
    assert f"{bad.name} can't be read" in str(summary.data)
    tasks = task_runs(fresh, 4)
    assert [task.name.rsplit(" ", 1)[1] for task in tasks if task.state_name == "Failed"] == [key[:8]]
