"""Progress of long work, on standard error; silent where nobody looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ccdflow.commands.output import messages

Count = Callable[[int, int], None]
"""Called with how many are done and how many there are."""


@contextmanager
def counting(what: str, *, quiet: bool) -> Iterator[Count]:
    """A bar that a function moves by calling what it is given; none when `quiet` or not on a terminal."""
    with _bars(quiet) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


@contextmanager
def _bars(quiet: bool) -> Iterator[Progress]:
    columns = TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    hidden = quiet or not messages.is_terminal
    with Progress(*columns, console=messages, transient=True, disable=hidden) as progress:
        yield progress
