"""Frames that another program has finished: left out with a sentence, or taken at the task that somebody names."""

from collections.abc import Sequence
from dataclasses import replace

from ccdflow.archive.fits.rawfile import RawFile
from ccdflow.archive.registry.frames.files import ENTERS
from ccdflow.cascade.headers.amplifiers import detector
from ccdflow.cascade.headers.classify import Description
from ccdflow.cascade.headers.finished import REDUCED, Finished
from ccdflow.cascade.headers.instrument import Instrument, find_instrument
from ccdflow.cascade.headers.keywords import cards_of
from ccdflow.cascade.records import DONE_BEFORE, Doubt, Value
from ccdflow.cascade.specification.model import Cascade
from ccdflow.cascade.wording import unknown
from ccdflow.recipes.detector.finished import DONE
from ccdflow.tasks.rawfiles.foreign import CATEGORIES, foreign_master

RAW = "raw"
"""Stands for a task where frames are to be taken as raw, whatever the signs say."""


def check_entry(cascade: Cascade, task: str) -> None:
    """Refuse a task at which no finished frame can enter.

    Parameters
    ----------
    cascade : Cascade
        The project's.
    task : str
        As somebody wrote it.

    Raises
    ------
    ValueError
        If it is neither ``raw`` nor a task of the cascade.
    """
    if task != RAW and task not in cascade.tasks:
        raise ValueError(
            f"processed frames can't enter there: {unknown('task', task, [RAW, *cascade.tasks])}"
        )


def taken_in(
    cascade: Cascade, described: Description, task: str, file: RawFile, instruments: Sequence[Instrument]
) -> tuple[Description, str]:
    """Return a frame as it is registered, and by what it is finished where it is not to be used.

    Parameters
    ----------
    cascade : Cascade
        Whose tasks take frames.
    described : Description
        What its header says.
    task : str
        Task at which finished frames enter, ``raw``, or nothing.
    file : RawFile
        The file.
    instruments : sequence of Instrument
        Of which one tells how its header is understood.

    Returns
    -------
    (Description, str)
        As from `entered`, of a frame that the task takes, else as from `offered`.
    """
    entering, sentence = entered(cascade, described, task)
    if not sentence:
        return entering, ""
    # A master among the lights of a folder is one whatever is said of these.
    offer, why = offered(described, file, instruments)
    return (offer, "") if not why else (described, sentence if task else why)


def offered(
    described: Description, file: RawFile, instruments: Sequence[Instrument]
) -> tuple[Description, str]:
    """Return a frame that is finished, as a master where it is one that ours can stand beside.

    Parameters
    ----------
    described : Description
        What its header says; it is finished.
    file : RawFile
        The file.
    instruments : sequence of Instrument
        Of which one tells how its header is understood.

    Returns
    -------
    (Description, str)
        A master has its category as class and a doubt, and no sentence; of all else the sentence says why it is left
        out.
    """
    finished = described.finished
    if finished is None:
        return described, ""
    if "combined" not in finished.done or described.frame_class not in CATEGORIES or described.refused:
        return described, finished.sentence
    instrument = find_instrument(cards_of(file.header), instruments)
    assembled = detector(file.header, instrument, file.shape, file.extensions)
    master = foreign_master(described, assembled, file.shape)
    if isinstance(master, str):
        return described, f"{finished.sentence}; no master for ours, since {master}"
    # What is trimmed has not the shape of raw frames, by which calibrations are chosen.
    keywords = {name: value for name, value in described.keywords.items() if name != "shape"}
    doubt = Doubt("processed", f"{finished.sentence}; {master.sentence}")
    doubts = (*described.doubts, doubt)
    return replace(described, frame_class=master.category, keywords=keywords, doubts=doubts), ""


def entered(cascade: Cascade, described: Description, task: str) -> tuple[Description, str]:
    """Return a frame as it is registered, and by what it is finished where it is not to be used.

    Parameters
    ----------
    cascade : Cascade
        Whose tasks take frames.
    described : Description
        What its header says.
    task : str
        Task at which finished frames enter, ``raw``, or nothing.

    Returns
    -------
    (Description, str)
        With the keywords ``enters`` and ``done`` and a doubt where it is taken; the sentence is empty then, as it is
        for a raw frame.
    """
    finished = described.finished
    if finished is None:
        return described, ""
    if not task:
        return described, finished.sentence
    if task == RAW:
        return _taken(described, finished, task, ()), ""
    if not _takes(cascade, task, described.frame_class):
        return described, f"{finished.sentence}; task {task!r} takes no {described.frame_class}"
    return _taken(described, finished, task, _done(cascade, task, finished)), ""


def _takes(cascade: Cascade, task: str, frame_class: str) -> bool:
    """Tell whether a task's main input is frames of a class, or comes from such frames."""
    name = task
    while name in cascade.tasks:
        name = cascade.tasks[name].main
    return cascade.sources[name].frame_class == frame_class


def _done(cascade: Cascade, task: str, finished: Finished) -> tuple[str, ...]:
    """What is in the pixels of a frame that enters at a task: what the signs say, or all where it comes later."""
    # A task that takes products finds frames that are reduced: so they are, even where the header says of less.
    later = cascade.relayed(cascade.tasks[task].main) in cascade.tasks
    done = finished.done | REDUCED if later else finished.done
    return tuple(name for name in DONE if name in done)


def _taken(described: Description, finished: Finished, task: str, done: tuple[str, ...]) -> Description:
    words: dict[str, Value] = {ENTERS: task}
    if done:
        words[DONE_BEFORE] = " ".join(done)
    where = "as raw" if task == RAW else f"at task {task!r}"
    doubt = Doubt("processed", f"{finished.sentence}; taken {where} all the same")
    return replace(described, keywords={**described.keywords, **words}, doubts=(*described.doubts, doubt))
