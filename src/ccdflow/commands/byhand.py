"""`ccdflow recipe`: one recipe on files, without project, database or Prefect."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ccdflow.archive.digest import UnreadableFrameError
from ccdflow.archive.fits.integrity import refuse_damaged
from ccdflow.archive.fits.productfile import InputNote, ProductFileError, write_product
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.cascade.headers.amplifiers import detector_digest
from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.cascade.planning.jobs import JobInput, Resolved
from ccdflow.cascade.planning.keys import KeyMaker
from ccdflow.cascade.wording import unknown
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped
from ccdflow.recipes.catalogue import RECIPES
from ccdflow.recipes.core.doubts import as_doubt
from ccdflow.recipes.core.recipe import Output, Parameters, Recipe
from ccdflow.recipes.kernels.compiled import prepare
from ccdflow.tasks.inputs import JobInputs
from ccdflow.tasks.memory import keep_memory
from ccdflow.tasks.productdoubts import doubt_cards, product_doubts

WRITING = "ccdflow.archive.fits.writer_kernels"
"""Module of the compiled functions that write products."""


@dataclass(frozen=True)
class RecipeReport:
    """What a recipe made of files."""

    recipe: str
    category: str
    path: Path
    key: str
    quality: Mapping[str, float]
    warnings: Sequence[str]

    def document(self) -> dict[str, Any]:
        """The report for ``--json``."""
        return {
            "recipe": self.recipe,
            "category": self.category,
            "path": str(self.path),
            "key": self.key,
            "quality": dict(self.quality),
            "warnings": list(self.warnings),
        }

    def sentence(self) -> str:
        """The report for people."""
        numbers = [f"  {name} {value:.6g}" for name, value in self.quality.items()]
        return "\n".join([f"{self.category} in {self.path}", *numbers])


def run_recipe(
    name: str,
    files: Sequence[Path],
    parameters: Mapping[str, Any],
    associated: Mapping[str, Sequence[Path]],
    output: Path,
    digests: Mapping[Path, Future[str]],
    *,
    force: bool = False,
) -> RecipeReport:
    """Run a recipe on files and write its product; `digests` is to hold the sha256 of each file.

    Raises
    ------
    ValueError
        If anything that is given is not known, does not fit, or can't be read; one line says what and what was wanted.
    """
    if name not in RECIPES:
        raise ValueError(unknown("recipe", name, RECIPES))
    if output.exists() and not force:
        raise ValueError(f"{output} is there already; --force overwrites it")
    recipe = RECIPES[name]
    keep_memory()
    # Machine code is loaded by a thread of its own while the files are opened.
    prepare(*recipe.kernels, WRITING)
    roles = {"main": files, **associated}
    _check_roles(recipe, roles)
    values = _parameters(recipe, parameters)
    instruments = load_instruments([shipped("instruments")])
    inputs = _read(recipe, roles, instruments, digests)
    try:
        result = recipe.run(inputs.recipe_inputs, values)
    except UnreadableFrameError as error:  # of a file that is found damaged where it is read
        raise ValueError(str(error)) from None
    told = [left.sentence for left in result.left_out]
    if not result.outputs:
        raise ValueError(f"recipe {name!r} has nothing to combine: {'; '.join(told)}")
    ((category, product),) = result.outputs.items()
    key = _key(recipe, values, inputs, instruments)
    used = inputs.without(left.position for left in result.left_out)
    doubted = replace(result, warnings=(*inputs.differences, *result.warnings))
    cards = doubt_cards(product_doubts(doubted, inputs.policies))
    _write(output, replace(product, cards={**product.cards, **cards}), used, recipe, key)
    # Whoever names a file means it; but nothing is calibrated a second time without a word.
    twice = [f"{sentence}; --param done=... leaves out what was done" for sentence in inputs.finished]
    warnings = [
        *(() if parameters.get("done") else twice),
        *(as_doubt(warning).text for warning in doubted.warnings),
        *told,
    ]
    return RecipeReport(name, category, output, key, product.quality, warnings)


def _check_roles(recipe: Recipe, roles: Mapping[str, Sequence[Path]]) -> None:
    """Refuse roles that the recipe does not know, and too many or too few files in one."""
    for role, paths in roles.items():
        if role not in recipe.inputs:
            raise ValueError(f"recipe {recipe.name!r}: {unknown('input', role, recipe.inputs)}")
        most = recipe.inputs[role].maximum
        if most is not None and len(paths) > most:
            raise ValueError(f"recipe {recipe.name!r} takes {most} {role!r}, found {len(paths)}")
    for role, wanted in recipe.inputs.items():
        if len(roles.get(role, ())) < wanted.minimum:
            count = len(roles.get(role, ()))
            raise ValueError(
                f"recipe {recipe.name!r} takes at least {wanted.minimum} {role!r}, found {count}"
            )


def _parameters(recipe: Recipe, requested: Mapping[str, Any]) -> Parameters:
    """Return the recipe's parameters; refuse what it does not know, in one line."""
    for name in requested:
        if name not in recipe.parameters.model_fields:
            raise ValueError(
                f"recipe {recipe.name!r}: {unknown('parameter', name, recipe.parameters.model_fields)}"
            )
    try:
        return recipe.parameters.model_validate(dict(requested))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"parameter {first['loc'][0]!r}: {first['msg']}; found {first['input']!r}") from None


def _read(
    recipe: Recipe,
    roles: Mapping[str, Sequence[Path]],
    instruments: Sequence[Instrument],
    digests: Mapping[Path, Future[str]],
) -> JobInputs:
    """Open all inputs; their pixels are read when the recipe asks for them."""
    inputs = JobInputs()
    for role, paths in roles.items():
        kind = recipe.inputs[role].kind
        for path in paths:
            try:
                note = InputNote(role, path.name, digests[path].result(), kind, None if role == "main" else 0)
                if kind == "raw":
                    refuse_damaged(open_raw(path))
                    inputs.add_raw(role, path, instruments, note)
                else:
                    inputs.add_product(role, path, note, instruments)
            except (UnreadableFrameError, ProductFileError) as error:
                raise ValueError(str(error)) from None
    return inputs


def _key(recipe: Recipe, values: Parameters, inputs: JobInputs, instruments: Sequence[Instrument]) -> str:
    """Return the job's key, with each file's sha256 as its identity."""
    resolved = {name: Resolved(value, "request") for name, value in values.model_dump(mode="json").items()}
    digests = [detector_digest(instrument) for instrument in instruments]
    return KeyMaker(recipe, resolved).key(
        [JobInput(note.role, note.identity) for note in inputs.notes], digests
    )


def _write(output: Path, product: Output, inputs: JobInputs, recipe: Recipe, key: str) -> None:
    """Write the product whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    # In the folder of the output, so that the rename stays within one file system and is atomic.
    temporary = output.with_name(f".{output.name}.part")
    try:
        with temporary.open("wb") as stream:
            write_product(stream, product, inputs.origin(key, recipe.name, recipe.version))
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
