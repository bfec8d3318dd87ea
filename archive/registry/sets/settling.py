"""Sets whose frames are calibrated or have failed become ready, and frames of sets that pass then pass.

Whoever writes that the calibration of a frame has come to an end leaves it `unsettled` (`stages.set_stages`), and
whoever groups settles the sets of such frames later. So a worker need not wait for those who change sets.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    Text,
    and_,
    bindparam,
    case,
    false,
    literal_column,
    select,
    text,
    true,
)

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.frames.stages import SETTLED, StageState, set_stages
from ccdflow.archive.registry.tables import FrameRow, FrameSetRow, FrameStageRow, SetMemberRow, table

RAW = "ingest"
"""Stage whose states nobody writes: a frame is through it once it has a file."""


@dataclass(frozen=True)
class Settling:
    """How the sets of a step become ready: by the states of their frames in the stage `upstream`, which may be `RAW`.

    `stage` is the one that the step belongs to.
    """

    step: str
    upstream: str
    stage: str


def is_unsettled(connection: Connection, by: Settling) -> bool:
    """Return whether the state of a frame has changed since the sets of a step were settled.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    by : Settling
        The step, and the stage whose states count.

    Returns
    -------
    bool
        True where `settle_changed` has something to do.
    """
    return connection.execute(_ANY, {"stage": by.upstream}).first() is not None


def settle_changed(connection: Connection, steps: Sequence[Settling]) -> None:
    """Settle the sets of those frames whose states have changed since that was done last.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    steps : sequence of Settling
        How the sets of each step become ready. The change counts as settled afterwards, so all steps that look at one
        stage have to be named together.
    """
    for upstream in sorted({by.upstream for by in steps}):
        # What changes behind this statement waits for it on PostgreSQL, and is seen the next time.
        frames = connection.execute(_TAKEN, {"upstream": upstream}).scalars().all()
        for part in batches(frames):
            sets = connection.execute(_SETS_OF, {"frames": part}).scalars().all()
            for by in steps:
                if by.upstream == upstream:
                    settle(connection, by, sets)


def settle(connection: Connection, by: Settling, sets: Collection[int]) -> None:
    """Settle sets: closed ones are ready once each of their frames is calibrated or has failed for good.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    by : Settling
        How sets become ready.
    sets : collection of int
        Ids of sets; those of other steps, superseded ones and those that are ready already stay as they are.
    """
    for part in batches(sorted(set(sets))):
        values = {"sets": part, "upstream": by.upstream, "stage": by.stage}
        rows = connection.execute(_MEMBERS, values)
        members = [
            row for row in rows if row.step == by.step and row.status != "superseded" and not row.ready
        ]
        # Refused frames count as settled, since they never will be calibrated; their set is smaller then.
        by_set = {number: list(group) for number, group in groupby(members, attrgetter("id"))}
        ready = [number for number, group in by_set.items() if all(map(_is_settled, group))]
        if ready:
            connection.execute(_READY, {"sets": ready})
        set_stages(connection, [StageState(*mark) for mark in _marks(members, by.stage)])


def _is_settled(member: Any) -> bool:
    return member.status == "closed" and (member.refused or member.reached in SETTLED)


def _marks(members: Iterable[Any], stage: str) -> Iterator[tuple[int, str, str, str]]:
    """States that are new of frames in the stage that their set belongs to, where no job decides it."""
    for member in members:
        if member.refused or member.reached != "done":
            continue
        # A closed set that is stacked has a job, which marks its frames.
        is_open = member.status == "open"
        mark = "passed" if member.action == "pass" else "waiting" if is_open else member.marked
        if mark is not None and mark != member.marked:
            yield member.frame_id, stage, mark, member.reason


_SET = table(FrameSetRow).c
_MEMBER = table(SetMemberRow).c
_FRAME = table(FrameRow).c
_UPSTREAM = table(FrameStageRow).alias("upstream")
_HERE = table(FrameStageRow).alias("here")
_STAGE = table(FrameStageRow).c
_UPSTREAM_STAGE = bindparam("upstream", type_=Text())

# Conditions as the indexes have them: behind bound values SQLite does not see its indexes.
_ANY: Select[Any] = (
    select(literal_column("1")).where(_STAGE.stage == bindparam("stage"), text("unsettled")).limit(1)
)
_TAKEN = (
    table(FrameStageRow)
    .update()
    .where(_STAGE.stage == bindparam("upstream"), text("unsettled"))
    .values(unsettled=false())
    .returning(_STAGE.frame_id)
)
_SETS_OF = select(_MEMBER.set_id).where(_MEMBER.frame_id.in_(bindparam("frames", expanding=True)))
# Without a condition on the step: by that SQLite would rather read all sets of the step.
_MEMBERS = (
    select(
        _SET.id,
        _SET.step,
        _SET.ready,
        _SET.action,
        _SET.status,
        _SET.reason,
        _MEMBER.frame_id,
        (_FRAME.status == "refused").label("refused"),
        case(
            (and_(_UPSTREAM_STAGE == RAW, _FRAME.sha256.is_not(None)), "done"), else_=_UPSTREAM.c.state
        ).label("reached"),
        _HERE.c.state.label("marked"),
    )
    .select_from(
        table(FrameSetRow)
        .join(table(SetMemberRow), _MEMBER.set_id == _SET.id)
        .join(table(FrameRow), _FRAME.id == _MEMBER.frame_id)
        .outerjoin(
            _UPSTREAM,
            and_(_UPSTREAM.c.frame_id == _MEMBER.frame_id, _UPSTREAM.c.stage == _UPSTREAM_STAGE),
        )
        .outerjoin(_HERE, and_(_HERE.c.frame_id == _MEMBER.frame_id, _HERE.c.stage == bindparam("stage")))
    )
    .where(_SET.id.in_(bindparam("sets", expanding=True)))
    .order_by(_SET.id, _MEMBER.position)
)
_READY = (
    table(FrameSetRow).update().where(_SET.id.in_(bindparam("sets", expanding=True))).values(ready=true())
)
