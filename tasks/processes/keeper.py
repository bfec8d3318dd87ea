"""The process that runs functions of others: one job after the other, each in a fork of its own.

A function may call ``os._exit``, crash the interpreter, leave threads running or never end: none of that can be caught
or ended in our own process. A fork costs some hundredths of a second, since what all need has been imported before.

Runs as ``python -m ccdflow.tasks.processes.keeper FD FD``: it reads calls at one descriptor and answers at the other.
"""

import os
import pickle
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_LOOK_S = 0.02
_NEEDED = ("ccdflow.tasks.processes.calling", "astropy.io.fits", "ccdflow.recipes.detector.amplifiers")
"""What every call needs, imported once."""


@dataclass(frozen=True)
class Call:
    """A job whose recipe is a function, and where what it gives back is to be written.

    `path` is where Python looks for modules; `named` is a function that is imported beforehand once a call of it went
    well.
    """

    project: str
    key: str
    answer: str
    cores: int | None
    path: tuple[str, ...]
    named: str = ""


def main() -> None:
    """Take calls until the other side has ended."""
    calls, answers = (
        Connection(int(sys.argv[1]), writable=False),
        Connection(int(sys.argv[2]), readable=False),
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    known: set[str] = set()
    while True:
        call: Call = calls.recv()
        sys.path[:] = call.path
        for module in _NEEDED:
            import_module(module)
        _import_beforehand(call.named, known)
        status = _forked(call, calls, answers)
        if status == 0:
            known.add(call.named)
        answers.send(status)


def _import_beforehand(named: str, known: set[str]) -> None:
    """Import a function of others where that went well in a fork: the next fork need not do it again."""
    if named and named in known:
        # Whatever goes wrong here goes wrong again in the fork, where it is told.
        with suppress(BaseException):
            import_module("ccdflow.cascade.specification.dotted").named(named)


def _forked(call: Call, calls: Connection, answers: Connection) -> int:
    """Do a call in a fork; return its exit code, or less than 0 the signal that ended it."""
    with warnings.catch_warnings():  # of threads of libraries, which know how to go through a fork
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _do(call)
    with suppress(OSError):  # which the child does too: whoever comes first
        os.setpgid(child, child)
    answers.send(child)
    try:
        while not _has_ended(child):
            # Calls come one by one: what comes before the end is the end of the other side.
            if calls.poll(_LOOK_S):
                raise EOFError
    finally:
        # First the group, as long as the id is still the child's.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _has_ended(child: int) -> bool:
    if hasattr(os, "waitid"):
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    try:  # macOS: signal 0 reaches zombies too, so its state is asked for
        return os.popen(f"ps -o state= -p {child}").read().strip()[:1] in ("", "Z")
    finally:
        time.sleep(_LOOK_S)


def _do(call: Call) -> None:
    """Do a call, write what came of it, and end at once: with threads that it left running, without their consent."""
    status = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        answer = import_module("ccdflow.tasks.processes.calling").answer_of(call)
        try:
            _write(Path(call.answer), answer)
        except Exception as error:
            told = f"what it gave can't be handed over: {error}"
            _write(Path(call.answer), ("failed", type(error).__name__, told))
        status = 0
    except BaseException as error:
        with suppress(BaseException):
            _write(Path(call.answer), ("failed", type(error).__name__, str(error)))
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _write(path: Path, answer: Any) -> None:
    """Write an answer under its name only once it is whole."""
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        pickle.dump(answer, stream, protocol=pickle.HIGHEST_PROTOCOL)
    part.replace(path)


if __name__ == "__main__":
    assert threading.active_count() == 1, "a process with threads can't be forked"
    with suppress(EOFError, BrokenPipeError):
        main()
