"""A recipe that takes its time, for projects of tests."""

import time
from pathlib import Path

import numpy as np

from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Output, Result


def _began(log):
    return sum(line.endswith(" 1") for line in Path(log).read_text().splitlines())


def slow(inputs, parameters):
    """Note when it began and ended."""
    with Path(parameters.log).open("a") as file:
        file.write(f"{time.monotonic()} 1\n")
    time.sleep(1)
    # On a busy machine the next one may begin late: it is waited for, though not for ever.
    end = time.monotonic() + 60
    while _began(parameters.log) < parameters.together and time.monotonic() < end:
        time.sleep(0.05)
    with Path(parameters.log).open("a") as file:
        file.write(f"{time.monotonic()} -1\n")
    pixels = np.ones((2, 2), np.float32)
    image = Image(pixels, pixels.copy(), np.zeros((2, 2), np.uint16), "electron")
    return Result({"slow": Output(image)})
