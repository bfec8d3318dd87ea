"""What a shell offers while somebody types: nights, cameras, objects, filters, categories and ids."""

from typing import Any

from sqlalchemy import Connection, String, cast, select

from ccdflow.archive.registry.tables import FrameRow, FrameSetRow, JobRow, ProductRow

MOST = 100
"""How many are offered."""
_VALUES = {
    "night": FrameRow.night,
    "camera": FrameRow.camera,
    "object": FrameRow.object,
    "filter": FrameRow.filter,
    "category": ProductRow.category,
}
_IDS = {"f": FrameRow.id, "s": FrameSetRow.id, "p": ProductRow.id}
_KEY_DIGITS = 4
"""Digits of a key from which on jobs are offered: before, there would be too many."""


def suggested_values(connection: Connection, name: str, beginning: str) -> list[str]:
    """Return values of frames or products that begin as somebody has typed.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    name : {'night', 'camera', 'object', 'filter', 'category'}
        Of which column.
    beginning : str
        What has been typed.

    Returns
    -------
    list of str
        No more than `MOST`, sorted; of nights the newest first.
    """
    column = _VALUES[name]
    order = column.desc() if name == "night" else column
    there = column != "", column.startswith(beginning, autoescape=True)
    return list(
        connection.execute(select(column).where(*there).distinct().order_by(order).limit(MOST)).scalars()
    )


def suggested_ids(connection: Connection, beginning: str) -> list[str]:
    """Return ids of frames (``f``), sets (``s``), products (``p``), or keys of jobs, that begin so.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    beginning : str
        What has been typed.

    Returns
    -------
    list of str
        No more than `MOST`, the newest first; nothing for what can't become an id.
    """
    letter, digits = beginning[:1], beginning[1:]
    if letter in _IDS and (not digits or digits.isdecimal()):
        column = _IDS[letter]
        return [f"{letter}{number}" for number in _newest(connection, column, cast(column, String), digits)]
    if len(beginning) >= _KEY_DIGITS:
        return [str(key) for key in _newest(connection, JobRow.key, JobRow.key, beginning)]
    return []


def _newest(connection: Connection, column: Any, text: Any, beginning: str) -> list[Any]:
    there = text.startswith(beginning, autoescape=True)
    return list(connection.execute(select(column).where(there).order_by(column.desc()).limit(MOST)).scalars())
