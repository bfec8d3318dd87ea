"""`show JOB --log` and `--command`: what a job has written, and how it is done by hand."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from prefect.logging import disable_run_logger
from tests.commands.test_cli import document, invoke
from tests.tasks.processes.test_functions import Project, project_of
from tests.tasks.test_cascades import BIAS, taken
from tests.tasks.test_cascades import project_of as project_of_cascade

from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.archive.registry.jobs.products import ProductFilter, find_products
from ccdflow.cascade.planning.request import Request
from ccdflow.commands.byhand import Corrected, amended_files
from ccdflow.tasks.planning import planned
from ccdflow.tasks.processes.functions import end_keepers
from ccdflow.tasks.rawfiles.amending import amend_frames, parse_changes
from ccdflow.tasks.rounds import write_plan
from ccdflow.tasks.running import run_job
from ccdflow.tasks.workspace import Workspace

COPYING = (
    "import sys; from astropy.io import fits; print('copied'); fits.open(sys.argv[1]).writeto(sys.argv[2])"
)
MODULE = """
import json, sys
from astropy.io import fits
job = json.load(open(sys.argv[1]))
header = fits.getheader(job["inputs"]["main"][0])
header["FWHM"] = (job["parameters"]["fwhm"], "[pixel] of stars")
header["CALIBID"] = "abc"
header["HIERARCH QC STARS"] = 7
fits.PrimaryHDU(fits.getdata(job["inputs"]["main"][0]), header).writeto(job["outputs"]["made"])
"""
RECIPES: dict[str, dict[str, object]] = {
    "function": {"function": "badfunctions.talks"},
    "program": {"program": [sys.executable, "-c", COPYING, "{main}", "{out.made}"]},
    "module": {"module": "copying", "parameters": {"fwhm": 2.5, "words": 'it\'s "so"', "many": [1, 2]}},
    "failing": {"program": ["sh", "-c", "echo said; echo no stars >&2; exit 4"]},
    "exiting": {"function": "badfunctions.exits_with_words"},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("byhand")
    (folder / "copying.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=":")
        made = project_of(folder / "project", RECIPES)
        for name in RECIPES:
            made.run(name)
        yield made
    end_keepers()
    made.space.registry.close()


def told(project: Project, name: str, *options: str) -> str:
    result = invoke("-C", project.space.project.directory, "show", project.keys[name][:10], *options)
    assert result.exit_code == 0, result.output
    return result.stdout


def by_hand(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command as somebody pastes it into a shell."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        errors="replace",
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["function", "program", "module"])
def test_the_command_makes_the_same_by_hand(project: Project, tmp_path: Path, name: str) -> None:
    result = by_hand(told(project, name, "--command"), tmp_path)
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.glob("*.fits")
    (product,) = project.space.registry.read(find_products, ProductFilter(job_keys=[project.keys[name]]))
    assert path.name == Path(product.path).name
    stored = project.space.store.absolute(product.path)
    np.testing.assert_array_equal(fits.getdata(path), fits.getdata(stored))


def test_a_recipes_product_by_hand_has_the_header_of_the_job(project: Project, tmp_path: Path) -> None:
    words = shlex.split(told(project, "function", "--command"))
    assert words[0] == "ccdflow"
    output = tmp_path / "made.fits"
    result = invoke(*words[1:-1], output)
    assert result.exit_code == 0, result.output
    (product,) = project.space.registry.read(
        find_products, ProductFilter(job_keys=[project.keys["function"]])
    )
    here, stored = fits.getheader(output), fits.getheader(project.space.store.absolute(product.path))
    assert here["CATEGORY"] == "made"
    assert {*stored} - {"TASK"} == {*here}
    assert {name: (stored[name], stored.comments[name]) for name in stored if name not in OWN} == {
        name: (here[name], here.comments[name]) for name in here if name not in OWN
    }


def test_cards_that_a_program_writes_are_its_products(project: Project) -> None:
    (product,) = project.space.registry.read(find_products, ProductFilter(job_keys=[project.keys["module"]]))
    header = fits.getheader(project.space.store.absolute(product.path))
    assert (header["FWHM"], header.comments["FWHM"]) == (2.5, "[pixel] of stars")
    assert (header["CALIBID"], header["QC STARS"]) == ("abc", 7)
    assert header["INSTRUME"] == "CAM" and "BZERO" not in header


OWN = ("CHECKSUM", "DATASUM", "JOBKEY", "TASK")


def test_parameters_that_the_recipe_states_itself_go_without_saying(project: Project) -> None:
    assert "--param" not in told(project, "module", "--command")


@pytest.mark.parametrize(
    ("name", "said"),
    [("failing", "no stars"), ("exiting", "SystemExit: no stars"), ("program", "copied")],
)
def test_what_was_written_is_shown(project: Project, name: str, said: str) -> None:
    assert said in told(project, name, "--log")
    row = document(
        invoke("-C", project.space.project.directory, "show", project.keys[name], "--log", "--json")
    )
    assert said in row["log"] and row["attempt"] == 1


def test_of_a_silent_job_it_is_said(project: Project) -> None:
    assert "has written nothing" in told(project, "module", "--log")


@pytest.mark.parametrize(
    ("name", "word"), [("f1", "f1 is neither a job nor a product; wanted a job's key"), ("p99", "nothing")]
)
def test_what_is_no_job_has_no_log(project: Project, name: str, word: str) -> None:
    result = invoke("-C", project.space.project.directory, "show", name, "--log")
    assert result.exit_code != 0 and word in str(result.exception or result.output)


def test_a_recipe_of_others_that_fails_by_hand_is_one_line(project: Project, tmp_path: Path) -> None:
    words = shlex.split(told(project, "exiting", "--command"))
    result = invoke(*words[1:-1], tmp_path / "x.fits")
    assert isinstance(result.exception, ValueError)
    assert str(result.exception) == "exiting: SystemExit: no stars in sight"


def test_a_category_that_there_is_not_is_refused_with_the_nearest(project: Project, tmp_path: Path) -> None:
    result = invoke(
        "-C", project.space.project.directory, "export", "--category", "master_bais", "-o", tmp_path / "out"
    )
    assert "unknown category 'master_bais'" in str(result.exception)
    assert "did you mean 'master_bias'?" in str(result.exception) and not (tmp_path / "out").exists()


# --- frames that were amended ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def amended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A master bias of three frames of which a person has corrected gain, read noise and times."""
    folder = tmp_path_factory.mktemp("amended")
    cascade = {"sources": BIAS, "tasks": {"bias": {"recipe": "bias", "main": "zero", "stage": "calibrate"}}}
    names = ("of: 1.fits", "it's=2.fits", "3.fits")
    raw = [taken(folder / name, "bias", minute, EXPTIME=0.0) for minute, name in enumerate(names)]
    space = project_of_cascade(folder / "project", raw, cascade)
    changes = ["gain=2.5", "read_noise=7", "object=Nacht: 1=1", "obsdate=+1h"]
    amend_frames(
        space, space.registry.read(find_frames), parse_changes(space, changes), "me", "it was measured"
    )
    plan = planned(space, Request(targets=("bias",)))
    write_plan(space, plan)
    with disable_run_logger():
        run_job(str(space.project.directory), plan.jobs[0].key)
    yield space
    space.registry.close()


def test_the_command_knows_what_was_amended(amended: Workspace, tmp_path: Path) -> None:
    (product,) = amended.registry.read(find_products)
    told = invoke("-C", amended.project.directory, "show", f"p{product.id}", "--command")
    assert told.exit_code == 0 and told.stderr == ""
    result = by_hand(told.stdout, tmp_path)
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.glob("*.fits")
    stored = amended.store.absolute(product.path)
    with fits.open(path) as here, fits.open(stored) as there:
        assert [hdu.data.tobytes() for hdu in here if hdu.data is not None and hdu.name != "PROCESS"] == [
            hdu.data.tobytes() for hdu in there if hdu.data is not None and hdu.name != "PROCESS"
        ]
        assert {name: here[0].header[name] for name in TOLD} == {name: there[0].header[name] for name in TOLD}
    without = by_hand(told.stdout.replace("--amend", "--param"), tmp_path)
    assert without.returncode == 2


TOLD = ("DATE-OBS", "AMENDED", "CATEGORY")


@pytest.mark.parametrize(
    "text", ["other.fits:gain=2", "a.fits:gain", "a.fits=2", "a.fits:=2", "gain=2", "a.fits:gain=[1]"]
)
def test_what_is_no_amendment_of_an_input_is_told_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^--amend .*wanted|^--amend .* is not of the form FILE:NAME=VALUE"):
        amended_files([text], [Path("a.fits"), Path("b.fits")])


def test_of_two_files_that_an_amendment_may_be_of_the_longer_name_counts() -> None:
    files = [Path("a"), Path("a:b")]
    assert amended_files(["a:b:c=1", "a:c=x"], files) == {
        Path("a:b"): [Corrected("c", 1)],
        Path("a"): [Corrected("c", "x")],
    }
