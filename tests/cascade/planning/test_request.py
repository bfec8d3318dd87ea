"""What is asked for: which frames a request selects, and when it closes sequences."""

from math import inf
from typing import Any

import pytest
from tests.cascade.planning.test_planner import frame

from ccdflow.cascade.planning.request import Request

EVENING = frame(1, "science", "20:00:00")
"""At 20:00 on 2026-03-01, camera C1 of telescope T1."""


@pytest.mark.parametrize(
    ("limits", "selected"),
    [
        ({}, True),
        ({"night": "2026-03-01"}, True),
        ({"night": "2026-03-02"}, False),
        ({"since": "2026-03-01T20:00:00"}, True),
        ({"since": "2026-03-01T20:00:01"}, False),
        ({"until": "2026-03-01T20:00:00"}, True),
        ({"until": "2026-03-01T19:59:59"}, False),
        ({"camera": "C1"}, True),
        ({"camera": "T1/C1"}, True),
        ({"camera": "T2/C1"}, False),
        ({"camera": "C1", "night": "2026-03-02"}, False),
        ({"frames": [1, 2]}, True),
        ({"frames": []}, False),
        ({"frames": [1], "night": "2026-03-02"}, False),
    ],
)
def test_a_frame_is_selected_where_it_lies_within_all_limits(limits: dict[str, Any], selected: bool) -> None:
    assert Request(**limits).selects(EVENING) == selected


def test_without_a_time_every_sequence_is_closed() -> None:
    assert Request().clock == inf
    assert Request(now="1970-01-02T00:00:00").clock == 86400.0
