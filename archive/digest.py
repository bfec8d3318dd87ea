"""The sha256 of files; imports next to nothing, so that a command hashes while it still starts."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from ccdflow.recipes.kernels.threads import cores

_SMALLEST_READ, _LARGEST_READ = 1 << 18, 1 << 22
"""Bytes read at once. For each piece a thread waits for Python's lock, which takes long while others import."""


class UnreadableFrameError(Exception):
    """A file that is no raw frame; the message is one sentence that names the file and says why."""


class NotReadError(UnreadableFrameError):
    """A file whose bytes the system can't give now; what it is, nobody knows. `errno` is the system's number.

    A disk that is away, a server that does not answer, a file that another user may read: to judge it would be to
    refuse a good file for good.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(why_unread(path, error))
        self.errno = error.errno


class DamagedFrameError(UnreadableFrameError):
    """A raw file whose content is not what was written; `path` and `reason` are the two halves of the message."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is damaged: {reason}")
        self.path = path
        self.reason = reason


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
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as stream:
            length = os.fstat(stream.fileno()).st_size
            # One buffer for all pieces; a small file does not need the largest.
            buffer = memoryview(bytearray(min(max(length, _SMALLEST_READ), _LARGEST_READ)))
            while size := stream.readinto(buffer):
                if cancelled is not None and cancelled.is_set():
                    raise CancelledError(f"{path} is no longer wanted")
                digest.update(buffer[:size])
                if watch is not None:
                    watch(buffer[:size])
    except OSError as error:
        raise unread(path, error) from None
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


def unread(path: Path, error: OSError) -> UnreadableFrameError:
    """Return the error for a file that can't be read.

    Parameters
    ----------
    path : Path
        The file.
    error : OSError
        Raised when it was opened or read.

    Returns
    -------
    UnreadableFrameError
        A `NotReadError` where this may be otherwise the next time.
    """
    if isinstance(error, IsADirectoryError) or error.errno is None:
        return UnreadableFrameError(why_unread(path, error))
    return NotReadError(path, error)


def is_not_read(error: BaseException) -> bool:
    """Tell whether an error says that the system can't give a file's bytes now, and nothing of the file.

    Parameters
    ----------
    error : BaseException
        Raised when the file was opened, read or unpacked. gzip's complaints are OSErrors too, yet without a number.
    """
    is_folder = isinstance(error, IsADirectoryError)
    return isinstance(error, NotReadError) or (
        isinstance(error, OSError) and error.errno is not None and not is_folder
    )


def why_unread(path: Path, error: OSError) -> str:
    """Return the sentence for a file that can't be read.

    Parameters
    ----------
    path : Path
        The file.
    error : OSError
        Raised when it was opened or read.

    Returns
    -------
    str
        One sentence that names the file.
    """
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder, not a FITS file"
    return f"{path} can't be read: {(error.strerror or str(error)).lower()}"
