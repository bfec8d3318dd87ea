"""The store: where the files of products lie, how they get there whole, and whether they still are.

A reader never sees half a product, and neither does a run after a crash. A file is written under a temporary name in
the folder where it is to lie, and brought to the disk (fsync) before it takes its name: a rename within one file
system is atomic, but without the fsync a power cut could leave the name on an empty file. Then the folders are brought
to the disk too, since a name is part of its folder. Only after that does the caller commit the row of the product: a
product exists once its row does, and what was written without a row is replaced by the next run.
"""

import os
import re
import unicodedata
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ccdflow.archive.digest import NotReadError, file_digest
from ccdflow.archive.fits.writer import HashingFile
from ccdflow.archive.registry.jobs.products import ProductRecord

TEMPLATE = "{category}/{night}/{telescope}-{camera}/{name}-{key8}.fits"
"""Where a product lies below the store's root."""

RESULTS = ".results"
"""Folder in the store where Prefect keeps the records of jobs, so that all workers share them."""
UNKNOWN = "unknown"
"""Name of a folder all of whose parts are blank."""
_LONGEST = 100
"""Characters of a part of a file name; most file systems take 255 bytes for all of it."""
_TEMPORARY = re.compile(r"\.(?P<key>[0-9A-Za-z]+)\.[0-9a-f]{32}\.part")
"""Name of a temporary file: the job's key, and a random part, since two workers may write the same product."""


State = Literal["ok", "missing", "unread", "damaged"]


@dataclass(frozen=True)
class ProductLocation:
    """Parts of the path of a product; blanks are left out.

    Parameters
    ----------
    category, night, telescope, camera : str
        As the registry has them.
    name : str
        What the product is of, such as the object and the filter.
    key : str
        Key of the job that makes it, whose first 8 digits tell apart what would be called the same.
    """

    category: str
    night: str
    telescope: str
    camera: str
    name: str
    key: str


@dataclass(frozen=True)
class StoredFile:
    """A file that was written into the store: path relative to its root, sha256 and size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class FileCheck:
    """The state in which a product's file was found, and what is wrong with it.

    Parameters
    ----------
    product : int
        Id of the product.
    path : str
        Relative to the store's root.
    state : {"ok", "missing", "unread", "damaged"}
        Unread is a file whose bytes the system can't give now.
        Damaged is a file of other size or content than was written.
    reason : str
        What is wrong; empty for a file that is whole.
    """

    product: int
    path: str
    state: State
    reason: str = ""


class Store:
    """The folder of the products; paths that it takes and gives are relative to it, so it can be moved.

    Parameters
    ----------
    root : Path
        The folder.
    template : str
        Path of a product below it, see `TEMPLATE` for the parts.
    """

    def __init__(self, root: Path, template: str = TEMPLATE) -> None:
        self.root = root
        self.template = template

    def path_for(self, location: ProductLocation) -> str:
        """Return the path of a product.

        Parameters
        ----------
        location : ProductLocation
            What the product is. Anything may stand in it: it comes from headers.

        Returns
        -------
        str
            Relative path that any file system takes; it can't lead out of the store.
        """
        parts = {
            name: clean_part(getattr(location, name))
            for name in ("category", "night", "telescope", "camera", "name")
        }
        folders = self.template.format(**parts, key8=location.key[:8]).split("/")
        return "/".join(tidy_part(folder) for folder in folders)

    def absolute(self, path: str) -> Path:
        """Return where a file of the store is.

        Parameters
        ----------
        path : str
            Relative path.

        Returns
        -------
        Path
            Below the root.

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
    ) -> StoredFile:
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

        Returns
        -------
        StoredFile
            Path, sha256 and size of what was written.
        """
        target = self.absolute(path)
        # A folder that is made is an entry in the folder above it, which has to reach the disk as well.
        changed = {target.parent, *(folder.parent for folder in target.parents if not folder.exists())}
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that the rename stays within one file system; hidden, as unfinished.
        temporary = target.parent / f".{key}.{uuid.uuid4().hex}.part"
        try:
            # Hashed while it passes: reading it again would cost as much as writing it.
            with temporary.open("wb", buffering=0) as file, HashingFile(file.write) as stream:
                write(stream)
                os.fsync(file.fileno())
                digest, size = stream.digest(), stream.size
            # As late as can be: a worker that has lost its lease meanwhile must not replace what others have made.
            check()
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(changed)
        return StoredFile(path, digest, size)

    def link(self, path: str, key: str, source: Path) -> bool:
        """Put a file into the store that lies elsewhere on the same file system, as another name of it.

        Parameters
        ----------
        path : str
            Relative path; a file that is there is replaced.
        key : str
            As of `write`.
        source : Path
            The file.

        Returns
        -------
        bool
            False where the file system allows no such link; then nothing has changed.
        """
        target = self.absolute(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{key}.{uuid.uuid4().hex}.part"
        try:
            temporary.hardlink_to(source)
            temporary.replace(target)
        except OSError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        _sync([target.parent])
        return True

    def temporaries(self) -> Iterator[tuple[str, str]]:
        """Yield key of the job and relative path of each temporary file.

        Yields
        ------
        (str, str)
            Key and path, in order of the path.
        """
        for path in sorted(self.root.rglob(".*.part")):
            match = _TEMPORARY.fullmatch(path.name)
            if match:
                yield match["key"], path.relative_to(self.root).as_posix()

    def clean_job(self, key: str, paths: Iterable[str]) -> None:
        """Delete what killed workers have left of one job, before it is done again.

        Parameters
        ----------
        key : str
            Key of the job.
        paths : iterable of str
            Relative paths of its products; only their folders are looked at, a store may hold millions of files.
        """
        for folder in {self.absolute(path).parent for path in paths}:
            for leftover in folder.glob(f".{key}.*.part"):
                leftover.unlink(missing_ok=True)

    def changed_ns(self, path: str) -> int | None:
        """Return when a file was last changed in any way.

        Parameters
        ----------
        path : str
            Relative path.

        Returns
        -------
        int or None
            The change time (ctime) in nanoseconds since 1970, which programs can't set as they can
            the time of modification; None where there is no such file, or none that may be looked at.
        """
        # A row's path that is none, a folder that is closed: one product's trouble, which must not end a look at all.
        try:
            file = self.absolute(path)
            return file.stat().st_ctime_ns if file.is_file() else None
        except (OSError, ValueError):
            return None

    def intact(self, path: str, size: int | None, sha256: str | None = None) -> bool:
        """Tell whether a file is there as it was written.

        Parameters
        ----------
        path : str
            Relative path.
        size : int or None
            Bytes that it must have.
        sha256 : str or None
            Digest that its content must have; without one the file is not read.

        Returns
        -------
        bool
            True for a file of this size and, where `sha256` is stated, this content.
        """
        file = self.absolute(path)
        if not file.is_file() or file.stat().st_size != size:
            return False
        return sha256 is None or file_digest(file) == sha256

    def verify(self, products: Iterable[ProductRecord]) -> Iterator[FileCheck]:
        """Compare the file of each product with what the registry says of it; reads every byte.

        Parameters
        ----------
        products : iterable of ProductRecord
            Products whose files should be there.

        Yields
        ------
        FileCheck
            One for each product, in the same order.
        """
        for product in products:
            try:
                state, reason = _judged(self.absolute(product.path), product)
            except (OSError, NotReadError) as error:
                state, reason = "unread", f"{error}; it is looked at again the next time"
            except ValueError as error:
                state, reason = "missing", str(error)
            yield FileCheck(product.id, product.path, state, reason)

    def foreign(self, known: Collection[str]) -> list[str]:
        """List the files of the store that no product owns, temporary ones included.

        Parameters
        ----------
        known : collection of str
            Relative paths of the files of all products.

        Returns
        -------
        list of str
            Relative paths in order. Hidden folders at the top are not looked at: what runs beside keeps its own
            records there.
        """
        paths = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
        names = {path.as_posix() for path in paths if not path.parts[0].startswith(".")}
        return sorted(names - set(known))


def _judged(file: Path, product: ProductRecord) -> tuple[State, str]:
    """What a product's file is, and what is wrong with it."""
    if not file.is_file():
        return "missing", "there is no such file"
    # Size first: it costs nothing, and tells of a file that was cut short without reading it.
    size = file.stat().st_size
    if size != product.size:
        return "damaged", f"it has {size} bytes, was written with {product.size}"
    digest = file_digest(file)
    if digest != product.sha256:
        return "damaged", f"its sha256 is {digest[:16]}..., was {str(product.sha256)[:16]}..."
    return "ok", ""


def _sync(folders: Iterable[Path]) -> None:
    """Make sure that the names in these folders outlive a power cut."""
    for folder in folders:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def clean_part(text: str) -> str:
    """Return a part of a file name: letters, digits, ``. _ + -``; anything else becomes an underscore.

    Parameters
    ----------
    text : str
        Anything, as it stands in headers.

    Returns
    -------
    str
        Without accents. No part begins with a point, so that none can be ``..`` or hide the file.
    """
    # NFKD takes letters and accents apart, so that dropping what is not ASCII drops the accents alone: é becomes e.
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9.+_-]", "_", plain.strip())).strip("._")[:_LONGEST]


def tidy_part(folder: str) -> str:
    """Return a folder or file name without the hyphens of parts that are blank.

    Parameters
    ----------
    folder : str
        The name, of parts that `clean_part` gives.

    Returns
    -------
    str
        ``unknown`` where all are blank.
    """
    return re.sub(r"-{2,}", "-", folder).strip("-") or UNKNOWN
