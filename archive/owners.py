"""Who works on a job: a process, named so that a dead one can be told from a living one."""

import os
import socket
import threading
from pathlib import Path


def this_owner() -> str:
    """Name of this thread: host, process id, when the process started, thread id."""
    pid = os.getpid()
    return f"{socket.gethostname()}:{pid}:{started(pid)}:{threading.get_ident()}"


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
    """Whether an owner is a process of this host that has ended; False where that can't be told."""
    parts = owner.split(":")
    if len(parts) < 3 or parts[0] != socket.gethostname() or not parts[1].isdigit() or not parts[2]:
        return False
    return Path("/proc/self/stat").exists() and started(int(parts[1])) != parts[2]
