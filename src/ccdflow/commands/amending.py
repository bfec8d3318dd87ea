"""What `ccdflow amend` is told, and what it tells."""

import getpass
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccdflow.archive.registry.frames.amendments import Amendment, shown_amended
from ccdflow.commands.queries import amendment_row
from ccdflow.tasks.rawfiles.amending import (
    Chosen,
    amend_frames,
    checked_name,
    chosen_frames,
    parse_changes,
    undo_amendments,
)
from ccdflow.tasks.workspace import Workspace

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_. -]*")


@dataclass(frozen=True)
class Words:
    """Words of the command line, sorted: names of frames, and what is said of them."""

    names: tuple[str, ...]
    changes: tuple[str, ...]

    @classmethod
    def of(cls, words: Sequence[str], *, undo: bool) -> "Words":
        """Sort words; to take something back, its name alone is enough.

        Parameters
        ----------
        words : sequence of str
            As they stand on the command line.
        undo : bool
            Whether something is taken back.
        """
        changes = [word for word in words if _is_change(word, undo=undo)]
        return cls(tuple(word for word in words if word not in changes), tuple(changes))


def _is_change(word: str, *, undo: bool) -> bool:
    key, equals, _ = word.partition("=")
    if not _KEY.fullmatch(key) or Path(word).exists() or re.fullmatch(r"f\d+(-f?\d+)?", word):
        return False
    return bool(equals) or undo


@dataclass(frozen=True)
class Told:
    """A correction, as it is told."""

    amendment: Amendment
    undone: bool

    @property
    def frame(self) -> int:
        """Id of the frame."""
        return self.amendment.frame

    def line(self) -> str:
        """One line for people."""
        told = self.amendment
        now, before = (told.said, told.value) if self.undone else (told.value, told.said)
        return f"f{told.frame} {told.name}: {shown_amended(before)} -> {shown_amended(now)}"

    def row(self) -> dict[str, Any]:
        """The correction for ``--json``."""
        return amendment_row(self.amendment)


def amend_or_undo(space: Workspace, words: Words, chosen: Chosen, why: str, *, undo: bool) -> list[Told]:
    """Correct frames, or take corrections back.

    Parameters
    ----------
    space : Workspace
        The project.
    words : Words
        What the command line names.
    chosen : Chosen
        Which frames are meant.
    why : str
        The reason, which a correction needs.
    undo : bool
        Whether corrections are taken back.

    Returns
    -------
    list of Told
        What has changed.

    Raises
    ------
    ValueError
        If something is not understood or missing; says what was wanted.
    """
    if not chosen.anything:
        raise ValueError(
            "amend needs frames: f12, f12-f40, files, or --class, --object, --filter, --exptime, --night, --camera"
        )
    if undo:
        names = [checked_name(space, word.partition("=")[0]) for word in words.changes] or None
        taken = undo_amendments(space, chosen_frames(space, chosen), names)
        if not taken:
            raise ValueError("nothing of this is amended; 'ccdflow list amendments' shows what is")
        return [Told(amendment, True) for amendment in taken]
    if not words.changes:
        raise ValueError("amend needs KEY=VALUE, for instance filter=V, or --undo")
    changes = parse_changes(space, words.changes)
    if not why.strip():
        raise ValueError("amend needs --why, for those who wonder later")
    made = amend_frames(space, chosen_frames(space, chosen), changes, _user(), why.strip())
    return [Told(amendment, False) for amendment in made]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as a number that has no name
        return ""
