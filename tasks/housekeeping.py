"""Products are thrown away, or handed out."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import Literal

from ccdflow.archive.fits.productfile import ProductFileError, read_product
from ccdflow.archive.registry.choices import find_choices
from ccdflow.archive.registry.jobs.lineage import lineage
from ccdflow.archive.registry.jobs.productchanges import lose_products
from ccdflow.archive.registry.jobs.products import ProductRecord, find_products
from ccdflow.archive.registry.jobs.records import done_among
from ccdflow.archive.store import RESULTS
from ccdflow.tasks.workspace import Workspace

Mode = Literal["copy", "link", "symlink"]
"""Whether files are copied, or named once more, as hard links or as symbolic ones."""

EXPORT = "{night}/{telescope}-{camera}/{filename}"
"""Path below the folder to which a product is handed out, as `export` fills it."""
FIELDS = (
    "night",
    "telescope",
    "camera",
    "instrument",
    "filter",
    "object",
    "category",
    "filename",
    "stem",
    "id",
    "key",
)
"""What a path of `EXPORT`'s kind may be made of."""
DAY_S = 86400.0
"""Seconds of a day."""
RECORD_AGE_S = 3600.0
"""Seconds for which a record of Prefect's is left alone, whatever the registry says of its job."""


@dataclass(frozen=True)
class Waste:
    """A product that may go, and why."""

    product: ProductRecord
    reason: str


def refuse_amounts(**amounts: float | None) -> None:
    """Refuse an amount below 0, and what is no number at all: neither says how much may go.

    Parameters
    ----------
    amounts : float or None
        By name; None where nobody has said anything.

    Raises
    ------
    ValueError
        With the first that can't be.
    """
    for name, amount in amounts.items():
        # Not "amount < 0": nothing is below 0 where it is no number.
        if amount is not None and not amount >= 0:
            raise ValueError(f"{name} is {amount:g}, wanted 0 or more")


def waste(space: Workspace, *, days: float = 0.0, most_bytes: float | None = None) -> list[Waste]:
    """Return the products that have given way to others, and that nothing which is still current was made with.

    Parameters
    ----------
    space : Workspace
        The project.
    days : float
        Only those whose files are older.
    most_bytes : float, optional
        Only as many, the oldest first, as must go until no more bytes of such products are left.

    Returns
    -------
    list of Waste
        The oldest first.

    Raises
    ------
    ValueError
        If days or bytes are below 0, or no number.
    """
    refuse_amounts(days=days, bytes=most_bytes)
    products = space.registry.read(find_products)
    current = [product.job_key for product in products if product.superseded_by is None]
    pinned = {choice.subject for choice in space.registry.read(find_choices) if choice.verdict == "pinned"}
    # A superseded master stays as long as anything that is current was made with it, however far down.
    needed = {job.key for job in space.registry.read(lineage, current, up=True)} | pinned
    old = [
        product
        for product in products
        if product.superseded_by is not None
        and product.job_key not in needed
        and _age(space, product) >= days * DAY_S
    ]
    old.sort(key=lambda product: (-_age(space, product), product.id))
    if most_bytes is not None:
        old = _beyond(old, most_bytes)
    return [Waste(product, f"p{product.superseded_by} has taken its place") for product in old]


def _beyond(oldest_first: list[ProductRecord], most_bytes: float) -> list[ProductRecord]:
    """Those that do not fit when as many bytes as that are kept, the newest first."""
    kept = 0
    for number, product in reversed(list(enumerate(oldest_first))):
        kept += product.size or 0
        if kept > most_bytes:
            return oldest_first[: number + 1]
    return []


def _age(space: Workspace, product: ProductRecord) -> float:
    """Seconds since the file was written; none for a file that is gone."""
    changed = space.store.changed_ns(product.path)
    return 0.0 if changed is None else time.time() - changed / 1e9


def throw_away(space: Workspace, wastes: Sequence[Waste]) -> int:
    """Delete the files of products; the registry keeps what they were.

    Parameters
    ----------
    space : Workspace
        The project.
    wastes : sequence of Waste
        The products.

    Returns
    -------
    int
        How many bytes that freed.
    """
    products = [superseded.product for superseded in wastes]
    # The registry first: a file without a row that counts is only a file too much, a row without its file is damage.
    space.registry.write(lose_products, [product.id for product in products], "thrown away, since superseded")
    for product in products:
        # What is out of the store, or a folder, was not ours to delete, and keeps nothing else from going.
        with suppress(ValueError, IsADirectoryError):
            space.store.absolute(product.path).unlink(missing_ok=True)
        (space.store.root / RESULTS / product.job_key).unlink(missing_ok=True)
    return sum(product.size or 0 for product in products)


def forget_records(space: Workspace) -> int:
    """Delete the records that Prefect keeps of jobs which are not done any more, as where their products are gone.

    Parameters
    ----------
    space : Workspace
        The project.

    Returns
    -------
    int
        How many were deleted.
    """
    count, folder = 0, space.store.root / RESULTS
    with suppress(FileNotFoundError):
        names = [entry.name for entry in os.scandir(folder) if _is_idle(entry)]
        for name in set(names) - space.registry.read(done_among, names):
            (folder / name).unlink(missing_ok=True)
            count += 1
    return count


def _is_idle(entry: os.DirEntry[str]) -> bool:
    """Whether a record is older than any that is being written, or whose job is about to be done."""
    with suppress(FileNotFoundError):
        return time.time() - entry.stat().st_mtime > RECORD_AGE_S
    return False


def export(
    space: Workspace,
    products: Sequence[ProductRecord],
    folder: Path,
    *,
    template: str = EXPORT,
    mode: Mode = "copy",
    warn: Callable[[str], None] = lambda sentence: None,
) -> Iterator[tuple[ProductRecord, Path]]:
    """Hand out files of products. A file that is there and the same is left.

    A product that can't be handed out, as where its file is gone or a header's value makes no file name, is told, and
    the others are handed out.

    Parameters
    ----------
    space : Workspace
        The project.
    products : sequence of ProductRecord
        The products.
    folder : Path
        Where they go.
    template : str
        Path below `folder`; `FIELDS` in braces, and keywords of the header as ``{header.OBSERVER}``.
    mode : {'copy', 'link', 'symlink'}
        Whether files are copied, or named once more, as hard links or as symbolic ones.
    warn : callable
        Told of each product that was not handed out, in one sentence.

    Yields
    ------
    tuple of ProductRecord and Path
        Each product, and where it was put.

    Raises
    ------
    ValueError
        If the template names what is not known, leads out of the folder, or names no file in it.
    """
    _refuse_template(template)
    taken: set[Path] = set()
    for product in products:
        try:
            target = folder / _filled(space, product, template)
            if target in taken:  # by another product of this export: then its key tells it apart
                target = target.with_stem(f"{target.stem}-{product.job_key[:8]}")
            taken.add(target)
            source = space.store.absolute(product.path)
            if not (target.exists() and _same(source, target)):
                target.parent.mkdir(parents=True, exist_ok=True)
                _hand_out(source, target, _WAYS[mode])
        except (OSError, ValueError, ProductFileError) as error:
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                raise
            warn(f"p{product.id} was not handed out: {error}")
            continue
        yield product, target


_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Errors that any other product would meet as well."""


def _same(source: Path, target: Path) -> bool:
    return source.samefile(target) or (
        source.stat().st_size == target.stat().st_size and source.read_bytes() == target.read_bytes()
    )


def _hand_out(source: Path, target: Path, way: Callable[[Path, Path], object]) -> None:
    """Put a file in its place whole or not at all."""
    # Under another name first: whoever watches the folder, as a transfer to an archive does, sees no half file.
    temporary = target.with_name(f".{target.name}.part")
    temporary.unlink(missing_ok=True)
    way(source, temporary)
    temporary.replace(target)


_WAYS: dict[str, Callable[[Path, Path], object]] = {
    "copy": shutil.copyfile,
    "link": os.link,
    "symlink": lambda source, target: target.symlink_to(source),
}


def _refuse_template(template: str) -> None:
    """Refuse what no product could be handed out by, before any is."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"template {template!r}: {error}") from None
    for _, name, _, _ in parts:
        if name is not None and name not in FIELDS and not name.startswith("header."):
            raise ValueError(f"template: unknown {name!r}; known: {', '.join(FIELDS)}, header.KEYWORD")
    path = PurePosixPath("".join(text + ("x" if name is not None else "") for text, name, _, _ in parts))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"template {template!r} leads out of the folder")
    if not path.name:
        raise ValueError(f"template {template!r} names no file")


def _filled(space: Workspace, product: ProductRecord, template: str) -> PurePosixPath:
    """The template with what is known of a product; blank values become ``unknown``."""
    path = PurePosixPath(product.path)
    known: dict[str, object] = {name: getattr(product, name) for name in FIELDS if hasattr(product, name)}
    known |= {"filename": path.name, "stem": path.stem, "id": f"p{product.id}", "key": product.job_key[:8]}
    words = []
    for text, name, form, _ in Formatter().parse(template):
        words.append(text)
        if name is None:
            continue
        if name.startswith("header."):
            header = read_product(space.store.absolute(product.path)).header
            known[name] = header.get(name.removeprefix("header.").upper(), "")
        value = format(str(known[name]), form or "")
        # A value makes no folders of its own, whatever an observer has written into a header.
        words.append(
            "".join("_" if sign == "/" or not sign.isprintable() else sign for sign in value) or "unknown"
        )
    filled = PurePosixPath("".join(words))
    if ".." in filled.parts:
        raise ValueError(f"{str(filled)!r} leads out of the folder")
    return filled
