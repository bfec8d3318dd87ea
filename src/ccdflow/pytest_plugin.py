"""Let pytest collect workflow tests: files ``*.cascade.json`` and ``*.cascade.yaml``, one test for each scenario."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ccdflow.commands.scenarios import Scenario, ScenarioFile

SUFFIXES = (".cascade.json", ".cascade.yaml", ".cascade.yml")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "_File | None":
    """Take files of workflow tests; a hook of pytest.

    Parameters
    ----------
    file_path : Path
        Any file that pytest comes across.
    parent : pytest.Collector
        Its folder.

    Returns
    -------
    _File or None
        None for files of other kinds.
    """
    return _File.from_parent(parent, path=file_path) if file_path.name.endswith(SUFFIXES) else None


class _File(pytest.File):
    """A file of scenarios."""

    def collect(self) -> Iterator["_Item"]:
        from ccdflow.commands.scenarios import read_scenarios
        from ccdflow.config.yamlfile import ConfigError

        try:
            shared = read_scenarios(self.path)
        except ConfigError as error:
            raise self.CollectError(str(error)) from None
        seen: Counter[str] = Counter()
        for scenario in shared.scenarios:
            # Descriptions need not differ, names of tests must.
            seen[scenario.description] += 1
            number = seen[scenario.description]
            name = scenario.description if number == 1 else f"{scenario.description} #{number}"
            yield _Item.from_parent(self, name=name, shared=shared, scenario=scenario)


class _FailedError(Exception):
    """A scenario that does not hold."""


class _Item(pytest.Item):
    """One scenario."""

    def __init__(
        self, name: str, parent: pytest.Collector, shared: "ScenarioFile", scenario: "Scenario"
    ) -> None:
        super().__init__(name, parent)
        self.shared, self.scenario = shared, scenario

    def runtest(self) -> None:
        from ccdflow.commands.scenarios import run_scenario

        result = run_scenario(self.path, self.shared, self.scenario)
        if result.skipped:  # as the user's own file asks for, by EDPS's key `skip`
            pytest.skip(f"{self.name}: its file says skip: true")
        if not result.passed:
            raise _FailedError("\n".join([*result.problems, "planned:", *result.jobs]))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """Say what is wrong, without a traceback of ours."""
        if isinstance(excinfo.value, _FailedError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.path.name}: {self.name}"
