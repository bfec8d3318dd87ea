"""The store: where the files of products lie, how they get there whole, and whether they still are."""

import os
import re
import unicodedata
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ccdflow.archive.digest import file_digest
from ccdflow.archive.fits.writer import HashingFile
from ccdflow.archive.registry.products import ProductRecord

TEMPLATE = "{category}/{night}/{telescope}-{camera}/{name}-{key8}.fits"
"""Where a product lies below the store's root."""

UNKNOWN = "unknown"
_LONGEST = 100
_TEMPORARY = re.compile(r"\.(?P<key>[0-9A-Za-z]+)\.[0-9a-f]{32}\.part")


@dataclass(frozen=True)
class Place:
    """What the path of a product is made of; blanks are left out."""

    category: str
    night: str
    telescope: str
    camera: str
    name: str
    key: str


@dataclass(frozen=True)
class Stored:
    """A file in the store; `path` is relative to its root."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Verdict:
    """How a product's file was found, and what is wrong with it."""

    product: int
    path: str
    state: Literal["ok", "missing", "damaged"]
    reason: str = ""


class Store:
    """The folder of the products; paths that it takes and gives are relative to it, so it can be moved."""

    def __init__(self, root: Path, template: str = TEMPLATE) -> None:
        self.root = root
        self.template = template

    def path_for(self, place: Place) -> str:
        """The relative path of a product."""
        parts = {
            name: _clean(getattr(place, name))
            for name in ("category", "night", "telescope", "camera", "name")
        }
        folders = self.template.format(**parts, key8=place.key[:8]).split("/")
        return "/".join(_tidy(folder) for folder in folders)

    def absolute(self, path: str) -> Path:
        """Where a file of the store is.

        Raises
        ------
        ValueError
            If `path` leads out of the store.
        """
        relative = PurePosixPath(path)
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise ValueError(f"{path!r} is no path below the store {self.root}")
        return self.root / relative

    def write(
        self,
        path: str,
        key: str,
        write: Callable[[HashingFile], None],
        check: Callable[[], None] = lambda: None,
    ) -> Stored:
        """Put a file into the store, whole or not at all; a file that is there is replaced.

        Parameters
        ----------
        path : str
            Relative path.
        key : str
            Key of the job that writes; the temporary file's name holds it, so that one can tell whose it was.
        write : callable
            Writes the content into the open file that it is given.
        check : callable
            Called when all is written, right before the file takes its name: where it raises, nothing has changed.
        """
        target = self.absolute(path)
        changed = {target.parent, *(one.parent for one in target.parents if not one.exists())}
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{key}.{uuid.uuid4().hex}.part"
        try:
            with temporary.open("wb", buffering=0) as file, HashingFile(file.write) as stream:
                write(stream)
                os.fsync(file.fileno())
                digest, size = stream.digest(), stream.size
            check()
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(changed)
        return Stored(path, digest, size)

    def temporaries(self) -> Iterator[tuple[str, str]]:
        """Key of the job and relative path of each temporary file."""
        for path in sorted(self.root.rglob(".*.part")):
            match = _TEMPORARY.fullmatch(path.name)
            if match:
                yield match["key"], path.relative_to(self.root).as_posix()

    def clean_temporaries(self, running: Collection[str] = ()) -> list[str]:
        """Delete what killed workers left, but for the jobs that are `running`; gives the paths."""
        left = [path for key, path in self.temporaries() if key not in running]
        for path in left:
            self.absolute(path).unlink(missing_ok=True)
        return left

    def clean_job(self, key: str, paths: Iterable[str]) -> None:
        """Delete what killed workers left of a job, beside the files `paths` that it makes."""
        for folder in {self.absolute(path).parent for path in paths}:
            for left in folder.glob(f".{key}.*.part"):
                left.unlink(missing_ok=True)

    def changed_ns(self, path: str) -> int | None:
        """When a file was last changed in any way, in nanoseconds; None where there is none."""
        file = self.absolute(path)
        return file.stat().st_ctime_ns if file.is_file() else None

    def intact(self, path: str, size: int | None, sha256: str | None = None) -> bool:
        """Whether a file is there with this size and, where a checksum is given, this content."""
        file = self.absolute(path)
        if not file.is_file() or file.stat().st_size != size:
            return False
        return sha256 is None or file_digest(file) == sha256

    def verify(self, products: Iterable[ProductRecord]) -> Iterator[Verdict]:
        """Compare the file of each product with what the registry says of it; reads every byte."""
        for one in products:
            file = self.absolute(one.path)
            if not file.is_file():
                yield Verdict(one.id, one.path, "missing", "there is no such file")
                continue
            size = file.stat().st_size
            if size != one.size:
                yield Verdict(
                    one.id, one.path, "damaged", f"it has {size} bytes, was written with {one.size}"
                )
            elif (digest := file_digest(file)) != one.sha256:
                reason = f"its sha256 is {digest[:16]}..., was {str(one.sha256)[:16]}..."
                yield Verdict(one.id, one.path, "damaged", reason)
            else:
                yield Verdict(one.id, one.path, "ok")

    def foreign(self, known: Collection[str]) -> list[str]:
        """Files of the store that are not `known`, temporary ones included; hidden folders are not looked at."""
        found = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
        names = {path.as_posix() for path in found if not path.parts[0].startswith(".")}
        return sorted(names - set(known))


def _sync(folders: Iterable[Path]) -> None:
    """Make sure that the names in these folders outlive a power cut."""
    for folder in folders:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _clean(text: str) -> str:
    """A part of a file name: letters, digits, ``. _ + -``; anything else becomes an underscore."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9.+_-]", "_", plain.strip())).strip("._")[:_LONGEST]


def _tidy(folder: str) -> str:
    """A folder or file name without the hyphens of parts that are blank."""
    return re.sub(r"-{2,}", "-", folder).strip("-") or UNKNOWN
