"""Recipes that are programs of their own: files in, files out, an exit code."""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ccdflow.archive.fits.productfile import ProductFileError, read_image, read_product
from ccdflow.archive.fits.productheader import is_of_the_content
from ccdflow.cascade.specification.ownrecipes import PLACEHOLDER, OwnRecipe
from ccdflow.recipes.core.recipe import Card, InputProduct, Output, Result
from ccdflow.tasks.processes.children import TimeLimitError, run_program, status_in_words
from ccdflow.tasks.processes.output import Kept

_QUALITY = "QC "
"""Begins the names of cards that hold quality numbers."""


def run_external(
    own: OwnRecipe,
    inputs: Mapping[str, Sequence[Path]],
    parameters: Mapping[str, Any],
    limit: float,
    kept: Kept,
) -> Result:
    """Run a module or program in an empty folder, and take the files that it leaves as its outputs.

    An argument that is nothing but the place of a role becomes one argument for each file. Outputs are FITS files
    with an image in the primary HDU, and ``UNCERT`` and ``MASK`` as products have them, or with a ``TABLE``;
    without ``UNCERT`` the variance is 0. Cards of the primary header that none of the inputs has so become the
    product's, and cards ``HIERARCH QC NAME`` its quality numbers.

    Parameters
    ----------
    own : OwnRecipe
        What the cascade says of the recipe.
    inputs : mapping of str to sequence of Path
        Files by role.
    parameters : mapping of str to object
        Values that JSON can write, by name.
    limit : float
        Seconds that it may take.
    kept : Kept
        What takes its output.

    Returns
    -------
    Result
        The outputs, in memory: the folder is gone when this returns.

    Raises
    ------
    ValueError
        If the program can't be started, ends with another exit code than 0 (the last line of its standard error
        says why), or leaves an output out.
    TimeLimitError
        If it took longer than it may.
    StoppedError
        If we were told to end.
    """
    with tempfile.TemporaryDirectory(prefix="ccdflow-recipe-") as name:
        folder = Path(name)
        outputs = {category: folder / f"{category}.fits" for category in own.outputs}
        # All that the call says, for programs that would rather read a file than arguments.
        job = folder / "job.json"
        files = {role: [str(path) for path in paths] for role, paths in inputs.items()}
        named = {category: str(path) for category, path in outputs.items()}
        job.write_text(json.dumps({"inputs": files, "outputs": named, "parameters": dict(parameters)}))
        _call(arguments_of(own, files, named, parameters, job), folder, limit, kept)
        headers = [header for paths in inputs.values() for header in map(_header, paths)]
        return Result({name: _output(name, path, headers) for name, path in outputs.items()})


def _header(path: Path) -> Mapping[str, Any]:
    """The header of an input; of one that can't be read as a product by itself, nothing."""
    try:
        return read_product(path).header
    except ProductFileError:
        return {}


def arguments_of(
    own: OwnRecipe,
    files: Mapping[str, Sequence[str]],
    outputs: Mapping[str, str],
    parameters: Mapping[str, Any],
    job: Path,
) -> list[str]:
    """Return program and arguments of a recipe that runs on files.

    Parameters
    ----------
    own : OwnRecipe
        What the cascade says of it.
    files, outputs : mapping
        Paths of the inputs by role, and of each output by category.
    parameters : mapping of str to object
        Values by name.
    job : Path
        JSON file that says all of this too.

    Returns
    -------
    list of str
        As the system takes them.
    """
    if own.module:
        return [sys.executable, "-m", own.module, str(job)]
    values = {name: str(value) for name, value in parameters.items()} | {"job": str(job)}
    values |= {f"out.{category}": path for category, path in outputs.items()}
    values |= {role: " ".join(files.get(role, ())) for role in own.inputs}
    # A list of arguments and no shell: nothing in a file's name is taken for more than a name.
    arguments: list[str] = []
    for argument in own.program:
        alone = PLACEHOLDER.fullmatch(argument)
        if alone and alone[1] in own.inputs:
            arguments += files.get(alone[1], ())
        else:
            arguments.append(PLACEHOLDER.sub(lambda holder: values[holder[1]], argument))
    return arguments


def _call(arguments: Sequence[str], folder: Path, limit: float, kept: Kept) -> None:
    """Run a program to its end; where that is a bad one, its last line is what people read."""
    try:
        status = run_program(arguments, folder, limit, kept)
    except OSError as error:
        raise ValueError(f"{arguments[0]} can't be started: {error.strerror or error}") from None
    except TimeLimitError as error:
        raise TimeLimitError(f"{arguments[0]} {error}") from None
    if status != 0:
        raise ValueError(f"{arguments[0]} {status_in_words(status)}: {kept.last_line or 'it said nothing'}")


def _output(category: str, path: Path, inputs: Sequence[Mapping[str, Any]]) -> Output:
    if not path.is_file():
        raise ValueError(f"it left no {category}: {path.name} is not there")
    try:
        product = read_product(path, by_others=True)
    except ProductFileError as error:
        raise ValueError(f"its {category} can't be read: {error}") from None
    image = None if product.image is None else read_image(product)
    masters = product.calibration_variance
    return Output(
        image,
        table=product.table,
        calibration_variance=None if masters is None else masters.rows(slice(0, masters.shape[0])).data,
        cards=_own_cards(product, inputs),
        quality=_own_quality(product),
    )


def _own_cards(product: InputProduct, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Card]:
    """Cards that a program has written itself: those that none of its inputs has, or has so."""
    # Most programs hand on the header of one of their inputs: what that says we know, and whether it holds for all.
    return {
        name: (value, product.comments.get(name, ""))
        for name, value in product.header.items()
        if is_of_the_content(name) and all(header.get(name) != value for header in inputs)
    }


def _own_quality(product: InputProduct) -> dict[str, float]:
    """Quality numbers of a program: its cards ``HIERARCH QC NAME``."""
    return {
        name.removeprefix(_QUALITY): float(value)
        for name, value in product.header.items()
        if name.startswith(_QUALITY) and isinstance(value, int | float) and not isinstance(value, bool)
    }
