"""Jobs put together: a main input, the associated inputs that were found, parameters, key and state."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ccdflow.cascade.planning.framegroups import FrameGroups
from ccdflow.cascade.planning.jobs import Group, Job, JobInput, Missing
from ccdflow.cascade.planning.kept import KeptJobs
from ccdflow.cascade.planning.keys import detector_digests
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.planning.search import InputMaker, Search, applies
from ccdflow.cascade.planning.supply import CandidateSupply


@dataclass
class _Filled:
    """What was found for all roles of a job together."""

    groups: dict[str, Sequence[Group]] = field(default_factory=dict)
    inputs: list[JobInput] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    without: list[Missing] = field(default_factory=list)


class JobAssembler:
    """Puts jobs together.

    Parameters
    ----------
    known : Known
        What is done, banned and pinned.
    request : Request
        Levels and preferences of associations, and whether late calibrations matter.
    groups : FrameGroups
        Frames, groups, and the resolved cascade.
    maker : InputMaker
        What makes inputs of candidates.

    Attributes
    ----------
    by_key : dict of str to Job
        All jobs that were put together.
    kept : KeptJobs
        Done jobs that are kept though others would be planned now.
    """

    def __init__(self, known: Known, request: Request, groups: FrameGroups, maker: InputMaker) -> None:
        self._known = known
        self._resolved = groups.resolved
        self._cascade = groups.resolved.cascade
        self._keeps = request.late == "keep"
        self.by_key: dict[str, Job] = {}
        self.kept = KeptJobs(known, request.quality_threshold, groups, self.by_key)
        supply = CandidateSupply(groups, known.barriers)
        limits = request.quality_threshold, request.preference
        self._search = Search(self._cascade, supply, maker, *limits, frozenset(known.pinned))

    def assembled(self, task: str, group: Group, main: Sequence[JobInput], lacking: Sequence[Missing]) -> Job:
        """Return the job of a task on a main input.

        Parameters
        ----------
        task : str
            Task that runs a recipe.
        group : Group
            Frames of the main input; of products, those that stand for them.
        main : sequence of JobInput
            The main input.
        lacking : sequence of Missing
            What is missing of the main input.

        Returns
        -------
        Job
            The same object for the same key.
        """
        filled = self._associated(task, group)
        inputs, missing = [*main, *filled.inputs], [*lacking, *filled.missing]
        parameters, keys = self._resolved.job_parameters(task, group, filled.groups)
        # Hooks see what was found, so parameters come after the search; inputs come before the key, which names them.
        # An incomplete job has a key too, which says what is missing: it is another one once that has come.
        absent = [JobInput(lack.input, "missing") for lack in missing]
        key = keys.key([*inputs, *absent], detector_digests(self._known.detectors, group.frames, inputs))
        # Asked to keep what was made: a done job of the same main input takes the place of one that is not done, with
        # the calibrations that it had; then nothing is missing either.
        if self._keeps and key not in self._known.done:
            kept = self.kept.find(task, keys, group, inputs)
            if kept is not None:
                key, inputs, missing = kept.key, list(kept.inputs), []
        step, recipe = self._cascade.tasks[task], self._resolved.recipe(task)
        job = Job(
            key=key,
            step=task,
            stage=step.stage,
            recipe=recipe.name,
            version=recipe.version,
            state="incomplete" if missing else "reused" if key in self._known.done else "new",
            group=group,
            inputs=tuple(inputs),
            missing=tuple(missing),
            parameters=parameters,
            outputs=recipe.outputs,
            worst_level=self._worst_level(inputs, filled.without),
            without=tuple(filled.without),
        )
        # A job on products is put together again for each that asks for it; all get the first one.
        return self.by_key.setdefault(key, job)

    def _associated(self, task: str, group: Group) -> _Filled:
        """Find what fills the roles of a task."""
        filled = _Filled()
        for role, association in self._cascade.tasks[task].inputs.items():
            # In order, with what was found so far: whether a flat was found may decide if a dark is looked for.
            context = self._resolved.conditions.context(task, group, filled.groups)
            context = replace(context, handed=frozenset(item.role for item in filled.inputs))
            if not applies(role, association, context):
                continue
            role_inputs = self._search.find(role, association, context)
            filled.groups[role] = role_inputs.groups
            filled.inputs += role_inputs.inputs
            filled.missing += role_inputs.missing
            filled.without += role_inputs.without
        return filled

    def _worst_level(self, inputs: Sequence[JobInput], without: Sequence[Missing]) -> int:
        """Return the worst level of a job's own associations and of those that its inputs depend on."""
        # Inputs that are not of this plan (a kept job's) say nothing of what they depend on: their own level stands for
        # them.
        levels = [*(item.level for item in inputs), *(lack.level for lack in without)]
        own = max((level for level in levels if level is not None), default=0)
        below = {self.by_key[item.job].worst_level for item in inputs if item.job in self.by_key}
        return max(own, *below) if below else own
