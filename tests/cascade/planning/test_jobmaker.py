"""Jobs on raw frames and on products, and what can't be had of them."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from tests.cascade.planning.test_framegroups import ids
from tests.cascade.planning.test_planner import night
from tests.cascade.specification.test_cascade import cascade

from ccdflow.cascade.planning.framegroups import FrameGroups
from ccdflow.cascade.planning.jobmaker import WAITS, JobMaker
from ccdflow.cascade.planning.jobs import Group
from ccdflow.cascade.planning.keys import work_name
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.planning.resolved import ResolvedCascade
from ccdflow.cascade.records import FrameRecord
from ccdflow.recipes.catalogue import RECIPES


class House:
    """A maker of jobs with its groups and notes."""

    def __init__(
        self,
        frames: list[FrameRecord] | None = None,
        changes: dict[str, Any] | None = None,
        failed: Collection[str] = (),
        **known: Any,
    ) -> None:
        self.notes: list[str] = []
        told = Known(cascade(changes or {}), RECIPES, night() if frames is None else frames, **known)
        resolved = ResolvedCascade(told, Request())
        self.groups = FrameGroups(resolved, told.frames, Request(), self.notes)
        self.maker = JobMaker(told, Request(), failed, self.groups, self.notes)

    def group(self, source: str) -> Group:
        return self.groups.raw_groups(source)[0]


def test_a_job_takes_its_frames_and_the_products_of_jobs_that_were_made_for_it() -> None:
    house = House()
    job = house.maker.on_frames("dark", house.group("raw_dark"))
    assert [one.frame for one in job.main] == [4, 5, 6]
    (bias,) = job.associated
    assert bias.role == "bias" and house.maker.by_key[bias.job or ""].step == "bias"


def test_a_job_on_raw_frames_is_made_once() -> None:
    house = House()
    group = house.group("raw_bias")
    assert house.maker.on_frames("bias", group) is house.maker.on_frames("bias", Group(group.frames))


def test_a_job_is_new_reused_or_incomplete() -> None:
    assert (job := House().maker.on_frames("bias", House().group("raw_bias"))).state == "new"
    assert House(done={job.key}).maker.on_frames("bias", House().group("raw_bias")).state == "reused"
    rows = House([replace(one, path=None) for one in night()])
    catalogued = rows.maker.on_frames("bias", rows.group("raw_bias"))
    assert (catalogued.state, catalogued.reason) == ("incomplete", "no file, only a row of a catalogue")


def test_an_incomplete_job_gets_another_key_once_what_is_missing_has_come() -> None:
    frames = night()
    without = House([one for one in frames if one.frame_class != "bias"])
    job = without.maker.on_frames("dark", without.group("raw_dark"))
    house = House(frames)
    assert job.state == "incomplete" and [one.input for one in job.missing] == ["bias"]
    assert house.maker.on_frames("dark", house.group("raw_dark")).key != job.key


def test_a_job_on_products_takes_those_of_its_members_in_order() -> None:
    house = House()
    members = house.maker.members("stack", [12, 10])
    job = house.maker.on_products("stack", members)
    assert list(members) == [12, 10]
    assert [one.job for one in job.main] == [one.key for one in members.values()]
    assert ids(job.group) == [12, 10]


def test_a_job_on_products_waits_for_members_that_are_incomplete() -> None:
    frames = [replace(one, path=None) if one.id == 11 else one for one in night()]
    house = House(frames)
    job = house.maker.on_products("stack", house.maker.members("stack", [10, 11, 12]))
    assert (job.state, job.reason) == ("incomplete", "f11 has no file yet")
    assert len(job.main) == 2 and ids(job.group) == [10, 12]
    # One whose calibrations are rows has a job of its own, which tells why.
    lacking = House([replace(one, path=None) if one.frame_class == "bias" else one for one in night()])
    assert lacking.maker.on_products("stack", lacking.maker.members("stack", [10])).reason == f"f10 {WAITS}"


def test_frames_of_which_nothing_is_made_have_no_job() -> None:
    house = House(changes={"tasks.science.condition": "iobs != 2"})
    assert list(house.maker.members("stack", [10, 11, 12])) == [10, 12]


def test_the_worst_level_is_that_of_the_whole_chain() -> None:
    frames = [
        replace(one, night="2026-02-27", obsdate=one.obsdate.replace("2026-03-01", "2026-02-27"))
        if one.frame_class == "bias"
        else one
        for one in night()
    ]
    bias = {"source": "bias", "min": 0, "rules": []}
    house = House(
        frames, {"tasks.science.inputs.bias": bias, "tasks.science.inputs.dark": {"source": "dark"}}
    )
    job = house.maker.on_frames("science", house.group("raw_science"))
    assert (job.level, job.worst_level) == (0, 1)


def test_a_candidate_is_taken_as_the_product_of_its_job_or_as_its_raw_frames() -> None:
    house = House()
    biases = house.group("raw_bias")
    ((product,), _) = house.maker.as_inputs("bias", "bias", "", biases)
    assert product.job == house.maker.on_frames("bias", biases).key == product.identity
    raw, reason = house.maker.as_inputs("bias", "raw_bias", "", biases)
    assert [one.frame for one in raw] == [1, 2, 3] and reason == ""


def test_what_has_failed_is_banned_or_lacks_something_can_not_be_taken_and_says_why() -> None:
    biases = House().group("raw_bias")
    job = House().maker.on_frames("bias", biases)
    rows = [replace(one, path=None) for one in night()]
    houses = {
        "failed": House(failed={job.key}),
        "banned": House(banned={job.key}),
        "no file, only a row of a catalogue": House(rows),
    }
    for reason, house in houses.items():
        assert house.maker.as_inputs("bias", "bias", "", house.group("raw_bias")) == ([], reason)


def test_a_ban_holds_whatever_the_parameters() -> None:
    job = House().maker.on_frames("bias", House().group("raw_bias"))
    house = House(changes={"tasks.bias.parameters": {"sigma": 4.5}}, banned={work_name("bias", job.main)})
    other = house.maker.on_frames("bias", house.group("raw_bias"))
    assert other.key != job.key and house.maker.is_lost(other)


def test_a_condition_that_does_not_hold_is_noted() -> None:
    house = House(changes={"tasks.bias.condition": "count > 5"})
    taken = house.maker.as_inputs("bias", "bias", "", house.group("raw_bias"))
    assert taken == ([], "count > 5 does not hold")
    assert house.notes == ["bias: no job for bias f1..f3 of 2026-03-01, since count > 5 does not hold"]
