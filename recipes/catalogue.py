"""All recipes by name: what a cascade may call."""

from collections.abc import Mapping

from ccdflow.recipes import bias, dark, flat, gain, science, stack
from ccdflow.recipes.recipe import Recipe

RECIPES: Mapping[str, Recipe] = {
    module.RECIPE.name: module.RECIPE for module in (gain, bias, dark, flat, science, stack)
}
