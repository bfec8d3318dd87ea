"""Recipe ``stack_colour``: planes of one colour, of mosaics of one field, into one: what ``stack`` does, on their grid.

It has a name of its own since its pixels are cells: twice as large as those of the frames that went into it.
"""

from dataclasses import replace

from ccdflow.recipes import stack
from ccdflow.recipes.core.recipe import InputProduct, Inputs, Result
from ccdflow.recipes.stack import StackParameters


def run(inputs: Inputs, parameters: StackParameters) -> Result:
    """Stack the planes in role ``main``.

    Parameters
    ----------
    inputs : Inputs
        ``main``: two planes or more of one colour, as `ccdflow.recipes.colours` makes them.
    parameters : StackParameters
        As of ``stack``.

    Returns
    -------
    Result
        As of `ccdflow.recipes.stack.run`; ``FILTER`` is the colour.

    Raises
    ------
    ValueError
        If the planes are of several colours.
    """
    planes = [product for product in inputs["main"] if isinstance(product, InputProduct)]
    colours = sorted({str(plane.header.get("FILTER", "")) for plane in planes})
    if len(colours) > 1:
        raise ValueError(f"found planes of the colours {', '.join(colours)}; a stack needs one")
    return stack.run(inputs, parameters)


RECIPE = replace(stack.RECIPE, name="stack_colour", version="3", run=run)
