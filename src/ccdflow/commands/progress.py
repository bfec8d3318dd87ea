"""Progress of long work, on standard error; silent where nobody looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ccdflow.commands.output import messages

Count = Callable[[int, int], None]
"""Called with how many are done and how many there are."""


@contextmanager
def counting(work: str, *, quiet: bool, before: str = "") -> Iterator[Count]:
    """A bar that a function moves by calling what it is given; none when `quiet` or not on a terminal.

    Until the first is done, the bar says `before`, where that is given.
    """
    with _bars(quiet) as progress:
        bar = progress.add_task(before or work, total=None)

        def count(done: int, total: int) -> None:
            label = work if done or not before else before
            progress.update(bar, description=label, completed=done, total=total)

        yield count


@contextmanager
def _bars(quiet: bool) -> Iterator[Progress]:
    """Show bars while the block runs; standard output stays free for what the command prints."""
    columns = TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    hidden = quiet or not messages().is_terminal
    with Progress(*columns, console=messages(), transient=True, disable=hidden) as progress:
        yield progress
