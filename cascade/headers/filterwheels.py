"""The filter of a frame, of one card or of several wheels."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from ccdflow.cascade.headers.instrument import Instrument, plain
from ccdflow.cascade.headers.keywords import Cards, look_up, number, text

# A header may name the filter in one card, or each wheel's in a card of its own, or both. Two wheels can each hold a
# filter (V with a neutral density), and light that passed both is not that of a flat which passed one. So:
#
#   1. The alternatives of the instrument file are tried in order; one that says no more than that a wheel is empty
#      (`Instrument.empty`) gives way to a later one.
#   2. Of the wheels of one alternative, FILTER1+FILTER2+FILTER3, those that are not empty are joined by +, in order.
#   3. Where a single card came first (FILTER) and wheels stand beside it: if it repeats one of them, they are joined
#      all the same; if there is no first wheel (FILTER and FILTER2), it is the first; else it is believed alone.
#   4. Where all are empty, the filter is the empty word itself: a wheel with L, R, G, B and Clear has five filters.

JOINT = "+"
"""Between the filters of several wheels, in the instrument file as in what is made of it."""
_PARTS = re.compile(r"\s*[,/;|+]\s*")
"""Signs between the wheels' filters where one card has them all."""


@dataclass(frozen=True)
class _Words:
    """Words for an empty position in their plainest form: whole ones, and beginnings of those that ended in ``*``."""

    whole: frozenset[str]
    beginnings: tuple[str, ...]

    @staticmethod
    @lru_cache
    def of(words: tuple[str, ...]) -> "_Words":
        """Sort the words of an instrument file."""
        starred = tuple(plain(word) for word in words if word.endswith("*"))
        return _Words(frozenset(plain(word) for word in words if not word.endswith("*")), starred)

    def holds(self, name: str) -> bool:
        """Return whether a name means that there is no filter."""
        word = plain(name)
        return word in self.whole or any(word.startswith(beginning) for beginning in self.beginnings)

    def full(self, names: Iterable[str]) -> list[str]:
        """Return the names of filters, each once."""
        return [name for name in dict.fromkeys(names) if not self.holds(name)]


def filter_name(cards: Cards, by: Instrument, respelt: Callable[[str], str]) -> tuple[str, str]:
    """Return the filter of a frame, and one sentence where cards contradict each other.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.
    by : Instrument
        The instrument file that claims it: where filters stand, and which words mean an empty position.
    respelt : callable
        Gives the spelling of one filter that the instrument file prefers.

    Returns
    -------
    tuple of str
        ``V``, ``V+ND1``, ``Clear``; blank where no card says anything. The sentence is blank where all is well.
    """
    empty = _Words.of(tuple(by.empty.get("filter", ())))
    empties: list[str] = []
    for alternative in by.keywords.filter:
        names = _names(cards, alternative, empty, respelt)
        full = empty.full(names)
        if full and JOINT in alternative:
            return JOINT.join(full), ""
        if full:
            return _beside_wheels(cards, by, JOINT.join(full), respelt)
        empties += names
    # The order of the wheels says nothing where all are empty: one name for open and clear, clear and open.
    return min(empties, key=str.casefold, default=""), ""


def _names(cards: Cards, alternative: str, empty: _Words, respelt: Callable[[str], str]) -> list[str]:
    """What the cards of an alternative say, in the order of the wheels."""
    names: list[str] = []
    for keyword in alternative.split(JOINT):
        value = look_up(cards, keyword)
        written = (
            "" if isinstance(value, bool) else text(value)
        )  # whether there is a wheel, not what is in it
        parts = _PARTS.split(written)
        # A name may have such a sign (`Ha/NII`): it is of several wheels only where one of its parts is empty.
        several = len(parts) > 1 and any(part and empty.holds(part) for part in parts)
        names += [respelt(part) for part in (parts if several else [written]) if part]
    return names


def _beside_wheels(
    cards: Cards, by: Instrument, single: str, respelt: Callable[[str], str]
) -> tuple[str, str]:
    """Return the filter of a card that has wheels beside it."""
    empty = _Words.of(tuple(by.empty.get("filter", ())))
    for alternative in by.keywords.filter:
        if JOINT not in alternative:
            continue
        # Numbers are positions, whose filters the single card names.
        names = [name for name in _names(cards, alternative, empty, respelt) if number(name) is None]
        wheels = JOINT.join(empty.full(names))
        if not wheels:
            continue
        if plain(single) in map(plain, names):
            return wheels, ""
        if not text(look_up(cards, alternative.split(JOINT)[0])):
            return JOINT.join([single, wheels]), ""
        related = plain(single) in plain(wheels) or plain(wheels) in plain(single)
        return single, "" if related else f"the filter is {single}, the wheels {alternative} say {wheels}"
    return single, ""
