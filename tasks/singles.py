"""A word about nights most of whose frames pass as single frames: why, and which option stacks them."""

from collections.abc import Collection, Iterator

from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames
from ccdflow.archive.registry.sets.records import SetFilter, find_sets
from ccdflow.cascade.sequences.exposures import SequenceRules
from ccdflow.cascade.sequences.singles import ALIKE, Singles, singles
from ccdflow.cascade.specification.model import Cascade
from ccdflow.cascade.specification.parameters import chosen, grouping, tuned
from ccdflow.tasks.workspace import Workspace


def singles_in_words(space: Workspace, nights: Collection[str], camera: str | None = None) -> list[str]:
    """Return a sentence for each night most of whose frames pass alone though others could be stacked with them.

    Parameters
    ----------
    space : Workspace
        The project.
    nights : collection of str
        Nights that are looked at.
    camera : str, optional
        CAMERA or TELESCOPE/CAMERA; without it all of them together.

    Returns
    -------
    list of str
        Nothing where the frames are stacked by object already.
    """
    choice = chosen(space.cascade, {})
    cascade = tuned(space.cascade, choice)
    sentences: list[str] = []
    for task, step in cascade.tasks.items():
        rules = grouping(task, step, choice.tasks.get(task, ())) if step.groups else None
        if isinstance(rules, SequenceRules):
            for night in sorted(nights):
                sentences += _of_night(space, cascade, (task, rules), (night, camera))
    return sentences


def _of_night(
    space: Workspace, cascade: Cascade, by: tuple[str, SequenceRules], place: tuple[str, str | None]
) -> Iterator[str]:
    task, rules = by
    frames = space.registry.read(find_frames, FrameFilter(night=place[0], camera=place[1], keywords=ALIKE))
    ids = [frame.id for frame in frames]
    sets = space.registry.read(find_sets, SetFilter(frames=ids)) if ids else []
    others = _others(cascade, task)
    # Who has stacked the night otherwise knows that it can be done.
    if any(record.step in others and record.product_id is not None for record in sets):
        return
    of_task = [record for record in sets if record.step == task]
    alone = {record.frames[0] for record in of_task if record.action == "pass" and len(record.frames) == 1}
    held = {number for record in of_task for number in record.frames}
    for told in singles([frame for frame in frames if frame.id in held], alone, rules):
        yield _sentence(told, cascade, by)


def _others(cascade: Cascade, task: str) -> list[str]:
    """Tasks that make the same of the same products, put together in another way."""
    step = cascade.tasks[task]
    return [
        name
        for name, other in cascade.tasks.items()
        if name != task and (other.recipe, other.main) == (step.recipe, step.main) and other.groups
    ]


def _sentence(told: Singles, cascade: Cascade, by: tuple[str, SequenceRules]) -> str:
    task, rules = by
    head = f"night {told.night}: {told.singles} of {told.frames} frames pass as single frames"
    if told.apart:
        return (
            f"{head}, since they start more than {rules.max_gap:g} s apart; 'ccdflow run --param {task}.gap=idle' "
            "counts from the end of each exposure (for good: 'gap: idle' below 'groups' in the cascade)"
        )
    others = _others(cascade, task)
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
