"""A project opened for work: its registry, its store, its cascade and its instruments."""

import atexit
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from ccdflow.archive.patience import set_read_limit
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.jobs.leases import sweep_jobs
from ccdflow.archive.registry.jobs.records import JobFilter, find_jobs
from ccdflow.archive.registry.rootpaths import Roots
from ccdflow.archive.store import TEMPLATE as PRODUCT_TEMPLATE
from ccdflow.archive.store import Store
from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.cascade.records import CLASSES
from ccdflow.cascade.specification.model import Cascade
from ccdflow.cascade.specification.ownrecipes import Recipes
from ccdflow.config.cascadefile import cascade_files, load_cascade
from ccdflow.config.instruments import load_instruments
from ccdflow.config.project import PROJECT_FILE, Project, load_project
from ccdflow.config.shipped import shipped
from ccdflow.recipes.catalogue import RECIPES
from ccdflow.recipes.core.recipe import Recipe
from ccdflow.recipes.core.stub import Stubs
from ccdflow.tasks.keeping.marking import claim_store, find_store


@dataclass(frozen=True)
class Workspace:
    """What every task needs, opened once for each process and project."""

    project: Project
    registry: Registry
    store: Store
    cascade: Cascade
    instruments: tuple[Instrument, ...]

    @property
    def recipes(self) -> Mapping[str, Recipe]:
        """The recipes that jobs call, by name."""
        known = self._with_own if self.cascade.recipes else RECIPES
        return Stubs(known) if self.project.executor == "stub" else known

    @cached_property
    def taken_categories(self) -> frozenset[str]:
        """Categories of products made elsewhere that the cascade takes as data sources."""
        return frozenset({source.frame_class for source in self.cascade.sources.values()} - {*CLASSES})

    @cached_property
    def _with_own(self) -> Mapping[str, Recipe]:
        return Recipes(RECIPES, self.cascade.recipes)

    def find_store(self) -> None:
        """Make sure that the store is there.

        Raises
        ------
        StoreAwayError
            If it isn't; says what was found and what was wanted.
        """
        find_store(self.registry, self.store)

    def claim_store(self) -> None:
        """Make sure that the store is there, and give one that is new, or of a project from before, its mark.

        Raises
        ------
        StoreAwayError
            If it isn't there; then nothing is changed.
        """
        claim_store(self.registry, self.store)

    def recover(self) -> None:
        """Give back the jobs of dead workers, and delete the files that they left half written."""
        self.registry.write(sweep_jobs, self.project.keep_alive)
        # Files are listed before the jobs that run: whoever wrote one of them had claimed its job by then.
        left = list(self.store.temporaries())
        if not left:
            return
        running = {job.key for job in self.registry.read(find_jobs, JobFilter(states=("running",)))}
        for key, path in left:
            if key not in running:
                self.store.absolute(path).unlink(missing_ok=True)


def open_workspace(directory: str | Path, *, read_only: bool = False) -> Workspace:
    """Open the workspace of a project; changed YAML counts at the next call.

    Parameters
    ----------
    directory : str or Path
        Directory of the project.
    read_only : bool
        Only questions are asked: the registry is neither made nor brought up to date, and nothing is written to it.

    Returns
    -------
    Workspace
        The same object, as long as nothing has changed.

    Raises
    ------
    ConfigError
        If there is no project, or one of its files is not understood.
    DatabaseVersionError
        If a registry that is only asked is not there, or of another version.
    """
    # The key of the cache is what was read and when that had been changed: with other YAML it is another workspace.
    project = _project(Path(directory))
    set_read_limit(project.read_limit)
    folders = (*project.instruments, shipped("instruments"))
    written = [project.directory / PROJECT_FILE]
    written += [path for folder in folders for path in sorted(folder.glob("*.yaml"))]
    return _opened(project, _stamps(written) + _cascade_stamps(project), read_only=read_only)


Stamps = tuple[tuple[Path, int], ...]
"""Files, and when they were changed, in nanoseconds."""
_KNOWN: dict[Path, Stamps] = {}
"""The files that a cascade was made of when it was last read, and when they had been changed."""


def _stamps(paths: Iterable[Path]) -> Stamps:
    return tuple((path, path.stat().st_mtime_ns) for path in paths)


def _cascade_stamps(project: Project) -> Stamps:
    """The files that a cascade is made of; they are read only where one of them has changed."""
    path = project.cascade_path
    known = _KNOWN.get(path, ())
    try:
        if known and _stamps(file for file, _ in known) == known:
            return known
    except OSError:  # one of them is gone
        pass
    _KNOWN[path] = _stamps(cascade_files(path, project.directory))
    return _KNOWN[path]


def _project(directory: Path) -> Project:
    """The project of a directory, read again where its file or what lies beside it has changed."""
    try:
        # The folder counts as well: instrument files and cascades may have come or gone beside the project's file.
        changed = [path.stat().st_mtime_ns for path in (directory, directory / PROJECT_FILE)]
    except OSError:
        return load_project(directory)  # which says what is wrong
    return _loaded(directory.absolute(), tuple(changed))


@lru_cache(maxsize=8)
def _loaded(directory: Path, _changed: tuple[int, ...]) -> Project:
    return load_project(directory)


@lru_cache(maxsize=8)
def _opened(project: Project, _written: tuple[tuple[Path, int], ...], *, read_only: bool) -> Workspace:
    return Workspace(
        project=project,
        registry=_registry(project.registry, project.roots, read_only=read_only),
        store=Store(project.store, project.template or PRODUCT_TEMPLATE),
        cascade=load_cascade(project.cascade_path, project.directory),
        instruments=load_instruments([*project.instruments, shipped("instruments")], project.directory),
    )


@lru_cache(maxsize=8)
def _registry(url: str, roots: Roots, *, read_only: bool) -> Registry:
    registry = Registry(url, read_only=read_only, roots=roots)
    try:
        registry.check() if read_only else registry.upgrade()
        if not read_only:
            registry.keep_relative()
    except Exception:
        registry.close()
        raise
    # Else a program's end leaves most of an SQLite registry in the log beside it, where no copy of the file finds it.
    atexit.register(registry.close)
    return registry
