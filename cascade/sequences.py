"""The sequence rules: a stream of frames cut into stack sets by one state machine."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from ccdflow.cascade.records import Action, FrameRecord

Stream = tuple[str, str, str]
OrderKey = tuple[str, int, str, int]
"""What orders frames of a stream: obsdate, iobs (0 where unknown), content, id."""


class SequenceRules(BaseModel):
    """What makes consecutive frames a sequence, and how sequences are cut into sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    same: tuple[str, ...] = ("class", "object", "filter", "exptime")
    """Keywords that don't change within a sequence; a missing value equals a missing value and differs from any other."""
    exptime_tolerance: float = Field(0.001, ge=0)
    """Largest relative difference of exposure times that count as the same; flats ignore the exposure time."""
    tolerance: dict[str, float] = Field(default_factory=lambda: {"ccd_temperature": 2.0})
    """Largest difference from the sequence's first frame, for numeric keywords, in the keyword's unit."""
    max_stack: PositiveInt = 4
    """NSTACK: frames in a set at the most."""
    max_sequence: PositiveInt = 12
    """MAXSEQ: longer sequences are not combined."""
    max_gap: PositiveFloat = 1800.0
    """MAXTDELTA: seconds from start to start after which a frame begins a new sequence."""
    restart: bool = True
    """Whether another ``nobs``, or an ``iobs`` that does not count up, begins a new sequence."""
    split: Literal["fixed", "balanced", "whole"] = "fixed"
    """How 6 frames are cut for a `max_stack` of 4: fixed 4+2, balanced 3+3, whole 6."""
    on_failed: Literal["shrink", "refill"] = "shrink"
    """Whether failed frames leave their set smaller, or following frames not yet used take their place."""


class Exposure(NamedTuple):
    """What the rules look at: one frame of a stream.

    `same` are the values of the keywords that must not change, `near` those of the numeric ones; `exptime` is None for a class that
    ignores it; `wanted` tells whether sets of the frame's class are asked for.
    """

    key: OrderKey
    time: float
    iobs: int | None
    nobs: int | None
    exptime: float | None
    same: tuple[Any, ...]
    near: tuple[float | None, ...]
    wanted: bool

    @property
    def id(self) -> int:
        """Id of the frame."""
        return self.key[3]


@dataclass(frozen=True)
class FrameSet:
    """Frames that are combined, or passed through as they are.

    `sequence_start` is the order key of the first frame of the sequence that the set was cut from: nothing before it has any
    part in how the sequence was cut.
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
    """What the machine says: these frames are a set, or go on the long one that began before (`more`)."""

    members: tuple[OrderKey, ...]
    action: Action
    reason: str
    sequence_start: OrderKey
    more: bool = False


class SequenceMachine:
    """Sees the frames of one stream in order, each once; says which sets they make as soon as that is sure.

    It remembers the frame before, the sequence's first frame, and at most `max_sequence` frames that are not in a set yet, whatever
    the length of the stream. What it does from the first frame of a sequence on depends on nothing before.
    """

    def __init__(self, rules: SequenceRules) -> None:
        self.rules = rules
        self.tolerances = tuple(rules.tolerance.values())
        self.previous: Exposure | None = None
        self.first: Exposure | None = None
        self.length = 0
        self.unbroken = False
        self.pending: list[OrderKey] = []
        self.sizes: Iterator[int] = iter(())
        self.size = 0
        self.long = False

    def add(self, frame: Exposure) -> list[Cut]:
        """Take the next frame; gives the sets that are sure now."""
        cuts: list[Cut] = []
        if self.previous is None or self.begins(frame):
            cuts = self.close()
            self._begin(frame)
        else:
            self.length += 1
            self.unbroken = self.unbroken and frame.iobs == self.length
        self.previous = frame
        if frame.wanted:
            self._keep(frame, cuts)
        return cuts

    def begins(self, frame: Exposure) -> bool:
        """Whether a frame begins a new sequence."""
        before, first, rules = self.previous, self.first, self.rules
        if before is None or first is None or frame.same != before.same or frame.time - before.time > rules.max_gap:
            return True
        if before.nobs is not None and before.iobs == before.nobs:
            return True
        if rules.restart and (frame.nobs != before.nobs or _not_above(frame.iobs, before.iobs)):
            return True
        if not _agree(frame.exptime, first.exptime, rules.exptime_tolerance * abs(first.exptime or 0.0)):
            return True
        return any(
            not _agree(*values) for values in zip(frame.near, first.near, self.tolerances, strict=True)
        )

    def close(self) -> list[Cut]:
        """End the sequence: the sets that its remaining frames make."""
        if not self.pending or self.first is None:
            self.pending = []
            return []
        pending, self.pending = self.pending, []
        if self.long:
            return []
        if self.length == 1:
            return [self._cut(pending, "single frame")]
        sizes = self.sizes if self.first.nobs is not None else iter(_sizes(self.length, self.rules))
        size = self.size if self.first.nobs is not None else next(sizes)
        cuts: list[Cut] = []
        while pending:
            cuts.append(self._cut(pending[:size], "left over" if size > 1 or cuts else ""))
            pending = pending[size:]
            size = next(sizes, self.rules.max_stack)
        return cuts

    def waiting(self) -> Cut | None:
        """The frames that are in no closed set yet, as the open set that they are."""
        if not self.pending or self.first is None:
            return None
        action: Action = "pass" if self.long else "stack"
        return Cut(tuple(self.pending), action, "open: the sequence may go on", self.first.key)

    def _begin(self, frame: Exposure) -> None:
        self.first = frame
        self.length = 1
        self.unbroken = frame.iobs == 1
        self.long = frame.nobs is not None and frame.nobs > self.rules.max_sequence
        self.sizes = iter(_sizes(frame.nobs or 0, self.rules))
        self.size = next(self.sizes, self.rules.max_stack)

    def _keep(self, frame: Exposure, cuts: list[Cut]) -> None:
        """Put a frame with those that wait, and cut what is sure."""
        assert_first = self.first or frame
        if self.long:
            cuts.append(Cut((frame.key,), "pass", self._too_long(), assert_first.key, more=self.length > 1))
            return
        self.pending.append(frame.key)
        if self.length > self.rules.max_sequence:
            self.long = True
            cuts.append(Cut(tuple(self.pending), "pass", self._too_long(), assert_first.key))
            self.pending = []
            return
        if frame.nobs is not None and frame.iobs == frame.nobs:
            cuts += self.close()
        elif frame.nobs is not None and self.unbroken and len(self.pending) == self.size:
            cuts.append(self._cut(self.pending, ""))
            self.pending = []
            self.size = next(self.sizes, self.rules.max_stack)

    def _cut(self, members: Sequence[OrderKey], single: str) -> Cut:
        start = self.first.key if self.first else members[0]
        if len(members) == 1:
            return Cut(tuple(members), "pass", single or "left over", start)
        return Cut(tuple(members), "stack", "", start)

    def _too_long(self) -> str:
        nobs = self.first.nobs if self.first else None
        length = f"sequence of {nobs}" if nobs and nobs > self.rules.max_sequence else "sequence"
        return f"{length} is longer than {self.rules.max_sequence}"


def _not_above(iobs: int | None, before: int | None) -> bool:
    return iobs is not None and before is not None and iobs <= before


def _agree(value: float | None, reference: float | None, tolerance: float) -> bool:
    if value is None or reference is None:
        return value is reference
    return abs(value - reference) <= tolerance


def _sizes(length: int, rules: SequenceRules) -> list[int]:
    """Sizes of the sets that a sequence of known length is cut into."""
    if length <= 0 or rules.split == "fixed":
        return [rules.max_stack] * max(1, ceil(length / rules.max_stack))
    if rules.split == "whole":
        return [length]
    number = ceil(length / rules.max_stack)
    return [length // number + (i < length % number) for i in range(number)]


def exposures(
    frames: Iterable[FrameRecord], rules: SequenceRules, classes: Sequence[str]
) -> Iterator[tuple[Stream, Exposure]]:
    """Frames as the rules look at them, with their streams."""
    same = tuple(name for name in rules.same if name != "exptime")
    timed = "exptime" in rules.same
    for frame in frames:
        iobs, nobs = place(frame.iobs, frame.nobs)
        yield (
            frame.stream,
            Exposure(
                (frame.obsdate, iobs or 0, frame.sha256 or "", frame.id),
                frame.time,
                iobs,
                nobs,
                frame.exptime if timed and frame.frame_class != "flat" else None,
                tuple(frame.value(name) for name in same),
                tuple(_number(frame.value(name)) for name in rules.tolerance),
                frame.frame_class in classes,
            ),
        )


def place(iobs: int | None, nobs: int | None) -> tuple[int | None, int | None]:
    """Place in a sequence; both unknown where either is missing, below 1, or ``iobs > nobs``."""
    if iobs is None or nobs is None or iobs < 1 or iobs > nobs:
        return None, None
    return iobs, nobs


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def group_sequences(
    frames: Iterable[FrameRecord], rules: SequenceRules, now: float, classes: Sequence[str] = ("science",)
) -> list[FrameSet]:
    """The sets that the sequence rules make of all frames, whatever order they come in.

    Parameters
    ----------
    frames : iterable of FrameRecord
        Of every class, since any frame ends the sequence before it; duplicates and superseded versions left out.
    now : float
        Clock in seconds since 1970-01-01 UTC: a sequence is closed once `max_gap` has passed since its last frame.
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
    return [made for stream in sorted(streams) for made in _stream_sets(stream, streams[stream], rules, now)]


def _stream_sets(stream: Stream, found: list[Exposure], rules: SequenceRules, now: float) -> Iterator[FrameSet]:
    found.sort(key=lambda one: one.key)
    yield from assemble(stream, cut(found, rules, now))


def cut(frames: Iterable[Exposure], rules: SequenceRules, now: float) -> Iterator[tuple[Cut, bool]]:
    """What the machine says of frames in order, each with whether it is closed; at the end what still waits."""
    machine = SequenceMachine(rules)
    for frame in frames:
        for one in machine.add(frame):
            yield one, True
    last = machine.previous
    if last is not None and now - last.time > rules.max_gap:
        yield from ((one, True) for one in machine.close())
    elif (rest := machine.waiting()) is not None:
        yield rest, False


def assemble(stream: Stream, cuts: Iterable[tuple[Cut, bool]]) -> Iterator[FrameSet]:
    """Sets from what the machine says, long ones put together again."""
    held: list[Cut] = []
    for one, closed in cuts:
        if not one.more and held:
            yield _frame_set(stream, held, closed=True)
            held = []
        if one.action == "pass" and "longer than" in one.reason:
            held.append(one)
        else:
            yield _frame_set(stream, [one], closed=closed)
    if held:
        yield _frame_set(stream, held, closed=True)


def _frame_set(stream: Stream, cuts: Sequence[Cut], *, closed: bool) -> FrameSet:
    members = [key for one in cuts for key in one.members]
    return FrameSet(
        stream=stream,
        frames=tuple(key[3] for key in members),
        action=cuts[0].action,
        closed=closed,
        reason=cuts[0].reason,
        sequence_start=cuts[0].sequence_start,
        first=members[0][0],
        last=members[-1][0],
    )
