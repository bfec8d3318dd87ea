"""Our side of the processes that unpack what says itself to how much it unpacks: tiles, and raw files of cameras.

Such a tile may take all memory, never come to its end, or let the library write where it must not. Rice's tiles can do
none of that: how many numbers come out of them, we say.
"""

import atexit
import errno
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.archive.foreignfile import DamagedFrameError, NotReadError, UnreadableFrameError
from ccdflow.archive.patience import read_limit

LENGTH = struct.Struct("<Q")
"""What goes before each message: how many bytes it has."""
START_S = 60.0
"""Seconds that a process may take until it has imported what it needs; on a loaded machine several."""
_SHARE = 0.9
"""Of the time that a file may take: whoever waits for the whole of it is to be told by us."""


class _Decoder:
    """A process that unpacks, and waits for more."""

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._end = monotonic() + START_S
        self._message()  # it is there

    def ask(self, question: tuple[Any, ...], seconds: float) -> tuple[Any, ...]:
        """Return what it answers within so many seconds."""
        assert self._process.stdin is not None
        self._end = monotonic() + seconds
        content = pickle.dumps(question)
        self._process.stdin.write(LENGTH.pack(len(content)) + content)
        answer: tuple[Any, ...] = pickle.loads(self._message())
        if answer[0] == "rows":
            return (*answer, self._message())
        return answer

    def end(self) -> str:
        """End it; say as what it ended, where it did so by itself."""
        try:
            status = self._process.wait(0.1)
        except subprocess.TimeoutExpired:
            status = None
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        if status is None or status >= 0:
            return ""
        return signal.Signals(-status).name

    def _message(self) -> bytes:
        (length,) = LENGTH.unpack(self._bytes(LENGTH.size))
        return self._bytes(length)

    def _bytes(self, count: int) -> bytes:
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        content = bytearray(count)
        view, place = memoryview(content), 0
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        while place < count:
            if not poll.poll(max(self._end - monotonic(), 0) * 1000):
                raise TimeoutError
            size = os.readv(handle, [view[place:]])
            if not size:
                raise EOFError
            place += size
        return bytes(content)


_IDLE: defaultdict[str, list[_Decoder]] = defaultdict(list)
os.register_at_fork(after_in_child=_IDLE.clear)
_TILES = "ccdflow.archive.fits.tiledecoder"


@atexit.register
def end_decoders() -> None:
    """End the processes that wait for more."""
    for idle in _IDLE.values():
        while idle:
            idle.pop().end()


def rows_apart(path: Path, index: int, y0: int, y1: int) -> tuple[NDArray[Any], str]:
    """Return rows of a compressed image, decompressed by a process of its own.

    Parameters
    ----------
    path : Path
        The file.
    index : int
        Number of the HDU, the primary being 0.
    y0, y1 : int
        First row, and the one behind the last.

    Returns
    -------
    array, shape (y1 - y0, nx), and str
        Stored numbers, in either byte order, and by what algorithm they were compressed.

    Raises
    ------
    DamagedFrameError
        If they can't be decompressed, or the process ended over them.
    NotReadError
        If that takes too long, or the system can't give the file now.
    """
    match asked_apart(_TILES, path, (index, y0, y1)):
        case ("rows", kind, shape, algorithm, content):
            return np.frombuffer(content, kind).reshape(shape), algorithm
        case told:
            raise DamagedFrameError(path, f"its decompression told {told!r}")


def asked_apart(module: str, path: Path, question: tuple[Any, ...]) -> tuple[Any, ...]:
    """Let a process of its own answer a question about a file.

    Parameters
    ----------
    module : str
        What the process runs: it reads questions and writes answers as `ccdflow.archive.fits.tiledecoder` does.
    path : Path
        The file.
    question : tuple
        What goes between the path and the seconds that it may compute.

    Returns
    -------
    tuple
        The answer; what begins with ``rows`` has the bytes as its last part.

    Raises
    ------
    DamagedFrameError
        If the answer says so, or the process ended over it.
    NotReadError
        If that takes too long, or the system can't give the file now.
    UnreadableFrameError
        If the answer is that the file is none of that kind.
    """
    idle = _IDLE[module]
    try:
        decoder = idle.pop()
    except IndexError:
        decoder = _Decoder(module)
    try:
        answer = decoder.ask((str(path), *question, read_limit()), read_limit() * _SHARE)
    except TimeoutError:
        decoder.end()
        told = f"not decompressed within {read_limit() * _SHARE:g} s"
        raise NotReadError(path, TimeoutError(errno.ETIMEDOUT, told)) from None
    except (EOFError, OSError):
        name = decoder.end() or "an error"
        raise DamagedFrameError(path, f"the process that decompressed it ended by {name}") from None
    except BaseException:
        decoder.end()
        raise
    idle.append(decoder)
    match answer:
        case ("system", number, text):
            raise NotReadError(path, OSError(number, text))
        case ("damaged", text):
            raise DamagedFrameError(path, text)
        case ("refused", text):
            raise UnreadableFrameError(f"{path} {text}")
    return answer
