"""Cascades as users write them, unlike ours: planned, done and grouped to the end."""

import shutil
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from astropy.io import fits
from prefect.logging import disable_run_logger

from ccdflow.archive.registry.jobs.products import find_products
from ccdflow.archive.registry.jobs.records import find_jobs
from ccdflow.archive.registry.sets.records import find_sets
from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.planning.request import Request
from ccdflow.config.project import init_project
from ccdflow.config.yamlfile import ConfigError
from ccdflow.flows.stages import of_stages
from ccdflow.tasks.grouping import group_sets
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.planning import planned, planned_again
from ccdflow.tasks.processes.functions import end_keepers
from ccdflow.tasks.rounds import Round
from ccdflow.tasks.running import run_job
from ccdflow.tasks.workspace import Workspace, open_workspace

HERE = Path(__file__).parent
AFTER = Request(now="2026-03-02T12:00:00")
Cascade = dict[str, Any]


def taken(path: Path, kind: str, minute: int, **more: object) -> Path:
    cards = {
        "IMAGETYP": kind,
        "EXPTIME": 5.0,
        "DATE-OBS": f"2026-03-01T20:{minute:02d}:00",
        "INSTRUME": "CAM",
    }
    pixels = np.random.default_rng(minute).integers(900, 1100, (8, 8)).astype(np.uint16)
    fits.PrimaryHDU(pixels, fits.Header(cards | more)).writeto(path)
    return path


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three biases; science frames: three of one object, one of another, and two more of that."""
    folder = tmp_path_factory.mktemp("raw")
    biases = [taken(folder / f"b{n}.fits", "bias", n, EXPTIME=0.0) for n in range(3)]
    names = ["M13", "M13", "M13", "M31", "M13", "M13"]
    return [
        *biases,
        *(taken(folder / f"s{n}.fits", "light", 10 + n, OBJECT=name) for n, name in enumerate(names)),
    ]


@pytest.fixture(scope="module", autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    end_keepers()


def project_of(folder: Path, raw: list[Path], cascade: Cascade) -> Workspace:
    init_project(folder)
    shutil.copy(HERE / "ownmeans.py", folder)
    (folder / "mine.yaml").write_text(yaml.safe_dump({"name": "mine", "recipes": RECIPES} | cascade))
    file = folder / "ccdflow.yaml"
    file.write_text(file.read_text().replace("cascade: imaging", "cascade: mine.yaml"))
    space = open_workspace(folder)
    ingest_files(space, raw)
    return space


def do(space: Workspace, jobs: list[Job]) -> dict[str, str]:
    with disable_run_logger():
        for job in jobs:
            run_job(str(space.project.directory), job.key)
    return {}


def reduced(space: Workspace) -> dict[str, list[int]]:
    """What the stages of a night make: by task, of how many frames each product was made."""
    for stages in (("calibrate",), ("calibrate", "science"), ("calibrate", "science", "stack")):
        Round(
            space,
            lambda: planned_again(space, AFTER, ()),
            lambda jobs: do(space, jobs),
            partial(of_stages, stages=stages),
        ).run()
        group_sets(space, AFTER)
    Round(space, lambda: planned(space, AFTER), grouping=AFTER).run()
    assert {
        (job.step, job.state, job.reason) for job in space.registry.read(find_jobs) if job.state != "done"
    } == set()
    assert {job.state for job in planned(space, AFTER).jobs} == {"reused"}
    numbers: dict[str, list[int]] = {}
    for job in space.registry.read(find_jobs):
        numbers.setdefault(job.step, []).append(sum(part.role == "main" for part in job.inputs))
    assert all(Path(space.store.absolute(made.path)).is_file() for made in space.registry.read(find_products))
    return {step: sorted(found, reverse=True) for step, found in numbers.items()}


def own(kind: str) -> dict[str, object]:
    return {
        "function": "ownmeans.counted",
        "inputs": {"main": {"kind": kind, "maximum": None}},
        "outputs": ["counted"],
    }


RECIPES = {"of_raw": own("raw"), "of_products": own("product")}
SCIENCE = {"sci": {"class": "science", "group": "each"}}
BIAS = {"zero": {"class": "bias", "group": "all"}}
SEQUENCE = {"group": "run", "groups": {"run": {"max_stack": 4, "max_sequence": 12, "max_gap": 600}}}
EACH = {"group": "each", "groups": {"each": "each"}}


def step(recipe: str, main: str, stage: str = "science", **more: object) -> dict[str, object]:
    return {"recipe": recipe, "main": main, "stage": stage, "tags": ["science"], **more}


CASCADES: dict[str, tuple[Cascade, dict[str, list[int]]]] = {
    "a task without calibrations": (
        {"sources": SCIENCE, "tasks": {"quick": step("of_raw", "sci")}},
        {"quick": [1] * 6},
    ),
    "sequences of raw frames": (
        {"sources": SCIENCE, "tasks": {"quick": step("of_raw", "sci", "stack", **SEQUENCE)}},
        {"quick": [3, 2]},
    ),
    "raw frames that a relay hands on, by object": (
        {
            "sources": SCIENCE,
            "tasks": {
                "m13": {"main": "sci", "stage": "science", "condition": "object == 'M13'"},
                "quick": step(
                    "of_raw", "m13", "stack", group="of", groups={"of": {"by": ["object"], "min_size": 2}}
                ),
            },
        },
        {"quick": [5]},
    ),
    "biases by number, otherwise than their source says": (
        {
            "sources": BIAS,
            "tasks": {
                "zeros": step("of_raw", "zero", "calibrate", group="two", groups={"two": {"max_size": 2}})
            },
        },
        {"zeros": [2, 1]},
    ),
    "biases in sequences": (
        {"sources": BIAS, "tasks": {"zeros": step("of_raw", "zero", "calibrate", **SEQUENCE)}},
        {"zeros": [3]},
    ),
    "raw frames by a function, and its products together": (
        {
            "sources": SCIENCE,
            "tasks": {
                "pairs": step("of_raw", "sci", group="two", groups={"two": {"function": "ownmeans.pairs"}}),
                "all": step("of_products", "pairs", "stack", group="all", groups={"all": "all"}),
            },
        },
        {"pairs": [2, 2, 2], "all": [3]},
    ),
    "two tasks on one source": (
        {
            "sources": SCIENCE,
            "tasks": {"one": step("of_raw", "sci"), "two": step("of_raw", "sci", **SEQUENCE)},
        },
        {"one": [1] * 6, "two": [3, 2]},
    ),
    "a chain": (
        {
            "sources": SCIENCE,
            "tasks": {
                "one": step("of_raw", "sci"),
                "two": step("of_products", "one", **EACH),
                "three": step("of_products", "two", "stack", **SEQUENCE),
                "four": step("of_products", "three", "stack", group="all", groups={"all": "all"}),
            },
        },
        {"one": [1] * 6, "two": [1] * 6, "three": [3, 2], "four": [2]},
    ),
    "a calibration made of calibrated frames, for calibrated frames": (
        {
            "recipes": RECIPES
            | {
                "flattened": {
                    "function": "ownmeans.counted",
                    "inputs": {"main": {"kind": "product", "maximum": None}, "sky": {"kind": "product"}},
                    "outputs": ["counted"],
                }
            },
            "sources": {
                "sci": SCIENCE["sci"] | {"rules": [{"match": ["instrument"], "level": 0, "within": 7}]}
            },
            "tasks": {
                "one": step("of_raw", "sci"),
                "sky": step("of_products", "one", "calibrate", group="all", groups={"all": "all"}),
                "flat": step("flattened", "one", **EACH, inputs={"sky": {"source": "sky"}}),
            },
        },
        {"one": [1] * 6, "sky": [6], "flat": [1] * 6},
    ),
    "tasks with names of all kinds": (
        {
            "sources": {"Rohbilder für M13": SCIENCE["sci"]},
            "tasks": {
                "a task/with: signs": step("of_raw", "Rohbilder für M13"),
                "..": step("of_products", "a task/with: signs", "stack", **SEQUENCE),
            },
        },
        {"a task/with: signs": [1] * 6, "..": [3, 2]},
    ),
}


@pytest.mark.parametrize("name", CASCADES)
def test_a_cascade_of_ones_own_comes_to_its_end(tmp_path: Path, raw: list[Path], name: str) -> None:
    cascade, wanted = CASCADES[name]
    space = project_of(tmp_path / "project", raw, cascade)
    assert reduced(space) == wanted
    space.registry.close()


def test_sets_of_raw_frames_are_told_and_ready_once_they_are_closed(tmp_path: Path, raw: list[Path]) -> None:
    space = project_of(tmp_path / "project", raw, CASCADES["sequences of raw frames"][0])
    counts = group_sets(space, Request(now="2026-03-01T20:16:00"))
    assert counts == {"stack": 1, "pass": 1, "open": 1}
    sets = space.registry.read(find_sets)
    assert Counter((found.status, found.ready) for found in sets) == {("closed", True): 2, ("open", False): 1}
    assert [len(job.main) for job in planned(space, Request(now="2026-03-01T20:16:00")).jobs] == [3]
    space.registry.close()


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (
            {"main": "sci", "stage": "science", **EACH},
            "a relay, without recipe, hands on one by one what it takes",
        ),
        (
            step("of_raw", "sci", groups={"run": {"max_stack": 4}}),
            "has groups, and must say which: group: run",
        ),
        (step("of_raw", "sci", group="run"), "unknown group 'run'"),
    ],
)
def test_groups_that_would_count_for_nothing_are_refused_in_one_line(
    tmp_path: Path, task: Cascade, told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        project_of(tmp_path / "project", [], {"sources": SCIENCE, "tasks": {"mine": task}})
    assert "\n" not in str(error.value)
