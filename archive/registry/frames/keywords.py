"""Keywords of frames as rows: each value as text and, where it is one, as a number."""

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, select

from ccdflow.archive.registry.bulk import is_postgresql, replace_rows, replacing_json
from ccdflow.archive.registry.frames.oddvalues import finite, words
from ccdflow.archive.registry.tables import FrameKeywordRow, table
from ccdflow.cascade.records import Value

_T = TypeVar("_T")


def storable(value: _T) -> _T | str | None:
    r"""Return a value that every database takes.

    Parameters
    ----------
    value : object
        Text, a number or None.

    Returns
    -------
    object
        The value; a text without NUL, which PostgreSQL can't hold, and with ``\xe9`` for what is no character; None
        for NaN and infinity, which SQLite can't.
    """
    if isinstance(value, str):
        text = value.replace("\0", "")
        return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_value(value: Value) -> tuple[str, float | None]:
    """Return the value of a keyword as text and, where it is one, as a number.

    Parameters
    ----------
    value : str, int, float or bool
        The value.

    Returns
    -------
    str
        The text, from which `read_value` makes the same value again; T or F for a truth value.
    float or None
        The number; 1 and 0 for a truth value.
    """
    # A bool is an int to Python, so it comes first. repr gives the shortest text that reads back as the same number.
    if isinstance(value, bool):
        return "T" if value else "F", float(value)
    value = words(value)
    if isinstance(value, str):
        return str(storable(value)), None
    return repr(value), float(value) if math.isfinite(value) else None


def read_value(written: str, number: float | None) -> Value:
    """Return the value that `write_value` wrote; of a row that someone else wrote, the number if it has one.

    Parameters
    ----------
    written : str
        The text of the row.
    number : float or None
        Its number.

    Returns
    -------
    str, int, float or bool
        The value.
    """
    written, number = words(written), finite(number)
    if number is None:
        return written
    if not float(number).is_integer():
        return number
    # 1.0 may have been True, 1 or 1.0: the text tells which.
    if written in ("T", "F"):
        return written == "T"
    try:
        value = int(written)
        return value if float(value) == number else number
    except (ValueError, OverflowError):  # a row of others, whose text says something else
        return number


def keep_keywords(connection: Connection, frames: Iterable[tuple[int, Mapping[str, Value]]]) -> None:
    """Write keywords of frames that are new.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frames : iterable of tuple of int and mapping
        Ids of frames, each with its keywords. Of two that are stored under one name the last counts.
    """
    rows = [row for frame, keywords in frames for row in _rows(frame, keywords)]
    if not rows:
        return
    keyword_table = table(FrameKeywordRow)
    if not is_postgresql(connection):
        replace_rows(connection, keyword_table, rows)
        return
    # One statement may not write a row twice: of names that differ by NUL alone, the last counts, as on SQLite.
    unique = list({(row["frame_id"], row["name"]): row for row in rows}.values())
    connection.execute(
        replacing_json(connection.dialect, keyword_table, tuple(rows[0])), {"rows": json.dumps(unique)}
    )


def replace_keywords(connection: Connection, frame: int, keywords: Mapping[str, Value]) -> None:
    """Write keywords of a frame in place of those of the same name.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frame : int
        Id of the frame.
    keywords : mapping of str to value
        What is said of it now. Others that it has stay.
    """
    # Never an update: of that a trigger makes a correction, since those who mend a keyword with SQL update it.
    delete_keywords(connection, frame, keywords)
    keep_keywords(connection, [(frame, keywords)])


def delete_keywords(connection: Connection, frame: int, names: Collection[str]) -> None:
    """Delete keywords of a frame.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frame : int
        Id of the frame.
    names : collection of str
        Names of the keywords; those that it does not have do no harm.
    """
    if names:
        stored = [storable(name) for name in names]
        of_frame = FrameKeywordRow.frame_id == frame, FrameKeywordRow.name.in_(stored)
        connection.execute(delete(FrameKeywordRow).where(*of_frame))


def _rows(frame: int, keywords: Mapping[str, Value]) -> Iterator[dict[str, Any]]:
    for name, value in keywords.items():
        written, number = write_value(value)
        yield {"frame_id": frame, "name": storable(name), "value": written, "number": number}


def changed_keywords(connection: Connection, frame: int, keywords: Mapping[str, Value]) -> dict[str, Value]:
    """Return those keywords that a frame does not have, or not with these values.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    frame : int
        Id of the frame.
    keywords : mapping of str to value
        What is said of it now.

    Returns
    -------
    dict of str to value
        The part of `keywords` that is to be written.
    """
    columns = select(FrameKeywordRow.name, FrameKeywordRow.value, FrameKeywordRow.number)
    rows = connection.execute(columns.where(FrameKeywordRow.frame_id == frame))
    known = {name: (value, number) for name, value, number in rows}
    return {name: value for name, value in keywords.items() if known.get(name) != write_value(value)}


def keywords_there(connection: Connection, names: Collection[str]) -> set[str]:
    """Return which keywords any frame has.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    names : collection of str
        Keywords that are looked for; the index by name answers for each at once.

    Returns
    -------
    set of str
        Those of `names` that are there.
    """
    row = table(FrameKeywordRow).c
    any_of = {name: select(row.frame_id).where(row.name == name).limit(1) for name in names}
    return {name for name, statement in any_of.items() if connection.execute(statement).first() is not None}
