"""The built wheel holds everything that the checkout holds."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("recipes", "cascade", "archive", "config", "tasks", "flows", "deployments")


def test_wheel_holds_every_folder_and_yaml_file(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"ccdflow/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for pattern in ("*.py", "*.yaml", "*.mako")
        for path in (ROOT / folder).rglob(pattern)
        if "__pycache__" not in path.parts
    }
    wanted |= {
        f"ccdflow/{path.relative_to(ROOT / 'src' / 'ccdflow')}"
        for path in (ROOT / "src" / "ccdflow").glob("*/*.py")
        if not path.parent.is_symlink()
    }
    assert {f"ccdflow/{folder}/__init__.py" for folder in FOLDERS} <= wanted
    assert any(name.endswith("imaging.yaml") for name in wanted)
    assert wanted - held == set()
