"""Stages of frames: how far each has come, in which state it is there, and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, literal_column, or_, select

from ccdflow.archive.registry.bulk import batches, replace_rows
from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.tables import FrameRow, FrameStageRow, table

SETTLED = ("done", "failed", "refused")
"""States in which a frame's calibration will not change any more."""

LEFT_OUT = "left out of the "
"""How the reason begins why a frame has passed that was meant to be combined with others."""


@dataclass(frozen=True)
class StageState:
    """How far a frame has come in a stage: ``waiting running done passed failed refused``, and why."""

    frame: int
    stage: str
    state: str
    reason: str = ""


def set_stages(connection: Connection, states: Sequence[StageState]) -> None:
    """Write how far frames have come.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    states : sequence of StageState
        The states; of several for one frame and stage, the last counts.
    """
    moment = now()
    rows = {
        (state.frame, state.stage): {
            "frame_id": state.frame,
            "stage": state.stage,
            "state": state.state,
            "reason": state.reason,
            "updated": moment,
            "unsettled": state.state in SETTLED,
        }
        for state in states
    }
    # In one order for all: of two transactions that write the same rows one waits for the other. In different orders
    # each could hold a row that the other waits for (a deadlock, which PostgreSQL ends by failing one of them).
    replace_rows(connection, table(FrameStageRow), [rows[key] for key in sorted(rows)])


def stage_states(connection: Connection, stage: str, frames: Collection[int]) -> dict[int, str]:
    """Return the states of frames in one stage.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    stage : str
        The stage.
    frames : collection of int
        Ids of the frames.

    Returns
    -------
    dict of int to str
        The state by id; frames that have not come to the stage are left out.
    """
    states: dict[int, str] = {}
    for part in batches(sorted(set(frames))):
        statement = select(FrameStageRow.frame_id, FrameStageRow.state).where(
            FrameStageRow.stage == stage, FrameStageRow.frame_id.in_(part)
        )
        states |= {frame: state for frame, state in connection.execute(statement)}
    return states


def unsettled_since(
    connection: Connection, ends: Mapping[str, str], since: str, *, waiting: bool = False
) -> str | None:
    """Return the time of the oldest frame of which something may have to be made.

    Frames have come to an end if they were refused, failed, or have come through their last stage.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    ends : mapping of str to str
        By class of frames, the last stage that they go through; frames of other classes are not looked at.
    since : str
        ISO time (UTC) before which no frame is looked at.
    waiting : bool
        Whether what waits for a calibration is looked for, too.

    Returns
    -------
    str or None
        Its obsdate; None where all frames have come to an end.
    """
    times = [
        _oldest(connection, frame_class, end, since, waiting=waiting) for frame_class, end in ends.items()
    ]
    return min((time for time in times if time is not None), default=None)


def count_unfinished(
    connection: Connection, ends: Mapping[str, str], before: str, ids: tuple[int, int | None] = (0, None)
) -> int:
    """Return how many frames with files are older than a time, and have not come to an end.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    ends : mapping of str to str
        As for `unsettled_since`.
    before : str
        ISO time (UTC): only frames begun before.
    ids : tuple of int and int or None
        Only frames from the first id to the last; None for no last one.

    Returns
    -------
    int
        How many there are.
    """
    first, last = ids
    tests = [FrameRow.obsdate < before, FrameRow.obsdate != "", FrameRow.id >= first]
    if last is not None:
        tests.append(FrameRow.id <= last)
    return sum(
        connection.execute(
            select(func.count()).select_from(FrameRow).where(*tests, *_unfinished(frame_class, end))
        ).scalar_one()
        for frame_class, end in ends.items()
    )


def newest_frame(connection: Connection) -> int:
    """Return the highest id of all frames; 0 where there is none."""
    return connection.execute(select(func.max(FrameRow.id))).scalar_one() or 0


def _oldest(connection: Connection, frame_class: str, end: str, since: str, *, waiting: bool) -> str | None:
    unfinished = _unfinished(frame_class, end, waiting=waiting)
    earliest = select(func.min(FrameRow.obsdate)).where(FrameRow.obsdate >= since, *unfinished)
    return connection.execute(earliest).scalar_one()


def _unfinished(frame_class: str, end: str, *, waiting: bool = False) -> tuple[ColumnElement[bool], ...]:
    """The conditions that a frame has a file and is not over."""
    # Over is a frame that is through its last stage, and one that is stuck in an earlier one: failed, or, if `waiting`
    # is not asked for, waiting for what the reason names.
    # NOT EXISTS, which the primary key of frame_stage answers for each frame.
    stage: Select[Any] = select(literal_column("1")).where(FrameStageRow.frame_id == FrameRow.id)
    through = and_(FrameStageRow.stage == end, FrameStageRow.state.in_((*SETTLED, "passed")))
    stuck = FrameStageRow.state == "failed"
    if not waiting:
        stuck = or_(stuck, and_(FrameStageRow.state == "waiting", FrameStageRow.reason != ""))
    over = or_(through, and_(FrameStageRow.stage != end, stuck))
    # Of a row without a file nothing can be made, and a catalogue may have a hundred thousand.
    there = FrameRow.status == "registered", FrameRow.sha256.is_not(None)
    return FrameRow.frame_class == frame_class, *there, ~stage.where(over).exists()


def stages_of(connection: Connection, frame: int) -> list[dict[str, str]]:
    """Return state and reason of a frame in each stage.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    frame : int
        Its id.

    Returns
    -------
    list of dict of str to str
        ``stage``, ``state``, ``reason`` and ``updated`` (ISO UTC) of each, the one written last at the end.
    """
    columns = select(FrameStageRow.stage, FrameStageRow.state, FrameStageRow.reason, FrameStageRow.updated)
    rows = connection.execute(columns.where(FrameStageRow.frame_id == frame).order_by(FrameStageRow.updated))
    return [dict(row._mapping) for row in rows]
