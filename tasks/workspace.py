"""A project opened for work: its registry, its store, its cascade and its instruments."""

import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import get_ident

from ccdflow.archive.registry import Registry
from ccdflow.archive.store import Store
from ccdflow.cascade.instrument import Instrument
from ccdflow.cascade.model import Cascade
from ccdflow.config.instruments import load_instruments
from ccdflow.config.project import PROJECT_FILE, Project, load_cascade, load_project, shipped


@dataclass(frozen=True)
class Workspace:
    """What every task needs, opened once for each process and project."""

    project: Project
    registry: Registry
    store: Store
    cascade: Cascade
    instruments: tuple[Instrument, ...]


def open_workspace(directory: str | Path) -> Workspace:
    """The workspace of a project; changed YAML counts at the next call.

    Raises
    ------
    ConfigError
        If there is no project, or one of its files is not understood.
    """
    project = load_project(Path(directory))
    folders = (*project.instruments, shipped("instruments"))
    written = [project.directory / PROJECT_FILE, project.cascade_path]
    written += [path for folder in folders for path in sorted(folder.glob("*.yaml"))]
    return _opened(project, tuple((path, path.stat().st_mtime_ns) for path in written))


@lru_cache(maxsize=8)
def _opened(project: Project, _written: tuple[tuple[Path, int], ...]) -> Workspace:
    return Workspace(
        project=project,
        registry=_registry(project.registry),
        store=Store(project.store),
        cascade=load_cascade(project.cascade_path),
        instruments=tuple(load_instruments([*project.instruments, shipped("instruments")])),
    )


@lru_cache(maxsize=8)
def _registry(url: str) -> Registry:
    registry = Registry(url)
    registry.upgrade()
    return registry
