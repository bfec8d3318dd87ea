"""The registry: what exists, in which state, and why. One method is one transaction."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from ccdflow.archive.registry import (
    candidates,
    choices,
    drains,
    exposures,
    frames,
    holds,
    jobs,
    news,
    outbox,
    products,
    queries,
    setcounts,
    sets,
    settling,
    sources,
)
from ccdflow.archive.registry.candidates import Master
from ccdflow.archive.registry.choices import ChoiceRecord, Verdict
from ccdflow.archive.registry.database import Database, now, patient
from ccdflow.archive.registry.frames import NewFrame, Registered
from ccdflow.archive.registry.jobs import (
    Begun,
    Claim,
    JobFilter,
    JobRecord,
    LeaseLostError,
    PlannedJob,
    Whereabouts,
)
from ccdflow.archive.registry.listening import Ear
from ccdflow.archive.registry.news import News
from ccdflow.archive.registry.outbox import EventRecord, InstrumentChange, StageState
from ccdflow.archive.registry.products import Made, ProductFilter, ProductRecord
from ccdflow.archive.registry.queries import FrameFilter
from ccdflow.archive.registry.sets import Also, SetChange, SetFilter, SetRecord, State
from ccdflow.archive.registry.settling import Settling
from ccdflow.archive.registry.sources import Sources
from ccdflow.cascade.planning.associate import Candidate, Match, Rule
from ccdflow.cascade.planning.jobs import Group
from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.sequences.exposures import Exposure, OrderKey, SequenceRules, Stream

_T = TypeVar("_T")
_ALL_FRAMES = FrameFilter()
_ALL_JOBS = JobFilter()
_ALL_PRODUCTS = ProductFilter()
_ALL_SETS = SetFilter()
_NOTHING: Mapping[str, Sequence[StageState]] = {}


# Whoever opens a registry is told at once that there is none; who has one waits where it goes away.
@patient("upgrade", "create", "close")
class Registry:
    """The registry of a project, on SQLite (``sqlite:///FILE``) or PostgreSQL (``postgresql://USER@HOST/NAME``).

    May be used by many threads and programs at once. What it gives back are plain records. A method whose connection
    is lost begins anew.
    """

    def __init__(self, url: str) -> None:
        self.database = Database(url)

    @property
    def url(self) -> str:
        """Where the registry is, without password."""
        return self.database.url.render_as_string(hide_password=True)

    def upgrade(self) -> None:
        """Make the tables, or bring them up to date."""
        self.database.upgrade()

    create = upgrade

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def view(self) -> AbstractContextManager[None]:
        """Make all that this thread reads in the block one transaction: it sees one state, and takes less time."""
        return self.database.view()

    # frames

    def add_frame(self, new: NewFrame, *, moves: bool = True) -> Registered:
        """Register a file.

        The same content at the same path is known (and what is said of it is brought up to date), the same
        content at another path a duplicate, other content at a known path a new version. With `moves`, known
        content whose old path is gone from the disk has moved: it is known, and its path changes.
        """

        def add(connection: Connection) -> Registered:
            return frames.add_frame(connection, new, moves=moves)

        # On PostgreSQL another program may register the same file at this moment: then it is known.
        return self._twice(add)

    def _twice(self, work: Callable[[Connection], _T]) -> _T:
        try:
            with self.database.write() as connection:
                return work(connection)
        except IntegrityError:
            with self.database.write() as connection:
                return work(connection)

    def add_catalogue(self, rows: Iterable[NewFrame], *, batch: int = 2000) -> int:
        """Register frames without files, in transactions of `batch`; gives how many were new.

        A row with telescope, camera, instrument, obsdate and iobs of one that is there is passed over.
        """
        new = 0
        for some in frames.batches(rows, batch):
            with self.database.write() as connection:
                new += frames.add_catalogue(connection, some)
        return new

    def pending_frames(self, limit: int = 1000, after: int = 0) -> list[tuple[int, str, str]]:
        """Id, path and time of rows that other programs have inserted, whose files have not been read yet."""
        with self.database.read() as connection:
            return frames.pending(connection, limit, after)

    def refuse_frame(self, frame: int, reason: str) -> None:
        """Say why a frame can't be used."""
        with self.database.write() as connection:
            frames.refuse(connection, frame, reason)

    def files(self) -> list[tuple[str, int, int]]:
        """Path, size and time of the newest version of each file, as they were when it was registered."""
        with self.database.read() as connection:
            return frames.files(connection)

    def frames(self, wanted: FrameFilter = _ALL_FRAMES) -> list[FrameRecord]:
        """The frames that `wanted` selects, by time, each with its keywords."""
        with self.database.read() as connection:
            return queries.frames(connection, wanted)

    def candidates(
        self, frame_class: str, rules: Sequence[Rule], reference: Candidate, count: int = 1
    ) -> list[Match[Group]]:
        """The best `count` calibration frames for `reference`, each as a group of its own.

        They are those that `ccdflow.cascade.planning.associate.fitting` gives first for all registered frames of the
        class, found without reading them all.
        """
        with self.database.read(by_index=candidates.have_index(frame_class)) as connection:
            return candidates.frame_candidates(connection, frame_class, rules, reference, count)

    def master_candidates(
        self, category: str, rules: Sequence[Rule], reference: Candidate, count: int = 1
    ) -> list[Match[Master]]:
        """The best `count` products of a category for `reference`, as `candidates` finds frames.

        A product counts with its own columns, and with the keywords of the first frame that it was made from.
        """
        with self.database.read(by_index=True) as connection:
            return candidates.master_candidates(connection, category, rules, reference, count)

    def list_frames(
        self, wanted: FrameFilter = _ALL_FRAMES, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Frames as rows for people: with furthest stage, state there, and current set."""
        with self.database.read() as connection:
            return queries.list_frames(connection, wanted, limit)

    def show_frame(self, identity: int) -> dict[str, Any] | None:
        """All that is known of one frame; None where there is none."""
        wanted = FrameFilter(status=None, ids=[identity])
        with self.database.read() as connection:
            found = queries.list_frames(connection, wanted, 1)
            if not found:
                return None
            (record,) = queries.frames(connection, wanted)
            stages = outbox.stages_of(connection, identity)
            return found[0] | {"keywords": dict(record.keywords), "stages": stages}

    def frames_in_stream(
        self, stream: Stream, after: OrderKey | None = None, *, batch: int = 5000
    ) -> Iterator[FrameRecord]:
        """The frames of a stream, in order, from those behind `after` on; read in transactions of `batch`."""
        while True:
            with self.database.read() as connection:
                page = queries.stream_page(connection, stream, after, batch)
            yield from page
            if len(page) < batch:
                return
            after = queries.order_of(page[-1])

    def exposures_in_stream(
        self,
        stream: Stream,
        rules: SequenceRules,
        classes: Collection[str],
        after: OrderKey | None = None,
        *,
        batch: int = 5000,
    ) -> Iterator[Exposure]:
        """As `frames_in_stream`, but of each frame only what the rules look at, which is faster.

        The first transactions are small: whoever regroups a late frame needs few.
        """
        size = min(exposures.FEW, batch)
        while True:
            with self.database.read() as connection:
                page = exposures.exposure_page(connection, stream, (rules, classes), after, size)
            yield from page.frames
            if page.length < size:
                return
            after, size = page.last, min(4 * size, batch)

    def streams(self, *, ungrouped: bool = False) -> list[Stream]:
        """All streams, or those with frames that no grouping has seen."""
        with self.database.read() as connection:
            return queries.streams(connection, ungrouped=ungrouped)

    def news(self, stages: Collection[str]) -> News:
        """What grouping has not seen; of these `stages` it is found out whether they are settled."""
        with self.database.read() as connection:
            return news.news(connection, stages)

    def ungrouped_frames(self, stream: Stream, limit: int | None = None) -> list[FrameRecord]:
        """The frames of a stream that no grouping has seen, in order."""
        with self.database.read() as connection:
            return queries.ungrouped_frames(connection, stream, limit)

    # stages

    def set_frame_stage(self, *states: StageState) -> None:
        """Write how far frames have come in their stages."""
        with self.database.write() as connection:
            outbox.set_stages(connection, states)

    def stages(self, stage: str, frames: Collection[int]) -> dict[int, str]:
        """The states of frames in one stage, by id; frames that have not reached it are left out."""
        with self.database.read() as connection:
            return outbox.states(connection, stage, frames)

    def unsettled_since(self, ends: Mapping[str, str], since: str) -> str | None:
        """Time of the oldest frame, from `since` on, of which something may have to be made, if any."""
        with self.database.read() as connection:
            return outbox.unsettled_since(connection, ends, since)

    def ledger(self, night: str | None = None) -> list[dict[str, Any]]:
        """Number of frames by night, stage and state; ``ingest`` counts all that were registered."""
        with self.database.read() as connection:
            return queries.ledger(connection, night)

    # jobs

    def plan_jobs(
        self, planned: Sequence[PlannedJob], waiting: Mapping[str, Sequence[StageState]] = _NOTHING
    ) -> int:
        """Write jobs, their inputs and the products they will make; gives how many were new.

        `waiting` says, by job, how far frames have come for which it is yet to be done; it is written only where nobody
        has begun the job meanwhile.
        """
        with self.database.write() as connection:
            new = jobs.plan_jobs(connection, planned)
            free = jobs.unbegun(connection, waiting)
            states = [one for key, some in waiting.items() if key in free for one in some]
            outbox.set_stages(connection, states)
        return new

    def drop_incomplete(self, keep: Collection[str], places: Collection[tuple[str, str, str]]) -> int:
        """Forget incomplete jobs that were not planned again; `places` are steps, nights and cameras that were."""
        with self.database.write() as connection:
            return jobs.drop_incomplete(connection, keep, places)

    def repoint_inputs(self, frames: Mapping[str, Sequence[int]]) -> None:
        """Let jobs name other frames of the same content as their main inputs, in order, by key."""
        with self.database.write() as connection:
            jobs.repoint(connection, frames)

    def claim(self, key: str, owner: str, lease_seconds: float) -> Claim | None:
        """Take a job that waits or has failed, or whose owner is dead or silent for `lease_seconds`.

        None where it is done, can't be done, or is being done.

        Raises
        ------
        KeyError
            If there is no such job.
        """
        with self.database.write() as connection:
            return jobs.claim(connection, key, owner, lease_seconds)

    def begin(self, key: str, owner: str, lease_seconds: float, stages: Mapping[str, str]) -> Begun | None:
        """As `claim`, and the job's raw frames are marked as running in its stage; gives what a worker has to know.

        `stages` names the stage of each step; a step that is not in it is its own stage.
        """
        with self.database.write() as connection:
            begun = jobs.begin(connection, key, owner, lease_seconds)
            if begun is not None:
                _mark(connection, begun, stages, "running", "")
        return begun

    def complete(
        self, begun: Begun, owner: str, made: Sequence[Made], stages: Mapping[str, str]
    ) -> list[int]:
        """As `finish`, and the job's raw frames are marked as done in its stage.

        Raises
        ------
        LeaseLostError
            If the job is no longer this owner's; then nothing is recorded.
        """
        with self.database.write() as connection:
            ids = products.finish(connection, begun.job.key, owner, made)
            _mark(connection, begun, stages, "done", "")
        return ids

    def give_up(self, begun: Begun, owner: str, reason: str, stages: Mapping[str, str]) -> bool:
        """As `fail`, and the job's raw frames are marked as failed in its stage."""
        values = {"state": "failed", "reason": reason, "heartbeat": None, "finished_at": now()}
        with self.database.write() as connection:
            held = jobs.set_state(connection, begun.job.key, owner, values)
            if held:
                _mark(connection, begun, stages, "failed", reason)
        return held

    def put_back(self, begun: Begun, owner: str, reason: str, stages: Mapping[str, str]) -> bool:
        """Give a job back that the machine could not do now, and say why; its raw frames wait.

        False where it is no longer this owner's.
        """
        values = {"state": "planned", "reason": reason, "owner": "", "heartbeat": None, "finished_at": now()}
        with self.database.write() as connection:
            held = jobs.set_state(connection, begun.job.key, owner, values)
            if held:
                _mark(connection, begun, stages, "waiting", reason)
        return held

    def heartbeats(self, held: Collection[tuple[str, str]]) -> None:
        """Tell that owners still work on jobs; `held` are pairs of key and owner."""
        with self.database.write() as connection:
            jobs.beat(connection, held)

    def heartbeat(self, key: str, owner: str) -> bool:
        """Tell that `owner` still works on a job; False where the job is no longer its."""
        return self._set(key, owner, heartbeat=jobs.clock())

    def finish(self, key: str, owner: str, made: Sequence[Made]) -> list[int]:
        """Record what a job made, and that it is done; gives the products' ids.

        Raises
        ------
        LeaseLostError
            If the job is no longer this owner's; then nothing is recorded.
        """
        with self.database.write() as connection:
            return products.finish(connection, key, owner, made)

    def ensure_held(self, key: str, owner: str) -> None:
        """Do nothing if a job is still in the hands of `owner`.

        Raises
        ------
        LeaseLostError
            If it is not.
        """
        with self.database.read() as connection:
            if not jobs.holds(connection, key, owner):
                raise LeaseLostError(f"job {key[:8]} is not {owner}'s any more: what it made does not count")

    def whereabouts(self, keys: Collection[str], lease_seconds: float) -> dict[str, Whereabouts]:
        """Which of these jobs are free, in the hands of another worker, done or failed."""
        with self.database.read() as connection:
            return jobs.whereabouts(connection, keys, lease_seconds)

    def fail(self, key: str, owner: str, reason: str) -> bool:
        """Record why a job failed; False where it is no longer this owner's."""
        return self._set(key, owner, state="failed", reason=reason, heartbeat=None, finished_at=now())

    def release(self, key: str, owner: str) -> bool:
        """Give a job back undone; False where it is no longer this owner's."""
        return self._set(key, owner, state="planned", owner="", heartbeat=None)

    def _set(self, key: str, holder: str, **values: Any) -> bool:
        with self.database.write() as connection:
            return jobs.set_state(connection, key, holder, values)

    def sweep(self, lease_seconds: float) -> list[str]:
        """Give back the jobs of dead owners, and of those silent for `lease_seconds`; gives their keys."""
        with self.database.write() as connection:
            return jobs.sweep(connection, lease_seconds)

    def job(self, key: str) -> JobRecord | None:
        """One job with its inputs; None where there is none."""
        return next(iter(self.jobs(JobFilter(keys=[key]))), None)

    def jobs(self, wanted: JobFilter = _ALL_JOBS) -> list[JobRecord]:
        """The jobs that `wanted` selects, with their inputs, in the order in which they were planned."""
        with self.database.read() as connection:
            return jobs.jobs(connection, wanted)

    def keys_like(self, prefix: str, limit: int = 10) -> list[str]:
        """Keys of jobs that begin with `prefix`."""
        with self.database.read() as connection:
            return jobs.keys_like(connection, prefix, limit)

    def done_keys(self, from_night: str | None = None) -> set[str]:
        """Keys of the jobs that are done, of all nights or from one on."""
        with self.database.read() as connection:
            return jobs.done_keys(connection, from_night)

    def try_again(self, keys: Collection[str]) -> list[str]:
        """Let jobs that have failed be tried again as if they never had been; gives their keys."""
        with self.database.write() as connection:
            return jobs.try_again(connection, keys)

    def done_among(self, keys: Collection[str]) -> set[str]:
        """Those of the keys whose jobs are done."""
        with self.database.read() as connection:
            return jobs.done_among(connection, keys)

    def count_finished(self, keys: Collection[str]) -> int:
        """How many of these jobs are done or have failed."""
        with self.database.read() as connection:
            counts = jobs.count_states(connection, keys)
        return counts.get("done", 0) + counts.get("failed", 0)

    def record(self, key: str) -> dict[str, Any]:
        """What a job has made: its key and state, and id, category, path and sha256 of each product."""
        with self.database.read() as connection:
            found = jobs.jobs(connection, JobFilter(keys=[key]))
            if not found:
                raise KeyError(f"no job {key!r} in the registry")
            made = products.products(connection, ProductFilter(job_keys=[key]))
        rows = [
            {"id": one.id, "category": one.category, "path": one.path, "sha256": one.sha256} for one in made
        ]
        return {"key": key, "state": found[0].state, "reason": found[0].reason, "products": rows}

    def frames_of_job(self, key: str) -> list[int]:
        """Ids of the raw frames that a job takes as main input, itself or as the products made of them."""
        with self.database.read() as connection:
            return jobs.main_frames(connection, key)

    def lineage_up(self, keys: Collection[str]) -> list[JobRecord]:
        """The jobs that made what these took, and so on; the nearest first."""
        with self.database.read() as connection:
            return jobs.lineage(connection, keys, up=True)

    def lineage_down(self, keys: Collection[str]) -> list[JobRecord]:
        """The jobs that took what these made, and so on; the nearest first."""
        with self.database.read() as connection:
            return jobs.lineage(connection, keys, up=False)

    def main_descendants(self, frames: Collection[int]) -> dict[str, set[int]]:
        """The jobs whose main input are these frames, or products of such jobs; to each, its frames among them."""
        with self.database.read() as connection:
            return jobs.main_descendants(connection, frames)

    def keys_of_frames(self, ids: Collection[int]) -> set[str]:
        """Keys of the jobs that took one of these frames themselves."""
        with self.database.read() as connection:
            return jobs.keys_of_frames(connection, ids)

    def sources(self, job: JobRecord) -> Sources:
        """Where the inputs of a job lie."""
        with self.database.read() as connection:
            return sources.sources(connection, job)

    # products

    def product(self, identity: int) -> ProductRecord | None:
        """One product in whatever state; None where there is none."""
        return next(iter(self.products(ProductFilter(states=None, ids=[identity]))), None)

    def products(self, wanted: ProductFilter = _ALL_PRODUCTS) -> list[ProductRecord]:
        """The products that `wanted` selects, by id."""
        with self.database.read() as connection:
            return products.products(connection, wanted)

    def list_products(self, wanted: ProductFilter = _ALL_PRODUCTS) -> list[dict[str, Any]]:
        """Products as rows for people, with the inputs of their jobs."""
        with self.database.read() as connection:
            return products.product_rows(connection, products.products(connection, wanted))

    def products_of(self, keys: Collection[str]) -> list[dict[str, Any]]:
        """What these jobs have made, as rows for people."""
        return self.list_products(ProductFilter(job_keys=keys))

    def outputs_of(self, key: str) -> list[ProductRecord]:
        """The products of a job, there or planned."""
        return self.products(ProductFilter(states=None, job_keys=[key]))

    def touch_products(self, changed: Mapping[int, int]) -> None:
        """Note when the files of products that were found intact were last changed, in nanoseconds, by id."""
        with self.database.write() as connection:
            products.touch(connection, changed)

    def lose_products(self, ids: Collection[int], reason: str) -> int:
        """Products whose files are gone or damaged: their jobs are to be done again. Gives how many jobs."""
        with self.database.write() as connection:
            return products.lose_products(connection, ids, reason)

    def supersede(self, successors: Mapping[str, str]) -> int:
        """Mark what jobs made as superseded by what others made, key to key; gives how many were marked."""
        with self.database.write() as connection:
            return products.supersede(connection, successors)

    def superseded_keys(self) -> set[str]:
        """Keys of the jobs whose products were marked as superseded."""
        with self.database.read() as connection:
            return products.superseded_keys(connection)

    def collect(self, name: str, ids: Collection[int]) -> None:
        """Put products into a collection, which is made if it isn't there."""
        with self.database.write() as connection:
            products.collect(connection, name, ids)

    # sets

    def sets(self, wanted: SetFilter = _ALL_SETS) -> list[SetRecord]:
        """The sets that `wanted` selects, with their frames, by time."""
        with self.database.read() as connection:
            return sets.sets(connection, wanted)

    def count_sets(self, step: str) -> dict[str, int]:
        """How many sets of a step there are: ``open``, and of the closed ones ``stack`` and ``pass``."""
        with self.database.read() as connection:
            return setcounts.counts(connection, step)

    def list_sets(self, wanted: SetFilter = _ALL_SETS) -> list[dict[str, Any]]:
        """Sets as rows for people."""
        return sets.set_rows(self.sets(wanted))

    def apply_set_changes(
        self,
        changes: Sequence[SetChange],
        *,
        states: Sequence[State] = (),
        grouped: Collection[int] = (),
        settling: Sequence[Settling] = (),
        settled: Collection[int] = (),
        looked_at: Collection[int] = (),
    ) -> dict[str, int]:
        """Make changes to sets in order, all or none; gives the id of each new set by its `ref`.

        In the same transaction the `states` of streams are saved, the frames `grouped` marked as seen, and of the
        steps of `settling` the sets that change, and those of the ids `settled`, are settled. A frame may be in a set
        of `looked_at` and in another one. On PostgreSQL a crash of the server may take back what was changed last,
        whole: grouping and planning find it again.
        """
        with self.database.write() as connection:
            return sets.apply_changes(
                connection, changes, Also(states, grouped, settling, settled, looked_at)
            )

    def tidy_sets(self) -> None:
        """Keep a new frame cheap after very many were grouped at once."""
        self.database.tidy("frame", "frame_set", "set_member")

    def settle(self, by: Sequence[Settling]) -> None:
        """Let the sets of those frames become ready whose states have changed since that was done last.

        The change is then settled: all steps that look at one stage have to be named together.
        """
        with self.database.read() as connection:
            if not any(settling.is_unsettled(connection, one) for one in by):
                return
        with self.database.write() as connection:
            setcounts.alone(connection)
            settling.settle_changed(connection, by)

    def load_state(self, stream: Stream, step: str, rules: str) -> Any:
        """Where the grouping of a stream stands; None where it has not begun, or was made by other rules."""
        with self.database.read() as connection:
            return sets.load_state(connection, stream, step, rules)

    def save_state(self, state: State) -> None:
        """Save where the grouping of a stream stands."""
        self.apply_set_changes((), states=[state])

    def last_boundary(self, stream: Stream, step: str, key: OrderKey) -> OrderKey | None:
        """Start of the last sequence of a stream that begins at or before `key`; None where there is none."""
        with self.database.read() as connection:
            return sets.last_boundary(connection, stream, step, key)

    # events

    def events(
        self, *, undelivered: bool = False, after: int = 0, limit: int | None = None
    ) -> list[EventRecord]:
        """Events behind the id `after`, in order."""
        with self.database.read() as connection:
            return outbox.events(connection, undelivered=undelivered, after=after, limit=limit)

    def deliver(self, ids: Collection[int]) -> None:
        """Mark events as delivered."""
        with self.database.write() as connection:
            outbox.deliver(connection, ids)

    def drain(self, name: str, owner: str, lease_seconds: float) -> bool:
        """Become the drain of a stream, or stay it; false while another one is alive."""
        with self.database.write() as connection:
            return drains.take(connection, name, owner, lease_seconds)

    def stay_drain(self, name: str, owner: str) -> bool:
        """Show a sign of life as the drain of a stream; false where it is another's by now."""
        with self.database.write() as connection:
            return drains.stay(connection, name, owner)

    def leave_drain(self, name: str, owner: str) -> None:
        """Be the drain of a stream no longer."""
        with self.database.write() as connection:
            drains.leave(connection, name, owner)

    def drains(self, lease_seconds: float) -> dict[str, str]:
        """Streams that are being drained, and by whom."""
        with self.database.read() as connection:
            return drains.alive(connection, lease_seconds)

    def hold(self, reason: str = "") -> None:
        """Begin no job from now on, and say why."""
        with self.database.write() as connection:
            holds.put(connection, reason)

    def release_hold(self) -> bool:
        """Begin jobs again; false where nothing was on hold."""
        with self.database.write() as connection:
            return holds.release(connection)

    def held(self) -> str:
        """Since when, and why, no job is begun, in words; empty where jobs are."""
        with self.database.read() as connection:
            return holds.held(connection)

    def ear(self) -> Ear:
        """Hears that others have written to the registry."""
        return Ear(self.database.url)

    def choose(self, subjects: Collection[str], verdict: Verdict, reason: str = "") -> None:
        """Pin or ban frames (``f12``) and products of jobs (keys).

        Raises
        ------
        ValueError
            If a frame is not there, or is a duplicate or superseded.
        """
        with self.database.write() as connection:
            choices.choose(connection, subjects, verdict, reason)

    def withdraw(self, subjects: Collection[str]) -> int:
        """Take pins and bans back; gives how many there were."""
        with self.database.write() as connection:
            return choices.withdraw(connection, subjects)

    def choices(self) -> list[ChoiceRecord]:
        """Pins and bans, in the order in which they were made."""
        with self.database.read() as connection:
            return choices.choices(connection)

    def add_instrument_event(self, change: InstrumentChange) -> None:
        """Record what happened to an instrument."""
        with self.database.write() as connection:
            outbox.add_instrument_event(connection, change)

    def remove_instrument_event(self, change: InstrumentChange) -> int:
        """Take back what was recorded of an instrument; gives how many records there were."""
        with self.database.write() as connection:
            return outbox.remove_instrument_event(connection, change)

    def instrument_events(self) -> list[InstrumentChange]:
        """What happened to instruments, in order."""
        with self.database.read() as connection:
            return outbox.instrument_events(connection)


def _mark(connection: Connection, begun: Begun, stages: Mapping[str, str], state: str, reason: str) -> None:
    """Write the state of a job's frames in the stage of its step."""
    stage = stages.get(begun.job.step, begun.job.step)
    outbox.set_stages(connection, [StageState(frame, stage, state, reason) for frame in begun.frames])
