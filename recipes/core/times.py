"""When light fell on a detector: begin, end, middle and exposure time of frames, alone and together.

The keywords are those of the FITS standard 4.0 (section 9): ``DATE-BEG``, ``DATE-AVG``, ``DATE-END`` and the same as
``MJD-...``, ``TELAPSE`` from the first begin to the last end, ``XPOSURE`` for the time in which light was taken in.
What a header does not tell is not in the product's either: an unknown time is never 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ccdflow.recipes.core.cardnumbers import card_number

# Raw frames have a span, and recipes take raw frames: at run time there would be a circle.
if TYPE_CHECKING:
    from ccdflow.recipes.core.recipe import Card

SAME_EXPTIME = 1e-3
"""Largest relative difference of exposure times that count as one: shutters are not better."""
MJD_EPOCH = datetime(1858, 11, 17)
"""Where Modified Julian Dates count from."""
DAY = timedelta(days=1)
LEAST_AIRMASS = 0.99
"""The zenith's is 1: less is a placeholder, -1 or 0, or a number that was rounded."""
DIGITS = 9
"""Decimals of an MJD: 0.1 ms, which a float of 60000 days holds with room to spare."""


@dataclass(frozen=True)
class Span:
    """The time that one frame or product took.

    Parameters
    ----------
    begin : datetime or None
        Start of the first exposure, without zone; None where nobody knows.
    end : datetime or None
        End of the last exposure; without it `begin` and `exptime` tell.
    middle : datetime or None
        Middle of the exposures, each weighted by its length; without it that of begin and end.
    exptime : float or None
        Seconds in which light was taken in, all exposures together; None where nobody knows.
    airmass : float or None
        Mean airmass.
    scale : str
        Time scale, as ``TIMESYS`` has it.
    """

    begin: datetime | None = None
    end: datetime | None = None
    middle: datetime | None = None
    exptime: float | None = None
    airmass: float | None = None
    scale: str = "UTC"

    @property
    def last(self) -> datetime | None:
        """End of the last exposure, as far as it is known."""
        if self.end is not None or self.begin is None or self.exptime is None:
            return self.end
        return self.begin + timedelta(seconds=self.exptime)

    @property
    def centre(self) -> datetime | None:
        """Middle of the exposures, as far as it is known."""
        if self.middle is not None or self.begin is None or self.last is None:
            return self.middle
        return self.begin + (self.last - self.begin) / 2


def span_of(header: Mapping[str, Any]) -> Span:
    """Return the time that a product's header tells.

    Parameters
    ----------
    header : mapping
        Keyword to value, of a product of ours or of another program.

    Returns
    -------
    Span
        ``XPOSURE`` and ``TOTEXP`` go before ``EXPTIME``, which of a stack is the time that its data are scaled to. A
        date without a time of day tells no begin.
    """
    exptime = _first_number(header, ("XPOSURE", "TOTEXP", "EXPTIME", "EXPOSURE"))
    return Span(
        begin=_moment(header, ("DATE-BEG", "DATE-OBS"), ("MJD-BEG", "MJD-OBS")),
        end=_moment(header, ("DATE-END",), ("MJD-END",)),
        middle=_moment(header, ("DATE-AVG",), ("MJD-AVG",)),
        exptime=exptime if exptime is not None and exptime >= 0 else None,
        airmass=_airmass(header),
        scale=str(header.get("TIMESYS") or "UTC").strip().upper(),
    )


def moment(text: Any) -> datetime | None:
    """Return the date and time that a text tells.

    Parameters
    ----------
    text : object
        Value of a card: ISO with a time of day; a zone is turned into UTC.

    Returns
    -------
    datetime or None
        Without zone; None for anything else, a date alone included.
    """
    if not isinstance(text, str) or "T" not in text.strip().upper():
        return None
    try:
        told = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return told.astimezone(UTC).replace(tzinfo=None) if told.tzinfo else told


def _moment(header: Mapping[str, Any], dates: Iterable[str], days: Iterable[str]) -> datetime | None:
    told = (moment(header.get(name)) for name in dates)
    known = next((begin for begin in told if begin is not None), None)
    if known is not None:
        return known
    mjd = _first_number(header, days)
    # A microsecond is what a datetime holds; an MJD of today as a float is known to half of one.
    return None if mjd is None else MJD_EPOCH + timedelta(microseconds=round(mjd * 86400e6))


def _airmass(header: Mapping[str, Any]) -> float | None:
    airmass = _first_number(header, ("AIRMASS",))
    return airmass if airmass is not None and airmass >= LEAST_AIRMASS else None


def _first_number(header: Mapping[str, Any], names: Iterable[str]) -> float | None:
    numbers = (card_number(header.get(name)) for name in names)
    return next((number for number in numbers if number is not None), None)


def time_cards(spans: Sequence[Span]) -> "dict[str, Card]":
    """Return the cards that tell when the frames of a product were taken.

    Parameters
    ----------
    spans : sequence of Span
        One for each frame.

    Returns
    -------
    dict of str to (value, comment)
        A card is left out where one of the frames does not tell it. Middle and airmass are means weighted by the
        exposure times (biases, whose times are 0, count equally). Where time scales differ only what has none is left.

    Examples
    --------
    >>> first = Span(datetime(2026, 3, 1, 21, 0), exptime=30.0)
    >>> second = Span(datetime(2026, 3, 1, 21, 2), exptime=90.0)
    >>> cards = time_cards([first, second])
    >>> [cards[name][0] for name in ("DATE-OBS", "DATE-AVG", "DATE-END")]
    ['2026-03-01T21:00:00', '2026-03-01T21:02:07.5', '2026-03-01T21:03:30']
    >>> cards["TELAPSE"][0], cards["XPOSURE"][0]
    (210.0, 120.0)
    """
    cards: dict[str, Card] = {}
    if spans and len({span.scale for span in spans}) == 1:
        cards = _dates(spans)
    exptimes = [span.exptime for span in spans if span.exptime is not None]
    if spans and len(exptimes) == len(spans):
        cards["XPOSURE"] = (float(sum(exptimes)), "[s] sum of the exposure times")
    airmasses = [span.airmass for span in spans if span.airmass is not None]
    if spans and len(airmasses) == len(spans):
        mean = _mean(airmasses, _weights(spans) or [1.0] * len(spans))
        cards["AIRMASS"] = (round(mean, 6), "mean, weighted by exposure time")
    return cards


def _dates(spans: Sequence[Span]) -> "dict[str, Card]":
    """Begin, middle and end of frames whose times are of one scale."""
    begins = [span.begin for span in spans if span.begin is not None]
    if len(begins) < len(spans):
        return {}
    first, ends = min(begins), [span.last for span in spans if span.last is not None]
    last = max(ends) if len(ends) == len(spans) else None
    middle = _middle(spans, first)
    cards: dict[str, Card] = {
        "TIMESYS": (spans[0].scale, "time scale of all dates"),
        "DATE-OBS": (_text(first), "start of the first exposure"),
        "MJD-OBS": (_mjd(first), "[d] the same as MJD"),
    }
    for name, when, comment in (
        ("BEG", first, "start of the first exposure"),
        ("AVG", middle, "middle, weighted by exposure time"),
        ("END", last, "end of the last exposure"),
    ):
        if when is not None:
            cards[f"DATE-{name}"] = (_text(when), comment)
            cards[f"MJD-{name}"] = (_mjd(when), "[d] the same as MJD")
    if last is not None:
        cards["TELAPSE"] = ((last - first).total_seconds(), "[s] from the first start to the last end")
    return cards


def _middle(spans: Sequence[Span], first: datetime) -> datetime | None:
    centres, weights = [span.centre for span in spans if span.centre is not None], _weights(spans)
    if len(centres) < len(spans) or (weights is None and len(spans) > 1):
        return None
    # Seconds since the first begin: dates themselves can't be averaged, and MJDs would lose digits.
    late = [(centre - first).total_seconds() for centre in centres]
    return first + timedelta(seconds=_mean(late, weights or [1.0]))


def _weights(spans: Sequence[Span]) -> list[float] | None:
    """Exposure times; all alike where they are 0, None where one is not known."""
    exptimes = [span.exptime for span in spans if span.exptime is not None]
    if len(exptimes) < len(spans):
        return None
    return exptimes if sum(exptimes) > 0 else [1.0] * len(spans)


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def _text(when: datetime) -> str:
    written = when.isoformat()
    return written.rstrip("0") if "." in written else written


def _mjd(when: datetime) -> float:
    return round((when - MJD_EPOCH) / DAY, DIGITS)
