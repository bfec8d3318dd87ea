"""The kinds of doubts that a header can leave, and what is done about each: note it, refuse the frame, ignore it."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal

Policy = Literal["note", "refuse", "ignore"]
"""``note``: the frame is used and the doubt kept with it; ``refuse``: the frame is not used; ``ignore``: nothing."""

KINDS: Mapping[str, str] = {
    "class": "What the frame is can't be told from its header.",
    "class_conflict": "The class and another card don't go together: a bias of 60 s, a light with a closed shutter.",
    "date": "The date is not understood or impossible, or was taken from a card other than the first.",
    "date_conflict": "Two cards say that the exposure began at different times.",
    "exptime": "The exposure time is not known, or what was read is a guess among several meanings.",
    "exptime_conflict": "Two cards state different exposure times.",
    "binning_conflict": "Two cards state different binnings.",
    "gain_conflict": "The header's gain differs from the one measured on the same night.",
    "sequence": "The number of the exposure in its sequence can't be.",
    "value": "A number is not understood, or outside of what is believable: it counts as unknown.",
}
"""Kind to the sentence that says what it is."""

REFUSED_UNLESS_SAID: frozenset[str] = frozenset()
"""Kinds that refuse a frame where the instrument file says nothing; all others are noted."""


def policy_of(kind: str, chosen: Mapping[str, Policy]) -> Policy:
    """Return what is done about a doubt of a kind.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    chosen : mapping
        What an instrument file says, kind to policy.

    Returns
    -------
    {'note', 'refuse', 'ignore'}
        The instrument file's word, else the kind's own.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(unknown_kind(kind))
    return chosen.get(kind, "refuse" if kind in REFUSED_UNLESS_SAID else "note")


def unknown_kind(kind: Any) -> str:
    """Return the sentence about a kind that does not exist, with those that do.

    Parameters
    ----------
    kind : object
        As somebody wrote it.
    """
    near = get_close_matches(str(kind), KINDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown kind of doubt {kind!r}; known: {', '.join(KINDS)}{hint}"
