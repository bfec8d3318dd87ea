"""The cascade as it is written down: data sources, steps, associations, parameters."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, PrivateAttr, model_validator

from ccdflow.cascade.planning.associate import Rule
from ccdflow.cascade.planning.jobqueue import Needs, parse_memory
from ccdflow.cascade.records import CLASSES, Stage
from ccdflow.cascade.sequences.grouping import GroupSpec
from ccdflow.cascade.sequences.statemachine import SequenceRules
from ccdflow.cascade.specification import dotted, expressions
from ccdflow.cascade.specification.ownrecipes import OwnRecipe
from ccdflow.cascade.wording import unknown

Memory = Annotated[int, BeforeValidator(parse_memory)]
"""Bytes, also written as ``2 GB``."""

Preference = Literal["raw_per_level", "master_per_level", "raw", "master"]
"""Whether raw frames or finished masters come first: within each level, or over all levels."""


class Model(BaseModel):
    """Base of the cascade's models: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class DataSource(Model):
    """Raw frames of one class, and which of them belong together."""

    frame_class: str = Field(alias="class")
    """Class of the frames: bias, dark, flat, science, ..., or the category of a product that was made elsewhere."""
    condition: str = ""
    """Expression or dotted path: only frames for which it holds. A frame may belong to several data sources."""
    group: GroupSpec = GroupSpec()
    """Which frames make one set; without, all, and of products that were made elsewhere, each."""
    rules: tuple[Rule, ...] = ()
    """How frames of it, and what is made of them, are associated where an input does not say otherwise."""
    description: str = ""
    """One sentence."""

    @model_validator(mode="before")
    @classmethod
    def _each_product(cls, found: Any) -> Any:
        if (
            isinstance(found, Mapping)
            and "group" not in found
            and found.get("class", CLASSES[0]) not in CLASSES
        ):
            return {**found, "group": "each"}
        return found

    @model_validator(mode="after")
    def _is_sound(self) -> "DataSource":
        _check(self.condition)
        return self


class Association(Model):
    """A calibration that a step takes besides its main input, or several ways to get one.

    Each role is a port of its own: of what a source step makes, only the product that is asked for reaches it, with
    a minimum and maximum of its own.
    """

    source: str = ""
    """Data source (raw frames) or task (its product)."""
    any_of: tuple["Association", ...] = ()
    """Instead of a source: ways that are tried in order; the first that gives enough is taken."""
    product: str = ""
    """Category of the product that is taken, of a task that makes several; else its only or first one."""
    min: int = Field(1, ge=0)
    """How many sets or products there must be; 0 makes the input optional."""
    max: PositiveInt | None = 1
    """How many are taken at the most; null: all that fit."""
    side: Literal["either", "before", "after", "both"] = "either"
    """Only what was taken before, or after; ``both``: at least and at most so many on each side."""
    when_missing: tuple[str, ...] = ()
    """Only where the main input has a blank in one of these keywords."""
    condition: str = ""
    """Expression or dotted path; where it is false the input is not looked for, and the job is complete without it."""
    handed: bool = True
    """Whether the recipe gets it; without, the job only needs it to be there."""
    preference: Preference | None = None
    """Raw frames or finished masters first; without, as the request says."""
    rules: tuple[Rule, ...] | None = None
    """Ways in which a candidate may fit, tried in order; without, those of the data source it comes from."""

    @model_validator(mode="after")
    def _one_way(self) -> "Association":
        if bool(self.source) == bool(self.any_of):
            raise ValueError("an input needs either source or any_of")
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is less than min {self.min}")
        _check(self.condition)
        return self

    @property
    def ways(self) -> tuple["Association", ...]:
        """What is tried in order."""
        return self.any_of or (self,)

    @property
    def optional(self) -> bool:
        """Whether a job is complete without it."""
        return any(one.min == 0 for one in self.ways)


class Step(Model):
    """One task of the cascade: a recipe, its main input, its associated inputs."""

    recipe: str | None = None
    """Name of the recipe that it runs; null for a relay, which hands on what its main input is."""
    main: str
    """Data source, or task whose products are taken, one set for one job."""
    product: str = ""
    """Category of the products that are taken as main input, of a task that makes several."""
    stage: Stage
    """Stage of a frame's life that the task belongs to."""
    condition: str = ""
    """Expression or dotted path; where it is false there is no job."""
    inputs: dict[str, Association] = Field(default_factory=dict)
    """Role of the recipe to the calibration that fills it."""
    group: str | None = None
    """For a task on products: which of `groups` applies unless a parameter says otherwise."""
    groups: dict[str, SequenceRules | GroupSpec] = Field(default_factory=dict)
    """Named ways to group products."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the recipe that differ from its defaults."""
    dynamic: dict[str, str] = Field(default_factory=dict)
    """Names, for conditions and hooks, to expressions or dotted paths that are worked out for each job."""
    hooks: tuple[str, ...] = ()
    """Dotted paths of functions that give parameters of the recipe, name to value, for each job."""
    cores: PositiveInt | None = None
    """Cores that a job takes, and threads that its recipe works in; without, one place among the jobs that run at
    once, and as many threads as there are cores."""
    memory: Memory = 0
    """Memory that a job takes, such as ``2 GB``; no more jobs run at once than the machine has memory for."""
    outputs: tuple[str, ...] | None = None
    """Categories that other tasks may take; without, all that the recipe makes."""
    tags: tuple[str, ...] = ()
    """Names by which several tasks are asked for together (EDPS's meta-targets): science, qc, ..."""
    description: str = ""
    """One sentence."""

    @model_validator(mode="after")
    def _is_sound(self) -> "Step":
        for text in (self.condition, *self.dynamic.values()):
            _check(text)
        for hook in self.hooks:
            dotted.function(hook)
        if self.recipe is None and (self.inputs or self.hooks or self.parameters):
            raise ValueError("a relay, without recipe, has neither inputs nor hooks nor parameters")
        return self

    @property
    def needs(self) -> Needs | None:
        """Cores and memory of a job; None where the step does not say."""
        return None if self.cores is None and not self.memory else Needs(self.cores or 1, self.memory)


class WorkflowParameter(Model):
    """A value that steers the cascade: named in conditions, and as ``$name`` wherever a value stands."""

    default: Any
    description: str = ""


class ParameterSet(Model):
    """Values for a purpose."""

    extends: str | None = None
    """Set whose values hold where this one says nothing."""
    workflow: dict[str, Any] = Field(default_factory=dict)
    """Workflow parameters."""
    tasks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Task to parameters of its recipe, or of its grouping."""
    description: str = ""


class Cascade(Model):
    """Everything that depends on anything, stated once."""

    name: str
    description: str = ""
    extends: None = None
    """Cascades that it takes all else from; only in files, where `ccdflow.config.cascadefile` has put it in place."""
    subworkflows: None = None
    """Cascades inside it; likewise."""
    parameters: dict[str, WorkflowParameter] = Field(default_factory=dict)
    """Workflow parameters."""
    parameter_sets: dict[str, ParameterSet] = Field(default_factory=dict)
    """Sets of values by name; ``default`` applies where a request names none."""
    recipes: dict[str, OwnRecipe] = Field(default_factory=dict)
    """Recipes of its own."""
    sources: dict[str, DataSource]
    tasks: dict[str, Step]

    _written: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _with_values(cls, found: Any, handler: Any) -> "Cascade":
        """Values for ``$name``; top-level keys ``x-...`` only hold YAML anchors."""
        if not isinstance(found, Mapping):
            made: Cascade = handler(found)
            return made
        written = {key: value for key, value in found.items() if not str(key).startswith("x-")}
        made = handler(_substituted(written, _defaults(written.get("parameters"))))
        made._written = written
        return made

    @model_validator(mode="after")
    def _names_are_known(self) -> "Cascade":
        for name, step in self.tasks.items():
            if name in self.sources:
                raise ValueError(f"{name!r} is the name of a task and of a data source")
            for source in self._taken(step):
                if source not in self.sources and source not in self.tasks:
                    known = [*self.sources, *self.tasks]
                    raise ValueError(f"task {name!r} takes {unknown('input', source, known)}")
            if step.main in self.tasks and step.recipe and step.group not in step.groups:
                if step.group is None:
                    raise ValueError(
                        f"task {name!r} takes products of {step.main!r}, and must say group and groups"
                    )
                raise ValueError(f"task {name!r} needs {unknown('group', step.group, step.groups)}")
        self._refuse_cycles()
        self._refuse_unknown_parameters()
        return self

    def _refuse_cycles(self) -> None:
        done: set[str] = set()

        def visit(name: str, above: tuple[str, ...]) -> None:
            if name in above:
                raise ValueError(f"tasks depend on themselves: {' -> '.join([*above, name])}")
            if name in self.tasks and name not in done:
                for parent in self.parents(name):
                    visit(parent, (*above, name))
                done.add(name)

        for name in self.tasks:
            visit(name, ())

    def _refuse_unknown_parameters(self) -> None:
        for name, one in self.parameter_sets.items():
            if one.extends is not None and one.extends not in self.parameter_sets:
                raise ValueError(f"set {name!r} extends {unknown('set', one.extends, self.parameter_sets)}")
            for parameter in one.workflow:
                if parameter not in self.parameters:
                    raise ValueError(f"set {name!r}: {unknown('parameter', parameter, self.parameters)}")
            for task in one.tasks:
                if task not in self.tasks:
                    raise ValueError(f"set {name!r}: {unknown('task', task, self.tasks)}")
            self.lineage(name)

    def lineage(self, name: str) -> list[tuple[str, ParameterSet]]:
        """A parameter set and those that it extends, the most general first.

        Raises
        ------
        ValueError
            If there is no such set, or it extends itself.
        """
        found: list[tuple[str, ParameterSet]] = []
        wanted: str | None = name
        while wanted is not None:
            if wanted not in self.parameter_sets:
                raise ValueError(unknown("parameter set", wanted, self.parameter_sets))
            if wanted in [known for known, _ in found]:
                raise ValueError(f"set {wanted!r} extends itself")
            found.insert(0, (wanted, self.parameter_sets[wanted]))
            wanted = self.parameter_sets[wanted].extends
        return found

    @property
    def written(self) -> dict[str, Any]:
        """The cascade as it was written down, to be extended or held by others."""
        return self._written or self.model_dump(by_alias=True, exclude_unset=True)

    def tuned(self, values: Mapping[str, Any]) -> "Cascade":
        """The cascade with these values of workflow parameters in place of their defaults.

        Raises
        ------
        ValueError
            If a parameter is not known, or its value does not fit where it stands.
        """
        parameters = dict(self._written.get("parameters") or {})
        for name, value in values.items():
            if name not in self.parameters:
                raise ValueError(unknown("workflow parameter", name, self.parameters))
            parameters[name] = {"default": value, "description": self.parameters[name].description}
        return Cascade.model_validate({**self._written, "parameters": parameters})

    @staticmethod
    def _taken(step: Step) -> Iterator[str]:
        yield step.main
        for association in step.inputs.values():
            for way in association.ways:
                yield way.source

    def parents(self, task: str) -> list[str]:
        """Sources and tasks that `task` takes its inputs from."""
        return list(self._taken(self.tasks[task]))

    def main_source(self, name: str) -> str:
        """The data source at the upper end of the chain of main inputs of a task; of a data source, itself."""
        return name if name in self.sources else self.main_source(self.tasks[name].main)

    def rules(self, association: Association) -> tuple[Rule, ...]:
        """Rules of an input: its own, or those of the data source that it comes from."""
        if association.rules is not None:
            return association.rules
        return self.sources[self.main_source(association.source)].rules

    def relayed(self, name: str) -> str:
        """The task or data source whose products a relay hands on; any other name itself."""
        while name in self.tasks and self.tasks[name].recipe is None:
            name = self.tasks[name].main
        return name

    def ordered(self) -> Iterator[str]:
        """Names of the tasks, each after those that it takes its inputs from."""
        given: list[str] = []

        def visit(name: str) -> None:
            if name in self.tasks and name not in given:
                for parent in self.parents(name):
                    visit(parent)
                given.append(name)

        for name in self.tasks:
            visit(name)
        yield from given

    def targets(self, wanted: Sequence[str]) -> list[str]:
        """Tasks that the names and tags in `wanted` stand for; without any, those tagged science.

        Raises
        ------
        ValueError
            If a name is neither a task nor a tag.
        """
        names: list[str] = []
        for name in wanted or ("science",):
            tagged = [
                task
                for task, step in self.tasks.items()
                if name in step.tags or name == "all" or task.startswith(f"{name}.")
            ]
            if wanted and name in self.tasks:
                tagged = [name]
            if not tagged:
                tags = sorted({tag for step in self.tasks.values() for tag in step.tags})
                raise ValueError(unknown("target", name, list(dict.fromkeys([*self.tasks, *tags]))))
            names += [task for task in tagged if task not in names]
        return names


def _check(text: str) -> None:
    if text:
        expressions.check(text)


def _defaults(parameters: Any) -> dict[str, Any]:
    if not isinstance(parameters, Mapping):
        return {}
    return {
        name: one["default"]
        for name, one in parameters.items()
        if isinstance(one, Mapping) and "default" in one
    }


def _substituted(found: Any, values: Mapping[str, Any]) -> Any:
    """The same with ``$name`` replaced by the value of a workflow parameter.

    Raises
    ------
    ValueError
        If there is no such parameter.
    """
    if isinstance(found, Mapping):
        return {key: _substituted(value, values) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_substituted(value, values) for value in found]
    if isinstance(found, str) and found.startswith("$"):
        if found[1:] not in values:
            raise ValueError(unknown("workflow parameter", found[1:], list(values)))
        return values[found[1:]]
    return found
