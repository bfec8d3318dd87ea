"""Parameters: recipe default, then cascade, hook, set, request; each value knows where it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from ccdflow.cascade.planning.jobs import Resolved
from ccdflow.cascade.sequences.statemachine import SequenceRules
from ccdflow.cascade.specification.model import Cascade, Step
from ccdflow.cascade.wording import unknown
from ccdflow.recipes.core.recipe import Recipe

GROUP = "group"
DEFAULT_SET = "default"

Layer = tuple[str, Mapping[str, Any]]
"""Origin, and values by name."""


@dataclass(frozen=True)
class Chosen:
    """What sets and request say: values of workflow parameters, and for each task layers, the request's last."""

    workflow: Mapping[str, Resolved] = field(default_factory=dict)
    tasks: Mapping[str, Sequence[Layer]] = field(default_factory=dict)


def chosen(cascade: Cascade, request: Mapping[str, Any], named_set: str | None = None) -> Chosen:
    """Values of a parameter set (`default`, where there is one and none is named) under those of a request.

    Names of the request are ``STEP.NAME``, or of a workflow parameter ``NAME``.

    Raises
    ------
    ValueError
        If a set, step or workflow parameter is not known.
    """
    workflow = {name: Resolved(one.default, "cascade") for name, one in cascade.parameters.items()}
    tasks: dict[str, list[Layer]] = {}
    if named_set is not None or DEFAULT_SET in cascade.parameter_sets:
        for name, one in cascade.lineage(named_set or DEFAULT_SET):
            workflow |= {key: Resolved(value, f"set {name}") for key, value in one.workflow.items()}
            for task, values in one.tasks.items():
                tasks.setdefault(task, []).append((f"set {name}", values))
    by_step, of_workflow = split_request(cascade, request)
    workflow |= {key: Resolved(value, "request") for key, value in of_workflow.items()}
    for name, one_value in workflow.items():
        _check_type(name, one_value.value, cascade.parameters[name].default)
    for task, values in by_step.items():
        tasks.setdefault(task, []).append(("request", values))
    return Chosen(workflow, tasks)


def _check_type(name: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than the default: truths, numbers and texts."""
    for kind, wanted in ((bool, "true or false"), ((int, float), "a number"), (str, "a text")):
        if isinstance(default, kind):
            if not isinstance(value, kind) or (isinstance(value, bool) and not isinstance(default, bool)):
                raise ValueError(f"workflow parameter {name!r} is {wanted}, found {value!r}")
            return


def tuned(cascade: Cascade, found: Chosen) -> Cascade:
    """The cascade with the chosen values of workflow parameters."""
    changed = {
        name: one.value
        for name, one in found.workflow.items()
        if one.value != cascade.parameters[name].default
    }
    try:
        return cascade.tuned(changed) if changed else cascade
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(one) for one in first["loc"])
        said = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        raise ValueError(
            f"{said}: {where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
        ) from None


def split_request(
    cascade: Cascade, request: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Requested values by step, from names ``STEP.NAME``, and those of workflow parameters.

    Raises
    ------
    ValueError
        If a name has no step and is no workflow parameter, or the step is not in the cascade.
    """
    by_step: dict[str, dict[str, Any]] = {}
    workflow: dict[str, Any] = {}
    for name, value in request.items():
        step, dot, parameter = name.rpartition(".")
        if not dot:
            if name not in cascade.parameters:
                known = ", ".join(cascade.parameters)
                also = f" and no workflow parameter ({known})" if known else ""
                raise ValueError(f"parameter {name!r} is not of the form STEP.NAME{also}")
            workflow[name] = value
        elif not parameter:
            raise ValueError(f"parameter {name!r} is not of the form STEP.NAME")
        elif step not in cascade.tasks:
            raise ValueError(f"parameter {name!r}: {unknown('task', step, cascade.tasks)}")
        else:
            by_step.setdefault(step, {})[parameter] = value
    return by_step, workflow


def recipe_parameters(
    name: str, step: Step, recipe: Recipe, layers: Sequence[Layer], hooked: Mapping[str, Any] | None = None
) -> dict[str, Resolved]:
    """All parameters of the recipe of step `name`, with the origin of each value.

    `layers` are those of sets and request; `hooked` is what the step's hooks say of the job.

    Raises
    ------
    ValueError
        If a name is not known or a value does not fit.
    """
    grouping_keys = grouping_names(step)
    known = [*recipe.parameters.model_fields, *grouping_keys]
    found: dict[str, Resolved] = {}
    for origin, values in [("cascade", step.parameters), ("hook", hooked or {}), *layers]:
        for parameter, value in values.items():
            if origin == "hook" and parameter in grouping_keys:
                raise ValueError(f"task {name!r}: a hook can't change how products are grouped ({parameter})")
            if parameter not in known:
                raise ValueError(f"task {name!r}: {unknown('parameter', parameter, known)}")
            if parameter in recipe.parameters.model_fields:
                found[parameter] = Resolved(value, origin)
    given = {parameter: one.value for parameter, one in found.items()}
    values = _validated(recipe.parameters, given, name).model_dump(mode="json")
    return {
        key: Resolved(value, found[key].origin if key in found else "recipe") for key, value in values.items()
    }


def grouping_names(step: Step) -> list[str]:
    """Parameters that say how products are grouped: ``group`` and the fields of the sequence rules."""
    if not step.groups:
        return []
    sequence = any(isinstance(one, SequenceRules) for one in step.groups.values())
    return [GROUP, *(SequenceRules.model_fields if sequence else ())]


def grouping(name: str, step: Step, layers: Sequence[Layer]) -> Any:
    """The way in which products are grouped for step `name`: `SequenceRules` or a `GroupSpec`.

    Raises
    ------
    ValueError
        If the group or one of the values is not known.
    """
    known = grouping_names(step)
    said = [step.parameters, *(values for _, values in layers)]
    given = {key: value for values in said for key, value in values.items() if key in known}
    choice = str(given.pop(GROUP, step.group))
    if choice not in step.groups:
        raise ValueError(f"parameter '{name}.group': {unknown('group', choice, step.groups)}")
    rules = step.groups[choice]
    if not isinstance(rules, SequenceRules):
        return rules
    return _validated(SequenceRules, {**rules.model_dump(), **given}, name)


def _validated(model: type[BaseModel], values: Mapping[str, Any], step: str) -> BaseModel:
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([step, *(str(part) for part in first["loc"])])
        raise ValueError(f"parameter {where!r}: {first['msg']}; found {first['input']!r}") from None
