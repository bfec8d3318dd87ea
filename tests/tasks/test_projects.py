"""What a project's own files bring: functions beside them, categories of their own, events that are taken back."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from tests.commands.test_cli import invoke

from ccdflow.archive.registry.instrumentevents import find_instrument_events
from ccdflow.cascade.planning.plans import Plan, data_sets
from ccdflow.cascade.planning.request import Request
from ccdflow.config.project import PROJECT_FILE, init_project
from ccdflow.recipes.core.recipe import Parameters
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.planning import planned
from ccdflow.tasks.workspace import open_workspace


def frame(path: Path, **cards: object) -> Path:
    header = fits.Header({"DATE-OBS": "2026-03-01T20:00:00", "CAMERA": "C1", "EXPTIME": 5.0, **cards})
    fits.PrimaryHDU(np.ones((2, 2), np.uint16), header).writeto(path)
    return path


def plan_of(folder: Path, cascade: str, *targets: str, **request: object) -> Plan:
    (folder / "mine.yaml").write_text(cascade)
    (folder / PROJECT_FILE).write_text("cascade: mine.yaml\n")
    space = open_workspace(folder)
    ingest_files(space, [folder / "raw"])
    return planned(space, Request(targets=targets, **request))


def test_functions_stand_beside_the_project_file_also_inside_a_subworkflow(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for number in range(3):
        frame(tmp_path / "raw" / f"{number}.fits", IMAGETYP="bias", NUMBER=number)
    (tmp_path / "rules_of_mine.py").write_text(
        "def enough(context):\n    return context.value('least') <= 3\n"
    )
    inner = """
name: inner
parameters: {least: {default: 3}}
sources: {raw_bias: {class: bias, group: all}}
tasks: {bias: {recipe: bias, stage: calibrate, main: raw_bias, condition: rules_of_mine.enough}}
"""
    assert [job.step for job in plan_of(tmp_path, inner, "bias").jobs] == ["bias"]
    (tmp_path / "inner.yaml").write_text(inner)
    outer = "{name: outer, sources: {}, tasks: {}, subworkflows: {lamp: {cascade: inner.yaml}}}"
    assert [job.step for job in plan_of(tmp_path, outer, "lamp").jobs] == ["lamp.bias"]
    assert not plan_of(tmp_path, outer, "lamp", parameters={"lamp_least": 4}).jobs


def test_a_category_that_the_cascade_names_may_come_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    frame(tmp_path / "raw" / "map.fits", CATEGORY="fringe_map")
    frame(tmp_path / "raw" / "sci.fits", IMAGETYP="object", FILTER="I")
    cascade = """
name: mine
extends: imaging
recipes:
  defringe:
    program: ["true", "{main}", "{map}", "{out.clean}"]
    outputs: [clean, fringe_map]
    inputs: {main: {kind: raw}, map: {kind: product}}
sources: {fringes: {class: fringe_map, rules: [{within: unlimited}]}}
tasks:
  clean: {recipe: defringe, stage: science, main: raw_science, inputs: {map: {source: fringes}}}
"""
    (job,) = plan_of(tmp_path, cascade, "clean").jobs
    assert job.state == "new" and [one.role for one in job.inputs] == ["main", "map"]


def test_a_task_that_is_asked_for_has_its_own_data_set(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for number, kind in enumerate(("bias", "flat", "object")):
        frame(tmp_path / "raw" / f"{kind}.fits", IMAGETYP=kind, FILTER="R", NUMBER=number)
    cascade = "{name: mine, extends: imaging}"
    found = plan_of(tmp_path, cascade, "bias", "science")
    assert [one.job.step for one in data_sets(found)] == ["bias", "science"]
    assert [one.job.step for one in data_sets(plan_of(tmp_path, cascade, "science"))] == ["science"]


def test_an_event_is_listed_and_taken_back(tmp_path: Path) -> None:
    init_project(tmp_path)
    words = [
        "-C",
        str(tmp_path),
        "event",
        "detector swapped",
        "--when",
        "2026-03-02T12:00:00",
        "--camera",
        "C1",
    ]
    assert invoke(*words).exit_code == 0
    listed = invoke("-C", str(tmp_path), "list", "interventions")
    assert "detector swapped" in listed.stdout and "C1" in listed.stdout
    assert invoke(*words, "--undo").exit_code == 0
    assert open_workspace(tmp_path).registry.read(find_instrument_events) == []
    again = invoke(*words, "--undo")
    assert again.exit_code == 2 and "no such event is recorded" in again.stderr


OWN_FUNCTIONS = """
name: two
recipes:
  mine:
    function: hooks.average
    inputs: {main: {kind: raw, maximum: null}}
    outputs: [average]
sources:
  raw_bias: {class: bias, condition: hooks.is_taken, group: {function: hooks.parted}}
tasks:
  bias:
    recipe: bias
    stage: calibrate
    main: raw_bias
    hooks: [hooks.clip]
    dynamic: {most: hooks.most}
    condition: count <= most
  average: {recipe: mine, stage: calibrate, main: raw_bias}
"""
CAMERA = """
name: camera
extends: generic
match: {CAMERA: C1}
keep: [NUMBER]
rules: [{class: bias, function: hooks.is_bias}]
"""
HOOKS = """
from limits import SIZE
from ccdflow.recipes.core.recipe import Result


def is_bias(cards):
    return cards.get("KIND") == NAME

def is_taken(context):
    return context.value("NUMBER") > 0

def parted(frames):
    return [frames[first : first + SIZE] for first in range(0, len(frames), SIZE)]


def clip(context):
    return {"sigma": float(SIZE)}

def most(context):
    import limits
    return limits.SIZE

def average(inputs, parameters):
    return Result({}, (NAME,))
"""


def test_each_of_two_projects_in_one_process_has_its_own_functions(tmp_path: Path) -> None:
    sizes = {"first": 2, "second": 3}
    spaces = {name: open_workspace(with_functions(tmp_path / name, size)) for name, size in sizes.items()}
    for name in ("first", "second", "first"):  # whichever was opened or asked last
        space, size = spaces[name], sizes[name]
        ingest_files(space, [tmp_path / name / "raw"])
        jobs = planned(space, Request(targets=("bias",))).jobs
        assert [len(job.main) for job in jobs] == [size] * (6 // size)
        assert {job.parameters["sigma"].value for job in jobs} == {float(size)}
        assert space.recipes["mine"].run({}, Parameters()).warnings == (name,)


def with_functions(folder: Path, size: int) -> Path:
    """Make a project whose functions know its name, and put `size` biases into a set; the first of 7 is left out."""
    (folder / "raw").mkdir(parents=True)
    (folder / "instruments").mkdir()
    (folder / "instruments" / "camera.yaml").write_text(CAMERA)
    (folder / "hooks.py").write_text(f"NAME = {folder.name!r}\n{HOOKS}")
    (folder / "limits.py").write_text(f"SIZE = {size}\n")
    (folder / "mine.yaml").write_text(OWN_FUNCTIONS)
    (folder / PROJECT_FILE).write_text("cascade: mine.yaml\ninstruments: [instruments]\n")
    for number in range(7):
        frame(folder / "raw" / f"{number}.fits", KIND=folder.name, NUMBER=number)
    return folder
