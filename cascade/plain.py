"""Values as users have them (numpy's numbers, dates, one text for a list of one), as plain ones."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import PurePath
from typing import Any

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How URLs begin; `Path` makes one stroke of two."""
LARGEST_ID = 2**63 - 1
"""Databases know no larger whole number."""


def plain(value: Any) -> Any:
    """Return a value with Python's own types for numpy's.

    Parameters
    ----------
    value : object
        A number, text, date, array, or a collection of such.

    Returns
    -------
    object
        Scalars as scalars, arrays as lists, dates and times as ISO text (UTC), bytes as text, members of an
        enumeration as what they stand for; anything else as it is.

    Examples
    --------
    >>> plain((1, date(2026, 3, 1)))
    (1, '2026-03-01')
    """
    # Without an import of numpy: whoever has such values has imported it.
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return plain(_without_nanoseconds(value).tolist())
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, bytes):
        # numpy's texts of one byte a letter, as tables in FITS files have them.
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return {plain(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and not hasattr(value, "_fields"):
        return type(value)(plain(item) for item in value)
    if isinstance(value, datetime):
        moment = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
        return moment.isoformat()
    return value.isoformat() if isinstance(value, date) else value


def _without_nanoseconds(value: Any) -> Any:
    """Times that Python has a type for; of nanoseconds, as tables of pandas have them, it makes a bare number."""
    return value.astype("datetime64[us]") if value.dtype.kind == "M" and value.dtype != "M8[D]" else value


def words(value: Any) -> tuple[str, ...]:
    """Return texts; one text alone is a list of one, and not its letters.

    Parameters
    ----------
    value : str or iterable of str
        As a user states it.

    Returns
    -------
    tuple of str
        Also of dates and of numpy's texts.
    """
    items = _items(value)
    return tuple(item if type(item) is str else str(plain(item)) for item in items)


def _items(value: Any) -> Iterable[Any]:
    """The members of a collection; of anything else, a text for instance, that alone."""
    # Many thousand keys or ids may come, mostly as they are needed: only a whole array is turned.
    items = plain(value) if type(value).__module__ == "numpy" or isinstance(value, bytes | Enum) else value
    return (items,) if isinstance(items, str) or not isinstance(items, Iterable) else items


def word(value: Any) -> str:
    """Return one text.

    Parameters
    ----------
    value : str, bytes, Path, number or Enum
        As a user states it.

    Returns
    -------
    str
        A text of Python's own type.

    Raises
    ------
    ValueError
        If it is a list, or nothing that has a text.

    Examples
    --------
    >>> word(b"CAM1"), word(7)
    ('CAM1', '7')
    """
    text = plain(value)
    # A list of one is what a column of a table becomes; of more the first would be a guess.
    if isinstance(text, list | tuple) and len(text) == 1:
        text = text[0]
    if isinstance(text, str | int | float | PurePath) and not isinstance(text, bool):
        return str(text)
    raise ValueError(f"{value!r} is no text; wanted one name")


def moment(value: Any, *, end: bool = False) -> str:
    """Return a time as frames have it.

    Parameters
    ----------
    value : str, date or datetime
        With or without zone.
    end : bool
        Take a date alone for the end of that day, not for its start.

    Returns
    -------
    str
        ISO, UTC, without zone.

    Raises
    ------
    ValueError
        If it is no time.

    Examples
    --------
    >>> moment("2026-03-01 21:00:00+01:00"), moment("2026-03-01", end=True)
    ('2026-03-01T20:00:00', '2026-03-01T23:59:59.999999')
    """
    text = str(plain(value)).strip()
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; wanted ISO, for instance 2026-03-01T20:15:00") from None
    # A date alone, 2026-03-01: all of the day belongs to it.
    if end and len(text) <= len("2026-03-01"):
        return f"{read.date().isoformat()}T23:59:59.999999"
    return str(plain(read))


def ids(value: Any, letter: str) -> tuple[int, ...]:
    """Return ids as numbers.

    Parameters
    ----------
    value : int, str or iterable of these
        Numbers of any type, or texts: ``7``, ``p7``.
    letter : str
        With which people write such an id: f a frame, s a set, p a product.

    Returns
    -------
    tuple of int
        In the same order.

    Raises
    ------
    ValueError
        If one is no whole number.

    Examples
    --------
    >>> ids(["p7", 8.0, "9"], "p"), ids(3, "p")
    ((7, 8, 9), (3,))
    """
    return tuple(_id(item, letter) for item in _items(value))


def _id(value: Any, letter: str) -> int:
    number = value if type(value) is int else _number(plain(value), letter)
    # What no database can hold is refused here, in words: SQLite and PostgreSQL have an error of their own each.
    if number is not None and abs(number) <= LARGEST_ID:
        return number
    raise ValueError(f"{value!r} is no id; wanted a number, such as 7, or {letter}7")


def is_id(digits: str) -> bool:
    """Tell whether a text is an id without its letter.

    Parameters
    ----------
    digits : str
        Any text.

    Returns
    -------
    bool
        True for digits alone, of a number that a database can hold.
    """
    # Not isdigit, which is true of exponents, too.
    return digits.isdecimal() and len(digits) <= len(str(LARGEST_ID)) and int(digits) <= LARGEST_ID


def _number(item: Any, letter: str) -> int | None:
    if isinstance(item, str) and item.strip().removeprefix(letter).isdecimal():
        return int(item.strip().removeprefix(letter))
    if isinstance(item, float) and not item.is_integer():  # nor are NaN and infinity
        return None
    return int(item) if isinstance(item, int | float) and not isinstance(item, bool) else None


def night(value: Any) -> str:
    """Return a night as ISO has it.

    Parameters
    ----------
    value : str or date
        The evening's date; empty for frames of which no night is known.

    Returns
    -------
    str
        ``2026-03-01``, or empty.

    Raises
    ------
    ValueError
        If it is no date.
    """
    text = str(plain(value)).strip()
    try:
        return date.fromisoformat(text[:10] if "T" in text else text).isoformat() if text else ""
    except ValueError:
        raise ValueError(
            f"night {text!r} is no date; wanted the evening's, for instance 2026-03-01"
        ) from None


def no_path_in_words(path: str | PurePath) -> str:
    """Return a sentence that something is no path: a URL, or nothing at all; empty for a path.

    Parameters
    ----------
    path : str or Path
        What stands where a path is wanted.

    Returns
    -------
    str
        With what would work.

    Examples
    --------
    >>> no_path_in_words("https://example.org/a.fits")
    "'https://example.org/a.fits' is a URL; wanted a path on this machine: fetch it first"
    >>> no_path_in_words("")
    "'' is no path; wanted one, or . for the current folder"
    """
    text = str(path)
    if not text:
        # As of a variable that a script has not set: taken for the folder in which it happens to run, otherwise.
        return "'' is no path; wanted one, or . for the current folder"
    scheme = _URL.match(text)
    if scheme is None:
        return ""
    # A path object has made one stroke of the two.
    rest = text[scheme.end() :].lstrip("/")
    if scheme[0].lower() == "file:/":
        return f"'{scheme[0]}//{rest}' is a URL; wanted the path: /{rest}"
    return f"'{scheme[0]}/{rest}' is a URL; wanted a path on this machine: fetch it first"
