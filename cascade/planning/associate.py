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

from ccdflow.cascade.records import VALIDITY, Value, seconds
from ccdflow.cascade.specification.dotted import FunctionText, called

SECONDS_PER_DAY = 86400.0
SHOWN_NEAREST = 3

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


def _days(found: object) -> object:
    """A name or a number of days as the days before and after that it stands for."""
    if isinstance(found, str) and found != "same_night":
        if found not in RANGES:
            near = get_close_matches(found, ["same_night", *RANGES], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"unknown time range {found!r}{hint}; known: same_night, {', '.join(RANGES)}, days"
            )
        return RANGES[found]
    if isinstance(found, int | float) and not isinstance(found, bool):
        found = (-float(found), float(found))
    if isinstance(found, list | tuple) and len(found) == 2 and not float(found[0]) <= float(found[1]):
        raise ValueError(f"no time lies within {found[0]} and {found[1]} days")
    return found


Within = Annotated[SameNight | tuple[float, float], BeforeValidator(_days)]


@dataclass(frozen=True)
class Barrier:
    """Something that happened to an instrument (ISO UTC), which calibrations must not cross; a blank matches any."""

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
        """Whether it happened to the instrument that `reference` was taken with."""
        wanted = {"telescope": self.telescope, "camera": self.camera, "instrument": self.instrument}
        return all(value in ("", reference.value(name)) for name, value in wanted.items())


class Rule(BaseModel):
    """One way in which a calibration may fit, and how good that is.

    Rules are tried in the order in which they stand; the first that any candidate passes decides.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: int = 0
    """Quality of the match: 0 as planned, 1 certifiable, 2 probably fine, 3 risky; below 0 better than planned."""
    match: tuple[str, ...] = ()
    """Keywords that must agree; a blank on either side matches any value."""
    equal: tuple[str, ...] = ()
    """Keywords that must be equal; a blank equals only a blank."""
    tolerance: dict[str, float] = Field(default_factory=dict)
    """Largest difference allowed for numeric keywords, in the keyword's unit; a blank matches any."""
    ratio: dict[str, float] = Field(default_factory=dict)
    """Largest relative difference allowed for numeric keywords."""
    within: Within = (-inf, inf)
    """``same_night``, a name of `RANGES`, so many days before or after, or ``[from, to]`` in days, before below 0."""
    function: FunctionText = ""
    """Dotted path of a function of reference and candidate: true, or false or a sentence that says why not."""
    barriers: tuple[str, ...] = ("*",)
    """What must not have happened to the instrument in between: patterns such as ``detector*``; by default anything."""

    @property
    def days(self) -> tuple[float, float]:
        """Earliest and latest distance in days that is worth a look."""
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
        """The value of a keyword; None for a blank."""
        ...


C = TypeVar("C", bound=Candidate)


@dataclass(frozen=True)
class Match(Generic[C]):
    """A candidate that fits, and the level of the rule that it passed."""

    candidate: C
    level: int


@dataclass(frozen=True)
class Refusal(Generic[C]):
    """A candidate that does not fit, and the test that it failed."""

    candidate: C
    reason: str


def refusal(
    rule: Rule, reference: Candidate, candidate: Candidate, barriers: Sequence[Barrier] = ()
) -> str | None:
    """Why `candidate` fails `rule` for `reference`, in a few words; None where it passes."""
    for keyword in rule.match + rule.equal:
        wanted, found = reference.value(keyword), candidate.value(keyword)
        blank = wanted is None or found is None
        if wanted != found and not (blank and keyword in rule.match):
            return f"{keyword} is {_shown(found)}, wanted {_shown(wanted)}"
    return (
        _number_refusal(rule, reference, candidate)
        or _time_refusal(rule, reference, candidate)
        or _validity_refusal(reference, candidate)
        or _barrier_refusal(rule, reference, candidate, barriers)
        or (_function_refusal(rule, reference, candidate) if rule.function else None)
    )


Test = Callable[[Candidate, Candidate], str | None]


def _tests(rule: Rule, barriers: Sequence[Barrier]) -> Iterator[tuple[str, Test]]:
    """The tests of a rule one by one, with names to show."""
    for keyword in rule.match:
        yield keyword, partial(refusal, Rule(match=(keyword,)))
    for keyword in rule.equal:
        yield keyword, partial(refusal, Rule(equal=(keyword,)))
    for keyword in {**rule.tolerance, **rule.ratio}:
        allowed = {"tolerance": rule.tolerance.get(keyword), "ratio": rule.ratio.get(keyword)}
        alone = {name: {keyword: value} for name, value in allowed.items() if value is not None}
        yield keyword, partial(refusal, Rule.model_validate(alone))
    yield "time", partial(_time_refusal, rule)
    yield "validity", _validity_refusal
    if barriers:
        yield "events", partial(_barrier_refusal, rule, barriers=barriers)
    if rule.function:
        yield rule.function, partial(_function_refusal, rule)


def _number_refusal(rule: Rule, reference: Candidate, candidate: Candidate) -> str | None:
    for keyword, allowed in (rule.tolerance | rule.ratio).items():
        wanted, found = reference.value(keyword), candidate.value(keyword)
        if wanted is None or found is None:
            continue
        try:
            here, there = float(wanted), float(found)
        except ValueError:
            return f"{keyword} is {_shown(found)}, and of {_shown(wanted)}: a tolerance is for numbers"
        limit = allowed * abs(here) if keyword in rule.ratio else allowed
        if abs(there - here) > limit:
            return f"{keyword} is {_shown(found)}, wanted {_shown(wanted)} within {limit:g}"
    return None


def _time_refusal(rule: Rule, reference: Candidate, candidate: Candidate) -> str | None:
    if rule.within == "same_night":
        wanted, found = reference.value("night"), candidate.value("night")
        return None if wanted == found else f"night is {_shown(found)}, wanted {_shown(wanted)}"
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
    """What says nothing of its validity always holds."""
    start, end = (candidate.value(name) for name in VALIDITY)
    if start is not None and reference.time < seconds(str(start)):
        return f"valid from {start}"
    if end is not None and reference.time >= seconds(str(end)):
        return f"valid until {end}"
    return None


def _barrier_refusal(
    rule: Rule, reference: Candidate, candidate: Candidate, barriers: Sequence[Barrier]
) -> str | None:
    first, last = sorted((reference.time, candidate.time))
    for one in barriers:
        named = any(fnmatchcase(one.what, pattern) for pattern in rule.barriers)
        if named and first < one.time <= last and one.concerns(reference):
            return f"{one.what} on {one.happened[:10]} lies between"
    return None


def _function_refusal(rule: Rule, reference: Candidate, candidate: Candidate) -> str | None:
    answer = called(rule.function, reference, candidate)
    if isinstance(answer, str):
        return answer or None
    return None if answer else f"{rule.function} says no"


def _shown(value: Value | None) -> str:
    return "blank" if value is None else str(value)


def nearest_first(reference: Candidate, candidates: Iterable[C]) -> list[C]:
    """Candidates by distance in time; of two at equal distance the earlier, then the smaller identity."""

    def key(candidate: C) -> tuple[float, bool, str]:
        dt = candidate.time - reference.time
        return abs(dt), dt > 0, candidate.identity

    return sorted(candidates, key=key)


def fitting(
    rules: Sequence[Rule],
    reference: Candidate,
    candidates: Sequence[C],
    barriers: Sequence[Barrier] = (),
) -> Iterable[Match[C]]:
    """Candidates that fit `reference`, best first: by rule in order, then by distance in time.

    A candidate is given once, with the level of the first rule that it passes.
    """
    left = list(candidates)
    for rule in rules:
        passed: list[C] = []
        rest: list[C] = []
        for candidate in left:
            (passed if refusal(rule, reference, candidate, barriers) is None else rest).append(candidate)
        for candidate in nearest_first(reference, passed):
            yield Match(candidate, rule.level)
        left = rest


class Candidates(Generic[C]):
    """Candidates of one kind for many references: gives what `fitting` gives for all of them.

    They are kept by the values that a rule wants to be equal and by time, so that few are looked at for one
    reference. That only preselects: whether a candidate fits, `refusal` alone decides.
    """

    def __init__(self, candidates: Iterable[C], barriers: Sequence[Barrier] = ()) -> None:
        self.all = tuple(candidates)
        self.barriers = tuple(barriers)
        self._rows: dict[tuple[Hashable, ...], _Row[C]] = {}
        self._kept: dict[tuple[tuple[str, ...], tuple[str, ...]], _Parted[C]] = {}

    def __len__(self) -> int:
        return len(self.all)

    def fitting(self, rules: Sequence[Rule], reference: Candidate) -> Iterator[Match[C]]:
        """Candidates that fit `reference`, best first: by rule in order, then by distance in time."""
        given: set[int] = set()
        for rule in rules:
            row, (low, high) = self._row(rule, reference), rule.days
            for days, candidate in row.nearest(reference.time, earlier_only=high <= 0):
                if abs(days) > max(-low, high):
                    break
                if id(candidate) in given or not low <= days <= high:
                    continue
                if refusal(rule, reference, candidate, self.barriers) is None:
                    given.add(id(candidate))
                    yield Match(candidate, rule.level)

    def nearest_refused(self, rules: Sequence[Rule], reference: Candidate) -> list[Refusal[C]]:
        """The nearest candidates that no rule lets pass, each with the test of the last rule that it failed.

        The last rule is the most generous one, so its test is what stands between the candidate and a match.
        """
        refused: list[Refusal[C]] = []
        for _, candidate in self._every.nearest(reference.time):
            reasons = [refusal(rule, reference, candidate, self.barriers) for rule in rules]
            if rules and all(reasons):
                refused.append(Refusal(candidate, str(reasons[-1])))
            if len(refused) == SHOWN_NEAREST:
                break
        return refused

    def survivors(self, rules: Sequence[Rule], reference: Candidate) -> list[tuple[str, int]]:
        """How many are left after each test of the last rule, the most generous one: name of the test and number."""
        if not rules:
            return []
        left, counts = list(self.all), []
        for name, test in _tests(rules[-1], self.barriers):
            left = [one for one in left if test(reference, one) is None]
            counts.append((name, len(left)))
        return counts

    @cached_property
    def _every(self) -> "_Row[C]":
        return _Row(self.all)

    def _row(self, rule: Rule, reference: Candidate) -> "_Row[C]":
        """Candidates that agree with `reference` in the keywords of `rule`, in order of time."""
        names = _names(rule)
        exact, loose = ([reference.value(name) for name in some] for some in names)
        place = (names, *exact, *loose)
        found = self._rows.get(place)
        if found is None:
            agreeing = self._parted(names).get(tuple(exact), {})
            found = _Row(one for values, some in agreeing.items() if _agree(loose, values) for one in some)
            self._rows[place] = found
        return found

    def _parted(self, names: "_RuleNames") -> "_Parted[C]":
        """All candidates by their values."""
        if names not in self._kept:
            parted: _Parted[C] = {}
            for one in self.all:
                exact, loose = (tuple([one.value(name) for name in some]) for some in names)
                parted.setdefault(exact, {}).setdefault(loose, []).append(one)
            self._kept[names] = parted
        return self._kept[names]


_RuleNames = tuple[tuple[str, ...], tuple[str, ...]]
"""Keywords whose values have to be equal, and keywords that a blank on either side agrees with."""

_Values = tuple[Value | None, ...]
_Parted = dict[_Values, dict[_Values, list[C]]]


def _names(rule: Rule) -> _RuleNames:
    night = ("night",) if rule.within == "same_night" else ()
    return tuple(name for name in rule.equal if name not in rule.match) + night, rule.match


def _agree(wanted: Sequence[Value | None], found: Sequence[Value | None]) -> bool:
    return all(one is None or other is None or one == other for one, other in zip(wanted, found, strict=True))


class _Row(Generic[C]):
    """Candidates in order of time."""

    def __init__(self, candidates: Iterable[C]) -> None:
        self.candidates = sorted(candidates, key=lambda one: one.time)
        self.times = [one.time for one in self.candidates]

    def nearest(self, time: float, *, earlier_only: bool = False) -> Iterator[tuple[float, C]]:
        """As `nearest_first`, sorted as far as they are taken; each with its distance in days, later ones above 0."""
        times, later = self.times, bisect_right(self.times, time)
        earlier, end = later - 1, later if earlier_only else len(times)
        while earlier >= 0 or later < end:
            before = times[earlier] - time if earlier >= 0 else -inf
            after = times[later] - time if later < end else inf
            if -before <= after:
                first = earlier
                while first > 0 and times[first - 1] - time == before:
                    first -= 1
                at, alike, earlier = before, self.candidates[first : earlier + 1], first - 1
            else:
                last = later
                while last + 1 < end and times[last + 1] - time == after:
                    last += 1
                at, alike, later = after, self.candidates[later : last + 1], last + 1
            if len(alike) > 1:
                alike.sort(key=lambda one: one.identity)
            for one in alike:
                yield at / SECONDS_PER_DAY, one
