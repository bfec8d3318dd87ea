"""Sentences that say what is wrong and what would have worked."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any


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
    close = get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}; known: {', '.join(known) or 'none'}{hint}"
