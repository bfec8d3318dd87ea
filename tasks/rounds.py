"""One round of work, the same at the desk, at night and near-live: plan, write, do, supersede, group, link."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ccdflow.archive.registry.frames.stages import StageState, set_stages, stage_states
from ccdflow.archive.registry.jobs.lifecycle import plan_jobs
from ccdflow.archive.registry.jobs.planned import (
    PlannedJob,
    adopt_jobs,
    drop_incomplete,
    drop_overtaken,
    incomplete_reasons,
    repoint_inputs,
    variant_keys,
)
from ccdflow.archive.registry.jobs.products import ProductFilter, find_products, superseded_keys
from ccdflow.archive.registry.jobs.records import JobFilter, find_jobs, link_jobs
from ccdflow.archive.registry.sets.changes import Change, apply_set_changes
from ccdflow.archive.registry.sets.records import SetFilter, find_sets
from ccdflow.archive.store import ProductLocation
from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.request import Request
from ccdflow.tasks.changes import mark_superseded
from ccdflow.tasks.grouping import group_sets
from ccdflow.tasks.planning import to_do
from ccdflow.tasks.workspace import Workspace

Extent = Literal["nights", "span", "beginning"]
"""What a plan knows: whole nights; all frames of a span of time; or no more than what is to be begun."""

Do = Callable[[list[Job]], dict[str, str]]
"""Does jobs; gives the sentences of what failed or has to wait, by key of the job."""

LOCATION_COLUMNS = ("night", "telescope", "camera", "instrument", "filter", "object")
"""Columns by which a job's products are put into the store and found again."""


@dataclass(frozen=True)
class Work:
    """What a round has begun: its jobs, and the sentences of those that failed or have to wait, by key.

    `grouping_s` are the seconds that sets took.
    """

    jobs: Sequence[Job] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    grouping_s: float = 0.0


@dataclass(frozen=True)
class Round:
    """One pass over what is due; its fields are what differs between the desk, the night and near-live.

    Parameters
    ----------
    space : Workspace
        The project.
    plan : callable
        Makes the plan; gives None where nothing can be due.
    do : callable, optional
        Does the jobs. Without it others have done them already, and the round only takes stock of the whole plan.
    choose : callable
        Takes the jobs that can be done, each behind those whose products it takes; gives those of this round.
    extent : {'nights', 'span', 'beginning'}
        Of whole nights and spans all that is planned is written, though nothing can be done, and incomplete jobs that
        the plan no longer names are forgotten; see `write_plan`.
    grouping : Request, optional
        By which sets are cut at the end of the round. Without it sets are left to a flow of their own.
    most_rows : int, optional
        So many new rows without files are put into sets at the most; without it, all.
    """

    space: Workspace
    plan: Callable[[], Plan | None]
    do: Do | None = None
    choose: Callable[[list[Job]], list[Job]] = list
    extent: Extent = "nights"
    grouping: Request | None = None
    most_rows: int | None = None

    def run(self, tried: Collection[str] = frozenset()) -> Work:
        """Plan, write, do, supersede, group, link: in this order, which is what makes a kill at any moment harmless.

        Parameters
        ----------
        tried : collection of str
            Keys of jobs that were tried in vain: neither they nor what needs them is done, and no frame waits for
            them.

        Returns
        -------
        Work
            What was begun.
        """
        plan = self.plan()
        work = Work() if plan is None else self._follow(plan, tried)
        # Sets are cut by the states that frames have reached, so behind all work.
        if self.grouping is not None:
            begin = time.monotonic()
            group_sets(self.space, self.grouping, self.most_rows)
            work = replace(work, grouping_s=time.monotonic() - begin)
            # Where its set stood in the registry, a job linked it when it was finished. This is for sets that have come
            # into it only now.
            if plan is not None and (work.jobs or self.do is None):
                link_sets(self.space, plan)
        return work

    def _follow(self, plan: Plan, tried: Collection[str]) -> Work:
        """Write the plan, and do what this round is to do of it."""
        jobs = [] if self.do is None else self.choose(to_do(plan, tried))
        # Jobs stand in the registry, with their products as planned, before a pixel is touched: whoever dies from here
        # on leaves rows by which the next round, of this program or another, knows what there is to be done.
        if jobs or self.extent != "beginning":
            write_plan(self.space, plan, tried, {job.key for job in jobs}, self.extent)
        if self.do is None:
            adopt_frames(self.space, plan)
            return Work()
        failed = self.do(jobs)
        # Nothing gives way to a product before the row of that is committed.
        if done := [job for job in jobs if job.key not in failed]:
            mark_superseded(self.space, done, plan.variants)
        return Work(jobs, failed)


# --- what a plan leaves in the registry ---------------------------------------------------------------


def write_plan(
    space: Workspace,
    plan: Plan,
    tried: Collection[str] = frozenset(),
    begun: Collection[str] = frozenset(),
    extent: Extent = "nights",
) -> None:
    """Write the jobs of a plan with what they will make, and which frames wait for what.

    Parameters
    ----------
    space : Workspace
        The project.
    plan : Plan
        The plan; its reused jobs stand in the registry already.
    tried : collection of str
        Keys of jobs that were tried in vain: no frame waits for them.
    begun : collection of str
        Keys of the jobs that are begun now.
    extent : {'nights', 'span', 'beginning'}
        Of a plan that looks no further than the jobs that begin now nothing else is written but what can't be done,
        with its reason. Else all of it is, and those jobs are forgotten that an earlier plan has left for frames that
        now are in other jobs; of whole nights also incomplete jobs that the plan no longer names.
    """
    _mark_current(space, plan)
    open_jobs = [job for job in plan.jobs if job.state != "reused"]
    if extent == "beginning":
        open_jobs = _due(space, open_jobs, begun)
    else:
        _forget(space, plan, extent)
    set_ids = _set_ids(space, plan, {job.key for job in open_jobs})
    rows = [_row(space, job, set_ids.get(job.key), plan.variants.get(job.key, "")) for job in open_jobs]
    # Where a frame is with the project's own parameters, others do not tell.
    wait = [job for job in open_jobs if job.key not in tried and job.key not in plan.variants]
    space.registry.write(plan_jobs, rows, _waiting(wait, _uncalibrated(plan, tried)))


def _forget(space: Workspace, plan: Plan, extent: Extent) -> None:
    """Delete the jobs that a plan no longer names, of what it knows."""
    keys = [job.key for job in plan.jobs]
    if extent == "nights":
        streams = {(job.step, job.group.text("night"), job.group.text("camera")) for job in plan.jobs}
        space.registry.write(drop_incomplete, keys, streams)
    states = ("planned",) if extent == "nights" else ("planned", "incomplete")
    space.registry.write(drop_overtaken, keys, _frames_by_place(plan), states)


def _due(space: Workspace, jobs: Sequence[Job], begun: Collection[str]) -> list[Job]:
    """Jobs that are begun now, and those that can't be done of which the registry does not say so yet."""
    # Of a night of thousands of jobs a drain begins some 40 at a time: to write the others each time would take longer
    # than to do these. They are written with the next plan of whole nights, or once their turn has come.
    told = space.registry.read(incomplete_reasons, [job.key for job in jobs if job.state == "incomplete"])
    return [
        job
        for job in jobs
        if job.key in begun or (job.state == "incomplete" and told.get(job.key) != job.reason)
    ]


def _frames_by_place(plan: Plan) -> dict[tuple[str, str, str], set[int]]:
    """The raw frames behind the project's own jobs, by step, night and camera."""
    frames: dict[tuple[str, str, str], set[int]] = {}
    for job in plan.jobs:
        if job.key not in plan.variants:
            place = job.step, job.group.text("night"), job.group.text("camera")
            frames.setdefault(place, set()).update(frame.id for frame in job.group.frames)
    return frames


def _uncalibrated(plan: Plan, tried: Collection[str]) -> set[int]:
    """Raw frames of which the project's own jobs are yet to be done."""
    return {
        frame.id
        for job in plan.jobs
        if job.state != "reused" and job.key not in tried and job.key not in plan.variants
        if job.main[0].job is None
        for frame in job.group.frames
    }


def _waiting(jobs: Sequence[Job], raw: Collection[int]) -> dict[str, list[StageState]]:
    """Which frames wait for which of these jobs: each in one stage only."""
    # A raw frame that is yet to be calibrated waits for that alone, not for the stack that will take it later.
    return {
        job.key: [
            StageState(frame.id, job.stage, "waiting", job.reason)
            for frame in job.group.frames
            if job.main[0].job is None or frame.id not in raw
        ]
        for job in jobs
    }


def _mark_current(space: Workspace, plan: Plan) -> None:
    """Where a plan comes back to products that had given way to others, mark the others instead."""
    adopted = {job.key for job in plan.jobs if job.key not in plan.variants} & space.registry.read(
        variant_keys
    )
    if adopted:
        space.registry.write(adopt_jobs, adopted)
    superseded = space.registry.read(superseded_keys)
    back = [job for job in plan.jobs if job.key in superseded and job.state == "reused"]
    mark_superseded(space, back, plan.variants)


def _row(space: Workspace, job: Job, set_id: int | None, variant: str) -> PlannedJob:
    """A job as the registry keeps it."""
    group = job.group
    location: dict[str, Any] = {name: group.text(name) for name in LOCATION_COLUMNS}
    exptime = group.value("exptime")
    where = location["night"], location["telescope"], location["camera"], job.name, job.key
    outputs = [
        (category, space.store.path_for(ProductLocation(category, *where))) for category in job.outputs
    ]
    parameters = {
        name: {"value": resolved.value, "origin": resolved.origin}
        for name, resolved in job.parameters.items()
    }
    return PlannedJob(
        key=job.key,
        step=job.step,
        recipe=job.recipe,
        version=job.version,
        inputs=job.inputs,
        outputs=outputs,
        parameters=parameters,
        state="incomplete" if job.state == "incomplete" else "planned",
        reason=job.reason,
        exptime=None if exptime is None else float(exptime),
        obsdate=group.frames[0].obsdate,
        level=job.level,
        worst_level=job.worst_level,
        set_id=set_id,
        variant=variant,
        compromises="\n".join(dict.fromkeys(lack.reason for lack in job.compromises)),
        **location,
    )


def adopt_frames(space: Workspace, plan: Plan) -> None:
    """Give frames that came anew with a content whose work is done the state that the content has reached.

    Parameters
    ----------
    space : Workspace
        The project.
    plan : Plan
        The plan, whose reused jobs count.

    Notes
    -----
    A file that was damaged and then restored is a new row of the registry; what was made of its content still holds.
    """
    reused = [job for job in plan.jobs if job.state == "reused"]
    for stage in {job.stage for job in reused}:
        members = {frame.id for job in reused if job.stage == stage for frame in job.group.frames}
        new = members - space.registry.read(stage_states, stage, members).keys()
        if new:
            space.registry.write(set_stages, [StageState(frame, stage, "done") for frame in new])
            # The jobs' keys stay, since the content is the same; their inputs are to name the row that is there.
            jobs = [job for job in reused if any(part.frame in new for part in job.main)]
            main_frames = {
                job.key: [part.frame for part in job.main if part.frame is not None] for job in jobs
            }
            space.registry.write(repoint_inputs, main_frames)


def link_sets(space: Workspace, plan: Plan) -> None:
    """Note with each set the product that was made of it.

    Parameters
    ----------
    space : Workspace
        The project.
    plan : Plan
        The plan, which says what job is made of which set.
    """
    set_ids = _set_ids(space, plan)
    products = space.registry.read(find_products, ProductFilter(job_keys=set_ids))
    product_ids = {product.job_key: product.id for product in products}
    records = space.registry.read(find_sets, SetFilter(ids=set_ids.values()))
    linked = {record.id: record.product_id for record in records}
    changes = [
        Change(set_ids[key], product_id=product)
        for key, product in product_ids.items()
        if linked[set_ids[key]] != product
    ]
    space.registry.write(apply_set_changes, changes)
    # Of a job that was begun before its set was cut, so that the set can tell which frames the job has left out.
    jobs = space.registry.read(find_jobs, JobFilter(keys=set_ids))
    unlinked = {job.key: set_ids[job.key] for job in jobs if job.set_id != set_ids[job.key]}
    if unlinked:
        space.registry.write(link_jobs, unlinked)


def _set_ids(space: Workspace, plan: Plan, keys: Collection[str] | None = None) -> dict[str, int]:
    """Id of the registry's set by the key of the job that was planned for it: of these jobs, or of all."""
    # The plan's sets and the registry's are cut by the same rules, yet each from its own look at the frames: they are
    # the same one where task and frames are. A set that has changed meanwhile is left to the next plan.
    # What a request's own parameters make of a set's frames is not the set's product.
    sets = [planned for planned in plan.sets if planned.job is not None and planned.job not in plan.variants]
    sets = [planned for planned in sets if keys is None or planned.job in keys]
    records = space.registry.read(find_sets, SetFilter(frames={planned.frames[0] for planned in sets}))
    ids = {(record.step, record.frames): record.id for record in records}
    by_job = {planned.job: ids.get((planned.step, planned.frames)) for planned in sets}
    return {key: number for key, number in by_job.items() if key is not None and number is not None}
