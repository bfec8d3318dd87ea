"""Whether the store of a project is there: by its mark, which has to name the registry's archive."""

from collections.abc import Sequence

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.identity import archive_id, keep_archive_id
from ccdflow.archive.registry.jobs.stock import StockRow, sample_of_stock
from ccdflow.archive.store import Store
from ccdflow.archive.storemark import MARK, StoreAwayError, holds_products, read_mark, write_mark

SAMPLE = 20
"""Products whose files are looked for in a store that bears no mark yet."""
SHORT = 8
"""Digits of an id that are shown."""


def find_store(registry: Registry, store: Store) -> None:
    """Make sure that the store is there; a question goes no further where it isn't.

    Parameters
    ----------
    registry : Registry
        The registry.
    store : Store
        The store that the project names.

    Raises
    ------
    StoreAwayError
        If it is not there: what was found, what was wanted, and how to say that this is the store.
    """
    _own_id(registry, store)


def claim_store(registry: Registry, store: Store) -> None:
    """Make sure that the store is there, and mark one that bears no mark yet and may be taken for the project's.

    Parameters
    ----------
    registry : Registry
        The registry.
    store : Store
        The store that the project names.

    Raises
    ------
    StoreAwayError
        As `find_store`.
    """
    if not _own_id(registry, store):
        # The mark of a store that is taken over stays, so that a registry which knew it before still does.
        mark = read_mark(store.root)
        own = registry.write(keep_archive_id, mark)
        if mark != own:
            write_mark(store.root, own)


def _own_id(registry: Registry, store: Store) -> str:
    """The id of the archive, whose store is there; empty where the registry has none, and the store may be taken."""
    own, mark = registry.read(archive_id), read_mark(store.root)
    if own and mark != own:
        raise StoreAwayError(_away(store, own, mark))
    # A project of before there were marks, or one in which nothing was made yet.
    if not own and (problem := _not_taken(registry.read(sample_of_stock, SAMPLE), store, mark)):
        raise StoreAwayError(problem)
    return own


def adopt_store(registry: Registry, store: Store) -> str:
    """Mark the folder as the project's store because somebody says that it is.

    Parameters
    ----------
    registry : Registry
        The registry.
    store : Store
        The store that the project names; its folder is made if it isn't there.

    Returns
    -------
    str
        The archive's id.
    """
    own = registry.write(keep_archive_id, read_mark(store.root))
    write_mark(store.root, own)
    return own


def _away(store: Store, own: str, mark: str) -> str:
    """What is wrong with a store whose archive is known."""
    if store.root.is_symlink() and not store.root.exists():
        seen = f"it is a link to {store.root.readlink()}, which is not there"
    elif not store.root.is_dir():
        seen = "there is no such folder"
    elif mark:
        seen = f"the folder is the store of another archive, {mark[:SHORT]}"
    else:
        seen = f"the folder bears no mark ({MARK})"
    return _sentence(store, f"{seen}, wanted the store of archive {own[:SHORT]}")


def _not_taken(sample: Sequence[StockRow], store: Store, mark: str) -> str:
    """Why a store can't be taken for that of a registry which knows no archive's id yet; empty where it can."""
    if sample:
        there = sum(store.intact(row.path, row.size) for row in sample)
        # Files that are there prove more than a mark: half, since somebody may have deleted some.
        if 2 * there >= len(sample):
            return ""
        return _sentence(store, f"{there} of {len(sample)} products of the registry were found in it")
    # A new project: what an earlier one has left is its own, unless it never made anything.
    if mark and holds_products(store.root):
        return _sentence(
            store, f"the folder is the store of another archive, {mark[:SHORT]}, and holds its products"
        )
    return ""


def _sentence(store: Store, reason: str) -> str:
    return (
        f"the store {store.root} is not there: {reason}. Is its disk mounted, and 'store' in ccdflow.yaml right? "
        "If this is the store, 'ccdflow adopt' says so"
    )
