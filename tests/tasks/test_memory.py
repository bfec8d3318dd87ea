"""What a process kept for its next frame goes back to the machine when it is told to."""

import subprocess
import sys

PROGRAM = """
import numpy as np, psutil
from ccdflow.tasks.memory import give_back, keep_memory
size = lambda: psutil.Process().memory_full_info().uss / 1e6
keep_memory()
planes, between = [], []
for _ in range(100):
    planes.append(np.ones(250_000, np.float32))
    between.append(bytes(2000))  # small things that stay lie between what goes
before = size()
del planes
kept = size()
give_back()
print(before - kept, before - size())
"""


def test_free_memory_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, given_back = map(float, done.stdout.split())
    assert kept < 10 and given_back > 80, "MB of 100"
