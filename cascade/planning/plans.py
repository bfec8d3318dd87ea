"""What planning gives: jobs in order, sets, and sentences about what was left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.records import Action


@dataclass(frozen=True)
class PlannedSet:
    """Frames that a task on products takes together, or passes through as they are.

    Parameters
    ----------
    step : str
        Task that the set is for.
    frames : tuple of int
        Ids of the frames that stand for the products, in order.
    action : str
        ``stack``, or ``pass`` where nothing is combined.
    closed : bool
        Whether no further frame can join.
    reason : str
        Sentence that says why the set is as it is.
    job : str, optional
        Key of the job that takes the set; None where it passes or waits.
    """

    step: str
    frames: tuple[int, ...]
    action: Action
    closed: bool
    reason: str
    job: str | None = None


@dataclass(frozen=True)
class Plan:
    """Jobs that make what was asked for.

    Parameters
    ----------
    jobs : tuple of Job
        Each after those whose products it takes.
    sets : tuple of PlannedSet
        Sets of the tasks on products, in order.
    notes : tuple of str
        Sentences on what was left out, each once.
    asked : tuple of str
        Tasks that were asked for by name, not by tag.
    variants : mapping of str to str
        By key, the jobs that the project's own parameters would not ask for, and what the request said.
    """

    jobs: tuple[Job, ...]
    sets: tuple[PlannedSet, ...] = ()
    notes: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    variants: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """All that one job needs.

    Parameters
    ----------
    job : Job
        The job itself.
    needs : tuple of (str, DataSet)
        Data sets of the jobs whose products it takes, with their roles.
    level : int
        Worst association level in it.
    complete : bool
        Whether all of it can be made.
    """

    job: Job
    needs: tuple[tuple[str, "DataSet"], ...]
    level: int
    complete: bool


def data_sets(plan: Plan) -> list[DataSet]:
    """Return the data sets of a plan's target jobs.

    Parameters
    ----------
    plan : Plan
        Any plan.

    Returns
    -------
    list of DataSet
        In the order of the plan: those of tasks asked for by name, and all whose products no job takes.
    """
    by_key: dict[str, DataSet] = {}
    for job in plan.jobs:  # each after those whose products it takes
        needs = tuple((taken.role, by_key[taken.job]) for taken in job.inputs if taken.job in by_key)
        complete = not job.missing and all(need.complete for _, need in needs)
        by_key[job.key] = DataSet(job, needs, job.worst_level, complete)
    # What others take is a part of theirs, unless it was asked for by name: the bias of a night is no data set for
    # somebody who wants its stacks.
    taken_keys = {key for job in plan.jobs for key in job.parents}
    return [
        data_set
        for key, data_set in by_key.items()
        if key not in taken_keys or data_set.job.step in plan.asked
    ]
