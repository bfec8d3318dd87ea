"""What products' headers say of corrections: of which raw frames behind them, from what to what, and why."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccdflow.recipes.core.recipe import Card

AMENDED_CARD = "AMENDED"
"""Card that names what a person has corrected of the frames behind a product."""
_EACH = "AMEND "
"""How the keywords of the cards begin that tell of one correction each: ``AMEND 1 FILTER``."""


@dataclass(frozen=True)
class Amended:
    """A correction of a raw frame behind a product: what was corrected, and the sentence that tells of it."""

    name: str
    sentence: str


def amended_cards(amended: Sequence[Amended]) -> dict[str, Card]:
    """Return the cards that tell of corrections.

    Parameters
    ----------
    amended : sequence of Amended
        Corrections of all main inputs; what several tell alike is told once.

    Returns
    -------
    dict of str to Card
        Keyword to value and comment; none without corrections.
    """
    told = list(dict.fromkeys(amended))
    if not told:
        return {}
    names = ", ".join(dict.fromkeys(correction.name for correction in told))
    cards: dict[str, Card] = {AMENDED_CARD: (names, "corrected by a person, not as in the raw file")}
    return cards | {
        f"{_EACH}{number} {correction.name}": (correction.sentence, "")
        for number, correction in enumerate(told, 1)
    }


def amended_before(header: Mapping[str, Any]) -> Iterator[Amended]:
    """Find what a product says of corrections of the frames that it was made of.

    Parameters
    ----------
    header : mapping
        Keyword to value, of the product.

    Yields
    ------
    Amended
        As `amended_cards` has written it.
    """
    for keyword, value in header.items():
        if _tells_one(keyword):
            _, _, name = keyword.removeprefix("HIERARCH ").split(" ", 2)
            yield Amended(name.lower(), str(value))


def without_amended(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return a header without what it says of corrections, which the next product tells anew.

    Parameters
    ----------
    header : mapping
        Keyword to value.
    """
    return {
        keyword: value
        for keyword, value in header.items()
        if keyword != AMENDED_CARD and not _tells_one(keyword)
    }


def _tells_one(keyword: str) -> bool:
    words = keyword.removeprefix("HIERARCH ").split(" ", 2)
    return len(words) == 3 and f"{words[0]} " == _EACH and words[1].isdigit()
