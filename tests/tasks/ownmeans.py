"""A recipe of somebody's own, which tests copy into projects: it takes whatever a cascade gives it."""

import numpy as np

from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Output, Result


def counted(inputs, parameters):
    """A plane whose pixels say how many main inputs there were."""
    plane = np.full((4, 4), len(inputs["main"]), np.float32)
    return Result({"counted": Output(Image(plane, plane.copy(), np.zeros((4, 4), np.uint16), "adu"))})


def pairs(frames):
    """Two frames at a time."""
    return [frames[number : number + 2] for number in range(0, len(frames), 2)]
