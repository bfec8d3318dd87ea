"""The sha256 of files; imports next to nothing, so that a command hashes while it still starts."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from ccdflow.recipes.kernels.threads import cores

_LEAST, _MOST = 1 << 18, 1 << 22
"""Bytes read at once. For each piece a thread waits for Python's lock, which takes long while others import."""


class UnreadableFrameError(Exception):
    """A file that is no raw frame; the message is one sentence that names the file and says why."""


def file_digest(path: Path, given_up: Event | None = None) -> str:
    """sha256 of the file's bytes, in hexadecimal.

    Raises
    ------
    UnreadableFrameError
        If the file can't be read.
    CancelledError
        If it is `given_up` before its end.
    """
    found = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as stream:
            whole = os.fstat(stream.fileno()).st_size
            room = memoryview(bytearray(min(max(whole, _LEAST), _MOST)))
            while size := stream.readinto(room):
                if given_up is not None and given_up.is_set():
                    raise CancelledError(f"{path} is no longer wanted")
                found.update(room[:size])
    except OSError as error:
        raise UnreadableFrameError(why_unread(path, error)) from None
    return found.hexdigest()


@contextmanager
def digests_of(paths: Iterable[Path]) -> Iterator[Mapping[Path, Future[str]]]:
    """The sha256 of each file, in as many threads as there are cores; what the block has not waited for is given up."""
    given_up, pool = Event(), ThreadPoolExecutor(cores(), thread_name_prefix="digests")
    try:
        yield {path: pool.submit(file_digest, path, given_up) for path in dict.fromkeys(paths)}
    finally:
        given_up.set()
        pool.shutdown(cancel_futures=True)


def why_unread(path: Path, error: OSError) -> str:
    """The sentence for a file that can't be read."""
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder, not a FITS file"
    return f"{path} can't be read: {(error.strerror or str(error)).lower()}"
