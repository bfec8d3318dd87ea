"""Which calibration fits which frame: rules tried in order, the closest in time wins."""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property, partial
from math import inf
from typing import Annotated, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ccdflow.cascade.planning.areas import AREA_KEYWORDS, Area, area_disagreements
from ccdflow.cascade.records import PERIODS, VALIDITY, Value, seconds
from ccdflow.cascade.sequences.exposures import ROUNDING
from ccdflow.cascade.sequences.intervals import circular_difference
from ccdflow.cascade.specification.dotted import FunctionText, called
from ccdflow.cascade.specification.names import Names
from ccdflow.cascade.wording import shown
from ccdflow.recipes.core.times import SAME_EXPTIME

SECONDS_PER_DAY = 86400.0
SHOWN_NEAREST = 3
"""Candidates that did not fit and are named with a reason: enough to see a pattern, few enough to be read."""

LOOKED_AT_NEAREST = 30
"""Candidates that did not fit and are compared in how much stands in their way: those of some nights."""

DETECTOR = ("telescope", "camera", "instrument")
"""Keywords of one detector, whatever it was set to."""

MOST_ANSWERS = 50_000
"""Comparisons of values that are remembered for one rule: some megabytes."""
RANGES: dict[str, tuple[float, float]] = {
    "unlimited": (-inf, inf),
    "past": (-inf, 0.0),
    "next_day": (0.0, 1.0),
    "ninety_minutes": (-0.0625, 0.0625),
    "one_day": (-1.0, 1.0),
    "two_days": (-2.0, 2.0),
    "three_days": (-3.0, 3.0),
    "four_days": (-4.0, 4.0),
    "five_days": (-5.0, 5.0),
    "one_week": (-7.0, 7.0),
    "two_weeks": (-14.0, 14.0),
    "three_weeks": (-21.0, 21.0),
    "one_month": (-30.0, 30.0),
    "quarterly": (-90.0, 90.0),
}
"""Named time ranges, as EDPS has them: days before (below 0) and after the reference."""

SameNight = Literal["same_night"]
"""Noon to noon at the site's longitude, as the registry knows the night of each frame."""


def _days(written: object) -> object:
    """Turn a name or a number of days into the days before and after that it stands for."""
    if isinstance(written, str) and written != "same_night":
        if written not in RANGES:
            near = get_close_matches(written, ["same_night", *RANGES], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"unknown time range {written!r}{hint}; known: same_night, {', '.join(RANGES)}, days"
            )
        return RANGES[written]
    # In Python, true and false are whole numbers too.
    if isinstance(written, int | float) and not isinstance(written, bool):
        written = (-float(written), float(written))
    if isinstance(written, list | tuple) and len(written) == 2 and not float(written[0]) <= float(written[1]):
        raise ValueError(f"no time lies within {written[0]} and {written[1]} days")
    return written


Within = Annotated[SameNight | tuple[float, float], BeforeValidator(_days)]


@dataclass(frozen=True)
class Barrier:
    """Something that happened to an instrument, which calibrations must not cross.

    Parameters
    ----------
    happened : str
        When, ISO, UTC.
    what : str
        Name of the event, such as ``detector swapped``; rules name events by patterns.
    telescope, camera, instrument : str, optional
        Instrument that it happened to; a blank matches any.
    """

    happened: str
    what: str
    telescope: str = ""
    camera: str = ""
    instrument: str = ""

    @property
    def time(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return seconds(self.happened)

    def concerns(self, reference: "Candidate") -> bool:
        """Tell whether it happened to the instrument that `reference` was taken with.

        Parameters
        ----------
        reference : Candidate
            What a calibration is looked for.

        Returns
        -------
        bool
        """
        wanted = {"telescope": self.telescope, "camera": self.camera, "instrument": self.instrument}
        return all(value in ("", reference.value(name)) for name, value in wanted.items())


class AssociationRule(BaseModel):
    """One way in which a calibration may fit, and how good that is.

    Rules are tried in the order in which they stand; the first that any candidate passes decides.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: int = 0
    """Quality of the match: 0 as planned, 1 certifiable, 2 probably fine, 3 risky; below 0 better than planned."""
    match: Names = ()
    """Keywords that must agree; a blank on either side matches any value."""
    equal: Names = ()
    """Keywords that must be equal; a blank equals only a blank. Exposure times within 0.1 % are equal."""
    tolerance: dict[str, float] = Field(default_factory=dict)
    """Largest difference allowed for numeric keywords, in the keyword's unit."""
    ratio: dict[str, float] = Field(default_factory=dict)
    """Largest relative difference allowed for numeric keywords."""
    area: Area | None = None
    """Pixels that were read out: the ``same``, or by the calibration all of the frame's (``covers``), which is then cut
    to it; without, they are not compared."""
    blanks: bool = True
    """Whether a blank agrees with any number, and a place of the read-out area that is not told with any; else a blank
    agrees only with a blank."""
    within: Within = (-inf, inf)
    """``same_night``, a name of `RANGES`, so many days before or after, or ``[from, to]`` in days, before below 0."""
    function: FunctionText = ""
    """Dotted path of a function of reference and candidate: true, or false or a sentence that says why not."""
    barriers: tuple[str, ...] = ("*",)
    """What must not have happened to the instrument in between: patterns such as ``detector*``; by default anything."""

    @cached_property
    def indexed(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Keywords by which candidates are looked up: those that must be equal, and those with which a blank agrees."""
        # Exposure times are equal within a limit, so that they can't be looked up.
        night = ("night",) if self.within == "same_night" else ()
        exact = tuple(name for name in self.equal if name not in self.match and name != "exptime")
        return exact + night, tuple(name for name in self.match if name != "exptime")

    @cached_property
    def limits(self) -> tuple[tuple[str, float, bool], ...]:
        """Numeric keywords, how far they may differ, and whether that is a part of the wanted value."""
        # A keyword with both limits is judged by its ratio: of two mappings put together the second has the last word.
        return tuple((name, size, name in self.ratio) for name, size in (self.tolerance | self.ratio).items())

    @cached_property
    def measured(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Keywords that are compared within limits: those that are numbers, and others that no index knows."""
        exptime = ("exptime",) if "exptime" in self.match + self.equal else ()
        return tuple(name for name, *_ in self.limits), exptime + (AREA_KEYWORDS if self.area else ())

    @property
    def days(self) -> tuple[float, float]:
        """Earliest and latest distance in days that is worth a look; nights are compared by name, not by time."""
        return (-inf, inf) if self.within == "same_night" else self.within


class Candidate(Protocol):
    """What the rules look at: a group of frames, as itself or as the product made from it."""

    @property
    def time(self) -> float:
        """Mean start of the exposures in seconds since 1970-01-01 UTC."""
        ...

    @property
    def identity(self) -> str:
        """Text that is the same for the same content, to break ties."""
        ...

    def value(self, keyword: str) -> Value | None:
        """Return the value of a keyword.

        Parameters
        ----------
        keyword : str
            Column or kept keyword.

        Returns
        -------
        str, int, float, bool or None
            None for a blank.
        """
        ...

    def values(self, keywords: tuple[str, ...]) -> tuple[Value | None, ...]:
        """Return the values of some keywords.

        Parameters
        ----------
        keywords : tuple of str
            Columns or kept keywords.

        Returns
        -------
        tuple
            In the same order; None for a blank.
        """
        ...

    def numbers(self, keywords: tuple[str, ...]) -> tuple[Value | None, ...]:
        """Return the values of some numeric keywords, as `number` gives each.

        Parameters
        ----------
        keywords : tuple of str
            Columns or kept keywords.

        Returns
        -------
        tuple
            In the same order; None for a blank.
        """
        ...

    def number(self, keyword: str) -> Value | None:
        """Return the value of a numeric keyword, of several frames their middle.

        Parameters
        ----------
        keyword : str
            Column or kept keyword.

        Returns
        -------
        str, int, float, bool or None
            None for a blank.
        """
        ...


C = TypeVar("C", bound=Candidate)


@dataclass(frozen=True)
class Match(Generic[C]):
    """A candidate that fits, and the level of the rule that it passed."""

    candidate: C
    level: int


def shortfall(rules: Sequence[AssociationRule], reference: Candidate, match: Match[C]) -> str:
    """Say in what a match is worse than planned.

    Parameters
    ----------
    rules : sequence of AssociationRule
        All rules of the input.
    reference : Candidate
        What the calibration is for.
    match : Match
        What was found.

    Returns
    -------
    str
        Keywords and both values; empty for a match as planned, or one that is only further away in time.
    """
    if match.level <= 0 or not rules:
        return ""
    planned = [rule for rule in rules if rule.level <= 0] or list(rules[:1])
    return "; ".join(disagreements(planned[-1], reference, match.candidate))


@dataclass(frozen=True)
class Refusal(Generic[C]):
    """A candidate that does not fit, and the test that it failed."""

    candidate: C
    reason: str
    foreign: bool = False
    """Whether it is of another detector."""


def refusal(
    rule: AssociationRule, reference: Candidate, candidate: Candidate, barriers: Sequence[Barrier] = ()
) -> str | None:
    """Say why a candidate fails a rule.

    Parameters
    ----------
    rule : AssociationRule
        What must agree.
    reference : Candidate
        What a calibration is looked for.
    candidate : Candidate
        The calibration.
    barriers : sequence of Barrier, optional
        What happened to the instruments.

    Returns
    -------
    str or None
        The first test that it fails, in a few words; None where it passes all.
    """
    return next(_keyword_disagreements(rule, reference, candidate), None) or _other_refusal(
        rule, reference, candidate, barriers
    )


def _other_refusal(
    rule: AssociationRule, reference: Candidate, candidate: Candidate, barriers: Sequence[Barrier]
) -> str | None:
    """Say why a candidate fails a rule whose keywords agree: the index has let it through."""
    return next(_measured_disagreements(rule, reference, candidate), None) or _refusal_by_time(
        rule, reference, candidate, barriers
    )


def _refusal_by_time(
    rule: AssociationRule, reference: Candidate, candidate: Candidate, barriers: Sequence[Barrier]
) -> str | None:
    """Say why a candidate fails a rule whose keywords and limits agree."""
    # The cheap tests first: this runs for every pair of reference and candidate that is left.
    return (
        _time_refusal(rule, reference, candidate)
        or _validity_refusal(reference, candidate)
        or _barrier_refusal(rule, reference, candidate, barriers)
        or (_function_refusal(rule, reference, candidate) if rule.function else None)
    )


def disagreements(rule: AssociationRule, reference: Candidate, candidate: Candidate) -> Iterator[str]:
    """Say in what a candidate differs from what a rule wants, whenever it was taken.

    Parameters
    ----------
    rule : AssociationRule
        What must agree.
    reference : Candidate
        What a calibration is looked for.
    candidate : Candidate
        The calibration.

    Yields
    ------
    str
        Keyword and both values: ``offset is blank, wanted 50``.
    """
    yield from _keyword_disagreements(rule, reference, candidate)
    yield from _measured_disagreements(rule, reference, candidate)


def _keyword_disagreements(
    rule: AssociationRule, reference: Candidate, candidate: Candidate
) -> Iterator[str]:
    for keyword in rule.match + rule.equal:
        wanted, value = reference.value(keyword), candidate.value(keyword)
        blank = wanted is None or value is None
        if wanted != value and not (blank and keyword in rule.match) and keyword != "exptime":
            yield f"{keyword} is {shown(value)}, wanted {shown(wanted)}"


def _measured_disagreements(
    rule: AssociationRule, reference: Candidate, candidate: Candidate
) -> Iterator[str]:
    # Exposure times are equal within a limit, which no index knows.
    if "exptime" in rule.match or "exptime" in rule.equal:
        yield from _exptime_disagreements(rule, reference, candidate)
    yield from _number_disagreements(rule, reference, candidate)
    if rule.area is not None:
        yield from area_disagreements(rule.area, reference, candidate, blanks=rule.blanks)


def _exptime_disagreements(
    rule: AssociationRule, reference: Candidate, candidate: Candidate
) -> Iterator[str]:
    wanted, value = reference.value("exptime"), candidate.value("exptime")
    if wanted == value or ((wanted is None or value is None) and "exptime" in rule.match):
        return
    if isinstance(wanted, int | float) and isinstance(value, int | float) and _same_time(wanted, value):
        return
    yield f"exptime is {shown(value)}, wanted {shown(wanted)}"


def _same_time(wanted: float, value: float) -> bool:
    return abs(value - wanted) <= SAME_EXPTIME * abs(wanted) * (1 + ROUNDING)


_Test = Callable[[Candidate, Candidate], str | None]


def _tests(rule: AssociationRule, barriers: Sequence[Barrier]) -> Iterator[tuple[str, _Test]]:
    """Give the tests of a rule one by one, with names to show, each as a rule that says no more than this."""
    for keyword in rule.match:
        yield keyword, partial(refusal, AssociationRule(match=(keyword,)))
    for keyword in rule.equal:
        yield keyword, partial(refusal, AssociationRule(equal=(keyword,)))
    for keyword in {**rule.tolerance, **rule.ratio}:
        allowed = {"tolerance": rule.tolerance.get(keyword), "ratio": rule.ratio.get(keyword)}
        alone = {name: {keyword: value} for name, value in allowed.items() if value is not None}
        yield keyword, partial(refusal, AssociationRule.model_validate({"blanks": rule.blanks, **alone}))
    if rule.area is not None:
        yield "window", partial(refusal, AssociationRule(area=rule.area, blanks=rule.blanks))
    yield "time", partial(_time_refusal, rule)
    yield "validity", _validity_refusal
    if barriers:
        yield "events", partial(_barrier_refusal, rule, barriers=barriers)
    if rule.function:
        yield rule.function, partial(_function_refusal, rule)


def _number_disagreements(rule: AssociationRule, reference: Candidate, candidate: Candidate) -> Iterator[str]:
    for keyword, allowed, is_ratio in rule.limits:
        wanted, value = reference.number(keyword), candidate.number(keyword)
        if wanted == value:
            continue
        if wanted is None or value is None:
            if wanted is not value and not rule.blanks:
                yield f"{keyword} is {shown(value)}, wanted {shown(wanted)}"
            continue
        try:
            here, there = float(wanted), float(value)
        except ValueError:
            yield f"{keyword} is {shown(value)}, and of {shown(wanted)}: a tolerance is for numbers"
            continue
        limit = allowed * abs(here) if is_ratio else allowed
        if circular_difference(there, here, PERIODS.get(keyword)) > limit * (1 + ROUNDING):
            yield f"{keyword} is {shown(value)}, wanted {shown(wanted)} within {limit:g}"


def _time_refusal(rule: AssociationRule, reference: Candidate, candidate: Candidate) -> str | None:
    if rule.within == "same_night":
        wanted, night = reference.value("night"), candidate.value("night")
        return None if wanted == night else f"night is {shown(night)}, wanted {shown(wanted)}"
    # The words depend on how the range was written: one side only, so many days around, or two different sides.
    low, high = rule.within
    days = (candidate.time - reference.time) / SECONDS_PER_DAY
    if low <= days <= high:
        return None
    if high == 0 and days > 0:
        return f"taken {days:.1f} days later, wanted earlier"
    if low == 0 and days < 0:
        return f"taken {-days:.1f} days earlier, wanted later"
    if low == -high:
        return f"{abs(days):.1f} days away, wanted within {high:g}"
    return f"{days:+.1f} days away, wanted {low:+g} to {high:+g}"


def _validity_refusal(reference: Candidate, candidate: Candidate) -> str | None:
    """Compare the reference's time with the candidate's validity; without one, a candidate always holds."""
    start, end = (candidate.value(name) for name in VALIDITY)
    if start is not None and reference.time < seconds(str(start)):
        return f"valid from {start}"
    if end is not None and reference.time >= seconds(str(end)):
        return f"valid until {end}"
    return None


def _barrier_refusal(
    rule: AssociationRule, reference: Candidate, candidate: Candidate, barriers: Sequence[Barrier]
) -> str | None:
    # Which of the two was first does not matter: a flat of before the change fits no frame of after it, and the other
    # way round. What happened at the very moment of the later one still lies between.
    first, last = sorted((reference.time, candidate.time))
    for barrier in barriers:
        matters = any(fnmatchcase(barrier.what, pattern) for pattern in rule.barriers)
        if matters and first < barrier.time <= last and barrier.concerns(reference):
            return f"{barrier.what} on {barrier.happened[:10]} lies between"
    return None


def _function_refusal(rule: AssociationRule, reference: Candidate, candidate: Candidate) -> str | None:
    # A sentence is a refusal and its reason; an empty one is none.
    answer = called(rule.function, reference, candidate)
    if isinstance(answer, str):
        return answer or None
    return None if answer else f"{rule.function} says no"


_OWN = AssociationRule(match=DETECTOR)


class Candidates(Generic[C]):
    """Candidates of one kind for many references: found by their values and times, not by a look at each.

    They are kept by the values that a rule wants to be equal and by time, so that few are looked at for one
    reference. That only preselects: whether a candidate fits, `refusal` alone decides.

    Parameters
    ----------
    candidates : iterable of Candidate
        In any order.
    barriers : sequence of Barrier, optional
        What happened to the instruments.
    """

    def __init__(self, candidates: Iterable[C], barriers: Sequence[Barrier] = ()) -> None:
        self.all = tuple(candidates)
        self.barriers = tuple(barriers)
        self._rows: dict[tuple[Hashable, ...], _Row[C]] = {}
        self._parts: dict[_RuleNames, _ByValues[C]] = {}
        self._answers: dict[int, tuple[AssociationRule, dict[_Measures, bool]]] = {}

    def __len__(self) -> int:
        return len(self.all)

    def fitting(self, rules: Sequence[AssociationRule], reference: Candidate) -> Iterator[Match[C]]:
        """Find the candidates that fit `reference`, looking at no more of them than are taken.

        Parameters
        ----------
        rules : sequence of AssociationRule
            Tried in order.
        reference : Candidate
            What a calibration is looked for.

        Yields
        ------
        Match
            Best first: by rule in order, then by distance in time.
        """
        seen: set[int] = set()
        for rule in rules:
            row, (low, high) = self._row(rule, reference), rule.days
            # The row is given from the reference outwards, so the first that is further than the rule reaches on its
            # longer side ends it. On the shorter side candidates may still be too far: they are only passed over.
            for days, candidate in row.nearest(reference.time, earlier_only=high <= 0):
                if abs(days) > max(-low, high):
                    break
                if id(candidate) in seen or not low <= days <= high:
                    continue
                if not self._measures_agree(rule, reference, candidate):
                    continue
                if _refusal_by_time(rule, reference, candidate, self.barriers) is None:
                    seen.add(id(candidate))
                    yield Match(candidate, rule.level)

    def _measures_agree(self, rule: AssociationRule, reference: Candidate, candidate: Candidate) -> bool:
        """Tell whether what is compared within limits agrees; frames of a night ask the same over and over."""
        numbers, others = rule.measured
        if not numbers and not others:
            return True
        _, answers = self._answers.setdefault(
            id(rule), (rule, {})
        )  # the rule too, so that its id is no other's
        question = (
            reference.numbers(numbers),
            reference.values(others),
            candidate.numbers(numbers),
            candidate.values(others),
        )
        agree = answers.get(question)
        if agree is None:
            if len(answers) >= MOST_ANSWERS:
                answers.clear()
            agree = next(_measured_disagreements(rule, reference, candidate), None) is None
            answers[question] = agree
        return agree

    def nearest_refused(self, rules: Sequence[AssociationRule], reference: Candidate) -> list[Refusal[C]]:
        """Return the nearest candidates that no rule lets pass, those of the reference's own detector first.

        Parameters
        ----------
        rules : sequence of AssociationRule
            All rules of an input.
        reference : Candidate
            What a calibration is looked for.

        Returns
        -------
        list of Refusal
            At most `SHOWN_NEAREST`, each with the tests of the last rule that it failed. The last rule is the most
            generous one, so its tests are what stands between the candidate and a match.
        """
        # What another detector has taken is often as close in time, with nothing else in its way, and tells nobody
        # what to take: it is named only where there is too little of the own one.
        refused = self._least_refused(self._row(_OWN, reference), rules, reference)
        if len(refused) < SHOWN_NEAREST:
            refused += self._least_refused(self._every, rules, reference, foreign=True)
        return refused[:SHOWN_NEAREST]

    def _least_refused(
        self, row: "_Row[C]", rules: Sequence[AssociationRule], reference: Candidate, *, foreign: bool = False
    ) -> list[Refusal[C]]:
        """Return the refused of a row, of this detector or of others, those with the least in their way first."""
        # From the closest outwards, until enough were refused; those that some rule lets pass are no example. Among
        # them those with the least in their way come first: what to change, or to take, is seen at once.
        refused: list[tuple[int, Refusal[C]]] = []
        own = reference.values(DETECTOR)
        for _, candidate in row.nearest(reference.time):
            if foreign and _agree(own, candidate.values(DETECTOR)):
                continue
            if rules and all(refusal(rule, reference, candidate, self.barriers) for rule in rules):
                reasons = self._obstacles(rules[-1], reference, candidate)
                refused.append((len(reasons), Refusal(candidate, "; ".join(reasons), foreign)))
            if len(refused) == LOOKED_AT_NEAREST:
                break
        refused.sort(key=lambda counted: counted[0])
        return [answer for _, answer in refused]

    def _obstacles(self, rule: AssociationRule, reference: Candidate, candidate: C) -> list[str]:
        """Return everything that stands between a candidate that fails a rule and a match."""
        others = (
            _time_refusal(rule, reference, candidate),
            _validity_refusal(reference, candidate),
            _barrier_refusal(rule, reference, candidate, self.barriers),
        )
        reasons = [*disagreements(rule, reference, candidate), *filter(None, others)]
        return reasons or [str(refusal(rule, reference, candidate, self.barriers))]

    def survivors(self, rules: Sequence[AssociationRule], reference: Candidate) -> list[tuple[str, int]]:
        """Count the candidates that are left after each test of the last rule, the most generous one.

        Parameters
        ----------
        rules : sequence of AssociationRule
            All rules of an input.
        reference : Candidate
            What a calibration is looked for.

        Returns
        -------
        list of (str, int)
            Name of the test and number, in the order of the tests; empty without rules.
        """
        if not rules:
            return []
        # One test after the other over all candidates: slow, and done only where an input is missing.
        left, counts = list(self.all), []
        for name, test in _tests(rules[-1], self.barriers):
            left = [candidate for candidate in left if test(reference, candidate) is None]
            counts.append((name, len(left)))
        return counts

    @cached_property
    def _every(self) -> "_Row[C]":
        return _Row(self.all)

    def _row(self, rule: AssociationRule, reference: Candidate) -> "_Row[C]":
        """Return the candidates that agree with `reference` in the keywords of `rule`, in order of time."""
        names = rule.indexed
        exact, loose = reference.values(names[0]), reference.values(names[1])
        place = (names, exact, loose)
        row = self._rows.get(place)
        if row is None:
            # Values that must be equal are looked up. A blank agrees with anything, so the few combinations of the
            # other values are all compared.
            agreeing = self._by_values(names).get(exact, {})
            row = _Row(
                candidate
                for values, candidates in agreeing.items()
                if _agree(loose, values)
                for candidate in candidates
            )
            self._rows[place] = row
        return row

    def _by_values(self, names: "_RuleNames") -> "_ByValues[C]":
        if names not in self._parts:
            parts: _ByValues[C] = {}
            for candidate in self.all:
                exact, loose = candidate.values(names[0]), candidate.values(names[1])
                parts.setdefault(exact, {}).setdefault(loose, []).append(candidate)
            self._parts[names] = parts
        return self._parts[names]


_RuleNames = tuple[tuple[str, ...], tuple[str, ...]]
"""Keywords whose values have to be equal, and keywords that a blank on either side agrees with."""

_Values = tuple[Value | None, ...]
_Measures = tuple[_Values, _Values, _Values, _Values]
"""Numbers and other values of a reference, and of a candidate."""
_ByValues = dict[_Values, dict[_Values, list[C]]]
"""Candidates by the values of the first keywords, and within these by the values of the others."""


def _agree(wanted: Sequence[Value | None], values: Sequence[Value | None]) -> bool:
    pairs = zip(wanted, values, strict=True)
    return all(left is None or right is None or left == right for left, right in pairs)


class _Row(Generic[C]):
    """Candidates in order of time."""

    def __init__(self, candidates: Iterable[C]) -> None:
        self.candidates = sorted(candidates, key=lambda candidate: candidate.time)
        self.times = [candidate.time for candidate in self.candidates]

    def nearest(self, time: float, *, earlier_only: bool = False) -> Iterator[tuple[float, C]]:
        """Give the nearest in time first, the earlier of two, sorted only as far as it is taken.

        Each comes with its distance in days, above 0 for later ones. Two places start at `time` and move outwards,
        ``earlier`` to the left and ``later`` to the right; the closer one is given next.
        """
        times, later = self.times, bisect_right(self.times, time)
        earlier, end = later - 1, later if earlier_only else len(times)
        while earlier >= 0 or later < end:
            before = times[earlier] - time if earlier >= 0 else -inf
            after = times[later] - time if later < end else inf
            # All of one moment are taken together, since their identities decide among them. Of equally close ones the
            # earlier go first, hence <=.
            if -before <= after:
                first = earlier
                while first > 0 and times[first - 1] - time == before:
                    first -= 1
                distance, alike, earlier = before, self.candidates[first : earlier + 1], first - 1
            else:
                last = later
                while last + 1 < end and times[last + 1] - time == after:
                    last += 1
                distance, alike, later = after, self.candidates[later : last + 1], last + 1
            if len(alike) > 1:
                # Identities are digests, made only where they are needed.
                alike.sort(key=lambda candidate: candidate.identity)
            for candidate in alike:
                yield distance / SECONDS_PER_DAY, candidate
