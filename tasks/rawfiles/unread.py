"""Raw files that a plan does not know as they are now: a question tells of them, and leaves the reading to a run."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ccdflow.archive.registry.frames.files import pending_frames, registered_files
from ccdflow.tasks.rawfiles.places import facts_of, is_silent
from ccdflow.tasks.workspace import Workspace

READS = "'ccdflow run' reads"


def changed_since(space: Workspace) -> Iterator[str]:
    """Say which raw files have gone, have changed since they were registered, or were not read yet.

    Parameters
    ----------
    space : Workspace
        The project.

    Yields
    ------
    str
        A sentence for each folder whose files are gone, one for all that have changed, one for rows not read yet.
    """
    changed: list[Path] = []
    gone: dict[Path, list[str]] = {}
    silent: dict[Path, list[str]] = {}
    known = {Path(name): facts for name, *facts in space.registry.read(registered_files)}
    for path, facts in facts_of(known):
        if not isinstance(facts, os.stat_result):
            (silent if is_silent(facts) else gone).setdefault(path.parent, []).append(path.name)
        elif stat.S_ISREG(facts.st_mode) and [facts.st_size, facts.st_ctime_ns] != known[path]:
            changed.append(path)
    yield from gone_in_words(gone)
    yield from silent_in_words(silent)
    if changed:
        one = len(changed) == 1
        named = f"{changed[0]} has" if one else f"{len(changed)} raw files, for instance {changed[0]}, have"
        yield f"{named} changed since registered; {READS} {'it' if one else 'them'} anew"
    if unread := _unread(space):
        yield f"{unread} frame{' is' if unread == 1 else 's are'} registered by a row alone; {READS} the files first"


def gone_in_words(gone: dict[Path, list[str]]) -> Iterator[str]:
    """Say which raw files are gone: a sentence for each folder.

    Parameters
    ----------
    gone : dict of Path to list of str
        Names of files by their folder.

    Yields
    ------
    str
        Of an archive that is not mounted it is one, not thousands.
    """
    for folder, names in gone.items():
        files = f"{folder / names[0]} is" if len(names) == 1 else f"{len(names)} raw files of {folder} are"
        yield f"{files} gone; what was made from them stays"


def silent_in_words(silent: dict[Path, list[str]]) -> Iterator[str]:
    """Say of which raw files the system says nothing: a sentence for each folder.

    Parameters
    ----------
    silent : dict of Path to list of str
        Names of files by their folder.

    Yields
    ------
    str
        They are looked at again the next time.
    """
    for folder, names in silent.items():
        files = f"{folder / names[0]}" if len(names) == 1 else f"{len(names)} raw files of {folder}"
        yield f"{files}: the disk does not answer; looked at again the next time"


def _unread(space: Workspace) -> int:
    """How many rows name a file that nobody has read."""
    number, before = 0, None
    # The newest come first, in portions.
    while rows := space.registry.read(pending_frames, before=before):
        number, before = number + len(rows), rows[-1][0]
    return number
