"""Raw files are brought into a folder, by what their headers say, before they are registered there.

A file is there whole or not at all; one that is moved is only removed from where it was once it is registered, and what
lies at its new place has been read and has the same sha256. A file of another content is never replaced.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from ccdflow.archive.digest import file_digest
from ccdflow.archive.fits.filefacts import file_facts
from ccdflow.archive.fits.rawfile import UnreadableFrameError, open_raw
from ccdflow.archive.fits.writer import HashingFile
from ccdflow.archive.foreignfile import name_fault, own_fault
from ccdflow.archive.registry.frames.places import frames_at
from ccdflow.archive.store import Store, clean_part, tidy_part
from ccdflow.cascade.headers.classify import describe
from ccdflow.cascade.wording import unknown
from ccdflow.tasks.ingest import IngestReport, Progress, find_files, ingest_files
from ccdflow.tasks.workspace import Workspace

Mode = Literal["inplace", "copy", "move", "hardlink", "symlink"]
MODES = ("inplace", "copy", "move", "hardlink", "symlink")
FIELDS = ("telescope", "camera", "instrument", "filter", "object", "class", "night", "name")
"""What a template may name: columns of a frame, and the name of its file."""
TEMPLATE = "{telescope}/{night}/{name}"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Bringing:
    """How raw files are brought in.

    Parameters
    ----------
    mode : {'inplace', 'copy', 'move', 'hardlink', 'symlink'}
        What becomes of each.
    root : Path
        The folder below which they lie then.
    template : str
        Where below it; see `FIELDS`.

    Raises
    ------
    ValueError
        If there is no such mode, or the template is none.
    """

    mode: Mode
    root: Path
    template: str = TEMPLATE

    def __post_init__(self) -> None:
        """Refuse what would be noticed only at the first file."""
        if self.mode not in MODES:
            raise ValueError(unknown("--transfer", self.mode, MODES))
        try:
            named = {name for _, name, _, _ in Formatter().parse(self.template) if name is not None}
        except ValueError as error:
            raise ValueError(f"template {self.template!r}: {error}") from None
        for name in sorted(named - {*FIELDS}):
            raise ValueError(f"template {self.template!r}: {unknown('field', name, FIELDS)}")
        if "name" not in named:
            raise ValueError(f"template {self.template!r} must hold {{name}}, which tells files apart")
        if self.template.startswith("/") or ".." in self.template.split("/"):
            raise ValueError(f"template {self.template!r} leads out of {self.root}")


@dataclass(frozen=True)
class _Brought:
    """A file, where it is now, and whether the one at its old place is to go."""

    source: Path
    target: Path
    goes: bool = False


def bring_files(
    space: Workspace,
    paths: Sequence[Path],
    bringing: Bringing,
    progress: Progress | None = None,
    take_processed: str = "",
) -> IngestReport:
    """Bring raw files to their places, and register them there.

    Parameters
    ----------
    space : Workspace
        The project.
    paths : sequence of Path
        Files and folders.
    bringing : Bringing
        How, and to where.
    progress, take_processed
        As of `ingest_files`.

    Returns
    -------
    IngestReport
        What became of them. A file that can't be read stays where it is.
    """
    report = IngestReport(asked=True)
    brought: list[_Brought] = []
    left: list[str] = []
    products = os.path.realpath(space.store.root)
    for path in list(find_files(paths, report)):
        if os.path.realpath(path).startswith(f"{products}/"):
            continue
        try:
            brought.append(_bring(space, path.absolute(), bringing))
        except (UnreadableFrameError, OSError, ValueError) as error:
            left.append(f"{path}: {error}" if str(path) not in str(error) else str(error))
    registered = ingest_files(space, [file.target for file in brought], progress, take_processed)
    registered.problems[:0] = report.problems
    registered.counts += report.counts
    for problem in left:
        registered.refuse(problem)
    _remove(space, [file for file in brought if file.goes], registered)
    return registered


def _bring(space: Workspace, source: Path, bringing: Bringing) -> _Brought:
    """Put one file where it belongs."""
    if fault := name_fault(source):
        raise UnreadableFrameError(fault)
    store = Store(bringing.root.absolute())
    path = _place(space, source, bringing.template)
    target = store.absolute(path)
    # Also by another name of the same folder: what is removed there would be gone here.
    if os.path.realpath(source) == os.path.realpath(target):
        if bringing.mode == "move" and target.is_symlink():
            raise ValueError(f"{target} is a link to {source}, which can't be moved there")
        return _Brought(source, target)
    if not target.exists():
        _WAYS[bringing.mode](store, path, source)
    elif not os.path.samefile(source, target) and file_digest(source) != file_digest(target):
        raise ValueError(f"{target} is there with another content than {source}; neither was changed")
    return _Brought(source, target, bringing.mode == "move")


def _place(space: Workspace, source: Path, template: str) -> str:
    """Where a file belongs below the folder, by its header."""
    with own_fault(source):
        raw = open_raw(source)
        described = describe(raw.header, raw.shape, space.instruments, file_facts(raw))
    values: dict[str, Any] = {
        name: clean_part(str(getattr(described, "frame_class" if name == "class" else name) or ""))
        for name in FIELDS
        if name != "name"
    }
    parts = template.split("/")
    return "/".join(
        part.format(**values, name=source.name) if "{name" in part else tidy_part(part.format(**values))
        for part in parts
    )


# --- ways ---------------------------------------------------------------------------------------------------------


def _copy(store: Store, path: str, source: Path) -> None:
    before = source.stat()

    def write(stream: HashingFile) -> None:
        with source.open("rb") as file:
            while chunk := file.read(CHUNK):
                stream.write(chunk)
        after = source.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise OSError(f"{source} is still being written; it is looked at again the next time")

    stored = store.write(path, "raw", write)
    target = store.absolute(path)
    # Times are not content, and some file systems keep none.
    shutil.copystat(source, target)
    if file_digest(target) != stored.sha256:
        target.unlink()
        raise OSError(f"{target} was not written as it was read from {source}; it was taken away again")


def _hardlink(store: Store, path: str, source: Path) -> None:
    if not store.link(path, "raw", source):
        raise OSError(
            f"{source} can't have another name in {store.root}: they are on two file systems, or this one knows no "
            "hard links; '--transfer copy' or 'symlink' can"
        )


def _move(store: Store, path: str, source: Path) -> None:
    # On one file system no byte is moved: the file has two names until it is registered.
    if source.is_symlink() or not store.link(path, "raw", source):
        _copy(store, path, source)


def _symlink(store: Store, path: str, source: Path) -> None:
    target = store.absolute(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


_WAYS: dict[str, Callable[[Store, str, Path], None]] = {
    "copy": _copy,
    "move": _move,
    "hardlink": _hardlink,
    "symlink": _symlink,
}


def _remove(space: Workspace, files: Sequence[_Brought], report: IngestReport) -> None:
    """Take files away from where they were, once they are registered where they are."""
    again: list[Path] = []
    for file in files:
        if not space.registry.read(frames_at, [str(file.target)]):
            continue
        if not os.path.samefile(file.source, file.target) and file_digest(file.source) != file_digest(
            file.target
        ):
            report.problems.append(f"{file.source} has changed meanwhile, and was not removed")
            continue
        if space.registry.read(frames_at, [str(file.source)]):
            again.append(file.target)
        file.source.unlink()
    # What was registered where it was is a copy of that until the old file is gone: then it takes its place.
    if again:
        ingest_files(space, again)
