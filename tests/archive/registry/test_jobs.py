import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.doubts import find_doubts
from ccdflow.archive.registry.frames.files import NewFrame, add_frame
from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.archive.registry.frames.stages import StageState, stage_states, stages_of
from ccdflow.archive.registry.jobs.inputs import FrameFile, Sources, find_sources
from ccdflow.archive.registry.jobs.leases import (
    LeaseLostError,
    beat_jobs,
    change_held,
    claim,
    ensure_held,
    find_whereabouts,
    is_dead,
    leave_drain,
    live_drains,
    started,
    stay_drain,
    sweep_jobs,
    take_drain,
    this_host,
    this_owner,
)
from ccdflow.archive.registry.jobs.lifecycle import (
    begin_job,
    complete_job,
    give_up_job,
    job_record,
    plan_jobs,
    put_back_job,
)
from ccdflow.archive.registry.jobs.lineage import keys_of_frames, lineage, main_frames
from ccdflow.archive.registry.jobs.planned import PlannedJob, drop_overtaken, repoint_inputs, unbegun
from ccdflow.archive.registry.jobs.productchanges import Made, finish_job, lose_products, touch_products
from ccdflow.archive.registry.jobs.productdoubts import find_product_doubts
from ccdflow.archive.registry.jobs.products import (
    ProductFilter,
    find_product,
    find_products,
    list_products,
    outputs_of,
)
from ccdflow.archive.registry.jobs.records import (
    JobFilter,
    count_finished,
    done_by,
    done_keys,
    done_without_products,
    ended_since,
    find_job,
    find_jobs,
    keys_like,
    reopen_failed,
    tried_since,
)
from ccdflow.archive.registry.sets.changes import NewSet, apply_set_changes
from ccdflow.archive.registry.sets.records import find_sets
from ccdflow.archive.registry.transactions import add_catalogue
from ccdflow.cascade.planning.jobs import JobInput
from ccdflow.cascade.records import Doubt

LEASE = 60.0
BIAS, SCIENCE, STACK = "b" * 64, "c" * 64, "d" * 64


@pytest.fixture
def frames(registry: Registry) -> list[int]:
    add_catalogue(
        registry, (NewFrame(telescope="T", obsdate=f"2026-03-01T20:0{minute}:00") for minute in range(3))
    )
    return [record.id for record in registry.read(find_frames)]


def planned(frames: Sequence[int]) -> list[PlannedJob]:
    """A master bias of two frames, a science frame that takes it, a stack that takes that."""
    raw = [JobInput("main", f"sha-{frame_id}", frame=frame_id) for frame_id in frames]
    place = {"night": "2026-03-01", "telescope": "T", "camera": "C1"}
    bias = JobInput("master_bias", BIAS, job=BIAS, level=1)
    parameters = {"clip": {"value": 3.0, "origin": "recipe"}}
    return [
        PlannedJob(BIAS, "bias", "bias", "1", raw[:2], [("master_bias", "a/b.fits")], parameters, **place),
        PlannedJob(
            SCIENCE,
            "science",
            "science",
            "1",
            [bias, raw[2]],
            [("science", "s.fits"), ("mask", "m.fits")],
            level=1,
        ),
        PlannedJob(
            STACK, "stack", "stack", "1", [JobInput("main", SCIENCE, job=SCIENCE)], [("stack", "t.fits")]
        ),
    ]


def done(registry: Registry, key: str, *made: Made) -> list[int]:
    assert registry.write(claim, key, "worker", LEASE) is not None
    return registry.write(finish_job, key, "worker", made)


def test_planned_jobs_come_back_with_inputs_and_planned_products(
    registry: Registry, frames: list[int]
) -> None:
    assert registry.write(plan_jobs, planned(frames)) == 3
    bias, science = registry.read(find_job, BIAS), registry.read(find_job, SCIENCE)
    assert bias is not None
    assert science is not None
    assert (bias.state, bias.night, bias.camera, bias.attempts) == ("planned", "2026-03-01", "C1", 0)
    assert bias.parameters == {"clip": {"value": 3.0, "origin": "recipe"}}
    assert [taken.frame for taken in bias.inputs] == frames[:2]
    assert [(taken.role, taken.job, taken.level) for taken in science.inputs] == [
        ("main", None, None),
        ("master_bias", BIAS, 1),
    ]
    rows = registry.read(find_products, ProductFilter(states=["planned"]))
    assert [(product.job_key, product.category, product.path) for product in rows] == [
        (BIAS, "master_bias", "a/b.fits"),
        (SCIENCE, "science", "s.fits"),
        (SCIENCE, "mask", "m.fits"),
        (STACK, "stack", "t.fits"),
    ]
    assert registry.read(find_products) == []


def test_planning_twice_changes_nothing(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    done(registry, SCIENCE, Made("science", "s.fits", "e" * 64, 10))
    before = registry.read(find_jobs), registry.read(find_products, ProductFilter(states=None))
    assert registry.write(plan_jobs, planned(frames)) == 0
    assert (registry.read(find_jobs), registry.read(find_products, ProductFilter(states=None))) == before


def test_a_product_that_is_planned_stays_where_it_was_planned(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    done(registry, SCIENCE, Made("science", "s.fits", "e" * 64, 10))
    moved = [
        replace(job, outputs=[(kind, f"new/{path}") for kind, path in job.outputs]) for job in planned(frames)
    ]
    registry.write(plan_jobs, moved)
    rows = registry.read(find_products, ProductFilter(states=None))
    assert not [product.path for product in rows if product.path.startswith("new/")]


def test_incomplete_job_has_no_products_and_takes_the_newest_reason(registry: Registry) -> None:
    job = PlannedJob(
        "a" * 64, "flat", "flat", "1", (), [("f", "f.fits")], state="incomplete", reason="no bias"
    )
    registry.write(plan_jobs, [job])
    registry.write(
        plan_jobs, [PlannedJob("a" * 64, "flat", "flat", "1", state="incomplete", reason="no dark")]
    )
    record = registry.read(find_job, "a" * 64)
    assert record is not None
    assert (record.state, record.reason) == ("incomplete", "no dark")
    assert registry.read(find_products, ProductFilter(states=None)) == []
    assert registry.write(claim, "a" * 64, "worker", LEASE) is None


def test_where_the_inputs_of_a_job_lie(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    assert registry.read(find_sources, registry.read(find_job, STACK)) == Sources(
        {}, {}
    )  # planned is not there
    done(registry, SCIENCE, Made("science", "s.fits", "e" * 64, 10), Made("mask", "m.fits", "f" * 64, 10))
    paths = {SCIENCE: "s.fits", f"{SCIENCE}:science": "s.fits", f"{SCIENCE}:mask": "m.fits"}
    assert registry.read(find_sources, registry.read(find_job, STACK)) == Sources({}, paths)
    assert (
        registry.read(find_sources, registry.read(find_job, SCIENCE)).products == {}
    )  # the bias is not there


@pytest.mark.parametrize("state", ["planned", "failed", "done"])
def test_a_job_of_a_frame_that_was_deleted_and_came_back_is_planned_again(
    registry: Registry, frames: list[int], state: str
) -> None:
    registry.write(plan_jobs, planned(frames))
    if state == "failed":
        registry.write(claim, BIAS, "one", LEASE)
        registry.write(change_held, BIAS, "one", {"state": "failed", "reason": "no room"})
    elif state == "done":  # and its product is lost behind that
        product = done(registry, BIAS, Made("master_bias", "a/b.fits", "e" * 64, 10))
    with registry.database.write() as connection:
        connection.execute(text(f"DELETE FROM frame WHERE id = {frames[0]}"))
    if state == "done":
        registry.write(lose_products, product, "gone")
    else:
        job = registry.read(find_job, BIAS)
        assert (job.state, job.reason) == ("incomplete", f"frame f{frames[0]} was deleted")
    add_catalogue(registry, [NewFrame(telescope="T", obsdate="2026-03-01T20:00:00")])
    back = [frames[2] + 1, *frames[1:]]
    assert registry.write(plan_jobs, planned(back)) == 0
    job = registry.read(find_job, BIAS)
    assert (job.state, [taken.frame for taken in job.inputs]) == ("planned", back[:2])
    assert registry.write(claim, BIAS, "two", LEASE) is not None


def test_a_job_takes_the_frame_that_holds_its_content_now(registry: Registry, frames: list[int]) -> None:
    """A copy has taken the place of the first frame: the job is the same, its file another."""
    other = [frames[2], *frames[1:]]
    registry.write(plan_jobs, planned(frames))
    registry.write(claim, BIAS, "one", LEASE)
    registry.write(plan_jobs, planned(other))
    assert [taken.frame for taken in registry.read(find_job, BIAS).inputs] == frames[:2]
    registry.write(change_held, BIAS, "one", {"state": "failed", "reason": "a.fits is damaged"})
    registry.write(plan_jobs, planned(other))
    job = registry.read(find_job, BIAS)
    assert (job.state, job.reason, [taken.frame for taken in job.inputs]) == ("planned", "", other[:2])
    registry.write(plan_jobs, planned(other))  # as it stands there: nothing is written
    assert registry.read(find_job, BIAS).planned_at == job.planned_at


def test_a_job_that_runs_or_is_done_keeps_what_it_was_begun_with(
    registry: Registry, frames: list[int]
) -> None:
    registry.write(plan_jobs, planned(frames))
    done(registry, BIAS, Made("master_bias", "a/b.fits", "e" * 64, 10))
    registry.write(claim, SCIENCE, "one", LEASE)
    with registry.database.write() as connection:
        connection.execute(text("DELETE FROM frame"))
    registry.write(plan_jobs, planned(frames)[:2])
    assert [registry.read(find_job, key).state for key in (BIAS, SCIENCE)] == ["done", "running"]
    assert [taken.frame for taken in registry.read(find_job, BIAS).inputs] == [None, None]


def test_what_a_request_s_own_parameters_measure_is_no_doubt_of_the_frames(
    registry: Registry, frames: list[int]
) -> None:
    doubt = Doubt("gain_conflict", "EGAIN says 1.5 electron/adu, measured was 0.75")
    own, *_ = planned(frames)
    for key, variant, doubts in (
        (BIAS, "", {frame: (doubt,) for frame in frames[:2]}),
        (SCIENCE, "set deep", {frame: (doubt,) for frame in frames[:2]}),
        (STACK, "", {}),
    ):
        job = replace(own, key=key, variant=variant, outputs=[("master_bias", key)])
        registry.write(plan_jobs, [job])
        begun = registry.write(begin_job, key, "worker", LEASE, STAGES)
        found = [doubt] if key == BIAS else []
        made = Made("master_bias", key, "e" * 64, 10, doubts=found)
        registry.write(complete_job, begun, "worker", [made], STAGES)
        assert registry.read(find_doubts, frames) == doubts


def test_a_raw_input_is_told_by_the_size_and_time_of_its_file(registry: Registry) -> None:
    file = {"path": "/raw/a.fits", "sha256": "a" * 64, "size": 2880, "changed_ns": 7}
    first = registry.write(add_frame, NewFrame(frame_class="bias", **file)).id
    registry.write(
        plan_jobs, [PlannedJob(BIAS, "bias", "bias", "1", [JobInput("main", "a" * 64, frame=first)])]
    )
    job = registry.read(find_job, BIAS)
    assert registry.read(find_sources, job).frames == {first: FrameFile("/raw/a.fits", "bias", 2880, 7)}
    registry.write(add_frame, NewFrame(frame_class="bias", **file | {"sha256": "b" * 64, "changed_ns": 8}))
    assert (
        registry.read(find_sources, job).frames[first].size is None
    )  # another version of the file is there now


def test_a_worker_finds_the_inputs_that_it_began_with(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    begun = registry.read(find_job, BIAS)
    registry.write(repoint_inputs, {BIAS: [frames[2], frames[1]]})
    assert registry.read(find_sources, begun).frames.keys() == set(frames[:2])


STAGES = {"bias": "calibrate"}


def waiting(frames: list[int]) -> dict[str, list[StageState]]:
    return {BIAS: [StageState(frame_id, "calibrate", "waiting", "no reason") for frame_id in frames[:2]]}


def test_frames_wait_for_a_job_only_where_nobody_has_begun_it(registry: Registry, frames: list[int]) -> None:
    """A plan was made before another program began the job, or did it, and is written behind that."""
    first, second = frames[:2]
    registry.write(plan_jobs, planned(frames), waiting(frames))
    assert registry.read(stage_states, "calibrate", frames) == {first: "waiting", second: "waiting"}
    begun = registry.write(begin_job, BIAS, "worker", LEASE, STAGES)
    assert begun is not None
    registry.write(plan_jobs, planned(frames), waiting(frames))
    assert registry.read(stage_states, "calibrate", frames) == {first: "running", second: "running"}
    registry.write(complete_job, begun, "worker", [Made("master_bias", "a/b.fits", "e" * 64, 10)], STAGES)
    registry.write(plan_jobs, planned(frames), waiting(frames))
    assert registry.read(stage_states, "calibrate", frames) == {first: "done", second: "done"}


def test_nobody_begins_a_job_while_it_is_written_that_frames_wait_for_it(
    registry: Registry, frames: list[int]
) -> None:
    registry.write(plan_jobs, planned(frames))
    with ThreadPoolExecutor(1) as pool:
        with registry.database.write() as connection:
            assert unbegun(connection, [BIAS]) == {BIAS}
            begun = pool.submit(registry.write, begin_job, BIAS, "worker", LEASE, STAGES)
            with pytest.raises(TimeoutError):
                begun.result(0.5)
        assert begun.result(30) is not None


def test_job_is_claimed_once(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    row = registry.write(claim, BIAS, "one", LEASE, ("key", "owner", "attempts"))
    assert row is not None
    assert tuple(row) == (BIAS, "one", 1)
    assert registry.write(claim, BIAS, "two", LEASE) is None
    assert registry.write(claim, BIAS, "one", LEASE) is None
    assert registry.read(find_job, BIAS).state == "running"


def test_unknown_job_can_not_be_claimed(registry: Registry) -> None:
    with pytest.raises(KeyError, match="no job 'nothing'"):
        registry.write(claim, "nothing", "one", LEASE)


def test_done_job_is_not_claimed_and_a_failed_one_is(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    done(registry, BIAS, Made("master_bias", "a/b.fits", "e" * 64, 10))
    assert registry.write(claim, BIAS, "two", LEASE) is None
    registry.write(claim, SCIENCE, "one", LEASE)
    assert registry.write(change_held, SCIENCE, "one", {"state": "failed", "reason": "no stars"})
    assert registry.read(find_job, SCIENCE).reason == "no stars"
    again = registry.write(claim, SCIENCE, "two", LEASE)
    assert again is not None
    assert again.attempts == 2
    assert registry.read(find_job, SCIENCE).reason == ""


def test_silent_owner_loses_its_job_and_can_not_finish_it(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    registry.write(claim, BIAS, "slow", LEASE)
    time.sleep(0.15)
    assert registry.write(claim, BIAS, "quick", 0.1) is not None
    registry.write(beat_jobs, [(BIAS, "slow")])
    assert not registry.write(change_held, BIAS, "slow", {"state": "failed", "reason": "it was me"})
    held = registry.read(find_job, BIAS)
    assert (held.owner, held.state, held.reason) == ("quick", "running", "")
    with pytest.raises(LeaseLostError, match="not slow's any more"):
        registry.write(finish_job, BIAS, "slow", [Made("master_bias", "late.fits", "f" * 64, 1)])
    assert registry.read(find_products) == []
    registry.write(finish_job, BIAS, "quick", [Made("master_bias", "a/b.fits", "e" * 64, 10)])
    assert [product.path for product in registry.read(find_products)] == ["a/b.fits"]


def test_heartbeat_keeps_a_job(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    registry.write(claim, BIAS, "one", LEASE)
    time.sleep(0.3)
    registry.write(beat_jobs, [(BIAS, "one")])
    assert registry.write(claim, BIAS, "two", 0.25) is None


def dead_owner() -> str:
    """A process that has worked and was killed."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        owner = f"{this_host()}:{process.pid}:{started(process.pid)}:1"
        assert not is_dead(owner)
        process.send_signal(signal.SIGKILL)
    return owner


def test_job_of_a_killed_process_is_taken_over_at_once(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    registry.write(claim, BIAS, dead_owner(), LEASE)
    row = registry.write(claim, BIAS, this_owner(), LEASE)
    assert row is not None
    assert row.attempts == 2
    assert registry.write(claim, BIAS, "two", LEASE) is None


def test_owner_is_dead_where_another_process_has_its_number() -> None:
    assert not is_dead(this_owner())
    assert is_dead(f"{this_host()}:{os.getpid()}:12345:1")
    assert not is_dead("another-host:1:12345:1")
    assert not is_dead(f"{this_host()[:-6]}000000:1:12345:1")  # of that name, with process ids of its own
    assert not is_dead("worker")


def test_sweep_gives_back_jobs_of_the_dead_and_the_silent(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    registry.write(claim, BIAS, dead_owner(), LEASE)
    registry.write(claim, SCIENCE, "silent", LEASE)
    time.sleep(0.3)
    registry.write(claim, STACK, this_owner(), LEASE)
    assert sorted(registry.write(sweep_jobs, 0.25)) == [BIAS, SCIENCE]
    assert [job.key for job in registry.read(find_jobs, JobFilter(states=["running"]))] == [STACK]
    assert "gave no sign of life" in registry.read(find_job, SCIENCE).reason
    assert registry.write(sweep_jobs, LEASE) == []


def test_a_worker_sees_which_jobs_are_free_and_which_are_in_other_hands(
    registry: Registry, frames: list[int]
) -> None:
    registry.write(plan_jobs, planned(frames))
    registry.write(claim, BIAS, "elsewhere", LEASE)
    registry.write(claim, SCIENCE, dead_owner(), LEASE)
    done(registry, STACK)
    keys = [BIAS, SCIENCE, STACK]
    assert registry.read(find_whereabouts, keys, LEASE) == {BIAS: "elsewhere", SCIENCE: "free", STACK: "done"}
    time.sleep(0.05)
    assert registry.read(find_whereabouts, [BIAS], 0.01) == {BIAS: "free"}
    registry.write(change_held, BIAS, "elsewhere", {"state": "failed"})
    assert registry.read(find_whereabouts, [BIAS], LEASE) == {BIAS: "failed"}


def test_who_has_lost_a_job_is_told(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    registry.write(claim, BIAS, "one", LEASE)
    registry.read(ensure_held, BIAS, "one")
    time.sleep(0.05)
    registry.read(ensure_held, BIAS, "one")  # silent for long, but nobody has taken it
    assert registry.write(claim, BIAS, "two", 0.01) is not None
    with pytest.raises(LeaseLostError, match="is not one's any more"):
        registry.read(ensure_held, BIAS, "one")
    registry.read(ensure_held, BIAS, "two")


def test_a_drain_that_was_taken_over_is_told_even_when_the_other_has_left(registry: Registry) -> None:
    assert registry.write(take_drain, "live all", "north", LEASE) and registry.write(
        stay_drain, "live all", "north"
    )
    assert not registry.write(take_drain, "live all", "south", LEASE)
    time.sleep(0.05)
    assert registry.write(take_drain, "live all", "south", 0.01)
    assert not registry.write(stay_drain, "live all", "north")
    registry.write(leave_drain, "live all", "south")
    assert not registry.write(stay_drain, "live all", "north")
    assert registry.read(live_drains, LEASE) == {}


def test_a_machine_may_have_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCDFLOW_HOST", "dome:2")
    assert this_owner().startswith("dome_2/") and not is_dead(this_owner())


def test_of_four_threads_one_gets_each_job(registry: Registry) -> None:
    keys = [f"{number:064x}" for number in range(10)]
    registry.write(plan_jobs, [PlannedJob(key, "bias", "bias", "1") for key in keys])
    won: list[str] = []
    start = threading.Barrier(4)

    def work(owner: str) -> None:
        start.wait()
        won.extend(key for key in keys if registry.write(claim, key, owner, LEASE))

    threads = [threading.Thread(target=work, args=(f"thread-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == keys


CLAIM_ALL = """
import sys
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.jobs.records import find_jobs
from ccdflow.archive.registry.jobs.leases import claim, this_owner

registry = Registry(sys.argv[1])
keys = [job.key for job in registry.read(find_jobs)]
print("ready", flush=True)
sys.stdin.readline()
print(*[key for key in keys if registry.write(claim, key, this_owner(), 60.0)], flush=True)
sys.stdin.readline()  # a process that has ended would lose its jobs
"""


def test_of_two_processes_one_gets_each_job(registry: Registry) -> None:
    keys = [f"{number:064x}" for number in range(20)]
    registry.write(plan_jobs, [PlannedJob(key, "bias", "bias", "1") for key in keys])
    url = registry.database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", CLAIM_ALL, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first, subprocess.Popen(command, **pipes) as second:
        both = first, second
        assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
        for process in both:
            print("go", file=process.stdin, flush=True)
        won = [process.stdout.readline().split() for process in both]
        for process in both:
            process.stdin.close()
    assert sorted(won[0] + won[1]) == keys


def test_finished_job_has_its_products_with_quality(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    file = Made(
        "master_bias",
        "a/b.fits",
        "e" * 64,
        10,
        quality={"noise": 5.5, "fwhm": float("nan")},
        cards={"CLIPFALL": False},
    )
    (identity,) = done(registry, BIAS, file)
    product = registry.read(find_product, identity)
    assert product is not None
    assert (product.state, product.sha256, product.size, product.night) == (
        "done",
        "e" * 64,
        10,
        "2026-03-01",
    )
    assert (product.quality, product.cards) == ({"noise": 5.5, "fwhm": None}, {"CLIPFALL": False})
    assert registry.read(done_keys) == {BIAS}
    (row,) = registry.read(list_products, ProductFilter(job_keys=[BIAS]))
    assert (row["id"], row["job"], row["quality"]["noise"]) == (identity, BIAS, 5.5)
    assert row["inputs"] == [
        {"role": "main", "identity": f"sha-{frame_id}", "frame": frame_id} for frame_id in frames[:2]
    ]
    record = registry.read(job_record, BIAS)
    assert record["state"] == "done"
    assert [row["sha256"] for row in record["products"]] == ["e" * 64]


def test_outputs_that_a_recipe_left_out_or_added_are_as_it_made_them(
    registry: Registry, frames: list[int]
) -> None:
    registry.write(plan_jobs, planned(frames))
    done(registry, SCIENCE, Made("science", "s.fits", "e" * 64, 10), Made("extra", "x.fits", "f" * 64, 1))
    rows = registry.read(find_products, ProductFilter(states=None, job_keys=[SCIENCE]))
    assert sorted((product.category, product.state) for product in rows) == [
        ("extra", "done"),
        ("science", "done"),
    ]


def test_lost_product_is_made_again_under_its_id(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    (identity,) = done(registry, BIAS, Made("master_bias", "a/b.fits", "e" * 64, 10, quality={"old": 1.0}))
    assert registry.write(lose_products, [identity], "its file is gone") == 1
    assert registry.read(done_keys) == set()
    assert registry.read(find_product, identity).state == "missing"
    assert registry.read(find_job, BIAS).reason == "its file is gone"
    assert done(registry, BIAS, Made("master_bias", "a/b.fits", "e" * 64, 10, quality={"new": 2.0})) == [
        identity
    ]
    assert registry.read(find_product, identity).quality == {"new": 2.0}


def test_product_of_a_set_is_noted_with_the_set(registry: Registry, frames: list[int]) -> None:
    sets = registry.write(apply_set_changes, [NewSet("s", "stack", ("T", "", ""), frames)])
    registry.write(plan_jobs, [PlannedJob(STACK, "stack", "stack", "1", set_id=sets["s"])])
    ids = done(registry, STACK, Made("stack", "t.fits", "e" * 64, 10))
    assert [frame_set.product_id for frame_set in registry.read(find_sets)] == ids


def test_lineage_goes_up_and_down(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    assert [job.key for job in registry.read(lineage, [STACK], up=True)] == [SCIENCE, BIAS]
    assert [job.key for job in registry.read(lineage, [BIAS], up=False)] == [SCIENCE, STACK]
    assert registry.read(lineage, [BIAS], up=True) == []
    assert registry.read(keys_of_frames, frames[:1]) == {BIAS}
    assert registry.read(keys_of_frames, frames) == {BIAS, SCIENCE}


def test_frames_behind_a_job_are_found_through_products(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    assert registry.read(main_frames, BIAS) == frames[:2]
    assert registry.read(main_frames, STACK) == frames[2:]


def test_time_of_a_products_file_is_kept_and_renewed(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    (identity,) = done(registry, BIAS, Made("master_bias", "a/b.fits", "e" * 64, 10, changed_ns=5))
    assert [product.changed_ns for product in registry.read(outputs_of, BIAS)] == [5]
    registry.write(touch_products, {identity: 9})
    assert [product.changed_ns for product in registry.read(outputs_of, BIAS)] == [9]
    assert [product.state for product in registry.read(outputs_of, STACK)] == ["planned"]


def test_jobs_are_selected(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    registry.write(claim, STACK, "one", LEASE)
    assert [job.key for job in registry.read(find_jobs, JobFilter(states=["running"]))] == [STACK]
    assert [
        job.key for job in registry.read(find_jobs, JobFilter(night="2026-03-01", camera="T/C1", step="bias"))
    ] == [BIAS]
    assert registry.read(find_jobs, JobFilter(camera="C2")) == []
    assert registry.read(keys_like, "b") == [BIAS]
    assert registry.read(keys_like, "0") == []
    assert registry.read(count_finished, [BIAS, SCIENCE, STACK]) == 0
    registry.write(change_held, STACK, "one", {"state": "failed"})
    done(registry, BIAS)
    assert registry.read(count_finished, [BIAS, SCIENCE, STACK]) == 2


def test_who_has_not_heard_that_it_holds_a_job_may_ask_again(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    first = registry.write(begin_job, BIAS, "one", LEASE, {})
    again = registry.write(begin_job, BIAS, "one", LEASE, {})
    assert first is not None and again is not None and again.job.attempts == 1
    assert registry.write(begin_job, BIAS, "two", LEASE, {}) is None


def test_job_that_the_machine_could_not_do_waits_with_its_reason(
    registry: Registry, frames: list[int]
) -> None:
    registry.write(plan_jobs, planned(frames))
    begun = registry.write(begin_job, BIAS, "one", LEASE, {})
    assert begun is not None and registry.write(put_back_job, begun, "one", "No space left on device", {})
    job = registry.read(find_job, BIAS)
    assert job is not None and (job.state, job.reason) == ("planned", "No space left on device")
    assert set(registry.read(stage_states, "bias", frames).values()) == {"waiting"}
    assert not registry.write(put_back_job, begun, "one", "again", {})
    assert registry.write(begin_job, BIAS, "two", LEASE, {}) is not None


def test_what_was_tried_in_vain_since_a_moment_is_asked_of_the_registry(
    registry: Registry, frames: list[int]
) -> None:
    registry.write(plan_jobs, planned(frames))
    start = now()
    for key, end in ((BIAS, give_up_job), (SCIENCE, put_back_job)):
        begun = registry.write(begin_job, key, "one", LEASE, {})
        assert begun is not None and registry.write(end, begun, "one", "in vain", {})
    done(registry, STACK)
    assert registry.read(tried_since, start) == {BIAS, SCIENCE}
    assert registry.read(ended_since, start) == {BIAS: "2026-03-01", STACK: ""}
    assert registry.read(tried_since, now()) == set() and registry.read(ended_since, now()) == {}
    registry.write(reopen_failed, [BIAS])
    assert registry.write(begin_job, SCIENCE, "two", LEASE, {}) is not None
    assert registry.read(tried_since, start) == set()


def test_frames_that_a_job_has_left_out_pass_with_the_reason(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, planned(frames))
    begun = registry.write(begin_job, BIAS, "worker", LEASE, STAGES)
    assert begun is not None
    made = [Made("master_bias", "a/b.fits", "e" * 64, 10)]
    registry.write(complete_job, begun, "worker", made, STAGES, {1: "it shows no star"})
    first, second = frames[:2]
    assert registry.read(stage_states, "calibrate", frames) == {first: "done", second: "passed"}
    job = registry.read(find_job, BIAS)
    assert job is not None
    assert (job.state, job.reason) == ("done", f"1 of 2 frames left out: f{second}: it shows no star")
    assert registry.read(stages_of, second)[0]["reason"] == "left out of the bias: it shows no star"
    assert registry.read(done_without_products) == set()


def test_a_job_that_could_combine_nothing_is_done_and_its_frames_pass(
    registry: Registry, frames: list[int]
) -> None:
    registry.write(plan_jobs, planned(frames))
    begun = registry.write(begin_job, BIAS, "worker", LEASE, STAGES)
    assert begun is not None
    registry.write(complete_job, begun, "worker", [], STAGES, {0: "no other frame fits it", 1: "no star"})
    assert set(registry.read(stage_states, "calibrate", frames[:2]).values()) == {"passed"}
    job = registry.read(find_job, BIAS)
    assert job is not None
    assert job.state == "done" and job.reason.startswith("nothing combined, 2 of 2 frames pass as they are: ")
    assert registry.read(find_products, ProductFilter(states=None, job_keys=[BIAS])) == []
    assert registry.read(done_without_products) == {BIAS}


PLACE = {"night": "2026-03-01", "telescope": "T", "camera": "C1"}


def _stack(letter: str, frames: Sequence[int], **more: Any) -> PlannedJob:
    inputs = [JobInput("main", f"sha-{number}", frame=number) for number in frames]
    outputs = [("stack", f"{letter}.fits")]
    return PlannedJob(letter * 64, "stack", "stack", "1", inputs, outputs, **(PLACE | more))


def _overtaken(registry: Registry, frames: Sequence[int], *kept: str) -> set[str]:
    """Letters of the jobs that are left, once a plan has put frames into the jobs that it keeps."""
    place = ("stack", "2026-03-01", "C1")
    registry.write(drop_overtaken, [letter * 64 for letter in kept], {place: set(frames)})
    return {job.key[0] for job in registry.read(find_jobs)}


@pytest.mark.parametrize(("again", "told"), [("e", 0), ("f", 1)])
def test_a_product_that_is_made_again_and_differs_is_doubted(
    registry: Registry, frames: list[int], again: str, told: int
) -> None:
    registry.write(plan_jobs, [_stack("a", frames)])
    for digit, lost in (("e", True), (again, False)):
        assert registry.write(claim, "a" * 64, "worker", LEASE) is not None
        (number,) = registry.write(finish_job, "a" * 64, "worker", [Made("stack", "a.fits", digit * 64, 10)])
        if lost:
            registry.write(lose_products, [number], "gone")
    doubts = registry.read(find_product_doubts, [number]).get(number, [])
    assert [doubt.kind for doubt in doubts] == ["remade"] * told
    assert all("ffffffff" in doubt.text and "eeeeeeee" in doubt.text for doubt in doubts)


def test_what_a_plan_has_overtaken_is_taken_away(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, [_stack("a", frames[:2]), _stack("e", frames)])
    assert _overtaken(registry, frames, "e") == {"e"}
    assert [product.path for product in registry.read(find_products, ProductFilter(states=None))] == [
        "e.fits"
    ]


@pytest.mark.parametrize(
    "more",
    [{"night": "2026-03-02"}, {"camera": "C2"}, {"variant": "by a request"}, {"state": "incomplete"}],
)
def test_what_the_plan_has_not_looked_at_stays(
    registry: Registry, frames: list[int], more: dict[str, Any]
) -> None:
    registry.write(plan_jobs, [_stack("a", frames[:2], **more), _stack("e", frames)])
    assert _overtaken(registry, frames, "e") == {"a", "e"}


def test_planned_jobs_of_other_frames_and_those_that_run_stay(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, [_stack("a", frames[2:]), _stack("b", frames[:2]), _stack("e", frames[:2])])
    assert registry.write(claim, "b" * 64, "worker", LEASE) is not None
    assert _overtaken(registry, frames[:2], "e") == {"a", "b", "e"}


def test_each_process_counts_what_it_has_done(registry: Registry, frames: list[int]) -> None:
    registry.write(plan_jobs, [_stack(letter, frames) for letter in "abe"])
    for letter, owner in (("a", "host/1:10:5:1"), ("b", "host/1:10:5:2"), ("e", "host/1:101:5:1")):
        assert registry.write(claim, letter * 64, owner, LEASE) is not None
        registry.write(finish_job, letter * 64, owner, [])
    keys = [letter * 64 for letter in "abe"]
    assert registry.read(done_by, keys, "host/1:10:5:77") == {"a" * 64, "b" * 64}
    assert registry.read(done_by, keys[:1], "host/1:10:5:77") == {"a" * 64}
    assert registry.read(done_by, keys, "host_1:10:5:1") == set()
