"""News for grouping: all that has happened since frames were grouped last, read by one statement.

One new frame is the common case, and then this is most of what is read. So all questions are one statement (UNION ALL),
and indexes that are nearly empty where little is new answer its parts.
"""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, exists, literal_column, select, text, union_all

from ccdflow.archive.registry.frames.oddvalues import whole, words
from ccdflow.archive.registry.frames.orderkeys import ORDER, read_order_key
from ccdflow.archive.registry.tables import (
    LOST,
    NEW_FILE,
    NEW_ROW,
    STREAM,
    FrameRow,
    FrameSetRow,
    FrameStageRow,
    SetMemberRow,
    StreamStateRow,
    table,
)
from ccdflow.cascade.sequences.exposures import OrderKey, Stream

FRAME, SET, RULES, STAGE = range(4)
"""Kinds of rows: the number that each begins with."""

EVERY_ROW = 2**62
"""Higher than all ids."""
_GROUPED = ("registered", "refused")
"""The states of rows that grouping looks at; others are old versions and duplicates."""


class Unsure(NamedTuple):
    """A set that may not stay as it is: it is open, or a frame of it was deleted or has not been seen by grouping.

    `until` is the time of its last frame where it is only open, and blank where anything has happened to it: what is
    open changes with new frames, or once enough time has passed.
    """

    id: int
    stream: Stream
    step: str
    sequence_start: OrderKey | None
    until: str = ""


class News(NamedTuple):
    """All that grouping has not seen.

    `frames` are keys of new frames in order, by stream, and `versions` ids of old versions and duplicates; `unsure`
    are sets of all streams and steps that may not stay, `rules` digests of the rules that streams were grouped by, by
    step, and `unsettled` the stages in which the state of a frame has changed since sets were settled.
    """

    frames: dict[Stream, list[OrderKey]]
    versions: list[int]
    unsure: list[Unsure]
    rules: dict[Stream, dict[str, str]]
    unsettled: set[str]

    @property
    def ids(self) -> list[int]:
        """Ids of all frames that grouping has not seen."""
        return [*self.versions, *(key[3] for keys in self.frames.values() for key in keys)]


def last_row(connection: Connection, most: int | None) -> int:
    """Return the last of so many rows without files that grouping has not seen.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    most : int or None
        How many rows; None for all.

    Returns
    -------
    int
        Its id: those of later rows are higher. `EVERY_ROW` where there are no more.
    """
    if most is None:
        return EVERY_ROW
    ids = connection.execute(_ROWS.limit(most)).scalars().all()
    return int(ids[-1]) if len(ids) == most else EVERY_ROW


def first_row(connection: Connection) -> int | None:
    """Return the id of the first row without a file that grouping has not seen; None where there is none."""
    first: int | None = connection.execute(_ROWS.limit(1)).scalar_one_or_none()
    return first


def _known_key(key: Sequence[Any]) -> OrderKey:
    """The order key of a row, in which another program may have written anything."""
    obsdate, place, content, frame = key
    return words(obsdate), place if type(place) is int else whole(place) or 0, words(content), frame


def read_news(connection: Connection, stages: Collection[str], until: int = EVERY_ROW) -> News:
    """Return all that grouping has not seen.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    stages : collection of str
        The stages that are looked at, whether the states of frames have changed there.
    until : int
        Of rows without files only those up to this id, as `last_row` gives it.

    Returns
    -------
    News
        The news of all streams and steps.
    """
    names = sorted(set(stages))
    result = connection.execute(
        _statement(len(names)),
        {_stage(place): name for place, name in enumerate(names)} | {"until": until},
    )
    # As the driver gives them: a million `Row`s would take as long as the reading.
    rows = result.cursor.fetchall() if result.cursor is not None else []
    result.close()
    news = News({}, [], [], {}, set())
    # By id, since a set may be both open and one of a frame that has not been seen.
    unsure: dict[int, Unsure] = {}
    for kind, telescope, camera, instrument, name, *key in rows:
        stream = telescope, camera, instrument
        if kind == FRAME and name in _GROUPED:
            news.frames.setdefault(stream, []).append(_known_key(key))
        elif kind == FRAME:
            news.versions.append(key[3])
        elif kind == SET:
            record = Unsure(key[3], stream, name, read_order_key(key[0]), key[2])
            if record.until == "" or record.id not in unsure:
                unsure[record.id] = record
        elif kind == RULES:
            news.rules.setdefault(stream, {})[name] = key[0]
        else:
            news.unsettled.add(name)
    for keys in news.frames.values():
        keys.sort()
    news.unsure.extend(unsure.values())
    return news


_FRAME = table(FrameRow).c
_SET = table(FrameSetRow).c
_MEMBER = table(SetMemberRow).c
_STATE = table(StreamStateRow).c
_EMPTY: Any = literal_column("''")
_NOUGHT: Any = literal_column("0")

# Conditions are written as the indexes have them: SQLite does not use one for "ungrouped IS 1", nor for a bound value.
# Sets that hold a frame which has changed: it may have left them, or belong elsewhere in their order.
_NEW_FILE = (text(NEW_FILE),)
_NEW_ROW = text(NEW_ROW), _FRAME.id <= bindparam("until")
_ROWS = select(_FRAME.id).where(text(NEW_ROW)).order_by(_FRAME.id)
_UNSEEN = [
    select(_MEMBER.set_id).where(_MEMBER.frame_id.in_(select(_FRAME.id).where(*new)))
    for new in (_NEW_FILE, _NEW_ROW)
]


def _rows(kind: int, columns: Any, name: Any, *key: Any) -> Select[Any]:
    """Rows of a kind: the kind, the stream, a name, and four columns for an order key or less."""
    return select(literal_column(str(kind)), *[columns[part] for part in STREAM], name, *key)


_FRAMES = _rows(FRAME, _FRAME, _FRAME.status, *ORDER)
_SETS = _rows(SET, _SET, _SET.step, _SET.sequence_start, _NOUGHT, _EMPTY, _SET.id)
_OPEN = _rows(SET, _SET, _SET.step, _SET.sequence_start, _NOUGHT, _SET.last_obsdate, _SET.id)
_RULES = _rows(RULES, _STATE, _STATE.step, _STATE.rules, _NOUGHT, _EMPTY, _NOUGHT)


def _stage(place: int) -> str:
    return f"stage_{place}"


@lru_cache
def _statement(stages: int) -> Any:
    """The statement, for so many stages."""
    parts = [
        _FRAMES.where(*_NEW_FILE),
        _FRAMES.where(*_NEW_ROW),
        _OPEN.where(literal_column("status") == literal_column("'open'")),
        *[_SETS.where(_SET.id.in_(unseen), _SET.status != "superseded") for unseen in _UNSEEN],
        _SETS.where(text(LOST), _SET.status != "superseded"),
        _RULES,
    ]
    stage = table(FrameStageRow).c
    for place in range(stages):
        changed = exists().where(stage.stage == bindparam(_stage(place)), text("unsettled"))
        name = bindparam(_stage(place), type_=stage.stage.type)
        nothing = [_EMPTY, _NOUGHT, _EMPTY, _NOUGHT]
        parts.append(
            select(literal_column(str(STAGE)), _EMPTY, _EMPTY, _EMPTY, name, *nothing).where(changed)
        )
    return union_all(*parts)
