"""Functions of a user's own, named by dotted path in a cascade."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

Function = Callable[..., Any]


@cache
def named(path: str) -> Any:
    """What a dotted path names.

    Raises
    ------
    ValueError
        If there is nothing.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"function {path!r} can't be imported: {error}") from None


def function(path: str) -> Function:
    """The function that a dotted path names.

    Raises
    ------
    ValueError
        If there is none.
    """
    found: Function = named(path)
    if not callable(found):
        raise ValueError(f"function {path!r} is no function but {type(found).__name__}")
    return found


def called(path: str, *arguments: Any) -> Any:
    """What the function gives back.

    Raises
    ------
    ValueError
        If there is no such function, or it fails; the message names it.
    """
    try:
        return function(path)(*arguments)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"function {path!r} failed: {type(error).__name__}: {error}") from error
