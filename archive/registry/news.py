"""What has happened since frames were grouped last, read by one statement."""

from collections.abc import Collection
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, exists, literal_column, select, text, union_all

from ccdflow.archive.registry.exposures import ORDER
from ccdflow.archive.registry.sets import text_key
from ccdflow.archive.registry.tables import (
    FrameRow,
    FrameSetRow,
    FrameStageRow,
    SetMemberRow,
    StreamStateRow,
    table,
)
from ccdflow.cascade.sequences.exposures import OrderKey, Stream

FRAME, SET, RULES, STAGE = range(4)
"""What a row tells of."""

_GROUPED = ("registered", "refused")


class Unsure(NamedTuple):
    """A set that may not stay as it is: it is open, or one of its frames has not been seen by grouping."""

    id: int
    stream: Stream
    step: str
    sequence_start: OrderKey | None


class News(NamedTuple):
    """What grouping has not seen.

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


def read_news(connection: Connection, stages: Collection[str]) -> News:
    """What grouping has not seen; of these `stages` it is found out whether they are settled."""
    asked = sorted(set(stages))
    found = connection.execute(_statement(len(asked)), {_stage(at): one for at, one in enumerate(asked)})
    # As the driver gives them: a million `Row`s would take as long as the reading.
    rows = found.cursor.fetchall() if found.cursor is not None else []
    found.close()
    new = News({}, [], [], {}, set())
    unsure: dict[int, Unsure] = {}
    for what, telescope, camera, instrument, name, *key in rows:
        stream = telescope, camera, instrument
        if what == FRAME and name in _GROUPED:
            new.frames.setdefault(stream, []).append(tuple(key))
        elif what == FRAME:
            new.versions.append(key[3])
        elif what == SET:
            unsure[key[3]] = Unsure(key[3], stream, name, text_key(key[0]))
        elif what == RULES:
            new.rules.setdefault(stream, {})[name] = key[0]
        else:
            new.unsettled.add(name)
    for some in new.frames.values():
        some.sort()
    new.unsure.extend(unsure.values())
    return new


_FRAME = table(FrameRow).c
_SET = table(FrameSetRow).c
_MEMBER = table(SetMemberRow).c
_STATE = table(StreamStateRow).c
_EMPTY: Any = literal_column("''")
_NOUGHT: Any = literal_column("0")

# Conditions written as the indexes have them: SQLite does not use one for "ungrouped IS 1", nor for a bound value.
_UNSEEN = select(_MEMBER.set_id).where(_MEMBER.frame_id.in_(select(_FRAME.id).where(text("ungrouped"))))


def _rows(what: int, of: Any, name: Any, *key: Any) -> Select[Any]:
    """Rows that say of what they tell, in which stream, a name, and an order key or less."""
    place = [of.telescope, of.camera, of.instrument]
    return select(literal_column(str(what)), *place, name, *key)


_FRAMES = _rows(FRAME, _FRAME, _FRAME.status, *ORDER).where(text("ungrouped"))
_SETS = _rows(SET, _SET, _SET.step, _SET.sequence_start, _NOUGHT, _EMPTY, _SET.id)
_RULES = _rows(RULES, _STATE, _STATE.step, _STATE.rules, _NOUGHT, _EMPTY, _NOUGHT)


def _stage(at: int) -> str:
    return f"stage_{at}"


@lru_cache
def _statement(stages: int) -> Any:
    """The statement, for so many stages: one statement takes less time than one for each."""
    parts = [
        _FRAMES,
        _SETS.where(literal_column("status") == literal_column("'open'")),
        _SETS.where(_SET.id.in_(_UNSEEN), _SET.status != "superseded"),
        _RULES,
    ]
    for at in range(stages):
        stage = table(FrameStageRow).c
        changed = exists().where(stage.stage == bindparam(_stage(at)), text("unsettled"))
        name = bindparam(_stage(at), type_=stage.stage.type)
        nothing = [_EMPTY, _NOUGHT, _EMPTY, _NOUGHT]
        parts.append(
            select(literal_column(str(STAGE)), _EMPTY, _EMPTY, _EMPTY, name, *nothing).where(changed)
        )
    return union_all(*parts)
