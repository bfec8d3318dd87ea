"""Paths of raw files below named roots: in the registry they are relative to these, anywhere else they are absolute.

``/data/raw/2026-03-01/a.fits`` is kept as ``raw:2026-03-01/a.fits`` where the project names the root ``raw``. So raw
files may move: where the project file names another folder then, all paths lead there. No absolute path looks so.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, Text, TypeDecorator, text

Roots = tuple[tuple[str, str], ...]
"""Names of roots, and their folders."""
_ATTRIBUTE = "ccdflow_roots"
BEHIND_SLASH = chr(ord("/") + 1)
"""The first character behind a slash: paths below a folder lie between the two, for both databases by the index."""
_BEHIND_COLON = chr(ord(":") + 1)


class Place(TypeDecorator[str]):
    """A column of paths of raw files; texts are absolute paths in Python, and what the registry keeps in it."""

    impl = Text().with_variant(Text(collation="C"), "postgresql")
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Return what is kept of a path."""
        return kept(value, dialect)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the path of what is kept."""
        return absolute(value, dialect)


def set_roots(dialect: Dialect, roots: Roots) -> None:
    """Let paths of a database be relative to roots.

    Parameters
    ----------
    dialect : Dialect
        That of its engine alone, before it is used.
    roots : tuple of tuple of str
        Names and folders, absolute; one folder may have two spellings, of which paths get the first.
    """
    setattr(dialect, _ATTRIBUTE, roots)


def roots_of(dialect: Dialect) -> Roots:
    """Return the roots of a database.

    Parameters
    ----------
    dialect : Dialect
        That of its engine.

    Returns
    -------
    tuple of tuple of str
        Names and folders.
    """
    roots: Roots = getattr(dialect, _ATTRIBUTE, ())
    return roots


def kept(path: Any, dialect: Dialect) -> Any:
    """Return what the registry keeps of a path.

    Parameters
    ----------
    path : str or object
        Absolute, or what is kept already.
    dialect : Dialect
        That of its engine.

    Returns
    -------
    str or object
        ``ROOT:PATH`` below a root, of several the innermost; anything else as it is.
    """
    if not isinstance(path, str):
        return path
    above = [(folder, name) for name, folder in roots_of(dialect) if path.startswith(f"{folder}/")]
    if not above:
        return path
    folder, name = max(above, key=lambda root: len(root[0]))
    return f"{name}:{path[len(folder) + 1 :]}"


def absolute(path: Any, dialect: Dialect) -> Any:
    """Return the path of what the registry keeps.

    Parameters
    ----------
    path : str or object
        As it is kept.
    dialect : Dialect
        That of its engine.

    Returns
    -------
    str or object
        Absolute; as it is where it is below no root that the project names.
    """
    if not isinstance(path, str) or path.startswith("/"):
        return path
    root, colon, below = path.partition(":")
    folder = next((folder for name, folder in roots_of(dialect) if name == root), None)
    return path if not colon or folder is None else f"{folder}/{below}"


def spans_below(folder: str, dialect: Dialect) -> list[tuple[str, str]]:
    """Return between what the kept paths of all files below a folder lie.

    Parameters
    ----------
    folder : str
        Absolute, without a slash at its end.
    dialect : Dialect
        That of the engine.

    Returns
    -------
    list of tuple of str
        Below which text they begin, and before which they end.
    """
    spans = [(f"{folder}/", f"{folder}{BEHIND_SLASH}")]
    for name, root in roots_of(dialect):
        if root == folder or root.startswith(f"{folder}/"):
            spans.append((f"{name}:", f"{name}{_BEHIND_COLON}"))
        elif folder.startswith(f"{root}/"):
            below = f"{name}:{folder[len(root) + 1 :]}"
            spans.append((f"{below}/", f"{below}{BEHIND_SLASH}"))
    return spans


def is_kept_otherwise(connection: Connection) -> bool:
    """Tell whether absolute paths are kept that lie below roots: as other programs insert them, or from before.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.

    Returns
    -------
    bool
        True where `keep_relative` has something to do.
    """
    return any(
        connection.execute(text(f"SELECT 1 FROM frame WHERE {_CURRENT} LIMIT 1"), _bounds(folder)).first()
        for _, folder in _innermost_first(connection)
    )


def keep_relative(connection: Connection) -> None:
    """Keep absolute paths below roots as what they are called below them.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.

    Notes
    -----
    A row that another program has inserted for a file which has one already gives way to that.
    """
    for name, folder in _innermost_first(connection):
        values: dict[str, Any] = {**_bounds(folder), "name": f"{name}:", "begin": len(folder) + 2}
        connection.execute(text(_TWICE), values)
        connection.execute(text(_RENAMED), values)


def _innermost_first(connection: Connection) -> Sequence[tuple[str, str]]:
    return sorted(roots_of(connection.dialect), key=lambda root: -len(root[1]))


def _bounds(folder: str) -> dict[str, Any]:
    return {"first": f"{folder}/", "last": f"{folder}{BEHIND_SLASH}"}


# By the index of current files, as its condition is spelt.
_CURRENT = "path IS NOT NULL AND status <> 'superseded' AND path > :first AND path < :last"
_KEPT = "CAST(:name AS TEXT) || substr(frame.path, :begin)"
_OTHER = f"SELECT id FROM frame other WHERE other.path = {_KEPT} AND other.status <> 'superseded'"
_TWICE = (
    f"UPDATE frame SET status = 'superseded', superseded_by = ({_OTHER}), reason = 'its file has a row already' "
    f"WHERE {_CURRENT} AND EXISTS ({_OTHER})"
)
_RENAMED = f"UPDATE frame SET path = {_KEPT} WHERE {_CURRENT}"
