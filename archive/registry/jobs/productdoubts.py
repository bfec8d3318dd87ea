"""Doubts about products: what their recipes warned of."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, bindparam, delete, insert, select

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.frames.keywords import storable
from ccdflow.archive.registry.tables import ProductDoubtRow, table
from ccdflow.cascade.records import Doubt

_COLUMNS = table(ProductDoubtRow).c
_FORGET = delete(table(ProductDoubtRow)).where(_COLUMNS.product_id == bindparam("its_id"))
_INSERT = insert(table(ProductDoubtRow))


def keep_product_doubts(connection: Connection, product: int, doubts: Sequence[Doubt]) -> None:
    """Write the doubts about a product in place of those that it had.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    product : int
        Its id.
    doubts : sequence of Doubt
        All that there are now.
    """
    connection.execute(_FORGET, {"its_id": product})
    rows = [
        {"product_id": product, "position": position, "kind": doubt.kind, "text": storable(doubt.text)}
        for position, doubt in enumerate(doubts)
    ]
    if rows:
        connection.execute(_INSERT, rows)


def find_product_doubts(connection: Connection, products: Collection[int]) -> dict[int, tuple[Doubt, ...]]:
    """Return the doubts about products.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    products : collection of int
        Their ids.

    Returns
    -------
    dict of int to tuple of Doubt
        By id; products without any are left out.
    """
    doubts: dict[int, list[Doubt]] = defaultdict(list)
    columns = select(ProductDoubtRow.product_id, ProductDoubtRow.kind, ProductDoubtRow.text)
    columns = columns.order_by(ProductDoubtRow.product_id, ProductDoubtRow.position)
    for ids in batches(sorted(set(products))):
        for product, kind, sentence in connection.execute(columns.where(ProductDoubtRow.product_id.in_(ids))):
            doubts[product].append(Doubt(kind, sentence))
    return {product: tuple(own) for product, own in doubts.items()}
