"""What is said of jobs that can't be done."""

from dataclasses import replace

from tests.cascade.planning.test_planner import planned
from tests.cascade.planning.test_what_fits import night, some

from ccdflow.commands.reduction import _why_incomplete


def test_what_is_missing_is_told_for_each_detector_with_its_own_candidates() -> None:
    frames = []
    for number, offset in enumerate(("10", "20")):
        taken = [*night({}, {}, {"offset": "50"}), *some(21, "dark", {"offset": offset})]
        frames += [replace(one, id=one.id + 100 * number, telescope=f"SIM{number}") for one in taken]
    frames = [replace(one, sha256=f"{one.id:064d}") for one in frames]
    jobs = [job for job in planned(frames, "science").jobs if job.state == "incomplete"]
    lines = list(_why_incomplete(jobs))
    assert [line for line in lines if not line.startswith(" ")] == [
        "1 science incomplete (f41): no dark fits; 2 looked at, 0 found",
        "1 science incomplete (f141): no dark fits; 2 looked at, 0 found",
    ]
    assert lines[1] == "    dark: dark f21..f23 of 2026-03-01: offset is 10, wanted 50"
    after = lines.index("1 science incomplete (f141): no dark fits; 2 looked at, 0 found")
    assert lines[after + 1] == "    dark: dark f121..f123 of 2026-03-01: offset is 20, wanted 50"
