"""Make a registry again of what products tell of themselves, and of the raw frames in their folders.

What people have chosen (bans, pins, collections) stands in no product: a backup has it. What they have corrected of raw
frames stands in the products that were made of these.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, update

from ccdflow.archive.digest import file_digest
from ccdflow.archive.fits.productfile import ProductFileError
from ccdflow.archive.fits.productheader import InputNote
from ccdflow.archive.fits.productorigin import ToldOrigin, read_origin
from ccdflow.archive.registry.frames.amendments import COLUMNS, TEXTS, Amendment, amend, find_amendments
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames
from ccdflow.archive.registry.frames.stages import StageState, newest_frame, set_stages
from ccdflow.archive.registry.identity import keep_archive_id
from ccdflow.archive.registry.jobs.leases import claim, this_owner
from ccdflow.archive.registry.jobs.lifecycle import plan_jobs
from ccdflow.archive.registry.jobs.planned import PlannedJob
from ccdflow.archive.registry.jobs.productchanges import Made, finish_job
from ccdflow.archive.registry.tables import JobRow
from ccdflow.archive.storemark import read_mark
from ccdflow.cascade.planning.jobs import AMENDED, Group, JobInput, amended_digest, json_text
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.records import CATEGORY, Doubt, FrameRecord, Value
from ccdflow.tasks.changes import mark_superseded
from ccdflow.tasks.ingest import IngestReport, ingest_files
from ccdflow.tasks.planning import planned
from ccdflow.tasks.provenance.process import compromises_of, corrected_of, parameters_of, software_of
from ccdflow.tasks.provenance.software import in_words
from ccdflow.tasks.rounds import LOCATION_COLUMNS, Round
from ccdflow.tasks.workspace import Workspace

Progress = Callable[[str], None]
LEASE_S = 60.0


@dataclass(frozen=True)
class _Found:
    """A product's file in the store: its path there, and what it tells."""

    path: str
    told: ToldOrigin

    @property
    def key(self) -> str:
        """Of the job that made it."""
        return str(self.told.header["JOBKEY"])


@dataclass
class Rebuilt:
    """What was put into the registry, and by path in the store what was not, with the reason."""

    ingest: IngestReport
    jobs: int = 0
    products: int = 0
    amended: int = 0
    left: dict[str, str] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """How many raw frames were registered."""
        return self.ingest.counts["new"]

    def document(self) -> dict[str, Any]:
        """Return the report for ``--json``."""
        counts = {name: getattr(self, name) for name in ("jobs", "products", "amended", "left")}
        return {"frames": self.frames, **counts}

    def sentence(self) -> str:
        """Return the report for people."""
        amended = f", {self.amended} corrections" if self.amended else ""
        left = f"; {len(self.left)} files are left out" if self.left else ""
        return (
            f"{self.frames} frames, {self.jobs} jobs, {self.products} products{amended} are in the registry"
            f"{left}; bans, pins and collections are in a backup only"
        )


def rebuild(space: Workspace, raws: Sequence[Path], progress: Progress = lambda _: None) -> Rebuilt:
    """Fill an empty registry from the raw frames of folders, and from the products that are in the store.

    Parameters
    ----------
    space : Workspace
        The project, whose registry knows nothing yet.
    raws : sequence of Path
        Files and folders of raw frames.
    progress : callable, optional
        Told what is done.

    Returns
    -------
    Rebuilt
        What was found. A product is left out that an earlier version has written, which did not tell its parameters,
        and one of whose inputs there is neither frame nor product.

    Raises
    ------
    ValueError
        If the registry has frames.
    StoreAwayError
        If there is no store.
    """
    if space.registry.read(newest_frame):
        raise ValueError("the registry has frames; wanted an empty one, as 'ccdflow init' makes it")
    # The store bears the id of its archive, which this registry is to have from now on.
    space.registry.write(keep_archive_id, read_mark(space.store.root))
    space.claim_store()
    progress("reading raw frames")
    rebuilt = Rebuilt(ingest_files(space, raws))
    progress("reading the products' headers")
    found = list(_products(space, rebuilt))
    rebuilt.amended = _amend(space, found)
    _write(space, found, rebuilt)
    progress("planning")
    _take_stock(space, {str(product.told.header.get("TASK", "")) for product in found})
    return rebuilt


def _products(space: Workspace, rebuilt: Rebuilt) -> Iterator[_Found]:
    for path in space.store.foreign(()):
        if not path.endswith(".fits"):
            continue
        try:
            told = read_origin(space.store.absolute(path))
        except ProductFileError as error:
            rebuilt.left[path] = str(error)
            continue
        if told.process:
            yield _Found(path, told)
        else:
            rebuilt.left[path] = (
                "an earlier version of ccdflow has made it, which did not tell its parameters"
            )


# --- corrections ----------------------------------------------------------------------------------------------------


def _amend(space: Workspace, found: Sequence[_Found]) -> int:
    """Correct raw frames as they were; of several corrections of one thing the one that was made last counts."""
    frames = _frames_by_content(space)
    last: dict[tuple[int, str], dict[str, Any]] = {}
    for product in found:
        for sha256, fields in corrected_of(product.told.process):
            if sha256 not in frames:
                continue
            place = frames[sha256].id, str(fields["name"])
            if place not in last or str(fields.get("made", "")) > str(last[place].get("made", "")):
                last[place] = fields
    for (frame, name), fields in last.items():
        told = str(fields.get("who", "")), str(fields.get("why", ""))
        space.registry.write(amend, {frame: {name: fields["value"]}}, *told)
    return len(last)


def _frames_by_content(space: Workspace) -> dict[str, FrameRecord]:
    frames = space.registry.read(find_frames, FrameFilter(has_file=True, strict=False))
    return {frame.sha256: frame for frame in frames if frame.sha256}


# --- jobs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Jobs:
    """The jobs that products tell of, by key, the frames of raw contents, and what is corrected of these now."""

    products: Mapping[str, Sequence[_Found]]
    frames: Mapping[str, FrameRecord]
    amended: Mapping[int, Sequence[Amendment]]

    def corrected(self, key: str, sha256: str) -> dict[str, Value | None]:
        """What was corrected of a raw input when a job was done."""
        notes = self.products[key][0].told.process
        return {fields["name"]: fields["value"] for raw, fields in corrected_of(notes) if raw == sha256}

    def frame(self, key: str, sha256: str) -> FrameRecord:
        """A raw input as it was to a job: some of what is corrected now may not have been so yet."""
        frame, then = self.frames[sha256], self.corrected(key, sha256)
        told = {
            one.name: then.get(one.name, one.said)
            for one in self.amended.get(frame.id, ())
            if one.name in COLUMNS
        }
        values: dict[str, Any] = {
            "frame_class" if name == "class" else name: "" if value is None and name in TEXTS else value
            for name, value in told.items()
        }
        return replace(frame, **values)

    def lacks(self, key: str) -> str:
        """Say what there is not of which a job's products were made; nothing where all is there."""
        for note in self.products[key][0].told.inputs:
            if note.kind == "raw" and note.identity not in self.frames:
                return f"its raw frame {note.name} is not among those that were given"
            parent = note.identity.partition(":")[0]
            if note.kind != "raw" and parent not in self.products:
                return f"its input {note.name} is not in the store"
            if note.kind != "raw" and (lacking := self.lacks(parent)):
                return f"of its input {note.name}: {lacking}"
        return ""

    def behind(self, key: str) -> list[FrameRecord]:
        """The raw frames behind a job's main inputs, in their order."""
        frames: list[FrameRecord] = []
        for note in self.products[key][0].told.inputs:
            if note.role == "main":
                parent = note.identity.partition(":")[0]
                frames += [self.frame(key, note.identity)] if note.kind == "raw" else self.behind(parent)
        return frames

    def variant(self, key: str) -> str:
        """By what a request asked for a job, where the project's own parameters do not."""
        told = self.products[key][0].told
        asked = {
            f"{told.header.get('TASK', '')}.{name}": resolved["value"]
            for name, resolved in parameters_of(told.process).items()
            if resolved["origin"] == "request"
        }
        if asked:
            return json_text({"parameters": asked, "set": None})
        parents = (note.identity.partition(":")[0] for note in told.inputs if note.kind != "raw")
        return next((variant for parent in parents if (variant := self.variant(parent))), "")

    def input(self, key: str, note: InputNote) -> JobInput:
        """An input of a job as the registry has it."""
        if note.kind == "raw":
            frame, then = self.frames[note.identity], self.corrected(key, note.identity)
            identity = note.identity + (f"{AMENDED}{amended_digest(then)}" if then else "")
            return JobInput(note.role, identity, frame=frame.id, level=note.level)
        return JobInput(note.role, note.identity, job=note.identity.partition(":")[0], level=note.level)


def _write(space: Workspace, found: Sequence[_Found], rebuilt: Rebuilt) -> None:
    """Write the jobs that products tell of as done, the oldest files first."""
    products: dict[str, list[_Found]] = defaultdict(list)
    for product in found:
        products[product.key].append(product)
    amended: dict[int, list[Amendment]] = defaultdict(list)
    for amendment in space.registry.read(find_amendments):
        amended[amendment.frame].append(amendment)
    jobs = _Jobs(products, _frames_by_content(space), amended)
    for key in sorted(products, key=lambda key: _changed(space, products[key][0])):
        if lacking := jobs.lacks(key):
            rebuilt.left |= {product.path: lacking for product in products[key]}
            continue
        row = _row(space, jobs, key)
        made = [_made(space, product) for product in products[key]]
        # What people have put into the archive is no stage of a frame.
        step = space.cascade.tasks.get(row.step)
        states = [StageState(frame.id, step.stage, "done") for frame in jobs.behind(key)] if step else []
        finished = datetime.fromtimestamp(_changed(space, products[key][0]), UTC).replace(tzinfo=None)
        software = in_words(software_of(products[key][0].told.process))
        done_by = finished.isoformat(timespec="microseconds"), software
        space.registry.write(_as_done, row, made, states, done_by)
        rebuilt.jobs, rebuilt.products = rebuilt.jobs + 1, rebuilt.products + len(made)


def _changed(space: Workspace, product: _Found) -> float:
    return space.store.absolute(product.path).stat().st_mtime


def _row(space: Workspace, jobs: _Jobs, key: str) -> PlannedJob:
    told = jobs.products[key][0].told
    header, group = told.header, Group(tuple(jobs.behind(key)))
    location: dict[str, Any] = {name: group.text(name) for name in LOCATION_COLUMNS}
    exptime = group.value("exptime")
    return PlannedJob(
        key=key,
        step=str(header.get("TASK", "")) or str(header["RECIPE"]),
        recipe=str(header["RECIPE"]),
        version=str(header["RECIPEV"]),
        inputs=[jobs.input(key, note) for note in told.inputs],
        outputs=[(_category(product), product.path) for product in jobs.products[key]],
        parameters=parameters_of(told.process),
        exptime=None if exptime is None else float(exptime),
        obsdate=group.frames[0].obsdate,
        level=int(header.get("ASSOLVL", 0)),
        worst_level=int(header.get("WORSTLVL", 0)),
        variant=jobs.variant(key),
        compromises=compromises_of(told.process),
        **location,
    )


def _category(product: _Found) -> str:
    return str(product.told.header.get(CATEGORY, ""))


def _made(space: Workspace, product: _Found) -> Made:
    """A product's file as its header describes it."""
    header, path = product.told.header, space.store.absolute(product.path)
    quality = {name[3:].lower(): value for name, value in header.items() if name.startswith("QC ")}
    doubts = [str(header[name]).partition(": ") for name in header if name.startswith("DOUBT")]
    return Made(
        category=_category(product),
        path=product.path,
        sha256=file_digest(path),
        size=path.stat().st_size,
        changed_ns=space.store.changed_ns(product.path),
        quality=quality,
        doubts=tuple(Doubt(kind, text) for kind, _, text in doubts),
    )


def _as_done(
    connection: Connection,
    row: PlannedJob,
    made: Sequence[Made],
    states: Sequence[StageState],
    told: tuple[str, str],
) -> None:
    """Write a job as its worker left it."""
    owner, (finished, software) = this_owner(), told
    plan_jobs(connection, [row])
    if claim(connection, row.key, owner, LEASE_S) is not None:
        finish_job(connection, row.key, owner, made, software=software)
        connection.execute(update(JobRow).where(JobRow.key == row.key).values(finished_at=finished))
    set_stages(connection, states)


def _take_stock(space: Workspace, tasks: Collection[str]) -> None:
    """Cut the frames into sets, link these with their products, and let those give way that are no longer current."""
    request = Request(targets=tuple(task for task in space.cascade.tasks if task in tasks), late="keep")
    plan = planned(space, request)
    Round(space, plan=lambda: plan, grouping=request).run()
    mark_superseded(space, [job for job in plan.jobs if job.state == "reused"], plan.variants)
