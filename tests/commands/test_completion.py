"""A shell offers what there is: nights, cameras, objects, filters, ids."""

from pathlib import Path

import pytest
from sqlalchemy import insert
from typer.testing import CliRunner

from ccdflow.archive.registry.tables import FrameRow, JobRow, table
from ccdflow.cli import app
from ccdflow.tasks.workspace import open_workspace

RUNNER = CliRunner()
KEYS = ["abcd" + "1" * 60, "abce" + "2" * 60]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("completion") / "P"
    assert RUNNER.invoke(app, ["init", str(directory)]).exit_code == 0
    space = open_workspace(directory)
    rows = [
        {
            "class": "science",
            "night": f"2026-03-{n + 1:02d}",
            "camera": f"C{n % 2}",
            "object": f"M {n}",
            "filter": "R_c",
        }
        for n in range(12)
    ]
    jobs = [{"key": key, "step": "bias", "recipe": "bias", "version": "1", "parameters": {}} for key in KEYS]
    space.registry.write(lambda connection: connection.execute(insert(table(FrameRow)), rows))
    space.registry.write(lambda connection: connection.execute(insert(table(JobRow)), jobs))
    space.registry.close()
    return directory


def offered(project: Path, *words: str) -> list[str]:
    """What a shell gets that asks to complete the last word."""
    line = ["ccdflow", "-C", str(project), *words]
    environment = {
        "_CCDFLOW_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(line),
        "COMP_CWORD": str(len(line) - 1),
    }
    return RUNNER.invoke(app, [], env=environment, prog_name="ccdflow").stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("list", "--night", "2026-03-1"), ["2026-03-12", "2026-03-11", "2026-03-10"]),
        (("plan", "--camera", "C"), ["C0", "C1"]),
        (("list", "--filter", "R_"), ["R_c"]),
        (("list", "--filter", "R%"), []),
        (("show", "f1"), ["f12", "f11", "f10", "f1"]),
        (("explain", "abc"), []),
        (("explain", "abce"), [KEYS[1]]),
        (("show", "x"), []),
    ],
)
def test_it_offers_what_begins_so(project: Path, words: tuple[str, ...], wanted: list[str]) -> None:
    assert [word for word in offered(project, *words) if word] == wanted


def test_where_there_is_no_project_nothing_is_offered_or_said(tmp_path: Path) -> None:
    assert [word for word in offered(tmp_path, "show", "f1") if word] == []
    assert not (tmp_path / "registry.sqlite").exists()
