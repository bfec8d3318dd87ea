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
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_LIMIT: ContextVar[int | None] = ContextVar("threads", default=None)


@contextmanager
def at_most(threads: int | None) -> Iterator[None]:
    """Let recipes that are called within work in so many threads; None for as many as there are cores."""
    token = _LIMIT.set(threads)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def in_threads(
    work: Callable[[Iterator[Item]], Result], items: Iterable[Item], *, threads: int | None = None
) -> list[Result]:
    """What `work` gives back in each thread; it takes one item after the other from the iterator that it is given.

    Each item goes to one thread, in order. Memory that a thread needs for all its items is its own from the
    first to the last.
    """
    shared = _Shared(iter(items))
    number = (_LIMIT.get() or cores()) if threads is None else threads
    if number <= 1:
        return [work(shared)]
    with ThreadPoolExecutor(number, thread_name_prefix="pixels") as pool:
        return [one.result() for one in [pool.submit(work, shared) for _ in range(number)]]


def ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What `work` gives of each item, in order: a thread works on the next one while one is taken."""
    if (_LIMIT.get() or cores()) <= 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        before: Future[Result] | None = None
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
