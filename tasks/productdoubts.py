"""Doubts of recipes: the instrument file's word on each, and a card in the product."""

from collections.abc import Mapping, Sequence

from ccdflow.cascade.headers.doubts import Policy, policy_of
from ccdflow.cascade.records import Doubt
from ccdflow.recipes.core.doubts import LEFT_OUT, as_doubt
from ccdflow.recipes.core.recipe import Card, Result

ASSOCIATION = "association"
"""Kind of what an input is less than planned in."""
_NUMBERED = 999
"""Doubts that have a card each: DOUBT001 to DOUBT999."""


def product_doubts(
    result: Result, chosen: Mapping[str, Policy], compromises: Sequence[str] = ()
) -> tuple[Doubt, ...]:
    """Return the doubts of a recipe, and those of its inputs, without those that are ignored.

    Parameters
    ----------
    result : Result
        What the recipe gave: its warnings, and what it has left out, which is told elsewhere but may be refused.
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
    doubts += dict.fromkeys(map(as_doubt, result.warnings))
    left_out = [Doubt(LEFT_OUT, left.sentence) for left in result.left_out]
    refused = [doubt for doubt in (*doubts, *left_out) if policy_of(doubt.kind, chosen) == "refuse"]
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
