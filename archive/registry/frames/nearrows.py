"""Rows without files that a plan has to know: those that lie next to frames with files.

Of a catalogue of a hundred thousand rows nothing can be made. But where one lies in a sequence with frames that have
files, it says where that begins, how long it is, and that somebody is still to come. A sequence that is too long is
never combined, so no more rows on each side of a frame decide anything than make a sequence too long.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from ccdflow.archive.registry.frames.queries import FrameFilter, conditions, find_frames
from ccdflow.archive.registry.tables import STREAM, FrameRow, table
from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.sequences.exposures import Stream, order_key

Found = tuple[str, int]
"""Time and id of a row."""


def with_near_rows(connection: Connection, frames: Sequence[FrameRecord], near: int) -> list[FrameRecord]:
    """Return frames with files, and of rows without files those next to them.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    frames : sequence of FrameRecord
        The frames.
    near : int
        How many rows without files are wanted on each side of a frame, at most.

    Returns
    -------
    list of FrameRecord
        By time, as `find_frames` gives them.
    """
    if connection.execute(_ANY).first() is None:
        return sorted(frames, key=order_key)
    ids = [identity for _, identity in _rows_near(connection, frames, near)]
    return sorted([*frames, *find_frames(connection, FrameFilter(ids=ids))], key=order_key)


def find_last_frames(
    connection: Connection, counts: Mapping[str, int], since: str, until: str | None = None
) -> list[FrameRecord]:
    """Return the frames of a span of time, and of their streams a few before and behind it.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    counts : mapping of str to int
        By class of frames, how many of each stream are wanted that lie before the span, and as many behind it; frames
        of other classes are left out.
    since : str
        The first time of the span, ISO, UTC.
    until : str, optional
        The last one; without it, all frames from `since` on.

    Returns
    -------
    list of FrameRecord
        Frames with files, by time.
    """
    frames: list[FrameRecord] = []
    for name, count in counts.items():
        spans = _spans(connection, name, count, since, until)
        if not spans:
            continue
        first, last = min(start for start, _ in spans.values()), max(end for _, end in spans.values())
        wanted = FrameFilter(classes=(name,), since=first, until=last, has_file=True, strict=False)
        nothing = (AFTER_ALL, "")
        for frame in find_frames(connection, wanted):
            start, end = spans.get(frame.stream, nothing)
            frames += [frame] if start <= frame.obsdate <= end else []
    return sorted(frames, key=order_key)


def _spans(
    connection: Connection, name: str, count: int, since: str, until: str | None
) -> dict[Stream, tuple[str, str]]:
    """By each stream that has frames of a class in a span of time, the span with so many frames more on each side."""
    columns = [getattr(FrameRow, column) for column in STREAM]
    there = FrameRow.frame_class == name, FrameRow.sha256.is_not(None)
    inside = [FrameRow.obsdate >= since, *([] if until is None else [FrameRow.obsdate <= until])]
    spans: dict[Stream, tuple[str, str]] = {}
    for stream in connection.execute(select(*columns).where(*there, *inside).distinct()).all():
        its = [column == value for column, value in zip(columns, stream, strict=True)]
        times = select(FrameRow.obsdate).where(*there, *its).offset(count).limit(1)
        before = times.where(FrameRow.obsdate < since).order_by(FrameRow.obsdate.desc())
        start, end = connection.execute(before).scalar() or "", None
        if until is not None:
            end = connection.execute(
                times.where(FrameRow.obsdate > until).order_by(FrameRow.obsdate)
            ).scalar()
        spans[stream[0], stream[1], stream[2]] = start, end or AFTER_ALL
    return spans


def span_of(
    connection: Connection, classes: Collection[str], since: str, most: int
) -> tuple[str, str] | None:
    """Return when the last of so many frames from a time on was begun, and when the next one behind it.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    classes : collection of str
        Only frames of these classes count, and only those with files.
    since : str
        The time, ISO, UTC.
    most : int
        How many frames; those of one time stay together.

    Returns
    -------
    tuple of str, or None
        Both times; None where no frame is left behind them.
    """
    there = FrameRow.frame_class.in_(classes), FrameRow.sha256.is_not(None)
    times = select(FrameRow.obsdate).where(*there, FrameRow.obsdate >= since).order_by(FrameRow.obsdate)
    until = connection.execute(times.offset(most - 1).limit(1)).scalar()
    behind = (
        None if until is None else connection.execute(times.where(FrameRow.obsdate > until).limit(1)).scalar()
    )
    return None if until is None or behind is None else (until, behind)


def count_rows(connection: Connection, wanted: FrameFilter) -> int:
    """Return how many of the frames that a filter selects have no file.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : FrameFilter
        Which frames.

    Returns
    -------
    int
        How many there are.
    """
    rows = select(func.count()).select_from(FrameRow).where(FrameRow.path.is_(None), *conditions(wanted))
    return connection.execute(rows).scalar_one()


def _rows_near(connection: Connection, frames: Sequence[FrameRecord], near: int) -> Iterator[Found]:
    by_stream = sorted(frames, key=attrgetter("stream", "obsdate"))
    for stream, members in groupby(by_stream, attrgetter("stream")):
        yield from _between(connection, stream, [frame.obsdate for frame in members if frame.obsdate], near)


def _between(connection: Connection, stream: Stream, times: Sequence[str], near: int) -> Iterator[Found]:
    """Rows of a stream before, between and behind the times of its frames."""
    if not times:
        return
    yield from _rows(connection, _BEFORE, stream, ("", times[0]), near)
    place = 0
    # From gap to gap that holds rows, and never frame by frame: mostly there is none behind the last frame.
    while behind := list(_rows(connection, _BEHIND, stream, (times[place], AFTER_ALL), near)):
        place = max(place, _last_before(times, behind[0][0]))
        if place == len(times) - 1:
            yield from behind
            return
        inside = [row for row in behind if row[0] <= times[place + 1]]
        yield from inside
        if len(inside) == near:
            # More than was read may lie there. Of those only the last ones are next to the frame that follows.
            yield from _rows(connection, _BEFORE, stream, (inside[-1][0], times[place + 1]), near)
        place += 1


AFTER_ALL = "~"
"""Sorts behind all times, of which each begins with a digit."""


def _last_before(times: Sequence[str], moment: str) -> int:
    """Place of the last time that is before a moment."""
    return max((place for place, time in enumerate(times) if time < moment), default=0)


def _rows(
    connection: Connection, statement: Any, stream: Stream, between: tuple[str, str], most: int
) -> Iterator[Found]:
    values = dict(zip(STREAM, stream, strict=True)) | {"low": between[0], "high": between[1], "most": most}
    yield from ((obsdate, identity) for obsdate, identity in connection.execute(statement, values))


_FRAME = table(FrameRow).c
_ANY = select(_FRAME.id).where(_FRAME.path.is_(None)).limit(1)
# As the index uq_frame_catalogue has them, which holds nothing but rows without files. SQLite has to be told: it would
# take the one of all frames of a stream, and read these to the end where there are no such rows.
_BETWEEN = (
    select(_FRAME.obsdate, _FRAME.id)
    .where(
        _FRAME.path.is_(None),
        *[_FRAME[name] == bindparam(name) for name in STREAM],
        _FRAME.obsdate > bindparam("low"),
        _FRAME.obsdate <= bindparam("high"),
        _FRAME.status.in_(("registered", "refused")),
    )
    .limit(bindparam("most"))
    .with_hint(table(FrameRow), "INDEXED BY uq_frame_catalogue", "sqlite")
)
_BEHIND = _BETWEEN.order_by(_FRAME.obsdate)
_BEFORE = _BETWEEN.order_by(_FRAME.obsdate.desc())
