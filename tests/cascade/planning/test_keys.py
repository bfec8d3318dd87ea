"""Names of work: the same for the same work, another one for any other."""

from dataclasses import replace

import pytest
from tests.cascade.planning.test_planner import frame

from ccdflow.cascade.planning.jobs import JobInput, Resolved, digest, frame_identity
from ccdflow.cascade.planning.keys import KeyMaker, detector_digests, main_identity, work_name
from ccdflow.recipes.catalogue import RECIPES

BIAS = RECIPES["bias"]
PARAMETERS = {"sigma": Resolved(3.0, "recipe")}
INPUTS = (
    JobInput("main", "a" * 64, frame=1),
    JobInput("main", "b" * 64, frame=2),
    JobInput("mask", "c" * 64, job="c"),
)
KEY = KeyMaker(BIAS, PARAMETERS).key(INPUTS, ["lab"])


def test_a_key_is_the_digest_of_one_json_object() -> None:
    whole = {
        "detectors": ["lab"],
        "inputs": {"main": ["a" * 64, "b" * 64], "mask": ["c" * 64]},
        "parameters": {"sigma": 3.0},
        "recipe": "bias",
        "version": BIAS.version,
    }
    assert digest(whole) == KEY


@pytest.mark.parametrize(
    "inputs",
    [
        INPUTS[:2],
        (INPUTS[1], INPUTS[0], INPUTS[2]),
        (*INPUTS[:2], replace(INPUTS[2], role="dark")),
        (*INPUTS[:2], replace(INPUTS[2], identity="d" * 64)),
    ],
    ids=["one less", "another order", "another role", "another content"],
)
def test_other_inputs_have_another_key(inputs: tuple[JobInput, ...]) -> None:
    assert KeyMaker(BIAS, PARAMETERS).key(inputs, ["lab"]) != KEY


def test_recipe_version_parameters_and_detectors_are_part_of_a_key() -> None:
    others = [
        KeyMaker(replace(BIAS, version="next"), PARAMETERS),
        KeyMaker(RECIPES["dark"], PARAMETERS),
        KeyMaker(BIAS, {"sigma": Resolved(4.0, "recipe")}),
    ]
    keys = {maker.key(INPUTS, ["lab"]) for maker in others}
    assert len(keys | {KEY, KeyMaker(BIAS, PARAMETERS).key(INPUTS)}) == 5


def test_neither_numbers_of_frames_nor_levels_nor_origins_change_a_key() -> None:
    inputs = [replace(one, frame=99, level=3) for one in INPUTS]
    assert KeyMaker(BIAS, {"sigma": Resolved(3.0, "request")}).key(inputs, ["lab", "lab"]) == KEY


def test_work_goes_by_task_and_main_input_alone() -> None:
    assert main_identity(INPUTS[:2]) == "a" * 64 + "|" + "b" * 64
    assert work_name("bias", INPUTS[:2]) == f"bias of {main_identity(INPUTS[:2])}"


def test_a_row_of_a_catalogue_goes_by_stream_time_and_place() -> None:
    row = frame(1, "bias", "18:00:00", sha256=None, path=None)
    assert frame_identity(row) == frame_identity(replace(row, id=2))
    others = (replace(row, camera="C2"), replace(row, obsdate="2026-03-01T18:00:01"), replace(row, iobs=2))
    assert len({frame_identity(one) for one in (row, *others)}) == 4


def test_the_detectors_of_raw_inputs_are_told_once_each_in_order_of_name() -> None:
    frames = [
        frame(number, "bias", "18:00:00", keywords={"profile": name})
        for number, name in enumerate(("two", "one", "two", "unknown"))
    ]
    digests = {"one": "1", "two": "2", "three": "3"}
    assert detector_digests(digests, frames, INPUTS) == ["1", "2"]
    assert detector_digests(digests, frames, INPUTS[2:]) == []
