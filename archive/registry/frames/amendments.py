"""What people correct of frames: kept apart from what headers say, and told with who, when and why.

The tables of frames and keywords hold the corrected values, so that whoever asks for a frame sees these. What the
header says stands beside the correction (`said`), and comes back when it is undone.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, text, update

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames.doubts import find_doubts
from ccdflow.archive.registry.frames.keywords import (
    delete_keywords,
    read_value,
    replace_keywords,
    storable,
    write_value,
)
from ccdflow.archive.registry.frames.oddvalues import finite, words
from ccdflow.archive.registry.tables import HOLDS, AmendmentRow, FrameKeywordRow, FrameRow, table
from ccdflow.cascade.headers.amended import understood
from ccdflow.cascade.records import Value

TEXTS = ("class", "telescope", "camera", "instrument", "filter", "object", "obsdate", "night")
"""Columns of frames that are text; a blank one is unknown."""
NUMBERS = ("exptime", "iobs", "nobs")
"""Columns of frames that are numbers."""
COLUMNS = (*TEXTS, *NUMBERS)
"""Columns that may be corrected; all other names are those of keywords."""

FOLLOWS = "follows from obsdate"
"""The reason of a corrected night that nobody has said: that of a frame without a file, whose time was corrected."""

CORRECTION = "amendment"
"""Kind and source of doubts about corrections that can't be."""

Values = Mapping[str, Value | None]
"""Corrected values by name; None for what is not known."""


@dataclass(frozen=True)
class Amendment:
    """One thing about a frame that somebody has corrected; `undone` is blank for one that holds.

    `said` is what the header says, None where it says nothing.
    """

    id: int
    frame: int
    name: str
    value: Value | None
    said: Value | None
    who: str
    why: str
    made: str
    undone: str

    def __str__(self) -> str:
        told = f"{self.name} {shown_amended(self.said)} -> {shown_amended(self.value)}"
        return f"{told} ({self.why})" if self.why else told


def shown_amended(value: Value | None) -> str:
    """Return a value of a correction as people read it: a blank is unknown.

    Parameters
    ----------
    value : str, int, float, bool or None
        Before or after.
    """
    return "unknown" if value in (None, "") else str(value)


def find_amendments(
    connection: Connection, frames: Collection[int] | None = None, *, undone: bool = False
) -> list[Amendment]:
    """Return what was corrected of frames.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    frames : collection of int or None
        Ids of frames; None for all.
    undone : bool
        Also corrections that hold no longer.

    Returns
    -------
    list of Amendment
        In the order in which they were made.
    """
    statement = select(AmendmentRow.__table__).order_by(AmendmentRow.id)
    if not undone:
        statement = statement.where(text(HOLDS))
    parts = [None] if frames is None else batches(sorted(set(frames)))
    rows: list[Any] = []
    for part in parts:
        narrowed = statement if part is None else statement.where(AmendmentRow.frame_id.in_(part))
        rows += connection.execute(narrowed).all()
    return [_amendment(row) for row in rows]


def _amendment(row: Any) -> Amendment:
    value, said = _read(row.name, row.value, row.number), None
    if row.said is not None:
        said = _read(row.name, row.said, row.said_number)
    return Amendment(row.id, row.frame_id, row.name, value, said, row.who, row.why, row.made, row.undone)


def _read(name: str, written: str, number: Any) -> Value | None:
    # SQLite keeps text where a number belongs; to say that it is none is left to whoever knows the name.
    number = finite(number)
    if number is None:
        return words(written) or None
    # 30 s come back as 30 from one database and as 30.0 from another.
    return float(number) if name == "exptime" else read_value(written, number)


def amended_values(
    connection: Connection, frames: Collection[int] | None = None
) -> dict[int, dict[str, Value | None]]:
    """Return the corrected values that hold.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    frames : collection of int or None
        Ids of frames; None for all.

    Returns
    -------
    dict of int to dict of str to value or None
        By frame and name; frames of which nothing was corrected are left out.
    """
    values: dict[int, dict[str, Value | None]] = defaultdict(dict)
    for amendment in find_amendments(connection, frames):
        values[amendment.frame][amendment.name] = amendment.value
    return dict(values)


def amend(connection: Connection, changes: Mapping[int, Values], who: str, why: str) -> list[Amendment]:
    """Correct frames.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    changes : mapping of int to mapping of str to value or None
        New values by frame and name. What is so already stays as it is.
    who, why : str
        For those who ask later.

    Returns
    -------
    list of Amendment
        The corrections that this has made; none of what was so already.
    """
    before = _before(connection, changes)
    held = {
        (amendment.frame, amendment.name): amendment
        for amendment in find_amendments(connection, list(changes))
    }
    refused = _refused(connection, changes)
    moment, rows = now(), []
    written: dict[int, dict[str, Value | None]] = defaultdict(dict)
    for frame, values in changes.items():
        for name, value in values.items():
            if before[frame].get(name) == value and (frame, name) not in refused:
                continue
            earlier = held.get((frame, name))
            said = before[frame].get(name) if earlier is None else earlier.said
            # What the header says anyway is no correction, but the end of an earlier one.
            undone = moment if value == said else ""
            told = {"who": who, "why": why, "made": moment, "undone": undone}
            rows.append(_row(frame, name, value, said) | told)
            written[frame][name] = value
    ids = _replace(connection, rows, moment)
    write_values(connection, written)
    return [known for known in find_amendments(connection, list(changes), undone=True) if known.id in ids]


def _refused(connection: Connection, frames: Collection[int]) -> set[tuple[int, str]]:
    """What others have corrected last to something that can't be: to say it once more, as it is, clears that up."""
    refused: set[tuple[int, str]] = set()
    for frame in find_doubts(connection, frames, CORRECTION):
        newest = {
            amendment.name: amendment for amendment in find_amendments(connection, [frame], undone=True)
        }
        refused |= {(frame, name) for name, amendment in newest.items() if not _is_understood(amendment)}
    return refused


def _is_understood(amendment: Amendment) -> bool:
    try:
        understood(amendment.name, amendment.value)
    except ValueError:
        return False
    return True


def _row(frame: int, name: str, value: Value | None, said: Value | None) -> dict[str, Any]:
    written, number = _written(value)
    row = {"frame_id": frame, "name": name, "value": written, "number": number}
    told, told_number = _written(said)
    # A keyword that the header does not have is NULL: taken back, it is deleted again.
    return row | {"said": None if said is None and name not in COLUMNS else told, "said_number": told_number}


def _written(value: Value | None) -> tuple[str, float | None]:
    return ("", None) if value is None else write_value(value)


def _replace(connection: Connection, rows: Sequence[Mapping[str, Any]], moment: str) -> set[int]:
    """Write corrections in place of earlier ones of the same things; gives back their ids."""
    ids = set()
    for row in rows:
        same = AmendmentRow.frame_id == row["frame_id"], AmendmentRow.name == row["name"], text(HOLDS)
        connection.execute(update(AmendmentRow).where(*same).values(undone=moment))
        inserted = table(AmendmentRow).insert().values(row).returning(AmendmentRow.id)
        ids.add(connection.execute(inserted).scalar_one())
    return ids


def _before(connection: Connection, frames: Iterable[int]) -> dict[int, dict[str, Value | None]]:
    """What frames have now, by column and keyword; None or nothing for what is unknown."""
    columns = [table(FrameRow).c[name] for name in COLUMNS]
    values: dict[int, dict[str, Value | None]] = {}
    for part in batches(sorted(set(frames))):
        for row in connection.execute(select(FrameRow.id, *columns).where(FrameRow.id.in_(part))):
            number, *cells = row
            values[number] = {
                name: None if cell == "" else cell for name, cell in zip(COLUMNS, cells, strict=True)
            }
        keywords = select(
            FrameKeywordRow.frame_id, FrameKeywordRow.name, FrameKeywordRow.value, FrameKeywordRow.number
        )
        for frame, name, written, number in connection.execute(
            keywords.where(FrameKeywordRow.frame_id.in_(part))
        ):
            values[frame].setdefault(name, read_value(written, number))
    if strangers := sorted(set(frames) - values.keys()):
        raise ValueError(f"there is no frame f{strangers[0]}")
    return values


def write_values(connection: Connection, changes: Mapping[int, Values]) -> None:
    """Write values into the rows and keywords of frames, as we do: no correction by others comes of it.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    changes : mapping of int to mapping of str to value or None
        Values by frame and name; None takes a keyword away.
    """
    for frame, values in changes.items():
        columns: dict[str, Any] = {
            name: _cell(name, value) for name, value in values.items() if name in COLUMNS
        }
        kept = {name: value for name, value in values.items() if name not in COLUMNS}
        its_row = table(FrameRow).c.id == frame
        counted = {"revision": FrameRow.revision + 1, "ungrouped": True}
        connection.execute(table(FrameRow).update().where(its_row).values(columns | counted))
        replace_keywords(
            connection, frame, {name: value for name, value in kept.items() if value is not None}
        )
        delete_keywords(connection, frame, [name for name, value in kept.items() if value is None])


def _cell(name: str, value: Value | None) -> Any:
    """A value as the column has it."""
    if name in NUMBERS:
        return value
    return "" if value is None else storable(str(value))


def undo(
    connection: Connection, frames: Collection[int], names: Collection[str] | None = None
) -> list[Amendment]:
    """Take corrections back: what the header says counts again.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frames : collection of int
        Ids of frames.
    names : collection of str or None
        What is taken back; None for all.

    Returns
    -------
    list of Amendment
        Those that have held until now.
    """
    taken = [
        amendment
        for amendment in find_amendments(connection, frames)
        if names is None or amendment.name in names
    ]
    moment = now()
    for part in batches([amendment.id for amendment in taken]):
        connection.execute(update(AmendmentRow).where(AmendmentRow.id.in_(part)).values(undone=moment))
    back: dict[int, dict[str, Value | None]] = defaultdict(dict)
    for amendment in taken:
        back[amendment.frame][amendment.name] = amendment.said
    write_values(connection, back)
    return taken


def note_said(connection: Connection, amendments: Iterable[Amendment], said: Values) -> None:
    """Keep what the header says now of what was corrected.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    amendments : iterable of Amendment
        Corrections of one frame, which hold.
    said : mapping of str to value or None
        What was read; of names that are left out nothing changes.
    """
    for amendment in amendments:
        if amendment.name in said and said[amendment.name] != amendment.said:
            row = _row(amendment.frame, amendment.name, amendment.value, said[amendment.name])
            values = {name: row[name] for name in ("said", "said_number")}
            connection.execute(update(AmendmentRow).where(AmendmentRow.id == amendment.id).values(values))


def hand_on(connection: Connection, before: int, after: int) -> bool:
    """Let what was corrected of one row hold for another one that stands for the same exposure from now on.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    before, after : int
        Ids of the rows; the first keeps its corrections.

    Returns
    -------
    bool
        Whether there was anything. Then the file of the second is to be read once more, for what follows from it.
    """
    held = {amendment.name for amendment in find_amendments(connection, [after])}
    said = _before(connection, [after])[after]
    by_name = {
        amendment.name: amendment
        for amendment in find_amendments(connection, [before])
        if amendment.name not in held and amendment.why != FOLLOWS
    }
    for name, amendment in by_name.items():
        row = _row(after, name, amendment.value, said.get(name))
        told = {"who": amendment.who, "why": amendment.why, "made": amendment.made}
        connection.execute(table(AmendmentRow).insert().values(row | told))
    if by_name:
        write_values(connection, {after: {name: by_name[name].value for name in by_name}})
        connection.execute(update(FrameRow).where(FrameRow.id == after).values(changed_ns=None))
    return bool(by_name)
