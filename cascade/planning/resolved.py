"""The cascade with a request's values in place: recipes, parameters, groupings and conditions of its tasks."""

from collections.abc import Mapping
from typing import Any

from ccdflow.cascade.planning.conditions import AssociatedGroups, Conditions
from ccdflow.cascade.planning.jobs import Group, Resolved
from ccdflow.cascade.planning.keys import KeyMaker
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.records import DONE_BEFORE
from ccdflow.cascade.sequences.grouping import GroupSpec
from ccdflow.cascade.sequences.statemachine import SequenceRules
from ccdflow.cascade.specification import dotted
from ccdflow.cascade.specification.parameters import chosen, grouping, recipe_parameters, tuned
from ccdflow.cascade.wording import unknown
from ccdflow.recipes.core.recipe import Recipe


class ResolvedCascade:
    """Recipe, parameters and grouping of every task, as set and request have them.

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
    conditions : Conditions
        What holds for its tasks.
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
        self.cascade = tuned(known.cascade, self._chosen)
        workflow = {name: resolved.value for name, resolved in self._chosen.workflow.items()}
        self.conditions = Conditions(self.cascade, workflow)
        # Of all tasks, also those that are not asked for: a wrong value is refused whatever the target.
        self._parameters = {
            name: self._recipe_parameters(name) for name, step in self.cascade.tasks.items() if step.recipe
        }
        self.keys = {name: KeyMaker(self.recipe(name), values) for name, values in self._parameters.items()}
        # Made when they are asked for: only tasks on products have one.
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

    def job_parameters(
        self, task: str, group: Group, associated: AssociatedGroups
    ) -> tuple[Mapping[str, Resolved], KeyMaker]:
        """Return the recipe's parameters for one job, and what makes its key.

        Both are the same for all jobs of a task, unless the task has hooks, or another program has done a part of the
        work on the frames, which the recipe's parameter ``done`` says.

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
        done = group.done_before if DONE_BEFORE in self.recipe(task).parameters.model_fields else ()
        if not self.cascade.tasks[task].hooks and not done:
            return self._parameters[task], self.keys[task]
        hooked = {DONE_BEFORE: done} if done else {}
        parameters = self._recipe_parameters(task, hooked | self._hooked(task, group, associated))
        return parameters, KeyMaker(self.recipe(task), parameters)

    def _recipe_parameters(self, task: str, hooked: Mapping[str, Any] | None = None) -> dict[str, Resolved]:
        step, layers = self.cascade.tasks[task], self._chosen.tasks.get(task, ())
        return recipe_parameters(task, step, self.recipe(task), layers, hooked)

    def _hooked(self, task: str, group: Group, associated: AssociatedGroups) -> dict[str, Any]:
        """Return what the hooks of a task say of a job's parameters; a later one has the last word."""
        context = self.conditions.context(task, group, associated)
        values: dict[str, Any] = {}
        for hook in self.cascade.tasks[task].hooks:
            answer = dotted.called(hook, context)
            if not isinstance(answer, Mapping):
                raise ValueError(f"hook {hook!r} of task {task!r} gave {answer!r}, wanted names and values")
            values |= answer
        return values
