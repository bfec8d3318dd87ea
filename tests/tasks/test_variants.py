"""What other parameters made stands beside what the project's made, stacks of objects beside those of sequences."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from astropy.io import fits

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.stages import stage_states
from ccdflow.archive.registry.jobs.lifecycle import begin_job, complete_job
from ccdflow.archive.registry.jobs.products import ProductFilter, find_products
from ccdflow.archive.registry.jobs.records import JobRecord, find_job, find_jobs
from ccdflow.archive.registry.sets.records import SetFilter, SetRecord, find_sets
from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.planning.request import Request
from ccdflow.flows.stages import of_stages
from ccdflow.simulate import simulate_night
from ccdflow.tasks.grouping import group_sets
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.inputs import read_inputs
from ccdflow.tasks.nightlog import night_summaries, singles_in_words
from ccdflow.tasks.outputs import store_result
from ccdflow.tasks.planning import planned, planned_again
from ccdflow.tasks.rounds import Round
from ccdflow.tasks.workspace import Workspace

OWN = Request(now="2026-03-02T12:00:00")
FRAMES = {"bias": 3, "dark": 2, "flat": 2, "science": 3}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A few frames of one camera; the science frames are one sequence of one filter."""
    directory = tmp_path_factory.mktemp("small")
    simulate_night(directory, night="small", shape=(64, 64))
    folder = directory / "raw" / "SIM1-CAM1"
    return [path for kind, n in FRAMES.items() for path in sorted(folder.glob(f"*_{kind}.fits"))[:n]]


@pytest.fixture(params=["sqlite", "postgresql"])
def night(request: pytest.FixtureRequest, space: Workspace, raw: list[Path]) -> Workspace:
    if request.param == "postgresql":
        registry = Registry(request.getfixturevalue("new_database"))
        registry.upgrade()
        request.addfinalizer(registry.close)
        space = replace(space, registry=registry)
    ingest_files(space, raw)
    return space


def doing(space: Workspace) -> Callable[[list[Job]], dict[str, str]]:
    """Does jobs as a worker does them, but for Prefect."""
    stages = {name: step.stage for name, step in space.cascade.tasks.items()}

    def do(jobs: list[Job]) -> dict[str, str]:
        for job in jobs:
            begun = space.registry.write(begin_job, job.key, "test", 60.0, stages)
            if begun is None:
                continue
            inputs = read_inputs(space, begun.job)
            recipe = space.recipes[job.recipe]
            values = {name: resolved["value"] for name, resolved in begun.job.parameters.items()}
            # These frames are too small for stars.
            values |= {"register": "none"} if job.recipe == "stack" else {}
            result = recipe.run(inputs.recipe_inputs, recipe.parameters.model_validate(values))
            files = store_result(space, begun.job, inputs, result, dict(begun.outputs))
            space.registry.write(complete_job, begun, "test", files, stages)
        return {}

    return do


def run(space: Workspace, request: Request = OWN, **parameters: object) -> None:
    """All stages of `ccdflow run`, one after the other."""
    wanted = request.model_copy(
        update={"parameters": {k.replace("__", "."): v for k, v in parameters.items()}}
    )
    for stages in (("calibrate", "science"), None, ("stack",)):
        if stages is None:
            group_sets(space, wanted)
            continue
        Round(
            space,
            lambda: planned_again(space, wanted, ()),
            doing(space),
            partial(of_stages, stages=stages),
        ).run()
    # Takes stock: sets are linked with what was made of them.
    Round(space, lambda: planned(space, wanted), grouping=wanted).run()


def current(space: Workspace, category: str) -> list[JobRecord]:
    products = space.registry.read(find_products, ProductFilter(category=category))
    jobs = [
        space.registry.read(find_job, product.job_key)
        for product in products
        if product.superseded_by is None
    ]
    return [job for job in jobs if job is not None]


def sets(space: Workspace, step: str | None = None) -> list[SetRecord]:
    return space.registry.read(find_sets, SetFilter(step=step, status=None))


def test_a_run_with_other_flats_supersedes_no_calibrated_frame(night: Workspace) -> None:
    run(night)
    own, stacks, before = current(night, "science"), current(night, "stack"), sets(night)
    run(night, flat__low=0.3)
    assert {job.key for job in own} < {job.key for job in current(night, "science")}
    assert len(current(night, "science")) == 2 * len(own)
    assert {job.key for job in stacks} < {job.key for job in current(night, "stack")}
    # The sets have the products that they had.
    assert sets(night) == before


def test_a_run_with_other_groups_leaves_sets_and_stacks(night: Workspace) -> None:
    run(night)
    stacks, before = current(night, "stack"), sets(night)
    run(night, stack__max_stack=2)
    assert sets(night) == before
    assert {job.key for job in stacks} < {job.key for job in current(night, "stack")}
    run(night)
    assert sets(night) == before
    assert {job.key for job in stacks} < {job.key for job in current(night, "stack")}


def test_a_first_run_with_other_groups_makes_the_sets_of_the_project(night: Workspace) -> None:
    run(night, stack__max_stack=2)
    assert [(record.action, len(record.frames), record.product_id) for record in sets(night)] == [
        ("stack", 3, None)
    ]
    assert len(current(night, "stack")) == 1
    run(night)
    assert [record.product_id is not None for record in sets(night)] == [True]


def test_parameters_that_become_the_projects_make_their_products_its_own(night: Workspace) -> None:
    run(night)
    run(night, stack__sigma=4.0)
    assert [job.variant != "" for job in current(night, "stack")] == [False, True]
    stack = night.cascade.tasks["stack"]
    changed = stack.model_copy(update={"parameters": {"sigma": 4.0}})
    tasks = {**night.cascade.tasks, "stack": changed}
    changed_cascade = night.cascade.model_copy(update={"tasks": tasks})
    run(replace(night, cascade=changed_cascade))
    assert [job.variant for job in current(night, "stack")] == ["", ""]


def test_other_parameters_give_way_to_themselves(night: Workspace, raw: list[Path], tmp_path: Path) -> None:
    """A frame more of the sequence: the variant's new stack takes the place of its old one, and of no other."""
    first = next(path for path in raw if "science" in path.name)
    run(night)
    run(night, stack__sigma=4.0)
    with fits.open(first) as hdus:
        hdus[0].header["OBJECT"] = "another"
        hdus[0].writeto(tmp_path / first.name)
    first_bytes = first.read_bytes()
    try:
        first.write_bytes((tmp_path / first.name).read_bytes())
        ingest_files(night, [first])
        run(night, stack__sigma=4.0)
        left = current(night, "stack")
        assert sorted((len(job.inputs), job.variant != "") for job in left) == [(2, True), (3, False)]
        run(night)
        assert sorted((len(job.inputs), job.variant != "") for job in current(night, "stack")) == [
            (2, False),
            (2, True),
        ]
    finally:
        first.write_bytes(first_bytes)


def alternating(paths: Sequence[Path], folder: Path) -> list[Path]:
    """The same frames, and each science frame of another filter than the one before."""
    made = []
    for number, path in enumerate(sorted(paths, key=lambda path: path.name)):
        with fits.open(path) as hdus:
            header = hdus[0].header
            if "science" in path.name:
                header["FILTER"] = "LR"[number % 2]
            hdus[0].writeto(folder / path.name)
        made.append(folder / path.name)
    return made


def test_stacks_of_objects_are_made_where_they_are_asked_for_beside_those_of_sequences(
    night: Workspace,
) -> None:
    run(night)
    sequences = sets(night, "stack")
    assert sets(night, "stack_object") == []
    run(night, OWN.model_copy(update={"targets": ("object",)}))
    (of_object,) = sets(night, "stack_object")
    assert (of_object.action, of_object.frames) == ("stack", sequences[0].frames)
    assert sets(night, "stack") == sequences
    # All frames of the sequence are all of the object: it is one work, done once, and the product of both sets.
    assert of_object.product_id == sequences[0].product_id
    assert len([job for job in night.registry.read(find_jobs) if job.recipe == "stack"]) == 1


def test_a_work_of_two_tasks_stays_while_one_of_them_has_it(
    night: Workspace, raw: list[Path], tmp_path: Path
) -> None:
    by_object = OWN.model_copy(update={"targets": ("stack_object",)})
    run(night, by_object)
    run(night)
    (product,) = {record.product_id for record in sets(night)}
    assert product is not None
    # Two hours later one frame more of the same object: another sequence, but not another object.
    last = sorted(path for path in raw if "science" in path.name)[-1]
    with fits.open(last) as hdus:
        date, time = hdus[0].header["DATE-OBS"].split("T")
        hdus[0].header["DATE-OBS"] = f"{date}T{int(time[:2]) + 2:02d}{time[2:]}"
        hdus[0].data[0, 0] += 1
        hdus[0].writeto(tmp_path / "late.fits")
    ingest_files(night, [tmp_path / "late.fits"])
    run(night, by_object)
    records = {record.step: record for record in night.registry.read(find_sets) if record.action == "stack"}
    assert len(records["stack_object"].frames) == 4 and records["stack"].product_id == product
    stacks = night.registry.read(find_products, ProductFilter(category="stack"))
    assert [one.superseded_by for one in stacks] == [None, None]


def test_alternating_filters_pass_as_singles_and_are_stacked_by_object(
    space: Workspace, raw: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "alternating"
    folder.mkdir()
    ingest_files(space, alternating(raw, folder))
    plan = planned(space, OWN.model_copy(update={"targets": ("stack", "stack_object")}))
    actions = [(one.step, one.action, len(one.frames)) for one in plan.sets]
    assert actions.count(("stack", "pass", 1)) == 3
    assert ("stack_object", "stack", 2) in actions
    group_sets(space, OWN)
    (sentence,) = singles_in_words(space, {"2026-03-01"})
    assert sentence == (
        "night 2026-03-01: 3 of 3 frames pass as single frames, since object, filter or exposure time change from one "
        "to the next; 'ccdflow run --target stack_object' stacks them by object and filter (1 stack)"
    )
    assert sentence in night_summaries(str(space.project.directory), OWN)["2026-03-01"]
    assert singles_in_words(space, {"2026-03-02"}) == []


def test_frames_that_are_done_are_not_waiting_again_for_other_parameters(night: Workspace) -> None:
    run(night)
    frames = [frame for record in sets(night) for frame in record.frames]
    before = night.registry.read(stage_states, "stack", frames)
    wanted = OWN.model_copy(update={"parameters": {"stack.sigma": 4.0}})
    Round(night, lambda: planned(night, wanted), lambda jobs: {}).run()
    assert night.registry.read(stage_states, "stack", frames) == before
