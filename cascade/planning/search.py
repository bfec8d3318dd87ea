"""The associated inputs of a job: what fits best, and where nothing does, why."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isclose
from typing import Protocol

from ccdflow.cascade.planning.associate import (
    DETECTOR,
    SHOWN_NEAREST,
    AssociationRule,
    Candidates,
    Match,
    shortfall,
)
from ccdflow.cascade.planning.jobs import Group, JobInput, Missing, Nearest, frame_identity
from ccdflow.cascade.planning.keys import work_name
from ccdflow.cascade.records import Value
from ccdflow.cascade.specification.expressions import Context, evaluate
from ccdflow.cascade.specification.model import Association, Cascade, Preference

SAME_NUMBER = 1e-3
"""Fraction by which numbers of one value may differ: exposure times, which no shutter keeps more exactly."""


class Supply(Protocol):
    """Where candidates come from."""

    def sets_of(self, source: str) -> Candidates[Group]:
        """Return groups of frames of a data source, or from which a task could make its product.

        Parameters
        ----------
        source : str
            Name of a data source, task or relay.

        Returns
        -------
        Candidates of Group
        """
        ...

    def masters_of(self, task: str, product: str) -> Candidates[Group]:
        """Return finished products of a task's category that were made elsewhere, each as a group of one.

        Parameters
        ----------
        task : str
            Name of a task or relay.
        product : str
            Category, of a task that makes several; else empty.

        Returns
        -------
        Candidates of Group
        """
        ...


class InputMaker(Protocol):
    """What it takes to have a candidate."""

    def as_inputs(self, role: str, source: str, product: str, candidate: Group) -> tuple[list[JobInput], str]:
        """Return a candidate as inputs of a job, or why it can't be had.

        Parameters
        ----------
        role : str
            Role that it fills.
        source : str
            Data source, task or relay that it is a candidate of.
        product : str
            Category, of a task that makes several; else empty.
        candidate : Group
            Its frames.

        Returns
        -------
        inputs : list of JobInput
            Empty where it can't be had.
        reason : str
            Why it can't be had; else empty.
        """
        ...


@dataclass(frozen=True)
class RoleInputs:
    """What fills one role.

    Parameters
    ----------
    inputs : tuple of JobInput
        What the recipe gets.
    groups : tuple of Group
        Groups that the inputs come from; conditions and hooks look at them.
    missing : tuple of Missing
        Why a mandatory role is not filled, a reason for each way that was tried.
    without : tuple of Missing
        Why an optional role is not filled.
    """

    inputs: tuple[JobInput, ...] = ()
    groups: tuple[Group, ...] = ()
    missing: tuple[Missing, ...] = ()
    without: tuple[Missing, ...] = ()


_Choice = tuple[Match[Group], bool]
"""A candidate that fits, and whether it is a finished master."""


@dataclass(frozen=True)
class Search:
    """Finds associated inputs.

    Of all candidates the first in this order is taken, and where an input wants several, so many of the first:

    1. what somebody has pinned;
    2. by the rules in the order in which they stand, raw frames and masters in the order that the input prefers
       (within each rule, or over all rules);
    3. the closest in time; of two equally close the earlier one, then the one of the smaller identity.

    A candidate that fits but can't be had (its job has failed, is banned or incomplete) is passed over, so the next
    best takes its place.

    Parameters
    ----------
    cascade : Cascade
        Rules of inputs that have none of their own.
    supply : Supply
        Where candidates come from.
    maker : InputMaker
        What makes inputs of them.
    threshold : int or None
        Worst level that is accepted.
    preference : str
        Raw frames or masters first, where an input does not say.
    pinned : collection of str
        Frames (``f12``), jobs (keys) and works (names) that are taken first where they fit.
    """

    cascade: Cascade
    supply: Supply
    maker: InputMaker
    threshold: int | None
    preference: Preference
    pinned: Collection[str]

    def find(self, role: str, association: Association, context: Context) -> RoleInputs:
        """Return the best that there is for a role.

        Parameters
        ----------
        role : str
            Role to be filled.
        association : Association
            Ways to fill it.
        context : Context
            The job's main input, and what its conditions look at.

        Returns
        -------
        RoleInputs
            Of the first way that gives enough. Where none does, `missing` has the reasons of all ways; of an optional
            input, `without` has them.
        """
        tried: list[Missing] = []
        unfit = False
        for way in association.ways:
            if way.condition and not evaluate(way.condition, context):
                continue
            if way.absent:
                if self._goes_without(way, context.group):
                    sought = max((rule.level for rule in self.cascade.rules(way)), default=0)
                    return RoleInputs(without=(Missing(role, way.note, level=way.level, sought=sought),))
                continue
            filled = self._fill_all(role, way, context.group)
            if not filled.missing:
                handed = association.handed and way.handed
                if handed and not way.note:
                    return filled
                inputs = filled.inputs if handed else ()
                return replace(filled, inputs=inputs, without=(*filled.without, *_noted(role, way, filled)))
            tried += filled.missing
            # A way that may go without, and does not: there are some of this detector, and none fits.
            unfit |= way.min == 0
        if association.optional and not unfit:
            return RoleInputs(without=tuple(tried))
        if not tried:
            conditions = "; ".join(way.condition for way in association.ways)
            return RoleInputs(missing=(Missing(role, f"no way to get {role!r} applies: {conditions}"),))
        if association.advice:
            tried[-1] = replace(tried[-1], reason=f"{tried[-1].reason}; {association.advice}")
        return RoleInputs(missing=tuple(tried))

    def _goes_without(self, way: Association, group: Group) -> bool:
        """Tell whether a job may go without an input: that is good enough, and there is nothing that could be one."""
        if self.threshold is not None and way.level > self.threshold:
            return False
        # All rules, whatever the threshold: what is there but not good enough is there.
        rules = self.cascade.rules(way)
        there = self.supply.sets_of(way.source), self.supply.masters_of(way.source, way.product)
        return not any(next(candidates.fitting(rules, group), None) for candidates in there)

    def _fill_all(self, role: str, way: Association, group: Group) -> RoleInputs:
        """Return what one way gives: once, or for each value of a keyword that the frames have."""
        if not way.per:
            return self._fill(role, way, group)
        parts = [self._fill(role, way, part) for part in _parts(group, way.per)]
        # The same for two values counts once.
        return RoleInputs(
            inputs=tuple({item.identity: item for part in parts for item in part.inputs}.values()),
            groups=tuple(found for part in parts for found in part.groups),
            missing=tuple(lack for part in parts for lack in part.missing),
            without=tuple(dict.fromkeys(lack for part in parts for lack in part.without)),
        )

    def _fill(self, role: str, way: Association, group: Group) -> RoleInputs:
        """Return what one way gives; `missing` where it is less than the minimum, be that 0 or not."""
        # Candidates are only made into inputs as long as more are wanted: making one may mean planning its whole chain.
        inputs: list[JobInput] = []
        groups: list[Group] = []
        told: list[Missing] = []
        taken = {False: 0, True: 0}  # candidates taken from before the group, and from after it
        for match, is_master in self._pinned_first(self._choices(way, group), way):
            if _is_enough(way, taken):
                break
            later = match.candidate.time > group.time
            if not _is_wanted_side(way, later, taken):
                continue
            candidate_inputs, _ = self._as_inputs(role, way, match, is_master)
            if candidate_inputs:
                inputs += candidate_inputs
                if short := shortfall(self._rules(way), group, match):
                    told.append(Missing(role, f"{role} fits less than planned: {short}", level=match.level))
                groups.append(match.candidate)
                taken[later] += 1
        # With nothing taken and a minimum of 0 the role stays empty, and that is enough.
        enough = min(taken.values()) >= way.min if way.side == "both" else len(groups) >= way.min
        if enough and groups:
            return RoleInputs(tuple(inputs), tuple(groups), without=tuple(told))
        if enough and way.min == 0 and not (way.unfit == "incomplete" and self._has_of_detector(way, group)):
            return RoleInputs(without=(self._lack(role, way),))
        return RoleInputs(missing=(self._missing(role, way, group, len(groups)),))

    def _as_inputs(
        self, role: str, way: Association, match: Match[Group], is_master: bool
    ) -> tuple[list[JobInput], str]:
        """Return a candidate as inputs with their level, or why it can't be had; a finished master needs no job."""
        if is_master:
            frames, reason = match.candidate.frames, ""
            inputs = [JobInput(role, frame_identity(frame), frame=frame.id) for frame in frames]
        else:
            inputs, reason = self.maker.as_inputs(role, way.source, way.product, match.candidate)
        return [replace(item, level=match.level) for item in inputs], reason

    def _rules(self, way: Association) -> tuple[AssociationRule, ...]:
        """Return the rules whose level is good enough."""
        rules = self.cascade.rules(way)
        if self.threshold is None:
            return rules
        return tuple(rule for rule in rules if rule.level <= self.threshold)

    def _choices(self, way: Association, group: Group) -> Iterator[_Choice]:
        """Give the candidates that fit, best first."""
        rules = self._rules(way)
        raw, masters = self.supply.sets_of(way.source), self.supply.masters_of(way.source, way.product)
        if not masters:
            yield from ((match, False) for match in raw.fitting(rules, group))
            return
        preference = way.preference or self.preference
        shelves = [(raw, False), (masters, True)]
        shelves = shelves[::-1] if preference.startswith("master") else shelves
        # ``raw_per_level``: for each rule first one shelf, then the other. ``raw``: one shelf by all rules, then the
        # other. A candidate that has passed one rule may pass later ones too, and must not be given again.
        portions: list[Sequence[AssociationRule]] = (
            [(rule,) for rule in rules] if preference.endswith("level") else [rules]
        )
        seen: set[int] = set()
        for portion in portions:
            for shelf, is_master in shelves:
                for match in shelf.fitting(portion, group):
                    if id(match.candidate) not in seen:
                        seen.add(id(match.candidate))
                        yield match, is_master

    def _pinned_first(self, choices: Iterator[_Choice], way: Association) -> Iterator[_Choice]:
        """Give what is pinned before all else; without pins, no more candidates are looked at than are taken."""
        if not self.pinned:
            yield from choices
            return
        # A pinned candidate may be the last of all that fit, so all of them are looked at.
        every = list(choices)
        pinned = [choice for choice in every if self._is_pinned(way, *choice)]
        yield from pinned
        yield from (choice for choice in every if choice not in pinned)

    def _is_pinned(self, way: Association, match: Match[Group], is_master: bool) -> bool:
        """Tell whether a candidate is pinned: one of its frames, its job, or its work whatever the parameters."""
        frames = match.candidate.frames
        inputs, _ = self._as_inputs("", way, match, is_master)
        names = {item.job or f"f{item.frame}" for item in inputs}
        main = [JobInput("main", frame_identity(frame), frame=frame.id) for frame in frames]
        names.add(work_name(self.cascade.relayed(way.source), main))
        return bool(names & {*self.pinned}) or any(f"f{frame.id}" in self.pinned for frame in frames)

    def _has_of_detector(self, way: Association, group: Group) -> bool:
        """Tell whether there is anything of the frame's own detector in the rules' reach, fitting or not."""
        # A night is a day at the most; more would be looked at than `nights_back` has read.
        days = [(-1.0, 1.0) if rule.within == "same_night" else rule.within for rule in self._rules(way)]
        days = days or [(0.0, 0.0)]
        reach = min(low for low, _ in days), max(high for _, high in days)
        own = (AssociationRule(match=DETECTOR, within=reach),)
        shelves = self.supply.sets_of(way.source), self.supply.masters_of(way.source, way.product)
        return any(next(shelf.fitting(own, group), None) is not None for shelf in shelves)

    def _lack(self, role: str, way: Association) -> Missing:
        """Say that an optional input was not found; why in detail takes long, and most jobs are asked for no more."""
        there = self.supply.sets_of(way.source) or self.supply.masters_of(way.source, way.product)
        return Missing(
            role, f"no {way.source} fits" if there else f"no {way.source}: there are no such frames"
        )

    def _missing(self, role: str, way: Association, group: Group, count: int) -> Missing:
        """Say why an input could not be filled: nothing there, nothing that fits, or what fits can't be had.

        `count` candidates were found, less than are wanted.
        """
        sets, rules = self.supply.sets_of(way.source), self._rules(way)
        masters = self.supply.masters_of(way.source, way.product)
        wanted = f"{way.min} {way.source}" if way.min > 1 else way.source
        wanted += {"either": "", "both": " on each side"}.get(way.side, f" {way.side} it")
        purpose = "" if role == way.source else f" as {role!r}"
        if not sets and not masters:
            return Missing(role, f"no {wanted}{purpose}: there are no such frames")
        # Nearest to being taken is what passes a rule, but lies on the wrong side or can't be had; after these come the
        # closest in time of those that no rule lets pass, of the own detector before others.
        nearest, on_side = self._unusable(role, way, group)
        refused = [*sets.nearest_refused(rules, group), *masters.nearest_refused(rules, group)]
        refused.sort(key=lambda refusal: refusal.foreign)
        nearest += [Nearest(group_name(refusal.candidate), refusal.reason) for refusal in refused]
        reason = f"no {wanted} fits{purpose}; {len(sets) + len(masters)} looked at, {count} found"
        tests = tuple(sets.survivors(rules, group))
        if way.side in ("before", "after"):
            tests = (*tests, (way.side, on_side))
        return Missing(role, reason, tuple(nearest[:SHOWN_NEAREST]), tests)

    def _unusable(self, role: str, way: Association, group: Group) -> tuple[list[Nearest], int]:
        """Return the first candidates that fit by the rules and were not taken, and how many are on the right side."""
        nearest: list[Nearest] = []
        on_side = 0
        for match in self.supply.sets_of(way.source).fitting(self._rules(way), group):
            reason = _wrong_side(way, match.candidate, group)
            if reason:
                if len(nearest) < SHOWN_NEAREST:
                    nearest.append(Nearest(group_name(match.candidate), reason))
                continue
            on_side += 1
            if len(nearest) == SHOWN_NEAREST:
                break
            # Asked once more: the reason was not kept when the candidate was passed over, since most are never told.
            reason = self._as_inputs(role, way, match, False)[1]
            if reason:
                nearest.append(Nearest(group_name(match.candidate), reason))
        return nearest, on_side


def _noted(role: str, way: Association, filled: RoleInputs) -> tuple[Missing, ...]:
    """What is to be told of a way that was taken, with the level of what it gave."""
    if not way.note or not filled.groups:
        return ()
    levels = [item.level for item in filled.inputs if item.level is not None]
    return (Missing(role, way.note, level=max(levels, default=0)),)


def _parts(group: Group, keyword: str) -> list[Group]:
    """Frames of a group by their value of a keyword, in order of the values; blanks are one part."""
    parts: list[tuple[Value | None, set[int]]] = []
    for frame in sorted(group.frames, key=lambda frame: _rank(frame.value(keyword))):
        value = frame.value(keyword)
        if not parts or not _is_same(parts[-1][0], value):
            parts.append((value, set()))
        parts[-1][1].add(frame.id)
    return [Group(tuple(frame for frame in group.frames if frame.id in ids)) for _, ids in parts]


def _rank(value: Value | None) -> tuple[int, float, str]:
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))


def _is_same(value: Value | None, other: Value | None) -> bool:
    if isinstance(value, int | float) and isinstance(other, int | float):
        return isclose(value, other, rel_tol=SAME_NUMBER)
    return value == other


def applies(role: str, association: Association, context: Context) -> bool:
    """Tell whether an input is to be looked for at all.

    Parameters
    ----------
    role : str
        What it is to the recipe.
    association : Association
        The input.
    context : Context
        What its condition looks at.

    Returns
    -------
    bool
        False where its condition does not hold, no keyword of `when_missing` is blank, or another program has done to
        the frames already what the input is for.
    """
    if role in context.group.done_before:
        return False
    blanks = association.when_missing
    if blanks and all(context.group.value(keyword) is not None for keyword in blanks):
        return False
    return not association.condition or bool(evaluate(association.condition, context))


def _wrong_side(way: Association, candidate: Group, group: Group) -> str:
    """Say why a candidate is on the wrong side; nothing where it is not."""
    hours = (candidate.time - group.time) / 3600
    if way.side == "before" and hours > 0:
        return f"taken {hours:.1f} hours later, wanted before"
    if way.side == "after" and hours <= 0:
        return f"taken {-hours:.1f} hours earlier, wanted after"
    return ""


def _is_enough(way: Association, taken: dict[bool, int]) -> bool:
    """Tell whether as many were taken as may be; `taken` counts those before and after the group."""
    # On both sides: enough is what is enough on the poorer one.
    count = min(taken.values()) if way.side == "both" else sum(taken.values())
    return way.max is not None and count >= way.max


def _is_wanted_side(way: Association, later: bool, taken: dict[bool, int]) -> bool:
    """Tell whether one more is wanted on the side of a candidate."""
    if way.side == "both":
        return way.max is None or taken[later] < way.max
    return way.side == "either" or later == (way.side == "after")


def group_name(group: Group) -> str:
    """Name a candidate in a sentence: its frames and its night.

    Parameters
    ----------
    group : Group
        Its frames.

    Returns
    -------
    str
        ``flat f3..f7 of 2026-03-01``.
    """
    first, last = group.frames[0], group.frames[-1]
    ids = f"f{first.id}" if first is last else f"f{first.id}..f{last.id}"
    return f"{first.frame_class} {ids} of {first.night}"
