"""The commands: exit codes, errors in one line, and one JSON document with the keys that are relied on."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner, Result

from ccdflow import __version__
from ccdflow.cli import app, main
from ccdflow.commands.output import print_table
from ccdflow.config.shipped import shipped
from ccdflow.simulate import simulate_night
from ccdflow.tasks import workspace

Command = Callable[..., Result]

FRAME_KEYS = {
    *("id", "path", "class", "telescope", "camera", "instrument", "filter", "object", "exptime"),
    *("obsdate", "iobs", "nobs", "night", "stage", "status", "set", "reason"),
}
SET_KEYS = {"id", "step", "status", "action", "ready", "frames", "first", "last", "product"}
PRODUCT_KEYS = {"id", "category", "path", "sha256", "job", "inputs", "quality"}
JOB_KEYS = {"key", "step", "recipe", "state", "main", "associated", "missing", "parameters"}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the program itself."""
    monkeypatch.setattr("sys.argv", ["ccdflow", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_night(tmp_path_factory.mktemp("goto"), night="goto", catalog_only=True).catalog


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three biases, and two science frames of one sequence."""
    folder = tmp_path_factory.mktemp("raw")
    random = np.random.default_rng(7)
    for number in range(5):
        header = fits.Header({"TELESCOP": "T", "DETECTOR": "C", "INSTRUME": "I", "GAIN": 1.0, "RDNOISE": 4.0})
        header["DATE-OBS"] = f"2026-03-01T20:0{number}:00"
        header["IMAGETYP"] = "bias" if number < 3 else "object"
        header["EXPTIME"] = 0.0 if number < 3 else 60.0
        if number >= 3:
            header.update(OBJECT="M13", FILTER="L", IOBS=number - 2, NOBS=2)
        data = random.normal(500, 5, (16, 20)).astype(np.uint16)
        fits.PrimaryHDU(data, header).writeto(folder / f"{number}.fits")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    assert invoke("init", directory).exit_code == 0
    return directory


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, raw: Path) -> Path:
    directory = tmp_path_factory.mktemp("filled")
    assert invoke("init", directory).exit_code == 0
    assert invoke("-C", directory, "ingest", raw).exit_code == 0
    assert invoke("-C", directory, "group").exit_code == 0
    return directory


def document(result: Result) -> Any:
    """The one JSON document of standard output."""
    return json.loads(result.stdout)


# --- one document ------------------------------------------------------------------------------------


def test_init_makes_a_project_and_tells_where(tmp_path: Path) -> None:
    result = invoke("init", tmp_path / "new", "--json")
    assert result.exit_code == 0
    assert document(result)["project"] == str(tmp_path / "new")
    assert (tmp_path / "new" / "ccdflow.yaml").is_file()
    assert (tmp_path / "new" / "registry.sqlite").is_file()
    assert (tmp_path / "new" / "store").is_dir()


def test_init_twice_touches_nothing(project: Path) -> None:
    before = (project / "ccdflow.yaml").read_bytes()
    result = invoke("init", project)
    assert result.exit_code != 0
    assert (project / "ccdflow.yaml").read_bytes() == before


def test_simulate_tells_what_it_wrote(tmp_path: Path) -> None:
    result = invoke("simulate", tmp_path / "night", "--night", "goto", "--catalog-only", "--json")
    assert result.exit_code == 0
    found = document(result)
    assert found["frames"] == {"science": 788}
    assert Path(found["catalog"]).is_file()


def test_ingest_counts_what_became_of_the_files(project: Path, raw: Path) -> None:
    first = invoke("-C", project, "ingest", raw, "--json")
    assert (first.exit_code, document(first)["new"], document(first)["problems"]) == (0, 5, [])
    again = invoke("-C", project, "ingest", raw, "--json")
    assert (again.exit_code, document(again)["new"], document(again)["known"]) == (0, 0, 5)


def test_ingest_of_a_catalogue_twice_is_harmless(project: Path, catalog: Path) -> None:
    first = document(invoke("-C", project, "ingest", "--catalog", catalog, "--json"))
    again = document(invoke("-C", project, "ingest", "--catalog", catalog, "--json"))
    assert (first["new"], again["new"], again["known"]) == (788, 0, 788)


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan"],
        ["group"],
        ["status"],
        ["verify"],
        ["show", "f1"],
        ["show", "s1"],
        ["explain", "f4"],
        ["explain", "s1"],
        *(["list", what] for what in ("frames", "sets", "jobs", "products", "events")),
    ],
    ids=" ".join,
)
def test_json_is_one_document_and_nothing_else(filled: Path, arguments: list[str]) -> None:
    result = invoke("-C", filled, *arguments, "--json")
    assert result.exit_code in (0, 1)
    assert document(result) is not None


def test_what_a_table_shows_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"file": "a\nb\x1b[2J.fits", "state": "done"}], ["file", "state"])
    assert capsys.readouterr().out.split("\n")[1].split() == ["a\\nb\\x1b[2J.fits", "done"]


@pytest.mark.parametrize("what", ["frames", "sets", "jobs", "products", "events"])
def test_lists_of_an_empty_project_are_empty(project: Path, what: str) -> None:
    result = invoke("-C", project, "list", what, "--json")
    assert (result.exit_code, document(result)) == (0, [])


def test_frames_have_the_keys_that_are_relied_on(filled: Path) -> None:
    rows = document(invoke("-C", filled, "list", "frames", "--json"))
    assert len(rows) == 5
    assert all(row.keys() >= FRAME_KEYS for row in rows)
    science = [row for row in rows if row["class"] == "science"]
    assert [(row["iobs"], row["nobs"], row["filter"]) for row in science] == [(1, 2, "L"), (2, 2, "L")]
    assert len({row["set"] for row in science}) == 1
    assert {row["set"] for row in rows if row["class"] == "bias"} == {None}


def test_sets_have_the_keys_that_are_relied_on(filled: Path) -> None:
    (row,) = document(invoke("-C", filled, "list", "sets", "--json"))
    assert row.keys() >= SET_KEYS
    assert (row["step"], row["status"], row["action"], row["ready"]) == ("stack", "closed", "stack", False)
    science = [one["id"] for one in document(invoke("-C", filled, "list", "frames", "--json")) if one["set"]]
    assert row["frames"] == science
    assert (row["first"], row["last"]) == ("2026-03-01T20:03:00", "2026-03-01T20:04:00")
    assert row["product"] is None


def test_plan_has_the_keys_that_are_relied_on(filled: Path) -> None:
    result = invoke("-C", filled, "plan", "--json")
    jobs = document(result)["jobs"]
    assert all(job.keys() >= JOB_KEYS for job in jobs)
    assert {job["state"] for job in jobs} <= {"new", "reused", "incomplete"}
    (bias,) = [job for job in jobs if job["step"] == "bias"]
    assert (bias["state"], bias["recipe"], len(bias["main"])) == ("new", "bias", 3)
    incomplete = [job for job in jobs if job["state"] == "incomplete"]
    assert result.exit_code == (1 if incomplete else 0)
    for job in incomplete:
        assert all(one.keys() >= {"input", "reason", "nearest"} for one in job["missing"])
    for job in jobs:
        assert all(one.keys() >= {"input", "ids", "level"} for one in job["associated"])


def test_a_plan_as_a_tree_has_a_data_set_for_each_target_job(filled: Path) -> None:
    found = document(invoke("-C", filled, "plan", "--tree", "--json"))
    (stack,) = found["data_sets"]
    # Without any flat it can be made, at the worst level, and says so.
    assert stack["what"].startswith("stack") and stack["complete"] and stack["worst_level"] == 3
    science = [one for one in stack["needs"] if one["role"] == "main"]
    assert len(science) == 2 and all("flat" in [lack["input"] for lack in one["without"]] for one in science)
    assert {need["role"] for one in science for need in one["needs"]} == {"bias"}
    lines = invoke("-C", filled, "plan", "--tree").stdout.splitlines()
    assert lines[0].split()[1].startswith("stack") and any(line.startswith("    bias") for line in lines)


def test_planning_writes_nothing(filled: Path) -> None:
    before = document(invoke("-C", filled, "list", "jobs", "--json"))
    invoke("-C", filled, "plan")
    assert document(invoke("-C", filled, "list", "jobs", "--json")) == before


def test_the_ledger_balances(filled: Path) -> None:
    rows = document(invoke("-C", filled, "status", "--json"))
    states = ("done", "passed", "running", "waiting", "failed", "refused")
    assert sum(row["frames"] for row in rows) == 5
    assert all(row["frames"] == sum(row[state] for state in states) for row in rows)


def test_group_counts_sets(project: Path, catalog: Path) -> None:
    invoke("-C", project, "ingest", "--catalog", catalog)
    found = document(invoke("-C", project, "group", "--json"))
    rows = document(invoke("-C", project, "list", "sets", "--json"))
    assert sum(found.values()) == len(rows)
    assert found["open"] == 0
    early = document(invoke("-C", project, "list", "sets", "--camera", "GOTO1/UT1", "--json"))
    assert 0 < len(early) < len(rows)


def test_sequences_are_closed_at_the_time_that_is_given(project: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(
        "telescope,camera,instrument,filter,imagetype,target,exptime,obsdate,iobs,nobs\n"
        "T,C,I,L,science,M13,60,2026-03-01T20:00:00,1,3\n"
    )
    invoke("-C", project, "ingest", "--catalog", path)
    early = document(invoke("-C", project, "group", "--now", "2026-03-01T20:10:00", "--json"))
    late = document(invoke("-C", project, "group", "--now", "2026-03-01T21:10:00", "--json"))
    assert (early, late) == ({"stack": 0, "pass": 0, "open": 1}, {"stack": 0, "pass": 1, "open": 0})


def test_an_empty_store_verifies(project: Path) -> None:
    result = invoke("-C", project, "verify", "--json")
    found = document(result)
    assert (result.exit_code, found["products"], found["problems"]) == (0, 0, [])


def test_a_foreign_file_of_the_store_is_named(project: Path) -> None:
    foreign = project / "store" / "science" / "mine.fits"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"SIMPLE")
    result = invoke("-C", project, "verify", "--json")
    assert result.exit_code == 1
    assert any("mine.fits" in one["path"] for one in document(result)["problems"])


def test_a_frame_is_shown_by_id_and_by_path(filled: Path, raw: Path) -> None:
    by_id = document(invoke("-C", filled, "show", "f1", "--json"))
    by_path = document(invoke("-C", filled, "show", by_id["path"], "--json"))
    assert by_id == by_path
    assert by_id["path"] == str(raw / "0.fits")


@pytest.mark.parametrize(
    "arguments", [["status"], ["list", "frames"], ["list", "sets"], ["plan"], ["show", "f1"]]
)
def test_people_get_a_table(filled: Path, arguments: list[str]) -> None:
    result = invoke("-C", filled, *arguments)
    assert result.exit_code in (0, 1)
    assert len(result.stdout.splitlines()) > 1
    assert not result.stdout.lstrip().startswith(("{", "["))


def test_what_happened_to_an_instrument_parts_calibrations_from_frames(project: Path, raw: Path) -> None:
    def bias_missing() -> list[str]:
        jobs = document(invoke("-C", project, "plan", "--target", "science", "--json"))["jobs"]
        (job, *_) = [one for one in jobs if one["step"] == "science"]
        return [near["reason"] for one in job["missing"] if one["input"] == "bias" for near in one["nearest"]]

    invoke("-C", project, "ingest", raw)
    assert bias_missing() == []
    other = invoke("-C", project, "event", "mirror coated", "--when", "2026-03-01T20:02:30", "--camera", "D")
    assert other.exit_code == 0 and "no frame is of it: unknown camera 'D'" in other.stderr
    assert bias_missing() == []
    result = invoke(
        "-C", project, "event", "detector swapped", "--when", "2026-03-01T20:02:30", "--camera", "C"
    )
    assert result.exit_code == 0 and "detector swapped" in result.stdout
    assert bias_missing() == ["detector swapped on 2026-03-01 lies between"]


# --- what is wrong, in one line ----------------------------------------------------------------------

WRONG = {
    "unknown target": (["plan", "--target", "stak"], "stak.*stack"),
    "parameter that is no value": (["plan", "--param", "stack.sigma=[1"], "no YAML value"),
    "unknown step of a parameter": (["plan", "--param", "stak.clip=3"], "stak.*stack"),
    "unknown parameter": (["plan", "--param", "stack.max_stak=3"], "max_stak.*max_stack"),
    "value that does not fit": (["plan", "--param", "stack.max_stack=many"], "max_stack.*many"),
    "no value": (["plan", "--param", "stack.max_stack"], "STEP.NAME=VALUE"),
    "no step": (["plan", "--param", "max_stack=3"], "STEP.NAME"),
    "no time": (["group", "--now", "midnight"], "midnight.*ISO"),
    "unknown list": (["list", "frame"], "frame.*frames"),
    "nothing of that name": (["show", "f999"], "f999"),
    "nothing of that key": (["explain", "0123456789"], "0123456789"),
    "nothing to ingest": (["ingest"], "--catalog"),
    "missing catalogue": (["ingest", "--catalog", "gone.csv"], "gone.csv"),
    "missing file": (["ingest", "gone.fits"], "gone.fits"),
    "blank event": (["event", " ", "--when", "2026-03-01"], "event is blank; wanted what happened"),
    "no time of an event": (["event", "swapped", "--when", "noon"], "noon.*ISO"),
    "unknown set": (["plan", "--set", "quick"], "unknown parameter set 'quick'"),
    "unknown preference": (["plan", "--prefer", "rwa"], "rwa.*raw"),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["text", "json"])
def test_bad_usage_is_one_line_on_standard_error(
    filled: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
    flags: list[str],
) -> None:
    code, out, err = program(monkeypatch, capsys, "-C", filled, *arguments, *flags)
    assert code == 2
    assert len(err.splitlines()) == 1, err
    assert re.search(words, err)
    assert not out or (flags and json.loads(out)) or arguments[0] == "ingest"


@pytest.mark.parametrize(
    "arguments",
    [["plan"], ["group"], ["status"], ["verify"], ["list", "frames"], ["show", "f1"], ["explain", "f1"]],
    ids=" ".join,
)
def test_without_a_project_one_line_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, out, err = program(monkeypatch, capsys, "-C", tmp_path, *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "ccdflow init" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", ["64", "64x", "axb", "64x64x64", "-64x64"])
def test_a_bad_shape_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shape: str
) -> None:
    code, _, err = program(monkeypatch, capsys, "simulate", tmp_path / "n", "--shape", shape)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "NYxNX" in err
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize(
    "arguments", [["--night", "gotto"], ["--clouds", "some"], ["--shape", "0x0"]], ids=" ".join
)
def test_a_simulation_that_does_not_exist_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    code, _, err = program(monkeypatch, capsys, "simulate", tmp_path / "n", *arguments)
    assert code == 2
    assert len(err.splitlines()) == 1


def test_a_plan_of_nothing_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = program(monkeypatch, capsys, "-C", project, "plan", "--json")
    assert code == 1
    assert json.loads(out)["jobs"] == []
    assert "nothing to do" in err


def test_some_bad_files_are_exit_code_1_and_named(
    project: Path,
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = tmp_path / "bad.fits"
    bad.write_text("no FITS")
    code, out, err = program(monkeypatch, capsys, "-C", project, "ingest", raw, bad, "--json")
    assert (code, json.loads(out)["new"], json.loads(out)["unreadable"]) == (1, 5, 1)
    assert str(bad) in err


def test_an_error_in_the_project_file_names_file_and_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "ccdflow.yaml"
    path.write_text("registry: sqlite:///registry.sqlite\nstor: store\n")
    code, _, err = program(monkeypatch, capsys, "-C", project, "status")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "ccdflow.yaml" in err
    assert "2" in err.replace(str(path), "")
    assert "stor" in err


def test_an_unknown_command_or_option_is_exit_code_2() -> None:
    assert invoke("redcue").exit_code == 2
    assert invoke("list", "frames", "--nihgt", "2026-03-01").exit_code == 2


def test_the_version_is_told() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.stdout.strip()) == (0, f"ccdflow {__version__}")


UNKNOWN = {
    "task of params": (["params", "stak", "--cascade", "imaging"], "unknown task 'stak'"),
    "cascade": (["params", "--cascade", "imagin"], "cascade 'imagin' is no file in"),
    "set of params": (["params", "--cascade", "imaging", "--set", "quick"], "unknown parameter set 'quick'"),
    "format": (["graph", "--cascade", "imaging", "--format", "png"], "'png'; known: mermaid, dot, svg"),
    "suffix": (["graph", "--cascade", "imaging", "-o", "x.png"], "x.png says no format"),
}


@pytest.mark.parametrize(("arguments", "words"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_known_of_a_cascade_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    code, _, err = program(monkeypatch, capsys, *arguments)
    assert code == 2 and re.search(words, err) and len(err.splitlines()) == 1


# --- the cascade ------------------------------------------------------------------------------------------


def test_params_show_values_and_where_they_come_from(tmp_path: Path) -> None:
    written = (shipped("cascades") / "imaging.yaml").read_text()
    sets = "parameter_sets:\n  quick: {tasks: {stack: {method: median, max_stack: 3}}}\n"
    mine = tmp_path / "mine.yaml"
    mine.write_text(written + sets)
    found = document(
        invoke("params", "stack", "--cascade", mine, "--set", "quick", "-p", "stack.sigma=4", "--json")
    )
    values = {one["name"]: (one["value"], one["origin"]) for one in found["parameters"]}
    assert values["method"] == ("median", "set quick")
    assert values["max_stack"] == (3, "set quick")
    assert values["sigma"] == (4, "request")
    assert values["clip"] == ("variance", "recipe")
    assert [one["set"] for one in found["sets"]] == ["quick"]


@pytest.mark.parametrize(
    ("name", "begins"), [("a.svg", "<svg"), ("a.dot", "digraph"), ("a.mmd", "flowchart")]
)
def test_a_graph_is_written_in_the_format_of_its_suffix(tmp_path: Path, name: str, begins: str) -> None:
    result = invoke("graph", "--cascade", "imaging", "--detailed", "-o", tmp_path / name)
    assert result.exit_code == 0, result.output
    assert (tmp_path / name).read_text().startswith(begins)


def test_the_graph_of_a_plan_has_its_jobs(filled: Path) -> None:
    result = invoke("-C", filled, "graph", "--jobs")
    assert result.exit_code == 0 and "science" in result.stdout and "new" in result.stdout


def test_a_database_of_a_newer_ccdflow_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke("init", tmp_path / "p").exit_code == 0
    with sqlite3.connect(tmp_path / "p" / "registry.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for known in (workspace._registry, workspace._opened):
        known.cache_clear()  # as in a program that begins
    code, _, told = program(monkeypatch, capsys, "-C", tmp_path / "p", "status")
    assert code == 2 and "is at version 9999" in told and "update ccdflow" in told
    assert len(told.strip().splitlines()) == 1


def test_a_correction_is_made_shown_and_taken_back(filled: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(filled, project)
    told = invoke("-C", project, "amend", "--class", "science", "filter=R", "--why", "wheel stuck")
    assert told.exit_code == 0, told.output
    assert "filter: L -> R" in told.stdout and "amended; 'ccdflow plan' shows what changes" in told.stdout
    rows = document(invoke("-C", project, "list", "amendments", "--json"))
    first = rows[0]
    assert (first["name"], first["said"], first["value"], first["why"]) == ("filter", "L", "R", "wheel stuck")
    assert "amended: filter L -> R (wheel stuck)" in invoke("-C", project, "explain", first["frame"]).stdout
    assert document(invoke("-C", project, "show", first["frame"], "--json"))["amended"]
    undone = document(invoke("-C", project, "amend", "--class", "science", "filter", "--undo", "--json"))
    assert len(undone["undone"]) == len(rows)
    assert document(invoke("-C", project, "list", "amendments", "--json")) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["filter=V", "--why", "x"], "amend needs frames"),
        (["f1", "--why", "x"], "amend needs KEY=VALUE"),
        (["f1", "filter=V"], "amend needs --why"),
        (["f1", "filtre=V"], "filtre"),
        (["f1", "filtr=V", "--why", "x"], "did you mean 'filter'"),
        (["f1", "--undo"], "nothing of this is amended"),
        (["f999", "filter=V", "--why", "x"], "there is no frame f999"),
    ],
)
def test_a_correction_that_is_not_understood_is_one_line(filled: Path, words: list[str], told: str) -> None:
    result = invoke("-C", filled, "amend", *words)
    assert result.exit_code == 2
    assert told in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "https://example.org/night"],
        ["ingest", "s3://bucket/night"],
        ["ingest", "--catalog", "http://example.org/frames.csv"],
        ["recipe", "bias", "ftp://example.org/a.fits", "-o", "bias.fits"],
        ["recipe", "science", "a.fits", "--with", "bias=https://example.org/b.fits", "-o", "x.fits"],
        ["graph", "-o", "https://example.org/a.svg"],
        ["describe", "https://example.org/a.fits"],
    ],
)
def test_a_url_where_a_path_is_meant_is_refused_in_one_line(
    filled: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = program(monkeypatch, capsys, "-C", filled, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is a URL; wanted a path on this machine: fetch it first" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["ingest", ""],
        ["run", "", "--night", "2026-03-01"],
        ["ingest", "--catalog", ""],
        ["graph", "-o", ""],
        ["backup", ""],
        ["init", ""],
        ["-C", "", "status"],
    ],
)
def test_an_empty_word_is_not_the_current_folder(
    filled: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = program(monkeypatch, capsys, "-C", filled, *arguments)
    assert (code, out, err) == (2, "", "ccdflow: '' is no path; wanted one, or . for the current folder\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "frames", "--night", "2026-03-04"], "no frames of night 2026-03-04; nearest: 2026-03-01"),
        (["list", "products", "--night", "2025-01-01"], "no frames of night 2025-01-01; nearest: 2026-03-01"),
        (["plan", "--night", "2026-02-27"], "no frames of night 2026-02-27; nearest: 2026-03-01"),
        (["run", "--night", "2026-02-27"], "no frames of night 2026-02-27; nearest: 2026-03-01"),
        (["status", "--night", "2026-02-27"], "no frames of night 2026-02-27; nearest: 2026-03-01"),
        (["retry", "--night", "2026-02-27"], "no frames of night 2026-02-27; nearest: 2026-03-01"),
        (["list", "jobs", "--camera", "CC"], "unknown camera 'CC'; known: C; did you mean 'C'?"),
        (["plan", "--camera", "U/C"], "unknown camera 'U/C'; known: T/C; did you mean 'T/C'?"),
        (["missing", "--camera", "c"], "unknown camera 'c'; known: C"),
        (["list", "sets", "--camera", "X"], "unknown camera 'X'; known: C"),
        (["redo", "--step", "sience"], "did you mean 'science'?"),
    ],
)
def test_a_selection_of_nothing_is_a_mistake_with_the_nearest(
    filled: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = program(monkeypatch, capsys, "-C", filled, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
