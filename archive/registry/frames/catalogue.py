"""Frames without files come into the registry: rows of a catalogue."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from ccdflow.archive.registry.bulk import inserting_json, inserting_new, is_postgresql
from ccdflow.archive.registry.frames.doubts import add_doubts
from ccdflow.archive.registry.frames.files import NewFrame, frame_row
from ccdflow.archive.registry.frames.keywords import keep_keywords
from ccdflow.archive.registry.frames.sameexposure import known_rows
from ccdflow.archive.registry.tables import STREAM, FrameRow, table

_IDENTITY = (*STREAM, "obsdate", "iobs", "filter", "object", "class")
"""The columns that tell one row of a catalogue from another, as the index uq_frame_catalogue has them."""


def add_catalogue_rows(connection: Connection, rows: Sequence[NewFrame]) -> int:
    """Register frames without files, and pass over those that are there already.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    rows : sequence of NewFrame
        At least one. Of rows with the same stream, obsdate, iobs, filter, object and class the first counts. One of
        an exposure whose file is known already is known too.

    Returns
    -------
    int
        How many were new.
    """
    by_identity: dict[tuple[Any, ...], tuple[dict[str, Any], NewFrame]] = {}
    for new in rows:
        row = frame_row(new) | {"path": None, "version": 1}
        by_identity.setdefault(_identity([row[name] for name in _IDENTITY]), (row, new))
    seen = known_rows(connection, [new.exposed for _, new in by_identity.values()])
    unique = [row for (row, _), known in zip(by_identity.values(), seen, strict=True) if known is None]
    if not unique:
        return 0
    # The ids come back together with what tells the rows apart, since a database need not answer in the order of the
    # rows, nor for those that it passed over.
    inserted = connection.execute(*_inserting(connection, unique)).all()
    new_frames = [(frame, by_identity[_identity(parts)][1]) for frame, *parts in inserted]
    keep_keywords(connection, ((frame, new.keywords) for frame, new in new_frames))
    add_doubts(connection, ((frame, new.doubts) for frame, new in new_frames))
    return len(inserted)


def _inserting(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
    """The statement, which gives back id and identity of each row that was new, and its values."""
    frame_table = table(FrameRow)
    columns = [frame_table.c[name] for name in ("id", *_IDENTITY)]
    if is_postgresql(connection):
        statement = inserting_json(frame_table, tuple(rows[0])).on_conflict_do_nothing()
        return statement.returning(*columns), {"rows": json.dumps(rows)}
    return inserting_new(connection, frame_table).returning(*columns), rows


def _identity(parts: Sequence[Any]) -> tuple[Any, ...]:
    *stream_and_time, iobs, wheel, target, frame_class = parts
    return *stream_and_time, iobs or 0, wheel, target, frame_class
