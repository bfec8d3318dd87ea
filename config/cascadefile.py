"""Cascades read from their files, with those that they extend or hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ccdflow.cascade.specification.compose import Written, extended, with_subworkflow
from ccdflow.cascade.specification.dotted import validation_context
from ccdflow.cascade.specification.model import Cascade
from ccdflow.config.project import cascade_path
from ccdflow.config.yamlfile import ConfigError, load_model


class Subworkflow(BaseModel):
    """Another cascade inside this one; its tasks are called ``subworkflow.task``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cascade: str
    """Name of a cascade that comes with ccdflow, or path of a YAML file, relative to this one."""
    bind: dict[str, str] = Field(default_factory=dict)
    """Its data sources to our data sources or tasks that take their place."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Values of its workflow parameters."""


_SUBWORKFLOWS = TypeAdapter(dict[str, Subworkflow])


def load_cascade(path: Path, folder: Path | None = None) -> Cascade:
    """Return the cascade that a YAML file states, with all that it extends and its subworkflows.

    Parameters
    ----------
    path : Path
        The YAML file.
    folder : Path, optional
        Folder of the project, absolute, where functions that the cascade names by dotted path are looked for first.

    Returns
    -------
    Cascade
        Checked in itself, not yet against its recipes.

    Raises
    ------
    ConfigError
        If a file says something that is not understood, or cascades contain each other.
    """
    return _load(path, _Reading(folder))


def cascade_files(path: Path, folder: Path | None = None) -> list[Path]:
    """Return the files that a cascade is made of: its own first.

    Parameters
    ----------
    path : Path
        The YAML file.
    folder : Path, optional
        Folder of the project, see `load_cascade`.

    Raises
    ------
    ConfigError
        If a file says something that is not understood, or cascades contain each other.
    """
    reading = _Reading(folder)
    _load(path, reading)
    return reading.files


@dataclass
class _Reading:
    """One reading of a cascade with all that it holds: the project's folder, and the files read so far."""

    folder: Path | None
    files: list[Path] = field(default_factory=list)


def _load(path: Path, reading: _Reading, above: tuple[Path, ...] = ()) -> Cascade:
    if path in above:
        raise ConfigError(f"cascades contain each other: {' -> '.join(file.name for file in (*above, path))}")
    if path not in reading.files:
        reading.files.append(path)
    composed = partial(_composed, path=path, reading=reading, above=(*above, path))
    return load_model(path, Cascade, prepare=composed, context=validation_context(reading.folder))


def _composed(content: Written, *, path: Path, reading: _Reading, above: tuple[Path, ...]) -> Written:
    """Return what a file says, with what it extends and holds."""
    # Done on plain mappings before anything is validated, so that mistakes in the result are told with a line of this
    # file. The other files are validated on their own first, so that theirs are told with a line of theirs.
    composed = dict(content)
    parents = composed.pop("extends", None)
    held = composed.pop("subworkflows", None)
    if parents is not None:
        names = [parents] if isinstance(parents, str) else parents
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("extends: wanted the name of a cascade, or a list of names")
        others = [(name, _written(name, path, reading, above)) for name in names]
        composed = extended(composed, others)
    for name, subworkflow in _held(held).items():
        inner = _written(subworkflow.cascade, path, reading, above)
        composed = with_subworkflow(composed, name, inner, subworkflow.bind, subworkflow.parameters)
    return composed


def _held(held: Any) -> Mapping[str, Subworkflow]:
    try:
        return _SUBWORKFLOWS.validate_python(held or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in ("subworkflows", *first["loc"]))
        raise ValueError(
            f"{where}: {first['msg'].lower()}; known keys: {', '.join(Subworkflow.model_fields)}"
        ) from None


def _written(name: str, beside: Path, reading: _Reading, above: tuple[Path, ...]) -> Written:
    """Return what another cascade says; its own mistakes are told with its own file and line."""
    try:
        path = cascade_path(name, beside.parent)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return _load(path, reading, above).written
