"""`ccdflow run`: register, plan, run the flow if there is anything to do, sum up."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from ccdflow.archive.registry.frames.doubts import DoubtCount, find_doubts, sum_up
from ccdflow.archive.registry.frames.files import registered_files
from ccdflow.archive.registry.jobs.leases import this_owner
from ccdflow.archive.registry.jobs.productdoubts import find_product_doubts
from ccdflow.archive.registry.jobs.products import ProductFilter, list_products
from ccdflow.archive.registry.jobs.records import JobFilter, count_finished, done_by, find_jobs
from ccdflow.archive.registry.selection import refuse_unknown
from ccdflow.cascade.planning.associate import DETECTOR
from ccdflow.cascade.planning.jobmaker import WAITS
from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.records import Value
from ccdflow.commands.output import DONE, FAILED, console, print_table, warn
from ccdflow.commands.progress import Count, counting
from ccdflow.commands.queries import compromise_lines
from ccdflow.tasks.ingest import IngestReport, find_files, ingest_files, recheck_files, static_files
from ccdflow.tasks.keeping.leftovers import WAITING, leftovers, take_away, told
from ccdflow.tasks.keeping.stock import kept_keys
from ccdflow.tasks.nightlog import singles_in_words
from ccdflow.tasks.planning import planned, planned_again
from ccdflow.tasks.rounds import Round
from ccdflow.tasks.workspace import Workspace
from ccdflow.warmup import compile_kernels

SHOWN = 5
"""How many jobs of one kind are named before three dots."""

STATES = ("new", "reused", "failed", "incomplete")


@dataclass(frozen=True)
class RunReport:
    """What a run found and made.

    `made` are the jobs that its own process has done, None where nobody was asked; `taken_away` tells of jobs that
    waited in vain.
    """

    ingested: IngestReport
    before: Plan
    after: Plan
    failed: dict[str, str]
    products: list[dict[str, Any]]
    doubts: Sequence[DoubtCount] = ()
    left_out: Sequence[str] = ()
    singles: Sequence[str] = ()
    made: Collection[str] | None = None
    taken_away: Sequence[str] = ()

    @property
    def jobs(self) -> dict[str, int]:
        """How many jobs were made, reused, failed, or can't be done."""
        # New is also what the run itself has called for: jobs that the plan before it did not know yet.
        keys = {job.key for job in self.before.jobs if job.state == "new"}
        keys |= {job.key for job in self.after.jobs if job.state == "reused"} - {
            job.key for job in self.before.jobs if job.state == "reused"
        }
        # What another run, or a drain, has made meanwhile is reused here: two runs at once do not both count it.
        if self.made is not None:
            keys &= set(self.made)
        done = [job for job in self.after.jobs if job.state == "reused" and job.key in keys]
        reused = [job for job in self.after.jobs if job.state == "reused" and job.key not in keys]
        incomplete = [job for job in self.after.jobs if job.state == "incomplete"]
        return dict(zip(STATES, (len(done), len(reused), len(self.failed), len(incomplete)), strict=True))

    @property
    def problems(self) -> list[str]:
        """One sentence for everything that is not as it should be."""
        told = self.ingested
        lines = [*told.problems, *told.copies.lines(), *told.finished_lines(), *self.after.notes]
        what = {job.key: f" ({job.step} {job.name})" for job in (*self.before.jobs, *self.after.jobs)}
        lines += [f"job {key[:8]}{what.get(key, '')} failed: {reason}" for key, reason in self.failed.items()]
        lines += [*self.left_out, *self.singles, *self.taken_away]
        waiting = [job for job in self.after.jobs if job.state == "new" and job.key not in self.failed]
        if self.failed and waiting:
            lines.append(f"{len(waiting)} jobs wait for those that failed; the next run does them all")
        lines += _why_incomplete([job for job in self.after.jobs if job.state == "incomplete"])
        able = [job for job in self.after.jobs if job.state != "incomplete"]
        lacks = ((job.step, lack.level or 0, lack.reason) for job in able for lack in job.compromises)
        lines += compromise_lines(lacks)
        lines += [count.line() for count in self.doubts]
        if not self.after.jobs:
            lines.append("nothing to do: no frame of the registry belongs to the target")
        return lines

    @property
    def exit_code(self) -> int:
        """0 when all is done, 1 when something failed, is missing or was bad, 2 when nothing was usable."""
        if not self.after.jobs:
            return (self.ingested.exit_code if self.ingested.asked else DONE) or FAILED
        unread = (self.ingested.asked or self.ingested.total) and self.ingested.exit_code
        bad = self.failed or self.jobs["incomplete"] or unread
        return FAILED if bad else DONE

    def document(self) -> dict[str, Any]:
        """The report for ``--json``."""
        return {
            "jobs": self.jobs,
            "products": [f"p{product['id']}" for product in self.products],
            "frames": self.ingested.document(),
            "failed": [{"key": key, "reason": reason} for key, reason in self.failed.items()],
            "notes": self.problems,
            "doubts": [asdict(count) for count in self.doubts],
        }

    def show(self) -> None:
        """Print the report for people."""
        if self.ingested.total:
            console().print(self.ingested.sentence())
        counts = Counter(product["category"] for product in self.products)
        rows = [{"category": name, "products": number} for name, number in counts.items()]
        if rows:
            print_table(rows, ["category", "products"])
        console().print("jobs: " + ", ".join(f"{number} {name}" for name, number in self.jobs.items()))


def _why_incomplete(jobs: Sequence[Job]) -> Iterator[str]:
    """Yield why jobs can't be done, each reason once for each detector.

    How many jobs it holds up, and the nearest candidates of the first of them.
    """
    alike: dict[tuple[Value | None, ...], list[Job]] = {}
    for job in jobs:
        waits = all(lack.input == "main" and lack.reason.endswith(WAITS) for lack in job.missing)
        reasons = [WAITS] if waits else [lack.reason for lack in job.missing]
        # The candidates of one detector say nothing about the frames of another.
        alike.setdefault((*job.group.values(DETECTOR), job.step, "; ".join(reasons)), []).append(job)
    for (*_, step, reason), held in alike.items():
        frames = ", ".join(_frames(job) for job in held[:SHOWN]) + (", ..." if len(held) > SHOWN else "")
        yield f"{len(held)} {step} incomplete ({frames}): {reason}"
        for missing in held[0].missing:
            for near in missing.nearest:
                yield f"    {missing.input}: {near.name}: {near.reason}"


def _frames(job: Job) -> str:
    first, last = job.group.frames[0], job.group.frames[-1]
    return f"f{first.id}" if first is last else f"f{first.id}..f{last.id}"


def reduce_now(
    space: Workspace,
    paths: Sequence[Path],
    request: Request,
    *,
    quiet: bool,
    take_processed: str = "",
    gone: bool = False,
) -> RunReport:
    """Make what `request` wants and the store lacks; Prefect is started only where there is work.

    `take_processed` is the task at which frames of `paths` enter that another program has finished. `gone` says that
    what is away from the store is really gone, however much.

    Raises
    ------
    StoreAwayError
        If the store, or much of it, is not there. Then nothing is changed.
    """
    whole = kept_keys(space, gone=gone)
    space.recover()
    if paths and _brings_new_files(space, paths):
        _prepare(space)
    with counting("registering", quiet=quiet) as progress:
        files = [*paths, *static_files(space)] if paths else []
        ingested = ingest_files(space, files, progress, take_processed) if paths else recheck_files(space)
    # After registering: the night may be that of the new files.
    space.registry.read(refuse_unknown, request.night, request.camera)
    before = planned(space, request, stock=lambda *_: whole)
    failed: dict[str, str] = {}
    new = [job for job in before.jobs if job.state == "new"]
    if new:
        with _watching(space, new, quiet=quiet):
            failed = _run_flow(space, request)
    after = planned_again(space, request, failed) if new else before
    Round(space, plan=lambda: after, grouping=request).run(failed)
    products = space.registry.read(list_products, ProductFilter(job_keys=[job.key for job in after.jobs]))
    doubts = [*_doubts(space, ingested, after), *_product_doubts(space, products)]
    left_out, lonely = _left_out(space, before, after), _singles(space, request, after)
    done = [job.key for job in after.jobs if job.state == "reused"] if new else []
    made = space.registry.read(done_by, done, this_owner())
    in_vain = _take_leftovers(space, request, after)
    return RunReport(ingested, before, after, failed, products, doubts, left_out, lonely, made, in_vain)


def _take_leftovers(space: Workspace, request: Request, plan: Plan) -> list[str]:
    """Take away jobs that wait in vain, after a run of all that the project has; say which, and why."""
    # Who asks for a night, a camera or other values need not look at all that is there.
    limits = (request.night, request.camera, request.since, request.until, request.frames)
    if request.variant or request.paths or any(limit is not None for limit in limits):
        return []
    named = {job.key for job in plan.jobs}
    waiting = space.registry.read(find_jobs, JobFilter(states=WAITING))
    if all(job.key in named for job in waiting):
        return []
    return told(take_away(space, leftovers(space)))


def _singles(space: Workspace, request: Request, plan: Plan) -> list[str]:
    """Say of which nights most frames pass alone, where stacks of sequences were asked for with the project's rules."""
    passing = {
        number for planned_set in plan.sets if planned_set.action == "pass" for number in planned_set.frames
    }
    if request.variant or not passing:
        return []
    frames = [frame for job in plan.jobs if job.stage == "science" for frame in job.group.frames]
    return singles_in_words(space, {frame.night for frame in frames if frame.id in passing and frame.night})


def _doubts(space: Workspace, ingested: IngestReport, plan: Plan) -> list[DoubtCount]:
    """Sum up the doubts of all frames that a run has registered or that its jobs are made of."""
    frames = {taken.frame for job in plan.jobs for taken in job.main if taken.frame is not None}
    told = [
        (f"f{frame}", doubt)
        for frame, own in space.registry.read(find_doubts, frames).items()
        for doubt in own
    ]
    return sum_up(dict.fromkeys([*told, *(pair for pair in ingested.doubts if pair[1].kind != "class")]))


def _left_out(space: Workspace, before: Plan, after: Plan) -> list[str]:
    """Say which frames the jobs of this run have left out, and why."""
    known = {job.key for job in before.jobs if job.state == "reused"}
    keys = [job.key for job in after.jobs if job.state == "reused" and job.key not in known]
    jobs = space.registry.read(find_jobs, JobFilter(keys=keys, states=("done",)))
    return [
        f"{job.step} {job.key[:8]} of {' '.join(filter(None, (job.object, job.filter, job.camera)))}: {job.reason}"
        for job in jobs
        if job.reason
    ]


def _product_doubts(space: Workspace, products: Sequence[Mapping[str, Any]]) -> list[DoubtCount]:
    """Sum up what the recipes warned of, also those of an earlier run whose products are used."""
    ids = [product["id"] for product in products]
    doubts = space.registry.read(find_product_doubts, ids)
    return sum_up((f"p{product}", doubt) for product, own in doubts.items() for doubt in own)


def _brings_new_files(space: Workspace, paths: Sequence[Path]) -> bool:
    """Tell whether there is a file that the registry does not know, so that there will be work."""
    known = {name for name, _, _ in space.registry.read(registered_files)}
    return any(str(path.absolute()) not in known for path in find_files(paths, IngestReport()))


def _prepare(space: Workspace) -> None:
    """Begin what takes its time before the first job can run, beside the registering of files."""
    from ccdflow.flows.embedded import embedded_server, surely_embedded

    if surely_embedded():
        # What the server keeps of a run is its states and warnings; there is nobody who reads more.
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
        embedded_server(space.project.scratch).start()
    Thread(target=_compile_beforehand, daemon=True).start()


def _compile_beforehand() -> None:
    # A program that has nothing to do may end before this has begun, and then takes no new threads.
    with suppress(RuntimeError):
        compile_kernels()


def _run_flow(space: Workspace, request: Request) -> dict[str, str]:
    # What goes wrong is said by the commands in one line each; the server keeps Prefect's own words.
    """Run the flow and return the keys of the jobs that have failed, with their reasons."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    _prepare(space)
    from ccdflow.flows.nightly import nightly
    from ccdflow.flows.server import answers, gone, prefect_server, silence

    directory, scratch = str(space.project.directory), space.project.scratch
    silent = "" if answers() else silence()
    if not silent:
        try:
            with prefect_server(scratch):
                return nightly(directory, request=request)
        except Exception as error:
            # What was done counts: with the server it is only the record of it that is lost.
            if not (silent := gone(error)):
                raise
    warn(f"{silent}; this run goes on with one of its own")
    with prefect_server(scratch, own=True):
        return nightly(directory, request=request)


@contextmanager
def _watching(space: Workspace, jobs: Sequence[Job], *, quiet: bool) -> Iterator[None]:
    """Show a bar of how many of `jobs` the registry knows to be done or failed, while the block runs."""
    keys = [job.key for job in jobs]
    stop = Event()
    with counting("reducing", quiet=quiet, before="starting Prefect") as progress:
        watcher = Thread(
            target=_watch, args=(lambda: space.registry.read(count_finished, keys), len(keys), progress, stop)
        )
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()


def _watch(finished: Callable[[], int], total: int, progress: Count, stop: Event) -> None:
    while not stop.wait(0.3):
        progress(finished(), total)
