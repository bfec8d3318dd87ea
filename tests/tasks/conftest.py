import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ccdflow.archive.registry.doors import Registry
from ccdflow.config.project import init_project
from ccdflow.tasks.workspace import Workspace, open_workspace


@pytest.fixture(scope="session")
def empty_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("empty")
    init_project(directory)
    open_workspace(directory).registry.close()
    return directory


@pytest.fixture
def new_project(empty_project: Path, tmp_path: Path) -> Iterator[Callable[[str], Workspace]]:
    """Gives a project with an empty registry; the same name gives the same project, opened anew."""
    opened: list[Workspace] = []

    def project(name: str) -> Workspace:
        directory = tmp_path / name
        if not directory.exists():
            shutil.copytree(empty_project, directory)
        space = open_workspace(directory)
        opened.append(replace(space, registry=Registry(space.project.registry)))
        return opened[-1]

    yield project
    for one in opened:
        one.registry.close()


@pytest.fixture
def space(new_project: Callable[[str], Workspace]) -> Workspace:
    return new_project("project")
