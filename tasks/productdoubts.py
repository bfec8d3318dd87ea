"""Warnings of recipes as doubts: each gets its kind, the instrument file's word on it, and a card in the product."""

import re
from collections.abc import Mapping, Sequence

from ccdflow.cascade.headers.doubts import Policy, policy_of
from ccdflow.cascade.records import Doubt
from ccdflow.recipes.core.recipe import Card

# A recipe says sentences: it knows neither kinds nor instrument files, and one of a project says whatever it likes. So
# the kind is told from the words, and a sentence that nobody knows is of the kind `recipe`.
_WORDS = {
    "gain_assumed": r"gain is neither in the header nor measured|a gain of 1 electron/adu is assumed",
    "read_noise_unknown": r"read noise is (neither|not known)",
    "gain_conflict": r"by the photon noise|was made with a gain of",
    "scatter": r"^scatter between the frames|the frames state no noise",
    "left_out": r"\b(is|are) left out\b",
    "registration": r"registered by|matched stars allow",
}
_KINDS = {kind: re.compile(words) for kind, words in _WORDS.items()}
ASSOCIATION = "association"
"""Kind of what an input is less than planned in."""
OTHER = "recipe"
"""Kind of a warning that none of the others fits."""
_NUMBERED = 999
"""Doubts that have a card each: DOUBT001 to DOUBT999."""


def kind_of(sentence: str) -> str:
    """Return the kind of a recipe's warning.

    Parameters
    ----------
    sentence : str
        The warning.
    """
    return next((kind for kind, words in _KINDS.items() if words.search(sentence)), OTHER)


def product_doubts(
    warnings: Sequence[str], chosen: Mapping[str, Policy], compromises: Sequence[str] = ()
) -> tuple[Doubt, ...]:
    """Return the doubts that a recipe's warnings are, and those of its inputs, without those that are ignored.

    Parameters
    ----------
    warnings : sequence of str
        What the recipe said.
    chosen : mapping
        Kind to policy, as the instrument file of the job's raw frames says.
    compromises : sequence of str, optional
        In what the job's inputs are less than planned.

    Returns
    -------
    tuple of Doubt
        Each once, in their order.

    Raises
    ------
    ValueError
        If one of them is refused: the product shall not be made.
    """
    doubts = [Doubt(ASSOCIATION, sentence) for sentence in compromises]
    doubts += [Doubt(kind_of(sentence), sentence) for sentence in dict.fromkeys(warnings)]
    refused = [doubt for doubt in doubts if policy_of(doubt.kind, chosen) == "refuse"]
    if refused:
        raise ValueError("; ".join(f"{doubt.text} (doubts: {doubt.kind}: refuse)" for doubt in refused))
    return tuple(doubt for doubt in doubts if policy_of(doubt.kind, chosen) == "note")


def doubt_cards(doubts: Sequence[Doubt]) -> dict[str, Card]:
    """Return the header cards that tell doubts: how many there are, and each with its kind.

    Parameters
    ----------
    doubts : sequence of Doubt
        Of the product.

    Returns
    -------
    dict of str to (value, comment)
        Nothing where there are none.
    """
    if not doubts:
        return {}
    cards: dict[str, Card] = {"NDOUBTS": (len(doubts), "number of doubts, see DOUBT001, ...")}
    for number, doubt in enumerate(doubts[:_NUMBERED], 1):
        cards[f"DOUBT{number:03d}"] = (str(doubt), "")
    return cards
