"""What of the machine a project's jobs may take."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cascade.planning.test_jobqueue import NIGHT, run

from ccdflow.tasks import machine
from ccdflow.tasks.machine import JOBS_AHEAD, job_queue, threads_of
from ccdflow.tasks.workspace import Workspace, open_workspace


@pytest.fixture
def with_cores(empty_project: Path, tmp_path: Path) -> Callable[[int | None], Workspace]:
    """Gives a project that says how many cores there are for it."""

    def project(cores: int | None) -> Workspace:
        text = (empty_project / "ccdflow.yaml").read_text()
        (tmp_path / "ccdflow.yaml").write_text(text + (f"cores: {cores}\n" if cores else ""))
        return open_workspace(tmp_path)

    return project


@pytest.mark.parametrize(("cores", "most"), [(1, 1), (2, 2), (3, 3), (4, 10), (None, 10)])
def test_no_more_jobs_are_handed_out_than_the_project_has_cores(
    with_cores: Callable[[int | None], Workspace],
    monkeypatch: pytest.MonkeyPatch,
    cores: int | None,
    most: int,
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 4)
    space = with_cores(cores)
    jobs = [job for job in NIGHT if not job.parents]
    many = [job.__class__(**(vars(job) | {"key": f"{job.key}{n}"})) for n in range(5) for job in jobs]
    assert run(job_queue(str(space.project.directory), many))[1] == min(most, 4 * JOBS_AHEAD)


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (None, None)])
def test_recipes_work_in_no_more_threads_than_the_project_has_cores(
    with_cores: Callable[[int | None], Workspace], cores: int | None, threads: int | None
) -> None:
    space = with_cores(cores)
    assert threads_of(space, "stack") == threads
    assert threads_of(space, "a step that is no more") == threads
