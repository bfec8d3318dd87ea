"""How is said what is wrong."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any


def unknown(kind: str, name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """A sentence that says that `name` is not known, what is, and what was perhaps meant."""
    close = get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}; known: {', '.join(known) or 'none'}{hint}"
