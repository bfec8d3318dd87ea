"""What a process writes: read as it comes, its head and tail kept, the rest let go."""

import os
import re
import selectors
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

HEAD_BYTES = 16_000
"""So much of the beginning is kept: what a program says of itself, and of what it was given."""
TAIL_BYTES = 48_000
"""So much of the end is kept: what went wrong."""
_READ_BYTES = 65_536
_LAST_WORDS_S = 1.0
"""Seconds in which what a process has left in its pipes is read; one that got away may write for ever."""
_LAST_LINE_BYTES = 4_000
# Terminal sequences (ECMA-48, 5.4) and all control characters but tab and new line: shown by a terminal, a log must not
# move its cursor; and PostgreSQL keeps no NUL.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class Kept:
    """Head and tail of what was written, and the last line of what went to standard error."""

    def __init__(self) -> None:
        self._head, self._tail, self._errors = bytearray(), bytearray(), bytearray()
        self._left_out = 0

    def add(self, piece: bytes, *, is_error: bool = False) -> None:
        """Take what was written next.

        Parameters
        ----------
        piece : bytes
            In whatever encoding.
        is_error : bool
            Whether it went to standard error.
        """
        if is_error:
            self._errors = (self._errors + piece)[-_LAST_LINE_BYTES:]
        room = HEAD_BYTES - len(self._head)
        self._head += piece[:room]
        self._tail += piece[room:] if room > 0 else piece
        if (spare := len(self._tail) - TAIL_BYTES) > 0:
            del self._tail[:spare]
            self._left_out += spare

    @property
    def text(self) -> str:
        """Head and tail, with a word on how much is left out between them."""
        if not self._left_out:
            return clean(bytes(self._head + self._tail))
        left_out = f"\n[... {self._left_out} bytes left out ...]\n"
        return clean(bytes(self._head)) + left_out + clean(bytes(self._tail))

    @property
    def last_line(self) -> str:
        """The last line on standard error that says something; where there is none, of all that was written."""
        for written in (self._errors, self._tail or self._head):
            lines = [line.strip() for line in clean(bytes(written)).splitlines() if line.strip()]
            if lines:
                return lines[-1]
        return ""


def clean(written: bytes) -> str:
    """Return text that any database keeps and any terminal shows.

    Parameters
    ----------
    written : bytes
        UTF-8; what is not is shown as the replacement character.

    Returns
    -------
    str
        With new lines for whatever ends a line, without other control characters.
    """
    text = written.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


class Listener:
    """Reads pipes without waiting for their end: a grandchild may hold one open for ever.

    Parameters
    ----------
    kept : Kept
        What takes the bytes.
    standard, errors : int
        File descriptors of standard output and standard error.
    """

    def __init__(self, kept: Kept, standard: int, errors: int) -> None:
        self.kept, self._errors = kept, errors
        self._selector = selectors.DefaultSelector()
        for descriptor in (standard, errors):
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ)

    def listen(self, seconds: float) -> bool:
        """Read what comes within a time, at most once; return whether something came.

        Parameters
        ----------
        seconds : float
            How long to wait; 0 for not at all.

        Returns
        -------
        bool
            False where nothing came.
        """
        if not self._selector.get_map():  # both ends are closed
            time.sleep(seconds)
            return False
        ready = self._selector.select(seconds)
        for key, _ in ready:
            self._read(key.fd)
        return bool(ready)

    def _read(self, descriptor: int) -> None:
        try:
            piece = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if piece:
            self.kept.add(piece, is_error=descriptor == self._errors)
        else:
            self._selector.unregister(descriptor)

    def finish(self) -> None:
        """Read what is left in the pipes."""
        end = time.monotonic() + _LAST_WORDS_S
        while time.monotonic() < end and self.listen(0):
            pass

    def close(self) -> None:
        """Listen no more; the pipes stay open."""
        self._selector.close()


@contextmanager
def listening(kept: Kept, pipes: Iterable[int]) -> Iterator[Listener]:
    """Listen to a process while the block waits for it, and to its last words behind it.

    Parameters
    ----------
    kept : Kept
        What takes the bytes.
    pipes : iterable of int
        File descriptors of standard output and standard error.

    Yields
    ------
    Listener
        To be asked to listen.
    """
    listener = Listener(kept, *pipes)
    try:
        yield listener
        listener.finish()
    finally:
        listener.close()
