"""Commands that ask, where the store or the registry is not as it should be; copies, marks and versions."""

import sqlite3
from pathlib import Path

import pytest
from tests.commands.test_cli import document, invoke, program
from typer import Exit

from ccdflow import upkeep
from ccdflow.archive.storemark import MARK
from ccdflow.simulate import simulate_night

QUESTIONS = (
    ("plan",),
    ("missing",),
    ("explain", "f1"),
    ("graph", "--jobs"),
    ("verify",),
    ("verify", "--raws"),
    ("export",),
    ("clean",),
)
"""Need the store."""
LISTS = (("status",), ("list", "frames"), ("list", "products"), ("show", "f1"))
"""Need none."""
WORK = (("run",), ("verify", "--repair"), ("clean", "--yes"))


@pytest.fixture(scope="module")
def catalogued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of frames without files, whose store is away."""
    folder = tmp_path_factory.mktemp("catalogued")
    catalog = simulate_night(folder / "night", night="small", catalog_only=True).catalog
    assert invoke("init", folder / "project").exit_code == 0
    assert invoke("-C", folder / "project", "ingest", "--catalog", catalog).exit_code == 0
    (folder / "project" / "store").rename(folder / "project" / "away")
    (folder / "project" / "store").mkdir()
    return folder / "project"


def tables(project: Path) -> list[str]:
    with sqlite3.connect(project / "registry.sqlite") as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize("words", [*QUESTIONS, *WORK], ids=" ".join)
def test_without_its_store_a_command_says_so_and_changes_nothing(
    catalogued: Path,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = tables(catalogued)
    code, out, told = program(monkeypatch, capsys, "-C", catalogued, *words)
    assert (code, out, told.count("\n")) == (2, "", 1)
    assert told.startswith(
        f"ccdflow: the store {catalogued / 'store'} is not there: the folder bears no mark"
    )
    assert tables(catalogued) == before and list((catalogued / "store").iterdir()) == []


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_what_needs_no_store_is_told_without_it(catalogued: Path, words: tuple[str, ...]) -> None:
    before = tables(catalogued)
    told = invoke("-C", catalogued, *words)
    assert told.exit_code == 0 and ("is not there" in told.stderr) == (words == ("status",))
    assert tables(catalogued) == before


def test_somebody_may_say_that_this_is_the_store(tmp_path: Path) -> None:
    assert invoke("init", tmp_path).exit_code == 0
    (tmp_path / "store" / MARK).write_text("archive: 0000-other")
    assert "'ccdflow adopt' says so" in str(invoke("-C", tmp_path, "plan").exception)
    told = invoke("-C", tmp_path, "adopt").stdout
    assert f"{tmp_path / 'store'} is the store of archive" in told and "no longer of 0000-oth" in told
    assert (
        document(invoke("-C", tmp_path, "adopt", "--json"))["archive"]
        in (tmp_path / "store" / MARK).read_text()
    )
    assert invoke("-C", tmp_path, "verify").exit_code == 0


def test_a_registry_is_copied_and_restored(catalogued: Path, tmp_path: Path) -> None:
    copied = document(invoke("-C", catalogued, "backup", tmp_path / "copy", "--json"))
    assert copied["frames"] and copied["bytes"] == (tmp_path / "copy").stat().st_size
    assert invoke("init", tmp_path / "new").exit_code == 0
    told = invoke("-C", tmp_path / "new", "restore", tmp_path / "copy")
    assert told.exit_code == 0 and f"{copied['frames']} frames" in told.output
    # Its store is the one that the copied registry knew.
    assert "is not there: the folder is the store of another archive" in told.output
    again = invoke("-C", tmp_path / "new", "restore", tmp_path / "copy")
    assert "wanted an empty one, or --replace" in str(again.exception)
    lists = [
        document(invoke("-C", where, "list", "frames", "--json")) for where in (tmp_path / "new", catalogued)
    ]
    assert lists[0] == lists[1]


def test_a_registry_is_made_and_brought_up_to_date_on_request(tmp_path: Path) -> None:
    (tmp_path / "ccdflow.yaml").write_text("store: store\n")
    assert "'ccdflow upgrade' makes it" in str(invoke("-C", tmp_path, "status").exception)
    assert [path.name for path in tmp_path.iterdir()] == ["ccdflow.yaml"]
    version = document(invoke("-C", tmp_path, "upgrade", "--json"))["version"]
    assert f"at version {version}" in invoke("-C", tmp_path, "upgrade").stdout
    assert invoke("-C", tmp_path, "status").exit_code == 0


def test_a_server_that_does_not_answer_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ccdflow.flows.server.answers", lambda: False)
    with pytest.raises(Exit):
        upkeep._need_answer(-1.0)
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "does not answer; is it running, and PREFECT_API_URL right?" in told


@pytest.mark.parametrize("cron", ["25 8", "08:25", "", "61 8 * * *"])
def test_a_morning_that_is_no_schedule_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], cron: str
) -> None:
    upkeep._need_cron("30 8 * * *")
    with pytest.raises(Exit):
        upkeep._need_cron(cron)
    assert f"--morning {cron!r} is no schedule; wanted one as of cron" in capsys.readouterr().err
