"""Sets once their frames have been calibrated or have failed: when they are ready, and who is left."""

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


def is_ready(found: FrameSet, settled: Collection[int]) -> bool:
    """Whether a set is closed and each of its frames is calibrated or has failed for good (`settled`)."""
    return found.closed and all(frame in settled for frame in found.frames)


def apply_failures(
    sets: Sequence[FrameSet], failed: Collection[int], rules: SequenceRules, made: Collection[FrameSet] = ()
) -> list[Settled]:
    """What the sets of one sequence come to where frames have failed or were refused.

    `shrink` leaves a set smaller: one frame left passes, none is a failure. `refill` puts following frames of the
    sequence in the place of the failed ones, as long as no product has been `made` of the set that they were in; only
    closed sets give and take, so that what comes out depends on when it is asked.

    Returns
    -------
    list of Settled
        One for each set, in order.

    Raises
    ------
    ValueError
        If the sets are of different sequences.
    """
    if len({(one.stream, one.sequence_start) for one in sets}) > 1:
        raise ValueError("failures are made up for within one sequence, found sets of several")
    if rules.on_failed == "shrink":
        return [_settled(one, _left(one, failed), failed) for one in sets]
    return list(_refilled(sets, failed, made))


def _left(one: FrameSet, failed: Collection[int]) -> tuple[int, ...]:
    return tuple(frame for frame in one.frames if frame not in failed)


def _refilled(
    sets: Sequence[FrameSet], failed: Collection[int], made: Collection[FrameSet]
) -> Iterator[Settled]:
    free = [one for one in sets if one.closed and one not in made]
    pool = [frame for one in free for frame in _left(one, failed)]
    for one in sets:
        if one in free:
            size = len(one.frames)
            yield _settled(one, tuple(pool[:size]), failed)
            pool = pool[size:]
        else:
            yield _settled(one, _left(one, failed), failed)


def _settled(one: FrameSet, frames: tuple[int, ...], failed: Collection[int]) -> Settled:
    """The set with these frames in it, and a sentence where they are not the ones that it had."""
    if frames == one.frames:
        return Settled(one, frames, one.action, one.reason)
    lost = sum(frame in failed for frame in one.frames)
    new = sum(frame not in one.frames for frame in frames)
    moved = len(one.frames) - lost - (len(frames) - new)
    parts = [
        f"{lost} of {len(one.frames)} frames failed or were refused" if lost else "",
        f"{moved} went to a set before" if moved else "",
        f"{new} came from a set behind" if new else "",
        f"{len(frames)} left",
    ]
    reason = ", ".join(part for part in parts if part)
    if not frames:
        return Settled(one, frames, "failed", reason)
    return Settled(one, frames, one.action if len(frames) > 1 else "pass", reason)
