"""The real flow `live`, in a process that dies by SIGKILL at one moment of the making of one product.

Arguments: project, moment, category of the product, seconds to linger, camera (may be blank). Nothing is simulated: the
functions that write and commit do their work, and the process ends before, in or behind one of them. With a moment of
`BRIDGE` it is the bridge that dies.
"""

import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from ccdflow.archive import store
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.jobs import lifecycle
from ccdflow.archive.registry.jobs.productchanges import Made
from ccdflow.flows.live import live
from ccdflow.tasks.bridge import Bridge, to_server
from ccdflow.tasks.workspace import open_workspace

MOMENTS = (
    "before the write",
    "in the middle of the write",
    "after the write",
    "after the rename",
    "before the commit",
    "after the commit",
)
BRIDGE = ("before the sending", "after the sending", "after the marking")
_HERE = threading.local()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


def behind(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, after which the process dies where this thread writes the product."""

    def called(*arguments: Any, **named: Any) -> Any:
        given = function(*arguments, **named)
        if getattr(_HERE, "writes", False):
            die()
        return given

    return called


def wrap(owner: Any, name: str, around: Callable[[Any], Any]) -> None:
    """Put in place of a function what calls it."""
    setattr(owner, name, around(getattr(owner, name)))


def arm_the_store(moment: str, category: str) -> None:
    write = store.Store.write

    def written(self: store.Store, path: str, key: str, *how: Callable[..., Any]) -> store.StoredFile:
        _HERE.writes = path.startswith(f"{category}/")
        if _HERE.writes and moment == "before the write":
            die()
        try:
            return write(self, path, key, *how)
        finally:
            _HERE.writes = False

    wrap(store.Store, "write", lambda _: written)
    if moment == "in the middle of the write":
        wrap(store, "HashingFile", half)
    elif moment == "after the write":
        wrap(os, "fsync", behind)
    elif moment == "after the rename":
        wrap(Path, "replace", behind)


def half(original: Callable[..., store.HashingFile]) -> Callable[..., store.HashingFile]:
    """A file whose first piece is written by half, after which the process dies."""

    def opened(into: Callable[[memoryview], int | None]) -> store.HashingFile:
        def some(data: memoryview) -> int | None:
            return into(data[: len(data) // 2] if getattr(_HERE, "writes", False) else data)

        return original(behind(some))

    return opened


def arm_the_commit(moment: str, category: str) -> None:
    finish, write = lifecycle.finish_job, Registry.write

    def finished(connection: Any, key: str, owner: str, made: Sequence[Made], *told: str) -> list[int]:
        ids = finish(connection, key, owner, made, *told)
        # A job whose frames were all left out has made nothing.
        _HERE.commits = bool(made) and made[0].category == category
        return ids

    def written(self: Registry, statement: Any, *arguments: Any, **named: Any) -> Any:
        answer = write(self, statement, *arguments, **named)
        if statement is lifecycle.complete_job and moment == "after the commit":
            made = arguments[2]
            if made and made[0].category == category:
                die()
        return answer

    def about_to_commit(_connection: Any) -> None:
        if getattr(_HERE, "commits", False):
            die()

    wrap(Registry, "write", lambda _: written)
    if moment == "before the commit":
        lifecycle.finish_job = finished
        event.listen(Engine, "commit", about_to_commit)


def run_bridge(project: str, moment: str) -> None:
    """A bridge that dies where it has sent and marked nothing, sent, or sent and marked its first events."""

    def send(events: Sequence[dict[str, Any]]) -> None:
        if moment == "before the sending":
            die()
        to_server(events)
        if moment == "after the sending":
            die()

    bridge = Bridge(open_workspace(project), send)
    bridge.look()
    die()


def keep_files_small(most: int) -> None:
    """Let no file grow beyond so many bytes, until SIGUSR1 comes."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))


if __name__ == "__main__":
    project, moment, category, linger, camera = sys.argv[1:6]
    if moment in BRIDGE:
        run_bridge(project, moment)
    if moment.startswith("small files: "):
        keep_files_small(int(moment.removeprefix("small files: ")))
    elif moment in MOMENTS:
        arm_the_store(moment, category)
        arm_the_commit(moment, category)
    print(live(project, camera or None, linger=float(linger), max_age_days=100_000.0))
