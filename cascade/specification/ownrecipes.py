"""Recipes that a cascade declares itself: a function, a class, a Python module or another program."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, create_model, model_validator

from ccdflow.cascade.planning.jobs import digest
from ccdflow.cascade.specification import dotted
from ccdflow.cascade.specification.durations import Seconds
from ccdflow.recipes.core.recipe import Input, Inputs, Parameters, Recipe, Result

PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w.]*)\}")
"""In a program's arguments: an input's role, ``out.CATEGORY``, a parameter, or ``job``."""
_LETTERS = 8
"""Letters of the digest in a version, which people read: 32 bits tell the declarations of one recipe apart."""


class OwnInput(BaseModel):
    """What a recipe takes in one role, see `ccdflow.recipes.core.recipe.Input`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["raw", "product"]
    minimum: int = Field(1, ge=0)
    maximum: PositiveInt | None = 1


class OwnRecipe(BaseModel):
    """A recipe of a user's own, and what it declares."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    function: dotted.FunctionText = ""
    """Dotted path of ``run(inputs, parameters) -> Result``, or of a `Recipe`, which declares itself."""
    class_: dotted.FunctionText = Field("", alias="class")
    """Dotted path of a class without arguments that has a method ``run(inputs, parameters)``."""
    module: str = ""
    """Name of a module for ``python -m``, which is given the path of a JSON file with inputs, outputs, parameters."""
    program: tuple[str, ...] = ()
    """Program and arguments, no shell: ``{main}``, ``{out.catalog}``, ``{threshold}``, ``{job}`` are filled in."""
    version: str = "1"
    """Changes whenever what it makes changes."""
    inputs: dict[str, OwnInput] = Field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Names and defaults; a value must be of its default's type."""
    time_limit: Seconds | None = None
    """Time that a job may take, such as ``30 min``; without, as the project says. It is no part of a job's key."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> "OwnRecipe":
        ways = [way for way in (self.function, self.class_, self.module, self.program) if way]
        if len(ways) != 1:
            raise ValueError("a recipe is one of function, class, module or program")
        # A `Recipe` knows its inputs, outputs and parameters: told twice, they could contradict each other.
        if not self.is_declared:
            if self.inputs or self.outputs or self.parameters:
                raise ValueError(f"{self.function} declares itself")
            return self
        # Whether a module or program is there is only known where it runs, which may be another machine.
        if self.function or self.class_:
            named = dotted.function(self.function or self.class_)
            if self.class_ and not callable(getattr(named, "run", None)):
                raise ValueError(f"class {self.class_!r} has no method run")
        if "main" not in self.inputs or not self.outputs:
            raise ValueError("a recipe declares its inputs, of which one is main, and its outputs")
        self._check_placeholders()
        return self

    def _check_placeholders(self) -> None:
        known = [*self.inputs, *(f"out.{category}" for category in self.outputs), *self.parameters, "job"]
        for argument in self.program:
            for name in PLACEHOLDER.findall(argument):
                if name not in known:
                    raise ValueError(f"unknown {{{name}}} in {argument!r}; known: {', '.join(known)}")

    @property
    def is_declared(self) -> bool:
        """True where it is declared here, and not by the object that `function` names."""
        return not (self.function and isinstance(dotted.named(self.function), Recipe))

    @property
    def is_external(self) -> bool:
        """True where it runs in a process of its own, on files."""
        return bool(self.module or self.program)


def recipe_of(name: str, own: OwnRecipe) -> Recipe:
    """Return the recipe as the planner and the tasks know it.

    What runs in a process of its own is run by `ccdflow.tasks.external`, since recipes know no files.

    Parameters
    ----------
    name : str
        Name that the cascade gives it.
    own : OwnRecipe
        What the cascade says of it.

    Returns
    -------
    Recipe
        Where the recipe does not declare itself, its version ends with a digest of the declaration: jobs are done anew
        where another command is run.
    """
    if not own.is_declared:
        declared: Recipe = dotted.named(own.function)
        return replace(declared, name=name)
    # A pydantic model of its own for each recipe, so that values are checked as those of our own recipes are.
    fields: dict[str, Any] = {key: (type(value), value) for key, value in own.parameters.items()}
    return Recipe(
        name=name,
        version=f"{own.version}+{_digest(own)}",
        inputs={role: Input(taken.kind, taken.minimum, taken.maximum) for role, taken in own.inputs.items()},
        outputs=own.outputs,
        parameters=create_model(f"{name}_parameters", __base__=Parameters, **fields),
        run=partial(_run, own),
    )


def _digest(own: OwnRecipe) -> str:
    """Return what is run, in a few letters: another command makes other products."""
    declaration = own.model_dump(
        mode="json", include={"function", "class_", "module", "program", "inputs", "outputs"}
    )
    return digest(declaration)[:_LETTERS]


def _run(own: OwnRecipe, inputs: Inputs, parameters: Parameters) -> Result:
    if own.is_external:
        raise ValueError("a program takes files, not pixels")
    named = dotted.function(own.function or own.class_)
    result = named(inputs, parameters) if own.function else named().run(inputs, parameters)
    if not isinstance(result, Result):
        raise ValueError(f"{own.function or own.class_} gave {type(result).__name__}, wanted a Result")
    return result


class Recipes(Mapping[str, Recipe]):
    """Recipes of a cascade's own besides those that are always there.

    Parameters
    ----------
    known : mapping
        Recipes that are always there, by name; looked up only when they are asked for, since that imports them.
    own : mapping
        Recipes that the cascade declares, by name.

    Raises
    ------
    ValueError
        If one has the name of one that is there already.
    """

    def __init__(self, known: Mapping[str, Recipe], own: Mapping[str, OwnRecipe]) -> None:
        for name in own:
            if name in known:
                raise ValueError(f"recipe {name!r} is there already; give it another name")
        self._known = known
        self._own = {name: recipe_of(name, declared) for name, declared in own.items()}

    def __getitem__(self, name: str) -> Recipe:
        return self._own[name] if name in self._own else self._known[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._known
        yield from self._own

    def __len__(self) -> int:
        return len(self._known) + len(self._own)
