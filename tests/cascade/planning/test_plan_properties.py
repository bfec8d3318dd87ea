"""What must hold of every plan, whatever the night."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cascade.planning.test_planner import frame, planned

from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.records import FrameRecord

CLASSES = ("bias", "dark", "flat", "science")


@st.composite
def nights(draw: st.DrawFn) -> list[FrameRecord]:
    """Frames of one camera, many at the same second, each with content of its own."""
    count = draw(st.integers(1, 14))
    made = []
    for number in range(1, count + 1):
        kind = draw(st.sampled_from(CLASSES))
        minute = draw(st.integers(0, 8))  # so few that there are ties
        more = {"filter": draw(st.sampled_from("LR"))} if kind in ("flat", "science") else {}
        one = frame(number, kind, f"20:{minute:02d}:00", **more)
        day = draw(st.sampled_from(("2026-03-01", "2026-03-02")))
        made.append(replace(one, obsdate=f"{day}{one.obsdate[10:]}", night=day, iobs=None, nobs=None))
    return made


def keys(jobs: tuple[Job, ...]) -> dict[str, tuple[str, str]]:
    return {job.key: (job.step, job.state) for job in jobs}


@settings(max_examples=60, deadline=None)
@given(nights(), st.randoms(use_true_random=False))
def test_neither_the_order_nor_the_numbers_of_frames_matter(frames: list[FrameRecord], random) -> None:
    before = planned(frames)
    numbers = [one.id for one in frames]
    random.shuffle(numbers)
    others = [replace(one, id=number) for one, number in zip(frames, numbers, strict=True)]
    random.shuffle(others)
    after = planned(others)
    assert keys(after.jobs) == keys(before.jobs)
    assert [job.step for job in after.jobs] == [job.step for job in before.jobs]


@settings(max_examples=60, deadline=None)
@given(nights(), nights())
def test_frames_of_another_camera_change_no_key(frames: list[FrameRecord], others: list[FrameRecord]) -> None:
    strangers = [replace(one, id=100 + one.id, camera="elsewhere", sha256=f"{one.id:064d}") for one in others]
    before, after = keys(planned(frames).jobs), keys(planned([*strangers, *frames]).jobs)
    assert before.items() <= after.items()


@settings(max_examples=60, deadline=None)
@given(nights(), st.sampled_from(("focus", "arc", "unclassified")))
def test_frames_of_classes_that_nothing_takes_change_no_calibration(
    frames: list[FrameRecord], kind: str
) -> None:
    stranger = replace(frame(99, "science", "03:00:00"), frame_class=kind, sha256="9" * 64)
    wanted = {key: told for key, told in keys(planned(frames).jobs).items() if told[0] != "stack"}
    assert wanted.items() <= keys(planned([*frames, stranger]).jobs).items()


@settings(max_examples=60, deadline=None)
@given(nights())
def test_jobs_stand_after_what_they_take_and_say_what_they_lack(frames: list[FrameRecord]) -> None:
    seen: set[str] = set()
    for job in planned(frames).jobs:
        assert seen.issuperset(job.parents) and job.key not in seen
        assert (job.state == "incomplete") == bool(job.reason)
        seen.add(job.key)
