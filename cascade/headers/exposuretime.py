"""How long a frame was exposed: of all cards that may say it, the one that is believed, and what the others say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ccdflow.cascade.headers.dates import moment_after
from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.cascade.headers.keywords import (
    Cards,
    duration,
    keyword_name,
    look_up,
    number,
    text,
    unit_in_comment,
)
from ccdflow.cascade.records import Doubt

# Cards that mean the exposure time itself go first (`Keywords.exptime`): the first that is above 0. What passed from
# the beginning to the end of the exposure (`Keywords.elapsed`, or the end less the beginning) may hold pauses and the
# readout: it counts where nothing else tells, and is held against the exposure time, which can't be longer.

SAME = 0.005
"""Fraction by which two cards may differ and still state one exposure time."""
SAME_SECONDS = 0.02
"""Seconds by which they may: what a shutter or a rounding makes of them."""
LATE = 1.0
"""Seconds by which an exposure may seem longer than what passed meanwhile: clocks in whole seconds."""
_LONGEST = 86400.0
"""Seconds; an end that is further from the start is in another time zone, or of another file."""
_UNITS_MIXED = (1e3, 1e6)
"""Factors by which the same time is larger in ms and in microseconds."""
_OF_THE_STANDARD = ("XPOSURE", "TELAPSE")
"""Keywords for durations that the FITS standard has, section 9.4."""
_NEEDED = ("dark", "flat", "science", "sky")
"""Classes of frames that can't be reduced, or not well, without an exposure time."""


@dataclass(frozen=True)
class _Stated:
    """A card that states seconds."""

    keyword: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.keyword} says {self.seconds:g} s"


@dataclass
class _Search:
    """A header that is asked for its exposure time, and the doubts so far."""

    cards: Cards
    by: Instrument
    comments: Mapping[str, str]
    doubts: list[Doubt] = field(default_factory=list)

    def stated(self, alternatives: Sequence[str]) -> list[_Stated]:
        """Cards that state a believable time, in order; the others are doubts."""
        statements = []
        for alternative in alternatives:
            value = look_up(self.cards, alternative)
            if value is None:
                continue
            comment = self.comments.get(keyword_name(alternative), "")
            seconds = duration(value, self._unit(keyword_name(alternative), comment))
            if why := self.by.disbelief("exptime", seconds, least=0.0):
                self.doubts.append(Doubt("exptime", f"{alternative}={text(value)!r} {why}"))
            elif seconds is not None:
                statements.append(_Stated(alternative, seconds))
        return statements

    def _unit(self, keyword: str, comment: str) -> str:
        """Unit of a number that states none: the instrument file's, its comment's, that of all times of the header."""
        # TIMEUNIT: FITS 4.0, section 9.3. Days, of satellites, are those of the standard's own keywords alone: EXPTIME
        # is in seconds by a convention that is older.
        common = text(self.cards.get("TIMEUNIT"))
        if common.casefold() in ("d", "day", "days") and keyword not in _OF_THE_STANDARD:
            common = ""
        return self.by.units.get("exptime", "") or unit_in_comment(comment) or common

    def conflict(self, sentence: str) -> None:
        """Note that cards state different times."""
        self.doubts.append(Doubt("exptime_conflict", sentence))


def exposure_time(
    cards: Cards, by: Instrument, comments: Mapping[str, str], frame_class: str, begun: str
) -> tuple[float | None, list[Doubt]]:
    """Return the exposure time of a frame, and what is doubtful about it.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.
    by : Instrument
        The instrument file that claims it.
    comments : mapping
        Comments of the cards, which may name a unit; see `ccdflow.cascade.headers.keywords.comments_of`.
    frame_class : str
        What the frame is: of a bias 0 is believed, of all others it is a placeholder where another card says more.
    begun : str
        When the exposure began, ISO, UTC; empty where it is not known.

    Returns
    -------
    tuple of float or None, and list of Doubt
        Seconds; None, never 0, where the header does not tell.

    References
    ----------
    FITS standard 4.0, section 9.4: XPOSURE is the time of exposure alone, TELAPSE the difference of end and start.
    """
    search = _Search(cards, by, comments)
    direct = search.stated(by.keywords.exptime)
    elapsed = [*search.stated(by.keywords.elapsed), *_passed(search, begun)]
    chosen = _chosen(direct, elapsed, frame_class)
    if chosen is None:
        if frame_class in _NEEDED and not search.doubts:
            wanted = ", ".join([*by.keywords.exptime[:4], "..."])
            search.doubts.append(
                Doubt("exptime", f"the exposure time is not known: no card says it ({wanted})")
            )
        return None, search.doubts
    _compare(search, chosen, direct, elapsed)
    _coadds(search, chosen, [*direct, *elapsed])
    return chosen.seconds, search.doubts


def _chosen(direct: Sequence[_Stated], elapsed: Sequence[_Stated], frame_class: str) -> _Stated | None:
    """The statement that is believed."""
    if frame_class == "bias":
        return next(iter(direct), None)  # what passed is its readout
    above = [statement for statement in (*direct, *elapsed) if statement.seconds > 0]
    if not above:
        return next(iter(direct), None)
    # One that is exactly a thousandth of the first is in seconds, the first in milliseconds.
    return next((other for other in direct if _is_larger_unit(above[0], other)), above[0])


def _is_larger_unit(larger: _Stated, smaller: _Stated) -> bool:
    return smaller.seconds > 0 and any(
        abs(larger.seconds / smaller.seconds / factor - 1) <= SAME for factor in _UNITS_MIXED
    )


def _passed(search: _Search, begun: str) -> list[_Stated]:
    """What passed from the beginning to the end of the exposure, where the header states the end."""
    if not begun:
        return []
    dates, zone = search.by.keywords.dates, search.by.site.time_zone
    start = datetime.fromisoformat(begun)
    for keyword in search.by.keywords.end:
        end = moment_after(search.cards, keyword, dates, start, zone)
        if end is not None and 0 < (end - start).total_seconds() < _LONGEST:
            return [_Stated(f"{keyword} less the start of the exposure", (end - start).total_seconds())]
    return []


def _compare(search: _Search, chosen: _Stated, direct: Sequence[_Stated], elapsed: Sequence[_Stated]) -> None:
    """Note cards that contradict the chosen one."""
    if chosen in elapsed and not direct:
        sentence = f"taken from {chosen.keyword}, {chosen.seconds:g} s: it may hold pauses and the readout"
        search.doubts.append(Doubt("exptime", sentence))
    for other in direct:
        allowed = max(SAME * chosen.seconds, SAME_SECONDS)
        is_same = abs(other.seconds - chosen.seconds) <= allowed
        if not is_same and not _is_larger_unit(other, chosen):
            search.conflict(f"{chosen}, {other}")
    for other in elapsed:
        if 0 < other.seconds < chosen.seconds * (1 - SAME) - LATE:
            search.conflict(f"{chosen}, but {other}: an exposure can't be longer than what passed")


def _coadds(search: _Search, chosen: _Stated, statements: Sequence[_Stated]) -> None:
    """Note that an exposure is made of several, where no other card tells whether its time is that of one or of all."""
    for keyword in search.by.keywords.coadds:
        count = number(search.cards.get(keyword_name(keyword)))
        if count is None or count <= 1 or not chosen.seconds:
            continue
        one_and_all = any(abs(other.seconds * count / chosen.seconds - 1) <= SAME for other in statements)
        if not one_and_all:
            of_all = f"{count * chosen.seconds:g} s in all"
            sentence = f"{keyword}={count:g}, {chosen}: of one of them ({of_all}), or of all?"
            search.doubts.append(Doubt("exptime", sentence))
        return
