"""The other ways to put frames together."""

from collections.abc import Sequence
from dataclasses import replace
from math import cos, radians
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.sequences.clusters import Cluster, clusters
from ccdflow.cascade.sequences.grouping import Grouped, GroupSpec, group_frames


def frame(number: int, **changes: Any) -> FrameRecord:
    record = FrameRecord(
        id=number,
        frame_class="bias",
        telescope="",
        camera="C",
        instrument="I",
        filter="",
        object="",
        exptime=0.0,
        obsdate=f"2026-03-01T{number // 60:02d}:{number % 60:02d}:00",
        iobs=None,
        nobs=None,
        night="2026-03-01",
        sha256=f"{number:064x}",
    )
    return replace(record, **changes)


def at(number: int, ra: float | None, dec: float | None) -> FrameRecord:
    there = {"ra": ra, "dec": dec}
    return frame(number, keywords={name: value for name, value in there.items() if value is not None})


def ids(found: Grouped) -> list[list[int]]:
    return [[one.id for one in part] for part in found.groups]


def spec(**fields: Any) -> GroupSpec:
    return GroupSpec.model_validate(fields)


def by_parity(frames: Sequence[FrameRecord]) -> list[list[FrameRecord]]:
    return [[one for one in reversed(frames) if one.id % 2 == odd] for odd in (1, 0)]


def forgetful(frames: Sequence[FrameRecord]) -> list[list[FrameRecord]]:
    return [list(frames[1:])]


NOT_A_FUNCTION = 3


def test_all_is_one_set_in_order_of_time() -> None:
    assert ids(group_frames([frame(3), frame(1), frame(2)], spec(how="all"))) == [[1, 2, 3]]


def test_each_is_a_set_of_its_own() -> None:
    assert ids(group_frames([frame(3), frame(1)], spec(how="each"))) == [[1], [3]]


def test_nothing_gives_no_sets() -> None:
    assert group_frames([], spec()) == Grouped(())


def test_a_bare_word_is_short_for_how() -> None:
    assert GroupSpec.model_validate("each").how == "each"


def test_frames_with_equal_keywords_are_together_and_a_blank_is_a_value_like_another() -> None:
    frames = [frame(1, filter="R"), frame(2), frame(3, filter="R"), frame(4, telescope="T"), frame(5)]
    assert ids(group_frames(frames, spec(by=["telescope", "filter"]))) == [[1, 3], [2, 5], [4]]


def test_kept_keywords_can_be_grouped_by() -> None:
    frames = [frame(i, keywords={"binning": binning}) for i, binning in enumerate(["1x1", "2x2", "1x1"])]
    assert ids(group_frames(frames, spec(by=["binning"]))) == [[0, 2], [1]]


def test_numbers_within_the_tolerance_are_together() -> None:
    temperatures = [-20.0, -10.0, -19.0, -18.0, None, -17.5, float("nan")]
    frames = [
        frame(i, keywords={} if one is None else {"ccd_temperature": one})
        for i, one in enumerate(temperatures, 1)
    ]
    found = group_frames(frames, spec(by=["ccd_temperature"], tolerance={"ccd_temperature": 2}))
    assert ids(found) == [[1, 3], [2], [4, 6], [5, 7]]


def test_a_number_that_is_none_is_a_blank() -> None:
    frames = [
        frame(i, keywords=cold) for i, cold in enumerate([{"x": float("nan")}, {}, {"x": float("nan")}])
    ]
    assert ids(group_frames(frames, spec(by=["x"]))) == [[0, 1, 2]]


def test_a_difference_as_large_as_the_tolerance_is_allowed() -> None:
    frames = [frame(i, keywords={"focus": focus}) for i, focus in enumerate([4.1, 4.4])]
    assert ids(group_frames(frames, spec(by=["focus"], tolerance={"focus": 0.3}))) == [[0, 1]]


def test_tolerances_are_of_keywords_that_are_grouped_by() -> None:
    with pytest.raises(ValidationError, match="tolerance of 'airmass', which is not in by: filter"):
        spec(by=["filter"], tolerance={"airmass": 1})


def test_too_small_sets_are_left_out_with_the_reason() -> None:
    frames = [frame(i, filter="R" if i < 3 else "V") for i in range(8)]
    found = group_frames(frames, spec(by=["filter"], min_size=5))
    assert ids(found) == [[3, 4, 5, 6, 7]]
    (left,) = found.left_out
    assert [one.id for one in left.frames] == [0, 1, 2]
    assert left.reason == "3 bias (R), at least 5 wanted"


def test_too_large_sets_are_cut_in_order_of_time() -> None:
    found = group_frames([frame(i) for i in reversed(range(7))], spec(max_size=3, min_size=2))
    assert ids(found) == [[0, 1, 2], [3, 4, 5]]
    assert [one.reason for one in found.left_out] == ["1 bias (in all), at least 2 wanted"]


def test_a_function_parts_the_frames_of_each_set() -> None:
    frames = [frame(i, filter="RV"[i // 4]) for i in range(8)]
    found = group_frames(frames, spec(by=["filter"], function=f"{__name__}.by_parity"))
    assert ids(found) == [[0, 2], [1, 3], [4, 6], [5, 7]]


def test_a_function_may_give_empty_parts() -> None:
    found = group_frames([frame(2), frame(4)], spec(function=f"{__name__}.by_parity"))
    assert ids(found) == [[2, 4]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("forgetful", "each of 3 frames into exactly one set, it left out 1 and put in 0 too many"),
        ("missing", "can't be imported: .*has no attribute 'missing'"),
        ("NOT_A_FUNCTION", "is no function but int"),
    ],
)
def test_a_function_that_does_not_work_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        group_frames([frame(1), frame(2), frame(3)], spec(function=f"{__name__}.{name}"))


def test_a_function_of_no_module_is_refused() -> None:
    with pytest.raises(ValueError, match="'nothing' can't be imported"):
        group_frames([frame(1)], spec(function="nothing"))


# --- clusters ----------------------------------------------------------------------------------------


def near(separation: float, diameter: float | None = None, on: str = "position") -> Cluster:
    return Cluster.model_validate({"on": on, "max_separation": separation, "max_diameter": diameter})


def parts(frames: list[FrameRecord], by: Cluster) -> list[list[int]]:
    return [[one.id for one in part] for part in clusters(frames, by)]


def test_a_frame_between_two_others_joins_them() -> None:
    frames = [at(1, 10.0, 0.0), at(2, 10.4, 0.0), at(3, 10.2, 0.0), at(4, 20.0, 0.0)]
    assert parts(frames, near(0.25)) == [[1, 2, 3], [4]]


def test_no_cluster_grows_wider_than_its_diameter() -> None:
    frames = [at(i, 10 + 0.1 * i + 0.001 * i**2, 0.0) for i in range(6)]
    assert parts(frames, near(0.2, 0.205)) == [[0, 1, 2], [3, 4], [5]]


def test_the_closest_are_joined_first() -> None:
    assert parts([at(1, 10.0, 0.0), at(2, 10.2, 0.0), at(3, 10.3, 0.0)], near(0.25, 0.25)) == [[1], [2, 3]]


def test_all_members_of_two_clusters_count_for_their_diameter() -> None:
    frames = [at(1, 10.0, 0.0), at(2, 10.1, 0.0), at(3, 10.22, 0.0), at(4, 10.31, 0.0)]
    assert parts(frames, near(0.2, 0.25)) == [[1, 2], [3, 4]]


def test_clusters_are_in_order_of_time_whatever_order_frames_come_in() -> None:
    frames = [at(1, 10.0, 0.0), at(2, 50.0, 0.0), at(3, 10.0, 0.1), at(4, 50.0, 0.1)]
    assert parts(frames[::-1], near(0.2)) == [[1, 3], [2, 4]]


def test_frames_near_in_declination_are_found() -> None:
    assert parts([at(1, 10.0, 0.0), at(2, 10.0, 0.99)], near(1)) == [[1, 2]]
    assert parts([at(1, 10.0, 0.0), at(2, 10.0, 1.01)], near(1)) == [[1], [2]]


def test_distances_are_those_on_the_sky() -> None:
    side = 0.1 / cos(radians(80))
    assert parts([at(1, 10.0, 80.0), at(2, 10 + 0.99 * side, 80.0)], near(0.1)) == [[1, 2]]
    assert parts([at(1, 10.0, 80.0), at(2, 10 + 1.01 * side, 80.0)], near(0.1)) == [[1], [2]]
    assert parts([at(1, 359.99, 0.0), at(2, 0.01, 0.0)], near(0.03)) == [[1, 2]]
    assert parts([at(1, 0.0, 89.99), at(2, 180.0, 89.99)], near(0.03)) == [[1, 2]]
    assert parts([at(1, 0.0, 0.0), at(2, 180.0, 0.0)], near(179.0)) == [[1], [2]]


def test_a_distance_as_large_as_allowed_is_allowed() -> None:
    assert parts([at(1, 10.3, 0.0), at(2, 10.6, 0.0)], near(0.3)) == [[1, 2]]
    assert parts([at(1, 10.3, 0.0), at(2, 10.6, 0.0)], near(1, 0.3)) == [[1, 2]]


def test_a_frame_without_position_is_alone() -> None:
    assert parts([at(1, 10.0, 0.0), at(2, None, None), at(3, 10.0, None), at(4, 10.0, 0.0)], near(1)) == [
        [1, 4],
        [2],
        [3],
    ]


def test_times_cluster_where_gaps_are() -> None:
    minutes = [0, 10, 20, 60, 70, 200]
    frames = [frame(one) for one in minutes]
    assert parts(frames, near(15 / 1440, on="time")) == [[0, 10, 20], [60, 70], [200]]
    assert parts(frames, near(15 / 1440, 15 / 1440, on="time")) == [[0, 10], [20], [60, 70], [200]]


def test_clusters_part_what_keywords_have_put_together() -> None:
    frames = [replace(at(i, 10.0 + (i % 2) * 5, 0.0), filter="RV"[i // 4]) for i in range(8)]
    found = group_frames(
        frames, spec(by=["filter"], cluster={"on": "position", "max_separation": 1, "max_diameter": 1})
    )
    assert ids(found) == [[0, 2], [1, 3], [4, 6], [5, 7]]


# --- properties --------------------------------------------------------------------------------------

frames_of_a_night = st.lists(
    st.tuples(
        st.sampled_from(["", "R", "V"]), st.integers(0, 20), st.sampled_from([-20.0, -19.0, -15.0, None])
    ),
    max_size=20,
).map(
    lambda rows: [
        replace(
            at(i, ra * 0.1, ra * 0.05),
            filter=band,
            keywords={"ra": ra * 0.1, "dec": ra * 0.05} | ({} if cold is None else {"ccd_temperature": cold}),
        )
        for i, (band, ra, cold) in enumerate(rows)
    ]
)

specs = st.builds(
    GroupSpec,
    how=st.sampled_from(["all", "each"]),
    by=st.sampled_from([("filter", "ccd_temperature"), ("ccd_temperature",)]),
    tolerance=st.sampled_from([{}, {"ccd_temperature": 1.5}]),
    cluster=st.sampled_from([None, near(0.15), near(0.3, 0.5), near(0.01, 0.05, on="time")]),
    min_size=st.integers(1, 3),
    max_size=st.sampled_from([None, 1, 4]),
)


@settings(max_examples=200, deadline=None)
@given(frames_of_a_night, specs, st.randoms(use_true_random=False))
def test_order_of_input_does_not_matter_and_no_frame_is_lost(
    frames: list[FrameRecord], how: GroupSpec, random: Random
) -> None:
    found = group_frames(frames, how)
    members = [
        *(one for part in found.groups for one in part),
        *(one for left in found.left_out for one in left.frames),
    ]
    assert sorted(one.id for one in members) == [one.id for one in frames]
    assert group_frames(random.sample(frames, len(frames)), how) == found


@settings(max_examples=100, deadline=None)
@given(frames_of_a_night)
def test_without_a_diameter_clusters_are_what_chains_of_near_frames_connect(
    frames: list[FrameRecord],
) -> None:
    places = sorted({round(float(one.keywords["ra"]) * 10) for one in frames})
    # Steps of ra and dec are 0.1 and 0.05 degrees, 0.11 apart: next neighbors are near, others are not.
    chains: list[set[int]] = []
    for one in places:
        if chains and one - 1 in chains[-1]:
            chains[-1].add(one)
        else:
            chains.append({one})
    found = [{round(float(one.keywords["ra"]) * 10) for one in part} for part in clusters(frames, near(0.15))]
    assert sorted(found, key=min) == chains
