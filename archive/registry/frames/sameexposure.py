"""Which rows are of one exposure: a catalogue's row and the file that comes later, or the other way round.

Files that hold the same exposure are told by their pixels (`files`). A row of a catalogue has none: it is known by
camera, time, place in its sequence, filter and object. A blank fits anything, since headers and catalogues rarely tell
all of it alike; of several that fit, the nearest in time is meant.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, TextClause, text

from ccdflow.archive.registry.tables import HOLDS

WHOLE_SECOND_S = 1.0
"""Seconds by which two times of one exposure differ at most where one of them is in whole seconds, cut or rounded."""
FRACTION_S = 0.01
"""Seconds by which they differ at most where both have fractions: a catalogue may have cut them to a hundredth."""
EXPTIME_SHARE, EXPTIME_S = 0.05, 1.0
"""Part of the exposure time, and seconds, by which planned and real exposure time may differ."""


@dataclass(frozen=True)
class Exposed:
    """What tells one exposure from another; blanks are unknown."""

    telescope: str
    camera: str
    instrument: str
    filter: str
    object: str
    frame_class: str
    exptime: float | None
    obsdate: str
    iobs: int | None

    @property
    def stream(self) -> tuple[str, str, str]:
        """Telescope, camera and instrument."""
        return self.telescope, self.camera, self.instrument


@dataclass(frozen=True)
class _Candidate:
    """A row of the registry; `heard` has, by name, what it says now and what its header or catalogue said."""

    id: int
    heard: dict[str, set[Any]]

    @property
    def stream(self) -> tuple[frozenset[Any], ...]:
        return tuple(frozenset(self.heard[name]) for name in ("telescope", "camera", "instrument"))

    def blanks(self, wanted: Exposed) -> int | None:
        """In how many things either is silent; None where they contradict each other."""
        silent = 0
        for name in ("telescope", "camera", "instrument", "filter", "object", "frame_class", "iobs"):
            ours, theirs = (
                _plain(name, getattr(wanted, name)),
                {_plain(name, value) for value in self.heard[name]},
            )
            if ours is None or theirs == {None}:
                silent += 1
            elif ours not in theirs:
                return None
        times = [time for time in self.heard["exptime"] if time is not None]
        if wanted.exptime is not None and times:
            room = max(EXPTIME_S, EXPTIME_SHARE * wanted.exptime)
            if min(abs(time - wanted.exptime) for time in times) > room:
                return None
        return silent

    def distance(self, wanted: Exposed) -> float | None:
        """Seconds between the two; None where that is too much, or a time is no time."""
        distances = [_distance(wanted.obsdate, obsdate) for obsdate in self.heard["obsdate"]]
        return min((apart for apart in distances if apart is not None), default=None)


def _plain(name: str, value: Any) -> Any:
    """A value as it is compared: M 13 is m13 and M_13, but the filter R is not r. None for a blank."""
    if value in ("", None) or (name == "frame_class" and value == "unclassified"):
        return None
    # Plans and file names write lines where headers have blanks; a plus is part of a position.
    return re.sub(r"[\s_-]", "", value.casefold()) if name == "object" else value


def _distance(one: str, other: str) -> float | None:
    try:
        apart = abs((datetime.fromisoformat(one) - datetime.fromisoformat(other)).total_seconds())
    except (ValueError, TypeError):
        return None
    if "." in one and "." in other:
        return apart if apart <= FRACTION_S else None
    return apart if apart < WHOLE_SECOND_S else None


_COLUMNS = "id, telescope, camera, instrument, filter, object, class AS frame_class, exptime, obsdate, iobs"
_WITHOUT_FILE = "path IS NULL"
_AMENDED = f"id IN (SELECT frame_id FROM amendment WHERE {HOLDS})"


def _statement(which: str) -> TextClause:
    corrected = f"SELECT frame_id FROM amendment WHERE {HOLDS} AND name = 'obsdate' AND said BETWEEN :since AND :until"
    return text(
        f"SELECT {_COLUMNS} FROM frame WHERE status IN ('registered', 'refused') AND ({which}) "
        f"AND (obsdate BETWEEN :since AND :until OR id IN ({corrected}))"
    )


# Made once: a new file asks one of them.
_WITHOUT_FILES = _statement(_WITHOUT_FILE)
_KNOWN = _statement(f"NOT {_WITHOUT_FILE} OR {_AMENDED}")


def _candidates(connection: Connection, statement: TextClause, since: str, until: str) -> list[_Candidate]:
    """Rows of a span of time, also those that were there before their time was corrected."""
    rows = connection.execute(statement, {"since": since, "until": until}).mappings().all()
    if not rows:
        return []
    said: dict[int, dict[str, Any]] = defaultdict(dict)
    for frame, name, written, number in connection.execute(_SAID):
        said[frame]["frame_class" if name == "class" else name] = number if number is not None else written
    return [_Candidate(row["id"], _heard(row, said.get(row["id"], {}))) for row in rows]


def _heard(row: Any, said: dict[str, Any]) -> dict[str, set[Any]]:
    heard = {name: {value} for name, value in row.items() if name != "id"}
    for name, value in said.items():
        if name in heard:
            heard[name].add(value)
    return heard


_SAID = text(f"SELECT frame_id, name, said, said_number FROM amendment WHERE {HOLDS}")


def _span(obsdates: Iterable[str]) -> tuple[str, str] | None:
    """Earliest and latest time at which rows of these exposures may stand, as texts that sort as times do."""
    moments = []
    for obsdate in obsdates:
        try:
            moments.append(datetime.fromisoformat(obsdate))
        except ValueError:
            continue
    if not moments:
        return None
    second = timedelta(seconds=WHOLE_SECOND_S)
    first, last = min(moments) - second, max(moments) + second
    # A letter sorts behind the fractions of the last second.
    return first.isoformat(timespec="seconds"), last.isoformat(timespec="seconds") + "~"


def _best(wanted: Exposed, candidates: Iterable[_Candidate]) -> int | None:
    fits = []
    for candidate in candidates:
        apart, blanks = candidate.distance(wanted), candidate.blanks(wanted)
        if apart is not None and blanks is not None:
            fits.append((apart, blanks, candidate.id, candidate.stream))
    # Several cameras that expose at once, of which a header does not tell its own: then nobody knows whose it is.
    if not fits or (len({stream for *_, stream in fits}) > 1 and not all(wanted.stream)):
        return None
    return min(fits)[2] if len({stream for *_, stream in fits}) == 1 else _of_own_stream(wanted, fits)


def _of_own_stream(wanted: Exposed, fits: Sequence[Any]) -> int | None:
    own = [fit for fit in fits if all(name in told for name, told in zip(wanted.stream, fit[3], strict=True))]
    return min(own, key=lambda fit: fit[:3])[2] if own else None


def row_without_file(connection: Connection, exposed: Exposed) -> int | None:
    """Return the row of a catalogue that stands for an exposure whose file has come.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    exposed : Exposed
        What the file says.

    Returns
    -------
    int or None
        Its id; None where there is none, or nobody can tell which.
    """
    span = _span([exposed.obsdate])
    if span is None:
        return None
    return _best(exposed, _candidates(connection, _WITHOUT_FILES, *span))


def known_rows(connection: Connection, rows: Sequence[Exposed]) -> list[int | None]:
    """Return which rows of a catalogue stand for exposures that are known: they have a file, or were corrected.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    rows : sequence of Exposed
        What the catalogue says.

    Returns
    -------
    list of int or None
        For each row the frame that it stands for, none twice; None where it is new.
    """
    span = _span(row.obsdate for row in rows)
    candidates = [] if span is None else _candidates(connection, _KNOWN, *span)
    if not candidates:  # as of a catalogue of millions of rows without files
        return [None] * len(rows)
    # By second, since a catalogue and a night may both have thousands.
    by_second: dict[str, list[_Candidate]] = defaultdict(list)
    for candidate in candidates:
        for obsdate in candidate.heard["obsdate"]:
            by_second[obsdate[:19]].append(candidate)
    taken: set[int] = set()
    found: list[int | None] = []
    for row in rows:
        near = {
            candidate.id: candidate
            for second in _seconds(row.obsdate)
            for candidate in by_second.get(second, ())
        }
        frame = (
            _best(row, [candidate for number, candidate in near.items() if number not in taken])
            if near
            else None
        )
        taken |= set() if frame is None else {frame}
        found.append(frame)
    return found


def _seconds(obsdate: str) -> list[str]:
    try:
        moment = datetime.fromisoformat(obsdate)
    except ValueError:
        return []
    return [(moment + timedelta(seconds=apart)).isoformat(timespec="seconds") for apart in (-1, 0, 1)]
