"""The sequence rules: a stream of frames cut into stack sets by one state machine."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from ccdflow.cascade.records import Action, FrameRecord
from ccdflow.cascade.sequences.exposures import (
    ROUNDING,
    Exposure,
    OrderKey,
    SequenceRules,
    Stream,
    exposures,
    sequence_position,
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
    "sequence_position",
    "split_sizes",
]

MICROSECOND = 1e-6
"""Resolution of obsdates in seconds; the difference of two, as floats, is exact to less than half of it."""

# How the machine works. It is in one of two states: before the first frame of a stream (`sequence` is None), or in a
# sequence. Each frame is either one more of the sequence, or differs and begins the next one (`_differs`).
#
# A sequence, in turn, is in one of these states, and says sets (`Cut`) as soon as nothing later can change them:
#
#   collecting  Frames wait in `pending`. Where nobs is known and iobs has run on from 1 without a hole (`unbroken`),
#               a set is said when it is full: frames 5 to 8 of 12 need not wait for 9 to 12. Otherwise nothing is
#               said before the sequence is over, since only its length tells how it is cut.
#   long        It has, or by nobs will have, more than max_sequence frames. None of them is combined: each is passed
#               on at once, and all belong to one set, which grows (`more`) until the sequence is over.
#   ended       iobs == nobs was seen: all has been said, and any further frame begins another sequence.
#
# A sequence is over when another begins, when it has ended, or when max_gap has passed since its last frame. The
# last is asked of the clock (`expired`) and changes no state, since a late frame may still join.


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
    without a hole; `sizes` are those of the sets that were planned, of which `said` have been said.

    Parameters
    ----------
    first : Exposure
        Its first frame, which `add` is still to be given.
    rules : SequenceRules
        How it is cut.
    planned : dict
        Length of a sequence to the sizes of its sets; filled as lengths come up.
    """

    __slots__ = (
        "ended",
        "first",
        "last",
        "length",
        "long",
        "longest",
        "nobs",
        "pending",
        "rules",
        "said",
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
        self.said = 0
        self.sizes: Sequence[int] = ()
        if nobs is not None and not self.long:
            if nobs not in planned:
                planned[nobs] = split_sizes(nobs, rules)
            self.sizes = planned[nobs]

    def add(self, frame: Exposure) -> Sequence[Cut]:
        """Take the next frame of the sequence, and return the sets that are sure now.

        Parameters
        ----------
        frame : Exposure
            A frame that does not begin another sequence.

        Returns
        -------
        sequence of Cut
            In order of time; mostly none.
        """
        iobs, nobs = frame.iobs, frame.nobs
        self.last = frame
        self.length = length = self.length + 1
        self.ended = ended = iobs == nobs and nobs is not None
        # A hole may still be filled by a late frame, which would move the sets behind it.
        if self.unbroken and (iobs != length or nobs != self.nobs):
            self.unbroken = False
        # Nobody asks for sets of this class: its frames only end the sequences before them.
        if not frame.wanted:
            return ()
        pending = self.pending
        if self.long or length > self.longest:
            return (self._passing(frame.key),)
        pending.append(frame.key)
        if ended:
            cuts, self.pending = self.close(), []
            return cuts
        if self.unbroken and len(pending) == self.sizes[self.said]:
            full = self._cut(pending, length - len(pending))
            self.said, self.pending = self.said + 1, []
            return (full,)
        return ()

    def close(self) -> list[Cut]:
        """Return what is not said yet, if no further frame joins; asking changes nothing.

        Returns
        -------
        list of Cut
            Sets of the frames that wait; of a sequence too long to be combined, a cut without members that closes it.
        """
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
        """Return the sizes of the sets that are left: as planned, unless more frames came than were planned."""
        if self.sizes and self.length <= (self.nobs or 0):
            return self.sizes[self.said :]
        return split_sizes(len(self.pending), self.rules)

    def _passing(self, key: OrderKey) -> Cut:
        """Pass on a frame of a sequence too long to be combined, with all that waited for it to turn out so."""
        if (
            self.long
        ):  # known before this frame, by nobs or by the frames so far: it goes on what was said before
            return Cut((key,), "pass", self._too_long(), self.first.key, self.length > 1, self.ended)
        members = (*self.pending, key)
        self.pending, self.long = [], True
        return Cut(members, "pass", self._too_long(), self.first.key, False, self.ended)

    def _cut(self, members: Sequence[OrderKey], before: int) -> Cut:
        """Return a set of these members, before which `before` frames of the sequence came."""
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

    Parameters
    ----------
    rules : SequenceRules
        What makes a sequence, and how it is cut.
    """

    def __init__(self, rules: SequenceRules) -> None:
        self.rules = rules
        self.planned: dict[int, Sequence[int]] = {}
        self.tolerances = tuple(rules.tolerance.values())
        self.restart = rules.restart
        # Exactly max_gap still joins, whatever the rounding of two floats of 1e9 s; see MICROSECOND.
        self.longest_gap = rules.max_gap + MICROSECOND / 2
        self.sequence: OpenSequence | None = None

    @property
    def pending(self) -> Sequence[OrderKey]:
        """Frames that are in no set yet."""
        return () if self.sequence is None else self.sequence.pending

    def add(self, frame: Exposure) -> Sequence[Cut]:
        """Take the next frame of the stream, and return the sets that are sure now.

        Parameters
        ----------
        frame : Exposure
            Its key is above that of the frame before.

        Returns
        -------
        sequence of Cut
            Those that the sequence before comes to, where the frame begins another; then those of its own sequence.
        """
        sequence = self.sequence
        if sequence is not None and not self._differs(frame, sequence):
            return sequence.add(frame)
        self.sequence = following = OpenSequence(frame, self.rules, self.planned)
        sure = following.add(frame)
        return sure if sequence is None else (*sequence.close(), *sure)

    def begins(self, frame: Exposure) -> bool:
        """Return whether a frame would begin a new sequence; the machine stays as it is.

        Parameters
        ----------
        frame : Exposure
            The next frame of the stream.
        """
        return self.sequence is None or self._differs(frame, self.sequence)

    def close(self) -> list[Cut]:
        """Return what the sequence comes to if no further frame joins it; the machine stays as it is.

        Returns
        -------
        list of Cut
            What has not been said yet.
        """
        return [] if self.sequence is None else self.sequence.close()

    def expired(self, now: float) -> bool:
        """Return whether `max_gap` has passed since the last frame, or since its end where gaps count from there.

        Parameters
        ----------
        now : float
            Clock in seconds since 1970-01-01 UTC.
        """
        # As in `_differs`, for a time that is NaN.
        if self.sequence is None:
            return False
        last = self.sequence.last
        return not now - last.time - last.length < self.longest_gap

    def waiting(self) -> Cut | None:
        """Return the frames that are in no set yet, as the open set that they are.

        Returns
        -------
        Cut or None
            None where no frame waits.
        """
        if self.sequence is None or not self.sequence.pending:
            return None
        members, start = tuple(self.sequence.pending), self.sequence.first.key
        return Cut(members, "stack", "the sequence may go on", start, closed=False)

    def _differs(self, frame: Exposure, sequence: OpenSequence) -> bool:
        # The commonest and cheapest questions come first: this is asked of every frame.
        before = sequence.last
        if sequence.ended or frame.same != before.same or frame.wanted != before.wanted:
            return True
        # Written so that an unknown time, which is NaN, begins a sequence.
        if not frame.time - before.time - before.length < self.longest_gap:
            return True
        # The observer began again, or another program did: 1 2 3 of 5, then 1 2 3 4 5 of 5.
        if self.restart:
            iobs, last = frame.iobs, before.iobs
            if frame.nobs != before.nobs or (iobs is not None and last is not None and iobs <= last):
                return True
        # Numbers are held against the first frame, not the one before, so that small steps can't add up.
        first = sequence.first
        if frame.exptime != first.exptime:
            allowed = self.rules.exptime_tolerance * abs(first.exptime or 0.0)
            if not _agree(frame.exptime, first.exptime, allowed):
                return True
        return frame.near != first.near and not all(map(_agree, frame.near, first.near, self.tolerances))


def is_last(frame: Exposure) -> bool:
    """Return whether a frame is the last that its sequence was to have.

    Parameters
    ----------
    frame : Exposure
        One whose position in its sequence need not be known.
    """
    return frame.nobs is not None and frame.iobs == frame.nobs


def _agree(value: float | None, reference: float | None, tolerance: float) -> bool:
    # An unknown value agrees with an unknown one only.
    if value is None or reference is None:
        return value is reference
    return abs(value - reference) <= tolerance + ROUNDING * abs(reference)


def split_sizes(length: int, rules: SequenceRules) -> Sequence[int]:
    """Return the sizes of the sets that a sequence is cut into, in order.

    Parameters
    ----------
    length : int
        Frames in the sequence, at least 1.
    rules : SequenceRules
        Their `split` and `max_stack` decide.

    Returns
    -------
    sequence of int
        They add up to `length`; the larger ones come first.
    """
    if rules.split == "whole":
        return (length,)
    number = ceil(length / rules.max_stack)
    if rules.split == "fixed":
        return [rules.max_stack] * (number - 1) + [length - rules.max_stack * (number - 1)]
    # Balanced: as many sets as with fixed, which differ by one frame at the most.
    return [length // number + (i < length % number) for i in range(number)]


def group_sequences(
    frames: Iterable[FrameRecord], rules: SequenceRules, now: float, classes: Sequence[str] = ("science",)
) -> list[FrameSet]:
    """Return the sets that the sequence rules make of all frames, whatever order they come in.

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
    for stream, exposure in exposures(frames, rules, classes):
        streams.setdefault(stream, []).append(exposure)
    for in_stream in streams.values():
        in_stream.sort()
    return [
        frame_set
        for stream in sorted(streams)
        for frame_set in assemble(stream, cut(streams[stream], rules, now))
    ]


def cut(frames: Iterable[Exposure], rules: SequenceRules, now: float) -> Iterator[tuple[Cut, bool]]:
    """Yield what the machine says of the frames of a stream, and at the end what still waits.

    Parameters
    ----------
    frames : iterable of Exposure
        Of one stream, in order.
    rules : SequenceRules
        What makes a sequence, and how it is cut.
    now : float
        Clock in seconds since 1970-01-01 UTC.

    Yields
    ------
    tuple of Cut and bool
        The second tells whether it is sure; only the last may not be.
    """
    machine = SequenceMachine(rules)
    for frame in frames:
        for said in machine.add(frame):
            yield said, True
    yield from ending(machine, now)


def ending(machine: SequenceMachine, now: float) -> Iterator[tuple[Cut, bool]]:
    """Yield what becomes of the sequence that a machine is in, if it has seen all frames there are.

    Parameters
    ----------
    machine : SequenceMachine
        It stays as it is.
    now : float
        Clock in seconds since 1970-01-01 UTC.

    Yields
    ------
    tuple of Cut and bool
        The second tells whether it is sure: the sequence is closed, or may go on.
    """
    if machine.expired(now):
        yield from ((said, True) for said in machine.close())
    elif (rest := machine.waiting()) is not None:
        yield rest, False


def assemble(stream: Stream, cuts: Iterable[tuple[Cut, bool]]) -> Iterator[FrameSet]:
    """Yield the sets that the machine's cuts come to, those said in parts put together.

    Parameters
    ----------
    stream : Stream
        Stream of the frames.
    cuts : iterable of Cut and bool
        What `cut` yields.

    Yields
    ------
    FrameSet
        In order of time.
    """
    members: list[OrderKey] = []
    begun: Cut | None = None
    closed = False
    for part, sure in cuts:
        if begun is not None and not part.more:
            yield _frame_set(stream, begun, members, closed)
            begun = None
        if begun is None:
            begun, members = part, []
        members += part.members
        # The last part decides: a sequence too long to be combined is open until one closes it.
        closed = sure and part.closed
    if begun is not None:
        yield _frame_set(stream, begun, members, closed)


def _frame_set(stream: Stream, begun: Cut, members: Sequence[OrderKey], closed: bool) -> FrameSet:
    frames = tuple([key[3] for key in members])
    first, last = members[0][0], members[-1][0]
    return FrameSet(stream, frames, begun.action, closed, begun.reason, begun.sequence_start, first, last)
