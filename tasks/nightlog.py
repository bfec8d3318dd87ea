"""What people see of a night: the observing log of each camera, what it came to, what is missing, pictures."""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from ccdflow.archive.registry.jobs import JobFilter, JobRecord, find_jobs
from ccdflow.archive.registry.lineage import main_frames
from ccdflow.archive.registry.products import ProductFilter, ProductRecord, find_products
from ccdflow.archive.registry.queries import FrameFilter, find_frames, list_frames
from ccdflow.tasks.markdown import table
from ccdflow.tasks.pictures import picture_of
from ccdflow.tasks.workspace import Workspace, open_workspace

PICTURES = 4
"""Stacks, or else calibrated frames, whose pictures a night's page shows: the last ones."""
LISTED = 100
"""Refused frames that are named."""
NOT_DONE = ("failed", "incomplete", "refused")

Row = dict[str, Any]


def cameras_of(space: Workspace, night: str) -> list[tuple[str, str]]:
    """Telescopes and cameras that took frames in a night."""
    found = space.registry.read(find_frames, FrameFilter(night=night, keywords=()))
    return sorted({(one.telescope, one.camera) for one in found})


def unreadable(space: Workspace) -> list[Row]:
    """The last frames that were refused with so little known that they belong to no night."""
    found = space.registry.read(list_frames, FrameFilter(night="", status=("refused",)))
    found.sort(key=lambda one: one["id"], reverse=True)
    return [
        {
            "frame": f"f{one['id']}",
            "file": one["path"],
            "since": one["registered_at"][:19],
            "reason": one["reason"],
        }
        for one in found[:LISTED]
    ]


def observing_log(space: Workspace, night: str, camera: str) -> list[Row]:
    """A row for each frame, in order of time: what it is, how far it has come, in which set, what was made, and why."""
    frames = space.registry.read(list_frames, FrameFilter(night=night, camera=camera))
    made = _products(space, night, camera)
    return [
        {
            "frame": f"f{one['id']}",
            "start": one["obsdate"][11:19],
            "class": one["class"],
            "object": one["object"],
            "filter": one["filter"],
            "exposure": one["exptime"],
            "state": f"{one['stage']} {one['status']}",
            "set": f"s{one['set']}" if one["set"] else "",
            "product": " ".join(made.get(one["id"], ())),
            "reason": one["reason"],
        }
        for one in frames
    ]


def _products(space: Workspace, night: str, camera: str) -> dict[int, list[str]]:
    """Products that were made of each frame alone, or of its set, by frame."""
    products = space.registry.read(find_products, ProductFilter(night=night, camera=camera))
    by_key: dict[str, list[ProductRecord]] = {}
    for one in products:
        if one.superseded_by is None:
            by_key.setdefault(one.job_key, []).append(one)
    found: dict[int, list[str]] = {}
    for job in space.registry.read(find_jobs, JobFilter(keys=by_key)):
        for frame in _frames_of(space, job):
            found.setdefault(frame, []).extend(f"p{one.id}" for one in by_key[job.key])
    return found


def _frames_of(space: Workspace, job: JobRecord) -> list[int]:
    main = [one for one in job.inputs if one.role == "main"]
    own = [one.frame for one in main if one.frame is not None]
    return own if len(own) == len(main) else space.registry.read(main_frames, job.key)


def night_page(space: Workspace, night: str, camera: str) -> str:
    """A camera's night as Markdown: the ledger, how long frames took, what is not done and why, the last pictures."""
    log = observing_log(space, night, camera)
    lines = [f"# {camera}, night {night}", "", *_ledger(log), *_latency(space, night, camera)]
    lines += [*_not_done(space, night, camera, log), *_pictures(space, night, camera)]
    return "\n".join(lines)


def _ledger(log: Sequence[Row]) -> list[str]:
    counts = Counter((row["class"], row["state"]) for row in log)
    rows = [(*key, number) for key, number in sorted(counts.items())]
    return [f"{len(log)} frames", "", *table("class | state | frames", rows)]


def _latency(space: Workspace, night: str, camera: str) -> list[str]:
    """How long calibrated frames took from the insert of their rows."""
    frames = {
        one["id"]: one for one in space.registry.read(list_frames, FrameFilter(night=night, camera=camera))
    }
    took = []
    for job in space.registry.read(find_jobs, JobFilter(night=night, camera=camera, states=("done",))):
        main = [one.frame for one in job.inputs if one.role == "main"]
        if len(main) == 1 and main[0] in frames and frames[main[0]]["class"] == "science":
            took.append(_seconds(frames[main[0]]["registered_at"], job.finished_at))
    if not took:
        return []
    took.sort()
    worst = took[min(len(took) - 1, int(0.95 * len(took)))]
    sentence = f"From insert to calibrated frame: half within {_lasting(statistics.median(took))}, "
    return [sentence + f"95 of 100 within {_lasting(worst)}, the slowest {_lasting(took[-1])}.", ""]


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start.replace(" ", "T"))).total_seconds()


def _lasting(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _not_done(space: Workspace, night: str, camera: str, log: Sequence[Row]) -> list[str]:
    """Jobs that failed or lack something, and frames that were refused, each with its sentence."""
    jobs = space.registry.read(find_jobs, JobFilter(night=night, camera=camera, states=NOT_DONE))
    rows: list[tuple[object, ...]] = [
        (f"{job.step} {job.key[:8]}", job.object, job.filter, job.state, job.reason) for job in jobs
    ]
    rows += [
        (row["frame"], row["object"], row["filter"], "refused", row["reason"])
        for row in log
        if row["state"] == "ingest refused"
    ]
    return ["## Not done", "", *table("what | object | filter | state | reason", rows)] if rows else []


def _pictures(space: Workspace, night: str, camera: str) -> Iterator[str]:
    """The last stacks, or where there are none, the last calibrated frames."""
    for category in ("stack", "science"):
        wanted = ProductFilter(category=category, night=night, camera=camera)
        found = [one for one in space.registry.read(find_products, wanted) if one.superseded_by is None]
        if found:
            found.sort(key=lambda one: (one.obsdate, one.id))
            for one in found[-PICTURES:]:
                yield from ("", *_shown(space, one))
            return


def _shown(space: Workspace, one: ProductRecord) -> list[str]:
    name = _named(one)
    address = picture_of(space, one)
    return [f"**{name}**", "", f"![{name}]({address})"] if address else [f"**{name}**: no picture"]


def _named(one: ProductRecord) -> str:
    words = (f"p{one.id}", one.category, one.object, one.filter, one.obsdate[11:19])
    return " ".join(word for word in words if word)


def stack_page(space: Workspace, one: ProductRecord) -> str:
    """A product's picture and numbers as Markdown."""
    numbers = [
        (name, "not measured" if value is None else f"{value:.4g}") for name, value in one.quality.items()
    ]
    frames = ", ".join(f"f{frame}" for frame in space.registry.read(main_frames, one.job_key))
    lines = [f"# {_named(one)}", "", f"Night {one.night}, {one.telescope} {one.camera}; of {frames}", ""]
    lines += [*_shown(space, one)[2:], "", *table("number | value", numbers)]
    lines += ["Lengths in pixels, the background in the unit of the product.", "", f"`{one.path}`"]
    return "\n".join(lines)


def finished_since(project: str, moment: str) -> list[str]:
    """Keys of the stacks that were made since a moment, as `now` gives it."""
    jobs = open_workspace(project).registry.read(find_jobs, JobFilter(states=("done",)))
    return [job.key for job in jobs if job.finished_at >= moment]
