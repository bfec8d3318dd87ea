"""The store held against the registry, every byte of it: what is whole, missing, damaged, back, or none of ours."""

from collections.abc import Sequence
from dataclasses import dataclass

from ccdflow.archive.registry.jobs.products import ProductFilter, ProductRecord, find_products
from ccdflow.archive.store import FileCheck
from ccdflow.tasks.keeping.stock import Stock, look, note, refuse_much
from ccdflow.tasks.workspace import Workspace


@dataclass(frozen=True)
class Audit:
    """What was found: a check of each product that should be there, what is back, and files that are none of ours.

    `back` are products that counted as missing and are there as they were written.
    """

    checks: Sequence[FileCheck]
    back: Sequence[ProductRecord]
    foreign: Sequence[str]
    stock: Stock

    @property
    def problems(self) -> list[FileCheck]:
        """The checks of files that are missing or damaged."""
        return [check for check in self.checks if check.state != "ok"]


def audit(space: Workspace) -> Audit:
    """Read the files of all products, and look for those that no product owns. Nothing is changed.

    Parameters
    ----------
    space : Workspace
        The project.

    Returns
    -------
    Audit
        What was found.

    Raises
    ------
    StoreAwayError
        If the store is not there.
    """
    space.find_store()
    products = {product.id: product for product in space.registry.read(find_products, ProductFilter(None))}
    done = [product for product in products.values() if product.state == "done"]
    checks = list(space.store.verify(done))
    seen = look(space, superseded=True)
    unsound = {check.product: check.state for check in checks if check.state != "ok"}
    # A look reads only what was changed since it was written; the checks have read all.
    rows = {row.id: row for row in seen.rows}
    away = [rows[product] for product, state in unsound.items() if state == "missing" and product in rows]
    damaged = [rows[product] for product, state in unsound.items() if state == "damaged" and product in rows]
    stock = Stock(seen.number, away, damaged, seen.back, seen.touched, seen.back_keys, seen.rows)
    known = [product.path for product in done]
    # What is to be made again at somebody's wish stays until it is replaced.
    known += [product.path for product in products.values() if product.unwanted]
    known += [products[product].path for product in seen.back]
    foreign = space.store.foreign(known)
    return Audit(checks, [products[product] for product in seen.back], foreign, stock)


def repair(space: Workspace, found: Audit, *, gone: bool = False) -> None:
    """Note what was found: what is gone or damaged is made again, what is back counts again.

    Parameters
    ----------
    space : Workspace
        The project.
    found : Audit
        What was found.
    gone : bool
        Whether somebody says that files which are away are really gone, however many they are.

    Raises
    ------
    StoreAwayError
        If the store, or much of it, is not there. Then nothing is noted.
    """
    space.claim_store()
    if not gone:
        refuse_much(space, found.stock)
    note(space, found.stock)
