"""Our side of functions of others: keepers that wait for calls, one for each job at once."""

import atexit
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import Any

from ccdflow.archive.digest import DamagedFrameError
from ccdflow.recipes.core.recipe import Result
from ccdflow.tasks.machine import PASSING
from ccdflow.tasks.processes.children import kill_group, status_in_words, wait_for
from ccdflow.tasks.processes.keeper import Call
from ccdflow.tasks.processes.output import Kept, Listener

_START_S = 60.0
"""Seconds that a keeper may take until it has forked: it imports first."""

_END_S = 2.0
"""Seconds that a keeper may take to end."""


class RecipeError(Exception):
    """A recipe of others has failed; the message says as what."""


class _Keeper:
    """A process that forks for each call."""

    def __init__(self) -> None:
        calls_end, calls = os.pipe()
        answers, answers_end = os.pipe()
        names = [sys.executable, "-m", "ccdflow.tasks.processes.keeper", str(calls_end), str(answers_end)]
        self._process = subprocess.Popen(
            names,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(calls_end, answers_end),
            start_new_session=True,
        )
        os.close(calls_end)
        os.close(answers_end)
        self._calls = Connection(calls, readable=False)
        self._answers = Connection(answers, writable=False)
        self.is_free = True

    def run(self, call: Call, limit: float, kept: Kept) -> int:
        """Do a call; return the exit code of its fork, or less than 0 the signal that ended it."""
        standard, errors = self._process.stdout, self._process.stderr
        assert standard is not None and errors is not None
        self.is_free = False
        listener = Listener(kept, standard.fileno(), errors.fileno())
        try:
            self._calls.send(call)
            # Until it has forked, what there is to be ended is the keeper itself.
            wait_for(self._answers.poll, self._process.pid, limit + _START_S, listener)
            fork: int = self._answers.recv()
            try:
                wait_for(self._answers.poll, fork, limit, listener)
            finally:
                # A fork that was ended here is reported as any other: then the next call may come.
                if self._answers.poll(_END_S):
                    status: int = self._answers.recv()
                    self.is_free = True
            return status
        finally:
            listener.finish()
            listener.close()

    def end(self) -> None:
        """End it, with what it runs."""
        # It sees that its calls have ended, ends what it runs, and then itself.
        self._calls.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            kill_group(self._process.pid)
            self._process.wait()
        self._answers.close()
        # Not read to their end: who got away from it may hold them open.
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


_IDLE: list[_Keeper] = []
_LOCK = Lock()


@contextmanager
def _keeper() -> Iterator[_Keeper]:
    """Take a keeper that waits, or a new one; one that has not told how its last call ended is ended."""
    with _LOCK:
        keeper = _IDLE.pop() if _IDLE else None
    keeper = keeper or _Keeper()
    try:
        yield keeper
    finally:
        if keeper.is_free:
            with _LOCK:
                _IDLE.append(keeper)
        else:
            keeper.end()


def end_keepers() -> None:
    """End the keepers that wait; those that work end with this process."""
    with _LOCK:
        waiting, _IDLE[:] = list(_IDLE), []
    for keeper in waiting:
        keeper.end()


atexit.register(end_keepers)


def run_function(project: str, key: str, named: str, cores: int | None, limit: float, kept: Kept) -> Result:
    """Call the recipe of a job in a process of its own.

    Parameters
    ----------
    project : str
        Directory of the project.
    key : str
        The job's key.
    named : str
        Dotted path of the function; empty for a recipe of ours.
    cores : int or None
        Threads that it may work in.
    limit : float
        Seconds that it may take.
    kept : Kept
        What takes its output.

    Returns
    -------
    Result
        What the recipe gave.

    Raises
    ------
    RecipeError
        If it raised, crashed or ended its process.
    TimeLimitError
        If it took longer than it may.
    StoppedError
        If we were told to end.
    """
    with tempfile.TemporaryDirectory(prefix="ccdflow-recipe-") as folder, _keeper() as keeper:
        answer = Path(folder) / "answer.pickle"
        call = Call(project, key, str(answer), cores, tuple(sys.path), named)
        try:
            status = keeper.run(call, limit, kept)
        except (EOFError, OSError) as error:
            words = kept.last_line or str(error) or "it said nothing"
            raise RecipeError(f"its process ended: {words}") from None
        told: tuple[Any, ...] | None = None
        with suppress(FileNotFoundError), answer.open("rb") as stream:
            told = pickle.load(stream)
    if told is None:
        hint = " (was there too little memory?)" if status == -signal.SIGKILL else ""
        raise RecipeError(f"its process {status_in_words(status)} without a result{hint}")
    return _result(told)


def _result(told: tuple[Any, ...]) -> Result:
    """What a fork tells, as if it had happened here."""
    match told:
        case ("done", Result() as result):
            return result
        case ("damaged", path, reason):
            raise DamagedFrameError(Path(path), reason)
        case ("machine", number, text, _) if number in PASSING:
            raise OSError(number, text)
        case ("machine", _, text, kind) | ("failed", kind, text):
            raise RecipeError(f"{kind}: {text}" if text else kind)
    raise RecipeError(f"its process told {told[0]!r}")
