"""The order in which jobs run, and how many at once."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccdflow.cascade.planning.jobqueue import (
    JobQueue,
    Needs,
    Order,
    first_jobs,
    newest_first,
    parse_memory,
    urgent_jobs,
)
from ccdflow.cascade.planning.jobs import Group, Job, JobInput
from ccdflow.cascade.records import FrameRecord

FRAME = FrameRecord(1, "bias", "T", "C", "I", "", "", 0.0, "2026-03-01T20:00:00", None, None, "2026-03-01")
ORDERS: tuple[Order, ...] = ("depth", "breadth", "type", "dynamic")


def job(key: str, step: str, *parents: str) -> Job:
    inputs = tuple(JobInput("main", one, job=one) for one in parents)
    return Job(key, step, "science", step, "1", "new", Group((FRAME,)), inputs)


# Two data sets: a bias and a flat each, two science frames each, one stack each.
NIGHT = [
    *(job("b1", "bias"), job("f1", "flat", "b1"), job("s1", "science", "f1"), job("s2", "science", "f1")),
    *(job("t1", "stack", "s1", "s2"), job("b2", "bias"), job("f2", "flat", "b2"), job("s3", "science", "f2")),
    *(job("s4", "science", "f2"), job("t2", "stack", "s3", "s4")),
]


def run(queue: JobQueue, failing: Sequence[str] = ()) -> tuple[list[str], int]:
    """Keys in the order in which jobs began, and how many ran at once at the most; the oldest ends first."""
    begun: list[str] = []
    running: list[str] = []
    most = 0
    while True:
        while (found := queue.take()) is not None:
            begun.append(found.key)
            running.append(found.key)
        assert queue.running == len(running)
        most = max(most, len(running))
        if not running:
            return begun, most
        key = running.pop(0)
        queue.finish(key, done=key not in failing)


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        ("depth", "b1 f1 s1 s2 t1 b2 f2 s3 s4 t2"),
        ("breadth", "b1 b2 f1 f2 s1 s2 s3 s4 t1 t2"),
        ("type", "b1 b2 f1 f2 s1 s2 s3 s4 t1 t2"),
        ("dynamic", "b1 b2 f1 f2 s1 s2 s3 s4 t1 t2"),
    ],
)
def test_order_on_one_core(order: Order, wanted: str) -> None:
    assert run(JobQueue(NIGHT, order)) == (wanted.split(), 1)


def test_by_level_is_not_by_type() -> None:
    jobs = [job("b", "bias"), job("f", "flat", "b"), job("s", "science", "f"), job("r", "science")]
    assert run(JobQueue(jobs, "breadth"))[0] == ["b", "r", "f", "s"]
    assert run(JobQueue(jobs, "type"))[0] == ["b", "f", "s", "r"]


def test_what_depends_on_a_failure_is_left_and_the_rest_goes_on() -> None:
    for order in ORDERS:
        assert sorted(run(JobQueue(NIGHT, order), ["f1"])[0]) == ["b1", "b2", "f1", "f2", "s3", "s4", "t2"]


def test_jobs_wait_for_memory_and_only_dynamic_lets_others_overtake() -> None:
    jobs = [job("t1", "stack"), job("t2", "stack"), job("b", "bias")]
    needs = {"stack": Needs(1, 6)}
    machine = Needs(4, 10)
    for order, first in (("depth", ["t1"]), ("dynamic", ["t1", "b"])):
        queue = JobQueue(jobs, order, machine, needs)
        begun = []
        while (found := queue.take()) is not None:
            begun.append(found.key)
        assert begun == first


def test_a_job_larger_than_the_machine_runs_alone() -> None:
    jobs = [job("b1", "bias"), job("t", "stack"), job("b2", "bias")]
    for order in ORDERS:
        begun, most = run(JobQueue(jobs, order, Needs(2, 10), {"stack": Needs(99, 99), "bias": Needs(1, 1)}))
        assert sorted(begun) == ["b1", "b2", "t"] and most <= 2


def test_jobs_are_handed_out_ahead_only_where_no_step_says_what_it_needs() -> None:
    jobs = [job(f"b{number}", "bias") for number in range(9)]
    assert run(JobQueue(jobs, "depth", Needs(2), ahead=3))[1] == 6
    assert run(JobQueue(jobs, "depth", Needs(2), {"bias": Needs(1)}, ahead=3))[1] == 2


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 30), max_size=3)), max_size=25),
    st.sampled_from(ORDERS),
    st.integers(1, 4),
    st.dictionaries(st.sampled_from("abc"), st.builds(Needs, st.integers(1, 5), st.integers(0, 9))),
    st.randoms(use_true_random=False),
)
def test_every_job_runs_once_after_its_parents_within_the_machine(drawn, order, cores, needs, random) -> None:
    jobs: list[Job] = []
    for number, (step, parents) in enumerate(drawn):
        some = {f"{one:02d}" for one in parents if one < number}
        jobs.append(job(f"{number:02d}", step, *sorted(some)))
    by_key = {one.key: one for one in jobs}
    queue, ended, running = JobQueue(jobs, order, Needs(cores, 8), needs), set(), []
    while len(ended) < len(jobs):
        while (found := queue.take()) is not None:
            assert set(found.parents) <= ended and found.key not in running
            running.append(found.key)
        assert running
        wanted = [needs.get(by_key[key].step, Needs()) for key in running]
        if len(running) > 1:
            assert (
                sum(one.cores for one in wanted) <= cores and sum(min(one.memory, 8) for one in wanted) <= 8
            )
        key = running.pop(random.randrange(len(running)))
        ended.add(key)
        queue.finish(key, done=True)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2 GB", 2 * 10**9),
        ("1.5G", 1.5 * 10**9),
        ("512 mb", 512 * 10**6),
        ("1000", 1000),
        (7, 7),
        ("3kB", 3000),
    ],
)
def test_memory_is_read(text: str | int, size: float) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "much", "GB", "2 GX", "-1 GB"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form '2 GB'"):
        parse_memory(text)


def observed(*objects: str) -> list[Job]:
    """A bias of all, and for each object a flat, a science frame and a stack."""
    jobs = [job("b", "bias")]
    for number, name in enumerate(objects):
        group = Group((replace(FRAME, object=name),))
        flat = replace(job(f"f{number}", "flat", "b"), stage="calibrate", group=group)
        science = replace(job(f"s{number}", "science", f"f{number}"), group=group)
        jobs += [flat, science, replace(job(f"t{number}", "stack", f"s{number}"), group=group)]
    return jobs


def test_urgent_objects_overtake_with_all_that_they_need() -> None:
    jobs = observed("Field1", "GRB 260301A", "Field2")
    urgent = urgent_jobs(jobs, ["GRB*", "GW*"])
    assert urgent == {"b", "f1", "s1", "t1"}
    for order in ORDERS:
        assert run(JobQueue(jobs, order, urgent=urgent))[0][:4] == ["b", "f1", "s1", "t1"]
    assert urgent_jobs(jobs, []) == set()


def test_a_part_of_the_jobs_holds_what_it_needs_and_the_urgent_ones_first() -> None:
    jobs = observed("Field1", "GRB 260301A", "Field2")
    urgent = urgent_jobs(jobs, ["GRB*"])
    for most in range(len(jobs) + 2):
        part = first_jobs(jobs, urgent, most)
        keys = [one.key for one in part]
        assert len(part) == min(most, len(jobs))
        assert set(keys[:4]) <= urgent
        for one in part:
            assert set(one.parents) <= set(keys[: keys.index(one.key)])


def test_the_newest_frames_are_done_first_with_what_they_need() -> None:
    times = {"s1": 1, "s2": 2, "t1": 2, "s3": 3, "s4": 4, "t2": 4}
    night = [
        replace(one, group=Group((replace(FRAME, obsdate=f"2026-03-01T20:0{times.get(one.key, 0)}:00"),)))
        for one in NIGHT
    ]
    keys = [one.key for one in newest_first(night)]
    assert keys == ["b2", "f2", "s4", "s3", "t2", "b1", "f1", "s2", "s1", "t1"]
    assert [one.key for one in first_jobs(night, set(), 3)] == keys[:3]


def test_the_oldest_frames_have_some_places_whatever_comes() -> None:
    def of_minute(number: int) -> list[Job]:
        group = Group((replace(FRAME, obsdate=f"2026-03-01T{number // 60:02}:{number % 60:02}:00"),))
        science = replace(job(f"s{number}", "science"), group=group)
        return [science, replace(job(f"t{number}", "stack", science.key), group=group)]

    waiting, done = [one for number in range(20) for one in of_minute(number)], []
    for number in range(20, 120):
        waiting += of_minute(number)
        part = first_jobs(waiting, set(), 4)
        assert {one.key for one in of_minute(number)} <= {one.key for one in part[:3]}
        done += part
        waiting = [one for one in waiting if one not in part]
    # Two come each time and four are done: nothing of the beginning is left, though something new came always.
    assert {one.key for number in range(20) for one in of_minute(number)} <= {one.key for one in done}
    both = first_jobs([*waiting, *of_minute(1), *of_minute(2)], {"s2", "t2"}, 4)
    assert [one.key for one in both[:2]] == ["s2", "t2"]


def test_a_job_in_other_hands_needs_no_room_and_what_depends_on_it_waits() -> None:
    queue = JobQueue(NIGHT, "depth", Needs(1))
    assert queue.take().key == "b1"
    queue.set_aside("b1")
    assert (queue.running, queue.aside) == (0, {"b1"})
    assert queue.take().key == "b2"
    assert queue.take() is None
    queue.finish("b1", done=True)  # elsewhere
    queue.finish("b2", done=False)
    assert queue.aside == frozenset()
    assert queue.take().key == "f1"
    queue.set_aside("f1")
    queue.bring_back("f1")
    assert queue.take().key == "f1"
    queue.finish("f1", done=False)
    assert queue.take() is None and queue.running == 0
