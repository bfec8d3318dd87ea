"""What lies where: folders and files of others are looked at, and none is waited for longer than it may take."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from ccdflow.archive.fits.rawfile import looks_like_raw
from ccdflow.archive.foreignfile import UnreadableFrameError, unread
from ccdflow.archive.patience import in_time

_AT_ONCE = 500
"""Files that are looked at by one thread in one go."""

Facts = os.stat_result | OSError | ValueError
"""What the system says of a file, or why it says nothing."""


def facts_in_time(path: Path) -> os.stat_result | None:
    """Return what the system says of a file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    os.stat_result or None
        None where there is no ordinary file.

    Raises
    ------
    NotReadError
        If the system does not say it in time.
    """
    try:
        facts = in_time(path, lambda: _facts(path))
    except OSError as error:
        raise unread(path, error) from None
    return facts if isinstance(facts, os.stat_result) and stat.S_ISREG(facts.st_mode) else None


def facts_of(paths: Iterable[Path]) -> Iterator[tuple[Path, Facts]]:
    """Look at many files.

    Parameters
    ----------
    paths : iterable of Path
        Files.

    Yields
    ------
    tuple of Path and Facts
        Each, in order; what is not said in time has an error whose number is ETIMEDOUT.
    """
    waiting = iter(paths)
    while together := list(islice(waiting, _AT_ONCE)):
        try:
            yield from zip(together, in_time(together[0], lambda: [*map(_facts, together)]), strict=True)
        except OSError:
            # One of them keeps the others waiting: each for itself, and soon none of that disk any more.
            yield from ((path, _alone(path)) for path in together)


def _alone(path: Path) -> Facts:
    try:
        return in_time(path, lambda: _facts(path))
    except OSError as error:
        return error


def _facts(path: Path) -> Facts:
    try:
        return path.stat()
    except (OSError, ValueError) as error:  # a row may hold what is no name of any file
        return error


def is_kind(path: Path, kind: int) -> bool:
    """Tell whether something is an ordinary file, or a folder.

    Parameters
    ----------
    path : Path
        The place.
    kind : int
        ``stat.S_IFREG`` or ``stat.S_IFDIR``.

    Returns
    -------
    bool
        True also for an ordinary file of which the system says nothing in time: whoever reads it is told so.
    """
    facts = _alone(path)
    if isinstance(facts, OSError) and is_silent(facts):
        return kind == stat.S_IFREG
    return isinstance(facts, os.stat_result) and stat.S_IFMT(facts.st_mode) == kind


def is_silent(facts: Facts) -> bool:
    """Tell whether the system has said nothing of a file in time.

    Parameters
    ----------
    facts : Facts
        What `facts_of` gives.

    Returns
    -------
    bool
        False for a file that is not there.
    """
    return isinstance(facts, TimeoutError)


def fits_below(folder: Path) -> tuple[list[Path], list[UnreadableFrameError]]:
    """Return what is called as FITS files are, in a folder and those below it.

    Parameters
    ----------
    folder : Path
        The folder. Links to folders are not followed.

    Returns
    -------
    list of Path, list of UnreadableFrameError
        In the order of their names, whatever they are (a folder, a pipe, a link to nothing are named, not passed
        over); and of each folder that can't be looked into, why.
    """
    names, closed, folders = list[Path](), list[UnreadableFrameError](), [folder]
    while folders:
        place = folders.pop()
        try:
            entries = in_time(place, partial(_entries, place))
        except OSError as error:
            closed.append(unread(place, error))
            continue
        names += [path for path, _ in entries if looks_like_raw(path)]
        folders += [path for path, is_folder in entries if is_folder]
    return sorted(names), sorted(closed, key=str)


def _entries(folder: Path) -> Sequence[tuple[Path, bool]]:
    with os.scandir(folder) as entries:
        return [(folder / entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


__all__ = ["Facts", "facts_in_time", "facts_of", "fits_below", "is_kind", "is_silent"]
