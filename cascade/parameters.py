"""Parameters of a step: recipe default, then cascade, then request; each value knows where it came from."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from ccdflow.cascade.jobs import Resolved
from ccdflow.cascade.model import Cascade, Step, unknown
from ccdflow.cascade.sequences import SequenceRules
from ccdflow.recipes.recipe import Recipe

GROUP = "group"


def split_request(cascade: Cascade, request: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Requested values by step, from names ``STEP.NAME``.

    Raises
    ------
    ValueError
        If a name has no step, or the step is not in the cascade.
    """
    by_step: dict[str, dict[str, Any]] = {}
    for name, value in request.items():
        step, dot, parameter = name.partition(".")
        if not dot or not parameter:
            raise ValueError(f"parameter {name!r} is not of the form STEP.NAME")
        if step not in cascade.tasks:
            raise ValueError(f"parameter {name!r}: {unknown('task', step, cascade.tasks)}")
        by_step.setdefault(step, {})[parameter] = value
    return by_step


def recipe_parameters(
    name: str, step: Step, recipe: Recipe, requested: Mapping[str, Any]
) -> dict[str, Resolved]:
    """All parameters of the recipe of step `name`, with the origin of each value.

    Raises
    ------
    ValueError
        If a name is not known or a value does not fit.
    """
    given = {key: value for key, value in requested.items() if key not in grouping_names(step)}
    known = [*recipe.parameters.model_fields, *grouping_names(step)]
    for parameter in [*step.parameters, *given]:
        if parameter not in recipe.parameters.model_fields:
            raise ValueError(f"task {name!r}: {unknown('parameter', parameter, known)}")
    values = _validated(recipe.parameters, {**step.parameters, **given}, name).model_dump(mode="json")
    return {key: Resolved(value, _origin(key, step, given)) for key, value in values.items()}


def _origin(parameter: str, step: Step, given: Mapping[str, Any]) -> str:
    if parameter in given:
        return "request"
    return "cascade" if parameter in step.parameters else "recipe"


def grouping_names(step: Step) -> list[str]:
    """Parameters that say how products are grouped: ``group`` and the fields of the sequence rules."""
    if not step.groups:
        return []
    sequence = any(isinstance(one, SequenceRules) for one in step.groups.values())
    return [GROUP, *(SequenceRules.model_fields if sequence else ())]


def grouping(name: str, step: Step, requested: Mapping[str, Any]) -> Any:
    """The way in which products are grouped for step `name`: `SequenceRules` or a `GroupSpec`.

    Raises
    ------
    ValueError
        If the group or one of the values is not known.
    """
    choice = str(requested.get(GROUP, step.group))
    if choice not in step.groups:
        raise ValueError(f"parameter '{name}.group': {unknown('group', choice, step.groups)}")
    rules = step.groups[choice]
    changes = {key: requested[key] for key in grouping_names(step) if key != GROUP and key in requested}
    if not isinstance(rules, SequenceRules):
        return rules
    return _validated(SequenceRules, {**rules.model_dump(), **changes}, name)


def _validated(model: type[BaseModel], values: Mapping[str, Any], step: str) -> BaseModel:
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([step, *(str(part) for part in first["loc"])])
        raise ValueError(f"parameter {where!r}: {first['msg']}; found {first['input']!r}") from None
