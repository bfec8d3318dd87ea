"""Frames read from the registry as the sequence rules look at them: of each only the columns that the rules name.

A page is worked on column by column, so that nearly all of it runs in C: records of all that is known of each frame
take ten times as long.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache, partial
from itertools import repeat
from math import isfinite
from operator import sub
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    exists,
    not_,
    null,
    select,
    text,
    tuple_,
)

from ccdflow.archive.registry.frames.keywords import read_value
from ccdflow.archive.registry.frames.oddvalues import position, words
from ccdflow.archive.registry.frames.orderkeys import ORDER
from ccdflow.archive.registry.tables import NEW_ROW, STREAM, FrameKeywordRow, FrameRow, table
from ccdflow.cascade.records import EPOCH, MOST_EXPOSURES
from ccdflow.cascade.sequences.exposures import Exposure, OrderKey, SequenceRules, Stream, known_time, number

_FRAME = table(FrameRow).c
_KEYWORD = table(FrameKeywordRow).c

FIRST_PAGE = 16
"""Frames of the first page: whoever regroups a late frame needs no more."""

_FIXED = 7
"""How many columns are read whatever the rules are: the four of the order key, nobs, exptime, class."""

_exposure = cast(Callable[[Any], Exposure], partial(tuple.__new__, Exposure))
"""Makes an exposure of its fields as `Exposure._make` does, without that one's check of their number."""


class Page(NamedTuple):
    """A part of a stream: its frames in order, to be taken once, how many, and the key of the last of them.

    They are made one by one, as they are taken: thousands held at a time keep the garbage collector busy for longer
    than all the rest takes.
    """

    frames: Iterator[Exposure]
    length: int
    last: OrderKey | None


class _Names(NamedTuple):
    """Names that the rules look at besides the fixed columns: columns, keywords, and the numeric ones of both kinds.

    `absent` are the numeric keywords that no frame at all has. They are not looked for frame by frame.
    """

    columns: tuple[str, ...]
    keywords: tuple[str, ...]
    near: tuple[str, ...]
    absent: tuple[str, ...]


def exposure_page(
    connection: Connection,
    stream: Stream,
    grouping: tuple[SequenceRules, Collection[str]],
    after: OrderKey | None,
    size: int,
    until: int | None = None,
) -> Page:
    """Read the next frames of a stream, in order.

    The same as `ccdflow.cascade.sequences.exposures.exposures` makes of the frames' records.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    stream : tuple of str
        Telescope, camera, instrument.
    grouping : tuple of SequenceRules and collection of str
        The rules, which name the columns and keywords that are read, and the classes that sets are made of.
    after : OrderKey or None
        The frames begin behind the one with this key; None for the beginning.
    size : int
        The most frames.
    until : int, optional
        Of the rows without files that grouping has not seen, only those up to this id are there; without it, all.

    Returns
    -------
    Page
        The frames.
    """
    rules, classes = grouping
    # A look for absent keywords takes as long as a small page.
    names = _names(connection if size > FIRST_PAGE else None, rules)
    values: dict[str, Any] = dict(zip(STREAM, stream, strict=True))
    if after is not None:
        values |= dict(zip(_AFTER, after, strict=True))
    if until is not None:
        values |= {"until": until}
    result = connection.execute(_page(names, after is not None, until is not None), values | {"size": size})
    # Texts and numbers as the driver gives them: a million `Row`s would take as long as the reading.
    rows = result.cursor.fetchall() if result.cursor is not None else []
    result.close()
    if not rows:
        return Page(iter(()), 0, None)
    return Page(_exposures(rows, rules, names, frozenset(classes)), len(rows), tuple(rows[-1][:4]))


_OF_STREAM = and_(
    *[_FRAME[name] == bindparam(name) for name in STREAM], _FRAME.status.in_(("registered", "refused"))
)


def _names(connection: Connection | None, rules: SequenceRules) -> _Names:
    """Names that the rules look at; without a connection no absent keyword is looked for."""
    same = [name for name in rules.same if name != "exptime"]
    keywords = tuple(name for name in same if _column(name) is None)
    near = tuple(rules.tolerance)
    absent: list[str] = []
    if connection is not None:
        absent = [name for name in near if _column(name) is None and not _is_known(connection, name)]
    return _Names(tuple(name for name in same if name not in keywords), keywords, near, tuple(absent))


def _is_known(connection: Connection, keyword: str) -> bool:
    return bool(connection.execute(_KNOWN, {"name": keyword}).scalar_one())


# One look into the index of names: keywords are the user's, and what no frame has costs a search for each frame.
_KNOWN = select(exists().where(_KEYWORD.name == bindparam("name")))
_AFTER = ("after_obsdate", "after_place", "after_content", "after_id")


@lru_cache
def _page(names: _Names, goes_on: bool, in_part: bool) -> Select[Any]:
    """The statement that reads a page; remembered, since making it takes longer than reading a few frames."""
    tests: list[ColumnElement[bool]] = [_OF_STREAM]
    if in_part:
        tests.append(not_(and_(text(NEW_ROW), _FRAME.id > bindparam("until"))))
    if goes_on:
        after = [bindparam(name, type_=column.type) for name, column in zip(_AFTER, ORDER, strict=True)]
        # Keys are compared as rows, (a, b, c, d) > (...). The bare comparison of the first part beside it lets the
        # database start at the right place of its index.
        tests += [_FRAME.obsdate >= after[0], tuple_(*ORDER) > tuple_(*after)]
    columns = [*ORDER, _FRAME.nobs, _FRAME.exptime, _FRAME["class"]]
    columns += [_column(name) for name in names.columns]
    columns += [
        _keyword(name, column) for name in names.keywords for column in (_KEYWORD.value, _KEYWORD.number)
    ]
    columns += [null() if name in names.absent else _number(name) for name in names.near]
    return select(*columns).where(and_(*tests)).order_by(*ORDER).limit(bindparam("size"))


def _column(name: str) -> Any:
    """The column of a name; None for a keyword."""
    return _FRAME.get("class" if name == "frame_class" else name)


def _number(name: str) -> Any:
    column = _column(name)
    return _keyword(name, _KEYWORD.number) if column is None else column


def _keyword(name: str, column: Any) -> Any:
    of_frame = and_(_KEYWORD.frame_id == _FRAME.id, _KEYWORD.name == name)
    return select(column).where(of_frame).scalar_subquery()


def _exposures(
    rows: Sequence[Any], rules: SequenceRules, names: _Names, classes: frozenset[str]
) -> Iterator[Exposure]:
    """Rows of `_page` as exposures: cut into columns, each worked on as a whole, and put together again."""
    columns = [_texts(column) for column in zip(*rows, strict=True)]
    obsdates, _, contents, ids, _, exptimes, kinds = columns[:_FIXED]
    places, nobs = _counts(columns[1], columns[4])
    # Behind the fixed columns: those that must be the same, two for each keyword, and then the numeric ones.
    near = _FIXED + len(names.columns) + 2 * len(names.keywords)
    iobs: Sequence[int | None] = places
    if 0 in places:  # unknown to the database; then the length of the sequence is unknown too
        iobs = [place or None for place in places]
        nobs = tuple([planned if place else None for place, planned in zip(places, nobs, strict=True)])
    fields = (
        zip(obsdates, places, contents, ids, strict=True),
        _times(obsdates),
        iobs,
        nobs,
        _exptimes(exptimes, kinds, rules),
        _same(columns[_FIXED:near], names, len(rows)),
        zip(*map(_numbers, columns[near:]), strict=True) if names.near else repeat(()),
        [kind in classes for kind in kinds],
        _lengths(exptimes, rules),
    )
    return map(_exposure, zip(*fields, strict=False))


_WHOLE = {int, type(None)}


def _counts(places: Sequence[Any], nobs: Sequence[Any]) -> tuple[Sequence[int], Sequence[int | None]]:
    """Positions, 0 where unknown, and lengths of sequences."""
    # SQLite keeps halves, texts and numbers beyond all counts, too, where a program writes them.
    if {*map(type, places), *map(type, nobs)} <= _WHOLE and max(
        filter(None, nobs), default=0
    ) <= MOST_EXPOSURES:
        return places, nobs
    known, planned = zip(*map(position, places, nobs), strict=True)
    return known, planned


def _texts(values: Sequence[Any]) -> Sequence[Any]:
    """A column with bytes, as SQLite keeps them where text belongs, as text."""
    return [words(value) for value in values] if bytes in set(map(type, values)) else values


def _times(obsdates: Sequence[str]) -> list[float]:
    """As `known_time` of each."""
    try:
        since = map(sub, map(datetime.fromisoformat, obsdates), repeat(EPOCH))
        return list(map(timedelta.total_seconds, since))
    except (ValueError, TypeError):  # one is no time, or has a zone
        return [known_time(obsdate) for obsdate in obsdates]


def _numbers(values: Sequence[Any]) -> Sequence[float | None]:
    """As `number` of each."""
    # Mostly nothing is to be done: all blank, or all finite. A sum is finite only if all its terms are.
    if values.count(None) == len(values):
        return values
    if set(map(type, values)) == {float} and isfinite(sum(values)):
        return values
    return [number(value) for value in values]


def _exptimes(values: Sequence[Any], kinds: Sequence[str], rules: SequenceRules) -> Iterable[float | None]:
    if "exptime" not in rules.same:
        return repeat(None)
    exptimes = _numbers(values)
    if "flat" not in kinds:
        return exptimes
    return [None if kind == "flat" else exptime for exptime, kind in zip(exptimes, kinds, strict=True)]


def _lengths(values: Sequence[Any], rules: SequenceRules) -> Iterable[float]:
    """The part of each exposure that counts for no gap, in seconds."""
    if rules.gap == "start":
        return repeat(0.0)
    return [max(value or 0.0, 0.0) for value in _numbers(values)]


def _same(columns: Sequence[Sequence[Any]], names: _Names, count: int) -> Iterable[tuple[Any, ...]]:
    """Values of columns as they are; text and number of a keyword as one value, None for a blank."""
    same = list(columns[: len(names.columns)])
    of_keywords = columns[len(names.columns) :]
    for texts, numbers in zip(of_keywords[::2], of_keywords[1::2], strict=True):
        same.append([_value(*pair) for pair in zip(texts, numbers, strict=True)])
    return zip(*same, strict=True) if same else repeat((), count)


def _value(text: str | None, value: float | None) -> Any:
    return read_value(text, value) if text else None
