"""What people see of a night: the observing log of each camera, what it came to, what is missing, pictures."""

import math
import statistics
from base64 import b64encode
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ccdflow.archive.fits.productfile import read_image, read_product
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.registry.frames.doubts import find_doubts, sum_up
from ccdflow.archive.registry.frames.nearrows import count_rows
from ccdflow.archive.registry.frames.oddvalues import words
from ccdflow.archive.registry.frames.places import last_paths
from ccdflow.archive.registry.frames.queries import (
    COUNTED,
    FrameFilter,
    find_frames,
    find_streams,
    list_frames,
)
from ccdflow.archive.registry.frames.stages import LEFT_OUT
from ccdflow.archive.registry.jobs.lineage import calibration_times, main_descendants, main_frames
from ccdflow.archive.registry.jobs.productdoubts import find_product_doubts
from ccdflow.archive.registry.jobs.products import ProductFilter, ProductRecord, current_ids, find_products
from ccdflow.archive.registry.jobs.records import JobFilter, find_jobs
from ccdflow.archive.registry.sets.records import SetFilter, find_sets
from ccdflow.cascade.headers.classify import site_longitude as told_by_header
from ccdflow.cascade.headers.dates import night as night_of
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.sequences.exposures import SequenceRules, known_time
from ccdflow.cascade.sequences.singles import ALIKE, alternatives, in_words, singles
from ccdflow.cascade.specification.model import Cascade
from ccdflow.cascade.specification.parameters import chosen, grouping, tuned
from ccdflow.config.instruments import load_instruments
from ccdflow.recipes.core.preview import png, preview
from ccdflow.tasks.pages.markdown import code, plain, shortened, table
from ccdflow.tasks.planning import located
from ccdflow.tasks.rawfiles.copies import UNREAD
from ccdflow.tasks.workspace import Workspace, open_workspace

PICTURES_PER_PAGE = 4
"""Stacks, or else calibrated frames, whose pictures a night's page shows: the last ones."""
LISTED_REFUSED = 100
"""Refused frames that are named: a dashboard shows no more at once, and a broken camera may send thousands."""
PICTURE_SIZE = 480
"""Rows and columns, in pixels, that a picture on a dashboard has at most: it is sent within the page's text."""
LATENCY_SHARE = 0.95
"""Share of a night's frames for which it is said how long they took: the slowest few tell of accidents alone."""
FRAMES_ASKED = 10
"""Frames whose headers are asked where the telescope stands: most of them say so, or none."""
LAST_NIGHTS = 3
"""Nights that are told though nothing of them was done."""
MOST_NIGHTS = 30
"""Nights that are told at once: where years are reduced again, nobody reads a page of each in a browser."""
LISTED_FRAMES = 2000
"""Frames of a camera's log, the last ones: written every minute, it must not grow with the night for ever."""
LISTED = f"{code('ccdflow list jobs')} and {code('ccdflow list frames')} tell them all"
"""Where whatever a page leaves out is found."""
NOT_DONE = ("failed", "incomplete", "refused")
"""States of jobs that a night's page lists with their reasons."""

Row = dict[str, Any]
"""A row of a table on the dashboard: value by the head of its column."""


# --- which night, which camera ---------------------------------------------------------------------------


def site_longitude(space: Workspace) -> float:
    """Return where the telescopes of a project stand.

    Parameters
    ----------
    space : Workspace
        The project.

    Returns
    -------
    float
        Degrees east, of the project's first own instrument file that states them; else of the frames that were
        registered last; else 0.
    """
    own = load_instruments(space.project.instruments, space.project.directory)
    longitudes = [instrument.site.longitude for instrument in own]
    stated = next((longitude for longitude in longitudes if longitude is not None), None)
    return stated if stated is not None else next(_told_longitudes(space), 0.0)


def _told_longitudes(space: Workspace) -> Iterator[float]:
    """Where the headers of the last frames say that they were taken."""
    for path in space.registry.read(last_paths, FRAMES_ASKED):
        try:
            longitude = told_by_header(open_raw(Path(path)).header, space.instruments)
        except UNREAD:  # it is gone, or no longer what it was
            continue
        if longitude is not None:
            yield longitude


def tonight(space: Workspace) -> str:
    """Return the night that it is at the site of a project.

    Parameters
    ----------
    space : Workspace
        The project.

    Returns
    -------
    str
        ISO date of the evening, noon to noon at the site.
    """
    return night_of(datetime.now(UTC).replace(tzinfo=None).isoformat(), site_longitude(space))


def cameras_of(space: Workspace, night: str) -> list[tuple[str, str]]:
    """Return the cameras that took frames in a night.

    Parameters
    ----------
    space : Workspace
        The project.
    night : str
        ISO date of the evening.

    Returns
    -------
    list of tuple of str
        Telescope and camera, in alphabetical order.
    """
    streams = space.registry.read(find_streams, FrameFilter(COUNTED, night=night, strict=False))
    return sorted({(words(telescope), words(camera)) for telescope, camera, _ in streams})


# --- rows --------------------------------------------------------------------------------------------------


def unreadable(space: Workspace) -> list[Row]:
    """Return the last frames that were refused with so little known that they belong to no night.

    Parameters
    ----------
    space : Workspace
        The project.

    Returns
    -------
    list of dict
        `LISTED_REFUSED` rows at most, the newest first.
    """
    frames = space.registry.read(list_frames, FrameFilter(night="", status=("refused",)))
    frames.sort(key=lambda frame: frame["id"], reverse=True)
    return [
        {
            "frame": f"f{frame['id']}",
            "file": frame["path"],
            "since": frame["registered_at"][:19],
            "reason": shortened(frame["reason"]),
        }
        for frame in frames[:LISTED_REFUSED]
    ]


def observing_log(space: Workspace, night: str, camera: str) -> list[Row]:
    """Return a row for each frame with a file: what it is, how far it has come, in which set, what was made, and why.

    Parameters
    ----------
    space : Workspace
        The project.
    night : str
        ISO date of the evening.
    camera : str
        CAMERA or TELESCOPE/CAMERA.

    Returns
    -------
    list of dict
        In order of time; exposures in seconds.
    """
    taken = FrameFilter(COUNTED, night=night, camera=camera, has_path=True, strict=False)
    frames = space.registry.read(list_frames, taken)
    names = _product_names(space, [frame["id"] for frame in frames])
    return [
        {
            "frame": f"f{frame['id']}",
            "start": frame["obsdate"][11:19],
            "class": frame["class"],
            "object": frame["object"],
            "filter": frame["filter"],
            "exposure": frame["exptime"],
            "state": f"{frame['stage']} {frame['status']}",
            "set": f"s{frame['set']}" if frame["set"] else "",
            "product": shortened(" ".join(names.get(frame["id"], ()))),
            "reason": shortened(frame["reason"]),
            "doubts": shortened("; ".join(frame["doubts"])),
        }
        for frame in frames
    ]


def _product_names(space: Workspace, frames: Collection[int]) -> dict[int, list[str]]:
    """Products that were made of each frame alone, or of its set, by frame."""
    behind = space.registry.read(main_descendants, frames)
    names: dict[int, list[str]] = {}
    for product, key in sorted(space.registry.read(current_ids, ProductFilter(job_keys=behind))):
        for frame in behind[key]:
            names.setdefault(frame, []).append(f"p{product}")
    return names


# --- pages -------------------------------------------------------------------------------------------------


def night_page(space: Workspace, night: str, camera: str, log: Sequence[Row]) -> str:
    """Return a camera's night: the ledger, how long frames took, what is not done and why, the last pictures.

    Parameters
    ----------
    space : Workspace
        The project.
    night : str
        ISO date of the evening.
    camera : str
        CAMERA or TELESCOPE/CAMERA.
    log : sequence of dict
        The night's, of `observing_log`.

    Returns
    -------
    str
        Markdown.
    """
    # Every frame stands in the ledger once, in the state that it has reached: so its numbers add up to all frames.
    # Of rows without files the number is enough: a catalogue may have 100,000 of a night.
    rows = space.registry.read(count_rows, FrameFilter(COUNTED, night=night, camera=camera, strict=False))
    lines = [
        f"# {plain(camera)}, night {plain(night)}",
        "",
        *_ledger(log, rows),
        *_latency(space, night, camera),
    ]
    for sentence in singles_in_words(space, [night], camera):
        lines += [plain(sentence) + ".", ""]
    products = space.registry.read(current_ids, ProductFilter(night=night, camera=camera, strict=False))
    frames = [int(row["frame"][1:]) for row in log]
    lines += [
        *_not_done(space, night, camera, log),
        *_doubts(space, frames, [number for number, _ in products]),
    ]
    lines += _pictures(space, night, camera)
    return "\n".join(lines)


def _ledger(log: Sequence[Row], without_files: int) -> list[str]:
    counts = Counter((row["class"], row["state"]) for row in log)
    rows = [(*class_and_state, number) for class_and_state, number in sorted(counts.items())]
    awaited = f", and {without_files} rows whose files have not come" if without_files else ""
    return [f"{len(log)} frames{awaited}", "", *table("class | state | frames", rows)]


def _latency(space: Workspace, night: str, camera: str) -> list[str]:
    """How long calibrated frames took from the insert of their rows."""
    # A stack waits for its whole sequence: only jobs of one raw science frame tell how fast we are.
    times = space.registry.read(calibration_times, night, camera)
    took = [
        passed
        for registered, finished in times
        if not math.isnan(passed := known_time(finished) - known_time(registered))
    ]
    if not took:
        return []
    # The share's place in the sorted list, without interpolation: a frame took exactly so long.
    took.sort()
    worst = took[min(len(took) - 1, int(LATENCY_SHARE * len(took)))]
    sentence = f"From insert to calibrated frame: half within {_lasting(statistics.median(took))}, "
    return [sentence + f"95 of 100 within {_lasting(worst)}, the slowest {_lasting(took[-1])}.", ""]


def _lasting(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _not_done(space: Workspace, night: str, camera: str, log: Sequence[Row]) -> list[str]:
    """Jobs that failed or lack something, and frames that are not used, each with its sentence."""
    jobs = space.registry.read(
        find_jobs, JobFilter(night=night, camera=camera, states=NOT_DONE, strict=False)
    )
    rows: list[tuple[object, ...]] = [
        (f"{job.step} {job.key[:8]}", job.object, job.filter, job.state, job.reason) for job in jobs
    ]
    rows += [
        (row["frame"], row["object"], row["filter"], row["state"].removeprefix("ingest "), row["reason"])
        for row in log
        if row["state"] in ("ingest refused", "ingest processed") or row["reason"].startswith(LEFT_OUT)
    ]
    return (
        ["## Not done", "", *table("what | object | filter | state | reason", rows, LISTED)] if rows else []
    )


def _doubts(space: Workspace, frames: Collection[int], products: Collection[int]) -> list[str]:
    """What is doubtful about frames and products, by kind: a broken clock is one line, not a thousand."""
    doubts = space.registry.read(find_doubts, frames)
    counts = sum_up((f"f{frame}", doubt) for frame, own in doubts.items() for doubt in own)
    warned = space.registry.read(find_product_doubts, products)
    counts += sum_up((f"p{product}", doubt) for product, own in warned.items() for doubt in own)
    rows = [(count.kind, count.number, count.subject, count.example) for count in counts]
    return ["## Doubts", "", *table("kind | frames or products | for instance | what", rows)] if rows else []


def _pictures(space: Workspace, night: str, camera: str) -> Iterator[str]:
    """The last stacks, or where there are none, the last calibrated frames."""
    for category in ("stack", "science"):
        wanted = ProductFilter(category=category, night=night, camera=camera, strict=False)
        last = [number for number, _ in space.registry.read(current_ids, wanted)][-PICTURES_PER_PAGE:]
        if last:
            products = space.registry.read(find_products, ProductFilter(ids=last))
            for product in sorted(products, key=lambda product: (product.obsdate, product.id)):
                yield from ("", *_shown(space, product))
            return


def stack_page(space: Workspace, product: ProductRecord) -> str:
    """Return a product's picture and numbers.

    Parameters
    ----------
    space : Workspace
        The project.
    product : ProductRecord
        The product; lengths are in pixels, the background in its unit.

    Returns
    -------
    str
        Markdown.
    """
    numbers = [
        (name, "not measured" if value is None else f"{value:.4g}") for name, value in product.quality.items()
    ]
    frames = ", ".join(f"f{frame}" for frame in space.registry.read(main_frames, product.job_key))
    place = f"Night {product.night}, {product.telescope} {product.camera}; of {frames}"
    lines = [f"# {plain(_name(product))}", "", plain(place), ""]
    # The name is the head of the page already.
    lines += [*_shown(space, product)[2:], "", *table("number | value", numbers)]
    lines += ["Lengths in pixels, the background in the unit of the product.", ""]
    lines += [*_doubts(space, (), [product.id]), code(product.path)]
    return "\n".join(lines)


def _shown(space: Workspace, product: ProductRecord) -> list[str]:
    """A product's name and below it, behind an empty line, its picture; one line where it has none."""
    name = plain(_name(product))
    address = picture_of(space, product)
    return [f"**{name}**", "", f"![{name}]({address})"] if address else [f"**{name}**: no picture"]


def _name(product: ProductRecord) -> str:
    words = (f"p{product.id}", product.category, product.object, product.filter, product.obsdate[11:19])
    return " ".join(word for word in words if word)


def night_summaries(project: str, request: Request, touched: Collection[str] | None = None) -> dict[str, str]:
    """Return for nights that a request selects their frames, states, products and what failed or is missing.

    Parameters
    ----------
    project : str
        Directory of the project.
    request : Request
        Its night, camera and times count.
    touched : collection of str, optional
        Nights of which something was done: these are told, and the last few; without it, all. Of very many the last
        `MOST_NIGHTS`.

    Returns
    -------
    dict of str to str
        Markdown by night.
    """
    space = open_workspace(project)
    request = located(space, request)
    wanted = FrameFilter(
        night=request.night,
        camera=request.camera,
        since=request.since,
        until=request.until,
        keywords=(),
        strict=False,
    )
    frames = space.registry.read(find_frames, wanted)
    nights = sorted({frame.night for frame in frames if frame.night and request.selects(frame)})
    if touched is not None:
        # Nights where nothing happened have their pages since something did: a registry has thousands of them.
        nights = [night for night in nights if night in touched or night in nights[-LAST_NIGHTS:]]
    return {night: _summary(space, night) for night in nights[-MOST_NIGHTS:]}


def _summary(space: Workspace, night: str) -> str:
    frames = space.registry.read(list_frames, FrameFilter(COUNTED, night=night, strict=False))
    states = Counter((frame["stage"], frame["status"]) for frame in frames)
    products = space.registry.read(find_products, ProductFilter(night=night, strict=False))
    categories = Counter(product.category for product in products)
    lines = [
        f"# {plain(space.project.directory.name)}, night {plain(night)}",
        "",
        f"{len(frames)} frames",
        "",
    ]
    rows = [(*stage_and_state, number) for stage_and_state, number in sorted(states.items())]
    lines += table("stage | state | frames", rows)
    lines += table("product | number", [*sorted(categories.items())])
    for sentence in singles_in_words(space, [night]):
        lines += [plain(sentence) + ".", ""]
    not_done: list[tuple[object, ...]] = [
        (frame["id"], frame["object"], frame["status"], frame["reason"])
        for frame in frames
        if (frame["status"] in ("failed", "refused", "processed", "waiting") and frame["reason"])
        or frame["reason"].startswith(LEFT_OUT)
    ]
    if not_done:
        lines += ["## Not done", "", *table("frame | object | state | reason", not_done, LISTED)]
    lines += _doubts(
        space,
        [frame["id"] for frame in frames],
        [product.id for product in products if product.superseded_by is None],
    )
    return "\n".join(lines)


# --- nights without sequences ----------------------------------------------------------------------------


def singles_in_words(space: Workspace, nights: Collection[str], camera: str | None = None) -> list[str]:
    """Return a sentence for each night most of whose frames pass alone though others could be stacked with them.

    Parameters
    ----------
    space : Workspace
        The project.
    nights : collection of str
        Nights that are looked at.
    camera : str, optional
        CAMERA or TELESCOPE/CAMERA; without it all of them together.

    Returns
    -------
    list of str
        Nothing where the frames are stacked by object already.
    """
    choice = chosen(space.cascade, {})
    cascade = tuned(space.cascade, choice)
    rules = {
        task: grouping(task, step, choice.tasks.get(task, ()))
        for task, step in cascade.tasks.items()
        if step.groups
    }
    by_sequence = [(task, own) for task, own in rules.items() if isinstance(own, SequenceRules)]
    sentences: list[str] = []
    for night in sorted(nights) if by_sequence else ():
        # Not rows without files: nothing is made of them, and a catalogue has 100,000 of a night.
        taken = FrameFilter(night=night, camera=camera, keywords=ALIKE, has_file=True, strict=False)
        frames = space.registry.read(find_frames, taken)
        for by in by_sequence:
            sentences += _singles_of_night(space, cascade, by, frames)
    return sentences


def _singles_of_night(
    space: Workspace, cascade: Cascade, by: tuple[str, SequenceRules], frames: Sequence[FrameRecord]
) -> Iterator[str]:
    task, rules = by
    ids = [frame.id for frame in frames]
    sets = space.registry.read(find_sets, SetFilter(frames=ids)) if ids else []
    others = alternatives(cascade, task)
    # Who has stacked the night otherwise knows that it can be done.
    if any(record.step in others and record.product_id is not None for record in sets):
        return
    of_task = [record for record in sets if record.step == task]
    alone = {record.frames[0] for record in of_task if record.action == "pass" and len(record.frames) == 1}
    held = {number for record in of_task for number in record.frames}
    for told in singles([frame for frame in frames if frame.id in held], alone, rules):
        yield in_words(told, cascade, task, rules)


# --- pictures ----------------------------------------------------------------------------------------------


def picture_of(space: Workspace, product: ProductRecord, most: int = PICTURE_SIZE) -> str:
    """Return the picture of a product's image, as pages show it without any other file.

    Parameters
    ----------
    space : Workspace
        The project.
    product : ProductRecord
        The product.
    most : int
        Rows and columns of the picture, in pixels, at most.

    Returns
    -------
    str
        A ``data:`` address; empty where the product has no image, or its file is not there.
    """
    path = space.store.absolute(product.path)
    if product.state != "done" or not path.is_file():
        return ""
    content = read_product(path)
    if content.image is None:
        return ""
    image = read_image(content)
    return data_uri(png(preview(image.data, image.dq, most=most)))


def data_uri(picture: bytes) -> str:
    """Return a PNG file as an address that holds it.

    Parameters
    ----------
    picture : bytes
        The file's content.

    Returns
    -------
    str
        ``data:image/png;base64,...``
    """
    return f"data:image/png;base64,{b64encode(picture).decode()}"
