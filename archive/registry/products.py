"""Products: what jobs made, with quality numbers."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import Connection, Update, bindparam, delete, or_, select, update

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames import batches, replace_rows
from ccdflow.archive.registry.jobs import JobFilter, find_jobs, input_row
from ccdflow.archive.registry.leases import LeaseLostError, held_job
from ccdflow.archive.registry.tables import (
    FrameSetRow,
    JobRow,
    ProductQualityRow,
    ProductRow,
    table,
)

ProductState = Literal["planned", "done", "missing"]

_MANY = 5000


@dataclass(frozen=True)
class Made:
    """A product's file as a worker has written it.

    `path` is relative to the store, `changed_ns` when the file was last changed (ctime, in nanoseconds since
    1970-01-01 UTC), `quality` its quality numbers, `cards` what the recipe adds to the header (keyword to
    value). `exptime` and `obsdate`, where given, replace what was planned.
    """

    category: str
    path: str
    sha256: str
    size: int
    changed_ns: int | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    cards: Mapping[str, Any] = field(default_factory=dict)
    exptime: float | None = None
    obsdate: str | None = None


@dataclass(frozen=True)
class ProductRecord:
    """A product as the registry knows it; `path` is relative to the store."""

    id: int
    job_key: str
    category: str
    path: str
    sha256: str | None
    size: int | None
    changed_ns: int | None
    state: ProductState
    night: str
    telescope: str
    camera: str
    instrument: str
    filter: str
    object: str
    exptime: float | None
    obsdate: str
    cards: Mapping[str, Any] | None
    superseded_by: int | None = None
    quality: Mapping[str, float | None] = field(default_factory=dict)


_COLUMNS = [getattr(ProductRow, name) for name in ProductRecord.__annotations__ if name != "quality"]


@dataclass(frozen=True)
class ProductFilter:
    """Which products; what is None does not matter. `from_night` is the earliest."""

    states: Collection[str] | None = ("done",)
    category: str | None = None
    night: str | None = None
    camera: str | None = None
    job_keys: Collection[str] | None = None
    ids: Collection[int] | None = None
    from_night: str | None = None


ALL_PRODUCTS = ProductFilter()
"""Selects every product that is there."""

_PLACE = ("night", "telescope", "camera", "instrument", "filter", "object")


def finish_job(connection: Connection, key: str, owner: str, made: Sequence[Made]) -> list[int]:
    """Record what a job made; gives the products' ids in the order of `made`."""
    done = {"state": "done", "reason": "", "finished_at": now(), "heartbeat": None}
    job = held_job(connection, key, owner, done, (*_PLACE, "set_id"))
    if job is None:
        raise LeaseLostError(f"job {key[:8]} is not {owner}'s any more: what it made does not count")
    rows = connection.execute(_PRODUCTS_OF, {"its_key": key}).all()
    known = {category: identity for category, identity, _ in rows}
    place = dict(zip(_PLACE, job[:-1], strict=True)) | {"job_key": key}
    ids = [_finish_product(connection, known.get(one.category), place, one) for one in made]
    left_out = [identity for _, identity, state in rows if state == "planned" and identity not in ids]
    if left_out:
        connection.execute(delete(ProductRow).where(ProductRow.id.in_(left_out)))
    if job.set_id is not None and ids:
        connection.execute(update(FrameSetRow).where(FrameSetRow.id == job.set_id).values(product_id=ids[0]))
    return ids


_PRODUCT, _QUALITY = table(ProductRow).c, table(ProductQualityRow).c
_PRODUCTS_OF = select(_PRODUCT.category, _PRODUCT.id, _PRODUCT.state).where(
    _PRODUCT.job_key == bindparam("its_key")
)
_FORGET_QUALITY = table(ProductQualityRow).delete().where(_QUALITY.product_id == bindparam("its_id"))


@lru_cache
def _updating(*names: str) -> Update:
    """The statement that changes these columns of a product."""
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    return table(ProductRow).update().where(_PRODUCT.id == bindparam("its_id")).values(values)


def _finish_product(
    connection: Connection, identity: int | None, place: Mapping[str, str], made: Made
) -> int:
    if identity is None:
        row = {**place, "category": made.category, "path": made.path}
        identity = connection.execute(
            table(ProductRow).insert().values(row).returning(_PRODUCT.id)
        ).scalar_one()
    values = {
        "path": made.path,
        "sha256": made.sha256,
        "size": made.size,
        "changed_ns": made.changed_ns,
        "state": "done",
        "cards": dict(made.cards),
    }
    values |= {} if made.exptime is None else {"exptime": made.exptime}
    values |= {} if made.obsdate is None else {"obsdate": made.obsdate}
    connection.execute(_updating(*values), {"its_id": identity, **values})
    connection.execute(_FORGET_QUALITY, {"its_id": identity})
    rows = [
        {"product_id": identity, "name": name, "value": float(value) if math.isfinite(value) else None}
        for name, value in made.quality.items()
    ]
    replace_rows(connection, table(ProductQualityRow), rows)
    return int(identity)


def lose_products(connection: Connection, ids: Collection[int], reason: str) -> int:
    """Products whose file is gone or damaged: their jobs are to be done again. Gives how many jobs."""
    reopened = 0
    for some in batches(ids, _MANY):
        lost = ProductRow.id.in_(some), ProductRow.state == "done"
        keys = connection.execute(select(ProductRow.job_key).where(*lost).distinct()).scalars().all()
        connection.execute(update(ProductRow).where(*lost).values(state="missing"))
        again = update(JobRow).where(JobRow.key.in_(keys), JobRow.state == "done")
        connection.execute(again.values(state="planned", reason=reason, owner=""))
        reopened += len(keys)
    return reopened


def touch_products(connection: Connection, changed: Mapping[int, int]) -> None:
    """Note when files that were found intact were last changed, by product."""
    for identity, changed_ns in changed.items():
        found = update(ProductRow).where(ProductRow.id == identity).values(changed_ns=changed_ns)
        connection.execute(found)


def find_product(connection: Connection, identity: int) -> ProductRecord | None:
    """One product in whatever state; None where there is none."""
    return next(iter(find_products(connection, ProductFilter(states=None, ids=[identity]))), None)


def outputs_of(connection: Connection, key: str) -> list[ProductRecord]:
    """The products of a job, there or planned."""
    return find_products(connection, ProductFilter(states=None, job_keys=[key]))


def find_products(connection: Connection, wanted: ProductFilter = ALL_PRODUCTS) -> list[ProductRecord]:
    """The products that `wanted` selects, by id."""
    tests: list[Any] = []
    if wanted.states is not None:
        tests.append(ProductRow.state.in_(wanted.states))
    if wanted.category is not None:
        tests.append(ProductRow.category == wanted.category)
    if wanted.night is not None:
        tests.append(ProductRow.night == wanted.night)
    if wanted.from_night is not None:
        tests.append(or_(ProductRow.night >= wanted.from_night, ProductRow.night == ""))
    if wanted.camera is not None:
        telescope, _, camera = wanted.camera.rpartition("/")
        tests.append(
            (ProductRow.camera == wanted.camera)
            | ((ProductRow.telescope == telescope) & (ProductRow.camera == camera))
        )
    found: list[ProductRecord] = []
    for some in _narrowed(wanted):
        found += _read(connection, [*tests, *some])
    return sorted(found, key=lambda one: one.id)


def _narrowed(wanted: ProductFilter) -> list[list[Any]]:
    """Conditions of one statement or, for many ids or keys, of several."""
    if wanted.ids is not None:
        return [[ProductRow.id.in_(some)] for some in batches(sorted(set(wanted.ids)), _MANY)]
    if wanted.job_keys is not None:
        return [[ProductRow.job_key.in_(some)] for some in batches(sorted(set(wanted.job_keys)), _MANY)]
    return [[]]


def _read(connection: Connection, tests: Sequence[Any]) -> list[ProductRecord]:
    quality: dict[int, dict[str, float | None]] = {}
    of = select(ProductRow.id).where(*tests)
    columns = select(ProductQualityRow.product_id, ProductQualityRow.name, ProductQualityRow.value)
    statement = columns.where(ProductQualityRow.product_id.in_(of)).order_by(ProductQualityRow.name)
    for product, name, value in connection.execute(statement):
        quality.setdefault(product, {})[name] = value
    rows = connection.execute(select(*_COLUMNS).where(*tests))
    return [ProductRecord(*[*row, quality.get(row[0], {})]) for row in rows]


def list_products(connection: Connection, wanted: ProductFilter = ALL_PRODUCTS) -> list[dict[str, Any]]:
    """Products as JSON has them: with the inputs of their jobs."""
    found = find_products(connection, wanted)
    by_key = {job.key: job for job in find_jobs(connection, JobFilter(keys={one.job_key for one in found}))}
    return [
        {
            "id": one.id,
            "category": one.category,
            "path": one.path,
            "sha256": one.sha256,
            "size": one.size,
            "state": one.state,
            "job": one.job_key,
            "night": one.night,
            "telescope": one.telescope,
            "camera": one.camera,
            "instrument": one.instrument,
            "filter": one.filter,
            "object": one.object,
            "exptime": one.exptime,
            "obsdate": one.obsdate,
            "inputs": [input_row(each) for each in by_key[one.job_key].inputs],
            "superseded_by": one.superseded_by,
            "quality": dict(one.quality),
        }
        for one in found
    ]


def supersede_products(connection: Connection, successors: Mapping[str, str]) -> int:
    """Mark what jobs made as superseded by what others made, category by category; gives how many were marked.

    What the others made is marked no longer.
    """
    made: dict[tuple[str, str], int] = {}
    for some in batches(sorted({*successors, *successors.values()}), _MANY):
        rows = select(ProductRow.job_key, ProductRow.category, ProductRow.id).where(
            ProductRow.job_key.in_(some)
        )
        made |= {(key, category): identity for key, category, identity in connection.execute(rows)}
    new = {one for one in successors.values()}
    values = [
        {"its_id": identity, "by": made.get((successors.get(key, ""), category))}
        for (key, category), identity in made.items()
        if key in new or (successors[key], category) in made
    ]
    for one in values:
        marked = update(ProductRow).where(ProductRow.id == one["its_id"]).values(superseded_by=one["by"])
        connection.execute(marked)
    return sum(one["by"] is not None for one in values)


def superseded_keys(connection: Connection) -> set[str]:
    """Keys of the jobs whose products were marked as superseded."""
    return set(
        connection.execute(select(ProductRow.job_key).where(ProductRow.superseded_by.is_not(None))).scalars()
    )
