"""Late and changed frames: only the part of a stream that they touch is cut again, and equal sets stay."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ccdflow.cascade.sequences.exposures import Exposure, OrderKey, SequenceRules, Stream
from ccdflow.cascade.sequences.statemachine import Cut, FrameSet, SequenceMachine, assemble, ending


class GroupedStream(Protocol):
    """What is known of a stream as it was grouped before, and its frames as they are now."""

    def boundary_before(self, key: OrderKey) -> OrderKey | None:
        """Start of the last sequence that begins strictly before `key`; None where there is none."""

    def is_boundary(self, key: OrderKey) -> bool:
        """Whether a sequence begins with the frame of this key."""

    def frames_from(self, key: OrderKey | None) -> Iterator[Exposure]:
        """The frames from the one of this key on, in order; all for None."""


@dataclass(frozen=True)
class Region:
    """A part of a stream cut again: its sets take the place of those whose sequence starts in it.

    It reaches from `start` (None: the stream's beginning) to just before `until` (None: the stream's end).
    """

    start: OrderKey | None
    until: OrderKey | None
    sets: tuple[FrameSet, ...]

    def holds(self, start: OrderKey) -> bool:
        """Whether a sequence that starts here lies in the region."""
        return (self.start is None or start >= self.start) and (self.until is None or start < self.until)


def regroup(
    stream: Stream, known: GroupedStream, touched: Iterable[OrderKey], rules: SequenceRules, now: float
) -> Iterator[Region]:
    """The parts of a stream that have to be cut again, in order.

    Each begins at the last boundary before a touched place, and ends where a sequence begins that began there before:
    from there on the machine can't do anything else than it did.

    Parameters
    ----------
    touched : iterable of OrderKey
        Keys of frames that are new, gone or changed (of changed ones the old key and the new), and the sequence
        starts of open sets, which time may have closed.
    now : float
        Clock in seconds since 1970-01-01 UTC.
    """
    places = sorted(set(touched))
    changed = frozenset(places)
    while places:
        region = _region(stream, known, places[0], changed, (rules, now))
        yield region
        places = [] if region.until is None else [one for one in places if one > region.until]


def _region(
    stream: Stream,
    known: GroupedStream,
    place: OrderKey,
    changed: frozenset[OrderKey],
    by: tuple[SequenceRules, float],
) -> Region:
    start = known.boundary_before(place)
    machine = SequenceMachine(by[0])
    ends: list[OrderKey] = []

    def cuts() -> Iterator[tuple[Cut, bool]]:
        for frame in known.frames_from(start):
            key = frame.key
            if key > place and key not in changed and machine.begins(frame) and known.is_boundary(key):
                ends.append(key)
                yield from ((one, True) for one in machine.close())
                return
            yield from ((one, True) for one in machine.add(frame))
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
    """Match the sets of a part of a stream, by id, with those that it has now.

    A set stays the same if its members and its action do. An open set promises nothing yet: it stays the same
    as long as its first frame does.
    """
    same = {(one.action, one.frames): name for name, one in before.items()}
    growing = {one.frames[0]: name for name, one in before.items() if not one.closed}
    kept: list[int] = []
    changed: dict[int, FrameSet] = {}
    made: list[FrameSet] = []
    for one in now:
        name = same.get((one.action, one.frames), growing.get(one.frames[0]))
        if name is None:
            made.append(one)
        elif before[name] == one:
            kept.append(name)
        else:
            changed[name] = one
    home = {frame: place for place, one in enumerate(made) for frame in one.frames}
    lost = [name for name in before if name not in changed and name not in set(kept)]
    gone = {name: next((home[one] for one in before[name].frames if one in home), None) for name in lost}
    return Difference(tuple(kept), changed, tuple(made), gone)
