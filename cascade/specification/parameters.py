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
"""Parameter of a step on products that names the way in which they are grouped."""
DEFAULT_SET = "default"
"""Parameter set that applies where a request names none."""

Layer = tuple[str, Mapping[str, Any]]
"""Where values come from, and the values by name; of several layers the later one counts."""


@dataclass(frozen=True)
class Chosen:
    """What sets and request say: values of workflow parameters, and for each step layers, the request's last."""

    workflow: Mapping[str, Resolved] = field(default_factory=dict)
    tasks: Mapping[str, Sequence[Layer]] = field(default_factory=dict)


def chosen(cascade: Cascade, request: Mapping[str, Any], named_set: str | None = None) -> Chosen:
    """Return the values of a parameter set under those of a request.

    Parameters
    ----------
    cascade : Cascade
        Knows the sets, the steps and the workflow parameters.
    request : mapping
        ``STEP.NAME``, or of a workflow parameter ``NAME``, to value.
    named_set : str or None
        Name of the set; without, `DEFAULT_SET` where the cascade has it.

    Returns
    -------
    Chosen
        Values as they were said; those of recipes are not checked yet.

    Raises
    ------
    ValueError
        If a set, step or workflow parameter is not known.
    """
    workflow = {name: Resolved(known.default, "cascade") for name, known in cascade.parameters.items()}
    steps: dict[str, list[Layer]] = {}
    if named_set is not None or DEFAULT_SET in cascade.parameter_sets:
        for name, parameter_set in cascade.lineage(named_set or DEFAULT_SET):
            origin = f"set {name}"
            workflow |= {key: Resolved(value, origin) for key, value in parameter_set.workflow.items()}
            for step, values in parameter_set.tasks.items():
                steps.setdefault(step, []).append((origin, values))
    by_step, of_workflow = split_request(cascade, request)
    workflow |= {key: Resolved(value, "request") for key, value in of_workflow.items()}
    # Checked here, where the name can be told: put in for ``$name``, a wrong value would be told by where it stands.
    for name, resolved in workflow.items():
        _check_type(name, resolved.value, cascade.parameters[name].default)
    for step, values in by_step.items():
        steps.setdefault(step, []).append(("request", values))
    return Chosen(workflow, steps)


def _check_type(name: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than the default: truths, numbers and texts."""
    # A bool is an int to Python, hence the order, and the second question.
    for kind, wanted in ((bool, "true or false"), ((int, float), "a number"), (str, "a text")):
        if isinstance(default, kind):
            if not isinstance(value, kind) or (isinstance(value, bool) and not isinstance(default, bool)):
                raise ValueError(f"workflow parameter {name!r} is {wanted}, found {value!r}")
            return


def tuned(cascade: Cascade, choice: Chosen) -> Cascade:
    """Return the cascade with the chosen values of workflow parameters.

    Parameters
    ----------
    cascade : Cascade
        The cascade with its defaults.
    choice : Chosen
        What `chosen` returned for it.

    Returns
    -------
    Cascade
        The same object where no value differs from its default.

    Raises
    ------
    ValueError
        If a value does not fit where it stands; the message names all values that differ from their defaults.
    """
    changed = {
        name: resolved.value
        for name, resolved in choice.workflow.items()
        if resolved.value != cascade.parameters[name].default
    }
    try:
        return cascade.tuned(changed) if changed else cascade
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        raise ValueError(
            f"{said}: {where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
        ) from None


def split_request(
    cascade: Cascade, request: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the requested values by step, and those of workflow parameters.

    Parameters
    ----------
    cascade : Cascade
        Knows the steps and the workflow parameters.
    request : mapping
        ``STEP.NAME``, or of a workflow parameter ``NAME``, to value.

    Returns
    -------
    tuple of dict
        Step to name to value; and workflow parameter to value.

    Raises
    ------
    ValueError
        If a name has no step and is no workflow parameter, or the step is not in the cascade.
    """
    by_step: dict[str, dict[str, Any]] = {}
    workflow: dict[str, Any] = {}
    for name, value in request.items():
        # From the right: the name of a step of a subworkflow has a dot of its own.
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
    """Return all parameters of a step's recipe, with the origin of each value.

    Parameters
    ----------
    name : str
        Name of the step.
    step : Step
        What the cascade says of it.
    recipe : Recipe
        Declares the parameters and their defaults.
    layers : sequence of Layer
        Values of sets and request; the later ones count.
    hooked : mapping or None
        What the step's hooks say of the job, name to value.

    Returns
    -------
    dict
        Name to value and origin: ``recipe``, ``cascade``, ``hook``, ``set NAME`` or ``request``. Values are as JSON
        has them, since the job's key is made of them.

    Raises
    ------
    ValueError
        If a name is not known or a value does not fit.
    """
    # Some parameters of a step are not its recipe's, but say how its products are grouped. They are decided before
    # there are jobs, so a hook, which is asked for each job, comes too late to change them.
    grouping_keys = grouping_names(step)
    known = [*recipe.parameters.model_fields, *grouping_keys]
    resolved: dict[str, Resolved] = {}
    for origin, values in [("cascade", step.parameters), ("hook", hooked or {}), *layers]:
        for parameter, value in values.items():
            if origin == "hook" and parameter in grouping_keys:
                raise ValueError(f"task {name!r}: a hook can't change how products are grouped ({parameter})")
            if parameter not in known:
                raise ValueError(f"task {name!r}: {unknown('parameter', parameter, known)}")
            if parameter in recipe.parameters.model_fields:
                resolved[parameter] = Resolved(value, origin)
    stated = {parameter: value.value for parameter, value in resolved.items()}
    values = _validated(recipe.parameters, stated, name).model_dump(mode="json")
    return {
        key: Resolved(value, resolved[key].origin if key in resolved else "recipe")
        for key, value in values.items()
    }


def grouping_names(step: Step) -> list[str]:
    """Return the parameters of a step that say how products are grouped.

    Parameters
    ----------
    step : Step
        A step of the cascade.

    Returns
    -------
    list of str
        ``group``, and where one of the groups is made by the sequence rules, their fields; none for a step on frames.
    """
    if not step.groups:
        return []
    sequence = any(isinstance(group, SequenceRules) for group in step.groups.values())
    return [GROUP, *(SequenceRules.model_fields if sequence else ())]


def grouping(name: str, step: Step, layers: Sequence[Layer]) -> Any:
    """Return the way in which products are grouped for a step.

    Parameters
    ----------
    name : str
        Name of the step.
    step : Step
        What the cascade says of it.
    layers : sequence of Layer
        Values of sets and request; the later ones count.

    Returns
    -------
    SequenceRules or GroupSpec
        Sequence rules with the values that were said in place of their own.

    Raises
    ------
    ValueError
        If the group or one of the values is not known.
    """
    known = grouping_names(step)
    said = [step.parameters, *(values for _, values in layers)]
    stated = {key: value for values in said for key, value in values.items() if key in known}
    choice = str(stated.pop(GROUP, step.group))
    if choice not in step.groups:
        raise ValueError(f"parameter '{name}.group': {unknown('group', choice, step.groups)}")
    rules = step.groups[choice]
    if not isinstance(rules, SequenceRules):
        return rules
    # Validated as a whole: a request's values must fit together with those of the cascade.
    return _validated(SequenceRules, {**rules.model_dump(), **stated}, name)


def _validated(model: type[BaseModel], values: Mapping[str, Any], step: str) -> BaseModel:
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([step, *(str(part) for part in first["loc"])])
        raise ValueError(f"parameter {where!r}: {first['msg']}; found {first['input']!r}") from None
