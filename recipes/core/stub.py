"""Recipes without pixels: they take what the real ones take, and give products of 2 x 2 zeros."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Inputs, Output, Parameters, Recipe, Result


def stubbed(recipe: Recipe) -> Recipe:
    """Return a recipe with the same declaration, another version, and outputs that hold nothing.

    Parameters
    ----------
    recipe : Recipe
        The real one; never run.

    Returns
    -------
    Recipe
        Each of its outputs is an image of 2 x 2 zeros in electron, with variance 0 and DQ 0. Its run raises
        ValueError if there are fewer or more inputs than the recipe takes.
    """

    def run(inputs: Inputs, parameters: Parameters) -> Result:
        for role, wanted in recipe.inputs.items():
            count = len(inputs.get(role, ()))
            if count < wanted.minimum or (wanted.maximum is not None and count > wanted.maximum):
                most = "any number" if wanted.maximum is None else wanted.maximum
                raise ValueError(f"found {count} inputs as {role}, wanted {wanted.minimum} to {most}")
        return Result({category: _nothing() for category in recipe.outputs})

    # Another version means other job keys: products of a stub are never taken for real ones.
    return replace(recipe, version=f"{recipe.version}-stub", run=run)


# Small, but a real image: writing, reading, checksums and the store are those of real products.
def _nothing() -> Output:
    plane = np.zeros((2, 2), np.float32)
    return Output(Image(plane, plane.copy(), np.zeros((2, 2), np.uint16), "electron"))


class Stubs(Mapping[str, Recipe]):
    """Stubs of recipes by name, in place of the recipes themselves."""

    def __init__(self, recipes: Mapping[str, Recipe]) -> None:
        self._recipes = recipes

    def __getitem__(self, name: str) -> Recipe:
        return stubbed(self._recipes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)
