"""The plain statement of which candidates fit: a look at each of them, for the tests of the quicker way."""

from collections.abc import Iterable, Sequence

from ccdflow.cascade.planning.associate import AssociationRule, Barrier, C, Candidate, Match, refusal


def nearest_first(reference: Candidate, candidates: Iterable[C]) -> list[C]:
    """Sort candidates by distance in time.

    Parameters
    ----------
    reference : Candidate
        What a calibration is looked for.
    candidates : iterable of Candidate
        In any order.

    Returns
    -------
    list of Candidate
        Of two at equal distance the earlier one first, then the one of the smaller identity: a total order, so that
        the same candidates in any order give the same plan.
    """

    def key(candidate: C) -> tuple[float, bool, str]:
        distance = candidate.time - reference.time
        return abs(distance), distance > 0, candidate.identity

    return sorted(candidates, key=key)


def fitting(
    rules: Sequence[AssociationRule],
    reference: Candidate,
    candidates: Sequence[C],
    barriers: Sequence[Barrier] = (),
) -> Iterable[Match[C]]:
    """Find the candidates that fit `reference` by looking at each of them.

    It is the plain statement of what `Candidates.fitting` gives with less work.

    Parameters
    ----------
    rules : sequence of AssociationRule
        Tried in order.
    reference : Candidate
        What a calibration is looked for.
    candidates : sequence of Candidate
        In any order.
    barriers : sequence of Barrier, optional
        What happened to the instruments.

    Yields
    ------
    Match
        Best first: by rule in order, then by distance in time. Each candidate once, with the level of the first rule
        that it passes.
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
