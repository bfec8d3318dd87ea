"""Corrections that others have made with SQL of their own: written as the registry has them, or refused by name.

`ccdflow amend` checks what it is told. An UPDATE may say anything: a time with a zone, which means the same, or one
that is none. What can't be is taken back, for that frame alone, and stays there as a doubt.
"""

from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, text, update
from sqlalchemy.exc import IntegrityError

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames.amendments import (
    CORRECTION,
    FOLLOWS,
    Amendment,
    Values,
    amend,
    find_amendments,
    undo,
    write_values,
)
from ccdflow.archive.registry.frames.doubts import find_doubts, replace_doubts
from ccdflow.archive.registry.frames.keywords import write_value
from ccdflow.archive.registry.frames.oddvalues import is_time
from ccdflow.archive.registry.tables import HOLDS, AmendmentRow, FrameDoubtRow, FrameRow
from ccdflow.cascade.headers.amended import understood
from ccdflow.cascade.headers.dates import night
from ccdflow.cascade.records import Doubt, Value


def unsettled_frames(connection: Connection) -> set[int]:
    """Return the frames of which something was corrected in a way that the registry does not write.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.

    Returns
    -------
    set of int
        Ids, for `settle_amendments`.
    """
    frames = {amendment.frame for amendment in find_amendments(connection) if not _is_settled(amendment)}
    told = find_doubts(connection, _doubted(connection, None), CORRECTION)
    return frames | {frame for frame, doubts in told.items() if doubts != _doubts(connection, frame)}


def _is_settled(amendment: Amendment) -> bool:
    try:
        return _same(understood(amendment.name, amendment.value), amendment.value)
    except ValueError:
        return False


def _same(value: Value | None, other: Value | None) -> bool:
    return value is None or (value, type(value)) == (other, type(other))


def settle_amendments(connection: Connection, frames: Collection[int] | None = None) -> list[Amendment]:
    """Write corrections as the registry has them, and take those back that can't be.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frames : collection of int or None
        Ids of frames; None for all.

    Returns
    -------
    list of Amendment
        Those that hold.
    """
    holding: list[Amendment] = []
    refused: set[int] = set()
    for amendment in find_amendments(connection, frames):
        try:
            value = understood(amendment.name, amendment.value)
        except ValueError:
            _take_back(connection, amendment)
            refused.add(amendment.frame)
            continue
        if value is not None and not _same(value, amendment.value):
            _rewrite(connection, amendment, value)
            amendment = replace(amendment, value=value)
        if value != amendment.said:
            holding.append(amendment)
    for frame in refused | _doubted(connection, frames):
        _tell(connection, frame)
    return holding


def _take_back(connection: Connection, amendment: Amendment) -> None:
    _change(connection, amendment, {"undone": now()}, amendment.said)


def _rewrite(connection: Connection, amendment: Amendment, value: Value) -> None:
    written, number = write_value(value)
    undone = now() if value == amendment.said else ""
    _change(connection, amendment, {"value": written, "number": number, "undone": undone}, value)


def _change(connection: Connection, amendment: Amendment, row: dict[str, Any], value: Value | None) -> None:
    # Another row of a catalogue may have come to the same place meanwhile: then both stay as they are.
    with suppress(IntegrityError), connection.begin_nested():
        write_values(connection, {amendment.frame: {amendment.name: value}})
        connection.execute(update(AmendmentRow).where(AmendmentRow.id == amendment.id).values(row))


def _doubted(connection: Connection, frames: Collection[int] | None) -> set[int]:
    """Frames that have such a doubt, which a later correction may have cleared up."""
    statement = select(FrameDoubtRow.frame_id).where(FrameDoubtRow.source == CORRECTION).distinct()
    doubted = set(connection.execute(statement).scalars())
    return doubted if frames is None else doubted & set(frames)


def _tell(connection: Connection, frame: int) -> None:
    doubts = _doubts(connection, frame)
    if doubts != find_doubts(connection, [frame], CORRECTION).get(frame, ()):
        replace_doubts(connection, frame, doubts, CORRECTION)


def _doubts(connection: Connection, frame: int) -> tuple[Doubt, ...]:
    """What can't be, and nobody has corrected better since."""
    newest = {amendment.name: amendment for amendment in find_amendments(connection, [frame], undone=True)}
    doubts = []
    for amendment in newest.values():
        try:
            understood(amendment.name, amendment.value)
        except ValueError as error:
            said = "nothing" if amendment.said in (None, "") else repr(amendment.said)
            doubts.append(Doubt(CORRECTION, f"{error}; {said} counts, as before"))
    return tuple(doubts)


# --- nights of frames whose header can't be read ----------------------------------------------------------------------


def let_nights_follow(
    connection: Connection, longitude: float | None, frames: Collection[int] | None = None
) -> None:
    """Correct the nights of frames without a file whose times were corrected.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    longitude : float or None
        Of the site, degrees east.
    frames : collection of int or None
        Ids of frames whose headers can't be read; None for all rows of catalogues.

    Notes
    -----
    The night is corrected as a person would do it, so that it outlives the catalogue and is undone with the time. What
    a person has said of the night itself stays.
    """
    by_frame: dict[int, dict[str, Amendment]] = defaultdict(dict)
    for amendment in find_amendments(connection, frames):
        if amendment.name in ("obsdate", "night"):
            by_frame[amendment.frame][amendment.name] = amendment
    nights = _nights(connection, by_frame, catalogue=frames is None)
    for frame, told in nights.items():
        time, followed = by_frame[frame].get("obsdate"), by_frame[frame].get("night")
        if followed is not None and followed.why != FOLLOWS:
            continue
        before = str(followed.said or "") if followed is not None else told
        after = before if time is None else _moved(before, time, longitude)
        if after != before:
            amend(connection, {frame: {"night": after}}, "" if time is None else time.who, FOLLOWS)
        elif followed is not None:
            undo(connection, [frame], ["night"])


def _nights(connection: Connection, frames: Collection[int], *, catalogue: bool) -> dict[int, str]:
    """What rows say of their nights, by id."""
    nights: dict[int, str] = {}
    for part in batches(sorted(frames)):
        statement = select(FrameRow.id, FrameRow.night).where(FrameRow.id.in_(part))
        if catalogue:
            statement = statement.where(FrameRow.path.is_(None))
        nights |= {frame: told for frame, told in connection.execute(statement)}
    return nights


def _moved(told: str, time: Amendment, longitude: float | None) -> str:
    """The night of a corrected time, by the night of the one that the row had."""
    # The row of another program may say anything; what is no time moves nothing.
    if not time.value or not is_time(str(time.value)):
        return told
    after = str(time.value)
    try:
        reckoned = night(str(time.said), longitude)
        moved = datetime.fromisoformat(after) - datetime.fromisoformat(str(time.said))
        evening = datetime.fromisoformat(told)
    except (ValueError, TypeError, OverflowError):  # there was no time, or no night
        return night(after, longitude)
    if told == reckoned:
        return night(after, longitude)
    # Its catalogue knows where the telescope stands, and we don't: then only whole days are sure.
    days = round(moved / timedelta(days=1))
    return (evening + timedelta(days=days)).date().isoformat()


def forget_followed(connection: Connection, frame: int) -> None:
    """End what was concluded of a frame's night, since its header can be read, which knows better.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frame : int
        Its id.
    """
    followed = AmendmentRow.frame_id == frame, AmendmentRow.why == FOLLOWS, text(HOLDS)
    connection.execute(update(AmendmentRow).where(*followed).values(undone=now()))


def values_of(amendments: Collection[Amendment]) -> Values:
    """Return corrected values by name.

    Parameters
    ----------
    amendments : collection of Amendment
        Of one frame, which hold.
    """
    return {amendment.name: amendment.value for amendment in amendments}
