"""`ccdflow find` shows what an expression describes, as a table or JSON."""

import json
from pathlib import Path

import pytest
from sqlalchemy import insert
from typer.testing import CliRunner

from ccdflow.archive.registry.tables import FrameRow, table
from ccdflow.cli import app
from ccdflow.tasks.workspace import Workspace, open_workspace

RUNNER = CliRunner()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    assert RUNNER.invoke(app, ["init", str(tmp_path / "P")]).exit_code == 0
    space: Workspace = open_workspace(tmp_path / "P")
    rows = [
        {"class": "science", "filter": name, "obsdate": f"2026-03-01T2{n}:00:00"}
        for n, name in enumerate("RVB")
    ]
    space.registry.write(lambda connection: connection.execute(insert(table(FrameRow)), rows))
    return tmp_path / "P"


def find(project: Path, *words: str) -> tuple[int, str]:
    result = RUNNER.invoke(app, ["-C", str(project), "find", *words])
    return result.exit_code, result.output


def test_it_is_a_table_or_json(project: Path) -> None:
    code, told = find(project, "filter in ('R', 'B')", "--columns", "id, filter", "--sort", "-obsdate")
    assert code == 0 and [line.split() for line in told.splitlines()] == [
        ["id", "filter"],
        ["f3", "B"],
        ["f1", "R"],
    ]
    code, told = find(project, "--columns", "filter", "--limit", "1", "--json")
    assert (code, json.loads(told)) == (0, [{"filter": "R"}])


def test_nothing_and_nonsense_are_told(project: Path) -> None:
    assert find(project, "filter = 'U'") == (0, "no frame is so\n")
    result = RUNNER.invoke(app, ["-C", str(project), "find", "filtr = 'U'"])
    assert "did you mean 'filter'?" in str(result.exception)
