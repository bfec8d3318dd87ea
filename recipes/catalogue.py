"""All recipes by name: what a cascade may call."""

from collections.abc import Mapping

from ccdflow.recipes.bias import RECIPE as BIAS
from ccdflow.recipes.dark import RECIPE as DARK
from ccdflow.recipes.flat import RECIPE as FLAT
from ccdflow.recipes.gain import RECIPE as GAIN
from ccdflow.recipes.recipe import Recipe
from ccdflow.recipes.science import RECIPE as SCIENCE
from ccdflow.recipes.stack import RECIPE as STACK

RECIPES: Mapping[str, Recipe] = {one.name: one for one in (GAIN, BIAS, DARK, FLAT, SCIENCE, STACK)}
