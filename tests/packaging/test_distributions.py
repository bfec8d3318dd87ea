"""The built wheel and the source distribution hold everything that the checkout holds."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("recipes", "cascade", "archive", "config", "tasks", "flows", "deployments")
BESIDE = ("tests", "docs", "bench", "findings", ".github", ".ci")
"""Folders that are not of the package, and belong to the source distribution."""


def built(kind: str, root: Path, into: Path) -> Path:
    """What `build` makes of a tree, in `into`."""
    # In a folder of its own: what an older build has left in build/lib would come with the wheel.
    into.mkdir(parents=True, exist_ok=True)
    settings = into / "setup.cfg"
    settings.write_text(f"[build]\nbuild_base = {into / 'build'}\n")
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(into), str(root)]
    environment = {**os.environ, "DIST_EXTRA_CONFIG": str(settings)}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr[-2000:]
    (made,) = into.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def files(folder: str, *patterns: str) -> set[str]:
    """Files of a top-level folder, from the root on."""
    return {
        path.relative_to(ROOT).as_posix()
        for pattern in patterns
        for path in (ROOT / folder).rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_holds_every_folder_and_yaml_file(tmp_path: Path) -> None:
    held = set(zipfile.ZipFile(built("wheel", ROOT, tmp_path)).namelist())
    patterns = ("*.py", "*.yaml", "*.mako", "*.j2")
    wanted = {f"ccdflow/{path}" for folder in FOLDERS for path in files(folder, *patterns)}
    package = ROOT / "src" / "ccdflow"
    for folder in package.iterdir():
        if folder.is_dir() and not folder.is_symlink():
            wanted |= {path.removeprefix("src/") for path in files(f"src/ccdflow/{folder.name}", *patterns)}
    assert {f"ccdflow/{folder}/__init__.py" for folder in FOLDERS} <= wanted
    assert any(name.endswith("imaging.yaml") for name in wanted)
    assert wanted - held == set()


def test_source_distribution_holds_the_same_tree_and_builds_the_same_wheel(tmp_path: Path) -> None:
    with tarfile.open(built("sdist", ROOT, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.glob("ccdflow-*")
    wanted = {path for folder in (*FOLDERS, *BESIDE) for path in files(folder, "*")}
    wanted |= {"CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "Makefile", "constraints.txt"}
    assert {path for path in wanted if not (tree / path).is_file()} == set()
    links = {
        path.name: str(path.readlink()) for path in (tree / "src" / "ccdflow").iterdir() if path.is_symlink()
    }
    assert links == {folder: f"../../{folder}" for folder in FOLDERS}
    wheels = [built("wheel", root, tmp_path / name) for root, name in ((ROOT, "here"), (tree, "there"))]
    here, there = (sorted(zipfile.ZipFile(wheel).namelist()) for wheel in wheels)
    assert here == there
