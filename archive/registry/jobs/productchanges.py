"""What becomes of products: they are made, lost, touched, and give way to others."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Update, bindparam, delete, select, update

from ccdflow.archive.registry.bulk import batches, replace_rows
from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.jobs.leases import change_and_read_held, lost
from ccdflow.archive.registry.jobs.productdoubts import keep_product_doubts
from ccdflow.archive.registry.jobs.records import SHARED_WITH_PRODUCTS
from ccdflow.archive.registry.tables import FrameSetRow, JobRow, ProductQualityRow, ProductRow, table
from ccdflow.cascade.headers.doubts import REMADE
from ccdflow.cascade.records import Doubt


@dataclass(frozen=True)
class Made:
    """A product's file as a worker has written it.

    `path` is relative to the store, `size` in bytes, `changed_ns` when the file was last changed (ctime, in nanoseconds
    since 1970-01-01 UTC), `quality` its quality numbers, `cards` what the recipe adds to the header (keyword to value).
    `exptime` (seconds) and `obsdate`, where given, replace what was planned. `doubts` are what its recipe warned of.
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
    doubts: tuple[Doubt, ...] = ()


def finish_job(
    connection: Connection, key: str, owner: str, files: Sequence[Made], reason: str = "", software: str = ""
) -> list[int]:
    """Record that a job is done, and what it has made.

    Planned products that it has left out are deleted; products that were not planned are added.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    key : str
        The job.
    owner : str
        Who has done it.
    files : sequence of Made
        The products' files. The first is that of the job's set, where it has one. A job may be done without any, where
        its main inputs pass as they are.
    reason : str
        Which main inputs it has left out, and why.
    software : str
        Names and versions of the programs that did it.

    Returns
    -------
    list of int
        Ids of the products, in the order of `files`.

    Raises
    ------
    LeaseLostError
        If the job is no longer this owner's; then nothing is recorded.
    """
    done = {"state": "done", "reason": reason, "finished_at": now(), "heartbeat": None, "software": software}
    job = change_and_read_held(connection, key, owner, done, (*SHARED_WITH_PRODUCTS, "set_id"))
    if job is None:
        raise lost(key, owner)
    planned = connection.execute(_PRODUCTS_OF, {"its_key": key}).all()
    by_category = {category: identity for category, identity, *_ in planned}
    before = {category: sha256 for category, *_, sha256 in planned if sha256}
    files = [_compared(file, before.get(file.category, "")) for file in files]
    shared = dict(zip(SHARED_WITH_PRODUCTS, job[:-1], strict=True)) | {"job_key": key}
    ids = [_finish_product(connection, by_category.get(file.category), shared, file) for file in files]
    # Only planned rows: one that is there from an earlier time may be the input of another job.
    left_out = [identity for _, identity, state, _ in planned if state == "planned" and identity not in ids]
    if left_out:
        connection.execute(delete(ProductRow).where(ProductRow.id.in_(left_out)))
    if job.set_id is not None and ids:
        connection.execute(update(FrameSetRow).where(FrameSetRow.id == job.set_id).values(product_id=ids[0]))
    return ids


_PRODUCT, _QUALITY = table(ProductRow).c, table(ProductQualityRow).c
_PRODUCTS_OF = select(_PRODUCT.category, _PRODUCT.id, _PRODUCT.state, _PRODUCT.sha256).where(
    _PRODUCT.job_key == bindparam("its_key")
)
_FORGET_QUALITY = table(ProductQualityRow).delete().where(_QUALITY.product_id == bindparam("its_id"))


def _compared(file: Made, before: str) -> Made:
    """The file of a product; with a doubt where the same work gave another content before."""
    if before in ("", file.sha256):
        return file
    told = f"made again, it has another content: sha256 {file.sha256[:16]}, before {before[:16]}"
    return replace(file, doubts=(*file.doubts, Doubt(REMADE, told)))


@lru_cache
def _updating(*names: str) -> Update:
    """The statement that changes these columns of a product."""
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    return table(ProductRow).update().where(_PRODUCT.id == bindparam("its_id")).values(values)


def _finish_product(
    connection: Connection, identity: int | None, shared: Mapping[str, str], file: Made
) -> int:
    """Write a product that is there now: over its planned row, or as a new one where none was planned."""
    if identity is None:
        row = {**shared, "category": file.category, "path": file.path}
        inserting = table(ProductRow).insert().values(row).returning(_PRODUCT.id)
        identity = connection.execute(inserting).scalar_one()
    values = {
        "path": file.path,
        "sha256": file.sha256,
        "size": file.size,
        "changed_ns": file.changed_ns,
        "state": "done",
        "unwanted": False,
        "cards": dict(file.cards),
    }
    values |= {} if file.exptime is None else {"exptime": file.exptime}
    values |= {} if file.obsdate is None else {"obsdate": file.obsdate}
    connection.execute(_updating(*values), {"its_id": identity, **values})
    # A product that is made a second time keeps its id, and nothing of what was measured on the first.
    connection.execute(_FORGET_QUALITY, {"its_id": identity})
    rows = [
        {"product_id": identity, "name": name, "value": float(value) if math.isfinite(value) else None}
        for name, value in file.quality.items()
    ]
    replace_rows(connection, table(ProductQualityRow), rows)
    keep_product_doubts(connection, identity, file.doubts)
    return int(identity)


def lose_products(
    connection: Connection, ids: Collection[int], reason: str, *, unwanted: bool = False
) -> int:
    """Record that files of products are gone or damaged, so that their jobs are done again.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    ids : collection of int
        Ids of the products; those that are not there anyhow stay as they are.
    reason : str
        What is wrong, in one sentence.
    unwanted : bool
        Whether they are to be made again though their files are there.

    Returns
    -------
    int
        How many jobs made them.
    """
    reopened = 0
    for part in batches(ids):
        lost_ones = ProductRow.id.in_(part), ProductRow.state == "done"
        keys = connection.execute(select(ProductRow.job_key).where(*lost_ones).distinct()).scalars().all()
        connection.execute(update(ProductRow).where(*lost_ones).values(state="missing", unwanted=unwanted))
        # Only jobs that are done: one that runs makes its products anyhow.
        jobs = update(JobRow).where(JobRow.key.in_(keys), JobRow.state == "done")
        connection.execute(jobs.values(state="planned", reason=reason, owner=""))
        reopened += len(keys)
    return reopened


def touch_products(connection: Connection, changed: Mapping[int, int]) -> None:
    """Note when files were last changed that are intact nevertheless, so that they need not be read once more.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    changed : mapping of int to int
        By id of a product, the time of its file's last change in nanoseconds since 1970-01-01 UTC.
    """
    for identity, changed_ns in changed.items():
        product = update(ProductRow).where(ProductRow.id == identity)
        connection.execute(product.values(changed_ns=changed_ns))


def supersede_products(connection: Connection, successors: Mapping[str, str]) -> int:
    """Mark what jobs made as superseded by what other jobs made, category by category.

    What the others made is marked no longer, so that of two jobs the one that was done last may be either.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    successors : mapping of str to str
        By key of a job, the key of the one that takes its place. A product of whose category that one makes none stays
        as it is.

    Returns
    -------
    int
        How many products are marked.
    """
    known: dict[tuple[str, str], int] = {}
    columns = select(ProductRow.job_key, ProductRow.category, ProductRow.id)
    for keys in batches(sorted({*successors, *successors.values()})):
        rows = connection.execute(columns.where(ProductRow.job_key.in_(keys)))
        known |= {(key, category): identity for key, category, identity in rows}
    # Both sides in one go. Products of the new jobs get no successor, as if they had never been superseded; those of
    # the old ones get the product of the same category, where the new job has one.
    new = set(successors.values())
    marks = {
        identity: known.get((successors.get(key, ""), category))
        for (key, category), identity in known.items()
        if key in new or (successors[key], category) in known
    }
    for identity, successor in marks.items():
        product = update(ProductRow).where(ProductRow.id == identity)
        connection.execute(product.values(superseded_by=successor))
    return sum(successor is not None for successor in marks.values())
