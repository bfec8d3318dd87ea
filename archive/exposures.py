"""Frames read from the registry as the sequence rules look at them: of each only the columns that the rules name.

A record of all that is known of a frame takes three times as long.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import and_, func, literal_column, select, tuple_
from sqlalchemy.orm import Session

from ccdflow.archive.frames import read_value
from ccdflow.archive.models import PLACE, Frame, FrameKeyword, table
from ccdflow.cascade.exposures import Exposure, OrderKey, SequenceRules, Stream, known_time, number

_FRAME = table(Frame).c
_KEYWORD = table(FrameKeyword).c
_CONTENT = func.coalesce(_FRAME.sha256, literal_column("''"))
_ORDER: tuple[Any, ...] = (_FRAME.obsdate, literal_column(PLACE), _CONTENT, _FRAME.id)
"""As `models.order_key`; plain columns, whose rows SQLAlchemy does not make objects of."""

_FIXED = 7
"""Columns that each rule looks at: the order key, nobs, exptime, class."""


def exposure_page(
    session: Session,
    stream: Stream,
    by: tuple[SequenceRules, Collection[str]],
    after: OrderKey | None,
    size: int,
) -> list[Exposure]:
    """The next frames of a stream, in order, from those behind the key `after`; `by` are rules and wanted classes.

    The same as `ccdflow.cascade.exposures.exposures` makes of the frames' records.
    """
    rules, classes = by
    telescope, camera, instrument = stream
    tests = [_FRAME.telescope == telescope, _FRAME.camera == camera, _FRAME.instrument == instrument]
    tests.append(_FRAME.status.in_(("registered", "refused")))
    if after is not None:
        # The bare comparison lets the database start at the right place of its index.
        tests += [_FRAME.obsdate >= after[0], tuple_(*_ORDER) > tuple_(*after)]
    same = [name for name in rules.same if name != "exptime"]
    columns = [*_ORDER, _FRAME.nobs, _FRAME.exptime, _FRAME["class"]]
    columns += [column for name in same for column in _value(name)]
    columns += [_number(name) for name in rules.tolerance]
    statement = select(*columns).where(and_(*tests)).order_by(*_ORDER).limit(size)
    found = session.connection().execute(statement)
    # Texts and numbers as the driver gives them: a million `Row`s would take as long as the reading.
    rows = found.cursor.fetchall() if found.cursor is not None else []
    found.close()
    return _exposures(rows, rules, same, frozenset(classes))


def _column(name: str) -> Any:
    """The column of a name; None for a keyword."""
    return _FRAME.get("class" if name == "frame_class" else name)


def _value(name: str) -> list[Any]:
    """A column, or for a keyword its text and its number."""
    column = _column(name)
    if column is not None:
        return [column]
    return [_keyword(name, _KEYWORD.value), _keyword(name, _KEYWORD.number)]


def _number(name: str) -> Any:
    column = _column(name)
    return _keyword(name, _KEYWORD.number) if column is None else column


def _keyword(name: str, column: Any) -> Any:
    wanted = and_(_KEYWORD.frame_id == _FRAME.id, _KEYWORD.name == name)
    return select(column).where(wanted).scalar_subquery()


def _exposures(
    rows: Sequence[Any], rules: SequenceRules, same: Sequence[str], classes: frozenset[str]
) -> list[Exposure]:
    width = sum(len(_value(name)) for name in same)
    plain = width == len(same)
    timed, near = "exptime" in rules.same, _FIXED + width
    made = []
    for row in rows:
        obsdate, place, content, identity, nobs, exptime, frame_class, *_ = row
        values = row[_FIXED:near]
        made.append(
            Exposure(
                (obsdate, place, content, identity),
                known_time(obsdate),
                place or None,
                nobs if place else None,
                number(exptime) if timed and frame_class != "flat" else None,
                tuple(values) if plain else _joined(same, values),
                tuple([number(one) for one in row[near:]]),
                frame_class in classes,
            )
        )
    return made


def _joined(same: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
    """Values of columns as they are; text and number of a keyword as one value, None for a blank."""
    found: list[Any] = []
    columns: list[Any] = []
    rest = iter(values)
    for name in same:
        if _column(name) is not None:
            columns.append(next(rest))
            continue
        text, value = next(rest), next(rest)
        found.append(None if text is None or text == "" else read_value(text, value))
    return (*columns, *found)
