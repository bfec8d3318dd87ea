"""Numbers of header cards, as products have them."""

from math import isfinite
from typing import Any


def card_number(value: Any) -> float | None:
    """Return the number that a card holds.

    Parameters
    ----------
    value : object
        Of the card; None where there is none.

    Returns
    -------
    float or None
        None for a text, for true and false, and for what is not finite.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    return float(value) if is_number else None


def positive_card(value: Any) -> float | None:
    """Return the number above 0 that a card holds.

    Parameters
    ----------
    value : object
        Of the card; None where there is none.

    Returns
    -------
    float or None
        As `card_number`; None for 0, which many write where they know nothing, and below.
    """
    number = card_number(value)
    return number if number is not None and number > 0 else None
