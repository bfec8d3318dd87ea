"""Doubts about frames: kept when a frame is read, told anew when it is read again."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.frames.keywords import storable
from ccdflow.archive.registry.tables import FrameDoubtRow, table
from ccdflow.cascade.records import Doubt

HEADER = "header"
"""The source of what reading a header tells."""

MEASURED = "gain"
"""The source of what the photon noise of flats tells."""

_INSERT = insert(table(FrameDoubtRow))


@dataclass(frozen=True)
class DoubtCount:
    """Doubts of one kind summed up: in how many frames or products, and one of them as an example.

    Parameters
    ----------
    kind : str
        The kind.
    number : int
        How many frames or products have it.
    example : str
        The sentence of the first of them.
    subject : str
        What the example is about: ``f12`` or ``p7``.
    """

    kind: str
    number: int
    example: str
    subject: str = ""

    def line(self) -> str:
        """Return the line that tells people of it."""
        what = "product" if self.subject.startswith("p") else "frame"
        many = f"{self.number} {what}{'' if self.number == 1 else 's'}"
        return f"doubt {self.kind}: {many}, for instance {self.subject}: {self.example}"


def add_doubts(
    connection: Connection, frames: Iterable[tuple[int, Sequence[Doubt]]], source: str = HEADER
) -> None:
    """Write the doubts of frames that have none yet from this source.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frames : iterable of tuple of int and sequence of Doubt
        Ids of frames, each with its doubts.
    source : str
        Who found them.
    """
    rows = [
        {
            "frame_id": frame,
            "source": source,
            "position": position,
            "kind": doubt.kind,
            "text": storable(doubt.text),
        }
        for frame, doubts in frames
        for position, doubt in enumerate(doubts)
    ]
    if rows:  # nearly never: most frames cost nothing here
        connection.execute(_INSERT, rows)


def replace_doubts(connection: Connection, frame: int, doubts: Sequence[Doubt], source: str = HEADER) -> None:
    """Write the doubts of a frame in place of those that this source had.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frame : int
        Its id.
    doubts : sequence of Doubt
        All that there are now; none where they are cleared up.
    source : str
        Who found them; what others have found stays.
    """
    of_source = FrameDoubtRow.frame_id == frame, FrameDoubtRow.source == source
    rows = connection.execute(
        select(FrameDoubtRow.kind, FrameDoubtRow.text).where(*of_source).order_by(FrameDoubtRow.position)
    )
    if [Doubt(*row) for row in rows] != [Doubt(doubt.kind, storable(doubt.text) or "") for doubt in doubts]:
        connection.execute(delete(FrameDoubtRow).where(*of_source))
        add_doubts(connection, [(frame, doubts)], source)


def tell_doubts(
    connection: Connection, frames: Collection[int], doubts: Sequence[Doubt], source: str
) -> None:
    """Write the same doubts of several frames in place of those that this source had of them.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frames : collection of int
        Ids of the frames.
    doubts : sequence of Doubt
        Of each of them; none where they are cleared up.
    source : str
        Who found them.
    """
    for ids in batches(sorted(set(frames))):
        of_source = FrameDoubtRow.frame_id.in_(ids), FrameDoubtRow.source == source
        connection.execute(delete(FrameDoubtRow).where(*of_source))
        add_doubts(connection, ((frame, doubts) for frame in ids), source)


def find_doubts(
    connection: Connection, frames: Collection[int] | Select[Any], source: str | None = None
) -> dict[int, tuple[Doubt, ...]]:
    """Return the doubts of frames.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    frames : collection of int or Select
        Ids, or a statement that selects them.
    source : str or None
        Only those that this source has found.

    Returns
    -------
    dict of int to tuple of Doubt
        By id, those of the header first; frames without any are left out.
    """
    selections = [frames] if isinstance(frames, Select) else batches(sorted(set(frames)))
    columns = select(FrameDoubtRow.frame_id, FrameDoubtRow.kind, FrameDoubtRow.text).order_by(
        FrameDoubtRow.frame_id, FrameDoubtRow.source != HEADER, FrameDoubtRow.source, FrameDoubtRow.position
    )
    if source is not None:
        columns = columns.where(FrameDoubtRow.source == source)
    doubts: dict[int, list[Doubt]] = defaultdict(list)
    for selection in selections:
        for frame, kind, text in connection.execute(columns.where(FrameDoubtRow.frame_id.in_(selection))):
            doubts[frame].append(Doubt(kind, text))
    return {frame: tuple(own) for frame, own in doubts.items()}


def sum_up(doubts: Iterable[tuple[str, Doubt]]) -> list[DoubtCount]:
    """Return doubts by kind, the most frequent first.

    Parameters
    ----------
    doubts : iterable of tuple of str and Doubt
        What each is about, and the doubt.

    Returns
    -------
    list of DoubtCount
        A frame with two doubts of one kind counts once; the example is the first.
    """
    subjects: dict[str, dict[str, str]] = {}
    for subject, doubt in doubts:
        subjects.setdefault(doubt.kind, {}).setdefault(subject, doubt.text)
    counts = [
        DoubtCount(kind, len(texts), next(iter(texts.values())), next(iter(texts)))
        for kind, texts in subjects.items()
    ]
    return sorted(counts, key=lambda count: (-count.number, count.kind))
