"""How far back in time what a plan takes may lie: of a large registry, nothing else need be read."""

from collections.abc import Mapping
from math import ceil, inf

from ccdflow.cascade.planning.associate import AssociationRule
from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.sequences.grouping import GroupSpec
from ccdflow.cascade.sequences.statemachine import SequenceRules
from ccdflow.cascade.specification.model import Cascade, Step


def association_levels(cascade: Cascade) -> list[int]:
    """Return the levels of all rules by which inputs are associated.

    Parameters
    ----------
    cascade : Cascade
        What is made from what.

    Returns
    -------
    list of int
        Each once, the best first.
    """
    return sorted({rule.level for rules in _all_rules(cascade) for rule in rules})


def _all_rules(cascade: Cascade) -> list[tuple[AssociationRule, ...]]:
    ways = [
        way
        for step in cascade.tasks.values()
        for association in step.inputs.values()
        for way in association.ways
    ]
    return [cascade.rules(way) for way in ways]


def nights_back(cascade: Cascade, targets: list[str], level: int | None = None) -> dict[str, float]:
    """Return how many nights before the first one asked for a plan may take frames from, by class of frame.

    Parameters
    ----------
    cascade : Cascade
        What is made from what.
    targets : list of str
        Tasks whose products are asked for.
    level : int, optional
        Worst association level that is looked for; without it, any. On no more than these frames, jobs that are
        `is_sure` are planned as on all.

    Returns
    -------
    dict of str to float
        Infinite where no rule or grouping sets a limit. Classes that nothing is made of are left out.
    """
    reach: dict[str, float] = {}

    # From each target up to the data sources, adding what each step may reach back: a flat of 7 nights before is made
    # with a dark of 7 nights before that. Where several ways lead to a class, the longest counts.
    def visit(name: str, nights: float) -> None:
        if name in cascade.sources:
            source = cascade.sources[name]
            span = nights + _span(source.group)
            reach[source.frame_class] = max(span, reach.get(source.frame_class, 0.0))
            return
        step = cascade.tasks[name]
        nights += _span_of_products(step)
        visit(step.main, nights)
        for way in (way for association in step.inputs.values() for way in association.ways):
            rules = [rule for rule in cascade.rules(way) if level is None or rule.level <= level]
            visit(way.source, nights + max((_range(rule) for rule in rules), default=0.0))

    for target in targets:
        visit(target, 0.0)
    return reach


def frames_before(
    cascade: Cascade, targets: list[str], groups: Mapping[str, SequenceRules | GroupSpec]
) -> dict[str, int]:
    """Return how many frames of a stream, before those asked for, decide what is made of these, by class of frame.

    Parameters
    ----------
    cascade : Cascade
        What is made from what.
    targets : list of str
        Tasks whose products are asked for.
    groups : mapping of str to SequenceRules or GroupSpec
        By task, how it puts together what it takes.

    Returns
    -------
    dict of str to int
        Only classes of which a few are enough: their frames are taken one by one or in sequences, and no input is
        looked for among them.
    """
    sought: set[str] = set()
    counts: dict[str, float] = {}

    def visit(name: str, count: float) -> None:
        if name in cascade.sources:
            source = cascade.sources[name]
            whole = count + _frames_of(source.group)
            counts[source.frame_class] = max(whole, counts.get(source.frame_class, 0.0))
            return
        step = cascade.tasks[name]
        visit(step.main, count + (_frames_of(groups[name]) if name in groups else 0.0))
        for way in (way for association in step.inputs.values() for way in association.ways):
            sought.update(_classes_behind(cascade, way.source))
            visit(way.source, inf)

    for target in targets:
        visit(target, 0.0)
    return {name: int(count) for name, count in counts.items() if count < inf and name not in sought}


def _classes_behind(cascade: Cascade, name: str) -> set[str]:
    """Classes of the frames that the main input of a source or task comes from."""
    main = name if name in cascade.sources else cascade.main_source(name)
    return {cascade.sources[main].frame_class}


def _frames_of(group: SequenceRules | GroupSpec) -> float:
    """Return how many frames before one decide what it is put together with."""
    if isinstance(group, SequenceRules):
        # A sequence that is longer than this is not put together, wherever it begins.
        return group.max_sequence + 1
    return 0.0 if group.how == "each" else inf


def is_sure(job: Job, level: int) -> bool:
    """Tell whether a job that was planned on the frames that rules up to a level reach would be the same on all frames.

    Rules are tried in order, and the closest in time wins: what was found within reach is better than all beyond it.
    Only of what was not found might there be more further away.

    Parameters
    ----------
    job : Job
        Planned on the frames that `nights_back` names for this level.
    level : int
        Worst level that was looked for.

    Returns
    -------
    bool
    """
    # What is only less than planned has a level, which tells; what is lacking has none.
    lacks = any(lack.level is None or lack.sought > level for lack in job.without)
    # What only waits for its own frames' files, or for their calibration, has found all that it looked for.
    return not job.lacks_inputs and not lacks and job.worst_level <= level


def _span_of_products(step: Step) -> float:
    """Return the nights over which the products may lie that a step takes together."""
    return max((_span(group) for group in step.groups.values()), default=0.0)


def _span(group: SequenceRules | GroupSpec) -> float:
    """Return the nights before its last frame on which frames of one set may lie."""
    if isinstance(group, SequenceRules):
        return 1.0  # a sequence that goes on past noon is of two nights
    return 0.0 if group.how == "each" or "night" in group.by else inf


def _range(rule: AssociationRule) -> float:
    """Return the nights between a reference and the furthest candidate that a rule lets pass."""
    if rule.within == "same_night":
        return 0.0
    furthest = max(abs(days) for days in rule.within)
    # Rules compare moments, but nights are read. One night more is a margin for groups, whose time is a mean, and for
    # the noon at which nights change.
    return furthest if furthest == inf else ceil(furthest) + 1.0
