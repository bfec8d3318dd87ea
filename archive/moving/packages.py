"""Archives on their way: a tar file, or the folders of another project; both give a manifest and files."""

import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from ccdflow.archive.digest import file_digest
from ccdflow.archive.moving.manifest import ArchiveFileError, Head, Manifest, MovedFile

MANIFEST = "manifest.jsonl"
"""The first member of a tar file."""
CHUNK = 1 << 20
"""Bytes that are read at once."""
_MODE = 0o644


class Package(Protocol):
    """An archive on its way."""

    @property
    def manifest(self) -> Manifest:
        """What it holds."""

    def check(self, known_schema: str) -> Head:
        """Read all of it, and make sure that it is whole."""

    def contents(self) -> Iterator[tuple[MovedFile, BinaryIO, Path | None]]:
        """Give each file, open, and where it lies by itself."""


class FolderPackage:
    """Products and raw frames of a project on this machine, by a manifest that was made of its registry.

    Parameters
    ----------
    manifest : Manifest
        What it holds.
    where : mapping of str to Path
        The file of each path in the manifest.
    """

    def __init__(self, manifest: Manifest, where: Mapping[str, Path]) -> None:
        self.manifest = manifest
        self._where = where

    def check(self, known_schema: str) -> Head:
        """Read the manifest and all files.

        Parameters
        ----------
        known_schema : str
            As of `Manifest.check`.

        Returns
        -------
        Head
            What it is.

        Raises
        ------
        ArchiveFileError
            If a file has another content than its row says.
        """
        head = self.manifest.check(known_schema)
        for moved in self.manifest.files:
            path = self._where[moved.path]
            if file_digest(path) != moved.sha256:
                raise damaged(str(path), moved)
        return head

    def contents(self) -> Iterator[tuple[MovedFile, BinaryIO, Path | None]]:
        """Give each file.

        Yields
        ------
        (MovedFile, binary file, Path)
            The file, open, and its path.
        """
        for moved in self.manifest.files:
            path = self._where[moved.path]
            with path.open("rb") as stream:
                yield moved, stream, path


class TarPackage:
    """A tar file that `write_tar` has written; nothing of it is unpacked before all of it was read.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = Manifest(str(path), self._open_manifest)

    def check(self, known_schema: str) -> Head:
        """Read the whole file: its manifest, and all files against it.

        Parameters
        ----------
        known_schema : str
            As of `Manifest.check`.

        Returns
        -------
        Head
            What it is.

        Raises
        ------
        ArchiveFileError
            If it is no such file, anything in it is not what the manifest says, or a member may not be unpacked.
        """
        head = self.manifest.check(known_schema)
        for moved, stream, _ in self.contents():
            digest = sha256()
            try:
                while chunk := stream.read(CHUNK):
                    digest.update(chunk)
            except tarfile.TarError as error:
                raise self._unread(error) from error
            if digest.hexdigest() != moved.sha256:
                raise damaged(f"{moved.path} in {self.path}", moved)
        return head

    def contents(self) -> Iterator[tuple[MovedFile, BinaryIO, Path | None]]:
        """Give each file.

        Yields
        ------
        (MovedFile, binary file, None)
            The file, open.

        Raises
        ------
        ArchiveFileError
            If the members are not those of the manifest, in its order, each a plain file below the top.
        """
        with self._reading() as (tar, _):
            members = iter(tar)
            next(members)
            for moved in self.manifest.files:
                member = next(members, None)
                if member is None:
                    raise self._error(f"{moved.path} is missing: it was cut off")
                refuse_member(member, str(self.path))
                if (member.name, member.size) != (moved.path, moved.size):
                    raise self._error(
                        f"its member {member.name!r} has {member.size} bytes, wanted {moved.path!r} with {moved.size}"
                    )
                yield moved, cast(BinaryIO, tar.extractfile(member)), None
            if (member := next(members, None)) is not None:
                raise self._error(f"its member {member.name!r} is not in its manifest")

    @contextmanager
    def _reading(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        try:
            with tarfile.open(self.path, "r:") as tar:
                first = tar.next()
                if first is None or first.name != MANIFEST or not first.isreg():
                    raise self._error(
                        f"its first member is no {MANIFEST}; wanted what 'ccdflow archive' has written"
                    )
                yield tar, first
        except tarfile.TarError as error:
            raise self._unread(error) from error

    def _open_manifest(self) -> BinaryIO:
        with self._reading() as (_, member):
            # As a plain file: what is read of a member is slow by lines, and ends when the tar file is closed.
            stream = self.path.open("rb")
            stream.seek(member.offset_data)
        return cast(BinaryIO, _Cut(stream, member.size))

    def _unread(self, error: tarfile.TarError) -> ArchiveFileError:
        return self._error(f"it can't be read ({error}); wanted what 'ccdflow archive' has written, whole")

    def _error(self, reason: str) -> ArchiveFileError:
        return ArchiveFileError(f"{self.path}: {reason}")


class _Cut:
    """The beginning of a file, by lines."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def __enter__(self) -> "_Cut":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def readline(self, most: int) -> bytes:
        line = self._stream.readline(min(most, self._left))
        self._left -= len(line)
        return line


def is_archive(path: Path) -> bool:
    """Tell whether a file is an archive, by its beginning.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    bool
        False also where it can't be read.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            first = tar.next()
    except (tarfile.TarError, OSError):
        return False
    return first is not None and first.name == MANIFEST


def refuse_member(member: tarfile.TarInfo, name: str) -> None:
    """Refuse a member of a tar file that is more than a plain file below the top.

    Parameters
    ----------
    member : TarInfo
        The member.
    name : str
        Of the tar file, for the message.

    Raises
    ------
    ArchiveFileError
        If it is a link, a device, a folder, or leads elsewhere.
    """
    if not member.isreg() or member.issparse():
        raise ArchiveFileError(f"{name}: its member {member.name!r} is no plain file; nothing of it is taken")
    # Python's own guard of unpacking; ours comes after, since it takes a leading slash away and goes on.
    with suppress(tarfile.AbsolutePathError):
        try:
            tarfile.data_filter(member, "/nowhere")
        except tarfile.FilterError as error:
            raise ArchiveFileError(f"{name}: {error}; nothing of it is taken") from error
    if member.name.startswith(("/", "\\")) or ".." in member.name.split("/"):
        raise ArchiveFileError(
            f"{name}: its member {member.name!r} leads out of the archive; nothing of it is taken"
        )


def damaged(path: str, moved: MovedFile) -> ArchiveFileError:
    """Return the error of a file with another content than was written.

    Parameters
    ----------
    path : str
        Where it is.
    moved : MovedFile
        What it should be.

    Returns
    -------
    ArchiveFileError
        To be raised.
    """
    return ArchiveFileError(
        f"{path} is damaged: its bytes are not those of sha256 {moved.sha256[:16]}...; nothing was changed"
    )


def write_tar(
    file: Path, manifest: Path, files: Sequence[MovedFile], where: Callable[[MovedFile], Path]
) -> None:
    """Write a tar file, whole or not at all: the manifest first, then the files, each read once.

    Parameters
    ----------
    file : Path
        The tar file; one that is there is replaced.
    manifest : Path
        The manifest.
    files : sequence of MovedFile
        The files, in the order of the manifest.
    where : callable
        Tells where a file lies.

    Raises
    ------
    ArchiveFileError
        If a file is not there, or has another content than its row says.
    """
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            with closing(tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT)) as tar:
                with manifest.open("rb") as content:
                    tar.addfile(_member(MANIFEST, manifest.stat().st_size), content)
                for moved in files:
                    _add(tar, moved, where(moved))
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _member(name: str, size: int) -> tarfile.TarInfo:
    """A member that says nothing of who has written it, and when."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, _MODE
    return member


def _add(tar: tarfile.TarFile, moved: MovedFile, path: Path) -> None:
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size != moved.size:
                raise damaged(str(path), moved)
            hashing = _Hashing(stream)
            tar.addfile(_member(moved.path, moved.size), cast(BinaryIO, hashing))
    except FileNotFoundError:
        raise ArchiveFileError(
            f"{path} is not there; 'ccdflow verify' tells what is missing. Nothing was written"
        ) from None
    if hashing.digest.hexdigest() != moved.sha256:
        raise damaged(str(path), moved)


class _Hashing:
    """A file that is hashed while it is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        self.digest.update(chunk)
        return chunk
