"""What other programs put into rows where something else belongs: SQLite keeps anything in any column.

Text, bytes, infinity and halves are unknown numbers, as those of a header are; bytes are the text that they hold. So
one odd row keeps no other from being read.
"""

from datetime import datetime
from math import isfinite
from typing import Any

from ccdflow.archive.registry.asking import text_of
from ccdflow.cascade.records import MOST_EXPOSURES


def finite(value: Any) -> float | int | None:
    """Return a number of a row.

    Parameters
    ----------
    value : object
        As the database gives it.

    Returns
    -------
    int, float or None
        None for anything but a finite number.
    """
    return value if isinstance(value, int | float) and isfinite(value) else None


def whole(value: Any) -> int | None:
    """Return the number of an exposure in its sequence, or of the exposures of one.

    Parameters
    ----------
    value : object
        As the database gives it.

    Returns
    -------
    int or None
        None for what is no whole number, or larger than any count of exposures.
    """
    number = finite(value)
    return (
        int(number)
        if number is not None and abs(number) <= MOST_EXPOSURES and number == int(number)
        else None
    )


def size(value: Any) -> int:
    """Return bytes, or nanoseconds.

    Parameters
    ----------
    value : object
        As the database gives it.

    Returns
    -------
    int
        0 for what is no such number.
    """
    return value if isinstance(value, int) else 0


def words(value: Any) -> Any:
    """Return the text of a row.

    Parameters
    ----------
    value : object
        As the database gives it.

    Returns
    -------
    str or None
        Bytes as the text that they hold; all else as it is.
    """
    return text_of(value) if isinstance(value, bytes) else value


def is_time(obsdate: str) -> bool:
    """Tell whether a frame's time is one, or blank.

    Parameters
    ----------
    obsdate : str
        ISO date and time.

    Returns
    -------
    bool
        False for what is neither.
    """
    try:
        return not obsdate or bool(datetime.fromisoformat(obsdate))
    except ValueError:
        return False


def position(place: Any, nobs: Any) -> tuple[int, int | None]:
    """Return place in a sequence and length of it, as the order key and the rules have them.

    Parameters
    ----------
    place : object
        As `ccdflow.archive.registry.tables.SEQUENCE_POSITION` gives it.
    nobs : object
        As the row has it.

    Returns
    -------
    int, int or None
        0 and None where either is odd or unknown.
    """
    where, count = whole(place), whole(nobs)
    return (where, count) if where and count is not None and where <= count else (0, None)


def odd_in_words(row: Any) -> list[str]:
    """Say what is odd about a frame's row.

    Parameters
    ----------
    row : mapping
        Columns by name; those that are looked at need not all be there.

    Returns
    -------
    list of str
        A sentence for each column.
    """
    told = []
    for name, check in (("exptime", finite), ("iobs", whole), ("nobs", whole)):
        value = row.get(name)
        if value is not None and check(value) is None:
            told.append(f"its row has {name} = {words(value)!r:.60}, wanted a number: it is unknown")
    obsdate = words(row.get("obsdate", ""))
    if not is_time(obsdate):
        told.append(untimely(obsdate))
    return told


def untimely(obsdate: str) -> str:
    """Say that the time of a frame is none.

    Parameters
    ----------
    obsdate : str
        As its row has it.

    Returns
    -------
    str
        One sentence.
    """
    return f"its row has obsdate = {obsdate!r:.60}, wanted an ISO time, such as 2018-09-09T19:35:30"
