"""Archives are moved: into a tar file and out of it, from one project to another; and held against each other."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from sqlalchemy import Connection

from ccdflow.archive.fits.writer import HashingFile
from ccdflow.archive.moving.comparing import Difference, differences
from ccdflow.archive.moving.kinds import FRAME, PRODUCT, Row
from ccdflow.archive.moving.manifest import (
    PRODUCTS,
    RAWS,
    ArchiveFileError,
    Head,
    Manifest,
    ManifestWriter,
    MovedFile,
)
from ccdflow.archive.moving.packages import (
    CHUNK,
    FolderPackage,
    Package,
    TarPackage,
    damaged,
    is_archive,
    write_tar,
)
from ccdflow.archive.moving.placing import ORIGINALS, Placed, Report, known_frames, known_products, place
from ccdflow.archive.moving.selecting import Selection, choose
from ccdflow.archive.registry.database import current_schema
from ccdflow.archive.registry.rootpaths import absolute
from ccdflow.archive.store import Store
from ccdflow.archive.storemark import StoreAwayError
from ccdflow.config.project import PROJECT_FILE
from ccdflow.tasks.workspace import Workspace, open_workspace

RAW_FOLDER = "raw"
"""Folder of a project into which raw frames of an archive are put, unless another is named."""
_ODD = re.compile(r"[^\w.+@=,() -]", flags=re.ASCII)
"""What is left out of names of raw files in an archive: it has to be unpacked anywhere."""


@dataclass(frozen=True)
class Moved:
    """What was moved: rows that were new and that were there, files and their bytes."""

    report: Report
    files: int
    size: int

    def document(self) -> dict[str, object]:
        """Return the report for ``--json``."""
        return {
            "new": dict(self.report.new),
            "known": dict(self.report.known),
            "files": self.files,
            "bytes": self.size,
        }

    def sentence(self) -> str:
        """Return the report for people."""
        new, known = self.report.new, self.report.known
        told = ", ".join(f"{new[kind]} {kind}s" for kind in ("frame", "job", "product"))
        there = f"; {known['product']} products were there already" if known["product"] else ""
        return f"{told} are new, with {self.files} files ({self.size / 1e6:.1f} MB){there}"


@dataclass(frozen=True)
class _Written:
    """A manifest that was written into a file, and where its files lie."""

    path: Path
    where: Mapping[str, Path]
    manifest: Manifest


# --- out of a project ---------------------------------------------------------------------------------------------


def archive(space: Workspace, file: Path, selection: Selection) -> tuple[Counter[str], int]:
    """Write products, with all that explains them, into a tar file; the same archive gives the same bytes.

    Parameters
    ----------
    space : Workspace
        The project.
    file : Path
        The tar file; an archive that is there is replaced.
    selection : Selection
        Which products.

    Returns
    -------
    (Counter, int)
        How many rows of each kind, and files, it holds; its size in bytes.

    Raises
    ------
    ArchiveFileError
        If another file is there, or one that is to be archived is missing or damaged: nothing is written then.
    ExpressionError
        If the expression is none, or a name is not known.
    """
    if file.exists() and not is_archive(file):
        raise ArchiveFileError(f"{file} is there and no archive; it is not replaced")
    if not file.absolute().parent.is_dir():
        raise ArchiveFileError(f"there is no folder {file.absolute().parent}; nothing was written")
    space.find_store()
    with _written(space, selection) as written:
        counts = Counter(kind for kind, _ in written.manifest.lines())
        if not counts[PRODUCT.name] and not selection.every:
            raise ArchiveFileError("no product is of this kind; nothing was written")
        write_tar(file, written.path, written.manifest.files, lambda moved: written.where[moved.path])
    return counts, file.stat().st_size


@contextmanager
def _written(space: Workspace, selection: Selection) -> Iterator[_Written]:
    """A manifest of a project, in a file that is gone afterwards."""
    with TemporaryDirectory(prefix="ccdflow-archive-") as folder:
        path = Path(folder) / "manifest.jsonl"
        where = space.registry.read(_write_manifest, path, space.store, selection)
        manifest = Manifest(str(space.project.directory), lambda: path.open("rb"))
        manifest.check(current_schema())
        yield _Written(path, where, manifest)


def _write_manifest(
    connection: Connection, path: Path, store: Store, selection: Selection
) -> dict[str, Path]:
    """Write a manifest, in one transaction; gives where its files lie."""
    files: list[MovedFile] = []
    where: dict[str, Path] = {}
    with path.open("wb") as stream:
        writer = ManifestWriter(stream)
        writer.head(Head(version("ccdflow"), current_schema(), selection))
        for kind, row in choose(connection, selection).rows(connection):
            moved, lies = None, Path()
            if kind is PRODUCT and row["state"] == "done":
                moved = MovedFile(f"{PRODUCTS}/{row['path']}", row["sha256"], row["size"], row["id"])
                lies = store.absolute(row["path"])
            elif (
                kind is FRAME
                and selection.raws
                and row["path"]
                and row["sha256"]
                and row["status"] in ORIGINALS
            ):
                lies = Path(absolute(row["path"], connection.dialect))
                moved = MovedFile(_raw_name(row, lies.name, where), row["sha256"], row["size"], row["id"])
                # Where it lies in the archive is where it lay, to whoever has the archive alone.
                row["path"] = moved.path
            if moved is not None:
                files.append(moved)
                where[moved.path] = lies
            writer.row(kind, row)
        writer.end(files)
    return where


def _raw_name(row: Row, name: str, taken: Mapping[str, Path]) -> str:
    """The place of a raw frame in an archive: by night, and by content where two have the same name."""
    name = _ODD.sub("_", name)
    folder = f"{RAWS}/{row['night'] or 'unknown'}"
    path = f"{folder}/{name}"
    return path if path not in taken else f"{folder}/{row['sha256'][:8]}-{name}"


# --- into a project -----------------------------------------------------------------------------------------------


def import_archive(space: Workspace, file: Path, raws: Path | None = None) -> Moved:
    """Take what a tar file holds into a project: all of it, or nothing.

    Parameters
    ----------
    space : Workspace
        The project.
    file : Path
        What `archive` has written.
    raws : Path, optional
        Folder for raw frames, where it holds any; without one, ``raw`` in the project.

    Returns
    -------
    Moved
        What was new. A product that was there with the same content is no news.

    Raises
    ------
    ArchiveFileError
        If the file is no archive, is not whole, or contradicts what is there.
    """
    package = TarPackage(file)
    # All of it is read before anything is written.
    head = package.check(current_schema())
    return _take(space, package, head, raws)


def transfer(source: Workspace, target: Workspace, selection: Selection, *, link: bool = False) -> Moved:
    """Take products of one project, with all that explains them, into another one on this machine.

    Parameters
    ----------
    source, target : Workspace
        From where, and where to.
    selection : Selection
        Which products.
    link : bool
        Whether files are hard links where both stores are on one file system: they take no space then, and what
        changes one of both changes the other.

    Returns
    -------
    Moved
        As of `import_archive`.

    Raises
    ------
    ArchiveFileError
        As of `import_archive`, and if both are the same project.
    """
    if source.registry.url == target.registry.url:
        raise ArchiveFileError(f"both are the project {source.project.directory}; wanted two")
    source.find_store()
    with _written(source, selection) as written:
        package = FolderPackage(written.manifest, written.where)
        head = package.check(current_schema())
        return _take(target, package, head, None, link=link)


def _take(space: Workspace, package: Package, head: Head, raws: Path | None, *, link: bool = False) -> Moved:
    """Put files, then rows, into a project; where the rows do not fit, the files go again."""
    space.claim_store()
    taking = _Taking(space, package.manifest, raws or space.project.directory / RAW_FOLDER, link=link)
    try:
        for moved, stream, path in package.contents():
            taking.file(moved, stream, path)
        report = space.registry.write(place, package.manifest, taking.placed())
    except BaseException:
        taking.undo()
        raise
    return Moved(report, len(taking.written), taking.size)


class _Taking:
    """Files of an archive on their way into a project."""

    def __init__(self, space: Workspace, manifest: Manifest, raws: Path, *, link: bool) -> None:
        self.store, self.link = space.store, link
        self.raws = Store(raws.absolute())
        self.known = space.registry.read(known_products, manifest)
        self.frames = space.registry.read(known_frames, manifest)
        self.keys = {row["id"]: row["job_key"] for row in manifest.rows(PRODUCT)}
        self.written: list[Path] = []
        self.size = 0
        self.lying: dict[bool, dict[int, tuple[str, int | None]]] = {False: {}, True: {}}

    def placed(self) -> Placed:
        """Where all files lie now."""
        return Placed(frames=self.lying[True], products=self.lying[False])

    def file(self, moved: MovedFile, stream: BinaryIO, lies: Path | None) -> None:
        """Put a file where it belongs, unless it is there."""
        if moved.is_raw and moved.of in self.frames:
            return
        store = self.raws if moved.is_raw else self.store
        path = moved.below if moved.is_raw else self.known.get(moved.of, moved.below)
        if not store.intact(path, moved.size, moved.sha256):
            self._write(store, path, moved, stream, lies)
        name = str(store.absolute(path)) if moved.is_raw else path
        self.lying[moved.is_raw][moved.of] = name, store.changed_ns(path)

    def _write(self, store: Store, path: str, moved: MovedFile, stream: BinaryIO, lies: Path | None) -> None:
        target = store.absolute(path)
        # What a row owns may be written anew; what nobody knows is somebody's.
        if target.exists() and moved.of not in self.known:
            raise ArchiveFileError(
                f"{target} is there, and is not {moved.path} of the archive (sha256 {moved.sha256[:16]}...); "
                "nothing was changed"
            )
        replaced = target.exists()
        key = self.keys.get(moved.of, "") if not moved.is_raw else moved.sha256
        if not (self.link and lies is not None and store.link(path, key, lies)):
            store.write(path, key, partial(_copy, moved, stream))
        self.size += moved.size
        if not replaced:
            self.written.append(target)

    def undo(self) -> None:
        """Take away what was written."""
        for path in self.written:
            path.unlink(missing_ok=True)


def _copy(moved: MovedFile, stream: BinaryIO, into: HashingFile) -> None:
    while chunk := stream.read(CHUNK):
        into.write(chunk)
    # It was read before; but others may have written to it since.
    if into.digest() != moved.sha256:
        raise damaged(moved.path, moved)


# --- two archives -------------------------------------------------------------------------------------------------


def compare(first: Path, second: Path, *, quick: bool = False) -> tuple[list[Difference], Counter[str]]:
    """Compare two archives: projects, or tar files.

    Parameters
    ----------
    first, second : Path
        Folders of projects, or tar files. A project is compared with a tar file by the products that were chosen for
        that; two projects by all that they have.
    quick : bool
        Compare what registries and manifests say; without, files are read too, and held against that.

    Returns
    -------
    (list of Difference, Counter)
        The differences, and how many rows of each kind both have.
    """
    counts: Counter[str] = Counter()
    packages = [TarPackage(path) if path.is_file() else None for path in (first, second)]
    heads = [package.manifest.check(current_schema()) for package in packages if package is not None]
    selection = heads[0].selection if heads else Selection(every=True)
    with _side(first, packages[0], selection) as one, _side(second, packages[1], selection) as other:
        told = list(differences(one[0], other[0], counts))
        if not quick:
            for side, is_first in ((one, True), (other, False)):
                told += [Difference("file", problem, "", is_first, not is_first) for problem in side[1]()]
    return told, counts


Problems = Callable[[], list[str]]
"""Reads all files of an archive, and tells what is wrong with them."""


@contextmanager
def _side(
    path: Path, package: TarPackage | None, selection: Selection
) -> Iterator[tuple[Manifest, Problems]]:
    """The manifest of an archive."""
    if package is not None:
        yield package.manifest, lambda: _read_tar(package)
        return
    if not (path / PROJECT_FILE).is_file():
        raise ArchiveFileError(f"{path} is neither a project nor a tar file of 'ccdflow archive'")
    space = open_workspace(path, read_only=True)
    with _written(space, Selection(selection.expression, selection.every)) as written:
        yield written.manifest, lambda: _read_store(space, written)


def _read_tar(package: TarPackage) -> list[str]:
    try:
        package.check(current_schema())
    except ArchiveFileError as error:
        return [str(error)]
    return []


def _read_store(space: Workspace, written: _Written) -> list[str]:
    try:
        space.find_store()
    except StoreAwayError as error:
        return [str(error)]
    problems = []
    for moved in written.manifest.files:
        if not space.store.intact(moved.below, moved.size, moved.sha256):
            lies = written.where[moved.path]
            problems.append(
                f"{moved.below}, which is {'damaged' if lies.exists() else 'missing'} here: {lies}"
            )
    return problems
