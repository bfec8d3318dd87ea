"""The sha256 of files; imports next to nothing, so that a command hashes while it still starts."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ccdflow.recipes.threads import cores


class UnreadableFrameError(Exception):
    """A file that is no raw frame; the message is one sentence that names the file and says why."""


def file_digest(path: Path) -> str:
    """sha256 of the file's bytes, in hexadecimal.

    Raises
    ------
    UnreadableFrameError
        If the file can't be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableFrameError(why_unread(path, error)) from None


@contextmanager
def digests_of(paths: Iterable[Path]) -> Iterator[Mapping[Path, Future[str]]]:
    """The sha256 of each file, in as many threads as there are cores; what the block has not waited for is given up."""
    pool = ThreadPoolExecutor(cores(), thread_name_prefix="digests")
    try:
        yield {path: pool.submit(file_digest, path) for path in dict.fromkeys(paths)}
    finally:
        pool.shutdown(cancel_futures=True)


def why_unread(path: Path, error: OSError) -> str:
    """The sentence for a file that can't be read."""
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder, not a FITS file"
    return f"{path} can't be read: {(error.strerror or str(error)).lower()}"
