"""Late and changed frames: only the part of a stream that they touch is cut again, and equal sets stay.

What the machine does from the first frame of a sequence on does not depend on anything before it. So cutting may begin
at any boundary (start of a sequence) before a touched frame, and may stop where the old boundaries and the new ones
coincide again: where a sequence begins now, and one began before.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ccdflow.cascade.sequences.exposures import Exposure, OrderKey, SequenceRules, Stream
from ccdflow.cascade.sequences.statemachine import Cut, FrameSet, SequenceMachine, assemble, ending


class GroupedStream(Protocol):
    """What is known of a stream as it was grouped before, and its frames as they are now."""

    def boundary_before(self, key: OrderKey) -> OrderKey | None:
        """Return the start of the last sequence that begins strictly before a frame.

        Parameters
        ----------
        key : OrderKey
            Key of the frame; it need not be there any more.

        Returns
        -------
        OrderKey or None
            None where no sequence begins before it.
        """
        ...

    def is_boundary(self, key: OrderKey) -> bool:
        """Return whether a sequence began with this frame when the stream was grouped before.

        Parameters
        ----------
        key : OrderKey
            Key of the frame.
        """
        ...

    def frames_from(self, key: OrderKey | None) -> Iterator[Exposure]:
        """Yield the frames as they are now, in order.

        Parameters
        ----------
        key : OrderKey or None
            The first of them; None for all.

        Yields
        ------
        Exposure
            Read as they are asked for: mostly only a few are.
        """
        ...


@dataclass(frozen=True)
class Region:
    """A part of a stream cut again: its sets take the place of those whose sequence starts in it.

    It reaches from `start` (None: the stream's beginning) to just before `until` (None: the stream's end).
    """

    start: OrderKey | None
    until: OrderKey | None
    sets: tuple[FrameSet, ...]

    def holds(self, start: OrderKey) -> bool:
        """Return whether a sequence lies in the region.

        Parameters
        ----------
        start : OrderKey
            Key of its first frame.
        """
        return (self.start is None or start >= self.start) and (self.until is None or start < self.until)


def regroup(
    stream: Stream, known: GroupedStream, touched: Iterable[OrderKey], rules: SequenceRules, now: float
) -> Iterator[Region]:
    """Yield the parts of a stream that have to be cut again, in order.

    Each begins at the last boundary before a touched place, and ends where a sequence begins that began there before:
    from there on the machine can't do anything else than it did.

    Parameters
    ----------
    stream : Stream
        The stream's name.
    known : GroupedStream
        Its boundaries as they were, its frames as they are.
    touched : iterable of OrderKey
        Keys of frames that are new, gone or changed (of changed ones the old key and the new), and the sequence
        starts of open sets, which time may have closed.
    rules : SequenceRules
        The same as before: other rules need all of the stream to be cut again.
    now : float
        Clock in seconds since 1970-01-01 UTC.

    Yields
    ------
    Region
        They don't overlap.
    """
    keys = sorted(set(touched))
    changed = frozenset(keys)
    while keys:
        region = _region(stream, known, keys[0], changed, (rules, now))
        yield region
        # What was touched within the region has been looked at; a key equal to its end is that of a frame that has not
        # changed, since a region never ends at a changed one.
        keys = [] if region.until is None else [key for key in keys if key > region.until]


def _region(
    stream: Stream,
    known: GroupedStream,
    touched: OrderKey,
    changed: frozenset[OrderKey],
    by: tuple[SequenceRules, float],
) -> Region:
    start = known.boundary_before(touched)
    machine = SequenceMachine(by[0])
    ends: list[OrderKey] = []

    def cuts() -> Iterator[tuple[Cut, bool]]:
        for frame in known.frames_from(start):
            key = frame.key
            # The boundaries coincide again here: behind the touched frame, with a frame that is the same as before. The
            # cheap questions come first, since `is_boundary` may ask the database.
            if key > touched and key not in changed and machine.begins(frame) and known.is_boundary(key):
                ends.append(key)
                yield from ((said, True) for said in machine.close())
                return
            yield from ((said, True) for said in machine.add(frame))
        # The stream has ended before they did; what its last sequence comes to depends on the clock.
        yield from ending(machine, by[1])

    sets = tuple(assemble(stream, cuts()))
    return Region(start, ends[0] if ends else None, sets)


@dataclass(frozen=True)
class Difference:
    """What turns the sets there were into the sets there are now.

    `kept` need nothing; `changed` stay the sets they are, with other contents: closed now, grown while they were open,
    or of a sequence that starts elsewhere now; `gone` are superseded, by the set of `made` at that place in the list,
    or by none.
    """

    kept: tuple[int, ...]
    changed: Mapping[int, FrameSet]
    made: tuple[FrameSet, ...]
    gone: Mapping[int, int | None]


def difference(before: Mapping[int, FrameSet], now: Sequence[FrameSet]) -> Difference:
    """Match the sets that a part of a stream had with those that it has now.

    A set stays the same if its members and its action do. An open set promises nothing yet: it stays the same
    as long as its first frame does.

    Parameters
    ----------
    before : mapping of int to FrameSet
        The sets there were, by id.
    now : sequence of FrameSet
        The sets there are, in order.

    Returns
    -------
    Difference
        Each set of `before` is in `kept`, `changed` or `gone`, each of `now` in `kept`, `changed` or `made`.
    """
    same = {(frame_set.action, frame_set.frames): set_id for set_id, frame_set in before.items()}
    growing = {frame_set.frames[0]: set_id for set_id, frame_set in before.items() if not frame_set.closed}
    kept: list[int] = []
    changed: dict[int, FrameSet] = {}
    added: list[FrameSet] = []
    for frame_set in now:
        set_id = same.get((frame_set.action, frame_set.frames), growing.get(frame_set.frames[0]))
        if set_id is None:
            added.append(frame_set)
        elif before[set_id] == frame_set:
            kept.append(set_id)
        else:
            changed[set_id] = frame_set
    # The heir of a set that is gone is the new set in which the first of its frames is that is in any.
    home = {frame: number for number, frame_set in enumerate(added) for frame in frame_set.frames}
    lost = [set_id for set_id in before if set_id not in changed and set_id not in set(kept)]
    gone = {
        set_id: next((home[frame] for frame in before[set_id].frames if frame in home), None)
        for set_id in lost
    }
    return Difference(tuple(kept), changed, tuple(added), gone)
