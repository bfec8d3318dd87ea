"""The mark of a store: a file in its root that says which archive's products it holds.

A disk that is not mounted is an empty folder, and looks like a store of which all was deleted. So a folder is a store
by its mark alone, and nothing is concluded from files that are not there where it is missing.
"""

import os
import re
from pathlib import Path

MARK = ".ccdflow-store"
"""Name of the file; hidden, as all that is no product."""
_TEXT = """\
This folder is the store of a ccdflow archive, the one of this id. Leave this file here: without it the store counts
as not there.
archive: {identity}
"""
_ID = re.compile(r"^archive: *(\S+) *$", flags=re.MULTILINE)


class StoreAwayError(RuntimeError):
    """The store of a project, or much of it, is not there: nothing may be concluded from that, and nothing changed."""


def read_mark(root: Path) -> str:
    """Return the id of the archive whose store a folder is.

    Parameters
    ----------
    root : Path
        The folder.

    Returns
    -------
    str
        The id; empty where the folder, or a mark in it, is not there or can't be read.
    """
    try:
        found = _ID.search((root / MARK).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
    return found[1] if found else ""


def write_mark(root: Path, identity: str) -> None:
    """Mark a folder as the store of an archive; it is made if it isn't there.

    Parameters
    ----------
    root : Path
        The folder.
    identity : str
        The archive's id.
    """
    root.mkdir(parents=True, exist_ok=True)
    # Of two programs that do so at once both write the same; whoever reads sees a whole file or none.
    temporary = root / f"{MARK}.{os.getpid()}"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(_TEXT.format(identity=identity))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(root / MARK)
    finally:
        temporary.unlink(missing_ok=True)


def holds_products(root: Path) -> bool:
    """Tell whether a folder holds any file that may be a product.

    Parameters
    ----------
    root : Path
        The folder.

    Returns
    -------
    bool
        False also where there is no folder; hidden files and folders at its top do not count.
    """
    folders = [path for path in root.iterdir() if not path.name.startswith(".")] if root.is_dir() else []
    return any(path.is_file() or any(below.is_file() for below in path.rglob("*")) for path in folders)
