"""The cascade as it is written down: data sources, steps, associations, parameters."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PositiveInt,
    PrivateAttr,
    ValidationInfo,
    model_validator,
)

from ccdflow.cascade.planning.associate import AssociationRule
from ccdflow.cascade.planning.jobqueue import Needs, parse_memory
from ccdflow.cascade.records import CLASSES, Stage
from ccdflow.cascade.sequences.grouping import GroupSpec
from ccdflow.cascade.sequences.statemachine import SequenceRules
from ccdflow.cascade.specification import dotted, expressions
from ccdflow.cascade.specification.compose import with_full_parameters
from ccdflow.cascade.specification.durations import Seconds
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
    condition: dotted.FunctionText = ""
    """Expression or dotted path: only frames for which it holds. A frame may belong to several data sources."""
    group: GroupSpec = GroupSpec()
    """Which frames make one set; without, all, and of products that were made elsewhere, each."""
    rules: tuple[AssociationRule, ...] = ()
    """How frames of it, and what is made of them, are associated where an input does not say otherwise."""
    description: str = ""
    """One sentence."""

    @model_validator(mode="before")
    @classmethod
    def _each_product(cls, written: Any) -> Any:
        # Products that were made elsewhere are masters mostly, which nobody means to put together.
        if (
            isinstance(written, Mapping)
            and "group" not in written
            and written.get("class", CLASSES[0]) not in CLASSES
        ):
            return {**written, "group": "each"}
        return written

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
    unfit: Literal["without", "incomplete"] = "without"
    """What becomes of a job whose optional input has candidates of the same detector, none of which fits: it is done
    without, as where there are none at all; or it is incomplete, since a calibration was meant to be there."""
    max: PositiveInt | None = 1
    """How many are taken at the most; null: all that fit."""
    side: Literal["either", "before", "after", "both"] = "either"
    """Only what was taken before, or after; ``both``: at least and at most so many on each side."""
    when_missing: tuple[str, ...] = ()
    """Only where the main input has a blank in one of these keywords."""
    condition: dotted.FunctionText = ""
    """Expression or dotted path; where it is false the input is not looked for, and the job is complete without it."""
    handed: bool = True
    """Whether the recipe gets it; without, the job only needs it to be there."""
    per: str = ""
    """Keyword: of each value that the frames of the main input have, one is looked for; numbers within 0.1 % are one
    value."""
    absent: bool = False
    """The job is complete without an input, at `level`, where nothing of the source passes a rule."""
    level: int = 0
    """With `absent`: how good it is to go without."""
    note: str = ""
    """Sentence that is told where this way is taken: what is not as planned."""
    advice: str = ""
    """Sentence that is told where no way gives enough: what to add."""
    preference: Preference | None = None
    """Raw frames or finished masters first; without, as the request says."""
    rules: tuple[AssociationRule, ...] | None = None
    """Ways in which a candidate may fit, tried in order; without, those of the data source it comes from."""

    @model_validator(mode="after")
    def _one_way(self) -> "Association":
        if bool(self.source) == bool(self.any_of):
            raise ValueError("an input needs either source or any_of")
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is less than min {self.min}")
        if self.absent and not self.note:
            raise ValueError("a way without an input (absent) needs a note, which says what is not done")
        _check(self.condition)
        return self

    @property
    def ways(self) -> tuple["Association", ...]:
        """Ways that are tried in order."""
        return self.any_of or (self,)

    @property
    def optional(self) -> bool:
        """True where a job is complete without it."""
        return any(way.min == 0 for way in self.ways)


class Step(Model):
    """One task of the cascade: a recipe, its main input, its associated inputs.

    Users say "task", as ESO's EDPS does: in YAML, on the command line and in messages. In code it is a step, because
    a task is Prefect's there, a function that a flow runs, and `ccdflow.tasks` is full of them. What bears the users'
    word in code is what they write or read: `Cascade.tasks`, `ParameterSet.tasks`.
    """

    recipe: str | None = None
    """Name of the recipe that it runs; null for a relay, which hands on what its main input is."""
    main: str
    """Data source, or task whose products are taken, one set for one job."""
    product: str = ""
    """Category of the products that are taken as main input, of a task that makes several."""
    stage: Stage
    """Stage of a frame's life that the task belongs to."""
    condition: dotted.FunctionText = ""
    """Expression or dotted path; where it is false there is no job."""
    inputs: dict[str, Association] = Field(default_factory=dict)
    """Role of the recipe to the calibration that fills it."""
    group: str | None = None
    """Which of `groups` applies unless a parameter says otherwise."""
    groups: dict[str, SequenceRules | GroupSpec] = Field(default_factory=dict)
    """Named ways to group products; for a task on raw frames, ways to group these otherwise than their source says."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the recipe that differ from its defaults."""
    dynamic: dict[str, dotted.FunctionText] = Field(default_factory=dict)
    """Names, for conditions and hooks, to expressions or dotted paths that are worked out for each job."""
    hooks: tuple[dotted.FunctionText, ...] = ()
    """Dotted paths of functions that give parameters of the recipe, name to value, for each job."""
    cores: PositiveInt | None = None
    """Cores that a job takes, and threads that its recipe works in; without, one place among the jobs that run at
    once, and as many threads as there are cores."""
    memory: Memory = 0
    """Memory that a job takes, such as ``2 GB``; no more jobs run at once than the machine has memory for."""
    time_limit: Seconds | None = None
    """Time that a job may take, such as ``30 min``, until its process is ended; without, as the recipe or the project
    says. A recipe of ours runs in a process of its own where a limit is stated here."""
    masters: dotted.FunctionText = ""
    """Expression or dotted path: of finished masters that were made elsewhere only those for which it holds stand for
    what this task makes."""
    outputs: tuple[str, ...] | None = None
    """Categories that other tasks may take; without, all that the recipe makes."""
    tags: tuple[str, ...] = ()
    """Names by which several tasks are asked for together (EDPS's meta-targets): science, qc, ..."""
    description: str = ""
    """One sentence."""

    @model_validator(mode="after")
    def _is_sound(self) -> "Step":
        for text in (self.condition, self.masters, *self.dynamic.values()):
            _check(text)
        for hook in self.hooks:
            dotted.function(hook)
        if self.recipe is None and (self.inputs or self.hooks or self.parameters):
            raise ValueError("a relay, without recipe, has neither inputs nor hooks nor parameters")
        if self.recipe is None and (self.group or self.groups):
            raise ValueError(
                "a relay, without recipe, hands on one by one what it takes: no group, no groups"
            )
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
    """Values for a purpose, by name: a quick look, a final reduction."""

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
    _folder: Path | None = PrivateAttr(None)

    @model_validator(mode="wrap")
    @classmethod
    def _with_values(
        cls, content: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        """Put values in for ``$name``; top-level keys ``x-...`` only hold YAML anchors."""
        if not isinstance(content, Mapping):
            return handler(content)
        told = {key: value for key, value in content.items() if not str(key).startswith("x-")}
        written = with_full_parameters(told)
        cascade = handler(_substituted(written, _defaults(written.get("parameters"))))
        # Kept as it was written, with its ``$name``, since other values may be put in for them later (`tuned`).
        cascade._written, cascade._folder = written, dotted.folder_of(info)
        return cascade

    @model_validator(mode="after")
    def _names_are_known(self) -> "Cascade":
        # Steps and data sources share one space of names, since an input's source may be either.
        for name, step in self.tasks.items():
            if name in self.sources:
                raise ValueError(f"{name!r} is the name of a task and of a data source")
            for source in self._taken(step):
                if source not in self.sources and source not in self.tasks:
                    known = [*self.sources, *self.tasks]
                    raise ValueError(f"task {name!r} takes {unknown('input', source, known)}")
        self._refuse_cycles()
        self._refuse_unknown_groups()
        self._refuse_unknown_parameters()
        return self

    def _refuse_unknown_groups(self) -> None:
        for name, step in self.tasks.items():
            # Raw frames are grouped as their data source says, unless the step does; products have none, so it must.
            is_said = self.relayed(step.main) in self.tasks or step.group or step.groups
            if not step.recipe or not is_said or step.group in step.groups:
                continue
            if step.group is not None:
                raise ValueError(f"task {name!r} needs {unknown('group', step.group, step.groups)}")
            if step.groups:
                raise ValueError(
                    f"task {name!r} has groups, and must say which: group: {next(iter(step.groups))}"
                )
            raise ValueError(f"task {name!r} takes products of {step.main!r}, and must say group and groups")

    def _refuse_cycles(self) -> None:
        # Depth first, with the way down to where the search stands; what has been searched once needs no second look.
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
        for name, values in self.parameter_sets.items():
            if values.extends is not None and values.extends not in self.parameter_sets:
                raise ValueError(
                    f"set {name!r} extends {unknown('set', values.extends, self.parameter_sets)}"
                )
            for parameter in values.workflow:
                if parameter not in self.parameters:
                    raise ValueError(f"set {name!r}: {unknown('parameter', parameter, self.parameters)}")
            for step in values.tasks:
                if step not in self.tasks:
                    raise ValueError(f"set {name!r}: {unknown('task', step, self.tasks)}")
            self.lineage(name)

    def lineage(self, name: str) -> list[tuple[str, ParameterSet]]:
        """Return a parameter set and those that it extends.

        Parameters
        ----------
        name : str
            Name of the set.

        Returns
        -------
        list of tuple of str and ParameterSet
            Names and sets, the most general first.

        Raises
        ------
        ValueError
            If there is no such set, or it extends itself.
        """
        line: list[tuple[str, ParameterSet]] = []
        wanted: str | None = name
        while wanted is not None:
            if wanted not in self.parameter_sets:
                raise ValueError(unknown("parameter set", wanted, self.parameter_sets))
            if wanted in [known for known, _ in line]:
                raise ValueError(f"set {wanted!r} extends itself")
            line.insert(0, (wanted, self.parameter_sets[wanted]))
            wanted = self.parameter_sets[wanted].extends
        return line

    @property
    def written(self) -> dict[str, Any]:
        """The cascade as it was written down, to be extended or held by others."""
        return self._written or self.model_dump(by_alias=True, exclude_unset=True)

    def tuned(self, values: Mapping[str, Any]) -> "Cascade":
        """Return the cascade with other values of workflow parameters in place of their defaults.

        Parameters
        ----------
        values : mapping
            Workflow parameter to value; what is not named keeps its default.

        Returns
        -------
        Cascade
            Validated anew, since values may stand anywhere.

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
        return Cascade.model_validate(
            {**self._written, "parameters": parameters}, context=dotted.validation_context(self._folder)
        )

    @staticmethod
    def _taken(step: Step) -> Iterator[str]:
        yield step.main
        for association in step.inputs.values():
            for way in association.ways:
                yield way.source

    def parents(self, name: str) -> list[str]:
        """Return the data sources and steps that a step takes its inputs from.

        Parameters
        ----------
        name : str
            Name of the step.

        Returns
        -------
        list of str
            Their names: that of the main input, then those of all ways to get the others.
        """
        return list(self._taken(self.tasks[name]))

    def chain(self, name: str) -> list[str]:
        """Return a task with those that it takes its main input from, one behind the other.

        Parameters
        ----------
        name : str
            Name of a task.

        Returns
        -------
        list of str
            Names of tasks, this one first; without the data source.
        """
        return [name, *self.chain(self.tasks[name].main)] if name in self.tasks else []

    def main_source(self, name: str) -> str:
        """Return the data source at the upper end of a chain of main inputs.

        Parameters
        ----------
        name : str
            Name of a step; a data source is its own.
        """
        return name if name in self.sources else self.main_source(self.tasks[name].main)

    def rules(self, association: Association) -> tuple[AssociationRule, ...]:
        """Return the rules by which an input is chosen.

        Parameters
        ----------
        association : Association
            A way to get the input, with a source.

        Returns
        -------
        tuple of AssociationRule
            Its own, or those of the data source that it comes from.
        """
        if association.rules is not None:
            return association.rules
        return self.sources[self.main_source(association.source)].rules

    def relayed(self, name: str) -> str:
        """Return the step or data source whose products a relay hands on.

        Parameters
        ----------
        name : str
            Name of a step or data source; one that is no relay stands for itself.
        """
        while name in self.tasks and self.tasks[name].recipe is None:
            name = self.tasks[name].main
        return name

    def ordered(self) -> Iterator[str]:
        """Yield the names of the steps, each after those that it takes its inputs from.

        Yields
        ------
        str
            Steps that do not depend on each other come as they are written.
        """
        ready: list[str] = []

        def visit(name: str) -> None:
            if name in self.tasks and name not in ready:
                for parent in self.parents(name):
                    visit(parent)
                ready.append(name)

        for name in self.tasks:
            visit(name)
        yield from ready

    def targets(self, wanted: Sequence[str]) -> list[str]:
        """Return the steps that are asked for.

        Parameters
        ----------
        wanted : sequence of str
            Names of steps, tags, names of subworkflows, or ``all``; without any, the tag ``science``.

        Returns
        -------
        list of str
            Names of steps, each once, in the order in which they are asked for.

        Raises
        ------
        ValueError
            If a name stands for no step.
        """
        names: list[str] = []
        for name in wanted or ("science",):
            meant = [
                step_name
                for step_name, step in self.tasks.items()
                if name in step.tags or name == "all" or step_name.startswith(f"{name}.")
            ]
            # A step goes before a tag of the same name, such as science; where nothing is asked for, the tag is meant.
            if wanted and name in self.tasks:
                meant = [name]
            if not meant:
                tags = sorted({tag for step in self.tasks.values() for tag in step.tags})
                raise ValueError(unknown("target", name, list(dict.fromkeys([*self.tasks, *tags]))))
            names += [step_name for step_name in meant if step_name not in names]
        return names


def _check(text: str) -> None:
    if text:
        expressions.check(text)


def _defaults(parameters: Any) -> dict[str, Any]:
    if not isinstance(parameters, Mapping):
        return {}
    return {
        name: parameter["default"]
        for name, parameter in parameters.items()
        if isinstance(parameter, Mapping) and "default" in parameter
    }


# Values are put in before validation, which sees what would stand there if it had been written so.
def _substituted(written: Any, values: Mapping[str, Any]) -> Any:
    """Return the same with ``$name`` replaced by the value of a workflow parameter.

    Raises
    ------
    ValueError
        If there is no such parameter.
    """
    if isinstance(written, Mapping):
        return {key: _substituted(value, values) for key, value in written.items()}
    if isinstance(written, list | tuple):
        return [_substituted(value, values) for value in written]
    if isinstance(written, str) and written.startswith("$"):
        if written[1:] not in values:
            raise ValueError(unknown("workflow parameter", written[1:], list(values)))
        return values[written[1:]]
    return written
