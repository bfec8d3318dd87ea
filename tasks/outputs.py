"""What recipes give back, written into the store."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ccdflow.archive.fits.productfile import write_product
from ccdflow.archive.registry.jobs.leases import ensure_held
from ccdflow.archive.registry.jobs.productchanges import Made
from ccdflow.archive.registry.jobs.products import outputs_of
from ccdflow.archive.registry.jobs.records import JobRecord
from ccdflow.cascade.records import CATEGORY, Doubt
from ccdflow.recipes.core.recipe import Output, Result
from ccdflow.tasks.inputs import JobInputs
from ccdflow.tasks.productdoubts import doubt_cards
from ccdflow.tasks.provenance.process import process_notes
from ccdflow.tasks.workspace import Workspace


def store_result(
    space: Workspace,
    job: JobRecord,
    inputs: JobInputs,
    result: Result,
    paths: Mapping[str, str] | None = None,
    doubts: Sequence[Doubt] = (),
) -> list[Made]:
    """Write the outputs of a job.

    Parameters
    ----------
    space : Workspace
        The project.
    job : JobRecord
        The job, held by this worker.
    inputs : JobInputs
        What it was made of: the headers tell.
    result : Result
        What the recipe gave.
    paths : mapping of str to str, optional
        Paths in the store by category, where the caller has asked the registry for them.
    doubts : sequence of Doubt
        What the recipe warned of: about each of its products.

    Returns
    -------
    list of Made
        What the registry is to record of each; until then none of it counts.

    Raises
    ------
    ValueError
        If the recipe gave a category that it does not declare.
    StoreAwayError
        If the store went away while the recipe worked.
    """
    if paths is None:
        paths = {product.category: product.path for product in space.registry.read(outputs_of, job.key)}
    # Recipes take their time: into the empty folder of a disk that went away meanwhile nothing is written.
    space.find_store()
    products = []
    inputs = inputs.without(left.position for left in result.left_out)
    for category, output in result.outputs.items():
        if category not in paths:
            raise ValueError(f"recipe {job.recipe!r} gave {category!r}; it declares {', '.join(paths)}")
        told = replace(output, cards={**output.cards, **doubt_cards(doubts)})
        made = _store(space, job, inputs, (category, paths[category], told))
        products.append(replace(made, cards=_values(output), doubts=tuple(doubts)))
    return products


def _values(output: Output) -> dict[str, Any]:
    """Cards of a recipe without their comments."""
    return {name: value for name, (value, _) in output.cards.items()}


def _ensure_held(space: Workspace, job: JobRecord) -> None:
    """Let nobody write whose job another has taken over: he was stopped, or cut off, for longer than its lease."""
    if job.owner:
        space.registry.read(ensure_held, job.key, job.owner)


def _store(space: Workspace, job: JobRecord, inputs: JobInputs, product: tuple[str, str, Output]) -> Made:
    """Write one output, given as category, path and content."""
    category, path, output = product
    origin = inputs.origin(job.key, job.recipe, job.version, job.step)
    # By this card other projects know what a file is: masters may be handed on.
    cards = {**origin.cards, CATEGORY: (category, "what this product is")}
    # To go without a calibration has a level too, which no input can tell.
    origin = replace(
        origin,
        level=max(origin.level, job.level),
        worst_level=job.worst_level,
        cards=cards,
        process=process_notes(job.parameters, inputs.corrected, job.compromises),
    )
    write = partial(write_product, output=output, origin=origin)
    # Between the writing and the rename it is asked once more whether the job is still ours.
    stored = space.store.write(path, job.key, write, partial(_ensure_held, space, job))
    return Made(
        category=category,
        path=stored.path,
        sha256=stored.sha256,
        size=stored.size,
        changed_ns=space.store.changed_ns(path),
        quality=output.quality,
        cards=_values(output),
    )
