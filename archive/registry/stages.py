"""Stages of frames: how far each has come, in which state it is there, and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, func, literal_column, or_, select

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames import batches, replace_rows
from ccdflow.archive.registry.tables import Frame, FrameStage, table

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
    replace_rows(connection, table(FrameStage), [rows[place] for place in sorted(rows)])


def stage_states(connection: Connection, stage: str, frames: Collection[int]) -> dict[int, str]:
    """States of frames in one stage."""
    found: dict[int, str] = {}
    for some in batches(sorted(set(frames)), _MANY):
        wanted = select(FrameStage.frame_id, FrameStage.state).where(
            FrameStage.stage == stage, FrameStage.frame_id.in_(some)
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
    stage: Select[Any] = select(literal_column("1")).where(FrameStage.frame_id == Frame.id)
    through = and_(FrameStage.stage == end, FrameStage.state.in_((*SETTLED, "passed")))
    stuck = or_(FrameStage.state == "failed", and_(FrameStage.state == "waiting", FrameStage.reason != ""))
    over = or_(through, and_(FrameStage.stage != end, stuck))
    tests = Frame.frame_class == frame_class, Frame.obsdate >= since, Frame.status == "registered"
    wanted = select(func.min(Frame.obsdate)).where(*tests, ~stage.where(over).exists())
    return connection.execute(wanted).scalar_one()


def stages_of(connection: Connection, frame: int) -> list[dict[str, str]]:
    """State and reason of a frame in each stage."""
    columns = select(FrameStage.stage, FrameStage.state, FrameStage.reason, FrameStage.updated)
    rows = connection.execute(columns.where(FrameStage.frame_id == frame).order_by(FrameStage.updated))
    return [dict(row._mapping) for row in rows]
