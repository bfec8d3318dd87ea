"""What recipes give back, written into the store."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from ccdflow.archive.fits.productfile import write_product
from ccdflow.archive.registry.jobs import JobRecord
from ccdflow.archive.registry.leases import ensure_held
from ccdflow.archive.registry.productchanges import Made
from ccdflow.archive.registry.products import outputs_of
from ccdflow.cascade.records import CATEGORY
from ccdflow.recipes.core.recipe import Output, Result
from ccdflow.tasks.inputs import JobInputs
from ccdflow.tasks.workspace import Workspace


def store_result(
    space: Workspace,
    job: JobRecord,
    inputs: JobInputs,
    result: Result,
    paths: Mapping[str, str] | None = None,
) -> list[Made]:
    """Write the outputs of a job; gives what the registry is to record of each.

    `paths` are those of the outputs by category, where the caller has asked the registry for them.

    Raises
    ------
    ValueError
        If the recipe gave a category that it does not declare.
    """
    if paths is None:
        paths = {one.category: one.path for one in space.registry.read(outputs_of, job.key)}
    made = []
    for category, output in result.outputs.items():
        if category not in paths:
            raise ValueError(f"recipe {job.recipe!r} gave {category!r}; it declares {', '.join(paths)}")
        made.append(_store(space, job, inputs, (category, paths[category], output)))
    return made


def _ensure_held(space: Workspace, job: JobRecord) -> None:
    """Let nobody write whose job another has taken over: he was stopped, or cut off, for longer than its lease."""
    if job.owner:
        space.registry.read(ensure_held, job.key, job.owner)


def _store(space: Workspace, job: JobRecord, inputs: JobInputs, one: tuple[str, str, Output]) -> Made:
    category, path, output = one
    origin = inputs.origin(job.key, job.recipe, job.version)
    cards = {**origin.cards, CATEGORY: (category, "what this product is")}
    origin = replace(origin, worst_level=job.worst_level, cards=cards)
    write = partial(write_product, output=output, origin=origin)
    stored = space.store.write(path, job.key, write, partial(_ensure_held, space, job))
    return Made(
        category=category,
        path=stored.path,
        sha256=stored.sha256,
        size=stored.size,
        changed_ns=space.store.changed_ns(path),
        quality=output.quality,
        cards={name: value for name, (value, _) in output.cards.items()},
    )
