"""What the commands print: one JSON document, or tables for people; errors in one line."""

import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from ccdflow.archive.foreignfile import spelled

# Rich is imported where something is to be laid out: most that is said is a line.
if TYPE_CHECKING:
    from rich.console import Console

DONE, FAILED, BAD_USAGE = 0, 1, 2

WIDE = 200
"""Columns where the output is no terminal: a file or a pipe has no edge."""

STATE_STYLES = {
    "done": "green",
    "new": "cyan",
    "reused": "green",
    "failed": "red",
    "refused": "red",
    "processed": "yellow",
    "incomplete": "yellow",
    "waiting": "yellow",
    "running": "cyan",
    "superseded": "dim",
    "duplicate": "dim",
}


@cache
def console() -> "Console":
    """Standard output."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


@cache
def messages() -> "Console":
    """Standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """Write one JSON document, and nothing else, to standard output."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, title: str = "") -> None:
    """Write rows as a table; columns that are blank in each row are left out."""
    from rich.table import Table

    shown = [name for name in columns if any(_text(row.get(name)) for row in rows)]
    table = Table(title=title or None, box=None, pad_edge=False, header_style="bold", title_justify="left")
    for name in shown:
        number = all(isinstance(row.get(name), int | float | None) for row in rows)
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        # A file's name may hold a new line, or what a terminal obeys.
        table.add_row(*(_styled(spelled(_text(row.get(name)))) for name in shown))
    console().print(table)


def print_fields(row: Mapping[str, Any]) -> None:
    """Write one thing, a line for each of its fields that is not blank."""
    width = max(len(name) for name in row)
    for name, value in row.items():
        if isinstance(value, Mapping | list | tuple) and value:
            console().print(f"{name}")
            for line in _lines(value):
                console().print(f"  {line}", markup=False)
        elif _text(value):
            console().print(f"{name:<{width}}  {_text(value)}", markup=False)


def _lines(value: Any) -> list[str]:
    """Return the lines of a value that holds others."""
    if isinstance(value, Mapping):
        return [f"{name}: {_text(item)}" for name, item in value.items()]
    return [
        ", ".join(f"{name} {_text(field)}" for name, field in item.items() if _text(field))
        if isinstance(item, Mapping)
        else _text(item)
        for item in value
    ]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return " ".join(_text(item) for item in value)
    return str(value)


def _styled(text: str) -> str:
    """Return the text in its colour; what is no state has none. Rich takes brackets for markup, so they are escaped."""
    style = STATE_STYLES.get(text)
    escaped = text.replace("[", r"\[")
    return f"[{style}]{escaped}[/{style}]" if style else escaped


def _say(line: str, style: str) -> None:
    # Rich takes its time to import, which scripts need not wait for.
    """Write a line to standard error, in colour where somebody looks."""
    if sys.stderr.isatty():
        messages().print(line, markup=False, style=style)
    else:
        print(line, file=sys.stderr)


def warn(message: str) -> None:
    """Write one line to standard error."""
    _say(message, "yellow")


def stop(message: str, code: int = BAD_USAGE) -> NoReturn:
    """Write one line to standard error and end the program."""
    _say(f"ccdflow: {message}", "red")
    raise typer.Exit(code)
