"""Recipes of somebody's own: a function, a class, and one that declares itself; copied into the projects of tests."""

import numpy as np

from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Input, InputProduct, Inputs, Output, Parameters, Recipe, Result


def doubled(inputs: Inputs, parameters: Parameters) -> Result:
    """The main product times a factor."""
    factor = np.float32(parameters.factor)
    (main,) = inputs["main"]
    assert isinstance(main, InputProduct) and main.image is not None
    image = main.image.rows(slice(0, main.image.shape[0]))
    made = Image(image.data * factor, image.variance * factor**2, image.dq, image.unit)
    return Result({"doubled": Output(made, quality={"factor": float(factor)})})


class Doubler:
    """The same as a class."""

    def run(self, inputs: Inputs, parameters: Parameters) -> Result:
        return doubled(inputs, parameters)


class _Factor(Parameters):
    factor: float = 2.0


DECLARED = Recipe("declared", "7", {"main": Input("product")}, ("doubled",), _Factor, doubled)
"""A recipe that declares itself."""
