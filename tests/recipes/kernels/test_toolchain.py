"""Kernels are compiled by insides of numba, which may change: a newer numba is tried here, and told plainly."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from ccdflow.recipes.kernels import codefiles, compiling

ROOT = Path(__file__).parents[3]
PROBE = '''
import numpy as np
from ccdflow.recipes.kernels.compiled import array, compiled, constant, stretch


@compiled()
def _multiply(values, factor, out):
    for x in range(out.size):
        out[x] = values[x] * factor


@compiled(
    (constant(np.float32, 2), constant(np.uint16, 1)),
    (np.float32, np.int64),
    np.float64,
    array(np.float32, 2),
    array(np.bool_, 1),
    array(np.float64, 3),
)
def probe(planes, numbers, level, out, marks, cube):
    """Uses all kinds of arguments, a part, a stretch, what the C library lends, and gives numbers back."""
    data, dq = planes
    factor, bit = numbers
    flagged = 0
    for y in range(out.shape[0]):
        _multiply(stretch(data, y, 0, out.shape[1]), factor, out[y])
    for x in range(marks.size):
        marks[x] = (dq[x] & bit) != 0
        flagged += marks[x]
    for z in range(cube.shape[0]):
        for y in range(cube.shape[1]):
            for x in range(cube.shape[2]):
                cube[z, y, x] = np.exp(level) + 100 * z + 10 * y + x
    return out.size, flagged
'''
RUN = """
import numpy as np
from probe_kernels import probe

data = np.arange(6, dtype=np.float32).reshape(2, 3)
data.flags.writeable = False  # goes in by another way than what may be written
dq = np.array([0, 1, 2, 3], np.uint16)
out, marks, cube = np.empty((2, 3), np.float32), np.empty(4, np.bool_), np.empty((2, 3, 4))
counts = probe((data, dq), (0.5, 2), 0.0, out, marks, cube)
assert counts == (6, 2), counts
assert (out == data / 2).all(), out
assert marks.tolist() == [False, False, True, True], marks
z, y, x = np.indices(cube.shape)
assert (cube == 1 + 100 * z + 10 * y + x).all(), cube
empty = np.empty((0, 3), np.float32)
assert probe((empty, dq), (0.5, 2), 0.0, empty, marks, cube) == (0, 2)
"""


def run(folder: Path, script: str, *, first: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A fresh process that finds no machine code; `first` comes before all else that it may import."""
    path = os.pathsep.join(str(one) for one in (first, folder, *sys.path) if one)
    environment = {**os.environ, codefiles.FOLDER: str(folder / "code"), "PYTHONPATH": path}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_installed_numba_compiles_kernels_that_give_true_results(tmp_path: Path) -> None:
    (tmp_path / "probe_kernels.py").write_text(PROBE)
    process = run(tmp_path, RUN)
    if process.returncode:
        pytest.fail(
            f"numba {version('numba')} with llvmlite {version('llvmlite')} does not compile kernels that work.\n"
            f"Tested are {codefiles.TESTED}.\n"
            "If one of the two is newer: recipes/kernels/compiling.py uses parts of numba that have changed. Put it "
            "right there, run all tests, then raise the bounds in pyproject.toml and in codefiles.TESTED; until then "
            "install versions within the bounds.\n"
            f"Exit code {process.returncode}:\n{process.stderr}",
            pytrace=False,
        )


def test_bounds_of_the_package_are_those_that_are_told() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = [re.match(r"(numba|llvmlite)(.*)", dependency) for dependency in project["dependencies"]]
    assert {match[1]: match[2] for match in stated if match} == codefiles.TESTED


def test_numba_that_can_not_be_used_is_named_with_what_to_install(tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "numba"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('needs NumPy 9')")
    (tmp_path / "probe_kernels.py").write_text(PROBE)
    said = run(tmp_path, RUN, first=broken.parent).stderr.splitlines()[-1]
    assert said.startswith(f"RuntimeError: probe_kernels can't be compiled by numba {version('numba')} and ")
    assert f"tested with numba{codefiles.TESTED['numba']} and llvmlite{codefiles.TESTED['llvmlite']}" in said
    assert said.endswith("ImportError: needs NumPy 9")


def test_numba_that_hands_arguments_over_in_another_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = compiling._array_arguments
    monkeypatch.setattr(compiling, "_array_arguments", lambda *known: arguments(*known)[1:])
    with pytest.raises(RuntimeError, match=r"encode takes .* numba hands arguments over in another way"):
        compiling.compile_module("ccdflow.archive.fits.writer_kernels")


def test_machine_code_of_another_numba_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "ccdflow.archive.fits.writer_kernels"
    before = codefiles._digest(module)
    monkeypatch.setattr(codefiles, "versions", lambda: {"numba": "0.1", "llvmlite": version("llvmlite")})
    assert codefiles._digest(module) != before
