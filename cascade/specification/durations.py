"""Times that a limit may last, as people write them."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)\s*([a-z]*)", re.IGNORECASE)


def parse_seconds(text: Any) -> Any:
    """Return the seconds that a text such as ``30 min`` or ``2 h`` stands for.

    Parameters
    ----------
    text : str or number
        Number with s, min, h or d; without unit, and as a number, seconds.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    ValueError
        If it is none of these.

    Examples
    --------
    >>> parse_seconds("1.5 h")
    5400.0
    """
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        raise ValueError(f"time {text!r} is not of the form '30 min'")
    if not isinstance(text, str):
        return float(text)
    match = _DURATION.fullmatch(text.strip())
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"time {text!r} is not of the form '30 min'; units are s, min, h and d")
    return float(match[1]) * _UNITS[match[2].lower()]


def seconds_in_words(seconds: float) -> str:
    """Return a time as it would be written in YAML.

    Parameters
    ----------
    seconds : float
        How long.

    Returns
    -------
    str
        In the largest unit of which it is at least one.

    Examples
    --------
    >>> seconds_in_words(5400)
    '1.5 h'
    """
    for unit in ("d", "h", "min"):
        if seconds >= _UNITS[unit]:
            return f"{seconds / _UNITS[unit]:.4g} {unit}"
    return f"{seconds:.4g} s"


Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0, allow_inf_nan=False)]
"""Seconds, also written as ``30 min``."""
