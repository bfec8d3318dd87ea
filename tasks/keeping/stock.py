"""What of the products is in the store. Who asks only looks; who works also notes what is gone and what came back.

A product whose file is gone is made again. But where much is away at once a disk is missing rather than files, and
thousands of jobs would be the wrong answer: then there is one sentence, and nothing changes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from os.path import isdir
from typing import TYPE_CHECKING

from ccdflow.archive.registry.jobs.productchanges import lose_products, touch_products
from ccdflow.archive.registry.jobs.records import done_among, done_keys
from ccdflow.archive.registry.jobs.stock import StockRow, half_lost, regain_products, stock_rows
from ccdflow.archive.store import Store
from ccdflow.archive.storemark import StoreAwayError

if TYPE_CHECKING:
    from ccdflow.tasks.workspace import Workspace

MANY = 3
"""Files: so few may have been deleted by hand, whatever their share."""
SHARE = 1 / 3
"""Share of the products that are looked at, from which on much is away."""
GONE = "its product is gone from the store, or damaged"
"""Why a job is to be done again."""


@dataclass(frozen=True)
class Stock:
    """What a look at the files of products has shown.

    `number` products should be there. `away` have no file, `damaged` another content than they had. `back` are those
    that counted as missing and are there again, `touched` those that are whole though their files were changed: both
    by id, with the time of the last change (ctime, in nanoseconds). `rows` are all that were looked at.
    """

    number: int = 0
    away: list[StockRow] = field(default_factory=list)
    damaged: list[StockRow] = field(default_factory=list)
    back: dict[int, int] = field(default_factory=dict)
    touched: dict[int, int] = field(default_factory=dict)
    back_keys: frozenset[str] = frozenset()
    rows: tuple[StockRow, ...] = ()

    @property
    def lost_keys(self) -> set[str]:
        """Keys of the jobs whose products are to be made again."""
        return {row.job_key for row in (*self.away, *self.damaged)}


def look(
    space: "Workspace",
    from_night: str | None = None,
    keys: Collection[str] | None = None,
    *,
    superseded: bool = False,
) -> Stock:
    """Look at the files of all products; those that were not changed since they were written are not read.

    Parameters
    ----------
    space : Workspace
        The project.
    from_night : str, optional
        ISO date of the first night that is looked at; without it, all.
    keys : collection of str, optional
        Only products of jobs with these keys.
    superseded : bool
        Also at missing products that have given way to others.

    Returns
    -------
    Stock
        What was seen. Nothing is changed.
    """
    rows = space.registry.read(stock_rows, from_night, keys, superseded=superseded)
    stock = Stock(sum(row.state == "done" for row in rows))
    back = set()
    for row in rows:
        changed_ns = space.store.changed_ns(row.path)
        if row.state == "done":
            _sort_in(stock, space.store, row, changed_ns)
        elif changed_ns is not None and space.store.intact(row.path, row.size, row.sha256):
            stock.back[row.id] = changed_ns
            back.add(row.job_key)
    whole = back - space.registry.read(half_lost, back, stock.back.keys()) if back else back
    return replace(stock, back_keys=frozenset(whole), rows=tuple(rows))


def _sort_in(stock: Stock, store: Store, row: StockRow, changed_ns: int | None) -> None:
    """Take down what became of the file of a product that should be there."""
    if changed_ns is None:
        stock.away.append(row)
    elif changed_ns != row.changed_ns:
        if store.intact(row.path, row.size, row.sha256):
            stock.touched[row.id] = changed_ns
        else:
            stock.damaged.append(row)


def whole_keys(
    space: "Workspace",
    from_night: str | None = None,
    keys: Collection[str] | None = None,
    *,
    gone: bool = False,
) -> set[str]:
    """Return the jobs whose products are all there, as they were written; nothing is changed.

    Parameters
    ----------
    space : Workspace
        The project.
    from_night : str, optional
        ISO date of the first night that is looked at; without it, all.
    keys : collection of str, optional
        Only jobs with these keys.
    gone : bool
        Whether somebody says that files which are away are really gone, however many they are.

    Returns
    -------
    set of str
        Keys of jobs.

    Raises
    ------
    StoreAwayError
        If the store, or much of it, is not there.
    """
    return _seen(space, from_night, keys, gone=gone)[1]


def kept_keys(
    space: "Workspace",
    from_night: str | None = None,
    keys: Collection[str] | None = None,
    *,
    gone: bool = False,
) -> set[str]:
    """Return the jobs whose products are all there, and note in the registry what is gone and what is back.

    Parameters
    ----------
    space, from_night, keys, gone
        As for `whole_keys`.

    Returns
    -------
    set of str
        Keys of jobs; those whose products are gone or damaged are to be done again.

    Raises
    ------
    StoreAwayError
        If the store, or much of it, is not there. Then nothing is noted.
    """
    space.claim_store()
    stock, whole = _seen(space, from_night, keys, gone=gone)
    note(space, stock)
    return whole


def _seen(
    space: "Workspace", from_night: str | None, keys: Collection[str] | None, *, gone: bool
) -> tuple[Stock, set[str]]:
    space.find_store()
    stock = look(space, from_night, keys)
    # Of a few products a third may be the three that somebody has deleted: then all are looked at.
    if keys is not None and len(stock.away) >= MANY:
        stock = look(space, from_night)
    if not gone:
        refuse_much(space, stock)
    registry = space.registry
    done = registry.read(done_keys, from_night) if keys is None else registry.read(done_among, keys)
    return stock, (done - stock.lost_keys) | stock.back_keys


def note(space: "Workspace", stock: Stock) -> None:
    """Note in the registry what a look has shown.

    Parameters
    ----------
    space : Workspace
        The project.
    stock : Stock
        What was seen.

    Raises
    ------
    StoreAwayError
        If the store went away meanwhile.
    """
    if stock.touched:
        space.registry.write(touch_products, stock.touched)
    if stock.back:
        stages = {name: step.stage for name, step in space.cascade.tasks.items()}
        space.registry.write(regain_products, stock.back, stages)
    if lost := [row.id for row in (*stock.away, *stock.damaged)]:
        # A disk that went away in the middle of the look has left the rest of its files away.
        space.find_store()
        space.registry.write(lose_products, lost, GONE)


def refuse_much(space: "Workspace", stock: Stock) -> None:
    """Refuse to take products for gone where so many are away at once that a disk is missing rather than files.

    Parameters
    ----------
    space : Workspace
        The project.
    stock : Stock
        What was seen.

    Raises
    ------
    StoreAwayError
        If they are too many; says how many of how many.
    """
    if told := much_away(space, stock):
        raise StoreAwayError(told)


def much_away(space: "Workspace", stock: Stock) -> str:
    """Return in one sentence that much of the store is away: `MANY` files, and a `SHARE` of all or their folders.

    Parameters
    ----------
    space : Workspace
        The project.
    stock : Stock
        What was seen.

    Returns
    -------
    str
        How many of how many; empty where it is not much.
    """
    away = stock.away
    if len(away) < MANY:
        return ""
    folders = {(space.store.root / row.path).parent for row in away}
    # Not a path object's question, which is an error for names that no file can have.
    missing = {folder for folder in folders if not isdir(folder)}
    homeless = [row for row in away if (space.store.root / row.path).parent in missing]
    if len(away) >= SHARE * stock.number or len(homeless) >= MANY:
        return _much(space, stock.number, homeless or away, len(away))
    return ""


def _much(space: "Workspace", number: int, examples: Sequence[StockRow], away: int) -> str:
    share = away / number
    part = "all" if share == 1 else "most" if share > 0.6 else "half" if share >= 0.4 else "a part"
    return (
        f"{part} of the store {space.store.root} is away: {away} of {number} products have no file, for instance "
        f"{examples[0].path}. Is a disk not mounted? If they are really gone, 'ccdflow run --gone' makes them again"
    )
