"""Which calibration fits which frame: rules tried in order, the closest in time wins."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ccdflow.cascade.records import Value

SECONDS_PER_DAY = 86400.0
SHOWN_NEAREST = 3


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
    within: Literal["same_night", "past", "unlimited"] | float = "unlimited"
    """The same night, only earlier, any time, or at most this many days before or after."""


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


def refusal(rule: Rule, reference: Candidate, candidate: Candidate) -> str | None:
    """Why `candidate` fails `rule` for `reference`, in a few words; None where it passes."""
    for keyword in rule.match + rule.equal:
        wanted, found = reference.value(keyword), candidate.value(keyword)
        blank = wanted is None or found is None
        if wanted != found and not (blank and keyword in rule.match):
            return f"{keyword} is {_shown(found)}, wanted {_shown(wanted)}"
    return _number_refusal(rule, reference, candidate) or _time_refusal(rule, reference, candidate)


def _number_refusal(rule: Rule, reference: Candidate, candidate: Candidate) -> str | None:
    for keyword, allowed in (rule.tolerance | rule.ratio).items():
        wanted, found = reference.value(keyword), candidate.value(keyword)
        if wanted is None or found is None:
            continue
        limit = allowed * abs(float(wanted)) if keyword in rule.ratio else allowed
        if abs(float(found) - float(wanted)) > limit:
            return f"{keyword} is {_shown(found)}, wanted {_shown(wanted)} within {limit:g}"
    return None


def _time_refusal(rule: Rule, reference: Candidate, candidate: Candidate) -> str | None:
    if rule.within == "unlimited":
        return None
    if rule.within == "same_night":
        wanted, found = reference.value("night"), candidate.value("night")
        return None if wanted == found else f"night is {_shown(found)}, wanted {_shown(wanted)}"
    days = (candidate.time - reference.time) / SECONDS_PER_DAY
    if rule.within == "past":
        return None if days <= 0 else f"taken {days:.1f} days later, wanted earlier"
    return None if abs(days) <= rule.within else f"{abs(days):.1f} days away, wanted within {rule.within:g}"


def _shown(value: Value | None) -> str:
    return "blank" if value is None else str(value)


def nearest_first(reference: Candidate, candidates: Iterable[C]) -> list[C]:
    """Candidates by distance in time; of two at equal distance the earlier, then the smaller identity."""

    def key(candidate: C) -> tuple[float, bool, str]:
        dt = candidate.time - reference.time
        return abs(dt), dt > 0, candidate.identity

    return sorted(candidates, key=key)


def fitting(rules: Sequence[Rule], reference: Candidate, candidates: Sequence[C]) -> Iterable[Match[C]]:
    """Candidates that fit `reference`, best first: by rule in order, then by distance in time.

    A candidate is given once, with the level of the first rule that it passes.
    """
    left = list(candidates)
    for rule in rules:
        passed: list[C] = []
        rest: list[C] = []
        for candidate in left:
            (passed if refusal(rule, reference, candidate) is None else rest).append(candidate)
        for candidate in nearest_first(reference, passed):
            yield Match(candidate, rule.level)
        left = rest


def nearest_refused(rules: Sequence[Rule], reference: Candidate, candidates: Sequence[C]) -> list[Refusal[C]]:
    """The nearest candidates that no rule lets pass, each with the test of the last rule that it failed.

    The last rule is the most generous one, so its test is what stands between the candidate and a match.
    """
    refused: list[Refusal[C]] = []
    for candidate in nearest_first(reference, candidates):
        reasons = [refusal(rule, reference, candidate) for rule in rules]
        if rules and all(reasons):
            refused.append(Refusal(candidate, str(reasons[-1])))
        if len(refused) == SHOWN_NEAREST:
            break
    return refused
