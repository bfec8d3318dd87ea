"""Cascades read from their files, with those that they extend or hold."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ccdflow.cascade.specification.compose import Written, extended, with_subworkflow
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


def load_cascade(path: Path) -> Cascade:
    """The cascade that a YAML file states, with all that it extends and its subworkflows.

    Raises
    ------
    ConfigError
        If a file says something that is not understood, or cascades contain each other.
    """
    return _load(path, ())


def cascade_files(path: Path) -> list[Path]:
    """The files that a cascade is made of: its own first."""
    found: list[Path] = []
    _load(path, (), found)
    return found


def _load(path: Path, above: tuple[Path, ...], read: list[Path] | None = None) -> Cascade:
    if path in above:
        raise ConfigError(f"cascades contain each other: {' -> '.join(one.name for one in (*above, path))}")
    if read is not None and path not in read:
        read.append(path)
    return load_model(path, Cascade, prepare=partial(_composed, path=path, above=(*above, path), read=read))


def _composed(content: Written, *, path: Path, above: tuple[Path, ...], read: list[Path] | None) -> Written:
    """What a file says, with what it extends and holds."""
    made = dict(content)
    parents = made.pop("extends", None)
    held = made.pop("subworkflows", None)
    if parents is not None:
        names = [parents] if isinstance(parents, str) else parents
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise ValueError("extends: wanted the name of a cascade, or a list of names")
        others = [(one, _written(one, path, above, read)) for one in names]
        made = extended(made, others)
    for name, one in _held(held).items():
        inner = _written(one.cascade, path, above, read)
        made = with_subworkflow(made, name, inner, one.bind, one.parameters)
    return made


def _held(held: Any) -> Mapping[str, Subworkflow]:
    try:
        return _SUBWORKFLOWS.validate_python(held or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in ("subworkflows", *first["loc"]))
        raise ValueError(
            f"{where}: {first['msg'].lower()}; known keys: {', '.join(Subworkflow.model_fields)}"
        ) from None


def _written(name: str, beside: Path, above: tuple[Path, ...], read: list[Path] | None) -> Written:
    """What another cascade says; its own mistakes are told with its own file and line."""
    try:
        path = cascade_path(name, beside.parent)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return _load(path, above, read).written
