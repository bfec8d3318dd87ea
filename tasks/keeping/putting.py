"""Objects that people have made are kept as products: found, read, handed on and explained as those of recipes."""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from ccdflow.archive.fits.productheader import InputNote, Origin
from ccdflow.archive.fits.writer import HashingFile, Sink
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames
from ccdflow.archive.registry.jobs.leases import claim, this_owner
from ccdflow.archive.registry.jobs.lifecycle import plan_jobs
from ccdflow.archive.registry.jobs.lineage import main_frames
from ccdflow.archive.registry.jobs.planned import PlannedJob
from ccdflow.archive.registry.jobs.productchanges import Made, finish_job
from ccdflow.archive.registry.jobs.products import ProductFilter, find_products
from ccdflow.archive.search.formats import Format, format_of
from ccdflow.archive.store import ProductLocation
from ccdflow.cascade.plain import ids, is_id
from ccdflow.cascade.planning.jobs import Group, JobInput, frame_identity, json_text
from ccdflow.cascade.records import CATEGORY, FrameRecord
from ccdflow.tasks.provenance.process import process_notes
from ccdflow.tasks.provenance.software import in_words, software
from ccdflow.tasks.rounds import LOCATION_COLUMNS
from ccdflow.tasks.workspace import Workspace

PUT, VERSION = "put", "1"
"""Name and version of what stands for a recipe."""
LEASE_S = 600.0


def put_object(
    space: Workspace,
    value: object,
    category: str,
    inputs: Sequence[str] = (),
    *,
    name: str = "",
    form: str = "",
    parameters: Mapping[str, Any] | None = None,
) -> int:
    """Keep an object as a product.

    Parameters
    ----------
    space : Workspace
        The project.
    value : object
        A `CCDData`, table, text, what JSON holds, or of a form that others have added.
    category : str
        What it is, in a word of one's own: ``a_z``, digits and ``_``.
    inputs : sequence of str
        Frames (``f12``) and products (``p7``) that it was made of; the first tells night, camera, object.
    name : str
        What the file is called; blank for its category.
    form : str
        In which form it is kept; blank for the first that takes it.
    parameters : mapping, optional
        By what it was made, as JSON can hold it.

    Returns
    -------
    int
        Id of the product. The same object of the same inputs is there once.

    Raises
    ------
    ValueError
        If the category is a recipe's, an input is not there, or no form takes the object.
    """
    _check_category(space, category)
    kept, taken = format_of(value, form), _taken(space, inputs)
    told = {key: {"value": given, "origin": "request"} for key, given in (parameters or {}).items()}
    notes = [note for note, _ in taken]
    origin = Origin("", PUT, VERSION, notes, task=PUT, cards={CATEGORY: (category, "what this product is")})
    identity = {
        "category": category,
        "content": _digest(kept, value, origin),
        "inputs": [note.identity for note in notes],
        "parameters": dict(parameters or {}),
    }
    key = hashlib.sha256(json_text(identity).encode()).hexdigest()
    done = space.registry.read(find_products, ProductFilter(job_keys=[key]))
    if done:
        return done[0].id
    space.claim_store()
    row = _row(space, key, (category, name or category, kept.suffix), [part for _, part in taken], told)
    whole = replace(origin, key=key, creator=f"ccdflow {software()['ccdflow']}", process=process_notes(told))
    return _written(space, row, lambda stream: kept.write(value, stream, whole))


def _check_category(space: Workspace, category: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", category):
        raise ValueError(f"category {category!r} is none: wanted letters a to z, digits and _")
    made_by = next((name for name, recipe in space.recipes.items() if category in recipe.outputs), None)
    if made_by is not None:
        raise ValueError(f"{category!r} is what recipe {made_by!r} makes; wanted a word of your own")


def _taken(space: Workspace, names: Sequence[str]) -> list[tuple[InputNote, JobInput]]:
    """The frames and products that an object was made of, as a header and the registry name them."""
    taken = []
    for name in names:
        number = ids([name], name[:1]) if name[:1] in ("f", "p") and is_id(name[1:]) else ()
        found = _frame(space, number) if name[:1] == "f" else _product(space, number)
        if found is None:
            raise ValueError(f"there is no frame or product {name!r}; wanted f12 or p7")
        taken.append(found)
    return taken


def _frame(space: Workspace, number: Collection[int]) -> tuple[InputNote, JobInput] | None:
    frames = space.registry.read(find_frames, FrameFilter(ids=number, strict=False))
    if not frames:
        return None
    frame = frames[0]
    if frame.sha256 is None or frame.path is None:
        raise ValueError(f"f{frame.id} is a row without a file")
    note = InputNote("main", PurePosixPath(frame.path).name, frame.sha256)
    return note, JobInput("main", frame_identity(frame), frame=frame.id)


def _product(space: Workspace, number: Collection[int]) -> tuple[InputNote, JobInput] | None:
    products = space.registry.read(find_products, ProductFilter(ids=number))
    if not products:
        return None
    product = products[0]
    siblings = space.registry.read(find_products, ProductFilter(job_keys=[product.job_key]))
    # The first product of a job stands for it.
    is_first = product.id == min(one.id for one in siblings)
    identity = product.job_key if is_first else f"{product.job_key}:{product.category}"
    note = InputNote("main", PurePosixPath(product.path).name, identity, "product")
    return note, JobInput("main", identity, job=product.job_key)


def _digest(kept: Format, value: object, origin: Origin) -> str:
    with HashingFile(len) as content:
        kept.write(value, content, origin)
        return content.digest()


def _row(
    space: Workspace,
    key: str,
    file: tuple[str, str, str],
    inputs: Sequence[JobInput],
    parameters: Mapping[str, Mapping[str, Any]],
) -> PlannedJob:
    category, name, suffix = file
    frames = _behind(space, inputs)
    location: dict[str, Any] = {
        column: Group(frames).text(column) if frames else "" for column in LOCATION_COLUMNS
    }
    night, telescope, camera = (location[column] for column in ("night", "telescope", "camera"))
    where = ProductLocation(category, night, telescope, camera, name, key)
    path = PurePosixPath(space.store.path_for(where))
    return PlannedJob(
        key=key,
        step=PUT,
        recipe=PUT,
        version=VERSION,
        inputs=inputs,
        outputs=[(category, str(path.with_suffix(suffix)))],
        parameters=parameters,
        obsdate=frames[0].obsdate if frames else "",
        **location,
    )


def _behind(space: Workspace, inputs: Sequence[JobInput]) -> tuple[FrameRecord, ...]:
    """The raw frames behind the first input."""
    if not inputs:
        return ()
    first = inputs[0]
    numbers = [first.frame] if first.frame is not None else space.registry.read(main_frames, first.job or "")
    return tuple(space.registry.read(find_frames, FrameFilter(ids=numbers, strict=False)))


def _written(space: Workspace, row: PlannedJob, write: Callable[[Sink], None]) -> int:
    """Write the file and its rows: the job first, so that a file without rows is nobody's."""
    owner = this_owner()
    space.registry.write(plan_jobs, [row])
    if space.registry.write(claim, row.key, owner, LEASE_S) is None:
        raise ValueError(f"somebody else puts the same into the archive just now (job {row.key[:12]})")
    ((category, path),) = row.outputs
    stored = space.store.write(path, row.key, write)
    changed = space.store.changed_ns(path)
    made = Made(category, stored.path, stored.sha256, stored.size, changed)
    (number,) = space.registry.write(finish_job, row.key, owner, [made], software=in_words(software()))
    return int(number)
