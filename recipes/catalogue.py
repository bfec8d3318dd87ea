"""All recipes by name: what a cascade may call.

``template`` is not among them: it is there to be copied. A recipe that is here can be called by ``ccdflow recipe
NAME`` and is named in messages; one's own is named in a cascade (docs/cascade.md, "Recipes of your own").
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

from ccdflow.recipes.core.recipe import Recipe

_NAMES = ("gain", "bias", "dark", "flat", "science", "colours", "stack", "stack_colour")


class _Catalogue(Mapping[str, Recipe]):
    """Imports a recipe when it is asked for: stacking needs much that takes long to import, others don't."""

    def __getitem__(self, name: str) -> Recipe:
        if name not in _NAMES:
            raise KeyError(name)
        recipe: Recipe = import_module(f"ccdflow.recipes.{name}").RECIPE
        return recipe

    def __contains__(self, name: object) -> bool:
        return name in _NAMES

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


RECIPES: Mapping[str, Recipe] = _Catalogue()
