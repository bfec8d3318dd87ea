"""What associated inputs are chosen from."""

from typing import Any

from tests.cascade.planning.test_framegroups import groups_of, ids, sequence
from tests.cascade.planning.test_planner import frame, night
from tests.cascade.specification.test_cascade import like, master

from ccdflow.cascade.planning.supply import CandidateSupply
from ccdflow.cascade.records import FrameRecord


def supply(frames: list[FrameRecord], changes: dict[str, Any] | None = None) -> CandidateSupply:
    return CandidateSupply(groups_of(frames, changes)[0], ())


def test_a_source_a_task_and_a_relay_have_their_groups_as_candidates() -> None:
    relay = {"tasks.slow": {"main": "bias", "stage": "calibrate", "condition": "readout_mode == 'slow'"}}
    fast = [
        frame(30 + i, "bias", f"17:0{i}:00", keywords={"readout_mode": "fast"}, night="2026-02-28")
        for i in range(2)
    ]
    here = supply([*night(), *fast], relay)
    assert sorted(ids(one) for one in here.sets_of("raw_bias").all) == [[1, 2, 3], [30, 31]]
    assert sorted(ids(one) for one in here.sets_of("bias").all) == [[1, 2, 3], [30, 31]]
    assert [ids(one) for one in here.sets_of("slow").all] == [[1, 2, 3]]


def test_a_task_on_products_has_a_candidate_for_each_product() -> None:
    found = supply(sequence("R", "R", "V", "V")).sets_of("stack").all
    assert [ids(one) for one in found] == [[1, 2], [3, 4]]


def test_candidates_for_which_a_condition_does_not_hold_are_there_to_be_named() -> None:
    here = supply(night(), {"tasks.bias.condition": "count > 5"})
    assert [ids(one) for one in here.sets_of("bias").all] == [[1, 2, 3]]


def test_finished_masters_are_those_of_the_category_that_are_not_refused() -> None:
    refused = frame(52, "bias", "17:10:00", refused="truncated")
    flat = like(51, "flat", "17:05:00", "master_flat")
    here = supply([*night(), master(50), flat, refused])
    assert [ids(one) for one in here.masters_of("bias", "").all] == [[50]]
    assert [ids(one) for one in here.masters_of("bias", "master_bias").all] == [[50]]
    assert [ids(one) for one in here.masters_of("flat", "").all] == [[51]]


def test_raw_frames_are_never_finished_products_of_a_task() -> None:
    here = supply(night())
    assert len(here.masters_of("science", "")) == 0
    assert len(here.masters_of("raw_bias", "")) == 0


def test_each_collection_is_made_once() -> None:
    here = supply(night())
    assert here.sets_of("bias") is here.sets_of("bias")
    assert here.masters_of("bias", "") is here.masters_of("bias", "")
