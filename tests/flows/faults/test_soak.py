"""A day in time-lapse, shortened: memory, handles, events, records and the registry while frames come and come."""

from collections.abc import Callable
from pathlib import Path

import pytest
from bench.soak import Look, judged, soak
from tests.flows.faults.conftest import Case

FRAMES = 4000


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_nothing_grows_while_frames_come(tmp_path: Path, database: str, case: Callable[..., Case]) -> None:
    row = case(f"{FRAMES} frames in time-lapse", "nothing dies", database)
    seen = soak(tmp_path, FRAMES, database)
    assert seen.problems == []
    last = seen.looks[-1]
    row.end(f"{last.done} jobs, {last.records} records, {last.events} events, {seen.drains} drains")


def _looks(**late: int) -> list[Look]:
    """A hundred looks at a day of 1000 frames; what is named has another value in the last fifth of it."""
    looks = []
    for number in range(100):
        values = {
            "drain": 100,
            "bridge": 50,
            "worker": 80,
            "events": 900,
            "waiting": 0,
            "records": number * 12,
        }
        values |= {"registry": 5000 + 400 * number} | (late if number >= 80 else {})
        memory = {name: values[name] for name in ("drain", "bridge", "worker")}
        counts = {"frames": number * 10 + 10, "calibrated": number * 10 + 10, "done": number * 12}
        kept = {"registry": values["registry"], "events": values["events"], "records": values["records"]}
        looks.append(
            Look(
                float(number), memory=memory, handles=memory, undelivered=values["waiting"], **counts, **kept
            )
        )
    return looks


def test_a_day_in_which_nothing_grows_but_the_registry_is_as_wanted() -> None:
    assert judged(_looks(drain=109), 1000) == []


@pytest.mark.parametrize(
    ("late", "said"),
    [
        ({"bridge": 56}, "memory of the bridge grew 1.12 times"),
        ({"worker": 120}, "open files of the worker grew 1.50 times"),
        ({"events": 900_000}, "900000 delivered events were kept"),
        ({"waiting": 7}, "7 events were not delivered"),
        ({"records": 1189}, "1189 records of 1188 jobs"),
        ({"registry": 90_000}, "a frame of the second half took 5.54"),
    ],
)
def test_what_grows_is_told(late: dict[str, int], said: str) -> None:
    assert said in "; ".join(judged(_looks(**late), 1000))
