"""Which frames belong together: groups of raw frames, groups that become one product each, and sets of products."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from ccdflow.cascade.planning.jobs import Group
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.planning.resolved import ResolvedCascade
from ccdflow.cascade.records import DONE_BEFORE, Action, FrameRecord, Value
from ccdflow.cascade.sequences.exposures import order_key
from ccdflow.cascade.sequences.grouping import group_frames
from ccdflow.cascade.sequences.statemachine import FrameSet, SequenceRules, group_sequences


class FrameGroups:
    """Groups of the frames that a plan is made of, each made once.

    A product is known by the frame that stands for it: the first one that it was made from. So the frames of a set
    of products are those that stand for its members.

    Parameters
    ----------
    resolved : ResolvedCascade
        Groupings and conditions.
    frames : iterable of FrameRecord
        Frames in any order, without the banned ones.
    request : Request
        Tells when sequences are closed.
    notes : list of str
        Sentences about what is left out are added to it.

    Attributes
    ----------
    ordered : list of FrameRecord
        All frames in an order that does not depend on the one they came in.
    by_id : dict of int to FrameRecord
        The same by id.
    """

    def __init__(
        self, resolved: ResolvedCascade, frames: Iterable[FrameRecord], request: Request, notes: list[str]
    ) -> None:
        self.resolved = resolved
        self.ordered = _in_order(frames)
        self.by_id = {frame.id: frame for frame in self.ordered}
        self._request = request
        self._notes = notes
        self._raw: dict[str, tuple[Group, ...]] = {}
        self._products: dict[str, dict[int, Group]] = {}

    def group_of(self, ids: Iterable[int]) -> Group:
        """Return the frames of some ids as a group.

        Parameters
        ----------
        ids : iterable of int
            Ids of known frames, at least one.

        Returns
        -------
        Group
            In the same order.
        """
        return Group(tuple(self.by_id[frame] for frame in ids))

    def raw_groups(self, source: str) -> tuple[Group, ...]:
        """Return the groups of raw frames of a data source; notes say which frames make none.

        Parameters
        ----------
        source : str
            Name of a data source.

        Returns
        -------
        tuple of Group
            In order of their first frames.
        """
        if source not in self._raw:
            frames = self.resolved.conditions.source_frames(source, self.ordered)
            groups: list[Group] = []
            for alike in _alike(frames):
                grouped = group_frames(alike, self.resolved.cascade.sources[source].group)
                groups += [Group(members) for members in grouped.groups]
                self._notes += [f"{source}: {left.reason}" for left in grouped.left_out]
            self._raw[source] = tuple(sorted(groups, key=lambda group: order_key(group.frames[0])))
        return self._raw[source]

    def main_groups(self, task: str) -> Iterator[Group]:
        """Find the groups of raw frames that reach a task through the relays of its main input.

        Parameters
        ----------
        task : str
            Name of a task that takes raw frames. Its own condition is not asked.

        Yields
        ------
        Group
            In order of their first frames; put together as the data source says, unless the task says it itself. Of
            sequences, those sets that are closed and stacked.
        """
        if self.resolved.cascade.tasks[task].groups:
            yield from (self.group_of(cut.frames) for cut in self.frame_sets(task) if is_stacked(cut))
        else:
            yield from self._reaching(task)

    def _reaching(self, task: str) -> Iterator[Group]:
        """Find the groups that the data source of a task makes, and that reach it."""
        main = self.resolved.cascade.tasks[task].main
        for group in self.raw_groups(self.resolved.cascade.main_source(task)):
            if self.resolved.conditions.passes(main, group):
                yield group

    def frame_sets(self, task: str) -> Iterator[FrameSet]:
        """Put the raw frames together that a task takes, where it says itself how.

        Parameters
        ----------
        task : str
            Name of a task that takes raw frames, with groups of its own.

        Yields
        ------
        FrameSet
            Without refused frames, of which nothing is made: they only count where sequences begin and end.
        """
        taken = {frame.id for group in self._reaching(task) for frame in group.frames}
        for sets in self._cut(task, taken, set()):
            for cut in sets:
                if left := tuple(frame for frame in cut.frames if frame in taken):
                    yield _shrunk(cut, left)

    def product_groups(self, task: str) -> dict[int, Group]:
        """Return what a task makes: one group of frames for each product.

        Parameters
        ----------
        task : str
            Name of a task, or of a relay; what a relay does not let through is left out.

        Returns
        -------
        dict of int to Group
            By the id of the frame that stands for the product. Of a task on products, the group holds the frames that
            stand for its members, and only closed sets count.
        """
        if task not in self._products:
            maker = self.resolved.cascade.relayed(task)
            on_frames = self.resolved.takes_frames(maker)
            groups = list(self.main_groups(maker) if on_frames else self._closed_stacks(maker))
            # A relay passes on what its maker makes, by the maker's frames; so both conditions are asked, the relay's
            # and the maker's own.
            self._products[task] = {
                group.frames[0].id: group
                for group in groups
                if self.resolved.conditions.passes(task, group)
                and self.resolved.conditions.holds(maker, group)
            }
        return self._products[task]

    def _closed_stacks(self, task: str) -> Iterator[Group]:
        for sets in self.product_sets(task):
            for frame_set in sets:
                if is_stacked(frame_set):
                    yield self.group_of(frame_set.frames)

    def product_sets(self, task: str) -> Iterator[list[FrameSet]]:
        """Put the products together that a task takes as its main input.

        Parameters
        ----------
        task : str
            Name of a task on products.

        Yields
        ------
        list of FrameSet
            Sets of one sequence, by the frames that stand for the products; of groupings that know no sequences, one
            set alone.
        """
        cascade = self.resolved.cascade
        products = self.product_groups(cascade.tasks[task].main)
        # What conditions let nothing through to has no sets, not even of refused frames.
        if products or not any(cascade.tasks[name].condition for name in cascade.chain(task)):
            inside = {frame.id for group in products.values() for frame in group.frames[1:]}
            yield from self._cut(task, products.keys(), inside)

    def _cut(self, task: str, taken: Collection[int], inside: Collection[int]) -> Iterator[list[FrameSet]]:
        """Put frames together as a task says; those `inside` a product are no longer there by themselves."""
        cascade, rules = self.resolved.cascade, self.resolved.grouping(task)
        frame_class = cascade.sources[cascade.main_source(task)].frame_class
        # Refused frames count where sequences begin and end: they were taken, though nothing is made of them.
        refused = {frame.id for frame in self.ordered if frame.frame_class == frame_class and frame.refused}
        counted = refused.union(taken)
        if isinstance(rules, SequenceRules):
            yield from self._sequences(rules, frame_class, counted, set(inside) - counted)
            return
        # Sequences have a place for what has no file yet; all other groups of what is there do not wait for it.
        members = [frame for frame in self.ordered if frame.id in counted]
        there = [frame for frame in members if frame.path is not None]
        for alike in (there, [frame for frame in members if frame.path is None]):
            grouped = group_frames(alike, rules)
            for left in grouped.left_out:
                yield [_whole_set(left.frames, "pass", left.reason)]
            for together in grouped.groups:
                yield [_whole_set(together, "stack", "")]

    def _sequences(
        self, rules: SequenceRules, frame_class: str, counted: set[int], inside: set[int]
    ) -> Iterator[list[FrameSet]]:
        """Cut sequences into sets, those of one sequence together."""
        # The state machine needs all frames of a stream, since one of another class ends a sequence too. Frames of the
        # class of which there is no product (their task's condition does not hold) stay as such interruptions, without
        # a class. Only frames `inside` a product that another frame stands for are no longer there: of four stacks of
        # four frames each, a further stack sees four frames, not sixteen.
        frames = [
            frame
            if frame.frame_class != frame_class or frame.id in counted
            else replace(frame, frame_class="")
            for frame in self.ordered
            if frame.id not in inside
        ]
        sets = group_sequences(frames, rules, self._request.clock, classes=(frame_class,))
        for _, of_sequence in groupby(sets, key=lambda cut: (cut.stream, cut.sequence_start)):
            yield list(of_sequence)


def is_stacked(cut: FrameSet) -> bool:
    """Tell whether the frames of a set are combined, and no further one can join.

    Parameters
    ----------
    cut : FrameSet
        A set.

    Returns
    -------
    bool
        False where they pass as they are, or may still be joined by others.
    """
    return cut.action == "stack" and cut.closed


def _shrunk(cut: FrameSet, frames: tuple[int, ...]) -> FrameSet:
    """Return a set with these of its frames; of several that were to be combined one alone passes."""
    if frames == cut.frames:
        return cut
    lost = len(cut.frames) - len(frames)
    reason = f"{lost} of {len(cut.frames)} frames were refused, {len(frames)} left"
    return replace(cut, frames=frames, action=cut.action if len(frames) > 1 else "pass", reason=reason)


def _whole_set(frames: Sequence[FrameRecord], action: Action, reason: str) -> FrameSet:
    """Return a set that is no part of a longer sequence."""
    # Its own first frame is where its sequence starts, so failures are made up for within the set alone.
    first, last = frames[0], frames[-1]
    ids = tuple(frame.id for frame in frames)
    return FrameSet(first.stream, ids, action, True, reason, order_key(first), first.obsdate, last.obsdate)


def _in_order(frames: Iterable[FrameRecord]) -> list[FrameRecord]:
    """Sort frames as grouping does; a total order, whatever the order they came in."""
    # A frame without obsdate has no place in any order; it is refused at registration.
    return sorted((frame for frame in frames if frame.obsdate), key=order_key)


def _alike(frames: Sequence[FrameRecord]) -> Iterable[list[FrameRecord]]:
    """Part frames by what one job can have in common: what was done to them already, and whether they have files."""
    # One job leaves out the same for all of its frames. Rows without files would keep a master from being made.
    parts: dict[tuple[Value | None, bool], list[FrameRecord]] = {}
    for frame in frames:
        parts.setdefault((frame.keywords.get(DONE_BEFORE), frame.path is None), []).append(frame)
    return parts.values()
