"""Who works on a job: a process, named so that a dead one can be told from a living one."""

import hashlib
import os
import socket
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path

HOST = "CCDFLOW_HOST"
"""Environment variable with the name of this machine, where the network's name says little, as in a container."""


def this_owner() -> str:
    """Name of this thread: host, process id, when the process started, thread id."""
    pid = os.getpid()
    return f"{this_host()}:{pid}:{started(pid)}:{threading.get_ident()}"


def this_host() -> str:
    """Name of this machine, and a mark of what its process ids belong to."""
    name = os.environ.get(HOST) or socket.gethostname()
    return f"{name.replace(':', '_')}/{_mark()}"


@cache
def _mark() -> str:
    """Digits for the running kernel and the namespace of process ids.

    Containers, and machines that were copied, may have one name; a process id means something else in each.
    """
    facts = []
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        facts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("".join(facts).encode()).hexdigest()[:6]


def started(pid: int) -> str:
    """When a process started, as the kernel counts; empty where it can't be told.

    A process id is used again after a while, a pair of process id and start is not.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The second field is the program's name in brackets, which may hold anything.
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def is_dead(owner: str) -> bool:
    """Whether an owner is a process of this machine that has ended; False where that can't be told."""
    parts = owner.split(":")
    if len(parts) < 3 or parts[0] != this_host() or not parts[1].isdigit() or not parts[2]:
        return False
    return Path("/proc/self/stat").exists() and started(int(parts[1])) != parts[2]
