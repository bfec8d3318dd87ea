"""Machine code that is kept: found again, made anew where it is damaged, and never run on what does not fit."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ccdflow.recipes.kernels import codefiles
from ccdflow.recipes.kernels.calibrate_kernels import count_flagged, decode_integers

MODULE = "ccdflow.archive.fits.writer_kernels"
SUM = """
import sys
import numpy as np
from ccdflow.archive.fits.writer_kernels import encode
print(int(encode(0, np.arange(10, dtype=np.uint32), np.empty(0, np.uint32))), "numba" in sys.modules)
"""


def summed(folder: Path, **options: str) -> str:
    """What a fresh process says: a checksum by a kernel, and whether it needed numba itself."""
    environment = {**os.environ, codefiles.FOLDER: str(folder), **options}
    command = [sys.executable, "-c", SUM]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the first process has found empty."""
    folder = tmp_path_factory.mktemp("code") / "new"
    assert summed(folder) == "45 False"
    return folder


def test_a_later_process_takes_the_file_as_it_is(kept: Path) -> None:
    (file,) = kept.iterdir()
    before = file.stat().st_mtime_ns
    assert summed(kept, PATH="/nowhere") == "45 False"
    assert file.stat().st_mtime_ns == before


def test_nothing_but_whole_files_is_left(kept: Path) -> None:
    assert [file.suffix for file in kept.iterdir()] == [".o"]


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_file_is_made_anew(kept: Path, damage: str) -> None:
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.write_bytes(
        {"cut": whole[:middle], "changed": whole[:middle] + b"?" + whole[middle + 1 :], "empty": b""}[damage]
    )
    assert summed(kept) == "45 False"
    assert codefiles.link(file.read_bytes()).keys() == {"encode", "limits", "look_up"}


def test_without_a_folder_to_write_to_it_works_as_well(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert summed(tmp_path / "file" / "below") == "45 False"


def test_where_no_process_can_be_started_it_is_compiled_in_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(codefiles.FOLDER, str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert codefiles.linked(MODULE).keys() == {"encode", "limits", "look_up"}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_kernel_that_can_not_be_compiled_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_kernels.py").write_text(
        "from ccdflow.recipes.kernels.compiled import compiled\nimport numpy as np\n\n\n"
        "@compiled(np.int64)\ndef half(n):\n    return n / 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(codefiles.FOLDER, str(tmp_path))
    with pytest.raises(TypeError, match="half gives back float64"):
        codefiles.linked("broken_kernels")


def test_arrays_that_do_not_fit_are_refused() -> None:
    stored, out = np.zeros(4, np.uint16), np.empty(4, np.float32)
    with pytest.raises(TypeError, match="found float64"):
        decode_integers(stored, 0.0, out.astype(np.float64))
    with pytest.raises(TypeError, match=r"of shape \(2,\)"):
        decode_integers(stored[::2], 0.0, out[:2])
    with pytest.raises(TypeError, match="found >u2"):
        decode_integers(stored.astype(">u2"), 0.0, out)
    out.flags.writeable = False
    with pytest.raises(TypeError, match="read-only"):
        decode_integers(stored, 0.0, out)
    with pytest.raises(ValueError, match="shorter"):
        count_flagged(stored)
