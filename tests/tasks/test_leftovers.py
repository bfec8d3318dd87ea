"""Jobs that were planned and that nothing asks for any more: found with the reason, and taken away."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Connection, text
from tests.tasks.test_cascades import RECIPES, SCIENCE, project_of, step, taken

from ccdflow.archive.registry.frames.checks import refuse_damaged_file
from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.archive.registry.jobs.leases import take_drain
from ccdflow.archive.registry.jobs.lifecycle import plan_jobs
from ccdflow.archive.registry.jobs.planned import PlannedJob
from ccdflow.archive.registry.jobs.products import find_products
from ccdflow.archive.registry.jobs.records import find_jobs
from ccdflow.cascade.planning.request import Request
from ccdflow.tasks.keeping.leftovers import NOBODY_ASKS, leftovers, take_away, told
from ccdflow.tasks.planning import planned
from ccdflow.tasks.rawfiles.amending import amend_frames, parse_changes
from ccdflow.tasks.rounds import write_plan
from ccdflow.tasks.workspace import Workspace, open_workspace

CASCADE: dict[str, Any] = {"sources": SCIENCE, "tasks": {"mine": step("of_raw", "sci")}}


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    """A project with one frame, whose only job was planned and not begun."""
    space = project_of(tmp_path / "project", [taken(tmp_path / "s.fits", "light", 1)], CASCADE)
    write_plan(space, planned(space, Request()))
    assert [(job.step, job.state) for job in space.registry.read(find_jobs)] == [("mine", "planned")]
    return space


def rewritten(space: Workspace, **changes: Any) -> Workspace:
    folder = space.project.directory
    (folder / "mine.yaml").write_text(
        yaml.safe_dump({"name": "mine", "recipes": RECIPES} | CASCADE | changes)
    )
    return open_workspace(folder)


def amended(space: Workspace, change: str) -> Workspace:
    amend_frames(space, space.registry.read(find_frames), parse_changes(space, [change]), "me", "")
    return space


def deleted(space: Workspace) -> Workspace:
    space.registry.write(lambda connection: connection.execute(text("DELETE FROM frame")).close())
    return space


def refused(space: Workspace) -> Workspace:
    (frame,) = space.registry.read(find_frames)
    space.registry.write(refuse_damaged_file, str(frame.path), "a hole in it")
    return space


def with_version(space: Workspace) -> Workspace:
    return rewritten(space, recipes=RECIPES | {"of_raw": RECIPES["of_raw"] | {"version": "8"}})


CHANGES: dict[str, tuple[Callable[[Workspace], Workspace], str]] = {
    "its class was amended": (lambda space: amended(space, "class=dark"), "f1 is dark now, not science"),
    "its camera was amended": (lambda space: amended(space, "camera=X"), "has taken its frames"),
    "it was deleted": (deleted, "frames of it were deleted"),
    "it was refused": (refused, "f1 was refused"),
    "the task is gone": (
        lambda space: rewritten(space, tasks={"other": step("of_raw", "sci")}),
        "the cascade has no task 'mine' any more",
    ),
    "the task is a relay now": (
        lambda space: rewritten(
            space, tasks={"mine": {"main": "sci", "stage": "science"}, "other": step("of_raw", "mine")}
        ),
        "the cascade has no task 'mine' any more",
    ),
    "the recipe has another version": (with_version, "now, was of_raw 1"),
    "the source has a condition": (
        lambda space: rewritten(space, sources={"sci": SCIENCE["sci"] | {"condition": "exptime > 9"}}),
        NOBODY_ASKS,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_job_that_nothing_asks_for_any_more_is_taken_away_with_the_reason(
    space: Workspace, name: str
) -> None:
    change, reason = CHANGES[name]
    later = change(space)
    found = leftovers(later)
    assert [left.job.step for left in found] == ["mine"]
    assert reason in found[0].reason
    assert take_away(later, found) == found
    assert [job.key for job in later.registry.read(find_jobs)] == []
    assert later.registry.read(find_products) == []
    (line,) = told(found)
    assert line == f"1 waiting job taken away (mine {found[0].job.key[:8]}): {found[0].reason}"


def test_what_a_plan_still_names_stays(space: Workspace) -> None:
    assert leftovers(space) == []
    # It is no target any more, but may be asked for by name.
    later = rewritten(space, tasks={"mine": step("of_raw", "sci") | {"tags": []}})
    assert leftovers(later) == []


def test_what_somebody_has_begun_meanwhile_stays(space: Workspace) -> None:
    found = leftovers(amended(space, "class=dark"))

    def begin(connection: Connection) -> None:
        connection.execute(text("UPDATE job SET state = 'running'"))

    space.registry.write(begin)
    assert take_away(space, found) == []
    assert [job.state for job in space.registry.read(find_jobs)] == ["running"]


def test_while_others_work_only_what_is_certain_is_taken_away(space: Workspace) -> None:
    change, _ = CHANGES["the source has a condition"]
    later = change(space)
    later.registry.write(take_drain, "live all", "somebody:1:1:1", 60.0)
    assert leftovers(later) == []


def test_what_only_a_request_has_asked_for_is_left_to_it_for_a_day(space: Workspace) -> None:
    asked = PlannedJob("k" * 64, "mine", "of_raw", "1", variant='{"parameters": {"mine.x": 1}}')
    space.registry.write(plan_jobs, [asked])
    assert leftovers(space) == []

    def long_ago(connection: Connection) -> None:
        connection.execute(text("UPDATE job SET planned_at = '2026-01-01T00:00:00' WHERE variant <> ''"))

    space.registry.write(long_ago)
    (found,) = leftovers(space)
    assert found.job.key == asked.key and "not begun within a day" in found.reason


def test_a_product_that_once_stood_in_a_collection_keeps_its_job(space: Workspace) -> None:
    def collect(connection: Connection) -> None:
        connection.execute(text("INSERT INTO collection (id, name) VALUES (1, 'release')"))
        connection.execute(
            text("INSERT INTO collection_member (collection_id, product_id) SELECT 1, id FROM product")
        )

    space.registry.write(collect)
    later = amended(space, "class=dark")
    assert take_away(later, leftovers(later)) == []
    assert len(later.registry.read(find_jobs)) == 1
