"""Recipes without pixels: they take what the real ones take, and give products of 2 x 2 zeros."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Inputs, Output, Parameters, Recipe, Result


def stubbed(recipe: Recipe) -> Recipe:
    """A recipe with the same declaration, another version, and outputs that hold nothing.

    Raises
    ------
    ValueError
        When it runs, if there are fewer or more inputs than the recipe takes.
    """

    def run(inputs: Inputs, parameters: Parameters) -> Result:
        for role, wanted in recipe.inputs.items():
            found = len(inputs.get(role, ()))
            if found < wanted.minimum or (wanted.maximum is not None and found > wanted.maximum):
                most = "any number" if wanted.maximum is None else wanted.maximum
                raise ValueError(f"found {found} inputs as {role}, wanted {wanted.minimum} to {most}")
        return Result({category: _nothing() for category in recipe.outputs})

    return replace(recipe, version=f"{recipe.version}-stub", run=run)


def _nothing() -> Output:
    plane = np.zeros((2, 2), np.float32)
    return Output(Image(plane, plane.copy(), np.zeros((2, 2), np.uint16), "electron"))


class Stubs(Mapping[str, Recipe]):
    """The stubs of recipes by name."""

    def __init__(self, recipes: Mapping[str, Recipe]) -> None:
        self._recipes = recipes

    def __getitem__(self, name: str) -> Recipe:
        return stubbed(self._recipes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)
