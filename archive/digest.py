"""The sha256 of files; imports next to nothing, so that a command hashes while it still starts."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from threading import Event
from typing import cast

from ccdflow.archive.foreignfile import (
    DamagedFrameError,
    NotReadError,
    UnreadableFrameError,
    is_not_read,
    open_plain,
    unread,
    why_unread,
)
from ccdflow.archive.patience import came, in_time
from ccdflow.recipes.kernels.threads import cores

__all__ = [
    "DamagedFrameError",
    "NotReadError",
    "UnreadableFrameError",
    "digests_of",
    "file_digest",
    "is_not_read",
    "unread",
    "why_unread",
]

_SMALLEST_READ, _LARGEST_READ = 1 << 18, 1 << 22
"""Bytes read at once. For each piece a thread waits for Python's lock, which takes long while others import."""


def file_digest(
    path: Path, cancelled: Event | None = None, watch: Callable[[memoryview], None] | None = None
) -> str:
    """Return the sha256 of a file's bytes.

    Parameters
    ----------
    path : Path
        The file.
    cancelled : Event or None
        Ends the reading early when somebody sets it: a thread can't be stopped from outside.
    watch : callable or None
        Is given each piece of the file in order, before the next takes its place in memory.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    UnreadableFrameError
        If the file can't be read.
    CancelledError
        If `cancelled` is set before its end.
    """
    try:
        return in_time(path, lambda: _digest(path, cancelled, watch))
    except OSError as error:
        raise unread(path, error) from None


def _digest(path: Path, cancelled: Event | None, watch: Callable[[memoryview], None] | None) -> str:
    digest = hashlib.sha256()
    with cast(RawIOBase, open_plain(path, buffering=0)) as stream:
        length = left = os.fstat(stream.fileno()).st_size
        # One buffer for all pieces; a small file does not need the largest.
        buffer = memoryview(bytearray(min(max(length, _SMALLEST_READ), _LARGEST_READ)))
        # No further than it reached at first: one that grows as fast as it is read has no end.
        while left and (size := stream.readinto(buffer[:left])):
            if cancelled is not None and cancelled.is_set():
                raise CancelledError(f"{path} is no longer wanted")
            left -= size
            came(size)
            digest.update(buffer[:size])
            if watch is not None:
                watch(buffer[:size])
        if (grown := os.fstat(stream.fileno()).st_size) > length:
            told = f"it is still being written, and grew from {length} to {grown} bytes meanwhile"
            raise OSError(errno.EAGAIN, told)
    return digest.hexdigest()


@contextmanager
def digests_of(paths: Iterable[Path]) -> Iterator[Mapping[Path, Future[str]]]:
    """Hash files in as many threads as there are cores, while the block runs.

    Parameters
    ----------
    paths : iterable of Path
        Files; one that is named twice is read once.

    Yields
    ------
    mapping of Path to Future
        The sha256 of each file, or the `UnreadableFrameError` that it raised. What nobody has waited for when the
        block ends is cancelled.
    """
    cancelled, pool = Event(), ThreadPoolExecutor(cores(), thread_name_prefix="digests")
    try:
        yield {path: pool.submit(file_digest, path, cancelled) for path in dict.fromkeys(paths)}
    finally:
        # Leaving the block must not wait for files that are being read: a command that refuses says so at once.
        cancelled.set()
        pool.shutdown(cancel_futures=True)
