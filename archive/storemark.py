"""The mark of a store: a file in its root that says which archive's products it holds.

A disk that is not mounted is an empty folder, and looks like a store of which all was deleted. So a folder is a store
by its mark alone, and nothing is concluded from files that are not there where it is missing.
"""

import os
import re
from pathlib import Path

MARK = ".ccdflow-store"
"""Name of the file; hidden, as all that is no product."""
LONGEST = 10_000
"""Characters of a mark that are looked at."""
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
    mark = root / MARK
    try:
        # A pipe would never give a word, a device never end.
        if not mark.is_file():
            return ""
        with mark.open(encoding="utf-8", errors="replace") as file:
            found = _ID.search(file.read(LONGEST))
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

    Raises
    ------
    StoreAwayError
        If the folder is a link that leads nowhere, or the mark in it is a folder.
    """
    # Where the link leads a folder is not made: a disk that is mounted there later would hide it.
    if root.is_symlink() and not root.exists():
        leads = root.readlink()
        raise StoreAwayError(
            f"the store {root} is a link to {leads}, which is not there; is its disk mounted?"
        )
    root.mkdir(parents=True, exist_ok=True)
    if (root / MARK).is_dir():
        raise StoreAwayError(f"{root / MARK} is a folder, wanted the file that marks a store; take it away")
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
