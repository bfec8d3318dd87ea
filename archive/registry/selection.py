"""What people select by: a name that is nowhere in the registry is a mistake, and not a question without answers."""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from sqlalchemy import Connection, select

from ccdflow.archive.registry.conditions import is_of_camera
from ccdflow.archive.registry.tables import FrameRow, JobRow, ProductRow, table
from ccdflow.cascade.plain import ids, moment, night, word, words
from ccdflow.cascade.records import CLASSES
from ccdflow.cascade.wording import unknown

_FRAME, _JOB, _PRODUCT = table(FrameRow).c, table(JobRow).c, table(ProductRow).c


def settle(wanted: Any, letters: dict[str, str], texts: Collection[str] = ()) -> None:
    """Make plain values of what a filter was given: ids and texts of any type, one text for a list of one, times.

    Parameters
    ----------
    wanted : dataclass
        The filter, which is changed while it is made.
    letters : dict of str to str
        Fields that hold ids, and the letter of each.
    texts : collection of str
        Fields that hold several texts.

    Raises
    ------
    ValueError
        If an id is no number, a name no text; unless the filter is not strict also if a night is no date, or a time
        none.
    """
    for name, letter in letters.items():
        if (value := getattr(wanted, name)) is not None:
            object.__setattr__(wanted, name, ids(value, letter))
    for name in texts:
        if (value := getattr(wanted, name)) is not None:
            object.__setattr__(wanted, name, words(value))
    for name, read in _SINGLE.items():
        if (value := getattr(wanted, name, None)) is not None:
            object.__setattr__(wanted, name, _read(read, value, getattr(wanted, "strict", True)))


def _read(read: Callable[[Any], str], value: Any, strict: bool) -> str:
    # What a row says comes back to its own filter as it is: a night that another program wrote may be no date.
    try:
        return read(value)
    except ValueError:
        if strict:
            raise
        return word(value)


def _night(value: Any) -> str:
    """The date of a night; a word stays as it is."""
    # A row may have it, and where none has `refuse_unknown_night` says what is wrong.
    try:
        return night(value)
    except ValueError:
        return word(value)


_SINGLE: dict[str, Callable[[Any], str]] = {
    "night": _night,
    "from_night": night,
    "camera": word,
    "category": word,
    "step": word,
    "since": moment,
    "until": partial(moment, end=True),
}
"""Fields that hold one value, and what makes a plain text of it."""


def refuse_state(kind: str, stated: Iterable[str] | None, known: Collection[str]) -> None:
    """Refuse a state that there is not.

    Parameters
    ----------
    kind : str
        What it should be, for the message.
    stated : iterable of str or None
        As a filter was given them.
    known : collection of str
        All that there are.

    Raises
    ------
    ValueError
        If one is not known; with the nearest.
    """
    for state in stated or ():
        if state not in known:
            raise ValueError(unknown(kind, state, list(known)))


def refuse_unknown(connection: Connection, wanted_night: str | None, camera: str | None) -> None:
    """Refuse a night of which there is nothing, and a camera that nothing is of.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted_night : str or None
        ISO date of the evening.
    camera : str or None
        CAMERA or TELESCOPE/CAMERA.

    Raises
    ------
    ValueError
        With the nearest; nothing is refused while the registry is empty.
    """
    if wanted_night is None and camera is None:
        return
    if connection.execute(select(_FRAME.id).limit(1)).first() is None:
        return
    if wanted_night:
        refuse_unknown_night(connection, wanted_night)
    if camera is not None:
        refuse_unknown_camera(connection, camera)


def refuse_unknown_night(connection: Connection, wanted: str) -> None:
    """Refuse a night of which there is neither a frame nor a job.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : str
        ISO date.

    Raises
    ------
    ValueError
        With the nights before and after it.
    """
    for column in (_FRAME.night, _JOB.night):
        # Also one that is no date, as another program may have written it.
        if connection.execute(select(column).where(column == wanted).limit(1)).first() is not None:
            return
    night(wanted)
    named = _FRAME.night != ""
    before = select(_FRAME.night).where(_FRAME.night < wanted, named).order_by(_FRAME.night.desc()).limit(1)
    after = select(_FRAME.night).where(_FRAME.night > wanted, named).order_by(_FRAME.night).limit(1)
    nearest = [value for part in (before, after) for value in connection.execute(part).scalars()]
    told = f"; nearest: {', '.join(nearest)}" if nearest else ""
    raise ValueError(f"no frames of night {wanted}{told}")


def refuse_unknown_camera(connection: Connection, wanted: str) -> None:
    """Refuse a camera that no frame and no job is of.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : str
        CAMERA or TELESCOPE/CAMERA.

    Raises
    ------
    ValueError
        With those that there are, and the nearest.
    """
    for row, column in ((FrameRow, _FRAME.id), (JobRow, _JOB.key)):
        if connection.execute(select(column).where(is_of_camera(row, wanted)).limit(1)).first() is not None:
            return
    pairs = connection.execute(select(_FRAME.telescope, _FRAME.camera).distinct()).all()
    cameras = sorted({camera for _, camera in pairs if camera})
    full = sorted({f"{telescope}/{camera}" for telescope, camera in pairs if telescope and camera})
    # Frames whose headers name none tell nothing of cameras.
    if cameras:
        raise ValueError(unknown("camera", wanted, full if "/" in wanted and full else cameras))


def refuse_unknown_step(connection: Connection, wanted: str) -> None:
    """Refuse a task of which there is no job.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : str
        The task's name in the cascade.

    Raises
    ------
    ValueError
        With those that there are, and the nearest; nothing is refused while there are no jobs at all.
    """
    there = set(connection.execute(select(_JOB.step).distinct()).scalars())
    if there:
        refuse_state("task", [wanted], sorted(there))


def refuse_unknown_category(connection: Connection, wanted: str) -> None:
    """Refuse a category that no product has and no recipe of ours makes.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : str
        The category.

    Raises
    ------
    ValueError
        With those that there are, and the nearest; nothing is refused while there are no products at all.
    """
    there = set(connection.execute(select(_PRODUCT.category).distinct()).scalars())
    if not there or wanted in there:
        return
    from ccdflow.recipes.catalogue import RECIPES

    ours = {category for recipe in RECIPES.values() for category in recipe.outputs}
    if wanted not in ours:
        raise ValueError(unknown("category", wanted, sorted(there | ours)))


def refuse_unknown_classes(connection: Connection, wanted: Iterable[str]) -> None:
    """Refuse classes that no frame is of, and that frames can't be of.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    wanted : iterable of str
        The classes.

    Raises
    ------
    ValueError
        With those that there are, and the nearest.
    """
    odd = [name for name in wanted if name not in CLASSES]
    if not odd:
        return
    there = set(connection.execute(select(_FRAME["class"]).distinct()).scalars())
    if there:
        refuse_state("class", odd, sorted({*CLASSES, *there}))
