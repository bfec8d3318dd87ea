"""How long a file of others may take; imports next to nothing.

A disk of the network that stopped answering lets a read wait for ever, and nothing ends that: no signal, no closing of
the file. So what touches such files is done by threads that are left behind once they take too long. They are daemons:
the program's end does not wait for them either.
"""

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread, local
from time import monotonic
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")

READ_LIMIT_S = 120.0
"""Seconds that a file may be silent until its next bytes come: NFS asks a silent server again after 60 (``timeo=600``),
and a disk that sleeps wakes up within 20. A tape library takes minutes: `read_limit` in ``ccdflow.yaml``."""
SLOWEST = 1_000_000
"""Bytes a second at which a file may come, behind the first `READ_LIMIT_S`: slower than a mobile phone's network."""
BEHIND_S = 5.0
"""Seconds for further files of a disk as long as one of its files has not come."""
MOST_STUCK = 4
"""Files of a disk that have not come, after which no other is tried until one of them has."""


class _Settings:
    """What holds for this process: `limit` is in seconds."""

    limit = READ_LIMIT_S


def set_read_limit(seconds: float | None) -> None:
    """Let files be silent for so long from now on, in this process.

    Parameters
    ----------
    seconds : float or None
        None for `READ_LIMIT_S`.
    """
    _Settings.limit = READ_LIMIT_S if seconds is None else seconds


def read_limit() -> float:
    """Return how many seconds a file may be silent in this process.

    Returns
    -------
    float
        As `READ_LIMIT_S`, or what a project says.
    """
    return _Settings.limit


class Ticket(Generic[T]):
    """Work on a file that a thread does, and how long that may take.

    Parameters
    ----------
    path : Path
        The file, or a folder.
    work : callable
        What is done.
    """

    def __init__(self, path: Path, work: Callable[[], T]) -> None:
        self.path = path
        self.is_left = False
        self._work = work
        self._begun, self._done = Lock(), Lock()
        self._begun.acquire()
        self._done.acquire()
        self._limit, self._since, self._last, self._earned = _Settings.limit, 0.0, 0.0, 0.0
        self._result: T | None = None
        self._error: BaseException | None = None

    def allow(self, size: int) -> None:
        """Give more time, since so many bytes have come."""
        self._last = monotonic()
        self._earned += size / SLOWEST

    @property
    def _end(self) -> float:
        """When it has taken too long: no byte came for the limit, or all came too slowly."""
        return min(self._since + self._earned, self._last) + self._limit

    def run(self) -> None:
        """Do it; called by the thread."""
        self._since = self._last = monotonic()
        try:
            self._limit = _limit_for(self.path)
        except OSError as error:
            self._error = error
        self._begun.release()
        try:
            if self._error is None and not self.is_left:
                self._result = self._work()
        except BaseException as error:  # it is raised where somebody waits for it
            self._error = error
        finally:
            self._done.release()

    def result(self) -> T:
        """Wait for it.

        Returns
        -------
        object
            What the work has given.

        Raises
        ------
        OSError
            ETIMEDOUT, if it takes longer than it may; and whatever the work raises.
        """
        with self._begun:
            pass
        # There is more time with each piece that comes.
        while not self.is_done and (left := self._end - monotonic()) > 0:
            if self._done.acquire(timeout=left):
                self._done.release()
        if not self._is_over():
            raise OSError(errno.ETIMEDOUT, self._told, str(self.path))
        try:
            if self._error is not None:
                raise self._error
            return cast(T, self._result)
        finally:
            self._error = None  # else it and its traceback hold each other

    @property
    def is_done(self) -> bool:
        """Whether it has come to its end."""
        return not self._done.locked()

    @property
    def _told(self) -> str:
        if self._last > self._since and self._earned < self._limit:
            return f"not read within {monotonic() - self._since:.0f} s, it comes too slowly"
        return f"not read within {self._limit:g} s"

    def _is_over(self) -> bool:
        """Whether it has come to its end; else it is left, and counts against the disk of its file until it has."""
        with _STUCK_LOCK:
            if self.is_done:
                return True
            self.is_left = True
            _STUCK.add(self)
            return False

    def end(self) -> bool:
        """Tell whether somebody has left it; then it no longer counts against its disk."""
        with _STUCK_LOCK:
            if self.is_left:
                _STUCK.discard(self)
            return self.is_left


_STUCK: set[Ticket[Any]] = set()
"""What was left behind and has not come to its end."""
_STUCK_LOCK = Lock()
_HERE = local()
"""`ticket` is what this thread is working on."""


def _limit_for(path: Path) -> float:
    """How long a file may be silent, since others of its disk have not come."""
    if not _STUCK:
        return _Settings.limit
    with _STUCK_LOCK:
        stuck = sorted(ticket.path for ticket in _STUCK)
    disk = _disk(path)
    stuck = [other for other in stuck if _disk(other) == disk]
    if len(stuck) >= MOST_STUCK:
        told = f"its disk does not answer: {len(stuck)} files, for instance {stuck[0]}, were not read in time"
        raise OSError(errno.ETIMEDOUT, told, str(path))
    return min(_Settings.limit, BEHIND_S) if stuck else _Settings.limit


def _disk(path: Path) -> str:
    """The place at which the disk of a file is mounted; to ask the disk itself might take for ever."""
    name = os.path.abspath(path)
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as stream:
            places = [line.split()[1].replace("\\040", " ") for line in stream]
    except OSError:  # no Linux: files of one folder are on one disk at least
        return os.path.dirname(name)
    return max((place for place in places if _is_below(name, place)), key=len, default="/")


def _is_below(name: str, folder: str) -> bool:
    return name.startswith(folder.rstrip("/") + "/")


def came(size: int) -> None:
    """Give what this thread does more time, since so many bytes have come; for whatever reads piece by piece.

    Parameters
    ----------
    size : int
        Bytes.

    Raises
    ------
    CancelledError
        If it has taken too long: nobody waits for it any more.
    """
    ticket: Ticket[Any] | None = getattr(_HERE, "ticket", None)
    if ticket is None:
        return
    if ticket.is_left:
        raise CancelledError(f"{ticket.path} has taken too long")
    ticket.allow(size)


Queue = SimpleQueue["Ticket[Any] | None"]
"""What threads are to do; None ends one of them."""


def _serve(queue: Queue) -> None:
    while (ticket := queue.get()) is not None:
        _HERE.ticket = ticket
        ticket.run()
        _HERE.ticket = None
        # Another has taken the place of a thread that was left.
        if ticket.end():
            return
        del ticket  # else what it has read stays in memory until the next comes


def _thread(queue: Queue) -> None:
    Thread(target=_serve, args=(queue,), name="reads", daemon=True).start()


_IDLE: list[Queue] = []
"""Of threads that wait, one each."""
# Threads do not come along into a process that was forked.
os.register_at_fork(after_in_child=_IDLE.clear)


def in_time(path: Path, work: Callable[[], T]) -> T:
    """Do work on a file in a thread that is left behind when that takes too long.

    Parameters
    ----------
    path : Path
        The file, or a folder.
    work : callable
        What is done. It must not matter that it is still at work when nobody waits for it any more.

    Returns
    -------
    object
        What the work gives.

    Raises
    ------
    OSError
        ETIMEDOUT, if it takes longer than `READ_LIMIT_S` and what its size allows; and whatever the work raises.
    """
    # Within such work the outer one's time counts.
    if getattr(_HERE, "ticket", None) is not None:
        return work()
    try:
        queue = _IDLE.pop()
    except IndexError:
        queue = SimpleQueue()
        _thread(queue)
    ticket = Ticket(path, work)
    queue.put(ticket)
    try:
        return ticket.result()
    finally:
        if ticket.is_done:
            _IDLE.append(queue)
        else:  # somebody has interrupted the waiting, or it took too long: the thread ends once it is done
            queue.put(None)


class Readers:
    """Threads that work on files in the order in which they are asked for.

    Parameters
    ----------
    count : int
        How many.
    """

    def __init__(self, count: int) -> None:
        self._queue: Queue = SimpleQueue()
        self._count = count
        for _ in range(count):
            _thread(self._queue)

    def begin(self, path: Path, work: Callable[[], T]) -> Ticket[T]:
        """Let work on a file be done.

        Parameters
        ----------
        path : Path
            The file.
        work : callable
            As for `in_time`.

        Returns
        -------
        Ticket
            What `result` waits for, in the same order.
        """
        ticket = Ticket(path, work)
        self._queue.put(ticket)
        return ticket

    def result(self, ticket: Ticket[T]) -> T:
        """Wait for what was begun first.

        Parameters
        ----------
        ticket : Ticket
            As `begin` gave it.

        Returns
        -------
        object
            As `Ticket.result`.
        """
        try:
            return ticket.result()
        finally:
            if ticket.is_left:
                _thread(self._queue)

    def leave(self) -> None:
        """Let the threads end once they are done."""
        for _ in range(self._count):
            self._queue.put(None)


@contextmanager
def readers(count: int) -> Iterator[Readers]:
    """Have threads that read files while the block runs.

    Parameters
    ----------
    count : int
        How many.

    Yields
    ------
    Readers
        Whoever leaves the block does not wait for them.
    """
    pool = Readers(count)
    try:
        yield pool
    finally:
        pool.leave()
