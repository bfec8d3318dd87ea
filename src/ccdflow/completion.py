"""What the shell offers behind an option or command while somebody types: what there is in the registry."""

from collections.abc import Callable
from pathlib import Path

import typer

Offer = Callable[[typer.Context, str], list[str]]


def offered(name: str) -> Offer:
    """Return what typer asks for the values of an option.

    Parameters
    ----------
    name : {'night', 'camera', 'object', 'filter', 'category', 'id'}
        What is typed.

    Returns
    -------
    callable
        Takes the command line so far and the beginning of the word; gives the words that may be meant.
    """

    def offer(context: typer.Context, incomplete: str) -> list[str]:
        directory = context.find_root().params.get("directory") or "."
        try:
            return _from_registry(Path(directory), name, incomplete)
        # A shell that completes shows nothing of what is wrong; the command itself will.
        except Exception:
            return []

    return offer


def _from_registry(directory: Path, name: str, beginning: str) -> list[str]:
    # Only here, since it takes a third of a second: help texts are made without it.
    from ccdflow.archive.registry.doors import Registry
    from ccdflow.archive.registry.suggestions import suggested_ids, suggested_values
    from ccdflow.config.project import load_project

    registry = Registry(load_project(directory).registry, read_only=True)
    try:
        if name == "id":
            return registry.read(suggested_ids, beginning)
        return registry.read(suggested_values, name, beginning)
    finally:
        registry.close()
