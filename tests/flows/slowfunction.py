"""A recipe that takes its time, for projects of tests."""

import time
from pathlib import Path

import numpy as np

from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Output, Result


def slow(inputs, parameters):
    """Note when it began and ended."""
    with Path(parameters.log).open("a") as file:
        file.write(f"{time.monotonic()} 1\n")
    time.sleep(1)
    with Path(parameters.log).open("a") as file:
        file.write(f"{time.monotonic()} -1\n")
    pixels = np.ones((2, 2), np.float32)
    image = Image(pixels, pixels.copy(), np.zeros((2, 2), np.uint16), "electron")
    return Result({"slow": Output(image)})
