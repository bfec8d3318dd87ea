"""Nights most of whose frames make no sequence: how many, why, and what would stack them."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ccdflow.cascade.records import FrameRecord
from ccdflow.cascade.sequences.exposures import SequenceRules, known_time, order_key
from ccdflow.cascade.specification.model import Cascade

ALIKE = ("object", "filter", "binning", "shape")
"""What frames have in common that a stack by object and filter takes together, besides stream and night."""
FEWEST = 3
"""Singles from which on it is worth a word: one or two are left over in many a good night."""


@dataclass(frozen=True)
class Singles:
    """Frames of a night that pass as single frames.

    Parameters
    ----------
    night : str
        The evening's date.
    singles, frames : int
        How many pass alone, of how many that are in sets at all.
    stacks : int
        Stacks by object and filter that would hold some of them.
    apart : bool
        True if most of them are like their neighbour, but too far from it in time, counted from start to start, and
        near enough counted from the end of the exposure.
    """

    night: str
    singles: int
    frames: int
    stacks: int
    apart: bool


def singles(frames: Sequence[FrameRecord], alone: Collection[int], rules: SequenceRules) -> list[Singles]:
    """Return the nights most of whose frames pass alone, though others could go with them.

    Parameters
    ----------
    frames : sequence of FrameRecord
        Frames that are in sets, in any order.
    alone : collection of int
        Ids of those whose set is the frame itself.
    rules : SequenceRules
        By which they were put into sets.

    Returns
    -------
    list of Singles
        In order of the nights.
    """
    nights: dict[str, list[FrameRecord]] = defaultdict(list)
    for frame in sorted(frames, key=order_key):
        nights[frame.night].append(frame)
    told = (_of_night(night, members, frozenset(alone), rules) for night, members in sorted(nights.items()))
    return [of_night for of_night in told if of_night is not None]


def _of_night(
    night: str, frames: Sequence[FrameRecord], alone: frozenset[int], rules: SequenceRules
) -> Singles | None:
    lonely = [frame for frame in frames if frame.id in alone]
    if len(lonely) < FEWEST or 2 * len(lonely) <= len(frames):
        return None
    groups: dict[tuple[object, ...], list[FrameRecord]] = defaultdict(list)
    for frame in frames:
        groups[*frame.stream, *(frame.value(name) for name in ALIKE)].append(frame)
    stacks = sum(len(group) > 1 and any(frame.id in alone for frame in group) for group in groups.values())
    apart = 2 * sum(_ends_near(group, alone, rules) for group in groups.values()) > len(lonely)
    return Singles(night, len(lonely), len(frames), stacks, apart) if stacks else None


def _ends_near(group: Sequence[FrameRecord], alone: frozenset[int], rules: SequenceRules) -> int:
    """How many single frames of a group lie near another, from the end of one to the start of the next, and only so."""
    near: set[int] = set()
    for before, frame in pairwise(group):
        gap = known_time(frame.obsdate) - known_time(before.obsdate)
        if gap > rules.max_gap >= gap - (before.exptime or 0.0) and before.exptime == frame.exptime:
            near |= {before.id, frame.id}
    return len(near & alone)


def alternatives(cascade: Cascade, task: str) -> list[str]:
    """Return the tasks that make the same of the same products, put together in another way.

    Parameters
    ----------
    cascade : Cascade
        The cascade.
    task : str
        Name of a task on products.

    Returns
    -------
    list of str
        Names of tasks, in the cascade's order.
    """
    step = cascade.tasks[task]
    return [
        name
        for name, other in cascade.tasks.items()
        if name != task and (other.recipe, other.main) == (step.recipe, step.main) and other.groups
    ]


def in_words(told: Singles, cascade: Cascade, task: str, rules: SequenceRules) -> str:
    """Return the sentence about a night, with the option that stacks its frames.

    Parameters
    ----------
    told : Singles
        The night.
    cascade : Cascade
        The cascade, which has other ways to put frames together.
    task, rules : str and SequenceRules
        By which frames pass alone.

    Returns
    -------
    str
        Without a full stop.
    """
    head = f"night {told.night}: {told.singles} of {told.frames} frames pass as single frames"
    if told.apart:
        return (
            f"{head}, since they start more than {rules.max_gap:g} s apart; 'ccdflow run --param {task}.gap=idle' "
            "counts from the end of each exposure (for good: 'gap: idle' below 'groups' in the cascade)"
        )
    others = alternatives(cascade, task)
    groups = [
        name for name, group in cascade.tasks[task].groups.items() if not isinstance(group, SequenceRules)
    ]
    option = f"--target {others[0]}" if others else f"--param {task}.group={groups[0]}" if groups else ""
    how = (
        f"; 'ccdflow run {option}' stacks them by object and filter ({told.stacks} stack{'s' * (told.stacks != 1)})"
        if option
        else ""
    )
    return f"{head}, since object, filter or exposure time change from one to the next{how}"
