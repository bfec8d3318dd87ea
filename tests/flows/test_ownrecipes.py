"""Recipes of a cascade's own, through the real flow: a function, a class, a module and a program."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from tests.flows.conftest import Bench

from ccdflow.archive.registry.jobs.products import find_products
from ccdflow.commands.reduction import RunReport
from ccdflow.config.shipped import shipped

PROGRAM = """
import sys
from astropy.io import fits
source, target, factor = sys.argv[1:]
with fits.open(source) as hdus:
    if float(factor) < 0:
        sys.exit("first line\\nfactors below 0 make no sense")
    fits.PrimaryHDU(hdus[0].data * float(factor), hdus[0].header[:6]).writeto(target)
"""
MODULE = """
import json, sys
from astropy.io import fits
job = json.load(open(sys.argv[1]))
with fits.open(job["inputs"]["main"][0]) as hdus:
    fits.PrimaryHDU(hdus[0].data * job["parameters"]["factor"]).writeto(job["outputs"]["doubled"])
"""
DECLARATION = {"inputs": {"main": {"kind": "product"}}, "outputs": ["doubled"], "parameters": {"factor": 2.0}}


def with_recipe(bench: Bench, recipe: dict[str, object], **task: object) -> None:
    """Give the project a cascade with a step on each calibrated frame."""
    written = yaml.safe_load((shipped("cascades") / "imaging.yaml").read_text())
    written["recipes"] = {"mine": recipe}
    group = {"group": "each", "groups": {"each": {"how": "each"}}}
    written["tasks"]["twice"] = {"recipe": "mine", "main": "science", "stage": "stack", **group, **task}
    shutil.copy(Path(__file__).with_name("ownfunctions.py"), bench.project)
    (bench.project / "mine.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    file = bench.project / "ccdflow.yaml"
    file.write_text(file.read_text().replace("cascade: imaging", "cascade: mine.yaml"))


def made(bench: Bench, report: RunReport) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a product of the step, and of the calibrated frame that it was made of."""
    pixels = {}
    for one in bench.space.registry.read(find_products):
        if one.category in ("science", "doubled"):
            path = bench.space.store.absolute(one.path)
            pixels.setdefault(one.category, []).append((one.obsdate, fits.getdata(path)))
    assert len(pixels["doubled"]) == 3, report
    return min(pixels["doubled"], key=lambda one: one[0])[1], min(pixels["science"], key=lambda one: one[0])[
        1
    ]


RECIPES: dict[str, Callable[[Path], dict[str, object]]] = {
    "function": lambda folder: {"function": "ownfunctions.doubled", **DECLARATION},
    "class": lambda folder: {"class": "ownfunctions.Doubler", **DECLARATION},
    "recipe": lambda folder: {"function": "ownfunctions.DECLARED"},
    "module": lambda folder: {"module": "doubling", **DECLARATION},
    "program": lambda folder: {
        "program": [sys.executable, str(folder / "program.py"), "{main}", "{out.doubled}", "{factor}"],
        **DECLARATION,
    },
}


@pytest.mark.parametrize("kind", RECIPES)
def test_a_recipe_of_ones_own_makes_products_that_are_reused(
    reduced: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "doubling.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    with_recipe(reduced, RECIPES[kind](tmp_path))
    report = reduced.run(targets=("twice",))
    assert report.jobs == {"new": 3, "reused": 6, "failed": 0, "incomplete": 0}
    doubled_, science = made(reduced, report)
    np.testing.assert_allclose(doubled_, 2 * science, rtol=1e-6)
    assert reduced.run(targets=("twice",)).jobs["new"] == 0
    again = reduced.run(targets=("twice",), parameters={"twice.factor": 3.0})
    assert again.jobs["new"] == 3


def test_the_template_runs_as_it_is(reduced: Bench) -> None:
    with_recipe(reduced, {"function": "ccdflow.recipes.template.RECIPE"})
    report = reduced.run(targets=("twice",))
    assert report.jobs == {"new": 3, "reused": 6, "failed": 0, "incomplete": 0}
    registry, store = reduced.space.registry, reduced.space.store
    products = [row for row in registry.read(find_products) if row.category == "sky_subtracted"]
    paths = [store.absolute(row.path) for row in products]
    assert len(paths) == 3
    for path in paths:
        assert fits.getheader(path)["SKYLEVEL"] > 0
        assert np.median(fits.getdata(path)) == pytest.approx(0, abs=5)


def test_a_program_that_fails_says_why_with_its_last_line(reduced: Bench, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with_recipe(reduced, RECIPES["program"](tmp_path))
    report = reduced.run(targets=("twice",), parameters={"twice.factor": -1.0})
    assert report.jobs["failed"] == 3
    assert all("ended with 1: factors below 0 make no sense" in one for one in report.failed.values())


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (["/no/such/program", "{main}"], "/no/such/program can't be started: No such file or directory"),
        ([sys.executable, "-c", "pass"], "it left no doubled: doubled.fits is not there"),
        ([sys.executable, "-c", "open('doubled.fits', 'w').write('x')"], "its doubled can't be read"),
    ],
)
def test_what_a_program_leaves_undone_is_said(reduced: Bench, program: list[str], reason: str) -> None:
    with_recipe(reduced, {"program": program, **DECLARATION})
    report = reduced.run(targets=("twice",))
    assert report.jobs["failed"] == 3 and all(reason in one for one in report.failed.values()), report.failed


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"function": "a.b", "module": "c", **DECLARATION}, "one of function, class, module or program"),
        ({"module": "c", "outputs": ["x"]}, "of which one is main"),
        (
            {"program": ["x", "{mian}"], **DECLARATION},
            "unknown {mian} in '{mian}'; known: main, out.doubled, factor",
        ),
        ({"function": "no.such.thing", **DECLARATION}, "can't be imported"),
    ],
)
def test_what_is_no_recipe_is_refused_with_its_line(
    reduced: Bench, recipe: dict[str, object], message: str
) -> None:
    from ccdflow.config.yamlfile import ConfigError

    with_recipe(reduced, recipe)
    with pytest.raises(ConfigError) as error:
        reduced.run(targets=("twice",))
    assert message in str(error.value) and "mine.yaml, line" in str(error.value)


def test_a_recipe_keeps_its_name_to_itself(reduced: Bench) -> None:
    with_recipe(reduced, {"module": "c", **DECLARATION})
    file = reduced.project / "mine.yaml"
    file.write_text(file.read_text().replace("  mine:", "  bias:").replace("recipe: mine", "recipe: bias"))
    with pytest.raises(ValueError, match="recipe 'bias' is there already"):
        reduced.run(targets=("twice",))
