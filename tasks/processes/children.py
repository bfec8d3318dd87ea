"""One process beside us: in a group of its own, so that it ends with all that it has started."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ccdflow.cascade.specification.durations import seconds_in_words
from ccdflow.tasks.processes.output import Kept, Listener, listening
from ccdflow.tasks.processes.stopping import STOP, StoppedError

GRACE_S = 2.0
"""Seconds between asking a process to end (SIGTERM) and ending it (SIGKILL)."""
_LOOK_S = 0.05
"""Seconds between two looks at whether a silent process has ended."""


class TimeLimitError(Exception):
    """A recipe took longer than it may."""


def run_program(arguments: Sequence[str], folder: Path, limit: float, kept: Kept) -> int:
    """Run a program to its end, and end whatever it has left running.

    Parameters
    ----------
    arguments : sequence of str
        Program and arguments; no shell.
    folder : Path
        Where it works.
    limit : float
        Seconds that it may take.
    kept : Kept
        What takes its output.

    Returns
    -------
    int
        Its exit code, or less than 0 the signal that ended it.

    Raises
    ------
    OSError
        If it can't be started.
    TimeLimitError
        If it took longer than it may.
    StoppedError
        If we were told to end.
    """
    # A session of its own: it has no terminal to ask at, and Ctrl-C there reaches us alone, who then end it.
    process = subprocess.Popen(
        arguments,
        cwd=folder,
        stdin=subprocess.DEVNULL,  # a program that asks something would wait for ever
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None and process.stderr is not None
        with listening(kept, (process.stdout.fileno(), process.stderr.fileno())) as listener:
            try:
                wait_for(lambda: has_ended(process), process.pid, limit, listener)
            finally:
                kill_group(process.pid)
                process.wait()
    return process.returncode


def wait_for(is_over: Callable[[], bool], group: int, limit: float, listener: Listener) -> None:
    """Listen to a process until it has ended; where it must not go on, end it with all of its group.

    Parameters
    ----------
    is_over : callable
        Whether it has ended.
    group : int
        Id of its process group.
    limit : float
        Seconds that it may take.
    listener : Listener
        Listens to what it writes.

    Raises
    ------
    TimeLimitError
        If it took longer than it may.
    StoppedError
        If we were told to end.
    """
    end = time.monotonic() + limit
    while not is_over():
        if STOP.is_told:
            _end(is_over, group, listener)
            raise StoppedError(STOP.reason)
        if time.monotonic() > end:
            _end(is_over, group, listener)
            raise TimeLimitError(f"took longer than {seconds_in_words(limit)} (time_limit), and was ended")
        listener.listen(_LOOK_S)


def _end(is_over: Callable[[], bool], group: int, listener: Listener) -> None:
    """Ask a group to end; who ignores that is killed."""
    _send(group, signal.SIGTERM)
    end = time.monotonic() + GRACE_S
    while not is_over() and time.monotonic() < end:
        listener.listen(_LOOK_S)
    kill_group(group)


def kill_group(group: int) -> None:
    """Kill what is left of a process group.

    Parameters
    ----------
    group : int
        Its id. The process of this id must not have been waited for: until then no other can get the id.
    """
    _send(group, signal.SIGKILL)


def _send(group: int, number: int) -> None:
    # macOS says that it is not permitted where only zombies are left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process has ended, without waiting for it: its id stays its own.

    Parameters
    ----------
    process : Popen
        The process.

    Returns
    -------
    bool
        Where the system has no such question, it is waited for.
    """
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    state = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return state is not None


def status_in_words(status: int) -> str:
    """Return how a process ended.

    Parameters
    ----------
    status : int
        Exit code, or less than 0 the signal that ended it.

    Returns
    -------
    str
        ``ended with 3``, or ``was killed by SIGSEGV``.
    """
    if status >= 0:
        return f"ended with {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
