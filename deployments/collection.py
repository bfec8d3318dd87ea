"""What a Prefect worker loads of ccdflow at its start (entry point ``prefect.collections``): garbage is collected.

A worker of Prefect 3.9.1 makes clients for each flow run that it starts, and each has two SSL contexts with all
certificates in them, together 1.6 MB, that only Python's collector of cycles frees. To that they are a few objects: it
comes for a full round once a quarter more objects are there than before, which takes hundreds of flow runs. Until then
the worker has grown by hundreds of megabytes (seen: 83 MB at the start, 171 MB after 60 runs).
"""

import gc
import sys
import time
from threading import Thread

SECONDS = 60
"""From one full collection to the next, which takes a twentieth of a second."""


def is_worker(arguments: list[str]) -> bool:
    """Tell whether a command line starts a worker.

    Parameters
    ----------
    arguments : list of str
        As `sys.argv`.

    Returns
    -------
    bool
        Collections are loaded by servers and flow runs too.
    """
    return {"worker", "start"} <= set(arguments[1:])


def collect_for_ever(seconds: float = SECONDS) -> None:
    """Collect garbage again and again.

    Parameters
    ----------
    seconds : float
        From one time to the next.
    """
    while True:
        time.sleep(seconds)
        gc.collect()


if is_worker(sys.argv):
    Thread(target=collect_for_ever, name="garbage", daemon=True).start()
