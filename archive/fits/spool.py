"""Room on disk for images that can be unpacked as a whole alone: their rows are then read from there.

One file for the process, without a name: the system removes it however the process ends, and hundreds of images that
are combined take one handle. What an image no longer needs the next one of the same size gets.
"""

import os
import tempfile
import weakref
from collections import defaultdict, deque
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray


class _Spool:
    """The file, and which parts of it are free, by their size."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._handle: int | None = None
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._end = self._used = 0
        self._left: deque[tuple[int, int]] = deque()

    def take(self, size: int) -> tuple[int, int]:
        """Return the handle, and the first byte of a part that nobody uses."""
        with self._lock:
            self._put_back()
            if self._handle is None:
                self._handle = _nameless_file()
            self._used += 1
            if self._free[size]:
                return self._handle, self._free[size].pop()
            start, self._end = self._end, self._end + size
            return self._handle, start

    def give_back(self, start: int, size: int) -> None:
        """Let others use a part."""
        # Python may call this in the midst of `take`, in whose thread the lock would be waited for for ever.
        self._left.append((start, size))
        if self._lock.acquire(blocking=False):
            try:
                self._put_back()
            finally:
                self._lock.release()

    def _put_back(self) -> None:
        while self._left:
            start, size = self._left.popleft()
            self._used -= 1
            self._free[size].append(start)
        if not self._used and self._end and self._handle is not None:
            self._free.clear()
            self._end = 0
            os.ftruncate(self._handle, 0)


def _nameless_file() -> int:
    """Return the handle of a new file without a name, which stays open as long as the process lives."""
    handle, name = tempfile.mkstemp(prefix="ccdflow-", dir=_folder())
    os.unlink(name)
    return handle


def _folder() -> str | None:
    # /tmp may be memory on the machines of today; what is to lie on a disk belongs here (FHS 3.0, section 5.15).
    if "TMPDIR" in os.environ or not os.access("/var/tmp", os.W_OK):
        return None
    return "/var/tmp"


_SPOOL = [_Spool()]


def _begin_anew() -> None:
    # The parent's parts are not the child's to give away.
    _SPOOL[0] = _Spool()


os.register_at_fork(after_in_child=_begin_anew)


class Room:
    """Some bytes on disk, until nobody holds this object any more.

    Parameters
    ----------
    size : int
        How many.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        spool = _SPOOL[0]
        self._handle, self._start = spool.take(size)
        weakref.finalize(self, spool.give_back, self._start, size)

    def write(self, place: int, content: Any) -> None:
        """Write bytes at a place.

        Parameters
        ----------
        place : int
            From 0.
        content : bytes-like
            No more than there is room behind the place.
        """
        view = memoryview(content).cast("B")
        if place + view.nbytes > self.size:
            raise ValueError(f"{view.nbytes} bytes at {place} do not fit into {self.size}")
        while view.nbytes:
            count = os.pwrite(self._handle, view, self._start + place)
            view, place = view[count:], place + count

    def read(self, place: int, size: int) -> NDArray[np.uint8]:
        """Return bytes that were written.

        Parameters
        ----------
        place, size : int
            First of them, and how many.

        Returns
        -------
        uint8 array
            Of its own memory.
        """
        content = np.empty(size, np.uint8)
        done = 0
        while done < size:
            count = os.preadv(self._handle, [content[done:].data], self._start + place + done)
            if not count:
                raise OSError(f"the spool ends before byte {place + size}")
            done += count
        return content
