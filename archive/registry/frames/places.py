"""Frames by where their files lie."""

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, func, or_, select, type_coerce

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.rootpaths import spans_below
from ccdflow.archive.registry.tables import SORTED, FrameRow

_FOLDERS_AT_ONCE = 200
"""Folders of one statement: SQLite takes conditions of 1000 levels at most."""


def frames_at(connection: Connection, paths: Collection[str]) -> set[int]:
    """Return the frames whose files are named, or lie below folders that are named.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    paths : collection of str
        Absolute paths of files and folders, as they were registered.

    Returns
    -------
    set of int
        Ids. A duplicate stands for the frame that holds its content.
    """
    frames: set[int] = set()
    files: set[str] = set()
    held = select(FrameRow.path, func.coalesce(FrameRow.duplicate_of, FrameRow.id))
    current = held.where(FrameRow.path.is_not(None), FrameRow.status != "superseded")
    for part in batches(sorted(set(paths))):
        for path, frame in connection.execute(current.where(FrameRow.path.in_(part))):
            files.add(str(path))
            frames.add(frame)
    # What is kept of a path may be relative to a root. What is a file is no folder.
    kept = type_coerce(FrameRow.path, SORTED)
    for some in _some(sorted({path.rstrip("/") for path in paths} - files)):
        spans = [span for path in some for span in spans_below(path, connection.dialect)]
        below = [(kept > first) & (kept < last) for first, last in spans]
        frames |= {frame for _, frame in connection.execute(current.where(or_(*below)))}
    return frames


def last_paths(connection: Connection, number: int) -> list[str]:
    """Return the files of the frames that were registered last.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    number : int
        How many, at most.

    Returns
    -------
    list of str
        Their paths, the last one first.
    """
    usable = FrameRow.path.is_not(None), FrameRow.sha256.is_not(None), FrameRow.status == "registered"
    statement = select(FrameRow.path).where(*usable).order_by(FrameRow.id.desc()).limit(number)
    return [path or "" for path in connection.execute(statement).scalars()]


def _some(folders: list[str]) -> Iterable[list[str]]:
    return (folders[start : start + _FOLDERS_AT_ONCE] for start in range(0, len(folders), _FOLDERS_AT_ONCE))
