"""The unit of a file's numbers, as programs spell it: counts, electrons, either of a second, a flux, or another."""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["", "count", "electron", "flux", "other"]
"""Blank where nothing is stated."""

_ELECTRONS = frozenset(
    {"e", "el", "elec", "electron", "electrons", "photoelectron", "photoelectrons", "photon"}
)
_ELECTRONS |= {"photons", "ph", "elecs", "els"}
_COUNTS = frozenset(
    {
        "adu",
        "adus",
        "count",
        "counts",
        "cnt",
        "cnts",
        "dn",
        "dns",
        "du",
        "ct",
        "cts",
        "raw",
        "none",
        "unknown",
    }
    | {"a/d", "adc", "lsb", "digits", "n/a"}
)
_IN_WORDS = re.compile(
    r"(analog(ue)?[- /]*(to[- /]*)?)?(digital|data|digit|raw)[- /]*(numbers?|units?|values?|counts?)?|"
    r"analog(ue)?[- /]*digital[- /]*(converter )?units?|(detector|pixel|digital|raw)? ?(counts?|units?|values?)|"
    r"arbitrary( units?)?|dimensionless|undef\w*",
    re.IGNORECASE,
)
_FLUX = re.compile(
    r"(micro|nano|milli|[munk])?(jy|maggy|maggies|jansky)\b.*|mjy/sr|.*erg.*|mag(nitude)?s?\b.*|w ?(/|m).*|"
    r"normali[sz]ed|relative",
    re.IGNORECASE,
)
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
}
_PIXELS = frozenset({"pix", "pixel", "pixels", "px", "sample"})
_TOKEN = re.compile(r"([a-z]+)(?:\^?\{?\(?([+-]?\d+)\)?\}?)?")


@dataclass(frozen=True)
class Unit:
    """What a text says of the unit of numbers.

    Parameters
    ----------
    kind : str
        ``count``, ``electron``, ``flux`` (or another unit that no raw frame has), ``other`` where it is not
        understood, blank where nothing is stated.
    seconds : float or None
        Of the time by which it is divided; None where it is by none.
    """

    kind: Kind
    seconds: float | None = None


def read_unit(written: str) -> Unit:
    """Return what a card BUNIT says.

    Parameters
    ----------
    written : str
        ``adu``, ``electron / s``, ``DN``, ``e-/s/pix``, ``counts per second``, ``electron s-1``, ...

    Returns
    -------
    Unit
        Powers and factors (``adu2``, ``10**2 adu``, ``kadu``) are not understood, nor is a time in another place.

    Examples
    --------
    >>> read_unit("ADU"), read_unit("electron / (s pix)")
    (Unit(kind='count', seconds=None), Unit(kind='electron', seconds=1.0))
    >>> read_unit("kadu").kind, read_unit("mJy").kind, read_unit(" ").kind
    ('other', 'flux', '')
    """
    plain = " ".join(written.casefold().split())
    if not plain:
        return Unit("")
    if plain in _COUNTS or _IN_WORDS.fullmatch(plain):
        return Unit("count")
    if _FLUX.fullmatch(plain):
        return Unit("flux")
    parts = _parts(plain)
    if parts is None:
        return Unit("other")
    above, below = parts
    times = [name for name in below if name in _SECONDS]
    below = [name for name in below if name not in _SECONDS and name not in _PIXELS]
    if len(above) != 1 or below or len(times) > 1:
        return Unit("other")
    seconds = _SECONDS[times[0]] if times else None
    if above[0] in _ELECTRONS:
        return Unit("electron", seconds)
    return Unit("count", seconds) if above[0] in _COUNTS else Unit("other", seconds)


def _parts(plain: str) -> tuple[list[str], list[str]] | None:
    """Names above and below the line; None where there are numbers, or powers other than 1 and -1."""
    text = re.sub(r"\bper\b", "/", plain).replace("**", "^")
    # The electron's sign: no minus, unless a power follows.
    text = re.sub(r"\b(e|el|elec|electrons?|photoelectrons?)[-_](?!\d)s?", r"electron ", text)
    text = re.sub(r"\b(photo|digital)[ -](electrons?|counts?)", r"\2", text)
    above: list[str] = []
    below: list[str] = []
    for number, part in enumerate(text.split("/")):
        rest = _TOKEN.sub("", part)
        if rest.strip(" .*()[]·^{}"):
            return None
        for name, power in _TOKEN.findall(part):
            if power not in ("", "1", "+1", "-1"):
                return None
            is_below = (number > 0) != (power == "-1")
            (below if is_below else above).append(name)
    return above, below
