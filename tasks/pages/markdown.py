"""Markdown of text that others have written: names of objects, filters and files, and sentences that hold them."""

import re
from collections.abc import Iterable, Sequence

LONGEST_CELL = 400
"""Characters of a cell: a sentence of an error may hold the whole output of a program."""
LISTED_ROWS = 200
"""Rows of a table: a raw disk that is away makes thousands of failed jobs, and nobody reads them in a browser."""

_SPECIAL = re.compile(r"""[\\`*\[\]<>|~&@]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])""")
"""What means something to Markdown within a line. An underscore between letters is one, as file names have it."""
_LINK = re.compile(r":(?=//)|(?<=www)\.", re.IGNORECASE)
"""Where browsers' Markdown takes plain text for an address."""
_LINE_START = re.compile(r"^(?:(?=[#+=-])|\d+(?=[.)]))")
"""What means something at the beginning of a line alone."""


def plain(text: object) -> str:
    """Return a text as Markdown that shows it as it is, in one line.

    Parameters
    ----------
    text : object
        Whatever a header, a file name or an error says.

    Returns
    -------
    str
        Each character that Markdown or HTML would take for something else behind a backslash; what can't be shown
        (control characters, marks that turn the direction of writing) as the replacement character.
    """
    return _LINE_START.sub(lambda match: match[0] + "\\", _within(text))


def _within(text: object) -> str:
    """The same of a text that does not begin a line."""
    line = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in in_line(text)
    )
    for special in (_SPECIAL, _LINK):
        line = special.sub(lambda match: "\\" + match[0], line)
    return line


def in_line(text: object) -> str:
    """Return a text in one line, without its blanks at both ends.

    Parameters
    ----------
    text : object
        Any text.

    Returns
    -------
    str
        With one blank for each row of blanks, tabulators and ends of lines.
    """
    return " ".join(str(text).split())


def code(text: object) -> str:
    """Return a text as Markdown that shows it in the letters of a typewriter.

    Parameters
    ----------
    text : object
        Such as a path.

    Returns
    -------
    str
        Between more backticks than the text has in a row: nothing within means anything to Markdown.
    """
    line = in_line(text)
    fence = "`" * (max((len(row) for row in re.findall("`+", line)), default=0) + 1)
    # Of a blank at both ends one is taken away; without, a backtick of the text would be part of the fence.
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line}{fence}"


def table(heads: str, rows: Iterable[Sequence[object]], more: str = "") -> list[str]:
    """Return the lines of a table, an empty one behind it.

    Parameters
    ----------
    heads : str
        Parted by ``|``.
    rows : iterable of sequence
        What stands in the cells, as plain text; of more than `LISTED_ROWS` the first are shown.
    more : str
        Markdown: where the others are found.

    Returns
    -------
    list of str
        Markdown.
    """
    listed = list(rows)
    rule = " | ".join("---" for _ in heads.split("|"))
    lines = [heads, rule, *(" | ".join(map(cell, row)) for row in listed[:LISTED_ROWS]), ""]
    left = len(listed) - LISTED_ROWS
    return [*lines, f"... and {left} more{': ' + more if more else ''}", ""] if left > 0 else lines


def cell(value: object) -> str:
    """Return what stands in a cell of a table: nothing that would end it, and no more than `LONGEST_CELL`.

    Parameters
    ----------
    value : object
        What is shown, as plain text.

    Returns
    -------
    str
        A blank where there is nothing: an empty cell at the beginning of a line would be none.
    """
    return _within(shortened(in_line(value))) or " "


def shortened(text: str, most: int = LONGEST_CELL) -> str:
    """Return a text that is not too long, with the end of a long one: there most errors say what was wrong.

    Parameters
    ----------
    text : str
        Any text.
    most : int
        Characters.

    Returns
    -------
    str
        The beginning and the end, three dots in between.
    """
    if len(text) <= most:
        return text
    half = (most - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
