"""Recipe ``template``: a frame less its sky, one level for the whole frame. Copy this file to write your own.

A cascade runs it as it is by ``recipes: {sky: {function: ccdflow.recipes.template.RECIPE}}`` (docs/cascade.md).
"""

import numpy as np
from pydantic import Field

from ccdflow.recipes.core.doubts import OTHER, Doubt
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Input, Inputs, Output, Parameters, Recipe, Result
from ccdflow.recipes.core.statistics import good_sample, without_outliers
from ccdflow.recipes.detector.calibrate import one_product, pixels_of


class TemplateParameters(Parameters):
    """Parameters of the recipe ``template``; users read the descriptions."""

    sigma: float = Field(
        3.0, gt=0, description="Standard deviations from the sky beyond which a pixel is a star."
    )


def run(inputs: Inputs, parameters: TemplateParameters) -> Result:
    """Subtract the sky level from a frame.

    Parameters
    ----------
    inputs : Inputs
        ``main``: one product, in any unit. Never changed: it belongs to others.
    parameters : TemplateParameters
        What counts as sky.

    Returns
    -------
    Result
        Category ``sky_subtracted``: data d - s, variance V + V_s / n for a sky s that is the mean of n pixels of
        variance V_s; DQ as it was, since subtracting a number makes no pixel better or worse.

    Raises
    ------
    ValueError
        If there is no frame, or no good pixel; the job fails with that sentence.
    """
    frame = one_product(inputs, "main")
    if frame is None:
        raise ValueError("found no frame as main, one is needed")
    image = pixels_of(frame, "frame").rows(slice(None))
    # What stands in flagged pixels, NaN included, must never decide anything.
    good = good_sample(image)
    sky = without_outliers(good[np.isfinite(good)], sigma=parameters.sigma)
    if not sky.size:
        raise ValueError(f"{frame.name} has no good pixel to measure its sky in")
    # float32 throughout: a float64 number of numpy would turn whole planes into float64.
    level, error = float(sky.mean()), float(sky.std() / np.sqrt(sky.size))
    data, variance = image.data - np.float32(level), image.variance + np.float32(error**2)
    output = Output(
        Image(data, variance, image.dq.copy(), image.unit),
        cards={"SKYLEVEL": (level, f"[{image.unit}] sky level subtracted")},
        quality={"sky_level": level, "sky_error": error},
    )
    # A doubt is no failure: it is said beside the product, which is made all the same.
    sentence = f"the sky of {frame.name} is {level:.1f} {image.unit}, not above 0"
    doubts = () if level > 0 else (Doubt(OTHER, sentence),)
    return Result({"sky_subtracted": output}, doubts)


# The declaration: from it alone jobs are planned. Raise `version` whenever the pixels that come out change.
RECIPE = Recipe(
    name="template",
    version="2",
    inputs={"main": Input("product", 1, 1)},
    outputs=("sky_subtracted",),
    parameters=TemplateParameters,
    run=run,
)
