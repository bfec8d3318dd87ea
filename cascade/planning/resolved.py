"""The cascade with a request's values in place: what holds for a task, and for a group of frames in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ccdflow.cascade.planning.jobs import Group, KeyMaker, Resolved
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.sequences.grouping import GroupSpec
from ccdflow.cascade.sequences.statemachine import SequenceRules
from ccdflow.cascade.specification import dotted
from ccdflow.cascade.specification.expressions import Context, evaluate
from ccdflow.cascade.specification.parameters import chosen, grouping, recipe_parameters, tuned
from ccdflow.cascade.wording import unknown
from ccdflow.recipes.core.recipe import Recipe

AssociatedGroups = Mapping[str, Sequence[Group]]
"""Role to the groups of the inputs that have been found for it."""


class ResolvedCascade:
    """Parameters and conditions of every task, as set and request have them.

    Parameters
    ----------
    known : Known
        The cascade as it is written, and the recipes.
    request : Request
        Parameters and parameter set that are asked for.

    Attributes
    ----------
    cascade : Cascade
        The cascade with the chosen values of workflow parameters.
    keys : dict of str to KeyMaker
        What gives the jobs of each task their keys, for tasks that run a recipe.

    Raises
    ------
    ValueError
        If a recipe, set or parameter is not known, or a value does not fit.
    """

    def __init__(self, known: Known, request: Request) -> None:
        self._recipes = known.recipes
        self._chosen = chosen(known.cascade, request.parameters, request.parameter_set)
        self._workflow = {name: resolved.value for name, resolved in self._chosen.workflow.items()}
        self.cascade = tuned(known.cascade, self._chosen)
        self._parameters = {
            name: self._recipe_parameters(name) for name, step in self.cascade.tasks.items() if step.recipe
        }
        self.keys = {name: KeyMaker(self.recipe(name), values) for name, values in self._parameters.items()}
        self._groupings: dict[str, SequenceRules | GroupSpec] = {}

    def recipe(self, task: str) -> Recipe:
        """Return the recipe that a task runs.

        Parameters
        ----------
        task : str
            Name of a task; a relay has no recipe.

        Returns
        -------
        Recipe

        Raises
        ------
        ValueError
            If there is no recipe of the name that the task says.
        """
        name = self.cascade.tasks[task].recipe or ""
        if name not in self._recipes:
            raise ValueError(f"task {task!r}: {unknown('recipe', name, self._recipes)}")
        return self._recipes[name]

    def grouping(self, task: str) -> SequenceRules | GroupSpec:
        """Return how a task on products groups what it takes.

        Parameters
        ----------
        task : str
            Name of a task whose main input are products.

        Returns
        -------
        SequenceRules or GroupSpec

        Raises
        ------
        ValueError
            If set or request name a grouping that the task does not have, or a value does not fit.
        """
        if task not in self._groupings:
            layers = self._chosen.tasks.get(task, ())
            self._groupings[task] = grouping(task, self.cascade.tasks[task], layers)
        return self._groupings[task]

    def takes_frames(self, task: str) -> bool:
        """Tell whether the main input of a task are raw frames, be it through relays.

        Parameters
        ----------
        task : str
            Name of a task.

        Returns
        -------
        bool
        """
        return self.cascade.relayed(self.cascade.tasks[task].main) in self.cascade.sources

    def source_frames(self, source: str, frames: Iterable[FrameRecord]) -> list[FrameRecord]:
        """Return the frames of a data source: those of its class that are not refused and fulfil its condition.

        Parameters
        ----------
        source : str
            Name of a data source.
        frames : iterable of FrameRecord
            Frames of all classes.

        Returns
        -------
        list of FrameRecord
            In the order that they came in.
        """
        wanted, condition = self.cascade.sources[source].frame_class, self.cascade.sources[source].condition
        of_class = [frame for frame in frames if frame.frame_class == wanted and not frame.refused]
        if not condition:
            return of_class
        values = self._workflow_values(source)
        return [frame for frame in of_class if evaluate(condition, Context(Group((frame,)), values))]

    def context(self, task: str, group: Group, associated: AssociatedGroups | None = None) -> Context:
        """Return what conditions, dynamic parameters and hooks of a task look at.

        Parameters
        ----------
        task : str
            Name of a task.
        group : Group
            Frames of the main input; of products, those that stand for them.
        associated : mapping, optional
            Role to the groups of the inputs that have been found so far.

        Returns
        -------
        Context
            With workflow parameters, and the values of the task's dynamic parameters.

        Raises
        ------
        ValueError
            If an expression can't be worked out.
        """
        context = Context(group, self._workflow_values(task), associated or {})
        # One after the other: a dynamic parameter may look at those that stand before it.
        for name, text in self.cascade.tasks[task].dynamic.items():
            context = replace(context, parameters={**context.parameters, name: evaluate(text, context)})
        return context

    def holds(self, task: str, group: Group) -> bool:
        """Tell whether a task's own condition holds for some frames; without a condition it does.

        Parameters
        ----------
        task : str
            Name of a task.
        group : Group
            Frames of the main input.

        Returns
        -------
        bool
        """
        condition = self.cascade.tasks[task].condition
        return not condition or bool(evaluate(condition, self.context(task, group)))

    def passes(self, name: str, group: Group) -> bool:
        """Tell whether the relays that a name stands for let some frames, or what is made of them, through.

        Parameters
        ----------
        name : str
            Name of a relay; any other task and a data source let everything through.
        group : Group
            Frames of the main input.

        Returns
        -------
        bool
        """
        while name in self.cascade.tasks and self.cascade.tasks[name].recipe is None:
            if not self.holds(name, group):
                return False
            name = self.cascade.tasks[name].main
        return True

    def job_parameters(
        self, task: str, group: Group, associated: AssociatedGroups
    ) -> tuple[Mapping[str, Resolved], KeyMaker]:
        """Return the recipe's parameters for one job, and what makes its key.

        Both are the same for all jobs of a task, unless the task has hooks.

        Parameters
        ----------
        task : str
            Name of a task that runs a recipe.
        group : Group
            Frames of the main input.
        associated : mapping
            Role to the groups of the inputs that were found.

        Returns
        -------
        parameters : mapping of str to Resolved
            All parameters of the recipe.
        keys : KeyMaker
            For these parameters.

        Raises
        ------
        ValueError
            If a hook gives no mapping, or a value that does not fit.
        """
        if not self.cascade.tasks[task].hooks:
            return self._parameters[task], self.keys[task]
        parameters = self._recipe_parameters(task, self._hooked(task, group, associated))
        return parameters, KeyMaker(self.recipe(task), parameters)

    def _recipe_parameters(self, task: str, hooked: Mapping[str, Any] | None = None) -> dict[str, Resolved]:
        step, layers = self.cascade.tasks[task], self._chosen.tasks.get(task, ())
        return recipe_parameters(task, step, self.recipe(task), layers, hooked)

    def _hooked(self, task: str, group: Group, associated: AssociatedGroups) -> dict[str, Any]:
        """Return what the hooks of a task say of a job's parameters; a later one has the last word."""
        context = self.context(task, group, associated)
        values: dict[str, Any] = {}
        for hook in self.cascade.tasks[task].hooks:
            answer = dotted.called(hook, context)
            if not isinstance(answer, Mapping):
                raise ValueError(f"hook {hook!r} of task {task!r} gave {answer!r}, wanted names and values")
            values |= answer
        return values

    def _workflow_values(self, name: str) -> Mapping[str, Any]:
        """Return the workflow parameters for a task or source.

        A subworkflow's parameter ``use_darks`` is ``near_infrared_use_darks`` in the whole cascade; inside, for the
        task ``near_infrared.science``, it goes by both names.
        """
        inside = name.rpartition(".")[0].replace(".", "_") + "_"
        if inside == "_":
            return self._workflow
        own = {
            key.removeprefix(inside): value for key, value in self._workflow.items() if key.startswith(inside)
        }
        return {**self._workflow, **own}
