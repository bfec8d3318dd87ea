"""Values as users have them (numpy's numbers, dates, one text for a list of one), as plain ones."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import PurePath
from typing import Any

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How URLs begin; `Path` makes one stroke of two."""


def plain(value: Any) -> Any:
    """Return a value with Python's own types for numpy's.

    Parameters
    ----------
    value : object
        A number, text, date, array, or a collection of such.

    Returns
    -------
    object
        Scalars as scalars, arrays as lists, dates and times as ISO text (UTC); anything else as it is.

    Examples
    --------
    >>> plain((1, date(2026, 3, 1)))
    (1, '2026-03-01')
    """
    # Without an import of numpy: whoever has such values has imported it.
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {plain(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and not hasattr(value, "_fields"):
        return type(value)(plain(item) for item in value)
    if isinstance(value, datetime):
        moment = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
        return moment.isoformat()
    return value.isoformat() if isinstance(value, date) else value


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
    items = plain(value) if type(value).__module__ == "numpy" else value
    return (items,) if isinstance(items, str) or not isinstance(items, Iterable) else items


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
    if type(value) is int:
        return value
    item = plain(value)
    if isinstance(item, str) and item.strip().removeprefix(letter).isdecimal():
        return int(item.strip().removeprefix(letter))
    if isinstance(item, int | float) and not isinstance(item, bool) and item == int(item):
        return int(item)
    raise ValueError(f"{value!r} is no id; wanted a number, such as 7, or {letter}7")


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


def url_in_words(path: str | PurePath) -> str:
    """Return a sentence that a URL is no path; empty for a path.

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
    >>> url_in_words("https://example.org/a.fits")
    "'https://example.org/a.fits' is a URL; wanted a path on this machine: fetch it first"
    """
    text = str(path)
    scheme = _URL.match(text)
    if scheme is None:
        return ""
    # A path object has made one stroke of the two.
    rest = text[scheme.end() :].lstrip("/")
    if scheme[0].lower() == "file:/":
        return f"'{scheme[0]}//{rest}' is a URL; wanted the path: /{rest}"
    return f"'{scheme[0]}/{rest}' is a URL; wanted a path on this machine: fetch it first"
