"""Workflow tests: what they find wrong, and what they refuse."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.commands.test_cli import document, invoke

from ccdflow.commands.scenarios import ScenarioResult, read_scenarios, run_scenario
from ccdflow.config.yamlfile import ConfigError

WRITTEN = yaml.safe_load((Path(__file__).parent.parent / "workflows" / "imaging.cascade.yaml").read_text())
DARK: dict[str, Any] = {
    "description": "darks and biases",
    "targets": ["dark"],
    "common_inputs": ["bias", "dark"],
    "results": [
        {"task": "bias", "count": 3, "inputs_prefixes": ["bias"]},
        {"task": "dark", "count": 3, "inputs_prefixes": ["dark"], "assoc_prefixes": ["bias"]},
    ],
}


def verdict(
    tmp_path: Path, changes: Mapping[str, Any], result: Mapping[str, Any] | None = None
) -> ScenarioResult:
    """What is said of the scenario with changes, of it or of its second result."""
    scenario = {**DARK, **changes}
    if result is not None:
        scenario["results"] = [DARK["results"][0], {**DARK["results"][1], **result}]
    path = tmp_path / "one.cascade.json"
    path.write_text(json.dumps({**WRITTEN, "scenarios": [scenario]}))
    shared = read_scenarios(path)
    return run_scenario(path, shared, shared.scenarios[0])


def test_what_is_as_expected_passes(tmp_path: Path) -> None:
    assert verdict(tmp_path, {}).problems == []


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ({"count": 4}, "count is 3, wanted 4"),
        ({"inputs_prefixes": ["flat"]}, "main inputs are dark, allowed flat"),
        ({"assoc_prefixes": []}, "associated inputs are bias, allowed none"),
        ({"required_prefixes": ["flat"]}, "no input is flat"),
        ({"forbidden_prefixes": ["bias"]}, "an input is bias"),
        ({"level": 1}, "level is 0, wanted 1"),
        ({"complete": False}, "complete is True, wanted False"),
        ({"missing": ["bias"]}, "missing nothing, wanted bias"),
        ({"params": {"sigma": 9}}, "sigma is"),
        ({"reused": True}, "reused is False, wanted True"),
        ({"recipe": "flat"}, "recipe is dark, wanted flat"),
    ],
)
def test_each_difference_is_a_sentence(tmp_path: Path, result: dict[str, Any], problem: str) -> None:
    problems = verdict(tmp_path, {}, result).problems
    assert len(problems) == 1 and problem in problems[0], problems


def test_a_job_that_nobody_expects_and_one_that_is_not_there(tmp_path: Path) -> None:
    problems = verdict(tmp_path, {"results": DARK["results"][1:]}).problems
    assert problems[0] == "2 jobs, wanted 1" and problems[1].startswith("not expected: bias (bias), 3 bias")
    problems = verdict(tmp_path, {"results": [*DARK["results"], {"task": "flat"}]}).problems
    assert problems[0] == "2 jobs, wanted 3" and "result 3 (flat): no job fits" in problems[1]


def test_one_job_does_not_count_for_two_results(tmp_path: Path) -> None:
    problems = verdict(tmp_path, {"results": [{"task": "dark"}, {"task": "dark"}]}).problems
    assert any("result 2 (dark): no job fits" in one for one in problems)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"common_inputs": ["bais"]}, "unknown common input 'bais'; known: bias, dark, flat"),
        ({"targets": ["drak"]}, "did you mean 'dark'"),
        ({"workflow": "imagin"}, "cascade 'imagin' is no file"),
        ({"workflow_parameter_set": "quick"}, "unknown parameter set 'quick'"),
        ({"expect_error": "no such thing"}, "not refused, wanted an error"),
        ({"targets": ["drak"], "expect_error": "no such thing"}, "refused with"),
        ({"dataset_count": 3}, "1 data sets, wanted 3"),
    ],
)
def test_what_can_not_be_done_is_a_failure_that_says_why(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    assert any(problem in one for one in verdict(tmp_path, changes).problems)


def test_an_expected_refusal_passes(tmp_path: Path) -> None:
    assert verdict(tmp_path, {"targets": ["drak"], "expect_error": "did you mean 'dark'"}).passed


def test_the_same_seed_gives_the_same_plan_and_another_time_the_same_verdict(tmp_path: Path) -> None:
    assert verdict(tmp_path, {"seed": 1}).jobs == verdict(tmp_path, {"seed": 1}).jobs
    assert verdict(tmp_path, {"seed": 2}).passed


def test_an_unknown_key_is_refused_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.cascade.yaml"
    path.write_text("scenarios:\n  - description: x\n    target: [dark]\n")
    with pytest.raises(ConfigError, match=r"bad\.cascade\.yaml, line 3: .*'target'.*targets"):
        read_scenarios(path)


def test_the_command_counts_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "two.cascade.json"
    wrong = {**DARK, "description": "wrong", "results": []}
    path.write_text(
        json.dumps({**WRITTEN, "scenarios": [DARK, wrong, {**DARK, "description": "no", "skip": True}]})
    )
    result = invoke("test", path)
    assert result.exit_code == 1 and result.stdout.splitlines()[-1] == "1 passed, 1 failed, 1 skipped"
    found = document(invoke("test", path, "-k", "WRONG", "--json"))
    assert [one["description"] for one in found["scenarios"]] == ["wrong"] and found["failed"] == 1
    assert invoke("test", path, "-k", "nothing of that name").exit_code == 2


def test_pytest_collects_one_test_for_each_scenario(pytester: pytest.Pytester) -> None:
    wrong = {**DARK, "description": "wrong", "results": []}
    pytester.makefile(".cascade.json", mine=json.dumps({**WRITTEN, "scenarios": [DARK, wrong]}))
    ran = pytester.runpytest("-k", "darks or wrong", "-p", "no:cacheprovider")
    ran.assert_outcomes(passed=1, failed=1)
    ran.stdout.fnmatch_lines(["*2 jobs, wanted 0*"])


pytest_plugins = ("pytester",)


def test_a_result_that_says_nothing_of_it_wants_a_complete_job(tmp_path: Path) -> None:
    science = {
        "name_prefix": "sci",
        "keywords": {"instrume": "C", "imagetyp": "object", "filter": "R", "exptime": 9},
    }
    scenario = {"description": "no flats", "targets": ["science"], "input_files": [science]}
    for result, passed in (({"task": "science"}, False), ({"task": "science", "complete": False}, True)):
        path = tmp_path / "a.cascade.json"
        path.write_text(json.dumps({"scenarios": [scenario | {"results": [result]}]}))
        shared = read_scenarios(path)
        assert run_scenario(path, shared, shared.scenarios[0]).passed == passed


def test_keywords_are_one_in_any_case(tmp_path: Path) -> None:
    frame = {
        "name_prefix": "bias",
        "common_keywords": ["all"],
        "keywords": {"imagetyp": "bias", "filter": "R"},
    }
    shared = {"keywords": {"all": {"INSTRUME": "C", "IMAGETYP": "dark"}}}
    scenario = {
        "description": "x",
        "targets": ["bias"],
        "input_files": [frame],
        "results": [{"task": "bias", "count": 1}],
    }
    path = tmp_path / "a.cascade.json"
    path.write_text(json.dumps(shared | {"scenarios": [scenario]}))
    found = read_scenarios(path)
    assert run_scenario(path, found, found.scenarios[0]).passed
