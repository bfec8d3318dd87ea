"""A Prefect server of a project's own, in a process beside the program.

It takes seconds to start, most of them imports: whoever will need it starts it first, does other work, and waits for
it when the first flow begins. Nothing here imports Prefect into the program that starts it.
"""

import atexit
import fcntl
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import URLError
from urllib.request import urlopen

from ccdflow.tasks.memory import importing

STARTUP_SECONDS = 300
"""How long the server may take to start: on a busy machine, with a new database, it takes long."""

STOP_SECONDS = 5
"""How long the server may take to stop before it is killed; what it holds has been written by then."""

STARTED_LOOK_S = 0.05
"""Seconds between two looks whether a server has started."""

IDLE_SERVICES = (
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "EVENT_PERSISTER",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "REPOSSESSOR",
    "SCHEDULER",
    "TRIGGERS",
)
"""What a server without deployments, automations and workers, that lives as long as one command, has no use for."""


class EmbeddedServer:
    """A Prefect server in a process of its own, which ends with this one, however that ends.

    Parameters
    ----------
    home : Path
        Folder of its database and its log.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        atexit.register(self.stop)
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""
        self._is_copy = self._is_new = False

    def start(self) -> None:
        """Begin to start the server; returns at once, and is harmless where it was begun."""
        if self._process is not None:
            return
        self.home.mkdir(parents=True, exist_ok=True)
        # One that is neither there nor copied makes its own tables, and is then left as the template of the next.
        self._is_copy = not self._database.exists() and _take_template(self._database)
        self._is_new = not self._database.exists()
        with (self.home / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ccdflow.flows.embedded"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | self._environment(),
            )

    def wait(self) -> str:
        """Return the URL of the server's API, once it answers.

        Returns
        -------
        str
            ``http://127.0.0.1:PORT/api``

        Raises
        ------
        RuntimeError
            If it does not start.
        """
        self.start()
        if not self._url:
            assert self._process is not None and self._process.stdout is not None
            # Its process takes any free port, so that two never want the same, and writes which before all else.
            port = self._process.stdout.readline().decode().strip()
            url = f"http://127.0.0.1:{port}/api"
            if not port or not _answers(f"{url}/health"):
                self.stop()
                raise RuntimeError(
                    f"the Prefect server did not start; it says why in {self.home / 'server.log'}"
                )
            if self._is_new:
                _leave_template(self._database)
            self._url = url
        return self._url

    @property
    def pid(self) -> int | None:
        """Id of the server's process."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """End the server, if it was started."""
        process, self._process, self._url = self._process, None, ""
        if process is None:
            return
        # The end of its standard input tells the server to end. So it also ends where this program is killed.
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def _database(self) -> Path:
        return self.home / "prefect.db"

    def _environment(self) -> dict[str, str]:
        recorder = "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER"
        return {
            "PREFECT_API_BLOCKS_REGISTER_ON_START": str(not self._is_copy),  # the template holds them
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
            "DO_NOT_TRACK": "1",
            "PREFECT_HOME": str(self.home),
            "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self._database}",
            "PREFECT_UI_ENABLED": "false",
            # In batches, and soon: a command that ends takes the server with it.
            f"{recorder}_BATCH_SIZE": "100",
            f"{recorder}_READ_BATCH_SIZE": "100",
            f"{recorder}_FLUSH_INTERVAL": "1",
        } | {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in IDLE_SERVICES}


@cache
def embedded_server(scratch: Path) -> EmbeddedServer:
    """Return the server of a project; it runs until the program ends.

    Parameters
    ----------
    scratch : Path
        The project's scratch folder.

    Returns
    -------
    EmbeddedServer
        The same one for the same folder.
    """
    return EmbeddedServer(scratch / "prefect")


def surely_embedded() -> bool:
    """Tell whether no Prefect server is configured where servers mostly are: in the environment or in a profile."""
    # Prefect itself would know for sure, and takes a second to import: it is asked only where it is there already.
    if "prefect" in sys.modules:
        from prefect.settings import PREFECT_API_URL

        return not PREFECT_API_URL.value()
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    return not (os.environ.get("PREFECT_API_URL") or (home / "profiles.toml").exists())


def _answers(url: str) -> bool:
    """Whether a server that has opened its socket answers in time; it does once it has started."""
    end = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < end:
        try:
            with urlopen(url, timeout=STARTUP_SECONDS) as answer:
                return bool(answer.status == 200)
        except ConnectionRefusedError:  # the socket was open before the port was told: its process is gone
            return False
        except (URLError, OSError) as error:
            if isinstance(getattr(error, "reason", error), ConnectionError):
                return False  # the process has ended
            time.sleep(0.1)
    return False


# --- a database whose tables are made ---------------------------------------------------------------------


def _template() -> Path:
    """An empty database of the installed Prefect: making its tables takes longer than all else at the start."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "ccdflow" / f"prefect-{version('prefect')}.db"


def _take_template(database: Path) -> bool:
    """Whether a new database could be copied from the template."""
    # Under a name of this process's own, then linked, which fails where there is one: of two that start at once none
    # sees half a database, and none takes away the one that the other's server has opened.
    part = database.with_name(f".{database.name}.{os.getpid()}")
    try:
        shutil.copyfile(_template(), part)
        os.link(part, database)
    except OSError:
        return False
    finally:
        part.unlink(missing_ok=True)
    return True


def _leave_template(database: Path) -> None:
    """Keep a copy of a database that was just made for the next project; where that can't be, it is made again."""
    template = _template()
    part = template.with_name(f".{template.name}.{os.getpid()}")
    try:
        template.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
        part.replace(template)
    except (OSError, sqlite3.Error):
        part.unlink(missing_ok=True)


# --- the server's process ---------------------------------------------------------------------------------


def _serve() -> None:
    """Run the server until standard input ends, which it also does when the program on its other side dies."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    running: list[Any] = []
    threading.Thread(target=_end_with_parent, args=(running,), daemon=True).start()
    # Prefect makes and changes its tables as it starts, and two that do it at once both fail.
    turn = _turn(Path(os.environ["PREFECT_HOME"]) / "starting.lock")
    # The socket listens from here on: whoever asks waits in its queue until the server has started.
    with importing():  # a fifth of the time
        import uvicorn
        from prefect.server.api.server import create_app

        app = create_app()
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1)
    running.append(uvicorn.Server(config))
    threading.Thread(target=_let_others_start, args=(running[0], turn), daemon=True).start()
    running[0].run(sockets=[listening])


def _turn(path: Path) -> BinaryIO | None:
    """Wait until no other server of this home is starting; None where its file system knows no locks."""
    try:
        # Ends with the process that holds it, however that ends. Never deleted: a second file would be a second lock.
        lock = path.open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        return None
    return lock


def _let_others_start(server: Any, turn: BinaryIO | None) -> None:
    """Give the turn away once a server has started."""
    while not server.started:
        time.sleep(STARTED_LOOK_S)
    if turn is not None:
        turn.close()


def _end_with_parent(running: Sequence[Any]) -> None:
    """Ask the server to end once standard input does; one that has not started yet ends at once."""
    sys.stdin.buffer.read()
    if not running or not running[0].started:
        os._exit(0)
    running[0].should_exit = True


if __name__ == "__main__":
    _serve()
