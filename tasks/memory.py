"""What a process that works on frame after frame keeps in memory."""

import ctypes
import gc
from functools import cache

KEPT = 512_000_000
"""Bytes of free memory that stay with the process."""

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""Options of ``mallopt``."""


@cache
def keep_memory() -> None:
    """Let the C library keep what is freed for the next frame, and the collector pass over what is imported.

    Otherwise each plane is mapped, cleared page by page and given back, which takes a tenth of a night's processor
    time. A C library without ``mallopt`` is left as it is.
    """
    gc.collect()
    gc.freeze()
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for option, value in ((_TRIM_THRESHOLD, KEPT), (_MMAP_MAX, 0), (_ARENA_MAX, 1)):
        mallopt(option, value)
