"""The sequence rules: a stream of frames cut into stack sets by one state machine."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

from ccdflow.cascade.records import Action, FrameRecord
from ccdflow.cascade.sequences.exposures import (
    ROUNDING,
    Exposure,
    OrderKey,
    SequenceRules,
    Stream,
    exposure_state,
    exposures,
    place,
    restored_exposure,
    restored_key,
)

__all__ = [
    "Cut",
    "Exposure",
    "FrameSet",
    "OrderKey",
    "SequenceMachine",
    "SequenceRules",
    "Stream",
    "assemble",
    "cut",
    "ending",
    "exposures",
    "group_sequences",
    "place",
    "split_sizes",
]

MICROSECOND = 1e-6
"""Resolution of times; the difference of two is exact to less than half of it."""


@dataclass(frozen=True)
class FrameSet:
    """Frames that are combined, or passed through as they are.

    `sequence_start` is the order key of the first frame of the sequence that the set was cut from: nothing
    before it has any part in how the sequence was cut. `first` and `last` are the obsdates of its first and
    last frame.
    """

    stream: Stream
    frames: tuple[int, ...]
    action: Action
    closed: bool
    reason: str
    sequence_start: OrderKey
    first: str
    last: str


class Cut(NamedTuple):
    """What the machine says: these frames are a set, or go on (`more`) the one said before.

    Only a sequence too long to be combined is said in parts: its set is not `closed` before the sequence is,
    and the part that closes it may have no members.
    """

    members: tuple[OrderKey, ...]
    action: Action
    reason: str
    sequence_start: OrderKey
    more: bool = False
    closed: bool = True


class OpenSequence:
    """One sequence as far as it has been seen: its first frame, its last, those that are in no set yet.

    `ended` tells whether its last frame is the last that it was to have, `unbroken` whether `iobs` ran on from 1
    without a hole; `sizes` are those of the sets that were planned, of which `made` have been said.
    """

    __slots__ = (
        "ended",
        "first",
        "last",
        "length",
        "long",
        "longest",
        "made",
        "nobs",
        "pending",
        "rules",
        "sizes",
        "text",
        "unbroken",
    )

    def __init__(self, first: Exposure, rules: SequenceRules, planned: dict[int, Sequence[int]]) -> None:
        nobs = first.nobs
        self.rules = rules
        self.longest: int = rules.max_sequence
        self.first = first
        self.nobs = nobs
        self.last = first
        self.ended = False
        self.text = ""
        self.length = 0
        self.unbroken = True
        self.long = nobs is not None and nobs > self.longest
        self.pending: list[OrderKey] = []
        self.made = 0
        self.sizes: Sequence[int] = ()
        if nobs is not None and not self.long:
            if nobs not in planned:
                planned[nobs] = split_sizes(nobs, rules)
            self.sizes = planned[nobs]

    def add(self, frame: Exposure) -> Sequence[Cut]:
        """Take the next frame of the sequence; gives the sets that are sure now."""
        iobs, nobs = frame.iobs, frame.nobs
        self.last = frame
        self.length = length = self.length + 1
        self.ended = ended = iobs == nobs and nobs is not None
        if self.unbroken and (iobs != length or nobs != self.nobs):
            self.unbroken = False
        if not frame.wanted:
            return ()
        pending = self.pending
        if self.long or length > self.longest:
            return (self._passing(frame.key),)
        pending.append(frame.key)
        if ended:
            cuts, self.pending = self.close(), []
            return cuts
        if self.unbroken and len(pending) == self.sizes[self.made]:
            full = self._cut(pending, length - len(pending))
            self.made, self.pending = self.made + 1, []
            return (full,)
        return ()

    def close(self) -> list[Cut]:
        """What is not said yet, if no further frame joins; nothing is changed by asking."""
        if self.long and self.first.wanted and not self.ended:
            return [Cut((), "pass", self._too_long(), self.first.key, True)]
        left = self.pending
        if not left:
            return []
        cuts: list[Cut] = []
        before = self.length - len(left)
        for size in self._remaining_sizes():
            if left:
                cuts.append(self._cut(left[:size], before))
                left, before = left[size:], before + size
        return cuts

    def _remaining_sizes(self) -> Sequence[int]:
        """Sizes of the sets that are left to be made: as planned, unless more frames came than were."""
        if self.sizes and self.length <= (self.nobs or 0):
            return self.sizes[self.made :]
        return split_sizes(len(self.pending), self.rules)

    def _passing(self, key: OrderKey) -> Cut:
        """A frame of a sequence too long to be combined, with all that waited for it to turn out so."""
        if self.long:
            return Cut((key,), "pass", self._too_long(), self.first.key, self.length > 1, self.ended)
        members = (*self.pending, key)
        self.pending, self.long = [], True
        return Cut(members, "pass", self._too_long(), self.first.key, False, self.ended)

    def _cut(self, members: Sequence[OrderKey], before: int) -> Cut:
        """A set of these members, before which `before` frames of the sequence came."""
        number, total = len(members), max(self.nobs or 0, self.length)
        if number > 1:
            reason = f"frames {before + 1} to {before + number} of {total}"
            return Cut(tuple(members), "stack", reason, self.first.key)
        if self.length > 1:
            reason = f"frame {before + 1} of {total} left over"
        else:
            reason = f"single frame, {total} planned" if total > 1 else "single frame"
        return Cut(tuple(members), "pass", reason, self.first.key)

    def _too_long(self) -> str:
        if not self.text:
            nobs = self.nobs or 0
            length = f"sequence of {nobs}" if nobs > self.longest else "sequence"
            self.text = f"{length} is longer than {self.longest}"
        return self.text


class SequenceMachine:
    """Sees the frames of one stream in order, each once; says which sets they make as soon as that is sure.

    It remembers the frame before, the sequence's first frame, and at most `max_sequence` frames that are not
    in a set yet, whatever the length of the stream. What it does from the first frame of a sequence on has
    nothing to do with what was before. That time closes a sequence is no part of its state: a late frame may
    still join.
    """

    def __init__(self, rules: SequenceRules) -> None:
        self.rules = rules
        self.planned: dict[int, Sequence[int]] = {}
        self.tolerances = tuple(rules.tolerance.values())
        self.restart = rules.restart
        self.longest_gap = rules.max_gap + MICROSECOND / 2
        self.sequence: OpenSequence | None = None

    @property
    def previous(self) -> Exposure | None:
        """The frame that was taken last."""
        return None if self.sequence is None else self.sequence.last

    @property
    def pending(self) -> Sequence[OrderKey]:
        """Frames that are in no set yet."""
        return () if self.sequence is None else self.sequence.pending

    def add(self, frame: Exposure) -> Sequence[Cut]:
        """Take the next frame; gives the sets that are sure now."""
        sequence = self.sequence
        if sequence is not None and not self._differs(frame, sequence):
            return sequence.add(frame)
        self.sequence = following = OpenSequence(frame, self.rules, self.planned)
        sure = following.add(frame)
        return sure if sequence is None else (*sequence.close(), *sure)

    def begins(self, frame: Exposure) -> bool:
        """Whether a frame begins a new sequence."""
        return self.sequence is None or self._differs(frame, self.sequence)

    def close(self) -> list[Cut]:
        """What the sequence comes to if no further frame joins it; the machine stays as it is."""
        return [] if self.sequence is None else self.sequence.close()

    def expired(self, now: float) -> bool:
        """Whether `max_gap` has passed since the last frame; `now` in seconds since 1970-01-01 UTC."""
        # As in `_differs`, for a time that is NaN.
        return self.sequence is not None and not now - self.sequence.last.time < self.longest_gap

    def waiting(self) -> Cut | None:
        """The frames that are in no set yet, as the open set that they are."""
        if self.sequence is None or not self.sequence.pending:
            return None
        members, start = tuple(self.sequence.pending), self.sequence.first.key
        return Cut(members, "stack", "the sequence may go on", start, closed=False)

    def state(self) -> list[Any]:
        """Where the machine stands, as JSON has it: small, however long the stream."""
        if self.sequence is None:
            return []
        one = self.sequence
        ends = [exposure_state(one.first), exposure_state(one.last)]
        return [*ends, one.length, one.unbroken, one.long, [list(key) for key in one.pending], one.made]

    @classmethod
    def restored(cls, rules: SequenceRules, state: Sequence[Any]) -> "SequenceMachine":
        """The machine that stood at `state`, which may have been through JSON; the rules are the same."""
        machine = cls(rules)
        if state:
            first, last, length, unbroken, long, pending, made = state
            one = machine.sequence = OpenSequence(restored_exposure(first), rules, machine.planned)
            one.last = restored_exposure(last)
            one.ended = is_last(one.last)
            one.length, one.unbroken, one.long, one.made = length, unbroken, long, made
            one.pending = [restored_key(key) for key in pending]
        return machine

    def _differs(self, frame: Exposure, sequence: OpenSequence) -> bool:
        before = sequence.last
        if sequence.ended or frame.same != before.same or frame.wanted != before.wanted:
            return True
        # Written so that an unknown time, which is NaN, begins a sequence.
        if not frame.time - before.time < self.longest_gap:
            return True
        if self.restart:
            iobs, last = frame.iobs, before.iobs
            if frame.nobs != before.nobs or (iobs is not None and last is not None and iobs <= last):
                return True
        first = sequence.first
        if frame.exptime != first.exptime:
            allowed = self.rules.exptime_tolerance * abs(first.exptime or 0.0)
            if not _agree(frame.exptime, first.exptime, allowed):
                return True
        return frame.near != first.near and not all(map(_agree, frame.near, first.near, self.tolerances))


def is_last(frame: Exposure) -> bool:
    """Whether a frame is the last that its sequence was to have."""
    return frame.nobs is not None and frame.iobs == frame.nobs


def _agree(value: float | None, reference: float | None, tolerance: float) -> bool:
    if value is None or reference is None:
        return value is reference
    return abs(value - reference) <= tolerance + ROUNDING * abs(reference)


def split_sizes(length: int, rules: SequenceRules) -> Sequence[int]:
    """Sizes of the sets that a sequence of `length` frames is cut into, in order."""
    if rules.split == "whole":
        return (length,)
    number = ceil(length / rules.max_stack)
    if rules.split == "fixed":
        return [rules.max_stack] * (number - 1) + [length - rules.max_stack * (number - 1)]
    return [length // number + (i < length % number) for i in range(number)]


def group_sequences(
    frames: Iterable[FrameRecord], rules: SequenceRules, now: float, classes: Sequence[str] = ("science",)
) -> list[FrameSet]:
    """The sets that the sequence rules make of all frames, whatever order they come in.

    Parameters
    ----------
    frames : iterable of FrameRecord
        Of every class, since any frame ends the sequence before it; failed and refused ones among them,
        duplicates and superseded versions left out.
    rules : SequenceRules
        What makes a sequence, and how it is cut.
    now : float
        Clock in seconds since 1970-01-01 UTC: a sequence is closed once `max_gap` has passed since its last
        frame.
    classes : sequence of str
        Classes whose sets are given.

    Returns
    -------
    list of FrameSet
        By stream, then in order of time; each frame of `classes` is in exactly one.
    """
    streams: dict[Stream, list[Exposure]] = {}
    for stream, one in exposures(frames, rules, classes):
        streams.setdefault(stream, []).append(one)
    for found in streams.values():
        found.sort()
    return [made for stream in sorted(streams) for made in assemble(stream, cut(streams[stream], rules, now))]


def cut(frames: Iterable[Exposure], rules: SequenceRules, now: float) -> Iterator[tuple[Cut, bool]]:
    """What the machine says of frames in order, each with whether it is sure; at the end what still waits."""
    machine = SequenceMachine(rules)
    for frame in frames:
        for one in machine.add(frame):
            yield one, True
    yield from ending(machine, now)


def ending(machine: SequenceMachine, now: float) -> Iterator[tuple[Cut, bool]]:
    """What becomes at the time `now` of the sequence that a machine is in."""
    if machine.expired(now):
        yield from ((one, True) for one in machine.close())
    elif (rest := machine.waiting()) is not None:
        yield rest, False


def assemble(stream: Stream, cuts: Iterable[tuple[Cut, bool]]) -> Iterator[FrameSet]:
    """Sets from what the machine says, those said in parts put together."""
    members: list[OrderKey] = []
    begun: Cut | None = None
    closed = False
    for one, sure in cuts:
        if begun is not None and not one.more:
            yield _frame_set(stream, begun, members, closed)
            begun = None
        if begun is None:
            begun, members = one, []
        members += one.members
        closed = sure and one.closed
    if begun is not None:
        yield _frame_set(stream, begun, members, closed)


def _frame_set(stream: Stream, begun: Cut, members: Sequence[OrderKey], closed: bool) -> FrameSet:
    frames = tuple([key[3] for key in members])
    first, last = members[0][0], members[-1][0]
    return FrameSet(stream, frames, begun.action, closed, begun.reason, begun.sequence_start, first, last)
