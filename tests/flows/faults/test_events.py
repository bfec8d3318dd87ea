"""Events are dropped, doubled, delayed and reordered; bridges die; many do the same at once."""

import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.flows.conftest import Bench
from tests.flows.faults.conftest import ONE_IS_QUICK, Case, NewNight, add_the_whole_night
from tests.flows.faults.dying import BRIDGE
from tests.flows.faults.machinery import (
    AGE,
    Manifest,
    bridge,
    drain,
    eventually,
    everything_was_told,
    frames,
    insert,
    inserter,
    reached,
    told,
    whole,
)

from ccdflow.flows.live import live, sweep
from ccdflow.tasks.bridge import WAKE, Bridge, to_server


class Faulty:
    """A sender that drops, doubles, delays and reorders events; a call that comes through starts a drain."""

    def __init__(self, night: Bench, seed: int) -> None:
        self.night, self.chance = night, random.Random(seed)
        self.late: list[dict[str, Any]] = []
        self.wakes = self.dropped = 0

    def __call__(self, events: Sequence[dict[str, Any]]) -> None:
        now = [*events, *self.late]
        self.late.clear()
        passed = []
        for one in now:
            fate = self.chance.choice(("dropped", "doubled", "delayed", "plain"))
            self.dropped += fate == "dropped"
            self.late += [one] if fate == "delayed" else []
            passed += {"doubled": [one, one], "plain": [one]}.get(fate, [])
        self.chance.shuffle(passed)
        if passed:
            to_server(passed)
        for _ in [one for one in passed if one["event"] == WAKE]:
            self.wakes += 1
            assert live(str(self.night.project), linger=0.0, max_age_days=AGE) == {}


@pytest.mark.parametrize("seed", [1, *(pytest.param(one, marks=pytest.mark.torture) for one in range(2, 8))])
def test_whatever_events_do_the_sweep_puts_it_right(
    night: Bench, database: str, undisturbed: Manifest, case: Callable[..., Case], seed: int
) -> None:
    _, *others = night.frames("science")
    send = Faulty(night, seed)
    row = case("events dropped, doubled, delayed, reordered", f"seed {seed}", database)
    for batch in ([path for path in frames(night) if path not in others], *([path] for path in others)):
        insert(night, batch)
        Bridge(night.space, send).look()
    row.begin()
    assert sweep(str(night.project), max_age_days=AGE) == {}
    seen = whole(night, undisturbed)
    names = told(night, "ccdflow.frame.registered")
    assert len(names) == len(set(names))
    row.end(f"{seen}; {send.dropped} events dropped, {send.wakes} drains called")


@pytest.mark.torture
@ONE_IS_QUICK
def test_a_bridge_that_dies_before_or_after_sending_tells_everything_once(
    night: Bench, database: str, case: Callable[..., Case]
) -> None:
    row = case("kill -9 of the bridge", ", ".join(BRIDGE), database)
    for moment, path in zip(BRIDGE, frames(night), strict=False):
        insert(night, [path])
        process = drain(night, moment).start()
        assert process.wait() == -signal.SIGKILL, process.said
    insert(night, frames(night)[len(BRIDGE) : len(BRIDGE) + 2])
    row.begin()
    last = bridge(night).start()
    eventually(lambda: everything_was_told(night), "each event once at the server", last)
    last.end()
    row.end("each event once at the server")


@pytest.mark.torture
def test_two_bridges_two_drains_and_four_telescopes_at_once(
    new_night: NewNight,
    raw_frames: Path,
    database: str,
    undisturbed_night: Manifest,
    case: Callable[..., Case],
) -> None:
    night = add_the_whole_night(new_night(database), raw_frames)
    row = case("two bridges, two drains, four inserters", "at once", database)
    science = night.frames("science")
    insert(night, [path for path in frames(night) if path not in science])
    bridges = [bridge(night).start(), bridge(night).start()]
    telescopes = [
        inserter(night, science[number::4], 0.1, f"telescope{number}").start() for number in range(4)
    ]
    drains = [drain(night, linger=8.0).start(), drain(night, linger=8.0, camera="SIM1/CAM1").start()]
    for telescope in telescopes:
        assert telescope.wait() == 0, telescope.said
    eventually(lambda: reached(night, undisturbed_night), "all products", *bridges)
    row.recovered()
    for one in drains:
        assert one.wait() == 0 and one.said.endswith("{}\n"), one.said
    eventually(lambda: everything_was_told(night), "each event once at the server", *bridges)
    for each in bridges:
        each.end()
    row.end(whole(night, undisturbed_night))
