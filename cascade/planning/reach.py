"""How far back in time what a plan takes may lie: of a large registry, nothing else need be read."""

from math import ceil, inf

from ccdflow.cascade.planning.associate import AssociationRule
from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.sequences.grouping import GroupSpec
from ccdflow.cascade.sequences.statemachine import SequenceRules
from ccdflow.cascade.specification.model import Cascade, Step


def association_levels(cascade: Cascade) -> list[int]:
    """Levels of all rules by which inputs are associated, the best first."""
    return sorted({rule.level for rules in _all_rules(cascade) for rule in rules})


def _all_rules(cascade: Cascade) -> list[tuple[AssociationRule, ...]]:
    ways = [way for step in cascade.tasks.values() for one in step.inputs.values() for way in one.ways]
    return [cascade.rules(way) for way in ways]


def nights_back(cascade: Cascade, targets: list[str], level: int | None = None) -> dict[str, float]:
    """Nights before the first one asked for that a plan may take frames from, by class of frame.

    Parameters
    ----------
    cascade : Cascade
    targets : list of str
        Tasks whose products are asked for.
    level : int, optional
        Worst association level that is looked for; without it, any. On no more than these frames, jobs that are
        `is_sure` are planned as on all.

    Returns
    -------
    dict
        Infinite where no rule or grouping sets a limit. Classes that nothing is made of are left out.
    """
    found: dict[str, float] = {}

    def visit(name: str, nights: float) -> None:
        if name in cascade.sources:
            source = cascade.sources[name]
            span = nights + _span(source.group)
            found[source.frame_class] = max(span, found.get(source.frame_class, 0.0))
            return
        step = cascade.tasks[name]
        nights += _span_of_products(step)
        visit(step.main, nights)
        for way in (way for one in step.inputs.values() for way in one.ways):
            rules = [one for one in cascade.rules(way) if level is None or one.level <= level]
            visit(way.source, nights + max((_range(one) for one in rules), default=0.0))

    for target in targets:
        visit(target, 0.0)
    return found


def is_sure(job: Job, level: int) -> bool:
    """Whether a job that was planned on the frames that rules up to a level reach would be the same on all frames.

    Rules are tried in order, and the closest in time wins: only of what was not found might more be further away.
    """
    return job.state != "incomplete" and not job.without and job.worst_level <= level


def _span_of_products(step: Step) -> float:
    """Nights over which the products may lie that a step takes together."""
    return max((_span(one) for one in step.groups.values()), default=0.0)


def _span(group: SequenceRules | GroupSpec) -> float:
    if isinstance(group, SequenceRules):
        return 1.0  # one that goes on past noon
    return 0.0 if group.how == "each" or "night" in group.by else inf


def _range(rule: AssociationRule) -> float:
    """Nights between a reference and what a rule lets pass."""
    if rule.within == "same_night":
        return 0.0
    furthest = max(abs(days) for days in rule.within)
    return furthest if furthest == inf else ceil(furthest) + 1.0
