"""What the commands `params`, `graph` and `test` do."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ccdflow.cascade.planning.graph import Graph, dot, mermaid, svg
from ccdflow.cascade.planning.jobs import Resolved
from ccdflow.cascade.specification.contract import check
from ccdflow.cascade.specification.model import Cascade
from ccdflow.cascade.specification.ownrecipes import Recipes
from ccdflow.cascade.specification.parameters import (
    Layer,
    chosen,
    grouping,
    grouping_names,
    recipe_parameters,
    tuned,
)
from ccdflow.cascade.wording import unknown
from ccdflow.config.cascadefile import load_cascade
from ccdflow.config.project import cascade_path, load_project
from ccdflow.recipes.catalogue import RECIPES
from ccdflow.recipes.core.recipe import Recipe

Row = dict[str, Any]

FORMATS: Mapping[str, Callable[[Graph], str]] = {"mermaid": mermaid, "dot": dot, "svg": svg}
SUFFIXES = {
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".md": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    ".svg": "svg",
}
GROUPED = "how products are put together"


def read_cascade(directory: Path, name: str | None) -> Cascade:
    """The cascade of a project, or the one that is named: of ccdflow, or a YAML file.

    Raises
    ------
    ConfigError, ContractError
        If it says something that is not understood, or contradicts its recipes.
    """
    if name is None:
        project = load_project(directory)
        cascade = load_cascade(project.cascade_path, project.directory)
    else:
        cascade = load_cascade(cascade_path(name, Path.cwd()))
    check(cascade, recipes_of(cascade))
    return cascade


def recipes_of(cascade: Cascade) -> Mapping[str, Recipe]:
    """The recipes that a cascade may use."""
    return Recipes(RECIPES, cascade.recipes)


def parameters(
    cascade: Cascade, step: str | None, requested: Mapping[str, Any], named_set: str | None
) -> list[Row]:
    """All values with their origins: of the workflow, and of one step or of all.

    Raises
    ------
    ValueError
        If a step, set, name or value is not known or does not fit.
    """
    if step is not None and step not in cascade.tasks:
        raise ValueError(unknown("task", step, cascade.tasks))
    choice = chosen(cascade, requested, named_set)
    rows = [
        _row("", name, value, cascade.parameters[name].default, cascade.parameters[name].description)
        for name, value in choice.workflow.items()
        if step is None
    ]
    # Values of the workflow may change what the tasks ask for.
    current = tuned(cascade, choice)
    for name in current.tasks if step is None else [step]:
        rows += _of_task(current, name, choice.tasks.get(name, ()))
    return rows


def _of_task(cascade: Cascade, name: str, layers: Sequence[Layer]) -> list[Row]:
    """Return the parameters of one task, those of its recipe and those of its grouping."""
    task = cascade.tasks[name]
    if task.recipe is None:
        return []
    recipe = recipes_of(cascade)[task.recipe]
    fields = recipe.parameters.model_fields
    rows = [
        _row(name, key, value, fields[key].get_default(call_default_factory=True), fields[key].description)
        for key, value in recipe_parameters(name, task, recipe, layers).items()
    ]
    if task.groups:
        # The later layer wins, as everywhere: cascade, parameter sets, request.
        every = [("cascade", task.parameters), *layers]
        stated = {key: Resolved(value, origin) for origin, values in every for key, value in values.items()}
        group = stated.get("group", Resolved(task.group, "cascade"))
        rules = grouping(name, task, layers).model_dump()
        known = [key for key in grouping_names(task) if key in rules]
        values = {
            key: Resolved(rules[key], stated[key].origin if key in stated else "cascade") for key in known
        }
        rows += [_row(name, key, value, None, GROUPED) for key, value in {"group": group, **values}.items()]
    return rows


def _row(task: str, name: str, value: Resolved, default: Any, description: str | None) -> Row:
    return {
        "task": task,
        "name": name,
        "value": value.value,
        "origin": value.origin,
        "default": default,
        "description": description or "",
    }


def sets(cascade: Cascade) -> list[Row]:
    """Parameter sets of a cascade."""
    return [
        {"set": name, "extends": parameter_set.extends or "", "description": parameter_set.description}
        for name, parameter_set in cascade.parameter_sets.items()
    ]


def drawn(graph: Graph, output: Path | None, wanted: str | None) -> str:
    """A graph in the format that is named, or that the suffix of the output stands for, else Mermaid.

    Raises
    ------
    ValueError
        If there is no such format.
    """
    chosen_format = wanted or (SUFFIXES.get(output.suffix.lower()) if output else "mermaid")
    if chosen_format is None:
        known = ", ".join(SUFFIXES)
        raise ValueError(f"{output} says no format; wanted --format or one of the suffixes {known}")
    if chosen_format not in FORMATS:
        raise ValueError(unknown("format", chosen_format, list(FORMATS)))
    return FORMATS[chosen_format](graph)
