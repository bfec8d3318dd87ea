"""Sentences that say what is wrong and what would have worked, and names that say what something is of."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from ccdflow.recipes.core.times import SAME_EXPTIME

MOST_EXPTIMES = 3
"""Exposure times that a name lists; of more it tells the shortest and the longest, so that it stays short."""


def exposures(exptimes: Sequence[float | None]) -> str:
    """Return how many exposures there are of which length, fit for the name of a file.

    Parameters
    ----------
    exptimes : sequence of float or None
        Seconds; None where nobody knows.

    Returns
    -------
    str
        ``60s``, ``3x120s``, ``60+2x120s`` (the shortest first), ``12x1-300s``, or ``3frames`` where one is not known.

    Examples
    --------
    >>> exposures([120.0, 60.0, 119.99]), exposures([0.5]), exposures([None, 60.0])
    ('60+2x120s', '0.5s', '2frames')
    """
    known = sorted(exptime for exptime in exptimes if exptime is not None)
    if len(known) < len(exptimes) or not known:
        return f"{len(exptimes)}frames"
    alike: list[list[float]] = []
    for exptime in known:
        if alike and exptime <= alike[-1][0] * (1 + SAME_EXPTIME):
            alike[-1].append(exptime)
        else:
            alike.append([exptime])
    if len(alike) > MOST_EXPTIMES:
        return f"{len(known)}x{_seconds(alike[0])}-{_seconds(alike[-1])}s"
    return (
        "+".join(f"{len(group)}x{_seconds(group)}" if len(group) > 1 else _seconds(group) for group in alike)
        + "s"
    )


def _seconds(exptimes: Sequence[float]) -> str:
    """The mean of exposure times that are nearly one: of 59.98 s and 60.01 s it is 60."""
    mean = sum(exptimes) / len(exptimes)
    return f"{mean:.4g}" if mean < 1000 else f"{mean:.0f}"


def shown(value: Any) -> str:
    """Return a value of a keyword as people read it.

    Parameters
    ----------
    value : str, int, float, bool or None
        None is ``blank``.

    Examples
    --------
    >>> shown(None), shown(-19.999999999), shown("R")
    ('blank', '-20', 'R')
    """
    # Numbers as they stand in most headers: a mean of readings has more digits than it knows.
    return "blank" if value is None else f"{value:.7g}" if isinstance(value, float) else str(value)


def unknown(kind: str, name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """Return a sentence that says that a name is not known, which are, and which was perhaps meant.

    Parameters
    ----------
    kind : str
        What it should name: ``target``, ``workflow parameter``.
    name : str
        The unknown name.
    known : mapping or sequence of str
        Names that would have worked.

    Returns
    -------
    str
        ``unknown target 'stak'; known: bias, dark, flat, science, stack; did you mean 'stack'?``
    """
    # Words that differ in nothing but case have no letter in common for difflib: cam1 is CAM1.
    folded = {word.casefold(): word for word in known}
    close = get_close_matches(name, list(known), n=1) or [
        folded[word] for word in get_close_matches(name.casefold(), list(folded), n=1)
    ]
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}; known: {', '.join(known) or 'none'}{hint}"
