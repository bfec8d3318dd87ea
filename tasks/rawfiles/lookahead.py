"""Files are read whole by threads while those before them are registered: hashing and unpacking need no interpreter."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

from ccdflow.archive.fits.integrity import read_whole
from ccdflow.archive.fits.rawfile import RawFile, open_raw
from ccdflow.archive.patience import Ticket, in_time, readers
from ccdflow.cascade.records import Doubt
from ccdflow.recipes.kernels.threads import cores
from ccdflow.tasks.rawfiles.copies import digest_of

AHEAD = 2
"""Files that are read beyond those in hand, for each thread: enough that none waits, few that are kept in vain."""


@dataclass(frozen=True)
class Look:
    """What reading a file whole has told.

    Parameters
    ----------
    file : RawFile
        Its headers; pixels on demand.
    sha256 : str
        Digest of its bytes.
    faults : tuple of Doubt
        What its own checks say of its content.
    pixels : str or None
        Digest of its pixels, see `ccdflow.archive.fits.pixeldigest`; None where they can't be read now.
    size, changed_ns : int
        Bytes, and time of the last change of the inode, which no program can set back as it can that of modification.
        From before the reading: of a file that grows meanwhile they tell later that it has changed.
    """

    file: RawFile
    sha256: str
    faults: tuple[Doubt, ...]
    pixels: str | None
    size: int
    changed_ns: int


LookAt = Callable[[Path], Look]
"""Reads a file whole, or gives what a thread has read; raises what is wrong with it."""


def look_at(path: Path, cancelled: Event | None = None) -> Look:
    """Read a raw file whole.

    Parameters
    ----------
    path : Path
        The file.
    cancelled : Event or None
        Ends the reading early.

    Returns
    -------
    Look
        Its headers, digest and faults.

    Raises
    ------
    UnreadableFrameError, OSError
        If it is no raw frame, or can't be read, or not in time.
    """
    return in_time(path, lambda: _look_at(path, cancelled))


def _look_at(path: Path, cancelled: Event | None) -> Look:
    if cancelled is not None and cancelled.is_set():
        raise CancelledError(f"{path} is no longer wanted")
    before = path.stat()
    file = open_raw(path)
    sha256, faults = read_whole(file, cancelled)
    return Look(file, sha256, faults, digest_of(file.pixels), before.st_size, before.st_ctime_ns)


@contextmanager
def looking_ahead(paths: Sequence[Path]) -> Iterator[LookAt]:
    """Read files by as many threads as there are cores, some ahead of those that are asked for.

    Parameters
    ----------
    paths : sequence of Path
        Files in the order in which they will be asked for.

    Yields
    ------
    callable
        Gives what was read of the next of them; reads any other itself.
    """
    cancelled = Event()
    waiting, looks = iter(paths), deque[Ticket[Look]]()
    with readers(cores()) as pool:

        def look(path: Path) -> Look:
            while len(looks) < AHEAD * cores() and (following := next(waiting, None)) is not None:
                looks.append(pool.begin(following, partial(_look_at, following, cancelled)))
            if looks and looks[0].path == path:
                return pool.result(looks.popleft())
            return look_at(path)

        try:
            yield look
        finally:
            # Whoever leaves early must not wait for files that are being read.
            cancelled.set()
