"""Plans made from what the registry knows, and written back before a pixel is touched."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from ccdflow.archive.registry.choices import ChoiceKind, ChoiceRecord, find_choices
from ccdflow.archive.registry.instrumentevents import find_instrument_events
from ccdflow.archive.registry.jobs import JobFilter, JobRecord, find_jobs
from ccdflow.archive.registry.lifecycle import plan_jobs
from ccdflow.archive.registry.plannedjobs import PlannedJob, drop_incomplete, repoint_inputs
from ccdflow.archive.registry.products import ProductFilter, find_products, superseded_keys
from ccdflow.archive.registry.queries import FrameFilter, find_frames
from ccdflow.archive.registry.setchanges import Change, apply_set_changes
from ccdflow.archive.registry.sets import SetFilter, find_sets
from ccdflow.archive.registry.stages import StageState, set_stages, stage_states
from ccdflow.archive.store import ProductLocation
from ccdflow.cascade.headers.amplifiers import detector_digest
from ccdflow.cascade.planning.associate import Barrier
from ccdflow.cascade.planning.jobs import DoneJob, Job, JobInput
from ccdflow.cascade.planning.keys import main_identity, work_name
from ccdflow.cascade.planning.planner import plan
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.reach import nights_back
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.records import CLASSES
from ccdflow.cascade.specification.model import Cascade
from ccdflow.tasks.changes import mark_superseded
from ccdflow.tasks.workspace import Workspace, open_workspace

MOST_NIGHTS = 10_000
"""A reach that is longer is none."""
SHORT = 20
"""Names of frames are shorter, keys of jobs longer."""
PLACE = ("night", "telescope", "camera", "instrument", "filter", "object")


@dataclass(frozen=True)
class Window:
    """The nights that are read of a registry: the first by class of frame, and the first of jobs and products."""

    frames: Mapping[str, str]
    jobs: str


def window(cascade: Cascade, request: Request, level: int) -> Window:
    """All that jobs may be made of that start with frames from the request's `since` on, at this level or better.

    See `ccdflow.cascade.planning.reach.nights_back`.
    """
    found = nights_back(cascade, cascade.targets(request.targets), level)
    raw = {name: found.get(name) for name in CLASSES}
    first = {name: _night_before(request.since, back) for name, back in raw.items()}
    return Window(first, min(first.values()))


def _night_before(since: str | None, nights: float | None) -> str:
    """The night so many nights before a time; before all nights there is ``""``, after all of them ``"~"``."""
    if nights is None:
        return "~"
    if since is None or nights > MOST_NIGHTS:
        return ""
    return (datetime.fromisoformat(since) - timedelta(days=nights + 1)).date().isoformat()


def planned(
    space: Workspace, request: Request, failed: Collection[str] = frozenset(), part: Window | None = None
) -> Plan:
    """The plan for a request; nothing is written. Jobs count as done where their products are intact.

    With `part`, no more than that is read of the registry.
    """
    choices = space.registry.read(find_choices)
    if request.late is None:
        request = request.model_copy(update={"late": space.project.late_calibrations})
    known = Known(
        cascade=space.cascade,
        recipes=space.recipes,
        frames=space.registry.read(find_frames, FrameFilter(nights=part.frames if part else {})),
        done=space.intact_keys(part.jobs if part else None),
        detectors={one.name: detector_digest(one) for one in space.instruments},
        barriers=[Barrier(**asdict(one)) for one in space.registry.read(find_instrument_events)],
        banned=_chosen(space, choices, "banned"),
        pinned=_chosen(space, choices, "pinned"),
        keywords={name for one in space.instruments for name in one.keep},
        done_jobs=_done_jobs(space, part) if request.late == "keep" else {},
        whole=part is None,
    )
    return plan(known, request, failed)


def _chosen(space: Workspace, choices: Sequence[ChoiceRecord], verdict: ChoiceKind) -> frozenset[str]:
    """Frames, keys of jobs, and what these made of their main input whatever the parameters."""
    subjects = [one.subject for one in choices if one.verdict == verdict]
    jobs = space.registry.read(find_jobs, JobFilter(keys=[one for one in subjects if len(one) > SHORT]))
    works = (work_name(job.step, [one for one in _inputs(job) if one.role == "main"]) for job in jobs)
    return frozenset([*subjects, *works])


def _inputs(job: JobRecord) -> tuple[JobInput, ...]:
    return tuple(JobInput(**asdict(one)) for one in job.inputs)


def _done_jobs(space: Workspace, part: Window | None) -> dict[tuple[str, str], list[DoneJob]]:
    """With what the jobs that are done were done, by task and main input; the newest first."""
    done = space.registry.read(find_jobs, JobFilter(states=("done",), from_night=part.jobs if part else None))
    found: dict[tuple[str, str], list[DoneJob]] = {}
    for job in sorted(done, key=lambda one: one.finished_at, reverse=True):
        inputs = _inputs(job)
        main = main_identity(one for one in inputs if one.role == "main")
        found.setdefault((job.step, main), []).append(DoneJob(job.key, job.step, inputs))
    return found


def recover(project: str) -> None:
    """Give back the jobs of dead workers, and delete the files that they left half written."""
    open_workspace(project).recover()


def make_plan(project: str, request: Request, failed: Collection[str] = frozenset()) -> Plan:
    """The plan for a request; its jobs and their products stand in the registry as planned."""
    space = open_workspace(project)
    found = planned(space, request, for_good(space, failed))
    write_plan(space, found, failed)
    return found


def for_good(space: Workspace, failed: Collection[str]) -> set[str]:
    """Those of the jobs that were tried in vain for which a plan looks for another way.

    The others only wait for room or whatever the machine had too little of: what they make is not replaced.
    """
    if not failed:
        return set()
    return {job.key for job in space.registry.read(find_jobs, JobFilter(keys=failed, states=("failed",)))}


def to_do(found: Plan, tried: Collection[str]) -> list[Job]:
    """The new jobs of a plan but for those that were tried in vain, and what needs them."""
    without = set(tried)
    for job in found.jobs:  # each behind those whose products it takes
        if job.state == "new" and without.intersection(job.parents):
            without.add(job.key)
    return [job for job in found.jobs if job.state == "new" and job.key not in without]


def write_plan(
    space: Workspace, found: Plan, failed: Collection[str] = frozenset(), *, whole: bool = True
) -> None:
    """Write the jobs of a plan with what they will make, and which frames wait for what.

    Incomplete jobs that a plan of `whole` nights no longer names are forgotten.
    """
    mark_current(space, found)
    sets = _set_ids(space, found)
    open_jobs = [job for job in found.jobs if job.state != "reused"]
    waiting = [job for job in open_jobs if job.key not in failed]
    if whole:
        space.registry.write(
            drop_incomplete, [job.key for job in found.jobs], {_where(job) for job in found.jobs}
        )
    rows = [_row(space, job, sets.get(job.key)) for job in open_jobs]
    space.registry.write(plan_jobs, rows, _waiting(waiting))


def _waiting(jobs: Sequence[Job]) -> dict[str, list[StageState]]:
    """Which frames wait for which of these jobs: each in one stage only."""
    raw = {frame.id for job in jobs if job.main[0].job is None for frame in job.group.frames}
    return {
        job.key: [
            StageState(frame.id, job.stage, "waiting", job.reason)
            for frame in job.group.frames
            if job.main[0].job is None or frame.id not in raw
        ]
        for job in jobs
    }


def mark_current(space: Workspace, found: Plan) -> None:
    """Where a plan comes back to products that had given way to others, mark the others instead."""
    marked = space.registry.read(superseded_keys)
    again = [job for job in found.jobs if job.key in marked and job.state == "reused"]
    mark_superseded(space, again)


def adopt_frames(space: Workspace, found: Plan) -> None:
    """Give frames that came anew with a content whose work is done the state that the content has reached.

    A file that was damaged and then restored is a new row of the registry; what was made of its content still holds.
    """
    reused = [job for job in found.jobs if job.state == "reused"]
    for stage in {job.stage for job in reused}:
        members = {frame.id for job in reused if job.stage == stage for frame in job.group.frames}
        new = members - space.registry.read(stage_states, stage, members).keys()
        if new:
            space.registry.write(set_stages, [StageState(frame, stage, "done") for frame in new])
            jobs = [job for job in reused if any(one.frame in new for one in job.main)]
            space.registry.write(
                repoint_inputs,
                {job.key: [one.frame for one in job.main if one.frame is not None] for job in jobs},
            )


def _where(job: Job) -> tuple[str, str, str]:
    return job.step, job.group.text("night"), job.group.text("camera")


def link_sets(space: Workspace, found: Plan) -> None:
    """Note with each set the product that was made of it."""
    numbers = _set_ids(space, found)
    made = {
        one.job_key: one.id for one in space.registry.read(find_products, ProductFilter(job_keys=numbers))
    }
    known = {
        one.id: one.product_id for one in space.registry.read(find_sets, SetFilter(ids=numbers.values()))
    }
    changes = [
        Change(numbers[key], product_id=product)
        for key, product in made.items()
        if known[numbers[key]] != product
    ]
    space.registry.write(apply_set_changes, changes)


def _set_ids(space: Workspace, found: Plan) -> dict[str, int]:
    """Id of the registry's set by the key of the job that was planned for it."""
    firsts = SetFilter(frames={one.frames[0] for one in found.sets if one.job is not None})
    known = {(one.step, one.frames): one.id for one in space.registry.read(find_sets, firsts)}
    named = {one.job: known.get((one.step, one.frames)) for one in found.sets}
    return {key: number for key, number in named.items() if key is not None and number is not None}


def _row(space: Workspace, job: Job, set_id: int | None) -> PlannedJob:
    """A job as the registry keeps it."""
    group = job.group
    place: dict[str, Any] = {name: group.text(name) for name in PLACE}
    exptime = group.value("exptime")
    where = place["night"], place["telescope"], place["camera"], job.name, job.key
    outputs = [(one, space.store.path_for(ProductLocation(one, *where))) for one in job.outputs]
    return PlannedJob(
        key=job.key,
        step=job.step,
        recipe=job.recipe,
        version=job.version,
        inputs=job.inputs,
        outputs=outputs,
        parameters={name: {"value": one.value, "origin": one.origin} for name, one in job.parameters.items()},
        state="incomplete" if job.state == "incomplete" else "planned",
        reason=job.reason,
        exptime=None if exptime is None else float(exptime),
        obsdate=group.frames[0].obsdate,
        level=job.level,
        worst_level=job.worst_level,
        set_id=set_id,
        **place,
    )
