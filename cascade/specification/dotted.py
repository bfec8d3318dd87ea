"""Functions of a user's own, named by dotted path in a project's files."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo

from ccdflow.cascade.specification.projectmodules import as_written, module_of

Function = Callable[..., Any]

_FOLDER = "folder"
"""Key of the project's folder in a validation context."""


class ProjectText(str):
    """A text of a project's file that may name a function, and the project's folder, where it is looked for first.

    It is equal to the plain text, and prints like it.
    """

    folder: Path

    def __new__(cls, text: str, folder: Path) -> "ProjectText":
        """Make one of a text and a folder."""
        made = super().__new__(cls, text)
        made.folder = folder
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how a copy is made."""
        return ProjectText, (str(self), self.folder)


def validation_context(folder: Path | None) -> dict[str, Any]:
    """Return the context for pydantic in which fields of type `FunctionText` remember their project.

    Parameters
    ----------
    folder : Path or None
        Folder of the project whose files are read, absolute; None where there is no project.

    Returns
    -------
    dict
        What `BaseModel.model_validate` takes as ``context``.
    """
    return {_FOLDER: folder}


def folder_of(info: ValidationInfo) -> Path | None:
    """Return the project's folder that a validator was given.

    Parameters
    ----------
    info : ValidationInfo
        Made by pydantic from what `validation_context` gave.
    """
    folder: Path | None = (info.context or {}).get(_FOLDER)
    return folder


def _with_folder(text: str, info: ValidationInfo) -> str:
    folder = folder_of(info)
    return text if folder is None or not text else ProjectText(text, folder)


FunctionText = Annotated[str, AfterValidator(_with_folder)]
"""Type of a field that is, or may be, the dotted path of a function."""


def named(path: str) -> Any:
    """Return what a dotted path names.

    Parameters
    ----------
    path : str
        ``module.name``. The module of a `ProjectText` is looked for in the project's folder, then, like that of
        a plain text, among all that Python can import.

    Returns
    -------
    object
        The attribute ``name`` of the module.

    Raises
    ------
    ValueError
        If there is nothing of that name.
    """
    return _named(str(path), _folder(path))


def _folder(path: str) -> Path | None:
    return path.folder if isinstance(path, ProjectText) else None


def _reason(error: BaseException, folder: Path | None) -> str:
    return str(error) if folder is None else as_written(str(error), folder)


@cache
def _named(path: str, folder: Path | None) -> Any:
    # The folder is part of what is remembered: the same path means another function in another project.
    module_name, _, name = path.rpartition(".")
    try:
        module = None if folder is None else module_of(folder, module_name)
        return getattr(import_module(module_name) if module is None else module, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"function {path!r} can't be imported: {_reason(error, folder)}") from None
    # A module of somebody's own may raise anything while it is loaded, or even ask to exit.
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {_reason(error, folder)}"
        raise ValueError(f"function {path!r} can't be imported: {reason}") from error


def function(path: str) -> Function:
    """Return the function that a dotted path names.

    Parameters
    ----------
    path : str
        ``module.name``, see `named`.

    Returns
    -------
    callable
        The function, or a class.

    Raises
    ------
    ValueError
        If there is nothing of that name, or it can't be called.
    """
    value: Function = named(path)
    if not callable(value):
        raise ValueError(f"function {path!r} is no function but {type(value).__name__}")
    return value


def called(path: str, *arguments: Any) -> Any:
    """Call the function that a dotted path names, and return what it gives back.

    Parameters
    ----------
    path : str
        ``module.name``, see `named`.
    *arguments
        Handed to the function as they are.

    Returns
    -------
    object
        What the function gives back.

    Raises
    ------
    ValueError
        If there is no such function, or it fails; the message names it. A ValueError of the function itself passes
        unchanged.
    """
    try:
        return function(path)(*arguments)
    except ValueError:
        raise
    except (Exception, SystemExit) as error:  # an exit would end the plan of all others
        reason = _reason(error, _folder(path))
        raise ValueError(f"function {path!r} failed: {type(error).__name__}: {reason}") from error
