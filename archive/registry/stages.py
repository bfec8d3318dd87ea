"""Stages of frames: how far each has come, in which state it is there, and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, func, literal_column, or_, select

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames import batches, replace_rows
from ccdflow.archive.registry.tables import FrameRow, FrameStageRow, table

_MANY = 5000

SETTLED = ("done", "failed", "refused")
"""States in which a frame's calibration will not change any more."""


@dataclass(frozen=True)
class StageState:
    """How far a frame has come in a stage: ``waiting running done passed failed refused``, and why."""

    frame: int
    stage: str
    state: str
    reason: str = ""


def set_stages(connection: Connection, states: Sequence[StageState]) -> None:
    """Write how far frames have come; of several for one frame and stage, the last counts."""
    moment = now()
    rows = {
        (one.frame, one.stage): {
            "frame_id": one.frame,
            "stage": one.stage,
            "state": one.state,
            "reason": one.reason,
            "updated": moment,
            "unsettled": one.state in SETTLED,
        }
        for one in states
    }
    # In one order, so that two that write the same ones wait for each other, and never both.
    replace_rows(connection, table(FrameStageRow), [rows[place] for place in sorted(rows)])


def stage_states(connection: Connection, stage: str, frames: Collection[int]) -> dict[int, str]:
    """States of frames in one stage."""
    found: dict[int, str] = {}
    for some in batches(sorted(set(frames)), _MANY):
        wanted = select(FrameStageRow.frame_id, FrameStageRow.state).where(
            FrameStageRow.stage == stage, FrameStageRow.frame_id.in_(some)
        )
        found |= {frame: state for frame, state in connection.execute(wanted)}
    return found


def unsettled_since(connection: Connection, ends: Mapping[str, str], since: str) -> str | None:
    """Time of the oldest frame, from `since` on, of which something may have to be made; None where there is none.

    `ends` names by class of frame the last stage that it goes through. Frames have come to an end if they were
    refused, failed, or have come through that stage; what waits for a calibration is looked for elsewhere.
    """
    found = [_oldest(connection, frame_class, end, since) for frame_class, end in ends.items()]
    return min((one for one in found if one is not None), default=None)


def _oldest(connection: Connection, frame_class: str, end: str, since: str) -> str | None:
    stage: Select[Any] = select(literal_column("1")).where(FrameStageRow.frame_id == FrameRow.id)
    through = and_(FrameStageRow.stage == end, FrameStageRow.state.in_((*SETTLED, "passed")))
    stuck = or_(
        FrameStageRow.state == "failed", and_(FrameStageRow.state == "waiting", FrameStageRow.reason != "")
    )
    over = or_(through, and_(FrameStageRow.stage != end, stuck))
    tests = FrameRow.frame_class == frame_class, FrameRow.obsdate >= since, FrameRow.status == "registered"
    wanted = select(func.min(FrameRow.obsdate)).where(*tests, ~stage.where(over).exists())
    return connection.execute(wanted).scalar_one()


def stages_of(connection: Connection, frame: int) -> list[dict[str, str]]:
    """State and reason of a frame in each stage."""
    columns = select(FrameStageRow.stage, FrameStageRow.state, FrameStageRow.reason, FrameStageRow.updated)
    rows = connection.execute(columns.where(FrameStageRow.frame_id == frame).order_by(FrameStageRow.updated))
    return [dict(row._mapping) for row in rows]
