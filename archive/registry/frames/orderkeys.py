"""The order of a stream's frames: as columns that the database sorts by, and as text that sorts as the keys do."""

from typing import Any

from sqlalchemy import func, literal_column

from ccdflow.archive.registry.tables import SEQUENCE_POSITION, FrameRow, table
from ccdflow.cascade.sequences.exposures import OrderKey

_FRAME = table(FrameRow).c

# Written exactly as the indexes ix_frame_stream and ix_frame_ungrouped have it, and with literals: behind a bound value
# SQLite does not see its index. Plain columns, of whose rows SQLAlchemy makes no objects.
ORDER: tuple[Any, ...] = (
    _FRAME.obsdate,
    literal_column(SEQUENCE_POSITION),
    func.coalesce(_FRAME.sha256, literal_column("''")),
    _FRAME.id,
)
"""The columns of a frame's order key, as `ccdflow.cascade.sequences.exposures.order_key` makes it."""


def write_order_key(key: OrderKey | None) -> str:
    """Return an order key as text that sorts as the keys do.

    Parameters
    ----------
    key : OrderKey or None
        The key of a frame.

    Returns
    -------
    str
        Its parts with blanks between them; empty for none.
    """
    if key is None:
        return ""
    obsdate, place, sha256, frame = key
    # Numbers have leading zeros, so that 10 comes behind 2. A blank sorts before the point of fractions of a second,
    # as the end of a text does.
    return f"{obsdate} {place:010d} {sha256} {frame:019d}"


def read_order_key(written: str) -> OrderKey | None:
    """Return the order key that `write_order_key` has written.

    Parameters
    ----------
    written : str
        The text.

    Returns
    -------
    OrderKey or None
        The key; None for an empty text.
    """
    if not written:
        return None
    # Others may write a time with a blank in it.
    obsdate, place, sha256, frame = written.rsplit(" ", 3)
    return obsdate, int(place), sha256, int(frame)
