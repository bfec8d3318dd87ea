"""The manifest of an archive: JSON lines with what it is, its rows, its files, and a digest of all that at the end.

Nothing stands in it that says when or where it was written, so that the same archive gives the same bytes.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from ccdflow.archive.moving.kinds import KINDS, Kind, Row
from ccdflow.archive.moving.selecting import Selection

FORMAT = 1
"""Raised where an earlier ccdflow could not read what a later one writes."""
HEAD, FILE, END = "archive", "file", "end"
PRODUCTS, RAWS = "products", "raws"
"""Folders of the files."""
_LONGEST_LINE = 1 << 28
"""Bytes of a line; the parameters of a job take some thousands."""


class ArchiveFileError(ValueError):
    """What should be an archive is none, or not whole; or it does not fit what is there."""


@dataclass(frozen=True)
class Head:
    """What an archive is: by which ccdflow, of which version of the registry, and what was chosen."""

    ccdflow: str
    schema: str
    selection: Selection


@dataclass(frozen=True)
class MovedFile:
    """A file of an archive.

    Parameters
    ----------
    path : str
        Below the archive's top: ``products/...`` as in the store, or ``raws/...``.
    sha256 : str
        Of its bytes.
    size : int
        In bytes.
    of : int
        Id in the archive of the product, or of the frame.
    """

    path: str
    sha256: str
    size: int
    of: int

    @property
    def is_raw(self) -> bool:
        """Whether it is a frame's."""
        return self.path.startswith(f"{RAWS}/")

    @property
    def below(self) -> str:
        """Its path below the folder of its kind."""
        return self.path.partition("/")[2]


class ManifestWriter:
    """Writes a manifest line by line.

    Parameters
    ----------
    stream : binary file
        Where to.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = sha256()

    def head(self, head: Head) -> None:
        """Write the first line."""
        self._line({"kind": HEAD, "format": FORMAT, **asdict(head)})

    def row(self, kind: Kind, row: Row) -> None:
        """Write a row."""
        self._line({"kind": kind.name, "row": row})

    def end(self, files: Sequence[MovedFile]) -> None:
        """Write the files, and the last line."""
        for moved in files:
            self._line({"kind": FILE, **asdict(moved)})
        self._line({"kind": END, "sha256": self._digest.hexdigest()})

    def _line(self, content: dict[str, Any]) -> None:
        # Names of raw files may be no UTF-8: as ASCII all of them can be written.
        line = f"{json.dumps(content, sort_keys=True, separators=(',', ':'), default=str)}\n".encode("ascii")
        self._digest.update(line)
        self._stream.write(line)


class Manifest:
    """A manifest that is read, as often as it takes.

    Parameters
    ----------
    name : str
        What it is the manifest of, for messages.
    source : callable
        Opens it from its beginning.
    """

    def __init__(self, name: str, source: Callable[[], BinaryIO]) -> None:
        self.name = name
        self._source = source
        self.files: list[MovedFile] = []

    def check(self, known_schema: str) -> Head:
        """Read it whole, and make sure that it is one, and not damaged.

        Parameters
        ----------
        known_schema : str
            The version of the registry that this ccdflow knows.

        Returns
        -------
        Head
            Its first line. From now on `files` holds its files, in order.

        Raises
        ------
        ArchiveFileError
            If it is none, is damaged, or a newer ccdflow has written it.
        """
        digest, files, head, last = sha256(), list[MovedFile](), None, ""
        columns = {kind.name: {*kind.columns, *(part.name for part in kind.parts)} for kind in KINDS}
        for line, content in self._lines():
            match content.get("kind"):
                case "archive" if head is None:
                    head = self._head(content, known_schema)
                case "end" if head is not None:
                    last = str(content.get("sha256", ""))
                    if last != digest.hexdigest():
                        raise self._error("its manifest is damaged: its digest is not the one that it states")
                    continue
                case "file" if head is not None:
                    files.append(self._file(content))
                case kind if head is not None and kind in columns and isinstance(content.get("row"), dict):
                    if strange := sorted(content["row"].keys() - columns[kind]):
                        raise self._error(
                            f"a {kind} has {', '.join(strange)}, which this ccdflow does not know"
                        )
                case kind:
                    raise self._error(f"its manifest has a line of kind {kind!r} where none belongs")
            if last:
                raise self._error("its manifest goes on behind its end")
            digest.update(line)
        if head is None or not last:
            raise self._error("its manifest has no end: it was cut off")
        self.files = files
        return head

    def rows(self, kind: Kind) -> Iterator[Row]:
        """Read the rows of a kind.

        Parameters
        ----------
        kind : Kind
            Which.

        Yields
        ------
        dict of str to object
            The next row.
        """
        for name, content in self.lines():
            if name == kind.name:
                yield content["row"]

    def lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read all lines.

        Yields
        ------
        (str, dict)
            Kind and content of the next.
        """
        for _, content in self._lines():
            yield str(content.get("kind")), content

    def _lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        with self._source() as stream:
            while line := stream.readline(_LONGEST_LINE):
                try:
                    content = json.loads(line)
                except (ValueError, RecursionError):
                    raise self._error("its manifest has a line that is no JSON") from None
                if not isinstance(content, dict):
                    raise self._error("its manifest has a line that is no JSON object")
                yield line, content

    def _head(self, content: dict[str, Any], known_schema: str) -> Head:
        number, schema = content.get("format"), str(content.get("schema", ""))
        if number != FORMAT or schema > known_schema:
            raise self._error(
                f"ccdflow {content.get('ccdflow')} has written it, in form {number} for registries of version "
                f"{schema}; this one knows form {FORMAT} and version {known_schema}: update ccdflow"
            )
        try:
            return Head(str(content["ccdflow"]), schema, Selection(**content["selection"]))
        except (KeyError, TypeError):
            raise self._error("its manifest does not say what was chosen") from None

    def _file(self, content: dict[str, Any]) -> MovedFile:
        try:
            moved = MovedFile(**{name: content[name] for name in ("path", "sha256", "size", "of")})
            parts = PurePosixPath(moved.path).parts
            fits = moved.path == "/".join(parts) and isinstance(moved.size, int) and isinstance(moved.of, int)
        except (KeyError, TypeError):
            raise self._error("its manifest has a line of a file without path, sha256, size or of") from None
        if not fits or len(parts) < 2 or parts[0] not in (PRODUCTS, RAWS) or {"..", "."} & {*parts}:
            raise self._error(f"its manifest names a file {moved.path!r}; wanted products/... or raws/...")
        return moved

    def _error(self, reason: str) -> ArchiveFileError:
        return ArchiveFileError(f"{self.name}: {reason}")
