"""`ccdflow find` shows what an expression describes, as a table or JSON."""

import json
from pathlib import Path

import pytest
from sqlalchemy import insert
from typer.testing import CliRunner

from ccdflow.archive.registry.tables import FrameRow, table
from ccdflow.cli import app
from ccdflow.commands.queries import in_order
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


def test_lists_are_narrowed_sorted_and_cut(project: Path) -> None:
    def listed(*words: str) -> list[str]:
        result = RUNNER.invoke(app, ["-C", str(project), "list", "frames", "--json", *words])
        assert result.exit_code == 0, result.exception
        return [row["id"] for row in json.loads(result.stdout)]

    assert listed("--sort", "-id") == ["f3", "f2", "f1"]
    assert listed("--filter", "V") == ["f2"] and listed("--sort", "-obsdate,filter", "--limit", "1") == ["f3"]
    for words, told in (
        (["--filter", "U"], "unknown filter 'U'; known: B, R, V"),
        (["--sort", "x"], "column of frames"),
    ):
        result = RUNNER.invoke(app, ["-C", str(project), "list", "frames", *words])
        assert told in str(result.exception)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["f10", "f9", "f1"], ["f1", "f9", "f10"]),
        ([2.5, None, -1, 10], [-1, 2.5, 10, None]),
        (["b", 1, "a"], [1, "a", "b"]),
    ],
)
def test_any_values_have_an_order(values: list[object], wanted: list[object]) -> None:
    rows = in_order("frames", [{"x": value} for value in values], ["x"])
    assert [row["x"] for row in rows] == wanted


def test_nothing_and_nonsense_are_told(project: Path) -> None:
    assert find(project, "filter = 'U'") == (0, "no frame is so\n")
    result = RUNNER.invoke(app, ["-C", str(project), "find", "filtr = 'U'"])
    assert "did you mean 'filter'?" in str(result.exception)
