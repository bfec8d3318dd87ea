"""Products as the registry knows them, with their quality numbers, and as rows for people."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, select

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.conditions import is_of_camera, since_night
from ccdflow.archive.registry.jobs.productdoubts import find_product_doubts
from ccdflow.archive.registry.jobs.records import JobFilter, find_jobs
from ccdflow.archive.registry.selection import (
    refuse_state,
    refuse_unknown,
    refuse_unknown_category,
    settle,
)
from ccdflow.archive.registry.tables import ProductQualityRow, ProductRow
from ccdflow.cascade.planning.jobs import JobInput

ProductState = Literal["planned", "done", "missing"]


@dataclass(frozen=True)
class ProductRecord:
    """A product as the registry knows it.

    `path` is relative to the store, `size` in bytes, `changed_ns` the time of the file's last change in nanoseconds
    since 1970-01-01 UTC, `exptime` in seconds. `superseded_by` is the id of the product that has taken its place,
    `unwanted` is true while it is to be made again though its file is there.
    """

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
    unwanted: bool = False
    quality: Mapping[str, float | None] = field(default_factory=dict)


_COLUMNS = [getattr(ProductRow, name) for name in ProductRecord.__annotations__ if name != "quality"]


@dataclass(frozen=True)
class ProductFilter:
    """Which products are asked for; what is None does not matter.

    `camera` is CAMERA or TELESCOPE/CAMERA, `from_night` the earliest night: products of frames of several nights are
    always among them. `strict` is False where night, camera and category come from the registry or the clock: that
    nothing is of them is no mistake then.
    """

    states: Collection[str] | None = ("done",)
    category: str | None = None
    night: str | None = None
    camera: str | None = None
    job_keys: Collection[str] | None = None
    ids: Collection[int] | None = None
    from_night: str | None = None
    strict: bool = True

    def __post_init__(self) -> None:
        """Take ids, texts and dates of any type."""
        settle(self, {"ids": "p"}, ("states", "job_keys"))
        refuse_state("state", self.states, STATES)


STATES = ("planned", "done", "missing")
"""Every state that a product may have."""
ALL_PRODUCTS = ProductFilter()
"""Selects every product that is there."""


def find_product(connection: Connection, identity: int) -> ProductRecord | None:
    """Return one product in whatever state.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    identity : int
        Its id.

    Returns
    -------
    ProductRecord or None
        None where there is no such product.
    """
    return next(iter(find_products(connection, ProductFilter(states=None, ids=[identity]))), None)


def outputs_of(connection: Connection, key: str) -> list[ProductRecord]:
    """Return the products of a job, in whatever state.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    key : str
        The job's key.

    Returns
    -------
    list of ProductRecord
        The products, by id.
    """
    return find_products(connection, ProductFilter(states=None, job_keys=[key]))


def find_products(connection: Connection, wanted: ProductFilter = ALL_PRODUCTS) -> list[ProductRecord]:
    """Return the products that a filter selects, each with its quality numbers.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : ProductFilter
        Which products.

    Returns
    -------
    list of ProductRecord
        The products, by id.
    """
    tests = _tests(wanted)
    products: list[ProductRecord] = []
    for narrower in _narrowed(wanted):
        products += _read(connection, [*tests, *narrower])
    if not products and wanted.strict:
        refuse_unknown(connection, wanted.night, wanted.camera)
        if wanted.category is not None:
            refuse_unknown_category(connection, wanted.category)
    return sorted(products, key=lambda product: product.id)


def current_ids(connection: Connection, wanted: ProductFilter = ALL_PRODUCTS) -> list[tuple[int, str]]:
    """Return the products that no others have superseded, by id and key alone: a night may have tens of thousands.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : ProductFilter
        Which products.

    Returns
    -------
    list of tuple of int and str
        Id and key of the job of each, by time.
    """
    tests = [*_tests(wanted), ProductRow.superseded_by.is_(None)]
    columns = select(ProductRow.obsdate, ProductRow.id, ProductRow.job_key)
    rows: list[tuple[str, int, str]] = []
    for narrower in _narrowed(wanted):
        rows += [
            (time, number, key) for time, number, key in connection.execute(columns.where(*tests, *narrower))
        ]
    return [(number, key) for _, number, key in sorted(rows)]


def _tests(wanted: ProductFilter) -> list[ColumnElement[bool]]:
    """Conditions of all that a filter names, but for ids and keys."""
    tests: list[ColumnElement[bool]] = []
    if wanted.states is not None:
        tests.append(ProductRow.state.in_(wanted.states))
    if wanted.category is not None:
        tests.append(ProductRow.category == wanted.category)
    if wanted.night is not None:
        tests.append(ProductRow.night == wanted.night)
    if wanted.from_night is not None:
        tests.append(since_night(ProductRow, wanted.from_night))
    if wanted.camera is not None:
        tests.append(is_of_camera(ProductRow, wanted.camera))
    return tests


def _narrowed(wanted: ProductFilter) -> list[list[ColumnElement[bool]]]:
    """Further conditions: of one statement or, for many ids or keys, of several."""
    if wanted.ids is not None:
        return [[ProductRow.id.in_(ids)] for ids in batches(sorted(set(wanted.ids)))]
    if wanted.job_keys is not None:
        return [[ProductRow.job_key.in_(keys)] for keys in batches(sorted(set(wanted.job_keys)))]
    return [[]]


def _read(connection: Connection, tests: Sequence[ColumnElement[bool]]) -> list[ProductRecord]:
    # Quality numbers in a statement of their own, as the inputs of jobs.
    quality: dict[int, dict[str, float | None]] = {}
    columns = select(ProductQualityRow.product_id, ProductQualityRow.name, ProductQualityRow.value)
    of_products = ProductQualityRow.product_id.in_(select(ProductRow.id).where(*tests))
    for product, name, value in connection.execute(
        columns.where(of_products).order_by(ProductQualityRow.name)
    ):
        quality.setdefault(product, {})[name] = value
    rows = connection.execute(select(*_COLUMNS).where(*tests))
    return [ProductRecord(*[*row, quality.get(row[0], {})]) for row in rows]


def list_products(connection: Connection, wanted: ProductFilter = ALL_PRODUCTS) -> list[dict[str, Any]]:
    """Return products as JSON has them: with the inputs of their jobs.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : ProductFilter
        Which products.

    Returns
    -------
    list of dict of str to object
        A row for each product, by id.
    """
    # Few questions for all, not as many for each product.
    products = find_products(connection, wanted)
    doubts = find_product_doubts(connection, [product.id for product in products])
    jobs = find_jobs(connection, JobFilter(keys={product.job_key for product in products}))
    # SQLite lets other programs delete a job and leave what it made.
    inputs = {job.key: job.inputs for job in jobs}
    return [
        {
            "id": product.id,
            "category": product.category,
            "path": product.path,
            "sha256": product.sha256,
            "size": product.size,
            "state": product.state,
            "job": product.job_key,
            "night": product.night,
            "telescope": product.telescope,
            "camera": product.camera,
            "instrument": product.instrument,
            "filter": product.filter,
            "object": product.object,
            "exptime": product.exptime,
            "obsdate": product.obsdate,
            "inputs": [_input_row(taken) for taken in inputs.get(product.job_key, ())],
            "superseded_by": product.superseded_by,
            "quality": dict(product.quality),
            "doubts": [str(doubt) for doubt in doubts.get(product.id, ())],
        }
        for product in products
    ]


def _input_row(taken: JobInput) -> dict[str, Any]:
    """An input as JSON has it: without what does not apply."""
    return {name: value for name, value in asdict(taken).items() if value not in (None, "")}


def superseded_keys(connection: Connection) -> set[str]:
    """Return the keys of the jobs of which a product gave way to another's.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.

    Returns
    -------
    set of str
        The keys.
    """
    keys = select(ProductRow.job_key).where(ProductRow.superseded_by.is_not(None))
    return set(connection.execute(keys).scalars())
