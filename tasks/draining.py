"""Near-live: rounds of reading, planning and doing on a stream, by one process at a time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

from sqlalchemy.exc import SQLAlchemyError

from ccdflow.archive.registry.frames.nearrows import span_of
from ccdflow.archive.registry.frames.stages import newest_frame, unsettled_since
from ccdflow.archive.registry.jobs.leases import leave_drain, live_drains, stay_drain, take_drain, this_owner
from ccdflow.archive.registry.jobs.records import JobFilter, find_jobs
from ccdflow.archive.registry.sets.news import first_row
from ccdflow.archive.storemark import StoreAwayError
from ccdflow.cascade.planning.jobqueue import first_jobs, urgent_jobs
from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.reach import association_levels, is_sure
from ccdflow.cascade.planning.request import Request
from ccdflow.tasks.bridge import stream_name
from ccdflow.tasks.grouping import few_before
from ccdflow.tasks.ingest import IngestReport, Turn, read_pending
from ccdflow.tasks.keeping.stock import kept_keys
from ccdflow.tasks.leases import BEATS_PER_LEASE
from ccdflow.tasks.memory import give_back
from ccdflow.tasks.planning import LIVE_AGE_DAYS, for_good, last_stages, left_to_others, planned, window
from ccdflow.tasks.rounds import Do, Round
from ccdflow.tasks.workspace import Workspace

WHOLE_LOOK_S = 30.0
"""Seconds after which what waits for a calibration is looked at again, and not only what came last."""
FRAMES_PER_LOOK = 2000
"""Frames that a look at everything takes at a time: memory holds these, however many there are of two days."""
JOBS_PER_ROUND = 40
"""Jobs that are done between two plans: an urgent job that comes meanwhile waits for these."""
ARRIVAL_PATIENCE_S = 60.0
"""Seconds after which a row whose file is missing or incomplete is refused: copies over a network take a while."""
READING_S = 2.0
"""Seconds that files of new rows are read between two plans: what has been read is calibrated before all is read."""
ROWS_S = 0.1
"""Seconds that rows without files are put into sets between two looks for frames with files."""
FEWEST_ROWS, MOST_ROWS = 20, 2000
"""How many that may be: the ones of a stream in order take a fifth of a millisecond each, scattered ones far longer."""
MOST_ATTEMPTS = 3
"""Attempts of drains at a job before it is left to people, and to the nightly run."""
RETRY_S = 10.0
"""Seconds until a job is tried again that could not be done just then, as on a full disk."""
GAP_LOOK_S = 10.0
"""Seconds after which sequences are looked at even if nothing came: a gap may have passed."""
STORE_LOOK_S = 5.0
"""Seconds between two looks at a store that is not there."""
TOGETHER_S = 0.05
"""Seconds of waiting after the first news, so that rows which are inserted together are processed together."""


def live_request(camera: str | None, max_age_days: float) -> Request:
    """Return the request of a drain: all of a stream that is not too old, with existing products kept as they are.

    Parameters
    ----------
    camera : str or None
        CAMERA or TELESCOPE/CAMERA; None for all.
    max_age_days : float
        Older frames are left out.

    Returns
    -------
    Request
        Its clock is now.
    """
    now = datetime.now(UTC).replace(tzinfo=None)
    return Request(
        camera=camera,
        since=(now - timedelta(days=max_age_days)).isoformat(timespec="seconds"),
        now=now.isoformat(timespec="seconds"),
        late="keep",
    )


def rows_next(rows: int, took: float) -> int:
    """Return how many rows without files are put into sets in the next round.

    Parameters
    ----------
    rows : int
        How many there were in this one.
    took : float
        Seconds that it took.

    Returns
    -------
    int
        As many as take about `ROWS_S`; at most twice as many as before, and at least half.
    """
    factor = min(2.0, max(0.5, ROWS_S / max(took, 1e-3)))
    return min(MOST_ROWS, max(FEWEST_ROWS, int(rows * factor)))


class DrainLease:
    """The right to drain a stream; another process gets it if this one gives no sign of life for too long.

    Parameters
    ----------
    space : Workspace
        The project; its `keep_alive` says how long is too long, in seconds.
    name : str
        Name of the drain.
    owner : str
        Who holds it, as `ccdflow.archive.registry.jobs.leases.this_owner` names it.
    """

    def __init__(self, space: Workspace, name: str, owner: str) -> None:
        self.space, self.name, self.owner = space, name, owner
        self.lost = ""

    def is_held(self) -> bool:
        """Give a sign of life; return False once another has had the stream, even if it has left it since."""
        if not self.lost and not self.space.registry.write(stay_drain, self.name, self.owner):
            holders = self.space.registry.read(live_drains, self.space.project.keep_alive)
            holder = holders.get(self.name, "nobody")
            silent = f"after more than {self.space.project.keep_alive:g} s without a sign of life"
            self.lost = f"lost the drain {self.name!r} {silent}: {holder} has it; this one ends"
        return not self.lost


@contextmanager
def only_drain(space: Workspace, camera: str | None) -> Iterator[DrainLease | None]:
    """Hold the right to drain a stream while the block runs.

    Parameters
    ----------
    space : Workspace
        The project.
    camera : str or None
        CAMERA or TELESCOPE/CAMERA; None for all.

    Yields
    ------
    DrainLease or None
        None where another drains it.
    """
    name, owner, lease = stream_name(camera), this_owner(), space.project.keep_alive
    if not space.registry.write(take_drain, name, owner, lease):
        yield None
        return
    stop, mine = Event(), DrainLease(space, name, owner)

    def beat() -> None:
        while not stop.wait(lease / BEATS_PER_LEASE) and not mine.lost:
            with suppress(SQLAlchemyError):  # the next one comes before the lease ends
                mine.is_held()

    # Signs of life come from a thread of their own: a round may take longer than the lease.
    thread = Thread(target=beat, name="drain", daemon=True)
    thread.start()
    try:
        yield mine
    finally:
        stop.set()
        thread.join()
        space.registry.write(leave_drain, name, owner)


class Drain:
    """Rounds of reading, planning and doing, until nothing is left; then waiting for more.

    Parameters
    ----------
    space : Workspace
        The project.
    do : callable
        Does jobs; returns the sentence of each that failed, by key.
    camera : str or None
        CAMERA or TELESCOPE/CAMERA; None for all.
    max_age_days : float
        Older frames are left to ``nightly``.
    may_go_on : callable
        Called before each round; once it returns False, the drain ends.
    say : callable
        Takes a sentence for people.
    """

    def __init__(
        self,
        space: Workspace,
        do: Do,
        camera: str | None = None,
        max_age_days: float = LIVE_AGE_DAYS,
        may_go_on: Callable[[], bool] = lambda: True,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.may_go_on, self.say = may_go_on, say
        self.space, self.do, self.camera, self.max_age_days = space, do, camera, max_age_days
        # What former drains have tried in vain often enough is left alone by this one.
        tried = space.registry.read(find_jobs, JobFilter(states=("failed",)))
        self.given_up = {job.key for job in tried if job.attempts >= MOST_ATTEMPTS}
        self.failed: dict[str, str] = {}
        self.held: dict[str, tuple[float, str]] = {}  # until when, and why, by key of the job
        self._looked = -WHOLE_LOOK_S  # when what waits was looked at last
        # Of a look at everything: from when on frames are left, those behind the ones of now, and whose turn it was.
        self._rest: str | None = ""
        self._behind: str | None = None
        self._took_span = True
        self._unsure = True  # whether anything has happened since
        self._turn = Turn(READING_S)
        self._rows = FEWEST_ROWS
        self._row: int | None = None  # the first row without a file that is in no set yet
        self._counted = 0  # the newest frame of which it is known whether it is too old
        self._away = ""  # what was said of a store that is not there
        self._level = 0  # place in the cascade's levels of the last one that was enough

    def run(self, linger: float) -> None:
        """Do what is due, until nothing is left and nothing has come for a while, or until it may not go on.

        Parameters
        ----------
        linger : float
            Seconds to wait for the next frame.
        """
        # On hold too frames are registered, before `may_go_on` is asked: a hold is for jobs.
        if not self.may_go_on():
            read_pending(self.space, IngestReport(), ARRIVAL_PATIENCE_S)
        with self.space.registry.ear() as ear:
            last = time.monotonic()
            while self.may_go_on():
                # However long the store is away, the drain waits for it: frames come in meanwhile.
                if not (count := self._round_where_stored()) and self._away:
                    ear.wait(STORE_LOOK_S)
                if count or self._away:
                    last = time.monotonic()
                    continue
                # Nothing was due. When nothing has come for `linger` seconds the drain ends, but not before a round has
                # looked at everything since the last thing happened.
                left = last + linger - time.monotonic()
                if left <= 0 and not self._unsure:
                    return
                if self._unsure and left <= max(0.0, linger - WHOLE_LOOK_S):
                    self._look_at_everything()
                elif ear.wait(min(left, GAP_LOOK_S)):
                    time.sleep(TOGETHER_S)

    def _round_where_stored(self) -> int:
        """Do a round; where the store is not there, only frames are registered."""
        try:
            count = self.round()
        except StoreAwayError as error:
            if str(error) != self._away:
                self.say(f"{error}; this drain waits for it")
            self._away, self._unsure = str(error), True
            return 0
        if self._away:
            self.say(f"the store {self.space.store.root} is there again")
            self._away = ""
            self._look_at_everything()
            # What had to wait for it is due at once.
            self.held = {key: (0.0, reason) for key, (_, reason) in self.held.items()}
            return count + 1
        return count

    def _look_at_everything(self) -> None:
        """Have the next rounds look at every frame that is not too old."""
        self._rest = ""

    @property
    def problems(self) -> dict[str, str]:
        """Sentences that say why jobs could not be done, by key."""
        return self.failed | {key: reason for key, (_, reason) in self.held.items()}

    def round(self) -> int:
        """Read, plan and do once.

        Returns
        -------
        int
            Number of rows read and of jobs that came to an end; 0 where there was nothing to do.
        """
        count = read_pending(self.space, IngestReport(), ARRIVAL_PATIENCE_S, self._turn)
        self._unsure = self._unsure or count > 0
        request = live_request(self.camera, self.max_age_days)
        # Mostly a plan from the oldest unfinished frame on is enough, and takes a fraction of the time. What it leaves
        # out (frames that wait for a calibration, which may have come now) is found by another one now and then. At
        # finished frames, of which a product may be gone, it is looked at the beginning and once nothing comes: else a
        # night would cost more with every frame of it.
        span = self._next_span(request)
        waiting = span is None and self._unsure and time.monotonic() - self._looked >= WHOLE_LOOK_S
        if waiting:
            give_back()
            self._looked = time.monotonic()
        work = Round(
            self.space,
            plan=lambda: self._planned(span or self._of_the_last(request, waiting=waiting)),
            do=self._do,
            choose=self._first,
            extent="span" if span else "nights" if waiting else "beginning",
            grouping=request,
            most_rows=self._rows,
        ).run(self._in_vain())
        if span is not None and not work.jobs:
            self._rest = self._behind
        # Jobs that were put off do not count: while the disk is full they are tried every `RETRY_S`, and a drain that
        # took this for progress would never end.
        put_off = self.held.keys() & work.failed.keys()
        progress = count + len(work.jobs) - len(put_off)
        if not progress:
            self._tell_of_the_old()
        return progress + self._rows_are_left(work.grouping_s) + (self._rest is not None)

    def _next_span(self, request: Request) -> Request | None:
        """The part of a request that a look at everything takes now; None where there is none, or others come first."""
        # In turns with rounds for what has come meanwhile, which are first: nobody waits for what lies behind.
        self._took_span = self._rest is not None and not self._took_span
        if self._rest is None or not self._took_span:
            return None
        if not self._rest:
            self._unsure = False
        since = max(self._rest, request.since or "")
        ends = last_stages(self.space.cascade, request.targets)
        # Where all frames decide together what is made there is one span.
        in_parts = ends.keys() <= few_before(self.space, request).keys()
        bounds = self.space.registry.read(span_of, ends, since, FRAMES_PER_LOOK) if in_parts else None
        until, self._behind = bounds or (None, None)
        return request.model_copy(update={"since": since, "until": until})

    def _rows_are_left(self, took: float) -> bool:
        """Whether more rows without files are to be put into sets, and the round has come on with them."""
        before, self._row = self._row, self.space.registry.read(first_row)
        if self._row is None:
            return False
        self._rows = rows_next(self._rows, took)
        return self._row != before

    def _tell_of_the_old(self) -> None:
        """Say how many frames have come that are too old for a drain, each of them once."""
        # Behind all that is due: in a registry of years it takes a second the first time.
        newest = self.space.registry.read(newest_frame)
        if newest > self._counted:
            sentence = left_to_others(self.space, self.max_age_days, (self._counted + 1, newest))
            self._counted = newest
            if sentence:
                self.say(sentence)

    def _first(self, jobs: list[Job]) -> list[Job]:
        """Return so few jobs that an urgent one which comes meanwhile need not wait for long."""
        return first_jobs(jobs, urgent_jobs(jobs, self.space.project.urgent), JOBS_PER_ROUND)

    def _in_vain(self) -> set[str]:
        """Return the keys of jobs that are not tried now: given up, failed, or put off for a while."""
        now = time.monotonic()
        # A plan of the last frames may not reach back to what was put off: once it is due, all is to be looked at.
        due = {key for key, (until, _) in self.held.items() if until <= now}
        self.held = {key: entry for key, entry in self.held.items() if key not in due}
        self._unsure = self._unsure or bool(due)
        return self.given_up | self.problems.keys()

    def _do(self, jobs: list[Job]) -> dict[str, str]:
        """Do jobs; those that have not failed for good are tried again in a while."""
        if not jobs:
            return {}
        self._unsure = True
        failed = self.do(jobs)
        lost = for_good(self.space, failed)
        self.failed |= {key: failed[key] for key in lost}
        # The others could not be done just now, as on a full disk, and stay due.
        until = time.monotonic() + RETRY_S
        self.held |= {key: (until, reason) for key, reason in failed.items() if key not in lost}
        return failed

    def _of_the_last(self, request: Request, *, waiting: bool) -> Request | None:
        """Return the request, narrowed to the oldest unfinished frame and later ones; None where all are finished."""
        ends = last_stages(self.space.cascade, request.targets)
        since = self.space.registry.read(unsettled_since, ends, request.since or "", waiting=waiting)
        return None if since is None else request.model_copy(update={"since": since})

    def _planned(self, request: Request | None) -> Plan | None:
        """Return the plan, made from the fewest nights that give the same as all nights; None for no request."""
        # Where nothing is due the store is asked for nothing else; that it is away is said all the same.
        self.space.claim_store()
        if request is None:
            return None
        # Good calibrations lie near in time. So the nights that rules of the best level reach are read first, and only
        # where a job might find another calibration further away those of the next level. A drain stays at a level.
        all_levels = association_levels(self.space.cascade)
        before = few_before(self.space, request)
        failed = self.given_up | self.failed.keys()
        for level in all_levels[self._level :]:
            nights = window(self.space.cascade, request, level, before)
            plan = planned(self.space, request, failed, nights, stock=kept_keys)
            self._level = all_levels.index(level)
            last = level == all_levels[-1] and not any(job.lacks_inputs for job in plan.jobs)
            if last or all(is_sure(job, level) for job in plan.jobs):
                return plan
        return planned(
            self.space, request, failed, stock=kept_keys
        )  # all nights tell more of what is missing
