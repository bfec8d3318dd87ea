"""The associated inputs of a job: what fits best, and where nothing does, why."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from ccdflow.cascade.planning.associate import SHOWN_NEAREST, Candidates, Match, Rule
from ccdflow.cascade.planning.jobs import Group, JobInput, Missing, Nearest, content, work_name
from ccdflow.cascade.specification.expressions import Context, evaluate
from ccdflow.cascade.specification.model import Association, Cascade, Preference


class Pool(Protocol):
    """Where candidates come from."""

    def sets_of(self, source: str) -> Candidates[Group]:
        """Return groups of frames of a data source, or from which a task could make its product."""
        ...

    def masters_of(self, task: str, product: str) -> Candidates[Group]:
        """Return finished products of a task's category that were made elsewhere, each as a group of one."""
        ...


class Maker(Protocol):
    """What it takes to have a candidate."""

    def taken(self, role: str, source: str, product: str, candidate: Group) -> tuple[list[JobInput], str]:
        """Return a candidate as inputs of a job, or why it can't be had."""
        ...


@dataclass(frozen=True)
class Found:
    """What fills one role: inputs, the groups that they come from, what is missing, and what is done without."""

    inputs: tuple[JobInput, ...] = ()
    groups: tuple[Group, ...] = ()
    missing: tuple[Missing, ...] = ()
    without: tuple[Missing, ...] = ()


@dataclass(frozen=True)
class Search:
    """How associated inputs are found.

    Parameters
    ----------
    cascade : Cascade
        Rules of inputs that have none of their own.
    pool : Pool
        Where candidates come from.
    maker : Maker
        What makes inputs of them.
    threshold : int or None
        Worst level that is accepted.
    preference : str
        Raw frames or masters first, where an input does not say.
    pinned : set of str
        Frames (``f12``) and jobs (keys) that are taken first where they fit.
    """

    cascade: Cascade
    pool: Pool
    maker: Maker
    threshold: int | None
    preference: Preference
    pinned: Collection[str]

    def find(self, role: str, association: Association, context: Context) -> Found:
        """The best that there is for a role; of several ways, the first that gives enough, else the last."""
        tried: list[Missing] = []
        for way in association.ways:
            if way.condition and not evaluate(way.condition, context):
                continue
            found = self._way(role, way, context.group)
            if not found.missing:
                inputs = found.inputs if association.handed and way.handed else ()
                return replace(found, inputs=inputs)
            tried += found.missing
        if association.optional:
            return Found(without=tuple(tried))
        if not tried:
            said = "; ".join(way.condition for way in association.ways)
            return Found(missing=(Missing(role, f"no way to get {role!r} applies: {said}"),))
        return Found(missing=tuple(tried))

    def _way(self, role: str, way: Association, group: Group) -> Found:
        """What one way gives; `missing` where it is less than the minimum, be that 0 or not."""
        inputs: list[JobInput] = []
        groups: list[Group] = []
        sides = {False: 0, True: 0}
        for match, is_master in self._in_order(self._matches(way, group), way):
            if _is_enough(way, sides):
                break
            later = match.candidate.time > group.time
            if not _on_side(way, later, sides):
                continue
            some, _ = self._taken(role, way, match, is_master)
            if some:
                inputs += some
                groups.append(match.candidate)
                sides[later] += 1
        enough = min(sides.values()) >= way.min if way.side == "both" else len(groups) >= way.min
        if enough and groups:
            return Found(tuple(inputs), tuple(groups))
        if enough and way.min == 0:
            return Found(without=(self._lack(role, way),))
        return Found(missing=(self._missing(role, way, group, len(groups)),))

    def _taken(
        self, role: str, way: Association, match: Match[Group], is_master: bool
    ) -> tuple[list[JobInput], str]:
        if is_master:
            some = [JobInput(role, content(one), frame=one.id) for one in match.candidate.frames]
            return [replace(one, level=match.level) for one in some], ""
        some, reason = self.maker.taken(role, way.source, way.product, match.candidate)
        return [replace(one, level=match.level) for one in some], reason

    def _rules(self, way: Association) -> tuple[Rule, ...]:
        """The rules whose level is good enough."""
        rules = self.cascade.rules(way)
        return tuple(one for one in rules if self.threshold is None or one.level <= self.threshold)

    def _matches(self, way: Association, group: Group) -> Iterator[tuple[Match[Group], bool]]:
        """What fits, best first, each with whether it is a finished master."""
        rules = self._rules(way)
        raw, masters = self.pool.sets_of(way.source), self.pool.masters_of(way.source, way.product)
        if not masters:
            yield from ((match, False) for match in raw.fitting(rules, group))
            return
        preference = way.preference or self.preference
        shelves = [(raw, False), (masters, True)]
        shelves = shelves[::-1] if preference.startswith("master") else shelves
        portions = [(rule,) for rule in rules] if preference.endswith("level") else [rules]
        given: set[int] = set()
        for portion in portions:
            for shelf, is_master in shelves:
                for match in shelf.fitting(portion, group):
                    if id(match.candidate) not in given:
                        given.add(id(match.candidate))
                        yield match, is_master

    def _in_order(
        self, matches: Iterator[tuple[Match[Group], bool]], way: Association
    ) -> Iterator[tuple[Match[Group], bool]]:
        """What is pinned before all else."""
        if not self.pinned:
            yield from matches
            return
        every = list(matches)
        first = [one for one in every if self._is_pinned(way, one[0], one[1])]
        yield from first
        yield from (one for one in every if one not in first)

    def _is_pinned(self, way: Association, match: Match[Group], is_master: bool) -> bool:
        inputs, _ = self._taken("", way, match, is_master)
        names = {one.job or f"f{one.frame}" for one in inputs}
        main = [JobInput("main", content(one), frame=one.id) for one in match.candidate.frames]
        names.add(work_name(self.cascade.relayed(way.source), main))
        return bool(names & {*self.pinned}) or any(
            f"f{one.id}" in self.pinned for one in match.candidate.frames
        )

    def _lack(self, role: str, way: Association) -> Missing:
        """That an optional input was not found; why in detail takes long, and most jobs are asked for no more."""
        there = self.pool.sets_of(way.source) or self.pool.masters_of(way.source, way.product)
        return Missing(
            role, f"no {way.source} fits" if there else f"no {way.source}: there are no such frames"
        )

    def _missing(self, role: str, way: Association, group: Group, found: int) -> Missing:
        """Why an input could not be filled: nothing there, nothing that fits, or what fits can't be made."""
        every, rules = self.pool.sets_of(way.source), self._rules(way)
        wanted = f"{way.min} {way.source}" if way.min > 1 else way.source
        wanted += {"either": "", "both": " on each side"}.get(way.side, f" {way.side} it")
        needed = "" if role == way.source else f" as {role!r}"
        masters = self.pool.masters_of(way.source, way.product)
        if not every and not masters:
            return Missing(role, f"no {wanted}{needed}: there are no such frames")
        nearest: list[Nearest] = []
        on_side = 0
        for match in every.fitting(rules, group):
            off = _off_side(way, match.candidate, group)
            on_side += not off
            if off:
                if len(nearest) < SHOWN_NEAREST:
                    nearest.append(Nearest(group_name(match.candidate), off))
                continue
            if len(nearest) == SHOWN_NEAREST:
                break
            reason = self._taken(role, way, match, False)[1]
            if reason:
                nearest.append(Nearest(group_name(match.candidate), reason))
        refused = [*every.nearest_refused(rules, group), *masters.nearest_refused(rules, group)]
        nearest += [Nearest(group_name(one.candidate), one.reason) for one in refused]
        reason = f"no {wanted} fits{needed}; {len(every) + len(masters)} looked at, {found} found"
        tests = tuple(every.survivors(rules, group))
        if way.side in ("before", "after"):
            tests = (*tests, (way.side, on_side))
        return Missing(role, reason, tuple(nearest[:SHOWN_NEAREST]), tests)


def applies(association: Association, context: Context) -> bool:
    """Tell whether an input is to be looked for at all.

    Parameters
    ----------
    association : Association
        The input.
    context : Context
        What its condition looks at.

    Returns
    -------
    bool
        False where its condition does not hold, or no keyword of `when_missing` is blank.
    """
    blanks = association.when_missing
    if blanks and all(context.group.value(keyword) is not None for keyword in blanks):
        return False
    return not association.condition or bool(evaluate(association.condition, context))


def _off_side(way: Association, candidate: Group, group: Group) -> str:
    """Why a candidate is on the wrong side; nothing where it is not."""
    hours = (candidate.time - group.time) / 3600
    if way.side == "before" and hours > 0:
        return f"taken {hours:.1f} hours later, wanted before"
    if way.side == "after" and hours <= 0:
        return f"taken {-hours:.1f} hours earlier, wanted after"
    return ""


def _is_enough(way: Association, sides: dict[bool, int]) -> bool:
    """Whether as many were taken as may be."""
    taken = min(sides.values()) if way.side == "both" else sum(sides.values())
    return way.max is not None and taken >= way.max


def _on_side(way: Association, later: bool, sides: dict[bool, int]) -> bool:
    """Whether one more is wanted on the side of a candidate."""
    if way.side == "both":
        return way.max is None or sides[later] < way.max
    return way.side == "either" or later == (way.side == "after")


def group_name(group: Group) -> str:
    """What to call a candidate in a sentence: its frames and its night."""
    first, last = group.frames[0], group.frames[-1]
    ids = f"f{first.id}" if first is last else f"f{first.id}..f{last.id}"
    return f"{first.frame_class} {ids} of {first.night}"
