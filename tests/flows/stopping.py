"""The real flow `live`, in a process that stops itself (SIGSTOP) once, at one moment of the making of one product.

Arguments: project, moment, category of the product, seconds to linger. Nothing is simulated: the functions that read,
write and commit do their work, before or after the process has been stopped and continued.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from ccdflow.archive import store
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.jobs.lifecycle import complete_job
from ccdflow.archive.registry.listening import Ear
from ccdflow.flows.live import live
from ccdflow.tasks import running

JOB_MOMENTS = (
    "before it reads",
    "in the middle of the write",
    "before the rename",
    "before the commit",
    "in the write, which then fails",
)
LINGERING = "while it waits for frames"
_STOPPED: list[bool] = []


def stop() -> None:
    if not _STOPPED:
        _STOPPED.append(True)
        os.kill(os.getpid(), signal.SIGSTOP)


def before(function: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
    """The function, before which the process stops where `when` says so of its arguments."""

    def called(*arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            stop()
        return function(*arguments, **named)

    return called


def wrap(owner: Any, name: str, when: Callable[..., bool]) -> None:
    """Stop before a function where `when` says so."""
    setattr(owner, name, before(getattr(owner, name), when))


def arm(moment: str, category: str) -> None:
    if moment == "before it reads":
        wrap(running, "read_inputs", lambda _space, job: job.step == category)
    elif moment == "before the commit":
        wrap(Registry, "write", lambda _self, statement, *rest: _completes(statement, rest, category))
    elif moment == LINGERING:
        wrap(Ear, "wait", lambda *_: True)
    else:
        arm_the_store(moment, category)


def _completes(statement: Any, arguments: tuple[Any, ...], category: str) -> bool:
    return statement is complete_job and bool(arguments[2]) and arguments[2][0].category == category


def arm_the_store(moment: str, category: str) -> None:
    write = store.Store.write

    def written(self: store.Store, path: str, key: str, content: Any, *rest: Any) -> store.StoredFile:
        def stopping(stream: store.HashingFile) -> None:
            if moment == "before the rename":
                content(stream)
                stop()
                return
            into = stream._write

            def half(data: memoryview) -> int | None:
                done = into(data[: max(1, len(data) // 2)])
                stop()
                if moment.endswith("fails"):
                    raise OSError("Input/output error")
                return done

            stream._write = half
            content(stream)

        return write(self, path, key, stopping if path.startswith(f"{category}/") else content, *rest)

    store.Store.write = written


if __name__ == "__main__":
    project, moment, category, linger = sys.argv[1:5]
    arm(moment, category)
    print("failed:", live(project, linger=float(linger), max_age_days=100_000.0))
