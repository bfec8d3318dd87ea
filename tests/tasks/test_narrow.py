"""Plans from a few frames before the oldest unfinished one on: the same as plans from all."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from tests.tasks.test_bulk import filed
from tests.tasks.test_grouping import START, clock, exposure, sequence

from ccdflow.archive.registry.frames.files import NewFrame
from ccdflow.archive.registry.frames.nearrows import span_of
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.reach import association_levels
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.sequences.exposures import SequenceRules
from ccdflow.config.project import init_project
from ccdflow.tasks.grouping import few_before
from ccdflow.tasks.planning import _with_files, planned, window
from ccdflow.tasks.workspace import Workspace, open_workspace


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    init_project(tmp_path)
    return open_workspace(tmp_path)


def night(random: Random, camera: str) -> list[NewFrame]:
    """Sequences of all lengths, some cut short, with gaps between them and a calibration now and then."""
    frames: list[NewFrame] = []
    minute = 30.0
    for _number in range(40):
        minute += random.choice([0.0, 2.0, 2.0, 2.0, 45.0])
        length = random.choice([1, 2, 3, 4, 6, 12, 13, 16, 40])
        names = {"object": random.choice("AB"), "filter": random.choice("LR"), "camera": camera}
        whole = sequence(length, minute, **names)
        if random.random() < 0.2:
            whole = [replace(frame, iobs=None, nobs=None) for frame in whole]
        frames += whole[: random.choice([length, length, length, max(1, length - 1)])]
        minute += 2 * length
        if random.random() < 0.1:
            frames.append(exposure(minute, frame_class="bias", camera=camera))
    return frames


@pytest.mark.parametrize("seed", range(6))
def test_a_plan_from_the_last_frames_is_the_one_from_all(space: Workspace, seed: int) -> None:
    random = Random(seed)
    filed(space, *(frame for camera in "CD" for frame in night(random, camera)))
    worst = association_levels(space.cascade)[-1]
    read = {"whole": 0, "part": 0}
    for _number in range(8):
        since = (START + timedelta(minutes=random.uniform(30, 1200))).isoformat()
        request = clock(random.uniform(600, 3000)).model_copy(update={"since": since})
        nights = window(space.cascade, request, worst, few_before(space, request))
        whole = planned(space, request)
        part = planned(space, request, part=nights)
        # Earlier frames in no set with these are through already: in a drain the time is that of the first that is not.
        assert keys(part, since) == keys(whole, since) and keys(part) <= keys(whole)
        assert with_jobs(part) == with_jobs(whole)
        read["whole"] += len(_with_files(space, None))
        read["part"] += len(_with_files(space, nights))
    assert read["part"] < 0.8 * read["whole"]


@pytest.mark.parametrize("seed", range(4))
def test_plans_of_spans_together_are_the_one_of_all(space: Workspace, seed: int) -> None:
    random = Random(seed)
    filed(space, *(frame for camera in "CD" for frame in night(random, camera)))
    worst = association_levels(space.cascade)[-1]
    request = clock(3000)
    whole, jobs, sets, most = (
        planned(space, request),
        set[str](),
        set[tuple[str | None, tuple[int, ...]]](),
        0,
    )
    for span in spans(space, request, random.randint(40, 120)):
        nights = window(space.cascade, span, worst, few_before(space, span))
        part = planned(space, span, part=nights)
        jobs |= keys(part)
        sets |= with_jobs(part)
        most = max(most, len(_with_files(space, nights)))
    assert jobs == keys(whole) and sets == with_jobs(whole)
    assert most < 0.7 * len(_with_files(space, None))


def spans(space: Workspace, request: Request, most: int) -> Iterator[Request]:
    """The spans of so many frames that make up all."""
    behind: str | None = "2026-01-01"
    while behind is not None:
        since = behind
        until, behind = space.registry.read(span_of, ["science"], since, most) or (None, None)
        yield request.model_copy(update={"since": since, "until": until})


def keys(plan: Plan, since: str = "") -> set[str]:
    """Keys of the jobs that take a frame from a time on."""
    return {job.key for job in plan.jobs if max(frame.obsdate for frame in job.group.frames) >= since}


def with_jobs(plan: Plan) -> set[tuple[str | None, tuple[int, ...]]]:
    return {(made.job, made.frames) for made in plan.sets if made.job is not None}


def test_only_classes_that_are_taken_one_by_one_or_in_sequences_are_narrowed(space: Workspace) -> None:
    assert few_before(space, Request()) == {"science": SequenceRules().max_sequence + 1}
    assert few_before(space, Request(targets=("science",))) == {"science": 0}
    assert few_before(space, Request(targets=("stack_object",))) == {}
    assert few_before(space, Request(targets=("flat",))) == {}
