"""The manual's way to a new instrument works as it is written."""

import re
from pathlib import Path

from ccdflow.commands.scenarios import read_scenarios, run_scenario

MANUAL = Path(__file__).parents[2] / "docs" / "instruments.md"


def test_the_instrument_of_the_manual_passes_its_test(tmp_path: Path) -> None:
    instrument, *_, scenarios = re.findall(r"```yaml\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    (tmp_path / "instruments").mkdir()
    (tmp_path / "instruments" / "robocam.yaml").write_text(instrument)
    path = tmp_path / "robocam.cascade.yaml"
    path.write_text(scenarios)
    shared = read_scenarios(path)
    for scenario in shared.scenarios:
        verdict = run_scenario(path, shared, scenario)
        assert verdict.passed, verdict
