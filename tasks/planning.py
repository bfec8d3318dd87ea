"""Plans made from what the registry knows; a plan writes nothing, but for what who works notes of the store."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta

from ccdflow.archive.registry.choices import ChoiceKind, ChoiceRecord, find_choices
from ccdflow.archive.registry.frames.nearrows import count_rows, find_last_frames, with_near_rows
from ccdflow.archive.registry.frames.places import frames_at
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames
from ccdflow.archive.registry.frames.stages import count_unfinished
from ccdflow.archive.registry.instrumentevents import find_instrument_events
from ccdflow.archive.registry.jobs.lineage import main_descendants
from ccdflow.archive.registry.jobs.records import JobFilter, done_without_products, find_jobs
from ccdflow.cascade.headers.amplifiers import detector_digest
from ccdflow.cascade.planning.associate import Barrier
from ccdflow.cascade.planning.jobs import DoneJob, Job
from ccdflow.cascade.planning.keys import main_identity, work_name
from ccdflow.cascade.planning.planner import plan
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.reach import nights_back
from ccdflow.cascade.planning.request import Known, Request
from ccdflow.cascade.records import CLASSES, JOB_STAGES, FrameRecord
from ccdflow.cascade.sequences.exposures import SequenceRules
from ccdflow.cascade.specification.model import Cascade
from ccdflow.tasks.keeping.stock import kept_keys, whole_keys
from ccdflow.tasks.workspace import Workspace

TakeStock = Callable[[Workspace, str | None, Collection[str] | None], set[str]]
"""Gives the keys of the jobs, from a night on or of some keys, whose products are all there."""

MOST_NIGHTS = 10_000
"""Nights, 27 years: a reach beyond is as good as none, and its date need not exist in the calendar."""
LONGEST_FRAME_NAME = 20
"""Characters: names of frames (``f12``) are shorter, keys of jobs (64 hexadecimal digits) longer."""


LIVE_AGE_DAYS = 2.0
"""Days: what is older is not done while frames come in, unless `live` is told otherwise."""


@dataclass(frozen=True)
class Window:
    """The nights that are read of a registry: the first by class of frame, and the first of jobs and products.

    Nights are ISO dates; ``""`` comes before all nights, ``"~"`` after all of them. Of the classes that `before` names
    no more than so many frames of each stream are read that lie before the time `since`, and as many behind `until`
    where that is set, and no jobs but those that were done with frames that are read.
    """

    frames: Mapping[str, str]
    jobs: str
    before: Mapping[str, int] = field(default_factory=dict)
    since: str = ""
    until: str | None = None


def window(cascade: Cascade, request: Request, level: int, before: Mapping[str, int] | None = None) -> Window:
    """Return what holds all of which jobs may be made that start with frames from `request.since` to `request.until`.

    Parameters
    ----------
    cascade : Cascade
        The cascade, whose rules say how far back calibrations are looked for.
    request : Request
        Its targets and its times count.
    level : int
        The worst association level that is of interest; see `ccdflow.cascade.planning.reach.nights_back`.
    before : mapping of str to int, optional
        Classes of which frames before `request.since`, and behind `request.until`, are read no further than so many of
        each stream.

    Returns
    -------
    Window
        The first nights that have to be read.
    """
    reach = nights_back(cascade, cascade.targets(request.targets), level)
    first = {name: _night_before(request.since, reach.get(name)) for name in CLASSES}
    return Window(first, min(first.values()), before or {}, request.since or "", request.until)


def _night_before(since: str | None, nights: float | None) -> str:
    """The night so many nights before a time; before all nights there is ``""``, after all of them ``"~"``."""
    # As texts dates sort as in time: the empty text before all of them, and the tilde behind all digits.
    if nights is None:
        return "~"
    if since is None or nights > MOST_NIGHTS:
        return ""
    # One night more: a time after midnight belongs to the night of the day before. The oldest frame may have a time
    # that is none, as a row says it, or that lies before all nights: then all of them are looked at.
    try:
        return (datetime.fromisoformat(since) - timedelta(days=nights + 1)).date().isoformat()
    except (ValueError, OverflowError):
        return ""


def planned(
    space: Workspace,
    request: Request,
    failed: Collection[str] = frozenset(),
    part: Window | None = None,
    stock: TakeStock = whole_keys,
    *,
    every_row: bool = False,
) -> Plan:
    """Return the plan for a request. Jobs count as done where their products are intact.

    Parameters
    ----------
    space : Workspace
        The project.
    request : Request
        Targets, parameters and selection.
    failed : collection of str
        Keys of jobs for which the plan is to look for another way.
    part : Window, optional
        No more than these nights is read of the registry; without it, all.
    stock : callable
        Tells which jobs' products are there: who works takes `kept_keys`, which also notes what is gone.
    every_row : bool
        Whether sets are wanted of rows that have no files, too.

    Returns
    -------
    Plan
        Its jobs and sets.

    Raises
    ------
    StoreAwayError
        If the store, or much of it, is not there.
    """
    choices = space.registry.read(find_choices)
    request = located(space, request)
    if request.late is None:
        request = request.model_copy(update={"late": space.project.late_calibrations})
    frames = _frames(space, request, part, every_row=every_row)
    events = space.registry.read(find_instrument_events)
    keys = _keys_behind(space, frames) if part and part.before else None
    known = Known(
        cascade=space.cascade,
        recipes=space.recipes,
        frames=frames,
        done=stock(space, part.jobs if part else None, keys),
        detectors={instrument.name: detector_digest(instrument) for instrument in space.instruments},
        barriers=[Barrier(**asdict(event)) for event in events if not event.oddity],
        banned=_chosen(space, choices, "banned"),
        pinned=_chosen(space, choices, "pinned"),
        keywords={name for instrument in space.instruments for name in instrument.keep},
        done_jobs=_done_jobs(space, part, keys, request.variant) if request.late == "keep" else {},
        whole=part is None,
    )
    # What takes products of a job that has made none does without them, as if it had failed.
    without = {*failed, *space.registry.read(done_without_products, part.jobs if part else None)}
    wanted = plan(known, request, without)
    if part is None and (note := _rows_in_words(space, request)):
        wanted = replace(wanted, notes=(*wanted.notes, note))
    if not request.variant:
        return wanted
    # What the project's own parameters would ask for as well is its own, whoever asks.
    own = {job.key for job in plan(known, request.own, without).jobs}
    return replace(wanted, variants={job.key: request.variant for job in wanted.jobs if job.key not in own})


def located(space: Workspace, request: Request) -> Request:
    """Return a request for the frames that lie at its paths, by their numbers.

    Parameters
    ----------
    space : Workspace
        The project.
    request : Request
        With paths or without.

    Returns
    -------
    Request
        Without paths. Of a file that another one is a duplicate of, the frame that holds its content.
    """
    if not request.paths:
        return request
    frames = frozenset(space.registry.read(frames_at, request.paths))
    both = frames if request.frames is None else frames & request.frames
    return request.model_copy(update={"paths": (), "frames": both})


def _frames(space: Workspace, request: Request, part: Window | None, *, every_row: bool) -> list[FrameRecord]:
    """The frames of some nights, or of all; of rows without files only those that sequences of others depend on."""
    groups = [group for step in space.cascade.tasks.values() for group in step.groups.values()]
    rules = [group for group in groups if isinstance(group, SequenceRules)]
    # How long a sequence may be with the project's own rules is known before anything is planned.
    if request.variant or every_row or not rules:
        return space.registry.read(find_frames, FrameFilter(nights=part.frames if part else {}))
    near = max(group.max_sequence for group in rules) + 1
    return space.registry.read(with_near_rows, _with_files(space, part), near)


def _with_files(space: Workspace, part: Window | None) -> list[FrameRecord]:
    """The frames with files of some nights, or of all, and of some classes the last ones."""
    if part is None:
        return space.registry.read(find_frames, FrameFilter(has_file=True))
    # The tilde stands behind all nights.
    nights = {**part.frames, **dict.fromkeys(part.before, "~")}
    others = space.registry.read(find_frames, FrameFilter(nights=nights, has_file=True))
    return [*others, *space.registry.read(find_last_frames, part.before, part.since, part.until)]


def _keys_behind(space: Workspace, frames: Sequence[FrameRecord]) -> set[str]:
    """Keys of the jobs that took these frames, or what was made of them, as their main input."""
    return set(space.registry.read(main_descendants, [frame.id for frame in frames]))


def _rows_in_words(space: Workspace, request: Request) -> str:
    """Say how many rows without files a request is about."""
    wanted = FrameFilter(
        status=("registered",),
        classes=last_stages(space.cascade, request.targets).keys(),
        **{name: getattr(request, name) for name in ("night", "camera", "since", "until")},
        strict=False,
    )
    count = space.registry.read(count_rows, wanted)
    rows = "1 row of a catalogue has" if count == 1 else f"{count:,} rows of a catalogue have"
    return f"{rows} no file yet: no job is made of that" if count else ""


def _chosen(space: Workspace, choices: Sequence[ChoiceRecord], verdict: ChoiceKind) -> frozenset[str]:
    """Frames, keys of jobs, and what these made of their main input whatever the parameters."""
    subjects = [choice.subject for choice in choices if choice.verdict == verdict]
    keys = [subject for subject in subjects if len(subject) > LONGEST_FRAME_NAME]
    jobs = space.registry.read(find_jobs, JobFilter(keys=keys))
    # A ban of one job's product holds for what other parameters would make of the same frames, too.
    works = (work_name(job.step, [part for part in job.inputs if part.role == "main"]) for job in jobs)
    return frozenset([*subjects, *works])


def _done_jobs(
    space: Workspace, part: Window | None, keys: Collection[str] | None, variant: str
) -> dict[tuple[str, str], list[DoneJob]]:
    """With what the jobs that are done were done, by task and main input; the newest first."""
    nights = part.jobs if part else None
    done = space.registry.read(find_jobs, JobFilter(states=("done",), from_night=nights, keys=keys))
    by_work: dict[tuple[str, str], list[DoneJob]] = {}
    # What other requests' parameters made was for them alone.
    done = [job for job in done if job.variant in ("", variant)]
    for job in sorted(done, key=lambda job: job.finished_at, reverse=True):
        main = main_identity(part for part in job.inputs if part.role == "main")
        by_work.setdefault((job.step, main), []).append(DoneJob(job.key, job.step, job.inputs))
    return by_work


def planned_again(space: Workspace, request: Request, tried: Collection[str]) -> Plan:
    """Return the plan of who works, after some jobs were tried in vain; see `planned`.

    Parameters
    ----------
    space : Workspace
        The project.
    request : Request
        Targets, parameters and selection.
    tried : collection of str
        Keys of the jobs. For those that failed for good the plan looks for another way.

    Returns
    -------
    Plan
        Its jobs and sets.
    """
    return planned(space, request, for_good(space, tried), stock=kept_keys)


def for_good(space: Workspace, tried: Collection[str]) -> set[str]:
    """Return the jobs that have failed, of those that were tried in vain.

    Parameters
    ----------
    space : Workspace
        The project.
    tried : collection of str
        Keys of jobs.

    Returns
    -------
    set of str
        Keys of those for which a plan looks for another way. The others only wait for room, or for whatever the
        machine had too little of: what they make is not replaced.
    """
    if not tried:
        return set()
    return {job.key for job in space.registry.read(find_jobs, JobFilter(keys=tried, states=("failed",)))}


def last_stages(cascade: Cascade, targets: Sequence[str] = ()) -> dict[str, str]:
    """Return the last stage that frames go through on the way to some targets.

    Parameters
    ----------
    cascade : Cascade
        What is made from what.
    targets : sequence of str
        Tasks or tags; by default what is made without being asked for.

    Returns
    -------
    dict of str to str
        The stage by class of frame.
    """
    # Of several targets that begin with the same frames the last stage counts, which stands last here.
    tasks = sorted(cascade.targets(targets), key=lambda task: JOB_STAGES.index(cascade.tasks[task].stage))
    return {
        cascade.sources[cascade.main_source(task)].frame_class: cascade.tasks[task].stage for task in tasks
    }


def left_to_others(space: Workspace, days: float, ids: tuple[int, int | None] = (0, None)) -> str:
    """Say how many frames wait that are too old for `live`.

    Parameters
    ----------
    space : Workspace
        The project.
    days : float
        The age from which on they are.
    ids : tuple of int and int or None
        Only frames from the first id to the last; None for no last one.

    Returns
    -------
    str
        As ``12 frames older than 2 days: left to nightly or reduce``; empty where there are none.
    """
    before = (datetime.now(UTC) - timedelta(days=min(days, MOST_NIGHTS))).replace(tzinfo=None)
    oldest = before.isoformat(timespec="seconds")
    count = space.registry.read(count_unfinished, last_stages(space.cascade), oldest, ids)
    age = f"{days:g} day{'' if days == 1 else 's'}"
    frames = "1 frame" if count == 1 else f"{count:,} frames"
    return f"{frames} older than {age}: left to nightly or reduce" if count else ""


def to_do(plan: Plan, tried: Collection[str]) -> list[Job]:
    """Return the new jobs of a plan but for those that were tried in vain, and what needs them.

    Parameters
    ----------
    plan : Plan
        The plan.
    tried : collection of str
        Keys of the jobs that were tried in vain.

    Returns
    -------
    list of Job
        In the plan's order, each behind those whose products it takes.
    """
    without = set(tried)
    # One pass finds descendants of every depth, since a plan names each job behind those whose products it takes.
    for job in plan.jobs:
        if job.state == "new" and without.intersection(job.parents):
            without.add(job.key)
    return [job for job in plan.jobs if job.state == "new" and job.key not in without]
