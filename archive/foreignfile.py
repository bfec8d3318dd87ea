"""Files of others: how they are opened, and what is said of those that can't be read; imports next to nothing.

What lies in a folder of raw frames may be anything. Opening a named pipe waits for somebody who writes into it, reading
a device may never end, and a file of terabytes may hold nothing but a hole. So all that is not ours is opened here.
"""

import errno
import os
import stat
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LARGEST_FILE = 1 << 35
"""Bytes of the largest file that is read, 32 GiB: thirty times a raw frame of 62 detectors. A hole in a file may be of
any size, and costs nobody anything but who reads it."""

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
"""What is no file, by the kind that the system tells."""
_WAITS_FOR_NOBODY = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


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


def plain_handle(path: Path) -> int:
    """Return a handle for reading a file, which the caller closes.

    Parameters
    ----------
    path : Path
        The file; opening it never waits.

    Returns
    -------
    int
        The system's handle.

    Raises
    ------
    UnreadableFrameError
        If it is no ordinary file, is larger than `LARGEST_FILE`, or has a name that no file can have.
    OSError
        As the system says it; of a folder `IsADirectoryError`.
    """
    try:
        _check_plain(path, os.stat(path))
        handle = os.open(path, _WAITS_FOR_NOBODY)
    except ValueError as error:  # a zero byte in a name, or characters that are no bytes
        raise UnreadableFrameError(f"{spelled(path)} is no name of a file: {error}") from None
    try:
        # Once more of what was opened: another may have taken its place since.
        _check_plain(path, os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


def open_plain(path: Path, buffering: int = -1) -> BinaryIO:
    """Open a file of others for reading, as `plain_handle` does.

    Parameters
    ----------
    path : Path
        The file.
    buffering : int
        As of `open`; 0 for none.

    Returns
    -------
    binary stream
        At its beginning.
    """
    handle = plain_handle(path)
    # Opened under its name, so that errors and libraries that ask for it have that.
    return open(path, "rb", buffering, opener=lambda _name, _flags: handle)


def check_plain(path: Path) -> None:
    """Refuse what is no ordinary file, for libraries that open files themselves.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    UnreadableFrameError, OSError
        As of `plain_handle`.
    """
    os.close(plain_handle(path))


def _check_plain(path: Path, facts: os.stat_result) -> None:
    kind = stat.S_IFMT(facts.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind != stat.S_IFREG:
        raise UnreadableFrameError(f"{path} is {_KINDS.get(kind, 'something else')}, not a file")
    if facts.st_size > LARGEST_FILE:
        raise UnreadableFrameError(
            f"{path} has {facts.st_size} bytes, wanted {LARGEST_FILE} at most: no frame is so large"
        )


def spelled(told: object) -> str:
    r"""Return a text as it can be printed, sent and stored anywhere, in one line.

    Parameters
    ----------
    told : object
        A path, or a sentence with paths in it. Bytes of a name that are no UTF-8 are characters of their own kind to
        Python (PEP 383), which no database, JSON or terminal takes.

    Returns
    -------
    str
        Those bytes and control characters as ``\xe9``; all else as it is.
    """
    text = str(told)
    if text.isascii() and text.isprintable():
        return text
    known = os.fsencode(text).decode("utf-8", "backslashreplace") if _from_system(text) else text
    known = known.encode("utf-8", "backslashreplace").decode()
    return "".join(
        character if character.isprintable() or character == "\u00a0" else repr(character)[1:-1]
        for character in known
    )


def _from_system(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def name_fault(path: Path) -> str:
    """Say why a file's name can't be kept.

    Parameters
    ----------
    path : Path
        Its absolute path.

    Returns
    -------
    str
        A sentence; blank for a path that is UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        # Kept as anything else it would be another path to all other programs that read the registry.
        return (
            f"{spelled(path)}: its name is not UTF-8, as the registry keeps names; rename it, for instance with "
            "'convmv -r -f latin1 -t utf8 --notest FOLDER'"
        )
    return ""


@contextmanager
def own_fault(path: Path) -> Iterator[None]:
    """Let whatever goes wrong in the block be told of a file, as its own refusal.

    Parameters
    ----------
    path : Path
        The file that is read, or described.

    Raises
    ------
    UnreadableFrameError
        For whatever libraries raise over its content, with the exception's type. Passed on as they are: what the system
        says, and that memory is short, which may be no fault of the file.
    """
    try:
        yield
    except (UnreadableFrameError, OSError, MemoryError, CancelledError):
        raise
    except Exception as error:  # libraries raise whatever they stumble over, of no common kind
        told = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        raise UnreadableFrameError(f"{path} can't be read: {told}") from error


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
    # Whoever lists the folder sees the name, and would not understand that there is no such file.
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return f"{path} can't be read: no such file or directory where its link leads, {path.readlink()}"
    return f"{path} can't be read: {(error.strerror or str(error)).lower()}"
