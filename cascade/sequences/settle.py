"""Sets whose frames have been calibrated or have failed: which frames are left, and what becomes of the set."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ccdflow.cascade.sequences.exposures import SequenceRules
from ccdflow.cascade.sequences.statemachine import FrameSet

Outcome = Literal["stack", "pass", "failed"]


@dataclass(frozen=True)
class Settled:
    """What a set comes to after failures: the frames that are left, what is done with them, and why."""

    set: FrameSet
    frames: tuple[int, ...]
    outcome: Outcome
    reason: str


def apply_failures(
    sets: Sequence[FrameSet], failed: Collection[int], rules: SequenceRules, made: Collection[FrameSet] = ()
) -> list[Settled]:
    """Return what the sets of one sequence come to where frames have failed or were refused.

    `shrink` leaves a set smaller: one frame left passes, none is a failure. `refill` puts following frames of the
    sequence in the place of the failed ones, as long as no product has been `made` of the set that they were in; only
    closed sets give and take, so that what comes out depends on when it is asked.

    Parameters
    ----------
    sets : sequence of FrameSet
        All sets of one sequence, in order.
    failed : collection of int
        Ids of frames that have failed for good or were refused.
    rules : SequenceRules
        Their `on_failed` decides.
    made : collection of FrameSet
        Those of `sets` of which there is a product.

    Returns
    -------
    list of Settled
        One for each set, in order.

    Raises
    ------
    ValueError
        If the sets are of different sequences.
    """
    if len({(frame_set.stream, frame_set.sequence_start) for frame_set in sets}) > 1:
        raise ValueError("failures are made up for within one sequence, found sets of several")
    if rules.on_failed == "shrink":
        return [_settled(frame_set, _left(frame_set, failed), failed) for frame_set in sets]
    return list(_refilled(sets, failed, made))


def _left(frame_set: FrameSet, failed: Collection[int]) -> tuple[int, ...]:
    return tuple(frame for frame in frame_set.frames if frame not in failed)


def _refilled(
    sets: Sequence[FrameSet], failed: Collection[int], made: Collection[FrameSet]
) -> Iterator[Settled]:
    # The good frames of all sets that may still change move up, in order: each set takes as many as it had, so that
    # the gaps end up in the last sets, which may become smaller, pass, or have nothing left.
    free = [frame_set for frame_set in sets if frame_set.closed and frame_set not in made]
    pool = [frame for frame_set in free for frame in _left(frame_set, failed)]
    for frame_set in sets:
        if frame_set in free:
            size = len(frame_set.frames)
            yield _settled(frame_set, tuple(pool[:size]), failed)
            pool = pool[size:]
        else:
            yield _settled(frame_set, _left(frame_set, failed), failed)


def _settled(frame_set: FrameSet, frames: tuple[int, ...], failed: Collection[int]) -> Settled:
    """Return the set with these frames in it, and a sentence where they are not the ones that it had."""
    before = frame_set.frames
    if frames == before:
        return Settled(frame_set, frames, frame_set.action, frame_set.reason)
    lost = sum(frame in failed for frame in before)
    new = sum(frame not in before for frame in frames)
    # Those that it had and has no longer, though they are good: before - lost is what it had of good ones, frames -
    # new what it has kept of them.
    moved = len(before) - lost - (len(frames) - new)
    parts = [
        f"{lost} of {len(before)} frames failed or were refused" if lost else "",
        f"{moved} went to a set before" if moved else "",
        f"{new} came from a set behind" if new else "",
        f"{len(frames)} left",
    ]
    reason = ", ".join(part for part in parts if part)
    if not frames:
        return Settled(frame_set, frames, "failed", reason)
    return Settled(frame_set, frames, frame_set.action if len(frames) > 1 else "pass", reason)
