"""SIGTERM and SIGINT: programs that we started end, jobs go back to planned, and we end within 10 seconds."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE_S = 7.0
"""Seconds from the signal until the process ends whatever still runs: compiled code can't be interrupted."""
GIVE_BACK_S = 1.5
"""Seconds that giving jobs back may take: the database may be the reason why nothing goes on."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


_OURS = "_is_ccdflows"
"""Attribute of our handlers."""


class StoppedError(Exception):
    """Work was left undone since the process was told to end."""


class _Stop:
    """Whether this process was told to end, by what, and what is done before it does."""

    def __init__(self) -> None:
        self.number = 0
        self.exit: Callable[[int], None] = os._exit
        self._last_acts: list[Callable[[str], None]] = []
        self._told, self._forgotten = threading.Event(), threading.Event()

    @property
    def is_told(self) -> bool:
        """Whether nothing new is to be begun."""
        return self._told.is_set()

    @property
    def reason(self) -> str:
        """Why, as a sentence for a job."""
        return f"stopped by {signal.Signals(self.number).name}" if self.number else ""

    def before_the_end(self, act: Callable[[str], None]) -> None:
        """Let something be done with the reason before the process is ended by force."""
        if act not in self._last_acts:
            self._last_acts.append(act)

    def tell(self, number: int) -> None:
        """Note the signal; a second one ends the process now."""
        again = self.is_told
        self.number = number
        self._told.set()
        patience = 0.0 if again else PATIENCE_S
        threading.Thread(target=self._end, args=(patience,), name="stopping", daemon=True).start()

    def _end(self, patience: float) -> None:
        if not self._forgotten.wait(patience):
            acts = threading.Thread(target=self._act, daemon=True)
            acts.start()
            acts.join(GIVE_BACK_S)
            sys.stderr.flush()
            self.exit(128 + self.number)

    def _act(self) -> None:
        for act in self._last_acts:
            act(self.reason)

    def forget(self) -> None:
        """Go on as if nothing had been told; for tests."""
        self.number = 0
        self._told.clear()
        self._forgotten.set()
        self._forgotten = threading.Event()


STOP = _Stop()
"""The one of this process: signals are sent to processes."""


def refuse_when_stopping() -> None:
    """Begin nothing once the process was told to end.

    Raises
    ------
    StoppedError
        If it was.
    """
    if STOP.is_told:
        raise StoppedError(STOP.reason)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGINT end what runs within the block, in this process and in those that it started.

    What handled them before is called then: Prefect's handler notes the run as crashed or cancelled. Where nothing did,
    `KeyboardInterrupt` is raised. Outside the main thread, where Python takes no handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    # What is ignored stays so, as in a shell's background; and one handler of ours in a row is enough.
    taken = [
        number
        for number, handler in before.items()
        if handler not in (signal.SIG_IGN, None) and not hasattr(handler, _OURS)
    ]

    def handle(number: int, frame: FrameType | None) -> None:
        is_first = not STOP.is_told
        if is_first or number == signal.SIGINT:  # who presses Ctrl-C twice does not want to wait
            STOP.tell(number)
        handler = before[signal.Signals(number)]
        if callable(handler) and handler is not signal.default_int_handler:
            handler(number, frame)
        elif is_first:
            raise KeyboardInterrupt(STOP.reason)

    setattr(handle, _OURS, True)
    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in taken:
            # Prefect may have put its own in place meanwhile, and waits for it.
            if signal.getsignal(number) is handle:
                signal.signal(number, before[number])
