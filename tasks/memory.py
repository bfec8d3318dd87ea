"""What a process that works on frame after frame keeps in memory."""

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

KEPT_BYTES = 512_000_000
"""Free memory that stays with the process: some planes of a large frame."""

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""Options of ``mallopt`` (mallopt(3), M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX)."""

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"
"""Read when numpy is imported."""


@contextmanager
def importing() -> Iterator[None]:
    """Import without looking for garbage, then or later: what is imported stays, and there is much to look through.

    Nor does numpy start threads for linear algebra, of which there is next to none: they wait for it with a core each.
    """
    # The collector looks through all objects again and again as they become more, and finds none to free.
    gc.disable()
    unset = _BLAS_THREADS not in os.environ
    os.environ.setdefault(_BLAS_THREADS, "1")
    try:
        yield
    finally:
        if unset:
            del os.environ[_BLAS_THREADS]
        gc.freeze()
        gc.enable()


def give_back() -> None:
    """Give free memory back to the machine, whatever `keep_memory` says of it.

    What a process that runs for days keeps is as much as it ever needed at once, and gaps between what is in use. Now
    and then it is cheap to give that back, and to take what is needed anew. A C library without ``malloc_trim`` is left
    as it is.
    """
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


@cache
def keep_memory() -> None:
    """Let the C library keep what is freed for the next frame, and the collector pass over what is there.

    A C library without ``mallopt`` is left as it is.
    """
    # Otherwise each plane is mapped, cleared page by page and given back, which takes a tenth of a night's processor
    # time. One arena, since memory that one thread has freed in its own would be of no use to the others.
    gc.collect()
    gc.freeze()
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for option, value in ((_TRIM_THRESHOLD, KEPT_BYTES), (_MMAP_MAX, 0), (_ARENA_MAX, 1)):
        mallopt(option, value)
