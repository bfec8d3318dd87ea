"""Which calibration fits which frame: many candidates, found by their values and times."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from tests.cascade.planning.oracle_associate import fitting, nearest_first

from ccdflow.cascade.planning.associate import AssociationRule, Candidates, disagreements, refusal
from ccdflow.cascade.planning.jobs import Group
from ccdflow.cascade.records import FrameRecord

DETECTOR = ("camera", "binning")
RULES = (
    (
        AssociationRule(match=DETECTOR, within="same_night"),
        AssociationRule(level=1, match=DETECTOR, within=7),
    ),
    (
        AssociationRule(match=DETECTOR, equal=("filter",), within=3),
        AssociationRule(level=2, match=("camera",), within="past"),
    ),
    (
        AssociationRule(level=-1, match=DETECTOR, ratio={"exptime": 0.1}),
        AssociationRule(equal=("binning",)),
        AssociationRule(match=("binning",)),
    ),
    (
        AssociationRule(tolerance={"exptime": 10.0}, within="past"),
        AssociationRule(level=3, equal=DETECTOR, match=("camera",)),
    ),
    (),
)


def group(number: int, random: Random) -> Group:
    """A frame with values and a time that few others have, or many."""
    day, hour = random.randint(1, 20), random.choice([18, 20, 22])
    return Group(
        (
            FrameRecord(
                id=number,
                frame_class="dark",
                telescope="T",
                camera=random.choice(["C1", "C1", "C2", ""]),
                instrument="I",
                filter=random.choice(["R", "V", ""]),
                object="",
                exptime=random.choice([30.0, 32.0, 60.0, None]),
                obsdate=f"2026-03-{day:02d}T{hour}:00:00",
                iobs=None,
                nobs=None,
                night=f"2026-03-{day:02d}",
                sha256=f"{random.getrandbits(64):064x}",
                keywords={"binning": random.choice(["1x1", "2x2"])} if random.random() < 0.8 else {},
            ),
        )
    )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("rules", RULES)
def test_the_same_fit_in_the_same_order_as_when_all_are_looked_at(
    rules: tuple[AssociationRule, ...], seed: int
) -> None:
    random = Random(seed)
    everything = [group(number, random) for number in range(random.choice([0, 1, 40, 150]))]
    kept = Candidates(everything)
    for _ in range(10):
        asked = group(1000, random)
        assert list(kept.fitting(rules, asked)) == list(fitting(rules, asked, everything))


@pytest.mark.parametrize("rules", RULES)
def test_the_nearest_that_no_rule_lets_pass_are_named(rules: tuple[AssociationRule, ...]) -> None:
    random = Random(1)
    everything = [group(number, random) for number in range(60)]
    kept = Candidates(everything)
    for _ in range(10):
        asked = group(1000, random)
        refused = [
            one
            for one in nearest_first(asked, everything)
            if rules and all(refusal(by, asked, one) for by in rules)
        ]
        found = kept.nearest_refused(rules, asked)
        # Those of the own detector first; of the nearest ones, those with the least in their way; of these the nearest.
        least = []
        for own in (True, False):
            alike = [one for one in refused if _of_one_detector(asked, one) is own][:30]
            least += sorted(alike, key=lambda one: len(list(_obstacles(rules[-1], asked, one))))
        assert [one.candidate for one in found] == least[:3]
        assert [one.reason for one in found] == [
            "; ".join(_obstacles(rules[-1], asked, one)) for one in least[:3]
        ]


def _of_one_detector(asked: Group, candidate: Group) -> bool:
    names = ("telescope", "camera", "instrument")
    return not list(disagreements(AssociationRule(match=names), asked, candidate))


def _obstacles(rule: AssociationRule, asked: Group, candidate: Group) -> Iterator[str]:
    yield from disagreements(rule, asked, candidate)
    time = refusal(AssociationRule(within=rule.within), asked, candidate)
    if time is not None:
        yield time


def test_of_two_at_the_same_distance_the_earlier_is_taken_and_of_two_at_once_the_smaller_identity() -> None:
    random = Random(2)
    first, *_ = group(1, random).frames
    early, late = (replace(first, obsdate=f"2026-03-{day}T18:00:00", sha256=day * 32) for day in ("10", "12"))
    twin = replace(late, id=3, sha256="0" * 64)
    asked = Group((replace(first, obsdate="2026-03-11T18:00:00"),))
    rules = (AssociationRule(),)
    found = Candidates([Group((one,)) for one in (late, early, twin)]).fitting(rules, asked)
    assert next(iter(found)).candidate.frames == (early,)
    asked = Group((replace(first, obsdate="2026-03-13T18:00:00"),))
    both = [Group((one,)) for one in (late, twin)]
    wanted = min(both, key=lambda one: one.identity)
    assert next(iter(Candidates(both).fitting(rules, asked))).candidate is wanted
