"""Work in as many threads as there are cores: compiled kernels let go of the interpreter."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Return how many cores this process may use."""
    # A container or a batch system often allows fewer than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_LIMIT: ContextVar[int | None] = ContextVar("threads", default=None)


@contextmanager
def at_most(threads: int | None) -> Iterator[None]:
    """Let recipes that are called within work in so many threads.

    Parameters
    ----------
    threads : int or None
        At least 1; None for as many as there are cores.

    Yields
    ------
    None
        The limit holds in this thread until the block ends. Threads that are begun within do not know it.
    """
    token = _LIMIT.set(threads)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def in_threads(
    work: Callable[[Iterator[Item]], Result], items: Iterable[Item], *, threads: int | None = None
) -> list[Result]:
    """Share items among threads, each of which calls `work` once.

    Parameters
    ----------
    work : callable
        Takes one item after the other from the iterator that it is called with, until there are none. Each item goes
        to one thread, in order. So memory that a thread needs for all its items is its own from the first to the last.
    items : iterable
        Taken from by one thread at a time.
    threads : int, optional
        Number of threads; by default what `at_most` allows, else the number of cores. With 1 none is started.

    Returns
    -------
    list
        What `work` gave back in each thread.
    """
    shared = _Shared(iter(items))
    number = (_LIMIT.get() or cores()) if threads is None else threads
    if number <= 1:
        return [work(shared)]
    with ThreadPoolExecutor(number, thread_name_prefix="pixels") as pool:
        futures = [pool.submit(work, shared) for _ in range(number)]
        return [future.result() for future in futures]


def ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Work on the next item in a thread while the result of the one before is used.

    Parameters
    ----------
    work : callable
        Of one item; called for one at a time.
    items : iterable
        Taken from by the caller's thread.

    Yields
    ------
    result
        What `work` gives of each item, in order. What it raises is raised where its result is taken.
    """
    if (_LIMIT.get() or cores()) <= 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        before: Future[Result] | None = None
        # Two items are in memory at most: the one that is used, and the one that is worked on.
        for item in items:
            coming = pool.submit(work, item)
            if before is not None:
                yield before.result()
            before = coming
        if before is not None:
            yield before.result()


class _Shared(Iterator[Item]):
    """An iterator that several threads may take from."""

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self._lock = Lock()

    def __next__(self) -> Item:
        with self._lock:
            return next(self._items)
