"""The cascade as it is written down: data sources, steps, associations."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ccdflow.cascade.associate import Rule
from ccdflow.cascade.grouping import GroupSpec
from ccdflow.cascade.sequences import SequenceRules


class Model(BaseModel):
    """Base of the cascade's models: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class DataSource(Model):
    """Raw frames of one class, and which of them belong together."""

    frame_class: str = Field(alias="class")
    """Class of the frames: bias, dark, flat, science, ..."""
    group: GroupSpec
    """Which frames make one set."""


class Association(Model):
    """A calibration that a step takes besides its main input."""

    source: str
    """Data source (raw frames) or task (its product)."""
    min: int = 1
    """How many sets or products there must be; 0 makes the input optional."""
    max: int = 1
    """How many are taken at the most."""
    when_missing: tuple[str, ...] = ()
    """Only where the main input has a blank in one of these keywords."""
    rules: tuple[Rule, ...]
    """Ways in which a candidate may fit, tried in order."""


class Step(Model):
    """One task of the cascade: a recipe, its main input, its associated inputs."""

    recipe: str
    """Name of the recipe that it runs."""
    main: str
    """Data source, or task whose products are taken, one set for one job."""
    stage: str
    """Stage of a frame's life that the task belongs to: calibrate, science or stack."""
    inputs: dict[str, Association] = Field(default_factory=dict)
    """Role of the recipe to the calibration that fills it."""
    group: str | None = None
    """For a task on products: which of `groups` applies unless a parameter says otherwise."""
    groups: dict[str, SequenceRules | GroupSpec] = Field(default_factory=dict)
    """Named ways to group products."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the recipe that differ from its defaults."""
    tags: tuple[str, ...] = ()
    """Names by which several tasks are asked for together: science, qc, ..."""
    description: str = ""
    """One sentence."""


class Cascade(Model):
    """Everything that depends on anything, stated once."""

    name: str
    description: str = ""
    sources: dict[str, DataSource]
    tasks: dict[str, Step]

    @model_validator(mode="before")
    @classmethod
    def _anchors_are_no_keys(cls, found: Any) -> Any:
        """Top-level keys ``x-...`` only hold YAML anchors."""
        if not isinstance(found, dict):
            return found
        return {key: value for key, value in found.items() if not str(key).startswith("x-")}

    @model_validator(mode="after")
    def _names_are_known(self) -> "Cascade":
        for name, step in self.tasks.items():
            wanted = [step.main, *(one.source for one in step.inputs.values())]
            for source in wanted:
                if source not in self.sources and source not in self.tasks:
                    known = [*self.sources, *self.tasks]
                    raise ValueError(f"task {name!r} takes {unknown('input', source, known)}")
            if step.main in self.tasks and step.group not in step.groups:
                raise ValueError(f"task {name!r} needs {unknown('group', str(step.group), step.groups)}")
        self._refuse_cycles()
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

    def parents(self, task: str) -> list[str]:
        """Sources and tasks that `task` takes its inputs from."""
        step = self.tasks[task]
        return [step.main, *(one.source for one in step.inputs.values())]

    def main_source(self, task: str) -> str:
        """The data source at the upper end of the chain of main inputs of `task`."""
        main = self.tasks[task].main
        return main if main in self.sources else self.main_source(main)

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

    def targets(self, wanted: tuple[str, ...]) -> list[str]:
        """Tasks that the names and tags in `wanted` stand for; without any, those tagged science.

        Raises
        ------
        ValueError
            If a name is neither a task nor a tag.
        """
        names: list[str] = []
        for name in wanted or ("science",):
            tagged = [task for task, step in self.tasks.items() if name in step.tags]
            if wanted and name in self.tasks:
                tagged = [name]
            if not tagged:
                raise ValueError(unknown("target", name, self.tasks))
            names += [task for task in tagged if task not in names]
        return names


def unknown(kind: str, name: str, known: Mapping[str, Any] | list[str]) -> str:
    """A sentence that says that `name` is not known, what is, and what was perhaps meant."""
    close = get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}; known: {', '.join(known) or 'none'}{hint}"
