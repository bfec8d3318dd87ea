"""Products thrown away, or handed out."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import Literal

from ccdflow.archive.fits.productfile import read_product
from ccdflow.archive.registry.choices import find_choices
from ccdflow.archive.registry.lineage import lineage
from ccdflow.archive.registry.productchanges import lose_products
from ccdflow.archive.registry.products import ProductRecord, find_products
from ccdflow.tasks.workspace import Workspace

Mode = Literal["copy", "link", "symlink"]
"""Whether files are copied, or named once more, as hard links or as symbolic ones."""

EXPORT = "{night}/{telescope}-{camera}/{filename}"
"""Where a product is put that is handed out."""
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
DAY = 86400.0


@dataclass(frozen=True)
class Waste:
    """A product that may go, and why."""

    product: ProductRecord
    reason: str


def waste(space: Workspace, *, days: float = 0.0, most_bytes: int | None = None) -> list[Waste]:
    """Products that have given way to others, and that nothing which is still current was made with.

    Parameters
    ----------
    days : float
        Only those whose files are older.
    most_bytes : int, optional
        Only as many, the oldest first, as must go until no more bytes of such products are left.
    """
    made = space.registry.read(find_products)
    by_key = {one.job_key: one for one in made}
    current = [one.job_key for one in made if one.superseded_by is None]
    pinned = {one.subject for one in space.registry.read(find_choices) if one.verdict == "pinned"}
    needed = {job.key for job in space.registry.read(lineage, current, up=True)} | pinned
    left = [one for one in made if one.superseded_by is not None and one.job_key not in needed]
    left = [one for one in left if by_key[one.job_key].state == "done" and _age(space, one) >= days * DAY]
    left.sort(key=lambda one: (-_age(space, one), one.id))
    if most_bytes is not None:
        kept = 0
        for number, one in reversed(list(enumerate(left))):
            kept += one.size or 0
            if kept > most_bytes:
                left = left[: number + 1]
                break
        else:
            left = []
    return [Waste(one, f"p{one.superseded_by} has taken its place") for one in left]


def _age(space: Workspace, one: ProductRecord) -> float:
    """Seconds since the file was written; none for a file that is gone."""
    changed = space.store.changed_ns(one.path)
    return 0.0 if changed is None else time.time() - changed / 1e9


def throw_away(space: Workspace, some: Sequence[Waste]) -> int:
    """Delete the files of products; the registry keeps what they were. Gives how many bytes that freed."""
    space.registry.write(lose_products, [one.product.id for one in some], "thrown away, since superseded")
    for one in some:
        space.store.absolute(one.product.path).unlink(missing_ok=True)
    return sum(one.product.size or 0 for one in some)


def export(
    space: Workspace,
    products: Sequence[ProductRecord],
    folder: Path,
    *,
    template: str = EXPORT,
    mode: Mode = "copy",
) -> Iterator[tuple[ProductRecord, Path]]:
    """Hand out files of products; gives where each was put. A file that is there and the same is left.

    Parameters
    ----------
    template : str
        Path below `folder`; `FIELDS` in braces, and keywords of the header as ``{header.OBSERVER}``.
    mode : {'copy', 'link', 'symlink'}
        How.

    Raises
    ------
    ValueError
        If the template names what is not known, or leads out of the folder.
    """
    put: dict[Path, str] = {}
    for one in products:
        target = folder / _filled(space, one, template)
        target = _free(target, one, put)
        put[target] = one.path
        source = space.store.absolute(one.path)
        if not (target.exists() and _same(source, target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            _placed(source, target, _WAYS[mode])
        yield one, target


def _same(source: Path, target: Path) -> bool:
    return source.samefile(target) or (
        source.stat().st_size == target.stat().st_size and source.read_bytes() == target.read_bytes()
    )


def _free(target: Path, one: ProductRecord, put: dict[Path, str]) -> Path:
    """The place, or one beside it with the product's key where another product of this export lies there."""
    return target if target not in put else target.with_stem(f"{target.stem}-{one.job_key[:8]}")


def _placed(source: Path, target: Path, way: Callable[[Path, Path], object]) -> None:
    temporary = target.with_name(f".{target.name}.part")
    temporary.unlink(missing_ok=True)
    way(source, temporary)
    temporary.replace(target)


_WAYS: dict[str, Callable[[Path, Path], object]] = {
    "copy": shutil.copyfile,
    "link": os.link,
    "symlink": lambda source, target: target.symlink_to(source),
}


def _filled(space: Workspace, one: ProductRecord, template: str) -> PurePosixPath:
    path = PurePosixPath(one.path)
    known: dict[str, object] = {name: getattr(one, name) for name in FIELDS if hasattr(one, name)}
    known |= {"filename": path.name, "stem": path.stem, "id": f"p{one.id}", "key": one.job_key[:8]}
    words = []
    for text, name, form, _ in Formatter().parse(template):
        words.append(text)
        if name is None:
            continue
        if name.startswith("header."):
            known[name] = read_product(space.store.absolute(one.path)).header.get(name[7:].upper(), "")
        if name not in known:
            raise ValueError(f"template: unknown {name!r}; known: {', '.join(FIELDS)}, header.KEYWORD")
        words.append(format(str(known[name]), form or "").replace("/", "_") or "unknown")
    made = PurePosixPath("".join(words))
    if made.is_absolute() or ".." in made.parts:
        raise ValueError(f"template {template!r} leads out of the folder")
    return made
