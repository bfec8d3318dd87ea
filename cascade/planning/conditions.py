"""Conditions of a cascade's tasks, relays and data sources, for groups of frames."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ccdflow.cascade.planning.jobs import Group
from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.specification.expressions import Context, evaluate
from ccdflow.cascade.specification.model import Cascade

AssociatedGroups = Mapping[str, Sequence[Group]]
"""Role to the groups of the inputs that have been found for it."""


class Conditions:
    """Tells what holds for a task, and for a group of frames in it.

    Parameters
    ----------
    cascade : Cascade
        What is made from what.
    workflow : mapping of str to object
        Values of the workflow parameters.
    """

    def __init__(self, cascade: Cascade, workflow: Mapping[str, Any]) -> None:
        self._cascade = cascade
        self._workflow = workflow

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
        wanted, condition = self._cascade.sources[source].frame_class, self._cascade.sources[source].condition
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
        for name, text in self._cascade.tasks[task].dynamic.items():
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
        condition = self._cascade.tasks[task].condition
        return not condition or bool(evaluate(condition, self.context(task, group)))

    def is_master(self, task: str, master: Group) -> bool:
        """Tell whether a finished master that was made elsewhere may stand for what a task makes.

        Parameters
        ----------
        task : str
            Name of a task.
        master : Group
            The master, as a group of one.

        Returns
        -------
        bool
            True without a condition.
        """
        condition = self._cascade.tasks[task].masters
        return not condition or bool(evaluate(condition, Context(master, self._workflow_values(task))))

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
        while name in self._cascade.tasks and self._cascade.tasks[name].recipe is None:
            if not self.holds(name, group):
                return False
            name = self._cascade.tasks[name].main
        return True

    def _workflow_values(self, name: str) -> Mapping[str, Any]:
        # A subworkflow's parameter ``use_darks`` is ``infrared_use_darks`` in the whole cascade; inside, for the task
        # ``infrared.science``, it goes by both names, since its conditions were written for the subworkflow alone.
        inside = name.rpartition(".")[0].replace(".", "_") + "_"
        if inside == "_":
            return self._workflow
        own = {
            key.removeprefix(inside): value for key, value in self._workflow.items() if key.startswith(inside)
        }
        return {**self._workflow, **own}
