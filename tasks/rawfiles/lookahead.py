"""Files are read whole by threads while those before them are registered: hashing and unpacking need no interpreter."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from ccdflow.archive.fits.integrity import read_whole
from ccdflow.archive.fits.rawfile import RawFile, open_raw
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
        If it is no raw frame, or can't be read.
    """
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
    cancelled, pool = Event(), ThreadPoolExecutor(cores(), thread_name_prefix="looks")
    waiting, looks = iter(paths), deque[tuple[Path, Future[Look]]]()

    def look(path: Path) -> Look:
        while len(looks) < AHEAD * cores() and (following := next(waiting, None)) is not None:
            looks.append((following, pool.submit(look_at, following, cancelled)))
        if looks and looks[0][0] == path:
            return looks.popleft()[1].result()
        return look_at(path)

    try:
        yield look
    finally:
        # Whoever leaves early must not wait for files that are being read.
        cancelled.set()
        pool.shutdown(cancel_futures=True)
