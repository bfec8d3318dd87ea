"""Python modules that lie in a project's folder: loaded by file, for each project its own.

Python knows a module by its name alone, and keeps it in `sys.modules` for the whole process: of two projects with a
``hooks.py`` the second would be given the first's. Here each folder stands for a package with a name of its own, and
its files are modules of that package.
"""

import builtins
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from importlib import import_module, invalidate_caches
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

_PREFIX = "ccdflow_project_"
"""Begins the names of the packages that stand for folders."""
_LETTERS = 12
"""Letters of the digest in a package's name: 48 bits keep any number of folders apart."""


def module_of(folder: Path, name: str) -> ModuleType | None:
    """Return the module `name` of a project's folder, loaded at first use; None where the folder has no such file.

    Parameters
    ----------
    folder : Path
        The project's folder, absolute.
    name : str
        Name of the module as code beside it would import it: ``hooks``, ``quality.limits``.

    Returns
    -------
    ModuleType or None
        The same object for the same folder and name, as long as the process lives: files that change meanwhile
        are not read again.

    Raises
    ------
    Exception
        Whatever the module raises while it is loaded.
    """
    unique = f"{_package(folder)}.{name}"
    if unique not in sys.modules:
        invalidate_caches()  # Python remembers what a folder holds, and may not see a file that was written just now
        if not _lies_in(folder, name):
            return None
    return import_module(unique)


def as_written(message: str, folder: Path) -> str:
    """Return a message with the names of modules as the user knows them.

    Parameters
    ----------
    message : str
        Message of an exception that importing raised.
    folder : Path
        The project's folder.
    """
    return message.replace(f"{_name(folder)}.", "")


def _name(folder: Path) -> str:
    return _PREFIX + sha256(str(folder).encode()).hexdigest()[:_LETTERS]


def _package(folder: Path) -> str:
    """Return the name of the package that stands for a folder; it has no file, only a place to look for modules."""
    name = _name(folder)
    if name not in sys.modules:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        package = module_from_spec(spec)
        vars(package)["__ccdflow_folder__"] = folder
        sys.modules.setdefault(name, package)  # one step: of two threads both go on with the same package
    return name


_NEVER_A_PROJECTS = {"ccdflow", *sys.stdlib_module_names}
"""Modules that a folder's files never stand for: a clone of ccdflow may lie there, and Python's own come first."""


def _lies_in(folder: Path, name: str) -> bool:
    """Return whether a folder holds a module, or a folder of modules; one that holds only data is none."""
    parts = name.split(".")
    if parts[0] in _NEVER_A_PROJECTS or not all(part.isidentifier() for part in parts):
        return False
    places = [str(folder)]
    for part in parts:
        spec = PathFinder.find_spec(part, places)
        if spec is None:
            return False
        places = list(spec.submodule_search_locations or ())
        # Of a folder without __init__.py Python makes a package whatever it holds, raw frames too.
        if spec.loader is None and not any(any(Path(place).rglob("*.py")) for place in places):
            return False
    return True


class _Finder:
    """Finds the modules of the packages that stand for folders, and gives them an ``import`` of their own."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = name.partition(".")[0]
        if path is None or not package.startswith(_PREFIX):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Finder)  # before PathFinder, which would find the same files


class _Loader(SourceFileLoader):
    """Runs a file of a project so that ``import helpers`` in it means the project's ``helpers.py``."""

    def exec_module(self, module: ModuleType) -> None:
        # An import statement calls `__import__` of the builtins that its module's globals name. So a dict of
        # the module's own, instead of the one that all modules share, changes what the statement means in this module
        # only, at the top as well as in functions that are called much later, from any thread.
        package = module.__name__.partition(".")[0]
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": partial(_import, package)}
        super().exec_module(module)


def _import(
    package: str,
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """Do what ``import`` does in a file of a project: files of the same folder go before all else."""
    folder: Path = vars(sys.modules[package])["__ccdflow_folder__"]
    if level or not _lies_in(folder, name):
        return builtins.__import__(name, globals, locals, fromlist, level)
    imported = builtins.__import__(f"{package}.{name}", globals, locals, fromlist, 0)
    # ``import a.b`` binds a, ``from a.b import c`` looks into b. The first is taken from `sys.modules`, since modules
    # that import each other are there before they are attributes of their package.
    return imported if fromlist else sys.modules[f"{package}.{name.partition('.')[0]}"]
